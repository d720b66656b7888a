"""Heads that nothing may follow in their kernel: what runs along an axis or writes where data says. One function for each, and a table."""
from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Literal

from ..core.dtype import DType, bool_, i32, i64
from ..ir.node import Node
from ..loop.contraction import accesses
from ..loop.ir import Accum, Alloc, Bin, Bitcast, Buffer, Cast, Check, Expr, For, Int, Lit, Load, Select, Stmt, Store, Var, While, dtype_of, lift, seq
from ..loop.schedule import mark, sink, tile
from .access import Index, highest, variables
from .context import Context, Made, copy, in_registers, loops, nest, serial
from .elementwise import number
from .fuse import shape_of


def _argextremum(n: Node, ctx: Context) -> Made:
    """Best so far and where: strictly better, or the first NaN, takes over."""
    (x,) = n.inputs
    axis, shape, dtype = n.attrs["axis"], shape_of(x), x.tensor.dtype
    reader, free = ctx.reader(), variables("i", shape_of(n))
    k = Var("k")

    def element(at: Expr) -> Expr:
        return reader.at(x, (*free[:axis], at, *free[axis:]))

    best, where = Buffer("best", (), dtype, "register"), Buffer("where", (), i64, "register")
    new = Buffer("new", (), dtype, "register")
    v, old = new[()], best[()]
    better = Bin("<", old, v) if n.op.name == "argmax" else Bin("<", v, old)
    if dtype.is_float:
        better = Bin("or", better, Bin("and", Bin("!=", v, v), Bin("==", old, old)))
    step = Alloc(new, seq(Store(new, (), element(k + 1)), Store(where, (), Select(better, Cast(k + 1, i64), where[()])),
                          Store(best, (), Select(better, v, old))))
    body = seq(Store(best, (), element(Int(0))), Store(where, (), Lit(0, i64)), For("k", Int(0), lift(shape[axis] - 1), "serial", step),
               *(Store(*reader.place(h, free), where[()]) for h in ctx.results(n)))
    return [nest(n.op.name, reader, loops(free, shape_of(n), Alloc(best, Alloc(where, body))))]


def _rank(v: Expr) -> Expr:
    """An integer, i32 or i64, that orders values as NumPy sorts them: NaN above all, -0 equal to 0. Made of bits, so denormals keep their place."""
    dtype = dtype_of(v)
    wide = i64 if dtype.bits == 64 else i32
    if dtype.is_float:
        raw = Bitcast(v, wide)
        key = Bin("xor", raw, Bin("and", Bin(">>", raw, Lit(wide.bits - 1, wide)), Lit(2 ** (wide.bits - 1) - 1, wide)))
        key_ = Select(Bin("==", key, Lit(-1, wide)), Lit(0, wide), key)         # -1 is -0
        return Select(Bin("!=", v, v), Lit(2 ** (wide.bits - 1) - 1, wide), key_)
    if dtype.kind == "uint" and dtype.bits == wide.bits:
        return Bin("xor", Bitcast(v, wide), Lit(-2 ** (wide.bits - 1), wide))
    return v if dtype is wide else Cast(v, wide)


def _topk(n: Node, ctx: Context) -> Made:
    """k sweeps, each for the largest after the last one found: (smaller, or equal and further on)."""
    (x,) = n.inputs
    axis, k, shape = n.attrs["axis"], n.attrs["k"], shape_of(x)
    values, indices = ctx.results(n)
    others = tuple(m for a, m in enumerate(shape) if a != axis)
    if k == 0 or 0 in others:
        return []
    reader, free = ctx.reader(), variables("i", others)

    def index(at: Expr) -> Index:
        return (*free[:axis], at, *free[axis:])

    regs = {name: Buffer(name, (), i64, "register") for name in ("last", "where", "best", "found", "key")}
    last, where, best, found, key = (b[()] for b in regs.values())
    i = Var("i")
    after = Bin("or", Bin("<", key, last), Bin("and", Bin("==", key, last), Bin("<", where, Cast(i, i64))))
    better = Bin("and", after, Bin("or", Bin("<", found, Lit(0, i64)), Bin("<", best, key)))
    pick = Buffer("pick", (), bool_, "register")
    rank = _rank(reader.at(x, index(i)))
    sweep = Alloc(regs["key"], Alloc(pick, seq(
        Store(regs["key"], (), Cast(rank, i64) if dtype_of(rank) is not i64 else rank), Store(pick, (), better),
        Store(regs["best"], (), Select(pick[()], key, best)), Store(regs["found"], (), Select(pick[()], Cast(i, i64), found)))))
    j = Var("j")
    round_ = seq(Store(regs["best"], (), Lit(-2**63, i64)), Store(regs["found"], (), Lit(-1, i64)),
                 For("i", Int(0), lift(shape[axis]), "serial", sweep),
                 Store(regs["last"], (), best), Store(regs["where"], (), found),
                 Store(*reader.place(values, index(j)), reader.at(x, index(Load(regs["found"], ())))),
                 Store(*reader.place(indices, index(j)), found))
    body = seq(Store(regs["last"], (), Lit(2**63 - 1, i64)), Store(regs["where"], (), Lit(-1, i64)),
               For("j", Int(0), Int(k), "serial", Alloc(regs["best"], Alloc(regs["found"], round_))))
    return [nest("topk", reader, loops(free, others, Alloc(regs["last"], Alloc(regs["where"], body))))]


def _argsort(n: Node, ctx: Context) -> Made:
    """Bottom-up merge sort of (key, index) pairs between two rows of scratch: stable, n log n, without a branch that data decides.

    In pass k runs of 2**k are merged two by two: the left one's next element goes out unless the right one's is smaller.
    """
    (x,) = n.inputs
    axis, shape = n.attrs["axis"], shape_of(x)
    size, others = operator.index(shape[axis]), tuple(m for a, m in enumerate(shape) if a != axis)
    reader, free = ctx.reader(), variables("i", others)
    homes = ctx.results(n)

    def index(at: Expr) -> Index:
        return (*free[:axis], at, *free[axis:])

    i, p, level = Var("i"), Var("p"), Var("level")
    rank = _rank(reader.at(x, index(i)))
    narrow = i32 if size < 2**31 else i64
    keys, places = Buffer("keys", (2, size), dtype_of(rank), "scratch"), Buffer("places", (2, size), narrow, "scratch")
    passes = (size - 1).bit_length()
    here, there = level % 2, (level + 1) % 2
    width, start, middle, end, left, right, pick = registers = [Buffer(name, (), i64, "register") for name in
                                                                ("width", "start", "middle", "end", "left", "right", "pick")]
    first, one, last = Buffer("first", (), bool_, "register"), Lit(1, i64), Int(size - 1)

    def key_at(b: Buffer) -> Expr:
        return keys[here, Bin("min", b[()], last)]

    goes = Bin("or", Bin("<=", end[()], right[()]), Bin("and", Bin("<", left[()], middle[()]), Bin("<=", key_at(left), key_at(right))))
    move = Alloc(first, seq(
        Store(first, (), goes), Store(pick, (), Select(first[()], left[()], right[()])),
        Store(keys, (there, p), keys[here, pick[()]]), Store(places, (there, p), places[here, pick[()]]),
        Store(left, (), Select(first[()], Bin("+", left[()], one), left[()])),
        Store(right, (), Select(first[()], right[()], Bin("+", right[()], one)))))
    pair = seq(Store(middle, (), Bin("min", Bin("+", start[()], width[()]), Lit(size, i64))),
               Store(end, (), Bin("min", Bin("+", middle[()], width[()]), Lit(size, i64))),
               Store(left, (), start[()]), Store(right, (), middle[()]),
               For("p", start[()], end[()], "serial", move),
               Store(start, (), end[()]))
    merge = For("level", Int(0), Int(passes), "serial", seq(
        Store(start, (), Lit(0, i64)), While(Bin("<", start[()], Lit(size, i64)), pair), Store(width, (), Bin("+", width[()], width[()]))))
    fill = For("i", Int(0), Int(size), "serial", seq(Store(keys, (Int(0), i), rank), Store(places, (Int(0), i), Cast(i, narrow))))
    found = places[passes % 2, p]
    write = For("p", Int(0), Int(size), "serial", seq(*(Store(*reader.place(h, index(p)), found if narrow is i64 else Cast(found, i64)) for h in homes)))
    zeros = [Store(r, (), Lit(0, i64)) for r in registers[1:]]
    body = Alloc(keys, Alloc(places, in_registers(registers, seq(fill, Store(width, (), one), *zeros, merge, write))))
    return [nest("argsort", reader, loops(free, others, body))]


def _cumsum(n: Node, ctx: Context) -> Made:
    """A register runs along the axis. Where the last axis is another one, its elements go along the lanes."""
    (x,) = n.inputs
    axis, shape, dtype = n.attrs["axis"], shape_of(x), n.tensor.dtype
    reader, ix = ctx.reader(), variables("i", shape)
    acc, k = Buffer("acc", (), dtype, "register"), ix[axis]
    at = (*ix[:axis], lift(shape[axis] - 1) - k if n.attrs["reverse"] else k, *ix[axis + 1:])
    run = serial((k,), (shape[axis],), seq(Accum(acc, (), reader.at(x, at)), *(Store(*reader.place(h, at), acc[()]) for h in ctx.results(n))))
    free = [v for v in ix if v is not k]
    body = loops(free, [m for a, m in enumerate(shape) if a != axis], Alloc(acc, seq(Store(acc, (), number(0, dtype)), run)))
    return [nest("cumsum", reader, _across(body, free[-1].name if free else "", dtype, ctx))]


def _across(body: Stmt, var: str, dtype: DType, ctx: Context) -> Stmt:
    """Lanes along an independent loop, where everything that it indexes is contiguous or does not move."""
    found = accesses(body)
    if not var or any(a.along(var) not in (0, 1) for a in found) or not any(a.along(var) == 1 for a in found):
        return body
    return mark(sink(tile(body, var, 4 * ctx.target.lanes(dtype), unit=ctx.target.lanes(dtype)), var + "i"), **{var + "i": "simd"})


_HOW: Mapping[str, Literal["+", "max", "min"]] = {"add": "+", "max": "max", "min": "min"}


def _written(name: str, buf: Buffer, at: Index, u: Expr) -> Stmt:
    """What a writer does to one element: set it, or accumulate into it."""
    how = name.rpartition("_")[2]
    return Store(buf, at, u) if how == "set" else Accum(buf, at, u, _HOW[how])


def _scatter(n: Node, ctx: Context) -> Made:
    """A copy of x, then the slices in the order of the indices."""
    x, i, u = n.inputs
    name, axis, shape, where = n.op.name, n.attrs["axis"], shape_of(x), shape_of(i)
    made = [copy(x, ctx.results(n), ctx)]
    for home in ctx.results(n) if 0 not in where else ():
        reader = ctx.reader()
        pre, at, post = (variables(c, s) for c, s in (("i", shape[:axis]), ("p", where), ("j", shape[axis + 1:])))
        to = reader._clamped(reader.at(i, at), shape[axis])
        write = _written(name, *reader.place(home, (*pre, to, *post)), reader.at(u, (*pre, *at, *post)))
        write = serial(at, where, loops(post, shape[axis + 1:], write))
        made.append(nest(name, reader, _across(loops(pre, shape[:axis], write), post[-1].name if post else "", n.tensor.dtype, ctx)))
    return made


def _put_along(n: Node, ctx: Context) -> Made:
    """A copy of x, then along the axis the elements in the order of the indices."""
    x, i, u = n.inputs
    name, axis, shape, where = n.op.name, n.attrs["axis"], shape_of(x), shape_of(i)
    made = [copy(x, ctx.results(n), ctx)]
    for home in ctx.results(n) if 0 not in where else ():
        reader, ix = ctx.reader(), variables("i", where)
        to = reader._clamped(reader.at(i, ix), shape[axis])
        write = _written(name, *reader.place(home, (*ix[:axis], to, *ix[axis + 1:])), reader.at(u, ix))
        rest = [(v, m) for a, (v, m) in enumerate(zip(ix, where)) if a != axis]
        made.append(nest(name, reader, loops([v for v, _ in rest], [m for _, m in rest], serial((ix[axis],), (where[axis],), write))))
    return made


def _check_index(n: Node, ctx: Context) -> Made:
    """The index where it is in range; a failure where it is not. What is stored is clamped, so nothing that reads it can go astray."""
    (i,) = n.inputs
    size, shape = operator.index(n.attrs["size"]), shape_of(n)
    reader, ix = ctx.reader(), variables("i", shape)
    dtype = n.tensor.dtype
    value = Buffer("value", (), dtype, "register")
    v = value[()]
    top = min(size - 1, int(highest(dtype)))
    fine = Bin("<=", v, number(top, dtype))
    if dtype.kind == "int":
        fine = Bin("and", Bin("<=", number(0, dtype), v), fine)
    if size == 0:
        fine = Lit(False, bool_)
    inside = Bin("min", Bin("max", v, number(0, dtype)), number(max(top, 0), dtype))
    body = Alloc(value, seq(Store(value, (), reader.at(i, ix)), Check(fine, ctx.check_code(n)), *(Store(*reader.place(h, ix), inside) for h in ctx.results(n))))
    return [nest("check_index", reader, loops(ix, shape, body))]


CLOSED: Mapping[str, Callable[[Node, Context], Made]] = {
    "argmax": _argextremum, "argmin": _argextremum, "topk": _topk, "argsort": _argsort, "cumsum": _cumsum, "check_index": _check_index,
    **{f"scatter_{how}": _scatter for how in ("add", "set", "max", "min")},
    **{f"put_along_{how}": _put_along for how in ("add", "set", "max", "min")},
}
