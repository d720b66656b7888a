"""New tensors that differ from a tensor at an index: x.at[key].set(v) and its like, under JAX's names, and x[key] = v.

A slice is written by padding and choosing, which fuses with what is around; integer tensors by a scatter, in the order of the indices. Nothing is
written in place: `x[key] = v` lets x be the new tensor from there on, and tensors that were made from x keep their values.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.dtype import bool_
from ..core.errors import GraphError, GraphTypeError
from ..core.loc import user_loc
from ..core.record import dataclass
from ..ops import index as ops
from ..trace.apply import apply
from ..trace.broadcast import as_tensor, cast
from ..trace.tensor import Tensor
from .creation import iota, ones, ones_like
from .elementwise import add, divide, maximum, minimum, multiply, negative, where
from .indexing import Region, gathering, getitem, index_parts, sliced
from .manipulation import broadcast_to, concat, flip, moveaxis, narrow, pad, permute_dims, reshape
from .sorting import argsort

_COMBINE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"set": lambda x, u: u, "add": add, "multiply": multiply, "min": minimum, "max": maximum}

_RANKS = {"bool": 0, "int": 1, "uint": 1}               # then the floats


class At:
    """`x.at`: indexing it gives a `Place`."""

    def __init__(self, x: Tensor) -> None:
        self._x = x

    def __getitem__(self, key: Any) -> Place:
        return Place(self._x, key)


@dataclass(frozen=True, slots=True)
class Place:
    """`x.at[key]`: each method gives x with what is at the key changed. Values broadcast to x[key] and are converted to the dtype of x.

    An index that comes several times counts each time, in order: of several `set` the last one stays. Masks may be tensors, in a trace too, if one is
    the whole key and the value has no axis of the mask's. Gradients flow to x and to the values.

    >>> import graphc as gx
    >>> gx.zeros(5).at[1::2].set(gx.tensor([1.0, 2.0])).at[gx.tensor([0, 0])].add(3.0)
    tensor([6., 1., 0., 2., 0.])
    """

    x: Tensor
    key: Any

    def get(self) -> Tensor:
        """x[key]."""
        return getitem(self.x, self.key)

    def set(self, value: Any) -> Tensor:
        """With the value there."""
        return _update(self.x, self.key, value, "set")

    def add(self, value: Any) -> Tensor:
        """With the value added."""
        return _update(self.x, self.key, value, "add")

    def subtract(self, value: Any) -> Tensor:
        """With the value taken away."""
        return _update(self.x, self.key, negative(value), "add")

    def multiply(self, value: Any) -> Tensor:
        """Times the value."""
        return _update(self.x, self.key, value, "multiply")

    def divide(self, value: Any) -> Tensor:
        """Over the value; of floating tensors."""
        if not self.x.dtype.is_float:
            raise GraphTypeError(f"at[...].divide of {self.x.type}", at=user_loc(), fix=".astype(gx.float32) first")
        return divide(self.x, _update(ones_like(self.x), self.key, value, "multiply"))

    def min(self, value: Any) -> Tensor:
        """With the smaller of what is there and the value."""
        return _update(self.x, self.key, value, "min")

    def max(self, value: Any) -> Tensor:
        """With the larger of what is there and the value."""
        return _update(self.x, self.key, value, "max")


def at(x: Tensor) -> At:
    """`x.at`."""
    return At(x)


def setitem(x: Tensor, key: Any, value: Any) -> None:
    """x[key] = value: x is x.at[key].set(value) from here on."""
    x._become(lambda: _update(x, key, value, "set"), value)


def _update(x: Tensor, key: Any, value: Any, mode: str) -> Tensor:
    u = as_tensor(value)
    if _RANKS.get(u.dtype.kind, 2) > _RANKS.get(x.dtype.kind, 2):
        raise GraphTypeError(f"a value {u.type} written into {x.type}", at=user_loc(), why="it would lose what makes it more than that",
                             fix="convert one of them with .astype(...)")
    u = cast(u, x.dtype)
    if isinstance(key, (bool, np.bool_)):
        key = np.asarray(key)
    if isinstance(key, (Tensor, np.ndarray)) and key.dtype in (bool_, np.bool_) and u.ndim <= x.ndim - key.ndim:
        return _masked(x, as_tensor(key), u, mode)
    parts = index_parts(x, key)
    view, region = sliced(x, parts)
    if any(isinstance(p, Tensor) for p in parts):
        return _put(x, region, _scattered(view, parts, u, mode))
    return _put(x, region, _COMBINE[mode](view, _fit(u, view.shape)))


def _fit(u: Tensor, shape: tuple[Any, ...]) -> Tensor:
    """The value in the shape of the place."""
    while u.ndim > len(shape) and u.shape[0] == 1:
        u = reshape(u, u.shape[1:])
    return broadcast_to(u, shape)


def _masked(x: Tensor, mask: Tensor, u: Tensor, mode: str) -> Tensor:
    if mask.shape != x.shape[:mask.ndim]:
        raise GraphError(f"a mask {mask.type} for {x.type}", at=user_loc(), why="a mask has the shape of the first axes")
    mask = broadcast_to(reshape(mask, (*mask.shape, *(1 for _ in x.shape[mask.ndim:]))), x.shape)
    return where(mask, _COMBINE[mode](x, broadcast_to(u, x.shape)), x)


def _put(x: Tensor, r: Region, view: Tensor) -> Tensor:
    """x with the view back in its region: `sliced` the other way round."""
    y = reshape(view, r.shape)
    if r.backwards:
        y = flip(y, axis=r.backwards)
    return y if r.is_all_of(x) else _written(x, y, r.starts, r.stops, r.steps)


def _written(x: Tensor, y: Tensor, starts: tuple[int, ...], stops: tuple[Any, ...], steps: tuple[int, ...]) -> Tensor:
    for a, s in enumerate(steps):
        if s > 1 and y.shape[a] > 1:                    # whole slices along one axis: what is there already, with y in it
            there = list(zip((0,) * x.ndim, x.shape, (1,) * x.ndim))
            there[a] = (starts[a], stops[a], s)
            old = getitem(x, tuple(slice(*t) for t in there))
            rest = [list(t) for t in (starts, stops, steps)]
            rest[0][a], rest[1][a], rest[2][a] = 0, y.shape[a], 1
            new = _written(old, y, *map(tuple, rest))
            return apply(ops.scatter_set, x, iota((y.shape[a],)) * s + starts[a], new, axis=a)
    if y.shape == x.shape:
        return y
    widths = [(a, 0 if a == 0 and m == n else n - a - m) for a, n, m in zip(starts, x.shape, y.shape)]
    return where(pad(ones(shape=y.shape, dtype=bool_), widths), pad(y, widths), x)


def _scattered(view: Tensor, parts: list[Any], u: Tensor, mode: str) -> Tensor:
    """The view with values written at the integer tensors of a key."""
    g = gathering(view, parts)
    u = _fit(u, (*g.rows.shape[:g.axis], *g.index.shape, *g.rows.shape[g.axis + 1:]))
    if mode == "multiply":
        out = _scatter_multiply(g.rows, g.index, u, g.axis)
    else:
        out = apply(getattr(ops, f"scatter_{mode}"), g.rows, g.index, u, axis=g.axis)
    return permute_dims(reshape(out, g.shape), tuple(g.order.index(a) for a in range(len(g.order))))


def _scatter_multiply(x: Tensor, i: Tensor, u: Tensor, axis: int) -> Tensor:
    """x times u at indices along an axis. The values of equal indices are brought together by a sort and multiplied in log2(n) rounds."""
    n = i.size
    i, u = reshape(i, (n,)), moveaxis(reshape(u, (*x.shape[:axis], n, *x.shape[axis + 1:])), axis, 0)
    order = argsort(i)
    i, u = (apply(ops.take, t, order, axis=0) for t in (i, u))
    by = 1
    while by < n:                                       # u[k]: the product of the last 2 by - 1 or fewer values up to k that share k's index
        same = reshape(narrow(i, 0, by, n) == narrow(i, 0, 0, n - by), (n - by, *(1 for _ in u.shape[1:])))
        later = narrow(u, 0, by, n)
        u = concat([narrow(u, 0, 0, by), where(same, later * narrow(u, 0, 0, n - by), later)])
        by *= 2
    product = moveaxis(u, 0, axis) * apply(ops.take, x, i, axis=axis)
    return apply(ops.scatter_set, x, i, product, axis=axis)
