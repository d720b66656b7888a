"""Linear systems: Cholesky and LU factors, triangular and general solutions. Matrices are the last two axes; those before are a batch, equal in all operands.

What a matrix without an answer gives is NaN, in every evaluator: an exception has no place in the middle of a batch. Derivatives are written in terms of
these ops again, so they have any order (M. Giles, "Collected matrix derivative results", 2008; S. Rothe and others for LU). A solution's is a solution with
the same matrix: the lowering gives both one factorization (`lower.expand`).
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.dtype import i64
from ..core.errors import GraphError
from ..core.types import TensorType, TupleType, Type
from ..ir.node import Node
from ..ir.op import Op, register
from .along import argsort
from .check import Array
from .elementwise import where
from .index import take_along
from .leaf import splat
from .matrix import each_column, matmul, matrices, on_diagonal, transpose, triangle, tril, triu
from .tuples import get


def each_or_nan(f: Callable[..., Array], *arrays: Array) -> Array:
    """f of a batch of matrices; NaN for those that it refuses."""
    try:
        return f(*arrays)
    except np.linalg.LinAlgError:
        out = np.full(arrays[-1].shape, np.nan, arrays[-1].dtype)
        for at in np.ndindex(out.shape[:-2]):
            try:
                out[at] = f(*(a[at] for a in arrays))
            except np.linalg.LinAlgError:
                continue
        return out


def regular(rng: np.random.Generator, *shape: int) -> Array:
    """Matrices far from singular, of any symmetry."""
    return rng.uniform(-1, 1, shape) + 2.0 * np.eye(shape[-1])


def definite(rng: np.random.Generator, *shape: int) -> Array:
    """Matrices whose symmetric part is positive definite."""
    x = rng.uniform(-1, 1, shape)
    return x @ np.swapaxes(x, -1, -2) + np.eye(shape[-1]) + 0.1 * rng.uniform(-1, 1, shape)


# ---- Cholesky --------------------------------------------------------------------------------------------------------------------------


def _cholesky_type(t: Type) -> TensorType:
    """That of x, which is square."""
    return matrices("cholesky", t, square=True)


def _cholesky(x: Array) -> Array:
    half = (x + np.swapaxes(x, -1, -2)) / x.dtype.type(2)
    y = np.tril(each_or_nan(np.linalg.cholesky, half))
    bad = np.isnan(np.diagonal(y, axis1=-2, axis2=-1)).any(-1)[..., None, None]
    return np.where(bad & np.tri(x.shape[-1], dtype=bool), x.dtype.type(np.nan), y)


def _cholesky_vjp(g: Node, y: Node, x: Node) -> tuple[Node]:
    """dx = L⁻ᵀ Φ(Lᵀ g) L⁻¹, Φ the lower triangle with half the diagonal; of it the symmetric part."""
    m = tril(matmul(transpose(y), tril(g)))
    m = where(on_diagonal(m.tensor), m * 0.5, m)
    left = triangular_solve(y, m, lower=True, transposed=True, unit=False)
    both = triangular_solve(y, transpose(left), lower=True, transposed=True, unit=False)       # the transpose of left L⁻¹
    return ((both + transpose(both)) * 0.5,)


cholesky: Op = register(Op("cholesky", "linalg", _cholesky_type, _cholesky, _cholesky_vjp,
                           "The lower L of L Lᵀ = (x + xᵀ) / 2, its diagonal positive; NaN where that is not positive definite",
                           lambda rng: [([definite(rng, 3, 3)], {}), ([definite(rng, 2, 4, 4)], {}), ([definite(rng, 1, 1)], {})]))


# ---- LU --------------------------------------------------------------------------------------------------------------------------------


def _lu_type(t: Type) -> TupleType:
    """That of x, which is square; and without the last axis, i64."""
    t = matrices("lu", t, square=True)
    return TupleType((t, TensorType(t.shape[:-1], i64)))


def _lu(x: Array) -> tuple[Array, Array]:
    """Column by column, all matrices at once: the largest goes to the diagonal, what is below it becomes multipliers."""
    n = x.shape[-1]
    a = np.array(x).reshape(int(np.prod(x.shape[:-2], dtype=np.int64)), n, n)
    perm = np.tile(np.arange(n), (len(a), 1))
    every = np.arange(len(a))
    for k in range(n):
        p = k + np.argmax(np.abs(a[:, k:, k]), 1)
        for rows in (a, perm):
            rows[every, p], rows[:, k] = rows[:, k].copy(), rows[every, p]
        pivot = a[:, k, k]
        a[:, k + 1:, k] /= np.where(pivot == 0, 1, pivot)[:, None]         # a column of zeros is its own multipliers
        a[:, k + 1:, k + 1:] -= a[:, k + 1:, k, None] * a[:, k, None, k + 1:]
    return a.reshape(x.shape), perm.reshape(x.shape[:-1])


def rows_taken(x: Node, perm: Node) -> Node:
    """x[..., perm[i], :] in row i."""
    return take_along(x, each_column(perm, x.tensor.with_dtype(i64)), axis=x.tensor.rank - 2)


def inverse(perm: Node) -> Node:
    return argsort(perm, axis=perm.tensor.rank - 1)


def _lu_vjp(g: tuple[Node | None, ...], y: Node, x: Node) -> tuple[Node | None]:
    """P dx = L⁻ᵀ (tril₋(Lᵀ gL) + triu(gU Uᵀ)) U⁻ᵀ."""
    (ct, _), f = g, get(y, index=0)
    if ct is None:
        return (None,)
    unit = tril(f, strict=True)
    lower = matmul(transpose(unit), tril(ct, strict=True)) + tril(ct, strict=True)
    m = tril(lower, strict=True) + triu(matmul(triu(ct), transpose(triu(f))))
    left = triangular_solve(f, m, lower=True, transposed=True, unit=True)
    both = transpose(triangular_solve(f, transpose(left), lower=False, transposed=False, unit=False))
    return (rows_taken(both, inverse(get(y, index=1))),)


lu: Op = register(Op("lu", "linalg", _lu_type, _lu, _lu_vjp,
                     "L and U of x[perm] = L U in one matrix (the diagonal is U's, L's is 1), and perm: in each column the largest becomes the pivot",
                     lambda rng: [([regular(rng, 3, 3)], {}), ([rng.uniform(-1, 1, (2, 4, 4))], {}), ([regular(rng, 1, 1)], {})]))


# ---- solutions -------------------------------------------------------------------------------------------------------------------------


def _system(name: str, a: Type, b: Type) -> TensorType:
    t, u = matrices(name, a, square=True), matrices(name, b)
    if t.dtype is not u.dtype or t.shape[:-1] != u.shape[:-1]:
        raise GraphError(f"{name} needs as many rows in both, and equal batches and dtypes, got {t} and {u}")
    return u


def _triangular_type(a: Type, b: Type, *, lower: bool, transposed: bool, unit: bool) -> TensorType:
    """That of b; a is square, of as many rows."""
    return _system("triangular_solve", a, b)


def _triangular(a: Array, b: Array, *, lower: bool, transposed: bool, unit: bool) -> Array:
    """Row by row, all columns at once."""
    if transposed:
        a, lower = np.swapaxes(a, -1, -2), not lower
    n, x = a.shape[-1], np.array(b)
    for i in range(n) if lower else reversed(range(n)):
        known = slice(0, i) if lower else slice(i + 1, n)
        rest = b[..., i:i + 1, :] - a[..., i:i + 1, known] @ x[..., known, :]
        x[..., i:i + 1, :] = rest if unit else rest / a[..., i:i + 1, i:i + 1]
    return x


def _triangular_vjp(g: Node, y: Node, a: Node, b: Node, *, lower: bool, transposed: bool, unit: bool) -> tuple[Node, Node]:
    """db = A⁻ᵀ g, dA = -db yᵀ, where a has elements."""
    back = triangular_solve(a, g, lower=lower, transposed=not transposed, unit=unit)
    slope = matmul(y, transpose(back)) if transposed else matmul(back, transpose(y))
    return triangle(-slope, lower, strict=unit), back


def _triangular_samples(rng: np.random.Generator) -> list[Any]:
    flags = [(lower, transposed, unit) for lower in (True, False) for transposed in (False, True) for unit in (False, True)]
    found = [([regular(rng, 3, 3), rng.uniform(-1, 1, (3, 2))], flag) for flag in flags]
    found += [([regular(rng, 2, 4, 4), rng.uniform(-1, 1, (2, 4, 1))], flags[0])]
    return [(arrays, dict(zip(("lower", "transposed", "unit"), flag))) for arrays, flag in found]


triangular_solve: Op = register(Op("triangular_solve", "linalg", _triangular_type, _triangular, _triangular_vjp,
                                   "x of a x = b (or of aᵀ x = b), where a is its lower or upper triangle, with `unit` 1 on the diagonal: the rest is not read",
                                   _triangular_samples))


def _solve_type(a: Type, b: Type, *, transposed: bool) -> TensorType:
    """That of b; a is square, of as many rows."""
    return _system("solve", a, b)


def _solve(a: Array, b: Array, *, transposed: bool) -> Array:
    return each_or_nan(np.linalg.solve, np.swapaxes(a, -1, -2) if transposed else a, b)


def _solve_vjp(g: Node, y: Node, a: Node, b: Node, *, transposed: bool) -> tuple[Node, Node]:
    back = solve(a, g, transposed=not transposed)
    slope = matmul(y, transpose(back)) if transposed else matmul(back, transpose(y))
    return -slope, back


solve: Op = register(Op("solve", "linalg", _solve_type, _solve, _solve_vjp, "x of a x = b, or of aᵀ x = b; NaN where a is singular",
                        lambda rng: [([regular(rng, 3, 3), rng.uniform(-1, 1, (3, 2))], {"transposed": t}) for t in (False, True)]
                        + [([regular(rng, 2, 4, 4), rng.uniform(-1, 1, (2, 4, 1))], {"transposed": False})]))

SYSTEMS = frozenset({"cholesky", "lu", "triangular_solve", "solve", "det", "slogdet", "cofactors"})


def diagonal_is_zero(x: Node) -> Node:
    """Whether there is a 0 on the diagonal, for each matrix."""
    from .elementwise import and_, eq
    from .reduce import reduce_max
    r = x.tensor.rank
    return reduce_max(and_(on_diagonal(x.tensor), eq(x, splat(0.0, x))), axes=(r - 2, r - 1))
