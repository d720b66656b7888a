"""In which order an epoch visits its samples, and which of them make a batch. A sampler is a function of the number of the epoch and holds no
position, so a run can go on from any batch of any epoch.

The random orders come from raw Philox words, whose stream NumPy promises never to change (it does not promise that of `Generator.permutation`).
"""
from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..core.errors import GraphError
from .datasets import Array


@runtime_checkable
class Sampler(Protocol):
    """What a DataLoader asks: how many samples an epoch has, and which, as an array of indices. `order` depends on nothing but the epoch."""

    def __len__(self) -> int: ...
    def order(self, epoch: int) -> Array: ...


class SequentialSampler:
    """0, 1, 2, ... in every epoch. `data` is a data set, or the number of its samples."""

    def __init__(self, data: Sized | int) -> None:
        self.n = length(data)

    def __len__(self) -> int:
        return self.n

    def order(self, epoch: int) -> Array:
        return np.arange(self.n)


class RandomSampler:
    """Each epoch its own order, a function of (seed, epoch): every sample once, or with `replacement` independent draws.

    num_samples: how many an epoch has; without replacement at most all of them.

    >>> RandomSampler(5, seed=1).order(epoch=0).tolist()
    [3, 2, 0, 1, 4]
    """

    def __init__(self, data: Sized | int, seed: int = 0, *, replacement: bool = False, num_samples: int | None = None) -> None:
        self.n, self.seed, self.replacement = length(data), whole(seed, "RandomSampler: seed", 0), bool(replacement)
        self.num_samples = self.n if num_samples is None else whole(num_samples, "RandomSampler: num_samples", 1)
        if self.num_samples > self.n and (not self.replacement or self.n == 0):
            raise GraphError(f"RandomSampler cannot draw {self.num_samples} of {self.n} samples, each at most once", fix="replacement=True")

    def __len__(self) -> int:
        return self.num_samples

    def order(self, epoch: int) -> Array:
        bits = np.random.Philox(key=np.array([self.seed & (1 << 64) - 1, epoch], np.uint64))
        if self.replacement:                            # floor(u n), u of 53 bits; rounding never reaches n
            u = (bits.random_raw(self.num_samples) >> np.uint64(11)).astype(np.float64) * 2.0**-53
            drawn: Array = np.minimum((u * self.n).astype(np.int64), self.n - 1)
            return drawn
        order: Array = np.argsort(bits.random_raw(self.n), kind="stable")
        return order[:self.num_samples]


class BatchSampler:
    """The indices of another sampler, `batch_size` at a time; the last batch is short unless `drop_last`."""

    def __init__(self, sampler: Sampler, batch_size: int, drop_last: bool = False) -> None:
        if not isinstance(sampler, Sampler):
            raise GraphError(f"a sampler has len() and order(epoch); a {type(sampler).__name__} has not", fix="RandomSampler(len(data), seed=0)")
        self.sampler, self.batch_size, self.drop_last = sampler, whole(batch_size, "BatchSampler: batch_size", 1), bool(drop_last)

    def __len__(self) -> int:
        n = len(self.sampler)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def batches(self, epoch: int) -> list[Array]:
        """The indices of each batch of an epoch."""
        order = checked(self.sampler.order(epoch), self.sampler)
        return [order[k * self.batch_size:(k + 1) * self.batch_size] for k in range(len(self))]


def checked(order: Any, sampler: Any) -> Array:
    """An order as an array of whole numbers, as many as its sampler has said."""
    found = np.asarray(list(order) if isinstance(order, Iterable) and not isinstance(order, np.ndarray) else order)
    if found.size == 0:
        found = found.astype(np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu" or len(found) != len(sampler):
        raise GraphError(f"{type(sampler).__name__}.order gave {found.dtype}{list(found.shape)}",
                         why=f"the indices of an epoch are {len(sampler)} whole numbers")
    return found


def length(data: Any) -> int:
    """Of a data set, or the number itself."""
    return len(data) if hasattr(data, "__len__") else whole(data, "a sampler's data: their number", 0)


def whole(value: Any, what: str, least: int) -> int:
    """value as an int >= least."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise GraphError(f"{what} must be a whole number >= {least}, got {value!r}")
    return int(value)
