"""f16 and bf16 below the tensor graph, where they do not exist: memory is u16, and a conversion is integer arithmetic on bits.

So the loop IR, its interpreter and the code generator know nothing of them, no library is called and no feature of the processor is needed. Denormals
come out right whether or not the step flushes them: those of f16 are ordinary f32, those of bf16 are never operands of an f32 operation here (though f64
becomes f32 first, by an instruction that does flush). To nearest, ties to even; a NaN keeps its sign and the upper bits of its
payload, and is made quiet where it is narrowed. `core.half` says the same in NumPy.

The f16 conversions are Fabian Giesen's ("half_to_float_fast", "float_to_half_fast3_rtne"): an f16 denormal is found by one f32 addition whose unit in the
last place is 2**-24.
"""
from __future__ import annotations

from ..core import half
from ..core.dtype import DType, bf16, f32, u16, u32
from ..ir.node import Node
from ..loop.ir import Bin, Bitcast, Cast, Expr, Lit, Select

HALF_TO_FLOAT = 112 << 23                               # the difference of the exponents' biases, in place
ONE_HALF = 126 << 23                                    # 0.5, whose unit in the last place is 2**-24, the smallest f16
INFINITY = 255 << 23


def stored(dtype: DType) -> DType:
    """What an element is in memory."""
    return u16 if dtype.is_half else dtype


def literal(value: object, dtype: DType) -> Lit:
    """The pattern of a number, or of an element, as a literal."""
    return Lit(int(half.bits(value if hasattr(value, "dtype") else half.scalar(value, dtype))), u16)


def narrows(n: Node) -> bool:
    """A cast to f16 or bf16. Who wrote it wants the 16 bits kept and the 32 forgotten."""
    return n.op.name == "cast" and n.tensor.dtype.is_half


def widens(n: Node) -> bool:
    """A cast of bf16 to f32: cheap enough to do wherever an element is read."""
    return n.op.name == "cast" and n.tensor.dtype is f32 and n.inputs[0].tensor.dtype is bf16


def convert(x: Expr, have: DType, want: DType) -> Expr:
    """An element of one type, as it is stored, as an element of another; one of them is f16 or bf16. By way of f32."""
    if have is want:
        return x
    if have.is_half:
        x, have = widen(x, have), f32
    if want.is_half:
        return narrow(x if have is f32 else Cast(x, f32), want)
    return x if have is want else Cast(x, want)


def _word(value: int) -> Lit:
    return Lit(value, u32)


def widen(h: Expr, dtype: DType) -> Expr:
    """f32 of the 16 bits."""
    u: Expr = Cast(h, u32)
    if dtype is bf16:
        return Bitcast(Bin("<<", u, _word(16)), f32)
    at = Bin("<<", Bin("and", u, _word(0x7FFF)), _word(13))
    exponent, moved = Bin("and", at, _word(0x7C00 << 13)), Bin("+", at, _word(HALF_TO_FLOAT))
    tiny = Bitcast(Bin("-", Bitcast(Bin("+", moved, _word(1 << 23)), f32), Lit(2.0**-14, f32)), u32)     # (2**-14 + h * 2**-24) - 2**-14
    endless = Bin("+", moved, _word(HALF_TO_FLOAT))
    size = Select(Bin("==", exponent, _word(0x7C00 << 13)), endless, Select(Bin("==", exponent, _word(0)), tiny, moved))
    return Bitcast(Bin("or", size, Bin("<<", Bin("and", u, _word(0x8000)), _word(16))), f32)


def narrow(x: Expr, dtype: DType) -> Expr:
    """The 16 bits of f32."""
    u = Bitcast(x, u32)
    size = Bin("and", u, _word(0x7FFFFFFF))
    nan = Bin("<", _word(INFINITY), size)

    def rounded(v: Expr, dropped: int) -> Expr:         # the carry out of the fraction goes into the exponent, which is what it should do
        odd = Bin("and", Bin(">>", u, _word(dropped)), _word(1))
        return Bin(">>", Bin("+", Bin("+", v, _word((1 << dropped - 1) - 1)), odd), _word(dropped))

    if dtype is bf16:
        return Cast(Select(nan, Bin("or", Bin(">>", u, _word(16)), _word(0x40)), rounded(u, 16)), u16)
    quiet = Bin("or", Bin("and", Bin(">>", u, _word(13)), _word(0x3FF)), _word(0x7E00))
    tiny = Bin("-", Bitcast(Bin("+", Bitcast(size, f32), Lit(0.5, f32)), u32), _word(ONE_HALF))
    usual = rounded(Bin("-", size, _word(HALF_TO_FLOAT)), 13)
    finite = Select(Bin("<", size, _word(HALF_TO_FLOAT + (1 << 23))), tiny, usual)
    least_infinite = _word(HALF_TO_FLOAT + (31 << 23))
    out = Select(nan, quiet, Select(Bin("<=", least_infinite, size), _word(0x7C00), finite))
    return Cast(Bin("or", out, Bin("and", Bin(">>", u, _word(16)), _word(0x8000))), u16)
