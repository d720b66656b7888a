"""What reverse mode must know of nodes beside the graph: which are leaves, which have hooks, whose gradient is kept.

A trace has a tape of its own, dropped with it. Outside of a trace there is one tape, `eager`, that forgets a node when nobody holds it.
"""
from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import ContextDecorator
from typing import TYPE_CHECKING, Any

from ..ir.node import Node

if TYPE_CHECKING:
    from .tensor import Tensor
    from .tracer import Tracer

HookFn = Callable[["Tensor"], Any]


class Tape:
    """leaves: nodes whose tensors get a .grad from backward(). hooks: functions of a node's cotangent. retained: inner nodes with a .grad."""

    __slots__ = ("hooks", "leaves", "retained")

    def __init__(self, weak: bool = False) -> None:
        kind: Callable[[], MutableMapping[Node, Any]] = weakref.WeakKeyDictionary if weak else dict
        self.leaves: MutableMapping[Node, weakref.ref[Tensor]] = kind()
        self.hooks: MutableMapping[Node, dict[int, HookFn]] = kind()
        self.retained: MutableMapping[Node, weakref.ref[Tensor]] = kind()


class EagerTape(Tape):
    """The tape outside of every trace; it also holds the value of each node."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        super().__init__(weak=True)
        self.values: MutableMapping[Node, Any] = weakref.WeakKeyDictionary()

    def known(self, roots: Sequence[Node]) -> dict[Node, Any]:
        """What the roots can be computed from: the nodes at or below them that have a value, and nothing below those."""
        found, seen, stack = {}, set(roots), list(roots)
        while stack:
            n = stack.pop()
            value = self.values.get(n)
            if value is not None:
                found[n] = value
                continue
            for i in n.inputs:
                if i not in seen:
                    seen.add(i)
                    stack.append(i)
        return found


eager = EagerTape()


class _Current(threading.local):
    tracer: Tracer | None = None
    grad: bool = True
    derivatives: int = 0                                # of functions that are running

    def __init__(self) -> None:
        self.primals: dict[Node, int] = {}              # of the transforms that are running eagerly: what they differentiate by, and how many of them do


current = _Current()                                    # of this thread


class _GradMode(ContextDecorator):
    """Sets whether results require gradients; a context manager, and a decorator."""

    def __init__(self, on: bool) -> None:
        self.on = on
        self.before: list[bool] = []

    def __enter__(self) -> None:
        self.before.append(current.grad)
        current.grad = self.on

    def __exit__(self, *_: object) -> None:
        current.grad = self.before.pop()



def no_grad() -> _GradMode:
    """Inside, results do not require gradients: `with gx.no_grad(): w -= lr * w.grad`. Also a decorator."""
    return _GradMode(False)


def enable_grad() -> _GradMode:
    """The opposite of `no_grad`."""
    return _GradMode(True)


class differentiated(_GradMode):
    """Inside, a function runs whose derivatives by these nodes are asked for: results require gradients, and compiled functions are Python, as they are in a
    trace. On the eager tape, what depends on the nodes has a past."""

    def __init__(self, nodes: Sequence[Node] = ()) -> None:
        super().__init__(True)
        self.nodes = tuple(nodes) if current.tracer is None else ()

    def __enter__(self) -> None:
        super().__enter__()
        current.derivatives += 1
        for n in self.nodes:
            current.primals[n] = current.primals.get(n, 0) + 1

    def __exit__(self, *error: object) -> None:
        for n in self.nodes:
            current.primals[n] -= 1
            if not current.primals[n]:
                del current.primals[n]
        current.derivatives -= 1
        super().__exit__(*error)


def is_grad_enabled() -> bool:
    return current.grad
