"""Ops with several results, and the op that takes one out."""
from __future__ import annotations

import numpy as np

from ..core.dtype import i64
from ..core.errors import GraphError
from ..core.types import TensorType, TupleType, Type
from ..ir.node import Node
from ..ir.op import Op, register
from .check import Array, axis_of, computed, draws, known, several, tensor
from .index import put_along_add
from .leaf import splat


def _get_type(t: Type, *, index: int) -> Type:
    """That of the result."""
    if not isinstance(t, TupleType) or not 0 <= index < len(t.items):
        raise GraphError(f"there is no result {index} of {t}")
    return t.items[index]


# Reverse mode keeps a cotangent for each item of a tuple, so `get` needs no rule: its cotangent is the item's.
get: Op = register(Op("get", "tuple", _get_type, lambda t, *, index: t[index], "zero", "One of several results", lambda rng: []))


def _topk_type(t: Type, *, k: int, axis: int) -> TupleType:
    """The shape of x with k in place of the size along `axis`, for both."""
    t = computed("topk", tensor("topk", t))
    n = known("topk", t.shape[axis_of("topk", axis, t.rank)])
    if t.dtype.kind == "bool" or not 0 <= k <= n:
        raise GraphError(f"topk needs numbers and 0 <= k <= {n}, got k = {k} of {t} along axis {axis}")
    shape = (*t.shape[:axis], k, *t.shape[axis + 1:])
    return TupleType((TensorType(shape, t.dtype), TensorType(shape, i64)))


def _topk(x: Array, *, k: int, axis: int) -> tuple[Array, Array]:
    """Largest first, of equals the first; NaN is the largest. A stable ascending sort of the reversed axis, read backwards."""
    n = x.shape[axis]
    backwards = np.flip(x, axis)
    order = n - 1 - np.flip(np.argsort(backwards, axis, kind="stable"), axis)
    index = np.take(order, np.arange(k), axis)
    return np.take_along_axis(x, index, axis), index.astype(np.int64)


def _topk_vjp(g: tuple[Node | None, ...], y: Node, x: Node, *, k: int, axis: int) -> tuple[Node | None]:
    values = g[0]
    return (None if values is None else put_along_add(splat(0.0, x), get(y, index=1), values, axis=axis),)


topk: Op = register(Op("topk", "tuple", _topk_type, _topk, _topk_vjp, "The k largest along an axis, in falling order, and where they are (i64)",
                   several(draws((3, 5), k=2, axis=1), draws((4, 3), k=3, axis=0), draws((5,), k=5, axis=0))))
