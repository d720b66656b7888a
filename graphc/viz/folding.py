"""What of a graph need not be a box. A constant stands in the label of its reader. In a large graph a function of one operand, read once, stands
there too: sub(·, log(·)); and what only moves or converts elements (reshape, permute, broadcast, cast) becomes part of the edge to its reader, or,
where it ends in something with a name, part of the box that it moves."""
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ..core.record import dataclass, field
from ..ir.node import Graph, Node
from ..ir.walk import users
from .label import constant_text

MOVES = ("reshape", "permute", "broadcast", "cast", "stop_gradient")
SPELLED = ("binary", "compare", "select", "reduce", "unary")    # readers whose labels spell their operands


@dataclass(slots=True)
class Folding:
    """For each node where its value is to be seen."""

    shown: list[Node] = field(default_factory=list)             # the nodes that are boxes, in order
    source: dict[Node, Node] = field(default_factory=dict)      # the box (or constant) that a value comes from
    path: dict[Node, tuple[Node, ...]] = field(default_factory=dict)    # and the moves on the way
    end: dict[Node, Node] = field(default_factory=dict)         # of a box that took over moves, the last of them
    words: dict[Node, str] = field(default_factory=dict)        # constants that stand in labels

    def spell(self, operand: Node) -> str | None:
        """What stands for an operand in its reader's label."""
        if self.source[operand] in self.words:
            return self.words[self.source[operand]]
        text = "·"
        for n in self.path[operand]:
            text = text if n.op.name in MOVES else f"{n.op.name}({text})"
        return text if text != "·" else None

    def moved(self, reader: Node) -> dict[Node, Sequence[int]]:
        """The operands that are mere transpositions of their boxes, and the reader itself where its box is shown transposed: by which axes."""
        out = {i: axes for i in reader.inputs if (axes := _axes(self.path[i])) is not None}
        if reader in self.end and (axes := _axes(_between(reader, self.end[reader]))) is not None:
            out[reader] = axes
        return out


def _between(start: Node, end: Node) -> tuple[Node, ...]:
    out: list[Node] = []
    while end is not start:
        out.insert(0, end)
        end = end.inputs[0]
    return tuple(out)


def _axes(path: Sequence[Node]) -> Sequence[int] | None:
    """The axes of the one permute that a path of permutes amounts to."""
    if not path or any(n.op.name != "permute" for n in path):
        return None
    axes: Sequence[int] = range(path[0].tensor.rank)
    for n in path:
        axes = [axes[a] for a in n.attrs["axes"]]
    return axes


def fold(graph: Graph, order: Sequence[Node], moves: bool, apart: Mapping[Node, str]) -> Folding:
    """Fold constants, and with `moves` moves too. A box takes over only moves of its own lane (`apart`)."""
    readers, roots = users(order), set(graph.roots)
    out = Folding()
    for n in order:
        out.source[n], out.path[n] = n, ()
        if n.op.name == "const" and n not in roots and readers[n]:
            words = constant_text(n, whole=not moves)
            if words is None and moves:
                words = str(n.type)
            if words is not None:
                out.words[n] = words
                continue
        if moves and n.op.name in MOVES:
            before = out.source[n.inputs[0]]
            path = (*out.path[n.inputs[0]], n)
            if before in out.words and n not in roots:
                out.source[n] = before
                continue
            if n not in roots and not graph.where(n).names:
                out.source[n], out.path[n] = before, path
                continue
            if before.inputs and before not in out.end and before not in roots and not graph.where(before).names \
                    and apart[before] == apart[n] and _alone((before, *path[:-1]), readers, roots):
                out.source[n], out.end[before] = before, n
                continue
        if moves and n.op.family == "unary" and not graph.where(n).names and out.source[n.inputs[0]] not in out.words \
                and (reader := _only_reader(n, readers, roots)) is not None and apart[reader] == apart[n] and not graph.where(reader).names:
            out.source[n], out.path[n] = out.source[n.inputs[0]], (*out.path[n.inputs[0]], n)
            continue
        out.shown.append(n)
    return out


def _only_reader(n: Node, readers: Mapping[Node, Sequence[Node]], roots: Collection[Node]) -> Node | None:
    """Who alone reads a node, through moves if need be, and spells its operands."""
    while n not in roots and len(readers[n]) == 1:
        n = readers[n][0]
        if n.op.name not in MOVES:
            return n if n.op.family in SPELLED else None
    return None


def _alone(chain: Sequence[Node], readers: Mapping[Node, Sequence[Node]], roots: Collection[Node]) -> bool:
    """Does nobody but the next read each of these?"""
    return all(len(readers[n]) == 1 and n not in roots for n in chain)
