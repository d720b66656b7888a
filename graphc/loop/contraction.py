"""Contractions, reductions and maps as nests, and the schedules that make them fast. The nest says what, the schedule how; neither knows the other.

GEMM, its transposes, direct convolution and a batched product are one function with different index expressions. Prologues are what stands in
`product`, epilogues what stands in `epilogue`, the update of a weight included: there is nothing to fuse later, because nothing was apart.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ..core.dtype import DType
from ..core.target import Target
from .affine import place
from .ir import Accum, Alloc, Buffer, Expr, For, Int, Lit, Load, Stmt, Store, dtype_of, expressions, lift, seq, walk
from .schedule import ScheduleError, chunks, each, extent, mark, neutral, partial_sums, sink, stage, tile

Op = Literal["+", "*", "max", "min"]


def contraction(free: Mapping[str, int | str], summed: Mapping[str, int], product: Expr, epilogue: Callable[[Expr], Stmt], *,
                init: Expr | None = None, op: Op = "+", acc: str = "acc") -> Stmt:
    """for free axes: acc = init; for summed axes: acc op= product; epilogue(acc).

    The free axes are in the order of the output, batch axes first, the row and column of a product last; the first may be symbolic. The epilogue
    may store to any number of arrays. Without `init` the sum starts at what is neutral (0 for +).
    """
    dtype = dtype_of(product)
    a = Buffer(acc, (), dtype, "register")
    inner: Stmt = Accum(a, (), product, op)
    for var, n in reversed(summed.items()):
        inner = For(var, Int(0), lift(n), "serial", inner)
    nest: Stmt = Alloc(a, seq(Store(a, (), neutral(op, dtype) if init is None else init), inner, epilogue(a[()])))
    for var, size in reversed(free.items()):
        nest = For(var, Int(0), lift(size), "parallel", nest)
    return nest


# ---- what a nest reads -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Access:
    """How one load or store moves with the loops: elements per step of each; None where the index is not affine in it."""

    buf: Buffer
    strides: Mapping[str, int | None]
    store: bool = False

    def along(self, var: str) -> int | None:
        return self.strides.get(var, 0)


def accesses(s: Stmt, inner: bool = False) -> list[Access]:
    """Every load and store of memory in the nest; with `inner`, only the loads that accumulations make."""
    variables = [x.var for x in walk(s) if isinstance(x, For)]
    made = {x.buf.name for x in walk(s) if isinstance(x, Alloc)}
    found: list[Access] = []

    def add(buf: Buffer, ix: tuple[Expr, ...], store: bool) -> None:
        if buf.name not in made:
            f = place(buf, ix)
            found.append(Access(buf, {v: None if f.moves_otherwise(v) else f.coefficient(v) for v in variables}, store))

    for e in expressions(seq(*(x for x in walk(s) if isinstance(x, Accum) and x.buf.name in made))) if inner else expressions(s):
        if isinstance(e, Load):
            add(e.buf, e.index, False)
    for x in walk(s) if not inner else ():
        if isinstance(x, Store | Accum):
            add(x.buf, x.index, True)
    return found


def size_of(s: Stmt, var: str) -> int:
    """The extent of a loop; a symbolic one counts as many."""
    for x in walk(s):
        if isinstance(x, For) and x.var == var:
            return x.hi.value if isinstance(x.hi, Int) else 1 << 10
    raise ScheduleError(f"no loop {var} in this nest")


def accumulator(s: Stmt) -> str:
    return next(x.buf.name for x in walk(s) if isinstance(x, Alloc) and x.buf.space == "register" and x.buf.shape == ()
                and any(isinstance(y, Accum) and y.buf.name == x.buf.name for y in walk(x)))


# ---- register tiles ----------------------------------------------------------------------------------------------------------------


def in_registers(s: Stmt, row: str, column: str, rows: int, columns: int, target: Target, dtype: DType, by_columns: bool = False) -> Stmt:
    """A rows x columns tile of the accumulator lives in registers, columns across lanes. The outer loop is over rows, or over columns."""
    lanes = target.lanes(dtype)
    if by_columns:
        s = sink(s, row, into=column)
        s = tile(s, column, columns, unit=lanes)
        s = each(s, column + "i", lambda c: tile(c, row, highest(-(-extent(c) // lanes), rows, columns // lanes, target)))
    else:
        s = tile(s, row, rows)
        s = each(s, row + "i", lambda r: tile(r, column, max(columns, widest(extent(r), target) * lanes), unit=lanes))
    s = sink(s, row + "i")                                      # down to the leaves: acc becomes acc[mi]
    s = sink(s, column + "i")                                   #                     acc becomes acc[mi, ni]
    return mark(s, **{row + "i": "unroll", column + "i": "simd"})


def widest(rows: int, t: Target) -> int:
    """Vectors for a tile of so few rows that only width keeps the FMA units busy."""
    return max(v for v in range(1, 9) if t.tile_fits(rows, v)) if rows <= t.registers // 8 else 0


def highest(vectors: int, rows: int, most: int, t: Target) -> int:
    """Rows for a tile of fewer vectors than the schedule's: as many accumulators as it has."""
    return max(r for r in range(1, 2 * rows + 1) if t.tile_fits(r, vectors) or r <= rows) if vectors < most else rows


def tile_size(m: int, n: int, t: Target, dtype: DType) -> tuple[int, int, float]:
    """Rows and columns of the register tile, and its cost: the cheapest cover of m x n, where a small tile pays for its loads and its latency.

    The cost is in cycles for each k, of a machine with two FMAs and two loads a cycle and a latency of four.
    """
    lanes = t.lanes(dtype)
    vectors = -(-n // lanes)

    def cost(rows: int, width: int) -> float:
        runs = [(cm * cn, r, v) for _, cm, r in chunks(m, rows) for _, cn, v in chunks(vectors, width)]
        return sum(count * (max(r * v / 2, (r + v) / 2, 4) + .15 * (r + v) / 2) for count, r, v in runs)

    best = min((cost(r, v), r, v) for v in range(1, 5) for r in range(1, min(m, 30) + 1) if t.tile_fits(r, v))
    return best[1], best[2] * lanes, best[0]
