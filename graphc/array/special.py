"""Special functions as compositions: inverses of the normal distribution function and of the error function. (`erf`, `ndtr` are primitives.)"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..trace.tensor import Tensor
from .dtypes import floating
from .elementwise import erf, exp, log, minimum, ndtr, sqrt, where

# Rational approximations of the normal quantile to 1.2e-9 of it: in q = p - 1/2 for |q| < 1/2 - EDGE, in sqrt(-2 log p) below. (P. J. Acklam, 2003.)
_EDGE = 0.02425
_A = (-3.969683028665376e1, 2.209460984245205e2, -2.759285104469687e2, 1.383577518672690e2, -3.066479806614716e1, 2.506628277459239)
_B = (-5.447609879822406e1, 1.615858368580409e2, -1.556989798598866e2, 6.680131188771972e1, -1.328068155288572e1, 1.0)
_C = (-7.784894002430293e-3, -3.223964580411365e-1, -2.400758277161838, -2.549732539343734, 4.374664141464968, 2.938163982698783)
_D = (7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416, 1.0)


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """By Horner's rule, the highest power first."""
    y = x * coefficients[0] + coefficients[1]
    for c in coefficients[2:]:
        y = y * x + c
    return y


def _quantile(q: Tensor, tail: Tensor) -> Tensor:
    """The z with ndtr(z) = 1/2 + q, where tail = 1/2 - |q| is given to its own last digit.

    An approximation, and one step of Halley's rule for it: u = (ndtr(z) - p) / ndtr'(z), z - u / (1 + z u / 2). The difference is taken of erf near 0 and of
    the lower tail far out, so that neither cancels; derivatives of z are those of the step, to the square of the approximation's error.
    """
    far = tail < _EDGE
    near = where(far, 0.0, q)
    r = near * near
    z = near * _polynomial(r, _A) / _polynomial(r, _B)
    u = (erf(z * math.sqrt(0.5)) * 0.5 - near) * exp(z * z * 0.5) * math.sqrt(2.0 * math.pi)
    inner = z - u / (1.0 + z * u * 0.5)
    t = where(far & (tail > 0), tail, _EDGE)
    size = log(t)
    s = sqrt(size * -2.0)
    z = _polynomial(s, _C) / _polynomial(s, _D)                          # below 0
    u = (ndtr(z) / t - 1.0) * exp(z * z * 0.5 + size) * math.sqrt(2.0 * math.pi)        # t e^(z^2/2) is no overflow
    outer = z - u / (1.0 + z * u * 0.5)
    outer = where(tail == 0, -math.inf, outer)
    return where(far, where(q > 0, -outer, outer), inner)


def ndtri(p: Any, /) -> Tensor:
    """The inverse of `ndtr`: the z below which a normal number lies with probability p. Infinite at 0 and 1, NaN outside. (SciPy's name.)"""
    p = floating(p)
    tail = minimum(p, 1.0 - p)
    return where((p >= 0) & (p <= 1), _quantile(p - 0.5, where(tail >= 0, tail, 0.25)), math.nan)


def erfinv(x: Any, /) -> Tensor:
    """The inverse of `erf`. Infinite at -1 and 1, NaN outside."""
    x = floating(x)
    tail = (1.0 - where(x < 0, -x, x)) * 0.5
    return where((x >= -1) & (x <= 1), _quantile(x * 0.5, where(tail >= 0, tail, 0.25)) * math.sqrt(0.5), math.nan)
