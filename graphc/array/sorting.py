"""The order of the elements along an axis, and the largest of them."""
from __future__ import annotations

from typing import Any

from ..ops import along, index, tuples
from ..trace.apply import apply, apply_several
from ..trace.broadcast import as_size, as_tensor, axis_index
from ..trace.tensor import Tensor
from .manipulation import flip


def argsort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Where (i64) the elements of sort(x) are in x. Always stable: of equals the first comes first, either way round. NaN is largest."""
    x = as_tensor(x)
    axis = axis_index("argsort", axis, x.ndim)
    if not descending:
        return apply(along.argsort, x, axis=axis)
    backwards = apply(along.argsort, flip(x, axis=axis), axis=axis)
    return as_size(x.shape[axis]).__index__() - 1 - flip(backwards, axis=axis)


def sort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The elements in rising (or falling) order along an axis. Stable; NaN is largest, -0 equals 0. Gradients go back to where elements came from."""
    x = as_tensor(x)
    axis = axis_index("sort", axis, x.ndim)
    return apply(index.take_along, x, argsort(x.detach(), axis=axis, descending=descending), axis=axis)


def topk(x: Any, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """The k largest along an axis in falling order, and their indices (i64): of equals the first, and NaN is largest."""
    x = as_tensor(x)
    values, indices = apply_several(tuples.topk, x, k=k.__index__(), axis=axis_index("topk", axis, x.ndim))
    return values, indices
