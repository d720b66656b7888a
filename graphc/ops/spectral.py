"""Orthogonal factors and spectra: QR, eigenvalues of symmetric matrices, singular values, pseudo-inverses. Matrices are the last two axes.

What is free is fixed, so that results are functions: R's diagonal is not negative; of an eigenvector, or a right singular vector, the first component that is
at least 0.6 times the largest is positive. The basis of an eigenspace of several dimensions stays free. Derivatives are those of what does not depend on it:
among equal eigenvalues nothing turns. (M. Giles, 2008; J. Townsend, "Differentiating the singular value decomposition", 2016; for QR S. Walter and L. Lehmann,
"Algorithmic differentiation of linear algebra functions", 2010.)
"""
from __future__ import annotations

import numpy as np

from ..core.dims import Dim, Size
from ..core.errors import GraphError
from ..core.types import TensorType, TupleType, Type
from ..ir.node import Node
from ..ir.op import Op, register
from .check import Array, known
from .elementwise import abs_, le, sub, where
from .leaf import splat
from .linalg import SYSTEMS, regular, triangular_solve
from .matrix import each_column, each_row, matmul, matrices, on_diagonal, transpose, tril, triu
from .movement import broadcast, concat, slice_
from .reduce import reduce_max
from .tuples import get

SIGN = 0.6                                              # of the largest component: two of one size, up to rounding, do not compete


def _less(m: Size, n: Size) -> Size:
    """The smaller size; of symbolic ones that differ nothing is known."""
    return m if m == n else min(known("a factorization", m), known("a factorization", n))


# ---- QR --------------------------------------------------------------------------------------------------------------------------------


def _qr_type(t: Type, *, full: bool) -> TupleType:
    """Of x[..., m, n]: [..., m, k] and [..., k, n], k the smaller of m and n, or m with `full`."""
    t = matrices("qr", t)
    *lead, m, n = t.shape
    k = m if full else _less(m, n)
    return TupleType((TensorType((*lead, m, k), t.dtype), TensorType((*lead, k, n), t.dtype)))


def _qr(x: Array, *, full: bool) -> tuple[Array, Array]:
    *lead, m, n = x.shape
    flat = x.reshape(int(np.prod(lead, dtype=np.int64)), m, n)
    pairs = [np.linalg.qr(a, "complete" if full else "reduced") for a in flat]
    k = m if full else min(m, n)
    q, r = np.empty((len(flat), m, k), x.dtype), np.empty((len(flat), k, n), x.dtype)
    for i, (a, b) in enumerate(pairs):
        down = np.ones(k, x.dtype)
        down[:min(k, n)] = np.where(np.diagonal(b) < 0, -1, 1)
        q[i], r[i] = a * down, np.triu(b * down[:, None])
    return q.reshape(*lead, m, k), r.reshape(*lead, k, n)


def _columns(x: Node, lo: int, hi: Size) -> Node:
    t = x.tensor
    return slice_(x, starts=(*(0,) * (t.rank - 1), lo), stops=(*t.shape[:-1], hi), steps=(1,) * t.rank)


def _qr_vjp(g: tuple[Node | None, ...], y: Node, x: Node, *, full: bool) -> tuple[Node]:
    q, r, (gq, gr) = get(y, index=0), get(y, index=1), g
    m, n = x.tensor.shape[-2:]
    if m != n and known("qr", m) > known("qr", n) and full:
        raise GraphError(f"the complete QR of {x.type} has no derivative", op="qr", fix='mode="reduced"',
                         why=f"the columns of Q behind number {n} are any basis of what x does not reach")
    if m == n or known("qr", m) > known("qr", n):
        return (_tall(q, r, gq, gr),)
    square = known("qr", m)
    u, ys = _columns(r, 0, square), _columns(x, square, n)
    if gr is None:
        return (concat(_tall(q, u, gq, None), splat(0.0, ys), axis=x.tensor.rank - 1),)
    gu, gv = _columns(gr, 0, square), _columns(gr, square, n)
    through = matmul(ys, transpose(gv))                                 # of V = Qᵀ Y
    return (concat(_tall(q, u, through if gq is None else gq + through, gu), matmul(q, gv), axis=x.tensor.rank - 1),)


def _tall(q: Node, r: Node, gq: Node | None, gr: Node | None) -> Node:
    """dx = (gQ + Q sym(M)) R⁻ᵀ, M = R gRᵀ - gQᵀ Q, sym the lower triangle on both sides."""
    m: Node | None = None if gr is None else matmul(r, transpose(triu(gr)))
    if gq is not None:
        less = matmul(transpose(gq), q)
        m = -less if m is None else m - less
    assert m is not None
    below = tril(m, strict=True)
    both = matmul(q, tril(m) + transpose(below))
    return transpose(triangular_solve(r, transpose(both if gq is None else gq + both), lower=False, transposed=False, unit=False))


qr: Op = register(Op("qr", "linalg", _qr_type, _qr, _qr_vjp,
                     "Q of orthonormal columns and R, upper triangular with a diagonal >= 0, of x = Q R; with `full` Q is square",
                     lambda rng: [([regular(rng, 3, 3)], {"full": True}), ([regular(rng, 4, 4)[:, :3]], {"full": False}),
                                  ([regular(rng, 5, 5)[:3]], {"full": False}), ([np.stack([regular(rng, 4, 4)[:, :2] for _ in range(2)])], {"full": False})]))


# ---- symmetric matrices ----------------------------------------------------------------------------------------------------------------


def turned(v: Array) -> Array:
    """The sign of each column that the rule of this file gives it."""
    if 0 in v.shape:
        return np.ones((*v.shape[:-2], 1, v.shape[-1]), v.dtype)
    size = np.abs(v)
    first = np.argmax(size >= SIGN * size.max(-2, keepdims=True), -2)
    return np.where(np.take_along_axis(v, first[..., None, :], -2) < 0, -1, 1).astype(v.dtype)


def _eigh_type(t: Type) -> TupleType:
    """Of square x the shape without the last axis, and that of x."""
    t = matrices("eigh", t, square=True)
    return TupleType((TensorType(t.shape[:-1], t.dtype), t))


def _eigh(x: Array) -> tuple[Array, Array]:
    half = (x + np.swapaxes(x, -1, -2)) / x.dtype.type(2)
    w, v = np.full(x.shape[:-1], np.nan, x.dtype), np.full(x.shape, np.nan, x.dtype)
    for at in np.ndindex(x.shape[:-2]):
        if np.isfinite(half[at]).all():
            w[at], v[at] = np.linalg.eigh(half[at])
    return w, v * turned(v)


def _near(a: Node, b: Node, largest: Node) -> Node:
    """Whether numbers of a spectrum are equal, as far as they are known."""
    t = a.tensor
    n = t.shape[-1]
    eps = 8.0 * float(np.finfo(t.dtype.numpy).eps) * (1 if isinstance(n, Dim) else n)
    return le(abs_(sub(a, b)), largest * eps)


def _largest(w: Node, like: TensorType) -> Node:
    r = w.tensor.rank
    return broadcast(reduce_max(abs_(w), axes=(r - 1,)), shape=like.shape, axes=(like.rank - 2, like.rank - 1))


def _inverse_where(different: Node, x: Node) -> Node:
    """1 / x there, else 0."""
    return where(different, splat(1.0, x) / where(different, x, splat(1.0, x)), splat(0.0, x))


def _not(b: Node) -> Node:
    from .elementwise import not_
    return not_(b)


def _eigh_vjp(g: tuple[Node | None, ...], y: Node, x: Node) -> tuple[Node]:
    """dx = V (diag(gw) + F ∘ (Vᵀ gV)) Vᵀ, F = 1 / (wⱼ - wᵢ), 0 among equal ones; of it the symmetric part."""
    w, v, (gw, gv) = get(y, index=0), get(y, index=1), g
    t = v.tensor
    mid: Node | None = None if gw is None else where(on_diagonal(t), each_row(gw, t), splat(0.0, t))
    if gv is not None:
        right, left = each_row(w, t), each_column(w, t)
        turning = matmul(transpose(v), gv) * _inverse_where(_not(_near(right, left, _largest(w, t))), right - left)
        mid = turning if mid is None else mid + turning
    assert mid is not None
    out = matmul(matmul(v, mid), transpose(v))
    return ((out + transpose(out)) * 0.5,)


def _apart(rng: np.random.Generator, *shape: int) -> Array:
    """Matrices whose eigenvalues, and singular values, are apart."""
    return np.asarray(rng.uniform(-0.3, 0.3, shape) + np.diag(np.arange(1.0, shape[-1] + 1)))


eigh: Op = register(Op("eigh", "linalg", _eigh_type, _eigh, _eigh_vjp,
                       "Eigenvalues of (x + xᵀ) / 2, in rising order, and orthonormal eigenvectors, as columns; NaN where x is not finite",
                       lambda rng: [([_apart(rng, 3, 3)], {}), ([_apart(rng, 2, 4, 4)], {}), ([_apart(rng, 1, 1)], {})]))


def _eigvalsh_type(t: Type) -> TensorType:
    """That of square x without the last axis."""
    return TensorType(matrices("eigvalsh", t, square=True).shape[:-1], matrices("eigvalsh", t).dtype)


def _eigvalsh_vjp(g: Node, y: Node, x: Node) -> tuple[Node]:
    """dx = V diag(g) Vᵀ: no gap between eigenvalues is divided by."""
    v = get(eigh(x), index=1)
    out = matmul(v * each_row(g, v.tensor), transpose(v))
    return ((out + transpose(out)) * 0.5,)


eigvalsh: Op = register(Op("eigvalsh", "linalg", _eigvalsh_type, lambda x: _eigh(x)[0], _eigvalsh_vjp, "The eigenvalues of `eigh`, alone",
                           lambda rng: [([_apart(rng, 3, 3)], {}), ([_apart(rng, 2, 4, 4)], {}), ([_apart(rng, 1, 1)], {})]))


# ---- singular values -------------------------------------------------------------------------------------------------------------------


def _svd_type(t: Type) -> TupleType:
    """Of x[..., m, n]: [..., m, k], [..., k] and [..., k, n], k the smaller of m and n."""
    t = matrices("svd", t)
    *lead, m, n = t.shape
    k = _less(m, n)
    return TupleType((TensorType((*lead, m, k), t.dtype), TensorType((*lead, k), t.dtype), TensorType((*lead, k, n), t.dtype)))


def _svd(x: Array) -> tuple[Array, Array, Array]:
    *lead, m, n = x.shape
    k = min(m, n)
    u, s, vt = (np.full(shape, np.nan, x.dtype) for shape in ((*lead, m, k), (*lead, k), (*lead, k, n)))
    for at in np.ndindex(*lead):
        if np.isfinite(x[at]).all() and k:
            u[at], s[at], vt[at] = np.linalg.svd(x[at], full_matrices=False)
    sign = turned(np.swapaxes(vt, -1, -2))
    return u * sign, s, vt * np.swapaxes(sign, -1, -2)


def _svd_vjp(g: tuple[Node | None, ...], y: Node, x: Node) -> tuple[Node]:
    """dx = U (diag(gs) + (J + Jᵀ) S + S (K + Kᵀ)) Vᵀ + (1 - U Uᵀ) gU S⁻¹ Vᵀ + U S⁻¹ gVᵀ (1 - V Vᵀ), J = F ∘ Uᵀ gU, K = F ∘ Vᵀ gV."""
    u, s, vt = (get(y, index=k) for k in range(3))
    gu, gs, gvt = g
    v, ut = transpose(vt), transpose(u)
    *lead, k = s.tensor.shape
    t = TensorType((*lead, k, k), s.tensor.dtype)
    row, column = each_row(s, t), each_column(s, t)
    mid: Node | None = None if gs is None else where(on_diagonal(t), each_row(gs, t), splat(0.0, t))
    f = _inverse_where(_not(_near(row, column, _largest(s, t))), (row - column) * (row + column)) if gu is not None or gvt is not None else None

    def plus(a: Node | None, b: Node) -> Node:
        return b if a is None else a + b

    if gu is not None and f is not None:
        j = matmul(ut, gu) * f
        mid = plus(mid, (j + transpose(j)) * row)
    if gvt is not None and f is not None:
        j = matmul(vt, transpose(gvt)) * f
        mid = plus(mid, column * (j + transpose(j)))
    assert mid is not None
    out = matmul(matmul(u, mid), vt)
    m, n = x.tensor.shape[-2:]
    if gu is not None and m != k:
        over = gu * _inverses(s, gu.tensor)
        out = out + matmul(over - matmul(u, matmul(ut, over)), vt)
    if gvt is not None and n != k:
        under = transpose(transpose(gvt) * _inverses(s, transpose(gvt).tensor))
        out = out + matmul(u, under - matmul(matmul(under, v), vt))
    return (out,)


def _inverses(s: Node, like: TensorType) -> Node:
    """1 / s in each row; 0 where s is 0, as far as it is known."""
    row = each_row(s, like)
    return _inverse_where(_not(_near(row, splat(0.0, row), _largest(s, like))), row)


svd: Op = register(Op("svd", "linalg", _svd_type, _svd, _svd_vjp,
                      "U, singular values in falling order, and Vᵀ of x = U diag(s) Vᵀ, columns of U and rows of Vᵀ orthonormal; NaN where x is not finite",
                      lambda rng: [([_apart(rng, 3, 3)], {}), ([_apart(rng, 4, 4)[:, :2]], {}), ([_apart(rng, 2, 4, 4)[:, :3]], {})]))


def _svdvals_type(t: Type) -> TensorType:
    """Of x[..., m, n]: [..., k], k the smaller of m and n."""
    t = matrices("svdvals", t)
    return TensorType((*t.shape[:-2], _less(*t.shape[-2:])), t.dtype)


def _svdvals_vjp(g: Node, y: Node, x: Node) -> tuple[Node]:
    """dx = U diag(g) Vᵀ."""
    both = svd(x)
    u = get(both, index=0)
    return (matmul(u * each_row(g, u.tensor), get(both, index=2)),)


svdvals: Op = register(Op("svdvals", "linalg", _svdvals_type, lambda x: _svd(x)[1], _svdvals_vjp, "The singular values of `svd`, alone",
                          lambda rng: [([_apart(rng, 3, 3)], {}), ([_apart(rng, 4, 4)[:, :2]], {}), ([_apart(rng, 2, 4, 4)[:, :3]], {})]))


# ---- pseudo-inverses -------------------------------------------------------------------------------------------------------------------


def _pinv_type(t: Type, *, rtol: float) -> TensorType:
    """[..., n, m] of x[..., m, n]."""
    t = matrices("pinv", t)
    return TensorType((*t.shape[:-2], t.shape[-1], t.shape[-2]), t.dtype)


def _pinv(x: Array, *, rtol: float) -> Array:
    u, s, vt = _svd(x)
    keep = s > rtol * s.max(-1, keepdims=True, initial=0)
    inverse = np.where(keep, 1 / np.where(keep, s, 1), s * 0).astype(x.dtype)
    return np.asarray(np.swapaxes(vt, -1, -2) @ (inverse[..., None] * np.swapaxes(u, -1, -2)))


def _pinv_vjp(g: Node, y: Node, x: Node, *, rtol: float) -> tuple[Node]:
    """At constant rank: dx = -Pᵀ g Pᵀ + (1 - x P) gᵀ P Pᵀ + Pᵀ P gᵀ (1 - P x), P the pseudo-inverse."""
    pt, gt = transpose(y), transpose(g)
    right = matmul(matmul(gt, y), pt)
    left = matmul(pt, matmul(y, gt))
    out = right - matmul(x, matmul(y, right)) + left - matmul(matmul(left, y), x)
    return (out - matmul(matmul(pt, g), pt),)


pinv: Op = register(Op("pinv", "linalg", _pinv_type, _pinv, _pinv_vjp,
                       "The pseudo-inverse of Moore and Penrose, singular values up to `rtol` times the largest taken as 0",
                       lambda rng: [([_apart(rng, 3, 3)], {"rtol": 1e-6}), ([_apart(rng, 4, 4)[:, :2]], {"rtol": 1e-6}),
                                    ([_apart(rng, 2, 4, 4)[:, :3]], {"rtol": 1e-6})]))

LINALG = SYSTEMS | {"qr", "eigh", "eigvalsh", "svd", "svdvals", "pinv"}
