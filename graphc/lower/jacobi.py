"""Eigenvalues and singular values by Jacobi's rotations: of rows in pairs, in sweeps, until none is needed. Each lane can have a matrix of its own, and small
eigenvalues of definite matrices come out as exactly as large ones (Demmel and Veselić, 1992). Larger symmetric matrices are made tridiagonal (`tridiagonal`).

Symmetric matrices are rotated from both sides until they are diagonal; of any other the rows are, until they are orthogonal (Hestenes, 1958). Then the norms
are the singular values, and QR of the rows in falling order makes unit vectors of them, whatever the rank. Rotations are kept as rows: the vectors, transposed.
"""
from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.dtype import DType, bool_, i64
from ..core.record import dataclass
from ..ir.node import Node
from ..loop.ir import Accum, Alloc, Bin, Buffer, Cast, Expr, For, If, Int, Lit, Select, Stmt, Store, Un, Var, While, seq
from ..ops.spectral import SIGN
from . import bidiagonal, orthogonal, tiles, tridiagonal
from .access import Home
from .context import in_registers
from .elementwise import number
from .orthogonal import scale_of
from .small import FEW, LANE, Lanes
from .task import Task, sizes
from .tiles import Element, Shape, each, filled

MANY = 12                                               # rows, from which on a symmetric matrix is made tridiagonal first
SWEEPS = 40                                             # at most: some ten are needed


class Mode(ABC):
    """One matrix, or one in each lane: how rows lie and are gone through."""

    dtype: DType
    lanes: int

    @abstractmethod
    def square(self, name: str, n: int) -> Buffer: ...
    @abstractmethod
    def vector(self, name: str, n: int, dtype: DType) -> Buffer: ...
    @abstractmethod
    def at(self, *index: Expr) -> tuple[Expr, ...]: ...
    @abstractmethod
    def row(self, n: int, f: Callable[[Expr], Stmt]) -> Stmt:
        """f(j) for the columns j of a row, in vectors."""
    @abstractmethod
    def dots(self, x: Buffer, n: int, pairs: Sequence[tuple[Expr, Expr, Buffer]]) -> Stmt:
        """The dot products of pairs of rows, into registers."""
    @abstractmethod
    def run(self, s: Stmt) -> Stmt:
        """s, on every lane."""
    @abstractmethod
    def where(self, cond: Expr, s: Stmt) -> Stmt:
        """s where cond holds; a lane on which it does not may do it too."""
    @abstractmethod
    def filled(self, x: Buffer, n: int, element: Element) -> Stmt: ...

    def register(self, name: str, dtype: DType | None = None) -> Buffer:
        return Buffer(name, (), dtype or self.dtype, "register")


@dataclass(frozen=True, slots=True)
class One(Mode):
    task: Task
    dtype: DType
    lanes: int

    def square(self, name: str, n: int) -> Buffer:
        return tiles.scratch(name, Shape(n, n, self.lanes), self.dtype)

    def vector(self, name: str, n: int, dtype: DType) -> Buffer:
        return Buffer(name, (n,), dtype, "scratch")

    def at(self, *index: Expr) -> tuple[Expr, ...]:
        return index

    def row(self, n: int, f: Callable[[Expr], Stmt]) -> Stmt:
        return each("j", 0, -(-n // self.lanes), For("c", Int(0), Int(self.lanes), "simd", f(Var("j") * self.lanes + Var("c"))))

    def dots(self, x: Buffer, n: int, pairs: Sequence[tuple[Expr, Expr, Buffer]]) -> Stmt:
        parts = [Buffer(f"part{k}", (self.lanes,), x.dtype, "register") for k in range(len(pairs))]
        c, k = Var("c"), Var("k")
        at = k * self.lanes + c

        def lane(f: Callable[[Buffer, tuple[Expr, Expr, Buffer]], Stmt]) -> Stmt:
            return For("c", Int(0), Int(self.lanes), "simd", seq(*(f(part, pair) for part, pair in zip(parts, pairs))))

        return in_registers(parts, seq(lane(lambda part, _: Store(part, (c,), number(0, x.dtype))),
                                       each("k", 0, -(-n // self.lanes), lane(lambda part, pair: Accum(part, (c,), Bin("*", x[pair[0], at], x[pair[1], at])))),
                                       *(Store(to, (), number(0, x.dtype)) for _, _, to in pairs),
                                       lane(lambda part, pair: Accum(pair[2], (), part[c]))))

    def run(self, s: Stmt) -> Stmt:
        return s

    def where(self, cond: Expr, s: Stmt) -> Stmt:
        return If(cond, s)

    def filled(self, x: Buffer, n: int, element: Element) -> Stmt:
        return filled(x, Shape(n, n, self.lanes), element)


@dataclass(frozen=True, slots=True)
class Many(Mode):
    task: Lanes
    dtype: DType
    lanes: int

    def square(self, name: str, n: int) -> Buffer:
        return self.task.buffer(name, n, n)

    def vector(self, name: str, n: int, dtype: DType) -> Buffer:
        return Buffer(name, (n, self.lanes), dtype, "scratch")

    def at(self, *index: Expr) -> tuple[Expr, ...]:
        return *index, LANE

    def row(self, n: int, f: Callable[[Expr], Stmt]) -> Stmt:
        return each("j", 0, n, f(Var("j")))

    def dots(self, x: Buffer, n: int, pairs: Sequence[tuple[Expr, Expr, Buffer]]) -> Stmt:
        k = Var("k")
        return seq(*(Store(to, (), number(0, x.dtype)) for _, _, to in pairs),
                   each("k", 0, n, seq(*(Accum(to, (), Bin("*", x[p, k, LANE], x[q, k, LANE])) for p, q, to in pairs))))

    def run(self, s: Stmt) -> Stmt:
        return self.task.computed(s)

    def where(self, cond: Expr, s: Stmt) -> Stmt:
        return s

    def filled(self, x: Buffer, n: int, element: Element) -> Stmt:
        return self.task.filled(x, n, n, element)


# ---- sweeps ----------------------------------------------------------------------------------------------------------------------------

P, Q = Var("p"), Var("q")


def sweeps(m: Mode, n: int, look: Stmt, needed: Expr, theta: Expr, turn: Callable[[Expr, Expr, Expr], Stmt], registers: Sequence[Buffer]) -> Stmt:
    """Every pair of rows p < q, again and again: where a rotation is `needed`, which `look` finds out, turn(c, s, t) with t = s / c = tan of the angle.

    t is the smaller root of t² + 2 theta t = 1.
    """
    one, zero = number(1, m.dtype), number(0, m.dtype)
    go, did, count = m.register("go"), m.register("did"), m.register("count", i64)
    need, th, t, c, s = m.register("need", bool_), m.register("theta"), m.register("tan"), m.register("cos"), m.register("sin")
    root = Un("sqrt", Bin("+", Bin("*", th[()], th[()]), one))
    small = Bin("/", one, Bin("+", Un("abs", th[()]), root))
    tangent = Select(need[()], Select(Bin("<", th[()], zero), Un("neg", small), small), zero)
    rotate = in_registers([th, t, c, s], seq(
        Store(th, (), theta), Store(t, (), tangent), Store(c, (), Bin("/", one, Un("sqrt", Bin("+", Bin("*", t[()], t[()]), one)))),
        Store(s, (), Bin("*", t[()], c[()])), turn(c[()], s[()], t[()])))
    pair = in_registers([*registers, need], seq(look, Store(need, (), needed), Store(did, (), Select(need[()], one, did[()])), m.where(need[()], rotate)))
    every = each("p", 0, n - 1, each("q", P + 1, n, pair))
    sweep = m.run(Alloc(did, seq(Store(did, (), zero), every, Accum(go, (), did[()], "max"))))
    more = Bin("and", Bin("<", zero, go[()]), Bin("<", count[()], Lit(SWEEPS, i64)))
    again = While(more, seq(Store(go, (), zero), sweep, Store(count, (), Bin("+", count[()], Lit(1, i64)))))
    return Alloc(go, Alloc(count, seq(Store(go, (), one), Store(count, (), Lit(0, i64)), again)))


def rotated(m: Mode, x: Buffer, n: int, c: Expr, s: Expr) -> Stmt:
    """Rows p and q of x become c p - s q and s p + c q."""
    one, other = m.register("one"), m.register("other")

    def at(j: Expr) -> Stmt:
        p, q = m.at(P, j), m.at(Q, j)
        return in_registers([one, other], seq(Store(one, (), x[p]), Store(other, (), x[q]),
                                              Store(x, p, Bin("-", Bin("*", c, one[()]), Bin("*", s, other[()]))),
                                              Store(x, q, Bin("+", Bin("*", s, one[()]), Bin("*", c, other[()])))))
    return m.row(n, at)


def ordered(m: Mode, order: Buffer, values: Buffer, n: int, falling: bool) -> Stmt:
    """order[k]: which value is number k in order; of equals the first comes first. (With NaN, some number below n.)"""
    i, j, rank = Var("i"), Var("j"), m.register("rank", i64)
    a, b = values[m.at(i)], values[m.at(j)]
    before = Bin("or", Bin("<", a, b) if falling else Bin("<", b, a), Bin("and", Bin("==", a, b), Bin("<", j, i)))
    add = Store(rank, (), Bin("+", rank[()], Select(before, Lit(1, i64), Lit(0, i64))))
    return seq(each("i", 0, n, Store(order, m.at(i), Cast(i, i64))),
               each("i", 0, n, Alloc(rank, seq(Store(rank, (), Lit(0, i64)), each("j", 0, n, add), Store(order, m.at(rank[()]), Cast(i, i64))))))


def signed(m: Mode, v: Buffer, n: int, also: Sequence[Buffer] = ()) -> Stmt:
    """Each row of v, and of the others, with the sign that makes its first component of 0.6 times the largest positive."""
    i, k, zero = Var("i"), Var("k"), number(0, m.dtype)
    largest, pick, sign = m.register("largest"), m.register("pick"), m.register("sign")
    x, back = v[m.at(i, k)], v[m.at(i, Int(n - 1) - k)]
    find = seq(Store(largest, (), zero), each("k", 0, n, Store(largest, (), Bin("max", largest[()], Un("abs", x)))), Store(pick, (), zero),
               each("k", 0, n, Store(pick, (), Select(Bin("<=", Bin("*", largest[()], number(SIGN, m.dtype)), Un("abs", back)), back, pick[()]))),
               Store(sign, (), Select(Bin("<", pick[()], zero), number(-1, m.dtype), number(1, m.dtype))))
    apply = [m.row(n, lambda j, b=b: Store(b, m.at(i, j), Bin("*", b[m.at(i, j)], sign[()]))) for b in (v, *also)]     # type: ignore[misc]
    return each("i", 0, n, in_registers([largest, pick, sign], seq(find, *apply)))


def finite(m: Mode, x: Buffer, flag: Buffer, n: int) -> Stmt:
    """flag[0]: 0 where every element is finite, else NaN."""
    i, k, acc = Var("i"), Var("k"), m.register("acc")
    zero = number(0, m.dtype)
    add = Store(acc, (), Bin("+", acc[()], Bin("*", x[m.at(i, k)], zero)))
    return Alloc(acc, seq(Store(acc, (), zero), each("i", 0, n, each("k", 0, n, add)), Store(flag, m.at(Int(0)), acc[()])))


def tolerance(dtype: DType) -> float:
    return float(np.finfo(dtype.numpy).eps)


# ---- symmetric matrices ----------------------------------------------------------------------------------------------------------------


def _eigh(m: Mode, n: int, x: Element, written: Callable[[Buffer, Buffer, Buffer, Buffer], Stmt], vectors: bool = True) -> Stmt:
    """written(diagonal, rows of vectors, order, flag)."""
    dtype = m.dtype
    b, v = m.square("b", n), m.square("v", n)
    w, order, flag = m.vector("w", n, dtype), m.vector("order", n, i64), m.vector("flag", 1, dtype)
    pp, qq, pq = m.register("pp"), m.register("qq"), m.register("pq")
    zero, half, i = number(0, dtype), number(0.5, dtype), Var("i")
    look = seq(Store(pp, (), b[m.at(P, P)]), Store(qq, (), b[m.at(Q, Q)]), Store(pq, (), b[m.at(P, Q)]))
    size = Bin("*", Un("sqrt", Un("abs", pp[()])), Un("sqrt", Un("abs", qq[()])))
    needed = Bin("<", Bin("*", size, number(tolerance(dtype), dtype)), Un("abs", pq[()]))
    theta = Bin("/", Bin("*", Bin("-", qq[()], pp[()]), half), pq[()])

    def turn(c: Expr, s: Expr, t: Expr) -> Stmt:
        by, need = m.register("by"), Buffer("need", (), bool_, "register")
        zeros = (Store(b, m.at(*at), Select(need[()], zero, pq[()])) for at in ((P, Q), (Q, P)))
        corner = Alloc(by, seq(Store(by, (), Select(need[()], Bin("*", t, pq[()]), zero)), Store(b, m.at(P, P), Bin("-", pp[()], by[()])),
                               Store(b, m.at(Q, Q), Bin("+", qq[()], by[()])), *zeros))
        mirror = each("i", 0, n, seq(Store(b, m.at(i, P), b[m.at(P, i)]), Store(b, m.at(i, Q), b[m.at(Q, i)])))
        return seq(rotated(m, b, n, c, s), corner, mirror, *([rotated(m, v, n, c, s)] if vectors else []))

    unit = m.filled(v, n, lambda i, j: Select(Bin("==", i, j), number(1, dtype), zero))
    diagonal = each("i", 0, n, Store(w, m.at(i), b[m.at(i, i)]))
    body = seq(m.filled(b, n, lambda i, j: Bin("*", Bin("+", x(i, j), x(j, i)), half)), *([unit] if vectors else []), m.run(finite(m, b, flag, n)),
               sweeps(m, n, look, needed, theta, turn, [pp, qq, pq]),
               m.run(seq(diagonal, ordered(m, order, w, n, False), *([signed(m, v, n)] if vectors else []))), written(w, v, order, flag))
    for buf in (b, *([v] if vectors else []), w, order, flag):
        body = Alloc(buf, body)
    return body


def _checked(flag: Expr, value: Expr) -> Expr:
    """The value, or NaN."""
    return Select(Bin("==", flag, flag), value, flag)


def eigh(n: Node, task: Task, homes: Sequence[Sequence[Home]]) -> Stmt:
    size, m = sizes(n)[0], One(task, task.dtype, task.lanes)

    def written(w: Buffer, v: Buffer, order: Buffer, flag: Buffer) -> Stmt:
        values = task.vector_written(homes[0], size, lambda i: _checked(flag[0], w[order[i]]))
        return seq(values, task.written(homes[1], size, size, lambda i, j: _checked(flag[0], v[order[j], i])))

    def sorted_(w: Buffer, v: Buffer, flag: Buffer) -> Stmt:
        order = m.vector("order", size, i64)
        return Alloc(order, seq(ordered(m, order, w, size, False), signed(m, v, size), written(w, v, order, flag)))

    if size > MANY:
        return tridiagonal.eigen(size, task.operand(n.inputs[0]), task.dtype, task.lanes, sorted_)
    return _eigh(m, size, task.operand(n.inputs[0]), written)


def small_eigh(n: Node, t: Lanes, homes: Sequence[Sequence[Home]]) -> Stmt:
    size = sizes(n)[0]

    def written(w: Buffer, v: Buffer, order: Buffer, flag: Buffer) -> Stmt:
        ok = flag[0, LANE]
        return seq(t.vector_written(homes[0], size, lambda i: _checked(ok, w[order[i, LANE], LANE])),
                   t.written(homes[1], size, size, lambda i, j: _checked(ok, v[order[j, LANE], i, LANE])))

    return _eigh(Many(t, t.dtype, t.lanes), size, t.operand(n.inputs[0]), written)


def eigvalsh(n: Node, task: Task, homes: Sequence[Sequence[Home]]) -> Stmt:
    size, m = sizes(n)[0], One(task, task.dtype, task.lanes)

    def written(w: Buffer, _: Buffer, order: Buffer, flag: Buffer) -> Stmt:
        return task.vector_written(homes[0], size, lambda i: _checked(flag[0], w[order[i]]))

    def sorted_(w: Buffer, v: Buffer, flag: Buffer) -> Stmt:
        order = m.vector("order", size, i64)
        return Alloc(order, seq(ordered(m, order, w, size, False), written(w, v, order, flag)))

    if size > MANY:
        return tridiagonal.eigen(size, task.operand(n.inputs[0]), task.dtype, task.lanes, sorted_, vectors=False)
    return _eigh(m, size, task.operand(n.inputs[0]), written, vectors=False)


def small_eigvalsh(n: Node, t: Lanes, homes: Sequence[Sequence[Home]]) -> Stmt:
    size = sizes(n)[0]

    def written(w: Buffer, _: Buffer, order: Buffer, flag: Buffer) -> Stmt:
        return t.vector_written(homes[0], size, lambda i: _checked(flag[0, LANE], w[order[i, LANE], LANE]))

    return _eigh(Many(t, t.dtype, t.lanes), size, t.operand(n.inputs[0]), written, vectors=False)


# ---- singular values -------------------------------------------------------------------------------------------------------------------


def _svd(m: Mode, n: int, x: Element, written: Callable[[Buffer, Buffer, Buffer, Buffer, Buffer], Stmt], vectors: bool = True) -> Stmt:
    """Of a square matrix: written(rows σ uᵀ, rows vᵀ, order, flag, scale), the rows in no order."""
    dtype = m.dtype
    g, v = m.square("g", n), m.square("j", n)
    norms, order, flag, scale = m.vector("norms", n, dtype), m.vector("order", n, i64), m.vector("flag", 1, dtype), m.vector("size", 1, dtype)
    a, b, ab, largest = m.register("aa"), m.register("bb"), m.register("ab"), m.register("largest")
    zero, half, i, k = number(0, dtype), number(0.5, dtype), Var("i"), Var("k")
    look = m.dots(g, n, [(P, P, a), (Q, Q, b), (P, Q, ab)])
    size = Bin("*", Un("sqrt", a[()]), Un("sqrt", b[()]))
    needed = Bin("<", Bin("*", size, number(tolerance(dtype) * math.sqrt(n), dtype)), Un("abs", ab[()]))
    theta = Bin("/", Bin("*", Bin("-", b[()], a[()]), half), ab[()])

    def turn(c: Expr, s: Expr, t: Expr) -> Stmt:
        return seq(rotated(m, g, n, c, s), *([rotated(m, v, n, c, s)] if vectors else []))

    unit = m.filled(v, n, lambda i, j: Select(Bin("==", i, j), number(1, dtype), zero))
    first = m.at(Int(0))
    grow, divide = Store(largest, (), Bin("max", largest[()], Un("abs", g[m.at(i, k)]))), Store(g, m.at(i, k), g[m.at(i, k)] / scale[first])
    find = Alloc(largest, seq(Store(largest, (), zero), each("i", 0, n, each("k", 0, n, grow)), Store(scale, first, scale_of(largest[()])),
                              each("i", 0, n, each("k", 0, n, divide))))
    lengths = each("i", 0, n, Alloc(a, seq(m.dots(g, n, [(i, i, a)]), Store(norms, m.at(i), a[()]))))
    body = seq(m.filled(g, n, lambda i, j: x(j, i)), *([unit] if vectors else []), m.run(seq(finite(m, g, flag, n), find)),
               sweeps(m, n, look, needed, theta, turn, [a, b, ab]),
               m.run(seq(lengths, ordered(m, order, norms, n, True), *([signed(m, v, n, [g])] if vectors else []))),
               written(g, v if vectors else norms, order, flag, scale))
    for buf in (g, *([v] if vectors else []), norms, order, flag, scale):
        body = Alloc(buf, body)
    return body


def svd(n: Node, task: Task, homes: Sequence[Sequence[Home]]) -> Stmt:
    size = sizes(n)[0]
    i = Var("i")

    def written(g: Buffer, v: Buffer, order: Buffer, flag: Buffer, scale: Buffer) -> Stmt:
        f = orthogonal.blocked(size, size, size, task.dtype, task.lanes, lambda i, j: g[order[j], i], "u")
        least = Buffer("least", (), task.dtype, "register")
        value = Store(least, (), Bin("min", least[()], Bin("*", f.upper(i, i), scale[0])))
        values = Alloc(least, seq(Store(least, (), number(float("inf"), task.dtype)), each("i", 0, size, seq(value, *(
            Store(*task.reader.place(h, (*task.batch, i)), _checked(flag[0], least[()])) for h in homes[1])))))
        return f.allocated(seq(task.written(homes[0], size, size, lambda i, j: _checked(flag[0], f.orthogonal(i, j))), values,
                               task.written(homes[2], size, size, lambda i, j: _checked(flag[0], v[order[i], j]))))

    return _svd(One(task, task.dtype, task.lanes), size, task.operand(n.inputs[0]), written)


def small_svd(n: Node, t: Lanes, homes: Sequence[Sequence[Home]]) -> Stmt:
    size = sizes(n)[0]

    def written(g: Buffer, v: Buffer, order: Buffer, flag: Buffer, scale: Buffer) -> Stmt:
        f, ok = orthogonal.in_lanes(size, size, size, t, lambda i, j: g[order[j, LANE], i, LANE], "u"), flag[0, LANE]
        values, least, i = Buffer("values", (size, t.lanes), t.dtype, "scratch"), t.register("least"), Var("i")
        falling = t.computed(Alloc(least, seq(Store(least, (), number(float("inf"), t.dtype)), each("i", 0, size, seq(
            Store(least, (), Bin("min", least[()], Bin("*", f.upper(i, i), scale[0, LANE]))), Store(values, (i, LANE), least[()]))))))
        vectors = t.written(homes[2], size, size, lambda i, j: _checked(ok, v[order[i, LANE], j, LANE]))
        return f.allocated(Alloc(values, seq(f.fill, f.body, falling, t.written(homes[0], size, size, lambda i, j: _checked(ok, f.orthogonal(i, j))),
                                             t.vector_written(homes[1], size, lambda i: _checked(ok, values[i, LANE])), vectors)))

    return _svd(Many(t, t.dtype, t.lanes), size, t.operand(n.inputs[0]), written)


def svdvals(n: Node, task: Task, homes: Sequence[Sequence[Home]]) -> Stmt:
    """The largest half of the eigenvalues of [[0, x], [xᵀ, 0]], which bidiagonal is tridiagonal; of a small matrix the lengths of the rows."""
    size, m = sizes(n)[0], One(task, task.dtype, task.lanes)

    def lengths(_: Buffer, norms: Buffer, order: Buffer, flag: Buffer, scale: Buffer) -> Stmt:
        return task.vector_written(homes[0], size, lambda i: _checked(flag[0], Bin("*", Un("sqrt", norms[order[i]]), scale[0])))

    def largest(w: Buffer, flag: Buffer) -> Stmt:
        order, zero = m.vector("order", 2 * size, i64), number(0, task.dtype)
        return Alloc(order, seq(ordered(m, order, w, 2 * size, True),
                                task.vector_written(homes[0], size, lambda i: _checked(flag[0], Bin("max", w[order[i]], zero)))))

    if size > FEW:
        return bidiagonal.values(size, task.operand(n.inputs[0]), task.dtype, task.lanes, largest)
    return _svd(m, size, task.operand(n.inputs[0]), lengths, vectors=False)


def small_svdvals(n: Node, t: Lanes, homes: Sequence[Sequence[Home]]) -> Stmt:
    size = sizes(n)[0]

    def lengths(_: Buffer, norms: Buffer, order: Buffer, flag: Buffer, scale: Buffer) -> Stmt:
        return t.vector_written(homes[0], size, lambda i: _checked(flag[0, LANE], Bin("*", Un("sqrt", norms[order[i, LANE], LANE]), scale[0, LANE])))

    return _svd(Many(t, t.dtype, t.lanes), size, t.operand(n.inputs[0]), lengths, vectors=False)


KERNELS: dict[str, Any] = {"eigh": (eigh, small_eigh), "eigvalsh": (eigvalsh, small_eigvalsh), "svd": (svd, small_svd), "svdvals": (svdvals, small_svdvals)}
