"""The roof: `gx.compile`. A Python function becomes a `CompiledFunction`, which traces, compiles, and afterwards only checks and runs.

A call is: take the arguments apart (keys), find the variant whose keys fit and whose guards hold, enter its executable, put results and
gradients where they belong. A variant is one trace; where its shapes are symbolic it has one executable for all sizes, or one for each set of them.
"""
from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from .core.dtype import BFLOAT16
from .core.errors import GraphError, GraphTypeError, UnknownSize
from .core.fork import running
from .core.loc import user_loc
from .core.options import Options
from .core.record import replace
from .core.types import TensorType
from .ir.node import Graph
from .ir.walk import bind
from .trace import arguments, function, tree
from .trace.arguments import Arguments
from .trace.function import Traced
from .trace.guards import Constant
from .trace.spec import Spec, match
from .trace.tape import current
from .trace.tensor import Tensor

if TYPE_CHECKING:
    from .executable import Executable, MemoryPlan, Native, Report
    from .quick import Quick

_KEEP = 8                                               # variants of equal arguments that are kept: old ones of a rebound net go


class Variant:
    """One trace of a function, and its executable: where shapes are symbolic, one for all sizes, or for each set of sizes one."""

    def __init__(self, traced: Traced, keys: Arguments, options: Options) -> None:
        self.traced, self.keys, self.options = traced, keys, options
        self.executables: dict[tuple[tuple[str, int], ...], Executable] = {}
        self.every: Native | None = None                                # for all sizes
        self.each = options.backend == "numpy"                          # compile for each set of sizes

    def executable(self, sizes: dict[str, int]) -> Executable:
        """What runs calls of these sizes of the symbolic axes (none, where all are numbers)."""
        if sizes and not self.each:
            every = self.for_every_size()
            if every is not None:
                return every
        return self.specialised(sizes)

    def specialised(self, sizes: dict[str, int]) -> Executable:
        """The executable for these sizes alone."""
        key = tuple(sorted(sizes.items()))
        found = self.executables.get(key)
        if found is None:
            if sizes:
                _say("graphc: compiling %s for %s", self.traced.graph.name, ", ".join(f"{n} = {k}" for n, k in key))
            from .executable import compile_graph  # the passes load when something is first compiled
            graph = bind(self.traced.graph, sizes) if sizes else self.traced.graph
            found = self.executables[key] = compile_graph(graph, self.traced.storages, self.options)
            function.bind(self.traced)
        return found

    def for_every_size(self) -> Native | None:
        """The executable whose sizes are run-time numbers, or None: something in the graph needs to know one."""
        if self.every is not None or self.each:
            return self.every
        from .executable import Native, compile_graph
        try:
            found = compile_graph(self.traced.graph, self.traced.storages, self.options)
        except UnknownSize as e:
            _say("graphc: %s is compiled for each size of %s: %s", self.traced.graph.name, ", ".join(sorted(self.traced.dims)), e.what)
            self.each = True
            return None
        assert isinstance(found, Native)
        self.every = found
        function.bind(self.traced)
        return found

    def run(self, leaves: Sequence[Any], executable: Executable) -> Any:
        """Enter the step with the leaves of a call."""
        t = self.traced
        inputs: list[Any] = [arguments.array(leaves[k], want) for k, want in zip(t.array_leaves, t.array_types)]
        if t.number_leaves:
            inputs += [arguments.number(leaves[k], arguments.scalar_dtype(self.keys.keys[k])) for k in t.number_leaves]
        return self.enter(inputs, executable)

    def enter(self, inputs: list[Any], executable: Executable) -> Any:
        """Run the step on its arguments, and put what it gives where it belongs."""
        t = self.traced
        if t.sources:
            inputs += [source() for source in t.sources]
        try:
            results = executable(inputs)
        finally:                                                        # interrupted just behind the step, it has happened
            t.wrote()
        self.leave(results)
        return self.result(results)

    def leave(self, results: Sequence[Any]) -> None:
        """Let every .grad be what the function leaves there."""
        for a in self.traced.grads:
            self._leave(a, results)

    def result(self, results: Sequence[Any]) -> Any:
        """What the function returns."""
        t = self.traced
        if t.out_tree is tree.LEAF:
            is_output, x = t.out_leaves[0]
            return results[x] if is_output else _fresh(x)
        return t.out_tree.unflatten([results[x] if is_output else _fresh(x) for is_output, x in t.out_leaves])

    @staticmethod
    def _leave(a: function.GradAction, results: Sequence[Any]) -> None:
        tensor = a.tensor
        if a.after == "output":
            tensor.set_grad(Tensor.from_value(np.asarray(results[a.output])))
            return
        if a.after == "inside":
            if tensor._grad is None or tensor._grad.status != "inside":
                tensor.set_grad(None)
                assert tensor._grad is not None
                tensor._grad.become(None, "inside")
            return
        if a.storage is None or a.after == "none":
            cell = tensor._grad
            if cell is not None and cell.status != "none":
                tensor.set_grad(None)
            return
        cell = tensor._grad
        assert cell is not None
        assert cell.storage is a.storage
        if cell.status != "value":
            cell.become(Tensor.from_storage(a.storage), "value")


def _fresh(x: Any) -> Any:
    """A constant that the function returns: an array is a new one at every call, as all results are."""
    return x.copy() if isinstance(x, np.ndarray) else x


class _Methods(dict[Any, "CompiledFunction"]):
    """The compiled methods of one object. They are kept in its __dict__, so they live as long as it does; a copy of it makes its own."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Methods:
        return _Methods()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Methods, ()


class CompiledFunction:
    """A function that runs as one native step. Made by `gx.compile`; call it like the function."""

    def __init__(self, fn: Any, options: Options) -> None:
        functools.update_wrapper(self, fn, updated=())
        self.fn: Any = fn
        self.options = options
        self._variants: dict[Any, list[Variant]] = {}
        self._symbolic: list[Variant] = []
        self._seen: dict[Any, list[tuple[tuple[int, ...], ...]]] = {}   # shapes by everything else, for what is said about a new one
        self._last: tuple[Any, Variant, Executable] | None = None
        self._quick: Quick | None = None                                # the last call again, where it is of plain arguments
        self._names: dict[tree.TreeDef, list[str]] = {}
        self._bound: dict[Any, CompiledFunction] = {}                   # of objects without a __dict__

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        """A method: each object has its own traces."""
        if obj is None:
            return self
        own: Any = getattr(obj, "__dict__", None)
        key: Any = getattr(self.fn, "__qualname__", "") if isinstance(own, dict) else id(obj)
        methods: dict[Any, CompiledFunction] = own.setdefault("_compiled", _Methods()) if isinstance(own, dict) else self._bound
        found = methods.get(key)
        if found is not None and found.fn.__self__ is not obj and methods is not self._bound:       # obj is a shallow copy
            methods = own["_compiled"] = _Methods()
        if found is None or found.fn.__self__ is not obj or found.options is not self.options:
            found = methods[key] = CompiledFunction(self.fn.__get__(obj, owner), self.options)
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledFunction:
        """Itself, as a function is; of a method, a new one of the copied object's."""
        fn = copy.deepcopy(self.fn, memo)
        return self if fn is self.fn else CompiledFunction(fn, self.options)

    def __reduce__(self) -> Any:
        """Pickled by name, as a function is; of a method, by the object."""
        return self.fn.__qualname__ if isinstance(self.fn, types.FunctionType) else (CompiledFunction, (self.fn, self.options))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the step: arrays or Tensors in, NumPy arrays out (a 0-d result is a NumPy scalar)."""
        if current.tracer is not None:                                  # within another trace: a part of it
            return self.fn(*args, **kwargs)
        quick = self._quick
        if quick is not None and not kwargs:
            with running:
                result = quick.run(args)
            if result is not NotImplemented:
                return result
        if current.derivatives:                                         # of what it gives somebody wants derivatives, which an array has not
            return self.fn(*args, **kwargs)
        call = arguments.take_apart(args, kwargs, self._leaf_names)
        with running:
            variant, executable = self._fitting(call)
            result = variant.run(call.leaves, executable)
            if not kwargs and (quick is None or quick.variant is not variant or not quick.current()):
                self._quick = _quick(variant, executable, args, call)
            return result

    def bind(self, *args: Any, **kwargs: Any) -> Bound:
        """The step on these very arguments, for loops that fill the same buffers again and again: `again = step.bind(x, y)`, then `again()`.

        Nothing of the arguments is looked at any more, so arrays must be such as the step reads where they are (C-contiguous, aligned, of an element type of
        graphc's in native byte order), and their memory must stay where it is: no `x.resize(...)`. What is not an argument is noticed as in every
        call: `param_groups`, `net.eval()`, a rebound name. Results are those of a call: each is the caller's own, never written again.

        >>> import numpy as np, graphc as gx
        >>> x = np.zeros(3)
        >>> again = gx.compile(lambda x: gx.sum(x * x)).bind(x)
        >>> x[:] = 1, 2, 3
        >>> again().item()
        14.0
        """
        return Bound(self, args, kwargs)

    def _fitting(self, call: Arguments) -> tuple[Variant, Executable]:
        """The variant and the executable for a call: those of the last one, if they still fit."""
        last = self._last
        if last is None or last[0] != call.keys or last[1].keys.treedef != call.treedef or not last[1].traced.holds():
            last = self._last = call.keys, *self._find(call)
        return last[1], last[2]

    # ---- variants ----------------------------------------------------------------------------------------------------------------

    def _leaf_names(self, treedef: tree.TreeDef) -> list[str]:
        if treedef not in self._names:
            self._names[treedef] = arguments.leaf_names(self.fn, treedef)
        return self._names[treedef]

    def _find(self, call: Arguments) -> tuple[Variant, Executable]:
        for x in call.leaves:
            if isinstance(x, Spec):
                raise GraphTypeError("a Spec is no argument of a call", at=user_loc(), fix="f.lower(Spec(...)) compiles ahead of it")
        known = self._variants.get(call.key, [])
        for variant in reversed(known):
            if variant.traced.holds():
                return variant, variant.executable({})
        shapes = arguments.shapes(call.keys)
        outdated: tuple[Variant, dict[str, int]] | None = None
        for variant in reversed(self._symbolic):
            if variant.keys.shapeless == call.shapeless and (sizes := match(variant.traced.array_types, shapes)) is not None:
                if variant.traced.holds():
                    return variant, variant.executable(sizes)
                outdated = outdated or (variant, sizes)
        self._announce(call, stale=bool(known) or outdated is not None)
        if outdated is not None:                                        # what was asked for with a Spec stays so
            pattern, sizes = outdated
            try:
                variant = self._traced(replace(call, keys=pattern.keys.keys))
            except UnknownSize as e:
                _say("graphc: %s cannot be traced for every size any more: %s", getattr(self.fn, "__name__", "function"), e.what)
            else:
                self._symbolic.append(variant)
                del self._symbolic[:-_KEEP]
                return variant, variant.executable(sizes)
        variant = self._traced(call)
        executable = variant.executable({})
        self._variants.setdefault(call.key, []).append(variant)
        del self._variants[call.key][:-_KEEP]
        seen, shapes_now = self._seen.setdefault(call.shapeless, []), tuple(shapes)
        if shapes_now not in seen:
            seen.append(shapes_now)
        return variant, executable

    def _traced(self, call: Arguments) -> Variant:
        """A new variant, of the shapes that the keys say: they may be symbolic."""
        types = [TensorType(tuple(k[1]), k[2]) if k[0] == "array" else None for k in call.keys]
        return Variant(function.trace(self.fn, call, types, self.options.keep_grads, self.options.stable), call, self.options)

    def _announce(self, call: Arguments, stale: bool) -> None:
        """A second shape is compiled once more: said at INFO, or refused."""
        name = getattr(self.fn, "__name__", "function")
        now = tuple(arguments.shapes(call.keys))
        seen = self._seen.get(call.shapeless, [])
        if stale:
            _say("graphc: tracing %s again: what it reads from outside has changed", name)
        elif seen and now not in seen:
            names = [n for n, k in zip(self._leaf_names(call.treedef), call.keys) if k[0] == "array"]
            changed = [(n, a, b) for n, a, b in zip(names, seen[-1], now) if a != b]
            what = ", ".join(f"{n} from {_shape(a)} to {_shape(b)}" for n, a, b in changed)
            if self.options.on_new_shape == "error":
                raise GraphError(f"{name} is compiled for other shapes: {what}", at=user_loc(), why='on_new_shape="error"',
                                 fix='gx.compile(..., on_new_shape="compile"), or f.lower(gx.Spec(("N", ...))) for every N')
            _say("graphc: compiling %s once more for a new shape: %s", name, what)

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """Trace ahead of the first call, from arrays or `gx.Spec`s. A Spec with names fits every size >= 1 of its axes."""
        call = arguments.take_apart(args, kwargs, self._leaf_names)
        with running:
            return Lowered(self, self._traced(call))

    def adopt(self, variant: Variant) -> None:
        """Use a variant that was lowered ahead."""
        if variant.traced.dims:
            self._symbolic.append(variant)
        else:
            self._variants.setdefault(variant.keys.key, []).append(variant)
        self._seen.setdefault(variant.keys.shapeless, []).append(tuple(arguments.shapes(variant.keys.keys)))

    # ---- looking inside ----------------------------------------------------------------------------------------------------------

    @property
    def variants(self) -> list[Variant]:
        """Every trace there is, oldest first."""
        return [v for vs in self._variants.values() for v in vs] + self._symbolic

    @property
    def lowered(self) -> Lowered:
        """The variant of the last call."""
        if self._last is None:
            raise GraphError(f"{getattr(self.fn, '__name__', 'the function')} has not been called yet", at=user_loc(), fix="call it, or use lower(...)")
        return Lowered(self, self._last[1], self._last[2])

    def draw(self, path: str, **options: Any) -> Any:
        """Write a picture of the variant of the last call: `Lowered.draw`."""
        return self.lowered.draw(path, **options)

    def __repr__(self) -> str:
        return f"<compiled {getattr(self.fn, '__qualname__', self.fn)}: {len(self.variants)} variant(s), backend {self.options.backend}>"


def _say(text: str, *args: Any) -> None:
    """Tell whoever listens to the logger "graphc" at INFO. (`logging` loads when there is something to say.)"""
    import logging
    logging.getLogger("graphc").info(text, *args)


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"


class Bound:
    """A compiled function with its arguments: see `CompiledFunction.bind`."""

    def __init__(self, owner: CompiledFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._owner, self._args, self._kwargs = owner, args, kwargs
        self._quick: Quick | None = None
        call = arguments.take_apart(args, kwargs, owner._leaf_names)
        for name, x, key in zip(owner._leaf_names(call.treedef), call.leaves, call.keys):
            if key[0] == "array":
                _refuse_unreadable(name, x)
        with running:
            self._bind(call, *owner._fitting(call))

    def _bind(self, call: Arguments, variant: Variant, executable: Executable) -> None:
        from .executable import Native
        if isinstance(executable, Native):
            from .quick import of_leaves
            self._quick = of_leaves(variant, executable, call.leaves)

    def __call__(self) -> Any:
        """Run the step on what the arrays hold now."""
        owner, quick = self._owner, self._quick
        if current.tracer is not None:                                  # within another trace: a part of it
            return owner(*self._args, **self._kwargs)
        if quick is not None:
            with running:
                result = quick.run(())
            if result is not NotImplemented:
                return result
        call = arguments.take_apart(self._args, self._kwargs, owner._leaf_names)
        with running:
            variant, executable = owner._fitting(call)
            result = variant.run(call.leaves, executable)
            if quick is not None and (quick.variant is not variant or not quick.current()):
                self._bind(call, variant, executable)
            return result


def _quick(variant: Variant, executable: Executable, args: tuple[Any, ...], call: Arguments) -> Quick | None:
    """The short way for the next call like this one."""
    from .executable import Native
    if not isinstance(executable, Native):
        return None
    from .quick import of_call
    return of_call(variant, executable, args, call)


def _refuse_unreadable(name: str, x: Any) -> None:
    """Where a step would need a copy of an array, binding it would be wrong: the copy would be of what it holds now."""
    if not isinstance(x, np.ndarray):
        why = f"it is a {type(x).__name__}"
    elif (x.dtype.isbuiltin != 1 and x.dtype is not BFLOAT16) or not x.dtype.isnative:
        why = f"its element type is {x.dtype!r}"
    elif not x.flags.c_contiguous:
        why = "it is not C-contiguous"
    elif not x.flags.aligned:
        why = "its data are not aligned"
    else:
        return
    raise GraphTypeError(f"bind needs arrays that the step reads where they are, and {name} is not one", op="bind", at=user_loc(), why=why,
                         fix=f"a buffer: {name} = numpy.ascontiguousarray({name}, numpy.float32), filled anew before every call; or the call itself")


class Lowered:
    """A traced function that can be looked at: its graph, the text of each stage, the memory it will need, a drawing."""

    def __init__(self, owner: CompiledFunction, variant: Variant, executable: Executable | None = None) -> None:
        self._owner, self._variant, self._executable = owner, variant, executable

    @property
    def graph(self) -> Graph:
        """The graph as traced: before any pass."""
        return self._variant.traced.graph

    @property
    def traced(self) -> Traced:
        """The trace: the graph, and what its states and numbers stand for."""
        return self._variant.traced

    @property
    def constants(self) -> list[Constant]:
        """Numbers and arrays that were read from closures and globals, and so are constants of the graph."""
        return self._variant.traced.constants

    def executable(self, **sizes: int) -> Executable:
        """What runs, compiled when first asked for: for every size of symbolic axes, or with sizes, executable(N=64), for those alone."""
        dims = self._variant.traced.dims
        if self._executable is not None and not sizes:
            return self._executable
        if dims and not sizes:
            with running:
                every = self._variant.for_every_size()
            if every is not None:
                return every
        if dims != sizes.keys():
            raise GraphError(f"the sizes {', '.join(sorted(dims)) or 'of this function'} are " + ("symbolic" if dims else "all numbers"),
                             at=user_loc(), why="something in it needs to know them" if dims else None,
                             fix=f"pass {', '.join(f'{d}=64' for d in sorted(dims)) or 'no sizes'}")
        with running:
            return self._variant.specialised(dict(sizes))

    def text(self, stage: str = "graph", **sizes: int) -> str:
        """ "graph" (as traced), "optimized" (after the passes), "loops", "llvm" or "asm". """
        if stage == "graph":
            return str(self.graph)
        executable = self.executable(**sizes)
        return str(executable.optimized) if stage == "optimized" else executable.text(stage)

    def memory_plan(self, **sizes: int) -> MemoryPlan:
        """The bytes of a step: arena, states, results, constants. Those of symbolic axes depend on their sizes: memory_plan(N=64)."""
        if sizes and (every := self._variant.for_every_size()) is not None:
            return every.memory_plan(**sizes)
        return self.executable(**sizes).memory_plan()

    @property
    def report(self) -> Report:
        """The passes with their times and node counts, and the seconds of each stage."""
        if self._executable is None and self._variant.every is None and self._variant.executables:
            return next(reversed(self._variant.executables.values())).report
        return self.executable().report

    def draw(self, path: str, **options: Any) -> Any:
        """Write a picture, .svg, .png, .pdf, .dot or .html; view="lanes", "modules", "forward", "kernels" or "memory": see `graphc.viz.draw`."""
        from .viz import draw
        return draw(self, path, **options)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from .viz import mimebundle
        return mimebundle(self)

    def compile(self) -> CompiledFunction:
        """The function, with this trace ready: calls that fit it neither trace nor compile, unless the code must know its sizes."""
        if not self._variant.traced.dims:
            self.executable()
        else:
            with running:
                self._variant.for_every_size()
        if self._variant not in self._owner.variants:
            self._owner.adopt(self._variant)
        return self._owner


@overload
def compile(fn: Callable[..., Any], **options: Any) -> CompiledFunction: ...
@overload
def compile(fn: None = None, **options: Any) -> Callable[[Callable[..., Any]], CompiledFunction]: ...


def compile(fn: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile a function: a whole training step, unmodified, as one native function. Use it as a decorator or call it.

    Arrays, Tensors and trees of them are arguments; Python floats and ints are run-time numbers; bool, str and None choose a trace; Modules,
    optimizers and leaves that require a gradient are taken as they are. Keywords are the fields of `core.options.Options`: backend ("llvm" or
    "numpy"), threads, keep_grads, on_new_shape ("compile" or "error"), flush_denormals, memory_limit (bytes). Raises GraphError for what cannot be compiled.

    >>> import numpy as np, graphc as gx
    >>> @gx.compile(backend="numpy")
    ... def f(x):
    ...     return gx.sum(x * x)
    >>> f(np.arange(3.0)).item()
    5.0
    """
    if fn is None:
        return lambda f: compile(f, **options)
    known = Options.__match_args__
    for name in options:
        if name not in known:
            raise GraphError(f"compile has no option {name!r}", at=user_loc(), fix=f"there are {', '.join(sorted(known))}")
    if isinstance(fn, CompiledFunction):
        fn = fn.fn
    if not callable(fn):
        raise GraphTypeError(f"compile needs a function, got {type(fn).__name__}", at=user_loc())
    return CompiledFunction(fn, Options(**options))
