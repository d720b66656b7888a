"""A graph made runnable: from the cache or through the compiler (`build`), and the two ways to run what it makes.

A `Native` step owns its arena, its result buffers and the table of pointers that the step is entered with;
the states' memory belongs to their storages and is changed in place.
"""
from __future__ import annotations

import ctypes
import math
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .core.errors import GraphError, GraphIndexError
from .core.fork import polling, running
from .core.loc import user_loc
from .core.options import Options
from .core.pause import no_collection
from .core.types import MAX_BYTES, TensorType
from .interp import numpy as oracle
from .ir.journal import Journal
from .ir.node import Graph
from .ir.walk import topo
from .trace.storage import Storage, aligned_empty

if TYPE_CHECKING:
    from .build import Build, Manifest, Recipe
    from .frame import Frame

Array = np.ndarray[Any, Any]


class Executable(Protocol):
    """What a compiled function calls: inputs in the order of the graph's, fresh outputs; states change in their storages, all or none."""

    graph: Graph
    report: Report

    @property
    def optimized(self) -> Graph: ...

    def __call__(self, inputs: Sequence[Any]) -> list[Any]: ...
    def text(self, stage: str) -> str: ...
    def memory_plan(self) -> MemoryPlan: ...


@dataclass(slots=True)
class Report:
    """How long each part of a compilation took, in seconds, and what each pass did."""

    _journal: Journal = field(default_factory=Journal)
    stages: dict[str, float] = field(default_factory=dict)
    kernels: int = 0
    remake: Callable[[], object] | None = None          # runs the passes, where the code came from the cache and they have not run

    @property
    def journal(self) -> Journal:
        """The passes, in order; where the code came from the cache, they run when this is first asked for."""
        if self.remake is not None:
            self.remake()
        return self._journal

    @property
    def python_seconds(self) -> float:
        """The compiler's own share: everything but LLVM's."""
        return sum(s for name, s in self.stages.items() if not name.startswith("llvm"))

    def __str__(self) -> str:
        width = max((len(n) for n in self.stages), default=5)
        rows = [f"{name:<{width}}  {seconds * 1e3:>8.2f} ms" for name, seconds in self.stages.items()]
        return "\n".join([str(self.journal), "", *rows, f"{self.kernels} kernels"])


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The bytes of a step, known before it runs."""

    arena: int                                          # intermediates and scratch, shared where their lives do not overlap
    states: int
    results: int
    constants: int
    regions: tuple[tuple[str, int, int, int, int], ...]     # name, offset, bytes, first and last step: the arena's content

    @property
    def total(self) -> int:
        return self.arena + self.states + self.results + self.constants

    def __str__(self) -> str:
        rows = [f"{kind:<10}{n:>14,} bytes" for kind, n in (("arena", self.arena), ("states", self.states), ("results", self.results),
                                                              ("constants", self.constants), ("total", self.total))]
        rows += [f"  {offset:>10} + {n:<10} steps {a:>3}..{b:<3} {name}" for name, offset, n, a, b in self.regions]
        return "\n".join(rows)


@no_collection()
def compile_graph(graph: Graph, storages: Sequence[Storage], options: Options) -> Executable:
    """One executable of a graph: passes, lowering, placement, machine code; or the oracle, on the graph as traced."""
    report = Report()
    if options.backend == "numpy":
        if options.passes is not None:                  # none of them runs here, but a wrong name is wrong everywhere
            from .transform.pipeline import choose
            choose(options.passes)
        return Interpreted(graph, storages, report)
    from . import __version__
    from .build import Recipe
    from .limits import refuse_too_large
    from .llvm import cache, detect, jit

    clock = _Clock(report)
    target = detect.host()
    clock("target")
    fixed = {k: s.order for k, s in enumerate(storages) if s.fixed}
    recipe = Recipe(graph, target, options, _threads(options), fixed)
    store = cache.store() if options.cache else None
    key = recipe.key(jit.version()) if store is not None and not options.check_passes else None
    recalled = recipe.recall(store, key) if store is not None and key is not None else None
    made: Build | None = None
    if recalled is not None:
        manifest, obj = recalled
        clock("cache")
        refuse_too_large(graph.name, manifest, storages, options, lambda: recipe.build(report.journal, clock))
    else:
        if store is not None:
            clock("cache")
        from .lower.lower import refuse_symbolic
        refuse_symbolic(graph)
        _refuse_unbelievable(graph)
        made = recipe.build(report.journal, clock)
        built, manifest = made, made.manifest()
        refuse_too_large(graph.name, manifest, storages, options, lambda: built)
        obj, name, found = jit.cached_object(made.llvm, target, store, [__version__])
        clock("llvm, from the cache" if found else "llvm")
        if store is not None and key is not None:
            recipe.keep(store, key, manifest, name)
            clock("keep")
    code = jit.load(obj, ("step", "entry", "again", "guard"))
    clock("load")
    for storage, order in zip(storages, manifest.orders, strict=True):
        storage.relayout(order)
    report.kernels = manifest.kernels
    return Native(recipe, report, manifest, code, storages, made)


def _threads(options: Options) -> int:
    """How many threads a step may have here."""
    if options.threads == 1:
        return 1
    from .llvm import runtime
    return runtime.allowed(options.threads)


class _Clock:
    """Notes in the report how long it is since the last note."""

    def __init__(self, report: Report) -> None:
        self.report, self.last = report, time.perf_counter()

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        self.report.stages[stage], self.last = now - self.last, now


def _refuse_unbelievable(graph: Graph) -> None:
    """A tensor beyond any machine is refused before anybody allocates it."""
    for n in topo((*graph.roots, *graph.leaves)):
        if isinstance(n.type, TensorType):
            nbytes = math.prod(n.tensor.static_shape) * n.tensor.dtype.itemsize
            if nbytes > MAX_BYTES:
                at = ", ".join(sorted(map(str, graph.where(n).locs))) or None
                raise GraphError(f"{n.type} needs {nbytes:,} bytes", op=n.op, at=at, why=f"the limit is {MAX_BYTES:,} (2**48)", fix="smaller sizes")


def _called(step: Callable[[], int]) -> int:
    """The status. ctypes without the GIL wraps an exception that a signal's handler raised inside."""
    try:
        return step()
    except SystemError as e:
        if e.__cause__ is None:
            raise
        raise e.__cause__ from None


POISON = 0xFF                                           # a byte of NaN


class Interpreted:
    """A graph run by the oracle, as it was traced."""

    def __init__(self, graph: Graph, storages: Sequence[Storage], report: Report) -> None:
        self.graph, self.optimized, self.report, self._storages = graph, graph, report, list(storages)

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        arrays = [np.asarray(x, n.tensor.dtype.numpy) for x, n in zip(inputs, self.graph.inputs, strict=True)]
        result = oracle.run(self.graph, arrays, [s.array for s in self._storages])
        new = [np.array(v) for v in result.states]      # every state is computed before one is written,
        outputs = [v[()] if v.ndim == 0 else np.array(v) for v in result.outputs]       # and so is every output: it may be a view of one
        writes = [(s, v) for s, state, v in zip(self._storages, self.graph.states, new, strict=True) if state.write is not state.read]
        try:
            for storage, value in writes:
                storage.assign(value)
        except KeyboardInterrupt:                       # all or none, so all
            for storage, value in writes:
                storage.assign(value)
            raise
        return outputs

    def text(self, stage: str) -> str:
        if stage == "graph":
            return str(self.graph)
        raise GraphError(f'the backend "numpy" has no text of stage {stage!r}', fix='.text("graph"), or backend="llvm"')

    def memory_plan(self) -> MemoryPlan:
        return MemoryPlan(0, sum(s.array.nbytes for s in self._storages), sum(_bytes(o.tensor) for o in self.graph.outputs), 0, ())


def _bytes(t: TensorType) -> int:
    return math.prod(t.static_shape) * t.dtype.itemsize if t.is_static else 0


class Native:
    """A graph as machine code. One call at a time, of all steps: `running` keeps a second thread out until the results are copied. With threads, the GIL is
    released while the step runs."""

    def __init__(self, recipe: Recipe, report: Report, manifest: Manifest, code: Any, storages: Sequence[Storage], made: Build | None) -> None:
        graph, layout, threads = recipe.graph, manifest.layout, manifest.threads
        self.graph, self.report, self._recipe, self._manifest, self._made = graph, report, recipe, manifest, made
        if made is None:
            report.remake = self._build
        self._storages, self._code = list(storages), code
        self._arena = aligned_empty((manifest.arena_bytes + 64,), np.dtype(np.uint8))
        self._constants = [_aligned(a) for a in manifest.constants]
        self._shared = np.zeros(layout.size, np.uint64)
        self._shared[0] = self._arena.ctypes.data
        for kind, addresses in (("state", [s.address for s in storages]), ("constant", [a.ctypes.data for a in self._constants])):
            for k, address in enumerate(addresses):
                self._shared[layout.index(kind, k)] = address
        if layout.loops:
            self._shared[layout.index("polling")] = ctypes.addressof(polling)
        self.team = _Team(threads, layout, self._shared) if threads > 1 else None
        self.prints = manifest.prints
        self.frame = self.new_frame()

    def new_frame(self) -> Frame:
        """One more way in."""
        from .build import parameters_of
        from .frame import Frame

        m = self._manifest
        params, _ = parameters_of(self.graph, m.inputs, m.layout)
        return Frame(self._shared, m.layout, params, m.inputs, m.results, len(self.graph.outputs), self._code)

    def _build(self) -> Build:
        """The stages before LLVM's; made anew where the code came from the cache."""
        if self._made is None:
            self.report.remake = None
            self._made = self._recipe.build(self.report.journal, lambda stage: None)
        return self._made

    @property
    def optimized(self) -> Graph: return self._build().optimized
    @property
    def program(self) -> Any: return self._build().program
    @property
    def plan(self) -> Any: return self._build().plan
    @property
    def lives(self) -> Sequence[Any]: return self._build().lives
    @property
    def llvm(self) -> str: return self._build().llvm

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        frame = self.frame
        with running:
            self.begin(frame)
            status = frame.enter(*inputs) if frame.enter is not None else -1
            if status == -1:
                alive = frame.fill(inputs)
                status = _called(frame.step)
                del alive
            if status:
                raise self._failure(status, inputs)
            return self.end(frame)

    def begin(self, frame: Frame) -> None:
        """Before a frame is entered, by whoever holds the lock `running`."""
        if polling.value:
            raise GraphError("a step was called while another one runs", at=user_loc(), why="by a signal's handler or a finalizer, inside a loop",
                             fix="let the handler note that it was called, and look after the step")
        if self.team is not None:
            self.team.ready(frame)
        if frame.lent:
            frame.renew()

    def end(self, frame: Frame) -> list[Any]:
        """What it has given."""
        for label, value in zip(self.prints, frame.results[frame.n_out:]):
            print(f"{label}{value}")
        return frame.take()

    def _failure(self, status: int, inputs: Sequence[Any]) -> GraphError:
        """What the status says; the oracle, which sees the same inputs and unchanged states, knows which index it was."""
        check = self.program.checks[status - 1]
        what = f"an index is not in 0..{check.size - 1}"
        leaves = dict(zip(self.optimized.leaves, (*map(np.asarray, inputs), *(s.array for s in self._storages))))
        try:
            oracle.evaluate([check.node], leaves)
        except GraphIndexError as e:
            what = e.what
        except (AssertionError, KeyError):              # a check inside a loop body, whose inputs exist only there
            pass
        return GraphIndexError(what, op="check_index", at=check.where or None,
                               why="a label or an index in the arguments is out of range; no state has changed")

    def text(self, stage: str) -> str:
        """ "graph" after the passes, "loops", "llvm" or "asm". """
        match stage:
            case "graph": return str(self.optimized)
            case "loops":
                from .loop.text import show
                return show(self.plan)
            case "llvm": return self.llvm
            case "asm":
                from .llvm import detect, jit
                return jit.asm(self.llvm, detect.host())
            case _: raise GraphError(f"there is no stage {stage!r}", fix='"graph", "loops", "llvm" or "asm"')

    def memory_plan(self) -> MemoryPlan:
        return MemoryPlan(self._arena.nbytes - 64, sum(s.array.nbytes for s in self._storages), sum(r.nbytes for r in self.frame.results),
                          sum(c.nbytes for c in self._constants), self._manifest.regions)

    def run_loops(self, inputs: Sequence[Any], states: Sequence[Array]) -> oracle.Result:
        """The same plan through the loop interpreter: slow, bounds-checked, touching no storage. For tests and `testing.bisect`.

        A region of the arena is NaN before its first step and again after its last, so whoever reads what is not there has NaN in the results.
        """
        from .loop.interp import run_plan
        from .loop.place import top

        memory = _memory(self, inputs, states)
        for k, step in enumerate(top(self.plan)):
            status = run_plan(step, memory)
            if status:
                raise self._failure(status, inputs)
            for life in self.lives:
                if life.last == k:
                    memory[life.region][:] = POISON
        by = {(r.where, r.slot): m for r, m in memory.items() if r.where != "arena"}
        outputs = [by["result", k].view(t.dtype.numpy).reshape(t.static_shape) for k, t in enumerate(self.program.results[:len(self.graph.outputs)])]
        new = []
        for k, home in enumerate(self.program.states):
            physical = by["state", k].view(home.type.dtype.numpy).reshape(home.physical)
            new.append(physical.transpose(np.argsort(home.order)) if home.order else physical)
        return oracle.Result(outputs, new)


class _Team:
    """The pool, as one step uses it."""

    def __init__(self, threads: int, layout: Any, table: Array) -> None:
        from .llvm.runtime import pool

        self.pool, self.threads = pool, threads
        self._count, self._busy = layout.index("threads"), layout.index("busy")
        table[layout.index("pool")] = pool.address
        pool.enter(id(self))
        weakref.finalize(self, pool.leave, id(self)).atexit = False

    def ready(self, frame: Frame) -> None:
        """As many workers as the step takes, or as the system gives, are there to be woken."""
        now = self.pool.ready(self.threads), self.pool.forks
        if now != frame.workers:
            frame.table[self._count], frame.table[self._busy], frame.workers = now[0], 0, now


def _aligned(a: Array) -> Array:
    out = aligned_empty(a.shape, a.dtype)
    out[...] = a
    return out


def _memory(native: Native, inputs: Sequence[Any], states: Sequence[Array]) -> dict[Any, Array]:
    """Fresh bytes for every region of a plan, filled with what is given."""
    from .loop.ir import Region

    program = native.program
    memory: dict[Any, Array] = {}
    arena = np.full(native._arena.nbytes, POISON, np.uint8)
    for life in native.lives:
        at = life.region.offset or 0
        memory[life.region] = arena[at:at + life.region.nbytes]

    def given(region: Any, value: Array) -> None:
        memory[region] = np.frombuffer(value.tobytes(), np.uint8).copy()

    for k, (x, leaf) in enumerate(zip(inputs, native.graph.inputs, strict=True)):
        given(program.arguments[k] or program.scalars[k], np.asarray(x, leaf.tensor.dtype.numpy))
    for home, value in zip(program.states, states, strict=True):
        given(home.region, np.ascontiguousarray(np.transpose(value, home.order)) if home.order else np.asarray(value))
    for k, c in enumerate(program.constants):
        given(Region(f"const{k}", "constant", c.nbytes, k), c)
    for k, t in enumerate(program.results):
        memory[Region(f"result{k}", "result", _bytes(t), k)] = np.zeros(_bytes(t), np.uint8)
    return memory
