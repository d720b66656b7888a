"""A result belongs to whoever holds it: a later call never writes into it, however large it is, and whatever view of it is held."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.executable import Native
from graphc.frame import LENT


@pytest.fixture
def double() -> Any:
    return gx.compile(lambda x: x * 2)


LARGE = np.zeros(LENT // 4 + 3, np.float32)


@pytest.mark.parametrize("size", [3, LARGE.size])
def test_held_results_stay(double: Any, size: int) -> None:
    held = [double(np.full(size, k, np.float32)) for k in range(4)]
    for k, y in enumerate(held):
        np.testing.assert_array_equal(y, np.full(size, 2 * k))
        y += 1                                          # and it is writable
    np.testing.assert_array_equal(double(np.full(size, 5, np.float32)), np.full(size, 10))
    np.testing.assert_array_equal(held[0], np.ones(size))


@pytest.mark.parametrize("view", [lambda y: y[1:], lambda y: y.reshape(-1, 1), lambda y: memoryview(y), lambda y: y.view(np.int32)], ids=range(4))
def test_held_views_stay(double: Any, view: Any) -> None:
    kept = view(double(LARGE + 1))
    before = np.array(kept)
    for k in range(3):
        double(LARGE + k)
    np.testing.assert_array_equal(np.array(kept), before)


def test_a_dropped_result_is_reused_and_a_held_one_is_not(double: Any) -> None:
    first = double(LARGE).ctypes.data
    assert isinstance(double.lowered.executable(), Native)
    assert double(LARGE).ctypes.data == first, "nobody held it"
    held = double(LARGE)
    other = double(LARGE)
    assert not np.shares_memory(held, other)


def test_two_buffers_take_turns_in_a_loop(double: Any) -> None:
    """The result that a name held before is written again when the name holds the next one; one that is held elsewhere is not."""
    seen, y = set(), None
    for k in range(6):
        y = double(LARGE + k)
        np.testing.assert_array_equal(y, np.full(LARGE.size, 2 * k))
        seen.add(y.ctypes.data)
    assert len(seen) == 2
    kept, view = y, double(LARGE + 6)[1:]
    for k in range(6):
        y = double(LARGE + k)
        assert not np.shares_memory(y, kept)
        assert not np.shares_memory(y, view)
    np.testing.assert_array_equal(kept, np.full(LARGE.size, 10))
    np.testing.assert_array_equal(view, np.full(LARGE.size - 1, 12))


def test_a_result_as_the_next_argument(double: Any) -> None:
    y = LARGE + 1
    for k in range(1, 5):
        y = double(y)
        np.testing.assert_array_equal(y, np.full(LARGE.size, 2 ** k))
