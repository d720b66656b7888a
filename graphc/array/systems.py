"""Linear systems: solutions, inverses, determinants, and the factors they come from. Matrices are the last two axes; the others, a batch, broadcast.

Nothing raises because of the numbers in a matrix, eagerly or compiled, for in a batch others may be well: where a matrix is singular, or not positive
definite, its own results are NaN. Integers become f32.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.types import TensorType
from ..ops import determinant
from ..ops import linalg as ops
from ..trace.apply import apply, apply_several
from ..trace.broadcast import as_tensor, broadcast_shapes, broadcast_to, cast
from ..trace.tensor import Tensor
from .creation import eye
from .dtypes import floating
from .elementwise import where
from .indexing import getitem
from .logic import equal
from .manipulation import expand_dims, matrix_transpose, reshape, squeeze
from .products import operands


class Slogdet(NamedTuple):
    """`slogdet`: the determinant is sign * exp(logabsdet)."""

    sign: Tensor
    logabsdet: Tensor


class LU(NamedTuple):
    """`lu`: x = P L U."""

    P: Tensor
    L: Tensor
    U: Tensor


def matrices_of(name: str, x: Any, square: bool = False) -> Tensor:
    """x, whose last two axes are matrices."""
    x = as_tensor(x)
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        raise GraphError(f"{name} is of {'square ' if square else ''}matrices, got {x.type}", op=name, at=user_loc(),
                         why="matrices are the last two axes" if x.ndim < 2 else f"{x.shape[-2]} rows are not {x.shape[-1]} columns",
                         fix="x[None, :] makes a vector one row" if x.ndim == 1 else "gx.linalg.pinv and gx.linalg.lstsq are for any" if x.ndim > 1 else None)
    return x


def _lead(x: Tensor) -> Tensor:
    """Stands for x with its batch axes alone."""
    return Tensor._blank(TensorType(x.shape[:-2], x.dtype))


def together(name: str, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Matrices in one batch."""
    lead = broadcast_shapes(name, [_lead(a), _lead(b)])
    return broadcast_to(a, (*lead, *a.shape[-2:])), broadcast_to(b, (*lead, *b.shape[-2:]))


def _system(name: str, x1: Any, x2: Any) -> tuple[Tensor, Tensor]:
    """A square matrix and right-hand sides of as many rows, in one floating dtype."""
    a, b = operands(name, x1, x2)
    a, b = (cast(t, floating(t).dtype) for t in (a, b))
    matrices_of(name, a, square=True)
    if b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise GraphError(f"{name} needs as many rows on the right as on the left, got {a.type} and {b.type}", op=name, at=user_loc(),
                         why="the right-hand sides are the columns of the last two axes", fix="b[..., None] where each row of b is a right-hand side")
    return together(name, a, b)


def _columns(x2: Any, solved: Callable[[Tensor], Tensor]) -> Tensor:
    """The solution for columns of right-hand sides, or for one vector."""
    right = as_tensor(x2)
    return squeeze(solved(expand_dims(right, -1)), -1) if right.ndim == 1 else solved(right)


# ---- solutions -------------------------------------------------------------------------------------------------------------------------


def solve(x1: Any, x2: Any, /) -> Tensor:
    """The x of x1 @ x = x2, by LU factors with row exchanges. x2 is a matrix of right-hand sides, or one vector of them; NaN where x1 is singular.

    The derivative is a solution with the same factors, so reverse mode costs two triangular solutions more.

    >>> import graphc as gx
    >>> gx.linalg.solve(gx.tensor([[2.0, 1.0], [1.0, 3.0]]), gx.tensor([3.0, 5.0])).tolist()
    [0.800000011920929, 1.399999976158142]
    """
    return _columns(x2, lambda b: apply(ops.solve, *_system("solve", x1, b), transposed=False))


def inv(x: Any, /) -> Tensor:
    """The inverse of square matrices; NaN where there is none. To solve, `solve` is faster and more exact."""
    a = floating(matrices_of("inv", x, square=True))
    return apply(ops.solve, a, broadcast_to(eye(a.shape[-1], dtype=a.dtype), a.shape), transposed=False)


def solve_triangular(x1: Any, x2: Any, /, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """The x of x1 @ x = x2 (of x @ x1 = x2, with left=False), x1 triangular: its other half is not read. (PyTorch's; x2 may be one vector, as in `solve`.)

    With unitriangular its diagonal counts as 1 and is not read either. A 0 on the diagonal gives infinities or NaN, as the division does.
    """
    mirrored = not left and as_tensor(x2).ndim > 1                              # x a = b is aᵀ xᵀ = bᵀ
    x = _triangular("solve_triangular", x1, matrix_transpose(as_tensor(x2)) if mirrored else x2, lower=not upper, transposed=not left, unit=unitriangular)
    return matrix_transpose(x) if mirrored else x


def _triangular(name: str, x1: Any, x2: Any, *, lower: bool, transposed: bool, unit: bool = False) -> Tensor:
    return _columns(x2, lambda b: apply(ops.triangular_solve, *_system(name, x1, b), lower=lower, transposed=transposed, unit=unit))


# ---- factors ---------------------------------------------------------------------------------------------------------------------------


def cholesky(x: Any, /, *, upper: bool = False) -> Tensor:
    """The triangular L, its diagonal positive, of L @ L.mT = (x + x.mT) / 2; with upper=True its transpose. NaN where that is not positive definite.

    The symmetric part is taken so that the gradient is symmetric, and what differences say of any x.
    """
    y = apply(ops.cholesky, floating(matrices_of("cholesky", x, square=True)))
    return matrix_transpose(y) if upper else y


def cholesky_solve(x: Any, factor: Any, /, *, upper: bool = False) -> Tensor:
    """The y of A @ y = x, where A = L @ L.mT is given by its Cholesky factor. (PyTorch's; x may be one vector.)"""
    first = _triangular("cholesky_solve", factor, x, lower=not upper, transposed=upper)
    return _triangular("cholesky_solve", factor, first, lower=not upper, transposed=not upper)


def lu(x: Any, /) -> LU:
    """Permutation, unit lower and upper triangular matrices of square ones: x = P @ L @ U, the largest of each column as its pivot. (SciPy's.)"""
    a = floating(matrices_of("lu", x, square=True))
    f, perm = apply_several(ops.lu, a)
    one = eye(a.shape[-1], dtype=a.dtype)
    below = where(_below(a), f, 0)
    places = equal(getitem(perm, (..., None, slice(None))), reshape(_count(a), (a.shape[-1], 1)))
    return LU(cast(places, a.dtype), below + one, where(_below(a), 0, f))


def _count(a: Tensor) -> Tensor:
    from .creation import arange
    return arange(a.shape[-1])


def _below(a: Tensor) -> Tensor:
    n = a.shape[-1]
    return reshape(_count(a), (n, 1)) > reshape(_count(a), (1, n))


# ---- determinants ----------------------------------------------------------------------------------------------------------------------


def det(x: Any, /) -> Tensor:
    """The determinant of square matrices: the product of the pivots, 0 where x is singular.

    Its gradient is the matrix of cofactors, singular or not: det(x) inv(x).mT where there is an inverse, of rank 1 where x lacks one rank, else 0. It has any
    order; where x lacks four ranks or more, the orders above three are left at 0. (JAX's is right where the last pivot alone is 0; PyTorch's is 0 where
    x is singular, unless the gradient will be differentiated.)

    >>> import graphc as gx
    >>> gx.grad(gx.linalg.det)(gx.tensor([[1.0, 2.0], [2.0, 4.0]])).tolist()
    [[4.0, -2.0], [-2.0, 1.0]]
    """
    return apply(determinant.det, floating(matrices_of("det", x, square=True)))


def slogdet(x: Any, /) -> Slogdet:
    """The sign of the determinant and the logarithm of its absolute value, which does not overflow; (0, -inf) where x is singular.

    The gradient of the logarithm is inv(x).mT; where x is singular there is none, and it is NaN. (JAX's and PyTorch's is infinite.)
    """
    return Slogdet(*apply_several(determinant.slogdet, floating(matrices_of("slogdet", x, square=True))))
