"""What a peer is: one method for each kind of workload that it can do.

A method takes a workload and returns a Step: everything is ready, and nothing has been compiled that the peer compiles at its first call. Numbers go
in as the peer likes them best, converted ahead of time; each call takes the next batch.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Step:
    call: Callable[[], Any]
    per_call: int = 1                                   # training steps that one call makes
    empty: Callable[[], Any] | None = None              # a call that does next to nothing: its time is taken off


class Peer:
    def __init__(self, threads: int) -> None:
        self.threads = threads

    def wait(self, result: Any) -> None:
        """Until the result of a call is there."""

    def numbers(self, result: Any) -> list[np.ndarray]:
        """The result as arrays."""
        return [np.asarray(a) for a in flat(result)]


def flat(x: Any) -> Iterable[Any]:
    return itertools.chain.from_iterable(map(flat, x)) if isinstance(x, (tuple, list)) else (x,)


def in_turn(f: Callable[..., Any], batches: Iterable[tuple[Any, ...]]) -> Callable[[], Any]:
    """A call of f with the next batch, for ever."""
    following = itertools.cycle(batches).__next__
    return lambda: f(*following())
