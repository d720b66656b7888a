"""Hunts: many random programs, each held against the oracle, or its derivatives against differences; what is found is bisected and shrunk.

`python -m graphc.testing native --first 0 --count 20000` works in processes of a few dozen seeds each, so that one that dies names its seed.
"""
from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..core import half
from ..core.options import Options
from ..core.record import dataclass
from ..interp.numpy import run
from ..ir.node import Graph
from ..ir.verify import verify
from .bounds import Bound, outside, propagated
from .gradients import check_grads
from .programs import laid_out, random_arguments, random_program

Array = np.ndarray[Any, Any]
LONG = 60                                               # seconds for one program, most of which take a tenth of one
MANY = 60                                               # trials before a program is called wrong: in a few, an element's errors may cancel each time


@dataclass(frozen=True, slots=True)
class Found:
    """A seed whose program does not do what it should, and what it does."""

    seed: int
    what: str


def program(seed: int) -> Graph:
    """The program of a seed in a hunt: three of four as drawn, the others with their first or second derivatives."""
    order = (0, 0, 0, 0, 0, 0, 1, 2)[seed % 8]
    return random_program(seed, smooth=order > 0, order=order, n=None if not order else 2 + seed // 8 % 14)


def _judged(graph: Graph, values: Sequence[Array], bounds: Sequence[Bound]) -> str | None:
    """The first root that is outside its bound, in words."""
    labels = [f"output {k}" for k in range(len(graph.outputs))] + [f"state {s.name!r}" for s in graph.states]
    for label, node, bound, value in zip(labels, graph.roots, bounds, values, strict=True):
        if value.shape != node.tensor.static_shape or value.dtype != node.tensor.dtype.numpy:
            return f"{label} is {value.dtype}{list(value.shape)}, the graph says {node.type}"
        bad = outside(bound, value)
        if bad.any():
            at = tuple(int(k[0]) for k in np.nonzero(bad))
            return (f"{label} {node.type} differs in {int(bad.sum())} of {bad.size} elements; at {list(at)} it is {half.plain(value)[at]!r}, "
                    f"should be {bound.value[at]!r} within {bound.room[at]:.2g}")
    return None


def native_difference(graph: Graph, seed: int = 0) -> str | None:
    """How machine code differs from the oracle by more than the propagated bound, on arguments drawn by the seed and lying about anyhow; or None."""
    from ..executable import compile_graph
    from ..trace.storage import Storage

    inputs, states = random_arguments(graph, seed)
    storages = [Storage(np.array(a), s.name) for s, a in zip(graph.states, states, strict=True)]
    step = compile_graph(graph, storages, Options(flush_denormals=False, cache=False))
    given = [laid_out(a, seed + k) for k, a in enumerate(inputs)]
    got = [*step(given), *(s.numpy() for s in storages)]
    values = [np.asarray(v) for v in got]
    why = _judged(graph, values, propagated(graph, inputs, states))
    return why and _judged(graph, values, propagated(graph, inputs, states, trials=MANY))
    return None


def gradient_difference(graph: Graph, seed: int = 0) -> str | None:
    """How derivatives to second order differ from finite differences. A kink is near one point in a thousand: three points must say so, at two steps each."""
    if not any(x.tensor.dtype.is_float for x in graph.leaves) or not any(o.tensor.dtype.is_float for o in graph.outputs):
        return None                                     # nothing to differentiate
    why = None
    for k in range(3):
        inputs, states = random_arguments(graph, 3 * seed + k, nasty=0.0)
        if not all(np.isfinite(o).all() for o in run(graph, inputs, states, double=True).outputs if o.dtype.kind == "f"):
            continue                                    # no derivative where there is no value
        for step in (1e-4, 1e-3, 2e-5):
            try:
                check_grads(graph, [*inputs, *states], order=2, tolerance=1e-6, step=step, seed=seed)
                return None
            except AssertionError as e:
                why = str(e)
    return why


def smooth_program(seed: int) -> Graph:
    """A program with derivatives: at least its last output is floating."""
    return random_program(seed, smooth=True)


HUNTS: dict[str, tuple[Callable[[int], Graph], Callable[[Graph, int], str | None]]] = {
    "native": (program, native_difference),
    "gradients": (smooth_program, gradient_difference),
}


@contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """A TimeoutError if it takes longer, where the system has an alarm and this is the main thread."""
    def late(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def hunt(what: str, seeds: Iterable[int], said: Callable[[int], None] = lambda seed: None) -> Iterator[Found]:
    """What is wrong among the programs of these seeds, in this process."""
    draw, check = HUNTS[what]
    for seed in seeds:
        said(seed)
        try:
            with deadline(LONG):
                why = check(verify(draw(seed)), seed)
        except Exception:
            why = traceback.format_exc(limit=-3)
        if why is not None:
            yield Found(seed, why)


def hunt_in_processes(what: str, first: int, count: int, chunk: int = 50, timeout: float = 1200.0) -> Iterator[Found]:
    """The same, each chunk of seeds in a process of its own: a crash is found too, and the seeds after it are tried."""
    at, end = first, first + count
    while at < end:
        stop = min(at + chunk, end)
        command = [sys.executable, "-m", "graphc.testing", what, "--first", str(at), "--count", str(stop - at), "--here"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
            lines, rc = done.stdout.splitlines(), done.returncode
        except subprocess.TimeoutExpired as e:
            lines, rc = (e.stdout or b"").decode().splitlines(), -1
        last = at
        for line in lines:
            kind, _, rest = line.partition(" ")
            if kind == "seed":
                last = int(rest)
            elif kind == "found":
                number, _, words = rest.partition(" ")
                yield Found(int(number), words.replace("\\n", "\n"))
        if rc not in (0, 1):
            yield Found(last, f"the process ended with {rc}")
            at = last + 1
        else:
            at = stop


def main(args: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="graphc.testing", description=__doc__)
    parser.add_argument("what", choices=sorted(HUNTS))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--chunk", type=int, default=50)
    parser.add_argument("--here", action="store_true", help="in this process, saying each seed: what a chunk is")
    given = parser.parse_args(args)
    seeds = range(given.first, given.first + given.count)
    found = hunt(given.what, seeds, lambda s: print("seed", s, flush=True)) if given.here else \
        hunt_in_processes(given.what, given.first, given.count, given.chunk)
    total = 0
    for f in found:
        total += 1
        print("found", f.seed, f.what.replace("\n", "\\n") if given.here else f.what, flush=True)
    if not given.here:
        print(f"{given.count} programs from seed {given.first}: {total} found", flush=True)
    return int(total > 0)
