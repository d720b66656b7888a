"""Sparse Jacobians beside dense ones, JAX and CasADi: what a tridiagonal one costs.

    python benchmarks/sparse.py

The residual is Bratu's, u[i-1] - 2 u[i] + u[i+1] + h² exp(u[i]), f64, one thread. graphc and CasADi find pattern and colours themselves; JAX has its dense
`jacfwd`, and three jvps with the colours written by hand, which is what `sparsejac` makes of it. CasADi runs its own machine on symbols, each operation
once, and no C compiler. All results are compared first. The fastest of many slices in turn; behind them what comes before a first call (trace, pattern,
colours, compilation).
"""
from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np

import graphc as gx

Made = dict[str, tuple[Callable[[], Any], float]]       # a call, and the seconds before it could be made


def since(start: float) -> float:
    return time.perf_counter() - start


def ours(n: int, u: Any) -> Made:
    def residual(u: Any) -> Any:
        wide = gx.pad(u, 1)
        return wide[2:] - 2 * wide[1:-1] + wide[:-2] + gx.exp(u) / (n + 1) ** 2

    out: Made = {}
    for name, of in {"graphc residual": residual, "graphc sparse": gx.sparse_jacobian(residual), "graphc dense": gx.jacrev(residual)}.items():
        if name == "graphc dense" and n > 1000:
            continue
        start = time.perf_counter()
        f = gx.compile(of, cache=False, threads=1)
        f(u)
        out[name] = (lambda f=f: f(u)), since(start)    # type: ignore[misc]
    start = time.perf_counter()
    found = gx.jacobian_sparsity(residual)(gx.Spec((n,), gx.float64))
    middle = time.perf_counter()
    print(f"n = {n}: pattern {1e3 * (middle - start):.0f} ms, {found.colors} colours {1e3 * since(middle):.1f} ms")
    return out


def jaxs(n: int, u: Any) -> Made:
    try:
        import jax
    except ImportError:
        return {}
    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    def residual(u: Any) -> Any:
        wide = jnp.pad(u, 1)
        return wide[2:] - 2 * wide[1:-1] + wide[:-2] + jnp.exp(u) / (n + 1) ** 2

    rows, cols = tridiagonal(n)
    seeds = np.equal.outer(np.arange(3), np.arange(n) % 3).astype(float)

    def colored(u: Any) -> Any:
        sweeps = jax.vmap(lambda s: jax.jvp(residual, (u,), (s,))[1])(seeds)
        return sweeps[cols % 3, rows]

    out: Made = {}
    for name, of in {"JAX three jvps by hand": colored, "JAX dense jacfwd": jax.jacfwd(residual)}.items():
        if "dense" in name and n > 1000:
            continue
        start = time.perf_counter()
        f = jax.jit(of)
        f(u).block_until_ready()
        out[name] = (lambda f=f: f(u).block_until_ready()), since(start)    # type: ignore[misc]
    return out


def casadis(n: int, u: Any) -> Made:
    try:
        import casadi
    except ImportError:
        return {}
    start = time.perf_counter()
    x = casadi.SX.sym("u", n)
    wide = casadi.vertcat(0, x, 0)
    f = casadi.Function("J", [x], [casadi.jacobian(wide[2:] - 2 * wide[1:-1] + wide[:-2] + casadi.exp(x) / (n + 1) ** 2, x)])
    buffer, run = f.buffer()
    values = np.zeros(f.nnz_out(0))
    buffer.set_arg(0, memoryview(u))
    buffer.set_res(0, memoryview(values))

    def call(kept: Any = (f, buffer)) -> Any:           # the buffer does not keep the function
        run()
        return values
    call()
    return {"CasADi": (call, since(start))}


def tridiagonal(n: int) -> tuple[Any, Any]:
    i = np.arange(n)
    rows, cols = np.concatenate([i, i[1:], i[:-1]]), np.concatenate([i, i[:-1], i[1:]])
    by = np.lexsort((cols, rows))
    return rows[by], cols[by]


def main() -> None:
    for n in (1000, 10_000):
        u = np.random.default_rng(0).standard_normal(n)
        made = {**ours(n, u), **jaxs(n, u), **casadis(n, u)}
        rows, cols = tridiagonal(n)
        want = np.where(rows == cols, np.exp(u)[rows] / (n + 1) ** 2 - 2, 1)
        for name, (call, _) in made.items():
            got = call()
            if "residual" not in name:
                dense = np.ndim(got.toarray() if isinstance(got, gx.SparseMatrix) and n <= 1000 else got) == 2
                values = got.data if isinstance(got, gx.SparseMatrix) else np.asarray(got)[rows, cols] if dense else np.asarray(got)
                np.testing.assert_allclose(values, want, rtol=1e-14, err_msg=name)      # CasADi's are column by column, and the matrix is symmetric
        times = dict.fromkeys(made, float("inf"))
        for _ in range(40):
            for name, (call, _) in made.items():
                many = 2 if "dense" in name else 10
                start = time.perf_counter()
                for _ in range(many):
                    call()
                times[name] = min(times[name], 1e6 * since(start) / many)
        for name, us in times.items():
            print(f"  {name:24} {us:9.1f} us  {us / times['graphc sparse']:8.2f} of graphc's  {us / times['graphc residual']:8.1f} residuals"
                  f"  {made[name][1]:6.2f} s before the first")


if __name__ == "__main__":
    main()
