"""Contractions, reductions and maps as nests, and the schedules that make them fast. The nest says what, the schedule how; neither knows the other.

GEMM, its transposes, direct convolution and a batched product are one function with different index expressions. Prologues are what stands in
`product`, epilogues what stands in `epilogue`, the update of a weight included: there is nothing to fuse later, because nothing was apart.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import groupby
from typing import Literal

from ..core.dtype import DType
from ..core.errors import UnknownSize
from ..core.record import dataclass, replace
from ..core.target import Target
from .affine import place
from .ir import Accum, Alloc, Bin, Buffer, Expr, For, If, Int, Lit, Load, Stmt, Store, Var, dtype_of, expressions, lift, postorder, seq, walk

from .schedule import (  # isort: skip
    ScheduleError, chunks, collapse, each, extent, in_blocks, lanes_of, mark, neutral, partial_sums, sink, spill, stage, strips, tile,
)

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
    for var, n in reversed(list(summed.items())):
        inner = For(var, Int(0), lift(n), "serial", inner)
    nest: Stmt = Alloc(a, seq(Store(a, (), neutral(op, dtype) if init is None else init), inner, epilogue(a[()])))
    for var, size in reversed(list(free.items())):
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


MANY = 1 << 10                                                  # iterations of a symbolic loop, where nothing better is known


def loop_of(s: Stmt, var: str) -> For:
    """The first loop of that name."""
    for x in walk(s):
        if isinstance(x, For) and x.var == var:
            return x
    raise ScheduleError(f"no loop {var} in this nest")


def size_of(s: Stmt, var: str, many: int = MANY) -> int:
    """The extent of a loop; a symbolic one counts as many."""
    hi = loop_of(s, var).hi
    return hi.value if isinstance(hi, Int) else many


def accumulators(s: Stmt) -> list[str]:
    """The registers that the nest sums up in, outermost first."""
    return [x.buf.name for x in walk(s) if isinstance(x, Alloc) and x.buf.space == "register" and x.buf.shape == ()
            and any(isinstance(y, Accum) and y.buf.name == x.buf.name for y in walk(x))]


def accumulator(s: Stmt) -> str:
    return accumulators(s)[0]


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


@lru_cache(1 << 10)
def tile_size(m: int, n: int, t: Target, dtype: DType) -> tuple[int, int, float]:
    """Rows and columns of the register tile, and its cost: the cheapest cover of m x n, where a small tile pays for its loads and its latency.

    The cost is in cycles for each k, of a machine with two FMAs and two loads a cycle and a latency of four; a row of B comes from farther away.
    Every shape of tile is code to compile: one more must save 2 % of the time.
    """
    lanes = t.lanes(dtype)

    def cost(rows: int, width: int) -> float:
        runs = [(cm * cn, r, -(-c // lanes)) for _, cm, r in chunks(m, rows) for _, cn, c in chunks(n, width * lanes, lanes)]
        return sum(count * (max(r * v / 2, (r + v) / 2, 4) + .15 * (r + 3 * v) / 2) for count, r, v in runs) * (1 + .02 * len(runs))

    best = min((cost(r, v), r, v) for v in range(1, 5) for r in range(1, min(m, 30) + 1) if t.tile_fits(r, v))
    return best[1], best[2] * lanes, best[0]


def matmul_schedule(s: Stmt, m: str, n: str, k: tuple[str, ...], target: Target, dtype: DType) -> Stmt:
    """The schedule of a contraction with free axes m and n (others, outside them, are batch axes) and summed axes k, the last one innermost.

    Lanes go along n, along m, or along k with partial sums, whichever is estimated to take the fewest cycles; an operand that is not contiguous
    along the lanes, or too large, is packed. The order of every sum depends on shape, dtype and target alone. A missing axis is "".
    """
    if all(loop_of(s, x).hi == Int(1) for x in (m, n) if x):
        return reduce_schedule(s, (), k, target)
    if not m or not n:                                          # a matrix and a vector: an axis of one
        have, one = m or n, f"{m or n}_one"
        s = each(s, have, lambda x: replace(x, body=For(one, Int(0), Int(1), "parallel", x.body)))
        m, n = (one, n) if n else (m, one)
        if not n.endswith("_one"):
            s = sink(s, n, into=m)
    loose = {x.var: x.hi for x in walk(s) if isinstance(x, For) and x.var in (m, n, *k) and not isinstance(x.hi, Int)}
    if not loose:
        return choose(s, m, n, k, target, dtype, MANY).schedule(s, m, n, k, target, dtype)
    if len(loose) > 1:
        raise UnknownSize(f"a product has several of them: {', '.join(loose)}")
    ((var, size),) = loose.items()
    if var in k[1:]:
        raise UnknownSize("the last axis of a sum over several is one")
    versions: list[Stmt] = []
    choices = [choose(s, m, n, k, target, dtype, step) for step in STEPS]
    for _, run in groupby(range(len(STEPS)), key=lambda i: choices[i].key):
        steps = list(run)
        first, end = STEPS[steps[0]], STEPS[steps[-1] + 1] if steps[-1] + 1 < len(STEPS) else None
        known = s if end != first + 1 else each(s, var, lambda x, n=first: replace(x, hi=Int(n)))  # type: ignore[misc]
        version = choices[steps[-1]].schedule(known, m, n, k, target, dtype)
        if end is not None:
            version = If(Bin("<", size, Int(end)), version)
        versions.append(If(Bin("<=", Int(first), size), version) if first > 1 else version)
    return seq(*versions)


STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


def step_of(n: int) -> int:
    """The size that decides for n whether a sum is taken along the lanes: for the bits' sake a function that symbolic sizes can follow."""
    return max((x for x in STEPS if x <= n), default=1)


@dataclass(frozen=True, slots=True)
class Choice:
    """How a contraction is scheduled. `key`: what the order of the sums depends on, and what about the code is worth a version of its own."""

    dots: bool
    by_n: bool
    key: tuple[int, ...]
    many: int                                                   # what a symbolic axis counts as

    def schedule(self, s: Stmt, m: str, n: str, k: tuple[str, ...], target: Target, dtype: DType) -> Stmt:
        if self.dots:
            return dot_schedule(s, m, n, k, target, dtype, self.many)
        if self.by_n:
            return tiled(s, m, n, k, target, dtype, self.many)
        return tiled(sink(s, m, into=n), n, m, k, target, dtype, self.many)


def choose(s: Stmt, m: str, n: str, k: tuple[str, ...], target: Target, dtype: DType, many: int) -> Choice:
    """The cheapest of three. Whether lanes go along k, which decides the bits, is asked of sizes rounded down to STEPS."""
    lanes, reads = target.lanes(dtype), accesses(s, inner=True)
    depth = math.prod(size_of(s, v, many) for v in k)
    stores = [a for a in accesses(s) if a.store]
    whole = {x.var: isinstance(x.hi, Int) for x in walk(s) if isinstance(x, For)}

    def along(lane: str, other: str, many: int, few: int) -> float:
        """Cycles with lanes along one free axis."""
        cost = tile_size(few, many, target, dtype)[2] * depth
        for a in reads:
            if a.along(lane) not in (0, 1):
                cost += many * depth * (0.6 if a.along(k[-1]) == 1 else 1.5) if packable(a, reads, lane, other) else 1.5 * many * few * depth / min(few, 6)
        return cost + sum(1.5 * many * few for a in stores if a.along(lane) not in (0, 1))

    def dots(rows: int, columns: int) -> float:
        """Cycles with lanes along k."""
        r, c, _ = dot_tile(rows, columns, depth, target)
        last = size_of(s, k[-1], many)
        steps, tiles = depth // last * -(-last // lanes), -(-rows // r) * -(-columns // c)
        return tiles * (steps * max(r * c / 2, (r + c) / 2, 1) * 1.15 + r * c * (2 * lanes.bit_length() + 4))

    rows, columns = size_of(s, m, many), size_of(s, n, many)
    if all(a.along(k[-1]) in (0, 1) for a in reads):
        if not all(whole[v] for v in k):
            raise UnknownSize("the order of a sum depends on its length")
        few, wide = step_of(rows), step_of(columns)
        if dots(few, wide) < min(along(n, m, wide, few), along(m, n, few, wide)):
            return Choice(True, True, dot_tile(few, wide, depth, target), many)
    by_n = whole[n] and (not whole[m] or along(n, m, columns, rows) <= along(m, n, rows, columns))
    right, left = panels(s, *((m, n) if by_n else (n, m)), k, target, dtype, many)
    height, width = (rows, columns) if by_n else (columns, rows)
    return Choice(False, by_n, (int(bool(right or left)), int(height == 1 and streams(height, width, depth, target, dtype))), many)


def packable(a: Access, reads: list[Access], lane: str, other: str) -> bool:
    """Whether a copy of what `a` reads, indexed by the lanes and k, can stand for it: it does not move with the other axis, and is read in one way."""
    return a.along(other) == 0 and None not in a.strides.values() and sum(x.buf.name == a.buf.name for x in reads) == 1


def panels(s: Stmt, row: str, column: str, k: tuple[str, ...], target: Target, dtype: DType, many: int) -> tuple[list[Access], list[Access]]:
    """The operands that are packed: those that move with the columns, and those that move with the rows."""
    reads, size = accesses(s, inner=True), dtype.itemsize
    height, width, depth = size_of(s, row, many), size_of(s, column), math.prod(size_of(s, v, many) for v in k)
    rows, _, _ = tile_size(height, width, target, dtype)

    def far(a: Access, var: str) -> bool:
        """Whether steps of var fall into one set of the cache."""
        return (a.along(var) or 0) * size % WAY == 0 and a.along(var) != 0

    follows = {e.buf.name for x in walk(s) if isinstance(x, Store) for e in expressions(x) if isinstance(e, Load)}     # the epilogue's are not packed
    reads = [a for a in reads if a.buf.name not in follows]
    large = width * depth * size > target.l2 * 3 // 8           # read in rows, it would fall out of L2 and out of the TLB between two tiles
    right = [a for a in reads if a.along(column) != 0 and packable(a, reads, column, row)
             and (a.along(column) != 1 or ((large or far(a, k[-1])) and height >= 8 * rows))]
    left = [a for a in reads if a.along(row) != 0 and packable(a, reads, row, column) and width >= 8 * target.lanes(dtype) and height > 2
             and (far(a, row) or height * depth * size > 4 * target.l2 or
                  (crowded((a.along(k[-1]) or 0) * size, depth) if a.along(row) == 1 else far(a, k[-1]) and depth > 8))]
    return right, left


def tiled(s: Stmt, row: str, column: str, k: tuple[str, ...], target: Target, dtype: DType, many: int = MANY) -> Stmt:
    """Lanes along `column`, the loop just inside which `row` or the sum stands."""
    height, width, depth = size_of(s, row, many), size_of(s, column), math.prod(size_of(s, v, many) for v in k)
    rows, columns, _ = tile_size(height, width, target, dtype)
    acc = accumulator(s)
    long = epilogue_work(s, acc, column, target.lanes(dtype)) > LONG
    right, left = panels(s, row, column, k, target, dtype, many)
    most = max(128, target.l1 * 3 // 8 // (rows * dtype.itemsize))      # of a sum whose strip of left rows stays in L1
    group = group_of(columns, depth, target, dtype)
    whole = all(isinstance(loop_of(s, v).hi, Int) for v in k)
    long_sum, again = depth > 2 * most or not whole, left and width > group * columns   # again: strips would be packed for each group of panels
    if ((right or left) and long_sum) or again:
        return blocked(s, row, column, k, right, left, rows, columns, most if long_sum else depth, target, dtype)
    if not right and not left and whole and isinstance(loop_of(s, row).hi, Int) and streams(height, width, depth, target, dtype):
        return streamed(s, row, column, k, target, dtype)
    if right or left:
        s = packed(s, row, column, k, right, left, rows, columns, group, target, dtype)
    else:
        s = in_registers(s, row, column, rows, columns, target, dtype, by_columns=width > height)
    s = unrolled(s, k[-1], target)
    return spill(s, acc, row + "i", column + "i", target.lanes(dtype)) if long else s


WAY = 4096                                                      # bytes of a way of L1: addresses that far apart share a set


def crowded(stride: int, count: int) -> bool:
    """Whether so many lines of the cache, so many bytes apart, fill more than half of L1, or of the few sets that they fall into."""
    lines = WAY // 64
    sets = lines // math.gcd(stride // 64, lines) if stride % 64 == 0 else lines
    return count * min(stride, 64) // 64 > 4 * sets


def group_of(columns: int, depth: int, target: Target, dtype: DType) -> int:
    """Panels of a packed operand that fill half of L2."""
    return max(1, target.l2 // 2 // (columns * depth * dtype.itemsize))


def unrolled(s: Stmt, k: str, target: Target) -> Stmt:
    """A long sum in steps of two where accumulators are few: the loop itself costs 7 %."""
    n = size_of(s, k)
    return mark(tile(s, k, 2), **{k + "i": "unroll"}) if target.registers < 32 and n >= 256 and n % 2 == 0 else s


LONG = 24                                                       # operations of an epilogue that is better not unrolled over the tile


def epilogue_work(s: Stmt, acc: str, column: str, lanes: int) -> int:
    """The operations of what follows the sum, for a vector along `column`: what is not contiguous there is loaded and stored lane by lane."""
    stores = [x for x in walk(s) if isinstance(x, Store) and x.buf.name != acc]
    loads = {(e.buf, e.index) for x in stores for e in expressions(x) if isinstance(e, Load)}
    forms = [place(buf, ix) for buf, ix in [*loads, *((x.buf, x.index) for x in stores)]]
    strided = sum(f.moves_otherwise(column) or f.coefficient(column) not in (0, 1) for f in forms)
    return sum(1 for x in stores for _ in postorder(x.value, {})) + 2 * lanes * strided


def packed(s: Stmt, row: str, column: str, k: tuple[str, ...], right: list[Access], left: list[Access], rows: int, columns: int, group: int,
           target: Target, dtype: DType) -> Stmt:
    """A group of panels of the right operands is packed into L2, a strip of the left ones into L1, and the tile reads those."""
    lanes = target.lanes(dtype)
    few = size_of(s, column) * math.prod(size_of(s, v) for v in k) <= 32 * lanes * lanes
    s = sink(s, row, into=column)                               # n, m
    s = tile(s, column, columns, unit=lanes, outer=column + "p")
    s = tile(s, column + "p", group, outer=column + "c", inner=column + "o")
    s = tile(s, row, rows)                                      # nc, no, ni, mo, mi
    s = sink(s, column + "o", into=row + "o")
    s = sink(sink(s, row + "i"), column + "i")                  # nc, mo, no, [tile: k, mi, ni]
    for a in right:
        b, inner, last = a.buf, f"{column}i_{a.buf.name}", f"{k[-1]}_{a.buf.name}"
        s = stage(s, column + "c", b, (column + "o", *k, column + "i"))
        if a.along(column) != 1 and a.along(k[-1]) == 1:        # across its diagonal, block by block
            block = lanes if few else columns                   # two vectors of rows in turn are faster, and twice the text
            s = sink(tile(tile(s, inner, block, unit=lanes), last, lanes, unit=lanes), last + "i")
            s = mark(s, **{last + "i": "unroll", inner + "i": "simd"})
        else:
            s = mark(s, **{inner: "simd"})
    for a in left:
        last, inner = f"{k[-1]}_{a.buf.name}", f"{row}i_{a.buf.name}"
        if a.along(row) == 1:                                   # as it lies, without the rest of its lines
            s = mark(stage(s, row + "o", a.buf, (*k, row + "i")), **{inner: "simd"})
            continue
        s = stage(s, row + "o", a.buf, (row + "i", *k), pad=lanes)
        if a.along(k[-1]) == 1:
            s = mark(tile(s, last, 4 * lanes, unit=lanes), **{last + "i": "simd"})
    return mark(s, **{row + "i": "unroll", column + "i": "simd"})


BLOCK = 512, 1024                                               # rows and columns, at most, of a block of a product that is cut up


def blocked(s: Stmt, row: str, column: str, k: tuple[str, ...], right: list[Access], left: list[Access], rows: int, columns: int, most: int,
            target: Target, dtype: DType) -> Stmt:
    """Blocks of rows and columns, which are independent; in each the sum is cut, if it is longer than `most`, and rests in an array between the cuts. The
    left operands are packed for a whole block of rows, the right ones as in `packed`. (Goto and van de Geijn, "Anatomy of high-performance matrix
    multiplication".)"""
    lanes, over = target.lanes(dtype), k[0]
    inner = math.prod(size_of(s, v) for v in k[1:])
    size, acc = max(1, most // inner), accumulator(s)
    fixed = isinstance(loop_of(s, over).hi, Int)
    if fixed:
        size = cut(size_of(s, over), size)
    long = epilogue_work(s, acc, column, lanes) > LONG
    down = max(128, -(-size_of(s, row) // 2))                   # two blocks at least, so that two threads have work
    for var, block, unit in ((row, min(BLOCK[0], down), rows), (column, BLOCK[1], columns)):
        block = -(-block // unit) * unit
        if isinstance(loop_of(s, var).hi, Int):
            s = tile(s, var, block, unit=unit, outer=var + "b", inner=var)
        else:
            s = strips(s, var, block, outer=var + "b", inner=var)
    s = sink(s, row, into=column + "b")
    whole = fixed and size == size_of(s, over)
    s = each(s, row, lambda x: For(over + "b", Int(0), Int(1), "serial", x)) if whole else in_blocks(s, acc, over, size, row, column)
    for a in left:
        first, last = f"{row}_{a.buf.name}", f"{k[-1]}_{a.buf.name}"
        s = stage(s, over + "b", a.buf, (row, *k), pad=lanes)
        if a.along(row) == 1:                                   # across its diagonal, block by block
            s = sink(tile(tile(s, first, lanes, unit=lanes), last, lanes, unit=lanes), first + "i")
            s = mark(s, **{first + "i": "unroll", last + "i": "simd"})
        elif a.along(k[-1]) == 1:
            s = mark(tile(s, last, 4 * lanes, unit=lanes), **{last + "i": "simd"})
    s = packed(s, row, column, k, right, [], rows, columns, group_of(columns, size * inner, target, dtype), target, dtype)
    s = unrolled(s if whole else ends(s, row, column, target), k[-1], target)
    return spill(s, acc, row + "i", column + "i", lanes) if whole and long else s


def ends(s: Stmt, row: str, column: str, target: Target) -> Stmt:
    """What `in_blocks` put before the blocks and behind them, as maps."""
    for end in ("_first", "_last"):
        s = each(s, row + end, lambda x, end=end: map_schedule(x, (row + end, column + end), target))   # type: ignore[misc]
    return s


STREAMS = 8, 4, 1024                                           # rows of the right operand that go by at once, vectors of each, columns of a block


def streams(height: int, width: int, depth: int, target: Target, dtype: DType) -> bool:
    """Whether rows are so few, and the rest so large, that the right operand should go by once."""
    wide = max(widest(height, target), 1) * target.lanes(dtype)         # columns of a tile of so few rows
    return height * STREAMS[0] <= target.registers and width > wide and depth >= 4 * STREAMS[0]


def streamed(s: Stmt, row: str, column: str, k: tuple[str, ...], target: Target, dtype: DType) -> Stmt:
    """A row or two: the right operand goes by once, as it lies, some of its rows at a time, and the sums of a block of columns rest in L1."""
    lanes = target.lanes(dtype)
    steps, vectors, block = STREAMS
    steps = steps // size_of(s, row)
    s = tile(s, column, block, unit=vectors * lanes, outer=column + "b", inner=column)
    s = in_blocks(sink(s, row, into=column + "b"), accumulator(s), k[-1], steps, row, column)
    s = tile(s, column, vectors * lanes, unit=lanes)
    s = ends(sink(sink(s, row), column + "i"), row, column, target)
    return mark(s, **{row: "unroll", k[-1]: "unroll", column + "i": "simd"})


def cut(n: int, most: int) -> int:
    """How much of n a block takes: about `most`, and all alike where n allows it."""
    even = [d for d in range(max(1, most // 2), most * 5 // 4 + 1) if n % d == 0]
    return min(even, key=lambda d: (abs(d - most), d)) if even else -(-n // -(-n // most))


def dot_tile(rows: int, columns: int, depth: int, t: Target) -> tuple[int, int, int]:
    """Rows, columns and vectors along k of a tile of dot products: eight accumulators or more, to cover the latency."""
    c = min(columns, 2 if t.registers < 32 else 4)
    r = min(rows, max(r for r in range(1, 9) if r * c + c + 1 <= t.registers and r <= 5))
    return r, c, max(1, min(4, 8 // (r * c)))


def dot_schedule(s: Stmt, m: str, n: str, k: tuple[str, ...], target: Target, dtype: DType, many: int = MANY) -> Stmt:
    """Lanes along k: a tile of dot products, each a vector of partial sums (or several) that is added up at the end."""
    lanes = target.lanes(dtype)
    rows, columns, depth = size_of(s, m, many), size_of(s, n, many), size_of(s, k[-1])
    r, c, vectors = dot_tile(rows, columns, depth, target)
    step = lanes * min(vectors, -(-depth // lanes))
    s = tile(s, k[-1], step, unit=step)
    s = partial_sums(s, accumulator(s), k[-1] + "i", lanes)
    s = tile(tile(s, m, r), n, c)
    s = sink(sink(s, m + "i"), n + "i")
    return mark(s, **{m + "i": "unroll", n + "i": "unroll", k[-1] + "i": "simd"})


# ---- reductions and maps -----------------------------------------------------------------------------------------------------------


def reduce_schedule(s: Stmt, free: tuple[str, ...], summed: tuple[str, ...], target: Target) -> Stmt:
    """The schedule of `for free: acc = init; for summed: acc op= expression; store`.

    Where everything that moves with the last summed axis is contiguous along it, lanes go along it, as four vectors of partial sums; else along the last
    free axis of which that is true.
    """
    reads = accesses(s, inner=True)
    accs = accumulators(s)
    k = summed[-1]
    lanes = lanes_of(s, target, k)
    inner = next((f for f in reversed(free) if any(a.along(f) == 1 for a in reads) and all(a.along(f) in (0, 1) for a in reads)), None)
    whole = {x.var for x in walk(s) if isinstance(x, For) and isinstance(x.hi, Int)}
    gathers = any(a.along(k) not in (0, 1) for a in reads)
    if inner is not None and (gathers or not any(a.along(k) == 1 for a in reads)):
        width = lanes * min(4, -(-size_of(s, inner) // lanes))
        s = sink(tile(s, inner, width, unit=lanes), inner + "i")
        return mark(s, **{inner + "i": "simd"})
    for outer in reversed(summed[:-1]):
        if k not in whole or not collapsible(reads, outer, k, size_of(s, k)):
            break                                       # nor then any further out: those do not directly hold k
        s = collapse(s, outer, k, k)
    step = lanes * min(4 if len(accs) == 1 else 2, 1 << (-(-size_of(s, k) // lanes) - 1).bit_length())
    s = partial_sums(tile(s, k, step, unit=step), accs, k + "i", lanes)
    return mark(s, **{k + "i": "simd"})


def collapsible(reads: Iterable[Access], outer: str, inner: str, n: int) -> bool:
    """Whether every index takes the two loops as one: outer * n + inner."""
    return all(a.along(inner) is not None and a.along(outer) == (a.along(inner) or 0) * n for a in reads)


def map_schedule(s: Stmt, axes: tuple[str, ...], target: Target) -> Stmt:
    """The schedule of an elementwise nest over `axes` (outermost first, each loop directly in the one before): neighbours become one loop where
    every index allows it, and lanes go along the axis that most arrays are contiguous in, a few vectors at a time."""
    names = list(axes)
    i = len(names) - 2
    while i >= 0:
        outer, inner = names[i], names[i + 1]
        if collapsible(accesses(s), outer, inner, size_of(s, inner)):
            s = collapse(s, outer, inner, inner)
            del names[i]
        i -= 1
    whole = {x.var: extent(x) for x in walk(s) if isinstance(x, For) and isinstance(x.hi, Int)}
    found = accesses(s)

    def score(v: str) -> int:
        """Neighbours along v, less what would be gathered or scattered; stores count most."""
        return sum((4 if a.store else 1) * ((a.along(v) == 1) - (a.along(v) not in (0, 1))) for a in found)

    candidates = [v for v in names if whole.get(v, 0) > 1]
    if not candidates:
        if not names or names[-1] in whole:
            return s
        candidates = [names[-1]]                                # one axis of symbolic size
    lane = max(candidates, key=lambda v: (score(v), min(whole.get(v, 1 << 20), 2 * target.vector_bytes), names.index(v)))
    if score(lane) < 0:
        return s
    one = lanes_of(mark(s, **{lane: "simd"}) if lane == names[-1] else s, target)
    work = sum(1 for e in expressions(s) if not isinstance(e, Var | Int | Lit))
    vectors = 4 if work <= 16 else 2
    s = tile(s, lane, one * vectors, unit=one)
    return mark(sink(s, lane + "i") if lane != names[-1] else s, **{lane + "i": "simd"})
