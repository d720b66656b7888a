"""Elementwise primitives: each result element depends on the elements at its own place. Operands have equal shapes and dtypes.

A new one is a block here and a line in `graphc.lower.elementwise`, and brings its own tests: `domain` says where they sample.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from ..core import half
from ..core.dtype import BFLOAT16, DType, bf16, bool_, f16, f32, f64, i8, i32, i64, u16, u32
from ..core.errors import GraphError
from ..core.types import TensorType, Type
from ..ir.node import Node
from ..ir.op import Family, Op, Vjp, register
from .check import Array, computed, draws, same, several, tensor
from .leaf import splat, zeros

Kinds = Literal["float", "number", "any", "bits", "integer"]
_TAKES: dict[Kinds, tuple[str, ...]] = {"float": ("float",), "number": ("float", "int", "uint"), "any": ("float", "int", "uint", "bool"),
                                        "bits": ("int", "uint", "bool"), "integer": ("int", "uint")}


def elementwise(name: str, numpy: Callable[..., Any], vjp: Vjp | Literal["zero"] | None, doc: str, *, arity: int = 1, kinds: Kinds = "float",
                result: DType | None = None, domain: tuple[float, float] = (-2.0, 2.0), family: Family | None = None) -> Op:
    """Register an elementwise op. `domain` is where the free tests sample; `result` its dtype where that is not the operands'."""
    def infer(*types: Type) -> TensorType:
        """The operands'."""
        if len(types) != arity:
            raise GraphError(f"{name} takes {arity} operands, got {len(types)}")
        t = computed(name, same(name, *types))
        if t.dtype.kind not in _TAKES[kinds]:
            what = {"float": "floating types", "number": "numbers", "bits": "integers and bool", "any": "any type", "integer": "integers"}[kinds]
            raise GraphError(f"{name} is for {what}, got {t}", fix=".astype(...) first")
        return t if result is None else t.with_dtype(result)

    sample_type = {"float": f64, "number": f64, "any": f64, "bits": i64, "integer": i64}[kinds]
    low, high = domain
    samples = several(draws(*[(3, 4)] * arity, low=low, high=high, dtype=sample_type), draws(*[()] * arity, low=low, high=high, dtype=sample_type))
    return register(Op(name, family or ("unary" if arity == 1 else "binary"), infer, numpy, vjp, doc, samples, domain=domain))


# ---- unary -----------------------------------------------------------------------------------------------------------------------

neg: Op = elementwise("neg", np.negative, lambda g, y, x: (-g,), "-x", kinds="number")
abs_: Op = elementwise("abs", np.abs, lambda g, y, x: (g * sign(x),), "|x|; derivative 0 at 0", kinds="number", domain=(0.5, 2.0))
sign: Op = elementwise("sign", np.sign, "zero", "-1, 0 or 1; NaN stays", kinds="number")
floor: Op = elementwise("floor", np.floor, "zero", "The largest integer <= x")
ceil: Op = elementwise("ceil", np.ceil, "zero", "The smallest integer >= x")
round_: Op = elementwise("round", np.rint, "zero", "The nearest integer, halves to even")
exp: Op = elementwise("exp", np.exp, lambda g, y, x: (g * y,), "e to the x")
expm1: Op = elementwise("expm1", np.expm1, lambda g, y, x: (g * (y + 1.0),), "exp(x) - 1, exact near 0")
log: Op = elementwise("log", np.log, lambda g, y, x: (g / x,), "Natural logarithm", domain=(0.5, 3.0))
log2: Op = elementwise("log2", np.log2, lambda g, y, x: (g / (x * math.log(2.0)),), "Logarithm to base 2, exact at its powers", domain=(0.5, 3.0))
log1p: Op = elementwise("log1p", np.log1p, lambda g, y, x: (g / (x + 1.0),), "log(1 + x), exact near 0", domain=(-0.5, 2.0))
sqrt: Op = elementwise("sqrt", np.sqrt, lambda g, y, x: (g / (y * 2.0),), "Square root; derivative inf at 0", domain=(0.5, 3.0))
rsqrt: Op = elementwise("rsqrt", lambda x: np.reciprocal(np.sqrt(x)), lambda g, y, x: (g * (y * y * y) * -0.5,), "1 / sqrt(x)", domain=(0.5, 3.0))
sin: Op = elementwise("sin", np.sin, lambda g, y, x: (g * cos(x),), "Sine, x in radians")
cos: Op = elementwise("cos", np.cos, lambda g, y, x: (-(g * sin(x)),), "Cosine, x in radians")
tan: Op = elementwise("tan", np.tan, lambda g, y, x: (g * (y * y + 1.0),), "Tangent, x in radians", domain=(-1.0, 1.0))
asin: Op = elementwise("asin", np.arcsin, lambda g, y, x: (g * rsqrt(1.0 - x * x),), "Arc sine, in [-pi/2, pi/2]", domain=(-0.9, 0.9))
acos: Op = elementwise("acos", np.arccos, lambda g, y, x: (-(g * rsqrt(1.0 - x * x)),), "Arc cosine, in [0, pi]", domain=(-0.9, 0.9))
atan: Op = elementwise("atan", np.arctan, lambda g, y, x: (g / (x * x + 1.0),), "Arc tangent, in [-pi/2, pi/2]")
tanh: Op = elementwise("tanh", np.tanh, lambda g, y, x: (g * (1.0 - y * y),), "Hyperbolic tangent")      # y is the result: no second tanh


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, 1) / (e + 1), x.dtype)


sigmoid: Op = elementwise("sigmoid", _sigmoid, lambda g, y, x: (g * (y * (1.0 - y)),), "1 / (1 + exp(-x)), without overflow or cancellation")


def _erf(x: Array) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x), x.dtype)


erf: Op = elementwise("erf", _erf, lambda g, y, x: (g * exp(-(x * x)) * (2.0 / math.sqrt(math.pi)),), "The error function")


_ROOT = (0.7071067690849304, 1.210161710447897e-08)                      # sqrt(1/2) as 24 bits and the rest


def _ndtr(x: Array) -> Array:
    """Of a negative x half the complementary error function, which does not cancel; h + low is -x sqrt(1/2) to twice f64's digits."""
    v = x.astype(np.float64)
    h = -v * math.sqrt(0.5)
    high = (v.view(np.int64) & -(1 << 27)).view(np.float64)             # 26 bits, as _ROOT has: their product is exact
    with np.errstate(all="ignore"):
        low = ((-high * _ROOT[0] - h) - (v - high) * _ROOT[0]) - v * _ROOT[1]
        y = np.vectorize(math.erfc, otypes=[np.float64])(h) * 0.5
        return np.asarray(np.where(np.abs(h) < 30.0, y - np.exp(-h * h) * low / math.sqrt(math.pi), y), x.dtype)


ndtr: Op = elementwise("ndtr", _ndtr, lambda g, y, x: (g * exp(x * x * -0.5) * (1.0 / math.sqrt(2.0 * math.pi)),),
                       "The normal distribution function, to its last digit in the lower tail too")
cbrt: Op = elementwise("cbrt", np.cbrt, lambda g, y, x: (g / (y * y * 3.0),), "Cube root; derivative inf at 0", domain=(0.5, 3.0))
isnan: Op = elementwise("isnan", np.isnan, "zero", "Is x a NaN?", result=bool_)
isfinite: Op = elementwise("isfinite", np.isfinite, "zero", "Is x neither infinite nor NaN?", result=bool_)
not_: Op = elementwise("not", np.invert, "zero", "Negation of a bool, complement of an integer", kinds="bits")

# ---- binary ----------------------------------------------------------------------------------------------------------------------

add: Op = elementwise("add", np.add, lambda g, y, a, b: (g, g), "a + b", arity=2, kinds="number")
sub: Op = elementwise("sub", np.subtract, lambda g, y, a, b: (g, -g), "a - b", arity=2, kinds="number")
mul: Op = elementwise("mul", np.multiply, lambda g, y, a, b: (g * b, g * a), "a * b", arity=2, kinds="number")
div: Op = elementwise("div", np.divide, lambda g, y, a, b: (g / b, -(g * y / b)), "a / b", arity=2, domain=(0.5, 2.0))


floordiv: Op = elementwise("floordiv", np.floor_divide, "zero", "floor(a / b), toward minus infinity; an integer over 0 is 0", arity=2, kinds="number",
                           domain=(0.5, 2.0))
mod: Op = elementwise("mod", np.mod, lambda g, y, a, b: (g, -(g * floor(a / b))), "a - floor(a / b) * b, with the sign of b; an integer mod 0 is 0",
                  arity=2, kinds="number", domain=(0.6, 0.9))


def _pow_vjp(g: Node, y: Node, a: Node, b: Node) -> tuple[Node, Node]:
    zero = splat(0.0, a)
    da = where(eq(b, zero), zero, g * b * pow_(a, b - 1.0))             # d(x**0)/dx is 0, at 0 too
    db = where(eq(a, zero), zero, g * y * log(where(eq(a, zero), splat(1.0, a), a)))    # d(0**y)/dy is 0
    return da, db


pow_: Op = elementwise("pow", np.power, _pow_vjp, "a to the b", arity=2, domain=(0.5, 2.0))
atan2: Op = elementwise("atan2", np.arctan2, lambda g, y, a, b: (g * b / (a * a + b * b), -(g * a / (a * a + b * b))),
                    "The angle of the point (b, a), in [-pi, pi]", arity=2, domain=(0.5, 2.0))


def _tie(g: Node, first: Node, equal: Node) -> Node:
    """g where first, g/2 where equal: both operands share a tie."""
    return where(first, g, where(equal, g * 0.5, splat(0.0, g)))


maximum: Op = elementwise("maximum", np.maximum, lambda g, y, a, b: (_tie(g, lt(b, a), eq(a, b)), _tie(g, lt(a, b), eq(a, b))),
                      "The larger; NaN if either is; at a tie the derivative is 1/2 and 1/2", arity=2, kinds="number")
minimum: Op = elementwise("minimum", np.minimum, lambda g, y, a, b: (_tie(g, lt(a, b), eq(a, b)), _tie(g, lt(b, a), eq(a, b))),
                      "The smaller; NaN if either is; at a tie the derivative is 1/2 and 1/2", arity=2, kinds="number")
and_: Op = elementwise("and", np.bitwise_and, "zero", "Conjunction, bit by bit", arity=2, kinds="bits")
or_: Op = elementwise("or", np.bitwise_or, "zero", "Disjunction, bit by bit", arity=2, kinds="bits")
xor: Op = elementwise("xor", np.bitwise_xor, "zero", "Exclusive or, bit by bit", arity=2, kinds="bits")


def _count(a: Array, b: Array) -> Array:
    return np.asarray(b & b.dtype.type(a.dtype.itemsize * 8 - 1))


shl: Op = elementwise("shl", lambda a, b: np.left_shift(a, _count(a, b)), "zero", "a << b, b modulo the width", arity=2, kinds="integer", domain=(0, 9))
shr: Op = elementwise("shr", lambda a, b: np.right_shift(a, _count(a, b)), "zero", "a >> b, b modulo the width; keeps the sign of signed types",
                  arity=2, kinds="integer", domain=(0, 9))

# ---- comparison ------------------------------------------------------------------------------------------------------------------

lt: Op = elementwise("lt", np.less, "zero", "a < b; false with a NaN", arity=2, kinds="any", result=bool_, family="compare")
le: Op = elementwise("le", np.less_equal, "zero", "a <= b; false with a NaN", arity=2, kinds="any", result=bool_, family="compare")
eq: Op = elementwise("eq", np.equal, "zero", "a == b; false with a NaN", arity=2, kinds="any", result=bool_, family="compare")
ne: Op = elementwise("ne", np.not_equal, "zero", "a != b; true with a NaN", arity=2, kinds="any", result=bool_, family="compare")

# ---- where, cast, bitcast, stop_gradient -----------------------------------------------------------------------------------------


def _where_type(c: Type, a: Type, b: Type) -> TensorType:
    """The operands'."""
    t = same("where", a, b)
    if tensor("where", c) != t.with_dtype(bool_):
        raise GraphError(f"where needs a condition of type {t.with_dtype(bool_)}, got {c}", fix="compare, or cast to bool")
    return t


where: Op = register(Op("where", "select", _where_type, np.where,
                    lambda g, y, c, a, b: (None, where(c, g, zeros(a)), where(c, zeros(b), g)), "a where c, else b",
                    lambda rng: [([rng.uniform(size=(3, 4)) < 0.5, rng.standard_normal((3, 4)), rng.standard_normal((3, 4))], {})]))


def _cast_type(t: Type, *, dtype: DType) -> TensorType:
    """The operand's."""
    return tensor("cast", t).with_dtype(dtype)


def _cast(x: Array, *, dtype: DType) -> Array:
    """Float to integer truncates, saturates, and takes NaN to 0, on every backend. To and from f16 and bf16 by way of f32."""
    if x.dtype == dtype.numpy:
        return x
    if x.dtype in (np.float16, BFLOAT16):
        x = half.from_half(x)
    if dtype.is_half:
        return half.to_half(x, dtype)
    if x.dtype.kind != "f" or not dtype.is_integer:
        return x.astype(dtype.numpy)
    info = np.iinfo(dtype.numpy)
    low, high = np.float64(info.min), np.float64(info.max)
    inside = (x > low - 1) & (x < high) if dtype.bits < 64 else (x >= low) & (x < high)
    y = np.where(inside, x, 0).astype(dtype.numpy)
    return np.where(inside | np.isnan(x), y, np.where(x > 0, info.max, info.min).astype(dtype.numpy)).astype(dtype.numpy)


def _cast_vjp(g: Node, y: Node, x: Node, *, dtype: DType) -> tuple[Node | None]:
    if not (dtype.is_inexact and x.tensor.dtype.is_inexact):
        return (None,)
    return (g if g.tensor.dtype is x.tensor.dtype.cotangent else cast(g, dtype=x.tensor.dtype.cotangent),)


cast: Op = register(Op("cast", "cast", _cast_type, _cast, _cast_vjp,
                   "The value in another dtype; float to integer truncates, saturates, NaN is 0; to f16 and bf16 by way of f32, to nearest even",
                   lambda rng: [([rng.uniform(-3, 3, (3, 4))], {"dtype": d}) for d in (f64, f32, i32, i64, bool_, f16, bf16)]))


def _bitcast_type(t: Type, *, dtype: DType) -> TensorType:
    """The operand's."""
    t = tensor("bitcast", t)
    if t.dtype.itemsize != dtype.itemsize or bool_ in (t.dtype, dtype):
        raise GraphError(f"bitcast keeps the width, got {t.dtype} to {dtype}")
    return t.with_dtype(dtype)


bitcast: Op = register(Op("bitcast", "cast", _bitcast_type, lambda x, *, dtype: np.ascontiguousarray(x).view(dtype.numpy).reshape(x.shape), "zero",
                      "The same bits as another dtype of the same width",
                      lambda rng: [([rng.standard_normal((3, 4)).astype(np.float32)], {"dtype": u32}), ([rng.standard_normal((3, 4))], {"dtype": i64}),
                                   ([rng.integers(0, 200, 5).astype(np.uint8)], {"dtype": i8}), ([np.arange(3, dtype=np.int16)], {"dtype": u16})]))


def _stop_type(t: Type) -> TensorType:
    """The operand's."""
    t = tensor("stop_gradient", t)
    if not t.dtype.is_inexact:
        raise GraphError(f"stop_gradient is for floating types, got {t}", fix=".astype(gx.float32) first")
    return t


stop_gradient: Op = register(Op("stop_gradient", "unary", _stop_type, np.asarray, "zero",
                            "x, a constant to every derivative", draws((3, 4))))
