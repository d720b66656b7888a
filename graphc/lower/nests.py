"""A group as loop nests: what a kernel computes, before any schedule says how. One function for each kind of head."""
from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from ..core.dtype import DType, bool_, i32, i64
from ..core.target import Target
from ..ir.node import Node
from ..loop.contraction import map_schedule, matmul_schedule, reduce_schedule
from ..loop.ir import Accum, Alloc, Bin, Bitcast, Buffer, Cast, Check, Expr, For, Int, Kernel, Launch, Lit, Load, Select, Stmt, Store, Var, dtype_of, seq
from ..ops.contract import free_axes
from .access import Home, Index, Reader, highest, lowest, variables
from .elementwise import number
from .fuse import REDUCE, Group, shape_of


@dataclass(frozen=True, slots=True)
class Context:
    """What every nest needs: the machine, where tensors lie, where results go."""

    target: Target
    homes: Mapping[Node, Home]
    constant: Callable[[Node], Home]
    results: Callable[[Node], Sequence[Home]]           # where a member's value must be written; () for what only this kernel needs
    check_code: Callable[[Node], int]

    def reader(self, own: Collection[Node] = ()) -> Reader:
        return Reader(self.homes, self.constant, own)


def launches(g: Group, ctx: Context, order: tuple[int, ...]) -> list[tuple[str, Reader, Stmt]]:
    """The kernels of a group: a hint for the name, the buffers, and the scheduled nest. `order`: the axes of the group's space, outermost first."""
    if 0 in g.space:
        return []
    if g.head is None:
        return [_map(g, ctx, order)]
    name = g.head.op.name
    if name == "contract":
        return [_contract(g, ctx, order)]
    if name in REDUCE:
        return [_reduce(g, ctx, order)]
    return {"argmax": _argextremum, "argmin": _argextremum, "topk": _topk, "scatter_add": _scatter_add, "put_along_add": _put_along_add,
            "check_index": _check_index}[name](g.head, ctx)


def kernel(name: str, reader: Reader, body: Stmt, origin: Sequence[str]) -> Launch:
    return Launch(Kernel(name, tuple(reader.buffers.values()), (), body, tuple(origin)), tuple(reader.refs))


def copy(n: Node, homes: Sequence[Home], ctx: Context) -> tuple[str, Reader, Stmt]:
    """Write a node's value, wherever it comes from, to the homes."""
    reader = ctx.reader()
    ix = variables("i", shape_of(n))
    value = reader.at(n, ix)
    stores = [Store(*reader.place(h, ix), value) for h in homes]
    order = homes[0].order
    return "copy", reader, map_schedule(_loops([ix[a] for a in order], [shape_of(n)[a] for a in order], seq(*stores)), _names(ix, order), ctx.target)


# ---- bodies ----------------------------------------------------------------------------------------------------------------------


def _loops(ix: Sequence[Var], shape: Sequence[int], body: Stmt) -> Stmt:
    for v, n in reversed(list(zip(ix, shape))):
        body = For(v.name, Int(0), Int(n), "parallel", body)
    return body


def _names(ix: Sequence[Var], order: Sequence[int]) -> tuple[str, ...]:
    return tuple(ix[a].name for a in order)


def _values(members: Sequence[Node], reader: Reader, ix: Index, ctx: Context) -> Stmt:
    """Compute the members at ix, then write them: every read of this index comes before every write, so that states change in place."""
    registers: list[Buffer] = []
    sets: list[Stmt] = []
    writes: list[Stmt] = []
    several = sum(len(ctx.results(n)) for n in members) > 1
    for n in members:
        if n not in reader.lets:
            value = reader.at(n, ix)
            if several or n is not members[-1]:
                reg = Buffer(f"v{len(registers)}", (), n.tensor.dtype, "register")
                registers.append(reg)
                sets.append(Store(reg, (), value))
                value = reg[()]
            reader.lets[n] = value
            reader.memo[n, ix] = value
        writes += [Store(*reader.place(h, ix), reader.lets[n]) for h in ctx.results(n)]
    body = seq(*sets, *writes)
    for reg in reversed(registers):
        body = Alloc(reg, body)
    return body


def _map(g: Group, ctx: Context, order: tuple[int, ...]) -> tuple[str, Reader, Stmt]:
    reader = ctx.reader(g.members)
    ix = variables("i", g.space)
    body = _values(g.members, reader, ix, ctx)
    nest = _loops([ix[a] for a in order], [g.space[a] for a in order], body)
    return g.members[-1].op.name, reader, map_schedule(nest, _names(ix, order), ctx.target)


def _accumulated(g: Group, ctx: Context, reader: Reader, ix: Index, init: Lit, loops: Callable[[Stmt], Stmt], term: Accum, acc: Buffer) -> Stmt:
    """acc = init; loops: acc op= term; then the head's value is acc, and the epilogue follows."""
    head = g.head
    assert head is not None
    reader.lets[head] = acc[()]
    return Alloc(acc, seq(Store(acc, (), init), loops(term), _values(g.members, reader, ix, ctx)))


def _contract(g: Group, ctx: Context, order: tuple[int, ...]) -> tuple[str, Reader, Stmt]:
    n = g.head
    assert n is not None
    a, b = n.inputs
    (ka, kb), (ba, bb) = n.attrs["contracting"], n.attrs["batch"]
    fa, fb = free_axes(len(shape_of(a)), ka, ba), free_axes(len(shape_of(b)), kb, bb)
    batch, rows, cols = (tuple(Var(f"{c}{k}") for k in range(len(axes))) for c, axes in (("b", ba), ("m", fa), ("n", fb)))
    summed = tuple(Var(f"k{k}") for k in range(len(ka)))
    at_a = dict(zip((*ba, *fa, *ka), (*batch, *rows, *summed)))
    at_b = dict(zip((*bb, *fb, *kb), (*batch, *cols, *summed)))
    ix = (*batch, *rows, *cols)
    sizes = [shape_of(a)[k] for k in ka]
    dtype = n.tensor.dtype

    reader, acc = ctx.reader(g.members), Buffer("acc", (), dtype, "register")
    left = reader.at(a, tuple(at_a[i] for i in range(len(at_a))))
    right = reader.at(b, tuple(at_b[i] for i in range(len(at_b))))
    term = Accum(acc, (), Bin("*", left, right) if dtype is not bool_ else Bin("and", left, right))
    nest = _accumulated(g, ctx, reader, ix, number(0, dtype), lambda s: _serial(summed, sizes, s), term, acc)
    names = tuple(v.name for v in summed)
    if rows and cols:                                   # which of the two goes along the lanes is the schedule's to say
        order = (*(i for i in range(len(ix)) if ix[i] not in (rows[-1], cols[-1])), len(batch) + len(rows) - 1, len(ix) - 1)
    nest = _loops([ix[i] for i in order], [g.space[i] for i in order], nest)
    if 0 in sizes or not sizes:                         # nothing to add up: an outer product is a map
        return "contract", reader, map_schedule(nest, _names(ix, order), ctx.target)
    if rows and cols:
        return "contract", reader, matmul_schedule(nest, rows[-1].name, cols[-1].name, names, ctx.target, dtype)
    return "contract", reader, reduce_schedule(nest, _names(ix, order), names, ctx.target)


def _serial(ks: Sequence[Var], sizes: Sequence[int], body: Stmt) -> Stmt:
    if 0 in sizes:
        return seq()
    for v, n in reversed(list(zip(ks, sizes))):
        body = For(v.name, Int(0), Int(n), "serial", body)
    return body


_START: dict[str, Callable[[DType], float]] = {"reduce_sum": lambda d: 0, "reduce_prod": lambda d: 1, "reduce_max": lowest, "reduce_min": highest}
_OPS: dict[str, str] = {"reduce_sum": "+", "reduce_prod": "*", "reduce_max": "max", "reduce_min": "min"}


def _reduce(g: Group, ctx: Context, order: tuple[int, ...]) -> tuple[str, Reader, Stmt]:
    n = g.head
    assert n is not None
    (x,) = n.inputs
    axes, shape = n.attrs["axes"], shape_of(x)
    free = variables("i", g.space)
    whole: list[Expr] = []
    outer = iter(free)
    for a in range(len(shape)):
        whole.append(Var(f"k{a}") if a in axes else next(outer))
    dtype = n.tensor.dtype
    reader, acc = ctx.reader(g.members), Buffer("acc", (), dtype, "register")
    term = Accum(acc, (), reader.at(x, tuple(whole)), _OPS[n.op.name])  # type: ignore[arg-type]
    ks = [Var(f"k{a}") for a in _inner_order(reader, shape) if a in axes]
    sizes = [shape[int(k.name[1:])] for k in ks]
    nest = _accumulated(g, ctx, reader, free, number(_START[n.op.name](dtype), dtype), lambda s: _serial(ks, sizes, s), term, acc)
    nest = _loops([free[i] for i in order], [g.space[i] for i in order], nest)
    if 0 in sizes or not ks:
        return n.op.name, reader, map_schedule(nest, _names(free, order), ctx.target)
    return n.op.name, reader, reduce_schedule(nest, _names(free, order), tuple(k.name for k in ks), ctx.target)


def _inner_order(reader: Reader, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of a reduction's operand, outermost first, as they lie in the first whole operand that is read."""
    for (_, _, physical), ref in zip(reader.buffers, reader.refs):
        for h in reader.homes.values():
            if h.region is ref.region and sorted(h.type.shape) == sorted(shape) and h.physical == physical:
                return h.order
    return tuple(range(len(shape)))


# ---- closed heads ----------------------------------------------------------------------------------------------------------------

Made = list[tuple[str, Reader, Stmt]]


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
    body = seq(Store(best, (), element(Int(0))), Store(where, (), Lit(0, i64)), For("k", Int(0), Int(shape[axis] - 1), "serial", step),
               *(Store(*reader.place(h, free), where[()]) for h in ctx.results(n)))
    return [(n.op.name, reader, _loops(free, shape_of(n), Alloc(best, Alloc(where, body))))]


def _rank(v: Expr) -> Expr:
    """An i64 that orders values as topk does: NaN above all, -0 equal to 0."""
    dtype, i64_ = dtype_of(v), i64
    if dtype.is_float:
        bits = i32 if dtype.bits == 32 else i64
        v = Select(Bin("!=", v, v), number(float("nan"), dtype), Bin("+", v, number(0.0, dtype)))
        raw = Bitcast(v, bits)
        v = Bin("xor", raw, Bin("and", Bin(">>", raw, Lit(bits.bits - 1, bits)), Lit(2 ** (bits.bits - 1) - 1, bits)))
    elif dtype.kind == "uint" and dtype.bits == 64:
        v = Bin("xor", Bitcast(v, i64_), Lit(-2**63, i64_))
    return v if dtype_of(v) is i64_ else Cast(v, i64_)


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
    sweep = Alloc(regs["key"], Alloc(pick, seq(
        Store(regs["key"], (), _rank(reader.at(x, index(i)))), Store(pick, (), better),
        Store(regs["best"], (), Select(pick[()], key, best)), Store(regs["found"], (), Select(pick[()], Cast(i, i64), found)))))
    j = Var("j")
    round_ = seq(Store(regs["best"], (), Lit(-2**63, i64)), Store(regs["found"], (), Lit(-1, i64)),
                 For("i", Int(0), Int(shape[axis]), "serial", sweep),
                 Store(regs["last"], (), best), Store(regs["where"], (), found),
                 Store(*reader.place(values, index(j)), reader.at(x, index(Load(regs["found"], ())))),
                 Store(*reader.place(indices, index(j)), found))
    body = seq(Store(regs["last"], (), Lit(2**63 - 1, i64)), Store(regs["where"], (), Lit(-1, i64)),
               For("j", Int(0), Int(k), "serial", Alloc(regs["best"], Alloc(regs["found"], round_))))
    return [("topk", reader, _loops(free, others, Alloc(regs["last"], Alloc(regs["where"], body))))]


def _copied(x: Node, home: Home, ctx: Context) -> tuple[str, Reader, Stmt]:
    return copy(x, [home], ctx)


def _scatter_add(n: Node, ctx: Context) -> Made:
    """A copy of x, then the updates in the order of the indices."""
    x, i, u = n.inputs
    axis, shape, where = n.attrs["axis"], shape_of(x), shape_of(i)
    (home,) = ctx.results(n)
    reader = ctx.reader()
    pre, at, post = (variables(c, s) for c, s in (("i", shape[:axis]), ("p", where), ("j", shape[axis + 1:])))
    to = reader._clamped(reader.at(i, at), shape[axis])
    add: Stmt = Accum(*reader.place(home, (*pre, to, *post)), reader.at(u, (*pre, *at, *post)))
    add = _serial((*at, *post), (*where, *shape[axis + 1:]), add)
    return [_copied(x, home, ctx), ("scatter_add", reader, _loops(pre, shape[:axis], add))] if 0 not in where else [_copied(x, home, ctx)]


def _put_along_add(n: Node, ctx: Context) -> Made:
    x, i, u = n.inputs
    axis, shape, where = n.attrs["axis"], shape_of(x), shape_of(i)
    (home,) = ctx.results(n)
    reader = ctx.reader()
    ix = variables("i", where)
    to = reader._clamped(reader.at(i, ix), shape[axis])
    add: Stmt = Accum(*reader.place(home, (*ix[:axis], to, *ix[axis + 1:])), reader.at(u, ix))
    add = _serial((ix[axis],), (where[axis],), add)
    rest = [v for a, v in enumerate(ix) if a != axis]
    made = [_copied(x, home, ctx)]
    return made if 0 in where else [*made, ("put_along_add", reader, _loops(rest, [m for a, m in enumerate(where) if a != axis], add))]


def _check_index(n: Node, ctx: Context) -> Made:
    """The index where it is in range; a failure where it is not. What is stored is clamped, so nothing that reads it can go astray."""
    (i,) = n.inputs
    size, shape = n.attrs["size"], shape_of(n)
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
    return [("check_index", reader, _loops(ix, shape, body))]
