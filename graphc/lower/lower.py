"""Graph → Plan: every tensor finds its home, every group becomes a launch, in an order in which states may change in place.

What the caller gets is a `Program`: the plan, and for each kind of memory outside the arena the regions by slot.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from ..core.dims import Dim, Size, parse
from ..core.record import dataclass, field, replace
from ..core.target import Target
from ..core.types import TensorType, TupleType
from ..ir.node import Graph, Node
from ..ir.walk import subgraphs, topo
from ..loop import anyrows, rows
from ..loop.ir import Plan, Region, Steps
from ..loop.nest import Nest
from ..loop.place import refs
from ..ops.call import inline
from . import context, control, nests
from .access import Home
from .context import Context
from .expand import expand
from .fuse import Group, Reads, groups, is_alias, root_of, shape_of
from .layout import Order, identity, orders
from .order import schedule

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """What a status other than 0 stands for: indices that `node` found outside 0..size-1."""

    size: int
    where: str
    node: Node


@dataclass(slots=True)
class Program:
    """A plan and its memory: for each kind, the regions in the order of their slots."""

    plan: Plan
    arguments: list[Region | None]                      # one for each input of the graph; None where it is a scalar
    scalars: list[Region | None]                        # likewise; None where it is an array
    states: list[Home]                                  # with the physical order that each must lie in
    constants: list[Array]
    results: list[TensorType]
    checks: list[Check]                                 # status k is checks[k - 1]
    calls: list[control.HostCall]                       # by their numbers in the plan
    homes: dict[Node, Home] = field(default_factory=dict)


def lower(graph: Graph, target: Target, fixed: Mapping[int, Order]) -> Program:
    """The plan of a graph. Raises UnknownSize where a symbolic size must be a number. `fixed`: the orders of the states whose memory lies already."""
    return _Lowering(expand(inline(graph)), target, fixed).program()


class _Names:
    """Names and numbers that are unique in a program, its loop bodies included."""

    def __init__(self) -> None:
        self.kernels = self.regions = 0
        self.constants: list[Array] = []
        self.checks: list[Check] = []
        self.calls: list[control.HostCall] = []
        self.loops = 0

    def kernel(self, hint: str) -> str:
        self.kernels += 1
        return f"k{self.kernels}_{hint}"

    def region(self, hint: str) -> str:
        self.regions += 1
        return f"t{self.regions}_{hint}"


def nbytes(t: TensorType) -> Size:
    return t.size * t.dtype.itemsize


class _Lowering:
    """One graph: the whole, or the body of a loop, whose leaves have homes already."""

    def __init__(self, graph: Graph, target: Target, fixed: Mapping[int, Order], names: _Names | None = None) -> None:
        self.graph, self.target, self.fixed, self.names = graph, target, fixed, names or _Names()
        self.homes: dict[Node, Home] = {}
        self.constants: dict[Node, Home] = {}
        self.sinks: dict[Node, list[Home]] = {}         # stored node -> the memory that its value must end in
        self.copies: list[tuple[Node, Home]] = []       # what no kernel can write in passing
        self.orders: dict[Node, Order] = {}
        self.items: dict[Node, list[Home]] = {}         # of an op with several results: the home of each
        self.gets: dict[Node, list[Node]] = {}          # and the `get` nodes that take them out
        for n in topo(graph.roots):
            if n.op.name == "get":
                self.gets.setdefault(n.inputs[0], []).append(n)

    # ---- the whole program ---------------------------------------------------------------------------------------------------------

    def program(self) -> Program:
        g = self.graph
        arguments: list[Region | None] = []
        scalars: list[Region | None] = []
        for k, n in enumerate(g.inputs):
            scalar = not shape_of(n)
            slot = sum(r is not None for r in (scalars if scalar else arguments))
            region = Region(f"arg{k}", "scalar" if scalar else "argument", nbytes(n.tensor), slot)
            (scalars if scalar else arguments).append(region)
            (arguments if scalar else scalars).append(None)
            self.homes[n] = Home(region, n.tensor, identity(n))
        roots = g.roots
        gs, _, reads = groups(roots)
        fixed = {s.read: self.fixed[k] for k, s in enumerate(g.states) if k in self.fixed}
        self.orders = orders(g.states, reads, topo(roots), fixed)
        states = []
        for k, s in enumerate(g.states):
            home = Home(Region(f"state{k}", "state", nbytes(s.read.tensor), k), s.read.tensor, self.orders[s.read])
            self.homes[s.read] = home
            states.append(home)
            if s.write is not s.read:
                self.sink(s.write, home)
        for k, o in enumerate(g.outputs):
            self.sink(o, Home(Region(f"result{k}", "result", nbytes(o.tensor), k), o.tensor, identity(o)))
        plan = self.plan(gs, reads, {s.read: h for s, h in zip(g.states, states)})
        return Program(plan, arguments, scalars, states, self.names.constants, [o.tensor for o in g.outputs], self.names.checks, self.names.calls,
                       self.homes)

    def sink(self, n: Node, home: Home) -> None:
        """The value of n must end in this memory: written by n's own kernel where it can be, else copied."""
        if is_alias(n) or n.op.name in ("input", "const", "iota", "size"):
            self.copies.append((n, home))
        else:
            self.sinks.setdefault(n, []).append(home)

    def inside(self, body: Graph, homes: Iterable[Home]) -> _Lowering:
        """The lowering of a graph that a node of this one holds, whose inputs lie there."""
        inner = _Lowering(body, self.target, {}, self.names)
        inner.homes.update(zip(body.inputs, homes, strict=True))
        return inner

    def body(self) -> Plan:
        """The plan of such a graph, once it is said where its outputs go."""
        gs, _, reads = groups(self.graph.outputs)
        return self.plan(gs, reads, {})

    # ---- any graph -----------------------------------------------------------------------------------------------------------------

    def plan(self, gs: list[Group], reads: Mapping[Node, Reads], states: Mapping[Node, Home]) -> Plan:
        """Homes for what other kernels read, an order without hazards, and a launch for each group."""
        copies = [Group(shape_of(n), [], reads={root_of(n)}) for n, _ in self.copies]
        aims = {g: [h for n in g.members for h in self.sinks.get(n, ())] for g in gs}
        aims.update({c: [home] for c, (_, home) in zip(copies, self.copies)})
        checks = {g for g in gs if any(_checks(n) for n in g.members)}
        sequence, late = schedule(gs, copies, aims, checks, states, reads)
        detour: dict[Region, Home] = {}                 # states that must wait: written to the arena, copied at the end
        for region in late:
            leaf_home = next(h for h in states.values() if h.region == region)
            detour[region] = self.arena(leaf_home.type, "new", leaf_home.order)
        self.sinks = {n: [detour.get(h.region, h) for h in hs] for n, hs in self.sinks.items()}
        targets = [detour.get(home.region, home) for _, home in self.copies]
        private = self._settle(gs)
        ctx = Context(self.target, self.homes, self.constant, self.results, self.check)
        by_copy = {c: (n, home) for c, (n, _), home in zip(copies, self.copies, targets)}
        body: list[Plan | Nest] = []
        for g in sequence:
            if g in by_copy:
                n, home = by_copy[g]
                if 0 not in shape_of(n):
                    body += self.made([context.copy(n, [home], ctx)], [n])
            elif g.head is not None and g.head.op.name in control.LOWERED:
                body += control.LOWERED[g.head.op.name](self, g.head, ctx)
            else:
                body += self.made(nests.launches(g, ctx, self._axes(g)), g.members)
        for leaf, home in states.items():
            if home.region in detour and 0 not in shape_of(leaf):
                waiting = Node(leaf.op, (), leaf.attrs, leaf.type)
                self.homes[waiting] = detour[home.region]
                body += self.made([context.copy(waiting, [home], ctx)], [leaf])
        return self.steps(body, private)

    def _settle(self, gs: Sequence[Group]) -> set[str]:
        """A home for each stored node that somebody outside its group reads, or whose kernel must write it. The regions that are made for them alone."""
        private: set[str] = set()
        outside = {x for g in gs for x in g.reads} | {root_of(n) for n, _ in self.copies}
        for g in gs:
            for n in g.members:
                if isinstance(n.type, TupleType):
                    continue                            # its items have homes; see `_items`
                if n in self.sinks:
                    self.homes[n] = min(self.sinks[n], key=lambda h: h.region.where != "arena")
                elif n in outside or g.closed:
                    self.homes[n] = home = self.arena(n.tensor, n.op.name, self.orders.get(n, identity(n)))
                    private.add(home.region.name)
        for g in gs:
            if g.head is not None and isinstance(g.head.type, TupleType):
                self._items(g.head)
        return private

    def _items(self, head: Node) -> None:
        """Homes for the results of an op that has several, under the `get` nodes that take them out."""
        assert isinstance(head.type, TupleType)
        homes = [self.arena(t, f"{head.op.name}{k}", tuple(range(t.rank))) for k, t in enumerate(head.type.items) if isinstance(t, TensorType)]
        self.items[head] = homes
        for n in self.gets.get(head, ()):
            if isinstance(n.type, TensorType):
                self.homes[n] = homes[n.attrs["index"]]

    def arena(self, t: TensorType, hint: str, order: Order) -> Home:
        return Home(Region(self.names.region(hint), "arena", nbytes(t)), t, order)

    def constant(self, n: Node) -> Home:
        """The home of a constant array: one slot for each."""
        if n not in self.constants:
            slot = len(self.names.constants)
            self.names.constants.append(np.ascontiguousarray(n.attrs["value"]))
            self.constants[n] = Home(Region(f"const{slot}", "constant", nbytes(n.tensor), slot), n.tensor, identity(n))
        return self.constants[n]

    def results(self, n: Node) -> Sequence[Home]:
        if isinstance(n.type, TupleType):
            return self.items[n]
        return self.sinks[n] if n in self.sinks else [self.homes[n]] if n in self.homes else []

    def check(self, n: Node) -> int:
        locs = self.graph.where(n).locs
        self.names.checks.append(Check(n.attrs["size"], ", ".join(sorted(map(str, locs))), n))
        return len(self.names.checks)

    def _axes(self, g: Group) -> Order:
        """The loops of a group, outermost first: the physical order of what it writes, states first."""
        homes = [h for n in g.members for h in self.results(n) if not isinstance(n.type, TupleType)]
        homes.sort(key=lambda h: h.region.where != "state")
        return next((h.order for h in homes if len(h.order) == len(g.space)), tuple(range(len(g.space))))

    def made(self, nests: Sequence[Nest], members: Sequence[Node]) -> list[Nest]:
        """The nests, which know now what they compute."""
        origin = tuple([name for n in members for name in (*sorted(self.graph.where(n).names), n.op.name)])
        return [replace(nest, origin=origin) for nest in nests]

    def steps(self, body: Sequence[Plan | Nest], private: Collection[str] = ()) -> Plan:
        """Nests become launches, neighbours that share rows one launch. `private`: regions that nobody outside this body touches."""
        touched = Counter(name for x in body for name in _regions(x))
        out: list[Plan] = []
        for _, run in groupby(body, lambda x: isinstance(x, Nest)):
            neighbours = list(run)
            nests = [x for x in neighbours if isinstance(x, Nest)]
            here = Counter(name for x in nests for name in _regions(x))
            own = {r for r in private if here[r] == touched[r]}
            if names := {d for x in nests for n in x.sizes for d in dim_names(n)}:
                nests = anyrows.symbolic(nests, names, own, self.target)
            fused = rows.fuse(nests, own, self.target)
            out += [x.launch(self.names.kernel(x.hint)) for x in fused] or [x for x in neighbours if not isinstance(x, Nest)]
        return Steps(tuple(out))


def _regions(x: Plan | Nest) -> set[str]:
    return {ref.region.name for ref in (x.refs if isinstance(x, Nest) else refs(x))}


def dim_names(size: str) -> frozenset[str]:
    """The names in the text of a symbolic size."""
    n = parse(size)
    return n.names if isinstance(n, Dim) else frozenset()


def _checks(n: Node) -> bool:
    """Can computing this node fail? A loop of no known length does when a signal ends it, and a function of Python's may raise anything."""
    return n.op.name in ("check_index", "while", "pure_callback", "io_callback") or any(_checks(m) for g in subgraphs(n) for m in topo(g.roots))
