"""Plan → Plan: a long reduction becomes partial results of chunks of a fixed size, and a short reduction of those.

The chunks depend on the shape alone, never on who runs them, so threads can share them and the bits stay the same for every number of threads,
one included. The error of a long sum shrinks too: it grows with the chunk and the number of chunks, not with their product.

    part = 0;  for k in 0:N: part += f(k);  rest
    ->  parallel c in 0:N//M: { part = 0;  for k in 0:M: part += f(c*M + k);  parts[c] = part }
        part = 0;  for c: part += parts[c];  for k in 0:N%M: part += f(N//M*M + k);  rest
"""
from __future__ import annotations  # noqa: I001

from ..core.record import dataclass, replace

from ..core.compat import assert_never
from ..core.errors import UnknownSize
from .ir import (
    Accum, Alloc, Barrier, Bin, Branch, Buffer, Check, Expr, Extern, For, If, Int, Launch, Lit, Load, Loop, Plan, Select, Seq, Steps, Stmt, Store, Var, While,
    expressions, map_plan, seq, subst, walk, with_body,
)
from .schedule import neutral

ELEMENTS = 1 << 14              # of a chunk: some microseconds of work, and small beside any cache
LONG = 4                        # chunks, at least, or the reduction stays as it is
MOST = 1 << 10                  # chunks: beyond, they grow


def chunk(plan: Plan) -> Plan:
    """The plan with its long reductions in chunks. Kernels of one body keep one body."""
    known: dict[int, Stmt] = {}

    def go(p: Plan) -> Plan:
        match p:
            case Launch(k, _, _):
                if id(k.body) not in known:
                    known[id(k.body)] = chunked(k.body)
                body = known[id(k.body)]
                return p if body is k.body else replace(p, kernel=replace(k, body=body))
            case Steps() | Loop() | Branch() | Barrier() | Extern(): return map_plan(p, go)
            case _: assert_never(p)

    return go(plan)


def chunked(s: Stmt) -> Stmt:
    """A kernel's body with its outermost long reduction in chunks; the same object where there is none."""
    if isinstance(s, For) and s.how == "parallel" and s.hi == Int(1):
        return with_body(s, chunked(s.body))
    if isinstance(s, If):                                       # one of several versions of a kernel
        return with_body(s, chunked(s.body))
    if isinstance(s, Seq) and any(isinstance(x, If) for x in s.body):
        return seq(*(chunked(x) if isinstance(x, If) else x for x in s.body))
    registers: list[Buffer] = []
    x = s
    while isinstance(x, Alloc) and x.buf.space == "register":
        registers.append(x.buf)
        x = x.body
    if isinstance(x, Seq):
        for at, loop in enumerate(x.body):
            if isinstance(loop, For) and (sums := reduces(loop)) and (cut := cut_of(loop)) and (starts := begins(x.body[:at], sums)):
                return rebuilt(registers, x.body, at, loop, cut, sums, starts)
    return s


@dataclass(frozen=True, slots=True)
class Cut:
    """How many chunks of how many iterations, and the most that there can be of them. In a symbolic loop run-time values, and no chunk if it is short."""

    count: Expr
    size: Expr
    most: int


def cut_of(loop: For) -> Cut | None:
    """The chunks of a loop; None: it is too short."""
    if loop.how != "serial" or loop.lo != Int(0):
        return None
    least = -(-ELEMENTS // max(_spelt(loop.body), 1))
    if not isinstance(loop.hi, Int):
        size = Bin("max", (loop.hi + (MOST - 1)) // MOST, Int(least))
        return Cut(Select(Bin("<=", size * LONG, loop.hi), loop.hi // size, Int(0)), size, MOST)
    n = loop.hi.value
    steps = max(least, -(-n // MOST))
    return Cut(Int(n // steps), Int(steps), n // steps) if n >= LONG * steps else None


def _spelt(s: Stmt) -> int:
    """How often the statement in s that runs most often runs."""
    match s:
        case For(_, Int(a), Int(b), _, body): return (b - a) * _spelt(body)
        case For(): raise UnknownSize("the chunks of a sum depend on a size inside it")
        case Seq(body): return max(map(_spelt, body))
        case Alloc(_, body): return _spelt(body)
        case _: return 1


Sums = dict[str, Accum]


def reduces(loop: For) -> Sums:
    """The registers that a loop only accumulates into, each by one operation; nothing if it does anything else that can be seen outside."""
    own = {x.buf.name for x in walk(loop) if isinstance(x, Alloc)}
    writes = [x for x in walk(loop) if isinstance(x, Store | Accum) and x.buf.name not in own]
    sums = {x.buf.name: x for x in writes if isinstance(x, Accum)}
    used = {e.buf.name for e in expressions(loop) if isinstance(e, Load) and e.buf.space == "register"} - own
    good = (all(isinstance(x, Accum) and x.buf.space == "register" and x.op == sums[x.buf.name].op for x in writes)
            and not used and not any(isinstance(x, Check | While) for x in walk(loop)))
    return sums if good else {}


def begins(before: tuple[Stmt, ...], sums: Sums) -> list[Stmt]:
    """The statements that set the sums to what is neutral, every one of them; nothing if they are set otherwise."""
    found = [x for x in before if any(y.buf.name in sums for y in walk(x) if isinstance(y, Store | Accum))]
    stores = [y for x in found for y in walk(x) if isinstance(y, Store | Accum)]
    good = {y.buf.name for y in stores} == sums.keys() and all(isinstance(y, Store) and _neutral(y.value, sums[y.buf.name]) for y in stores)
    return found if good and not any(isinstance(e, Load) for x in found for e in expressions(x)) else []


def _neutral(value: Expr, term: Accum) -> bool:
    start = neutral(term.op, term.buf.dtype)
    return isinstance(value, Lit) and repr(value) == repr(start)


def rebuilt(registers: list[Buffer], body: tuple[Stmt, ...], at: int, loop: For, cut: Cut, sums: Sums, starts: list[Stmt]) -> Stmt:
    count, size, rest = cut.count, cut.size, loop.hi - cut.count * cut.size
    c = Var(f"{loop.var}_chunk")
    mine = [b for b in registers if b.name in sums]
    parts = {b.name: Buffer(f"{b.name}_chunks", (cut.most, *b.shape), b.dtype, "scratch") for b in mine}
    keep = [_each(b, lambda ix, b=b: Store(parts[b.name], (c, *ix), Load(b, ix))) for b in mine]
    first: Stmt = seq(*starts, replace(loop, hi=size, body=subst(loop.body, {loop.var: c * size + Var(loop.var)})), *keep)
    for b in reversed(mine):
        first = Alloc(b, first)
    join = [_each(b, lambda ix, b=b: Accum(b, ix, Load(parts[b.name], (c, *ix)), sums[b.name].op)) for b in mine]
    left = [replace(loop, hi=rest, body=subst(loop.body, {loop.var: Var(loop.var) + count * size}))] if rest != Int(0) else []
    second: Stmt = seq(*body[:at], For(c.name, Int(0), count, "serial", seq(*join)), *left, *body[at + 1:])
    for b in reversed(registers):
        second = Alloc(b, second)
    whole: Stmt = seq(For(c.name, Int(0), count, "parallel", first), second)
    for part in parts.values():
        whole = Alloc(part, whole)
    return whole


def _each(b: Buffer, f) -> Stmt:                                # type: ignore[no-untyped-def]
    """f at every index of a register, its last axis along the lanes."""
    at = tuple(Var(f"{b.name}_{k}") for k in range(len(b.shape)))
    s: Stmt = f(at)
    for k, (v, n) in reversed(list(enumerate(zip(at, b.shape, strict=True)))):
        assert isinstance(n, int)
        s = For(v.name, Int(0), Int(n), "simd" if k == len(at) - 1 else "unroll", s)
    return s
