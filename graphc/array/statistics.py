"""Reductions, and the stable compositions made of them: means, variances, norms, softmax, logsumexp."""
from __future__ import annotations

import math
from typing import Any

from ..core.dims import product
from ..core.dtype import as_dtype, bool_, i64, u64
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..ops import along
from ..ops import reduce as ops
from ..trace.apply import apply
from ..trace.broadcast import as_size, as_tensor, axis_index, axis_tuple, cast, value_of
from ..trace.tensor import Tensor
from .dtypes import floating as _floating
from .elementwise import abs as abs_
from .elementwise import divide, exp, log, maximum, sqrt, where
from .floats import isfinite
from .logic import not_equal
from .manipulation import flatten, narrow, pad, reshape


def _reduce(op: Any, x: Tensor, axis: Any, keepdims: bool) -> Tensor:
    axes = axis_tuple(op.name, axis, x.ndim)
    out = apply(op, x, axes=axes)
    return _kept(out, x, axes) if keepdims else out


def _kept(out: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return reshape(out, tuple(1 if a in axes else n for a, n in enumerate(x.shape)))


def _summable(x: Any, dtype: Any) -> Tensor:
    """Integers and bools are summed as i64, unsigned ones as u64, as in NumPy."""
    x = as_tensor(x)
    if dtype is not None:
        return cast(x, as_dtype(dtype))
    return x if x.dtype.is_inexact else cast(x, u64 if x.dtype.kind == "uint" else i64)


def sum(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The sum over axes (all of them unless told); 0 over none. Integers sum as i64, unsigned ones as u64."""
    return _reduce(ops.reduce_sum, _summable(x, dtype), axis, keepdims)


def prod(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The product over axes; 1 over none. Its gradient is right where factors are 0."""
    return _reduce(ops.reduce_prod, _summable(x, dtype), axis, keepdims)


def max(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The largest over axes; NaN if any is; equal ones share the gradient. (torch's max(x, dim) gives a pair: compat.torch.)"""
    return _extremum(ops.reduce_max, x, axis, keepdims)


def min(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The smallest over axes; NaN if any is; equal ones share the gradient."""
    return _extremum(ops.reduce_min, x, axis, keepdims)


def _extremum(op: Any, x: Any, axis: Any, keepdims: bool) -> Tensor:
    x = as_tensor(x)
    axes = axis_tuple(op.name, axis, x.ndim)
    if 0 in [x.shape[a] for a in axes]:
        raise GraphError(f"{op.name[7:]} over no elements has no answer, got {x.type} along {axes}", op=op.name, at=user_loc())
    return _reduce(op, x, axes, keepdims)


amax, amin = max, min


def _truth(x: Any) -> Tensor:
    x = as_tensor(x)
    return x if x.dtype is bool_ else not_equal(x, 0)


def any(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Is any true (not 0)? False over none."""
    return _reduce(ops.reduce_max, _truth(x), axis, keepdims)


def all(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Are all true (not 0)? True over none."""
    return _reduce(ops.reduce_min, _truth(x), axis, keepdims)


def count_nonzero(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """How many are not 0, as i64."""
    return sum(_truth(x), axis=axis, keepdims=keepdims)


def cumulative_sum(x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """At each place the sum of the elements up to it along an axis (needless for one axis), added in that order. Integers sum as i64, unsigned ones as u64.

    include_initial puts the 0 that the sum starts with in front, so that the axis is one longer.
    """
    x = _summable(x, dtype)
    axis = _one_axis("cumulative_sum", axis, x)
    out = apply(along.cumsum, x, axis=axis, reverse=False)
    return _with_initial(out, axis, 0) if include_initial else out


def cumulative_prod(x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """At each place the product of the elements up to it. In log2(n) rounds, each of which doubles the reach; its gradient is right at zeros."""
    x = _summable(x, dtype)
    axis = _one_axis("cumulative_prod", axis, x)
    n, by = as_size(x.shape[axis]).__index__(), 1
    while by < n:
        pairs = [(by if a == axis else 0, 0) for a in range(x.ndim)]
        x = x * pad(narrow(x, axis, 0, n - by), pairs, constant_values=1)
        by *= 2
    return _with_initial(x, axis, 1) if include_initial else x


def _one_axis(name: str, axis: int | None, x: Tensor) -> int:
    if axis is None and x.ndim != 1:
        raise GraphError(f"{name} of {x.type} needs an axis", op=name, at=user_loc())
    return axis_index(name, 0 if axis is None else axis, x.ndim)


def _with_initial(x: Tensor, axis: int, value: float) -> Tensor:
    return pad(x, [(1 if a == axis else 0, 0) for a in range(x.ndim)], constant_values=value)


def cumsum(x: Any, axis: int) -> Tensor:
    """NumPy's and torch's name for cumulative_sum."""
    return cumulative_sum(x, axis=axis)


def cumprod(x: Any, axis: int) -> Tensor:
    """NumPy's and torch's name for cumulative_prod."""
    return cumulative_prod(x, axis=axis)


def argmax(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Where the largest is (i64): the first of equals, and NaN is largest. Without an axis, in the flattened tensor."""
    return _arg(ops.argmax, x, axis, keepdims)


def argmin(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Where the smallest is (i64): the first of equals, and NaN is smallest."""
    return _arg(ops.argmin, x, axis, keepdims)


def _arg(op: Any, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    x = as_tensor(x)
    if x.dtype is bool_:
        x = cast(x, i64)
    if axis is None:
        out = apply(op, flatten(x), axis=0)
        return reshape(out, (1,) * x.ndim) if keepdims else out
    axis = axis_index(op.name, axis, x.ndim)
    out = apply(op, x, axis=axis)
    return _kept(out, x, (axis,)) if keepdims else out


# ---- averages ------------------------------------------------------------------------------------------------------------------------


def count(x: Tensor, axes: tuple[int, ...]) -> Any:
    """How many elements the axes hold: a number, or a run-time number where a size is symbolic."""
    return value_of(product([x.shape[a] for a in axes]))


def mean(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The average; NaN over none. Integers average as f32."""
    x = _floating(x)
    axes = axis_tuple("mean", axis, x.ndim)
    return divide(sum(x, axis=axes, keepdims=keepdims), count(x, axes))


def var(x: Any, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The mean square distance from the mean, over n - correction, or 0 if that is less (torch's default is 1, the Array API's 0)."""
    x = _floating(x)
    axes = axis_tuple("var", axis, x.ndim)
    d = x - mean(x, axis=axes, keepdims=True)
    return divide(sum(d * d, axis=axes, keepdims=keepdims), _at_least_0(count(x, axes) - correction))


def _at_least_0(n: Any) -> Any:
    return maximum(n, 0) if isinstance(n, Tensor) else n if n > 0 else 0


def std(x: Any, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The square root of the variance."""
    return sqrt(var(x, axis=axis, correction=correction, keepdims=keepdims))


def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """(sum |x|^ord)^(1/ord); inf is the largest |x|, -inf the least, 0 how many are not 0.

    Where it has no gradient it gives one of length 0: at 0, by elements that are 0, and for ord < 0 where one is. (As PyTorch; JAX's is NaN or infinite.)
    """
    x = _floating(x)
    if ord == float("inf"):
        return max(abs_(x), axis=axis, keepdims=keepdims)
    if ord == float("-inf"):
        return min(abs_(x), axis=axis, keepdims=keepdims)
    if ord == 0:
        return cast(count_nonzero(x, axis=axis, keepdims=keepdims), x.dtype)
    if ord == 1:
        return sum(abs_(x), axis=axis, keepdims=keepdims)
    if ord == 2:
        s = sum(x * x, axis=axis, keepdims=keepdims)
        zero = s == 0
        return where(zero, 0.0, sqrt(where(zero, 1.0, s)))              # sqrt'(0) is infinite, and inf * 0 no number
    at_zero = x == 0
    s = sum(where(at_zero, 0.0, abs_(where(at_zero, 1.0, x)) ** ord), axis=axis, keepdims=keepdims)
    none = s == 0 if ord > 0 else any(at_zero, axis=axis, keepdims=keepdims)
    return where(none, 0.0, where(none, 1.0, s) ** (1.0 / ord))


norm = vector_norm


# ---- softmax and its family ----------------------------------------------------------------------------------------------------------


def _shift(x: Tensor, axis: Any) -> Tensor:
    """The largest along the axes, as a constant to derivatives; 0 where it is not finite, so that x - shift is never inf - inf."""
    m = max(x.detach(), axis=axis, keepdims=True)
    return where(isfinite(m), m, 0.0)


def logsumexp(x: Any, /, axis: Any = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) without overflow: m + log(sum(exp(x - m))), m the largest. Of -inf alone it is -inf."""
    x = _floating(x)
    axes = axis_tuple("logsumexp", axis, x.ndim)
    m = _shift(x, axes)
    total = sum(exp(x - m), axis=axes, keepdims=True)
    out = where(total == 0, -math.inf, log(total)) + m       # the derivative of -inf among -inf is 0
    return out if keepdims else reshape(out, tuple(n for a, n in enumerate(x.shape) if a not in axes))


def softmax(x: Any, /, axis: int = -1) -> Tensor:
    """exp(x) over its sum along an axis, without overflow. One division for each sum: the result is within 2 ulp of exp's error."""
    x = _floating(x)
    axis = axis_index("softmax", axis, x.ndim)
    if x.shape[axis] == 0:
        return x
    e = exp(x - _shift(x, axis))
    return e * (1.0 / sum(e, axis=axis, keepdims=True))


def log_softmax(x: Any, /, axis: int = -1) -> Tensor:
    """log(softmax(x)) = x - logsumexp(x), without overflow: d - log(sum(exp(d))), d = x - max."""
    x = _floating(x)
    axis = axis_index("log_softmax", axis, x.ndim)
    if x.shape[axis] == 0:
        return x
    d = x - _shift(x, axis)
    return d - log(sum(exp(d), axis=axis, keepdims=True))
