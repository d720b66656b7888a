"""A graph as a picture: three lanes, or its forward part, or its modules.

Forward runs down; backward runs up beside it, so that a derivative stands near what it is the derivative of; the updates stand in a column on the
right. Modules are frames inside a lane, and so is the body of a loop, below the node that runs it. In the update lane a frame is what belongs to
one parameter, and a leaf that is read there too is drawn there again, dashed.

Type and shape stand on the edge that leaves a box, once for each value; in the box, where it has a name, is given or is a result.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from ..core.record import dataclass, field, replace
from ..ir.node import Graph, Node, State
from ..ir.walk import subgraphs, topo
from .folding import MOVES, Folding, fold
from .label import SHORT, move_text, op_text, plain, tooltip
from .lanes import assign_lanes, assign_scopes, choose_rows, depth, rule_name, slot_name, update_parts
from .picture import Box, Link, Picture, Row, Sketch, align, close, lane_link, shrink, size, summaries
from .theme import FAMILY, PHASES, SMALL, TITLES

WHOLE = 64                                              # boxes of a graph that is drawn whole
MOST, INSIDE = 60, 10                                   # boxes to be left of a larger one, and boxes in one of its modules


def picture_of(graph: Graph, view: str = "lanes", expand: bool | None = None, title: str | None = None) -> Picture:
    """The picture of a graph. `expand`: None draws all of a small graph and folds a large one, True draws all, False folds."""
    made = _draw(graph, view, moves=False, title=title)
    if expand or (expand is None and view != "modules" and size(made) <= WHOLE):
        return made
    made = _draw(graph, view, moves=True, title=title)
    made = close(made, {f.id for f in made.frames if f.kind in ("update", "shared")})
    if view == "modules":
        holding = {f.parent for f in made.frames}
        made = close(made, {f.id for f in made.frames if f.kind == "module" and f.id not in holding})
    return shrink(made, MOST, INSIDE)


def _draw(graph: Graph, view: str, moves: bool, title: str | None) -> Picture:
    drawing = _Drawing(view, moves, Sketch())
    names = drawing.graph(graph, "n", "s")
    used = [phase for phase in PHASES if names[phase]]
    if view == "lanes" and len(used) > 1:
        drawing.align({phase: names[phase] for phase in used})
    return summaries(drawing.sketch.done(graph.name if title is None else title), drawing.noted)


@dataclass(frozen=True, slots=True)
class _Updates:
    """What is known of the update lane: which node belongs to which parameter, and what the optimizer is called."""

    graph: Graph
    parts: Mapping[Node, str]
    rule: str
    given: tuple[str, ...]                              # numbers that all updates read
    counts: tuple[str, ...]                             # states that belong to no parameter
    written: Mapping[str, list[State]]                  # parameter → it and its slots
    before: Mapping[str, set[str]]                      # parameter → what is done to its gradient between backward and step

    @classmethod
    def of(cls, graph: Graph, order: Sequence[Node], lane: Mapping[Node, str], scope: Mapping[Node, Sequence[str]], parts: Mapping[Node, str]) -> _Updates:
        written: dict[str, list[State]] = {}
        before: dict[str, set[str]] = {}
        for s in graph.states:
            if s.write in parts and s.write is not s.read:
                written.setdefault(parts[s.write], []).append(s)
        for n, parameter in parts.items():
            if scope[n] and "forward" in graph.where(n).phases:
                before.setdefault(parameter, set()).add(".".join(scope[n]))
        given = tuple(str(i.attrs["name"]) for i in graph.inputs if lane.get(i) == "update" and i not in parts)
        counts = tuple(s.name for s in graph.states if lane.get(s.read) == "update" and s.read not in parts)
        return cls(graph, parts, rule_name(graph, order, lane), given, counts, written, before)


@dataclass(slots=True)
class _Drawing:
    view: str
    moves: bool
    sketch: Sketch
    noted: dict[str, tuple[Row, ...]] = field(default_factory=dict)     # what a closed frame says of a box in it
    lanes: dict[str, str] = field(default_factory=dict)                 # phase → frame
    shared: set[str] = field(default_factory=set)                       # frames of the update lane that belong to no parameter
    below: set[str] = field(default_factory=set)                        # what has something of its lane above it

    def graph(self, graph: Graph, node: str, state: str, inside: tuple[str, str] | None = None) -> dict[str, list[str]]:
        """Draw a graph into the lanes; a body, into the (lane, frame) that it is `inside` of. Gives the boxes in each lane."""
        order = topo((*graph.leaves, *graph.roots))
        lane = assign_lanes(graph, order) if inside is None else dict.fromkeys(order, inside[0])
        folding = fold(graph, order, self.moves, lane)
        shown = [n for n in folding.shown if inside is not None or self.view == "lanes" or lane[n] == "forward"]
        several = inside is None and self.view == "lanes" and (len({lane[n] for n in shown}) > 1 or any(i.phases for i in graph.info.values()))
        for phase in PHASES if several else ():         # from left to right
            if any(lane[n] == phase for n in shown):
                self.lane(phase)
        scope = assign_scopes(graph, order, lane)
        parts = update_parts(graph, order, lane) if inside is None else {}
        name = {n: f"{node}{k}" for k, n in enumerate(shown)}
        states = {s.read: s.name for s in graph.states}
        updates = _Updates.of(graph, order, lane, scope, parts)
        made: dict[str, list[str]] = {phase: [] for phase in PHASES}
        frames: dict[Node, str] = {}

        def frame_of(n: Node) -> str:
            if n not in frames:
                root = inside[1] if inside is not None else self.lane(lane[n]) if several else ""
                if lane[n] == "update" and inside is None:
                    frames[n] = self.part(updates, n, scope[n], root)
                else:
                    frames[n] = self.sketch.inner(root, scope[n])
            return frames[n]

        again: dict[Node, str] = {}                     # leaves that the update reads too
        links: list[tuple[Node, Link]] = []
        told: set[Node] = set()                         # values whose type stands on an edge
        for n in shown:
            links += self.operands(n, folding, name, lane, inside is None, again, frame_of, told)
        outputs = set(graph.outputs)
        for n in shown:
            for leaf in dict.fromkeys(folding.source[i] for i in n.inputs):
                copy = again.get(leaf, "")
                if copy and copy not in self.sketch.boxes and lane[n] == "update":
                    self.sketch.add(replace(self.box(leaf, graph, folding, copy, frame_of(n), states, outputs, True), again=True))
                    made["update"].append(copy)
                    self.noted.pop(copy, None)
            box = self.box(n, graph, folding, name[n], frame_of(n), states, outputs, n not in told)
            self.sketch.add(box)
            if lane[n] == "update" and inside is None:
                self.noted.pop(name[n], None)
            made[lane[n]].append(name[n])
            for k, body in enumerate(subgraphs(n)):
                self.body(n, body, graph, name[n], k, lane[n], frame_of(n), made)
        self.sketch.links += [link for _, link in links]
        for k, s in enumerate(graph.states):
            if s.write is not s.read and folding.source[s.write] in name:
                value = folding.source[s.write]
                written = Box(f"{state}{k}", frame_of(s.write), ((plain(s.name), "head"), ("new value", "note")), "state", "state",
                              (plain(f"the new value of {s.name}", 240),))
                self.sketch.add(written)
                if parts.get(s.write) == s.name:
                    self.noted[written.id] = ((plain(f"{s.name} ←", 2 * SHORT), "line"),)
                made[lane[s.write]].append(written.id)
                self.below.add(written.id)
                self.sketch.links.append(Link(name[value], written.id, paint=lane[s.write], tip=str(s.write.type)))
        if inside is None and self.view == "lanes" and not self.moves and parts:
            self.columns(graph, order, parts, lane, name, state, again)
        return made

    def lane(self, phase: str) -> str:
        if phase not in self.lanes:
            self.lanes[phase] = self.sketch.frame("", TITLES[phase], "lane", phase, tip=(phase,))
        return self.lanes[phase]

    # ---- boxes -------------------------------------------------------------------------------------------------------------------

    def box(self, n: Node, graph: Graph, folding: Folding, key: str, frame: str, states: Mapping[Node, str], outputs: set[Node], typed: bool) -> Box:
        """One node: the user's name for it where there is one, its op, its type. Notes what a closed frame will say of it."""
        end = folding.end.get(n, n)
        info = graph.where(n) | graph.where(end)
        called = min(info.names, key=lambda s: (len(s), s), default="")
        kind = plain(str(end.type), SHORT + 8)
        paint = FAMILY.get(n.op.family, "plain")
        op = plain(op_text(n, folding.spell, folding.moved(n)), 2 * SHORT)
        output = n in outputs or end in outputs
        tip = tooltip(end, info, *["output"] * output, *([f"state {states[n]}"] if n in states else []),
                      *([f"{n.op}: {n.type}"] if end is not n else []))
        note: Row = (kind, "note")
        if n in states:
            self.noted[key] = ((plain(f"{states[n]} {end.type}", 2 * SHORT), "note"),)
            return Box(key, frame, ((plain(states[n]), "head"), note), "state", "state", tip, output)
        if n.op.name == "input":
            return Box(key, frame, ((plain(str(n.attrs.get("name", "input"))), "head"), note), "input", "input", tip, output)
        if called:
            if called.startswith("d ") or output:
                self.noted[key] = ((plain(called), "line"),)
            return Box(key, frame, ((plain(called), "head"), (op, "line"), note), "op", paint, tip, output)
        small = paint in SMALL
        if output:
            self.noted[key] = ((f"result {kind}", "line"),)
        lead: Row = (op, "minor" if small else "head")
        return Box(key, frame, (lead, note) if typed or output else (lead,), "small" if small else "op", paint, tip, output)

    def body(self, n: Node, body: Graph, graph: Graph, key: str, k: int, lane: str, frame: str, made: dict[str, list[str]]) -> None:
        """The body of a loop: a frame that hangs below its node."""
        inner = self.sketch.frame(frame, f"{n.op.name}: {body.name}", "body", tag=f"{key}_{k}")
        known = body if body.info else replace(body, info=graph.info)
        boxes = self.graph(known, f"{key}_{k}_", f"{key}_{k}_s", (lane, inner))[lane]
        self.sketch.links += [Link(key, top, "body", lane) for top in boxes if top not in self.below]
        self.below.update(boxes)
        made[lane] += boxes

    def part(self, plan: _Updates, n: Node, scope: Sequence[str], root: str) -> str:
        """The frame of a node of the update lane: that of its parameter, inside the parameter's module; or that of what all of them share."""
        parameter, rule = plan.parts.get(n), plan.rule or "update"
        if parameter is None and not plan.parts:
            return self.sketch.inner(root, scope)
        if parameter is None:
            between = bool(n.inputs) and "update" not in plan.graph.where(n).phases
            what = ".".join(scope) if between and scope else "between" if between else plan.rule or "for all"
            made = self.sketch.frame(root, what, "shared")
            if made not in self.shared:
                self.shared.add(made)
                given = () if between else plan.given
                counts = () if between else plan.counts
                told = [", ".join(given[k:k + 3]) for k in range(0, min(len(given), 9), 3)] + [", ".join(counts)]
                rows: list[Row] = [(plain(what), "head"), *((plain(text), "note") for text in told if text)]
                self._settle(made, Box(made, root, tuple(rows), "update", "input", ("what every parameter's update reads", *given, *counts)))
            return made
        made = self.sketch.frame(self.sketch.inner(root, parameter.split(".")[:-1][:5]) if self.moves else root, parameter, "update", tag=parameter)
        if self.sketch.frames[made].summary is None:
            written = plan.written.get(parameter, ())
            slots = [slot_name(s.name, parameter) for s in written if s.name != parameter]
            kind = next((str(s.read.type) for s in written if s.name == parameter), "")
            what = " → ".join((*sorted(plan.before.get(parameter, ())), f"{rule}{': ' if slots else ''}{', '.join(slots)}"))
            rows = [(f"{plain(parameter)} ←", "head"), (plain(what, 2 * SHORT), "line"), (plain(kind, SHORT + 8), "note")]
            self._settle(made, Box(made, root, tuple(rows), "update", "state",
                                   (f"the new value of {parameter}", *(f"and of {s.name}" for s in written if s.name != parameter))))
        return made

    def _settle(self, frame: str, summary: Box) -> None:
        self.sketch.frames[frame] = replace(self.sketch.frames[frame], summary=summary)

    # ---- links -------------------------------------------------------------------------------------------------------------------

    def operands(self, n: Node, folding: Folding, name: Mapping[Node, str], lane: Mapping[Node, str], whole: bool, again: dict[Node, str],
                 frame_of: Callable[[Node], str], told: set[Node]) -> list[tuple[Node, Link]]:
        """A link for each box that a node reads."""
        out: list[tuple[Node, Link]] = []
        seen: set[Node] = set()
        for i in n.inputs:
            value = folding.source[i]
            if value not in name or value in seen:
                continue
            seen.add(value)
            path = () if (n.op.name == "contract" and i in folding.moved(n)) else folding.path[i]
            words = " ".join(dict.fromkeys(w for m in path if m.op.name in MOVES and (w := move_text(m))))
            kind = str(i.type if words else folding.end.get(value, value).type)
            start, end, tail = lane[value], lane[n], name[value]
            if not value.inputs and end == "update" != start:
                tail = again.setdefault(value, f"{tail}_again")
                start = "update"
            link = self.link(tail, name[n], start, end, whole)
            if whole and end == "update" and frame_of(n) != frame_of(value) and (frame_of(value) in self.shared or (
                    start == "backward" and frame_of(n) in self.shared)):
                link = replace(link, kind="shared", free=True)
            if link.kind == "flow" and not link.free and (end != "update" or frame_of(n) == frame_of(value)):
                named = not value.inputs
                if words or (value not in told and not named):
                    link = replace(link, label=f"{words} {kind}".strip())
                if not named and not words:
                    told.add(value)
            tip = " → ".join([str(folding.end.get(value, value).type), *(f"{m.op.name} {m.type}" for m in folding.path[i])])
            out.append((value, replace(link, tip=tip)))
        return out

    def link(self, tail: str, head: str, start: str, end: str, whole: bool) -> Link:
        link = lane_link(tail, head, start, end, PHASES if whole and self.view == "lanes" else ())
        if start == end:
            self.below.add(tail if link.up else head)
        return link

    # ---- layout ------------------------------------------------------------------------------------------------------------------

    def align(self, used: Mapping[str, Sequence[str]]) -> None:
        """Lanes in a row; and closed updates one below the other."""
        align(self.sketch, {phase: self.lane(phase) for phase in used}, used, self.below)
        if self.moves:
            frames = [f.id for f in self.sketch.frames.values() if f.kind in ("update", "shared")]
            first: dict[str, str] = {}
            for b in self.sketch.boxes.values():
                if b.frame in frames:
                    first.setdefault(b.frame, b.id)
            order = [first[f] for f in sorted(first, key=lambda f: f not in self.shared)]
            self.sketch.links += [Link(a, b, "held") for a, b in pairwise(order)]

    def columns(self, graph: Graph, order: Sequence[Node], parts: Mapping[Node, str], lane: Mapping[Node, str], name: Mapping[Node, str], state: str,
                again: Mapping[Node, str]) -> None:
        """The open parts of the update in columns, so that the lane grows downwards beside the others and not only to the right."""
        shown = [n for n in name if lane[n] == "update" and n in parts]
        ends: dict[str, list[str]] = {}
        for k, s in enumerate(graph.states):
            if s.write in parts and s.write is not s.read:
                ends.setdefault(parts[s.write], []).append(f"{state}{k}")
        tops: dict[str, list[str]] = {part: [] for part in ends}
        for n in shown:
            if not any(i in parts and parts[i] == parts[n] and i in name for i in n.inputs):
                tops.setdefault(parts[n], []).append(name[n])
        for copy in again.values():
            frame = self.sketch.boxes[copy].frame
            if self.sketch.frames[frame].title in tops:
                tops[self.sketch.frames[frame].title].append(copy)
        rows = choose_rows(len(ends), depth(order, shown), depth(order, [n for n in name if lane[n] == "forward"]))
        names = list(ends)
        for k in range(1, len(names)):
            if k % rows:
                joint = f"joint{k}"
                self.sketch.add(Box(joint, self.lane("update"), shape="unseen"))
                self.sketch.links += [Link(end, joint, "held") for end in ends[names[k - 1]]]
                self.sketch.links += [Link(joint, top, "held") for top in tops[names[k]]]
