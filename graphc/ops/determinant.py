"""Determinants, and their logarithms. Nodes of their own: their derivatives are shorter than those of the factors they are computed from (`lower.expand`).

The derivative of det is the matrix of cofactors: det(x) x⁻ᵀ where x is regular, and what that tends to where it is not. There x, scaled, gets a border of
three rows and columns, b = [[x, u], [v, w]], which is regular if x lacks at most three ranks. With the inverse [[p, q], [r, s]] of b, Jacobi's theorem on
complementary minors says det x = det b det s; its derivative divides by nothing, so it has any order. Where b is singular too, x lacks four ranks or more,
and the derivatives to third order are 0.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core.dtype import i64
from ..core.types import TensorType, TupleType, Type
from ..ir.node import Graph, Node
from ..ir.op import Op, register
from .branch import attributes, cond
from .check import Array
from .elementwise import abs_, cast, eq, le, lt, mod, sin, stop_gradient, where
from .leaf import input_, splat
from .linalg import lu, regular, solve
from .matrix import column, diagonal, each_column, each_row, identity, matmul, matrices, row, transpose, tril
from .movement import broadcast, pad, slice_
from .reduce import reduce_max, reduce_min, reduce_prod, reduce_sum
from .tuples import get

BORDER = 3
ROUNDING = 1e3                                          # eps: what a pivot may be that is 0 but for rounding


def over(v: Node, like: TensorType) -> Node:
    """A number for each matrix, at each of its places."""
    return broadcast(v, shape=like.shape, axes=(like.rank - 2, like.rank - 1))


def among(v: Node, f: Op) -> Node:
    """f over the places of each matrix."""
    r = v.tensor.rank
    return f(v, axes=(r - 2, r - 1))


def trace(x: Node) -> Node:
    return reduce_sum(diagonal(x), axes=(x.tensor.rank - 2,))


def parity(perm: Node) -> Node:
    """1 or -1: each pair of rows that stands the other way round turns it. (i64)"""
    t = TensorType((*perm.tensor.shape, perm.tensor.shape[-1]), i64)
    turned = tril(cast(lt(each_column(perm, t), each_row(perm, t)), dtype=i64), strict=True)
    odd = mod(among(turned, reduce_sum), splat(2, TensorType(t.shape[:-2], i64)))
    return splat(1, odd) - odd * 2


def signed_product(pivots: Node, perm: Node) -> Node:
    """The determinant, of the diagonal of U and the order of the rows."""
    return reduce_prod(pivots, axes=(pivots.tensor.rank - 1,)) * cast(parity(perm), dtype=pivots.tensor.dtype)


# ---- det -------------------------------------------------------------------------------------------------------------------------------


def _det_type(t: Type) -> TensorType:
    """That of square x without the last two axes."""
    t = matrices("det", t, square=True)
    return TensorType(t.shape[:-2], t.dtype)


def _det_vjp(g: Node, y: Node, x: Node) -> tuple[Node]:
    return (over(g, x.tensor) * cofactors(x),)


det: Op = register(Op("det", "linalg", _det_type, lambda x: np.asarray(np.linalg.det(x), x.dtype), _det_vjp, "The determinant",
                      lambda rng: [([regular(rng, 3, 3)], {}), ([regular(rng, 2, 4, 4)], {}), ([regular(rng, 1, 1)], {}),
                                   ([regular(rng, 3, 3) * [1.0, 1.0, 0.0]], {})]))


# ---- cofactors -------------------------------------------------------------------------------------------------------------------------


def _cofactors_type(t: Type) -> TensorType:
    """That of x, which is square."""
    return matrices("cofactors", t, square=True)


def _cofactors(x: Array, *, evaluate: object) -> Array:
    """Of U diag(s) Vᵀ they are det U det V U diag(the product of all other s, for each) Vᵀ."""
    n, out = x.shape[-1], np.full(x.shape, np.nan, x.dtype)
    for at in np.ndindex(x.shape[:-2]):
        if n and np.isfinite(x[at]).all():
            u, s, vt = np.linalg.svd(x[at])
            others = np.where(np.eye(n, dtype=bool), 1, s).prod(-1)
            out[at] = np.linalg.det(u) * np.linalg.det(vt) * (u * others) @ vt
    return out


def _cofactors_vjp(g: Node, y: Node, x: Node, *, pullback: Callable[..., tuple[Node, ...]]) -> tuple[Node]:
    return (pullback([cofactors_of(x)], [g], [x])[0],)


def cofactors_of(x: Node) -> Node:
    """The cofactors in other ops. One matrix that is as good as singular makes its whole batch go the long way."""
    if 0 in x.tensor.shape:
        return splat(0.0, x)
    bad = _nothing(get(lu(stop_gradient(x)), index=0), among(stop_gradient(abs_(x)), reduce_max))
    some, y = cast(reduce_max(bad, axes=tuple(range(bad.tensor.rank))), dtype=i64), det(x)

    def branch(name: str, f: Callable[[Node, Node, Node], Node]) -> Graph:
        leaves = tuple(input_(name=k, shape=n.tensor.shape, dtype=n.tensor.dtype) for k, n in (("bad", bad), ("det", y), ("x", x)))
        return Graph(leaves, (f(*leaves),), name=name)

    def any_(bad: Node, y: Node, x: Node) -> Node:
        one, here = identity(x.tensor), over(bad, x.tensor)
        return where(here, _of_singular(where(here, x, one)), _of_regular(y, where(here, one, x)))

    both = attributes([branch("regular", lambda bad, y, x: _of_regular(y, x)), branch("singular", any_)])
    return get(cond(some, bad, y, x, **both), index=0)


def _nothing(factors: Node, size: Node) -> Node:
    """Whether the least pivot is 0 but for rounding, beside that size."""
    pivots = abs_(diagonal(factors))
    return le(reduce_min(pivots, axes=(pivots.tensor.rank - 1,)), size * (ROUNDING * float(np.finfo(size.tensor.dtype.numpy).eps)))


def _of_regular(y: Node, x: Node) -> Node:
    return over(y, x.tensor) * solve(x, identity(x.tensor), transposed=True)


def _of_singular(x: Node) -> Node:
    """d det x = det b (det s tr(p dx) - tr(q adj(s) r dx)). What x was divided by comes back among the pivots of b."""
    t = x.tensor
    *lead, n, _ = t.shape
    wide = TensorType((*lead, n + BORDER, n + BORDER), t.dtype)
    largest = among(stop_gradient(abs_(x)), reduce_max)
    scale = where(eq(largest, splat(0.0, largest)), splat(1.0, largest), largest)
    zero = (0,) * t.rank
    b = pad(x / over(scale, t), lo=zero, hi=(*zero[2:], BORDER, BORDER), value=0.0) + _border(wide)
    lacking = over(_nothing(get(lu(stop_gradient(b)), index=0), splat(1.0, largest)), wide)
    b = where(lacking, identity(wide), b)
    factors, back = lu(b), solve(b, identity(wide), transposed=False)

    def block(rows: bool, columns: bool) -> Node:
        starts, stops = (tuple(n * k for k in (rows, columns)), tuple(n + BORDER * k for k in (rows, columns)))
        return slice_(back, starts=(*zero[2:], *starts), stops=(*lead, *stops), steps=(1,) * t.rank)

    p, q, r, s = block(False, False), block(False, True), block(True, False), block(True, True)
    ss, once = matmul(s, s), trace(s)
    half = (once * once - trace(ss)) * 0.5
    adj = ss - s * over(once, s.tensor) + over(half, s.tensor) * identity(s.tensor)                # Cayley and Hamilton, of three rows
    det_s = trace(matmul(adj, s)) * (1.0 / BORDER)
    back_in = pad(broadcast(scale, shape=(*lead, n - 1), axes=(t.rank - 2,)), lo=zero[1:], hi=(*zero[2:], BORDER + 1), value=1.0)
    det_b = signed_product(diagonal(get(factors, index=0)) * back_in, get(factors, index=1))
    out = over(det_b, t) * (over(det_s, t) * p - matmul(q, matmul(adj, r)))
    return where(slice_(lacking, starts=zero, stops=t.shape, steps=(1,) * t.rank), splat(0.0, t), transpose(out))


def _border(wide: TensorType) -> Node:
    """Numbers of no pattern, in the last rows and columns: whatever the ranks that x lacks, they are there."""
    i, j = (cast(k(wide), dtype=wide.dtype) for k in (row, column))
    chirp = sin((i + 1.0) * (i + 2.0) * (j * 2.0 + 3.0) + j * j)
    n = wide.shape[-1] - BORDER
    inside = pad(splat(0.0, TensorType((*wide.shape[:-2], n, n), wide.dtype)), lo=(0,) * wide.rank, hi=(*(0,) * (wide.rank - 2), BORDER, BORDER), value=1.0)
    return inside * chirp


def _of_rank(rng: np.random.Generator, n: int, rank: int) -> Array:
    """Matrices of whole numbers, of at most that rank."""
    return np.asarray(rng.integers(-3, 4, (n, rank)) @ rng.integers(-3, 4, (rank, n)), float)


cofactors: Op = register(Op("cofactors", "linalg", _cofactors_type, _cofactors, _cofactors_vjp,
                            "How the determinant changes with each element: det(x) x⁻ᵀ where x is regular, and finite where it is not",
                            lambda rng: [([regular(rng, 3, 3)], {}), ([np.stack([_of_rank(rng, 4, 3), regular(rng, 4, 4), _of_rank(rng, 4, 2)])], {}),
                                         ([_of_rank(rng, 5, 4)], {})], engine=True))


# ---- log |det| -------------------------------------------------------------------------------------------------------------------------


def _slogdet_type(t: Type) -> TupleType:
    """Twice that of square x without the last two axes."""
    t = matrices("slogdet", t, square=True)
    return TupleType((TensorType(t.shape[:-2], t.dtype),) * 2)


def _slogdet(x: Array) -> tuple[Array, Array]:
    sign, log = np.linalg.slogdet(x)
    return np.asarray(sign, x.dtype), np.asarray(log, x.dtype)


def _slogdet_vjp(g: tuple[Node | None, ...], y: Node, x: Node) -> tuple[Node | None]:
    """g x⁻ᵀ: NaN where x is singular, for there the logarithm has no derivative."""
    return (None if g[1] is None else over(g[1], x.tensor) * solve(x, identity(x.tensor), transposed=True),)


slogdet: Op = register(Op("slogdet", "linalg", _slogdet_type, _slogdet, _slogdet_vjp,
                          "The sign of the determinant, and the logarithm of its absolute value: 0 and -inf where x is singular",
                          lambda rng: [([regular(rng, 3, 3)], {}), ([-regular(rng, 2, 3, 3)], {}), ([regular(rng, 1, 1)], {})]))
