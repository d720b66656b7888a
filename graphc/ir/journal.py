"""What each pass did, as data: for reports, for the viewer, for bisection. Texts are made when somebody asks, so keeping a journal costs nothing."""
from __future__ import annotations

from collections.abc import Iterator

from ..core.record import dataclass, field
from .node import Graph
from .walk import all_nodes


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One run of one pass."""

    name: str
    seconds: float
    before: Graph
    after: Graph

    @property
    def changed(self) -> bool:
        return self.after is not self.before

    @property
    def nodes(self) -> tuple[int, int]:
        """How many nodes there were and are, those of inner graphs included."""
        before = count(self.before)
        return before, count(self.after) if self.changed else before

    @property
    def text(self) -> str:
        """The graph after the pass."""
        return str(self.after)


@dataclass(slots=True)
class Journal:
    """The passes of one compilation, in order. Printed as a table."""

    entries: list[Entry] = field(default_factory=list)

    def note(self, name: str, seconds: float, before: Graph, after: Graph) -> None:
        self.entries.append(Entry(name, seconds, before, after))

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def seconds(self) -> float:
        return sum(e.seconds for e in self.entries)

    def __str__(self) -> str:
        width = max((len(e.name) for e in self.entries), default=4)
        rows = [f"{'pass':<{width}}  {'ms':>8}  nodes"]
        rows += [f"{e.name:<{width}}  {e.seconds * 1e3:>8.2f}  {e.nodes[0]} → {e.nodes[1]}" for e in self.entries]
        return "\n".join(rows)


def count(graph: Graph) -> int:
    """Nodes of a graph and of the graphs inside it."""
    return sum(1 for _ in all_nodes(graph))
