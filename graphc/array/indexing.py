"""Taking elements out: slices, integers, None and Ellipsis as in NumPy, and integer tensors along one axis.

An integer tensor as an index is checked at run time: an index that is out of range is an error of the call, before any state has changed.
"""
from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ..core.dims import Dim
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..ir.op import Op
from ..ops import index as ops
from ..ops import movement
from ..trace.apply import apply
from ..trace.broadcast import as_tensor, axis_index, broadcast_to, cast
from ..trace.tensor import Tensor
from .elementwise import where
from .manipulation import flip, reshape


def _checked(i: Tensor, size: Any, wrap: bool) -> Tensor:
    """Indices within 0..size-1; negative ones count from the end where wrap."""
    if not i.dtype.is_integer:
        raise GraphError(f"an index is an integer tensor, got {i.type}", at=user_loc(), fix=".astype(gx.int64)")
    if wrap and i.dtype.kind == "int":
        n: Any = size
        if isinstance(size, Dim):
            from .creation import iota
            from .statistics import max as max_
            n = cast(max_(iota((size,))) + 1, i.dtype)
        i = where(i < 0, i + n, i)
    return apply(ops.check_index, i, size=size)


def check_index(i: Any, size: Any) -> Tensor:
    """The integer tensor itself, where the call raises GraphIndexError, before any state has changed, if an element is not in 0..size-1."""
    return _checked(as_tensor(i), size, False)


def take(x: Any, indices: Any, /, *, axis: int | None = None) -> Tensor:
    """Slices of x at indices along an axis; the indices may have any shape, which stands in the place of the axis. Negative ones count from the end."""
    x, i = as_tensor(x), as_tensor(indices)
    if axis is None:
        if x.ndim != 1:
            raise GraphError(f"take from {x.type} needs an axis", at=user_loc())
        axis = 0
    axis = axis_index("take", axis, x.ndim)
    return apply(ops.take, x, _checked(i, x.shape[axis], True), axis=axis)


def take_along_axis(x: Any, indices: Any, /, axis: int = -1) -> Tensor:
    """x at indices along an axis, one for each place of the others (which broadcast). Negative ones count from the end."""
    return _along(x, indices, axis, True)


def pick(x: Any, indices: Any, axis: int = -1) -> Tensor:
    """take_along_axis where a negative index is an error: for labels."""
    return _along(x, indices, axis, False)


gather = pick


def _along(x: Any, indices: Any, axis: int, wrap: bool) -> Tensor:
    x, i = as_tensor(x), as_tensor(indices)
    axis = axis_index("take_along_axis", axis, x.ndim)
    if i.ndim != x.ndim:
        raise GraphError(f"take_along_axis needs indices of {x.ndim} axes, got {x.type} at {i.type}", at=user_loc(), fix="expand_dims(indices, axis)")
    shape = tuple(i.shape[a] if a == axis else n for a, n in enumerate(x.shape))
    return apply(ops.take_along, x, _checked(broadcast_to(i, shape), x.shape[axis], wrap), axis=axis)


_MODES = ("set", "add", "max", "min")


def scatter(x: Any, indices: Any, updates: Any, *, axis: int = 0, mode: str = "set") -> Tensor:
    """x with slices written at indices along an axis: `updates` has (or broadcasts to) the shape of take(x, indices, axis=axis).

    mode: "set" (of equal indices the last wins), "add", "max", "min"; always in the order of the indices, so the same bits each time. Negative
    indices count from the end. gx.scatter(gx.zeros((n, d)), segment, values, mode="add") is a segment sum.
    """
    x, i, op = as_tensor(x), as_tensor(indices), _writer("scatter", mode)
    axis = axis_index("scatter", axis, x.ndim)
    u = broadcast_to(cast(as_tensor(updates), x.dtype), (*x.shape[:axis], *i.shape, *x.shape[axis + 1:]))
    return apply(op, x, _checked(i, x.shape[axis], True), u, axis=axis)


def put_along_axis(x: Any, indices: Any, updates: Any, axis: int = -1, *, mode: str = "set") -> Tensor:
    """x with elements written at indices along an axis, one index for each place of the others (which broadcast): take_along_axis the other way.

    The modes are scatter's.
    """
    x, i, op = as_tensor(x), as_tensor(indices), _writer("put_along", mode)
    axis = axis_index("put_along_axis", axis, x.ndim)
    if i.ndim != x.ndim:
        raise GraphError(f"put_along_axis needs indices of {x.ndim} axes, got {x.type} at {i.type}", at=user_loc(), fix="expand_dims(indices, axis)")
    i = broadcast_to(i, tuple(i.shape[a] if a == axis else n for a, n in enumerate(x.shape)))
    return apply(op, x, _checked(i, x.shape[axis], True), broadcast_to(cast(as_tensor(updates), x.dtype), i.shape), axis=axis)


def _writer(family: str, mode: str) -> Op:
    if mode not in _MODES:
        raise GraphError(f"there is no mode {mode!r}", at=user_loc(), why=f"modes are {', '.join(_MODES)}")
    op: Op = getattr(ops, f"{family}_{mode}")
    return op


def getitem(x: Tensor, key: Any) -> Tensor:
    """x[key]."""
    parts = list(key) if isinstance(key, tuple) else [key]
    parts = [_part(p) for p in parts]
    used = sum(1 for p in parts if p is not None and p is not Ellipsis)
    if used > x.ndim or sum(p is Ellipsis for p in parts) > 1:
        raise GraphError(f"{used} indices for the {x.ndim} axes of {x.type}", op="getitem", at=user_loc())
    at = next((k for k, p in enumerate(parts) if p is Ellipsis), len(parts))
    parts[at:at + 1] = [slice(None)] * (x.ndim - used)
    if sum(isinstance(p, Tensor) for p in parts) > 1:
        raise GraphError("indexing with tensors on more than one axis", op="getitem", at=user_loc(), fix="take_along_axis, or take on one axis at a time")
    return _gathered(_sliced(x, parts), parts)


def _part(p: Any) -> Any:
    if p is None or isinstance(p, slice) or p is Ellipsis:
        return p
    if isinstance(p, (bool, np.bool_)):
        raise GraphError("indexing with a bool", op="getitem", at=user_loc(), fix="gx.where(condition, x, 0) keeps the shape")
    if isinstance(p, (list, np.ndarray)):
        p = as_tensor(p)
    if isinstance(p, Tensor):
        if p.dtype.kind == "bool":
            raise GraphError(f"indexing with the mask {p.type} gives a size that depends on data", op="getitem", at=user_loc(),
                             fix="gx.where(mask, x, 0) keeps the shape")
        if not p.dtype.is_integer:
            raise GraphError(f"an index is an integer tensor, got {p.type}", op="getitem", at=user_loc(), fix=".astype(gx.int64)")
        return p
    if isinstance(p, Dim):
        return p
    try:
        return operator.index(p)
    except TypeError:
        raise GraphError(f"a {type(p).__name__} is no index", op="getitem", at=user_loc(), fix="ints, slices, None, ... and integer tensors are") from None


def _sliced(x: Tensor, parts: list[Any]) -> Tensor:
    """Slices and integers in one slice, flips for negative steps, then the axes that integers take away and None adds."""
    starts: list[int] = []
    stops: list[Any] = []
    steps: list[int] = []
    backwards, shape, axis = [], [], 0
    for p in parts:
        if p is None:
            shape.append(1)
            continue
        n = x.shape[axis]
        if isinstance(p, slice):
            a, b, s, flipped = _bounds(p, n, axis, x)
            if flipped:
                backwards.append(axis)
            shape.append(n if (a, b, s) == (0, n, 1) else -(-(b - a) // s))
        elif isinstance(p, Tensor):
            a, b, s = 0, n, 1
            shape.append(n)
        else:
            if isinstance(n, Dim):
                raise GraphError(f"index {p} of the symbolic axis {axis} of {x.type}", op="getitem", at=user_loc(),
                                 fix="gx.take(x, gx.asarray(i), axis=...), which checks the index at run time")
            if not -n <= p < n:
                raise GraphError(f"index {p} is out of range for axis {axis} of {x.type}", op="getitem", at=user_loc(), why=f"indices are {-n}..{n - 1}")
            a, b, s = p % n, p % n + 1, 1
        starts.append(a)
        stops.append(b)
        steps.append(s)
        axis += 1
    if any(a != 0 for a in starts) or tuple(stops) != x.shape or any(s != 1 for s in steps):
        x = apply(movement.slice_, x, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))
    if backwards:
        x = flip(x, axis=tuple(backwards))
    return reshape(x, tuple(shape)) if tuple(shape) != x.shape else x            # an integer's axis is left out of `shape`


def _bounds(p: slice, n: Any, axis: int, x: Tensor) -> tuple[int, Any, int, bool]:
    """start, stop, step >= 1, and whether the result is then read backwards."""
    if p == slice(None):
        return 0, n, 1, False
    if isinstance(n, Dim):
        if p == slice(None, None, -1):
            return 0, n, 1, True
        raise GraphError(f"a slice of the symbolic axis {axis} of {x.type}", op="getitem", at=user_loc(),
                         why=f"{p.start}:{p.stop}:{p.step} of {n} has no fixed size", fix="slice another axis, or compile for a fixed size")
    a, b, s = p.indices(n)
    if s > 0:
        return a, max(a, b), s, False
    k = max(0, -(-(a - b) // -s))                                       # as many elements: a, a + s, ..., read backwards they are a + (k-1)s, ..., a
    low = a + (k - 1) * s if k else 0
    return (low, a + 1, -s, True) if k else (0, 0, 1, False)


def _gathered(x: Tensor, parts: list[Any]) -> Tensor:
    axis = 0
    for p in parts:
        if isinstance(p, Tensor):
            return take(x, p, axis=axis)
        axis += 0 if isinstance(p, int) and p is not None else 1
    return x


__all__ = ["check_index", "gather", "getitem", "pick", "put_along_axis", "scatter", "take", "take_along_axis"]
