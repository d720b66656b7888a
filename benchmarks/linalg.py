"""Linear algebra beside NumPy's LAPACK (OpenBLAS), and JAX where it is installed: batches of small matrices, and single ones of hundreds of rows.

    OPENBLAS_NUM_THREADS=1 taskset -c 1 python benchmarks/linalg.py [name ...]

f64, one thread, the least processor time of many slices in turn; every result is compared with NumPy's. Names choose lines by what they begin with. With
`threads` the factorizations of 1,000 rows are timed instead (a clock on the wall; no pinning then), by one thread of graphc's and by two: one thread factors
one matrix, so only products and batches are shared.
"""
from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from side_by_side import timed

import graphc as gx

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


def libraries() -> dict[str, tuple[Any, Callable[..., Any], Callable[[Any], Any], Callable[[Any], Any]]]:
    """name: (its array namespace, grad, compile, array of its own)."""
    found = {"graphc": (gx, gx.grad, gx.compile, lambda x: x)}
    try:
        import jax
    except ImportError:
        return found
    jax.config.update("jax_enable_x64", True)
    found["jax"] = (jax.numpy, jax.grad, lambda f: (lambda g: lambda *x: jax.block_until_ready(g(*x)))(jax.jit(f)), jax.numpy.asarray)
    return found


def symmetric(n: int) -> Array:
    x = RNG.standard_normal((n, n))
    return x + x.T


def definite(n: int) -> Array:
    x = RNG.standard_normal((n, n))
    return x @ x.T + n * np.eye(n)


def regular(*shape: int) -> Array:
    return RNG.standard_normal(shape) + 2 * np.sqrt(shape[-1]) * np.eye(shape[-1])


def logdet(xp: Any, grad: Any) -> Any:
    return grad(lambda x: xp.linalg.slogdet(x)[1]) if grad else lambda x: np.linalg.inv(x).T


def det(xp: Any, grad: Any) -> Any:
    return grad(lambda x: xp.linalg.det(x).sum()) if grad else lambda x: np.linalg.det(x)[:, None, None] * np.swapaxes(np.linalg.inv(x), -1, -2)


def simple(name: str) -> Any:
    def made(xp: Any, grad: Any) -> Any:
        def f(*x: Any) -> Any:
            y = getattr(xp.linalg, name)(*x)
            return tuple(y) if isinstance(y, tuple) else y
        return f
    return made


def svdvals(xp: Any, grad: Any) -> Any:
    return lambda x: xp.linalg.svdvals(x) if grad else np.linalg.svd(x, compute_uv=False)


CASES: dict[str, tuple[Any, tuple[Array, ...]]] = {
    "solve 8x8, 10,000": (simple("solve"), (regular(10_000, 8, 8), RNG.standard_normal((10_000, 8, 1)))),
    "det 4x4, 100,000": (simple("det"), (regular(100_000, 4, 4),)),
    "det 4x4, 100,000, gradient": (det, (regular(100_000, 4, 4),)),
    "cholesky 500": (simple("cholesky"), (definite(500),)),
    "inv 200": (simple("inv"), (regular(200, 200),)),
    "eigh 200": (simple("eigh"), (symmetric(200),)),
    "eigh 500": (simple("eigh"), (symmetric(500),)),
    "eigvalsh 500": (simple("eigvalsh"), (symmetric(500),)),
    "svd 200": (simple("svd"), (regular(200, 200),)),
    "svd 500": (simple("svd"), (regular(500, 500),)),
    "svdvals 500": (svdvals, (regular(500, 500),)),
    "logdet 100, gradient": (logdet, (definite(100),)),
}


def size(y: Any) -> list[Array]:
    """What does not depend on signs and bases: of several results the vectors of values."""
    several = [np.asarray(v) for v in y] if isinstance(y, tuple) else [np.asarray(y)]
    return [v for v in several if len(several) == 1 or v.ndim == 1]


def beside_others(chosen: list[str]) -> None:
    for name, (made, args) in CASES.items():
        if chosen and not any(name.startswith(c) for c in chosen):
            continue
        plain = made(np, None)
        runs: dict[str, Any] = {"numpy": lambda plain=plain, args=args: plain(*args)}
        for library, (xp, grad, compiled, own) in libraries().items():
            f, mine = compiled(made(xp, grad)), tuple(own(a) for a in args)
            for a, b in zip(size(f(*mine)), size(plain(*args)), strict=True):
                assert np.linalg.norm(a - b) <= 1e-9 * np.linalg.norm(b), (name, library)
            runs[library] = lambda f=f, mine=mine: f(*mine)
        times = timed(runs, rounds=7, slice_seconds=0.02, of=min, clock=time.process_time)
        print(f"{name:28}" + "   ".join(f"{k} {us / 1e3:8.2f} ms ({us / times['numpy']:.2f})" for k, us in times.items()), flush=True)


def by_threads() -> None:
    n = 1000
    for name, f, x in (("cholesky", gx.linalg.cholesky, definite(n)), ("lu", lambda x: gx.linalg.lu(x).U, regular(n, n)),
                       ("qr", lambda x: gx.linalg.qr(x).R, regular(n, n)), ("inv", gx.linalg.inv, regular(n, n))):
        compiled = {k: gx.compile(f, threads=k) for k in (1, 2)}
        runs = {f"{k} threads": (lambda g=g, x=x: g(x)) for k, g in compiled.items()}
        times = timed(runs, rounds=5, slice_seconds=0.0, of=min)
        print(f"{name} {n:<20}" + "   ".join(f"{k} {us / 1e3:8.1f} ms" for k, us in times.items()), flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["threads"]:
        by_threads()
    else:
        beside_others(sys.argv[1:])
