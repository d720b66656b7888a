"""Samplers, prefetching, and going on from a position."""
from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from graphc.core.errors import GraphError
from graphc.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler


def threads() -> int:
    return sum(t.name == "graphc-prefetch" for t in threading.enumerate())


def soon(condition: Any) -> bool:
    until = time.monotonic() + 10
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    return bool(condition())


# ---- samplers ------------------------------------------------------------------------------------------------------------------------


def test_orders() -> None:
    assert SequentialSampler(4).order(3).tolist() == [0, 1, 2, 3]
    assert RandomSampler(11).order(0).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 10, 6, 7]               # on every machine
    assert RandomSampler(11).order(1).tolist() != RandomSampler(11).order(0).tolist()
    assert RandomSampler(np.zeros(11), num_samples=4).order(0).tolist() == [0, 2, 9, 1]
    drawn = RandomSampler(3, seed=5, replacement=True, num_samples=3000)
    assert len(drawn) == 3000
    assert (np.bincount(drawn.order(0)) > 900).all()
    assert drawn.order(0).tolist() == drawn.order(0).tolist()


def test_batches() -> None:
    assert [b.tolist() for b in BatchSampler(SequentialSampler(5), 2).batches(0)] == [[0, 1], [2, 3], [4]]
    assert [b.tolist() for b in BatchSampler(SequentialSampler(5), 2, drop_last=True).batches(0)] == [[0, 1], [2, 3]]


class Pairs:
    """Neighbours, in an order of their own: a batch sampler of the user's."""

    def __len__(self) -> int:
        return 3

    def batches(self, epoch: int) -> list[np.ndarray]:
        return [np.array([2 * k, 2 * k + 1]) for k in ((epoch + k) % 3 for k in range(3))]


class Odd:
    def __len__(self) -> int:
        return 2

    def order(self, epoch: int) -> list[int]:
        return [1, 3]


def test_samplers_of_the_user() -> None:
    loader = DataLoader(np.arange(6), batch_sampler=Pairs())
    assert [b.tolist() for (b,) in loader] == [[0, 1], [2, 3], [4, 5]]
    assert [b.tolist() for (b,) in loader] == [[2, 3], [4, 5], [0, 1]]
    assert [b.tolist() for (b,) in DataLoader(np.arange(6) * 10, batch_size=2, sampler=Odd())] == [[10, 30]]


@pytest.mark.parametrize(("make", "words"), [
    (lambda: RandomSampler(3, num_samples=4), "cannot draw 4 of 3"),
    (lambda: RandomSampler(0, num_samples=1, replacement=True), "cannot draw 1 of 0"),
    (lambda: RandomSampler(-1), "whole number >= 0, got -1"),
    (lambda: BatchSampler([1, 2], 2), "a list has not"),
    (lambda: BatchSampler(SequentialSampler(3), 0), "batch_size must be"),
    (lambda: DataLoader(np.arange(6), shuffle=True, sampler=Odd()), "shuffle=True says nothing"),
    (lambda: DataLoader(np.arange(6), batch_size=2, batch_sampler=Pairs()), "leave them out|decides on"),
    (lambda: DataLoader(np.arange(6), batch_sampler=Odd()), "a Odd has not"),
    (lambda: DataLoader(np.arange(6), prefetch=-1), "prefetch must be a whole number >= 0"),
])
def test_errors(make: Any, words: str) -> None:
    with pytest.raises(GraphError, match=words):
        make()


def test_an_order_of_the_wrong_length_is_refused() -> None:
    class Wrong(Odd):
        def order(self, epoch: int) -> list[int]:
            return [1, 2, 3]

    with pytest.raises(GraphError, match="2 whole numbers"):
        iter(DataLoader(np.arange(6), sampler=Wrong()))


# ---- prefetch ------------------------------------------------------------------------------------------------------------------------


def values(loader: DataLoader) -> list[list[int]]:
    return [b.tolist() for (b,) in loader]


@pytest.mark.parametrize("ahead", [1, 2, 100])
def test_prefetching_changes_nothing(ahead: int) -> None:
    plain, loader = (DataLoader(np.arange(23), batch_size=4, shuffle=True, prefetch=k) for k in (0, ahead))
    for _ in range(3):
        assert values(loader) == values(plain)
    assert soon(lambda: threads() == 0)


class Failing:
    """Sample 5 cannot be read."""

    def __len__(self) -> int:
        return 9

    def __getitem__(self, i: int) -> int:
        if i == 5:
            raise LookupError("sample 5")
        return i


def test_errors_come_where_they_would_have_come() -> None:
    loader = DataLoader(Failing(), batch_size=2, prefetch=4)
    seen = []

    def consume() -> None:
        for (b,) in loader:
            seen.append(b.tolist())

    with pytest.raises(LookupError, match="sample 5"):
        consume()
    assert seen == [[0, 1], [2, 3]]
    assert loader.state_dict()["batch"] == 2
    assert soon(lambda: threads() == 0)


def test_the_thread_ends_when_the_iterator_is_dropped() -> None:
    loader = DataLoader(np.arange(1000), batch_size=1, prefetch=2)
    it = iter(loader)
    next(it)
    assert threads() == 1
    del it
    gc.collect()
    assert soon(lambda: threads() == 0)
    for _ in loader:
        break
    gc.collect()
    assert soon(lambda: threads() == 0)
    iter(loader)                                        # never begun
    gc.collect()
    assert soon(lambda: threads() == 0)


class Counting:
    def __init__(self) -> None:
        self.made = 0

    def __len__(self) -> int:
        return 100

    def __getitem__(self, i: int) -> int:
        self.made += 1
        return i


def test_it_is_no_further_ahead_than_asked() -> None:
    data = Counting()
    it: Iterator[Any] = iter(DataLoader(data, batch_size=1, prefetch=3))
    next(it)
    assert soon(lambda: data.made == 5)                 # one given out, three waiting, one in the thread's hand
    time.sleep(0.05)
    assert data.made == 5


# ---- position ------------------------------------------------------------------------------------------------------------------------


def make(prefetch: int = 0, **options: Any) -> DataLoader:
    return DataLoader(np.arange(23), batch_size=4, shuffle=True, seed=7, prefetch=prefetch, **options)


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("cut", [0, 1, 5, 6, 7, 13])
def test_going_on_is_the_same_as_never_having_stopped(cut: int, prefetch: int) -> None:
    def run(loader: DataLoader, epochs: int) -> Iterator[list[int]]:
        while loader.epoch < epochs:
            for (b,) in loader:
                yield b.tolist()

    whole = list(run(make(), 3))
    first = make(prefetch)
    it = run(first, 3)
    seen = [next(it) for _ in range(cut)]
    state = json.loads(json.dumps(first.state_dict()))
    second = make(prefetch)
    second.load_state_dict(state)
    assert seen + list(run(second, 3)) == whole


def test_positions() -> None:
    loader = make()
    assert (loader.state_dict()["epoch"], loader.state_dict()["batch"]) == (0, 0)
    for k, _ in enumerate(loader):
        if k == 2:
            break
    assert (loader.state_dict()["epoch"], loader.state_dict()["batch"]) == (0, 3)
    list(loader)
    assert (loader.state_dict()["epoch"], loader.state_dict()["batch"]) == (2, 0)
    loader.set_epoch(9)
    assert (loader.state_dict()["epoch"], loader.state_dict()["batch"]) == (9, 0)


@pytest.mark.parametrize(("change", "words"), [
    ({"seed": 8}, "seed was 8 and is 7"), ({"samples": 24}, "samples was 24 and is 23"), ({"batch_size": 5}, "batch_size was 5"),
    ({"sampler": "SequentialSampler"}, "sampler was"), ({"batch": 7}, "no batch 7 in an epoch of 6"), ({"batch": -1}, ">= 0, got -1"),
    ({"epoch": "x"}, "epoch"), ({"epoch": 2**64}, "no epoch"), ({"more": 1}, "no position"), ({"batch": True}, "got True"),
])
def test_a_position_of_another_loader_is_refused(change: dict[str, Any], words: str) -> None:
    loader = make()
    next(iter(loader))
    before = loader.state_dict()
    with pytest.raises(GraphError) as e:
        loader.load_state_dict({**before, **change})
    assert words in str(e.value)
    assert loader.state_dict() == before
