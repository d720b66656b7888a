"""What one way into a native step has of its own: the table of pointers that the step is entered with, the cells of its numbers, its result buffers.

A compiled step has one frame for its calls, and each `bind` adds one; arena, constants and states they share, so one of them is entered at a time.
"""
from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .core import half
from .core.dims import evaluate, parse
from .core.errors import GraphError
from .core.types import TensorType
from .llvm import entry, guard
from .llvm.entry import ArrayParam, ScalarParam
from .llvm.guard import Record
from .llvm.table import Layout
from .trace.storage import ALIGNMENT, PAGE, aligned_empty

if TYPE_CHECKING:
    from .build import Fit
    from .host import Place

Array = np.ndarray[Any, Any]

LENT = 1 << 16                                          # bytes from which a result is handed out without a copy
_COUNTS_REFERENCES = sys.implementation.name == "cpython"


class Frame:
    """A table with cells and results. The pointers that frames share are in `shared`, a table that is copied."""

    def __init__(self, shared: Array, layout: Layout, params: Sequence[ArrayParam | ScalarParam], inputs: Sequence[tuple[str, int]],
                 results: Sequence[TensorType], code: Any, places: Sequence[Place] = ()) -> None:
        self.table, self.code, self.gives = shared.copy(), code, len(params)
        self.cells = np.zeros(max(1, layout.scalars), np.uint64)
        self.fit: Fit | None = None                     # the sizes that it is for
        self.results: list[Array] = []
        self.lent: dict[int, int] = {}
        self._before: dict[int, Array] = {}             # of those, the memory that was handed out before the last
        self.arena: Array | None = None                 # kept alive for the pointers into it
        self._layout, self._dtypes = layout, [t.dtype.numpy for t in results]
        for k in range(layout.scalars):
            self.table[layout.index("scalar", k)] = self.cells.ctypes.data + 8 * k
        self.slots = [(p, layout.index(kind, slot), self.cells[slot:][:1] if kind == "scalar" else None)
                      for p, (kind, slot) in zip(params, inputs, strict=True)]
        self._places = places                           # objects that the table points to
        for k, place in enumerate(places):
            self.table[layout.index("call", k)] = id(place)
        self.workers = 0, 0                             # how many can be woken, and after how many forks: what the table says
        self.step = entry.slow_entry(code.address("step"), self.table.ctypes.data, (code, self.table), release_gil=layout.threads)
        self.enter = self.entry("entry") if entry.self_test() else None

    def settle(self, fit: Fit, arena: Array) -> None:
        """Be for these sizes: temporaries in this arena, results of these shapes."""
        layout, table = self._layout, self.table
        table[0] = base = arena.ctypes.data
        self.fit, self.arena = fit, arena
        self.results = [self.room(shape, dtype) for shape, dtype in zip(fit.results, self._dtypes)]
        for k, r in enumerate(self.results):
            table[layout.index("result", k)] = r.ctypes.data
        for k in range(layout.temporaries):
            table[layout.index("temporary", k)] = base + fit.regions[k][1]
        for k, n in enumerate(fit.sizes):
            table[layout.index("size", k)] = n
        for place in self._places:
            place.settle(fit.dims)
        # Small results are copied; large ones are handed out as they are, for copying them would cost a page fault every 4 KiB.
        self._before = {}
        self.lent = {k: layout.index("result", k) for k, r in enumerate(self.results) if r.nbytes >= LENT and _COUNTS_REFERENCES}

    def entry(self, name: Literal["entry", "again"]) -> Callable[..., int]:
        """The builtin function that enters with every argument, or with the numbers alone."""
        return entry.make_entry(self.code.address(name), self.table.ctypes.data, (self.code, self.table))

    def guarded(self, name: Literal["entry", "again"], takes: int, gives: int, records: Sequence[Record]) -> Callable[..., int]:
        """The same behind a guard."""
        return guard.make_guard(self.code.address("guard"), self.code.address(name), entry.words(self.table.ctypes.data), takes, gives, records,
                                (self.code, self.table))

    def fill(self, inputs: Sequence[Any]) -> list[Array]:
        """Set the table for whatever NumPy can turn into the right arrays, and the cells: what must live until the step is over."""
        alive = []
        for x, (p, at, cell) in zip(inputs, self.slots, strict=True):
            if cell is not None:
                cell.view(p.dtype.numpy)[0] = half.scalar(x, p.dtype) if isinstance(x, float | int) else x
                continue
            assert isinstance(p, ArrayParam)
            array = np.ascontiguousarray(half.astype(np.asarray(x), p.dtype)).reshape(np.shape(x))
            shape = tuple([evaluate(parse(n), self.fit.dims) if isinstance(n, str) and self.fit is not None else n for n in p.shape])
            if array.shape != shape:
                raise GraphError(f"an argument should have shape {shape}, got {array.shape}")
            if array.ctypes.data % p.dtype.itemsize:
                array = array.copy()
            alive.append(array)
            self.table[at] = array.ctypes.data
        return alive

    def renew(self) -> None:
        """Other memory for every large result that somebody still holds, or a view of it: there the step must not write.

        In a loop that binds one name again and again that is the memory of the call before, whose pages are there already.
        """
        for k, at in self.lent.items():
            if sys.getrefcount(self.results[k]) > 2 or sys.getrefcount(self.results[k].base) > 2:
                held, other = self.results[k], self._before.pop(k, None)
                if other is None or sys.getrefcount(other) > 2 or sys.getrefcount(other.base) > 2:
                    other = self.room(held.shape, held.dtype)
                self._before[k], self.results[k] = held, other
                self.table[at] = other.ctypes.data

    @staticmethod
    def room(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Memory for a result. A large one begins with a page: a load that in the low 12 bits of its address is just behind a store must wait for it, and
        NumPy's large arrays, which are the arguments, begin 16 bytes into a page. (A chain over 10⁷ floats took a twentieth to a sixth longer.)"""
        large = math.prod(shape) * dtype.itemsize >= LENT
        return aligned_empty(shape, dtype, PAGE if large else ALIGNMENT)

    def take(self) -> list[Any]:
        """The outputs as the caller gets them: a 0-d one as a NumPy scalar, a small one as a copy."""
        return [r[()] if r.ndim == 0 else r if k in self.lent else r.copy() for k, r in enumerate(self.results)]
