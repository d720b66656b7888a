"""Which level of the compiler, and which node, changed a result: the levels in order, each compared with the oracle on the graph as traced.

The levels are the passes (evaluated by the oracle in f64, where only a wrong rewrite can differ) and then the evaluators below the graph.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..core.record import dataclass
from ..core.types import TensorType
from ..interp.numpy import Result, run
from ..ir.node import Graph, Node
from ..ir.text import name_nodes, show
from ..ir.walk import topo
from ..transform.pipeline import PASSES, Pass
from .oracle import Evaluator, compare, loop_level, native_level

Array = np.ndarray[Any, Any]
PASS_TOLERANCE = 1e-9
LEVELS: dict[str, Evaluator] = {"loops": loop_level, "llvm": native_level}     # below the graph, in order


@dataclass(frozen=True, slots=True)
class Difference:
    """The first level that is wrong, the first node on which it is (in topological order; None where only the whole differs), and how."""

    level: str
    node: Node | None
    line: str                                           # the node's line in the printed graph before that level
    what: str

    def __str__(self) -> str:
        return f"first wrong after: {self.level}\n  {self.what}\n  {self.line}"


def bisect(graph: Graph, inputs: Sequence[Array], states: Sequence[Array] = (), *, passes: Sequence[Pass] = PASSES,
           evaluators: Mapping[str, Evaluator] | None = None, tolerance: float | None = None) -> Difference | None:
    """Where the compiler goes wrong on these arguments, or None if every level agrees with the oracle.

    evaluators: what runs below the graph, in order, by name; by default the loop interpreter and the native step. tolerance: theirs, norm-wise.
    """
    current = graph
    for p in passes:
        level = f"pass {p.name!r}"
        found = _suspect(current, _after(p), inputs, states, level, PASS_TOLERANCE)
        if found is not None:
            return found
        current = p.run(current)
    for name, evaluator in (LEVELS if evaluators is None else evaluators).items():
        found = _suspect(graph, evaluator, inputs, states, name, tolerance)
        if found is not None:
            return found
    return None


def _after(p: Pass) -> Evaluator:
    """The oracle on what a pass makes of a graph."""
    return lambda graph, inputs, states: run(p.run(graph), inputs, states, double=True)


def _suspect(graph: Graph, evaluator: Evaluator, inputs: Sequence[Array], states: Sequence[Array], level: str, tolerance: float | None) -> Difference | None:
    """The difference between an evaluator and the oracle, at the first node that shows it."""
    why = _differs(graph, evaluator, inputs, states, tolerance)
    if why is None:
        return None
    name = name_nodes(graph, topo((*graph.leaves, *graph.roots)))
    lines = {line.lstrip().split(":")[0]: line.strip() for line in show(graph).splitlines()}
    for roots in _prefixes(graph):
        part = Graph(graph.leaves, roots, info=graph.info, name=graph.name)
        if (less := _differs(part, evaluator, [*inputs, *states], (), tolerance)) is not None:
            return Difference(level, roots[0], lines.get(f"%{name[roots[0]]}", str(roots[0])), less.replace("output 0", f"%{name[roots[0]]}"))
    return Difference(level, None, f"no single node shows it: only the whole graph {graph.name!r}", why)


def _prefixes(graph: Graph) -> list[tuple[Node, ...]]:
    """Each tensor that is computed, as the only output, in topological order: fusion then sees what it saw, up to that node."""
    return [(n,) for n in topo(graph.roots) if isinstance(n.type, TensorType) and n.inputs]


def _differs(graph: Graph, evaluator: Callable[..., Result], inputs: Sequence[Array], states: Sequence[Array], tolerance: float | None) -> str | None:
    want = run(graph, inputs, states, double=True)
    try:
        got = evaluator(graph, inputs, states)
    except Exception as e:                              # a level that cannot even run is the level we look for
        return f"raised {type(e).__name__}: {e}"
    return compare(graph, want, got, tolerance)
