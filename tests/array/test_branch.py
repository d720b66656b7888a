"""`cond` and `switch`: one branch runs, on every evaluator; derivatives, batches, nests; and the words of errors."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.ir.walk import all_nodes, topo
from graphc.llvm import runtime
from graphc.loop.ir import Branch, walk_plan
from graphc.testing import check_grads

from .test_control import _arrays, run  # noqa: F401

X = np.asarray([0.3, -0.7, 1.1])


def choose(x: Any, y: Any) -> Any:
    """Smooth on either side; the sides differ in what they read."""
    return gx.cond(x.sum() > 0, lambda x, y: {"a": gx.sin(x) * y, "b": (x * x).sum()}, lambda x, y: {"a": x * 3.0, "b": gx.exp(y).sum()}, x, y)


def by_hand(x: np.ndarray, y: np.ndarray) -> Any:
    return (np.sin(x) * y, (x * x).sum()) if x.sum() > 0 else (x * 3.0, np.exp(y).sum())


@pytest.mark.parametrize("sign", [1, -1])
def test_cond(run: Any, sign: int) -> None:  # noqa: F811
    out = run(choose, X * sign, X + 1)
    a, b = by_hand(X * sign, X + 1)
    np.testing.assert_allclose(out["a"], a, rtol=1e-14)
    np.testing.assert_allclose(out["b"], b, rtol=1e-14)


@pytest.mark.parametrize("index", [-5, 0, 1, 2, 3, 100])
def test_switch_clamps(run: Any, index: int) -> None:  # noqa: F811
    f = [lambda x: x, lambda x: x * x, lambda x: -x, lambda x: gx.zeros(3, dtype="f64")]
    want = [X, X * X, -X, X * 0][max(0, min(index, 3))]
    np.testing.assert_array_equal(run(lambda i, x: gx.switch(i, f, x), np.int64(index), X), want)
    np.testing.assert_array_equal(run(lambda i, x: gx.switch(i, f, x), np.int8(index), X), want)
    np.testing.assert_array_equal(run(lambda x: gx.switch(index, f, x), X), want)


def test_numbers_and_captures(run: Any) -> None:  # noqa: F811
    """A Python number takes the dtype of the other branch; what is read from outside, and what comes back as it went in, are no trouble."""
    def f(p: Any, x: Any) -> Any:
        k = x * 2
        return gx.cond(p, lambda: (k, 1.5, 7, True), lambda: (x, x.sum(), gx.tensor(3, dtype="u8"), p))
    for p in (True, False):
        got = run(f, np.bool_(p), X)
        np.testing.assert_array_equal(got[0], X * 2 if p else X)
        assert got[1] == (1.5 if p else X.sum())
        assert (got[2], got[2].dtype, got[3]) == (7 if p else 3, np.uint8, p)
    assert run(lambda p: gx.cond(p, lambda: 1, lambda: 2), np.float64(-0.5)) == 1          # a number is true if it is not 0
    assert run(lambda: gx.cond(0, lambda: None, lambda: None)) is None


def test_only_the_branch_taken_runs(run: Any) -> None:  # noqa: F811
    """The other one would fail: its index is out of range."""
    table = np.arange(4.0)

    def f(p: Any, i: Any, t: Any) -> Any:
        return gx.cond(p, lambda: t[gx.check_index(i, 4)].sum(), lambda: t.sum())
    assert run(f, np.bool_(False), np.asarray([9]), table) == 6.0
    assert run(f, np.bool_(True), np.asarray([3]), table) == 3.0
    with pytest.raises(gx.GraphIndexError):
        run(f, np.bool_(True), np.asarray([9]), table)


@pytest.mark.parametrize("sign", [1, -1])
def test_derivatives(run: Any, sign: int) -> None:  # noqa: F811
    def f(x: Any, y: Any) -> Any:
        out = choose(x, y)
        return out["a"].sum() * out["b"]
    x, y = X * sign, X + 1
    check_grads(f, [x, y], order=3, tolerance=1e-5)
    for k in (0, 1):
        want = gx.grad(f, k)(gx.tensor(x), gx.tensor(y)).numpy()
        np.testing.assert_allclose(run(gx.grad(f, k), x, y), want, rtol=1e-13)
        np.testing.assert_allclose(run(gx.jacfwd(f, k), x, y), want, rtol=1e-12)
    h = gx.hessian(f)(gx.tensor(x), gx.tensor(y)).numpy()
    np.testing.assert_allclose(run(gx.hessian(f), x, y), h, rtol=1e-12)
    np.testing.assert_allclose(run(lambda x, y: gx.jacfwd(gx.jacfwd(f))(x, y), x, y), h, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(h, h.T, rtol=1e-12)


def test_backward_through_a_branch(run: Any) -> None:  # noqa: F811
    w = gx.tensor(np.asarray([2.0, 3.0]), requires_grad=True)

    def f(p: Any) -> Any:
        w.grad = None
        gx.cond(p, lambda: (w * w).sum(), lambda: w[0] * 5.0).backward()
        return w.grad
    assert run(f, np.bool_(True)).tolist() == [4, 6]
    assert run(f, np.bool_(False)).tolist() == [5, 0]


XS = np.asarray([[0.3, -0.7, 1.1], [-0.5, 0.2, -0.4], [-1.2, 0.9, 0.8], [0.1, -0.1, -0.6]])


@pytest.mark.parametrize("f", [lambda x: choose(x, x + 1)["a"], gx.grad(lambda x: choose(x, x + 1)["b"]), gx.hessian(lambda x: choose(x, x * x)["b"])],
                         ids=["value", "grad", "hessian"])
def test_vmap(run: Any, f: Any) -> None:  # noqa: F811
    want = np.stack([f(gx.tensor(x)).numpy() for x in XS])
    np.testing.assert_allclose(run(gx.vmap(f), XS), want, rtol=1e-12, atol=1e-13)


def test_vmap_of_one_choice_for_all_is_one_choice(run: Any) -> None:  # noqa: F811
    def f(p: Any, xs: Any) -> Any:
        return gx.vmap(lambda x: gx.cond(p, lambda: x.sum(), lambda: 2.0))(xs)
    np.testing.assert_allclose(run(f, np.bool_(True), XS), XS.sum(1))
    np.testing.assert_array_equal(run(f, np.bool_(False), XS), [2, 2, 2, 2])
    graph = gx.compile(f).lower(np.bool_(True), XS).graph
    assert [n.op.name for n in topo(graph.roots)].count("cond") == 1
    apart = gx.compile(gx.vmap(lambda x: choose(x, x)["a"])).lower(XS).graph
    assert not any(n.op.name == "cond" for n in all_nodes(apart))
    index = np.asarray([-1, 0, 1, 9])
    got = run(gx.vmap(lambda k, x: gx.switch(k, [lambda: x, lambda: x * 2, lambda: x * 3])), index, XS)
    np.testing.assert_allclose(got, XS * np.asarray([[1], [1], [2], [3]]))


def nest(x: Any, depth: int) -> Any:
    """cond in scan in cond ..., to the given depth."""
    if depth == 0:
        return gx.sin(x) * 0.9
    if depth % 2:
        return gx.cond(x[0] > 0, lambda x: nest(x, depth - 1) + 0.1, lambda x: nest(x * 0.5, depth - 1) - 0.1, x)
    return gx.scan(lambda c, t: (nest(c + t, depth - 1), c.sum()), x, gx.tensor(np.asarray([0.2, -0.6, 0.4])))[0]


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_nests(run: Any, depth: int) -> None:  # noqa: F811
    def by_python(x: np.ndarray, depth: int) -> np.ndarray:
        if depth == 0:
            return np.sin(x) * 0.9
        if depth % 2:
            return by_python(x, depth - 1) + 0.1 if x[0] > 0 else by_python(x * 0.5, depth - 1) - 0.1
        for t in (0.2, -0.6, 0.4):
            x = by_python(x + t, depth - 1)
        return x
    np.testing.assert_allclose(run(lambda x: nest(x, depth), X), by_python(X, depth), rtol=1e-13)
    f = gx.grad(lambda x: (nest(x, depth) ** 2).sum())
    np.testing.assert_allclose(run(f, X), f(gx.tensor(X)).numpy(), rtol=1e-11)
    if depth < 4:
        check_grads(lambda x: (nest(x, depth) ** 2).sum(), [X], order=2, tolerance=1e-5)


def test_a_constant_choice_is_no_choice() -> None:
    f = gx.compile(lambda x: gx.cond(True, lambda x: x * 2, lambda x: gx.exp(x), x), cache=False)
    step = f.lower(np.ones(3, np.float32))
    assert any(n.op.name == "cond" for n in topo(step.graph.roots))
    assert not any(n.op.name in ("cond", "exp") for n in all_nodes(step.executable().optimized))
    assert f(np.ones(3, np.float32)).tolist() == [2, 2, 2]


def test_what_nobody_reads_is_not_computed() -> None:
    """Results of branches that are not read go, and what they alone needed."""
    def f(p: Any, x: Any, y: Any) -> Any:
        return gx.cond(p, lambda: (x * 2, gx.exp(y)), lambda: (x, gx.tanh(y)))[0]
    optimized = gx.compile(f, cache=False).lower(np.bool_(True), X, X).executable().optimized
    assert not {"exp", "tanh"} & {n.op.name for n in all_nodes(optimized)}
    (node,) = [n for n in topo(optimized.roots) if n.op.name == "cond"]
    assert len(node.inputs) == 2


@pytest.mark.parametrize("size", [64, 40_000])
@pytest.mark.parametrize("which", [0, 1])
def test_threads_take_the_same_branch(monkeypatch: pytest.MonkeyPatch, size: int, which: int) -> None:
    """A branch of shared kernels, in a loop: all threads meet before they look, and the bits are those of one."""
    monkeypatch.setattr(runtime, "available", lambda: 2)

    def f(p: Any, x: Any) -> Any:
        def step(c: Any, k: Any) -> Any:
            c = gx.switch((k + p) % 3, [lambda c: gx.sin(c) + x, lambda c: gx.tanh(c * x) - c.mean(), lambda c: c * 0.5], c)
            return c, c.sum()
        c, ys = gx.scan(step, x, gx.tensor(np.arange(7)))
        return c, ys, gx.grad(lambda x: gx.cond(x.sum() > p, lambda x: gx.exp(-x * x).sum(), lambda x: gx.sin(x).sum(), x))(x)
    x = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    one, two = (gx.compile(f, threads=n, cache=False) for n in (1, 2))
    step = two.lower(np.int64(which), x).executable()
    assert any(isinstance(p, Branch) for p in walk_plan(step.plan))
    assert step._manifest.threads == (2 if size > 64 else 1)
    for a, b in zip(one(np.int64(which), x), two(np.int64(which), x), strict=True):
        np.testing.assert_array_equal(a, b)


# ---- the words of errors ---------------------------------------------------------------------------------------------------------------

ERRORS: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: gx.cond(gx.ones(3) > 0, lambda: 1, lambda: 2), r"a predicate of type bool\[3\]", "gx.any"),
    (lambda: gx.cond(True, lambda: (1, 2), lambda: 2), "true_fn returns another structure than false_fn", "same containers"),
    (lambda: gx.cond(True, lambda: gx.ones(3), lambda: gx.ones(2)), r"result is f32\[3\] from true_fn and f32\[2\] from false_fn", "one shape"),
    (lambda: gx.cond(True, lambda: {"n": 1.5}, lambda: {"n": gx.tensor(2)}), r"result\['n'\] is f32\[\] from true_fn and i64\[\] from false_fn", "astype"),
    (lambda: gx.cond(True, 1, lambda: 2), "true_fn is int, not a function", "lambda"),
    (lambda: gx.switch(gx.tensor(0.5), [lambda: 1]), r"an index of type f32\[\]", "astype"),
    (lambda: gx.switch(0, []), "no branches", ""),
    (lambda: gx.switch(0, [lambda: 1.0, lambda: 2.0, lambda: gx.ones(2)]),
     r"result is f32\[\] from branches\[0\] and f32\[2\] from branches\[2\]", "one shape"),
]


@pytest.mark.parametrize(("call", "what", "fix"), ERRORS, ids=range(len(ERRORS)))
def test_errors_say_what_where_and_how_to_mend(call: Callable[[], Any], what: str, fix: str) -> None:
    with pytest.raises(gx.GraphError, match=what) as e:
        call()
    assert "test_branch.py" in str(e.value.at)
    assert fix in str(e.value.fix or "")


def test_a_state_written_in_a_branch_is_refused() -> None:
    count = gx.zeros(())

    def more() -> Any:
        count.add_(1.0)
        return 1.0
    f = gx.compile(lambda p: gx.cond(p, more, lambda: 0.0))
    with pytest.raises(gx.GraphError, match="would be written inside a branch") as e:
        f(np.bool_(True))
    assert "write it outside" in str(e.value.fix)


def test_python_if_names_the_way_out() -> None:
    with pytest.raises(gx.GraphError, match="a Python bool") as e:
        gx.compile(lambda x: x if x.sum() > 0 else -x)(X)
    assert "gx.cond" in str(e.value.fix)
    assert "gx.where" in str(e.value.fix)
