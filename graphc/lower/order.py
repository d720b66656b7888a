"""In which order the groups run, so that states change in place: whoever reads an old value runs before the kernel that overwrites it, and whatever
can fail runs before anything is overwritten. Where no such order exists, the new value waits in the arena until the end (`late`)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..ir.node import Node
from ..loop.ir import Region
from .access import Home
from .fuse import Group, Reads


def schedule(gs: Sequence[Group], copies: Sequence[Group], aims: Mapping[Group, Sequence[Home]], checks: set[Group],
             states: Mapping[Node, Home], reads: Mapping[Node, Reads]) -> tuple[list[Group], set[Region]]:
    """The groups and copies in order, and the states that must be written late. `aims`: the memory outside the arena that each group writes."""
    everything = [*gs, *copies]
    made_by = {n: g for g in gs for n in g.members}
    before: dict[Group, set[Group]] = {g: {made_by[x] for x in g.reads if x in made_by} - {g} for g in everything}
    leaf_of = {h.region: leaf for leaf, h in states.items()}
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
            first = [g for g in everything if g is not writer and (g in checks or leaf in g.reads)]
            copies_itself = not writer.members and leaf in writer.reads
            if at_other_index or copies_itself or writer in checks or any(reaches(writer, g) for g in first):
                late.add(home.region)
            else:
                before[writer] |= set(first)
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
    return done, late
