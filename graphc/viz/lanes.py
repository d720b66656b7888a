"""Where a node stands in the picture: its lane, its module, and in the update lane the parameter it is the update of."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..core.types import TensorType
from ..ir.node import Graph, Node
from ..ir.walk import users
from .theme import PHASES

DEEP = 6                                                # modules in modules, as boxes in boxes


def assign_lanes(graph: Graph, order: Sequence[Node]) -> dict[Node, str]:
    """The lane of each node: the earliest of its phases; a leaf stands where it is read first; what forward is said to read gradients updates."""
    rank = {phase: k for k, phase in enumerate(PHASES)}
    own = {n: min((rank[p] for p in graph.where(n).phases if p in rank), default=-1) for n in order}
    lane: dict[Node, int] = {}
    for n in order:
        lane[n] = own[n] if own[n] >= 0 else max((lane[i] for i in n.inputs if i.inputs), default=0)
        if lane[n] == 0 and any(lane[i] and (lane[i] == 1 or own[i] == 0) for i in n.inputs if i.inputs):
            lane[n] = 2                                 # what is done to gradients between backward() and step(): clipping
    readers = users(order)
    for n in order:
        if not n.inputs and readers[n]:
            lane[n] = min(lane[u] for u in readers[n])
    return {n: PHASES[k] for n, k in lane.items()}


def assign_scopes(graph: Graph, order: Sequence[Node], lane: dict[Node, str]) -> dict[Node, tuple[str, ...]]:
    """The module path of each node; a leaf that only one module of its lane reads belongs to it, unless it is an input of the whole."""
    def path(n: Node) -> tuple[str, ...]:
        named = min(graph.where(n).scopes, key=lambda s: (len(s), s), default="")
        return tuple(named.split(".", DEEP - 1)) if named else ()

    out = {n: path(n) for n in order}
    readers, given = users(order), set(graph.inputs)
    for n in order:
        if not n.inputs and not out[n] and n not in given:
            found = {out[u] for u in readers[n] if lane[u] == lane[n]}
            out[n] = found.pop() if len(found) == 1 else ()
    return out


def update_parts(graph: Graph, order: Sequence[Node], lane: dict[Node, str]) -> dict[Node, str]:
    """The update falls into parts that only scalars join (lr, the step count, a norm): mostly one a parameter. Gives the name of each node's part.

    It is the shortest name of a state that the part writes. What comes from scalars alone belongs to the part that reads it, where only one does.
    """
    mine = [n for n in order if lane[n] == "update"]
    scalar: set[Node] = set()
    for n in order:
        if (isinstance(n.type, TensorType) and n.type.size == 1) or n.op.name == "const" or (n.inputs and all(i in scalar for i in n.inputs)):
            scalar.add(n)
    part: dict[Node, Node] = {n: n for n in mine if n not in scalar}

    def find(n: Node) -> Node:
        while part[n] is not n:
            part[n] = n = part[part[n]]
        return n

    for n in mine:
        for i in n.inputs:
            if n in part and i in part:
                part[find(i)] = find(n)
    names: dict[Node, str] = {}
    for s in graph.states:
        if s.write is not s.read and s.write in part:
            names[find(s.write)] = min(names.get(find(s.write), s.name), s.name, key=lambda name: (len(name), name))
    out = {n: names[find(n)] for n in mine if n in part and find(n) in names}
    readers = users(order)
    for n in reversed(mine):
        if n in scalar and n not in graph.roots:
            found = {out.get(u) for u in readers[n]}
            if len(found) == 1 and (only := found.pop()) is not None:
                out[n] = only
    return out


def choose_rows(parts: int, low: int, high: int) -> int:
    """How many parts of the update, each `low` nodes high, stand in a column, beside lanes `high` nodes high: as many as make the picture 4 to 3.

    In heights of a node, the other lanes are about 15 wide and a part 7; a part's frame and its states' new values are 3 high.
    """
    def misfit(rows: int) -> float:
        return abs(math.log((15 + 7 * -(-parts // rows)) / max(high, rows * (low + 3)) / (4 / 3)))
    return min(range(1, parts + 1), key=misfit, default=1)


def depth(order: Sequence[Node], among: Sequence[Node]) -> int:
    """The number of nodes on the longest path within `among`."""
    deep: dict[Node, int] = {}
    inside = set(among)
    for n in order:
        if n in inside:
            deep[n] = 1 + max((deep[i] for i in n.inputs if i in inside and i.inputs), default=0)
    return max(deep.values(), default=0)


def rule_name(graph: Graph, order: Sequence[Node], lane: Mapping[Node, str]) -> str:
    """The optimizers' names, which their steps leave as scopes; "" where none did."""
    return ", ".join(sorted({s for n in order if n.inputs and lane[n] == "update" for s in graph.where(n).scopes if "update" in graph.where(n).phases}))


def slot_name(state: str, parameter: str) -> str:
    """The name of a slot without its parameter's: exp_avg(fc1.weight) and fc1.weight.exp_avg are exp_avg."""
    return state.removesuffix(f"({parameter})").removeprefix(f"{parameter}.")
