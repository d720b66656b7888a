"""A batch of small matrices: each lane of a vector factors one. In scratch the lanes are innermost, so whatever the algorithm, its arithmetic is whole vectors.

The idea is that of batched BLAS in interleaved layout (Dongarra and others, 2017). The last matrices, where they do not fill a vector, are factored beside
lanes that hold nothing. A few rows and columns are factored so one by one, too.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..core.dtype import DType, i64
from ..core.record import dataclass
from ..ir.node import Node
from ..loop.ir import Accum, Alloc, Bin, Buffer, Cast, Expr, For, Int, Select, Stmt, Store, Un, Var, lift, seq
from .access import Home, Reader
from .context import in_registers, loops
from .elementwise import number
from .fuse import shape_of
from .tiles import Element, each

MOST = 32                                               # rows and columns of matrices that go along the lanes,
FEW = 8                                                 # and of those that one by one are not worth blocks
LANE = Var("l")


@dataclass(frozen=True, slots=True)
class Lanes:
    """One op on as many matrices as there are lanes, from number `first` on (None: there is no batch); `count` of them are there."""

    reader: Reader
    first: Expr | None
    count: int
    lanes: int
    dtype: DType

    @property
    def batch(self) -> tuple[Expr, ...]:
        return () if self.first is None else (self.first + LANE,)

    def on_lanes(self, count: int, body: Stmt) -> Stmt:
        return For(LANE.name, Int(0), Int(count), "simd" if self.lanes > 1 else "serial", body)

    def buffer(self, name: str, rows: int, columns: int, dtype: DType | None = None) -> Buffer:
        return Buffer(name, (rows, columns, self.lanes), dtype or self.dtype, "scratch")

    def each(self, rows: int, columns: int, f: Callable[[Expr, Expr], Stmt]) -> Stmt:
        """f at every place, on the lanes that are there."""
        return each("i", 0, rows, each("j", 0, columns, self.on_lanes(self.count, f(Var("i"), Var("j")))))

    def filled(self, buf: Buffer, rows: int, columns: int, element: Element) -> Stmt:
        """Zeros on the lanes that are not there: whatever runs until all lanes are done does not wait for them."""
        copy = self.each(rows, columns, lambda i, j: Store(buf, (i, j, LANE), element(i, j)))
        if self.count == self.lanes:
            return copy
        zeros = self.computed(Store(buf, (Var("i"), Var("j"), LANE), number(0, buf.dtype)))
        return seq(each("i", 0, rows, each("j", 0, columns, zeros)), copy)

    def operand(self, x: Node) -> Element:
        return lambda i, j: self.reader.at(x, (*self.batch, i, j))

    def written(self, homes: Sequence[Home], rows: int, columns: int, value: Element) -> Stmt:
        def at(i: Expr, j: Expr) -> Stmt:
            v = value(i, j)
            return seq(*(Store(*self.reader.place(h, (*self.batch, i, j)), v) for h in homes))
        return self.each(rows, columns, at) if homes else seq()

    def vector_written(self, homes: Sequence[Home], n: int, value: Callable[[Expr], Expr]) -> Stmt:
        def at(i: Expr) -> Stmt:
            v = value(i)
            return seq(*(Store(*self.reader.place(h, (*self.batch, i)), v) for h in homes))
        return self.each(n, 1, lambda i, _: at(i)) if homes else seq()

    def computed(self, body: Stmt) -> Stmt:
        return self.on_lanes(self.lanes, body)

    def register(self, name: str, dtype: DType | None = None) -> Buffer:
        return Buffer(name, (), dtype or self.dtype, "register")


Small = Callable[[Node, Lanes, Sequence[Sequence[Home]]], Stmt]


def body(n: Node, small: Small, reader: Reader, homes: Sequence[Sequence[Home]], lanes: int) -> Stmt | None:
    """The nest of a whole batch, along the lanes where it fills them; None where blocks are better."""
    (*batch, _, _), dtype = shape_of(n.inputs[0]), n.inputs[0].tensor.dtype
    longest = max(k if isinstance(k, int) else MOST + 1 for i in n.inputs for k in shape_of(i)[-2:])
    if batch and isinstance(batch[0], int) and batch[0] >= lanes > 1 and longest <= MOST:
        whole, rest = divmod(batch[0], lanes)
        main = For("v", Int(0), Int(whole), "parallel", small(n, Lanes(reader, Var("v") * lanes, lanes, lanes, dtype), homes))
        return seq(main, *([small(n, Lanes(reader, Int(whole * lanes), rest, lanes, dtype), homes)] if rest else []))
    if longest > FEW:
        return None
    return loops([Var("b")], batch, small(n, Lanes(reader, Var("b") if batch else None, 1, 1, dtype), homes))


def less(buf: Buffer, at: tuple[Expr, ...], a: Expr, b: Expr) -> Stmt:
    """buf[at] -= a * b."""
    return Accum(buf, at, Bin("*", Un("neg", a), b))


def sizes(n: Node, operand: int = 0) -> tuple[Any, Any]:
    rows, columns = shape_of(n.inputs[operand])[-2:]
    return rows, columns


def cholesky(n: Node, t: Lanes, homes: Sequence[Sequence[Home]]) -> Stmt:
    """Column by column, each less what the columns before it contribute."""
    size, dtype = sizes(n)[0], t.dtype
    a, x = t.buffer("a", size, size), t.operand(n.inputs[0])
    i, j, k = Var("i"), Var("j"), Var("k")
    acc, pivot = t.register("acc"), t.register("pivot")

    def column(row: Expr, store: Stmt) -> Stmt:
        return Alloc(acc, seq(Store(acc, (), a[row, j, LANE]), each("k", 0, j, less(acc, (), a[row, k, LANE], a[j, k, LANE])), store))

    zero, nan = number(0, dtype), number(float("nan"), dtype)
    on = column(j, Store(pivot, (), Un("sqrt", Select(Bin("<", zero, acc[()]), acc[()], nan))))
    below = each("i", j + 1, size, column(i, Store(a, (i, j, LANE), acc[()] / pivot[()])))
    factor = t.computed(each("j", 0, size, Alloc(pivot, seq(on, Store(a, (j, j, LANE), pivot[()]), below))))
    last = a[size - 1, size - 1, LANE]

    def result(i: Expr, j: Expr) -> Expr:
        return Select(Bin("<=", j, i), Select(Bin("==", last, last), a[i, j, LANE], nan), zero)

    symmetric = t.filled(a, size, size, lambda i, j: Bin("*", Bin("+", x(i, j), x(j, i)), number(0.5, dtype)))
    return Alloc(a, seq(symmetric, factor, t.written(homes[0], size, size, result)))


def lu(n: Node, t: Lanes, homes: Sequence[Sequence[Home]]) -> Stmt:
    """Right-looking, with row exchanges of each lane's own."""
    size, dtype = sizes(n)[0], t.dtype
    a, perm = t.buffer("a", size, size), Buffer("p", (size, t.lanes), i64, "scratch")
    i, j, k = Var("i"), Var("j"), Var("k")
    best, where, magnitude = t.register("best"), t.register("where", i64), t.register("size")
    better = Bin("<", best[()], magnitude[()])
    look = Alloc(magnitude, seq(Store(magnitude, (), Un("abs", a[i, k, LANE])), Store(where, (), Select(better, Cast(i, i64), where[()])),
                                Store(best, (), Select(better, magnitude[()], best[()]))))
    p = where[()]

    def exchange(buf: Buffer, here: tuple[Expr, ...], there: tuple[Expr, ...], names: tuple[str, str]) -> Stmt:
        one, other = (t.register(name, buf.dtype) for name in names)
        return in_registers([one, other], seq(Store(one, (), buf[here]), Store(other, (), buf[there]), Store(buf, here, other[()]), Store(buf, there, one[()])))

    swap = seq(each("j", 0, size, exchange(a, (k, j, LANE), (p, j, LANE), ("one", "other"))), exchange(perm, (k, LANE), (p, LANE), ("here", "there")))
    pivot, factor, zero = t.register("pivot"), t.register("m"), number(0, dtype)
    below = each("i", k + 1, size, Alloc(factor, seq(
        Store(factor, (), a[i, k, LANE] / pivot[()]), Store(a, (i, k, LANE), factor[()]),
        each("j", k + 1, size, less(a, (i, j, LANE), factor[()], a[k, j, LANE])))))
    step = in_registers([best, where, pivot], seq(
        Store(best, (), Un("abs", a[k, k, LANE])), Store(where, (), Cast(k, i64)), each("i", k + 1, size, look), swap,
        Store(pivot, (), Select(Bin("==", a[k, k, LANE], zero), number(1, dtype), a[k, k, LANE])), below))
    numbers = each("i", 0, size, Store(perm, (i, LANE), Cast(i, i64)))
    out = [t.written(homes[0], size, size, lambda i, j: a[i, j, LANE])]
    if homes[1]:
        out.append(t.vector_written(homes[1], size, lambda i: perm[i, LANE]))
    return Alloc(a, Alloc(perm, seq(t.filled(a, size, size, t.operand(n.inputs[0])), t.computed(seq(numbers, each("k", 0, size, step))), *out)))


def triangular_solve(n: Node, t: Lanes, homes: Sequence[Sequence[Home]]) -> Stmt:
    """Row by row, each less the rows above it; from the last row up where the triangle is an upper one."""
    (size, columns), flags = sizes(n, 1), n.attrs
    up, transposed, unit = flags["lower"] == flags["transposed"], flags["transposed"], flags["unit"]
    a, x = t.buffer("a", size, size), t.buffer("x", size, columns)
    of, i, j, k = t.operand(n.inputs[0]), Var("i"), Var("j"), Var("k")

    def row(r: Expr) -> Expr:
        return lift(size - 1) - r if up else r

    def element(r: Expr, c: Expr) -> Expr:
        return of(row(c), row(r)) if transposed else of(row(r), row(c))

    factor = t.register("m")
    above = each("k", 0, i, Alloc(factor, seq(Store(factor, (), a[i, k, LANE]), each("j", 0, columns, less(x, (i, j, LANE), factor[()], x[k, j, LANE])))))
    divided = Alloc(factor, seq(Store(factor, (), a[i, i, LANE]), each("j", 0, columns, Store(x, (i, j, LANE), x[i, j, LANE] / factor[()]))))
    solve = each("i", 0, size, seq(above, *([] if unit else [divided])))
    b = t.operand(n.inputs[1])
    return Alloc(a, Alloc(x, seq(t.filled(a, size, size, element), t.filled(x, size, columns, lambda i, j: b(row(i), j)), t.computed(solve),
                                 t.written(homes[0], size, columns, lambda i, j: x[row(i), j, LANE]))))
