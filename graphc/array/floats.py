"""Floating numbers as what they are made of: sign, magnitude, and which of them are no numbers. There are no complex ones: all are their real part."""
from __future__ import annotations

from typing import Any

from ..core.dtype import f32, f64, i32, i64
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..ops import elementwise as ops
from ..trace.apply import apply
from ..trace.broadcast import as_tensor, cast, full, lift, result_dtype, unary, unify
from ..trace.tensor import Tensor
from .dtypes import floating
from .elementwise import abs as abs_
from .elementwise import sqrt, where


def isnan(x: Any, /) -> Tensor:
    """Is x a NaN?"""
    return unary(ops.isnan, x)


def isfinite(x: Any, /) -> Tensor:
    """Is x neither infinite nor NaN?"""
    return unary(ops.isfinite, x)


def isinf(x: Any, /) -> Tensor:
    """Is x infinite?"""
    return ~(isfinite(x) | isnan(x))


def _bits(x: Tensor) -> Tensor:
    """The bits of a floating tensor, as a signed integer: negative where the sign is set, whatever the number is."""
    return apply(ops.bitcast, x, dtype=i64 if x.dtype is f64 else i32)


def _pair(name: str, x: Any, y: Any) -> list[Tensor]:
    """Both in one floating dtype and shape."""
    xs = [lift(x), lift(y)]
    dtype = result_dtype(xs)
    if dtype.is_half:
        raise GraphError(f"{name} does not compute in {dtype}", op=name, at=user_loc(), why="f16 and bf16 are for storage", fix=".astype(gx.float32) first")
    return unify(name, xs, dtype if dtype.is_float else f32)


def signbit(x: Any, /) -> Tensor:
    """Is the sign bit set? That of -0 is, and that of a NaN may be."""
    x = floating(x)
    return _bits(cast(x, f32) if x.dtype.is_half else x) < 0


def copysign(x: Any, y: Any, /) -> Tensor:
    """The magnitude of x with the sign of y, of a zero and a NaN too."""
    x, y = _pair("copysign", x, y)
    return where(signbit(y), -abs_(x), abs_(x))


def nextafter(x: Any, y: Any, /) -> Tensor:
    """The floating number next to x in the direction of y, and y where they are equal. By its bits, so its derivative is 0."""
    x, y = _pair("nextafter", x, y)
    i, j = _place(x), _place(y)
    k = where(j > i, i + 1, i - 1)
    bits = where(k < 0, _lowest(x) - k, where((k == 0) & (i < 0), _lowest(x), k))        # from below 0 comes -0
    out = apply(ops.bitcast, bits, dtype=x.dtype)
    return where(isnan(x) | isnan(y), x + y, where(i == j, y, out))


def _lowest(x: Tensor) -> int:
    return -(1 << x.dtype.bits - 1)


def _place(x: Tensor) -> Tensor:
    """Integers in the order of the numbers, without a gap: 0 for both zeros, 1 for the smallest positive number, -1 for its negative."""
    bits = _bits(x)
    return where(bits < 0, _lowest(x) - bits, bits)


def hypot(x: Any, y: Any, /) -> Tensor:
    """sqrt(x^2 + y^2) without overflow: m sqrt(1 + (n / m)^2), m = |x| or |y|, whichever is larger, and n the other one. Infinite if either is, NaN or not."""
    x, y = _pair("hypot", x, y)
    below = abs_(x) < abs_(y)
    m, n = abs_(where(below, y, x)), where(below, x, y)  # n keeps its sign, so that its square is smooth at 0
    r = n / where((m == 0) | isinf(m), 1.0, m)
    return where(isinf(x) | isinf(y), float("inf"), m * sqrt(r * r + 1.0))


# ---- of complex numbers, of which there are none -------------------------------------------------------------------------------------


def real(x: Any, /) -> Tensor:
    """The real part: x."""
    return as_tensor(x)


def imag(x: Any, /) -> Tensor:
    """The imaginary part: 0."""
    x = as_tensor(x)
    return full(x.shape, 0, x.dtype)


def conj(x: Any, /) -> Tensor:
    """The complex conjugate: x."""
    return as_tensor(x)
