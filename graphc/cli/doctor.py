"""`graphc doctor`: what graphc finds on this machine, and whether its evaluators agree here."""
from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__, driver, nn, optim
from .. import array as xp
from ..core.record import dataclass
from ..interp.numpy import run
from ..ir.node import Graph
from ..testing.oracle import Evaluator, compare, loop_level, native_level, numpy_level

EVALUATORS: dict[str, Evaluator] = {"numpy": numpy_level, "loops": loop_level, "native": native_level}
OPTIONAL = {"safetensors": "io", "tqdm": "train", "mini-racer": "viz", "resvg-py": "viz"}
FLAGS = ("sse4.2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512vl", "avx512bf16", "amx-tile", "neon", "sve", "bf16")


@dataclass(frozen=True, slots=True)
class Check:
    """One test and how it went: `why` is empty if it is well."""

    name: str
    why: str
    seconds: float


def doctor(as_json: bool) -> int:
    """Print what there is, or as JSON; 1 if any check failed."""
    facts, checks = survey(), [*self_test(), renderer()]
    failed = [c for c in checks if c.why]
    if as_json:
        print(json.dumps({**facts, "checks": [{"name": c.name, "ok": not c.why, "why": c.why, "seconds": round(c.seconds, 4)} for c in checks]}, indent=2))
    else:
        for title, entries in facts.items():
            print(title)
            for name, value in entries.items():
                print(f"  {name:<16} {' '.join(value) if isinstance(value, list) else value}")
        print("checks")
        for c in checks:
            print(f"  {c.name:<16} {'ok' if not c.why else c.why}  ({c.seconds * 1e3:.0f} ms)")
    return 1 if any(c.name != "renderer" for c in failed) else 0        # a machine without pictures is well enough


def survey() -> dict[str, dict[str, Any]]:
    """Versions, machine, extras: plain values."""
    from llvmlite import binding

    from ..llvm.detect import host

    target, flags = host(), binding.get_host_cpu_features()
    versions = {"graphc": __version__, "Python": platform.python_version(), "NumPy": np.__version__,
                "llvmlite": importlib.metadata.version("llvmlite"), "LLVM": ".".join(map(str, binding.llvm_version_info))}
    machine = {"system": f"{platform.system()} {platform.release()}", "machine": platform.machine(), "cpu": target.cpu, "cores": _cores(),
               "features": [f for f in FLAGS if flags.get(f, False)], "vectors": f"{target.vector_bytes * 8} bits, {target.registers} registers",
               "fma": target.fma, "L1": f"{target.l1 >> 10} KiB", "L2": f"{target.l2 >> 10} KiB"}
    extras = {name: _version(name) or f'not installed: pip install "graphc[{extra}]"' for name, extra in OPTIONAL.items()}
    return {"versions": versions, "machine": machine, "extras": extras}


def _cores() -> int:
    """Those that this process may use."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _version(name: str) -> str | None:
    if importlib.util.find_spec(name) is None:
        return None
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def self_test() -> list[Check]:
    """A small training step (gradient and Adam's update included) by each evaluator, compared with the oracle in f64; and the fast entry."""
    graph, inputs, states = small_step()
    want = run(graph, inputs, states, double=True)

    def test(evaluator: Evaluator) -> Callable[[], str | None]:
        return lambda: compare(graph, want, evaluator(graph, inputs, states))

    return [*(_check(name, test(evaluator)) for name, evaluator in EVALUATORS.items()), _check("fast entry", _fast_entry)]


def small_step() -> tuple[Graph, list[Any], list[Any]]:
    """The graph of a step, its inputs and its states."""
    rng = np.random.default_rng(0)
    w1, b1, w2 = (nn.Parameter(rng.normal(size=shape).astype(np.float32)) for shape in ((7, 6), (6,), (6, 3)))
    optimizer, criterion = optim.Adam([w1, b1, w2], lr=1e-2), nn.CrossEntropyLoss()

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = criterion(xp.tanh(x @ w1 + b1) @ w2, y)
        loss.backward()
        optimizer.step()
        return loss

    x, y = rng.normal(size=(5, 7)).astype(np.float32), rng.integers(0, 3, 5)
    traced = driver.compile(step).lower(x, y)._variant.traced
    return traced.graph, [x, y, *(np.asarray(source()) for source in traced.sources)], [s.numpy() for s in traced.storages]


def _check(name: str, test: Callable[[], str | None]) -> Check:
    start = time.perf_counter()
    try:
        why = test() or ""
    except Exception as e:                              # whatever goes wrong here is the finding
        why = f"{type(e).__name__}: {e}".split("\n")[0]
    return Check(name, why, time.perf_counter() - start)


def _fast_entry() -> str | None:
    from ..llvm.entry import self_test as works
    return None if works() else "NumPy's structures lie elsewhere than expected: calls go through ctypes, a few microseconds slower"


def renderer() -> Check:
    """Whether a picture can be made."""
    def draw() -> str | None:
        from ..viz import draw as draw_graph

        with tempfile.TemporaryDirectory() as folder:
            written = draw_graph(small_step()[0], Path(folder, "step.svg"))
            return None if Path(written).suffix == ".svg" else 'none: pip install "graphc[viz]"'

    log = logging.getLogger("graphc")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        return _check("renderer", draw)
    finally:
        log.setLevel(level)
