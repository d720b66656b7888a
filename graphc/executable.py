"""A graph made runnable: from the cache or through the compiler (`build`), and the two ways to run what it makes.

A `Native` step owns its arena, its result buffers and the table of pointers that the step is entered with;
the states' memory belongs to their storages and is changed in place.
"""
from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .core import half
from .core.errors import GraphError, GraphIndexError
from .core.fork import polling, running
from .core.loc import user_loc
from .core.options import Options
from .core.pause import no_collection
from .core.record import dataclass, field, replace
from .core.types import MAX_BYTES, TensorType
from .host import Away, Place
from .interp import numpy as oracle
from .ir.journal import Journal
from .ir.node import Graph, State
from .ir.walk import topo
from .team import Team
from .trace.spec import match
from .trace.storage import Storage, aligned_empty

if TYPE_CHECKING:
    from .build import Again, Build, Fit, Manifest, Recipe
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
    def memory_plan(self, **sizes: int) -> MemoryPlan: ...


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
    again: Again | None = None                          # what is computed twice, so that it fits memory_limit

    @property
    def total(self) -> int:
        return self.arena + self.states + self.results + self.constants

    def __str__(self) -> str:
        rows = [f"{kind:<10}{n:>14,} bytes" for kind, n in (("arena", self.arena), ("states", self.states), ("results", self.results),
                                                              ("constants", self.constants), ("total", self.total))]
        rows += [str(self.again)] if self.again is not None else []
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
        if not manifest.sizes:
            refuse_too_large(graph.name, manifest, manifest.fit({}), storages, options, lambda: recipe.build(report.journal, clock))
    else:
        if store is not None:
            clock("cache")
        _refuse_unbelievable(graph)
        made = recipe.build(report.journal, clock)
        built, manifest = made, made.manifest()
        if not manifest.sizes:
            refuse_too_large(graph.name, manifest, manifest.fit({}), storages, options, lambda: built)
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
            nbytes = n.tensor.size * n.tensor.dtype.itemsize
            if isinstance(nbytes, int) and nbytes > MAX_BYTES:
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
        arrays = [half.astype(np.asarray(x), n.tensor.dtype) for x, n in zip(inputs, self.graph.inputs, strict=True)]
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

    def memory_plan(self, **sizes: int) -> MemoryPlan:
        return MemoryPlan(0, sum(s.array.nbytes for s in self._storages), sum(_bytes(o.tensor.bind(sizes)) for o in self.graph.outputs), 0, ())


def _bytes(t: TensorType) -> int:
    return math.prod(t.static_shape) * t.dtype.itemsize if t.is_static else 0


KEPT_FITS = 256                                         # layouts for sizes met, of a few hundred bytes each


class Native:
    """A graph as machine code. One call at a time, of all steps: `running` keeps a second thread out until the results are copied. With threads, the GIL is
    released while the step runs."""

    def __init__(self, recipe: Recipe, report: Report, manifest: Manifest, code: Any, storages: Sequence[Storage], made: Build | None) -> None:
        graph, layout, threads = recipe.graph, manifest.layout, manifest.threads
        self.graph, self.report, self._recipe, self._manifest, self._made = graph, report, recipe, manifest, made
        if made is None:
            report.remake = self._build
        self._storages, self._code = list(storages), code
        self._arena = aligned_empty((64,), np.dtype(np.uint8))
        self._constants = [_aligned(a) for a in manifest.constants]
        self._shared = np.zeros(layout.size, np.uint64)
        for kind, addresses in (("state", [s.address for s in storages]), ("constant", [a.ctypes.data for a in self._constants])):
            for k, address in enumerate(addresses):
                self._shared[layout.index(kind, k)] = address
        if layout.loops:
            self._shared[layout.index("polling")] = ctypes.addressof(polling)
        self.team = Team(threads, layout, self._shared) if threads > 1 else None
        self._functions = recipe.functions() if manifest.calls else []
        self.away = Away(self.team.pool if self.team is not None else None)
        self._fits: dict[tuple[int, ...], Fit] = {}
        self.frame = self.new_frame()

    def new_frame(self) -> Frame:
        """One more way in."""
        from .build import parameters_of
        from .frame import Frame

        m = self._manifest
        params, _ = parameters_of(self.graph, m.inputs, m.layout)
        frame = Frame(self._shared, m.layout, params, m.inputs, m.results, self._code, self._places())
        if not m.sizes:
            self._settle(frame, m.fit({}))
        return frame

    def _places(self) -> list[Place]:
        return [Place(self._functions[c.function], c, self.away) for c in self._manifest.calls]

    @property
    def calls_python(self) -> bool:
        return bool(self._manifest.calls)

    def _settle(self, frame: Frame, fit: Fit) -> None:
        """Let a frame be for these sizes. The arena never shrinks; frames that are laid out in an older one keep that alive."""
        if self._manifest.sizes:
            from .limits import refuse_too_large
            refuse_too_large(self.graph.name, self._manifest, fit, self._storages, self._recipe.options, self._build)
        if self._arena.nbytes < fit.arena_bytes + 64:
            self._arena = aligned_empty((fit.arena_bytes + 64,), np.dtype(np.uint8))
        frame.settle(fit, self._arena)

    def meet(self, frame: Frame, shapes: Sequence[tuple[int, ...]]) -> None:
        """Let a frame be for arguments of these shapes."""
        if not self._manifest.sizes:
            return
        types = [n.tensor for n in self.graph.inputs]
        dims = match(types, shapes)
        if dims is None:
            raise GraphError(f"arguments should be {', '.join(map(str, types))}, got shapes {', '.join(map(str, shapes))}")
        fit = self._fit_of(dims)
        if frame.fit is not fit:
            self._settle(frame, fit)

    def _fit_of(self, dims: Mapping[str, int]) -> Fit:
        """Where everything lies for these values of the symbolic dims; the same object while it is remembered."""
        key = tuple([dims[n] for n in sorted(dims)])
        if key not in self._fits:
            if len(self._fits) >= KEPT_FITS:
                del self._fits[next(iter(self._fits))]
            self._fits[key] = self._manifest.fit(dims)
        return self._fits[key]

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
    def lives(self) -> Sequence[Any]:
        """When each region of the arena is in use, and where it lies: with symbolic sizes, for those of the last call."""
        lives = self._build().lives
        if not self._manifest.sizes:
            return lives
        fit = self.frame.fit or self._fit_of({d: 64 for n in self.graph.leaves for d in n.tensor.dims})
        return [replace(x, region=replace(x.region, nbytes=n, offset=at)) for x, (_, at, n, _, _) in zip(lives, fit.regions)]
    @property
    def llvm(self) -> str: return self._build().llvm

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        frame = self.frame
        with running:
            self.begin(frame)
            status = frame.enter(*inputs) if frame.enter is not None else -1
            if status == -1:
                self.meet(frame, [np.shape(x) for x in inputs])
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
        if self.away.now:
            raise GraphError(f"{self.graph.name} was called by a function that it calls itself", at=user_loc(),
                             why="its memory is in use until that function returns", fix="call another compiled function, or the uncompiled one")
        if self.team is not None:
            self.team.ready(frame)
        if frame.lent:
            frame.renew()

    def end(self, frame: Frame) -> list[Any]:
        """What it has given."""
        if self.team is not None:
            self.team.done()
        return frame.take()

    def _failure(self, status: int, inputs: Sequence[Any]) -> GraphError:
        """What the status says; the oracle, which sees the same inputs and unchanged states, knows which index it was."""
        check = self.program.checks[status - 1]
        what = f"an index is not in 0..{check.size - 1}"
        g = self.optimized
        g = Graph(g.inputs, (check.node,), tuple([State(s.name, s.read, s.read) for s in g.states]), (), g.info, g.name)
        try:
            if all(n.op.pure for n in topo(g.outputs)):                 # an effect happens once
                oracle.run(g, [np.asarray(x, n.tensor.dtype.numpy) for x, n in zip(inputs, g.inputs)], [s.array for s in self._storages])
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

    def memory_plan(self, **sizes: int) -> MemoryPlan:
        """The bytes of a step: for these values of symbolic sizes, else for those of the last call."""
        fit = self.frame.fit
        if sizes or fit is None:
            dims = {d for n in self.graph.inputs for d in n.tensor.dims}
            if sizes.keys() != dims:
                raise GraphError(f"the bytes of this step depend on {', '.join(sorted(dims))}",
                                 fix=f"memory_plan({', '.join(f'{d}=64' for d in sorted(dims))})")
            fit = self._fit_of(sizes)
        results = sum(math.prod(shape) * t.dtype.itemsize for shape, t in zip(fit.results, self._manifest.results))
        states, constants = (sum(a.nbytes for a in group) for group in ([s.array for s in self._storages], self._constants))
        return MemoryPlan(fit.arena_bytes, states, results, constants, fit.regions, self._manifest.again)

    def run_loops(self, inputs: Sequence[Any], states: Sequence[Array]) -> oracle.Result:
        """The same plan through the loop interpreter: slow, bounds-checked, touching no storage. For tests and `testing.bisect`.

        A region of the arena is NaN before its first step and again after its last, so whoever reads what is not there has NaN in the results.
        """
        from .loop.interp import run_plan
        from .loop.place import top

        fit = self._fit_of(oracle.solve_sizes(self.graph, [np.asarray(x) for x in (*inputs, *states)]))
        memory, sizes = _memory(self, fit, inputs, states), dict(zip(self._manifest.sizes, fit.sizes))
        lives, calls = self._build().lives, [p.settle(fit.dims).on for p in self._places()]
        for k, step in enumerate(top(self.plan)):
            status = run_plan(step, memory, sizes, calls)
            if status:
                raise self._failure(status, inputs)
            for life in lives:
                if life.last == k and (self.team is None or not sizes):     # with threads, temporaries live in stretches between barriers
                    memory[life.region][:] = POISON
        by = {(r.where, r.slot): m for r, m in memory.items() if r.where != "arena"}
        outputs = [by["result", k].view(t.dtype.numpy).reshape(fit.results[k]) for k, t in enumerate(self.program.results)]
        new = []
        for k, home in enumerate(self.program.states):
            physical = by["state", k].view(home.type.dtype.numpy).reshape([n.__index__() for n in home.physical])
            new.append(physical.transpose(np.argsort(home.order)) if home.order else physical)
        return oracle.Result(outputs, new)


def _aligned(a: Array) -> Array:
    out = aligned_empty(a.shape, a.dtype)
    out[...] = a
    return out


def _memory(native: Native, fit: Fit, inputs: Sequence[Any], states: Sequence[Array]) -> dict[Any, Array]:
    """Fresh bytes for every region of a plan, filled with what is given."""
    from .loop.ir import Region

    program = native.program
    memory: dict[Any, Array] = {}
    arena = np.full(fit.arena_bytes, POISON, np.uint8)
    for life, (_, at, nbytes, _, _) in zip(native._build().lives, fit.regions):
        memory[life.region] = arena[at:at + nbytes]

    def given(region: Any, value: Array) -> None:
        memory[region] = np.frombuffer(value.tobytes(), np.uint8).copy()

    for k, (x, leaf) in enumerate(zip(inputs, native.graph.inputs, strict=True)):
        given(program.arguments[k] or program.scalars[k], half.astype(np.asarray(x), leaf.tensor.dtype))
    for home, value in zip(program.states, states, strict=True):
        given(home.region, np.ascontiguousarray(np.transpose(value, home.order)) if home.order else np.asarray(value))
    for k, c in enumerate(program.constants):
        given(Region(f"const{k}", "constant", c.nbytes, k), c)
    for k, t in enumerate(program.results):
        memory[Region(f"result{k}", "result", t.size * t.dtype.itemsize, k)] = np.zeros(math.prod(fit.results[k]) * t.dtype.itemsize, np.uint8)
    return memory
