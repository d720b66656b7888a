"""Batches of a data set, in an order that the seed and the number of the epoch decide.

Not a pool of workers: a batch of an array data set is one indexing operation. The order comes from raw Philox words, whose stream NumPy
promises never to change (it does not promise that of `Generator.permutation`).
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..core.errors import GraphError
from .datasets import Array, TensorDataset


class DataLoader:
    """Iterating yields tuples of C-contiguous arrays of `batch_size` samples; the last batch is short unless `drop_last`.

    `data` is an array, a tuple or list of arrays of equal length, or any data set with `len()` and `data[i]` (a sample: an array or number, or
    a tuple of them, which are stacked). With `shuffle` each epoch has its own order, a function of (seed, epoch) alone: two loaders with
    the same seed give the same batches. Beginning an iteration begins an epoch; `set_epoch` goes to one (after a resumed run, say).

    >>> loader = DataLoader((np.arange(5), np.arange(5) * 10), batch_size=2)
    >>> [y.tolist() for x, y in loader]
    [[0, 10], [20, 30], [40]]
    """

    def __init__(self, data: Any, batch_size: int = 1, shuffle: bool = False, seed: int = 0, drop_last: bool = False) -> None:
        for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise GraphError(f"DataLoader: {name} must be a whole number >= {least}, got {value!r}")
        if isinstance(data, tuple | list):
            data = TensorDataset(*data)
        elif hasattr(data, "__array__"):
            data = TensorDataset(data)
        elif not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
            raise GraphError(f"DataLoader cannot read a {type(data).__name__}", why="a data set has len() and data[i]",
                             fix="DataLoader((x, y), batch_size=64)")
        self.dataset = data
        self.batch_size, self.seed = int(batch_size), int(seed)
        self.shuffle, self.drop_last = bool(shuffle), bool(drop_last)
        self.epoch = 0                                          # of the next iteration

    def __len__(self) -> int:
        """The number of batches."""
        n = len(self.dataset)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be that of epoch number `epoch`."""
        if epoch < 0:
            raise GraphError(f"DataLoader: an epoch is a whole number >= 0, got {epoch!r}")
        self.epoch = int(epoch)

    def order(self, epoch: int) -> Array:
        """The indices of the samples, in the order in which that epoch visits them."""
        n = len(self.dataset)
        if not self.shuffle:
            return np.arange(n)
        words = np.random.Philox(key=np.array([self.seed & (1 << 64) - 1, epoch], np.uint64)).random_raw(n)
        return np.argsort(words, kind="stable")

    def __iter__(self) -> Iterator[tuple[Array, ...]]:
        order = self.order(self.epoch)
        self.epoch += 1
        return (self._batch(order[k * self.batch_size:(k + 1) * self.batch_size]) for k in range(len(self)))

    def _batch(self, indices: Array) -> tuple[Array, ...]:
        if isinstance(self.dataset, TensorDataset):
            return tuple(np.ascontiguousarray(a) for a in self.dataset[indices])
        samples = [self.dataset[int(i)] for i in indices]
        if not isinstance(samples[0], tuple | list):
            samples = [(s,) for s in samples]
        if len({len(s) for s in samples}) > 1:
            raise GraphError("DataLoader: the samples of one batch have different numbers of parts")
        return tuple(np.stack([np.asarray(part) for part in parts]) for parts in zip(*samples, strict=True))
