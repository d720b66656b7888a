"""Arithmetic on blocks of a matrix in scratch: what the factorizations are nests of.

A scratch matrix is padded, so that every tile (ROWS rows, a few vectors wide) is whole; the padding is the identity, which every factorization leaves alone.
A *group* is ROWS rows. The heart is `product`, a tile of a product in registers, as in a contraction (DESIGN section 3: there is no GEMM intrin).
"""
from __future__ import annotations

import math
from collections.abc import Callable

from ..core.dtype import DType
from ..core.record import dataclass
from ..loop.ir import Accum, Alloc, Bin, Buffer, Expr, For, Int, Select, Stmt, Store, Un, Var, lift, seq
from .elementwise import number

ROWS = 4                                                # with three vectors: twelve sums in registers, which hide the latency of an fma
VECTORS = 3

Element = Callable[[Expr, Expr], Expr]                  # of a matrix, at (row, column)
Corner = Callable[[int, int], Expr]                     # of the square of a group


@dataclass(frozen=True, slots=True)
class Shape:
    """How matrices of n rows and m columns are cut up."""

    rows: int
    columns: int
    lanes: int

    @property
    def width(self) -> int:
        """Columns of a tile."""
        return min(VECTORS, -(-self.columns // self.lanes)) * self.lanes

    @property
    def panel(self) -> int:
        """Columns that are factored before the rest of the matrix hears of them."""
        return math.lcm(2 * self.width if self.columns > self.width else self.width, ROWS)

    @property
    def padded_rows(self) -> int:
        return -(-self.rows // ROWS) * ROWS

    @property
    def padded_columns(self) -> int:
        """Never a large power of two: rows would fall into the same sets of the cache."""
        n = -(-self.columns // self.panel) * self.panel
        return n + self.panel if n % 256 == 0 else n

    @property
    def groups(self) -> int:
        return self.padded_rows // ROWS

    @property
    def tiles(self) -> int:
        return -(-self.columns // self.width)


def scratch(name: str, s: Shape, dtype: DType) -> Buffer:
    return Buffer(name, (s.padded_rows, s.padded_columns), dtype, "scratch")


# ---- loops -----------------------------------------------------------------------------------------------------------------------------


def each(var: str, lo: Expr | int, hi: Expr | int, body: Stmt) -> Stmt:
    return For(var, lift(lo), lift(hi), "serial", body)


def stripes(rows: int, columns: int, lanes: int, f: Callable[[Expr, Expr], Stmt]) -> Stmt:
    """f(i, j) for every place of a matrix, in stripes of a vector's columns: reading or writing it transposed is then as good."""
    i, c = Var("i"), Var("c")

    def stripe(first: Expr, count: int) -> Stmt:
        return each("i", 0, rows, For("c", Int(0), Int(count), "simd", f(i, first + c)))

    whole, rest = divmod(columns, lanes)
    return seq(*([each("j", 0, whole, stripe(Var("j") * lanes, lanes))] if whole else []), *([stripe(Int(columns - rest), rest)] if rest else []))


def unrolled(count: int, f: Callable[[int], Stmt]) -> Stmt:
    return seq(*map(f, range(count)))


def lanes_of_tile(width: int, f: Callable[[Expr], Stmt]) -> Stmt:
    return For("c", Int(0), Int(width), "simd", f(Var("c")))


def filled(x: Buffer, s: Shape, element: Element) -> Stmt:
    """The matrix into scratch; the padding becomes the identity."""
    total, copied = s.padded_columns, s.columns // s.lanes * s.lanes

    def pad(lo: int, columns: int) -> Callable[[Expr, Expr], Stmt]:
        return lambda i, j: Store(x, (i + lo, j + columns), Select(Bin("==", i + lo, j + columns), number(1, x.dtype), number(0, x.dtype)))

    return seq(stripes(s.rows, total - copied, s.lanes, pad(0, copied)), stripes(s.rows, s.columns, s.lanes, lambda i, j: Store(x, (i, j), element(i, j))),
               stripes(s.padded_rows - s.rows, total, s.lanes, pad(s.rows, 0)))


# ---- tiles -----------------------------------------------------------------------------------------------------------------------------


def product(acc: Buffer, left: Element, right: Element, group: Expr, column: Expr, lo: Expr, hi: Expr, width: int) -> Stmt:
    """acc[r, c] = sum over k in lo:hi of left(row r of the group, k) * right(k, column + c)."""
    k, zero = Var("k"), number(0, acc.dtype)
    start = unrolled(ROWS, lambda r: lanes_of_tile(width, lambda c: Store(acc, (Int(r), c), zero)))
    step = unrolled(ROWS, lambda r: lanes_of_tile(width, lambda c: Accum(acc, (Int(r), c), Bin("*", left(group * ROWS + r, k), right(k, column + c)))))
    return seq(start, each("k", lo, hi, step))


def minus_product(x: Buffer, left: Element, group: Expr, tile: Expr, lo: Expr, hi: Expr, width: int) -> Stmt:
    """The tile of x less left times the rows lo:hi of x above it."""
    acc = Buffer("acc", (ROWS, width), x.dtype, "register")
    column = tile * width

    def at(r: int, c: Expr) -> tuple[Expr, Expr]:
        return group * ROWS + r, column + c

    write = unrolled(ROWS, lambda r: lanes_of_tile(width, lambda c: Store(x, at(r, c), x[at(r, c)] - acc[r, c])))
    return Alloc(acc, seq(product(acc, left, lambda k, j: x[k, j], group, column, lo, hi, width), write))


def substituted(x: Buffer, left: Element, group: Expr, tile: Expr, lo: Expr, width: int, unit: bool, corner: Corner | None = None) -> Stmt:
    """The tile of x, solved for: less left times the rows from lo on above it, then row by row within the group, each divided by left's diagonal.

    corner(r, q): left within the group, where it is somewhere else."""
    acc = Buffer("acc", (ROWS, width), x.dtype, "register")
    column, first = tile * width, group * ROWS
    own = corner or (lambda r, q: left(first + r, first + q))

    def row(r: int) -> Stmt:
        def of(c: Expr) -> Stmt:
            less = [Accum(acc, (Int(r), c), Bin("*", Un("neg", own(r, q)), acc[q, c])) for q in range(r)]
            divide = [] if unit else [Store(acc, (Int(r), c), acc[r, c] / own(r, r))]
            return seq(Store(acc, (Int(r), c), x[first + r, column + c] - acc[r, c]), *less, *divide, Store(x, (first + r, column + c), acc[r, c]))
        return lanes_of_tile(width, of)

    return Alloc(acc, seq(product(acc, left, lambda k, j: x[k, j], group, column, lo, first, width), unrolled(ROWS, row)))


def dot(x: Buffer, at: tuple[Expr, ...], y: Buffer, to: tuple[Expr, ...], lo: Expr, columns: int | str, lanes: int, then: Callable[[Expr], Stmt]) -> Stmt:
    """then(the dot product of rows of x and y), from vector number lo on; as many partial sums as lanes."""
    part, total, zero, k = Buffer("part", (lanes,), x.dtype, "register"), Buffer("total", (), x.dtype, "register"), number(0, x.dtype), Var("k")
    start = For("c", Int(0), Int(lanes), "simd", Store(part, (Var("c"),), zero))
    at, to = (*at, k * lanes + Var("c")), (*to, k * lanes + Var("c"))
    add = For("c", Int(0), Int(lanes), "simd", Accum(part, (Var("c"),), Bin("*", x[at], y[to])))
    end = For("c", Int(0), Int(lanes), "simd", Accum(total, (), part[Var("c")]))
    return Alloc(part, Alloc(total, seq(start, each("k", lo, int(columns) // lanes, add), Store(total, (), zero), end, then(total[()]))))
