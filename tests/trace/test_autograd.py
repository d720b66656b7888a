"""Gradients as the user spells them: eagerly and traced, of first and higher order, with hooks, and with what stops them."""
from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx


@pytest.fixture(params=["eager", "numpy", "llvm"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a function of no arguments eagerly or compiled; results as NumPy arrays."""
    if request.param == "eager":
        return lambda f: _arrays(f())
    return lambda f: gx.compile(f, backend=request.param)()


def _arrays(x: Any) -> Any:
    return tuple(map(_arrays, x)) if isinstance(x, tuple) else x.numpy() if isinstance(x, gx.Tensor) else x


def leaf(*values: float) -> gx.Tensor:
    return gx.tensor(list(values), dtype="f64", requires_grad=True)


def test_backward_adds_to_grad() -> None:
    w = leaf(1, 2)
    (w * w).sum().backward()
    (w * 3).sum().backward()
    assert w.grad.tolist() == [5, 7]
    w.grad = None
    (w * w).sum().backward()
    assert w.grad.tolist() == [2, 4]


def test_backward_with_a_gradient(run: Any) -> None:
    w = leaf(1, 2)

    def f() -> Any:
        w.grad = None
        (w * w).backward(gx.tensor([10.0, 100.0], dtype="f64"))
        return w.grad
    np.testing.assert_array_equal(run(f), [20, 400])


def test_autograd_grad(run: Any) -> None:
    w, v = leaf(1, 2), leaf(3, 4)

    def f() -> Any:
        return gx.autograd.grad((w * w * v).sum(), [w, v])
    dw, dv = run(f)
    np.testing.assert_array_equal(dw, [6, 16])
    np.testing.assert_array_equal(dv, [1, 4])
    assert w.grad is None


def test_an_unused_input(run: Any) -> None:
    w, v = leaf(1, 2), leaf(3, 4)
    with pytest.raises(gx.GraphError, match="was not used"):
        run(lambda: gx.autograd.grad((w * w).sum(), [v]))
    assert run(lambda: gx.autograd.grad((w * w).sum(), [w, v], allow_unused=True))[1] is None


def test_higher_orders(run: Any) -> None:
    x = 0.7
    for f, third in ((gx.tanh, lambda x: (1 - np.tanh(x)**2) * (6 * np.tanh(x)**2 - 2)), (gx.exp, np.exp), (gx.sin, lambda x: -np.cos(x)),
                     (lambda x: x ** 3, lambda x: 6.0)):
        d3 = gx.grad(gx.grad(gx.grad(f)))
        got = run(lambda d3=d3: d3(gx.tensor(x, dtype="f64")))
        assert abs(got - third(x)) < 1e-9


def test_create_graph_eagerly_and_traced(run: Any) -> None:
    w = leaf(1, 2)

    def f() -> Any:
        w.grad = None
        loss = (w ** 3).sum()
        (g,) = gx.autograd.grad(loss, [w], create_graph=True)
        (g * g).sum().backward()                                         # d (9 w⁴) = 36 w³
        return w.grad
    np.testing.assert_allclose(run(f), [36, 288])


def test_without_create_graph_a_gradient_is_a_constant(run: Any) -> None:
    w = leaf(1, 2)

    def f() -> Any:
        w.grad = None
        (g,) = gx.autograd.grad((w * w).sum(), [w])
        assert not g.requires_grad
        (g * w).sum().backward()
        return w.grad
    np.testing.assert_array_equal(run(f), [2, 4])


def test_no_grad_and_detach_stop_gradients(run: Any) -> None:
    w = leaf(1, 2)

    def f() -> Any:
        w.grad = None
        with gx.no_grad():
            a = w * 5
        b = (w * 7).detach()
        assert not a.requires_grad
        assert not b.requires_grad
        (a * w + b * w).sum().backward()
        return w.grad
    np.testing.assert_array_equal(run(f), [12, 24])


def test_no_grad_is_a_decorator(run: Any) -> None:
    w = leaf(1, 2)

    @gx.no_grad()
    def half(x: Any) -> Any:
        return x / 2
    assert not half(w).requires_grad
    assert (w / 2).requires_grad


def test_grad_of_a_tree_with_aux_and_several_arguments(run: Any) -> None:
    def loss(params: Any, x: Any) -> Any:
        y = x * params["w"][0] + params["b"]
        return (y * y).sum(), y
    params = {"w": [np.float64([1, 2])], "b": np.float64(0.5)}
    x = np.float64([3, 4])

    def f() -> Any:
        (value, aux), g = gx.value_and_grad(loss, has_aux=True)(params, x)
        gx_, gy = gx.grad(lambda p, x: loss(p, x)[0], argnums=(1, 0))(params, x)
        return value, aux, g["w"][0], g["b"], gx_, gy["b"]
    value, aux, gw, gb, gx_, gb2 = run(f)
    y = x * [1, 2] + 0.5
    np.testing.assert_allclose(value, (y * y).sum())
    np.testing.assert_allclose(aux, y)
    np.testing.assert_allclose(gw, 2 * y * x)
    np.testing.assert_allclose(gb, 2 * y.sum())
    np.testing.assert_allclose(gb2, gb)
    np.testing.assert_allclose(gx_, 2 * y * [1, 2])


def test_grad_is_by_the_argument_not_by_other_uses_of_the_tensor(run: Any) -> None:
    w = leaf(2)

    def f() -> Any:
        return gx.grad(lambda x: (x * w).sum())(w)                       # w is a constant here, although it is x
    np.testing.assert_array_equal(run(f), [2])


def test_a_gradient_inside_a_gradient_of_the_outer_argument(run: Any) -> None:
    def f() -> Any:
        def outer(x: Any) -> Any:
            return x * gx.grad(lambda y: x * y * y)(x)                   # x * 2 x x, so 6 x²
        return gx.grad(outer)(gx.tensor(3.0, dtype="f64"))
    assert run(f) == 54


def test_hooks_see_and_replace(run: Any) -> None:
    w = leaf(1, 2)
    seen: list[Any] = []

    def f() -> Any:
        w.grad = None
        a, b = w * 3, w * 3
        a.register_hook(lambda g: seen.append(g.shape))
        handle = a.register_hook(lambda g: g * 1000)
        b.register_hook(lambda g: g * 10)
        handle.remove()
        (a + b).sum().backward()
        return w.grad
    np.testing.assert_array_equal(run(f), [33, 33])
    assert seen == [(2,)]


def test_a_hook_on_a_leaf(run: Any) -> None:
    w = leaf(1, 2)
    handle = w.register_hook(lambda g: g * 2)

    def f() -> Any:
        w.grad = None
        (w * w).sum().backward()
        return w.grad
    np.testing.assert_array_equal(run(f), [4, 8])
    handle.remove()
    np.testing.assert_array_equal(run(f), [2, 4])


def test_retain_grad(run: Any) -> None:
    w = leaf(1, 2)

    def f() -> Any:
        w.grad = None
        h = w * 3
        h.retain_grad()
        assert h.grad is None
        (h * h).sum().backward()
        return h.grad, w.grad
    h_grad, w_grad = run(f)
    np.testing.assert_array_equal(h_grad, [6, 12])
    np.testing.assert_array_equal(w_grad, [18, 36])


def test_backward_inputs(run: Any) -> None:
    w, v = leaf(1, 2), leaf(3, 4)

    def f() -> Any:
        w.grad = v.grad = None
        (w * v).sum().backward(inputs=[w])
        assert v.grad is None
        return w.grad
    np.testing.assert_array_equal(run(f), [3, 4])


def test_a_parameter_after_its_update_is_a_leaf_again(run: Any) -> None:
    w, v = leaf(1, 2), leaf(3, 4)

    def f() -> Any:
        w.grad = v.grad = None
        (w * v).sum().backward()
        with gx.no_grad():
            w.sub_(w.grad)                                               # w' = w - v
            w.copy_(w + 0)
        w.grad = v.grad = None
        (w * w).sum().backward()                                         # by w', and nothing by v
        assert v.grad is None
        return w.grad
    np.testing.assert_array_equal(run(f), [-4, -4])


def test_eager_writes_do_not_change_the_tape() -> None:
    w = leaf(1, 2)
    y = (w * w).sum()
    with gx.no_grad():
        w.mul_(100)
    y.backward()
    assert w.grad.tolist() == [2, 4]                                     # at the point where y was computed


def test_the_tape_forgets() -> None:
    w = leaf(1, 2)
    y = (w * 2).sum()
    node = weakref.ref(y.node())
    del y
    gc.collect()
    assert node() is None
    x = gx.zeros(3)
    for _ in range(3):
        x = x + 1                                                        # no gradient wanted: nothing is kept
    assert x.node().inputs == ()


def test_a_chain_of_3000_operations(run: Any) -> None:
    w = leaf(1.0)

    def f() -> Any:
        w.grad = None
        x = w
        for _ in range(3000):
            x = x * 1.0001
        x.sum().backward()
        return w.grad
    np.testing.assert_allclose(run(f), [1.0001**3000])


def test_a_chain_of_100_000_operations_traces_differentiates_prints_and_runs() -> None:
    def f(x: Any) -> Any:
        for _ in range(100_000):
            x = -x
        return x
    lowered = gx.compile(lambda x: gx.grad(f)(x), backend="numpy").lower(gx.Spec((), gx.float64))
    assert lowered.text("graph").count("\n") > 100_000
    assert lowered.compile()(np.float64(2.0)) == 1.0


def test_gradients_flow_through_scan(run: Any) -> None:
    w, xs = leaf(0.5), np.float64([[1.0], [2.0], [3.0]])

    def f() -> Any:
        w.grad = None
        last, ys = gx.scan(lambda h, x: (h * w + x, h), gx.zeros(1, dtype="f64"), gx.asarray(xs))
        (last.sum() + ys.sum()).backward()
        return last, w.grad
    last, g = run(f)
    assert last[0] == 1 * 0.25 + 2 * 0.5 + 3
    assert g[0] == 2 * 0.5 * 1 + 2 + 1                                   # d(x0 w² + x1 w + x2 + x0 + (x0 w + x1)) / dw


def test_scan_of_a_tree_without_xs_and_reversed(run: Any) -> None:
    def f() -> Any:
        carry, _ = gx.scan(lambda c, _: ({"n": c["n"] + 1, "x": c["x"] * 2.0}, None), {"n": gx.tensor(0), "x": gx.tensor(1.0)}, None, length=5)
        back = gx.scan(lambda c, x: (c * 10 + x, c), gx.tensor(0), gx.asarray(np.arange(1, 4)), reverse=True)
        return carry["n"], carry["x"], back[0], back[1]
    n, x, last, ys = run(f)
    assert (n, x, last, list(ys)) == (5, 32, 321, [32, 3, 0])


def test_scan_in_scan_with_captures(run: Any) -> None:
    w = leaf(2.0)

    def f() -> Any:
        w.grad = None
        k = w * 3

        def outer(c: Any, x: Any) -> Any:
            inner, _ = gx.scan(lambda d, _: (d * k, None), c + x, None, length=2)
            return inner, None
        out, _ = gx.scan(outer, gx.zeros(1, dtype="f64"), gx.ones(2, 1, dtype="f64"))
        out.sum().backward()
        return out, w.grad
    out, g = run(f)
    k = 6.0
    assert out[0] == k**4 + k**2
    assert g[0] == (4 * k**3 + 2 * k) * 3


# ---- the rest of torch.autograd ----------------------------------------------------------------------------------------------------------


def test_batches_of_cotangents(run: Any) -> None:
    w, v = leaf(1, 2), leaf(3, 4)

    def f() -> Any:
        y = w * w * v
        rows = gx.tensor(np.asarray([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        dw, dv = gx.autograd.grad([y, y.sum()], [w, v], [rows, gx.tensor(np.asarray([0.0, 0.0, 1.0]))], is_grads_batched=True, create_graph=True)
        return dw, dv, gx.autograd.grad(dw[0].sum(), w)[0]
    dw, dv, second = run(f)
    np.testing.assert_allclose(dw, [[6, 0], [0, 16], [12, 32]])
    np.testing.assert_allclose(dv, [[1, 0], [0, 4], [2, 8]])
    np.testing.assert_allclose(second, [6, 0])
    with pytest.raises(gx.GraphError, match="needs a batch of cotangents"):
        run(lambda: gx.autograd.grad(w * w, w, gx.ones(2, dtype="f64"), is_grads_batched=True))
    with pytest.raises(gx.GraphError, match="was not used"):
        run(lambda: gx.autograd.grad(w * w, v, gx.ones((3, 2), dtype="f64"), is_grads_batched=True))


def test_unused_inputs_as_zeros(run: Any) -> None:
    w, v = leaf(1, 2), leaf(3, 4)
    np.testing.assert_array_equal(run(lambda: gx.autograd.grad(w.sum(), v, materialize_grads=True)[0]), [0, 0])
    np.testing.assert_array_equal(run(lambda: gx.autograd.grad(w, v, gx.ones((3, 2), dtype="f64"), is_grads_batched=True, materialize_grads=True)[0]),
                                  np.zeros((3, 2)))
    with pytest.raises(gx.GraphError, match="zeros are what an unused input has"):
        gx.autograd.grad(w.sum(), v, materialize_grads=True, allow_unused=False)


def test_third_order_through_autograd_grad(run: Any) -> None:
    w = leaf(0.5, 2)

    def f() -> Any:
        g = w ** 4
        for _ in range(3):
            g, = gx.autograd.grad(g.sum(), w, create_graph=True)
        return g
    np.testing.assert_allclose(run(f), 24 * np.asarray([0.5, 2]))


def test_the_hook_sees_gradients_of_gradients(run: Any) -> None:
    """A hook replaces the first gradient by twice it, and its replacement is differentiated: d/dw of 2 * 3 w**2 is 12 w, hooked once more."""
    w = leaf(1, 2)

    def f() -> Any:
        y = w * 1.0
        y.register_hook(lambda g: g * 2.0)
        first, = gx.autograd.grad((y ** 3).sum(), w, create_graph=True)
        return first, gx.autograd.grad(first.sum(), w)[0]
    first, second = run(f)
    np.testing.assert_allclose(first, [6, 24])
    np.testing.assert_allclose(second, [24, 48])


def test_gradients_of_inner_values_come_out(run: Any) -> None:
    """retain_grad and autograd.grad by an inner value, inside of one step: what torch's users take hooks for."""
    w = leaf(1, 2)

    def f() -> Any:
        w.grad = None
        h = w * 3.0
        h.retain_grad()
        loss = (h * h).sum()
        inner, = gx.autograd.grad(loss, h)
        loss.backward()
        return h.grad, inner, w.grad
    h, inner, g = run(f)
    np.testing.assert_allclose(h, [6, 12])
    np.testing.assert_allclose(inner, [6, 12])
    np.testing.assert_allclose(g, [18, 36])


def test_a_hook_that_nobody_would_call_is_refused(run: Any) -> None:
    def hooked(x: Any) -> Any:
        y = x * x
        y.register_hook(lambda g: g * 10.0)
        return y.sum()
    xs = gx.tensor(np.asarray([[1.0, 2.0], [3.0, 4.0]]))
    np.testing.assert_allclose(run(lambda: gx.vmap(gx.grad(hooked))(xs)), 20 * xs.numpy())        # both inside: it is called
    np.testing.assert_allclose(run(lambda: gx.scan(lambda c, x: (c, gx.grad(hooked)(x)), None, xs)[1]), 20 * xs.numpy())
    w = leaf(1, 2)
    for f, where in ((lambda: gx.grad(lambda x: gx.vmap(hooked)(x).sum())(xs), "vmap"),
                     (lambda: gx.grad(lambda w: gx.scan(lambda c, x: (c + hooked(w * x), None), gx.tensor(0.0, dtype="f64"), xs)[0])(w), "a loop's body")):
        with pytest.raises(gx.GraphError, match=f"inside of {where} is never called"):
            run(f)

    def retained(x: Any) -> Any:
        y = x * x
        y.retain_grad()
        return y.sum()
    with pytest.raises(gx.GraphError, match=r"retain_grad on .* inside of a body"):
        run(lambda: gx.grad(lambda x: gx.vmap(retained)(x).sum())(xs))


def test_variable_is_the_tensor() -> None:
    w = gx.tensor([1.0])
    assert gx.autograd.Variable(w) is w
    assert not w.requires_grad
    assert gx.autograd.Variable(w, requires_grad=True) is w
    assert w.requires_grad
    assert gx.autograd.Variable(np.ones(2)).shape == (2,)
