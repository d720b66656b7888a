"""Multilayer perceptrons: a training step of a classifier (W1, W2, W2b) and of a small regressor (W3), and inference at batch 1 (W8)."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from .base import BATCHES, SGD, Array, Inference, Optimizer, Params, Training


def weights(sizes: tuple[int, ...]) -> Params:
    """w0, b0, w1, b1, ...: uniform within 1/sqrt(inputs), as nn.Linear begins."""
    rng, out = np.random.default_rng(0), {}
    for k, (i, o) in enumerate(pairwise(sizes)):
        out[f"w{k}"], out[f"b{k}"] = ((i ** -.5 * (2 * rng.random(shape, np.float32) - 1)).astype(np.float32) for shape in ((o, i), (o,)))
    return out


def network(W: Any, activation: str, p: Mapping[str, Any], x: Any) -> Any:
    last = len(p) // 2 - 1
    for k in range(last):
        x = getattr(W, activation)(W.linear(x, p[f"w{k}"], p[f"b{k}"]))
    return W.linear(x, p[f"w{last}"], p[f"b{last}"])


def layers_by_hand(p: Params, x: Array, activation: Any) -> list[Array]:
    """Every layer's input, and the result."""
    xs, last = [x], len(p) // 2 - 1
    for k in range(last + 1):
        z = xs[-1] @ p[f"w{k}"].T + p[f"b{k}"]
        xs.append(activation(z) if k < last else z)
    return xs


def backwards_by_hand(p: Params, xs: list[Array], g: Array, slope: Any) -> Params:
    """The gradients, given that of the result; slope is the derivative of the activation by its result."""
    grads = {}
    for k in reversed(range(len(p) // 2)):
        grads[f"w{k}"], grads[f"b{k}"] = g.T @ xs[k], g.sum(0)
        if k:
            g = (g @ p[f"w{k}"]) * slope(xs[k])
    return grads


@dataclass(frozen=True)
class MLP(Training):
    sizes: tuple[int, ...] = (784, 128, 10)
    batch: int = 64
    optimizer: Optimizer = field(default=SGD(.05))

    def params(self) -> Params:
        return weights(self.sizes)

    @property
    def flops(self) -> float:  # type: ignore[override]
        """Three products a layer, but the first needs no gradient of its input."""
        return sum(2. * self.batch * i * o * (3 if k else 2) for k, (i, o) in enumerate(pairwise(self.sizes)))

    @property
    def bytes(self) -> float:  # type: ignore[override]
        count = sum(i * o + o for i, o in pairwise(self.sizes))
        return 4. * (self.batch * self.sizes[0] + count * self.optimizer.traffic)


class Classifier(MLP):
    """ReLU between the layers, cross-entropy."""

    def batches(self) -> list[tuple[Array, ...]]:
        rng = np.random.default_rng(1)
        return [(rng.random((self.batch, self.sizes[0]), np.float32), rng.integers(0, self.sizes[-1], self.batch)) for _ in range(BATCHES)]

    @staticmethod
    def loss(W: Any, p: Mapping[str, Any], *batch: Any) -> Any:
        x, y = batch
        return W.cross_entropy(network(W, "relu", p, x), y)

    def by_hand(self, p: Params, *batch: Array) -> tuple[Any, Params]:
        x, y = batch
        xs = layers_by_hand(p, x, lambda z: np.maximum(z, 0))
        z = xs[-1] - xs[-1].max(1, keepdims=True)
        e = np.exp(z)
        s = e.sum(1, keepdims=True)
        rows = np.arange(len(y))
        g = e / s
        g[rows, y] -= 1
        g /= np.float32(len(y))
        return (np.log(s[:, 0]) - z[rows, y]).mean(), backwards_by_hand(p, xs, g, lambda h: h > 0)


class Regressor(MLP):
    """tanh between the layers, mean squared error."""

    def batches(self) -> list[tuple[Array, ...]]:
        rng = np.random.default_rng(1)
        xs = [rng.random((self.batch, self.sizes[0]), np.float32) for _ in range(BATCHES)]
        return [(x, np.sin(x.sum(1, keepdims=True))) for x in xs]

    @staticmethod
    def loss(W: Any, p: Mapping[str, Any], *batch: Any) -> Any:
        x, y = batch
        return W.mse(network(W, "tanh", p, x), y)

    def by_hand(self, p: Params, *batch: Array) -> tuple[Any, Params]:
        x, y = batch
        xs = layers_by_hand(p, x, np.tanh)
        d = xs[-1] - y
        return (d * d).mean(), backwards_by_hand(p, xs, d * np.float32(2 / d.size), lambda h: 1 - h * h)


@dataclass(frozen=True)
class Answer(Inference):
    """The classifier's logits for a batch."""

    sizes: tuple[int, ...] = (784, 128, 10)
    batch: int = 1

    def params(self) -> Params:
        return weights(self.sizes)

    def batches(self) -> list[tuple[Array, ...]]:
        rng = np.random.default_rng(1)
        return [(rng.random((self.batch, self.sizes[0]), np.float32),) for _ in range(BATCHES)]

    @staticmethod
    def f(W: Any, p: Mapping[str, Any], x: Any) -> Any:
        return network(W, "relu", p, x)

    def by_hand(self, p: Params, x: Array) -> Array:
        return layers_by_hand(p, x, lambda z: np.maximum(z, 0))[-1]

    @property
    def flops(self) -> float:  # type: ignore[override]
        return sum(2. * self.batch * i * o for i, o in pairwise(self.sizes))

    @property
    def bytes(self) -> float:  # type: ignore[override]
        return 4. * (self.batch * (self.sizes[0] + self.sizes[-1]) + sum(i * o + o for i, o in pairwise(self.sizes)))
