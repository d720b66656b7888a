"""In which order the axes of each state and each intermediate lie in memory.

The user sees PyTorch's layouts; inside, a weight lies so that the axis that its first contraction sums over is outermost, and the other along
the lanes. Tensors that meet elementwise at one index (a weight, its gradient, its moments) share an order, so that one sweep is contiguous in all.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..ir.node import Node, State
from ..ops.contract import free_axes
from .fuse import BODIES, Reads, root_of, shape_of
from .half import widens

Order = tuple[int, ...]                                 # physical axis i is logical axis order[i]


def identity(n: Node) -> Order:
    return tuple(range(len(shape_of(n))))


def orders(states: Sequence[State], stored: Mapping[Node, Reads], topo_: Sequence[Node], fixed: Mapping[Node, Order]) -> dict[Node, Order]:
    """The physical order of each stored node and each state's leaf. `fixed`: leaves whose memory lies already."""
    parent: dict[Node, Node] = {}

    def find(n: Node) -> Node:
        while parent.get(n, n) is not n:
            n = parent[n]
        return n

    leaves = {s.read for s in states}
    for n, r in stored.items():
        for x in r.here:
            if shape_of(x) == shape_of(n) and x not in r.elsewhere and (x in stored or x in leaves):
                parent[find(x)] = find(n)
    for s in states:
        if s.write in stored:
            parent[find(s.read)] = find(s.write)

    wanted: dict[Node, Order] = {}
    for leaf, order in fixed.items():
        wanted.setdefault(find(leaf), order)
    pinned = {root_of(n) for n in topo_ if n.op.name == "reshape"} | {i for n in topo_ if n.op.name in BODIES or n.op.name == "topk" for i in n.inputs}
    for x in topo_:                                     # an alias and a loop's slices read plain row-major memory
        if x in pinned and (x in leaves or x in stored):
            wanted.setdefault(find(x), identity(x))
    for n in topo_:
        if n.op.name != "contract":
            continue
        for side, x in enumerate(n.inputs):
            axes = list(range(len(shape_of(x))))        # axes[i]: the axis of the leaf that x's axis i is
            while x.op.name == "permute" or widens(x):
                axes = axes if widens(x) else [x.attrs["axes"][a] for a in axes]
                x = x.inputs[0]
            if x in leaves and len(axes) >= 2:
                summed, batch = n.attrs["contracting"][side], n.attrs["batch"][side]
                free = free_axes(len(axes), summed, batch)
                wanted.setdefault(find(x), tuple(axes[a] for a in (*batch, *summed, *free)))
    return {n: fixed.get(n) or wanted.get(find(n), identity(n)) for n in (*stored, *leaves)}    # two fixed leaves may differ
