"""Element types and literals as LLVM text. A bool is one byte in memory and an i1 as a value."""
from __future__ import annotations

import struct
from functools import lru_cache

from ..core.dtype import DType, bool_, f32, f64

Val = tuple[str, DType, int]                                    # LLVM text, element type, lanes (1: a scalar)


@lru_cache(None)
def scalar(dtype: DType) -> str:
    return "float" if dtype is f32 else "double" if dtype is f64 else f"i{dtype.bits}"


@lru_cache(None)
def in_memory(dtype: DType) -> str:
    return "i8" if dtype is bool_ else scalar(dtype)


@lru_cache(None)
def typed(dtype: DType, lanes: int) -> str:
    return scalar(dtype) if lanes == 1 else f"<{lanes} x {scalar(dtype)}>"


@lru_cache(None)
def suffix(type_text: str) -> str:
    """The name of a type in an intrinsic's name: <8 x float> is v8f32."""
    if type_text.startswith("<"):
        lanes, _, element = type_text[1:-1].partition(" x ")
        return f"v{lanes}{suffix(element)}"
    return {"float": "f32", "double": "f64", "ptr": "p0"}.get(type_text, type_text)


@lru_cache(1 << 12)
def real(bits: int) -> str:
    return f"0x{bits:016X}"


def literal(value: float | int | bool, dtype: DType) -> str:
    """A constant: floats as the hexadecimal of a double, which is how LLVM writes f32 exactly, too."""
    if dtype is f32:
        try:
            value = struct.unpack("f", struct.pack("f", value))[0]
        except OverflowError:                                   # beyond the largest f32: rounds to infinity
            value = float("inf") if value > 0 else float("-inf")
    if dtype.is_float:
        return real(struct.unpack("<Q", struct.pack("<d", value))[0])
    return ("true" if value else "false") if dtype is bool_ else str(int(value))
