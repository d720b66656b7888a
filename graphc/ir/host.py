"""A function of the user's Python, as an attribute of a node: what a compiled step calls back.

Like every attribute it never changes and is compared by what it is. In the text of a graph it is its name, so a graph that was parsed has names and no
functions: it can be looked at, transformed and printed again, and says so where it is asked for a value.
"""
from __future__ import annotations

from collections.abc import Sequence
from types import CodeType
from typing import TYPE_CHECKING, Any

from ..core.errors import GraphError

if TYPE_CHECKING:
    from ..core.types import TensorType
    from .node import Graph


class Host:
    """A name alone. What has a function, too, is `trace.callback.Callback`."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def code(self) -> CodeType | None:
        """The code of the function, where it is Python's."""
        return None

    def __call__(self, arrays: Sequence[Any], results: Sequence[TensorType]) -> list[Any]:
        """The values of the results, which have these types, from those of the operands."""
        raise GraphError(f"{self.name} is a name in the text of a graph, and there is no function",
                         why="text holds the names of Python's functions, not their code", fix="trace the function that calls it")

    def __eq__(self, other: object) -> bool:
        return type(self) is Host and type(other) is Host and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<host function {self.name}>"


def hosts(graph: Graph) -> list[Host]:
    """The functions that a graph calls, in the order in which they are met, as often as they are called."""
    from .walk import all_nodes
    return [v for n in all_nodes(graph) for v in n.attrs.values() if isinstance(v, Host)]
