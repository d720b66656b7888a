"""Eigenvalues of a larger symmetric matrix: reflections make it tridiagonal, and implicit QL steps with Wilkinson's shift diagonal (EISPACK).

Each reflection goes through the matrix once: a row gets the last one's update of rank two, and then its product with the next vector. Their product is formed
in blocks, as in QR, and stands as rows, which the rotations of the QL steps go along.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core.dtype import DType, i64
from ..loop.ir import Accum, Alloc, Bin, Buffer, Call, Expr, For, Int, Lit, Select, Stmt, Store, Un, Var, While, seq, subst
from . import tiles
from .context import in_registers
from .elementwise import number
from .orthogonal import reflected, reflection, scale_of, t_column
from .tiles import Element, Shape, each, filled, stripes

STEPS = 60                                              # for one eigenvalue, at most: two are usual


def eigen(n: int, x: Element, dtype: DType, lanes: int, then: Callable[[Buffer, Buffer, Buffer], Stmt]) -> Stmt:
    """then(eigenvalues, vectors as rows, flag) of the symmetric part of x; the flag is NaN where x is not finite, else 0."""
    s = Shape(n, n, lanes)
    long = -(-max(s.padded_rows, s.padded_columns) // lanes) * lanes
    blocks = -(-(n - 1) // s.panel)
    a, z = tiles.scratch("b", s, dtype), tiles.scratch("v", s, dtype)
    v, t = Buffer("h", (blocks * s.panel, long), dtype, "scratch"), Buffer("t", (blocks * s.panel, s.panel), dtype, "scratch")
    d, e = (Buffer(name, (n + 1,), dtype, "scratch") for name in ("d", "e"))
    flag, scale = Buffer("flag", (1,), dtype, "scratch"), Buffer("size", (1,), dtype, "scratch")
    i, j, zero, one, half = Var("i"), Var("j"), number(0, dtype), number(1, dtype), number(0.5, dtype)

    largest, bad = Buffer("largest", (), dtype, "register"), Buffer("bad", (), dtype, "register")
    grow = seq(Accum(largest, (), Un("abs", a[i, j]), "max"), Accum(bad, (), Bin("*", a[i, j], zero)))
    find = in_registers([largest, bad], seq(Store(largest, (), zero), Store(bad, (), zero), each("i", 0, n, each("j", 0, n, grow)),
                                            Store(scale, (Int(0),), scale_of(largest[()])), Store(flag, (Int(0),), bad[()])))
    scaled = stripes(n, s.padded_columns, lanes, lambda i, j: Store(a, (i, j), a[i, j] / scale[0]))
    clear = seq(stripes(blocks * s.panel, long, lanes, lambda i, j: Store(v, (i, j), zero)),
                each("i", 0, blocks * s.panel, each("j", 0, s.panel, Store(t, (i, j), zero))),
                each("i", 0, n + 1, seq(Store(d, (i,), zero), Store(e, (i,), zero))))
    block = Var("block")
    start = block * s.panel
    product = each("block", 0, blocks, each("tile", 0, s.tiles, reflected(z, v, s, start, s.panel, lambda r, k: t[start + k, r])))
    back = each("i", 0, n, Store(d, (i,), Bin("*", d[i], scale[0])))
    body = seq(filled(a, s, lambda i, j: Bin("*", Bin("+", x(i, j), x(j, i)), half)), find, scaled, clear, _tridiagonal(n, s, a, v, t, d, e, long, lanes),
               filled(z, s, lambda i, j: Select(Bin("==", i, j), one, zero)), product, _ql(n, d, e, z, lanes), back, then(d, z, flag))
    for buf in (a, z, v, t, d, e, flag, scale):
        body = Alloc(buf, body)
    return body


def _tridiagonal(n: int, s: Shape, a: Buffer, v: Buffer, t: Buffer, d: Buffer, e: Buffer, long: int, lanes: int) -> Stmt:
    """Step k: H = 1 - tau h hᵀ clears row k behind its second element. A becomes A - h wᵀ - w hᵀ, w = p - tau (p·h) h / 2, p = tau A h, when the next
    step goes through it; the last h and w are in `old`."""
    dtype, i, j, k, c = a.dtype, Var("i"), Var("j"), Var("step"), Var("c")
    zero = number(0, dtype)
    w, old = Buffer("w", (long,), dtype, "scratch"), Buffer("old", (long,), dtype, "scratch")
    squares, tau, scale, norm, f, g = (Buffer(name, (), dtype, "register") for name in ("squares", "tau", "scale_", "norm", "f", "g"))
    wide, vectors = s.padded_columns // lanes, long // lanes

    def along(lo: Expr, hi: int, f: Callable[[Expr], Stmt]) -> Stmt:
        return each("j", lo, hi, For("c", Int(0), Int(lanes), "simd", f(j * lanes + c)))

    def updated(row: Expr) -> Stmt:
        """The row, less what the last step says."""
        less = along(k // lanes, wide, lambda at: seq(Accum(a, (row, at), Bin("*", f[()], w[at])), Accum(a, (row, at), Bin("*", g[()], old[at]))))
        return in_registers([f, g], seq(Store(f, (), Un("neg", old[row])), Store(g, (), Un("neg", w[row])), less))

    alpha = a[k, k + 1]
    begin = seq(updated(k), Store(d, (k,), a[k, k]), Store(squares, (), zero), each("i", k + 2, n, Accum(squares, (), Bin("*", a[k, i], a[k, i]))),
                reflection(alpha, squares[()], tau, scale, norm),
                Store(e, (k,), Select(Bin("==", squares[()], zero), alpha, Un("neg", Call("copysign", (norm[()], alpha))))),
                Store(v, (k, k + 1), number(1, dtype)), each("i", k + 2, n, Store(v, (k, i), Bin("*", a[k, i], scale[()]))))
    p = Buffer("p", (long,), dtype, "scratch")
    multiplied = tiles.dot(a, (i,), v, (k,), k // lanes, s.padded_columns, lanes, lambda x: Store(p, (i,), Bin("*", tau[()], x)))
    through = each("i", k + 1, n, seq(updated(i), multiplied))
    mean = Buffer("mean", (), dtype, "register")
    place = along(Int(0), vectors, lambda at: seq(Store(w, (at,), Bin("+", p[at], Bin("*", mean[()], v[k, at]))), Store(old, (at,), v[k, at])))
    minus_half = Bin("*", tau[()], number(-0.5, dtype))
    new = Alloc(mean, seq(tiles.dot(p, (), v, (k,), Int(0), long, lanes, lambda x: Store(mean, (), Bin("*", minus_half, x))), place))
    start = k // s.panel * s.panel
    cleared = along(Int(0), vectors, lambda at: Store(p, (at,), zero))
    step = in_registers([squares, tau, scale, norm], seq(begin, cleared, through, new, t_column(v, t, start, k, tau[()], lanes)))
    nothing = along(Int(0), vectors, lambda at: seq(Store(w, (at,), zero), Store(old, (at,), zero)))
    last = subst(seq(updated(k), Store(d, (k,), a[k, k])), {"step": Int(n - 1)})
    return Alloc(w, Alloc(old, Alloc(p, seq(nothing, each("step", 0, n - 1, step), last))))


def _ql(n: int, d: Buffer, e: Buffer, z: Buffer, lanes: int) -> Stmt:
    """Implicit QL steps on the tridiagonal (d, e), until every e is nothing beside its neighbours; the rotations go to the rows of z."""
    dtype, l, j, c = d.dtype, Var("l"), Var("j"), Var("c")
    zero, one, two = number(0, dtype), number(1, dtype), number(2, dtype)
    m, turns = Buffer("m", (), i64, "register"), Buffer("turns", (), i64, "register")
    names = ("g", "r", "sin", "cos", "p", "f", "b")
    g, r, s, cos, p, f, b = (Buffer(name, (), dtype, "register") for name in names)
    one_row, other = Buffer("one", (), dtype, "register"), Buffer("other", (), dtype, "register")
    at = m[()]
    small = Bin("*", number(float(np.finfo(dtype.numpy).eps), dtype), Bin("+", Un("abs", d[at]), Un("abs", d[at + 1])))
    find = seq(Store(m, (), Bin("+", l, Lit(0, i64))), While(Bin("and", Bin("<", at, Lit(n - 1, i64)), Bin("<", small, Un("abs", e[at]))),
                                                             Store(m, (), Bin("+", at, Lit(1, i64)))))

    def root(x: Expr, y: Expr) -> Expr:
        return Un("sqrt", Bin("+", Bin("*", x, x), Bin("*", y, y)))

    begin = seq(Store(g, (), Bin("/", Bin("-", d[l + 1], d[l]), Bin("*", two, e[l]))), Store(r, (), root(g[()], one)),
                Store(g, (), Bin("+", Bin("-", d[at], d[l]), Bin("/", e[l], Bin("+", g[()], Call("copysign", (r[()], g[()])))))),
                Store(s, (), one), Store(cos, (), one), Store(p, (), zero))
    i = at - 1 - Var("turn")

    def lane(column: Expr) -> Stmt:
        return in_registers([one_row, other], seq(
            Store(one_row, (), z[i, column]), Store(other, (), z[i + 1, column]),
            Store(z, (i + 1, column), Bin("+", Bin("*", s[()], one_row[()]), Bin("*", cos[()], other[()]))),
            Store(z, (i, column), Bin("-", Bin("*", cos[()], one_row[()]), Bin("*", s[()], other[()])))))

    nothing = Bin("==", r[()], zero)                    # both are 0: the matrix falls apart here, and no rotation is one
    chase = seq(Store(f, (), Bin("*", s[()], e[i])), Store(b, (), Bin("*", cos[()], e[i])), Store(r, (), root(f[()], g[()])), Store(e, (i + 1,), r[()]),
                Store(s, (), Select(nothing, zero, Bin("/", f[()], r[()]))), Store(cos, (), Select(nothing, one, Bin("/", g[()], r[()]))),
                Store(g, (), Bin("-", d[i + 1], p[()])),
                Store(r, (), Bin("+", Bin("*", Bin("-", d[i], g[()]), s[()]), Bin("*", Bin("*", two, cos[()]), b[()]))),
                Store(p, (), Bin("*", s[()], r[()])), Store(d, (i + 1,), Bin("+", g[()], p[()])),
                Store(g, (), Bin("-", Bin("*", cos[()], r[()]), b[()])),
                each("j", 0, -(-n // lanes), For("c", Int(0), Int(lanes), "simd", lane(j * lanes + c))))
    end = seq(Store(d, (l,), Bin("-", d[l], p[()])), Store(e, (l,), g[()]), Store(e, (at,), zero))
    step = in_registers([g, r, s, cos, p, f, b], seq(*(Store(x, (), zero) for x in (r, f, b)), begin, each("turn", 0, at - l, chase), end))
    more = Bin("and", Bin("!=", at, Bin("+", l, Lit(0, i64))), Bin("<", turns[()], Lit(STEPS, i64)))
    again = While(more, seq(step, find, Store(turns, (), Bin("+", turns[()], Lit(1, i64)))))
    return each("l", 0, n, in_registers([m, turns], seq(find, Store(turns, (), Lit(0, i64)), again)))
