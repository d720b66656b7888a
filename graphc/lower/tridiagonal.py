"""Eigenvalues of a larger symmetric matrix: reflections make it tridiagonal, and implicit QL steps with Wilkinson's shift diagonal (EISPACK).

Each reflection goes through the matrix once: a row gets the last one's update of rank two, and then its product with the next vector. Their product is formed
in blocks, as in QR, and stands as rows, which the rotations of the QL steps go along (`rotations`). Where nobody asks for vectors there are none.
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
from .rotations import Sweeps
from .tiles import Element, Shape, each, filled, lanes_of_tile, stripes

STEPS = 60                                              # for one eigenvalue, at most: two are usual


def eigen(n: int, x: Element, dtype: DType, lanes: int, then: Callable[[Buffer, Buffer, Buffer], Stmt], vectors: bool = True) -> Stmt:
    """then(eigenvalues, vectors as rows, flag) of the symmetric part of x; the flag is NaN where x is not finite, else 0."""
    s = Shape(n, n, lanes)
    long = -(-max(s.padded_rows, s.padded_columns) // lanes) * lanes
    blocks = -(-(n - 1) // s.panel)
    a, z = tiles.scratch("b", s, dtype), tiles.scratch("v", s, dtype)
    v, t = Buffer("h", (blocks * s.panel, long), dtype, "scratch"), Buffer("t", (blocks * s.panel, s.panel), dtype, "scratch")
    d, e = (Buffer(name, (n + 1,), dtype, "scratch") for name in ("d", "e"))
    cut = Buffer("cut", (s.tiles, n, s.width), dtype, "scratch")
    flag, scale = Buffer("flag", (1,), dtype, "scratch"), Buffer("size", (1,), dtype, "scratch")
    i, j, zero, one, half = Var("i"), Var("j"), number(0, dtype), number(1, dtype), number(0.5, dtype)
    clear = seq(stripes(blocks * s.panel, long, lanes, lambda i, j: Store(v, (i, j), zero)),
                each("i", 0, blocks * s.panel, each("j", 0, s.panel, Store(t, (i, j), zero))),
                each("i", 0, n + 1, seq(Store(d, (i,), zero), Store(e, (i,), zero))))
    block = Var("block")
    start = block * s.panel
    product = each("block", 0, blocks, each("tile", 0, s.tiles, reflected(z, v, s, start, s.panel, lambda r, k: t[start + k, r])))
    back = each("i", 0, n, Store(d, (i,), Bin("*", d[i], scale[0])))
    reduced = seq(filled(a, s, lambda i, j: Bin("*", Bin("+", x(i, j), x(j, i)), half)), scaled(a, s, flag, scale), clear,
                  _tridiagonal(n, s, a, v, t, d, e, long, lanes, vectors))
    formed = seq(filled(z, s, lambda i, j: Select(Bin("==", i, j), one, zero)), product, _in_stripes(n, s, lambda at, of: Store(cut, at, z[of])))
    if vectors:
        body = seq(reduced, formed, ql(n, d, e, cut), _in_stripes(n, s, lambda at, of: Store(z, of, cut[at])), back, then(d, z, flag))
    else:
        body = seq(reduced, ql(n, d, e, None), back, then(d, z, flag))
    for buf in (a, v, t, d, e, flag, scale, *((z, cut) if vectors else ())):
        body = Alloc(buf, body)
    return body


def scaled(a: Buffer, s: Shape, flag: Buffer, scale: Buffer) -> Stmt:
    """The matrix divided by `scale`, so that squares stay in range; the flag: 0 where every element is finite, else NaN."""
    i, j, zero = Var("i"), Var("j"), number(0, a.dtype)
    largest, bad = Buffer("largest", (), a.dtype, "register"), Buffer("bad", (), a.dtype, "register")
    grow = seq(Accum(largest, (), Un("abs", a[i, j]), "max"), Accum(bad, (), Bin("*", a[i, j], zero)))
    find = in_registers([largest, bad], seq(Store(largest, (), zero), Store(bad, (), zero), each("i", 0, s.rows, each("j", 0, s.columns, grow)),
                                            Store(scale, (Int(0),), scale_of(largest[()])), Store(flag, (Int(0),), bad[()])))
    return seq(find, stripes(s.rows, s.padded_columns, s.lanes, lambda i, j: Store(a, (i, j), a[i, j] / scale[0])))


def _in_stripes(n: int, s: Shape, f: Callable[[tuple[Expr, ...], tuple[Expr, ...]], Stmt]) -> Stmt:
    """f(place in the stripes, place in the matrix) for all of it."""
    i, tile = Var("i"), Var("tile")
    return each("tile", 0, s.tiles, each("i", 0, n, lanes_of_tile(s.width, lambda c: f((tile, i, c), (i, tile * s.width + c)))))


def _tridiagonal(n: int, s: Shape, a: Buffer, v: Buffer, t: Buffer, d: Buffer, e: Buffer, long: int, lanes: int, vectors: bool) -> Stmt:
    """Step k: H = 1 - tau h hᵀ clears column k below its second element. A becomes A - h wᵀ - w hᵀ, w = p - tau (p·h) h / 2, p = tau A h, when the next
    step goes through it; the last h and w are in `old`. Of A only the lower half is kept, up to the squares of `lanes` rows on the diagonal."""
    dtype, i, j, k, c = a.dtype, Var("i"), Var("j"), Var("step"), Var("c")
    zero = number(0, dtype)
    w, old, p, x = (Buffer(name, (long,), dtype, "scratch") for name in ("w", "old", "p", "column"))
    squares, tau, scale, norm, f, g, h = (Buffer(name, (), dtype, "register") for name in ("squares", "tau", "scale_", "norm", "f", "g", "times"))
    part, total = Buffer("part", (lanes,), dtype, "register"), Buffer("total", (), dtype, "register")

    def vector(at: Expr, f: Callable[[Expr], Stmt]) -> Stmt:
        return For("c", Int(0), Int(lanes), "simd", f(at * lanes + c))

    def along(lo: Expr, hi: Expr | int, f: Callable[[Expr], Stmt]) -> Stmt:
        return each("j", lo, hi, vector(j, f))

    def less(at: Expr) -> Stmt:
        """The row's vector, less what the last step says."""
        return seq(Accum(a, (i, at), Bin("*", f[()], w[at])), Accum(a, (i, at), Bin("*", g[()], old[at])), Accum(part, (c,), Bin("*", a[i, at], v[k, at])))

    now = Bin("-", Bin("-", a[i, k], Bin("*", old[i], w[k])), Bin("*", w[i], old[k]))
    alpha = x[k + 1]
    begin = seq(each("i", k, n, Store(x, (i,), now)), Store(d, (k,), x[k]), Store(squares, (), zero),
                each("i", k + 2, n, Accum(squares, (), Bin("*", x[i], x[i]))), reflection(alpha, squares[()], tau, scale, norm),
                Store(e, (k,), Select(Bin("==", squares[()], zero), alpha, Un("neg", Call("copysign", (norm[()], alpha))))),
                Store(v, (k, k + 1), number(1, dtype)), each("i", k + 2, n, Store(v, (k, i), Bin("*", x[i], scale[()]))))
    own = i // lanes
    one = in_registers([part, total, f, g, h], seq(
        Store(f, (), Un("neg", old[i])), Store(g, (), Un("neg", w[i])), Store(h, (), v[k, i]), vector(Int(0), lambda _: Store(part, (c,), zero)),
        along(k // lanes, own, lambda at: seq(less(at), Accum(p, (at,), Bin("*", h[()], a[i, at])))), vector(own, less),
        Store(total, (), zero), vector(Int(0), lambda _: Accum(total, (), part[c])), Accum(p, (i,), total[()])))
    through = each("i", k + 1, n, one)
    mean = Buffer("mean", (), dtype, "register")
    place = along(Int(0), long // lanes, lambda at: seq(Store(w, (at,), Bin("*", tau[()], Bin("+", p[at], Bin("*", mean[()], v[k, at])))),
                                                        Store(old, (at,), v[k, at])))
    minus_half = Bin("*", tau[()], number(-0.5, dtype))
    new = Alloc(mean, seq(tiles.dot(p, (), v, (k,), k // lanes, long, lanes, lambda x: Store(mean, (), Bin("*", minus_half, x))), place))
    start = k // s.panel * s.panel
    cleared = along(Int(0), long // lanes, lambda at: Store(p, (at,), zero))
    step = in_registers([squares, tau, scale, norm], seq(begin, cleared, through, new, *([t_column(v, t, start, k, tau[()], lanes)] if vectors else [])))
    nothing = along(Int(0), long // lanes, lambda at: seq(Store(w, (at,), zero), Store(old, (at,), zero)))
    last = Store(d, (Int(n - 1),), subst(now, {"i": Int(n - 1), "step": Int(n - 1)}))
    body = seq(nothing, each("step", 0, n - 1, step), last)
    for buf in (w, old, p, x):
        body = Alloc(buf, body)
    return body


def ql(n: int, d: Buffer, e: Buffer, z: Buffer | None) -> Stmt:
    """Implicit QL steps on the tridiagonal (d, e), until every e is nothing beside its neighbours; the rotations go to the rows of z."""
    dtype, l = d.dtype, Var("l")
    zero, one, two = number(0, dtype), number(1, dtype), number(2, dtype)
    m, turns = Buffer("m", (), i64, "register"), Buffer("turns", (), i64, "register")
    names = ("g", "r", "sin", "cos", "p", "f", "b")
    g, r, s, cos, p, f, b = (Buffer(name, (), dtype, "register") for name in names)
    sweeps = None if z is None else Sweeps.of(z)
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
    nothing = Bin("==", r[()], zero)                    # both are 0: the matrix falls apart here, and no rotation is one
    chase = seq(Store(f, (), Bin("*", s[()], e[i])), Store(b, (), Bin("*", cos[()], e[i])), Store(r, (), root(f[()], g[()])), Store(e, (i + 1,), r[()]),
                Store(s, (), Select(nothing, zero, Bin("/", f[()], r[()]))), Store(cos, (), Select(nothing, one, Bin("/", g[()], r[()]))),
                Store(g, (), Bin("-", d[i + 1], p[()])),
                Store(r, (), Bin("+", Bin("*", Bin("-", d[i], g[()]), s[()]), Bin("*", Bin("*", two, cos[()]), b[()]))),
                Store(p, (), Bin("*", s[()], r[()])), Store(d, (i + 1,), Bin("+", g[()], p[()])),
                Store(g, (), Bin("-", Bin("*", cos[()], r[()]), b[()])),
                *([sweeps.keep(i, cos[()], s[()])] if sweeps else []))
    end = seq(Store(d, (l,), Bin("-", d[l], p[()])), Store(e, (l,), g[()]), Store(e, (at,), zero))
    step = in_registers([g, r, s, cos, p, f, b], seq(*(Store(x, (), zero) for x in (r, f, b)), begin, *([sweeps.start()] if sweeps else []),
                                                       each("turn", 0, at - l, chase), end, *([sweeps.end(l, at)] if sweeps else [])))
    more = Bin("and", Bin("!=", at, Bin("+", l, Lit(0, i64))), Bin("<", turns[()], Lit(STEPS, i64)))
    again = While(more, seq(step, find, Store(turns, (), Bin("+", turns[()], Lit(1, i64)))))
    steps = each("l", 0, n, in_registers([m, turns], seq(find, Store(turns, (), Lit(0, i64)), again)))
    return sweeps.around(steps) if sweeps else steps

