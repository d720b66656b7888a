"""Functions of Python's as operators: what pure_callback means on every evaluator, in loops and branches, under transforms; the words of errors."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.ir.text import equal, parse, show
from graphc.ir.verify import verify

Array = np.ndarray[Any, Any]
X = np.array([3.0, 1.0, 2.0], np.float32)
XS = np.array([[3.0, 1.0, 2.0, 0.5], [0.0, -1.0, 4.0, 2.5], [9.0, 8.0, 7.0, 6.0]], np.float32)


@pytest.fixture(params=["eager", "numpy", "llvm"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a function of arrays eagerly or compiled; results as NumPy arrays in the same containers."""
    if request.param == "eager":
        return lambda f, *args: _arrays(f(*(gx.asarray(a) for a in args)))
    return lambda f, *args: _arrays(gx.compile(f, backend=request.param)(*args))


def _arrays(x: Any) -> Any:
    if isinstance(x, dict):
        return {k: _arrays(v) for k, v in x.items()}
    return type(x)(map(_arrays, x)) if isinstance(x, (tuple, list)) else np.asarray(x)


def sort(x: Any) -> Any:
    return gx.pure_callback(np.sort, x, x)


# ---- values ----------------------------------------------------------------------------------------------------------------------------


def test_a_numpy_function(run: Any) -> None:
    np.testing.assert_array_equal(run(lambda x: 2 * sort(x * 2) + 1, X), 2 * np.sort(X * 2) + 1)


def test_trees_and_keywords(run: Any) -> None:
    """Arguments and results are trees; every leaf arrives in its place, with its shape and dtype."""
    def host(pair: Any, *, scale: Any, more: Any) -> Any:
        a, named = pair
        assert [type(v) for v in (a, named["b"], scale)] == [np.ndarray] * 3
        assert (a.shape, a.dtype, named["b"].dtype, scale.shape, more) == ((3,), np.float32, np.int64, (), None)
        return {"sum": a.sum() * scale, "parts": (a[:2] * scale, [named["b"] + 1])}

    def f(x: Any, k: Any) -> Any:
        like = {"sum": gx.Spec((), gx.float32), "parts": (np.empty(2, np.float32), [k])}
        return gx.pure_callback(host, like, (x, {"b": k}), scale=2.0, more=None)

    got = run(f, X, np.arange(4))
    assert (got["sum"], got["sum"].dtype) == (12, np.float32)
    np.testing.assert_array_equal(got["parts"][0], [6, 2])
    np.testing.assert_array_equal(got["parts"][1][0], [1, 2, 3, 4])


@pytest.mark.parametrize("dtype", [np.float64, np.int8, np.int64, np.uint32, np.bool_, np.float16])
def test_every_kind_of_element(run: Any, dtype: Any) -> None:
    x = np.array([[3, 0], [1, 0], [2, 7]]).astype(dtype)
    got = run(lambda x: gx.pure_callback(lambda a: a[::-1].T, gx.Spec((2, 3), x.dtype), x), x)
    np.testing.assert_array_equal(got, x[::-1].T)
    assert got.dtype == dtype


def test_bfloat16_is_handed_over_as_it_is(run: Any) -> None:
    f = run(lambda x: gx.pure_callback(lambda a: a[::-1], gx.Spec((3,), gx.bfloat16), x.astype(gx.bfloat16)).astype(gx.float32), X)
    np.testing.assert_array_equal(f, X[::-1])


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1, 1)])
def test_awkward_shapes(run: Any, shape: tuple[int, ...]) -> None:
    x = np.full(shape, 2.0, np.float32)
    got = run(lambda x: gx.pure_callback(lambda a: a * 3, x, x) + 1, x)
    np.testing.assert_array_equal(got, x * 3 + 1)
    assert got.shape == shape


def test_numbers_and_lists_take_the_dtype_that_is_asked_for(run: Any) -> None:
    like = (gx.Spec((), gx.float32), gx.Spec((2,), gx.int32), gx.Spec((), gx.float64))
    got = run(lambda x: gx.pure_callback(lambda a: (1.5, [1, 2], 3), like, x), X)
    assert [(np.asarray(v).dtype, v.tolist()) for v in got] == [(np.float32, 1.5), (np.int32, [1, 2]), (np.float64, 3.0)]


def test_what_is_read_in_another_order(run: Any) -> None:
    """An operand is handed over whole and in its own order, however it was made."""
    seen = []
    run(lambda x: gx.pure_callback(lambda a, b: (seen.append((a.copy(), b.copy())), a)[1], gx.Spec((4, 3)), x.T, gx.ones((2, 3)) * 2), XS)
    np.testing.assert_array_equal(seen[0][0], XS.T)
    np.testing.assert_array_equal(seen[0][1], np.full((2, 3), 2))


def test_arrays_are_the_callbacks_own(run: Any) -> None:
    """It may keep its arguments, change them, and give back the same memory again and again."""
    kept: list[Array] = []
    out = np.zeros(3, np.float32)

    def host(a: Array) -> Array:
        kept.append(a)
        out[:] = a + 1
        return out

    f = gx.compile(lambda x: (gx.pure_callback(host, x, x * 2), x))
    first, second = f(X), f(X + 1)
    np.testing.assert_array_equal(first[0], X * 2 + 1)
    np.testing.assert_array_equal(second[0], X * 2 + 3)
    np.testing.assert_array_equal(kept[0], X * 2)
    eager = gx.pure_callback(host, gx.asarray(X), gx.asarray(X))
    kept[-1][:] = 9
    out[:] = 9
    np.testing.assert_array_equal(eager.numpy(), X + 1)


def test_unused_it_is_not_called_and_equal_calls_are_one() -> None:
    calls = []

    def host(a: Array) -> Array:
        calls.append(a)
        return a

    def f(x: Any) -> Any:
        gx.pure_callback(host, x, x + 1)
        return gx.pure_callback(host, x, x) + gx.pure_callback(host, x, x)

    step = gx.compile(f)
    np.testing.assert_array_equal(step(X), 2 * X)
    assert len(calls) == 1


def test_functions_of_one_name_are_kept_apart(run: Any) -> None:
    """Also inside of loops, whose bodies are compared by their text."""
    def loop(k: float, x: Any) -> Any:
        def named(a: Array) -> Array:
            return a + np.float32(k)
        return gx.scan(lambda c, v: (c, gx.pure_callback(named, v, v)), 0.0, x)[1]

    np.testing.assert_array_equal(run(lambda x: loop(1, x) * loop(2, x), X), (X + 1) * (X + 2))


# ---- loops, branches, sizes ------------------------------------------------------------------------------------------------------------


def test_in_a_scan(run: Any) -> None:
    def body(c: Any, v: Any) -> Any:
        c = gx.pure_callback(lambda a, b: a + b, c, c, v)
        return c, gx.pure_callback(lambda a: a * 10, c, c)

    last, rows = run(lambda x: gx.scan(body, gx.zeros(4), x), XS)
    np.testing.assert_array_equal(last, XS.sum(0))
    np.testing.assert_array_equal(rows, XS.cumsum(0) * 10)


def test_in_while_and_fori(run: Any) -> None:
    """In the question, too."""
    def halve(c: Any) -> Any:
        return gx.while_loop(lambda c: gx.pure_callback(lambda a: a > 1, gx.Spec((), gx.bool), c), lambda c: gx.pure_callback(lambda a: a / 2, c, c), c)

    assert run(lambda x: halve(x[0] * 4), X) == 0.75
    np.testing.assert_array_equal(run(lambda x: gx.fori_loop(0, 3, lambda i, c: gx.pure_callback(lambda i, a: a + i, c, i.astype(gx.float32), c), x), X), X + 3)


def test_in_a_branch_it_runs_where_the_branch_does(run: Any) -> None:
    seen = []

    def host(a: Array) -> Array:
        seen.append(a)
        return a * 2

    def f(x: Any, p: Any) -> Any:
        return gx.cond(p[0] > 0, lambda x: gx.pure_callback(host, x, x), lambda x: x + 1, x)

    np.testing.assert_array_equal(run(f, X, np.array([1.0], np.float32)), X * 2)
    assert len(seen) == 1
    np.testing.assert_array_equal(run(f, X, np.array([-1.0], np.float32)), X + 1)
    assert len(seen) == 1


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("threads", [1, 2])
def test_symbolic_sizes(backend: str, threads: int) -> None:
    """The function sees the size of the call."""
    sizes = []

    def host(a: Array) -> Any:
        sizes.append(a.shape)
        return np.sort(a, 0), a[:, 0]

    def f(x: Any) -> Any:
        a, b = gx.pure_callback(host, (x, gx.Spec((x.shape[0],))), x)
        return a * 2, gx.sum(b)

    step = gx.compile(f, backend=backend, threads=threads).lower(gx.Spec(("N", 4))).compile()
    for n in (3, 1, 5, 3):
        x = np.arange(n * 4, dtype=np.float32)[::-1].reshape(n, 4)
        a, b = step(x)
        np.testing.assert_array_equal(a, np.sort(x, 0) * 2)
        assert b == x[:, 0].sum()
    assert sizes == [(3, 4), (1, 4), (5, 4), (3, 4)]


# ---- transforms ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "shapes"), [("sequential", [((4,), ()), ((4,), ()), ((4,), ())]), ("expand_dims", [((3, 4), (1,))]),
                                                ("broadcast_all", [((3, 4), (3,))])])
def test_vmap(run: Any, method: str, shapes: list[Any]) -> None:
    seen = []

    def host(a: Array, b: Array) -> Array:
        seen.append((a.shape, b.shape))
        return np.sort(a, -1) * b[..., None]

    got = run(lambda x: gx.vmap(lambda v: gx.pure_callback(host, v, v, 2.0, vmap_method=method))(x), XS)
    np.testing.assert_array_equal(got, np.sort(XS, -1) * 2)
    assert seen == shapes


@pytest.mark.parametrize("method", ["sequential", "expand_dims", "broadcast_all"])
def test_vmap_of_vmap_along_other_axes(run: Any, method: str) -> None:
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(4, dtype=np.float32)

    def one(u: Any, v: Any) -> Any:
        return gx.pure_callback(lambda u, v: u * 10 + v, gx.Spec(), u, v, vmap_method=method)

    got = run(lambda a, b: gx.vmap(gx.vmap(one, in_axes=(None, 0)), in_axes=(0, None))(a[:, 1], b), a, b)
    np.testing.assert_array_equal(got, a[:, 1:2] * 10 + b)


class Cube(gx.autograd.Function):
    """By NumPy, both ways."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return gx.pure_callback(lambda a: a ** 3, x, x, vmap_method="expand_dims")

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, = ctx.saved_tensors
        return gx.pure_callback(lambda a, g: 3 * a ** 2 * g, x, x, g, vmap_method="broadcast_all")


@gx.custom_vjp
def cube(x: Any) -> Any:
    return gx.pure_callback(lambda a: a ** 3, x, x)


cube.defvjp(lambda x: (cube(x), x), lambda x, g: (3 * x * x * g,))


def test_autograd_function_in_numpy(run: Any) -> None:
    x = np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(run(lambda x: gx.grad(lambda x: gx.sum(Cube.apply(x) * x))(x), x), 4 * x ** 3)
    np.testing.assert_allclose(run(lambda x: gx.vmap(gx.grad(Cube.apply))(x), x), 3 * x ** 2)
    assert gx.gradcheck(Cube.apply, gx.tensor(x, requires_grad=True))


def test_custom_vjp_around_it(run: Any) -> None:
    x = np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(run(lambda x: gx.grad(lambda x: gx.sum(cube(x)))(x), x), 3 * x ** 2)
    np.testing.assert_allclose(run(lambda x: gx.grad(lambda x: gx.sum(gx.grad(lambda x: gx.sum(cube(x)))(x)))(x), x), 6 * x)    # its rule has a derivative
    np.testing.assert_allclose(run(lambda x: gx.grad(lambda x: gx.sum(gx.checkpoint(lambda x: cube(gx.sin(x)))(x)))(x), x), 3 * np.sin(x) ** 2 * np.cos(x))
    np.testing.assert_allclose(run(lambda x: gx.grad(lambda x: gx.scan(lambda c, v: (c + cube(v), None), x[0] * 0, x)[0])(x), x), 3 * x ** 2)


def test_backward_through_a_module() -> None:
    """`loss.backward()` in a compiled step, with an operator that NumPy computes."""
    net = gx.nn.Linear(3, 2)
    w = net.weight.numpy().astype(np.float64)

    @gx.compile(keep_grads=True)
    def step(x: Any) -> Any:
        net.zero_grad()
        loss = Cube.apply(net(x)).sum()
        loss.backward()
        return loss

    loss = step(X)
    y = w @ X + net.bias.numpy()
    np.testing.assert_allclose(loss, (y ** 3).sum(), rtol=1e-5)
    np.testing.assert_allclose(net.weight.grad.numpy(), np.outer(3 * y ** 2, X), rtol=1e-4)


def test_integers_need_no_derivative(run: Any) -> None:
    """What a path of floats does not go through has no part in a derivative."""
    def f(x: Any) -> Any:
        order = gx.pure_callback(lambda a: np.argsort(a), gx.Spec((3,), gx.int64), x)
        return gx.sum(x[order] * gx.asarray(np.array([1, 10, 100], np.float32)))

    np.testing.assert_array_equal(run(lambda x: gx.grad(f)(x), X), [100, 1, 10])


# ---- the words of errors ---------------------------------------------------------------------------------------------------------------


def _raise(e: Exception) -> Any:
    raise e


@pytest.mark.parametrize(("host", "like", "words"), [
    (lambda a: a.astype(np.float64), gx.Spec((3,)), r"the result is f64\[3\], and should be f32\[3\]"),
    (lambda a: a[:2], gx.Spec((3,)), r"the result is f32\[2\], and should be f32\[3\]"),
    (lambda a: (a, a), gx.Spec((3,)), r"the result is f32\[2,3\], and should be f32\[3\]"),
    (lambda a: a, (gx.Spec((3,)), gx.Spec((3,))), r"the result is a ndarray, and should be a tuple of 2"),
    (lambda a: (a, a, a), (gx.Spec((3,)), gx.Spec((3,))), r"the result is a tuple of 3, and should be a tuple of 2"),
    (lambda a: {"a": a}, {"b": gx.Spec((3,))}, r"the result is a dict of 1, and should be a dict with b"),
    (lambda a: {"a": (a, a[:1])}, {"a": (gx.Spec((3,)), gx.Spec((3,)))}, r"result\['a'\]\[1\] is f32\[1\], and should be f32\[3\]"),
    (lambda a: [1, [2]], gx.Spec((3,)), r"the result is (a list that is no array|of object)"),
    (lambda a: None, gx.Spec((3,)), r"the result is of object"),
    (lambda a: 1.5, gx.Spec((), gx.int32), r"the result is f64\[\], and should be i32\[\]"),
    (lambda a: (a, a), (gx.Spec((3,)), None), r"result\[1\] is a ndarray, and should be None"),
])
def test_what_does_not_fit(run: Any, host: Any, like: Any, words: str) -> None:
    with pytest.raises(gx.GraphError, match=words) as e:
        run(lambda x: gx.pure_callback(host, like, x), X)
    assert "test_callback.py" in str(e.value.at)
    assert "result_shape_dtypes" in str(e.value.why)


def test_the_fix_for_a_dtype() -> None:
    with pytest.raises(gx.GraphError) as e:
        gx.pure_callback(lambda a: a.astype(np.float64), gx.Spec((3,)), gx.asarray(X))
    assert e.value.fix == "return y.astype('float32')"
    assert "callback" in str(e.value.op)


@pytest.mark.parametrize(("f", "words"), [
    (lambda x: gx.pure_callback(3, x, x), "pure_callback of a int, which is no function"),
    (lambda x: gx.pure_callback(np.sort, 3.0, x), "pure_callback of sort: result_shape_dtypes is a float, which has no shape and dtype"),
    (lambda x: gx.pure_callback(np.sort, {"y": "z"}, x), r"result_shape_dtypes\['y'\] is a str, which has no shape and dtype"),
    (lambda x: gx.pure_callback(np.sort, gx.Spec(("M",)), x), r"pure_callback of sort gives f32\[M\], and no argument has the size M"),
    (lambda x: gx.pure_callback(np.sort, x, x, vmap_method="fast"), "there is no vmap_method 'fast'"),
    (lambda x: gx.vmap(sort)(x[None]), "pure_callback of sort has no batch"),
    (lambda x: gx.grad(lambda x: gx.sum(sort(x)))(x), "pure_callback of sort has no derivative"),
    (lambda x: gx.jvp(sort, (x,), (x,)), "pure_callback of sort has no derivative"),
])
def test_refused(run: Any, f: Any, words: str) -> None:
    with pytest.raises(gx.GraphError, match=words) as e:
        run(f, X)
    assert "test_callback.py" in str(e.value.at)


def test_the_way_out_is_said() -> None:
    with pytest.raises(gx.GraphError) as e:
        gx.compile(lambda x: gx.grad(lambda x: gx.sum(sort(x)))(x))(X)
    assert "gx.custom_vjp, gx.custom_jvp or gx.autograd.Function" in str(e.value.fix)
    with pytest.raises(gx.GraphError) as e:
        gx.vmap(sort)(gx.asarray(XS))
    assert '"sequential", once for each example' in str(e.value.fix)


# ---- text ------------------------------------------------------------------------------------------------------------------------------


def test_text_holds_the_name() -> None:
    graph = gx.compile(sort).lower(X).graph
    text = show(graph)
    assert 'pure_callback(%x) {function=host("sort"), results=types(f32[3])}' in text
    again = parse(text)
    verify(again)
    assert equal(again, graph)
    assert show(again, locs=False) == show(graph, locs=False)
    from graphc.interp.numpy import run as evaluate
    with pytest.raises(gx.GraphError, match="sort is a name in the text of a graph, and there is no function"):
        evaluate(again, [X])


def test_pictures_and_reports(tmp_path: Any) -> None:
    step = gx.compile(lambda x: 2 * sort(x + 1))
    step(X)
    for view in ("lanes", "kernels", "memory"):
        step.draw(str(tmp_path / f"{view}.svg"), view=view)
        assert (tmp_path / f"{view}.svg").stat().st_size
    assert "sort" in (tmp_path / "kernels.svg").read_text(encoding="utf-8")
    assert "host 0 sort(" in step.lowered.text("loops")
    assert step.lowered.memory_plan().total > 0
    assert step.lowered.text("llvm").count("@PyObject_CallFunction(ptr %function") == 1


def test_passes_are_checked_without_it() -> None:
    """`check_passes` compares graphs on random inputs, which are none of the user's function's business."""
    seen = []
    gx.compile(lambda x: gx.pure_callback(lambda a: (seen.append(a), a)[1], x, x) * 1, check_passes=True)(X)
    assert len(seen) == 1


def test_formulas_have_its_name() -> None:
    def both(x: Any) -> Any:
        a, b = gx.pure_callback(lambda v: (v, v), (x, x), x)
        return a * b

    spec = gx.Spec((2,), gx.float64)
    assert r"u &= \operatorname{sort}\left(x\right) \\" in gx.symbolic.latex(lambda x: 2 * sort(x) + 1, spec)
    assert r"\left(x\right)_{2}" in gx.symbolic.latex(both, spec)
    assert str(gx.symbolic.to_sympy(lambda x: gx.exp(sort(x)), spec)) == "[exp(sort_0(x_0, x_1)), exp(sort_1(x_0, x_1))]"
    assert str(gx.symbolic.to_sympy(lambda x: 2 * sort(x))) == "2*sort(x)"
