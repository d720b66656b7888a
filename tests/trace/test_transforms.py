"""The functional transforms as users spell them: eagerly and compiled on both backends, against differences, loops and each other; and the words of errors."""
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn
from graphc.trace.tape import current

X = np.asarray([0.3, -0.7, 1.1])
XS = np.asarray([[0.3, -0.7, 1.1], [0.5, 0.2, -0.4], [-1.2, 0.9, 0.8], [0.1, -0.1, 0.6]])


@pytest.fixture(params=["eager", "numpy", "llvm"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a function of arrays eagerly or compiled; results as NumPy arrays in the same containers."""
    if request.param == "eager":
        return lambda f, *args: _arrays(f(*(gx.tensor(a) if isinstance(a, np.ndarray) else a for a in args)))
    return lambda f, *args: _arrays(gx.compile(f, backend=request.param)(*args))


def _arrays(x: Any) -> Any:
    if isinstance(x, dict):
        return {k: _arrays(v) for k, v in x.items()}
    return type(x)(map(_arrays, x)) if isinstance(x, (tuple, list)) else np.asarray(x)


def vector(x: Any) -> Any:
    """R³ → R²: everything mixes."""
    return gx.stack([gx.tanh(x).sum() * x[0], (x * x).prod() + gx.sin(x[1])])


def scalar(x: Any) -> Any:
    return (gx.sin(x) * x ** 3).sum() * x[0] + gx.logsumexp(x, axis=0)


def loop(x: Any) -> Any:
    """A recurrence whose every step depends on x."""
    carry, ys = gx.scan(lambda c, v: (c * v + gx.sin(c), c * c), x[0], x)
    return carry + ys.sum()


def numpy_of(f: Callable[..., Any]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: f(gx.tensor(x)).numpy()


def differences(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, h: float = 1e-4) -> np.ndarray:
    """The Jacobian, column by column, by the central formula of fourth order."""
    columns = []
    for k in range(x.size):
        e = np.zeros(x.size)
        e[k] = h
        e = e.reshape(x.shape)
        columns.append((8 * (f(x + e) - f(x - e)) - (f(x + 2 * e) - f(x - 2 * e))) / (12 * h))
    return np.stack(columns, -1).reshape(*columns[0].shape, *x.shape)


# ---- Jacobians -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jacobian", [gx.jacfwd, gx.jacrev])
@pytest.mark.parametrize("f", [vector, scalar, loop])
def test_jacobians(run: Any, jacobian: Any, f: Any) -> None:
    np.testing.assert_allclose(run(jacobian(f), X), differences(numpy_of(f), X), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("outer", [gx.jacfwd, gx.jacrev])
@pytest.mark.parametrize("inner", [gx.jacfwd, gx.jacrev])
@pytest.mark.parametrize("f", [scalar, loop])
def test_second_derivatives_four_ways(run: Any, outer: Any, inner: Any, f: Any) -> None:
    want = differences(numpy_of(gx.grad(f)), X)
    got = run(outer(inner(f)), X)
    np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(run(gx.hessian(f), X), got, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(run(lambda x: gx.hvp(f, (x,), (x,)), X), got @ X, rtol=1e-12, atol=1e-12)


def test_third_derivatives(run: Any) -> None:
    want = differences(numpy_of(gx.hessian(scalar)), X)
    for third in (gx.jacfwd(gx.jacfwd(gx.jacrev(scalar))), gx.jacrev(gx.jacfwd(gx.grad(scalar)))):
        np.testing.assert_allclose(run(third, X), want, rtol=1e-7, atol=1e-7)


def test_matrices_and_trees(run: Any) -> None:
    w, b = np.linspace(-1, 1, 6).reshape(2, 3), np.asarray([0.1, -0.2])

    def f(p: dict[str, Any], x: Any) -> Any:
        return {"y": gx.tanh(p["w"] @ x + p["b"]), "s": (p["b"] ** 2).sum()}
    got = run(lambda w, b, x: gx.jacrev(f)({"w": w, "b": b}, x), w, b, X)
    y = np.tanh(w @ X + b)
    assert got["y"]["w"].shape == (2, 2, 3)
    np.testing.assert_allclose(got["y"]["b"], np.diag(1 - y**2), atol=1e-15)
    np.testing.assert_allclose(got["y"]["w"], np.einsum("ij,k->ijk", np.diag(1 - y**2), X), atol=1e-15)
    np.testing.assert_allclose(got["s"]["b"], 2 * b)
    np.testing.assert_array_equal(got["s"]["w"], np.zeros((2, 3)))
    by_both = run(lambda w, b, x: gx.jacfwd(f, argnums=(0, 1))({"w": w, "b": b}, x)["y"], w, b, X)
    assert isinstance(by_both, tuple)
    np.testing.assert_allclose(by_both[0]["w"], got["y"]["w"], atol=1e-15)
    np.testing.assert_allclose(by_both[1], np.diag(1 - y**2) @ w, atol=1e-15)


def test_aux() -> None:
    x = gx.tensor(X)
    j, aux = gx.jacrev(lambda x: (x * x, "aux"), has_aux=True)(x)
    assert aux == "aux"
    np.testing.assert_allclose(j.numpy(), np.diag(2 * X))
    h, aux = gx.hessian(lambda x: ((x * x).sum(), x[0]), has_aux=True)(x)
    np.testing.assert_allclose(h.numpy(), 2 * np.eye(3))
    _, t, aux = gx.jvp(lambda x: (x * x, 7), (x,), (x,), has_aux=True)
    assert aux == 7
    np.testing.assert_allclose(t.numpy(), 2 * X * X)
    *_, aux = gx.vjp(lambda x: (x * x, 8), x, has_aux=True)
    assert aux == 8
    *_, aux = gx.linearize(lambda x: (x * x, 9), x, has_aux=True)
    assert aux == 9


# ---- products --------------------------------------------------------------------------------------------------------------------------


def test_products(run: Any) -> None:
    j = differences(numpy_of(vector), X)
    t, c = np.asarray([1.0, -2.0, 0.5]), np.asarray([0.7, -1.3])
    y, dy = run(lambda x, t: gx.jvp(vector, (x,), (t,)), X, t)
    np.testing.assert_allclose(y, numpy_of(vector)(X))
    np.testing.assert_allclose(dy, j @ t, rtol=1e-9)
    np.testing.assert_allclose(run(lambda x, t: gx.linearize(vector, x)[1](t), X, t), j @ t, rtol=1e-9)
    np.testing.assert_allclose(run(lambda x, c: gx.vjp(vector, x)[1](c)[0], X, c), c @ j, rtol=1e-9)


def test_linear_functions_travel(run: Any) -> None:
    """What vjp and linearize return is used in other traces: batched, in a loop's body, differentiated."""
    j = differences(numpy_of(vector), X)
    np.testing.assert_allclose(run(lambda x: gx.vmap(gx.vjp(vector, x)[1])(gx.eye(2, dtype="f64"))[0], X), j, rtol=1e-9)
    np.testing.assert_allclose(run(lambda x: gx.vmap(gx.linearize(vector, x)[1], out_axes=1)(gx.eye(3, dtype="f64")), X), j, rtol=1e-9)

    def in_a_loop(x: Any) -> Any:
        _, push = gx.linearize(vector, x)
        return gx.scan(lambda c, t: (c, push(t)), gx.tensor(0.0), gx.eye(3, dtype="f64"))[1]
    np.testing.assert_allclose(run(in_a_loop, X), j.T, rtol=1e-9)

    def again(x: Any) -> Any:
        return gx.grad(lambda x: gx.vjp(vector, x)[1](gx.ones(2, dtype="f64"))[0].sum())(x)
    want = differences(lambda x: differences(numpy_of(vector), x, 1e-3).sum(0), X, 1e-3).sum(0)
    np.testing.assert_allclose(run(again, X), want, rtol=1e-6, atol=1e-6)


def test_several_arguments_and_a_dataclass() -> None:
    @dataclass
    class P:
        a: Any
        b: Any
    p = P(gx.tensor(2.0), gx.tensor(3.0))
    y, dy = gx.jvp(lambda p, x: [p.a * p.b * x], (p, gx.tensor(5.0)), (P(1.0, 0.0), 1.0))
    assert y[0].item() == 30
    assert dy[0].item() == 15 + 6
    y, pull = gx.vjp(lambda p, x: [p.a * p.b * x], p, gx.tensor(5.0))
    dp, dx = pull([1.0])
    assert isinstance(dp, P)
    assert (dp.a.item(), dp.b.item(), dx.item()) == (15, 10, 6)


def test_perturbations_are_not_confused(run: Any) -> None:
    """d/dx (x · d/dy (x + y)) = 1: the inner derivative is by y alone. And d/dx (x · d/dy (x y)) = 2x."""
    def nested(x: Any) -> Any:
        return gx.jvp(lambda x: x * gx.jvp(lambda y: x + y, (gx.ones_like(x),), (gx.ones_like(x),))[1], (x,), (gx.ones_like(x),))[1]
    np.testing.assert_allclose(run(nested, X), 1)

    def product(x: Any) -> Any:
        return gx.jvp(lambda x: x * gx.jvp(lambda y: x * y, (x,), (gx.ones_like(x),))[1], (x,), (gx.ones_like(x),))[1]
    np.testing.assert_allclose(run(product, X), 2 * X)


def test_stop_gradient(run: Any) -> None:
    np.testing.assert_allclose(run(gx.grad(lambda x: (x * gx.stop_gradient({"x": x * x})["x"]).sum()), X), X * X)
    np.testing.assert_array_equal(run(gx.jacfwd(lambda x: gx.stop_gradient(x)), X), np.zeros((3, 3)))


# ---- vmap ------------------------------------------------------------------------------------------------------------------------------


def test_per_example_gradients(run: Any) -> None:
    w = np.linspace(-1, 1, 6).reshape(2, 3)

    def loss(w: Any, x: Any) -> Any:
        return gx.logsumexp(gx.tanh(w @ x), axis=0)
    got = run(lambda w, xs: gx.vmap(gx.grad(loss), in_axes=(None, 0))(w, xs), w, XS)
    want = np.stack([gx.grad(loss)(gx.tensor(w), gx.tensor(x)).numpy() for x in XS])
    np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("f", [vector, scalar, loop, gx.grad(scalar), gx.grad(loop), gx.hessian(scalar), gx.jacfwd(gx.jacrev(loop)),
                               lambda x: gx.jvp(gx.grad(loop), (x,), (x * x,))[1], lambda x: gx.grad(gx.grad(lambda t: scalar(x * t)))(x[0])],
                         ids=["vector", "scalar", "scan", "grad", "grad of scan", "hessian", "fwd of rev of scan", "jvp of grad of scan", "grad of grad"])
def test_vmap_is_a_loop(run: Any, f: Any) -> None:
    want = np.stack([f(gx.tensor(x)).numpy() for x in XS])
    np.testing.assert_allclose(run(gx.vmap(f), XS), want, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(run(gx.vmap(f, in_axes=1, out_axes=-1), XS.T.copy()), np.moveaxis(want, 0, -1), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("outer", [gx.jacfwd, gx.jacrev])
def test_derivatives_of_vmap(run: Any, outer: Any) -> None:
    want = np.zeros((4, 4, 3))
    for k, x in enumerate(XS):
        want[k, k] = gx.grad(loop)(gx.tensor(x)).numpy()
    np.testing.assert_allclose(run(outer(gx.vmap(loop)), XS), want, rtol=1e-12, atol=1e-13)


def test_nested(run: Any) -> None:
    ys = XS[:2] * 0.5
    got = run(gx.vmap(lambda x, ys: gx.vmap(lambda y: (x * y).sum())(ys), in_axes=(0, None)), XS, ys)
    np.testing.assert_allclose(got, XS @ ys.T)
    got = run(gx.vmap(gx.vmap(lambda a, b: gx.sin(a) * b), in_axes=(-1, 0), out_axes=1), XS, XS.T.copy())
    np.testing.assert_allclose(got, np.sin(XS) * XS)


def test_trees_of_axes(run: Any) -> None:
    def f(p: dict[str, Any], x: Any, k: Any) -> tuple[Any, dict[str, Any]]:
        return p["w"] @ x + k, {"norm": (p["w"] ** 2).sum(), "b": p["b"] * x[0]}
    w, b = np.linspace(-1, 1, 6).reshape(2, 3), np.asarray([1.0, 2.0, 3.0, 4.0])
    y, d = run(lambda w, b, xs: gx.vmap(f, in_axes=({"w": None, "b": 0}, 0, None), out_axes=(1, {"norm": None, "b": 0}))({"w": w, "b": b}, xs, 2), w, b, XS)
    np.testing.assert_allclose(y, w @ XS.T + 2)
    np.testing.assert_allclose(d["norm"], (w**2).sum())
    np.testing.assert_allclose(d["b"], b * XS[:, 0])


def test_axis_size_and_constants() -> None:
    assert gx.vmap(lambda x: x + 1, in_axes=None, axis_size=3)(gx.tensor(1.0)).tolist() == [2, 2, 2]
    assert gx.vmap(lambda x: 7.0)(gx.zeros(2)).tolist() == [7, 7]
    assert gx.vmap(lambda x, scale: x * scale)(gx.tensor([1.0, 2.0]), scale=gx.tensor([3.0, 4.0])).tolist() == [3, 8]


def test_indices_in_a_batch(run: Any) -> None:
    i = np.asarray([[2, 0], [1, 1], [0, 2], [2, 2]])
    np.testing.assert_array_equal(run(gx.vmap(lambda x, i: gx.take(x, i)), XS, i), np.take_along_axis(XS, i, 1))
    np.testing.assert_array_equal(run(gx.vmap(gx.sort), XS), np.sort(XS, 1))


def test_a_module_in_a_batch() -> None:
    """Parameters are the same for all examples, and get their gradients."""
    net = nn.Linear(3, 2)
    xs = gx.tensor(XS.astype(np.float32))

    def batched() -> Any:
        return (gx.vmap(net)(xs) ** 2).sum()
    batched().backward()
    got = net.weight.grad.numpy()
    net.weight.grad = net.bias.grad = None
    (net(xs) ** 2).sum().backward()
    np.testing.assert_allclose(got, net.weight.grad.numpy(), rtol=1e-6)

    @gx.compile(keep_grads=True)
    def step() -> Any:
        loss = batched()
        loss.backward()
        return loss
    net.weight.grad = net.bias.grad = None
    step()
    np.testing.assert_allclose(net.weight.grad.numpy(), got, rtol=1e-6)


def test_symbolic_batches() -> None:
    f = gx.compile(gx.vmap(gx.grad(scalar)), backend="numpy")
    f.lower(gx.Spec(("N", 3), gx.float64))
    np.testing.assert_allclose(f(XS)[1], gx.grad(scalar)(gx.tensor(XS[1])).numpy(), rtol=1e-12)
    np.testing.assert_allclose(f(XS[:2])[1], gx.grad(scalar)(gx.tensor(XS[1])).numpy(), rtol=1e-12)


# ---- words -----------------------------------------------------------------------------------------------------------------------------

WRONG = {
    "a tangent of another shape": (lambda x: gx.jvp(vector, (x,), (x[:2],)), "jvp: tangent[0] is f64[2], and should be f64[3]"),
    "another tree": (lambda x: gx.jvp(vector, (x,), ({"x": x},)), "jvp: the tangents have another structure than what they belong to"),
    "no tuple": (lambda x: gx.jvp(vector, x, x), "jvp takes its primals and its tangents as tuples"),
    "an integer": (lambda x: gx.jvp(lambda i: i, (gx.tensor([1, 2]),), (gx.tensor([1, 2]),)), "jvp by an argument of type i64[2]"),
    "an integer result": (lambda x: gx.jacrev(lambda x: gx.argmax(x, axis=0))(x), "jacrev of a function that returns i64[]"),
    "a cotangent of another shape": (lambda x: gx.vjp(vector, x)[1](x), "vjp: cotangent is f64[3], and should be f64[2]"),
    "argnums": (lambda x: gx.jacfwd(vector, argnums=1)(x), "jacfwd by argument 1 of 1"),
    "no pair": (lambda x: gx.jacfwd(scalar, has_aux=True)(x), "jacfwd with has_aux=True needs a function that returns a pair, got Tensor"),
    "in_axes beyond the rank": (lambda x: gx.vmap(scalar, in_axes=1)(x), "vmap: in_axes 1 is out of range for argument 0: f64[3]"),
    "in_axes of a scalar": (lambda x: gx.vmap(gx.sin)(x[0]), "vmap: in_axes 0 is out of range for argument 0: f64[]"),
    "too many in_axes": (lambda x: gx.vmap(gx.sin, in_axes=(0, 0))(x), "vmap: in_axes has 2 entries, and there are 1 arguments"),
    "another tree of in_axes": (lambda x: gx.vmap(lambda p: p["a"], in_axes=({"b": 0},))({"a": x}), "vmap: in_axes has {'b': 0} where there is a dict of 1"),
    "different sizes": (lambda x: gx.vmap(gx.add)(x, x[:2]), "vmap over batches of different sizes: argument 0 has 3 examples, argument 1 has 2"),
    "nothing": (lambda x: gx.vmap(gx.sin, in_axes=None)(x), "vmap over nothing: no argument has a batch axis"),
    "out_axes None": (lambda x: gx.vmap(gx.sin, out_axes=None)(x), "vmap: out_axes is None for result, which differs from example to example"),
    "out_axes beyond the rank": (lambda x: gx.vmap(gx.sin, out_axes=2)(x), "vmap: out_axes 2 is out of range for result: f64[3]"),
    "random numbers": (lambda x: gx.vmap(lambda v: v + gx.rand(()))(x), "the state random.counter would be written inside vmap"),
    "a print": (lambda x: gx.vmap(lambda v: gx.debug_print("v", v))(x), "debug_print inside vmap"),
    "a value": (lambda x: gx.vmap(lambda v: v if v > 0 else -v)(x), "Python bool"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_words(case: str, compiled: bool) -> None:
    f, words = WRONG[case]
    with pytest.raises(gx.GraphError, match=re.escape(words)) as e:
        gx.compile(f, backend="numpy")(X) if compiled else f(gx.tensor(X))
    assert "test_transforms.py" in str(e.value.at)


def test_a_failed_trace_leaves_no_trace() -> None:
    state = gx.tensor([1.0, 2.0])
    generator = gx.default_generator().counter.numpy()

    def f(x: Any) -> Any:
        gx.scan(lambda c, v: (c, v + gx.rand(())), gx.tensor(0.0), x)
        return x.sum()
    with pytest.raises(gx.GraphError, match=r"random\.counter"):
        gx.vmap(gx.grad(f))(gx.ones((2, 3)))
    assert state.tolist() == [1, 2]
    np.testing.assert_array_equal(gx.default_generator().counter.numpy(), generator)
    assert gx.vmap(gx.grad(lambda x: (x * x).sum()))(gx.ones((2, 3))).tolist() == [[2, 2, 2]] * 2


# ---- eagerly, results are numbers ------------------------------------------------------------------------------------------------------


def test_what_a_transform_gives_eagerly_has_no_past() -> None:
    """Where nobody outside could ask for a derivative; so loops of eager steps keep nothing, and compiled functions take what comes out."""
    x = gx.tensor(X)
    value, (slope,) = gx.vjp(scalar, x)[0], gx.vjp(scalar, x)[1](gx.tensor(1.0, dtype="f64"))
    (loss, aux), g = gx.value_and_grad(lambda x: (scalar(x), {"twice": 2 * x, "k": 3}), has_aux=True)(x)
    pushed, tangent = gx.jvp(vector, (x,), (x,))
    h, linear = gx.linearize(vector, x)
    results = [value, slope, loss, aux["twice"], g, pushed, tangent, h, linear(x), gx.jacrev(vector)(x), gx.jacfwd(vector)(x), gx.hessian(scalar)(x)]
    assert not any(t.requires_grad for t in results)
    for t in results:
        np.testing.assert_array_equal(gx.compile(lambda z, t=t: z.sum() * 0 + t)(X), t)                  # type: ignore[misc]
    np.testing.assert_allclose(gx.compile(linear)(X), linear(x))
    np.testing.assert_allclose(gx.compile(gx.vjp(scalar, x)[1])(np.float64(1.0))[0], slope)


def test_a_derivative_keeps_its_past_for_those_who_ask() -> None:
    leaf = gx.tensor(X, requires_grad=True)
    gx.grad(scalar)(leaf).sum().backward()
    np.testing.assert_allclose(leaf.grad, gx.hessian(scalar)(gx.tensor(X)).sum(axis=0))
    outer = gx.tensor(2.0, dtype="f64", requires_grad=True)
    gx.jvp(lambda x: (outer * x).sum(), (gx.tensor(X),), (gx.tensor(X),))[1].backward()
    assert outer.grad.item() == X.sum()
    inner = lambda a: gx.value_and_grad(lambda b: (scalar(a * b), a * b), has_aux=True)(a)
    (_, aux), _ = inner(gx.tensor(X))
    assert not aux.requires_grad
    np.testing.assert_allclose(gx.grad(lambda a: inner(a)[0][1].sum())(gx.tensor(X)), 2 * X)


def test_a_transform_that_fails_is_forgotten() -> None:
    with pytest.raises(ZeroDivisionError):
        gx.grad(lambda x: x.sum() * (1 // 0))(gx.tensor(X))
    with pytest.raises(gx.GraphError):
        gx.jacfwd(lambda x: gx.grad(lambda y: y)(x))(gx.tensor(X))
    assert not current.primals
