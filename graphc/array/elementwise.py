"""Functions of elements: operands broadcast and promote (trace.broadcast), and composites are written as their algebra.

Names are the Array API's where it has one, torch's beyond it.
"""
from __future__ import annotations

import math
from typing import Any

from ..core.dtype import as_dtype, bool_, f32, f64
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..ops import elementwise as ops
from ..ops.movement import reshape
from ..trace.apply import apply
from ..trace.broadcast import as_tensor, binary, broadcast_shapes, broadcast_to, cast, full, lift, result_dtype, unary, unify
from ..trace.tensor import Tensor

# ---- arithmetic ----------------------------------------------------------------------------------------------------------------------


def _both_bool(a: Any, b: Any) -> bool:
    return result_dtype([lift(a), lift(b)]) is bool_


def add(x: Any, y: Any) -> Tensor:
    """x + y; of two bools, their disjunction."""
    return binary(ops.or_ if _both_bool(x, y) else ops.add, "add", x, y)


def subtract(x: Any, y: Any) -> Tensor:
    """x - y."""
    if _both_bool(x, y):
        raise GraphError("subtract is not for bools", at=user_loc(), fix="x ^ y, or .astype(gx.int64) first")
    return binary(ops.sub, "subtract", x, y)


def multiply(x: Any, y: Any) -> Tensor:
    """x * y; of two bools, their conjunction."""
    return binary(ops.and_ if _both_bool(x, y) else ops.mul, "multiply", x, y)


def divide(x: Any, y: Any) -> Tensor:
    """x / y, of integers too a floating number."""
    return binary(ops.div, "divide", x, y, floating=True)


def floor_divide(x: Any, y: Any) -> Tensor:
    """floor(x / y), toward minus infinity; an integer over 0 is 0."""
    return binary(ops.floordiv, "floor_divide", x, y)


def remainder(x: Any, y: Any) -> Tensor:
    """x - floor(x / y) * y, with the sign of y."""
    return binary(ops.mod, "remainder", x, y)


def pow(x: Any, y: Any) -> Tensor:
    """x to the y. A small whole number as y is repeated multiplication (for integers the only kind there is)."""
    if isinstance(y, (int, float)) and not isinstance(y, bool) and isinstance(x, Tensor):
        if float(y).is_integer() and 0 <= y <= 16 and (x.dtype.is_float or isinstance(y, int)):
            return _integer_power(x, int(y))
        if x.dtype.is_float and y == 0.5:
            return sqrt(x)
        if x.dtype.is_float and y in (-1, -2):
            return 1.0 / _integer_power(x, int(-y))
        if x.dtype.is_float and y == -0.5:
            return rsqrt(x)
    if not result_dtype([lift(x), lift(y)]).is_float:
        raise GraphError("an integer tensor to the power of a tensor or of a negative number", at=user_loc(), fix=".astype(gx.float32) first")
    return binary(ops.pow_, "pow", x, y)


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


def positive(x: Any) -> Tensor:
    """x itself, as a new value."""
    x = as_tensor(x)
    return apply(reshape, x, shape=x.shape)


def negative(x: Any) -> Tensor:
    """-x."""
    return unary(ops.neg, x, floating=False)


def abs(x: Any) -> Tensor:
    """|x|; its derivative at 0 is 0."""
    x = as_tensor(x)
    return x if x.dtype.kind in ("bool", "uint") else apply(ops.abs_, x)


def sign(x: Any) -> Tensor:
    """-1, 0 or 1."""
    return unary(ops.sign, x, floating=False)


def square(x: Any) -> Tensor:
    """x * x."""
    x = as_tensor(x)
    return x * x


def reciprocal(x: Any) -> Tensor:
    """1 / x."""
    return divide(1.0, x)


# ---- exponentials, roots, angles -----------------------------------------------------------------------------------------------------


def exp(x: Any) -> Tensor:
    """e to the x."""
    return unary(ops.exp, x)


def expm1(x: Any) -> Tensor:
    """exp(x) - 1, exact near 0."""
    return unary(ops.expm1, x)


def log(x: Any) -> Tensor:
    """The natural logarithm."""
    return unary(ops.log, x)


def log1p(x: Any) -> Tensor:
    """log(1 + x), exact near 0."""
    return unary(ops.log1p, x)


def log2(x: Any) -> Tensor:
    """The logarithm to base 2, exact at its powers."""
    return unary(ops.log2, x)


def log10(x: Any) -> Tensor:
    """The logarithm to base 10."""
    return log(x) * (1.0 / math.log(10.0))


def sqrt(x: Any) -> Tensor:
    """The square root; its derivative at 0 is infinite."""
    return unary(ops.sqrt, x)


def cbrt(x: Any) -> Tensor:
    """The cube root, with the sign of x; its derivative at 0 is infinite."""
    return unary(ops.cbrt, x)


def rsqrt(x: Any) -> Tensor:
    """1 / sqrt(x)."""
    return unary(ops.rsqrt, x)


def sin(x: Any) -> Tensor:
    """Sine, x in radians."""
    return unary(ops.sin, x)


def cos(x: Any) -> Tensor:
    """Cosine, x in radians."""
    return unary(ops.cos, x)


def tan(x: Any) -> Tensor:
    """Tangent, x in radians."""
    return unary(ops.tan, x)


def asin(x: Any) -> Tensor:
    """Arc sine, in radians."""
    return unary(ops.asin, x)


def acos(x: Any) -> Tensor:
    """Arc cosine, in radians."""
    return unary(ops.acos, x)


def atan(x: Any) -> Tensor:
    """Arc tangent, in radians."""
    return unary(ops.atan, x)


def atan2(x: Any, y: Any) -> Tensor:
    """The angle of the point (y, x), in [-pi, pi]."""
    return binary(ops.atan2, "atan2", x, y, floating=True)


def sinh(x: Any) -> Tensor:
    """(e^x - e^-x) / 2, from expm1 so that it is exact near 0."""
    x = as_tensor(x)
    return (expm1(x) - expm1(-x)) * 0.5


def cosh(x: Any) -> Tensor:
    """(e^x + e^-x) / 2."""
    x = as_tensor(x)
    return (exp(x) + exp(-x)) * 0.5


def tanh(x: Any) -> Tensor:
    """Hyperbolic tangent."""
    return unary(ops.tanh, x)


def erf(x: Any) -> Tensor:
    """The error function."""
    return unary(ops.erf, x)


def ndtr(x: Any) -> Tensor:
    """The normal distribution function, to its last digit in the lower tail too. (SciPy's name.)"""
    return unary(ops.ndtr, x)


# ---- rounding and classes of numbers -------------------------------------------------------------------------------------------------


def _rounded(op: Any, x: Any) -> Tensor:
    x = as_tensor(x)
    return apply(op, x) if x.dtype.is_float else x


def floor(x: Any) -> Tensor:
    """The largest integer <= x."""
    return _rounded(ops.floor, x)


def ceil(x: Any) -> Tensor:
    """The smallest integer >= x."""
    return _rounded(ops.ceil, x)


def round(x: Any) -> Tensor:
    """The nearest integer, halves to even."""
    return _rounded(ops.round_, x)


def trunc(x: Any) -> Tensor:
    """Toward zero."""
    x = as_tensor(x)
    return where(x < 0, ceil(x), floor(x))


def isnan(x: Any) -> Tensor:
    """Is x a NaN?"""
    return unary(ops.isnan, x)


def isfinite(x: Any) -> Tensor:
    """Is x neither infinite nor NaN?"""
    return unary(ops.isfinite, x)


def isinf(x: Any) -> Tensor:
    """Is x infinite?"""
    return ~(isfinite(x) | isnan(x))


# ---- comparison and logic ------------------------------------------------------------------------------------------------------------


def less(x: Any, y: Any) -> Tensor:
    """x < y; false with a NaN."""
    return binary(ops.lt, "less", x, y)


def less_equal(x: Any, y: Any) -> Tensor:
    """x <= y; false with a NaN."""
    return binary(ops.le, "less_equal", x, y)


def greater(x: Any, y: Any) -> Tensor:
    """x > y; false with a NaN."""
    return binary(ops.lt, "greater", y, x)


def greater_equal(x: Any, y: Any) -> Tensor:
    """x >= y; false with a NaN."""
    return binary(ops.le, "greater_equal", y, x)


def equal(x: Any, y: Any) -> Tensor:
    """x == y; false with a NaN."""
    return binary(ops.eq, "equal", x, y)


def not_equal(x: Any, y: Any) -> Tensor:
    """x != y; true with a NaN."""
    return binary(ops.ne, "not_equal", x, y)


def bitwise_and(x: Any, y: Any) -> Tensor:
    """Bit by bit; of bools, the conjunction."""
    return binary(ops.and_, "bitwise_and", x, y)


def bitwise_or(x: Any, y: Any) -> Tensor:
    """Bit by bit; of bools, the disjunction."""
    return binary(ops.or_, "bitwise_or", x, y)


def bitwise_xor(x: Any, y: Any) -> Tensor:
    """Bit by bit; of bools, whether they differ."""
    return binary(ops.xor, "bitwise_xor", x, y)


def bitwise_invert(x: Any) -> Tensor:
    """The complement; of bools, the negation."""
    return unary(ops.not_, x, floating=False)


def bitwise_left_shift(x: Any, y: Any) -> Tensor:
    """x << y, y modulo the width."""
    return binary(ops.shl, "bitwise_left_shift", x, y)


def bitwise_right_shift(x: Any, y: Any) -> Tensor:
    """x >> y, y modulo the width; keeps the sign of signed types."""
    return binary(ops.shr, "bitwise_right_shift", x, y)


def _truth(x: Any) -> Tensor:
    x = as_tensor(x)
    return x if x.dtype is bool_ else x != 0


def logical_and(x: Any, y: Any) -> Tensor:
    """Are both true (not 0)?"""
    return bitwise_and(_truth(x), _truth(y))


def logical_or(x: Any, y: Any) -> Tensor:
    """Is either true?"""
    return bitwise_or(_truth(x), _truth(y))


def logical_xor(x: Any, y: Any) -> Tensor:
    """Is exactly one true?"""
    return bitwise_xor(_truth(x), _truth(y))


def logical_not(x: Any) -> Tensor:
    """Is it false (0)?"""
    return bitwise_invert(_truth(x))


# ---- choice --------------------------------------------------------------------------------------------------------------------------


def where(condition: Any, x1: Any, x2: Any) -> Tensor:
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


def maximum(x: Any, y: Any) -> Tensor:
    """The larger; NaN if either is. Operands that are equal share the gradient."""
    return binary(ops.or_ if _both_bool(x, y) else ops.maximum, "maximum", x, y)


def minimum(x: Any, y: Any) -> Tensor:
    """The smaller; NaN if either is. Operands that are equal share the gradient."""
    return binary(ops.and_ if _both_bool(x, y) else ops.minimum, "minimum", x, y)


def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """x within [min, max]; the gradient is 1 inside and at the edges, 0 beyond; NaN stays."""
    x = as_tensor(x)
    if min is not None:
        x = where(x < min, _like(min, x), x)
    if max is not None:
        x = where(x > max, _like(max, x), x)
    return x


def _like(bound: Any, x: Tensor) -> Any:
    """A bound in the dtype of x: clipping never changes the dtype."""
    bound = lift(bound)
    return cast(bound, x.dtype) if isinstance(bound, Tensor) else bound


# ---- activations ---------------------------------------------------------------------------------------------------------------------


def relu(x: Any) -> Tensor:
    """max(x, 0), where NaN stays, and the gradient is 0 at 0 and 1 at NaN, as in torch."""
    x = as_tensor(x)
    return where(x <= 0, 0, x)                          # not maximum(x, 0): that would share the gradient at 0


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + exp(-x)), without overflow or cancellation."""
    return unary(ops.sigmoid, x)


def softplus(x: Any) -> Tensor:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)), exact at both ends."""
    x = as_tensor(x)
    return logaddexp(x, 0.0)


def logaddexp(x: Any, y: Any) -> Tensor:
    """log(exp(x) + exp(y)) without overflow: max + log1p(exp(-|x - y|)), and equal infinities give themselves."""
    a, b = unify("logaddexp", [x, y])
    d = where(a == b, 0.0, a - b)                       # inf - inf is no number
    return maximum(a, b) + log1p(exp(-abs(d)))


def silu(x: Any) -> Tensor:
    """x * sigmoid(x)."""
    x = as_tensor(x)
    return x * sigmoid(x)


def gelu(x: Any) -> Tensor:
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


# ---- dtype ---------------------------------------------------------------------------------------------------------------------------


def astype(x: Any, dtype: Any) -> Tensor:
    """x in another dtype; float to integer truncates and saturates. The gradient goes through from float to float."""
    x = as_tensor(x)
    dtype = as_dtype(dtype)
    out = cast(x, dtype)
    if out is x and x.weak:
        out = x.clone()
        out._weak = False
    elif out.weak:
        out._weak = False
    return out


def to(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """x.to(dtype). There is one device, "cpu": it is accepted and changes nothing; any other is an error."""
    for a in (*args, *kwargs.values()):
        if isinstance(a, str) and a not in ("f32", "f64", "i32", "i64", "bool") and a.partition(":")[0] in ("cpu", "cuda", "mps", "gpu", "tpu"):
            if a.partition(":")[0] != "cpu":
                raise GraphError(f"there is no device {a!r}: graphc compiles for the CPU", at=user_loc(), fix='leave .to(...) out, or .to("cpu")')
        elif isinstance(a, Tensor):
            x = astype(x, a.dtype)
        elif a is not None and not isinstance(a, bool):
            x = astype(x, a)
    return x
