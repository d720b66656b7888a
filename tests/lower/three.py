"""The three evaluators side by side: NumPy on the graph as traced, the loop interpreter, machine code."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.core.options import Options
from graphc.executable import Native, compile_graph
from graphc.interp.numpy import run
from graphc.ir.node import Graph
from graphc.trace.storage import Storage

KEEP_DENORMALS = Options(flush_denormals=False)


def native(graph: Graph, states: Sequence[Any] = (), options: Options = KEEP_DENORMALS) -> tuple[Native, list[Storage]]:
    storages = [Storage(np.array(v), s.name) for v, s in zip(states, graph.states, strict=True)]
    step = compile_graph(graph, storages, options)
    assert isinstance(step, Native)
    return step, storages


def agree(graph: Graph, inputs: Sequence[Any], states: Sequence[Any] = (), *, f32: float = 3e-6, f64: float = 1e-11) -> Native:
    """Assert that all three give the same outputs and new states, norm-wise; machine code twice, so that reused memory shows."""
    want = run(graph, inputs, states)
    step, storages = native(graph, states)
    loops = step.run_loops(inputs, states)
    for again in range(2):
        for s, v in zip(storages, states):
            s.assign(v)
        outputs = step([x.item() if np.ndim(x) == 0 else x for x in map(np.asarray, inputs)])
        for label, got in (("loops", loops), ("native", None)):
            mine = [*(got.outputs if got else outputs), *(got.states if got else [s.array for s in storages])]
            for k, (a, b) in enumerate(zip(mine, [*want.outputs, *want.states], strict=True)):
                close(np.asarray(a), b, f32 if b.dtype == np.float32 else f64, f"{label} {k} (call {again})")
    return step


def close(a: Any, b: Any, tolerance: float, label: str) -> None:
    assert (a.shape, a.dtype) == (b.shape, b.dtype), label
    if b.dtype.kind != "f":
        np.testing.assert_array_equal(a, b, label)
        return
    odd = ~np.isfinite(b)
    np.testing.assert_array_equal(a[odd], b[odd], label)
    error, size = np.linalg.norm(a[~odd].astype(np.float64) - b[~odd]), np.linalg.norm(b[~odd].astype(np.float64))
    assert error <= tolerance * max(size, 1e-30), f"{label}: off by {error / max(size, 1e-30):.2g} of its norm"
