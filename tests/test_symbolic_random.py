"""Random functions of N rows, compiled once: beside the oracle, beside a compilation for that N, and with two threads, over several N."""
from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.interp import numpy as oracle
from graphc.llvm import runtime
from graphc.loop import share

Array = np.ndarray[Any, Any]
SIZES = (1, 2, 7, 33, 64, 301, 3000)
UNARY = (gx.tanh, gx.sin, gx.exp, gx.abs, lambda x: gx.maximum(x, 0.0), lambda x: x * x, lambda x: -x, lambda x: 1 / (1 + x * x))
BINARY = (lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, gx.maximum, lambda a, b: gx.where(a < b, a, 2 * b))


def random_function(seed: int, depth: int) -> Callable[..., Any]:
    """Of x, y: f32[N,k] and i: i64[N], with values of moderate size: maps, rows, columns, products, gathers."""
    def f(x: Any, y: Any, i: Any) -> Any:
        rng = random.Random(seed)

        def some(*shape: int) -> Array:
            return np.random.default_rng(rng.randrange(1 << 30)).standard_normal(shape).astype(np.float32)

        pool = [x, y]
        for _ in range(depth):
            a = rng.choice(pool)
            b = rng.choice([p for p in pool if p.shape == a.shape])
            w = a.shape[-1] if a.ndim == 2 else 0
            match rng.randrange(13) if w else rng.randrange(2):
                case 0: out = rng.choice(UNARY)(gx.tanh(a))
                case 1: out = rng.choice(BINARY)(a, b)
                case 2: out = a + some(w)
                case 3: out = gx.tanh(a @ some(w, rng.choice((1, 3, 8, 33, 80))) / w ** 0.5)
                case 4: out = a - gx.max(a, axis=1, keepdims=True)
                case 5: out = a / (1 + gx.sum(gx.abs(a), axis=1, keepdims=True))
                case 6: out = a * gx.mean(gx.tanh(b), axis=0)
                case 7: out = gx.tanh(b @ gx.tanh(gx.matrix_transpose(a) @ b / x.shape[0]))
                case 8: out = gx.flip(a, axis=0)
                case 9: out = gx.concat([a, b], axis=1)
                case 10: out = a[:, rng.randrange(w):]
                case 11: out = gx.take(gx.tanh(some(20, w)), i, axis=0) + a
                case _: out = gx.sum(a * b, axis=1)
            pool.append(out)
        return pool[-1], gx.sum(gx.tanh(pool[-1])), gx.mean(gx.tanh(pool[-2]), axis=0)

    if seed % 2:
        return gx.value_and_grad(lambda x, y, i: sum(gx.sum(gx.sin(r)) for r in f(x, y, i)), argnums=(0, 1))
    return f


def leaves(r: Any) -> list[Array]:
    return [x for part in r for x in leaves(part)] if isinstance(r, (tuple, list)) else [np.asarray(r)]


def check(seed: int, bits: bool = True) -> bool:
    """Whether it could be compiled for every N; and what came out was right. `bits`: as if compiled for each N."""
    rng = random.Random(seed)
    k, f = rng.choice((1, 3, 8, 13, 40)), random_function(seed, rng.choice((3, 6, 10)))
    specs = gx.Spec(("N", k)), gx.Spec(("N", k)), gx.Spec(("N",), gx.int64)
    one, two = (gx.compile(f, cache=False, threads=t) for t in (1, 2))
    for step in (one, two):
        step.lower(*specs).compile()
    if one.variants[-1].each:
        return False
    for n in SIZES:
        draw = np.random.default_rng(n + k)
        args = [draw.standard_normal((n, k)).astype(np.float32), draw.standard_normal((n, k)).astype(np.float32), draw.integers(0, 20, n)]
        got = leaves(one(*args))
        assert [x.tobytes() for x in got] == [x.tobytes() for x in leaves(two(*args))], f"threads, N = {n}"
        for a, b in zip(got, oracle.run(one.variants[-1].traced.graph, args, [], double=True).outputs, strict=True):
            assert a.shape == b.shape
            assert np.abs(a - b).max() <= 2e-3 * max(np.abs(b).max(), 1e-3), f"N = {n}"
        if bits and n in rng.sample(SIZES, 2):
            assert [x.tobytes() for x in got] == [x.tobytes() for x in leaves(gx.compile(f, cache=False)(*args))], f"compiled for N = {n}"
    assert len(one.variants) == 1
    assert not one.variants[-1].executables
    return True


@pytest.fixture(autouse=True)
def _shared_however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "LAUNCH", 0.0)
    monkeypatch.setattr(share, "STEP", 0.0)
    monkeypatch.setattr(runtime, "allowed", lambda n: n)


@pytest.mark.parametrize("seed", [3, 6, 10, 48])
def test_random_functions(seed: int) -> None:
    assert check(seed)


@pytest.mark.slow
def test_many_random_functions() -> None:
    done = [check(seed, bits=False) for seed in range(100, 160)]
    assert sum(done) > len(done) * 3 // 4
