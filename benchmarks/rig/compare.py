"""One row: a workload at a number of threads, every contender side by side.

Each starts in a process of its own, with an empty cache (cold) and then with what that left there (warm). Its first results are compared with the
reference in f64. Then come rounds: a slice each, in alternating order. A slice in which the process did not get its core, or in which
somebody else had much of the machine, is taken again in a later round, while there is patience; where nothing cleaner was to be had it counts.
"""
from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from peers import Contender
from workloads import WORKLOADS
from workloads.base import Array

from .process import Failed, Process

Row = dict[str, Any]
HOLD = 40                                               # seconds that the lock is held at a time


@dataclass(frozen=True)
class Method:
    """How long, how often."""

    rounds: int = 15
    slice: float = .1                                   # seconds
    starts: int = 3                                     # pairs of a cold and a warm one, for those that start within a second
    cache: Path | None = None                           # where there are no starts to time: what was compiled is kept here, from run to run
    patience: int = 3                                   # rounds at most, as a multiple
    lock: Path | None = None                            # held while anything is timed: others who measure here hold it too


@dataclass
class Figures:
    """What was measured of one contender."""

    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    clean: list[float] = field(default_factory=list)    # seconds a step, one for each slice
    disturbed: list[float] = field(default_factory=list)        # of one thread: by processor time
    peak_mb: float | None = None
    error: float = 0

    def row(self, wanted: int) -> Row:
        slices = self.clean if len(self.clean) >= min(3, wanted) else self.clean + self.disturbed
        low, mid, high = (np.quantile(slices, q) * 1e6 for q in (.25, .5, .75))
        cold, warm = (statistics.median(s) if s else None for s in (self.cold, self.warm))
        return {"status": "ok", "us": mid, "low": low, "high": high, "best": min(slices) * 1e6, "slices": len(slices), "disturbed": len(self.disturbed),
                "cold_s": cold, "warm_s": warm, "peak_mb": self.peak_mb, "error": self.error}


@contextmanager
def held(lock: Path | None) -> Iterator[None]:
    if lock is None:
        yield
        return
    import fcntl
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def busy() -> float:
    """Seconds of processor time that this machine has spent so far, all of its cores and everybody's; 0 where nobody tells."""
    try:
        fields = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return 0
    return (sum(fields) - fields[3] - fields[4]) / 100


@lru_cache(1)
def reference(workload: str) -> list[Array]:
    return WORKLOADS[workload].reference()


def disagreement(got: list[Array], want: list[Array]) -> float:
    """The largest distance of a result from what it should be, as a part of the latter's norm."""
    if [np.squeeze(a).shape for a in got] != [np.squeeze(a).shape for a in want]:
        return np.inf
    return max(float(np.linalg.norm((a - b).ravel()) / max(np.linalg.norm(b.ravel()), 1e-30)) for a, b in zip(map(np.squeeze, got), map(np.squeeze, want)))


def start(make: Callable[[Path], Process], method: Method, pairs: int, folder: Path) -> tuple[Process, Figures]:
    """Pairs of a cold and a warm start; the last process lives. None: one start, which nobody times, with whatever the folder holds."""
    figures, alive = Figures(), None        # type: Figures, Process | None
    for k in range(pairs):
        cache = folder / f"{k}"
        cache.mkdir(parents=True)
        for times in (figures.cold, figures.warm):
            if alive is not None:
                alive.kill()
            with held(method.lock):
                alive = make(cache)
            times.append(alive.begun["first_s"])
        if figures.cold[-1] > 1:
            break
    if alive is None:
        folder.mkdir(parents=True, exist_ok=True)
        alive = make(folder)
    figures.peak_mb = alive.begun["peak_mb"]
    return alive, figures


def enter(contender: Contender, python: str | None, name: str, threads: int, method: Method, scratch: Path) -> tuple[Process, Figures]:
    """A contender that has started and is right."""
    if python is None:
        raise Failed(f"no interpreter has {' and '.join(contender.needs)}", "not installed")
    workload = WORKLOADS[name]
    pairs = method.starts if workload.kind != "contract" else 0
    folder = (scratch if pairs or method.cache is None else method.cache) / contender.name.replace(" ", "-") / f"{threads}"
    process, figures = start(lambda cache: Process(contender, workload, threads, python, cache), method, pairs, folder)
    figures.error = disagreement(process.results, reference(name))
    if not figures.error <= workload.tolerance:
        process.kill()
        raise Failed(f"its results are {figures.error:.1e} off the reference", "wrong")
    return process, figures


def compare(name: str, threads: int, contenders: Mapping[str, tuple[Contender, str | None]], method: Method, say: Callable[[str], None]) -> dict[str, Row]:
    """The figures of each contender, given with the interpreter that can run it (None: nobody can)."""
    rows: dict[str, Row] = {}
    alive: dict[str, tuple[Process, Figures]] = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        try:
            for n, (contender, python) in contenders.items():
                try:
                    alive[n] = enter(contender, python, name, threads, method, Path(scratch))
                except Failed as e:
                    rows[n] = e.row
                    say(f"  {n}: {e.row['status']}: {e}")
            rounds(alive, rows, threads, method)
            rows |= {n: figures.row(method.rounds) for n, (_, figures) in alive.items() if n not in rows}
        finally:
            for process, _ in alive.values():
                process.kill()
    return {n: rows[n] for n in contenders}


def rounds(alive: Mapping[str, tuple[Process, Figures]], rows: dict[str, Row], threads: int, method: Method) -> None:
    """Slices in turn until everybody has enough clean ones, or patience ends. Who fails here gets his row here."""
    turns = iter(range(method.rounds * method.patience))
    while waiting(alive, rows, method) and (turn := next(turns, None)) is not None:
        with held(method.lock):
            until = time.perf_counter() + HOLD
            while turn is not None and (names := waiting(alive, rows, method)):
                for name in names if turn % 2 == 0 else reversed(names):
                    try:
                        one_slice(*alive[name], threads, method)
                    except Failed as e:
                        rows[name] = e.row
                turn = next(turns, None) if time.perf_counter() < until else None


def waiting(alive: Mapping[str, tuple[Process, Figures]], rows: dict[str, Row], method: Method) -> list[str]:
    return [n for n, (_, figures) in alive.items() if n not in rows and len(figures.clean) < method.rounds]


def one_slice(process: Process, figures: Figures, threads: int, method: Method) -> None:
    before, began, mine = busy(), time.perf_counter(), cpu(process)
    said = process.slice(method.slice)
    others = (busy() - before - (cpu(process) - mine)) / (time.perf_counter() - began)
    clean = said["share"] > .96 if threads == 1 else others < .15           # on one core, what the others do elsewhere matters less
    if clean:
        figures.clean.append(said["wall"])
    else:
        figures.disturbed.append(said["cpu" if threads == 1 else "wall"])   # a pinned process that was always at work would have taken this long


def cpu(process: Process) -> float:
    """Seconds of processor time that it has had, all of its threads."""
    try:
        fields = Path(f"/proc/{process.popen.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) / 100
