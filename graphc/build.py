"""What a compilation makes on its way to machine code (`Build`), what of it a step needs to run (`Manifest`), and how both are found again (`Recipe`).

A build is a function of the recipe alone: the graph, the machine, the options, the layouts that states have already. So a later process that has the same
recipe takes the manifest and the object code from the cache and builds nothing, until somebody asks for the graph, the loops or the text that it has not
made: then they are made anew.
"""
from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .core.dims import evaluate, parse
from .core.dtype import BY_NAME, as_dtype
from .core.options import Options
from .core.record import dataclass, replace
from .core.target import Target
from .core.types import TensorType
from .host import HostCall
from .ir.digest import digest
from .ir.host import Host, hosts
from .ir.journal import Journal
from .ir.node import Graph
from .ir.walk import all_nodes
from .llvm.cache import Store, compiler_id, hashed, host_abi
from .llvm.entry import ArrayParam, ScalarParam
from .llvm.guard import entries_text
from .llvm.table import Layout

Array = np.ndarray[Any, Any]
LARGEST_CONSTANTS = 1 << 20                             # bytes: more are in the graph anyway, and need not be on disk too


@dataclass(frozen=True, slots=True, eq=False)
class Build:
    """Every stage before LLVM's."""

    optimized: Graph
    program: Any                                        # lower.Program
    plan: Any                                           # placed, and shared among threads
    lives: Sequence[Any]
    layout: Layout
    llvm: str
    arena_bytes: int
    threads: int
    sizes: tuple[str, ...] = ()                         # the symbolic ones, as the table has them
    calls: tuple[HostCall, ...] = ()
    again: Again | None = None

    @property
    def bytes(self) -> int:
        """What a step needs, its states included; of symbolic sizes 0."""
        if self.sizes:
            return 0
        given = [*(s.read.tensor for s in self.optimized.states), *self.program.results]
        nbytes: int = self.arena_bytes + sum(c.nbytes for c in self.program.constants)
        nbytes += sum(math.prod(t.static_shape) * t.dtype.itemsize for t in given)
        return nbytes

    def manifest(self) -> Manifest:
        from .loop.place import launches

        p = self.program
        return Manifest(self.layout, _inputs(p), tuple([h.order for h in p.states]), tuple(p.results),
                        tuple(p.constants), self.arena_bytes,
                        tuple([(x.region.name, x.region.offset or 0, str(x.region.nbytes), x.first, x.last) for x in self.lives]),
                        len(list(launches(self.plan))), self.threads, self.sizes, self.calls, self.again)


@dataclass(frozen=True, slots=True)
class Again:
    """What a step computes twice, to need less memory."""

    before: int                                         # bytes
    after: int
    flops: int                                          # that it takes
    kinds: tuple[tuple[str, int], ...]                  # ops, and how many of each

    def __str__(self) -> str:
        what = ", ".join(f"{n} {op}" for op, n in self.kinds)
        return f"computed again in the backward pass: {what}; {self.before:,} bytes became {self.after:,}, for {self.flops:,} operations more"


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A step's memory for one set of sizes."""

    dims: Mapping[str, int]
    sizes: tuple[int, ...]                              # values of the manifest's
    arena_bytes: int
    regions: tuple[tuple[str, int, int, int, int], ...]     # name, offset, bytes, first and last step
    results: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Manifest:
    """What running needs besides the code."""

    layout: Layout
    inputs: tuple[tuple[str, int], ...]                 # "argument" or "scalar", and its slot
    orders: tuple[tuple[int, ...], ...]                 # the physical order of each state
    results: tuple[TensorType, ...]
    constants: tuple[Array, ...]
    arena_bytes: int
    regions: tuple[tuple[str, int, str, int, int], ...]     # name, offset, bytes, first and last step: the arena's content, temporaries by slot
    kernels: int
    threads: int
    sizes: tuple[str, ...]                              # the symbolic ones, polynomials of the graph's dims: none, or the regions are temporaries
    calls: tuple[HostCall, ...] = ()                    # where Python is called
    again: Again | None = None                          # what is computed twice

    def fit(self, sizes: Mapping[str, int]) -> Fit:
        """Where everything lies for these values of the graph's dims."""
        if not self.sizes:
            regions = tuple([(n, o, int(b), f, e) for n, o, b, f, e in self.regions])
            return Fit(sizes, (), self.arena_bytes, regions, tuple([r.static_shape for r in self.results]))
        from .loop.place import ALIGN, fit
        pieces = [(evaluate(parse(b), sizes), first, last) for _, _, b, first, last in self.regions]
        offsets, nbytes = fit(pieces)
        start = -(-self.arena_bytes // ALIGN) * ALIGN   # behind the scratch
        placed = [(name, start + at, n, first, last) for (name, *_), at, (n, first, last) in zip(self.regions, offsets, pieces)]
        return Fit(sizes, tuple([evaluate(parse(n), sizes) for n in self.sizes]), start + nbytes, tuple(placed),
                   tuple([r.bind(sizes).static_shape for r in self.results]))

    def to_json(self) -> tuple[dict[str, Any], bytes]:
        """As plain values, and the bytes of the constants."""
        t = self.layout
        counts = [t.arguments, t.scalars, t.states, t.constants, t.results, t.temporaries, t.sizes, t.calls, t.threads, t.loops]
        arrays = [(as_dtype(a.dtype).name, a.shape) for a in self.constants]
        return {"layout": counts, "inputs": self.inputs, "orders": self.orders, "sizes": self.sizes, "results": _plain(self.results),
                "calls": [(c.function, _plain(c.operands), _plain(c.results)) for c in self.calls], "constants": arrays,
                "arena": self.arena_bytes, "regions": self.regions, "kernels": self.kernels, "threads": self.threads,
                "again": None if self.again is None else (self.again.before, self.again.after, self.again.flops, self.again.kinds)}, \
            b"".join([a.tobytes() for a in self.constants])

    @staticmethod
    def from_json(j: Mapping[str, Any], data: bytes) -> Manifest:
        """The inverse of `to_json`."""
        arrays, at = [], 0
        for name, shape in j["constants"]:
            a = np.frombuffer(data, BY_NAME[name].numpy, int(np.prod(shape)), at).reshape(shape)
            arrays.append(a)
            at += a.nbytes
        return Manifest(Layout(*j["layout"]), tuple([(k, s) for k, s in j["inputs"]]),
                        tuple([tuple(o) for o in j["orders"]]), _types(j["results"]),
                        tuple(arrays), j["arena"], tuple([(n, o, b, f, e) for n, o, b, f, e in j["regions"]]), j["kernels"], j["threads"],
                        tuple(j["sizes"]), tuple([HostCall(f, _types(a), _types(b)) for f, a, b in j["calls"]]),
                        None if (a := j["again"]) is None else Again(a[0], a[1], a[2], tuple([(op, n) for op, n in a[3]])))


def _plain(types: Sequence[TensorType]) -> list[tuple[str, list[str]]]:
    return [(t.dtype.name, [str(n) for n in t.shape]) for t in types]


def _types(plain: Sequence[Any]) -> tuple[TensorType, ...]:
    return tuple([TensorType(tuple(map(parse, shape)), BY_NAME[name]) for name, shape in plain])


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """Everything that a build depends on."""

    graph: Graph
    target: Target
    options: Options
    threads: int                                        # that a step may have here
    fixed: Mapping[int, tuple[int, ...]]                # the orders of the states whose memory lies already

    def key(self, llvm: str) -> str | None:
        """Of the manifest in the cache, by this version of LLVM; None where a build may depend on more than the recipe says: an op not graphc's own."""
        compiler = compiler_id()
        if compiler is None or not all(n.op.infer.__module__.startswith("graphc.") for n in all_nodes(self.graph)):
            return None
        options = replace(self.options, cache=True, check_passes=False)
        called, numbers = hosts(self.graph), self.functions()
        return hashed(["step", digest(self.graph), repr([numbers.index(f) for f in called]), repr(self.target), repr(options), str(self.threads),
                       repr(sorted(self.fixed.items())), compiler, llvm, host_abi()])

    def functions(self) -> list[Host]:
        """Python's functions that the step calls, each once: what a manifest means by their numbers. They live in the trace, never on disk."""
        return list(dict.fromkeys(hosts(self.graph)))

    def recall(self, store: Store, key: str) -> tuple[Manifest, bytes] | None:
        """The manifest and the object code of an earlier build."""
        entry = store.get(key)
        if entry is None or entry.header.get("kind") != "step":
            return None
        obj = store.get(str(entry.header.get("object")))
        if obj is None or obj.header.get("kind") != "object":
            return None
        return Manifest.from_json(entry.header, entry.data), obj.data

    def keep(self, store: Store, key: str, manifest: Manifest, obj: str) -> None:
        """For `recall`; obj is the key of the object code."""
        if sum(c.nbytes for c in manifest.constants) <= LARGEST_CONSTANTS:
            header, data = manifest.to_json()
            store.put(key, {"kind": "step", "name": self.graph.name, "object": obj, **header}, data)

    def build(self, journal: Journal, clock: Callable[[str], None]) -> Build:
        """The passes, and what they made lowered; where that exceeds `memory_limit`, with values computed again until it fits, or as near as that comes."""
        from .transform import pipeline

        optimized = pipeline.run(self.graph, options=self.options, journal=journal)
        clock("passes")
        best = first = self.lowered(optimized, clock)
        limit = self.options.memory_limit
        if limit is None or first.sizes or first.bytes <= limit:
            return first
        from .lower.remat import candidates
        start = time.perf_counter()
        tried = candidates(optimized)
        again = next(tried, None)
        while again is not None and best.bytes > limit:
            made = self.lowered(again.graph, lambda stage: None)
            if made.bytes < best.bytes:
                best = replace(made, again=Again(first.bytes, made.bytes, again.flops, again.kinds))
            try:
                again = tried.send(made.bytes)
            except StopIteration:
                break
        if best is not first:
            journal.note("remat", time.perf_counter() - start, optimized, best.optimized)
        clock("remat")
        return best

    def lowered(self, optimized: Graph, clock: Callable[[str], None]) -> Build:
        """Lowering, placement, sharing, text: the compiler's table of contents."""
        from .llvm import step
        from .loop.chunk import chunk
        from .loop.ir import Loop, Var, walk_plan
        from .loop.place import launches, lives, loosen, place
        from .lower.lower import lower

        program = lower(optimized, self.target, self.fixed)
        clock("lower")
        threads = self.threads
        plan = chunk(program.plan)
        if threads > 1:
            from .loop.share import share, split
            plan = split(plan, self.target)
        symbolic = any(n.tensor.dims for n in self.graph.leaves)
        plan, placed, nbytes = (loosen(plan), [], 0) if symbolic else place(plan)
        clock("place")
        if threads > 1:
            plan = share(plan, self.target)
            threads = threads if any(x.shared for x in launches(plan)) else 1
            clock("share")
        if symbolic:
            placed = sorted(lives(plan, phases=threads > 1), key=lambda x: x.region.slot)
        sizes = tuple(sorted({e.name for x in launches(plan) for e in x.sizes if isinstance(e, Var)} | symbolic_sizes(self.graph)))
        layout = Layout(arguments=_count(program.arguments), scalars=_count(program.scalars), states=len(program.states),
                        constants=len(program.constants), results=len(program.results), temporaries=len(placed) if symbolic else 0,
                        sizes=len(sizes), calls=len(program.calls), threads=threads > 1, loops=any(isinstance(x, Loop) for x in walk_plan(plan)))
        module = step.step_text(plan, self.target, layout, nbytes, self.options.flush_denormals, threads, sizes)
        clock("emit")
        parameters, slots = parameters_of(self.graph, _inputs(program), layout)
        busy = layout.index("busy") if threads > 1 else None
        text = "\n".join([module.text, entries_text(parameters, slots, busy, places_of(sizes, layout))])
        clock("entry")
        functions = self.functions() if program.calls else []
        calls = tuple([HostCall(functions.index(c.function), c.operands, c.results) for c in program.calls])
        return Build(optimized, program, plan, placed, layout, text, module.arena_bytes, threads, sizes, calls)


def parameters_of(graph: Graph, inputs: Sequence[tuple[str, int]], layout: Layout) -> tuple[list[ArrayParam | ScalarParam], list[int]]:
    """The parameters of a step's entry, and the places of the table that they fill."""
    def shape(t: TensorType) -> tuple[int | str, ...]:
        return tuple([k if isinstance(k, int) else str(k) for k in t.shape])

    params = [ArrayParam(shape(n.tensor), n.tensor.dtype) if kind == "argument" else ScalarParam(n.tensor.dtype)
              for n, (kind, _) in zip(graph.inputs, inputs, strict=True)]
    return params, [layout.index(kind, slot) for kind, slot in inputs]


def symbolic_sizes(graph: Graph) -> set[str]:
    """The sizes of a graph's arguments that are not numbers."""
    return {str(k) for n in graph.inputs for k in n.tensor.shape if not isinstance(k, int)}


def places_of(sizes: Sequence[str], layout: Layout) -> dict[str, int]:
    """The places of the table that hold the symbolic sizes."""
    return {n: layout.index("size", k) for k, n in enumerate(sizes)}


def _inputs(program: Any) -> tuple[tuple[str, int], ...]:
    regions = [a if a is not None else s for a, s in zip(program.arguments, program.scalars, strict=True)]
    return tuple([(r.where, r.slot) for r in regions])


def _count(regions: Sequence[Any]) -> int:
    return sum(r is not None for r in regions)
