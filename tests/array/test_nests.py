"""Random nests of scan, cond, switch, while_loop and fori_loop, to depth 4: the same program by Python's own control flow on NumPy arrays is what all
evaluators must give, gradients are those of finite differences, and threads change no bit."""
from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.ir.walk import all_nodes
from graphc.llvm import runtime
from graphc.loop import share
from graphc.loop.place import launches
from graphc.testing import check_grads

F = Callable[[Any, Any, Any], Any]                      # (library, x: f64[n], k: i64) → f64[n]
T = np.asarray([0.3, -0.5, 0.7])


class Python:
    """graphc's names by Python and NumPy."""

    sin, tanh, where = np.sin, np.tanh, np.where

    @staticmethod
    def scan(f: Any, init: Any, xs: Any, reverse: bool = False, **_: Any) -> Any:
        ys, carry = [], init
        for x in xs[::-1] if reverse else xs:
            carry, y = f(carry, x)
            ys.append(y)
        return carry, np.asarray(ys[::-1] if reverse else ys)

    @staticmethod
    def cond(p: Any, yes: Any, no: Any, *args: Any) -> Any:
        return yes(*args) if p else no(*args)

    @staticmethod
    def switch(k: Any, branches: Any, *args: Any) -> Any:
        return branches[min(max(int(k), 0), len(branches) - 1)](*args)

    @staticmethod
    def while_loop(cond: Any, body: Any, carry: Any, max_steps: int | None = None) -> Any:
        turns = 0
        while (max_steps is None or turns < max_steps) and cond(carry):
            carry, turns = body(carry), turns + 1
        return carry

    @staticmethod
    def fori_loop(lower: Any, upper: Any, body: Any, carry: Any, **_: Any) -> Any:
        for i in range(int(lower), int(upper)):
            carry = body(i, carry)
        return carry


def program(rng: random.Random, depth: int) -> F:
    """A random function; at depth 0 a few smooth operations, above a construct around functions of less depth."""
    if depth == 0:
        a, b = round(rng.uniform(0.4, 1.2), 2), round(rng.uniform(-0.5, 0.5), 2)
        return rng.choice((
            lambda m, x, k: m.sin(x * a) + b, lambda m, x, k: m.tanh(x + b) * a, lambda m, x, k: x * a + x.sum() * 0.1,
            lambda m, x, k: m.where(x > b, x * a, x * 0.7), lambda m, x, k: x + (x * 0 + k % 3) * b))
    first = program(rng, depth - 1)
    other = program(rng, rng.randint(0, depth - 1))
    c, reverse = round(rng.uniform(-0.4, 0.4), 2), rng.random() < 0.5
    how: Any = rng.choice(({}, {}, {"unroll": 2 if depth == 1 else 1}, {"checkpoint": 2}, {"checkpoint": "sqrt"}))
    most = rng.randint(2, 4)

    def scan(m: Any, x: Any, k: Any) -> Any:
        rows = T[:, None] if m is Python else gx.tensor(T[:, None])
        (x, _), ys = m.scan(lambda s, t: ((first(m, s[0] + t, s[1]), s[1] + 1), other(m, s[0] * t, s[1]).sum()), (x, k), rows, reverse=reverse, **how)
        return x + 0.1 * ys.sum()

    def cond(m: Any, x: Any, k: Any) -> Any:
        return m.cond(x.sum() > c, lambda x: first(m, x, k), lambda x: other(m, x, k) - c, x)

    def switch(m: Any, x: Any, k: Any) -> Any:
        return m.switch(k - 1, [lambda x: first(m, x, k), lambda x: x * 0.9, lambda x: other(m, x, k)], x)

    def loop(m: Any, x: Any, k: Any) -> Any:
        return m.while_loop(lambda s: (s[0] * s[0]).sum() < 2.0 + k, lambda s: (first(m, s[0], s[1]) * 1.3 + 0.2, s[1] + 1), (x, k), most)[0]

    def count(m: Any, x: Any, k: Any) -> Any:
        return m.fori_loop(k, k + most, lambda i, x: first(m, x, i), x, max_steps=4)

    def counted(m: Any, x: Any, k: Any) -> Any:
        return m.fori_loop(0, most, lambda i, x: first(m, x, i + k), x)
    return rng.choice((scan, scan, cond, cond, switch, loop, loop, count, counted))


def nest(seed: int) -> F:
    rng = random.Random(seed)
    parts = [program(rng, depth) for depth in ((4,) if seed % 3 == 0 else (3, 2))]

    def f(m: Any, x: Any, k: Any) -> Any:
        for part in parts:
            x = part(m, x, k)
        return x
    return f


QUICK = (0, 2, 5, 6, 7, 9)
SEEDS = [seed if seed in QUICK else pytest.param(seed, marks=pytest.mark.slow) for seed in range(200)]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_evaluator_is_python(seed: int) -> None:
    f, rng = nest(seed), np.random.default_rng(seed)
    x, k = rng.uniform(-1, 1, 3), np.int64(rng.integers(0, 3))
    want = f(Python, x, int(k))

    def both(x: Any, k: Any) -> Any:
        return gx.value_and_grad(lambda x: (f(gx, x, k) ** 2).sum())(x)

    np.testing.assert_allclose(f(gx, gx.tensor(x), gx.tensor(k)).numpy(), want, rtol=1e-12, atol=1e-13)
    value, slope = gx.compile(both, backend="numpy")(x, k)
    np.testing.assert_allclose(value, (want * want).sum(), rtol=1e-11, atol=1e-13)
    native = gx.compile(both, cache=False)
    step = native.lower(x, k).executable()
    loops = step.run_loops([x, k], [])
    for got in (native(x, k), loops.outputs):
        np.testing.assert_allclose(got[0], value, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(got[1], slope, rtol=1e-10, atol=1e-12)

    ahead = gx.compile(lambda x, k: gx.jacfwd(lambda x: (f(gx, x, k) ** 2).sum())(x), cache=False)
    np.testing.assert_allclose(ahead(x, k), slope, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("seed", SEEDS[5:])
def test_threads_change_no_bit(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every launch that can be is shared, however short, so that barriers stand inside loops and branches."""
    f, rng = nest(seed), np.random.default_rng(seed)
    x, k = rng.uniform(-1, 1, 37), np.int64(rng.integers(0, 3))
    monkeypatch.setattr(runtime, "available", lambda: 2)
    monkeypatch.setattr(share, "LAUNCH", 0.0)
    monkeypatch.setattr(share, "STEP", 0.0)
    one, two = (gx.compile(gx.value_and_grad(lambda x, k: (f(gx, x, k) ** 2).sum()), threads=n, cache=False) for n in (1, 2))
    step = two.lower(x, k).executable()
    assert sum(launch.shared for launch in launches(step.plan)) > 1
    for _ in range(3):
        for a, b in zip(one(x, k), two(x, k), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("seed", SEEDS)
def test_gradients_are_differences(seed: int) -> None:
    f, rng = nest(seed), np.random.default_rng(seed)
    x, k = rng.uniform(-1, 1, 3), int(rng.integers(0, 3))
    check_grads(lambda x: (f(gx, x, gx.tensor(k)) ** 2).sum(), [x], order=1 if seed % 4 else 2, tolerance=2e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_batches_are_loops_over_examples(seed: int) -> None:
    f, rng = nest(seed), np.random.default_rng(seed)
    xs, ks = rng.uniform(-1, 1, (4, 3)), rng.integers(0, 3, 4)
    g = gx.vmap(gx.grad(lambda x, k: (f(gx, x, k) ** 2).sum()))
    want = np.stack([gx.grad(lambda x, k=k: (f(gx, x, gx.tensor(k)) ** 2).sum())(gx.tensor(x)).numpy() for x, k in zip(xs, ks)])
    got = gx.compile(g, cache=False, backend="llvm" if seed % 2 else "numpy")(xs, ks)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11)


def test_a_body_compiles_once_at_any_depth() -> None:
    """A nest of loops has the nodes, the launches and the kernels of its bodies, however often they run."""
    def sizes(n: int) -> tuple[int, int, int]:
        def body(c: Any, depth: int) -> Any:
            return gx.sin(c) * 1.1 if depth == 0 else gx.fori_loop(0, n, lambda i, c: body(c, depth - 1), c)
        lowered = gx.compile(gx.grad(lambda x: body(x, 4).sum()), cache=False).lower(np.ones(3))
        step = lowered.executable()
        return len(list(all_nodes(lowered.graph))), len(list(launches(step.plan))), step.llvm.count("define internal void @k")
    assert sizes(2) == sizes(9)
