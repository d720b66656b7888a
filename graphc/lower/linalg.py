"""Factorizations and triangular solutions as nests. A batch of small matrices goes along the lanes, a matrix each; any other matrix is factored in blocks.

Blocked: a panel is factored, the rows or columns beside it are solved for, and what is behind it is updated by a product in register tiles
(`tiles`), as LAPACK does since 1992. All of it is loops; one thread factors one matrix, and threads share a batch.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..core.dtype import i64
from ..ir.node import Node
from ..loop.ir import Accum, Alloc, Bin, Buffer, Cast, Expr, Int, Lit, Select, Stmt, Store, Un, Var, lift, seq
from . import jacobi, orthogonal, small, tiles
from .access import Home
from .context import Context, Made, in_registers
from .elementwise import number
from .task import Task, at_most, lowered, sizes
from .tiles import ROWS, Shape, each, filled, lanes_of_tile, minus_product, substituted

# ---- Cholesky --------------------------------------------------------------------------------------------------------------------------


def _cholesky(n: Node, task: Task, homes: Sequence[Sequence[Home]]) -> Stmt:
    """x = Uᵀ U in blocks of rows; what is written is Uᵀ. Along the lanes run the columns."""
    size, dtype = sizes(n)[0], task.dtype
    s = Shape(size, size, task.lanes)
    u, x, half = tiles.scratch("u", s, dtype), task.operand(n.inputs[0]), number(0.5, dtype)
    per_block = s.panel // ROWS
    block, group, tile = Var("block"), Var("group"), Var("tile")
    start = block * s.panel
    end = at_most(block * per_block + per_block, s.groups)              # in groups
    corner = Buffer("d", (ROWS, ROWS), dtype, "scratch")

    def left(i: Expr, k: Expr) -> Expr:
        return u[k, i]

    one_group = seq(_corner(u, corner, group, start),
                    each("tile", group * ROWS // s.width, s.tiles, _with_corner(u, left, corner, group, tile, start, s.width)))
    behind = each("tile", end * ROWS // s.width, s.tiles, each("group", end, at_most(((tile + 1) * s.width + (ROWS - 1)) // ROWS, s.groups),
                                                              minus_product(u, left, group, tile, start, end * ROWS, s.width)))
    factor = each("block", 0, -(-size // s.panel), seq(each("group", block * per_block, end, one_group), behind))
    last = u[size - 1, size - 1]
    nan = number(float("nan"), dtype)
    ok = Bin("==", last, last)

    def result(i: Expr, j: Expr) -> Expr:
        return Select(Bin("<=", j, i), Select(ok, u[j, i], nan), number(0, dtype))

    symmetric = filled(u, s, lambda i, j: Bin("*", Bin("+", x(i, j), x(j, i)), half))
    return Alloc(u, Alloc(corner, seq(symmetric, factor, task.written(homes[0], size, size, result))))


def _corner(u: Buffer, corner: Buffer, group: Expr, start: Expr) -> Stmt:
    """The Cholesky factor of the group's own square, less what the block's rows above it contribute."""
    dtype, k, first = u.dtype, Var("k"), group * ROWS
    d = Buffer("s", (ROWS, ROWS), dtype, "register")
    upper = [(r, c) for r in range(ROWS) for c in range(r, ROWS)]
    zero = seq(*(Store(d, (Int(r), Int(c)), number(0, dtype)) for r, c in upper))
    add = seq(*(Accum(d, (Int(r), Int(c)), Bin("*", u[k, first + r], u[k, first + c])) for r, c in upper))
    rest: list[Stmt] = [Store(d, (Int(r), Int(c)), u[first + r, first + c] - d[r, c]) for r, c in upper]
    for r in range(ROWS):
        pivot = Select(Bin("<", number(0, dtype), d[r, r]), d[r, r], number(float("nan"), dtype))
        rest.append(Store(d, (Int(r), Int(r)), Un("sqrt", pivot)))
        rest += [Store(d, (Int(r), Int(c)), d[r, c] / d[r, r]) for c in range(r + 1, ROWS)]
        rest += [Accum(d, (Int(q), Int(c)), Bin("*", Un("neg", d[r, q]), d[r, c])) for q in range(r + 1, ROWS) for c in range(q, ROWS)]
    out = [Store(corner, (Int(r), Int(c)), d[r, c]) for r, c in upper]
    return Alloc(d, seq(zero, each("k", start, first, add), *rest, *out))


def _with_corner(u: Buffer, left: tiles.Element, corner: Buffer, group: Expr, tile: Expr, start: Expr, width: int) -> Stmt:
    return substituted(u, left, group, tile, start, width, False, lambda r, q: corner[q, r])


# ---- LU --------------------------------------------------------------------------------------------------------------------------------


def _lu(n: Node, task: Task, homes: Sequence[Sequence[Home]]) -> Stmt:
    """Panels of columns, each factored with row exchanges that move whole rows; then the rows of U beside it, then what is behind."""
    size, dtype = sizes(n)[0], task.dtype
    s = Shape(size, size, task.lanes)
    a, perm = tiles.scratch("a", s, dtype), Buffer("p", (size,), i64, "scratch")
    block, group, tile, i = Var("block"), Var("group"), Var("tile"), Var("i")
    start, per_block, per_panel = block * s.panel, s.panel // ROWS, s.panel // s.width

    def left(r: Expr, k: Expr) -> Expr:
        return a[r, k]

    panel = each("k", start, at_most(start + s.panel, size), _eliminated(a, perm, s, start))
    end = at_most(block * per_block + per_block, s.groups)
    first = block * per_panel + per_panel                               # tile behind the panel
    beside = each("tile", first, s.tiles, each("group", block * per_block, end, substituted(a, left, group, tile, start, s.width, True)))
    behind = each("tile", first, s.tiles, each("group", end, s.groups, minus_product(a, left, group, tile, start, start + s.panel, s.width)))
    factor = each("block", 0, -(-size // s.panel), seq(panel, beside, behind))
    out = [task.written(homes[0], size, size, lambda r, c: a[r, c])]
    if homes[1]:
        out.append(each("i", 0, size, seq(*(Store(*task.reader.place(h, (*task.batch, i)), perm[i]) for h in homes[1]))))
    numbers = each("i", 0, size, Store(perm, (i,), Cast(i, i64)))
    return Alloc(a, Alloc(perm, seq(filled(a, s, task.operand(n.inputs[0])), numbers, factor, *out)))


def _eliminated(a: Buffer, perm: Buffer, s: Shape, start: Expr) -> Stmt:
    """Column k of a panel: its largest element becomes the pivot, and the panel's columns behind it are updated."""
    dtype, k, i, j = a.dtype, Var("k"), Var("i"), Var("j")
    best, where = Buffer("best", (), dtype, "register"), Buffer("where", (), i64, "register")
    size = Buffer("size", (), dtype, "register")
    better = Bin("<", best[()], size[()])
    look = Alloc(size, seq(Store(size, (), Un("abs", a[i, k])), Store(where, (), Select(better, Cast(i, i64), where[()])),
                           Store(best, (), Select(better, size[()], best[()]))))
    find = seq(Store(best, (), Un("abs", a[k, k])), Store(where, (), Cast(k, i64)), each("i", k + 1, s.rows, look))
    p = where[()]
    one, other = Buffer("one", (), dtype, "register"), Buffer("other", (), dtype, "register")
    there, here = Buffer("there", (), i64, "register"), Buffer("here", (), i64, "register")

    def exchange(c: Expr) -> Stmt:
        at = j * s.width + c
        return in_registers([one, other], seq(Store(one, (), a[k, at]), Store(other, (), a[p, at]), Store(a, (k, at), other[()]), Store(a, (p, at), one[()])))

    swap = seq(each("j", 0, s.tiles, lanes_of_tile(s.width, exchange)),
               in_registers([here, there], seq(Store(here, (), perm[k]), Store(there, (), perm[p]), Store(perm, (k,), there[()]), Store(perm, (p,), here[()]))))
    row, factor, pivot = Buffer("row", (s.panel,), dtype, "register"), Buffer("m", (), dtype, "register"), Buffer("pivot", (), dtype, "register")
    take = lanes_of_tile(s.panel, lambda c: Store(row, (c,), Select(Bin("<", k, start + c), a[k, start + c], number(0, dtype))))
    below = each("i", k + 1, s.rows, Alloc(factor, seq(
        Store(factor, (), a[i, k] / pivot[()]), Store(a, (i, k), factor[()]),
        lanes_of_tile(s.panel, lambda c: Accum(a, (i, start + c), Bin("*", Un("neg", factor[()]), row[c]))))))
    zero = number(0, dtype)
    safe = Store(pivot, (), Select(Bin("==", a[k, k], zero), number(1, dtype), a[k, k]))
    return in_registers([best, where, row, pivot], seq(find, swap, take, safe, below))


# ---- triangular solutions --------------------------------------------------------------------------------------------------------------


def _triangular_solve(n: Node, task: Task, homes: Sequence[Sequence[Home]]) -> Stmt:
    """Forward substitution in blocks of rows. What is solved from the last row up is turned round on its way into scratch, and back on its way out."""
    (size, columns), dtype = sizes(n, 1), task.dtype
    st, sx = Shape(size, size, task.lanes), Shape(size, columns, task.lanes)
    t, x = tiles.scratch("t", st, dtype), tiles.scratch("x", sx, dtype)
    element, b = triangle(n, task.operand(n.inputs[0]), size), task.operand(n.inputs[1])
    up, unit = turned(n), n.attrs["unit"]
    block, group, tile = Var("block"), Var("group"), Var("tile")
    per_block = 8
    start, end = block * (per_block * ROWS), at_most(block * per_block + per_block, st.groups)

    def left(i: Expr, k: Expr) -> Expr:
        return t[i, k]

    own = each("group", block * per_block, end, substituted(x, left, group, tile, start, sx.width, unit))
    behind = each("group", end, st.groups, minus_product(x, left, group, tile, start, end * ROWS, sx.width))
    solve = each("block", 0, -(-st.groups // per_block), each("tile", 0, sx.tiles, seq(own, behind)))

    def row(i: Expr) -> Expr:
        return lift(size - 1) - i if up else i

    return Alloc(t, Alloc(x, seq(filled(t, st, element), filled(x, sx, lambda i, j: b(row(i), j)), solve,
                                 task.written(homes[0], size, columns, lambda i, j: x[row(i), j]))))


def turned(n: Node) -> bool:
    """Is the last row of x found first?"""
    return bool(n.attrs["lower"] == n.attrs["transposed"])


def triangle(n: Node, a: tiles.Element, size: int) -> tiles.Element:
    """The lower triangle that is solved with, once rows are turned; 0 above it."""
    up, transposed = turned(n), n.attrs["transposed"]

    def at(i: Expr, k: Expr) -> Expr:
        r, c = (lift(size - 1) - i, lift(size - 1) - k) if up else (i, k)
        return Select(Bin("<=", k, i), a(c, r) if transposed else a(r, c), Lit(0.0, n.tensor.dtype))

    return at


KERNELS: Mapping[str, Callable[[Node, Context], Made]] = {
    "cholesky": lowered(_cholesky, small.cholesky), "lu": lowered(_lu, small.lu), "triangular_solve": lowered(_triangular_solve, small.triangular_solve),
    **{name: lowered(*both) for name, both in (*orthogonal.KERNELS.items(), *jacobi.KERNELS.items())},
}
