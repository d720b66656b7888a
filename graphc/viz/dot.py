"""A graph as DOT text: what Graphviz draws. Written by hand, so that quoting is ours and the same graph gives the same bytes.

Three lanes side by side. Forward runs down; backward runs up beside it, so that a derivative stands near what it is the derivative of; update
runs down again. For that, edges within the backward lane are written from reader to value with `dir=back`: Graphviz ranks them upside down
and puts the arrow at the right end. Modules are boxes inside a lane, and so is the body of a loop, below the node that runs it.
In the update lane a box is what belongs to one parameter, and a parameter that is read there again is drawn there again, dashed.

A small constant is written into the label of its reader, `maximum(·, 0)`, where the dot stands for an operand that an edge brings. Every other
node is a box: its name or op, its type, and in the tooltip all that is known of it.

Not here: collapsing what is too large to read, and everything that moves.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..ir.node import Graph, Node
from ..ir.walk import subgraphs, topo, users
from .label import EDGES, LONG, NODES, attributes, clean, constant_text, graph_look, lane_look, module_look, node_look, unseen_look, written_look
from .lanes import assign_lanes, assign_scopes, choose_rows, depth, update_parts
from .theme import KEPT, LANES, PHASES

HOLD = 3                                                # unseen edges that hold a lane in its place


@dataclass(slots=True)
class Box:
    """A cluster being filled: lines of DOT, and the clusters inside by title and, where titles repeat, a tag."""

    rows: list[str] = field(default_factory=list)
    boxes: dict[tuple[str, str], Box] = field(default_factory=dict)

    def inner(self, path: Sequence[str]) -> Box:
        box = self
        for name in path:
            box = box.boxes.setdefault((name, ""), Box())
        return box


# ---- writing ---------------------------------------------------------------------------------------------------------------------


def to_dot(graph: Graph, *, title: str | None = None) -> str:
    """The DOT text of a graph, ending in a newline. The same graph gives the same text, and any string may stand in it.

    Nodes are n0, n1, ... in topological order; inside the first body that n7 runs, n7_0_0, n7_0_1, ...; the new value of state k is s0, s1, ...
    """
    writer = _Writer()
    lanes = {phase: Box() for phase in PHASES}
    names = writer.fill(graph, "n", "s", lanes)
    writer.head(graph.name if title is None else title)
    used = [phase for phase, box in lanes.items() if box.rows or box.boxes]
    several = len(used) > 1 or any(i.phases for i in graph.info.values())
    if len(used) > 1:
        writer.align({phase: names[phase] for phase in used}, lanes)
    for phase in used:
        writer.cluster(lanes[phase], "  ", lane_look(phase) if several else None)
    return "\n".join([*writer.out, *writer.edges, "}"]) + "\n"


class _Writer:
    """Boxes are filled first and written after: a cluster of DOT must stand in one piece, and nodes come in another order."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.edges: list[str] = []
        self.clusters = 0
        self.below: set[str] = set()                    # what has something of its lane above it

    def head(self, title: str) -> None:
        self.out += ["digraph graphc {", f"  graph {graph_look(title)}", f"  node {NODES}", f"  edge {EDGES}"]

    def align(self, used: Mapping[str, Sequence[str]], lanes: Mapping[str, Box]) -> None:
        """Lanes from left to right, their tops in a row, by unseen nodes and edges.

        Graphviz orders clusters by crossings alone. So above each lane hangs a node outside all clusters; these it does keep in order; and the
        edges down to the lanes, several of each, cost more crossings than another order of the lanes would save.
        """
        for phase in used:
            self.out.append(f"  above_{phase} {unseen_look()}")
            lanes[phase].rows.insert(0, f"{phase} {unseen_look()}")
        self.edges.append(f"  {{ rank=min; {' -> '.join(f'above_{phase}' for phase in used)} [style=invis] }}")
        for phase, names in used.items():
            self.edges += [f"  above_{phase} -> {phase} [style=invis]"] * HOLD
            self.edges += [f"  {phase} -> {name} [style=invis, weight=0]" for name in names if name not in self.below]

    def stack(self, parts: Sequence[str], tops: Mapping[str, Sequence[str]], ends: Mapping[str, Sequence[str]], lane: Box, rows: int) -> None:
        """The parts of the update in columns of `rows`, so that the lane grows downwards beside the others and not only to the right."""
        for k in range(1, len(parts)):
            if k % rows:
                joint = f"joint{k}"
                lane.rows.append(f"{joint} {unseen_look()}")
                self.edges += [f"  {end} -> {joint} [style=invis]" for end in ends[parts[k - 1]]]
                self.edges += [f"  {joint} -> {top} [style=invis]" for top in tops[parts[k]]]

    def cluster(self, box: Box, pad: str, look: str | None) -> None:
        """A box and what is in it; without a look, its lines alone."""
        inner = pad if look is None else pad + "  "
        if look is not None:
            self.out += [f"{pad}subgraph cluster_{self.clusters} {{", f"{inner}graph {look}"]
            self.clusters += 1
        self.out += [inner + row for row in box.rows]
        for (name, _), part in box.boxes.items():
            self.cluster(part, inner, module_look(name))
        if look is not None:
            self.out.append(pad + "}")

    def fill(self, graph: Graph, node: str, state: str, lanes: Mapping[str, Box], inside: str | None = None) -> dict[str, list[str]]:
        """Put the nodes of a graph into its lanes, or, for a body, all of them into the lane that it is `inside` of. Gives the names in each lane."""
        order = topo((*graph.leaves, *graph.roots))
        readers, roots, outputs = users(order), set(graph.roots), set(graph.outputs)
        folded = {n for n in order if n not in roots and readers[n] and constant_text(n) is not None}
        drawn = [n for n in order if n not in folded]
        name = {n: f"{node}{k}" for k, n in enumerate(drawn)}
        lane = assign_lanes(graph, order) if inside is None else dict.fromkeys(order, inside)
        scope = assign_scopes(graph, order, lane)
        parts = update_parts(graph, order, lane) if inside is None else {}
        scope |= {n: (part,) for n, part in parts.items()}
        states = {s.read: s.name for s in graph.states}
        again: set[Node] = set()                        # leaves that the update reads too: drawn there once more, and no edge crosses the picture
        tops: dict[str, list[str]] = {part: [] for s in graph.states if (part := parts.get(s.write)) is not None}
        ends: dict[str, list[str]] = {part: [] for part in tops}
        names: dict[str, list[str]] = {phase: [] for phase in lanes}

        for n in drawn:
            names[lane[n]].append(name[n])
            if n in parts and not any(parts.get(i) == parts[n] and i not in folded for i in n.inputs):
                tops[parts[n]].append(name[n])
            box = lanes[lane[n]].inner(scope[n])
            box.rows.append(f"{name[n]} {node_look(n, graph.where(n), folded, states.get(n), n in outputs)}")
            for i in dict.fromkeys(n.inputs):
                if i in folded:
                    continue
                value, start = name[i], lane[i]
                if not i.inputs and lane[n] == "update" != start:
                    value, start = f"{name[i]}_again", "update"
                    if i not in again:
                        again.add(i)
                        names["update"].append(value)
                        tops.setdefault(parts.get(n, ""), []).append(value)
                        box.rows.append(f"{value} {node_look(i, graph.where(i), folded, states.get(i), output=False, again=True)}")
                self.edge(value, name[n], str(i.type), start, lane[n], mirror=inside is None)
            for k, body in enumerate(subgraphs(n)):
                part = box.boxes.setdefault((f"{n.op.name}: {body.name}", name[n]), Box())
                known = body if body.info else replace(body, info=graph.info)
                inner = self.fill(known, f"{name[n]}_{k}_", f"{name[n]}_{k}_s", {lane[n]: part}, lane[n])[lane[n]]
                look = attributes(style="dotted", arrowhead="none", color=KEPT)
                self.edges += [f"  {name[n]} -> {top} {look}" for top in inner if top not in self.below]       # the body hangs below its node
                self.below.update(inner)
        for k, s in enumerate(graph.states):
            if s.write is not s.read:
                lanes[lane[s.write]].inner(scope[s.write]).rows.append(f"{state}{k} {written_look(s.name)}")
                self.edge(name[s.write], f"{state}{k}", str(s.write.type), lane[s.write], lane[s.write], mirror=False)
                if s.write in parts:
                    ends[parts[s.write]].append(f"{state}{k}")
        if parts:
            rows = choose_rows(len(ends), depth(order, list(parts)), depth(order, [n for n in drawn if lane[n] == "forward"]))
            self.stack(list(ends), tops, ends, lanes["update"], rows)
        return names

    def edge(self, value: str, reader: str, kind: str, start: str, end: str, mirror: bool) -> None:
        """From value to reader. Only what agrees with the direction of its lane has a say in the ranks."""
        look: dict[str, object] = {"color": LANES[start].edge}
        if start == end:
            if start == "backward" and mirror:
                value, reader = reader, value
                look["dir"] = "back"
            self.below.add(reader)
        elif PHASES.index(start) > PHASES.index(end):
            look["constraint"] = "false"
        elif start == "backward":
            look |= {"penwidth": 1.6, "minlen": 0}
        else:
            look = {"color": KEPT, "style": "dashed", "minlen": 0, "weight": 0}
        self.edges.append(f"  {value} -> {reader} {attributes(**look, tooltip=clean(kind, LONG))}")
