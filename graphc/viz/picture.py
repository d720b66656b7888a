"""A picture before it is drawn: boxes, the frames around them, and links between them; and how a frame is closed to one box.

Every view is made as such a picture; `dot` writes it as text, `html` as a page that opens and closes frames itself. Nothing here knows a graph.
"""
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from ..core.record import dataclass, field, replace

Style = Literal["head", "line", "minor", "note"]        # bold, plain, plain and quiet, small and quiet
Row = tuple[str, Style]
Shape = Literal["op", "small", "input", "state", "update", "module", "unseen", "area", "text"]
Kind = Literal["flow", "kept", "grad", "shared", "body", "held", "top"]     # an operand; from another lane; a gradient to its update; what updates
Role = Literal["lane", "module", "update", "shared", "body"]        # share; into a loop; unseen, the last to what else would have nothing above it


@dataclass(frozen=True, slots=True)
class Box:
    """One node of the picture."""

    id: str
    frame: str = ""                                     # the id of the frame it stands in; "": none
    rows: tuple[Row, ...] = ()
    shape: Shape = "op"
    paint: str = "plain"
    tip: tuple[str, ...] = ()
    heavy: bool = False                                 # a result
    again: bool = False                                 # drawn elsewhere too
    place: tuple[float, float, float, float] | None = None      # centre and size in points, where the view itself lays out


@dataclass(frozen=True, slots=True)
class Frame:
    """A rectangle around boxes and other frames."""

    id: str
    parent: str
    title: str
    kind: Role                                          # update: of one parameter; shared: what all of them read
    paint: str = "paper"
    tip: tuple[str, ...] = ()
    closed: bool = False
    summary: Box | None = None                          # what it is when closed


@dataclass(frozen=True, slots=True)
class Link:
    """From a value to its reader."""

    tail: str
    head: str
    kind: Kind = "flow"
    paint: str = "forward"                              # the lane that the value is from
    label: str = ""
    tip: str = ""
    up: bool = False                                    # ranked upside down: the reader stands above
    free: bool = False                                  # no say in the ranks
    length: int = 1                                     # ranks between its ends, at least
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Picture:
    title: str
    boxes: tuple[Box, ...]
    frames: tuple[Frame, ...] = ()                      # parents before children
    links: tuple[Link, ...] = ()
    ranks: tuple[tuple[str, ...], ...] = ()             # unseen boxes that stand side by side, in this order
    placed: bool = False                                # every box has its place: nothing is left to lay out


@dataclass(slots=True)
class Sketch:
    """A picture being made."""

    boxes: dict[str, Box] = field(default_factory=dict)
    frames: dict[str, Frame] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    ranks: list[tuple[str, ...]] = field(default_factory=list)
    _known: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def frame(self, parent: str, title: str, kind: Role, paint: str = "paper", tag: str = "",
              tip: tuple[str, ...] = ()) -> str:
        """The id of the frame of this title in this parent (and of this tag, where titles repeat), made when first asked for."""
        key = (parent, title, tag)
        if key not in self._known:
            self._known[key] = made = f"f{len(self.frames)}"
            self.frames[made] = Frame(made, parent, title, kind, paint, tip)
        return self._known[key]

    def inner(self, parent: str, path: Sequence[str]) -> str:
        """The frame of a module path."""
        for k, name in enumerate(path):
            parent = self.frame(parent, name, "module", tip=(".".join(path[:k + 1]),))
        return parent

    def add(self, box: Box) -> None:
        self.boxes[box.id] = box

    def done(self, title: str) -> Picture:
        return Picture(title, tuple(self.boxes.values()), tuple(self.frames.values()), tuple(self.links), tuple(self.ranks))


UNSEEN = ("held", "top")

# ---- lanes -----------------------------------------------------------------------------------------------------------------------


def lane_link(tail: str, head: str, start: str, end: str, lanes: Sequence[str] = ()) -> Link:
    """From value to reader. Only what agrees with the direction of its lane has a say in the ranks; where there are lanes, the second runs up."""
    if start == end or not lanes:
        return Link(tail, head, "flow", start, up=bool(lanes) and start == lanes[1])
    if lanes.index(start) > lanes.index(end):
        return Link(tail, head, "flow", start, free=True)
    if start == lanes[1]:
        return Link(tail, head, "grad", start)
    return Link(tail, head, "kept", start, length=0, weight=0)


def align(sketch: Sketch, lanes: Mapping[str, str], tops: Mapping[str, Sequence[str]], below: Collection[str]) -> None:
    """Lanes from left to right, their tops in a row, by unseen boxes and links.

    Graphviz orders clusters by crossings alone. So above each lane hangs a box outside all clusters; these it does keep in order; and a heavy link
    down to the lane costs more crossings than another order of the lanes would save.
    """
    sketch.ranks.append(tuple(f"above_{phase}" for phase in lanes))
    for phase, frame in lanes.items():
        sketch.add(Box(f"above_{phase}", "", shape="unseen"))
        sketch.add(Box(phase, frame, shape="unseen"))
        sketch.links.append(Link(f"above_{phase}", phase, "held", weight=3))
        sketch.links += [Link(phase, name, "top", weight=0) for name in tops[phase] if name not in below]


# ---- closing frames --------------------------------------------------------------------------------------------------------------


def holders(frames: Sequence[Frame]) -> dict[str, str]:
    """For each frame the outermost closed one that it is in or is; "" where all are open."""
    out = {"": ""}
    for f in frames:                                    # parents come first
        out[f.id] = out[f.parent] or (f.id if f.closed else "")
    return out


def collapsed(picture: Picture) -> Picture:
    """What is to be seen: each closed frame is its summary, and links end there. `page.js` does the same."""
    held = holders(picture.frames)
    by_id = {f.id: f for f in picture.frames}
    at = {b.id: held[b.frame] or b.id for b in picture.boxes}
    boxes: dict[str, Box] = {}
    for b in picture.boxes:
        f = held[b.frame]
        if not f:
            boxes[b.id] = b
        elif f not in boxes:
            summary = by_id[f].summary
            boxes[f] = replace(summary if summary is not None else Box(f, rows=((by_id[f].title, "head"),)), id=f, frame=by_id[f].parent)
    links: dict[tuple[str, str], Link] = {}
    for x in picture.links:
        into = {by_id[at[end]].kind for end in (x.tail, x.head) if at[end] != end}
        if x.kind == "shared" and "shared" in into:
            continue                                    # the box stands for all its links: they would be many
        x = replace(x, tail=at[x.tail], head=at[x.head], label="" if "update" in into else x.label)
        if x.tail != x.head:
            old = links.get((x.tail, x.head))
            if old is None or (old.kind in UNSEEN and x.kind not in UNSEEN):
                links[x.tail, x.head] = x
    below = {x.tail if x.up else x.head for x in links.values() if x.kind not in UNSEEN and not x.free}
    frames = tuple(f for f in picture.frames if not held[f.id])
    return replace(picture, boxes=tuple(boxes.values()), frames=frames, links=tuple(x for x in links.values() if x.kind != "top" or x.head not in below))


def close(picture: Picture, which: Collection[str]) -> Picture:
    """The picture with these frames closed too."""
    return replace(picture, frames=tuple(replace(f, closed=True) if f.id in which else f for f in picture.frames))


def size(picture: Picture) -> int:
    """How many boxes there are to be seen."""
    return sum(b.shape != "unseen" for b in collapsed(picture).boxes)


def shrink(picture: Picture, most: int, inside: int = 10**9) -> Picture:
    """Close frames until at most so many boxes are left, and in no innermost module more than `inside`, if that will do.

    First go the updates, then loops, then modules. Of the innermost open modules the fullest go first; one that stands in several lanes goes in all
    of them, and with it those that differ from it only in numbers (layers.0, layers.1).
    """
    for kinds in (("update", "shared"), ("body",)):
        if size(picture) > most:
            picture = close(picture, {f.id for f in picture.frames if f.kind in kinds})
    while True:
        seen = collapsed(picture)
        holding = {f.parent for f in seen.frames}
        count: dict[str, int] = {}
        shut = {f.id for f in picture.frames if f.closed}
        few = size(picture) <= most
        for b in seen.boxes:                            # once there are few, what is closed does not crowd a module
            count[b.frame] = count.get(b.frame, 0) + (b.shape != "unseen" and not (few and b.id in shut))
        groups: dict[str, dict[str, list[str]]] = {}    # numbers left out → path → frames
        for f in seen.frames:
            if f.kind == "module":
                path = "".join(f.tip[:1])
                groups.setdefault("".join(c for c in path if not c.isdigit()), {}).setdefault(path, []).append(f.id)
        full = {group: max(sum(count.get(f, 0) for f in frames) for frames in paths.values()) for group, paths in groups.items()
                if not any(f in holding for frames in paths.values() for f in frames)}
        fullest = max(full, key=lambda group: full[group], default="")
        if not full or (few and full[fullest] <= inside):
            break
        picture = close(picture, {f for frames in groups[fullest].values() for f in frames})
    return picture


def summaries(picture: Picture, noted: Mapping[str, tuple[Row, ...]] | None = None, unit: str = "op") -> Picture:
    """Every frame with what it is when closed: its title, what it holds, and what stands in `noted` for its boxes, counted in a `unit`."""
    inside: dict[str, list[Box]] = {f.id: [] for f in picture.frames}
    parent = {f.id: f.parent for f in picture.frames}
    for b in picture.boxes:
        f = b.frame
        while f:
            inside[f].append(b)
            f = parent[f]
    frames = []
    for f in picture.frames:
        if f.summary is not None:
            frames.append(f)
            continue
        ops = [b for b in inside[f.id] if b.shape in ("op", "small")]
        rows: list[Row] = [(f.title, "head")]
        path = f"{f.tip[0]}." if f.tip else "."
        told = list(dict.fromkeys((text.removeprefix(path), style) for b in inside[f.id] for text, style in (noted or {}).get(b.id, ())))
        rows += told if len(told) <= 4 else [*told[:3], (f"and {len(told) - 3} more", "note")]
        rows.append((f"{len(ops)} {unit}{'s' * (len(ops) != 1)}", "minor"))
        heavy = any(b.heavy for b in inside[f.id])
        frames.append(replace(f, summary=Box(f.id, f.parent, tuple(rows), "module", "module", (*f.tip, *_contents(ops)), heavy)))
    return replace(picture, frames=tuple(frames))


def _contents(ops: Sequence[Box], most: int = 12) -> tuple[str, ...]:
    rows = [" ".join(text for text, style in b.rows if style != "note") for b in ops]
    return tuple(rows) if len(rows) <= most else (*rows[:most - 1], f"and {len(rows) - most + 1} more")
