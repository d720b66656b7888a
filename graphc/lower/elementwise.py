"""Elementwise ops as loop expressions: one line an op. `graphc.loop.math` holds the transcendental ones."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..core.dtype import DType, bool_, f32, f64, i64, u32, u64
from ..loop import math
from ..loop.ir import Bin, Bitcast, Call, Cast, Expr, Int, Lit, Select, Un, dtype_of
from ..ops.random import MULTIPLIERS, ROUNDS, WEYL
from . import half

Lowering = Callable[..., Expr]                          # (*operands, **attrs) -> the element


def zero(e: Expr) -> Lit:
    return number(0, dtype_of(e))


def number(value: float, dtype: DType) -> Lit:
    """A literal of a dtype."""
    if dtype.is_half:
        return half.literal(value, dtype)
    return Lit(float(value) if dtype.is_float else bool(value) if dtype is bool_ else int(value), dtype)


def _sign(x: Expr) -> Expr:
    o = zero(x)
    negative = Select(Bin("<", x, o), number(-1, dtype_of(x)), Select(Bin("==", x, o), o, x)) if dtype_of(x).kind != "uint" else o
    return Select(Bin("<", o, x), number(1, dtype_of(x)), negative)     # what is left is NaN


def _floordiv(a: Expr, b: Expr) -> Expr:
    """Toward minus infinity."""
    d = dtype_of(a)
    if d.is_float:
        q, _, over = _quotient(a, b)
        q = Select(over, Bin("-", q, number(1, d)), q)
        endless = Bin("and", Bin("==", Un("abs", a), number(float("inf"), d)), Bin("!=", b, zero(b)))
        return Select(endless, number(float("nan"), d), q)
    q = Bin("//", a, b)
    if d.kind == "uint":
        return q
    return Select(_odd_signs(Bin("%", a, b), b), Bin("-", q, number(1, d)), q)


def _mod(a: Expr, b: Expr) -> Expr:
    """With the sign of b."""
    d = dtype_of(a)
    if d.is_float:
        _, r, over = _quotient(a, b)
        return Select(Bin("==", r, zero(b)), Call("copysign", (zero(b), b)), Select(over, Bin("+", r, b), r))
    r = Bin("%", a, b)
    return r if d.kind == "uint" else Select(_odd_signs(r, b), Bin("+", r, b), r)


def _quotient(a: Expr, b: Expr) -> tuple[Expr, Expr, Expr]:
    """floor(a / b), the remainder a - q * b, and whether a / b was rounded up to an integer, so that q is one too many.

    The remainder is rounded once, so it is exact while |a / b| < 2**24 (2**53); beyond that it is found in steps. Of a / inf it is a, where q * b would be
    0 * inf.
    """
    o = zero(b)
    d = dtype_of(a)
    q = Un("floor", Bin("/", a, b))
    r = Select(Bin("==", q, o), a, Call("fma", (Un("neg", q), b, a)))
    r = Call("rare", (_far_remainder(a, b), r, Bin("<", number(2.0 ** (24 if d is f32 else 53), d), Un("abs", q))))
    return q, r, Bin("and", Bin("!=", r, o), Bin("!=", Bin("<", r, o), Bin("<", b, o)))


def _far_remainder(a: Expr, b: Expr) -> Expr:
    """The remainder of a large quotient: a - b trunc(a / b), again and again. Each difference is exact, and has 53 bits less to go. NaN of an infinite a.

    f32 is computed in f64, where no quotient overflows; of f64 the remainders by b 2**1080 and b 2**540 are taken first, as far as those are numbers.
    """
    def step(r: Expr, b: Expr) -> Expr:
        return Call("fma", (Un("neg", Un("trunc", Bin("/", r, b))), b, r))

    if dtype_of(a) is f32:
        x, y = Cast(a, f64), Cast(b, f64)
        for _ in range(6):                              # the largest over the least number is 2**277
            x = step(x, y)
        return Cast(x, f32)
    r, size = a, Un("abs", a)
    large = number(2.0 ** 540, f64)
    larger = Bin("*", b, large)
    for y, steps in ((Bin("*", larger, large), 20), (larger, 11), (b, 11)):         # the largest over the least number is 2**2098
        s = r
        for _ in range(steps):
            s = step(s, y)
        r = Select(Bin("<=", Un("abs", y), size), s, r)
    return r


def _odd_signs(r: Expr, b: Expr) -> Expr:
    """A remainder that is not 0 and has not the sign of the (nonzero) divisor."""
    o = zero(b)
    differ = Bin("<", Bin("xor", r, b), o)
    return Bin("and", Bin("and", Bin("!=", r, o), Bin("!=", b, o)), differ)


def _isfinite(x: Expr) -> Expr:
    return Bin("<", Un("abs", x), number(float("inf"), dtype_of(x)))


def _cast(x: Expr, *, dtype: DType) -> Expr:
    return x if dtype_of(x) is dtype else Cast(x, dtype)


def _binary(op: Any) -> Lowering:
    return lambda a, b: Bin(op, a, b)


def _unary(op: Any) -> Lowering:
    return lambda a: Un(op, a)


ELEMENTWISE: Mapping[str, Lowering] = {
    "neg": _unary("neg"), "abs": _unary("abs"), "floor": _unary("floor"), "ceil": _unary("ceil"), "round": _unary("round"), "sqrt": _unary("sqrt"),
    "not": _unary("not"),
    "sign": _sign,
    "rsqrt": lambda x: Bin("/", number(1, dtype_of(x)), Un("sqrt", x)),
    **math.FUNCTIONS,
    "isnan": lambda x: Bin("!=", x, x),
    "isfinite": _isfinite,
    "add": _binary("+"), "sub": _binary("-"), "mul": _binary("*"), "div": _binary("/"), "maximum": _binary("max"), "minimum": _binary("min"),
    "floordiv": _floordiv,
    "mod": _mod,
    "and": _binary("and"), "or": _binary("or"), "xor": _binary("xor"), "shl": _binary("<<"), "shr": _binary(">>"),
    "lt": _binary("<"), "le": _binary("<="), "eq": _binary("=="), "ne": _binary("!="),
    "where": Select,
    "cast": _cast,
    "bitcast": lambda x, *, dtype: x if dtype_of(x) is half.stored(dtype) else Bitcast(x, half.stored(dtype)),
    "stop_gradient": lambda x: x,
}

EXPENSIVE = frozenset({*math.FUNCTIONS, "sqrt", "rsqrt", "div", "floordiv", "mod", "random_bits"})      # dearer to compute twice than to store and load


def philox(key: tuple[Expr, Expr], counter: Expr, flat: Expr) -> Expr:
    """The word at a flat index of `random_bits`: see graphc.ops.random."""
    def word(x: int) -> Lit:
        return Lit(x, u64)

    block = Bin("+", counter, Cast(Bin("//", flat, Int(4)), u64))
    lane = Bin("%", flat, Int(4))
    low, shift = word(0xFFFFFFFF), word(32)
    x0, x1 = Bin("and", block, low), Bin(">>", block, shift)
    x2: Expr = word(0)
    x3: Expr = word(0)
    k0, k1 = (Cast(k, u64) for k in key)
    k0_, k1_ = k0, k1
    for r in range(ROUNDS):
        p, q = Bin("*", x0, word(MULTIPLIERS[0])), Bin("*", x2, word(MULTIPLIERS[1]))
        x0, x1, x2, x3 = (Bin("xor", Bin("xor", Bin(">>", q, shift), x1), k0_), Bin("and", q, low),
                          Bin("xor", Bin("xor", Bin(">>", p, shift), x3), k1_), Bin("and", p, low))
        k0_ = Bin("and", Bin("+", k0, word((r + 1) * WEYL[0] & 0xFFFFFFFF)), low)
        k1_ = Bin("and", Bin("+", k1, word((r + 1) * WEYL[1] & 0xFFFFFFFF)), low)

    def at(i: int) -> Expr:
        return Bin("==", Cast(lane, i64), Lit(i, i64))

    return Cast(Select(at(0), x0, Select(at(1), x1, Select(at(2), x2, x3))), u32)
