"""From a Python function to a graph: run it once on traced arguments, then settle what its gradients, states and outputs are.

The result says everything that a later call needs: which storages the states are, where run-time numbers come from, what to do with .grad
afterwards, and what must still hold for the graph to be the function's (`holds`).
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from ..core.errors import GraphError
from ..core.loc import Loc, user_loc
from ..core.record import dataclass, field, replace
from ..core.types import TensorType
from ..ir.host import hosts
from ..ir.node import Graph, Info, Node
from ..ir.rewrite import Rule
from ..ir.walk import rebuilt, topo
from ..ops import leaf
from ..transform.stability import stabilize, written_as_is
from . import tree
from .arguments import Arguments, leaf_names, scalar_dtype
from .guards import Captured, Constant, captures, process, structure
from .scalar import Source
from .storage import Storage, Writer
from .tensor import Tensor
from .tracer import GradEntry, Tracer

After = Literal["none", "inside", "output", "state"]


@dataclass(frozen=True, slots=True)
class GradAction:
    """What a call leaves in tensor.grad: nothing, an error, an extra output of the graph, or a state's value."""

    tensor: Tensor
    after: After
    output: int = -1
    storage: Storage | None = None


@dataclass(slots=True)
class Traced:
    """A traced function. The graph's inputs are the array leaves, then the numbers among the leaves, then the run-time numbers of `sources`."""

    graph: Graph
    storages: tuple[Storage, ...]                       # one for each of graph.states
    array_leaves: list[int]                             # which leaves of the call are the graph's array inputs
    array_types: list[TensorType]
    number_leaves: list[int]
    sources: list[Source]
    out_tree: tree.TreeDef
    out_leaves: list[tuple[bool, Any]]                  # (True, which output) or (False, the value itself)
    grads: list[GradAction]
    captured: list[Captured]
    depended: list[tuple[Any, Any]]                     # objects and their structure
    grad_guards: list[tuple[Tensor, bool]]              # is .grad None before the call?
    constants: list[Constant]
    dims: frozenset[str]
    rewritten: list[tuple[frozenset[Loc], str]]         # formulas that took their stable form: where they were written, and how
    epoch: int = 0
    written: tuple[Storage, ...] = ()
    writer: Writer = field(default_factory=Writer)

    def __post_init__(self) -> None:
        self.written = tuple(s for s, state in zip(self.storages, self.graph.states) if state.write is not state.read)

    def holds(self) -> bool:
        """Is the graph still the function's? One comparison for all structure, then the names that it reads."""
        for c in self.captured:
            where = c.where
            if type(where) is dict and c.members is None and where.get(c.key) is c.value:
                continue                                                # the usual case, in line
            if not c.holds():
                return False
        return self.structure_holds() and self.gradients_hold()

    def structure_holds(self) -> bool:
        """Are Modules, optimizers and leaves as they were?"""
        if self.epoch != process.count:
            now = process.count
            if any(structure(obj) != s for obj, s in self.depended):
                return False
            self.epoch = now
        return True

    def gradients_hold(self) -> bool:
        """Is each .grad there, or not there, as the trace has it?"""
        for t, is_none in self.grad_guards:
            cell = t._grad
            if (cell is None or cell.status == "none") is not is_none:
                return False
        return True

    def wrote(self) -> None:
        """A step has run."""
        if self.writer.lost:
            self.writer.claim(self.written)
        self.writer.count += 1


def trace(fn: Callable[..., Any], arguments: Arguments, types: Sequence[TensorType | None], keep_grads: bool = False, stable: bool = True) -> Traced:
    """Trace fn. `types` gives, for each leaf that is an array, its type (sizes may be symbolic). stable: formulas take their stable form."""
    with written_as_is(not stable):
        return _trace(fn, arguments, types, keep_grads)


def _trace(fn: Callable[..., Any], arguments: Arguments, types: Sequence[TensorType | None], keep_grads: bool) -> Traced:
    names = leaf_names(fn, arguments.treedef)
    objects = [x for x, key in zip(arguments.leaves, arguments.keys) if key[0] == "object"]
    captured = captures(fn, arguments=objects)
    tracer = Tracer()
    try:
        with tracer.running():
            inputs, numbers, leaves = [], [], list(arguments.leaves)
            array_leaves, number_leaves = [], []
            for k, (key, t) in enumerate(zip(arguments.keys, types, strict=True)):
                if t is not None:
                    node = tracer.input(names[k], t)
                    inputs.append(node)
                    array_leaves.append(k)
                    leaves[k] = Tensor.from_node(node)
                    leaves[k].name = names[k]
                elif key[0] in ("float", "int"):
                    node = tracer.input(names[k], TensorType((), scalar_dtype(key)))
                    numbers.append(node)
                    number_leaves.append(k)
                    leaves[k] = Tensor.from_node(node, weak=True)
                    leaves[k].name = names[k]
            args, kwargs = arguments.treedef.unflatten(leaves)
            result = fn(*args, **kwargs)
            out_leaves, out_tree = tree.flatten(result, lambda x: isinstance(x, Tensor))
            tracer.here()
            outputs: list[Node] = []
            described: list[tuple[bool, Any]] = []
            for x in out_leaves:
                if isinstance(x, Tensor):
                    described.append((True, len(outputs)))
                    outputs.append(_value(tracer, x))
                else:
                    described.append((False, x))
            actions, guards, dropped = _settle_grads(tracer, outputs, keep_grads)
            _no_leaks(captured, tracer)
    except BaseException:
        for c in captured:                                              # names that the trace rebound to traced values
            _restore(c)
        raise
    storages, states = tracer.states()
    graph = Graph((*inputs, *numbers, *(n for n, _ in tracer.scalars.values())), tuple(outputs), states, tracer.effects, tracer.recorder.info,
                  getattr(fn, "__name__", "graph"))
    rewritten: list[tuple[Node, Rule]] = []
    graph = stabilize(_without(graph, dropped), rewritten)
    for obj in captured.structured:                                     # read without being called: net.training, net.k
        tracer.depends(obj)
    met = list(tracer.depends_on.values())
    called = [code for h in hosts(graph) if (code := h.code) is not None]
    return Traced(graph, storages, array_leaves, [t for t in types if t is not None], number_leaves, [s for _, s in tracer.scalars.values()],
                  out_tree, described, actions, captures(fn, met, objects, called), [(o, structure(o)) for o in met], guards,
                  _numbers(captured, tracer) + tracer.constants, frozenset(d for t in types if t is not None for d in t.dims),
                  [(graph.where(n).locs, rule.comment) for n, rule in rewritten], process.count)


def _value(tracer: Tracer, x: Tensor) -> Node:
    return tracer.cell(x._own_storage()).now if x._tracer is None and not x.weak else x._traced_node(tracer)


def _settle_grads(tracer: Tracer, outputs: list[Node], keep_grads: bool) -> tuple[list[GradAction], list[tuple[Tensor, bool]], dict[Node, Node]]:
    """What becomes of each .grad when the call ends; `outputs` grows by those that are returned. Also the sums that need no old gradient."""
    actions: list[GradAction] = []
    guards: list[tuple[Tensor, bool]] = []
    dropped: dict[Node, Node] = {}
    for t, entry in tracer.grads.items():
        if t._tracer is not None or t._storage is None:
            continue                                                    # a value of this trace, or one it never used
        if entry.assumed_none:
            guards.append((t, True))
        if entry.assumed_some:
            guards.append((t, False))
        if entry.persistent is not None:
            if entry.accumulated is not None and entry.value is None:   # zeroed again at the end: then it starts from none
                dropped[entry.accumulated[0]] = entry.accumulated[1]
                guards.append((t, True))
                del tracer.cells[entry.persistent]
                actions.append(GradAction(t, "none"))
                continue
            if entry.accumulated is None:
                guards.append((t, False))
            actions.append(_persist(tracer, t, entry, entry.persistent))
        elif entry.value is None:
            actions.append(GradAction(t, "none"))
        elif entry.consumed and not keep_grads:
            actions.append(GradAction(t, "inside"))
        else:
            actions.append(GradAction(t, "output", len(outputs)))
            outputs.append(entry.value.node())
    return actions, guards, dropped


def _persist(tracer: Tracer, t: Tensor, entry: GradEntry, storage: Storage) -> GradAction:
    new = leaf.splat(0.0, storage.type) if entry.value is None else entry.value.node()
    tracer.write(storage, new)
    return GradAction(t, "none" if entry.value is None else "state", storage=storage)


def bind(traced: Traced) -> None:
    """Let the gradients that are states belong to their tensors; called once the graph has been compiled."""
    from .tensor import GradCell
    for a in traced.grads:
        if a.storage is not None:
            cell = a.tensor._grad = a.tensor._grad or GradCell()
            cell.storage = a.storage


def _no_leaks(captured: Sequence[Captured], tracer: Tracer) -> None:
    for c in captured:
        now = c.read()
        if now is not c.value and isinstance(now, Tensor) and now._tracer is tracer:
            raise GraphError(f"the name {c.name} was rebound to a traced value", at=user_loc(),
                             why="a compiled call cannot rebind Python names: the function ran only once, to be traced",
                             fix=f"write in place ({c.name} -= ..., {c.name}.copy_(...)), or return the new value")


def _restore(c: Captured) -> None:
    now = c.read()
    if now is not c.value and isinstance(now, Tensor) and now.is_traced:
        c.restore()


def _without(graph: Graph, env: dict[Node, Node]) -> Graph:
    """The graph with nodes replaced; where each node came from is kept."""
    if not env:
        return graph
    done: dict[Node, Node] = {}
    info: dict[Node, Info] = dict(graph.info)
    for n in topo((*graph.roots, *graph.leaves)):
        if n in env:
            done[n] = done[env[n]]
            info[done[n]] = graph.where(n) | graph.where(env[n])
        else:
            done[n] = rebuilt(n, tuple(done[i] for i in n.inputs))
            if done[n] is not n:
                info[done[n]] = graph.where(n)
    return replace(graph.with_roots(tuple(done[r] for r in graph.roots), info), info=info)


def _numbers(captured: Sequence[Captured], tracer: Tracer) -> list[Constant]:
    """The plain numbers and arrays that were read from outside, and those that Modules of the user's hold: constants of the graph."""
    found = [Constant(c.name, c.value) for c in captured]
    for obj in tracer.depends_on.values():
        if not type(obj).__module__.startswith("graphc."):
            found += [Constant(f"{type(obj).__name__}.{k}", v) for k, v in vars(obj).items() if not k.startswith("_")]
    return [c for c in found if isinstance(c.value, (int, float, np.ndarray)) and not isinstance(c.value, bool)]
