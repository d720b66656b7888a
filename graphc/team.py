"""The threads of one step: how many enter a call.

The cost model (`loop/share.py`) says which steps are worth threads on a machine that has its cores for itself. Whether they are depends on what it cannot know:
who else is on the cores, where the system puts the threads, how long waking one takes, and how large a symbolic size is. So a step that has threads is tried
without them while it runs (`Trial`): the bits are the same whoever computes them, hence this is free to change from call to call.
"""
from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .llvm.table import Layout

if TYPE_CHECKING:
    from .frame import Frame

FIRST = 16                                              # calls before the first trial
RUN = 4                                                 # calls in one way, of which the first is not counted
RUNS = 4                                                # of a trial, together and alone in turns
SELDOM = 1 << 14                                        # calls between trials, at most
KEPT = 256                                              # sizes whose trials are remembered


class Trial:
    """Whether the calls of a step are faster together or alone: a trial after `FIRST` calls, and again after four times as many as long as the answer stays."""

    __slots__ = ("_at", "_clock", "_interval", "_left", "_since", "_times", "alone")

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.alone = False
        self._clock = clock
        self._interval = self._left = FIRST
        self._at = 0                                    # the calls of this trial so far
        self._times: tuple[list[float], list[float]] = [], []
        self._since: float | None = None                # when the call began, if its time is wanted

    def begin(self) -> bool:
        """Whether the call that begins is to be alone."""
        if not self._left and self._at == RUN * RUNS:
            self._decide()
        if self._left:
            self._left -= 1
            return self.alone
        self._at, self._since = self._at + 1, self._clock()
        return self._alone(self._at - 1)

    def end(self) -> None:
        """The call is over."""
        if self._since is not None:
            k = self._at - 1
            if k % RUN:
                self._times[self._alone(k)].append(self._clock() - self._since)
            self._since = None

    @staticmethod
    def _alone(k: int) -> bool:
        return k // RUN % 2 == 1

    def _decide(self) -> None:
        together, alone = self._times
        now = bool(together and alone) and _median(alone) < _median(together)
        self._interval = min(4 * self._interval, SELDOM) if now == self.alone else 4 * FIRST
        self.alone, self._left, self._at, self._times = now, self._interval, 0, ([], [])


def _median(times: list[float]) -> float:
    return sorted(times)[len(times) // 2]


class Team:
    """The pool, as one step uses it."""

    def __init__(self, threads: int, layout: Layout, table: np.ndarray[Any, Any]) -> None:
        from .llvm.runtime import pool
        from .llvm.spmd import LINE

        self.pool, self.threads = pool, threads
        self._count, self._busy, self._pool = layout.index("threads"), layout.index("busy"), layout.index("pool")
        self._own = np.zeros(LINE // 8, np.uint64)             # a pool of one thread
        self._trials: dict[tuple[int, ...], Trial] = {}
        self._now: Trial | None = None
        table[self._pool] = pool.address
        pool.enter(id(self))
        weakref.finalize(self, pool.leave, id(self)).atexit = False

    def ready(self, frame: Frame) -> None:
        """As many workers as the step takes, or as the system gives, are there to be woken. While they wait for another step, whose function of Python's
        is what calls this one, it runs alone, on lines of its own."""
        if self.pool.away:
            self._now, frame.workers = None, (0, 0)
            frame.table[self._pool], frame.table[self._count], frame.table[self._busy] = self._own.ctypes.data, 1, 0
            return
        sizes = frame.fit.sizes if frame.fit is not None else ()
        trial = self._trials.get(sizes)
        if trial is None:
            if len(self._trials) >= KEPT:
                self._trials.clear()
            trial = self._trials[sizes] = Trial()
        self._now = trial
        now = 1 if trial.begin() else self.pool.ready(self.threads), self.pool.forks
        if now != frame.workers:
            frame.table[self._pool], frame.table[self._count], frame.table[self._busy], frame.workers = self.pool.address, now[0], 0, now

    def done(self) -> None:
        """The call is over."""
        if self._now is not None:
            self._now.end()
