"""The run-time memory of a state: a parameter, a buffer, an optimizer slot, a random counter.

A `Storage` owns 64-byte aligned memory for life, so a native step may keep its address; users get copies and write through `assign`, so no
argument ever aliases a state. The axes may lie in another order than the user sees: the first compile that plans the storage chooses, once.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import half
from ..core.dtype import from_numpy
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.types import MAX_BYTES, TensorType

Array = np.ndarray[Any, Any]
ALIGNMENT = 64                                                  # a line of the cache
PAGE = 4096


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any], alignment: int = ALIGNMENT) -> Array:
    """An uninitialised C-contiguous array whose data begin at a multiple of so many bytes. From 4 MB on NumPy asks Linux for huge pages: 40 MB fault 60 to 600
    times instead of 9,800."""
    n = int(np.prod(shape, dtype=object)) if shape else 1
    raw = np.empty(n * dtype.itemsize + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    out: Array = np.ndarray(shape, dtype, buffer=raw, offset=start)
    return out


class Writer:
    """A step counts here the runs that wrote its states, once for all of them: a storage's version follows the count of who wrote it last."""

    __slots__ = ("count", "lost")

    def __init__(self) -> None:
        self.count, self.lost = 0, True                             # lost: somebody else has written one of the storages since `claim`

    def claim(self, storages: Sequence[Storage]) -> None:
        """From now on these follow this writer. Their versions stay as they are."""
        for s in storages:
            before, version = s.clock[0], s.version
            before.lost = True
            s.clock = self, version - self.count
        self.lost = False


class Storage:
    """Aligned memory of fixed shape and dtype, with a name for printing. `version` grows with every write."""

    __slots__ = ("__weakref__", "_physical", "array", "clock", "dtype", "fixed", "name", "order", "shape")

    def __init__(self, value: Any, name: str = "") -> None:
        value = half.own(np.asarray(value))
        dtype = from_numpy(value.dtype)
        if dtype is None:
            raise GraphError(f"a state holds one of graphc's element types, got {value.dtype}", fix="astype(numpy.float32), say")
        self.name, self.dtype, self.shape = name, dtype, tuple(value.shape)
        self.order: tuple[int, ...] = tuple(range(value.ndim))      # the logical axis at each physical place
        self.fixed = False
        self.clock: tuple[Writer, int] = Writer(), 0                # the version is their sum
        self._allocate(value)

    def _allocate(self, value: Array) -> None:
        self._physical = aligned_empty(tuple(self.shape[a] for a in self.order), self.dtype.numpy)
        self.array: Array = self._physical.transpose(np.argsort(self.order)) if self.order else self._physical
        self.array[...] = value

    @property
    def type(self) -> TensorType:
        return TensorType(self.shape, self.dtype)

    @property
    def version(self) -> int:
        """Equal only while nothing has been written."""
        writer, base = self.clock
        return writer.count + base

    def touch(self) -> None:
        """It has been written."""
        writer, base = self.clock
        self.clock = writer, base + 1

    @property
    def address(self) -> int:
        """Of the first byte. It never changes once `fixed`."""
        return self._physical.ctypes.data

    def relayout(self, order: tuple[int, ...]) -> None:
        """Lay the axes out in another order, for good. Raises where an earlier compile has fixed a different one."""
        if self.fixed and order != self.order:
            raise GraphError(f"the layout of {self.name or 'this state'} is fixed as {self.order}, so it cannot become {order}")
        if order != self.order:
            value, self.order = self.array, order
            self._allocate(value)
        self.fixed = True

    def assign(self, value: Any) -> None:
        """Write a value of the same shape and dtype in place."""
        value = half.own(np.asarray(value))
        if tuple(value.shape) != self.shape or value.dtype != self.dtype.numpy:
            got = f"{from_numpy(value.dtype) or value.dtype}[{','.join(map(str, value.shape))}]"
            raise GraphError(f"{self.name or 'this state'} is {self.type} and cannot take {got}")
        self.array[...] = value
        self.touch()

    def numpy(self) -> Array:
        """A copy, C-contiguous in the logical order of the axes."""
        return np.array(self.array, order="C")

    def __deepcopy__(self, memo: dict[int, Any]) -> Storage:
        return Storage(self.array, self.name)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, it is its value: unpickled it has memory of its own, in a layout yet to be chosen."""
        return Storage, (self.numpy(), self.name)

    def __repr__(self) -> str:
        return f"Storage({self.name!r}, {self.type})"


def check_bytes(t: TensorType) -> None:
    """Refuse a tensor beyond any machine, in exact integers, before anybody allocates it."""
    size = t.size
    if isinstance(size, int) and size * t.dtype.itemsize > MAX_BYTES:
        raise GraphError(f"{t} needs {size * t.dtype.itemsize:,} bytes", at=user_loc(), why=f"the limit is {MAX_BYTES:,} (2**48)", fix="smaller sizes")
