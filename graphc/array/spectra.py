"""Orthogonal factors, eigenvalues, singular values and what is made of them. Matrices are the last two axes; the others are a batch. Integers become f32.

Signs are fixed: R's diagonal is not negative; of an eigenvector, or of a row of Vh, the first component that is at least 0.6 times the largest is positive.
The basis of an eigenspace of several dimensions is any: differentiate what does not depend on it. Where x is not finite, results are NaN.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..core.errors import GraphError
from ..core.loc import user_loc
from ..ops import spectral as ops
from ..trace.apply import apply, apply_several
from ..trace.broadcast import as_tensor, broadcast_to, cast
from ..trace.tensor import Tensor
from .control import while_loop
from .creation import eye
from .dtypes import floating
from .elementwise import abs as abs_
from .elementwise import ceil, log2, maximum, minimum, multiply, pow, where
from .indexing import getitem
from .manipulation import concat, expand_dims, matrix_transpose, squeeze
from .products import matmul, operands
from .statistics import any as any_
from .statistics import max as max_
from .statistics import sum as sum_
from .systems import matrices_of, solve


class QR(NamedTuple):
    """`qr`: x = Q @ R."""

    Q: Tensor
    R: Tensor


class Eigh(NamedTuple):
    """`eigh`: x @ eigenvectors = eigenvectors * eigenvalues."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class SVD(NamedTuple):
    """`svd`: x = (U * S) @ Vh."""

    U: Tensor
    S: Tensor
    Vh: Tensor


class Lstsq(NamedTuple):
    """`lstsq`: the solution, the sum of squares of each column of x1 @ solution - x2, the rank of x1, and its singular values."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


def qr(x: Any, /, *, mode: str = "reduced") -> QR:
    """Q of orthonormal columns and R, upper triangular with a diagonal >= 0, of x = Q @ R, by reflections. mode="complete": Q is square.

    The derivative is that of a matrix of full rank; the complete Q of a tall matrix has none, since its last columns are any basis.
    """
    if mode not in ("reduced", "complete"):
        raise GraphError(f"qr: there is no mode {mode!r}", op="qr", at=user_loc(), fix='"reduced" or "complete"')
    return QR(*apply_several(ops.qr, floating(matrices_of("qr", x)), full=mode == "complete"))


# ---- eigenvalues -----------------------------------------------------------------------------------------------------------------------


def eigh(x: Any, /) -> Eigh:
    """Eigenvalues, in rising order, and orthonormal eigenvectors, as columns, of the symmetric (x + x.mT) / 2.

    Among equal eigenvalues (to 8 n eps of the largest) the vectors do not turn in the derivative, so it is right for what depends on the eigenspace alone.
    (JAX's and PyTorch's is NaN there.)

    >>> import graphc as gx
    >>> gx.linalg.eigh(gx.tensor([[2.0, 1.0], [1.0, 2.0]])).eigenvalues.tolist()
    [1.0, 3.0]
    """
    return Eigh(*apply_several(ops.eigh, floating(matrices_of("eigh", x, square=True))))


def eigvalsh(x: Any, /) -> Tensor:
    """The eigenvalues of the symmetric (x + x.mT) / 2, in rising order. Their derivative does not ask whether they are equal."""
    return apply(ops.eigvalsh, floating(matrices_of("eigvalsh", x, square=True)))


# ---- singular values -------------------------------------------------------------------------------------------------------------------


def svd(x: Any, /, *, full_matrices: bool = True) -> SVD:
    """Singular values, in falling order, and vectors. full_matrices=False: as many as there are values; else U and Vh are square.

    The derivative is that of full_matrices=False (or of a square x): what completes the vectors is any basis, and has none. Among equal values, as in `eigh`.
    """
    a = floating(matrices_of("svd", x))
    u, s, vh = apply_several(ops.svd, a)
    m, n = a.shape[-2:]
    if full_matrices and m != n:
        if m > n:
            u = _completed(u)
        else:
            vh = matrix_transpose(_completed(matrix_transpose(vh)))
    return SVD(u, s, vh)


def _completed(u: Tensor) -> Tensor:
    """Orthonormal columns, with those that make them a basis behind them."""
    return concat([u, getitem(qr(u, mode="complete").Q, (..., slice(u.shape[-1], None)))], axis=-1)


def svdvals(x: Any, /) -> Tensor:
    """The singular values, in falling order. Their derivative does not ask whether they are equal."""
    return apply(ops.svdvals, floating(matrices_of("svdvals", x)))


def _rtol(x: Tensor, rtol: Any) -> Any:
    """The standard's: the larger size times eps."""
    return max(x.shape[-2:]) * float(np.finfo(x.dtype.numpy).eps) if rtol is None else rtol


def _kept(s: Tensor, rtol: Any) -> Tensor:
    """Which singular values count."""
    largest = max_(s, axis=-1, keepdims=True) if s.shape[-1] else s
    return s > multiply(largest, expand_dims(rtol, -1) if isinstance(rtol, Tensor) and rtol.ndim else rtol)


def pinv(x: Any, /, *, rtol: Any = None) -> Tensor:
    """The pseudo-inverse: singular values up to rtol times the largest (None: the larger size times eps) count as 0.

    The derivative is that at constant rank, whether singular values are equal or not; with a Tensor as rtol it is taken through them.
    """
    a = floating(matrices_of("pinv", x))
    rtol = _rtol(a, rtol)
    if isinstance(rtol, (int, float)):
        return apply(ops.pinv, a, rtol=float(rtol))
    u, s, vh = svd(a, full_matrices=False)
    keep = _kept(s, as_tensor(rtol))
    return matmul(matrix_transpose(vh) * expand_dims(where(keep, 1 / where(keep, s, 1), 0), -2), matrix_transpose(u))


def matrix_rank(x: Any, /, *, rtol: Any = None) -> Tensor:
    """How many singular values (i64) are more than rtol times the largest (None: the larger size times eps)."""
    a = floating(matrices_of("matrix_rank", x))
    rtol = _rtol(a, rtol)
    return sum_(_kept(svdvals(a), rtol if isinstance(rtol, (int, float)) else as_tensor(rtol)), axis=-1)


def cond(x: Any, /, p: Any = None) -> Tensor:
    """The condition number: the norm of x times that of its inverse; of p None or 2 the ratio of the extreme singular values, of any matrix. (NumPy's.)

    Of a singular matrix it is infinite (p None or 2), or NaN, and so is its gradient.
    """
    from .matrices import matrix_norm
    from .systems import inv
    if p is None or p == 2 or p == -2:
        s = svdvals(x)
        first, last = (getitem(s, (..., k)) for k in (0, -1))
        return last / first if p == -2 else first / last
    return matrix_norm(x, ord=p) * matrix_norm(inv(x), ord=p)


def lstsq(x1: Any, x2: Any, /, *, rcond: float | None = None) -> Lstsq:
    """The smallest of the x for which the sum of squares of x1 @ x - x2 is least, for x1 of any shape and rank. (NumPy's and PyTorch's.)

    x2 holds right-hand sides as columns, or is one vector. rcond: as rtol of `pinv`. The residuals are always there, whatever the rank. The derivative of the
    solution is `pinv`'s, at constant rank, as PyTorch's; JAX's is NaN where x1 is not of full rank.

    >>> import graphc as gx
    >>> gx.linalg.lstsq(gx.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), gx.tensor([1.0, 3.0, 5.0])).rank.item()
    2
    """
    right = as_tensor(x2)
    a, b = operands("lstsq", x1, expand_dims(right, -1) if right.ndim == 1 else right)
    a, b = (cast(t, floating(t).dtype) for t in (a, b))
    matrices_of("lstsq", a)
    if b.ndim < 2 or a.shape[-2] != b.shape[-2]:
        raise GraphError(f"lstsq needs as many rows on the right as on the left, got {a.type} and {b.type}", op="lstsq", at=user_loc())
    x = matmul(pinv(a, rtol=rcond), b)
    rest = matmul(a, x) - b
    squares, values = sum_(rest * rest, axis=-2), svdvals(a)
    rank = sum_(_kept(values, _rtol(a, rcond)), axis=-1)
    return Lstsq(squeeze(x, -1), squeeze(squares, -1), rank, values) if right.ndim == 1 else Lstsq(x, squares, rank, values)


# ---- exponential -----------------------------------------------------------------------------------------------------------------------

SQUARINGS = 24                                          # at most
PADE = {"f32": (3.925724783138660, (17297280, 8648640, 1995840, 277200, 25200, 1512, 56, 1)),
        "f64": (5.371920351148152, (64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000, 10559470521600, 670442572800,
                                    33522128640, 1323241920, 40840800, 960960, 16380, 182, 1))}


def expm(x: Any, /) -> Tensor:
    """The exponential of square matrices: a Padé approximant of x / 2^s, squared s times (N. Higham, 2005). NaN where the norm is beyond 6e7.

    As many squarings are done as the largest matrix of the batch needs, of each those that it needs.
    """
    a = floating(matrices_of("expm", x, square=True))
    if a.dtype.name not in PADE:
        raise GraphError(f"expm does not compute in {a.dtype}, got {a.type}", op="expm", at=user_loc(), fix=".astype(gx.float32) first")
    if a.size == 0:
        return a
    bound, c = PADE[a.dtype.name]
    size = max_(sum_(abs_(a.detach()), axis=-2), axis=-1)
    times = maximum(ceil(log2(size / bound)), 0)
    s = where(times <= SQUARINGS, times, 0)
    a = a * expand_dims(expand_dims(where(times <= SQUARINGS, pow(2, -minimum(s, SQUARINGS)), np.nan), -1), -1)
    one = broadcast_to(eye(a.shape[-1], dtype=a.dtype), a.shape)
    a2 = matmul(a, a)
    even, odd, power = one * c[0], one * c[1], one
    for k in range(2, len(c), 2):
        power = matmul(power, a2) if k > 2 else a2
        even, odd = (even + power * c[k], odd + power * c[k + 1]) if k + 1 < len(c) else (even + power * c[k], odd)
    odd = matmul(a, odd)
    r = solve(even - odd, even + odd)
    deep = expand_dims(expand_dims(s, -1), -1)

    def turn(carry: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        k, y = carry
        return k + 1, where(k < deep, matmul(y, y), y)

    out: Tensor = while_loop(lambda carry: any_(carry[0] < s), turn, (cast(as_tensor(0), a.dtype), r), max_steps=SQUARINGS)[1]
    return out
