"""The record of a primitive, and the registry. One op is one block in its family's file in `graphc.ops`: type rule, NumPy meaning, derivative, sampling."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..core.record import dataclass
from ..core.types import Type

if TYPE_CHECKING:
    from .node import Node

Vjp = Callable[..., "tuple[Node | None, ...]"]          # (g, y, *inputs, **attrs) -> a cotangent for each input; None is zero
Sample = tuple[Sequence[np.ndarray[Any, Any]], dict[str, Any]]   # arrays and attributes of one example call
Family = Literal["leaf", "unary", "binary", "compare", "select", "cast", "movement", "reduce", "contract", "index", "random", "tuple",
                 "control", "effect", "linalg"]


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """A primitive. Calling it makes a node: `add(a, b)`, `reduce_sum(x, axes=(0,))`. The docstring of `infer` says its shape rule in words.

    `vjp` has three states: a rule, "zero" (flat almost everywhere), or None (unwritten: differentiating through it is an error).
    """

    name: str
    family: Family
    infer: Callable[..., Type]                          # (*input types, **attrs) -> type; raises GraphError
    numpy: Callable[..., Any]                           # (*arrays, **attrs) -> array or tuple of arrays: the meaning
    vjp: Vjp | Literal["zero"] | None
    doc: str
    samples: Callable[[np.random.Generator], Sequence[Sample]]   # small examples where the free tests evaluate and differentiate it
    engine: bool = False                                # its vjp also takes `pullback`, reverse mode itself: for ops that hold graphs
    domain: tuple[float, float] | None = None           # where the free tests of an elementwise op sample: away from its singularities
    pure: bool = True                                   # False: never removed, merged or reordered against other effects

    def __call__(self, *inputs: Node, **attrs: Any) -> Node:
        from .node import Node
        return Node(self, inputs, attrs, self.infer(*(i.type for i in inputs), **attrs))

    def __repr__(self) -> str:
        return self.name


REGISTRY: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Make an op known by its name; a second op of that name is a mistake."""
    if op.name in REGISTRY:
        raise ValueError(f"there is an op {op.name!r} already")
    REGISTRY[op.name] = op
    return op
