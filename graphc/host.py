"""Where a compiled step calls the user's Python: the objects that it finds in its table, one for each place of the plan that does.

The step calls with the address of a block of pointers, one for each operand and result, and knows no more. What the arrays are the place knows, for the sizes
that its frame is for. Arguments are copied and results are copied back, so nobody holds the step's memory. An exception is simply raised: the step finds it
set, ends, and hands it to the caller.

While the function runs its step is under way: it cannot be entered again (`Away`), but any other can. One whose workers wait keeps the pool; a step that
is entered meanwhile runs alone.
"""
from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .core.record import dataclass
from .core.types import TensorType
from .ir.host import Host

if TYPE_CHECKING:
    from .llvm.runtime import Pool

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class HostCall:
    """A place of the plan as it is kept on disk: which of the functions that the traced graph holds, and of what."""

    function: int
    operands: tuple[TensorType, ...]
    results: tuple[TensorType, ...]


class Away:
    """Whether a step is under way in a function of the user's."""

    __slots__ = ("now", "pool")

    def __init__(self, pool: Pool | None) -> None:
        self.now, self.pool = False, pool

    def __enter__(self) -> None:
        self.now = True
        if self.pool is not None:
            self.pool.away += 1

    def __exit__(self, *_: object) -> None:
        self.now = False
        if self.pool is not None:
            self.pool.away -= 1


class Place:
    """What the step calls there."""

    __slots__ = ("_away", "_call", "_function", "_pieces", "_results")

    def __init__(self, function: Host, call: HostCall, away: Away) -> None:
        self._function, self._call, self._away = function, call, away
        self._pieces: list[tuple[tuple[int, ...], np.dtype[Any], Any]] = []
        self._results: list[TensorType] = []

    def settle(self, dims: Mapping[str, int]) -> Place:
        """Be for these sizes."""
        types = [t.bind(dims) for t in (*self._call.operands, *self._call.results)]
        self._pieces = [(t.static_shape, t.dtype.numpy, ctypes.c_char * (t.size.__index__() * t.dtype.itemsize)) for t in types]
        self._results = types[len(self._call.operands):]
        return self

    def __call__(self, block: int) -> None:
        addresses = (ctypes.c_size_t * len(self._pieces)).from_address(block)
        self._run([np.ndarray(shape, dtype, memory.from_address(at)) for at, (shape, dtype, memory) in zip(addresses, self._pieces)])

    def on(self, memory: Sequence[Array]) -> None:
        """The same on arrays of bytes, which may be longer."""
        self._run([m[:ctypes.sizeof(of)].view(dtype).reshape(shape) for m, (shape, dtype, of) in zip(memory, self._pieces, strict=True)])

    def _run(self, arrays: Sequence[Array]) -> None:
        n = len(self._call.operands)
        with self._away:
            values = self._function(arrays[:n], self._results)
        for out, value in zip(arrays[n:], values, strict=True):
            out[...] = value
