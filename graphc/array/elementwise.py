"""Functions of elements: operands broadcast and promote (trace.broadcast), and composites are written as their algebra.

Names are the Array API's where it has one, torch's beyond it.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.dtype import DType, bool_, f32, f64, i64
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..ops import elementwise as ops
from ..ops import index
from ..ops.movement import reshape
from ..trace.apply import apply
from ..trace.broadcast import as_tensor, binary, broadcast_shapes, broadcast_to, cast, full, lift, result_dtype, unary, unify
from ..trace.tensor import Tensor
from .logic import equal, less

# ---- arithmetic ----------------------------------------------------------------------------------------------------------------------


def _both_bool(a: Any, b: Any) -> bool:
    return result_dtype([lift(a), lift(b)]) is bool_


def add(x: Any, y: Any, /) -> Tensor:
    """x + y; of two bools, their disjunction."""
    return binary(ops.or_ if _both_bool(x, y) else ops.add, "add", x, y)


def subtract(x: Any, y: Any, /) -> Tensor:
    """x - y."""
    if _both_bool(x, y):
        raise GraphError("subtract is not for bools", at=user_loc(), fix="x ^ y, or .astype(gx.int64) first")
    return binary(ops.sub, "subtract", x, y)


def multiply(x: Any, y: Any, /) -> Tensor:
    """x * y; of two bools, their conjunction."""
    return binary(ops.and_ if _both_bool(x, y) else ops.mul, "multiply", x, y)


def divide(x: Any, y: Any, /) -> Tensor:
    """x / y, of integers too a floating number."""
    return binary(ops.div, "divide", x, y, floating=True)


def floor_divide(x: Any, y: Any, /) -> Tensor:
    """floor(x / y), toward minus infinity; an integer over 0 is 0."""
    return binary(ops.floordiv, "floor_divide", x, y)


def remainder(x: Any, y: Any, /) -> Tensor:
    """x - floor(x / y) * y, with the sign of y."""
    return binary(ops.mod, "remainder", x, y)


def pow(x: Any, y: Any, /) -> Tensor:
    """x to the y. A small whole number as y is repeated multiplication (for integers the only kind there is).

    Of integers to a negative integer the result is that of the real numbers, rounded toward 0; 0 to a negative integer is 0. Integers wrap.
    """
    if isinstance(y, (int, float)) and not isinstance(y, bool) and isinstance(x, Tensor):
        if isinstance(y, int) and y > 16 and x.dtype.is_integer:
            return _integer_power(x, y)
        if float(y).is_integer() and 0 <= y <= 16 and (x.dtype.is_float or isinstance(y, int)):
            return _integer_power(x, int(y))
        if x.dtype.is_float and y == 0.5:
            return sqrt(x)
        if x.dtype.is_float and y in (-1, -2):
            return 1.0 / _integer_power(x, int(-y))
        if x.dtype.is_float and y == -0.5:
            return rsqrt(x)
    dtype = result_dtype([lift(x), lift(y)])
    if dtype.is_inexact:
        return binary(ops.pow_, "pow", x, y)
    if dtype is bool_ or (isinstance(y, int) and y < 0):
        raise GraphError("an integer tensor to the power of a negative number, or of bools", at=user_loc(), fix=".astype(gx.float32) first")
    return _integer_powers(*unify("pow", [x, y]))


def _integer_power(x: Tensor, n: int) -> Tensor:
    """x**n by squaring; x**0 is 1 everywhere, with derivative 0."""
    if n == 0:
        from .creation import ones_like
        return ones_like(x)
    out: Tensor | None = None
    while True:
        if n & 1:
            out = x if out is None else out * x
        n >>= 1
        if not n:
            assert out is not None
            return out if out is not x else positive(x)
        x = x * x


def _integer_powers(x: Tensor, y: Tensor) -> Tensor:
    """x**y of integers: x, x**2, x**4, ... multiplied where y has that bit. The result wraps, so that every bit has a say: 3**64 is 1 in eight bits."""
    signed = y.dtype.kind == "int"
    n, out, power = abs(y), None, x
    for k in range(y.dtype.bits - signed):
        factor = where(n >> k & 1 == 1, power, 1)
        out = factor if out is None else out * factor
        power = power * power
    assert out is not None
    return where((y < 0) & (abs(x) != 1), 0, out) if signed else out


def positive(x: Any, /) -> Tensor:
    """x itself, as a new value."""
    x = as_tensor(x)
    return apply(reshape, x, shape=x.shape)


def negative(x: Any, /) -> Tensor:
    """-x."""
    return unary(ops.neg, x, floating=False)


def abs(x: Any, /) -> Tensor:
    """|x|; its derivative at 0 is 0."""
    x = as_tensor(x)
    return x if x.dtype.kind in ("bool", "uint") else apply(ops.abs_, x)


def sign(x: Any, /) -> Tensor:
    """-1, 0 or 1."""
    return unary(ops.sign, x, floating=False)


def square(x: Any, /) -> Tensor:
    """x * x."""
    x = as_tensor(x)
    return x * x


def reciprocal(x: Any, /) -> Tensor:
    """1 / x."""
    return divide(1.0, x)


# ---- exponentials, roots, angles -----------------------------------------------------------------------------------------------------


def exp(x: Any, /) -> Tensor:
    """e to the x."""
    return unary(ops.exp, x)


def expm1(x: Any, /) -> Tensor:
    """exp(x) - 1, exact near 0."""
    return unary(ops.expm1, x)


def log(x: Any, /) -> Tensor:
    """The natural logarithm."""
    return unary(ops.log, x)


def log1p(x: Any, /) -> Tensor:
    """log(1 + x), exact near 0."""
    return unary(ops.log1p, x)


def log2(x: Any, /) -> Tensor:
    """The logarithm to base 2, exact at its powers."""
    return unary(ops.log2, x)


def log10(x: Any, /) -> Tensor:
    """The logarithm to base 10, exact at its powers."""
    y = log(x) * math.log10(math.e)
    first, powers = _powers_of_10(y.dtype)
    whole = round(y)
    place = minimum(where(less(first, whole), whole - first, 0.0), float(len(powers) - 1))       # 0 where y is NaN
    power = apply(index.take, as_tensor(powers), cast(place, i64), axis=0)
    return where(equal(x, power), whole + (y - y.detach()), y)                                    # the difference is 0, and has the derivative


def _powers_of_10(dtype: DType) -> tuple[int, Any]:
    """The least exponent of a power of 10 that is no denormal, and the powers from there on."""
    limits = np.finfo(dtype.numpy)
    first, last = math.ceil(math.log10(limits.tiny)), math.floor(math.log10(limits.max))
    return first, np.asarray([float(f"1e{k}") for k in range(first, last + 1)], dtype.numpy)


def sqrt(x: Any, /) -> Tensor:
    """The square root; its derivative at 0 is infinite."""
    return unary(ops.sqrt, x)


def cbrt(x: Any, /) -> Tensor:
    """The cube root, with the sign of x; its derivative at 0 is infinite."""
    return unary(ops.cbrt, x)


def rsqrt(x: Any, /) -> Tensor:
    """1 / sqrt(x)."""
    return unary(ops.rsqrt, x)


def sin(x: Any, /) -> Tensor:
    """Sine, x in radians."""
    return unary(ops.sin, x)


def cos(x: Any, /) -> Tensor:
    """Cosine, x in radians."""
    return unary(ops.cos, x)


def tan(x: Any, /) -> Tensor:
    """Tangent, x in radians."""
    return unary(ops.tan, x)


def asin(x: Any, /) -> Tensor:
    """Arc sine, in radians."""
    return unary(ops.asin, x)


def acos(x: Any, /) -> Tensor:
    """Arc cosine, in radians."""
    return unary(ops.acos, x)


def atan(x: Any, /) -> Tensor:
    """Arc tangent, in radians."""
    return unary(ops.atan, x)


def atan2(x: Any, y: Any, /) -> Tensor:
    """The angle of the point (y, x), in [-pi, pi]."""
    return binary(ops.atan2, "atan2", x, y, floating=True)


def erf(x: Any, /) -> Tensor:
    """The error function."""
    return unary(ops.erf, x)


def ndtr(x: Any, /) -> Tensor:
    """The normal distribution function, to its last digit in the lower tail too. (SciPy's name.)"""
    return unary(ops.ndtr, x)


def logaddexp(x: Any, y: Any, /) -> Tensor:
    """log(exp(x) + exp(y)) without overflow: max + log1p(exp(-|x - y|)), and equal infinities give themselves.

    Its derivatives are right where x = y, too, in every order: each branch has them.
    """
    a, b = unify("logaddexp", [x, y])
    below = a < b
    d = where((a == b) & ~unary(ops.isfinite, a), 0.0, where(below, a - b, b - a))      # inf - inf is no number
    return where(below, b, a) + log1p(exp(d))


# ---- rounding -----------------------------------------------------------------------------------------------------------------------


def _rounded(op: Any, x: Any) -> Tensor:
    x = as_tensor(x)
    return apply(op, x) if x.dtype.is_inexact else x


def floor(x: Any, /) -> Tensor:
    """The largest integer <= x."""
    return _rounded(ops.floor, x)


def ceil(x: Any, /) -> Tensor:
    """The smallest integer >= x."""
    return _rounded(ops.ceil, x)


def round(x: Any, /) -> Tensor:
    """The nearest integer, halves to even."""
    return _rounded(ops.round_, x)


def trunc(x: Any, /) -> Tensor:
    """Toward zero."""
    x = as_tensor(x)
    return where(x < 0, ceil(x), floor(x))


# ---- choice --------------------------------------------------------------------------------------------------------------------------


def where(condition: Any, x1: Any, x2: Any, /) -> Tensor:
    """x1 where the condition, else x2. Both are computed: keep what is not chosen finite where its gradient matters."""
    condition = as_tensor(condition)
    if condition.dtype is not bool_:
        raise GraphError(f"where needs a condition of bools, got {condition.type}", at=user_loc(), fix="where(x > 0, ...)")
    xs = [lift(x1), lift(x2)]
    dtype = result_dtype(xs)
    shape = broadcast_shapes("where", [condition, *xs])
    weak = shape == () and any(isinstance(x, Tensor) for x in xs) and all(not isinstance(x, Tensor) or x.weak for x in xs)
    if dtype is f64 and not weak and all(not isinstance(x, Tensor) or x.weak for x in xs):
        dtype = f32                                     # two Python floats make f32, as everywhere
    parts = [broadcast_to(cast(x, dtype), shape) if isinstance(x, Tensor) else full(shape, x, dtype) for x in xs]
    out: Tensor = apply(ops.where, broadcast_to(condition, shape), *parts)
    out._weak = weak
    return out


def maximum(x: Any, y: Any, /) -> Tensor:
    """The larger; NaN if either is. Operands that are equal share the gradient."""
    return binary(ops.or_ if _both_bool(x, y) else ops.maximum, "maximum", x, y)


def minimum(x: Any, y: Any, /) -> Tensor:
    """The smaller; NaN if either is. Operands that are equal share the gradient."""
    return binary(ops.and_ if _both_bool(x, y) else ops.minimum, "minimum", x, y)


def clip(x: Any, /, min: Any = None, max: Any = None) -> Tensor:
    """x within [min, max]; the gradient is 1 inside and at the edges, 0 beyond; NaN stays, and a bound that is NaN gives NaN.

    The dtype stays that of x, unless x is of integers and a bound is not.
    """
    x = as_tensor(x)
    if min is not None:
        x = where(_beyond(x < min, min), _like(min, x), x)
    if max is not None:
        x = where(_beyond(x > max, max), _like(max, x), x)
    return x


def _beyond(out: Tensor, bound: Any) -> Tensor:
    """Where the bound stands in place of x: beyond it, and where it is NaN."""
    bound = lift(bound)
    if isinstance(bound, Tensor):
        return out | unary(ops.isnan, bound) if bound.dtype.kind == "float" else out
    return out if bound == bound else out | True


def _like(bound: Any, x: Tensor) -> Any:
    """A bound in the dtype of x, where that holds fractions or the bound has none."""
    bound = lift(bound)
    return cast(bound, x.dtype) if isinstance(bound, Tensor) and (x.dtype.is_inexact or not bound.dtype.is_inexact) else bound
