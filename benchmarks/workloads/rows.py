"""What is not a product of matrices: a chain over ten million floats (W7), rows of softmax and layer norm (W10), logistic regression (W11)."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .base import Adam, Array, Optimizer, Params, Pullback, Training


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


class Chain(Pullback):
    """sum(tanh(a*x + b) * exp(-x*x)), and its gradients by a and b, which are as long as x."""

    wrt = (0, 1)
    n = 10_000_000
    flops = 45. * n                                     # tanh and exp as polynomials and a division
    bytes = 5 * 4. * n

    def args(self) -> tuple[Array, ...]:
        return normal(0, self.n), normal(1, self.n), normal(2, self.n)

    def cotangent(self) -> Array:
        return np.ones((), np.float32)

    @staticmethod
    def f(W: Any, *args: Any) -> Any:
        a, b, x = args
        return W.sum(W.tanh(a * x + b) * W.exp(-x * x))

    def by_hand(self, g: Array, *args: Array) -> tuple[Any, tuple[Any, ...]]:
        a, b, x = args
        t, e = np.tanh(a * x + b), np.exp(-x * x)
        db = g * (1 - t * t) * e
        return np.sum(t * e), (db * x, db)


class ScalarChain(Chain):
    """The same where a and b are numbers: one sweep over x, three sums."""

    bytes = 4. * Chain.n

    def args(self) -> tuple[Array, ...]:
        return np.full((), .7, np.float32), np.full((), .1, np.float32), normal(2, self.n)

    def by_hand(self, g: Array, *args: Array) -> tuple[Any, tuple[Any, ...]]:
        y, (da, db) = super().by_hand(g, *args)
        return y, (np.sum(da), np.sum(db))


class Softmax(Pullback):
    wrt = (0,)
    shape = (512, 1000)
    flops = 30. * 512 * 1000
    bytes = 4 * 4. * 512 * 1000                         # x and g in, y and dx out

    def args(self) -> tuple[Array, ...]:
        return (normal(0, *self.shape),)

    def cotangent(self) -> Array:
        return normal(1, *self.shape)

    @staticmethod
    def f(W: Any, *args: Any) -> Any:
        return W.softmax(*args)

    def by_hand(self, g: Array, *args: Array) -> tuple[Any, tuple[Any, ...]]:
        e = np.exp(args[0] - args[0].max(1, keepdims=True))
        y = e / e.sum(1, keepdims=True)
        return y, (y * (g - (y * g).sum(1, keepdims=True)),)


class LayerNorm(Pullback):
    wrt = (0, 1, 2)
    shape = (4096, 768)
    flops = 20. * 4096 * 768
    bytes = 4 * 4. * 4096 * 768

    def args(self) -> tuple[Array, ...]:
        return normal(0, *self.shape), normal(1, self.shape[1]), normal(2, self.shape[1])

    def cotangent(self) -> Array:
        return normal(3, *self.shape)

    @staticmethod
    def f(W: Any, *args: Any) -> Any:
        return W.layer_norm(*args)

    def by_hand(self, g: Array, *args: Array) -> tuple[Any, tuple[Any, ...]]:
        x, w, b = args
        d = x - x.mean(1, keepdims=True)
        r = 1 / np.sqrt((d * d).mean(1, keepdims=True) + np.float32(1e-5))
        h = d * r
        gw = g * w
        return h * w + b, (r * (gw - gw.mean(1, keepdims=True) - h * (gw * h).mean(1, keepdims=True)), (g * h).sum(0), g.sum(0))


@dataclass(frozen=True)
class Logistic(Training):
    """Logistic regression, the full batch at every step."""

    rows: int = 100_000
    columns: int = 256
    optimizer: Optimizer = field(default=Adam(1e-3))

    def params(self) -> Params:
        return {"w": np.zeros((1, self.columns), np.float32), "b": np.zeros(1, np.float32)}

    def batches(self) -> list[tuple[Array, ...]]:
        x = normal(0, self.rows, self.columns)
        return [(x, (x @ normal(1, self.columns, 1) > 0).astype(np.float32))]

    @staticmethod
    def loss(W: Any, p: Mapping[str, Any], *batch: Any) -> Any:
        x, y = batch
        return W.logistic(W.linear(x, p["w"], p["b"]), y)

    def by_hand(self, p: Params, *batch: Array) -> tuple[Any, Params]:
        x, y = batch
        z = x @ p["w"].T + p["b"]
        g = (1 / (1 + np.exp(-z)) - y) / np.float32(len(y))
        return (np.logaddexp(0, z) - y * z).mean(), {"w": g.T @ x, "b": g.sum(0)}

    @property
    def flops(self) -> float:  # type: ignore[override]
        return 4. * self.rows * self.columns

    @property
    def bytes(self) -> float:  # type: ignore[override]
        return 4. * self.rows * (self.columns + 1)      # x once: a row's part of the gradient is due as soon as its z is known
