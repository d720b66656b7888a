"""Matrices in the last two axes: their diagonals, norms and powers, and vectors of three."""
from __future__ import annotations

import math
from typing import Any

from ..core.dims import Dim
from ..core.dtype import bool_
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..trace.broadcast import as_tensor, broadcast_to
from ..trace.tensor import Tensor
from .creation import eye, zeros_like
from .dtypes import floating
from .elementwise import abs as abs_
from .elementwise import multiply, where
from .indexing import getitem
from .manipulation import expand_dims, pad, reshape, roll
from .spectra import svdvals
from .statistics import max as max_
from .statistics import min as min_
from .statistics import sum as sum_
from .statistics import vector_norm
from .systems import inv, matrices_of


def diagonal(x: Any, /, *, offset: int = 0) -> Tensor:
    """The elements x[..., i, i + offset], along the last axis of the result."""
    x = matrices_of("diagonal", x)
    m, n = x.shape[-2:]
    if isinstance(m, Dim) or isinstance(n, Dim):
        raise GraphError(f"the diagonal of {x.type}, whose size is symbolic", op="diagonal", at=user_loc(),
                         fix="gx.sum(gx.where(gx.eye(n) > 0, x, 0), axis=-1)")
    i, j = max(-offset, 0), max(offset, 0)
    k = max(0, min(m - i, n - j))
    square = getitem(x, (..., slice(i, i + k), slice(j, j + k)))
    return getitem(reshape(square, (*x.shape[:-2], k * k)), (..., slice(None, None, k + 1)))      # as if flat, every k + 1st is on the diagonal


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Tensor:
    """The sum along a diagonal. Integers sum as i64, unsigned ones as u64."""
    return sum_(diagonal(x, offset=offset), axis=-1, dtype=dtype)


def cross(x: Any, y: Any, /, *, axis: int = -1) -> Tensor:
    """The vector product of vectors of three along an axis, which counts from the end; the other axes broadcast."""
    a, b = as_tensor(x), as_tensor(y)
    if not -min(a.ndim, b.ndim) <= axis < 0 or a.shape[axis] != 3 or b.shape[axis] != 3:
        raise GraphError(f"cross needs vectors of 3 along an axis that counts from the end, got {a.type} and {b.type} along {axis}", op="cross", at=user_loc(),
                         fix="axis=-1, say")
    return multiply(roll(a, -1, axis=axis), roll(b, -2, axis=axis)) - multiply(roll(a, -2, axis=axis), roll(b, -1, axis=axis))


def kron(x: Any, y: Any, /) -> Tensor:
    """The Kronecker product: y in the place of each element of x, multiplied by it. As in NumPy, of any and different ranks."""
    a, b = as_tensor(x), as_tensor(y)
    rank = max(a.ndim, b.ndim)
    m, n = ((1,) * (rank - t.ndim) + t.shape for t in (a, b))
    wide = reshape(a, tuple(s for i in m for s in (i, 1))) * reshape(b, tuple(s for j in n for s in (1, j)))
    return reshape(wide, tuple(i * j for i, j in zip(m, n)))


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    """A norm of the matrices: "fro", the root of the sum of squares; 1 and -1, the largest and least sum of |x| of a column; inf and -inf, of a row; 2, -2 and
    "nuc", the largest and least singular value, and their sum."""
    x = floating(matrices_of("matrix_norm", x))
    if ord == "fro":
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord in (2, -2, "nuc"):
        s = svdvals(x)
        out = sum_(s, axis=-1) if ord == "nuc" else (max_ if ord == 2 else min_)(s, axis=-1)
        return expand_dims(expand_dims(out, -1), -1) if keepdims else out
    if ord not in (1, -1, math.inf, -math.inf):
        raise GraphError(f"there is no matrix norm {ord!r}", op="matrix_norm", at=user_loc(), fix='"fro", "nuc", 1, -1, 2, -2, inf or -inf')
    sums = sum_(abs_(x), axis=-2 if abs(ord) == 1 else -1, keepdims=True)
    return (max_ if ord > 0 else min_)(sums, axis=(-2, -1), keepdims=keepdims)


def norm(x: Any, /, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    """NumPy's `linalg.norm`: of the vector along an axis, of the matrices in the last two (axis=(-2, -1)), and without an axis of x as its rank says.

    Without `ord` it is the root of the sum of squares, of a tensor of any rank.
    """
    x = floating(x)
    if ord is None:
        return vector_norm(x, axis=axis, keepdims=keepdims)
    if axis is None and x.ndim not in (1, 2):
        raise GraphError(f"norm {ord!r} of {x.type} needs an axis", op="norm", at=user_loc())
    pair = x.ndim == 2 if axis is None else isinstance(axis, (tuple, list)) and len(axis) == 2
    if not pair:
        return vector_norm(x, axis=axis, keepdims=keepdims, ord=ord)
    if axis is not None and tuple(a % x.ndim for a in axis) != (x.ndim - 2, x.ndim - 1):
        raise GraphError(f"norm of the matrices in axes {tuple(axis)} of {x.type}", op="norm", at=user_loc(), why="matrices are in the last two axes",
                         fix="gx.moveaxis first")
    return matrix_norm(x, keepdims=keepdims, ord=ord)


def matrix_power(x: Any, n: int, /) -> Tensor:
    """The n-th power of square matrices, by squaring: the identity for 0, powers of the inverse below."""
    x = matrices_of("matrix_power", x, square=True)
    n = n.__index__()
    if n < 0:
        x, n = inv(x), -n
    if n == 0:
        return broadcast_to(eye(x.shape[-1], dtype=x.dtype), x.shape)
    out: Tensor | None = None
    while True:
        if n & 1:
            out = x if out is None else out @ x
        n >>= 1
        if not n:
            assert out is not None
            return out
        x = x @ x


def diag(x: Any, /, *, offset: int = 0) -> Tensor:
    """Of a vector the matrix with it on a diagonal and 0 elsewhere; of a matrix its diagonal. (NumPy's `diag`.)"""
    x = as_tensor(x)
    if x.ndim != 1:
        return diagonal(x, offset=offset)
    n, k = x.shape[0], abs(offset)
    lines = pad(x, [(0, k)])
    there = eye(n + k, k=offset, dtype=bool_)
    rows = reshape(lines, (n + k, 1) if offset >= 0 else (1, n + k))
    return where(there, rows, zeros_like(rows))


__all__ = ["cross", "diag", "diagonal", "kron", "matrix_norm", "matrix_power", "norm", "trace"]
