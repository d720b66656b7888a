"""Stmt -> Stmt."""
from __future__ import annotations

from ..core.dtype import DType, f32
from ..core.target import Target
from .ir import Accum, For, Load, Stmt, Store, expressions, walk


def lanes_of(s: Stmt, target: Target) -> int:
    """Lanes of the simd loops in s, one number for all: a register's worth of the narrowest float there, else of the narrowest integer from 32 bits up."""
    loops = [x for x in walk(s) if isinstance(x, For) and x.how == "simd"]
    dtypes: set[DType] = set()
    for loop in loops:
        dtypes |= {x.buf.dtype for x in walk(loop) if isinstance(x, Store | Accum)}
        dtypes |= {e.buf.dtype for e in expressions(loop) if isinstance(e, Load)}
    floats = [d for d in dtypes if d.is_float]
    integers = [d for d in dtypes if d.is_integer and d.bits >= 32]
    return target.lanes(min(floats or integers or [f32], key=lambda d: d.bits))
