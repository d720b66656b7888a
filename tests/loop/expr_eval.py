"""Loop-IR expressions over whole NumPy arrays: a load is an array given by its buffer's name. For tests of long expressions on many values."""
from __future__ import annotations

from typing import Any

import numpy as np

from graphc.core.compat import assert_never
from graphc.loop.ir import Bin, Bitcast, Call, Cast, Expr, Int, Lit, Load, Select, Un, Var

Array = np.ndarray[Any, np.dtype[Any]]

UNARY = {"neg": np.negative, "abs": np.abs, "sqrt": np.sqrt, "floor": np.floor, "ceil": np.ceil, "round": np.rint, "trunc": np.trunc, "not": np.invert}
BINARY = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "max": np.maximum, "min": np.minimum, "and": np.bitwise_and,
          "or": np.bitwise_or, "xor": np.bitwise_xor, "<<": np.left_shift, ">>": np.right_shift, "<": np.less, "<=": np.less_equal,
          "==": np.equal, "!=": np.not_equal}


def evaluate(e: Expr, arrays: dict[str, Array], fma: bool = True) -> Array:
    """The value of e. Without fma, Call("fma", ...) rounds twice."""
    memo: dict[int, Array] = {}

    def of(e: Expr) -> Array:
        if id(e) not in memo:
            memo[id(e)] = value(e)
        return memo[id(e)]

    def value(e: Expr) -> Array:
        match e:
            case Lit(v, dtype): return np.array(v).astype(dtype.numpy)
            case Load(buf, _): return arrays[buf.name]
            case Un(op, a): return UNARY[op](of(a))
            case Bin(op, a, b):
                x, y = of(a), of(b)
                assert x.dtype == y.dtype, f"{op} of {x.dtype} and {y.dtype}"
                return BINARY[op](x, y)
            case Select(c, a, b):
                x, y = of(a), of(b)
                assert (x.dtype, of(c).dtype) == (y.dtype, np.bool_)
                return np.where(of(c), x, y)
            case Cast(a, dtype):
                x = of(a)
                assert x.dtype.kind != "f" or dtype.is_float, "float to integer saturates, and NumPy's does not"
                return x.astype(dtype.numpy)
            case Bitcast(a, dtype): return of(a).view(dtype.numpy)
            case Call("fma", (a, b, c)): return fused(of(a), of(b), of(c)) if fma else of(a) * of(b) + of(c)
            case Call("copysign", (a, b)): return np.copysign(of(a), of(b))
            case Call("rare", (a, b, c)): return np.where(of(c), of(a), of(b))
            case Var() | Int() | Call(): raise AssertionError(f"not a value of one element: {e}")
            case _: assert_never(e)

    with np.errstate(all="ignore"):
        return of(e)


def fused(a: Array, b: Array, c: Array) -> Array:
    """a*b + c with one rounding. In f32 by way of f64, where the product is exact; in f64 by error-free transformations, right but for rare ties."""
    assert a.dtype == b.dtype == c.dtype
    if a.dtype == np.float32:
        return (a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)).astype(np.float32)
    mask = np.uint64(0xFFFFFFFFF8000000)
    ah, bh = (a.view(np.uint64) & mask).view(np.float64), (b.view(np.uint64) & mask).view(np.float64)
    al, bl = a - ah, b - bh
    p = a * b
    e = ((ah * bh - p) + ah * bl + al * bh) + al * bl               # p + e = a*b
    s = p + c
    v = s - p
    t = (p - (s - v)) + (c - v)                                     # s + t = p + c
    return np.where(np.isfinite(e) & np.isfinite(t), s + (t + e), s)
