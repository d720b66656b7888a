"""What each elementwise primitive is to SymPy: one line an op. The scalar half of the translation, and what `rules` holds the derivatives against.

Not the ops' numerics: log1p(x) is log(1 + x) here, a NaN does not occur, and all symbols are real.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy
from sympy import ITE, Abs, And, Eq, Expr, Integer, Max, Min, Mod, Ne, Not, Or, Piecewise, Rational, Xor
from sympy.core.relational import Relational

from ..ops import elementwise as ops


def _round(x: Expr) -> Expr:
    """floor(x + 1/2), less 1 where x lies halfway above an even integer."""
    return sympy.floor(x + Rational(1, 2)) - Piecewise((1, Eq(Mod(x, 2), Rational(1, 2))), (0, True))


def choose(c: Any, a: Any, b: Any) -> Any:
    """a where c, else b."""
    c = sympy.sympify(c)
    if c == sympy.true or a == b:
        return a
    if c == sympy.false:
        return b
    return Piecewise((given(c, a), c), (given(Not(c), b), True))


def given(c: Any, e: Any) -> Any:
    """e, where c holds: choices within it that are by c are made."""
    if not isinstance(e, Expr) or not e.has(Piecewise):
        return e
    made = {c: sympy.true, Not(c): sympy.false}
    if isinstance(c, Relational):                       # 0 < x is x > 0
        canonical = {k.canonical: v for k, v in made.items()}
        made = {r: canonical[r.canonical] for r in e.atoms(Relational) if r.canonical in canonical}
    return e.xreplace(made)


def indicator(c: Any) -> Expr:
    """1 where c, else 0."""
    return choose(c, Integer(1), Integer(0))


MEANING: dict[Any, Callable[..., Any]] = {
    ops.neg: lambda x: -x,
    ops.abs_: Abs,
    ops.sign: sympy.sign,
    ops.floor: sympy.floor,
    ops.ceil: sympy.ceiling,
    ops.round_: _round,
    ops.exp: sympy.exp,
    ops.expm1: lambda x: sympy.exp(x) - 1,
    ops.log: sympy.log,
    ops.log2: lambda x: sympy.log(x, 2),
    ops.log1p: lambda x: sympy.log(1 + x),
    ops.sqrt: sympy.sqrt,
    ops.rsqrt: lambda x: 1 / sympy.sqrt(x),
    ops.sin: sympy.sin,
    ops.cos: sympy.cos,
    ops.tan: sympy.tan,
    ops.asin: sympy.asin,
    ops.acos: sympy.acos,
    ops.atan: sympy.atan,
    ops.tanh: sympy.tanh,
    ops.sigmoid: lambda x: 1 / (1 + sympy.exp(-x)),
    ops.erf: sympy.erf,
    ops.ndtr: lambda x: (1 + sympy.erf(x / sympy.sqrt(2))) / 2,
    ops.cbrt: lambda x: choose(x >= 0, x ** Rational(1, 3), -((-x) ** Rational(1, 3))),
    ops.isnan: lambda x: sympy.false,
    ops.isfinite: lambda x: sympy.true,
    ops.stop_gradient: lambda x: x,
    ops.add: lambda a, b: a + b,
    ops.sub: lambda a, b: a - b,
    ops.mul: lambda a, b: a * b,
    ops.div: lambda a, b: a / b,
    ops.floordiv: lambda a, b: sympy.floor(a / b),
    ops.mod: lambda a, b: a - sympy.floor(a / b) * b,
    ops.pow_: lambda a, b: a**b,
    ops.atan2: sympy.atan2,
    ops.maximum: Max,
    ops.minimum: Min,
    ops.lt: lambda a, b: a < b,
    ops.le: lambda a, b: a <= b,
    ops.eq: Eq,
    ops.ne: Ne,
    ops.where: choose,
}
LOGIC: dict[Any, Callable[..., Any]] = {                                # of bools; of integers, bits have no formula
    ops.and_: And, ops.or_: Or, ops.xor: Xor, ops.not_: Not, ops.where: ITE, ops.eq: lambda a, b: Not(Xor(a, b)), ops.ne: Xor,
}
