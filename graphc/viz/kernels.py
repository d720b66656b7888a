"""What runs, as a picture: one box for each launch of a kernel with the nodes that were fused into it, in the order of the plan, and the buffers between.

A buffer is a link from the kernel that last wrote it. States that a kernel changes in place are lines in its box; scalars are words.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..core.dims import nominal
from ..core.record import replace
from ..ir.node import Graph, Node
from ..ir.op import REGISTRY
from ..ir.walk import topo
from ..loop.ir import Accum, Barrier, Branch, Extern, Launch, Load, Loop, Plan, Ref, Region, Steps, Store, expressions, walk
from .label import LONG, SHORT, nbytes_text, plain
from .lanes import assign_lanes
from .picture import Box, Picture, Row, Shape, Sketch, align, lane_link, shrink, size, summaries
from .theme import FAMILY, PHASES, TITLES

MOST, INSIDE = 60, 12                                   # boxes to be left, and in one module
FEW = 5                                                 # names in a box


def picture_of(native: Any, title: str) -> Picture:
    """The picture of a compiled step: of its `plan`, in the names of its `graph`."""
    drawing = _Drawing(native.graph, native.optimized, native.program)
    drawing.plan(native.plan, "")
    for k, o in enumerate(native.graph.outputs):
        drawing.result(k, str(o.type))
    drawing.finish()
    made = summaries(drawing.sketch.done(title), drawing.noted, "kernel")
    return shrink(made, MOST, INSIDE) if size(made) > MOST else made


def written(launch: Launch) -> set[str]:
    """The names of the argument buffers that a kernel stores into."""
    return {s.buf.name for s in walk(launch.kernel.body) if isinstance(s, Store | Accum) and s.buf.space == "argument"}


def read(launch: Launch) -> set[str]:
    return {e.buf.name for e in expressions(launch.kernel.body) if isinstance(e, Load) and e.buf.space == "argument"}


def names_of_regions(graph: Graph, optimized: Graph, homes: Any) -> dict[str, str]:
    """The user's words for the memory of a step: inputs, states, results; and for the arena the names of the nodes that live there."""
    out = {f"arg{k}": str(n.attrs["name"]) for k, n in enumerate(graph.inputs)} | {f"state{k}": s.name for k, s in enumerate(graph.states)}
    for n, home in homes.items():
        if home.region.where == "arena":
            info = optimized.where(n)
            within = min(info.scopes, key=lambda s: (len(s), s), default="")
            out.setdefault(home.region.name, min(info.names, key=lambda s: (len(s), s), default=f"{n.op}{f' in {within}' if within else ''}"))
    return out


class _Drawing:
    """Launches in their order. A kernel stands in the lane and module of what it computes; what writes parameters is update."""

    def __init__(self, graph: Graph, optimized: Graph, program: Any) -> None:
        self.graph, self.optimized, self.sketch = graph, optimized, Sketch()
        self.names = names_of_regions(graph, optimized, program.homes)
        self.last: dict[str, str] = {}                  # region → the box that wrote it last
        self.count = self.branches = 0
        self.links: dict[tuple[str, str], list[tuple[str, Region, bool]]] = {}
        self.lane: dict[str, str] = {}                  # box → phase
        self.noted: dict[str, tuple[Row, ...]] = {}
        self.nodes: dict[str, list[Node]] = {}          # region → what is stored there
        for n, home in program.homes.items():
            self.nodes.setdefault(home.region.name, []).append(n)
        self.several = any(i.phases for i in optimized.info.values())
        self.phase = assign_lanes(optimized, topo((*optimized.leaves, *optimized.roots)))
        self.shared: set[str] = set()                   # kernels of the update that belong to no parameter

    def plan(self, plan: Plan, frame: str) -> None:
        for step in _steps(plan):
            if isinstance(step, Loop):
                inner = self.sketch.frame(frame or self.root("forward"), times(step), "body", tag=step.var,
                                          tip=(f"for {step.var} in 0..{step.count - 1}",))
                self.plan(step.body, inner)
            elif isinstance(step, Branch):
                self.branches += 1
                for k, body in enumerate(step.bodies):
                    inner = self.sketch.frame(frame or self.root("forward"), f"branch {k} of {len(step.bodies)}", "body", tag=f"branch{self.branches}_{k}",
                                              tip=(f"only where {self.word(step.index.region)} is {k}",))
                    self.plan(body, inner)
            elif isinstance(step, Extern):
                self.host(step, frame)
            else:
                self.launch(step, frame)

    def root(self, phase: str) -> str:
        return self.sketch.frame("", TITLES[phase], "lane", phase, tip=(phase,)) if self.several else ""

    def home(self, launch: Launch, stores: set[str], changed: Sequence[str]) -> tuple[str, str]:
        """The lane and the module of a kernel."""
        nodes = [n for buf, ref in zip(launch.kernel.buffers, launch.args) if buf.name in stores and ref.region.where in ("arena", "result")
                 for n in self.nodes.get(ref.region.name, ())]
        phases = [p for p in PHASES if any(self.phase.get(n) == p for n in nodes)]
        if changed and (not phases or any("." in c for c in changed)):
            return "update", min(changed, key=len).rpartition(".")[0]
        phase = (phases or ["forward"])[0]
        within = [s for n in nodes if self.phase.get(n) == phase for s in self.optimized.where(n).scopes]
        return phase, min(within, key=lambda s: (len(s), s), default="")

    def launch(self, launch: Launch, frame: str) -> None:
        self.count += 1
        key = f"k{self.count}"
        stores, loads = written(launch), read(launch)
        scalars, changed, traffic = [], [], 0
        for buf, ref in zip(launch.kernel.buffers, launch.args, strict=True):
            traffic += ref.region.nbytes
            if buf.name in stores and ref.region.where == "state":
                changed.append(self.word(ref.region))
            elif ref.region.where == "scalar":
                scalars.append(self.word(ref.region))
        phase, module = self.home(launch, stores, changed)
        self.lane[key] = phase
        if not frame and phase == "update" and not changed:
            frame = self.sketch.frame(self.root(phase), module or "for all", "shared")
            self.shared.add(key)
        frame = frame or self.sketch.inner(self.root(phase), module.split(".", 5) if module else ())
        for buf, ref in zip(launch.kernel.buffers, launch.args, strict=True):
            if buf.name in loads and not (buf.name in stores and ref.region.where == "state") and ref.region.where != "scalar":
                self.link(ref, key, f"{buf.dtype}[{','.join(map(str, buf.shape))}]", phase)
        for buf, ref in zip(launch.kernel.buffers, launch.args, strict=True):
            if buf.name in stores:
                self.last[ref.region.name] = key
        ops = [name for name in launch.kernel.origin if name in REGISTRY]
        named = list(dict.fromkeys(name for name in launch.kernel.origin if name not in REGISTRY))
        lead = next((o for o in ops if REGISTRY[o].family == "contract"), next((o for o in ops if REGISTRY[o].family == "reduce"), ops[0] if ops else ""))
        paint = FAMILY.get(REGISTRY[lead].family, "plain") if lead else "plain"
        rows: list[Row] = [(f"{self.count}  {launch.kernel.name.partition('_')[2]}", "head")]
        rows += [(plain(name), "line") for name in named[:3]]
        if len(ops) > 1:
            rows.append((plain(_counted(ops), 2 * SHORT), "minor"))
        if changed:
            rows.append((plain(f"writes {_few(changed)}", 2 * SHORT), "note"))
        if scalars:
            rows.append((plain(f"with {_few(scalars)}", 2 * SHORT), "note"))
        tip = (launch.kernel.name, *named, f"nodes: {', '.join(ops)}", *(f"writes {c}" for c in changed), *(f"with {s}" for s in scalars),
               f"touches {nbytes_text(traffic)}")
        self.noted[key] = tuple((plain(name), "line") for name in named[:1])
        self.sketch.add(Box(key, frame, tuple(rows), "op", paint, tip))

    def host(self, step: Extern, frame: str) -> None:
        """A function of Python's: a box between what it reads and what it writes."""
        self.count += 1
        key, given, made = f"k{self.count}", step.args[:step.reads], step.args[step.reads:]
        nodes = [n for ref in made for n in self.nodes.get(ref.region.name, ())]
        phase = next((p for p in PHASES if any(self.phase.get(n) == p for n in nodes)), "forward")
        self.lane[key] = phase
        for ref, dtype in zip(given, step.dtypes):
            if ref.region.where != "scalar":
                self.link(ref, key, str(dtype), phase)
        for ref in made:
            self.last[ref.region.name] = key
        rows: tuple[Row, ...] = ((f"{self.count}  {plain(step.name)}", "head"), ("in Python", "note"))
        self.sketch.add(Box(key, frame or self.sketch.inner(self.root(phase), ()), rows, "op", "effect", (f"{step.name}: a function of Python's",)))

    def word(self, region: Region) -> str:
        return plain(self.names.get(region.name, region.name), LONG)

    def link(self, ref: Ref, key: str, type_: str, phase: str) -> None:
        region = ref.region
        tail = self.last.get(region.name)
        if tail is None:
            tail = f"m_{region.name}_{phase}"               # what is given stands in each lane that reads it: no edge crosses the picture
            if tail not in self.sketch.boxes:
                word = self.word(region)
                shape: Shape = "state" if region.where == "state" else "input"
                module = word.rpartition(".")[0] if region.where == "state" else ""
                frame = self.sketch.inner(self.root(phase), module.split(".", 5) if module else ())
                self.lane[tail] = phase
                self.sketch.add(Box(tail, frame, ((plain(word), "head"), (type_, "note")), shape, shape, (f"{region.where}: {nbytes_text(region.nbytes)}",),
                                    again=any(f"m_{region.name}_{p}" in self.sketch.boxes for p in PHASES)))
        self.links.setdefault((tail, key), []).append((type_, region, tail.startswith("m_")))

    def result(self, k: int, type_: str) -> None:
        tail = self.last.get(f"result{k}")
        if tail is not None:
            word = f"result {k}" if len(self.graph.outputs) > 1 else "result"
            self.lane[f"r{k}"] = self.lane[tail]
            self.sketch.add(Box(f"r{k}", self.root(self.lane[tail]), ((word, "head"), (type_, "note")), "input", "input", (), True))
            self.sketch.links.append(lane_link(tail, f"r{k}", self.lane[tail], self.lane[tail], PHASES if self.several else ()))

    def finish(self) -> None:
        """The links, once every box has its lane."""
        lanes = PHASES if self.several else ()
        below: set[str] = set()
        for (tail, head), found in self.links.items():
            made = lane_link(tail, head, self.lane[tail], self.lane[head], lanes)
            label, tip = _buffers(found)
            if self.lane[tail] == self.lane[head]:
                below.add(tail if made.up else head)
                made = replace(made, label="" if tail.startswith("m_") else label)
            if (tail in self.shared) != (head in self.shared) and self.lane[head] == "update":
                made = replace(made, kind="shared", free=self.lane[tail] == "backward")
            self.sketch.links.append(replace(made, tip=tip))
        used = {phase: [key for key, lane in self.lane.items() if lane == phase] for phase in PHASES}
        used = {phase: names for phase, names in used.items() if names}
        if self.several and len(used) > 1:
            align(self.sketch, {phase: self.root(phase) for phase in used}, used, below)


def times(loop: Loop) -> str:
    """How often a loop runs."""
    return "while it holds" if loop.go is not None else f"up to {loop.count} times" if loop.limit is not None else f"{loop.count} times"


def _steps(plan: Plan) -> Iterator[Launch | Loop | Branch | Extern]:
    if isinstance(plan, Steps):
        for p in plan.body:
            yield from _steps(p)
    elif not isinstance(plan, Barrier):
        yield plan


def _buffers(found: Sequence[tuple[str, Region, bool]]) -> tuple[str, str]:
    """All the buffers between two kernels: the largest as a label, the rest in the tooltip."""
    found = sorted(found, key=lambda x: -nominal(x[1].nbytes))
    label = found[0][0]
    if len(found) > 1:
        label = f"{len(found)} scalars" if all(t.endswith("[]") for t, _, _ in found) else f"{label} and {len(found) - 1} more"
    return label, "; ".join(f"{r.name}: {t}, {nbytes_text(r.nbytes)}" for t, r, _ in found)


def _counted(ops: Sequence[str]) -> str:
    """cast, cast, div → 2 cast + div"""
    return " + ".join(f"{ops.count(o)} {o}" if ops.count(o) > 1 else o for o in dict.fromkeys(ops))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= FEW else f"{', '.join(names[:FEW - 1])} and {len(names) - FEW + 1} more"
