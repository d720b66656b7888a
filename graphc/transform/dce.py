"""Dead code. In a pure graph what no root reaches is not there at all, so little is left to do: forget where dead nodes came from, and take out of
each scan the results nobody reads, with the carries and operands that served only them (reverse mode writes cotangents for everything)."""
from __future__ import annotations

from collections.abc import Iterable

from ..core.types import TupleType
from ..ir.node import NOWHERE, Graph, Node, Recorder, recording
from ..ir.walk import topo
from ..ops.control import scan
from ..ops.tuples import get


def dce(graph: Graph) -> Graph:
    """The graph with dead parts gone, inside its scans too."""
    order = topo(graph.roots)
    if any(n.op is scan for n in order):
        graph = _prune_scans(graph, order)
        order = topo(graph.roots)
    alive = {*order, *graph.leaves}
    if graph.info.keys() <= alive:
        return graph
    return graph.with_roots(graph.roots, {n: i for n, i in graph.info.items() if n in alive})


def _prune_scans(graph: Graph, order: list[Node]) -> Graph:
    needed: set[Node] = set(graph.roots)
    read: dict[Node, set[int]] = {}                     # which results of a scan are read
    parts: dict[Node, tuple[list[int], list[int]]] = {}      # its outputs and operands that stay
    for n in reversed(order):
        if n not in needed:
            continue
        if n.op is get and n.inputs[0].op is scan:
            read.setdefault(n.inputs[0], set()).add(n.attrs["index"])
        if n.op is scan:
            parts[n] = _living(n, read.get(n, set()))
            needed.update(n.inputs[k] for k in parts[n][1])
        else:
            needed.update(n.inputs)

    info = dict(graph.info)
    done: dict[Node, Node] = {leaf: leaf for leaf in graph.leaves}
    places: dict[Node, dict[int, int]] = {}             # of each scan: where a result stands now
    recorder = Recorder(info)
    with recording(recorder):
        for n in order:
            if n in done or n not in needed:
                continue
            recorder.here = info.get(n, NOWHERE)
            if n.op is scan:
                done[n], places[n] = _pruned(n, *parts[n], done)
            elif n.op is get and n.inputs[0] in places:
                of, index = done[n.inputs[0]], places[n.inputs[0]][n.attrs["index"]]
                done[n] = n if of is n.inputs[0] else get(of, index=index)
            else:
                inputs = tuple(done[i] for i in n.inputs)
                done[n] = n if inputs == n.inputs else Node(n.op, inputs, n.attrs, n.type)
    roots = tuple(done[r] for r in graph.roots)
    return graph if roots == graph.roots else graph.with_roots(roots, info)


def _living(n: Node, read: set[int]) -> tuple[list[int], list[int]]:
    """Of a scan whose results `read` are wanted: the body's outputs and the operands that stay. A carry lives while anything living reads it."""
    body: Graph = n.attrs["body"]
    c = n.attrs["carries"]
    outputs = {k for k in range(len(body.outputs)) if k in read} | {k for k in range(c) if len(body.outputs) + k in read}
    while True:
        reached = set(topo(body.outputs[k] for k in outputs))
        operands = {k for k, leaf in enumerate(body.inputs) if leaf in reached}
        more = outputs | {k for k in operands if k < c}
        if more == outputs:
            return sorted(outputs), sorted(operands | {k for k in outputs if k < c})
        outputs = more


def _pruned(n: Node, outputs: list[int], operands: list[int], done: dict[Node, Node]) -> tuple[Node, dict[int, int]]:
    """The scan of what stays, and where each result of the old one stands in it."""
    body: Graph = n.attrs["body"]
    c, m, total = n.attrs["carries"], n.attrs["xs"], len(body.outputs)
    inner = dce(Graph(_pick(body.inputs, operands), _pick(body.outputs, outputs), info=body.info, name=body.name))
    inputs = tuple(done[n.inputs[k]] for k in operands)
    if len(outputs) == total and len(operands) == len(n.inputs) and inner.outputs == body.outputs:
        same = n if inputs == n.inputs else Node(n.op, inputs, n.attrs, n.type)
        return same, {k: k for k in range(total + c)}
    carries = sum(k < c for k in outputs)
    new = scan(*inputs, **{**n.attrs, "body": inner, "carries": carries, "xs": sum(c <= k < c + m for k in operands)})
    assert isinstance(new.type, TupleType)
    places = {k: at for at, k in enumerate(outputs)}
    places.update({total + k: len(outputs) + at for at, k in enumerate(outputs[:carries])})
    return new, places


def _pick(nodes: tuple[Node, ...], which: Iterable[int]) -> tuple[Node, ...]:
    return tuple(nodes[k] for k in which)
