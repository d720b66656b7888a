"""Fits the polynomial coefficients of `graphc/loop/formats.py`, and prints them.

Each entry of FITS is a reduced function: what the polynomial must equal, the weight that makes its error relative to the final result, and the
reduced interval. The fit is minimax, by Remez's exchange on a grid in 50-digit arithmetic; the coefficients are then rounded to the
format. Printed beside them is the weighted error that is left, as a power of two: it should be some bits below the format's unit roundoff.

    python benchmarks/fit_polynomials.py [name ...]

Needs mpmath (a dependency of SymPy). The forms of the reductions are those of Cephes (Moshier) and FDLIBM (Sun); the form of erf's tail,
1 - exp(poly), is N. Juffa's.
"""
from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import mpmath as mp
import numpy as np

mp.mp.dps = 50
Real = Callable[[mp.mpf], mp.mpf]


@dataclass(frozen=True)
class Fit:
    """sum c_k x^k ~ g(x) on [lo, hi], with the least maximum of |weight(x) * error|."""

    g: Real
    weight: Real
    lo: mp.mpf
    hi: mp.mpf
    terms: dict[str, int]       # coefficients, by format


def remez(xs: list[mp.mpf], g: list[mp.mpf], w: list[mp.mpf], n: int) -> tuple[list[mp.mpf], mp.mpf]:
    """Coefficients of x^k for k < n, and the largest weighted error, on the grid xs."""
    last = len(xs) - 1
    start = [round(last * (i + 0.5) / n) for i in range(n)]                # xs are Chebyshev's already
    c = list(mp.lu_solve(mp.matrix([[xs[i] ** k for k in range(n)] for i in start]), mp.matrix([g[i] for i in start])))
    best, worst = c, mp.inf
    for _ in range(30):
        errors = [wi * (gi - mp.polyval(c[::-1], xi)) for xi, gi, wi in zip(xs, g, w)]
        if max(map(abs, errors)) < worst:
            best, worst = c, max(map(abs, errors))
        peaks: list[int] = []                                           # of each stretch of one sign, its extremum
        for i, e in enumerate(errors):
            if peaks and (e > 0) == (errors[peaks[-1]] > 0):
                if abs(e) > abs(errors[peaks[-1]]):
                    peaks[-1] = i
            else:
                peaks.append(i)
        while len(peaks) > n + 1:
            peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
        if len(peaks) < n + 1:
            break
        solution = mp.lu_solve(mp.matrix([[*(xs[i] ** k for k in range(n)), (-1) ** row / w[i]] for row, i in enumerate(peaks)]),
                               mp.matrix([g[i] for i in peaks]))
        c = list(solution)[:n]
    return best, worst


def fit(f: Fit, fmt: str, grid: int = 600) -> tuple[list[float], mp.mpf]:
    """The coefficients in the format, lowest first, and the weighted error left."""
    centre, half = (f.hi + f.lo) / 2, (f.hi - f.lo) / 2
    xs = [centre - half * mp.cos(mp.pi * (i + mp.mpf(1) / 2) / grid) for i in range(grid)]
    g, w = [f.g(x) for x in xs], [abs(f.weight(x)) for x in xs]
    c, _ = remez(xs, g, w, f.terms[fmt])
    rounded = [float(np.float32(float(k))) if fmt == "f32" else float(k) for k in c]
    return rounded, max(wi * abs(gi - mp.polyval(rounded[::-1], xi)) for xi, gi, wi in zip(xs, g, w))


def root(f: Real) -> Real:
    """f of the square root: for polynomials in z = x*x."""
    return lambda z: f(mp.sqrt(z))


def tail(t: mp.mpf) -> mp.mpf:
    a = 4 * (1 + t) / (1 - t)
    return mp.erfc(a / mp.sqrt(2)) / 2 * mp.exp(a * a / 2) * (a + 4)


half_ln2 = mp.log(2) / 2
log_lo, log_hi = mp.sqrt(mp.mpf(1) / 2) - 1, mp.sqrt(2) - 1
atanh_hi = (log_hi / (2 + log_hi)) ** 2
quarter = (mp.pi / 4) ** 2 * mp.mpf("1.0001")
two_over_ln2 = 2 / mp.log(2)
FITS = {
    # exp(r) = 1 + r + r^2 q(r); and the same relative to expm1
    "EXP": Fit(lambda r: (mp.expm1(r) - r) / r ** 2, lambda r: r ** 2 / mp.exp(r), -half_ln2, half_ln2, {"f32": 5, "f64": 10}),
    "EXPM1": Fit(lambda r: (mp.expm1(r) - r) / r ** 2, lambda r: r ** 2 / mp.expm1(r), -half_ln2, half_ln2, {"f32": 6, "f64": 11}),
    # 2^r = 1 + r p(r)
    "EXP2": Fit(lambda r: (2 ** r - 1) / r, lambda r: r / 2 ** r, -mp.mpf("0.501"), mp.mpf("0.501"), {"f32": 7, "f64": 13}),
    # log(1 + f) = f - f^2/2 + f^3 p(f)
    "LOG": Fit(lambda f: (mp.log1p(f) - f + f * f / 2) / f ** 3, lambda f: f ** 3 / mp.log1p(f), log_lo, log_hi, {"f32": 9}),
    # log(1 + f) = f - f^2/2 + s (f^2/2 + z p(z)), s = f/(2+f), z = s^2: atanh(s) = s + s^3/3 + ...
    "ATANH": Fit(root(lambda s: 2 * (mp.atanh(s) - s) / s ** 3), root(lambda s: s ** 3 / mp.atanh(s) / 2), mp.mpf(0), atanh_hi, {"f64": 7}),
    # log2(1 + f) = 2/ln2 s + s^3 p(z): the f64 logarithm under the f32 pow
    "LOG2": Fit(root(lambda s: two_over_ln2 * (mp.atanh(s) - s) / s ** 3), root(lambda s: s ** 3 / mp.atanh(s) / two_over_ln2),
                mp.mpf(0), atanh_hi, {"f64": 5}),
    # atanh(s) = s + s^3 (1/3 + z p(z)): the part of pow's f64 logarithm that is evaluated in one word
    "ATANH5": Fit(root(lambda s: (mp.atanh(s) - s - s ** 3 / 3) / s ** 5), root(lambda s: s ** 5 / mp.atanh(s)), mp.mpf(0), atanh_hi, {"f64": 9}),
    # sin(r) = r + r^3 p(z), cos(r) = 1 - z/2 + z^2 p(z)
    "SIN": Fit(root(lambda r: (mp.sin(r) - r) / r ** 3), root(lambda r: r ** 3 / mp.sin(r)), mp.mpf(0), quarter, {"f32": 3, "f64": 6}),
    "COS": Fit(root(lambda r: (mp.cos(r) - 1 + r * r / 2) / r ** 4), root(lambda r: r ** 4 / mp.cos(r)), mp.mpf(0), quarter, {"f32": 3, "f64": 6}),
    # asin(s) = s + s^3 p(z), |s| <= 1/2
    "ASIN": Fit(root(lambda s: (mp.asin(s) - s) / s ** 3), root(lambda s: s ** 3 / mp.asin(s)), mp.mpf(0), mp.mpf("0.25"), {"f32": 5, "f64": 13}),
    # atan(t) = t + t^3 p(z), |t| <= 1
    "ATAN": Fit(root(lambda t: (mp.atan(t) - t) / t ** 3), root(lambda t: t ** 3 / mp.atan(t)), mp.mpf(0), mp.mpf(1), {"f32": 9, "f64": 21}),
    # tanh(x) = x + x^3 p(z), |x| <= 0.625
    "TANH": Fit(root(lambda x: (mp.tanh(x) - x) / x ** 3), root(lambda x: x ** 3 / mp.tanh(x)), mp.mpf(0), mp.mpf("0.625") ** 2,
                {"f32": 5, "f64": 11}),
    # erf(x) = x + x p(z), |x| <= 1
    "ERF": Fit(root(lambda x: (mp.erf(x) - x) / x), root(lambda x: x / mp.erf(x)), mp.mpf(0), mp.mpf(1), {"f32": 7, "f64": 13}),
    # erfc(x) = exp(x p(x)) on [1, 4] or [1, 6]; relative to erf
    "ERFC32": Fit(lambda x: mp.log(mp.erfc(x)) / x, lambda x: x * mp.erfc(x), mp.mpf(1), mp.mpf(4), {"f32": 7}),
    "ERFC64": Fit(lambda x: mp.log(mp.erfc(x)) / x, lambda x: x * mp.erfc(x), mp.mpf(1), mp.mpf(6), {"f64": 20}),
    # Q(a) e^(a^2/2) (a + 4), Q the tail of the normal distribution, in t = (a - 4)/(a + 4), for a up to 14.5 or 39
    "TAIL_F32": Fit(tail, lambda t: 1 / tail(t), mp.mpf(-1), mp.mpf("10.5") / mp.mpf("18.5"), {"f64": 12}),
    "TAIL_F64": Fit(tail, lambda t: 1 / tail(t), mp.mpf(-1), mp.mpf(35) / 43, {"f64": 26}),
}


def main(names: list[str]) -> None:
    for name in names or FITS:
        for fmt in FITS[name].terms:
            c, worst = fit(FITS[name], fmt)
            values = [np.format_float_scientific(np.float32(x) if fmt == "f32" else x, unique=True) for x in c]
            print(f"{name} {fmt}  # error 2**{float(mp.log(worst, 2)):.1f}\n    ({', '.join(values)})", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
