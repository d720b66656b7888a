"""Loops as users spell them: eagerly and compiled on both backends, against Python's own loops; pieces, gradients, and the words of errors."""
from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.ir.walk import all_nodes, topo
from graphc.loop.place import launches

XS = np.random.default_rng(0).standard_normal((7, 3))


@pytest.fixture(params=["eager", "numpy", "llvm"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a function of arrays eagerly or compiled; results as NumPy arrays in the same containers."""
    if request.param == "eager":
        return lambda f, *args: _arrays(f(*(gx.tensor(a) if isinstance(a, (np.ndarray, np.generic)) else a for a in args)))
    return lambda f, *args: _arrays(gx.compile(f, backend=request.param)(*args))


def _arrays(x: Any) -> Any:
    if isinstance(x, dict):
        return {k: _arrays(v) for k, v in x.items()}
    return type(x)(map(_arrays, x)) if isinstance(x, (tuple, list)) else None if x is None else np.asarray(x)


def step(c: Any, x: Any) -> Any:
    """A carry of two kinds, ys in a dict."""
    h, n = c
    new = gx.tanh(h * 0.5 + x["a"]) * x["b"]
    return (new, n + 1), {"sum": new.sum(), "row": (h - new, n)}


def unrolled(h: np.ndarray, xs: np.ndarray, reverse: bool) -> Any:
    """`step` by Python, on x["a"] = a row of xs, x["b"] = its first element."""
    n, sums, rows, ns = 0, [], [], []
    for x in xs[::-1] if reverse else xs:
        new = np.tanh(h * 0.5 + x) * x[0]
        sums.append(new.sum())
        rows.append(h - new)
        ns.append(n)
        h, n = new, n + 1
    out = [np.asarray(v) for v in (sums, np.reshape(rows, (len(rows), 3)), ns)]
    return h, n, *(v[::-1] if reverse else v for v in out)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("how", [{}, {"unroll": 2}, {"unroll": 3}, {"unroll": 7}, {"unroll": True}, {"unroll": False}, {"checkpoint": "sqrt"},
                                 {"checkpoint": 2}, {"checkpoint": 9}, {"length": 7}], ids=str)
def test_scan_of_trees(run: Any, how: dict[str, Any], reverse: bool) -> None:
    def f(h: Any, xs: Any) -> Any:
        (h, n), ys = gx.scan(step, (h, 0), {"a": xs, "b": xs[:, 0]}, reverse=reverse, **how)
        return h, n, ys["sum"], ys["row"][0], ys["row"][1]
    for got, want in zip(run(f, np.ones(3), XS), unrolled(np.ones(3), XS, reverse), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("how", [{}, {"unroll": 3}, {"unroll": True}, {"checkpoint": "sqrt"}, {"checkpoint": 3}], ids=str)
def test_gradients_of_pieces(run: Any, how: dict[str, Any]) -> None:
    def loss(w: Any, xs: Any, **how: Any) -> Any:
        c, ys = gx.scan(lambda c, x: (gx.tanh(c * w + x), c * c), gx.zeros(3, dtype="f64"), xs, reverse=True, **how)
        return c.sum() + (ys * ys).sum()
    w = np.asarray([0.3, -1.1, 0.7])
    for k in (0, 1):
        want = gx.grad(loss, k)(gx.tensor(w), gx.tensor(XS)).numpy()
        np.testing.assert_allclose(run(lambda w, xs, k=k: gx.grad(loss, k)(w, xs, **how), w, XS), want, rtol=1e-12, atol=1e-14)
    want = gx.hessian(loss)(gx.tensor(w), gx.tensor(XS)).numpy()
    np.testing.assert_allclose(run(lambda w, xs: gx.hessian(lambda w: loss(w, xs, **how))(w), w, XS), want, rtol=1e-12, atol=1e-13)


def test_no_steps_at_all(run: Any) -> None:
    def f(h: Any, xs: Any) -> Any:
        c, ys = gx.scan(lambda c, x: (c + x, {"y": c * x, "s": x.sum()}), h, xs[:0])
        d, none = gx.scan(lambda c, _: (c * 2, None), h, None, length=0)
        return c, ys["y"], ys["s"], d, none, gx.grad(lambda h: gx.scan(lambda c, x: (c + x, None), h, xs[:0], checkpoint="sqrt")[0].sum())(h)
    c, y, s, d, none, g = run(f, np.ones(3), XS)
    assert (c.tolist(), y.shape, s.shape, d.tolist(), none, g.tolist()) == ([1, 1, 1], (0, 3), (0,), [1, 1, 1], None, [1, 1, 1])


def test_nothing_goes_round(run: Any) -> None:
    """A scan without carries is a map; one without ys or xs is a loop."""
    _, ys = run(lambda xs: gx.scan(lambda _, x: (None, x * 2), None, xs), XS)
    np.testing.assert_array_equal(ys, XS * 2)
    assert run(lambda x: gx.scan(lambda c, _: (c * x, None), 1.0, length=5), np.float32(2.0)) == (32.0, None)


def test_numbers_in_a_carry_are_weak(run: Any) -> None:
    """A body that returns a Python number gives the carry's own dtype, in full precision."""
    carry, ys = run(lambda x: gx.scan(lambda c, _: ((0.1, 3, True), (c[0], 0.5, 2)), (x, gx.tensor(1, dtype="u8"), True), None, length=2), np.float64(7.0))
    assert carry == (0.1, 3, True)
    assert [c.dtype for c in carry] == [np.float64, np.uint8, np.bool_]
    assert ys[0].tolist() == [7.0, 0.1]
    assert (ys[1].dtype, ys[2].dtype) == (np.float32, np.int64)


@pytest.mark.parametrize(("lower", "upper"), [(0, 5), (-2, 3), (3, 3), (4, 1)])
def test_fori_loop(run: Any, lower: int, upper: int) -> None:
    def f(x: Any) -> Any:
        c = gx.fori_loop(lower, upper, lambda i, c: {"x": c["x"] * x + i, "n": c["n"] + 1}, {"x": x, "n": 0})
        return c["x"], c["n"], gx.grad(lambda x: gx.fori_loop(lower, upper, lambda i, c: c * x + i, x))(x)
    want = x = 1.5
    slope = 1.0
    for i in range(lower, upper):
        want, slope = want * x + i, slope * x + want
    assert run(f, np.float64(1.5)) == (want, max(upper - lower, 0), slope)


def test_a_body_is_one_kernel_however_often_it_runs() -> None:
    """Nothing is unrolled unless it is said: 10 steps and 1,000 are the same kernels. `unroll` alone writes steps out, as calls of the same code."""
    def products(**how: Any) -> tuple[int, int]:
        step = gx.compile(lambda x: gx.scan(lambda c, x: (gx.sin(c) @ x, None), gx.ones(3), x, **how)[0], cache=False).lower(
            np.ones((14, 3, 3), np.float32)).executable()
        runs = [x for x in launches(step.plan) if "contract" in x.kernel.name]
        return len(runs), len(re.findall(r"define internal void @k\d+_contract", step.llvm))
    assert products() == (1, 1)
    assert products(checkpoint=4) == (2, 1)                             # three turns of four steps, then two
    assert products(unroll=7)[0] == 7

    def program(n: int) -> Any:
        return gx.compile(gx.grad(lambda x: gx.scan(lambda c, x: (gx.tanh(c @ x), c.sum()), gx.ones(3), x)[0].sum()), cache=False).lower(
            np.ones((n, 3, 3), np.float32))
    small, large = program(5), program(5000)
    assert len(list(all_nodes(small.graph))) == len(list(all_nodes(large.graph)))
    assert len(list(launches(small.executable().plan))) == len(list(launches(large.executable().plan)))


def test_checkpoints_bound_the_memory() -> None:
    """The carries of a scan's reverse mode: n of them, or about 2 √n."""
    size, n = 1024, 400

    def arena(**how: Any) -> int:
        def loss(w: Any) -> Any:
            return gx.scan(lambda c, _: (gx.tanh(c * w), None), gx.ones(size), None, length=n, **how)[0].sum()
        return int(gx.compile(gx.grad(loss), cache=False).lower(np.ones(size, np.float32)).executable()._manifest.arena_bytes)
    plain, rooted, fifty = arena(), arena(checkpoint="sqrt"), arena(checkpoint=50)
    row = size * 4
    assert n * row <= plain <= (n + 8) * row
    assert 40 * row <= rooted <= (40 + 12) * row
    assert (50 + 8) * row <= fifty <= (50 + 8 + 12) * row


def test_a_recurrence_in_the_graph_is_one_node() -> None:
    graph = gx.compile(lambda x: gx.fori_loop(0, 100, lambda i, c: c * 0.5 + i, x)).lower(np.float32(1.0)).graph
    (loop,) = [n for n in topo(graph.roots) if n.op.name == "scan"]
    assert loop.attrs["length"] == 100


# ---- the words of errors ---------------------------------------------------------------------------------------------------------------

ERRORS: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: gx.scan(lambda c, x: (gx.concat([c, c]), None), gx.ones(2), gx.ones(3)),
     r"scan: carry starts as f32\[2\] and becomes f32\[4\]", "give the first value the shape"),
    (lambda: gx.scan(lambda c, x: ({"h": c["h"] * 1.0, "n": c["n"] + 1.5}, None), {"h": gx.ones(2), "n": 0}, gx.ones(3)),
     r"scan: carry\['n'\] starts as i64\[\] and becomes f32\[\]", r"\.astype\('i64'\)"),
    (lambda: gx.scan(lambda c, x: (0.5, None), 1, gx.ones(3)), r"scan: carry starts as i64\[\] and becomes f32\[\]", "astype"),
    (lambda: gx.scan(lambda c, x: ((c, c), None), gx.ones(2), gx.ones(3)), "a carry of another structure", "same containers"),
    (lambda: gx.scan(lambda c, x: c, gx.ones(2), gx.ones(3)), r"returns \(carry, y\), got Tensor", "return carry, None"),
    (lambda: gx.scan(lambda c, x: (c, None), 0.0, {"a": gx.ones(3), "b": gx.ones(2, 2)}),
     r"xs\['a'\] says 3 steps, xs\['b'\] is f32\[2,2\]", "equal first axes"),
    (lambda: gx.scan(lambda c, x: (c, None), 0.0, gx.ones(3), length=4), r"length says 4 steps, xs is f32\[3\]", "equal first axes"),
    (lambda: gx.scan(lambda c, x: (c, None), 0.0, 1.0), "over a tensor of rank 0: xs", "read it from inside"),
    (lambda: gx.scan(lambda c, x: (c, None), 0.0), "without xs needs a length", "length=10"),
    (lambda: gx.scan(lambda c, x: (c, None), 0.0, length=-1), "length is -1", "0 or more"),
    (lambda: gx.scan(lambda c, x: (c, None), 0.0, length=3, unroll=0), "unroll is 0", "True"),
    (lambda: gx.scan(lambda c, x: (c, None), 0.0, length=3, checkpoint="log"), "checkpoint is 'log'", "sqrt"),
    (lambda: gx.scan(lambda c, x: (c, None), 0.0, length=3, checkpoint=2, unroll=2), "unroll and checkpoint together", "in the body"),
    (lambda: gx.fori_loop(0, 2.5, lambda i, c: c, 0.0), "upper is float", ""),
    (lambda: gx.fori_loop(0, gx.ones(2), lambda i, c: c, 0.0), r"upper is f32\[2\], not an integer", ""),
    (lambda: gx.fori_loop(0, gx.tensor(2), lambda i, c: c, 0.0, unroll=2), "whose bounds are tensors", "Python integers"),
    (lambda: gx.while_loop(lambda c: c, lambda c: c, 0.0), r"cond_fun returns f32\[\], not one bool", "gx.any"),
    (lambda: gx.while_loop(lambda c: c > 0, lambda c: c, gx.ones(2)), r"cond_fun returns bool\[2\], not one bool", "gx.any"),
    (lambda: gx.while_loop(lambda c: (c > 0, 1), lambda c: c, 0.0), "cond_fun returns a tree", "gx.any"),
    (lambda: gx.while_loop(lambda c: c[0] > 0, lambda c: c[0], (0.0, 1)), "carry of another structure", "same containers"),
    (lambda: gx.while_loop(lambda c: c[1] > 0, lambda c: (c[0], c[1] * 0.5), (0.0, 1)), r"carry\[1\] starts as i64\[\] and becomes f32\[\]", "astype"),
    (lambda: gx.while_loop(lambda c: c > 0, lambda c: c, 1.0, max_steps=-1), "max_steps is -1", "None"),
    (lambda: gx.grad(lambda x: gx.while_loop(lambda c: c < 5, lambda c: c * 2, x))(1.0), "no reverse mode without max_steps", r"max_steps=N"),
    (lambda: gx.grad(lambda x: gx.fori_loop(0, gx.tensor(3), lambda i, c: c * x, x))(1.0), "no reverse mode without max_steps", r"max_steps=N"),
    (lambda: gx.fori_loop(0, 2, lambda i, c: (c, c), 0.0), "another structure", ""),
]


@pytest.mark.parametrize(("call", "what", "fix"), ERRORS, ids=range(len(ERRORS)))
@pytest.mark.parametrize("traced", [False, True])
def test_errors_say_what_where_and_how_to_mend(call: Callable[[], Any], what: str, fix: str, traced: bool) -> None:
    with pytest.raises(gx.GraphError, match=what) as e:
        gx.compile(call)() if traced else call()
    assert "test_control.py" in str(e.value.at)
    assert fix.replace("\\", "") in str(e.value.fix)


# ---- carries that start as Python numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
def test_a_carry_that_starts_as_a_python_float_takes_the_dtype_that_becomes_of_it(compiled: bool) -> None:
    xs = np.array([1.0, 2.0, 3.0])

    def both(f: Any) -> Any:
        return gx.compile(f)(xs) if compiled else f(gx.tensor(xs))
    last, seen = both(lambda x: gx.scan(lambda c, v: (c + v, c), 0.0, x))
    assert (last, np.asarray(last).dtype, np.asarray(seen).dtype) == (6.0, np.dtype("f8"), np.dtype("f8"))
    total, count = both(lambda x: gx.scan(lambda c, v: ((c[0] + v, c[1] + 1), None), (0.0, 0), x)[0])
    assert (total, count, np.asarray(count).dtype) == (6.0, 3, np.dtype("i8"))
    assert both(lambda x: gx.fori_loop(np.int64(0), np.int32(3), lambda i, c: c + x[i], 0.0)) == 6.0
    assert both(lambda x: gx.while_loop(lambda c: c[0] < 9, lambda c: (c[1], c[0] + c[1] + x[0]), (0.0, 1.0))) == (12.0, 20.0)
    np.testing.assert_array_equal(both(gx.grad(lambda x: gx.scan(lambda c, v: (c + v * v, None), 0.0, x)[0])), 2 * xs)
    assert np.asarray(both(lambda x: gx.scan(lambda c, v: (c * 2, None), 1.0, x)[0])).dtype == np.float32
    with pytest.raises(gx.GraphError, match=r"scan: carry starts as i64\[\] and becomes f64\[\]"):
        both(lambda x: gx.scan(lambda c, v: (c + v, None), 0, x))
    assert both(lambda x: gx.scan(lambda c, v: (c + v, None), x[0], x, length=np.int64(3))[0]) == 7.0
