"""Loops that end when they have come to an end: on every evaluator, with derivatives, batched, nested, interrupted."""
from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.ir.walk import topo
from graphc.llvm import runtime
from graphc.loop.ir import Loop, walk_plan
from graphc.loop.place import launches
from graphc.testing import check_grads

from .test_control import _arrays, run  # noqa: F401


def newton(a: Any, x: Any, max_steps: int | None = 60, tolerance: float = 1e-13) -> Any:
    """The square root of a, and the turns it took."""
    return gx.while_loop(lambda c: gx.abs(c[0] * c[0] - a).max() > tolerance, lambda c: ((c[0] + a / c[0]) / 2, c[1] + 1), (x, 0), max_steps)


A = np.asarray([2.0, 9.0, 0.5])


def by_python(a: np.ndarray, x: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    k = 0
    while np.abs(x * x - a).max() > 1e-13 and k < most:
        x, k = (x + a / x) / 2, k + 1
    return x, k


@pytest.mark.parametrize("most", [None, 0, 1, 3, 60])
def test_newton(run: Any, most: int | None) -> None:  # noqa: F811
    root, turns = run(lambda a, x: newton(a, x, most), A, A)
    want, count = by_python(A, A, 1000 if most is None else most)
    np.testing.assert_allclose(root, want, rtol=1e-15)
    assert turns == count


@pytest.mark.parametrize("n", [0, 1, 7, -3])
def test_fori_loop_of_tensors(run: Any, n: int) -> None:  # noqa: F811
    def f(n: Any, x: Any) -> Any:
        def loop(x: Any) -> Any:
            return gx.fori_loop(1, n + 1, lambda i, c: c * x + i, x, max_steps=10)
        return loop(x), gx.grad(loop)(x), gx.jvp(loop, (x,), (gx.ones((), dtype="f64"),))[1]
    y = x = 1.5
    slope = 1.0
    for i in range(1, n + 1):
        y, slope = y * x + i, slope * x + y
    got = run(f, np.int64(n), np.float64(x))
    np.testing.assert_allclose(got, (y, slope, slope), rtol=1e-15)


@pytest.mark.parametrize("most", [60, 4])
def test_derivatives(run: Any, most: int) -> None:  # noqa: F811
    """Reverse mode to third order, forward mode, and both mixed; the loop converges, or is cut off."""
    def f(a: Any) -> Any:
        return gx.sin(newton(a, a, most, 1e-3)[0]).sum()
    check_grads(f, [A], order=3, tolerance=1e-5)
    for d in (gx.grad(f), gx.jacfwd(f), gx.hessian(f), gx.jacrev(gx.jacrev(f)), gx.jacfwd(gx.jacfwd(f))):
        np.testing.assert_allclose(run(d, A), d(gx.tensor(A)).numpy(), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(run(gx.jacfwd(f), A), run(gx.grad(f), A), rtol=1e-12)
    np.testing.assert_allclose(run(gx.hessian(f), A), run(gx.jacrev(gx.jacrev(f)), A), rtol=1e-10, atol=1e-13)
    if most == 60:
        exact = np.cos(np.sqrt(A)) / (2 * np.sqrt(A))
        np.testing.assert_allclose(run(gx.grad(lambda a: gx.sin(newton(a, a, most)[0]).sum()), A), exact, rtol=1e-12)


def test_forward_mode_keeps_nothing() -> None:
    """Without max_steps there is forward mode, in the memory of the loop itself."""
    size = 512

    def loop(x: Any) -> Any:
        return gx.while_loop(lambda c: c[1] < 1000, lambda c: (gx.sin(c[0]) * 1.01, c[1] + 1), (x, 0))[0]
    x = np.linspace(0.1, 1.0, size)
    step = gx.compile(lambda x: gx.jvp(loop, (x,), (gx.ones(size, dtype="f64"),))[1], cache=False)
    assert step.lower(x).executable()._manifest.arena_bytes <= 8 * size * 8
    h = 1e-6
    slope = (loop(gx.tensor(x + h)).numpy() - loop(gx.tensor(x - h)).numpy()) / (2 * h)
    np.testing.assert_allclose(step(x), slope, rtol=1e-5, atol=1e-7)


XS = np.asarray([[2.0, 9.0, 0.5], [100.0, 1.0, 3.0], [4.0, 1.5, 1.0], [1e-3, 7.0, 5.0]])


@pytest.mark.parametrize("f", [lambda a: newton(a, a)[0], lambda a: newton(a, a)[1] * 1.0, gx.grad(lambda a: newton(a, a)[0].sum()),
                               lambda a: newton(a * a, gx.ones(3, dtype="f64"), 3)[0], gx.hessian(lambda a: newton(a, a, 5)[0].sum()),
                               gx.grad(lambda a: newton(a, a, 30, 1.0)[0].sum() ** 2)],
                         ids=["value", "turns", "grad", "cut off", "hessian", "grad of few"])
def test_vmap_runs_until_the_last_is_through(run: Any, f: Any) -> None:  # noqa: F811
    """Each example makes its own number of turns: 1 to 9 of them here."""
    want = np.stack([f(gx.tensor(a)).numpy() for a in XS])
    np.testing.assert_allclose(run(gx.vmap(f), XS), want, rtol=1e-10, atol=1e-12)


def test_derivatives_of_vmap(run: Any) -> None:  # noqa: F811
    f = gx.vmap(lambda a: newton(a, a, 30)[0].sum())
    want = 1 / (2 * np.sqrt(XS))
    np.testing.assert_allclose(run(gx.grad(lambda xs: f(xs).sum()), XS), want, rtol=1e-9)
    np.testing.assert_allclose(run(lambda xs: gx.jvp(f, (xs,), (gx.ones(4, 3, dtype="f64"),))[1], XS), want.sum(1), rtol=1e-9)


def test_one_count_for_all_examples_stays_one_count(run: Any) -> None:  # noqa: F811
    def f(n: Any, xs: Any) -> Any:
        return gx.vmap(lambda x: gx.grad(lambda x: gx.fori_loop(0, n, lambda i, c: c * x, x, max_steps=9).sum())(x))(xs)
    np.testing.assert_allclose(run(f, np.int64(3), XS), 4 * XS**3, rtol=1e-14)


def test_what_is_not_read_is_not_carried() -> None:
    def f(x: Any) -> Any:
        return gx.while_loop(lambda c: c[0] < 10, lambda c: (c[0] * x, gx.exp(c[1]), c[2] + c[0]), (x, x, x), max_steps=20)[2]
    optimized = gx.compile(f, cache=False).lower(np.float64(1.5)).executable().optimized
    (loop,) = [n for n in topo(optimized.roots) if n.op.name == "while"]
    assert loop.attrs["carries"] == 2
    assert not any(n.op.name == "exp" for n in topo(loop.attrs["body"].outputs))


def collatz(n: Any) -> Any:
    """Turns to 1: a while of conds."""
    return gx.while_loop(lambda c: c[0] > 1, lambda c: (gx.cond(c[0] % 2 == 0, lambda: c[0] // 2, lambda: 3 * c[0] + 1), c[1] + 1), (n, 0))[1]


def test_a_while_of_conds(run: Any) -> None:  # noqa: F811
    assert [int(run(collatz, np.int64(n))) for n in (1, 6, 27)] == [0, 8, 111]
    np.testing.assert_array_equal(run(gx.vmap(collatz), np.asarray([1, 6, 27, 97])), [0, 8, 111, 118])


def deep(x: Any) -> Any:
    """while in scan in cond in while."""
    def inner(c: Any, t: Any) -> Any:
        c = gx.while_loop(lambda c: (c * c).sum() > 1.0, lambda c: c * 0.7, c + t, max_steps=9)
        return c, (c * t).sum()

    def turn(c: Any) -> Any:
        x, k = c
        return gx.cond(x[0] > 0, lambda: gx.scan(inner, x, gx.tensor([0.5, -0.25, 1.5]).astype("f64"))[0], lambda: gx.sin(x) + 0.9), k + 1
    return gx.while_loop(lambda c: c[1] < 4, turn, (x, 0), max_steps=6)[0]


def test_depth_four(run: Any) -> None:  # noqa: F811
    def inner(c: np.ndarray) -> np.ndarray:
        for t in (0.5, -0.25, 1.5):
            c, k = c + t, 0
            while (c * c).sum() > 1.0 and k < 9:
                c, k = c * 0.7, k + 1
        return c
    x = np.asarray([0.8, -1.3])
    want = x
    for _ in range(4):
        want = inner(want) if want[0] > 0 else np.sin(want) + 0.9
    np.testing.assert_allclose(run(deep, x), want, rtol=1e-13)
    f = gx.grad(lambda x: (deep(x) ** 3).sum())
    np.testing.assert_allclose(run(f, x), f(gx.tensor(x)).numpy(), rtol=1e-11)
    check_grads(lambda x: (deep(x) ** 3).sum(), [x], order=2, tolerance=1e-5)


def test_the_native_loop_ends_itself() -> None:
    """One loop of the plan that looks at a bool; the turns are not counted unless somebody asks."""
    step = gx.compile(lambda x: newton(x, x, None)[0], cache=False).lower(A).executable()
    (loop,) = [p for p in walk_plan(step.plan) if isinstance(p, Loop)]
    assert loop.go is not None
    grad = gx.compile(gx.grad(lambda x: newton(x, x)[0].sum()), cache=False).lower(A).executable()
    kinds = [(p.go is not None, p.limit is not None, p.down) for p in walk_plan(grad.plan) if isinstance(p, Loop)]
    assert kinds == [(True, False, False), (False, True, True)]


@pytest.mark.parametrize("size", [3, 40_000])
def test_threads_make_the_same_turns(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(runtime, "available", lambda: 2)

    def f(a: Any) -> Any:
        root, turns = newton(a, a, 40, 1e-4)
        return root, turns, gx.grad(lambda a: newton(a, a, 40, 1e-4)[0].sum())(a)
    a = np.random.default_rng(0).uniform(0.5, 4.0, size).astype(np.float32)
    one, two = (gx.compile(f, threads=n, cache=False) for n in (1, 2))
    assert any(x.shared for x in launches(two.lower(a).executable().plan)) == (size > 3)
    for _ in range(3):
        for x, y in zip(one(a), two(a), strict=True):
            np.testing.assert_array_equal(x, y)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
@pytest.mark.parametrize("form", ["alone", "in a branch"])
def test_a_loop_without_end_is_left(form: str) -> None:
    w = gx.zeros(())

    @gx.compile
    def f(p: Any, x: Any) -> Any:
        def forever() -> Any:
            return gx.while_loop(lambda c: c.sum() > -1, lambda c: gx.abs(gx.sin(c)) + 1.0, x)
        out = forever() if form == "alone" else gx.cond(p, forever, lambda: x)
        with gx.no_grad():
            w.add_(1.0)
        return out
    x = np.ones(3, np.float32)
    f.lower(np.bool_(False), x).compile()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            f(np.bool_(True), x)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert w.item() == 0


def test_an_index_out_of_range_ends_the_loop(run: Any) -> None:  # noqa: F811
    """The first turn that fails ends everything, and says so."""
    def f(t: Any) -> Any:
        return gx.while_loop(lambda c: c[0] < 9, lambda c: (c[0] + 1, c[1] + t[gx.check_index(c[0], 4)]), (0, 0.0))[1]
    with pytest.raises(gx.GraphIndexError):
        run(f, np.ones(4, np.float32))




def test_symbolic_sizes() -> None:
    """A loop and a branch over N rows are one program for every N."""
    def loss(x: Any) -> Any:
        def turn(c: Any) -> Any:
            return c[0] * 0.7 + gx.cond(c[1] > 2, lambda: 0.1, lambda: -0.1), c[1] + 1
        return gx.while_loop(lambda c: (c[0] * c[0]).sum() > 1.0, turn, (x, 0), max_steps=20)[0].sum() ** 2
    native = gx.compile(gx.grad(loss), cache=False)
    native.lower(gx.Spec(("N", 4))).compile()
    for n in (1, 3, 50):
        x = np.random.default_rng(n).uniform(-1, 1, (n, 4)).astype(np.float32)
        np.testing.assert_allclose(native(x), gx.grad(loss)(gx.tensor(x)).numpy(), rtol=1e-5, atol=1e-6)


def test_halves_go_round(run: Any) -> None:  # noqa: F811
    """bf16 is stored in carries and histories; its gradient is f32."""
    def f(x: Any) -> Any:
        x = x.astype("bf16")
        x = gx.cond(x.astype("f32").sum() > -1, lambda: x, lambda: x[::-1])
        out = gx.while_loop(lambda c: c[1] < 3, lambda c: ((c[0].astype("f32") * 1.5).astype("bf16"), c[1] + 1), (x, 0), max_steps=5)[0]
        return out.astype("f32")
    x = np.asarray([-1.0, 0.5, 2.0], np.float32)
    np.testing.assert_array_equal(run(f, x), x * 3.375)
    np.testing.assert_array_equal(run(gx.grad(lambda x: f(x).sum()), x), np.full(3, 3.375))
