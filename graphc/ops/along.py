"""Along an axis that stays: running sums, and the order of the elements. (`sort` is a composition: the elements taken along `argsort`.)"""
from __future__ import annotations

import numpy as np

from ..core.dtype import i64
from ..core.errors import GraphError
from ..core.types import TensorType, Type
from ..ir.op import Op, register
from .check import Array, axis_of, computed, draws, known, several, tensor


def _cumsum_type(t: Type, *, axis: int, reverse: bool) -> TensorType:
    """The shape of x."""
    t = computed("cumsum", tensor("cumsum", t))
    axis_of("cumsum", axis, t.rank)
    if t.dtype.kind == "bool":
        raise GraphError(f"cumsum is for numbers, got {t}", fix=".astype(...) first")
    return t


def _cumsum(x: Array, *, axis: int, reverse: bool) -> Array:
    if reverse:
        return np.flip(_cumsum(np.flip(x, axis), axis=axis, reverse=False), axis)
    return np.asarray(np.cumsum(x, axis, dtype=x.dtype))


cumsum: Op = register(Op("cumsum", "reduce", _cumsum_type, _cumsum,
                     lambda g, y, x, *, axis, reverse: (cumsum(g, axis=axis, reverse=not reverse),),
                     "At each place the sum of all elements up to it along an axis (reverse: from it on), added in that order",
                     several(draws((3, 4), axis=1, reverse=False), draws((3, 4), axis=0, reverse=True), draws((2, 3, 4), axis=1, reverse=False),
                             draws((5,), axis=0, reverse=True), draws((0, 4), axis=0, reverse=False))))


def _argsort_type(t: Type, *, axis: int) -> TensorType:
    """The shape of x."""
    t = computed("argsort", tensor("argsort", t))
    known("argsort", t.shape[axis_of("argsort", axis, t.rank)])
    return t.with_dtype(i64)


argsort: Op = register(Op("argsort", "reduce", _argsort_type, lambda x, *, axis: np.argsort(x, axis, kind="stable").astype(np.int64), "zero",
                      "Where the smallest along an axis is, where the next, ...: of equals the first comes first, -0 equals 0, NaN is largest",
                      several(draws((3, 4), axis=1), draws((5, 3), axis=0), draws((2, 9, 3), axis=1), draws((1,), axis=0), draws((3, 0), axis=1))))
