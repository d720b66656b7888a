"""Nodes and graphs. A node is immutable and has identity: two calls make two nodes, and only the pass `cse` says which are one.

What a node *is* (op, inputs, attributes, type) stands in the node. Where it came from (lines, names, scopes, phase) stands beside it in the
graph, as sets that passes merge and no key ever contains.
"""
from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from ..core.loc import Loc
from ..core.record import dataclass, field
from ..core.types import TensorType, Type
from .op import REGISTRY, Op

_NO_ATTRS: Mapping[str, Any] = MappingProxyType({})


class Node:
    """The application of an op to inputs. Equality is identity."""

    __slots__ = ("__weakref__", "attrs", "inputs", "op", "type")

    def __init__(self, op: Op, inputs: tuple[Node, ...], attrs: Mapping[str, Any], type: Type) -> None:
        self.op = op
        self.inputs = inputs
        self.attrs: Mapping[str, Any] = attrs or _NO_ATTRS      # never changed after this line
        self.type = type
        recorder = _current.recorder
        if recorder is not None:
            recorder.note(self)

    def __repr__(self) -> str:
        return f"<{self.op} {self.type}>"

    @property
    def tensor(self) -> TensorType:
        """The type, which must be a tensor's."""
        assert isinstance(self.type, TensorType), self
        return self.type

    # Arithmetic, so that derivative rules and rewrite rules read as algebra. Equal shapes only; a Python number is a constant of the same type.

    def _with(self, other: Node | float) -> Node:
        return other if isinstance(other, Node) else constant_like(self, other)

    def __add__(self, other: Node | float) -> Node: return REGISTRY["add"](self, self._with(other))
    def __radd__(self, other: float) -> Node: return REGISTRY["add"](self._with(other), self)
    def __sub__(self, other: Node | float) -> Node: return REGISTRY["sub"](self, self._with(other))
    def __rsub__(self, other: float) -> Node: return REGISTRY["sub"](self._with(other), self)
    def __mul__(self, other: Node | float) -> Node: return REGISTRY["mul"](self, self._with(other))
    def __rmul__(self, other: float) -> Node: return REGISTRY["mul"](self._with(other), self)
    def __truediv__(self, other: Node | float) -> Node: return REGISTRY["div"](self, self._with(other))
    def __rtruediv__(self, other: float) -> Node: return REGISTRY["div"](self._with(other), self)
    def __neg__(self) -> Node: return REGISTRY["neg"](self)


def constant_like(node: Node, value: float) -> Node:
    """The number `value` in every element of a tensor of node's type."""
    t = node.tensor
    return REGISTRY["const"](value=t.dtype.numpy.type(value), shape=t.shape, dtype=t.dtype)


@dataclass(frozen=True, slots=True)
class Info:
    """Where a node came from. Sets, because passes merge nodes."""

    locs: frozenset[Loc] = frozenset()
    names: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()                # module paths: "fc1", "encoder.0"
    phases: frozenset[str] = frozenset()                # "forward", "backward", "update"

    def __or__(self, other: Info) -> Info:
        if other is self or other == NOWHERE:
            return self
        return Info(self.locs | other.locs, self.names | other.names, self.scopes | other.scopes, self.phases | other.phases)


NOWHERE = Info()


class Recorder:
    """While it is the current one, every new node gets `here` as its Info."""

    __slots__ = ("here", "info")

    def __init__(self, info: dict[Node, Info] | None = None, here: Info = NOWHERE) -> None:
        self.info: dict[Node, Info] = {} if info is None else info
        self.here = here

    def note(self, node: Node) -> None:
        self.info[node] = self.here


class _Current(threading.local):
    recorder: Recorder | None = None


_current = _Current()


def recorder() -> Recorder | None:
    return _current.recorder


@contextmanager
def recording(to: Recorder | None) -> Iterator[Recorder | None]:
    """Make `to` the current recorder of this thread; None records nothing."""
    before, _current.recorder = _current.recorder, to
    try:
        yield to
    finally:
        _current.recorder = before


@dataclass(frozen=True, slots=True)
class State:
    """Something that outlives a call (a parameter, a moment, a step count): read at the start, written at the end."""

    name: str
    read: Node                                          # an `input` leaf that is not among the graph's inputs
    write: Node                                         # `read` itself where the graph leaves it alone


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A closed, pure program: outputs, new states and effects as functions of inputs and states."""

    inputs: tuple[Node, ...]                            # `input` leaves
    outputs: tuple[Node, ...]
    states: tuple[State, ...] = ()
    effects: tuple[Node, ...] = ()                      # the last token, where there are effects
    info: Mapping[Node, Info] = field(default_factory=dict)
    name: str = "graph"

    @property
    def roots(self) -> tuple[Node, ...]:
        """Everything that must be computed: outputs, then states, then effects."""
        return (*self.outputs, *(s.write for s in self.states), *self.effects)

    @property
    def leaves(self) -> tuple[Node, ...]:
        """Everything that is given: inputs, then states."""
        return (*self.inputs, *(s.read for s in self.states))

    def with_roots(self, roots: tuple[Node, ...], info: Mapping[Node, Info] | None = None) -> Graph:
        """The same graph with other nodes in the places of `roots`."""
        n, k = len(self.outputs), len(self.states)
        states = tuple(State(s.name, s.read, w) for s, w in zip(self.states, roots[n:n + k], strict=True))
        return Graph(self.inputs, roots[:n], states, roots[n + k:], self.info if info is None else info, self.name)

    def where(self, node: Node) -> Info:
        return self.info.get(node, NOWHERE)

    def to_networkx(self) -> Any:
        """The graph as a `networkx.MultiDiGraph`: an edge for each reading, op, type, names and phases on the nodes."""
        from .networkx import to_networkx
        return to_networkx(self)

    def __str__(self) -> str:
        from .text import show
        return show(self)
