"""Which results depend on which values: edge by edge, but through loops, branches and calls only where a body's results do.

Reverse mode hands a body all that its operands were, used or not; an edge into such a node says little.
"""
from __future__ import annotations

from collections.abc import Collection, Sequence

from ..core.types import TupleType
from ..ir.node import Graph, Node
from ..ir.walk import topo


def dependent(outputs: Sequence[Node], sources: Collection[Node], ends: Collection[Node] = ()) -> list[bool]:
    """For each output whether any of the sources can change it; nothing is looked for below `ends`."""
    moved: dict[Node, set[int]] = {n: set() for n in ends}              # of each node the results that depend
    moved.update((s, {0}) for s in sources)
    for n in topo(outputs, stop=moved):
        if n not in moved:
            if n.op.name == "get":
                moved[n] = {0} if n.attrs["index"] in moved[n.inputs[0]] else set()
            else:
                given = {k for k, i in enumerate(n.inputs) if moved[i]}
                moved[n] = _results(n, given) if given else set()
    return [bool(moved[o]) for o in outputs]


def _results(n: Node, given: set[int]) -> set[int]:
    """Which results of a node depend on these operands."""
    every = set(range(len(n.type.items))) if isinstance(n.type, TupleType) else {0}
    match n.op.name:
        case "cond":
            if 0 in given:
                return every
            return {k for b in n.attrs.values() for k in _of(b, {j - 1 for j in given})}
        case "scan":
            c = n.attrs["carries"]
            if n.attrs.get("bounded") and c + n.attrs["xs"] in given:
                return every
            body: Graph = n.attrs["body"]
            found = _round(body, given, c)
            carried = {k for k in found if k < c}
            idle = n.attrs.get("bounded") or not n.attrs["length"]      # it may end as it began
            return _of(body, found) | {len(body.outputs) + k for k in carried} | (carried if idle else set())
        case "while":
            c = n.attrs["carries"]
            found = _round(n.attrs["body"], given, c)
            if _of(n.attrs["cond"], found):
                return every
            carries = {k for k in found if k < c}
            return carries | ({c + k for k in carries} if n.attrs.get("max_steps") is not None else set())
        case "custom_vjp" | "custom_jvp" | "remat":
            return _of(n.attrs["body"], given)
        case "barrier":                                 # only the first is its value
            return every if 0 in given else set()
        case _:
            return every


def _of(body: Graph, given: set[int]) -> set[int]:
    """Which outputs of a body depend on these of its inputs."""
    return {k for k, yes in enumerate(dependent(body.outputs, [body.inputs[j] for j in given], body.inputs)) if yes}


def _round(body: Graph, given: set[int], carries: int) -> set[int]:
    """The inputs of a loop's body that depend on those given first, after any number of turns."""
    while (more := given | {k for k in _of(body, given) if k < carries}) != given:
        given = more
    return given
