"""Comparing an evaluator with the oracle: the NumPy meaning of the graph as traced, in f64."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import half
from ..core.dtype import bf16, f16, f32, f64
from ..core.options import Options
from ..interp.numpy import Result, run
from ..ir.node import Graph
from ..transform.pipeline import difference

Array = np.ndarray[Any, Any]
Evaluator = Callable[[Graph, Sequence[Array], Sequence[Array]], Result]

TOLERANCES = {f16: 1e-3, bf16: 8e-3, f32: 1e-4, f64: 1e-10}                 # norm-wise, of a native step against the oracle


def numpy_level(graph: Graph, inputs: Sequence[Array], states: Sequence[Array]) -> Result:
    """The oracle in the graph's own dtypes."""
    return run(graph, inputs, states)


def native_level(graph: Graph, inputs: Sequence[Array], states: Sequence[Array]) -> Result:
    """Machine code: every pass, lowering, LLVM."""
    step, storages = _compiled(graph, states)
    outputs = step([half.plain(a).item() if np.ndim(a) == 0 else a for a in inputs])
    return Result([np.asarray(o) for o in outputs], [s.numpy() for s in storages])


def loop_level(graph: Graph, inputs: Sequence[Array], states: Sequence[Array]) -> Result:
    """The same plan of loops, by the bounds-checked interpreter: slow."""
    result: Result = _compiled(graph, states)[0].run_loops(inputs, states)
    return result


def _compiled(graph: Graph, states: Sequence[Array]) -> tuple[Any, list[Any]]:
    from ..executable import compile_graph
    from ..trace.storage import Storage

    storages = [Storage(np.array(value), s.name) for s, value in zip(graph.states, states, strict=True)]
    return compile_graph(graph, storages, Options(backend="llvm")), storages


def check_against_oracle(graph: Graph, inputs: Sequence[Array], states: Sequence[Array] = (), evaluator: Evaluator = native_level,
                         tolerance: float | None = None) -> None:
    """Raise AssertionError naming the first output or state on which the evaluator and the oracle differ.

    tolerance is norm-wise (‖a − b‖ / ‖a‖), by default 1e-10 for f64, 1e-4 for f32, 8e-3 for bf16 and 1e-3 for f16; integers and bools
    must be equal. The oracle computes f32 as f64.
    """
    why = compare(graph, run(graph, inputs, states, double=True), evaluator(graph, inputs, states), tolerance)
    assert why is None, why


def compare(graph: Graph, want: Result, got: Result, tolerance: float | None = None) -> str | None:
    """The first output or state that differs, and by how much; None if none does."""
    labels = [f"output {k}" for k in range(len(graph.outputs))] + [f"state {s.name!r}" for s in graph.states]
    for label, node, a, b in zip(labels, graph.roots, (*want.outputs, *want.states), (*got.outputs, *got.states), strict=False):
        dtype = node.tensor.dtype
        if b.dtype not in (dtype.numpy, a.dtype):
            return f"{label} is {b.dtype}, the graph says {dtype}"
        limit = tolerance if tolerance is not None else TOLERANCES.get(dtype, 0.0)
        if (why := difference(a, half.astype(b, a.dtype), limit)) is not None:
            return f"{label} {why}"
    return None
