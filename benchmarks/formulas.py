"""A long formula and its gradient at many points: `gx.symbolic.from_sympy` against `sympy.lambdify(..., "numpy", cse=True)`.

    python benchmarks/formulas.py

200 terms in three variables (products of powers with sin, exp, tanh, sqrt of sums) and the gradient by all three, at 10^6 points, in f64 and f32, with one
thread and two. graphc is given the expression and differentiates it; lambdify is given the expression and SymPy's derivatives. The least of three calls in
turn, and the time to make each.
"""
from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import sympy
from side_by_side import timed

import graphc as gx

POINTS, TERMS = 1_000_000, 200


def expression(symbols: list[sympy.Symbol], terms: int = TERMS) -> sympy.Expr:
    """Terms like 0.37 x² y sin(2x + z): what series and models fitted by symbolic regression look like."""
    rng = random.Random(0)

    def inside() -> sympy.Expr:
        return sum(rng.randint(1, 3) * s for s in rng.sample(symbols, 2)) / 4

    heads = (sympy.sin, sympy.exp, sympy.tanh, lambda e: sympy.sqrt(1 + e**2), lambda e: 1 / (1 + e**2))
    return sympy.Add(*(sympy.Rational(rng.randint(-99, 99), 100) * sympy.prod([s ** rng.randint(0, 3) for s in symbols]) * rng.choice(heads)(inside())
                       for _ in range(terms)))


def main() -> None:
    symbols = list(sympy.symbols("x y z"))
    e = expression(symbols)
    f = gx.symbolic.from_sympy(e, symbols)
    start = time.perf_counter()
    theirs = sympy.lambdify(symbols, [e, *(sympy.diff(e, s) for s in symbols)], "numpy", cse=True)
    print(f"lambdify made in {time.perf_counter() - start:.1f} s")

    def value_and_gradient(x: Any, y: Any, z: Any) -> Any:
        def total(x: Any, y: Any, z: Any) -> Any:
            value = f(x, y, z)
            return value.sum(), value
        (_, value), gradient = gx.value_and_grad(total, argnums=(0, 1, 2), has_aux=True)(x, y, z)
        return value, *gradient

    for dtype, close in ((np.float64, 1e-9), (np.float32, 1e-3)):
        points = [np.random.default_rng(k).uniform(-1.0, 1.0, POINTS).astype(dtype) for k in range(3)]
        runs: dict[str, Any] = {}
        for threads in (1, 2):
            start = time.perf_counter()
            ours = gx.compile(value_and_gradient, threads=threads)
            ours.lower(*points).compile()
            print(f"{np.dtype(dtype)} with {threads} threads made in {time.perf_counter() - start:.1f} s")
            runs[f"graphc, {threads} threads"] = lambda ours=ours, points=points: ours(*points)
        for a, b in zip(ours(*points), theirs(*points), strict=True):
            np.testing.assert_allclose(a, b, rtol=close, atol=close * np.abs(b).max())
        times = timed(runs | {"lambdify": lambda points=points: theirs(*points)}, rounds=3, slice_seconds=0.0, of=min)
        for name, us in times.items():
            print(f"{np.dtype(dtype)}   {name:18} {us / 1e3:8.0f} ms a call   lambdify's is {times['lambdify'] / us:5.1f} times as long")


if __name__ == "__main__":
    main()
