"""Taking elements out: slices, integers, None, Ellipsis, integer tensors and masks as in NumPy. Writing is in `updates`.

An integer tensor as an index is checked at run time: an index that is out of range is an error of the call, before any state has changed.
"""
from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ..core.dims import Dim, product
from ..core.dtype import bool_, i64
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.record import dataclass
from ..ir.op import Op
from ..ops import index as ops
from ..ops import leaf, movement
from ..trace.apply import apply
from ..trace.broadcast import as_tensor, axis_index, broadcast_shapes, broadcast_to, cast, from_array
from ..trace.tape import current
from ..trace.tensor import Tensor
from .elementwise import where
from .manipulation import flip, narrow, permute_dims, reshape


def _checked(i: Tensor, size: Any, wrap: bool) -> Tensor:
    """Indices within 0..size-1; negative ones count from the end where wrap."""
    if not i.dtype.is_integer:
        raise GraphError(f"an index is an integer tensor, got {i.type}", at=user_loc(), fix=".astype(gx.int64)")
    if wrap and i.dtype.kind == "int":
        n: Any = size
        if i.dtype is not i64 and (isinstance(size, Dim) or size >> i.dtype.bits - 1):
            i = cast(i, i64)                            # its dtype does not hold the size
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
    """x[key], as in NumPy: integer tensors of one key broadcast, and masks stand for the places where they are true. x[True] is x[None]."""
    if _is_truth(key):
        return narrow(getitem(x, None), 0, 0, int(_truth(key)))
    parts = index_parts(x, key)
    out, _ = sliced(x, parts)
    if not any(isinstance(p, Tensor) for p in parts):
        return out
    g = gathering(out, parts)
    return apply(ops.take, g.rows, g.index, axis=g.axis)


def _is_truth(key: Any) -> bool:
    """A bool, or a mask without axes, as the whole key: it adds an axis, of size 1 or 0."""
    return isinstance(key, (bool, np.bool_)) or (_is_mask(key) and key.ndim == 0)


def _truth(key: Any) -> bool:
    if isinstance(key, Tensor) and current.tracer is not None:
        raise _data_dependent(key)
    return bool(key)


def index_parts(x: Tensor, key: Any) -> list[Any]:
    """The key as a list with an int, a slice or an integer tensor for each axis of x, and None for new ones."""
    parts = [_part(p) for p in (key if isinstance(key, tuple) else (key,))]
    used = sum(p.ndim if _is_mask(p) else 1 for p in parts if p is not None and p is not Ellipsis)
    if used > x.ndim or sum(p is Ellipsis for p in parts) > 1:
        raise GraphError(f"{used} indices for the {x.ndim} axes of {x.type}", op="getitem", at=user_loc())
    at = next((k for k, p in enumerate(parts) if p is Ellipsis), len(parts))
    parts[at:at + 1] = [slice(None)] * (x.ndim - used)
    out: list[Any] = []
    for p in parts:
        out += _places(x, p, sum(q is not None for q in out)) if _is_mask(p) else [p]
    return out


def _is_mask(p: Any) -> bool:
    return isinstance(p, (Tensor, np.ndarray)) and p.dtype in (bool_, np.bool_)


def _places(x: Tensor, mask: Any, axis: int) -> list[Tensor]:
    """The indices of what a mask holds, for each of its axes."""
    if mask.ndim == 0:
        raise GraphError("indexing with a bool among other indices", op="getitem", at=user_loc(), fix="gx.where(condition, x, 0) keeps the shape")
    if tuple(mask.shape) != x.shape[axis:axis + mask.ndim]:
        shape = ",".join(map(str, mask.shape))
        raise GraphError(f"a mask bool[{shape}] for axes {axis}..{axis + mask.ndim - 1} of {x.type}", op="getitem", at=user_loc(), why="a mask has their shape")
    if isinstance(mask, Tensor):
        if current.tracer is not None:
            raise _data_dependent(mask)
        mask = mask._array()
    return [from_array(i.astype(np.int64)) for i in np.nonzero(mask)]


def _data_dependent(mask: Tensor) -> GraphError:
    return GraphError(f"indexing with the mask {mask.type} gives a size that depends on data", op="getitem", at=user_loc(),
                      why="sizes are fixed when the function is traced", fix="gx.where(mask, x, 0) keeps the shape, x.at[mask].set(v) writes")


def _part(p: Any) -> Any:
    if p is None or isinstance(p, slice) or p is Ellipsis:
        return p
    if isinstance(p, (bool, np.bool_)):
        raise GraphError("indexing with a bool among other indices", op="getitem", at=user_loc(), fix="gx.where(condition, x, 0) keeps the shape")
    if isinstance(p, (list, np.ndarray)):
        a = np.asarray(p) if not isinstance(p, list) or p else np.zeros(0, np.int64)
        p = a if a.dtype == np.bool_ else as_tensor(p if a.size else a)
    if isinstance(p, np.ndarray):
        return p
    if isinstance(p, Tensor):
        if not p.dtype.is_integer and p.dtype is not bool_:
            raise GraphError(f"an index is an integer tensor, got {p.type}", op="getitem", at=user_loc(), fix=".astype(gx.int64)")
        return p
    if isinstance(p, Dim):
        return p
    try:
        return operator.index(p)
    except TypeError:
        raise GraphError(f"a {type(p).__name__} is no index", op="getitem", at=user_loc(), fix="ints, slices, None, ... and integer tensors are") from None


@dataclass(frozen=True, slots=True)
class Region:
    """What the slices and ints of a key leave of a tensor: start, stop and step >= 1 along each axis, and the axes that are then read backwards."""

    starts: tuple[int, ...]
    stops: tuple[Any, ...]
    steps: tuple[int, ...]
    backwards: tuple[int, ...]
    shape: tuple[Any, ...]      # before ints take their axes away and None adds some

    def is_all_of(self, x: Tensor) -> bool:
        return not any(self.starts) and self.stops == x.shape and all(s == 1 for s in self.steps)


def sliced(x: Tensor, parts: list[Any]) -> tuple[Tensor, Region]:
    """Slices and integers in one slice, flips for negative steps, then the axes that integers take away and None adds."""
    starts: list[int] = []
    stops: list[Any] = []
    steps: list[int] = []
    sizes: list[Any] = []
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
            sizes.append(n if (a, b, s) == (0, n, 1) else -(-(b - a) // s))
            shape.append(sizes[-1])
        elif isinstance(p, Tensor):
            a, b, s = 0, n, 1
            sizes.append(n)
            shape.append(n)
        else:
            if isinstance(n, Dim):
                raise GraphError(f"index {p} of the symbolic axis {axis} of {x.type}", op="getitem", at=user_loc(),
                                 fix="gx.take(x, gx.asarray(i), axis=...), which checks the index at run time")
            if not -n <= p < n:
                raise GraphError(f"index {p} is out of range for axis {axis} of {x.type}", op="getitem", at=user_loc(), why=f"indices are {-n}..{n - 1}")
            a, b, s = p % n, p % n + 1, 1
            sizes.append(1)
        starts.append(a)
        stops.append(b)
        steps.append(s)
        axis += 1
    region = Region(tuple(starts), tuple(stops), tuple(steps), tuple(backwards), tuple(sizes))
    if not region.is_all_of(x):
        x = apply(movement.slice_, x, starts=region.starts, stops=region.stops, steps=region.steps)
    if backwards:
        x = flip(x, axis=region.backwards)
    return (reshape(x, tuple(shape)) if tuple(shape) != x.shape else x), region     # an integer's axis is left out of `shape`


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


@dataclass(frozen=True, slots=True)
class Gathering:
    """Integer tensors of a key as one index along one axis: `rows` is the tensor with the axes of the indices together, `order` and `shape` lead back."""

    rows: Tensor
    index: Tensor
    axis: int
    order: tuple[int, ...]      # the axes of the tensor as they stand before those of the indices become one
    shape: tuple[Any, ...]      # the sizes then


def gathering(x: Tensor, parts: list[Any]) -> Gathering:
    """As in NumPy: the axes of the indices stand in the place of the indexed ones if these are neighbours in the key, else they come first."""
    kept = [p for p in parts if not isinstance(p, int)]
    axes = tuple(k for k, p in enumerate(kept) if isinstance(p, Tensor))
    indices = [_checked(p, n, True) for p, n in ((kept[a], x.shape[a]) for a in axes)]
    if len(indices) > 1:
        shape = broadcast_shapes("getitem", indices)
        indices = [broadcast_to(cast(i, i64), shape) for i in indices]
    taking = [k for k, p in enumerate(parts) if isinstance(p, (int, Tensor))]
    together = taking == list(range(taking[0], taking[-1] + 1))
    rest = [a for a in range(x.ndim) if a not in axes]
    at = sum(a < axes[0] for a in rest) if together else 0
    order = (*rest[:at], *axes, *rest[at:])
    x = permute_dims(x, order)
    index = indices[0]
    for i, n in zip(indices[1:], x.shape[at + 1:]):
        index = index * _extent(n) + i
    rows = x if len(axes) == 1 else reshape(x, (*x.shape[:at], product(x.shape[at:at + len(axes)]), *x.shape[at + len(axes):]))
    return Gathering(rows, index, at, order, x.shape)


def _extent(n: Any) -> Any:
    """A size as a number, or as a tensor where it is symbolic."""
    return n if isinstance(n, int) else apply(leaf.size, dim=n)


__all__ = ["check_index", "gather", "getitem", "pick", "put_along_axis", "scatter", "take", "take_along_axis"]
