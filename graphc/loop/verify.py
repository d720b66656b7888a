"""What a well-formed kernel or plan is. Runs on what the lowering makes and on what the schedules leave; the code generator relies on it."""
from __future__ import annotations  # noqa: I001

import math
from ..core.record import dataclass, field

from ..core.compat import assert_never
from ..core.dims import Dim
from ..core.dtype import bool_, i64
from .ir import (
    Accum, Alloc, Barrier, Bin, Bitcast, Branch, Buffer, Call, Cast, Check, Expr, Extern, For, If, Int, Kernel, Launch, Lit, Load, Loop, Plan, Ref, Select,
    Seq, Steps,
    Stmt, Store, Un, Var, While, dtype_of, postorder,
)
from .schedule import at_most, dependence
from .text import show

MOST_SIMD = 1 << 10                                             # elements of a simd loop: it is spelt out


class LoopError(ValueError):
    """A kernel or a plan that is not well formed: a mistake of the compiler's, not of a user."""


def verify(x: Kernel | Plan) -> None:
    """Raise LoopError unless every rule below holds."""
    match x:
        case Kernel(): kernel(x)
        case Launch(k, args, sizes):
            kernel(k)
            require(len(args) == len(k.buffers) and len(sizes) == len(k.sizes), f"launch of {k.name}: {len(args)} regions, {len(sizes)} sizes")
            for b, r in zip(k.buffers, args, strict=True):
                if isinstance(r.start, Int) and isinstance(r.region.nbytes, int) and all(isinstance(n, int) for n in b.shape):
                    end = r.start.value + math.prod(int(n) for n in b.shape)
                    require(r.start.value >= 0 and end * b.dtype.itemsize <= r.region.nbytes, f"launch of {k.name}: {b.name} does not fit {r.region}")
        case Steps(body):
            for p in body:
                verify(p)
        case Loop():
            require(x.count >= 0, f"loop {x.var}: {x.count} times")
            for r, nbytes in ((x.limit, 8), (x.go, 1)):
                require(r is None or fits(r, nbytes), f"loop {x.var}: there are no {nbytes} bytes at {r}")
            verify(x.body)
        case Branch(index, bodies):
            require(len(bodies) > 0, "a branch of no bodies")
            require(fits(index, 8), f"a branch by {index}, which is no i64")
            for p in bodies:
                verify(p)
        case Barrier(): pass
        case Extern():
            require(len(x.args) == len(x.dtypes) and 0 <= x.reads <= len(x.args), f"{x.name}: {len(x.args)} places, {len(x.dtypes)} dtypes")
        case _: assert_never(x)


def fits(r: Ref, nbytes: int) -> bool:
    """Whether one element of that many bytes is there, as far as can be told."""
    return not isinstance(r.start, Int) or isinstance(r.region.nbytes, Dim) or 0 <= r.start.value <= r.region.nbytes // nbytes - 1


def require(holds: bool, why: str) -> None:
    if not holds:
        raise LoopError(why)


def kernel(k: Kernel) -> None:
    names = [b.name for b in k.buffers]
    require(len(set(names)) == len(names), f"kernel {k.name}: two buffers of one name in {names}")
    require(all(b.space == "argument" for b in k.buffers), f"kernel {k.name}: a parameter that is not an argument")
    for b in k.buffers:
        require(not b.dtype.is_half, f"{b.name} is {b.dtype}: below the tensor graph its memory is u16")
        require(all(isinstance(n, int) or (n in k.sizes and i == 0) for i, n in enumerate(b.shape)), f"{b.name}: sizes of {b.shape}")
    Scope({b.name: b for b in k.buffers}, {n: "size" for n in k.sizes}).stmt(k.body)


@dataclass(slots=True)
class Scope:
    """What is bound at a point: buffers, variables with what binds them, and the registers that surely hold something."""

    buffers: dict[str, Buffer]
    variables: dict[str, str]
    written: set[str] = field(default_factory=set)
    simd: str = ""

    def inside(self) -> Scope:
        return Scope(dict(self.buffers), dict(self.variables), set(self.written), self.simd)

    def stmt(self, s: Stmt) -> None:
        match s:
            case Seq(body):
                for x in body:
                    self.stmt(x)
            case Store(buf, ix, v):
                self.value(v)
                self.access(buf, ix)
                require(dtype_of(v) is buf.dtype, f"{show(s)}: {dtype_of(v)} stored to {buf.dtype}")
                self.written.add(buf.name)
            case Accum(buf, ix, v, _):
                self.value(v)
                self.access(buf, ix)
                require(dtype_of(v) is buf.dtype, f"{show(s)}: {dtype_of(v)} accumulated into {buf.dtype}")
                self.read(buf)
            case Alloc(buf, body):
                require(buf.name not in self.buffers, f"{buf.name} is allocated twice")
                require(buf.space != "argument" and all(isinstance(n, int) for n in buf.shape), f"{buf.name}: cannot be allocated")
                self.buffers[buf.name] = buf
                self.stmt(body)
                del self.buffers[buf.name]
                self.written.discard(buf.name)
            case For(): self.loop(s)
            case If(cond, body) | While(cond, body):
                self.condition(cond)
                self.inside().stmt(body)
            case Check(cond, code):
                self.condition(cond)
                require(code > 0, f"check: code {code}")
            case _: assert_never(s)

    def loop(self, s: For) -> None:
        require(s.var not in self.variables, f"{s.var} is bound twice")
        for e in (s.lo, s.hi):
            self.value(e)
            require(dtype_of(e) is i64, f"{s.var}: a bound of {dtype_of(e)}")
        count = s.hi.value - s.lo.value if isinstance(s.lo, Int) and isinstance(s.hi, Int) else None
        if s.how != "serial":
            require(s.how == "unroll" or s.lo == Int(0), f"{s.how} {s.var} starts at {show(s.lo)}")
        if s.how == "unroll":
            require(count is not None, f"unroll {s.var}: the extent is not a number")
        if s.how == "simd":
            require(not self.simd, f"simd {s.var} inside simd {self.simd}")
            most = at_most(s)
            require(most is None or most <= MOST_SIMD, f"simd {s.var}: {most} is more than {MOST_SIMD}")
        if s.how in ("parallel", "simd"):
            why = dependence(s, reduces=s.how == "simd")
            require(why is None, f"{s.how} {s.var}: {why}")
        spelt = s.how in ("unroll", "simd") or (count is not None and count <= 1)
        body = self if spelt and count else self.inside()       # what a loop that is spelt out writes stays written
        body.variables[s.var] = "number" if spelt else s.how
        simd, body.simd = body.simd, s.var if s.how == "simd" else body.simd
        body.stmt(s.body)
        body.simd = simd
        del body.variables[s.var]

    def access(self, buf: Buffer, ix: tuple[Expr, ...]) -> None:
        require(self.buffers.get(buf.name) == buf, f"{buf.name} is not {'the one allocated' if buf.name in self.buffers else 'allocated'} here")
        require(len(ix) == len(buf.shape), f"{buf.name}: {len(ix)} indices into rank {len(buf.shape)}")
        for i, n in zip(ix, buf.shape, strict=True):
            self.value(i)
            require(dtype_of(i) is i64, f"{buf.name}: an index of {dtype_of(i)}")
            require(not isinstance(i, Int) or not isinstance(n, int) or 0 <= i.value < n, f"{buf.name}: index {show(i)} of {n}")
            if buf.space == "register":
                loose = [e.name for e in postorder(i, {}) if isinstance(e, Var) and self.variables[e.name] != "number"]
                require(not loose, f"{buf.name} is in registers: its index moves with the run-time {', '.join(loose)}")
                require(not any(isinstance(e, Load) for e in postorder(i, {})), f"{buf.name} is in registers: its index is data")

    def read(self, buf: Buffer) -> None:
        require(buf.space != "register" or buf.name in self.written, f"{buf.name} is read before it is surely written")

    def condition(self, e: Expr) -> None:
        self.value(e)
        require(dtype_of(e) is bool_, f"a condition of {dtype_of(e)}: {show(e)}")

    def value(self, root: Expr) -> None:
        for e in postorder(root, {}):
            self.node(e)

    def node(self, e: Expr) -> None:
        """One expression, whose operands are sound."""
        match e:
            case Var(name): require(name in self.variables, f"{name} is not bound")
            case Int() | Lit() | Cast(): pass
            case Load(buf, ix):
                self.access_of_load(buf, ix)
                self.read(buf)
            case Un(op, a):
                d = dtype_of(a)
                sound = d.is_float if op in ("sqrt", "floor", "ceil", "round", "trunc") else not d.is_float if op == "not" else d is not bool_
                require(sound, f"no {op} of {d}")
            case Bin(op, a, b):
                d = dtype_of(a)
                require(d is dtype_of(b), f"{op} of {d} and {dtype_of(b)}: {show(e)}")
                sound = (d.is_float if op == "/" else d.is_integer if op in ("//", "%", "<<", ">>") else not d.is_float if op in ("and", "or", "xor")
                         else d is not bool_ if op in ("+", "-", "*") else True)
                require(sound, f"no {op} of {d}")
            case Select(c, a, b):
                require(dtype_of(c) is bool_, f"select by {dtype_of(c)}")
                require(dtype_of(a) is dtype_of(b), f"select of {dtype_of(a)} and {dtype_of(b)}")
            case Bitcast(a, d): require(dtype_of(a).bits == d.bits and bool_ not in (d, dtype_of(a)), f"the bits of {dtype_of(a)} as {d}")
            case Call(fn, args):
                kinds = [dtype_of(a) for a in args]
                d = kinds[0]
                want = {"fma": [d, d, d], "copysign": [d, d], "rare": [d, d, bool_]}[fn]
                require((d.is_float or fn == "rare") and kinds == want, f"no {fn} of {kinds}")
            case _: assert_never(e)

    def access_of_load(self, buf: Buffer, ix: tuple[Expr, ...]) -> None:
        self.access(buf, ix)
