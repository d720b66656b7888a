"""Indexing by data. A gather clamps, so that it can never read outside; what makes a bad index an error is `check_index`, which comes before it.

There are two ways to say where: `take` has one index for whole slices along an axis, `take_along` one for each place of the other axes. Each has
its writers, which `add`, `set`, or keep the `max` or `min` at the indices, in their order.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.dtype import i64
from ..core.errors import GraphError, GraphIndexError
from ..core.types import TensorType, Type
from ..ir.node import Node
from ..ir.op import Op, Vjp, register
from .check import Array, axis_of, computed, tensor
from .elementwise import cast, eq, where
from .leaf import iota, splat, zeros
from .movement import broadcast, reshape


def _indices(name: str, t: Type) -> TensorType:
    t = tensor(name, t)
    if not t.dtype.is_integer:
        raise GraphError(f"{name} needs integer indices, got {t}", fix=".astype(gx.int64)")
    return t


def _check_index(i: Array, *, size: int) -> Array:
    bad = (i < 0) | (i >= size)
    if bad.any():
        raise GraphIndexError(f"index {i[bad].flat[0]} is not in 0..{size - 1}", op="check_index")
    return i


def _check_type(t: Type, *, size: int) -> TensorType:
    """The operand's."""
    return _indices("check_index", t)


check_index: Op = register(Op("check_index", "index", _check_type, _check_index, "zero",
                          "The indices themselves; an error if one is not in 0..size-1, before any state has changed",
                          lambda rng: [([rng.integers(0, 5, (3, 4))], {"size": 5})]))


def _take_type(t: Type, i: Type, *, axis: int) -> TensorType:
    """The shape of x with the indices' in place of `axis`."""
    t, i = tensor("take", t), _indices("take", i)
    axis_of("take", axis, t.rank)
    if t.shape[axis] == 0 and i.size != 0:
        raise GraphError(f"take: there is nothing at an index of an empty axis: {t} along axis {axis}")
    return TensorType((*t.shape[:axis], *i.shape, *t.shape[axis + 1:]), t.dtype)


take: Op = register(Op("take", "index", _take_type, lambda x, i, *, axis: np.take(x, i, axis, mode="clip"),
                   lambda g, y, x, i, *, axis: (scatter_add(zeros(x), i, g, axis=axis), None), "Slices of x at indices along an axis",
                   lambda rng: [([rng.standard_normal((3, 4)), rng.integers(0, 3, (2, 2))], {"axis": 0}),
                                ([rng.standard_normal((3, 4)), rng.integers(0, 4, (5,))], {"axis": 1}),
                                ([rng.standard_normal((3, 4)), np.asarray(2)], {"axis": 1})]))


def _clipped(i: Array, n: int) -> Array:
    return np.asarray(np.clip(i, 0, max(n - 1, 0)))


def _along(name: str, t: TensorType, i: TensorType, axis: int) -> None:
    axis_of(name, axis, t.rank)
    if t.shape[axis] == 0 and i.size != 0:
        raise GraphError(f"{name}: there is nothing at an index of an empty axis: {t} along axis {axis}")
    if i.rank != t.rank or any(a != axis and n != m for a, (n, m) in enumerate(zip(t.shape, i.shape))):
        raise GraphError(f"{name} along axis {axis} needs indices of equal other axes, got {t} and {i}")


def _take_along_type(t: Type, i: Type, *, axis: int) -> TensorType:
    """The indices', which is that of x but along `axis`."""
    t, i = tensor("take_along", t), _indices("take_along", i)
    _along("take_along", t, i, axis)
    return TensorType(i.shape, t.dtype)


take_along: Op = register(Op("take_along", "index", _take_along_type, lambda x, i, *, axis: np.take_along_axis(x, _clipped(i, x.shape[axis]), axis),
                         lambda g, y, x, i, *, axis: (put_along_add(zeros(x), i, g, axis=axis), None),
                         "x at indices along an axis, one index for each place of the other axes",
                         lambda rng: [([rng.standard_normal((3, 4)), rng.integers(0, 4, (3, 1))], {"axis": 1}),
                                      ([rng.standard_normal((3, 4)), rng.integers(0, 3, (5, 4))], {"axis": 0})]))


# ---- writing ---------------------------------------------------------------------------------------------------------------------


def _summable(name: str, t: TensorType) -> TensorType:
    if not name.endswith("_set"):
        computed(name, t)
    if t.dtype.kind == "bool" and name.endswith("_add"):
        raise GraphError(f"{name} is for numbers, got {t}", fix="max is `or`, min is `and`")
    return t


def _scatter(name: str, numpy: Callable[..., Array], vjp: Vjp, doc: str) -> Op:
    """Register an op that writes slices: the adjoint of `take`, or its like."""
    def infer(t: Type, i: Type, u: Type, *, axis: int) -> TensorType:
        """The shape of x; the updates have that of take(x, i)."""
        t = _summable(name, tensor(name, t))
        want = _take_type(t, i, axis=axis)
        if u != want:
            raise GraphError(f"{name} into {t} at {i} along axis {axis} needs updates {want}, got {u}")
        return t

    return register(Op(name, "index", infer, numpy, vjp, doc,
                       lambda rng: [([rng.standard_normal((3, 4)), rng.integers(0, 3, (5,)), rng.standard_normal((5, 4))], {"axis": 0}),
                                    ([rng.standard_normal((3, 4)), rng.integers(0, 4, (2, 2)), rng.standard_normal((3, 2, 2))], {"axis": 1})]))


def _put_along(name: str, numpy: Callable[..., Array], vjp: Vjp, doc: str) -> Op:
    """Register an op that writes elements: the adjoint of `take_along`, or its like."""
    def infer(t: Type, i: Type, u: Type, *, axis: int) -> TensorType:
        """The shape of x; the updates have that of the indices."""
        t, i, u = _summable(name, tensor(name, t)), _indices(name, i), tensor(name, u)
        _along(name, t, i, axis)
        if u != TensorType(i.shape, t.dtype):
            raise GraphError(f"{name} into {t} at {i} needs updates {TensorType(i.shape, t.dtype)}, got {u}")
        return t

    return register(Op(name, "index", infer, numpy, vjp, doc,
                       lambda rng: [([rng.standard_normal((3, 4)), rng.integers(0, 4, (3, 1)), rng.standard_normal((3, 1))], {"axis": 1}),
                                    ([rng.standard_normal((3, 4)), rng.integers(0, 3, (5, 4)), rng.standard_normal((5, 4))], {"axis": 0})]))


def _slices_at(f: Any) -> Callable[..., Array]:
    """A ufunc applied at slices, one index after the other."""
    def numpy(x: Array, i: Array, u: Array, *, axis: int) -> Array:
        out: Array = x.copy()
        f.at(out, (slice(None),) * axis + (_clipped(i, x.shape[axis]),), u)
        return out
    return numpy


def _elements_at(f: Any) -> Callable[..., Array]:
    """A ufunc applied at elements, one index after the other."""
    def numpy(x: Array, i: Array, u: Array, *, axis: int) -> Array:
        out: Array = x.copy()
        at: list[Any] = list(np.indices(i.shape, sparse=True))
        at[axis] = _clipped(i, x.shape[axis])
        f.at(out, tuple(at), u)
        return out
    return numpy


def _scatter_set(x: Array, i: Array, u: Array, *, axis: int) -> Array:
    out: Array = x.copy()
    rows, new = np.moveaxis(out, axis, 0), np.moveaxis(u.reshape(*x.shape[:axis], i.size, *x.shape[axis + 1:]), axis, 0)
    for to, row in zip(_clipped(i, x.shape[axis]).flat, new):           # in order, so the last wins: NumPy's own order with repeated indices varies
        rows[to] = row
    return out


def _put_along_set(x: Array, i: Array, u: Array, *, axis: int) -> Array:
    out: Array = x.copy()
    at = _clipped(i, x.shape[axis])
    for k in range(i.shape[axis]):
        np.put_along_axis(out, at.take([k], axis), u.take([k], axis), axis)
    return out


def _scatter_set_vjp(g: Node, y: Node, x: Node, i: Node, u: Node, *, axis: int) -> tuple[Node | None, ...]:
    """Nothing of x is left where something was written; of equal indices only the last one's update was."""
    number = reshape(iota(shape=(i.tensor.size,), dtype=i64, axis=0), shape=i.tensor.shape)
    last = scatter_set(splat(-1, TensorType((x.tensor.shape[axis],), i64)), i, number, axis=0)
    others = tuple(a for a in range(u.tensor.rank) if not axis <= a < axis + i.tensor.rank)
    won = broadcast(eq(take(last, i, axis=0), number), shape=u.tensor.shape, axes=others)
    return scatter_set(g, i, zeros(u), axis=axis), None, where(won, take(g, i, axis=axis), zeros(u))


def _put_along_set_vjp(g: Node, y: Node, x: Node, i: Node, u: Node, *, axis: int) -> tuple[Node | None, ...]:
    number = iota(shape=i.tensor.shape, dtype=i64, axis=axis)
    last = put_along_set(splat(-1, x.tensor.with_dtype(i64)), i, number, axis=axis)
    won = eq(take_along(last, i, axis=axis), number)
    return put_along_set(g, i, zeros(u), axis=axis), None, where(won, take_along(g, i, axis=axis), zeros(u))


def _extremum_vjp(gather: Op, add: Callable[[], Op]) -> Vjp:
    """Ties share, as in reduce_max: of k equal ones, the old element among them, each gets g / k."""
    def vjp(g: Node, y: Node, x: Node, i: Node, u: Node, *, axis: int) -> tuple[Node | None, ...]:
        old, new = eq(x, y), eq(u, gather(y, i, axis=axis))
        share = g / add()(cast(old, dtype=g.tensor.dtype), i, cast(new, dtype=g.tensor.dtype), axis=axis)
        return where(old, share, zeros(x)), None, where(new, gather(share, i, axis=axis), zeros(u))
    return vjp


scatter_add: Op = _scatter("scatter_add", _slices_at(np.add), lambda g, y, x, i, u, *, axis: (g, None, take(g, i, axis=axis)),
                           "x with u added at indices along an axis, in the order of the indices: the adjoint of take")
scatter_set: Op = _scatter("scatter_set", _scatter_set, _scatter_set_vjp,
                           "x with u in place of what is at indices along an axis; of equal indices the last one wins")
scatter_max: Op = _scatter("scatter_max", _slices_at(np.maximum), _extremum_vjp(take, lambda: scatter_add),
                           "x with the larger of x and u at indices along an axis; NaN if either is")
scatter_min: Op = _scatter("scatter_min", _slices_at(np.minimum), _extremum_vjp(take, lambda: scatter_add),
                           "x with the smaller of x and u at indices along an axis; NaN if either is")
put_along_add: Op = _put_along("put_along_add", _elements_at(np.add), lambda g, y, x, i, u, *, axis: (g, None, take_along(g, i, axis=axis)),
                               "x with u added at indices along an axis: the adjoint of take_along")
put_along_set: Op = _put_along("put_along_set", _put_along_set, _put_along_set_vjp,
                               "x with u in place of what is at indices along an axis; of equal indices the last one wins")
put_along_max: Op = _put_along("put_along_max", _elements_at(np.maximum), _extremum_vjp(take_along, lambda: put_along_add),
                               "x with the larger of x and u at indices along an axis; NaN if either is")
put_along_min: Op = _put_along("put_along_min", _elements_at(np.minimum), _extremum_vjp(take_along, lambda: put_along_add),
                               "x with the smaller of x and u at indices along an axis; NaN if either is")
