"""The activations of neural networks, each as its algebra. Other names for them, and layers made of them, are in `graphc.nn`."""
from __future__ import annotations

from typing import Any

from ..ops import elementwise as ops
from ..trace.broadcast import as_tensor, unary
from ..trace.tensor import Tensor
from .dtypes import floating
from .elementwise import exp, expm1, log1p, ndtr, where


def relu(x: Any, /) -> Tensor:
    """max(x, 0), where NaN stays, and the gradient is 0 at 0 and 1 at NaN, as in torch."""
    x = as_tensor(x)
    return where(x <= 0, 0, x)                          # not maximum(x, 0): that would share the gradient at 0


def sigmoid(x: Any, /) -> Tensor:
    """1 / (1 + exp(-x)), without overflow or cancellation."""
    return unary(ops.sigmoid, x)


def softplus(x: Any, /) -> Tensor:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)), exact at both ends. Its derivatives are right at 0, too, in every order."""
    x = floating(x)
    positive = x > 0
    return where(positive, x, 0.0) + log1p(exp(where(positive, -x, x)))


def silu(x: Any, /) -> Tensor:
    """x * sigmoid(x)."""
    x = as_tensor(x)
    return x * sigmoid(x)


def gelu(x: Any, /) -> Tensor:
    """x * Phi(x), Phi the normal distribution function."""
    x = as_tensor(x)
    return x * ndtr(x)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope * x."""
    x = as_tensor(x)
    return where(x > 0, x, x * negative_slope)


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha * (exp(x) - 1)."""
    x = as_tensor(x)
    return where(x > 0, x, expm1(where(x > 0, 0.0, x)) * alpha)
