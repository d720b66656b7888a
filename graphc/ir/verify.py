"""What every graph promises, checked. A graph that fails is a mistake of the compiler's (or of a hand that wrote text), so passes are verified after they ran.

Checked: each type is what the op infers; what is read is declared; no node is below itself; attributes are immutable values; a graph among the
attributes is closed; states keep their types; tokens are used once.
"""
from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from ..core.dims import Dim
from ..core.dtype import DType, from_numpy
from ..core.errors import GraphError
from ..core.types import TensorType, TokenType, TupleType
from .host import Host
from .node import Graph, Node
from .walk import subgraphs, topo, users

IMMUTABLE = (bool, int, float, str, type(None), DType, Dim, TensorType, TupleType, TokenType, Host, np.generic)


def verify(graph: Graph) -> Graph:
    """The graph itself, or a GraphError that names the node and its line."""
    todo = [graph]
    seen: set[int] = set()
    while todo:
        g = todo.pop()
        if id(g) in seen:
            continue
        seen.add(id(g))
        todo += _verify(g)
    return graph


def _verify(graph: Graph) -> list[Graph]:
    """Check one graph; the graphs inside it are given back."""
    leaves = set(graph.leaves)
    if len(leaves) != len(graph.leaves):
        twice = next(n for n in graph.leaves if graph.leaves.count(n) > 1)
        _fail(graph, twice, "is given twice: a leaf is one input or the reading of one state")
    for leaf in graph.leaves:
        if leaf.op.name != "input":
            _fail(graph, leaf, "stands among the inputs and states, and is no `input` leaf")
    if len({s.name for s in graph.states}) != len(graph.states):
        _fail(graph, graph.states[0].read, f"belongs to states whose names are not unique: {', '.join(s.name for s in graph.states)}")
    for s in graph.states:
        if s.write.type != s.read.type:
            _fail(graph, s.write, f"is written to the state {s.name!r}, which is {s.read.type}")
    for output in graph.outputs:
        if not isinstance(output.type, TensorType):
            _fail(graph, output, "is an output, and no tensor", fix="return get(node, index=...)")
    for effect in graph.effects:
        if not isinstance(effect.type, TokenType):
            _fail(graph, effect, "stands among the effects, and is no token")

    order = topo((*graph.leaves, *graph.roots))
    done: set[Node] = set()
    inside: list[Graph] = []
    for n in order:
        if not done.issuperset(n.inputs):
            _fail(graph, n, "is below itself: a graph has no cycles")
        done.add(n)
        if n.op.name == "input" and n not in leaves:
            _fail(graph, n, f"is read, and is neither an input nor a state of {graph.name!r}",
                  fix="a graph among attributes is closed: hand captured nodes in as inputs" if graph.name else None)
        for key, value in n.attrs.items():
            if (why := _mutable(value)) is not None:
                _fail(graph, n, f"has the attribute {key}, {why}")
        inside += subgraphs(n)
        try:
            right = n.op.infer(*(i.type for i in n.inputs), **n.attrs)
        except (TypeError, GraphError) as e:
            _fail(graph, n, f"is not what {n.op} takes: {e}")
        if right != n.type:
            _fail(graph, n, f"has the wrong type: {n.op} gives {right}")
    _tokens(graph, order)
    return inside


def _tokens(graph: Graph, order: list[Node]) -> None:
    """A token is consumed once: by the next effect, or by the graph's end. Twice would leave the order of effects open."""
    tokens = [n for n in order if isinstance(n.type, TokenType)]
    if tokens:
        readers = users(order)
        for n in tokens:
            if len(readers[n]) + graph.effects.count(n) != 1:
                _fail(graph, n, f"is a token used {len(readers[n]) + graph.effects.count(n)} times: effects stand in one row")


def _mutable(value: Any) -> str | None:
    """Why a value cannot be an attribute, or None."""
    if isinstance(value, np.ndarray):
        if value.flags.writeable:
            return "an array that can be written to"
        return None if from_numpy(value.dtype) is not None else f"an array of {value.dtype}"
    if isinstance(value, np.generic):
        return None if from_numpy(value.dtype) is not None else f"a scalar of {value.dtype}"
    if isinstance(value, tuple):
        return next((why for v in value if (why := _mutable(v)) is not None), None)
    return None if isinstance(value, (*IMMUTABLE, Graph)) else f"which is a {type(value).__name__}, not an immutable value"


def _fail(graph: Graph, node: Node, what: str, fix: str | None = None) -> NoReturn:
    info = graph.where(node)
    name = min(info.names, default=str(node.attrs.get("name", "")))
    inputs = ", ".join(str(i.type) for i in node.inputs)
    places = sorted(map(str, info.locs))
    raise GraphError(f"{node.op}{f' ({name})' if name else ''} : {node.type} {what}", op=f"{node.op}({inputs})", at=places[0] if places else None, fix=fix)
