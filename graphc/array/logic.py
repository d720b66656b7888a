"""Comparisons, and logic on bools and on the bits of integers. A comparison with a NaN is false, except that a NaN is unequal to everything."""
from __future__ import annotations

from typing import Any

from ..core.dtype import bool_
from ..ops import elementwise as ops
from ..trace.broadcast import as_tensor, binary, unary
from ..trace.tensor import Tensor


def less(x: Any, y: Any, /) -> Tensor:
    """x < y; false with a NaN."""
    return binary(ops.lt, "less", x, y)


def less_equal(x: Any, y: Any, /) -> Tensor:
    """x <= y; false with a NaN."""
    return binary(ops.le, "less_equal", x, y)


def greater(x: Any, y: Any, /) -> Tensor:
    """x > y; false with a NaN."""
    return binary(ops.lt, "greater", y, x)


def greater_equal(x: Any, y: Any, /) -> Tensor:
    """x >= y; false with a NaN."""
    return binary(ops.le, "greater_equal", y, x)


def equal(x: Any, y: Any, /) -> Tensor:
    """x == y; false with a NaN."""
    return binary(ops.eq, "equal", x, y)


def not_equal(x: Any, y: Any, /) -> Tensor:
    """x != y; true with a NaN."""
    return binary(ops.ne, "not_equal", x, y)


def bitwise_and(x: Any, y: Any, /) -> Tensor:
    """Bit by bit; of bools, the conjunction."""
    return binary(ops.and_, "bitwise_and", x, y)


def bitwise_or(x: Any, y: Any, /) -> Tensor:
    """Bit by bit; of bools, the disjunction."""
    return binary(ops.or_, "bitwise_or", x, y)


def bitwise_xor(x: Any, y: Any, /) -> Tensor:
    """Bit by bit; of bools, whether they differ."""
    return binary(ops.xor, "bitwise_xor", x, y)


def bitwise_invert(x: Any, /) -> Tensor:
    """The complement; of bools, the negation."""
    return unary(ops.not_, x, floating=False)


def bitwise_left_shift(x: Any, y: Any, /) -> Tensor:
    """x << y, y modulo the width."""
    return binary(ops.shl, "bitwise_left_shift", x, y)


def bitwise_right_shift(x: Any, y: Any, /) -> Tensor:
    """x >> y, y modulo the width; keeps the sign of signed types."""
    return binary(ops.shr, "bitwise_right_shift", x, y)


def _truth(x: Any) -> Tensor:
    x = as_tensor(x)
    return x if x.dtype is bool_ else x != 0


def logical_and(x: Any, y: Any, /) -> Tensor:
    """Are both true (not 0)?"""
    return bitwise_and(_truth(x), _truth(y))


def logical_or(x: Any, y: Any, /) -> Tensor:
    """Is either true?"""
    return bitwise_or(_truth(x), _truth(y))


def logical_xor(x: Any, y: Any, /) -> Tensor:
    """Is exactly one true?"""
    return bitwise_xor(_truth(x), _truth(y))


def logical_not(x: Any, /) -> Tensor:
    """Is it false (0)?"""
    return bitwise_invert(_truth(x))
