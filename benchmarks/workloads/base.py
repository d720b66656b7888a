"""What a workload is: its data, its meaning in NumPy, and what it must cost at least. How a peer does it is the peer's to say (`peers/`).

There are four kinds, and a peer has one method for each kind that it can do: a new workload of a kind runs on every peer with no line added there.

    Training     one step: the loss of a batch, its gradients, the optimizer's update           peer.train
    Pullback     y = f(...) and the cotangents of some arguments, given that of y               peer.pullback
    Inference    y = f(parameters, x)                                                           peer.infer
    Contraction  C = A @ B, either operand transposed                                           peer.contract

`f` and `loss` are written once, in the words W of a peer: linear, relu, tanh, exp, sum, softmax, layer_norm, cross_entropy, mse, logistic. Matrices of
weights are named w..., and stored [out, in]; a peer that multiplies x @ w keeps its own transposed.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

Array = np.ndarray[Any, Any]
Params = dict[str, Array]
BATCHES = 16                                            # a training loop sees new data: batches are taken in turn


@dataclass(frozen=True)
class SGD:
    lr: float
    slots: ClassVar[int] = 0
    traffic: ClassVar[int] = 2                          # a parameter is read and written

    def update(self, sqrt: Any, t: Any, p: Any, g: Any) -> tuple[Any, ...]:
        """The new parameter and the new slots; t counts from 1."""
        return (p - self.lr * g,)


@dataclass(frozen=True)
class Adam:
    lr: float
    slots: ClassVar[int] = 2
    traffic: ClassVar[int] = 6                          # and so are both moments

    def update(self, sqrt: Any, t: Any, p: Any, g: Any, m: Any, v: Any) -> tuple[Any, ...]:
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        return p - (self.lr / (1 - 0.9 ** t)) * m / (sqrt(v) / sqrt(1 - 0.999 ** t) + 1e-8), m, v


Optimizer = SGD | Adam


@dataclass(frozen=True)
class Workload(ABC):
    name: str
    title: str
    bars: Mapping[int, float] = field(default_factory=dict)         # threads: time of graphc / time of the best peer
    against: Mapping[str, float] = field(default_factory=dict)      # a peer outside the row: the same, for every thread count
    kind: ClassVar[str]
    tolerance: ClassVar[float] = 3e-5                               # of the norm of each result, against the reference in f64
    flops: ClassVar[float]
    bytes: ClassVar[float]                                          # that memory must move at least: inputs once, results once

    @abstractmethod
    def reference(self) -> list[Array]:
        """The first results, in f64."""


class Training(Workload):
    kind = "train"
    tolerance = 2e-4
    optimizer: Optimizer
    STEPS: ClassVar[int] = 10                                       # how many losses must agree before anything is timed

    @abstractmethod
    def params(self) -> Params: ...

    @abstractmethod
    def batches(self) -> list[tuple[Array, ...]]: ...

    @staticmethod
    @abstractmethod
    def loss(W: Any, p: Mapping[str, Any], *batch: Any) -> Any: ...

    @abstractmethod
    def by_hand(self, p: Params, *batch: Array) -> tuple[Any, Params]:
        """The loss and its gradients, as one writes them in NumPy."""

    def reference(self) -> list[Array]:
        p: dict[str, Any] = {k: v.astype(np.float64) for k, v in self.params().items()}
        slots = {k: [np.zeros_like(v)] * self.optimizer.slots for k, v in p.items()}
        losses, batches = [], self.batches()
        for t in range(1, self.STEPS + 1):
            loss, grads = self.by_hand(p, *(a.astype(np.float64) if a.dtype.kind == "f" else a for a in batches[(t - 1) % len(batches)]))
            losses.append(loss)
            for k in p:
                p[k], *slots[k] = self.optimizer.update(np.sqrt, t, p[k], grads[k], *slots[k])
        return [np.array(losses)]


class Pullback(Workload):
    kind = "pullback"
    wrt: ClassVar[tuple[int, ...]]

    @abstractmethod
    def args(self) -> tuple[Array, ...]: ...

    @abstractmethod
    def cotangent(self) -> Array: ...

    @staticmethod
    @abstractmethod
    def f(W: Any, *args: Any) -> Any: ...

    @abstractmethod
    def by_hand(self, g: Array, *args: Array) -> tuple[Any, tuple[Any, ...]]: ...

    def reference(self) -> list[Array]:
        g, *args = (a.astype(np.float64) for a in (self.cotangent(), *self.args()))
        y, grads = self.by_hand(g, *args)
        return [np.asarray(y), *map(np.asarray, grads)]


class Inference(Workload):
    kind = "infer"

    @abstractmethod
    def params(self) -> Params: ...

    @abstractmethod
    def batches(self) -> list[tuple[Array, ...]]: ...

    @staticmethod
    @abstractmethod
    def f(W: Any, p: Mapping[str, Any], x: Any) -> Any: ...

    @abstractmethod
    def by_hand(self, p: Params, x: Array) -> Array: ...

    def reference(self) -> list[Array]:
        return [self.by_hand({k: v.astype(np.float64) for k, v in self.params().items()}, self.batches()[0][0].astype(np.float64))]
