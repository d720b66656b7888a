"""A point at which an expression is regular: real, finite, and so are all its derivatives.

Sufficient, and checked part by part: no logarithm, root or quotient of (nearly) 0 or less, no arc sine at its ends, nothing large. Where a branch
of a Piecewise is not taken it is computed there, and the zero that its cotangent is stays a zero.
"""
from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sympy

from .table import RISKY

TRIES, MARGIN, LARGE = 500, 0.05, 1e4
_INSIDE_ONE = (sympy.asin, sympy.acos, sympy.atanh, sympy.erfinv)


def is_risky(e: Any) -> bool:
    """Can the expression or its derivative fail to be finite at some finite point?"""
    return any(type(n) in RISKY or (isinstance(n, sympy.Pow) and not (n.exp.is_Integer and n.exp >= 0)) for n in sympy.preorder_traversal(e))


def regular_point(e: Any, symbols: Sequence[sympy.Symbol]) -> dict[sympy.Symbol, float] | None:
    """Numbers for the symbols, the same ones every time; None where 500 tries found none."""
    rng = random.Random(0)
    candidates = [[v] * len(symbols) for v in (0.5, 2.0, -0.5, -2.0)]
    candidates += [[rng.uniform(-scale, scale) for _ in symbols] for scale in (1.0, 3.0, 10.0, 100.0) for _ in range(TRIES // 4)]
    for values in candidates:
        point = dict(zip(symbols, (round(v, 3) for v in values)))
        if all(_regular(n, point) for n in _parts(e, point)):
            return point
    return None


def _parts(e: Any, point: Mapping[Any, float]) -> Iterator[sympy.Expr]:
    """The expressions that count there: of an inner Piecewise the branch that is taken, for it guards the others itself."""
    if isinstance(e, sympy.Piecewise):
        taken = next((branch for branch, cond in e.args if cond.subs(point) == sympy.true), None)
        yield from _parts(sympy.nan if taken is None else taken, point)
        return
    if isinstance(e, sympy.Expr):
        yield e
    for a in e.args:
        yield from _parts(a, point)


def _at(e: Any, point: Mapping[Any, float]) -> float:
    """The value as a float, nan where it is not a real number."""
    try:
        return float(e.evalf(15, subs=point)) if e.free_symbols else float(e)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return math.nan


def _regular(e: Any, point: Mapping[Any, float]) -> bool:
    value = _at(e, point)
    if not abs(value) < LARGE:
        return bool(e.is_number and math.isfinite(value))
    if isinstance(e, sympy.Pow) and not (e.exp.is_Integer and e.exp >= 0):
        base = _at(e.base, point)
        return base > MARGIN or (bool(e.exp.is_Integer) and base < -MARGIN)
    if not e.args:
        return True
    first = _at(e.args[0], point)
    if isinstance(e, sympy.log):
        return first > MARGIN
    if isinstance(e, sympy.acosh):
        return first > 1.0 + MARGIN
    if isinstance(e, _INSIDE_ONE):
        return abs(first) < 1.0 - MARGIN
    if isinstance(e, (sympy.tan, sympy.sec)):
        return abs(math.cos(first)) > MARGIN
    if isinstance(e, (sympy.cot, sympy.csc)):
        return abs(math.sin(first)) > MARGIN
    if isinstance(e, (sympy.asec, sympy.acsc, sympy.acoth)):
        return abs(first) > 1.0 + MARGIN
    if isinstance(e, sympy.asech):
        return MARGIN < first < 1.0 - MARGIN
    if isinstance(e, (sympy.coth, sympy.csch, sympy.acot, sympy.acsch)):
        return abs(first) > MARGIN
    if isinstance(e, sympy.atan2):
        return abs(first) + abs(_at(e.args[1], point)) > MARGIN
    if isinstance(e, sympy.Mod):
        return abs(_at(e.args[1], point)) > MARGIN
    return True
