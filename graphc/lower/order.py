"""In which order the groups run, so that states change in place: whoever reads an old value runs before the kernel that overwrites it, and whatever
can fail runs before anything is overwritten. Where no such order exists, the new value waits in the arena until the end (`late`)."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..core.types import TensorType, TupleType
from ..ir.node import Node
from ..loop.ir import Region
from .access import Home
from .fuse import Group, Reads

ROUNDS = 3                                              # of moving groups forward: each may make room for others
SYMBOLIC = 64                                           # elements along an axis whose size is not known


def schedule(gs: Sequence[Group], copies: Sequence[Group], aims: Mapping[Group, Sequence[Home]], checks: set[Group],
             states: Mapping[Node, Home], reads: Mapping[Node, Reads]) -> tuple[list[Group], set[Region]]:
    """The groups and copies in order, and the states that must be written late. `aims`: the memory outside the arena that each group writes."""
    everything = [*gs, *copies]
    made_by = {n: g for g in gs for n in g.members}
    before: dict[Group, set[Group]] = {g: {made_by[x] for x in g.reads if x in made_by} - {g} for g in everything}
    for g in gs:
        before[g] |= {made_by[x] for n in g.members for x in reads[n].after if x in made_by} - {g}
    leaf_of = {h.region: leaf for leaf, h in states.items()}
    readers: dict[Node, list[Group]] = {}
    for g in everything:
        for x in g.reads:
            readers.setdefault(x, []).append(g)
    late: set[Region] = set()

    def reaches(a: Group, b: Group) -> bool:
        """Must a run before b?"""
        stack, seen = [b], {b}
        while stack:
            g = stack.pop()
            if g is a:
                return True
            for p in before[g] - seen:
                seen.add(p)
                stack.append(p)
        return False

    for writer in everything:
        for home in aims[writer]:
            leaf = leaf_of.get(home.region)
            if leaf is None:
                continue
            at_other_index = any(leaf in reads[n].elsewhere for n in writer.members)
            first = checks.union(readers.get(leaf, ())) - {writer}
            copies_itself = not writer.members and leaf in writer.reads
            if at_other_index or copies_itself or writer in checks or any(reaches(writer, g) for g in first):
                late.add(home.region)
            else:
                before[writer] |= first
    rank = {g: k for k, g in enumerate(everything)}
    done: list[Group] = []
    seen: set[Group] = set()
    for g in everything:                                # depth first: as found, except where something must come earlier
        stack = [g]
        while stack:
            top = stack[-1]
            rest = [p for p in sorted(before[top], key=rank.__getitem__) if p not in seen]
            if top in seen:
                stack.pop()
            elif rest:
                stack.append(rest[0])
            else:
                seen.add(top)
                done.append(top)
                stack.pop()
    return _sooner(done, before, made_by, {n for g in gs for n in g.members if aims[g]}), late


def _sooner(sequence: list[Group], before: Mapping[Group, set[Group]], made_by: Mapping[Node, Group], elsewhere: set[Node]) -> list[Group]:
    """What frees more of the arena than it writes runs as soon as it can: the gradient of a weight, behind the last cotangent that it needs. (An update of
    large states that frees little stays where it is: it would only take the cache from what runs next.)

    It is put in front of a contraction or another head, not between kernels that may share rows. `elsewhere`: nodes whose memory is not the arena's.
    """
    pos = {g: k for k, g in enumerate(sequence)}
    readers: dict[Node, list[Group]] = {}
    for g in sequence:
        for x in g.reads:
            if x in made_by and x not in elsewhere:
                readers.setdefault(x, []).append(g)
    for _ in range(ROUNDS):
        moved = False
        for g in list(sequence):
            at = pos[g]
            first = 1 + max((pos[p] for p in before[g]), default=-1)
            while first < at and not _is_border(sequence[first]):
                first += 1
            if first >= at:
                continue
            freed = sum(_bytes(x) for x in g.reads if x in readers and all(r is g or pos[r] < at for r in readers[x]))
            if freed > sum(map(_bytes, g.members)):
                sequence.insert(first, sequence.pop(at))
                for k in range(first, at + 1):
                    pos[sequence[k]] = k
                moved = True
        if not moved:
            break
    return sequence


def _is_border(g: Group) -> bool:
    """Does no kernel share rows with what runs before this one?"""
    return g.closed or (g.head is not None and g.head.op.name == "contract") or not g.members


def _bytes(n: Node) -> int:
    """The size of a node, several results together; a symbolic axis counts for SYMBOLIC elements."""
    items = n.type.items if isinstance(n.type, TupleType) else (n.type,)
    return sum(math.prod(m if isinstance(m, int) else SYMBOLIC for m in t.shape) * t.dtype.itemsize for t in items if isinstance(t, TensorType))
