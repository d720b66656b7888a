"""Matrix expressions of SymPy as array functions. A matrix is the last two axes; the axes before them are a batch, and broadcast."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy

from ..core.errors import GraphError
from ..core.loc import user_loc
from ..trace.broadcast import as_tensor
from .table import xp

if TYPE_CHECKING:
    from .scope import Scope


def _size(n: Any) -> int:
    if not getattr(n, "is_Integer", isinstance(n, int)):
        raise GraphError(f"the size {n} of a matrix must be a number here", at=user_loc(), fix=f"e.subs({n}, 3)")
    return int(n)


def _product(scope: Scope, e: sympy.MatMul) -> Any:
    """Scalars once, at the end; the rest from left to right."""
    numbers = [scope(f) for f in e.args if not f.is_Matrix]
    matrices = [as_tensor(scope(f)) for f in e.args if f.is_Matrix]
    out = matrices[0]
    for m in matrices[1:]:
        out = xp().matmul(out, m)
    for x in numbers:
        out = (x if isinstance(x, float | int) else xp().expand_dims(xp().expand_dims(x, -1), -1)) * out
    return out


def _sum(scope: Scope, e: sympy.MatAdd) -> Any:
    out = scope(e.args[0])
    for m in e.args[1:]:
        out = out + scope(m)
    return out


def _elementwise(scope: Scope, e: Any) -> Any:
    out = scope(e.args[0])
    for m in e.args[1:]:
        out = out * scope(m)
    return out


def _power(scope: Scope, e: sympy.MatPow) -> Any:
    n = e.exp
    if not (n.is_Integer and n >= 1):
        raise GraphError(f"graphc has no matrix power {n}", op=str(e), at=user_loc(), why="whole numbers from 1 on are repeated products")
    base = as_tensor(scope(e.base))
    out = base
    for _ in range(int(n) - 1):
        out = xp().matmul(out, base)
    return out


def _dense(scope: Scope, e: sympy.MatrixBase) -> Any:
    parts = xp().broadcast_arrays(*(as_tensor(scope(x)) for x in e.flat()))
    stacked = xp().stack(list(parts), axis=-1)
    return xp().reshape(stacked, (*stacked.shape[:-1], *e.shape))


def _trace(scope: Scope, e: sympy.Trace) -> Any:
    a = as_tensor(scope(e.arg))
    return (a * np.eye(_size(e.arg.shape[0]), dtype=a.dtype.numpy)).sum(axis=(-2, -1))


MATRICES: dict[Any, Callable[[Any, Any], Any]] = {
    sympy.MatrixBase: _dense,
    sympy.MatMul: _product,
    sympy.MatAdd: _sum,
    sympy.HadamardProduct: _elementwise,
    sympy.MatPow: _power,
    sympy.Transpose: lambda scope, e: xp().matrix_transpose(as_tensor(scope(e.arg))),
    sympy.Trace: _trace,
    sympy.Identity: lambda scope, e: as_tensor(xp().eye(_size(e.shape[0]), dtype=scope.dtype)),
    sympy.ZeroMatrix: lambda scope, e: xp().zeros(tuple(map(_size, e.shape)), dtype=scope.dtype),
    sympy.OneMatrix: lambda scope, e: xp().ones(tuple(map(_size, e.shape)), dtype=scope.dtype),
}
