"""Batches of a data set, in an order that the seed and the number of the epoch decide, from any position on.

Not a pool of workers: a batch of an array data set is one indexing operation, and `prefetch` does it in a thread beside the training step.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..core.errors import GraphError
from .datasets import Array, TensorDataset
from .prefetch import Prefetcher
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler, checked, whole

Batch = tuple[Array, ...]


class _Position:
    """Where an iteration is: how many batches of its epoch were given out."""

    __slots__ = ("batch", "epoch")

    def __init__(self, epoch: int, batch: int) -> None:
        self.epoch, self.batch = epoch, batch


class DataLoader:
    """Iterating yields tuples of C-contiguous arrays of `batch_size` samples; the last batch is short unless `drop_last`.

    `data` is an array, a tuple or list of arrays of equal length, or any data set with `len()` and `data[i]` (a sample: an array or number, or
    a tuple of them, which are stacked). With `shuffle` each epoch has its own order, a function of (seed, epoch) alone: two loaders with
    the same seed give the same batches. `sampler` (indices) or `batch_sampler` (lists of indices) replace all that. With prefetch=k a thread
    makes up to k batches ahead; `data[i]` then runs in it. That is for data that are read or decoded: handing a batch over costs about 50 µs,
    more than taking it from an array in memory.

    Beginning an iteration begins an epoch; `set_epoch` goes to one. `state_dict` says how far the last iteration has come, and after
    `load_state_dict` the next one goes on with the very batch that would have followed.

    >>> loader = DataLoader((np.arange(5), np.arange(5) * 10), batch_size=2)
    >>> [y.tolist() for x, y in loader]
    [[0, 10], [20, 30], [40]]
    """

    def __init__(self, data: Any, batch_size: int = 1, shuffle: bool = False, seed: int = 0, drop_last: bool = False, *,
                 sampler: Sampler | None = None, batch_sampler: Any = None, prefetch: int = 0) -> None:
        self.batch_size, self.seed = whole(batch_size, "DataLoader: batch_size", 1), whole(seed, "DataLoader: seed", 0)
        self.prefetch = whole(prefetch, "DataLoader: prefetch", 0)
        if isinstance(data, tuple | list):
            data = TensorDataset(*data)
        elif hasattr(data, "__array__"):
            data = TensorDataset(data)
        elif not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
            raise GraphError(f"DataLoader cannot read a {type(data).__name__}", why="a data set has len() and data[i]",
                             fix="DataLoader((x, y), batch_size=64)")
        self.dataset = data
        self.shuffle, self.drop_last = bool(shuffle), bool(drop_last)
        if shuffle and (sampler is not None or batch_sampler is not None):
            raise GraphError("DataLoader: a sampler decides the order, so shuffle=True says nothing", fix="RandomSampler(data, seed=0)")
        if batch_sampler is None:
            if sampler is None:
                sampler = RandomSampler(data, self.seed) if shuffle else SequentialSampler(data)
            batch_sampler = BatchSampler(sampler, self.batch_size, self.drop_last)
        elif sampler is not None or self.batch_size != 1 or drop_last:
            raise GraphError("DataLoader: batch_sampler decides on sampler, batch_size and drop_last too", fix="leave them out")
        elif not (hasattr(batch_sampler, "__len__") and hasattr(batch_sampler, "batches")):
            raise GraphError(f"a batch_sampler has len() and batches(epoch); a {type(batch_sampler).__name__} has not",
                             fix="BatchSampler(RandomSampler(data), batch_size=64)")
        self.batch_sampler = batch_sampler
        self.epoch = 0                                          # of the next iteration
        self._first = 0                                         # the batch that it begins with
        self._position: _Position | None = None                 # of the last iteration

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        return len(self.batch_sampler)

    def order(self, epoch: int) -> Array:
        """The indices of the samples, in the order in which that epoch visits them; those of a batch that `drop_last` drops are among them."""
        if isinstance(self.batch_sampler, BatchSampler):
            return checked(self.batch_sampler.sampler.order(epoch), self.batch_sampler.sampler)
        return np.concatenate([np.asarray(b) for b in self.batch_sampler.batches(epoch)])

    # ---- position --------------------------------------------------------------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be that of epoch number `epoch`, from its first batch on."""
        self.epoch, self._first, self._position = whole(epoch, "DataLoader: an epoch", 0), 0, None

    def state_dict(self) -> dict[str, Any]:
        """The position: the epoch, and how many of its batches the consumer has (those that were only prefetched do not count).

        It is that of the last iteration, also of one that was left by `break`. What decides the order goes with it, to be compared.
        """
        at = self._position or _Position(self.epoch, self._first)
        return {"epoch": at.epoch, "batch": at.batch, **self._settings()}

    def _settings(self) -> dict[str, Any]:
        sampler = getattr(self.batch_sampler, "sampler", self.batch_sampler)
        return {"samples": len(self.dataset), "batches": len(self), "seed": int(getattr(sampler, "seed", 0)), "sampler": type(sampler).__name__,
                "batch_size": int(getattr(self.batch_sampler, "batch_size", 0))}

    def check_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Raise GraphError where a position is not one of this loader: other data, batches or seed, or a batch beyond the epoch."""
        mine = self.state_dict()
        if not isinstance(state_dict, Mapping) or state_dict.keys() != mine.keys():
            raise GraphError("this is no position of a DataLoader", why=f"it has {', '.join(mine)}")
        other = [f"{k} was {state_dict[k]!r} and is {mine[k]!r}" for k in self._settings() if state_dict[k] != mine[k]]
        if other:
            raise GraphError("the position is one of another DataLoader", why="; ".join(other), fix="the same data, batch_size and seed; or set_epoch")
        if whole(state_dict["epoch"], "DataLoader: an epoch", 0) >= 2**63:
            raise GraphError(f"there is no epoch {state_dict['epoch']}")
        if whole(state_dict["batch"], "DataLoader: the number of batches", 0) > len(self):
            raise GraphError(f"there is no batch {state_dict['batch']} in an epoch of {len(self)}")

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a position: the next iteration yields the rest of that epoch, and the one after it the next epoch."""
        self.check_state_dict(state_dict)
        self.epoch, self._first, self._position = int(state_dict["epoch"]), int(state_dict["batch"]), None

    # ---- batches ---------------------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Batch]:
        at = self._position = _Position(self.epoch, self._first)
        self.epoch, self._first = self.epoch + 1, 0
        source: Iterator[Batch] = map(self._batch, self.batch_sampler.batches(at.epoch)[at.batch:])
        return self._give(at, Prefetcher(source, self.prefetch) if self.prefetch else source)

    @staticmethod
    def _give(at: _Position, source: Iterator[Batch]) -> Iterator[Batch]:
        for batch in source:
            at.batch += 1
            yield batch
        at.epoch, at.batch = at.epoch + 1, 0

    def _batch(self, indices: Array) -> Batch:
        if isinstance(self.dataset, TensorDataset):
            return tuple(np.ascontiguousarray(a) for a in self.dataset[indices])
        samples = [self.dataset[int(i)] for i in indices]
        if not isinstance(samples[0], tuple | list):
            samples = [(s,) for s in samples]
        if len({len(s) for s in samples}) > 1:
            raise GraphError("DataLoader: the samples of one batch have different numbers of parts")
        return tuple(np.stack([np.asarray(part) for part in parts]) for parts in zip(*samples, strict=True))
