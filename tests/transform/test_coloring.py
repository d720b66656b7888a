"""Colourings: entries are read back whole, numbers of colours are those of the literature, and a star colouring has no path of four in two colours."""
from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphc.transform.coloring import Coloring, Mode, colored, columns, stars

Array = np.ndarray[Any, Any]


def read_back(mask: Array, mode: str) -> Coloring:
    """Colour a pattern, compress a matrix that has it, and read the matrix back."""
    rows, cols = np.nonzero(mask)
    coloring = colored(rows, cols, mask.shape, mode)        # type: ignore[arg-type]
    values = np.where(mask, np.random.default_rng(0).uniform(1, 2, mask.shape), 0)
    values = values + values.T if mode == "symmetric" else values
    own = np.arange(coloring.count)[:, None] == coloring.colors
    sweeps = own @ (values if coloring.mode == "reverse" else values.T)
    np.testing.assert_allclose(sweeps[coloring.sweep, coloring.place], values[rows, cols])
    return coloring


def no_two_colored_path(mask: Array, colors: Array) -> bool:
    n = len(mask)
    edges = [[j for j in range(n) if mask[i, j] and i != j] for i in range(n)]
    return all(len({colors[a], colors[b], colors[c], colors[d]}) > 2
               for b in range(n) for a in edges[b] for c in edges[b] if c != a for d in edges[c] if d not in (a, b))


@given(st.integers(0, 12), st.integers(0, 12), st.floats(0, 1), st.integers(0, 999))
def test_every_pattern_is_read_back(m: int, n: int, share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((m, n)) < share
    few = {mode: read_back(mask, mode).count for mode in ("forward", "reverse", "auto")}
    assert few["auto"] == min(few["forward"], few["reverse"])
    assert few["forward"] >= mask.sum(1).max(initial=0)
    assert few["reverse"] >= mask.sum(0).max(initial=0)


@given(st.integers(0, 12), st.floats(0, 1), st.integers(0, 999))
def test_every_symmetric_pattern_is_read_back(n: int, share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((n, n)) < share
    mask |= mask.T
    coloring = read_back(mask, "symmetric")
    assert all(coloring.colors[i] != coloring.colors[j] for i, j in zip(*np.nonzero(mask)) if i != j)
    assert no_two_colored_path(mask, coloring.colors)


def band(n: int, lower: int, upper: int) -> Array:
    d = np.subtract.outer(np.arange(n), np.arange(n))
    return (d <= lower) & (-d <= upper)


def arrow(n: int) -> Array:
    out = np.eye(n, dtype=bool)
    out[0] = out[:, 0] = True
    return out


def grid(k: int) -> Array:
    """Five points of a k × k grid."""
    line = band(k, 1, 1)
    return np.kron(np.eye(k, dtype=bool), line) | np.kron(line, np.eye(k, dtype=bool))


@pytest.mark.parametrize(("mask", "forward", "auto"), [
    (np.eye(7, dtype=bool), 1, 1), (band(30, 1, 1), 3, 3), (band(30, 2, 4), 7, 7), (np.kron(np.eye(5), np.ones((3, 3))) > 0, 3, 3),
    (np.ones((2, 9), bool), 9, 2), (np.ones((9, 2), bool), 2, 2), (np.zeros((4, 3), bool), 0, 0), (arrow(12), 12, 12),
    (np.eye(20, dtype=bool) | (np.arange(20) == 4)[:, None], 20, 2),       # a full row and a diagonal: two rows at a time are all
    (np.eye(20, dtype=bool) | (np.arange(20) == 4), 2, 2)])
def test_known_numbers(mask: Array, forward: int, auto: int) -> None:
    assert read_back(mask, "forward").count == forward
    assert read_back(mask, "auto").count == auto


@pytest.mark.parametrize(("mask", "count"), [(np.eye(5, dtype=bool), 1), (np.zeros((3, 3), bool), 0), (band(30, 1, 1), 3), (arrow(12), 2),
                                             (arrow(12)[::-1, ::-1], 2), (np.ones((5, 5), bool), 5), (np.kron(np.eye(4), np.ones((2, 2))) > 0, 2)])
def test_known_numbers_of_symmetric_patterns(mask: Array, count: int) -> None:
    assert read_back(mask, "symmetric").count == count


def test_a_grid_takes_few() -> None:
    """Five at least by columns, for a point and its neighbours all differ; a symmetric one may take fewer."""
    assert 5 <= read_back(grid(9), "forward").count <= 7
    assert read_back(grid(9), "symmetric").count <= 5


def test_large_patterns_are_linear_work() -> None:
    """A hundred thousand columns, with a full row among them: the algorithms look at each entry a few times, or this would not end."""
    n = 100_000
    i = np.arange(n)
    rows, cols = np.concatenate([i, i[1:], i[:-1]]), np.concatenate([i, i[:-1], i[1:]])
    by = np.lexsort((cols, rows))
    assert columns(rows[by], cols[by], (n, n)).max() == 2
    rows, cols = np.concatenate([i, 0 * i[1:], i[1:]]), np.concatenate([i, i[1:], 0 * i[1:]])
    by = np.lexsort((cols, rows))
    assert stars(rows[by], cols[by], n).max() == 1


def test_modes_are_all_there() -> None:
    assert set(get_args(Mode)) == {"forward", "reverse", "symmetric"}
    assert repr(read_back(band(5, 1, 1), "reverse")) == "Coloring(reverse, 3 colors)"
