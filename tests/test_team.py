"""How many threads enter a call: trials on a clock of our own, and the bits of a step whose threads come and go."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim, team
from graphc.llvm import runtime, spmd
from graphc.llvm.detect import host
from graphc.loop import share
from graphc.team import FIRST, RUN, RUNS, SELDOM, Trial


class Calls:
    """Calls that take so long together, and so long alone."""

    def __init__(self, together: float, alone: float) -> None:
        self.now, self.together, self.alone = 0.0, together, alone
        self.trial = Trial(lambda: self.now)

    def run(self, n: int) -> list[bool]:
        """Which of n calls were alone."""
        out = []
        for _ in range(n):
            out.append(self.trial.begin())
            self.now += self.alone if out[-1] else self.together
            self.trial.end()
            self.now += 100.0                           # what happens between calls does not count
        return out


TRIAL = RUN * RUNS


def test_alone_where_that_is_faster() -> None:
    calls = Calls(2.0, 1.0)
    assert calls.run(FIRST) == [False] * FIRST
    assert calls.run(TRIAL) == [False, False, False, False, True, True, True, True] * 2
    assert calls.run(4 * FIRST) == [True] * 4 * FIRST


def test_together_where_that_is_faster_and_seldom_asked() -> None:
    calls = Calls(1.0, 1.5)
    assert sum(calls.run(FIRST + TRIAL)) == TRIAL // 2
    interval = FIRST
    while interval < SELDOM:
        interval = min(4 * interval, SELDOM)
        assert sum(calls.run(interval)) == 0
        assert sum(calls.run(TRIAL)) == TRIAL // 2
    assert sum(calls.run(SELDOM)) == 0
    assert sum(calls.run(TRIAL)) == TRIAL // 2


def test_the_answer_may_change() -> None:
    calls = Calls(1.0, 1.5)
    calls.run(FIRST + TRIAL)
    calls.together = 3.0                                # somebody else is on the core now
    assert sum(calls.run(4 * FIRST)) == 0
    calls.run(TRIAL)
    assert all(calls.run(4 * FIRST))


def test_a_call_that_fails_does_not_count() -> None:
    calls = Calls(1.0, 2.0)
    calls.run(FIRST)
    calls.trial.begin()                                 # and no end
    calls.now += 1000.0
    calls.run(TRIAL - 1)
    assert not any(calls.run(4 * FIRST))


@pytest.mark.skipif(spmd.doorbell(host()) is None, reason="no threads here")
def test_threads_that_come_and_go_leave_the_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "LAUNCH", 0.0)
    monkeypatch.setattr(share, "STEP", 0.0)
    monkeypatch.setattr(runtime, "allowed", lambda n: n)
    counts: list[int] = []

    class Watched(Trial):
        def begin(self) -> bool:
            alone = super().begin()
            counts.append(1 if alone else 2)
            return alone

    monkeypatch.setattr(team, "Trial", Watched)

    def losses(threads: int) -> list[bytes]:
        gx.manual_seed(1)
        net, criterion = nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 5)), nn.CrossEntropyLoss()
        opt = optim.Adam(net.parameters(), lr=1e-2)

        @gx.compile(threads=threads, cache=False)
        def step(x: Any, y: Any) -> Any:
            opt.zero_grad()
            loss = criterion(net(x), y)
            loss.backward()
            opt.step()
            return loss

        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((50, 30)).astype(np.float32), rng.integers(0, 5, 50)
        return [np.asarray(step(x, y)).tobytes() for _ in range(3 * (FIRST + TRIAL))]

    assert losses(2) == losses(1)
    assert set(counts) == {1, 2}
