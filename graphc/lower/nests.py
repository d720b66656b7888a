"""A group as loop nests: what a kernel computes, before any schedule says how. Maps and open heads; `heads` has those that nothing follows."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from ..core.dtype import DType, bool_
from ..ir.node import Node
from ..loop.contraction import map_schedule, matmul_schedule, reduce_schedule
from ..loop.ir import Accum, Bin, Buffer, Expr, Int, Lit, Select, Stmt, Store, Var, lift, seq
from ..loop.nest import Nest
from ..ops.contract import free_axes
from .access import Index, Reader, Shape, highest, lowest, variables
from .context import Context, Made, in_registers, loops, names_of, nest, serial
from .elementwise import number
from .fuse import REDUCE, Group, is_head, shape_of
from .half import stored
from .heads import CLOSED


def launches(g: Group, ctx: Context, order: tuple[int, ...]) -> Made:
    """The kernels of a group, not yet scheduled. `order`: the axes of the group's space, outermost first."""
    if 0 in g.space:
        return []
    if g.head is None:
        return [_map(g, ctx, order)]
    name = g.head.op.name
    if name == "contract":
        return [_contract(g, ctx, order)]
    if name in REDUCE:
        return [_reduce(g, ctx, order)]
    if name == "fold":
        return [_fold(g, ctx, order)]
    if name in CLOSED:
        return CLOSED[name](g.head, ctx)
    from .linalg import KERNELS  # a thousand lines, loaded where a matrix is taken apart
    return KERNELS[name](g.head, ctx)


# ---- bodies ----------------------------------------------------------------------------------------------------------------------


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
                reg = Buffer(f"v{len(registers)}", (), stored(n.tensor.dtype), "register")
                registers.append(reg)
                sets.append(Store(reg, (), value))
                value = reg[()]
            reader.lets[n] = value
            reader.memo[reader.key(n, ix)] = value
        writes += [Store(*reader.place(h, ix), reader.lets[n]) for h in ctx.results(n)]
    return in_registers(registers, seq(*sets, *writes))


def _map(g: Group, ctx: Context, order: tuple[int, ...]) -> Nest:
    reader = ctx.reader(g.members)
    ix = variables("i", g.space)
    body = loops([ix[a] for a in order], [g.space[a] for a in order], _values(g.members, reader, ix, ctx))
    return nest(g.members[-1].op.name, reader, body, map_schedule, names_of(ix, order), ctx.target)


def _accumulated(g: Group, ctx: Context, reader: Reader, ix: Index, starts: Sequence[Lit], loops: Callable[[Stmt], Stmt], terms: Sequence[Accum]) -> Stmt:
    """acc = init; loops: acc op= term; then each head's value is its acc, and the epilogue follows."""
    heads = [n for n in g.members if is_head(n)]
    for n, term in zip(heads, terms, strict=True):
        reader.lets[n] = term.buf[()]
    inits = [Store(t.buf, (), v) for t, v in zip(terms, starts, strict=True)]
    return in_registers([t.buf for t in terms], seq(*inits, loops(seq(*terms)), _values(g.members, reader, ix, ctx)))


def _contract(g: Group, ctx: Context, order: tuple[int, ...]) -> Nest:
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
    body = _accumulated(g, ctx, reader, ix, [number(0, dtype)], lambda s: serial(summed, sizes, s), [term])
    names = tuple(v.name for v in summed)
    if rows and cols:                                   # which of the two goes along the lanes is the schedule's to say
        order = (*(i for i in range(len(ix)) if ix[i] not in (rows[-1], cols[-1])), len(batch) + len(rows) - 1, len(ix) - 1)
    body = loops([ix[i] for i in order], [g.space[i] for i in order], body)
    if 0 in sizes or not sizes:                         # nothing to add up: an outer product is a map
        return nest("contract", reader, body, map_schedule, names_of(ix, order), ctx.target)
    if rows and cols:
        return nest("contract", reader, body, matmul_schedule, rows[-1].name, cols[-1].name, names, ctx.target, dtype)
    return nest("contract", reader, body, reduce_schedule, names_of(ix, order), names, ctx.target)


_START: dict[str, Callable[[DType], float]] = {"reduce_sum": lambda d: 0, "reduce_prod": lambda d: 1, "reduce_max": lowest, "reduce_min": highest}
_OPS: dict[str, Literal["+", "*", "max", "min"]] = {"reduce_sum": "+", "reduce_prod": "*", "reduce_max": "max", "reduce_min": "min"}


def _reduce(g: Group, ctx: Context, order: tuple[int, ...]) -> Nest:
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
    reader, heads = ctx.reader(g.members), [m for m in g.members if is_head(m)]
    terms = [Accum(Buffer("acc" if m is n else f"acc{k}", (), dtype, "register"), (), reader.at(m.inputs[0], tuple(whole)), _OPS[m.op.name])
             for k, m in enumerate(heads)]
    ks = [Var(f"k{a}") for a in _inner_order(reader, shape) if a in axes]
    sizes = [shape[int(k.name[1:])] for k in ks]
    starts = [number(_START[m.op.name](dtype), dtype) for m in heads]
    body = _accumulated(g, ctx, reader, free, starts, lambda s: serial(ks, sizes, s), terms)
    body = loops([free[i] for i in order], [g.space[i] for i in order], body)
    if 0 in sizes or not ks:
        return nest(n.op.name, reader, body, map_schedule, names_of(free, order), ctx.target)
    return nest(n.op.name, reader, body, reduce_schedule, names_of(free, order), tuple(k.name for k in ks), ctx.target)


def _inner_order(reader: Reader, shape: Shape) -> tuple[int, ...]:
    """The axes of a reduction's operand, outermost first, as they lie in the first whole operand that is read."""
    for (_, _, physical), ref in zip(reader.buffers, reader.refs):
        for h in reader.homes.values():
            if h.region is ref.region and Counter(h.type.shape) == Counter(shape) and h.physical == physical:
                return h.order
    return tuple(range(len(shape)))


def _fold(g: Group, ctx: Context, order: tuple[int, ...]) -> Nest:
    """Each element gathers: over the offsets w of a window, those whose j - w * dilation is a position times the stride."""
    n = g.head
    assert n is not None
    (x,) = n.inputs
    axes, shape = n.attrs["axes"], shape_of(x)
    rank = len(g.space)
    j = variables("i", g.space)
    offsets = tuple(Var(f"w{k}") for k in range(len(axes)))
    at: list[Expr] = list(j)
    fits: Expr | None = None
    for w, a, s, d in zip(offsets, axes, n.attrs["strides"], n.attrs["dilations"]):
        last = (shape[a] - 1) * s
        start = j[a] - w * d
        inside = Bin("and", Bin("<=", w * d, j[a]), Bin("<=", start, lift(last)))
        start = Bin("min", Bin("max", start, Int(0)), lift(last))
        if s > 1:
            inside = Bin("and", inside, Bin("==", start % s, Int(0)))
        at[a] = start // s
        fits = inside if fits is None else Bin("and", fits, inside)
    dtype = n.tensor.dtype
    reader, acc = ctx.reader(g.members), Buffer("acc", (), dtype, "register")
    element = reader.at(x, (*at, *offsets))
    term = Accum(acc, (), element if fits is None else Select(fits, element, number(0, dtype)))
    body = _accumulated(g, ctx, reader, j, [number(0, dtype)], lambda s: serial(offsets, shape[rank:], s), [term])
    return nest("fold", reader, loops([j[a] for a in order], [g.space[a] for a in order], body), map_schedule, names_of(j, order), ctx.target)
