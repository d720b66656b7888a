"""Which columns (or rows) of a sparse matrix share a sweep: colourings of its pattern, and where each entry then stands. NumPy and Python's integers.

Columns that share no row can be summed up and told apart again (A. Curtis, M. Powell and J. Reid, 1974); to find few such groups is to colour a graph
(T. Coleman and J. Moré, 1983). A symmetric matrix needs fewer groups, for an entry may be read in its own column or in its mirror's: a star colouring
(A. Gebremedhin, F. Manne and A. Pothen, "What color is your Jacobian?", 2005, sections 3 and 4). All are greedy, with a second look that can
only lower the number (J. Culberson, "Iterated greedy graph coloring", 1992). The sets of colours are the bits of integers, so a full row costs a few words.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from ..core.record import dataclass

Array = np.ndarray[Any, Any]
Mode = Literal["forward", "reverse", "symmetric"]
Lists = tuple[Array, Array]                             # of a matrix row by row: where each row starts, and its columns
Greedy = Callable[[Sequence[int]], "list[int]"]         # the order in which columns are coloured → their colours
LOOKS, ENTRIES = 8, 1 << 20                             # how often it is tried again, and how many entries are looked at for that


@dataclass(frozen=True, slots=True, eq=False)
class Coloring:
    """`colors[k]` is the sweep of column k ("reverse": of row k); entry k of the pattern is element `sweep[k], place[k]` of what the sweeps gave."""

    mode: Mode
    colors: Array
    count: int
    sweep: Array
    place: Array

    def __repr__(self) -> str:
        return f"Coloring({self.mode}, {self.count} colors)"


def by_row(rows: Array, cols: Array, m: int) -> Lists:
    """The columns of each row, where the entries are sorted by rows."""
    starts = np.zeros(m + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=m), out=starts[1:])
    return starts, cols


def columns(rows: Array, cols: Array, shape: tuple[int, int]) -> Array:
    """A colour for each column: two that share a row differ. Entries are sorted by rows."""
    m, n = shape
    by = np.argsort(cols, kind="stable")
    starts, members = (a.tolist() for a in by_row(cols[by], rows[by], n))
    degree = np.bincount(cols, minlength=n)

    def greedy(order: Sequence[int]) -> list[int]:
        used, colors = [0] * m, [0] * n                 # of each row the colours that its columns have
        for j in order:
            mine, taken = members[starts[j]:starts[j + 1]], 0
            for r in mine:
                taken |= used[r]
            bit = ~taken & (taken + 1)                  # the lowest that is free
            colors[j] = bit.bit_length() - 1
            for r in mine:
                used[r] |= bit
        return colors

    at_least = int(np.bincount(rows, minlength=1).max())                # the columns of one row all differ
    return _best(greedy, degree, at_least, len(rows))


def stars(rows: Array, cols: Array, n: int) -> Array:
    """A colour for each column of a symmetric matrix: neighbours differ, and a path of four has three colours at least."""
    off = rows != cols
    rows, cols = rows[off], cols[off]
    starts, members = (a.tolist() for a in by_row(rows, cols, n))
    degree = np.bincount(rows, minlength=n)

    def greedy(order: Sequence[int]) -> list[int]:
        colors = [-1] * n
        near = [0] * n                                  # colours among the neighbours of a column
        twice = [0] * n                                 # those of more than one: with them it is the middle of a star
        middles = [0] * n                               # of a column that is an end of stars: the colours of their middles
        first: list[dict[int, int]] = [{} for _ in range(n)]            # the first neighbour of each colour
        for j in order:
            mine = members[starts[j]:starts[j + 1]]
            taken, doubled = near[j], twice[j]
            for w in mine:
                if (c := colors[w]) >= 0:
                    taken |= middles[w]                 # j - w - x - y, where w and y are alike: j may not be as x
                    if doubled >> c & 1:
                        taken |= near[w]                # y - j - w - x, where y and w are alike: neither
            bit = ~taken & (taken + 1)
            colors[j] = k = bit.bit_length() - 1
            for w in mine:
                c = colors[w]
                if c >= 0 and doubled >> c & 1:
                    middles[w] |= bit                   # j is the middle
                if not near[w] & bit:
                    near[w] |= bit
                    first[w][k] = j
                else:
                    if not twice[w] & bit:
                        twice[w] |= bit
                        if c >= 0:
                            middles[first[w][k]] |= 1 << c
                    if c >= 0:
                        middles[j] |= 1 << c
        return colors

    inner = (degree[rows] > 1) & (degree[cols] > 1)     # an edge between two that have others is in a path of four, or in a triangle
    return _best(greedy, degree, 3 if inner.any() else 2 if len(rows) else 1, len(rows))


def _best(greedy: Greedy, degree: Array, at_least: int, entries: int) -> Array:
    """The fewest colours of some orders: as they stand, fullest first, then colour by colour of the best so far, the last first."""
    n = len(degree)
    best = np.asarray(greedy(range(n)), np.int64)
    count = int(best.max(initial=-1)) + 1
    if count <= at_least:
        return best
    other = np.asarray(greedy(np.argsort(-degree, kind="stable").tolist()), np.int64)
    if other.max() + 1 < count:
        best, count = other, int(other.max()) + 1
    now = best
    for look in range(min(LOOKS, ENTRIES // max(entries, 1))):
        if count <= at_least:
            break
        key = -now if look % 2 == 0 else np.bincount(now)[now]          # backwards, or small ones first
        now = np.asarray(greedy(np.lexsort((now, key)).tolist()), np.int64)
        if now.max() + 1 < count:
            best, count = now, int(now.max()) + 1
    return best


# ---- how each entry is read ------------------------------------------------------------------------------------------------------------


def colored(rows: Array, cols: Array, shape: tuple[int, int], mode: Mode | Literal["auto"]) -> Coloring:
    """The colouring for a way of sweeping; "auto": by columns (forward) or by rows (reverse), whichever has fewer, by columns where they are equal."""
    if mode == "symmetric":
        return _symmetric(rows, cols, shape[0])
    ahead = _coloring("forward", columns(rows, cols, shape), cols, rows) if mode != "reverse" else None
    if ahead is not None and (mode == "forward" or ahead.count <= 1 or ahead.count <= np.bincount(cols).max()):
        return ahead                                                    # no fewer sweeps backwards than a column has entries
    by = np.argsort(cols, kind="stable")
    back = _coloring("reverse", columns(cols[by], rows[by], (shape[1], shape[0])), rows, cols)
    return back if ahead is None or back.count < ahead.count else ahead


def _coloring(mode: Mode, colors: Array, own: Array, place: Array) -> Coloring:
    return Coloring(mode, colors, int(colors[own].max(initial=-1)) + 1, colors[own], place)


def _symmetric(rows: Array, cols: Array, n: int) -> Coloring:
    """H[i, j] stands in row i of j's sweep, if j is alone there; else i is alone in row j, and that is the same number."""
    colors = stars(rows, cols, n)
    count = int(colors.max(initial=-1)) + 1
    key = rows * max(count, 1) + colors[cols]
    _, back, many = np.unique(key, return_inverse=True, return_counts=True)
    alone = many[back] == 1
    return Coloring("symmetric", colors, count if len(rows) else 0, colors[np.where(alone, cols, rows)], np.where(alone, rows, cols))
