"""Which level of the compiler, and which node, changed a result: the levels in order, each compared with the oracle on the graph as traced.

The levels are the passes (evaluated by the oracle in f64, where only a wrong rewrite can differ) and then the evaluators below the graph. A loop, branch or
call that differs is looked into: its body's values are made results of it, one after the other, so that they are computed where they were.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..core.record import dataclass
from ..core.types import TensorType, TupleType
from ..interp.numpy import Result, run
from ..ir.node import Graph, Node
from ..ir.text import name_nodes, show
from ..ir.walk import substitute, topo
from ..ops.branch import attributes, branches_of
from ..ops.call import CALLS
from ..ops.leaf import input_, splat
from ..ops.movement import reshape, slice_
from ..ops.tuples import get
from ..transform.pipeline import PASSES, Pass
from .draw import unpacked
from .oracle import Evaluator, compare, loop_level, native_level

Array = np.ndarray[Any, Any]
PASS_TOLERANCE = 1e-9
TURNS = 64                                              # of a loop that are looked at one by one
LEVELS: dict[str, Evaluator] = {"loops": loop_level, "llvm": native_level}     # below the graph, in order


@dataclass(frozen=True, slots=True)
class Difference:
    """The first level that is wrong, the first node on which it is (in topological order; None where only the whole differs), and how."""

    level: str
    node: Node | None
    line: str                                           # the node's line in the printed graph before that level
    what: str
    inside: tuple[str, ...] = ()                        # the bodies that the node is in, outermost first: "%3 scan.body"

    def __str__(self) -> str:
        where = "".join(f"\n  in {b}" for b in self.inside)
        return f"first wrong after: {self.level}\n  {self.what}\n  {self.line}{where}"


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
    def differs(root: Node) -> str | None:
        part = Graph(graph.leaves, (root,), info=graph.info, name=graph.name)
        return _differs(part, evaluator, [*inputs, *states], (), tolerance)

    for n in topo(graph.roots):
        for result in _results(n):
            if (less := differs(result)) is not None:
                return _inside(graph, n, lambda probe: probe, differs, Difference(level, n, *_named(graph, n, less)))
    return Difference(level, None, f"no single node shows it: only the whole graph {graph.name!r}", why)


def _results(n: Node) -> tuple[Node, ...]:
    """What a node computes, as outputs of a graph: fusion then sees what it saw, up to that node. What `get` takes out is its tuple's."""
    if not n.inputs or n.op is get:
        return ()
    if isinstance(n.type, TupleType):
        return unpacked(n)
    return (n,) if isinstance(n.type, TensorType) else ()


def _named(graph: Graph, n: Node, what: str) -> tuple[str, str]:
    """The node's line in the printed graph, and the difference with its name."""
    name = name_nodes(graph, topo((*graph.leaves, *graph.roots))).get(n, "?")
    lines = {line.lstrip().split(":")[0]: line.strip() for line in show(graph).splitlines()}
    return lines.get(f"%{name}", str(n)), what.replace("output 0", f"%{name}")


def _inside(graph: Graph, n: Node, outwards: Callable[[Node], Node], differs: Callable[[Node], str | None], found: Difference) -> Difference:
    """The first wrong value in the bodies of a wrong node, if one shows it; `outwards` makes a value of this graph one of the whole."""
    short = next((m for m in _shortened(n) if any(differs(outwards(r)) is not None for r in unpacked(m))), n) if isinstance(n.type, TupleType) else n
    for key, body in short.attrs.items():
        if not isinstance(body, Graph):
            continue
        for m in topo(body.outputs):
            for result in _results(m):
                probe = _probe(short, key, result)
                if probe is not None and (less := differs(outwards(probe))) is not None:
                    line, what = _named(body, m, less)
                    place = found.line.split(" = ")[0].split(":")[0]
                    inner = Difference(found.level, m, line, what, (*found.inside, f"{key} of {place} ({n.op})"))
                    return _inside(body, m, _through(short, key, outwards), differs, inner)
    return found


def _shortened(n: Node) -> Iterator[Node]:
    """A loop of one turn, of two, ...: the last turn of the first that is wrong is where something becomes wrong."""
    if n.op.name == "while":
        most = n.attrs.get("max_steps")
        for k in range(1, TURNS if most is None else min(most, TURNS)):
            yield n.op(*n.inputs, **{**n.attrs, "max_steps": k})
    if n.op.name == "scan":
        c, m, length = n.attrs["carries"], n.attrs["xs"], n.attrs["length"]
        for k in range(1, min(length, TURNS)):
            at = length - k if n.attrs.get("reverse") else 0
            xs = [slice_(x, starts=(at, *(0,) * (x.tensor.rank - 1)), stops=(at + k, *x.tensor.shape[1:]), steps=(1,) * x.tensor.rank)
                  for x in n.inputs[c:c + m]]
            yield n.op(*n.inputs[:c], *xs, *n.inputs[c + m:], **{**n.attrs, "length": k})


def _through(n: Node, key: str, outwards: Callable[[Node], Node]) -> Callable[[Node], Node]:
    """From a value of the body of n to one of the whole."""
    def out(value: Node) -> Node:
        probe = _probe(n, key, value)
        assert probe is not None
        return outwards(probe)
    return out


def _probe(n: Node, key: str, value: Node) -> Node | None:
    """What a value of the body `key` of n was, as a tensor beside n: at the last turn of a loop, in the branch that ran."""
    body = n.attrs[key]
    t = value.tensor
    if n.op in CALLS:
        return substitute([value], dict(zip(body.inputs, n.inputs)))[0] if key == "body" else None
    if n.op.name == "scan":
        c, last = n.attrs["carries"], 0 if n.attrs.get("reverse") else n.attrs["length"] - 1
        rows = get(n.op(*n.inputs, **{**n.attrs, key: Graph(body.inputs, (*body.outputs[:c], value), name=body.name)}), index=c)
        row = slice_(rows, starts=(last, *(0,) * t.rank), stops=(last + 1, *t.shape), steps=(1,) * (t.rank + 1))
        return reshape(row, shape=t.shape)
    if n.op.name == "cond":
        others = [Graph(b.inputs, (value if b is body else splat(0.0, t),), name=b.name) for b in branches_of(n.attrs)]
        return get(n.op(*n.inputs, **attributes(others)), index=0)
    if n.op.name == "while":
        c, turn, test = n.attrs["carries"], n.attrs["body"], n.attrs["cond"]
        if key == "cond":
            (value,) = substitute([value], dict(zip(test.inputs, turn.inputs)))

        def with_one(g: Graph, outputs: tuple[Node, ...]) -> Graph:
            return Graph((*g.inputs[:c], input_(name="probe", shape=t.shape, dtype=t.dtype), *g.inputs[c:]), outputs, name=g.name)

        attrs = {**n.attrs, "body": with_one(turn, (*turn.outputs, value)), "cond": with_one(test, test.outputs), "carries": c + 1}
        return get(n.op(*n.inputs[:c], splat(0.0, t), *n.inputs[c:], **attrs), index=c)
    return None


def _differs(graph: Graph, evaluator: Callable[..., Result], inputs: Sequence[Array], states: Sequence[Array], tolerance: float | None) -> str | None:
    want = run(graph, inputs, states, double=True)
    try:
        got = evaluator(graph, inputs, states)
    except Exception as e:                              # a level that cannot even run is the level we look for
        return f"raised {type(e).__name__}: {e}"
    return compare(graph, want, got, tolerance)
