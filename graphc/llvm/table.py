"""The table of pointers that a native step is entered with."""
from __future__ import annotations

from ..core.record import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the pointer of each region stands in the table: how many regions there are of each kind, in this order, after the arena. Symbolic sizes
    are entries too, numbers where the others are pointers, and so are the objects of Python's that the step calls. A step with threads has three
    entries more: the pool's address, how many threads enter, and a word that says that one is inside. One with loops has, at the end, the address of the
    word that says that Python is handling signals inside a step."""

    arguments: int = 0
    scalars: int = 0
    states: int = 0
    constants: int = 0
    results: int = 0
    temporaries: int = 0
    sizes: int = 0
    calls: int = 0
    threads: bool = False
    loops: bool = False

    @property
    def size(self) -> int:
        return self._regions + (3 if self.threads else 0) + self.loops

    @property
    def _kinds(self) -> tuple[tuple[str, int], ...]:
        return (("argument", self.arguments), ("scalar", self.scalars), ("state", self.states), ("constant", self.constants),
                ("result", self.results), ("temporary", self.temporaries), ("size", self.sizes), ("call", self.calls))

    @property
    def _regions(self) -> int:
        return 1 + sum([n for _, n in self._kinds])

    def index(self, where: str, slot: int = 0) -> int:
        """The table's entry for a region, or for "pool", "threads", "busy" or "polling"; the arena's is 0."""
        if where == "arena":
            return 0
        if self.threads and where in ("pool", "threads", "busy"):
            return self._regions + ("pool", "threads", "busy").index(where)
        if self.loops and where == "polling":
            return self.size - 1
        at = 1
        for kind, n in self._kinds:
            if kind == where:
                assert 0 <= slot < n, f"{where} {slot} of {n}"
                return at + slot
            at += n
        raise AssertionError(f"no regions of kind {where}")
