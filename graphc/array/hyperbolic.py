"""The hyperbolic functions and their inverses, near 0 and far out as exact as exp and log are."""
from __future__ import annotations

import math
from typing import Any

from ..ops import elementwise as ops
from ..trace.broadcast import unary
from ..trace.tensor import Tensor
from .dtypes import floating
from .elementwise import exp, expm1, log, log1p, sqrt, where
from .floats import signbit


def sinh(x: Any, /) -> Tensor:
    """(e^x - e^-x) / 2 = 2 sinh(x / 2) cosh(x / 2), which overflows where sinh does; from expm1, so that it is exact near 0."""
    x = floating(x)
    a, b = expm1(x * 0.5), expm1(x * -0.5)
    return (a - b) * ((a + b) * 0.5 + 1.0)


def cosh(x: Any, /) -> Tensor:
    """(e^x + e^-x) / 2, of the squares of e^(x/2) and e^(-x/2): it overflows where cosh does, and not where e^x does."""
    x = floating(x)
    a, b = exp(x * 0.5), exp(x * -0.5)
    return a * 0.5 * a + b * 0.5 * b


def tanh(x: Any, /) -> Tensor:
    """Hyperbolic tangent."""
    return unary(ops.tanh, x)


def asinh(x: Any, /) -> Tensor:
    """The inverse of sinh: log1p(a + a^2 / (1 + sqrt(1 + a^2))), a = |x|, with the sign of x; log(a) + log(2) where squares would overflow."""
    x = floating(x)
    negative = signbit(x)                               # not x < 0: asinh(-0) is -0, and the derivative at 0 is 1
    a = where(negative, -x, x)
    large = a > _LARGE
    b = where(large, 1.0, a)
    y = where(large, log(where(large, a, 1.0)) + math.log(2.0), log1p(b + b * b / (sqrt(b * b + 1.0) + 1.0)))
    return where(negative, -y, y)


def acosh(x: Any, /) -> Tensor:
    """The inverse of cosh, >= 0: log1p(t + sqrt(t^2 + 2 t)), t = x - 1; NaN below 1."""
    x = floating(x)
    large = x > _LARGE
    t = where(large, 1.0, x - 1.0)
    return where(x < 1, math.nan, where(large, log(x) + math.log(2.0), log1p(t + sqrt(t * (t + 2.0)))))


def atanh(x: Any, /) -> Tensor:
    """The inverse of tanh: (log1p(x) - log1p(-x)) / 2; infinite at -1 and 1, NaN beyond."""
    x = floating(x)
    return (log1p(x) - log1p(-x)) * 0.5


_LARGE = 1e9                                            # its square is no overflow, and beyond it x^2 + 1 and x^2 - 1 are x^2 in f64
