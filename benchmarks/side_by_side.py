"""Timing candidates fairly in one process: a slice each, round after round, in alternating order, and the median over the rounds."""
from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

Run = Callable[[], Any]


def timed(runs: dict[str, Run], rounds: int, slice_seconds: float, of: Callable[[list[float]], float] = statistics.median,
          clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Microseconds a run, the median over the rounds; the order alternates. Where neighbours come and go: of=min, and of what one thread does
    clock=time.process_time."""
    counts, out = {}, {name: [] for name in runs}       # type: dict[str, int], dict[str, list[float]]
    for name, run in runs.items():
        run()
        start = clock()
        run()
        counts[name] = max(1, int(slice_seconds / (clock() - start)))
    names = list(runs)
    for k in range(rounds):
        for name in names if k % 2 == 0 else reversed(names):
            run = runs[name]
            start = clock()
            for _ in range(counts[name]):
                run()
            out[name].append((clock() - start) / counts[name] * 1e6)
    return {name: of(ts) for name, ts in out.items()}
