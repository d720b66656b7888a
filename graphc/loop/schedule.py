"""Schedules: Stmt -> Stmt. Each function keeps the meaning and changes the order.

A loop is named by its variable, every loop of that name changes, and naming a loop that is not there is an error, for a schedule that does
nothing is a mistake that shows as slowness alone. A loop whose order is given up (`sink`, `mark` as parallel or simd) is checked for
independence: no element that an iteration writes is touched by another.
"""
from __future__ import annotations  # noqa: I001

import math
from collections.abc import Callable, Mapping, Sequence
from ..core.record import replace
from functools import partial
from typing import cast

from ..core.dtype import DType, f32
from ..core.target import Target
from .affine import Form, bounds, form, mentions, place
from .ir import (  # isort: skip
    Accum, Alloc, Bin, Buffer, Expr, For, How, If, Int, Lit, Load, Seq, Stmt, Store, Var, While, expressions, map_expr, map_stmt, seq, subst,
    walk, with_body,
)


ENDLESS = 1 << 62                                               # the range of a loop whose extent is not a number


class ScheduleError(ValueError):
    """A schedule that does not fit its nest."""


def lanes_of(s: Stmt, target: Target, to_be: str = "") -> int:
    """Lanes of the simd loops in s (and of the loop that is to be one), one number for all: a register of the narrowest float there, else of the
    narrowest integer from 32 bits up."""
    dtypes: set[DType] = set()
    for loop in (x for x in walk(s) if isinstance(x, For) and (x.how == "simd" or x.var == to_be)):
        dtypes |= {x.buf.dtype for x in walk(loop) if isinstance(x, Store | Accum)}
        dtypes |= {e.buf.dtype for e in expressions(loop) if isinstance(e, Load)}
    floats = [d for d in dtypes if d.is_float]
    integers = [d for d in dtypes if d.is_integer and d.bits >= 32]
    return target.lanes(min(floats or integers or [f32], key=lambda d: d.bits))


def each(s: Stmt, var: str, f: Callable[[For], Stmt]) -> Stmt:
    """Apply f to every loop named var: for decisions that depend on its size."""
    found = False

    def go(x: Stmt) -> Stmt:
        nonlocal found
        if isinstance(x, For) and x.var == var:
            found = True
            return f(x)
        return map_stmt(x, go)

    out = go(s)
    if not found:
        raise ScheduleError(f"no loop {var} in this nest; there are {', '.join(dict.fromkeys(x.var for x in walk(s) if isinstance(x, For))) or 'none'}")
    return out


def mark(s: Stmt, **how: str) -> Stmt:
    """Change what loops are: mark(s, mi="unroll", ni="simd")."""
    for var, h in how.items():
        s = each(s, var, partial(marked, how=cast(How, h)))
    return s


def marked(loop: For, how: How) -> For:
    if (how == "simd" or (how == "parallel" and loop.how != "parallel")) and (why := dependence(loop, reduces=how == "simd")):
        raise ScheduleError(f"{loop.var} cannot be {how}: {why}")
    return For(loop.var, loop.lo, loop.hi, how, loop.body)


# ---- tiles -------------------------------------------------------------------------------------------------------------------------


def chunks(total: int, most: int, unit: int = 1) -> list[tuple[int, int, int]]:
    """Cut 0:total into balanced runs [(start, count, size)]: sizes are multiples of unit, at most `most`, and only the last is cut short.

    61 rows, most 14        -> [(0, 1, 13), (13, 4, 12)]            not 4*14 + 5
    100 columns, 32 by 16   -> [(0, 3, 32), (96, 1, 4)]             the 4 is a masked vector
    """
    units, most = -(-total // unit), max(1, most // unit)
    if not units:
        return []
    pieces = -(-units // most)
    small, extra = divmod(units, pieces)
    runs, at = [], 0
    for count, size in ((extra, (small + 1) * unit), (pieces - extra, small * unit)):
        if not count:
            continue
        over = max(0, at + count * size - total)
        if over and count > 1:
            runs.append((at, count - 1, size))
        runs.append((at + (count - 1) * size, 1, size - over) if over else (at, count, size))
        at += count * size
    return runs


def tile(s: Stmt, var: str, most: int, unit: int = 1, outer: str = "", inner: str = "") -> Stmt:
    """for v in 0:n  ->  for vo: for vi in 0:size, once per size.

    A symbolic n is cut into most, then 8, 4, 2, 1; with unit > 1 (lanes) into most, then unit (of which most is a multiple), then one loop shorter
    than that, 0:min(n - .., unit), which simd masks at run time.
    """
    outer, inner = outer or var + "o", inner or var + "i"

    def cut(s: For) -> Stmt:
        if s.lo != Int(0):
            raise ScheduleError(f"tile {var}: the loop does not start at 0")

        def nest(start: Expr, count: Expr, size: int) -> Stmt:
            at = start + Var(inner) if count == Int(1) else Var(outer) * size + start + Var(inner)
            return For(outer, Int(0), count, s.how, For(inner, Int(0), Int(size), s.how, subst(s.body, {var: at})))

        if isinstance(s.hi, Int):
            return seq(*(nest(Int(a), Int(c), n) for a, c, n in chunks(s.hi.value, most, unit)))
        if unit > 1:
            start, many = s.hi // most * most, [nest(Int(0), s.hi // most, most)]
            if most > unit:
                many.append(nest(start, (s.hi - start) // unit, unit))
                start = s.hi // unit * unit
            return seq(*many, replace(s, var=inner, hi=Bin("min", s.hi - start, Int(unit)), body=subst(s.body, {var: start + Var(inner)})))
        nests: list[Stmt] = []
        at: Expr = Int(0)
        for size in (most, *(p for p in (8, 4, 2, 1) if p < most)):
            count = (s.hi - at) // size
            nests.append(nest(at, count, size))
            at = at + count * size
        return seq(*nests)

    return each(s, var, cut)


def strips(s: Stmt, var: str, most: int, outer: str = "", inner: str = "") -> Stmt:
    """for v in 0:n  ->  for vo in 0:ceil(n / most): for vi in 0:min(n - vo*most, most): blocks of a run-time extent, one text for all."""
    outer, inner = outer or var + "o", inner or var + "i"

    def cut(s: For) -> Stmt:
        start = Var(outer) * most
        body = For(inner, Int(0), Bin("min", s.hi - start, Int(most)), s.how, subst(s.body, {var: start + Var(inner)}))
        return For(outer, Int(0), (s.hi + (most - 1)) // most, s.how, body)

    return each(s, var, cut)


def sink(s: Stmt, var: str, into: str = "") -> Stmt:
    """Push a parallel loop down to the leaves, or just inside the loop `into` (interchange).

    Down to the leaves it is unroll-and-jam: a scalar allocated on the way gains an axis, and that is register tiling. A run of statements
    without loops is one leaf: its scalars stay scalars.
    """
    def go(s: For) -> Stmt:
        if s.how != "parallel":
            raise ScheduleError(f"sink {var}: the loop is {s.how}, not parallel")
        if why := dependence(s):
            raise ScheduleError(f"sink {var}: {why}")
        arrived = False

        def push(x: Stmt) -> Stmt:
            nonlocal arrived
            match x:
                case _ if straight(x): return with_body(s, x)
                case Seq(body): return seq(*(push(seq(*run)) if flat else push(run[0]) for flat, run in runs(body)))
                case For(v, _, _, _, body) if v == into:
                    arrived = True
                    return with_body(x, with_body(s, body))
                case Alloc(buf, body):
                    if (n := at_most(s)) is None:
                        raise ScheduleError(f"sink {var}: {buf.name} would gain an axis of symbolic size")
                    wide = replace(buf, shape=(*buf.shape, n))
                    return Alloc(wide, push(reindex(body, buf, wide, lambda ix: (*ix, Var(var)))))
                case For(_, lo, hi, _, _) if mentions(lo, var) or mentions(hi, var): return with_body(s, x)
                case If(cond, _) | While(cond, _) if mentions(cond, var): return with_body(s, x)
                case _: return map_stmt(x, push)

        out = push(s.body)
        if into and not arrived:
            raise ScheduleError(f"sink {var}: no loop {into} inside it")
        return out

    return each(s, var, go)


def straight(s: Stmt) -> bool:
    """Whether there is no loop in it."""
    return not any(isinstance(x, For | While) for x in walk(s))


def runs(body: tuple[Stmt, ...]) -> list[tuple[bool, list[Stmt]]]:
    """The statements in order: neighbours without loops together, others alone."""
    out: list[tuple[bool, list[Stmt]]] = []
    for x in body:
        if (flat := straight(x)) and out and out[-1][0]:
            out[-1][1].append(x)
        else:
            out.append((flat, [x]))
    return out


def spill(s: Stmt, acc: str, row: str, column: str, lanes: int) -> Stmt:
    """What follows the sum reads it from an array in memory, in loops that are not unrolled: for epilogues whose text is long.

    acc: ..; unroll i: simd j: f(acc[i, j])
    ->   acc: ..; tile: unroll i: simd j: tile[i, j] = acc[i, j]; serial i: serial jo: simd j: f(tile[i, jo*lanes + j])
    """
    def go(x: Stmt) -> Stmt:
        match x:
            case Alloc(buf, Seq(body)) if buf.name == acc and isinstance(body[-1], For):
                *sums, last = body
                i, j = (next(y for y in walk(last) if isinstance(y, For) and y.var == v) for v in (row, column))
                tile_ = Buffer(acc + "_tile", buf.shape, buf.dtype, "scratch")
                at = (Var(row), Var(column))
                copy = replace(i, body=replace(j, body=Store(tile_, at, Load(buf, at))))
                rest = reindex(j.body, buf, tile_, lambda ix: ix)
                n = extent(j)
                if n > lanes and n % lanes == 0:
                    outer = column + "v"
                    rest = subst(rest, {column: Var(outer) * lanes + Var(column)})
                    rest = For(outer, Int(0), Int(n // lanes), "serial", For(column, Int(0), Int(lanes), "simd", rest))
                else:
                    rest = replace(j, body=rest)
                return Alloc(buf, Alloc(tile_, seq(*sums, copy, replace(i, how="serial", body=rest))))
            case _: return map_stmt(x, go)

    return go(s)


def in_blocks(s: Stmt, acc: str, over: str, most: int, row: str, column: str) -> Stmt:
    """A sum over `over` is cut into blocks and rests in memory between them, so that the loop over blocks stands outside those over row and column.

    row: column: { acc = init;  for k in 0:n: acc += x;  rest }
    ->  row_first: column_first: sum = init;  for kb: row: column: { acc = sum;  for k in 0:most: acc += x;  sum = acc }
        row_last: column_last: rest of sum

    The order of every sum is what it was.
    """
    def go(outer: For) -> Stmt:
        match outer.body:
            case For(v, _, _, _, Alloc(buf, Seq(body))) as inner if v == column and buf.name == acc: pass
            case _: raise ScheduleError(f"in blocks: {row} does not directly hold {column} and the sum {acc}")
        at = next(i for i, x in enumerate(body) if isinstance(x, For) and x.var == over)
        loop, here = cast(For, body[at]), (Var(row), Var(column))
        total = Buffer(f"{acc}_sum", (most_of(outer), most_of(inner)), buf.dtype, "scratch")

        def both(x: Stmt) -> Stmt:
            return replace(outer, body=replace(inner, body=x))

        def end(x: Stmt, name: str) -> Stmt:
            x = both(reindex(x, buf, total, lambda _: here))
            names = {v: v + name for v in (row, column)}
            x = subst(x, {v: Var(n) for v, n in names.items()})
            for v, n in names.items():
                x = each(x, v, lambda y, n=n: replace(y, var=n))                        # type: ignore[misc]
            return x

        def block(count: Expr, size: int, start: int, hi: Expr) -> Stmt:
            some = replace(loop, hi=hi, body=subst(loop.body, {over: b * size + start + Var(over)}))
            one = both(Alloc(buf, seq(Store(buf, (), Load(total, here)), some, Store(total, here, buf[()]))))
            return For(b.name, Int(0), count, "serial", one)

        b = Var(over + "b")
        if isinstance(loop.hi, Int):
            blocks = [block(Int(count), size, start, Int(size)) for start, count, size in chunks(loop.hi.value, most)]
        else:
            blocks = [block((loop.hi + (most - 1)) // most, most, 0, Bin("min", loop.hi - b * most, Int(most)))]
        return Alloc(total, seq(end(seq(*body[:at]), "_first"), *blocks, end(seq(*body[at + 1:]), "_last")))

    return each(s, row, go)


def collapse(s: Stmt, outer: str, inner: str, name: str = "") -> Stmt:
    """for i: for j in 0:n (and nothing else)  ->  for f, i = f // n, j = f % n. Worth it where every index takes i and j as i*n + j."""
    name = name or outer

    def go(s: For) -> Stmt:
        j = s.body
        if not isinstance(j, For) or j.var != inner or j.how != s.how:
            raise ScheduleError(f"collapse {outer}, {inner}: the one does not directly hold the other")
        n = extent(j)
        return For(name, Int(0), s.hi * n, s.how, subst(j.body, {outer: Var(name) // n, inner: Var(name) % n}))

    return each(s, outer, go)


def reindex(s: Stmt, old: Buffer, new: Buffer, index: Callable[[tuple[Expr, ...]], tuple[Expr, ...]]) -> Stmt:
    """Every access of old becomes an access of new at index(old index)."""
    s = map_expr(s, lambda e: Load(new, index(e.index)) if isinstance(e, Load) and e.buf.name == old.name else e)

    def stores(x: Stmt) -> Stmt:
        match x:
            case Store(b, ix, v) if b.name == old.name: return Store(new, index(ix), v)
            case Accum(b, ix, v, op) if b.name == old.name: return Accum(new, index(ix), v, op)
            case _: return map_stmt(x, stores)

    return stores(s)


def stage(s: Stmt, at: str, buf: Buffer, axes: tuple[str, ...], pad: int = 0) -> Stmt:
    """Inside loop `at`, copy what the body reads of buf into a fresh array indexed by the inner loops `axes`: packing is a copy nest.

    The loops of the copy are called <axis>_<buf>. `pad` lengthens the rows, to keep them out of the same cache set.
    """
    def go(s: For) -> Stmt:
        named = {x.var: x for x in walk(s.body) if isinstance(x, For)}
        if missing := [a for a in axes if a not in named]:
            raise ScheduleError(f"stage {buf.name}: no loop {', '.join(missing)} inside {at}")
        loops = [named[a] for a in axes]
        found: list[tuple[Expr, ...]] = []
        for e in expressions(s.body):
            if isinstance(e, Load) and e.buf.name == buf.name and e.index not in found:
                found.append(e.index)
        if len(found) != 1:
            raise ScheduleError(f"stage {buf.name}: {len(found)} different indices into it inside {at}")
        extents = [most_of(l) for l in loops]
        packed = Buffer(buf.name + "p", (*extents[:-1], extents[-1] + pad), buf.dtype, "scratch")
        at_ = tuple(Var(l.var) for l in loops)
        copy: Stmt = Store(packed, at_, Load(buf, found[0]))
        for l in reversed(loops):
            own = f"{l.var}_{buf.name}"
            copy = For(own, Int(0), l.hi, "parallel", subst(copy, {l.var: Var(own)}))
        return replace(s, body=Alloc(packed, seq(copy, reindex(s.body, buf, packed, lambda _: at_))))

    return each(s, at, go)


def extent(loop: For) -> int:
    if loop.lo != Int(0) or not isinstance(loop.hi, Int):
        raise ScheduleError(f"{loop.var}: the extent is not a number")
    return loop.hi.value


def at_most(loop: For) -> int | None:
    """The most iterations of a loop from 0: its number, or the bound that 0:min(.., n) states."""
    match loop.hi:
        case Int(n) | Bin("min", _, Int(n)): return n
        case _: return None


def most_of(loop: For) -> int:
    n = at_most(loop)
    if loop.lo != Int(0) or n is None:
        raise ScheduleError(f"{loop.var}: the extent has no bound")
    return n


def neutral(op: str, dtype: DType) -> Lit:
    """What changes nothing under op. For sums 0.0, as NumPy's, though -0.0 is the truly neutral one."""
    if op == "+":
        return Lit(0, dtype) if not dtype.is_float else Lit(0.0, dtype)
    if op == "*":
        return Lit(1, dtype) if not dtype.is_float else Lit(1.0, dtype)
    if dtype.is_float:
        return Lit(float("-inf") if op == "max" else float("inf"), dtype)
    if dtype.kind == "bool":
        return Lit(op == "min", dtype)
    low, high = (-(1 << dtype.bits - 1), (1 << dtype.bits - 1) - 1) if dtype.kind == "int" else (0, (1 << dtype.bits) - 1)
    return Lit(low if op == "max" else high, dtype)


def partial_sums(s: Stmt, accs: str | Sequence[str], over: str, lanes: int = 0) -> Stmt:
    """A sum over `over` is kept as one partial sum per iteration (Halide's rfactor), added up at the end: a fixed tree, and `over` is parallel.

    acc = init; for ..: for i: acc += x    ->    part[i] = 0; for ..: for i: part[i] += x; acc = init; for i: acc += part[i]

    Several accumulators of one sweep go together. With `lanes`, there are a power of two times that many parts, and they are first folded in
    halves. The loops of the ends are called <over>.
    """
    names = (accs,) if isinstance(accs, str) else tuple(accs)
    found = False

    def sums(s: Stmt) -> bool:
        return any(isinstance(x, Accum) and x.buf.name in names for x in walk(s))

    def go(s: Stmt) -> Stmt:
        nonlocal found
        if not (isinstance(s, Alloc) and s.buf.name in names):
            return map_stmt(s, go)
        registers, body = [s.buf], s.body
        while isinstance(body, Alloc):
            registers.append(body.buf)
            body = body.body
        loops = [x for x in walk(body) if isinstance(x, For) and x.var == over]
        if not loops or not isinstance(body, Seq):
            raise ScheduleError(f"partial sums of {', '.join(names)}: no loop {over}")
        found = True
        ops = {x.buf.name: x.op for x in walk(body) if isinstance(x, Accum)}
        n, i = max(at_most(x) or extent(x) for x in loops), (Var(over),)
        if lanes:
            n = lanes << (-(-n // lanes) - 1).bit_length()
        whole, mine = n, [b for b in registers if b.name in names]
        at = [k for k, x in enumerate(body.body) if sums(x)]
        init, main, rest = body.body[:at[0]], seq(*body.body[at[0]:at[-1] + 1]), body.body[at[-1] + 1:]
        parts = {b.name: Buffer(b.name + "_part", (n,), b.dtype, "register") for b in mine}
        for b in mine:
            main = reindex(main, b, parts[b.name], lambda ix: i)
        main = mark(main, **{over: "parallel"})

        def each_part(how: How, count: int, f: Callable[[Buffer, Buffer], Stmt]) -> Stmt:
            return For(over, Int(0), Int(count), how, seq(*(f(b, parts[b.name]) for b in mine)))

        start = each_part("parallel", whole, lambda b, part: Store(part, i, neutral(ops[b.name], b.dtype)))
        folds: list[Stmt] = []
        while lanes and n > lanes:
            n //= 2
            folds.append(each_part("parallel", n, lambda b, part, n=n: Accum(part, i, Load(part, (Var(over) + n,)), ops[b.name])))   # type: ignore[misc]
        final = each_part("serial", n, lambda b, part: Accum(b, (), Load(part, i), ops[b.name]))
        out: Stmt = seq(start, main, *folds, *init, final, *rest)
        for b in reversed([*registers, *parts.values()]):
            out = Alloc(b, out)
        return out

    out = go(s)
    if not found:
        raise ScheduleError(f"no register {', '.join(names)} in this nest")
    return out


# ---- independence ------------------------------------------------------------------------------------------------------------------


def dependence(loop: For, reduces: bool = False) -> str | None:
    """Why iterations of a loop are not independent, or None. With `reduces`, an accumulation that all iterations share is allowed.

    An array that the body writes is safe where iterations cannot meet in it: some position of the index, or the element's number, tells them
    apart in every access (`separated`).
    """
    if loop.lo == Int(0) and loop.hi in (Int(0), Int(1)):
        return None
    body = list(walk(loop.body))
    inside = {x.buf.name for x in body if isinstance(x, Alloc)}
    written: dict[str, list[tuple[Buffer, tuple[Expr, ...]]]] = {}
    shared: dict[str, set[str]] = {}
    for x in body:
        if isinstance(x, Store | Accum) and x.buf.name not in inside:
            written.setdefault(x.buf.name, []).append((x.buf, x.index))
            shared.setdefault(x.buf.name, set()).add(x.op if isinstance(x, Accum) else "=")
    if not written:
        return None
    for e in expressions(loop.body):
        if isinstance(e, Load) and e.buf.name in written:
            written[e.buf.name].append((e.buf, e.index))
            shared[e.buf.name].add("read")
    ranges: dict[str, tuple[int, int]] = {}
    for x in body:
        if isinstance(x, For):
            ranges[x.var] = (0, max(ranges.get(x.var, (0, 0))[1], ENDLESS if (most := at_most(x)) is None else most - 1))
    for name, places in written.items():
        if reduces and len(shared[name]) == 1 and shared[name] <= {"+", "*", "max", "min"}:
            continue
        if not apart(loop, places, ranges):
            return f"iterations may meet in {name}"
    return None


def apart(loop: For, places: list[tuple[Buffer, tuple[Expr, ...]]], ranges: Mapping[str, tuple[int, int]]) -> bool:
    """Whether different values of the loop's variable always give different elements."""
    unique = list({id(ix): (b, ix) for b, ix in places}.values())
    rank = len(unique[0][1])
    for p in range(rank):
        if separated(loop, [form(((ix[p], 1),)) for _, ix in unique], ranges):
            return True
    return rank > 1 and separated(loop, [place(b, ix) for b, ix in unique], ranges)


def separated(loop: For, forms: list[Form], ranges: Mapping[str, tuple[int, int]]) -> bool:
    """The test on one number, which is c * var + small + big + what does not change: over the loops inside, the small terms move by less than c
    each, the big ones by more. No two accesses, a from one iteration and b from another, may have c * (var_a - var_b) = rest_b - rest_a."""
    var, c = loop.var, abs(forms[0].coefficient(loop.var))
    most = loop.hi.value - 1 if isinstance(loop.hi, Int) else ENDLESS
    spans: list[tuple[int, int]] = []
    step, fixed = 0, None
    for f in forms:
        if not c or f.coefficient(var) != forms[0].coefficient(var) or f.moves_otherwise(var):
            return False
        inner = [(v, k) for v, k in f.variables if v in ranges and v != var]
        moving = [o for o in f.others if any(mentions(o[0], v) for v in ranges)]
        rest = (sorted((v, k) for v, k in f.variables if v not in ranges and v != var), [o for o in f.others if o not in moving])
        big = [k for v, k in inner if abs(k) >= c and ranges[v][1] > 0]
        span = bounds(Form(f.const, [(v, k) for v, k in inner if abs(k) < c], moving), ranges)
        if span is None or (fixed is not None and rest != fixed):
            return False
        fixed = rest
        if span not in spans:
            spans.append(span)
        step = math.gcd(step, *big)
    for a in spans:
        for b in spans:
            low, high = b[0] - a[1], b[1] - a[0]
            first, last = max(-(-low // c), -most), min(high // c, most)
            if first <= last and (first, last) != (0, 0):
                return False
            if step and c * most + max(high, -low) >= step:
                return False
    return True
