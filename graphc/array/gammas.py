"""Gamma numbers by rejection, and how they move with their parameter: what `gx.random.gamma` and its like are made of."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.dtype import i64, u64
from ..ops.random import random_bits
from ..trace import generator
from ..trace.apply import apply
from ..trace.broadcast import cast, from_array, full
from ..trace.custom import custom_jvp
from ..trace.tensor import Tensor
from .elementwise import abs as abs_
from .elementwise import exp, expm1, log, maximum, minimum, sqrt, where
from .indexing import take_along_axis
from .manipulation import reshape
from .statistics import argmax
from .statistics import sum as sum_

ROUNDS = 8                                              # each accepts 95 % or more: one number in 10**10 or fewer is not drawn by then


@custom_jvp
def log_gamma_number(a: Tensor, key: Tensor) -> Tensor:
    """The logarithm of a gamma number for each a > 0.

    Of d v for the first of eight normal numbers n with v = (1 + n / sqrt(9 d))^3 > 0 and log u < n^2 / 2 + d - d v + d log v, d = a - 1/3; for a < 1
    that of a + 1 times u^(1/a). (Marsaglia and Tsang, 2000.) One in 10**10 is none of the eight, and is then d.
    """
    d = where(a < 1, a + 1.0, a) - 1.0 / 3.0
    first, second, third = (lambda shape, k=k: apply(random_bits, key, full((), k << 40, u64), shape=shape) for k in range(3))
    n = generator.normal(first, (ROUNDS, *a.shape), a.dtype)
    root = n / (3.0 * sqrt(d)) + 1.0
    safe = where(root > 0, root, 1.0)
    logv = log(safe) * 3.0
    u = 1.0 - generator.uniform(second, (ROUNDS, *a.shape), a.dtype)
    accepted = (root > 0) & (log(u) < n * n * 0.5 + d - d * (safe * safe * safe) + d * logv)
    place = argmax(cast(accepted, i64), axis=0, keepdims=True)
    chosen = where(take_along_axis(accepted, place, axis=0), take_along_axis(logv, place, axis=0), 0.0)
    tiny = float(np.finfo(a.dtype.numpy).tiny)
    boost = where(a < 1, log(1.0 - generator.uniform(third, a.shape, a.dtype)) / maximum(a, tiny), 0.0)
    return reshape(chosen, a.shape) + log(d) + boost


@log_gamma_number.defjvp
def _move(primals: Any, tangents: Any) -> Any:
    a, key = primals
    z = log_gamma_number(a, key)
    return z, tangents[0] * slope(a, z)


POINTS, FROM, TO = 80, -3.6, 2.35                       # of the exp-sinh rule: errors of 1e-8 of the slope


def slope(a: Tensor, z: Tensor) -> Tensor:
    """d log(x) / da where the distribution function stays what it is, x = exp(z): the implicit derivative of a gamma number.

    With y = log x - digamma(a), and w^k integrated from 0 to infinity,
        x < a:   J1 - y J0,  J_k = integral of w^k exp(-a w + x (1 - e^-w))
        x >= a:  J1 + y J0,  J_k = integral of w^k exp(a w - x (e^w - 1))
    which are the derivatives of the lower and the upper incomplete gamma function under t = x e^-w and t = x e^w. Both integrands fall from w = 0 on; they
    are summed at w = c exp(pi/2 sinh t) for equidistant t, which reaches every scale. (Takahasi and Mori, 1974, have the rule.)
    """
    x = exp(z)
    y = z - digamma(a)
    t = np.linspace(FROM, TO, POINTS).reshape(-1, *(1 for _ in a.shape))
    nodes = np.exp(math.pi / 2 * np.sinh(t))
    weights = nodes * (math.pi / 2) * np.cosh(t) * (t.reshape(-1)[1] - t.reshape(-1)[0])
    upper = x >= a
    c = 1.0 / (abs_(a - x) + sqrt(maximum(a, x)))
    w = c * from_array(nodes.astype(a.dtype.numpy))
    power = where(upper, a * w - x * expm1(minimum(w, 80.0)), -a * w - x * expm1(-w))
    f = exp(power) * from_array(weights.astype(a.dtype.numpy)) * c
    first, second = sum_(f, axis=0), sum_(f * w, axis=0)
    return second + where(upper, y, -y) * first


def digamma(a: Tensor) -> Tensor:
    """The derivative of log(Gamma(a)), a > 0: that of a + 8 by its asymptotic series, less 1 / a, ..., 1 / (a + 7)."""
    b = a + 8.0
    r = 1.0 / (b * b)
    series = r * (1 / 12 - r * (1 / 120 - r * (1 / 252 - r * (1 / 240))))
    out = log(b) - 0.5 / b - series
    for k in range(7, -1, -1):
        out = out - 1.0 / (a + float(k))
    return out
