"""The oracle: each op's NumPy meaning, in order. Slow is fine, obvious is not negotiable: nothing clever may ever enter this file.

It is the eager mode, the backend "numpy", the constant folder, and the judge of every other evaluator. On request it runs in f64.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..core.dims import Dim
from ..core.dtype import f32, f64, from_numpy
from ..core.errors import GraphError, GraphIndexError
from ..core.record import dataclass
from ..core.types import TensorType
from ..ir.node import Graph, Node
from ..ir.walk import bind, topo

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gives: the outputs, and the new values of the states. Nothing was changed in place."""

    outputs: list[Array]
    states: list[Array]


def run(graph: Graph, inputs: Sequence[Array], states: Sequence[Array] = (), *, double: bool = False) -> Result:
    """Evaluate a graph on arrays for its inputs and states. double=True computes every f32 as f64."""
    arrays = [np.asarray(a) for a in (*inputs, *states)]
    if double:
        arrays = [a.astype(np.float64) if a.dtype == np.float32 else a for a in arrays]
    sizes = solve_sizes(graph, arrays)
    if double or sizes:
        graph = bind(graph, sizes, {f32: f64} if double else {})
    values = evaluate(graph.roots, dict(zip(graph.leaves, arrays, strict=True)), graph)
    n, k = len(graph.outputs), len(graph.states)
    return Result(values[:n], values[n:n + k])


def solve_sizes(graph: Graph, arrays: Sequence[Array]) -> dict[str, int]:
    """The value of each symbolic size, read off the arrays; every array must then fit its leaf's type."""
    sizes: dict[str, int] = {}
    for leaf, a in zip(graph.leaves, arrays, strict=True):
        for n, m in zip(leaf.tensor.shape, a.shape):
            if isinstance(n, Dim) and len(n.terms) == 1 and (next(iter(n.terms)), 1) == ((next(iter(n.names)),), next(iter(n.terms.values()))):
                sizes.setdefault(next(iter(n.names)), m)
    for leaf, a in zip(graph.leaves, arrays, strict=True):
        want = leaf.tensor.bind(sizes)
        if want.shape != a.shape:
            raise GraphError(f"{leaf.attrs['name']} should be {leaf.type}, got an array of shape {a.shape}")
    return sizes


def evaluate(roots: Iterable[Node], env: Mapping[Node, Any], graph: Graph | None = None) -> list[Any]:
    """The values of nodes, given the values of some: never looks below a node that has one."""
    roots = list(roots)
    values = dict(env)
    order = topo(roots, stop=values)
    last: dict[Node, int] = {r: len(order) for r in roots}              # a value is dropped after its last use
    for at, n in enumerate(order):
        for i in n.inputs:
            last[i] = max(last.get(i, at), at)
    with np.errstate(all="ignore"):
        for at, n in enumerate(order):
            if n not in values:
                values[n] = _apply(n, [values[i] for i in n.inputs], graph)
                for i in n.inputs:
                    if last[i] == at and i not in env:
                        values.pop(i, None)
    return [values[r] for r in roots]


def _apply(n: Node, arrays: list[Any], graph: Graph | None) -> Any:
    extra = {"evaluate": evaluate_graph} if n.op.engine else {}
    try:
        value = n.op.numpy(*arrays, **n.attrs, **extra)
    except GraphIndexError as e:
        locs = graph.where(n).locs if graph else ()
        raise GraphIndexError(e.what, op=e.op, at=e.at or ", ".join(sorted(map(str, locs))) or None, why=e.why, fix=e.fix) from None
    if isinstance(n.type, TensorType):
        value = np.asarray(value)
        got = TensorType(value.shape, from_numpy(value.dtype))          # type: ignore[arg-type]
        assert got == n.type, f"{n.op} gave {got}, its type says {n.type}"
    return value


def evaluate_graph(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """The outputs of a closed graph: what control flow calls its body with."""
    return evaluate(graph.outputs, dict(zip(graph.inputs, inputs, strict=True)), graph)
