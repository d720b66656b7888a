"""Indexing by data. A gather clamps, so that it can never read outside; what makes a bad index an error is `check_index`, which comes before it."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..core.errors import GraphError, GraphIndexError
from ..core.types import TensorType, Type
from ..ir.op import Op, register
from .check import Array, axis_of, tensor
from .leaf import splat


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


check_index: Op = register(Op("check_index", "index", lambda t, *, size: _indices("check_index", t), _check_index, "zero",
                          "The indices themselves; an error if one is not in 0..size-1, before any state has changed",
                          lambda rng: [([rng.integers(0, 5, (3, 4))], {"size": 5})]))


def _take_type(t: Type, i: Type, *, axis: int) -> TensorType:
    t, i = tensor("take", t), _indices("take", i)
    axis_of("take", axis, t.rank)
    if t.shape[axis] == 0 and i.size != 0:
        raise GraphError(f"take from an empty axis: {t} along axis {axis}")
    return TensorType((*t.shape[:axis], *i.shape, *t.shape[axis + 1:]), t.dtype)


take: Op = register(Op("take", "index", _take_type, lambda x, i, *, axis: np.take(x, i, axis, mode="clip"),
                   lambda g, y, x, i, *, axis: (scatter_add(splat(0.0, x), i, g, axis=axis), None), "Slices of x at indices along an axis",
                   lambda rng: [([rng.standard_normal((3, 4)), rng.integers(0, 3, (2, 2))], {"axis": 0}),
                                ([rng.standard_normal((3, 4)), rng.integers(0, 4, (5,))], {"axis": 1}),
                                ([rng.standard_normal((3, 4)), np.asarray(2)], {"axis": 1})]))


def _scatter_type(t: Type, i: Type, u: Type, *, axis: int) -> TensorType:
    t = tensor("scatter_add", t)
    want = _take_type(t, i, axis=axis)
    if u != want:
        raise GraphError(f"scatter_add into {t} at {i} along axis {axis} needs updates {want}, got {u}")
    return t


def _scatter_add(x: Array, i: Array, u: Array, *, axis: int) -> Array:
    out: Array = x.copy()
    at: tuple[Any, ...] = (slice(None),) * axis + (_clipped(i, x.shape[axis]),)
    np.add.at(out, at, u)
    return out


scatter_add: Op = register(Op("scatter_add", "index", _scatter_type, _scatter_add, lambda g, y, x, i, u, *, axis: (g, None, take(g, i, axis=axis)),
                          "x with u added at indices along an axis, in the order of the indices: the adjoint of take",
                          lambda rng: [([rng.standard_normal((3, 4)), rng.integers(0, 3, (5,)), rng.standard_normal((5, 4))], {"axis": 0}),
                                       ([rng.standard_normal((3, 4)), rng.integers(0, 4, (2, 2)), rng.standard_normal((3, 2, 2))], {"axis": 1})]))


def _along(name: str, t: TensorType, i: TensorType, axis: int) -> None:
    axis_of(name, axis, t.rank)
    if i.rank != t.rank or any(a != axis and n != m for a, (n, m) in enumerate(zip(t.shape, i.shape))):
        raise GraphError(f"{name} along axis {axis} needs indices of equal other axes, got {t} and {i}")


def _take_along_type(t: Type, i: Type, *, axis: int) -> TensorType:
    t, i = tensor("take_along", t), _indices("take_along", i)
    _along("take_along", t, i, axis)
    return TensorType(i.shape, t.dtype)


def _clipped(i: Array, n: int) -> Array:
    return np.asarray(np.clip(i, 0, max(n - 1, 0)))


take_along: Op = register(Op("take_along", "index", _take_along_type, lambda x, i, *, axis: np.take_along_axis(x, _clipped(i, x.shape[axis]), axis),
                         lambda g, y, x, i, *, axis: (put_along_add(splat(0.0, x), i, g, axis=axis), None),
                         "x at indices along an axis, one index for each place of the other axes",
                         lambda rng: [([rng.standard_normal((3, 4)), rng.integers(0, 4, (3, 1))], {"axis": 1}),
                                      ([rng.standard_normal((3, 4)), rng.integers(0, 3, (5, 4))], {"axis": 0})]))


def _put_type(t: Type, i: Type, u: Type, *, axis: int) -> TensorType:
    t, i, u = tensor("put_along_add", t), _indices("put_along_add", i), tensor("put_along_add", u)
    _along("put_along_add", t, i, axis)
    if u != TensorType(i.shape, t.dtype):
        raise GraphError(f"put_along_add into {t} at {i} needs updates {TensorType(i.shape, t.dtype)}, got {u}")
    return t


def _put_along_add(x: Array, i: Array, u: Array, *, axis: int) -> Array:
    out: Array = x.copy()
    at: list[Any] = list(np.indices(i.shape, sparse=True))
    at[axis] = _clipped(i, x.shape[axis])
    np.add.at(out, tuple(at), u)
    return out


put_along_add: Op = register(Op("put_along_add", "index", _put_type, _put_along_add, lambda g, y, x, i, u, *, axis: (g, None, take_along(g, i, axis=axis)),
                            "x with u added at indices along an axis: the adjoint of take_along",
                            lambda rng: [([rng.standard_normal((3, 4)), rng.integers(0, 4, (3, 1)), rng.standard_normal((3, 1))], {"axis": 1}),
                                         ([rng.standard_normal((3, 4)), rng.integers(0, 3, (5, 4)), rng.standard_normal((5, 4))], {"axis": 0})]))

