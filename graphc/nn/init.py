"""First values of parameters, with PyTorch's names. Each fills a tensor in place, outside of any gradient, and returns it.

Random ones draw from the default generator, so `gx.manual_seed` decides them. Sources: Glorot and Bengio 2010 (xavier), He et al. 2015 (kaiming).
"""
from __future__ import annotations

import math
from typing import Any, Literal

from .. import array as xp
from ..core.errors import GraphError
from ..trace.tape import no_grad
from ..trace.tensor import Tensor

Mode = Literal["fan_in", "fan_out"]


def _fill(tensor: Tensor, value: Any) -> Tensor:
    with no_grad():
        tensor.copy_(value)
    return tensor


def constant_(tensor: Tensor, val: float) -> Tensor:
    return _fill(tensor, xp.full(tensor.shape, val, dtype=tensor.dtype))


def zeros_(tensor: Tensor) -> Tensor:
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    return constant_(tensor, 1.0)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """U(a, b)."""
    return _fill(tensor, a + (b - a) * xp.rand(*tensor.shape, dtype=tensor.dtype))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """N(mean, std²)."""
    return _fill(tensor, mean + std * xp.randn(*tensor.shape, dtype=tensor.dtype))


def fans(tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, ...): how many inputs meet in an output, and outputs in an input."""
    if tensor.ndim < 2:
        raise GraphError(f"fans need a weight of at least 2 axes, got shape {tuple(tensor.shape)}", fix="uniform_ or zeros_ for a bias")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """What a nonlinearity shrinks the spread by, undone."""
    match nonlinearity:
        case "linear" | "sigmoid" | "conv1d" | "conv2d" | "conv3d": return 1.0
        case "tanh": return 5.0 / 3
        case "relu": return math.sqrt(2.0)
        case "leaky_relu": return math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
        case "selu": return 3.0 / 4
    raise GraphError(f"no gain is known for {nonlinearity!r}", fix="linear, sigmoid, tanh, relu, leaky_relu or selu")


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """U(-b, b) with b = gain * √(6 / (fan_in + fan_out))."""
    bound = gain * math.sqrt(6.0 / max(1, sum(fans(tensor))))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """N(0, s²) with s = gain * √(2 / (fan_in + fan_out))."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / max(1, sum(fans(tensor)))))


def _kaiming_std(tensor: Tensor, a: float, mode: Mode, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise GraphError(f'mode is "fan_in" or "fan_out", got {mode!r}')
    return calculate_gain(nonlinearity, a) / math.sqrt(max(1, fans(tensor)[mode == "fan_out"]))


def kaiming_uniform_(tensor: Tensor, a: float = 0.0, mode: Mode = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """U(-b, b) with b = gain * √(3 / fan); a is the slope of the leaky ReLU that follows."""
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: Tensor, a: float = 0.0, mode: Mode = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """N(0, s²) with s = gain / √fan."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity))
