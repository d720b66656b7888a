"""Numbers of a graph as SymPy reads them, and back: the shortest exact form that rounds to the same bits.

A graph holds 0.1 and √(2/π) as floats. Here they become 1/10 and sqrt(2/pi) again, but only where rounding these gives the very float; every
other float stays a float, with all its digits.
"""
from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import sympy

from ..core.dtype import DType

_SHORT = {32: (6, 100), 64: (9, 1000)}                  # digits and denominators above which a number is a rounded result, not what somebody wrote


@cache
def _constants() -> tuple[tuple[float, sympy.Expr], ...]:
    """What formulas are made of, as written and as math computes it."""
    pi, two, log = sympy.pi, sympy.Integer(2), sympy.log
    base = [(math.pi, pi), (math.e, sympy.E), (math.sqrt(2.0), sympy.sqrt(two)), (math.sqrt(0.5), 1 / sympy.sqrt(two)), (math.sqrt(3.0), sympy.sqrt(3)),
            (math.sqrt(math.pi), sympy.sqrt(pi)), (2.0 / math.sqrt(math.pi), 2 / sympy.sqrt(pi)), (math.sqrt(2.0 / math.pi), sympy.sqrt(2 / pi)),
            (math.sqrt(8.0 / math.pi), sympy.sqrt(8 / pi)),
            (math.sqrt(2.0 * math.pi), sympy.sqrt(2 * pi)), (1.0 / math.sqrt(2.0 * math.pi), 1 / sympy.sqrt(2 * pi)), (math.log(2.0), log(two)),
            (1.0 / math.log(2.0), 1 / log(two)), (math.log(10.0), log(10)), (1.0 / math.log(10.0), 1 / log(10)), (1.0 / math.pi, 1 / pi),
            (math.log(2.0 * math.pi), log(2 * pi)), ((1.0 + math.sqrt(5.0)) / 2.0, sympy.GoldenRatio)]
    multiples = [(math.pi, pi, (2, 3, 4, 6)), (math.log(2.0), log(two), (2,)), (math.log(2.0 * math.pi), log(2 * pi), (2,))]
    return (*base, *((v * k, s * k) for v, s, ks in multiples for k in ks), *((v / k, s / k) for v, s, ks in multiples for k in ks))


def exact(value: Any, dtype: DType) -> sympy.Expr:
    """A number of that dtype as SymPy's: an integer, a short decimal or small fraction, a known constant, or the float itself."""
    v = value.item() if isinstance(value, np.generic | np.ndarray) else value
    if isinstance(v, bool):
        return sympy.true if v else sympy.false
    if isinstance(v, int):
        return sympy.Integer(v)
    if math.isnan(v):
        return sympy.nan
    if math.isinf(v):
        return sympy.oo if v > 0 else -sympy.oo
    rounded = dtype.numpy.type
    if v.is_integer() and abs(v) < 2**53:
        return sympy.Integer(int(v))

    def same(x: float) -> bool:
        return bool(rounded(x) == rounded(v))

    digits, denominators = _SHORT[dtype.bits]
    for n in range(digits):
        if same(float(text := f"{v:.{n}e}")):
            return sympy.Rational(text)
    for number, constant in _constants():
        for sign in (1, -1):
            if same(sign * number):
                return sign * constant
    for q in range(3, denominators):
        if same(round(v * q) / q):
            return sympy.Rational(round(v * q), q)
    return sympy.Float(v, 17)


def as_float(x: sympy.Expr) -> float:
    """The f64 nearest to a SymPy number: rationals are divided exactly, constants evaluated to more digits than f64 has."""
    if x.is_Rational:
        return int(x.p) / int(x.q)                      # Python rounds the quotient of integers correctly
    return float(sympy.N(x, 30))
