"""The tracer: while it is current, operations on Tensors make nodes, and reads and writes of states are collected.

It changes nothing outside itself. New values of parameters, gradients and buffers are nodes that live here until the trace has ended well.
"""
from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..core import half
from ..core.dtype import DType, from_numpy
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.types import TensorType
from ..ir.node import Info, Node, Recorder, State, recording
from ..ops import elementwise, leaf
from .guards import Constant, bump
from .storage import Array, Storage
from .tape import Tape, current

if TYPE_CHECKING:
    from .scalar import Source
    from .tensor import Tensor

__all__ = ["BodyKind", "Cell", "GradEntry", "Tracer", "bump", "depends", "on_failure", "phase", "scope"]


BodyKind = Literal["loop", "branch", "vmap", "custom", "pattern"]
BODY_NAMES: dict[str, str] = {"loop": "a loop's body", "branch": "a branch", "vmap": "vmap", "custom": "a function with a rule of its own",
                              "pattern": "a function whose sparsity is asked"}


class Cell:
    """A state within a trace: the leaf that reads it, and the node that is its value now."""

    __slots__ = ("leaf", "leaf_of", "now", "read")

    def __init__(self, read: Node) -> None:
        self.read = self.now = read
        self.leaf = self.leaf_of = read                 # what reverse mode takes for the tensor: `now`, cut off from its past


class GradEntry:
    """p.grad within a trace."""

    __slots__ = ("accumulated", "assumed_none", "assumed_some", "consumed", "persistent", "tensor", "value")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.value: Tensor | None = None
        self.persistent: Storage | None = None          # read before written: a state
        self.assumed_none = False                       # the trace holds only while p.grad is None before the call
        self.assumed_some = False                       # ... only while it is not None; its value does not matter
        self.accumulated: tuple[Node, Node] | None = None   # (old + g, g), where old is zero unless the state turns out to be needed
        self.consumed = False                           # an update has used it since it was last written


class Tracer(Tape):
    """One trace: of a compiled function, or (is_body) of the body of a loop, where what is needed from outside becomes an input."""

    __slots__ = ("__weakref__", "_loc_info", "_stopped", "active", "alive", "arrays", "body", "called", "captured", "cells", "constants", "depends_on",
                 "effects", "grads", "is_body", "names", "owner", "parent", "phases", "recorder", "scalars", "scopes", "undo", "written")

    def __init__(self, parent: Tracer | None = None, is_body: bool = False, body: BodyKind = "loop") -> None:
        super().__init__()
        self.body = body                                # of what this is the body: for the words of errors
        self.owner: Any = None                          # whose
        self.parent = parent
        self.is_body = is_body
        self.alive = True
        self.recorder: Recorder = Recorder(None if parent is None else parent.recorder.info)
        self.phases: list[str] = list(parent.phases) if parent else ["forward"]
        self.scopes: list[str] = list(parent.scopes) if parent else []
        self.cells: dict[Storage, Cell] = {}
        self.written: dict[Storage, Tensor] = {}        # of a loop's body: the states that become carries
        self.names: dict[Storage, str] = {}             # full names of states, as the outermost module says them
        self.scalars: dict[Hashable, tuple[Node, Source]] = {}
        self.called: set[Node] = set()                  # nodes whose hooks have been called
        self.active: set[Node] = set()                  # nodes with an ancestor that requires a gradient
        self.grads: dict[Tensor, GradEntry] = {}
        self.depends_on: dict[int, Any] = {}
        self.captured: dict[Any, tuple[Node, Tensor]] = {}  # of a body: key → (its input, the outer Tensor)
        self.constants: list[Constant] = []
        self.arrays: dict[int, tuple[Node, Any]] = {}   # constants made of the user's arrays
        self.undo: list[Callable[[], None]] = []
        self.effects: tuple[Node, ...] = ()
        self._stopped: dict[Node, Node] = {}
        self._loc_info: tuple[Any, Info] = (None, Info())

    @contextmanager
    def running(self) -> Iterator[Tracer]:
        """Be the current tracer of this thread. An exception undoes what `on_failure` was told of."""
        before, current.tracer = current.tracer, self
        grad, current.grad = current.grad, current.grad if self.is_body else True
        try:
            with recording(self.recorder):
                yield self
                if self.is_body:
                    self._hooks_were_called()
        except BaseException:
            for f in reversed(self.undo):
                f()
            raise
        finally:
            current.tracer, current.grad = before, grad
            self.alive = False

    def _hooks_were_called(self) -> None:
        """A body is differentiated as a whole, from outside, so a hook inside sees only what is differentiated inside."""
        for n, table in self.hooks.items():
            if table and n not in self.called:
                raise GraphError(f"a hook on a {n.type} inside of {BODY_NAMES[self.body]} is never called", at=user_loc(),
                                 why="the body is differentiated as a whole, from outside, where its inner values are not seen",
                                 fix="gx.custom_vjp of the identity, whose rule changes the gradient; or gx.grad and the hook both inside")

    # ---- where we are ------------------------------------------------------------------------------------------------------------

    def here(self) -> None:
        """Let new nodes carry the user's line, the module and the phase."""
        loc = user_loc()
        key = (loc, tuple(self.scopes), self.phases[-1])
        if self._loc_info[0] != key:
            scopes = frozenset({".".join(self.scopes)}) if self.scopes else frozenset[str]()
            self._loc_info = key, Info(frozenset({loc}) if loc else frozenset(), frozenset(), scopes, frozenset({self.phases[-1]}))
        self.recorder.here = self._loc_info[1]

    def name(self, node: Node, name: str) -> None:
        """Add a name to a node."""
        info = self.recorder.info.get(node, Info())
        self.recorder.info[node] = info | Info(names=frozenset({name}))

    def state_name(self, storage: Storage) -> str:
        return self.names.get(storage) or storage.name

    # ---- leaves ------------------------------------------------------------------------------------------------------------------

    def input(self, name: str, t: TensorType) -> Node:
        """A new input leaf."""
        node = leaf.input_(name=name, shape=t.shape, dtype=t.dtype)
        if name:
            self.name(node, name)
        return node

    def cell(self, storage: Storage) -> Cell:
        """The state of this trace that stands for a storage."""
        found = self.cells.get(storage)
        if found is None:
            if self.is_body and self.body == "vmap":
                raise GraphError(f"the state {storage.name or storage.type} would be written inside vmap", at=user_loc(),
                                 why="each example would write its own value, and a state has one",
                                 fix="draw random numbers outside, a row for each example, and hand them in" if storage.name.startswith("random.") else
                                     "return the new values, and write what becomes of them (their mean, say) after vmap")
            if self.is_body and self.body == "branch":
                raise GraphError(f"the state {storage.name or storage.type} would be written inside a branch", at=user_loc(),
                                 why="a branch of cond or switch is pure: what it computes is what it returns",
                                 fix="return the new value from every branch, and write it outside")
            if self.is_body and self.body in ("custom", "pattern"):
                raise GraphError(f"the state {storage.name or storage.type} would be written inside {BODY_NAMES[self.body]}", at=user_loc(),
                                 why="it is traced as a function of its arguments, and may be computed twice", fix="return the new value, and write it outside")
            if self.is_body:
                raise GraphError(f"the parameter {storage.name or storage.type} would be written inside a loop body", at=user_loc(),
                                 why="what changes in a loop is a carry, and no leaf that gradients are taken by", fix="carry it: scan(f, (w, ...), xs)")
            found = self.cells[storage] = Cell(self.input(self.state_name(storage), storage.type))
        return found

    def read(self, storage: Storage, tensor: Tensor) -> Node:
        """The value now. Where the tensor requires a gradient, the node is a leaf to reverse mode."""
        if tensor.name and not storage.name:
            self.names.setdefault(storage, tensor.name)
        cell = self.cell(storage)
        if tensor.dtype.is_inexact:                                       # it may ask for a gradient by the next call, or no longer
            self.depends(tensor)
        if not tensor.requires_grad:
            return cell.now
        if cell.leaf_of is not cell.now:                                # after an update the parameter is a leaf again
            cell.leaf, cell.leaf_of = elementwise.stop_gradient(cell.now), cell.now
        if cell.leaf not in self.leaves:
            self.leaves[cell.leaf] = weakref.ref(tensor)
            self.active.add(cell.leaf)
        return cell.leaf

    def write(self, storage: Storage, node: Node, tensor: Tensor | None = None) -> None:
        """Let node be the value of the state from here on. In the body of a loop a buffer that is written becomes a carry: `written`."""
        assert node.type == storage.type, (node, storage)
        if self.is_body and self.body == "loop" and tensor is not None and not tensor.requires_grad and storage not in self.cells:
            self.cells[storage] = Cell(self.capture(tensor))
            self.written[storage] = tensor
        self.cell(storage).now = node

    def scalar(self, key: Hashable, source: Source, dtype: DType, name: str) -> Node:
        """A number that is read anew before every call; a run-time argument of the step."""
        if key not in self.scalars:
            self.scalars[key] = self.input(name, TensorType((), dtype)), source
        return self.scalars[key][0]

    def constant(self, value: Array, name: str = "") -> Node:
        """The user's array as a constant of the graph, listed in the report."""
        found = self.arrays.get(id(value))
        if found is None:
            value_ = half.own(value)
            frozen = np.array(value_, order="C", dtype=value_.dtype.newbyteorder("="))
            dtype = from_numpy(frozen.dtype)
            assert dtype is not None
            frozen.flags.writeable = False
            node = leaf.const(value=frozen, shape=frozen.shape, dtype=dtype)
            found = self.arrays[id(value)] = node, value
            self.constants.append(Constant(name or "array", frozen, user_loc()))
        return found[0]

    # ---- bodies of loops ---------------------------------------------------------------------------------------------------------

    def capture(self, outer: Tensor) -> Node:
        """An input of this body for a Tensor from outside."""
        if outer._storage is not None and outer._storage in self.cells:     # written in this body: what it is now
            return self.cells[outer._storage].now
        key = outer._node if outer.is_traced else outer, outer.requires_grad
        if key not in self.captured:
            node = self.input(outer.name, outer.type)
            self.captured[key] = node, outer
            if outer.requires_grad:
                self.active.add(node)
        return self.captured[key][0]

    def encloses(self, inner: Tracer) -> bool:
        """Is inner's trace inside this one?"""
        t: Tracer | None = inner
        while t is not None and t is not self:
            t = t.parent
        return t is self

    @property
    def root(self) -> Tracer | None:
        """The trace of a compiled function that this is part of; None in a loop body traced eagerly."""
        if not self.is_body:
            return self
        return None if self.parent is None else self.parent.root

    # ---- gradients ---------------------------------------------------------------------------------------------------------------

    def stopped(self, node: Node) -> Node:
        """The node as a constant to derivatives."""
        if node not in self._stopped:
            self._stopped[node] = elementwise.stop_gradient(node)
        return self._stopped[node]

    def stopped_nodes(self) -> list[Node]:
        """The nodes that no gradient flows below."""
        return list(self._stopped.values())

    def depends(self, obj: Any) -> None:
        """The trace holds only while the structure of obj stays as it is at the end of the trace."""
        if self.parent is not None:
            return self.parent.depends(obj)
        if id(obj) not in self.depends_on:
            self.depends_on[id(obj)] = obj
            named = getattr(obj, "_named_states", None)
            if named is not None:
                for name, tensor in named():
                    if tensor._storage is not None:
                        self.names.setdefault(tensor._storage, name)
        return None

    def states(self) -> tuple[tuple[Storage, ...], tuple[State, ...]]:
        """The storages of this trace and their states, with names made unique."""
        taken: dict[str, int] = {}
        states = []
        for storage, cell in self.cells.items():
            name = self.state_name(storage) or "state"
            taken[name] = taken.get(name, 0) + 1
            states.append(State(name if taken[name] == 1 else f"{name}.{taken[name]}", cell.read, cell.now))
        return tuple(self.cells), tuple(states)


# ---- for modules, optimizers and backward() ------------------------------------------------------------------------------------------


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Inside, new nodes belong to this phase: "forward", "backward" or "update". An update uses up the gradients that there are."""
    tracer = current.tracer
    if tracer is None:
        yield
        return
    if name == "update":
        for entry in tracer.grads.values():
            entry.consumed = True
    tracer.phases.append(name)
    try:
        yield
    finally:
        tracer.phases.pop()


@contextmanager
def scope(name: str) -> Iterator[None]:
    """Inside, new nodes belong to the module of this name within the enclosing one."""
    tracer = current.tracer
    if tracer is None or not name:
        yield
        return
    tracer.scopes.append(name)
    try:
        yield
    finally:
        tracer.scopes.pop()


def depends(obj: Any) -> None:
    """Tell the current trace, if there is one, that it used the structure of obj (which has `_epoch`, or `_structure()` -> hashable)."""
    if current.tracer is not None:
        current.tracer.depends(obj)


def on_failure(undo: Callable[[], None]) -> None:
    """Have `undo` called if the current trace fails: for Python objects that had to be changed while tracing."""
    if current.tracer is not None:
        current.tracer.undo.append(undo)
