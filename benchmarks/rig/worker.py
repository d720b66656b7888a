"""The process of one contender: `python -m rig.worker WORKLOAD CONTENDER THREADS RESULTS`. Made by `rig.process`, and spoken to in lines of JSON.

It makes the step, calls it once (how long that took is the cold or the warm start), writes the first results to the file RESULTS for the other side to
judge, and then times slices as they are asked for.
"""
from __future__ import annotations

import ctypes
import json
import os
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from peers import CONTENDERS
from workloads import WORKLOADS
from workloads.base import Training

from . import denormals

CHUNK = .006                                            # seconds between two looks at the clock


def pin(threads: int) -> None:
    """One thread: to one core, the last, for the first one serves the system."""
    if threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def die_with_parent() -> None:
    """A stopped process would outlive it for ever. Linux alone has this."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)      # PR_SET_PDEATHSIG


def peak_rss() -> float | None:
    """MB so far; of this process alone, which getrusage cannot promise after an exec."""
    try:
        return next(int(line.split()[1]) / 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None


class Timed:
    """A step, and how many of its calls fill a chunk."""

    def __init__(self, call: Any, wait: Any) -> None:
        self.call, self.wait, self.calls = call, wait, 1
        while (t := self.chunk()[0] * self.calls) < CHUNK / 2 and self.calls < 1 << 20:
            self.calls = self.calls * 2 if t * 4 < CHUNK else max(self.calls + 1, round(self.calls * CHUNK / t))

    def chunk(self) -> tuple[float, float]:
        """Seconds a call, and seconds of processor time."""
        call, n = self.call, range(self.calls)
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in n:
            result = call()
        self.wait(result)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return wall / self.calls, cpu / self.calls

    def slice(self, seconds: float) -> tuple[float, float]:
        """Medians of chunks. It warms for a while before, for another process had the caches."""
        end = time.perf_counter() + seconds / 4
        while self.chunk() and time.perf_counter() < end:
            pass
        chunks: list[tuple[float, float]] = []
        end = time.perf_counter() + seconds
        while not chunks or time.perf_counter() < end:
            chunks.append(self.chunk())
        wall, cpu = (statistics.median(column) for column in zip(*chunks, strict=True))
        return wall, cpu


def main() -> None:
    workload, contender, threads, results = WORKLOADS[sys.argv[1]], CONTENDERS[sys.argv[2]], int(sys.argv[3]), sys.argv[4]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)                                       # libraries may print

    def say(**what: Any) -> None:
        print(json.dumps(what), file=answers, flush=True)

    die_with_parent()
    pin(threads)
    denormals.flush()
    start = time.perf_counter()
    peer = contender.load()(threads)
    imported = time.perf_counter() - start
    step = getattr(peer, workload.kind)(workload)
    start = time.perf_counter()
    first = step.call()
    peer.wait(first)
    called, peak = time.perf_counter() - start, peak_rss()

    import numpy as np
    got = [a.copy() for a in peer.numbers(first)]
    if isinstance(workload, Training):
        losses = got[0].reshape(-1).tolist()
        while len(losses) < workload.STEPS:
            losses += np.reshape(peer.numbers(step.call())[0], -1).tolist()
        got = [np.array(losses[:workload.STEPS])]
    with open(results, "wb") as file:
        np.savez(file, *got)
    say(import_s=imported, first_s=called, peak_mb=peak)
    timed: Any = None
    for line in sys.stdin:
        if timed is None:
            timed, empty = Timed(step.call, peer.wait), step.empty and Timed(step.empty, peer.wait)
        seconds = json.loads(line)
        cpu, wall = time.process_time(), time.perf_counter()
        took = timed.slice(seconds)
        share = (time.process_time() - cpu) / (time.perf_counter() - wall)
        less = empty.slice(seconds / 8) if empty else (0, 0)
        took = [(a - b) / step.per_call for a, b in zip(took, less, strict=True)]
        say(wall=took[0], cpu=took[1], share=share)


if __name__ == "__main__":
    main()
