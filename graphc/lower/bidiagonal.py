"""Singular values alone of a larger square matrix: reflections from both sides make it bidiagonal (Golub and Kahan, 1965).

With the bidiagonal b, [[0, b], [bᵀ, 0]] is tridiagonal once its rows alternate: 0 on the diagonal, and beside it b's elements in turn. Its eigenvalues, by the
QL steps of `tridiagonal`, are the singular values and their negatives. A step goes through the matrix twice: the first time for the product with the left
vector, the second to apply both reflections, a row while it is at hand.
"""
from __future__ import annotations

from collections.abc import Callable

from ..core.dtype import DType
from ..loop.ir import Accum, Alloc, Bin, Buffer, Call, Expr, For, Int, Select, Stmt, Store, Un, Var, seq
from . import tiles
from .context import in_registers
from .elementwise import number
from .orthogonal import reflection
from .tiles import Element, Shape, each, filled
from .tridiagonal import ql, scaled


def values(n: int, x: Element, dtype: DType, lanes: int, then: Callable[[Buffer, Buffer], Stmt]) -> Stmt:
    """then(2 n numbers: the singular values of x and their negatives, flag); the flag is NaN where x is not finite, else 0."""
    s = Shape(n, n, lanes)
    a = tiles.scratch("b", s, dtype)
    d, e = (Buffer(name, (2 * n + 1,), dtype, "scratch") for name in ("d", "e"))
    flag, scale = Buffer("flag", (1,), dtype, "scratch"), Buffer("size", (1,), dtype, "scratch")
    i, zero = Var("i"), number(0, dtype)
    clear = each("i", 0, 2 * n + 1, seq(Store(d, (i,), zero), Store(e, (i,), zero)))
    back = each("i", 0, 2 * n, Store(d, (i,), Bin("*", d[i], scale[0])))
    body = seq(filled(a, s, x), scaled(a, s, flag, scale), clear, _bidiagonal(n, s, a, e, lanes), ql(2 * n, d, e, None), back, then(d, flag))
    for buf in (a, d, e, flag, scale):
        body = Alloc(buf, body)
    return body


def _bidiagonal(n: int, s: Shape, a: Buffer, e: Buffer, lanes: int) -> Stmt:
    """Step k: H = 1 - tau h hᵀ from the left clears column k below the diagonal; G = 1 - sigma g gᵀ from the right row k behind its next element."""
    dtype, i, j, k, c = a.dtype, Var("i"), Var("j"), Var("step"), Var("c")
    zero, one, wide = number(0, dtype), number(1, dtype), s.padded_columns // lanes
    h, w, g = (Buffer(name, (size,), dtype, "scratch") for name, size in (("h", n), ("w", s.padded_columns), ("g", s.padded_columns)))
    names = ("squares", "tau", "scale_", "norm", "sigma", "by", "f")
    squares, tau, scale, norm, sigma, by, f = (Buffer(name, (), dtype, "register") for name in names)

    def along(lo: Expr, value: Callable[[Expr], Stmt]) -> Stmt:
        return each("j", lo, wide, For("c", Int(0), Int(lanes), "simd", value(j * lanes + c)))

    def pivot(alpha: Expr) -> Expr:
        return Select(Bin("==", squares[()], zero), alpha, Un("neg", Call("copysign", (norm[()], alpha))))

    here = k // lanes
    left = seq(Store(squares, (), zero), each("i", k + 1, n, Accum(squares, (), Bin("*", a[i, k], a[i, k]))),
               reflection(a[k, k], squares[()], tau, scale, norm),
               Store(e, (k * 2,), pivot(a[k, k])), Store(h, (k,), one), each("i", k + 1, n, Store(h, (i,), Bin("*", a[i, k], scale[()]))))
    add = along(here, lambda at: Accum(w, (at,), Bin("*", f[()], a[i, at])))
    product = seq(along(here, lambda at: Store(w, (at,), zero)), each("i", k, n, in_registers([f], seq(Store(f, (), Bin("*", tau[()], h[i])), add))))

    def less(row: Expr, of: Expr, buf: Buffer) -> Stmt:
        return in_registers([f], seq(Store(f, (), Un("neg", of)), along(here, lambda at: Accum(a, (row, at), Bin("*", f[()], buf[at])))))

    alpha = a[k, k + 1]
    right = seq(Store(squares, (), zero), each("i", k + 2, n, Accum(squares, (), Bin("*", a[k, i], a[k, i]))),
                reflection(alpha, squares[()], sigma, scale, norm),
                Store(e, (k * 2 + 1,), pivot(alpha)), along(Int(0), lambda at: Store(g, (at,), zero)), Store(g, (k + 1,), one),
                each("i", k + 2, n, Store(g, (i,), Bin("*", a[k, i], scale[()]))))
    both = each("i", k + 1, n, seq(less(i, h[i], w), tiles.dot(a, (i,), g, (), here, s.padded_columns, lanes,
                                                                lambda x: seq(Store(by, (), Bin("*", sigma[()], x)), less(i, by[()], g)))))
    step = in_registers([squares, tau, scale, norm, sigma, by], seq(*(Store(r, (), zero) for r in (sigma, by)), left, product, less(k, one, w), right, both))
    end = Store(e, (Int(2 * n - 2),), a[n - 1, n - 1])
    return Alloc(h, Alloc(w, Alloc(g, seq(each("step", 0, n - 1, step), end))))
