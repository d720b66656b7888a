"""The largest elements of an axis."""
from __future__ import annotations

from typing import Any

from ..ops import tuples
from ..trace.apply import apply_several
from ..trace.broadcast import as_tensor, axis_index
from ..trace.tensor import Tensor


def topk(x: Any, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """The k largest along an axis in falling order, and their indices (i64): of equals the first, and NaN is largest."""
    x = as_tensor(x)
    values, indices = apply_several(tuples.topk, x, k=k.__index__(), axis=axis_index("topk", axis, x.ndim))
    return values, indices
