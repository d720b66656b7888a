"""Where values are, and which there are. Sizes that depend on values are found eagerly, through NumPy, and refused in a trace with the reason."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..core.dtype import bool_, i64
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..ops import index
from ..trace.apply import apply
from ..trace.broadcast import as_size, as_tensor, cast, from_array, result_dtype
from ..trace.storage import Array
from ..trace.tape import current
from ..trace.tensor import Tensor
from .creation import full
from .elementwise import minimum, where
from .floats import isnan
from .indexing import take
from .logic import equal, not_equal
from .manipulation import flatten
from .sorting import sort


def _values(name: str, x: Any, fix: str) -> Array:
    """The elements of x, which must be known now."""
    x = as_tensor(x)
    if current.tracer is not None:
        raise GraphError(f"{name} of {x.type} in a compiled function", op=name, at=user_loc(),
                         why="the size of its result depends on the data, and sizes are fixed when the function is traced", fix=fix)
    return x._array()


def nonzero(x: Any, /) -> tuple[Tensor, ...]:
    """The places of what is not 0, in row-major order: for each axis the indices along it (i64). Not in a trace."""
    a = _values("nonzero", x, "gx.where(x != 0, ..., ...) keeps the shape; gx.argsort(x == 0) puts the places first")
    if a.ndim == 0:
        raise GraphError("nonzero of a tensor without axes", op="nonzero", at=user_loc(), fix="gx.reshape(x, (1,))")
    return tuple(from_array(i.astype(np.int64)) for i in np.nonzero(a))


class UniqueAll(NamedTuple):
    """`unique_all`: the values in rising order; where each comes first in x as if flat; which value each element of x is; how often each comes."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """`unique_counts`: the values in rising order, and how often each comes."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """`unique_inverse`: the values in rising order, and which of them each element of x is."""

    values: Tensor
    inverse_indices: Tensor


def unique_all(x: Any, /) -> UniqueAll:
    """The distinct values with all that is known of them. Each NaN is a value of its own; -0 is 0. Not in a trace."""
    a = _values("unique", x, "gx.sort(x), whose repeated values stand side by side")
    flat = a.reshape(-1)
    order = np.argsort(flat, kind="stable")
    rising = flat[order]
    first = np.ones(flat.size, bool)
    first[1:] = rising[1:] != rising[:-1]
    starts = np.flatnonzero(first)
    inverse = np.empty(flat.size, np.int64)
    inverse[order] = np.cumsum(first) - 1
    parts = rising[first], order[first].astype(np.int64), inverse.reshape(a.shape), np.diff(starts, append=flat.size).astype(np.int64)
    return UniqueAll(*map(from_array, parts))


def unique_counts(x: Any, /) -> UniqueCounts:
    """The distinct values, and how often each comes. Not in a trace."""
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: Any, /) -> UniqueInverse:
    """The distinct values, and which of them each element is. Not in a trace."""
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Any, /) -> Tensor:
    """The distinct values in rising order. Not in a trace."""
    return unique_all(x).values


def searchsorted(x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> Tensor:
    """Where each x2 would stand in x1, a 1-D tensor in rising order: before its equals, or with side="right" behind them (i64). NaN is largest.

    sorter: indices that put x1 in rising order, as `argsort` gives. A binary search: one gather for each binary digit of the size.
    """
    x, v = as_tensor(x1), as_tensor(x2)
    if x.ndim != 1 or side not in ("left", "right"):
        raise GraphError(f'searchsorted needs a 1-D tensor in rising order and side="left" or "right", got {x.type} and {side!r}', op="searchsorted",
                         at=user_loc())
    dtype = result_dtype([x, v])
    x, v = cast(x, dtype), cast(v, dtype)
    if sorter is not None:
        x = take(x, sorter, axis=0)
    n = as_size(x.shape[0]).__index__()
    at = full(v.shape, 0, dtype=i64)
    if n == 0:
        return at
    by = 1 << (n.bit_length() - 1)
    while by:                                           # the answer is at least `at`; is it `by` more?
        here = apply(index.take, x, minimum(at + (by - 1), n - 1), axis=0)
        before = _before(here, v) if side == "left" else ~_before(v, here)
        at = where(before & (at + by <= n), at + by, at)
        by >>= 1
    return at


def _before(a: Tensor, b: Tensor) -> Tensor:
    """a < b where NaN is the largest."""
    return a < b if not a.dtype.is_float else (a < b) | (isnan(b) & ~isnan(a))


def isin(x1: Any, x2: Any, /, *, invert: bool = False) -> Tensor:
    """Is each element of x1 in x2 (or, with invert, in none of it)? NaN is in nothing."""
    x, among = as_tensor(x1), flatten(as_tensor(x2))
    if among.shape[0] == 0:
        return full(x.shape, invert, dtype=bool_)
    dtype = result_dtype([x, among])
    rising = sort(cast(among, dtype))
    x = cast(x, dtype)
    at = minimum(searchsorted(rising, x), among.shape[0] - 1)
    found = apply(index.take, rising, at, axis=0)
    return not_equal(found, x) if invert else equal(found, x)
