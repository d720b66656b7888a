"""What each element of a tensor may depend on: sets of a source's elements, and unions of them. NumPy on lists of indices; nothing here knows an op.

The `Reads` of a tensor are an array of its shape that holds for each element the number of a set, and a table of sets, one after the other like the rows
of a CSR matrix. Elements that depend on the same share a set: movement only moves numbers, and a sum that is repeated n times is one set. Set 0 is
empty. The propagation of index sets is that of Griewank and Walther (Evaluating Derivatives, section 7.1); that sets have numbers is ours.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.record import dataclass

Array = np.ndarray[Any, Any]
MOST = 1 << 26                                          # elements of sets at one time: half a gigabyte of indices


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Set k is members[starts[k]:starts[k + 1]], in rising order: numbers below n."""

    starts: Array
    members: Array
    n: int

    @property
    def sizes(self) -> Array:
        return np.diff(self.starts)

    @property
    def count(self) -> int:
        return len(self.starts) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Reads:
    """The number of its set for each element of a tensor."""

    which: Array
    table: Table

    def entries(self) -> tuple[Array, Array]:
        """Each element with each that it depends on: the rows and columns of a matrix, row by row."""
        flat, sizes = self.which.ravel(), self.table.sizes
        many = sizes[flat]
        at = np.repeat(self.table.starts[flat] + many - np.cumsum(many), many) + np.arange(many.sum())
        return np.repeat(np.arange(len(flat)), many), self.table.members[at]


def itself(shape: tuple[int, ...], first: int = 0, n: int | None = None) -> Reads:
    """Each element depends on one: the elements of the source from `first` on, which has n of them."""
    size = math.prod(shape)
    starts = np.maximum(np.arange(-1, size + 1), 0)
    return Reads(np.arange(1, size + 1).reshape(shape), Table(starts, np.arange(first, first + size), size if n is None else n))


def nothing(shape: tuple[int, ...], like: Table) -> Reads:
    return Reads(np.zeros(shape, np.int64), like)


def pooled(parts: Sequence[Reads]) -> tuple[list[Array], Table]:
    """The numbers of all parts, as numbers of one table."""
    tables = {id(p.table): p.table for p in parts}
    if len(tables) == 1:
        return [p.which for p in parts], parts[0].table
    shift: dict[int, int] = {}
    starts, members, sets, at = [np.zeros(1, np.int64)], [], 0, 0
    for key, t in tables.items():
        shift[key] = sets
        starts.append(t.starts[1:] + at)
        members.append(t.members)
        sets, at = sets + t.count, at + len(t.members)
    return [p.which + shift[id(p.table)] for p in parts], Table(np.concatenate(starts), np.concatenate(members), parts[0].table.n)


def union(rows: Array, sets: Array, shape: tuple[int, ...], table: Table) -> Reads:
    """Element r of a tensor of that shape, counted row by row, depends on what is in sets[k] for every k with rows[k] = r."""
    count, n, size = table.count, max(table.n, 1), math.prod(shape)
    rows, sets = np.divmod(distinct(rows.ravel() * count + sets.ravel()), count)
    many = table.sizes[sets]
    total = int(many.sum())
    if total > MOST:
        raise GraphError(f"this is not sparse: a tensor {list(shape)} on the way depends on {total:,} elements in all", at=user_loc(),
                         why=f"the pattern of derivatives is followed up to {MOST:,} of them",
                         fix="gx.jvp, gx.vjp or gx.hvp, which need no pattern; where a known one is sparse, pattern=")
    at = np.repeat(table.starts[sets] + many - np.cumsum(many), many) + np.arange(total)
    rows, members = np.divmod(distinct(np.repeat(rows, many) * n + table.members[at]), n)
    starts = np.zeros(size + 2, np.int64)
    np.cumsum(np.bincount(rows, minlength=size), out=starts[2:])
    return Reads(np.arange(1, size + 1).reshape(shape), Table(starts, members, table.n))


def distinct(keys: Array) -> Array:
    """Each key once, in rising order; the array given is sorted. (NumPy's `unique` hashes, which takes five times as long.)"""
    keys.sort()
    return keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys


def beside(a: Reads | None, b: Reads | None) -> Reads | None:
    """Of two tensors of one shape: what either depends on, place by place."""
    if a is None or b is None or a is b:
        return a or b
    (left, right), table = pooled((a, b))
    if a.table is b.table and np.array_equal(left, right):
        return a
    pairs, back = np.unique(left.ravel() * table.count + right.ravel(), return_inverse=True)
    both = union(np.repeat(np.arange(len(pairs)), 2), np.stack(np.divmod(pairs, table.count), 1), (len(pairs),), table)
    return Reads(both.which[back].reshape(left.shape), both.table)


def over(r: Reads, axes: Sequence[int]) -> Reads:
    """What the elements along some axes depend on together; the axes go away."""
    kept = tuple(n for a, n in enumerate(r.which.shape) if a not in axes)
    rows = np.broadcast_to(np.expand_dims(np.arange(math.prod(kept)).reshape(kept), tuple(axes)), r.which.shape)
    return union(rows, r.which, kept, r.table)


def everything(parts: Sequence[Reads]) -> Reads:
    """What any element of any part depends on, as one element."""
    ids, table = pooled(parts)
    sets = np.concatenate([i.ravel() for i in ids])
    return union(np.zeros(len(sets), np.int64), sets, (), table)


def composed(inner: Reads, sources: Array, table: Table) -> Reads:
    """inner depends on elements, of which in the case t element e depends on the set sources[t, e]: what inner depends on in every case."""
    t, cases = inner.table, len(sources)
    rows = np.arange(cases)[:, None] * t.count + np.repeat(np.arange(t.count), t.sizes)
    sets = union(rows, sources[:, t.members], (cases, t.count), table)
    return Reads(sets.which[:, inner.which], sets.table)


def closure(r: Reads) -> Reads:
    """Of a relation among the elements of one source, each related to itself: what is reached in any number of steps."""
    size = -1
    while len(r.table.members) != size:
        size = len(r.table.members)
        again = composed(r, r.which[None], r.table)
        r = Reads(again.which[0], again.table)
    return r
