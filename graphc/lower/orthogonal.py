"""QR by Householder reflections: in blocks I - V T Vᵀ of a panel of columns (Schreiber and Van Loan, 1989), or each lane its own matrix, column by column.

Columns of V stand as rows, which are contiguous; a 1 and zeros before it are written out. Numbers so large or small that squares leave their range are
scaled first.
"""
from __future__ import annotations

from collections.abc import Sequence

from ..core.dtype import DType
from ..core.record import dataclass
from ..ir.node import Node
from ..loop.ir import Accum, Alloc, Bin, Buffer, Call, Expr, Int, Select, Stmt, Store, Un, Var, dtype_of, lift, seq, subst
from . import tiles
from .access import Home
from .context import in_registers
from .elementwise import number
from .small import LANE, Lanes, less
from .task import Task, at_most, sizes
from .tiles import ROWS, Element, Shape, each, filled, lanes_of_tile, product, stripes, unrolled

FAR = 1e12                                              # beyond it, or below its inverse, a matrix is scaled: squares of f32 end at 1e38


def scale_of(largest: Expr) -> Expr:
    """What to divide by: the largest element where that is far from 1."""
    dtype = dtype_of(largest)
    usual = Bin("and", Bin("<", number(1 / FAR, dtype), largest), Bin("<", largest, number(FAR, dtype)))
    return Select(Bin("or", usual, Bin("==", largest, number(0, dtype))), number(1, dtype), largest)


def reflection(alpha: Expr, squares: Expr, tau: Buffer, scale: Buffer, norm: Buffer) -> Stmt:
    """H = 1 - tau v vᵀ, v = (1, scale * column), which leaves of a column, alpha on the diagonal and that sum of squares below it, the diagonal alone."""
    zero, one = number(0, tau.dtype), number(1, tau.dtype)
    beta = Un("neg", Call("copysign", (norm[()], alpha)))
    flat = Bin("==", squares, zero)
    return seq(Store(norm, (), Un("sqrt", Bin("+", Bin("*", alpha, alpha), squares))),
               Store(tau, (), Select(flat, zero, Bin("/", Bin("-", beta, alpha), beta))),
               Store(scale, (), Select(flat, zero, Bin("/", one, Bin("-", alpha, beta)))))


@dataclass(frozen=True, slots=True)
class QR:
    """The nest of one matrix and the arrays that it leaves: R is on and above the diagonal of `a`, Q is `q`; both up to signs, and `a` by a scale."""

    s: Shape
    sq: Shape
    a: Buffer
    q: Buffer
    v: Buffer
    t: Buffer
    scale: Buffer
    body: Stmt

    def allocated(self, rest: Stmt) -> Stmt:
        out = seq(self.body, rest)
        for buf in (self.a, self.q, self.v, self.t, self.scale):
            out = Alloc(buf, out)
        return out

    @property
    def count(self) -> int:
        """Of reflections."""
        return min(self.s.rows, self.s.columns)

    def sign(self, j: Expr) -> Expr:
        """Of R's diagonal, at most 1 beyond it."""
        at, dtype = Bin("min", j, Int(self.count - 1)), self.a.dtype
        return Select(Bin("and", Bin("<", j, Int(self.count)), Bin("<", self.a[at, at], number(0, dtype))), number(-1, dtype), number(1, dtype))

    def orthogonal(self, i: Expr, j: Expr) -> Expr:
        return Bin("*", self.q[i, j], self.sign(j))

    def upper(self, i: Expr, j: Expr) -> Expr:
        value = Bin("*", Bin("*", self.a[i, j], self.sign(i)), self.scale[0])
        return Select(Bin("<=", i, j), value, number(0, self.a.dtype))


def blocked(rows: int, columns: int, wide: int, dtype: DType, lanes: int, element: Element, tag: str = "") -> QR:
    """QR of a matrix of that many rows and columns, with Q of `wide` columns."""
    s, sq = Shape(rows, columns, lanes), Shape(rows, wide, lanes)
    count, panel = min(rows, columns), s.panel
    blocks = -(-count // panel)
    length = -(-s.padded_rows // lanes) * lanes
    a, q = tiles.scratch(f"a{tag}", s, dtype), tiles.scratch(f"q{tag}", sq, dtype)
    v, t = Buffer(f"v{tag}", (blocks * panel, length), dtype, "scratch"), Buffer(f"t{tag}", (blocks * panel, panel), dtype, "scratch")
    scale, largest = Buffer(f"scale{tag}", (1,), dtype, "scratch"), Buffer("largest", (), dtype, "register")
    zero, i, j, block = number(0, dtype), Var("i"), Var("j"), Var("block")
    start = block * panel

    find = Alloc(largest, seq(Store(largest, (), zero), each("i", 0, rows, each("j", 0, columns, Accum(largest, (), Un("abs", a[i, j]), "max"))),
                              Store(scale, (Int(0),), scale_of(largest[()]))))
    scaled = stripes(rows, s.padded_columns, lanes, lambda i, j: Store(a, (i, j), a[i, j] / scale[0]))
    clear = seq(stripes(blocks * panel, length, lanes, lambda i, j: Store(v, (i, j), zero)),
                each("i", 0, blocks * panel, each("j", 0, panel, Store(t, (i, j), zero))))
    one_panel = each("j", start, at_most(start + panel, count), _column(s, a, v, t, start, lanes))
    per_panel = panel // s.width
    behind = each("tile", block * per_panel + per_panel, s.tiles, reflected(a, v, s, start, panel, lambda r, k: t[start + k, r]))
    unit = filled(q, sq, lambda i, j: Select(Bin("==", i, j), number(1, dtype), zero))
    back = Int(blocks - 1) - Var("turn")
    first = back * panel
    form = each("turn", 0, blocks, each("tile", first // sq.width, sq.tiles, reflected(q, v, sq, first, panel, lambda r, k: t[first + r, k])))
    body = seq(filled(a, s, element), find, scaled, clear, each("block", 0, blocks, seq(one_panel, behind)), unit, form)
    return QR(s, sq, a, q, v, t, scale, body)


def _column(s: Shape, a: Buffer, v: Buffer, t: Buffer, start: Expr, lanes: int) -> Stmt:
    """The reflection of column j, applied to its panel, and its column of T."""
    dtype, i, j, panel = a.dtype, Var("i"), Var("j"), s.panel
    squares, tau, scale, norm = (Buffer(name, (), dtype, "register") for name in ("squares", "tau", "scale_", "norm"))
    zero = number(0, dtype)
    begin = seq(Store(squares, (), zero), each("i", j + 1, s.rows, Accum(squares, (), Bin("*", a[i, j], a[i, j]))),
                reflection(a[j, j], squares[()], tau, scale, norm),
                Store(v, (j, j), number(1, dtype)), each("i", j + 1, s.rows, Store(v, (j, i), Bin("*", a[i, j], scale[()]))))
    sums, m = Buffer("sums", (panel,), dtype, "register"), Buffer("m", (), dtype, "register")
    apply = Alloc(sums, seq(
        lanes_of_tile(panel, lambda c: Store(sums, (c,), zero)),
        each("i", j, s.rows, lanes_of_tile(panel, lambda c: Accum(sums, (c,), Bin("*", v[j, i], a[i, start + c])))),
        each("i", j, s.rows, Alloc(m, seq(Store(m, (), Un("neg", Bin("*", tau[()], v[j, i]))),
                                          lanes_of_tile(panel, lambda c: Accum(a, (i, start + c), Bin("*", m[()], sums[c]))))))))
    return in_registers([squares, tau, scale, norm], seq(begin, apply, t_column(v, t, start, j, tau[()], lanes)))


def t_column(v: Buffer, t: Buffer, start: Expr, j: Expr, tau: Expr, lanes: int) -> Stmt:
    """The column of T that reflection j adds to those of its block, which begins with `start`."""
    panel = int(t.shape[1])
    z, m, k, r = Buffer("z", (panel,), t.dtype, "scratch"), Buffer("m", (), t.dtype, "register"), Var("k"), Var("r")
    at = j - start
    dots = each("r", 0, at, tiles.dot(v, (start + r,), v, (j,), j // lanes, v.shape[1], lanes, lambda x: Store(z, (r,), x)))
    column = each("r", 0, at, Alloc(m, seq(Store(m, (), number(0, t.dtype)), each("k", r, at, Accum(m, (), Bin("*", t[start + r, k], z[k]))),
                                           Store(t, (start + r, at), Un("neg", Bin("*", tau, m[()]))))))
    return Alloc(z, seq(dots, column, Store(t, (j, at), tau)))


def reflected(x: Buffer, v: Buffer, s: Shape, start: Expr, panel: int, t: Element) -> Stmt:
    """A tile of x less V t Vᵀ x, in rows from `start` on."""
    dtype, tile, group, r = x.dtype, Var("tile"), Var("group"), range(ROWS)
    acc = Buffer("acc", (ROWS, s.width), dtype, "register")
    w, tw = (Buffer(name, (panel, s.width), dtype, "scratch") for name in ("w", "tw"))
    column = tile * s.width

    def stored(to: Buffer) -> Stmt:
        return unrolled(len(r), lambda k: lanes_of_tile(s.width, lambda c: Store(to, (group * ROWS + k, c), acc[k, c])))

    inner = each("group", 0, panel // ROWS, Alloc(acc, seq(
        product(acc, lambda i, k: v[start + i, k], lambda k, j: x[k, j], group, column, start, lift(s.padded_rows), s.width), stored(w))))
    mixed = each("group", 0, panel // ROWS, Alloc(acc, seq(product(acc, t, lambda k, j: w[k, j], group, Int(0), Int(0), Int(panel), s.width), stored(tw))))
    minus = unrolled(len(r), lambda k: lanes_of_tile(s.width, lambda c: Store(x, (group * ROWS + k, column + c), x[group * ROWS + k, column + c] - acc[k, c])))
    outer = each("group", start // ROWS, s.groups, Alloc(acc, seq(
        product(acc, lambda i, k: v[start + k, i], lambda k, j: tw[k, j], group, Int(0), Int(0), Int(panel), s.width), minus)))
    return Alloc(w, Alloc(tw, seq(inner, mixed, outer)))


def qr(n: Node, task: Task, homes: Sequence[Sequence[Home]]) -> Stmt:
    rows, columns = sizes(n)
    wide = rows if n.attrs["full"] else min(rows, columns)
    f = blocked(rows, columns, wide, task.dtype, task.lanes, task.operand(n.inputs[0]))
    return f.allocated(seq(task.written(homes[0], rows, wide, f.orthogonal), task.written(homes[1], wide, columns, f.upper)))


# ---- along the lanes -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SmallQR:
    """As `QR`, for a matrix in each lane."""

    rows: int
    columns: int
    a: Buffer
    q: Buffer
    scale: Buffer
    fill: Stmt
    body: Stmt                                          # on the lanes

    def allocated(self, rest: Stmt) -> Stmt:
        return Alloc(self.a, Alloc(self.q, Alloc(self.scale, rest)))

    def sign(self, j: Expr) -> Expr:
        count, dtype = min(self.rows, self.columns), self.a.dtype
        at = Bin("min", j, Int(count - 1))
        return Select(Bin("and", Bin("<", j, Int(count)), Bin("<", self.a[at, at, LANE], number(0, dtype))), number(-1, dtype), number(1, dtype))

    def orthogonal(self, i: Expr, j: Expr) -> Expr:
        return Bin("*", self.q[i, j, LANE], self.sign(j))

    def upper(self, i: Expr, j: Expr) -> Expr:
        value = Bin("*", Bin("*", self.a[i, j, LANE], self.sign(i)), self.scale[0, LANE])
        return Select(Bin("<=", i, j), value, number(0, self.a.dtype))


def in_lanes(rows: int, columns: int, wide: int, t: Lanes, element: Element, tag: str = "") -> SmallQR:
    dtype, count = t.dtype, min(rows, columns)
    a, q, v = t.buffer(f"a{tag}", rows, columns), t.buffer(f"q{tag}", rows, wide), t.buffer(f"v{tag}", count, rows)
    taus, scale = Buffer(f"taus{tag}", (count, t.lanes), dtype, "scratch"), Buffer(f"scale{tag}", (1, t.lanes), dtype, "scratch")
    i, j, c, zero, one = Var("i"), Var("j"), Var("c"), number(0, dtype), number(1, dtype)
    largest, squares, tau, factor, norm, acc = (t.register(name) for name in ("largest", "squares", "tau", "factor", "norm", "acc"))
    at = Int(0), LANE
    look, divide = Accum(largest, (), Un("abs", a[i, j, LANE]), "max"), Store(a, (i, j, LANE), a[i, j, LANE] / scale[at])
    find = Alloc(largest, seq(Store(largest, (), zero), each("i", 0, rows, each("j", 0, columns, look)), Store(scale, at, scale_of(largest[()])),
                              each("i", 0, rows, each("j", 0, columns, divide))))

    def applied(x: Buffer, lo: Expr, hi: int) -> Stmt:
        """x less tau v vᵀ x, in rows from j on and columns lo:hi."""
        dot = each("i", j, rows, Accum(acc, (), Bin("*", v[j, i, LANE], x[i, c, LANE])))
        minus = each("i", j, rows, less(x, (i, c, LANE), acc[()], v[j, i, LANE]))
        return each("c", lo, hi, Alloc(acc, seq(Store(acc, (), zero), dot, Store(acc, (), Bin("*", acc[()], taus[j, LANE])), minus)))

    column = in_registers([squares, tau, factor, norm], seq(
        Store(squares, (), zero), each("i", j + 1, rows, Accum(squares, (), Bin("*", a[i, j, LANE], a[i, j, LANE]))),
        reflection(a[j, j, LANE], squares[()], tau, factor, norm),
        Store(v, (j, j, LANE), one), each("i", j + 1, rows, Store(v, (j, i, LANE), Bin("*", a[i, j, LANE], factor[()]))),
        Store(taus, (j, LANE), tau[()]), applied(a, j, columns)))
    unit = each("i", 0, rows, each("j", 0, wide, Store(q, (i, j, LANE), Select(Bin("==", i, j), one, zero))))
    turn = Var("turn")
    form = each("turn", 0, count, subst(applied(q, j, wide), {"j": Int(count - 1) - turn}))
    body = Alloc(v, Alloc(taus, t.computed(seq(find, each("j", 0, count, column), unit, form))))
    return SmallQR(rows, columns, a, q, scale, t.filled(a, rows, columns, element), body)


def small_qr(n: Node, t: Lanes, homes: Sequence[Sequence[Home]]) -> Stmt:
    rows, columns = sizes(n)
    wide = rows if n.attrs["full"] else min(rows, columns)
    f = in_lanes(rows, columns, wide, t, t.operand(n.inputs[0]))
    return f.allocated(seq(f.fill, f.body, t.written(homes[0], rows, wide, f.orthogonal), t.written(homes[1], wide, columns, f.upper)))


KERNELS = {"qr": (qr, small_qr)}
