"""Dead code. In a pure graph what no root reaches is not there at all, so little is left to do: forget where dead nodes came from, and take out of
each loop and branch the results nobody reads, with the carries and operands that served only them (reverse mode writes cotangents for everything)."""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from ..core.record import dataclass
from ..ir.node import NOWHERE, Graph, Node, Recorder, recording
from ..ir.walk import topo
from ..ops.branch import attributes, branches_of, cond
from ..ops.control import scan
from ..ops.loop import while_
from ..ops.tuples import get


def dce(graph: Graph) -> Graph:
    """The graph with dead parts gone, inside its loops and branches too."""
    order = topo(graph.roots)
    if any(n.op in RULES for n in order):
        graph = _prune(graph, order)
        order = topo(graph.roots)
    alive = {*order, *graph.leaves}
    if graph.info.keys() <= alive:
        return graph
    return graph.with_roots(graph.roots, {n: i for n, i in graph.info.items() if n in alive})


@dataclass(frozen=True, slots=True)
class Living:
    """Of a node that holds bodies: the bodies' outputs and the operands that stay."""

    outputs: list[int]
    operands: list[int]


@dataclass(frozen=True, slots=True)
class Rule:
    """living(n, which results are read); pruned(n, what stays, its inputs) → the new node, and where each result of the old one stands in it."""

    living: Callable[[Node, set[int]], Living]
    pruned: Callable[[Node, Living, tuple[Node, ...]], tuple[Node, dict[int, int]]]


def _prune(graph: Graph, order: list[Node]) -> Graph:
    needed: set[Node] = set(graph.roots)
    read: dict[Node, set[int]] = {}                     # which results of a node that holds bodies are read
    parts: dict[Node, Living] = {}
    for n in reversed(order):
        if n not in needed:
            continue
        if n.op is get and n.inputs[0].op in RULES:
            read.setdefault(n.inputs[0], set()).add(n.attrs["index"])
        if n.op in RULES:
            parts[n] = RULES[n.op].living(n, read.get(n, set()))
            needed.update(n.inputs[k] for k in parts[n].operands)
        else:
            needed.update(n.inputs)

    info = dict(graph.info)
    done: dict[Node, Node] = {leaf: leaf for leaf in graph.leaves}
    places: dict[Node, dict[int, int]] = {}             # of each such node: where a result stands now
    recorder = Recorder(info)
    with recording(recorder):
        for n in order:
            if n in done or n not in needed:
                continue
            recorder.here = info.get(n, NOWHERE)
            if n.op in RULES:
                done[n], places[n] = RULES[n.op].pruned(n, parts[n], tuple(done[n.inputs[k]] for k in parts[n].operands))
            elif n.op is get and n.inputs[0] in places:
                of, index = done[n.inputs[0]], places[n.inputs[0]][n.attrs["index"]]
                done[n] = n if of is n.inputs[0] else get(of, index=index)
            else:
                inputs = tuple(done[i] for i in n.inputs)
                done[n] = n if inputs == n.inputs else Node(n.op, inputs, n.attrs, n.type)
    roots = tuple(done[r] for r in graph.roots)
    return graph if roots == graph.roots else graph.with_roots(roots, info)


def _body(body: Graph, part: Living, first: int = 0) -> Graph:
    """A body with what stays, itself pruned; `first`: the operand that is its first input."""
    inputs, outputs = _pick(body.inputs, [k - first for k in part.operands if k >= first]), _pick(body.outputs, part.outputs)
    inner = dce(Graph(inputs, outputs, info=body.info, name=body.name))
    return body if (inner.inputs, inner.outputs) == (body.inputs, body.outputs) else inner


def _reached(body: Graph, outputs: Iterable[int]) -> set[int]:
    """The inputs that these outputs need."""
    below = set(topo(body.outputs[k] for k in outputs))
    return {k for k, leaf in enumerate(body.inputs) if leaf in below}


def _pick(nodes: tuple[Node, ...], which: Collection[int]) -> tuple[Node, ...]:
    return tuple(nodes[k] for k in which)


def _same(n: Node, inputs: tuple[Node, ...]) -> tuple[Node, dict[int, int]]:
    """n on these inputs, with every result where it was."""
    count = len(n.type.items)                           # type: ignore[union-attr]
    return n if inputs == n.inputs else Node(n.op, inputs, n.attrs, n.type), {k: k for k in range(count)}


# ---- scan: carries live while anything living reads them ---------------------------------------------------------------------------------


def _living_scan(n: Node, read: set[int]) -> Living:
    body: Graph = n.attrs["body"]
    c, total = n.attrs["carries"], len(body.outputs)
    outputs = {k for k in range(total) if k in read} | {k for k in range(c) if total + k in read}
    while True:
        operands = _reached(body, outputs) | ({c + n.attrs["xs"]} if n.attrs.get("bounded") else set())
        more = outputs | {k for k in operands if k < c}
        if more == outputs:
            return Living(sorted(outputs), sorted(operands | {k for k in outputs if k < c}))
        outputs = more


def _pruned_scan(n: Node, part: Living, inputs: tuple[Node, ...]) -> tuple[Node, dict[int, int]]:
    body, c, m = n.attrs["body"], n.attrs["carries"], n.attrs["xs"]
    total, inner = len(body.outputs), _body(body, part)
    if inner is body:
        return _same(n, inputs)
    carries = sum(k < c for k in part.outputs)
    new = scan(*inputs, **{**n.attrs, "body": inner, "carries": carries, "xs": sum(c <= k < c + m for k in part.operands)})
    places = {k: at for at, k in enumerate(part.outputs)}
    places.update({total + k: len(part.outputs) + at for at, k in enumerate(part.outputs[:carries])})
    return new, places


# ---- while: what the question reads lives too --------------------------------------------------------------------------------------------


def _living_while(n: Node, read: set[int]) -> Living:
    c, bounded = n.attrs["carries"], n.attrs.get("max_steps") is not None
    always = _reached(n.attrs["cond"], (0,))
    carries = {k for k in range(c) if k in read or (bounded and c + k in read) or k in always}
    while True:
        operands = always | _reached(n.attrs["body"], carries) | carries
        more = {k for k in operands if k < c}
        if more == carries:
            return Living(sorted(carries), sorted(operands))
        carries = more


def _pruned_while(n: Node, part: Living, inputs: tuple[Node, ...]) -> tuple[Node, dict[int, int]]:
    c, bounded = n.attrs["carries"], n.attrs.get("max_steps") is not None
    body, test = _body(n.attrs["body"], part), _body(n.attrs["cond"], Living([0], part.operands))
    if body is n.attrs["body"] and test is n.attrs["cond"]:
        return _same(n, inputs)
    carries = len(part.outputs)
    places = {k: at for at, k in enumerate(part.outputs)}
    if bounded:
        places |= {c + k: carries + at for at, k in enumerate(part.outputs)}
    places[(1 + bounded) * c] = (1 + bounded) * carries
    return while_(*inputs, **{**n.attrs, "cond": test, "body": body, "carries": carries}), places


# ---- cond: what any branch reads lives ---------------------------------------------------------------------------------------------------


def _living_cond(n: Node, read: set[int]) -> Living:
    operands = {0} | {1 + k for b in branches_of(n.attrs) for k in _reached(b, read)}
    return Living(sorted(read), sorted(operands))


def _pruned_cond(n: Node, part: Living, inputs: tuple[Node, ...]) -> tuple[Node, dict[int, int]]:
    old = branches_of(n.attrs)
    branches = tuple(_body(b, part, 1) for b in old)
    if branches == old:
        return _same(n, inputs)
    return cond(*inputs, **attributes(branches)), {k: at for at, k in enumerate(part.outputs)}


RULES = {scan: Rule(_living_scan, _pruned_scan), while_: Rule(_living_while, _pruned_while), cond: Rule(_living_cond, _pruned_cond)}
