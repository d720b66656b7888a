"""SymPy's functions as graphc's: what `from_sympy` can say. One line a function; what is not here is refused by name.

The array functions come through `trace.methods`, as Tensor's own operators do, so this package knows no more of graphc than Tensor does.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import sympy

from ..trace.methods import functions

Fn = Callable[..., Any]


def xp() -> Any:
    """graphc's own namespace."""
    return functions.namespace


def _heaviside(x: Any, at_zero: Any = 0.5) -> Any:
    return xp().where(x > 0, 1.0, xp().where(x < 0, 0.0, at_zero))


def _sinc(x: Any) -> Any:
    zero = x == 0
    safe = xp().where(zero, 1.0, x)
    return xp().where(zero, 1.0, xp().sin(safe) / safe)


def _fold(name: str) -> Fn:
    def several(*xs: Any) -> Any:
        out = xs[0]
        for x in xs[1:]:
            out = getattr(xp(), name)(out, x)
        return out
    return several


def _named(name: str) -> Fn:
    return lambda *xs: getattr(xp(), name)(*xs)


# Does the derivative blow up, or the value overflow, somewhere? Then a branch of a Piecewise that is not taken has to be kept away from there.
SMOOTH: dict[Any, Fn] = {
    sympy.sin: _named("sin"), sympy.cos: _named("cos"), sympy.atan: _named("atan"), sympy.tanh: _named("tanh"), sympy.erf: _named("erf"),
    sympy.sinc: _sinc, sympy.Abs: _named("abs"), sympy.sign: _named("sign"), sympy.floor: _named("floor"), sympy.ceiling: _named("ceil"),
    sympy.frac: lambda x: x - xp().floor(x), sympy.Heaviside: _heaviside, sympy.Max: _fold("maximum"), sympy.Min: _fold("minimum"),
    sympy.asinh: _named("asinh"), sympy.erfc: lambda x: xp().ndtr(x * -math.sqrt(2.0)) * 2.0, sympy.re: lambda x: x, sympy.conjugate: lambda x: x,
}
RISKY: dict[Any, Fn] = {
    sympy.exp: _named("exp"), sympy.log: _named("log"), sympy.tan: _named("tan"), sympy.asin: _named("asin"), sympy.acos: _named("acos"),
    sympy.atan2: _named("atan2"), sympy.sinh: _named("sinh"), sympy.cosh: _named("cosh"), sympy.acosh: _named("acosh"), sympy.atanh: _named("atanh"),
    sympy.Mod: _named("remainder"),
    sympy.sec: lambda x: 1.0 / xp().cos(x), sympy.csc: lambda x: 1.0 / xp().sin(x), sympy.cot: lambda x: 1.0 / xp().tan(x),
    sympy.sech: lambda x: 1.0 / xp().cosh(x), sympy.csch: lambda x: 1.0 / xp().sinh(x), sympy.coth: lambda x: 1.0 / xp().tanh(x),
    sympy.acot: lambda x: xp().atan(1.0 / x), sympy.asec: lambda x: xp().acos(1.0 / x), sympy.acsc: lambda x: xp().asin(1.0 / x),
    sympy.asech: lambda x: xp().acosh(1.0 / x), sympy.acsch: lambda x: xp().asinh(1.0 / x), sympy.acoth: lambda x: xp().atanh(1.0 / x),
    sympy.erfinv: _named("erfinv"),
}
FUNCTIONS: dict[Any, Fn] = {**SMOOTH, **RISKY}
RELATIONS: dict[Any, Fn] = {
    sympy.StrictLessThan: _named("less"), sympy.LessThan: _named("less_equal"), sympy.StrictGreaterThan: _named("greater"),
    sympy.GreaterThan: _named("greater_equal"), sympy.Equality: _named("equal"), sympy.Unequality: _named("not_equal"),
}
LOGIC: dict[Any, Fn] = {
    sympy.And: _fold("logical_and"), sympy.Or: _fold("logical_or"), sympy.Xor: _fold("logical_xor"), sympy.Not: _named("logical_not"),
}


def is_unknown(e: Any) -> bool:
    """A function that graphc has not."""
    return isinstance(e, sympy.Function) and type(e) not in FUNCTIONS and type(e) not in (sympy.Piecewise, sympy.log, sympy.exp)


def supported() -> str:
    """The names that an error lists."""
    return ", ".join(sorted(f.__name__ for f in FUNCTIONS)) + ", Piecewise, Sum, Product, relations, And, Or, Xor, Not and ITE"
