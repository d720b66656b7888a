"""A kernel of the loop IR as LLVM IR text: one pass, no optimiser behind it. Four ideas carry it.

1. *Unrolling is evaluation.* `unroll` and `simd` loops run here, while their body is emitted; their variables are numbers.
2. *Registers are a dictionary* from (buffer, constant index) to a value. A run-time loop turns the entries that its body writes into phis.
3. *Text is the value number* (`values.py`); a load's key holds its buffer's version, which a store raises.
4. *Indices are affine forms*, made once for each index expression: constant + coefficient * variable, + what is not affine. The lanes of a
   `simd` loop are one more coefficient: 0 is a scalar, 1 a vector, anything else is gathered.

Loops over blocks of lanes: a `simd` loop of static extent is ceil(extent / lanes) blocks, the last one masked; lanes that are off never touch
memory. One number of lanes serves the whole kernel.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..core.compat import assert_never
from ..core.dtype import DType, bool_, i64
from ..core.target import Target
from ..loop.affine import Form, form, place
from ..loop.ir import (  # isort: skip
    Accum, Alloc, Bin, Bitcast, Buffer, Call, Cast, Check, Expr, For, If, Int, Kernel, Lit, Load, Select, Seq, Stmt, Store, Un, Var, While,
    children, postorder, walk,
)
from ..loop.schedule import lanes_of
from .types import Val, in_memory, literal, scalar, suffix, typed
from .values import Values, neutral


@dataclass(frozen=True, slots=True)
class KernelText:
    """A kernel as LLVM IR. Its parameters: a pointer for each buffer, scratch, status (i32), each size (i64), thread and threads (i64)."""

    name: str
    text: str                       # the function's definition
    scratch_bytes: int              # for one thread
    declarations: frozenset[str]    # of the intrinsics it calls
    checks: bool                    # whether it may set the status


@dataclass(slots=True)
class Lane:
    """The value of a simd variable: base + 0, 1, ... of which `active` are on (an SSA name if known only at run time)."""

    base: int
    active: int | str


At = tuple[int, tuple[tuple[str, int], ...], int, tuple[tuple[str, int], ...]]
# const + sum(coefficient * SSA name) + stride * lane number + sum(coefficient * SSA name of a vector)

SCALES = (1, 2, 4, 8)
SHALLOW = 48                                                    # levels of an expression that recursion may go down at once


class Emitter(Values):
    def __init__(self, target: Target, lanes: int) -> None:
        super().__init__(target, lanes)
        self.env: dict[str, int | str | Lane] = {}
        self.lane: Lane | None = None
        self.masks: list[str] = []                              # names of the conditions that lanes are under
        self.own: set[str] = set()                              # registers that each lane has for itself
        self.regs: dict[tuple[str, int], Val] = {}
        self.version: dict[str, int] = {}
        self.base: dict[str, str] = {}
        self.block, self.scratch, self.scratch_max = "entry", 0, 0
        self.memo: dict[int, Val] = {}                          # values of the expressions of the present statement
        self.forms: dict[tuple[int, int], Form] = {}
        self.pure: dict[int, bool] = {}
        self.steps: dict[int, list[Expr]] = {}
        self.writes: dict[int, frozenset[str]] = {}
        self.checks = False
        self.innermost = ""                                     # the variable of the innermost run-time loop,
        self.offsets: set[int] = set()                          # and the steps in bytes at which it moves addresses

    # ---- indices --------------------------------------------------------------------------------------------------------------------

    def affine(self, e: Expr) -> Form:
        key = (0, id(e))
        if key not in self.forms:
            self.forms[key] = form(((e, 1),))
        return self.forms[key]

    def place(self, buf: Buffer, index: tuple[Expr, ...]) -> At:
        f = self.forms.get((id(buf), id(index)))
        if f is None:
            f = self.forms[id(buf), id(index)] = place(buf, index)
        return self.at(f)

    def at(self, f: Form) -> At:
        const, stride, terms, vectors = f.const, 0, [], []
        for var, c in f.variables:
            v = self.env[var]
            if type(v) is int:
                const += c * v
            elif type(v) is str:
                terms.append((v, c))
            elif type(v) is Lane:
                const += c * v.base
                stride += c
        for e, k in f.others:
            x = self.quotient(e) if isinstance(e, Bin) and e.op in ("//", "%") and self.is_pure(e) else self.opaque(e)
            const += k * x[0]
            stride += k * x[2]
            terms += [(t, k * c) for t, c in x[1]]
            vectors += [(t, k * c) for t, c in x[3]]
        return const, tuple(terms), stride, tuple(vectors)

    def opaque(self, e: Expr) -> At:
        text, _, lanes = self.value(e)
        if lanes > 1:
            return 0, (), 0, ((text, 1),)
        return (0, ((text, 1),), 0, ()) if text[0] == "%" else (int(text), (), 0, ())

    def quotient(self, e: Bin) -> At:
        """a // d and a % d of indices, which are not negative. What d divides stays affine, and so does a block of lanes within one quotient."""
        a, d = self.at(self.affine(e.a)), self.at(self.affine(e.b))
        if d[1] or d[2] or d[3]:
            word = {"//": "udiv", "%": "urem"}[e.op]
            lanes, (x, y) = self.align(self.index(a), self.index(d))
            name = self.op(f"{word} {typed(i64, lanes)} {x}, {y}")
            return (0, ((name, 1),), 0, ()) if lanes == 1 else (0, (), 0, ((name, 1),))
        n, rest = d[0], tuple((t, c) for t, c in a[1] if c % d[0])
        first = a[0] % n
        if not rest and not a[3] and (a[2] == 0 or (a[2] > 0 and first + a[2] * (self.L - 1) < n)):
            return (a[0] // n, tuple((t, c // n) for t, c in a[1]), 0, ()) if e.op == "//" else (first, (), a[2], ())
        text, _, lanes = self.index(a)
        wide = str(n) if lanes == 1 else f"splat (i64 {n})"
        name = self.op(f"{'udiv' if e.op == '//' else 'urem'} {typed(i64, lanes)} {text}, {wide}")
        return (0, ((name, 1),), 0, ()) if lanes == 1 else (0, (), 0, ((name, 1),))

    def is_pure(self, e: Expr) -> bool:
        """Index arithmetic over variables and literals alone."""
        known = self.pure.get(id(e))
        if known is None:
            known = self.pure[id(e)] = isinstance(e, Var | Int) or (isinstance(e, Bin) and e.op in ("+", "-", "*", "//", "%")
                                                                    and self.is_pure(e.a) and self.is_pure(e.b))
        return known

    def integer(self, at: At) -> int | str:
        """A scalar index: a number, or an SSA name."""
        const, terms, stride, vectors = at
        assert not stride and not vectors, "an index that differs between lanes where one number is needed"
        x: int | str = const
        for t, c in terms:
            t = t if c == 1 else self.op(f"mul nsw i64 {t}, {c}")
            x = t if x == 0 else self.op(f"add nsw i64 {t}, {x}")
        return x

    def index(self, at: At) -> Val:
        """An index as an i64 value."""
        const, terms, stride, vectors = at
        if not stride and not vectors:
            return str(self.integer(at)), i64, 1
        x: Val = (str(self.integer((const, terms, 0, ()))), i64, 1)
        if stride:
            x = self.bin("+", x, (f"<{', '.join(f'i64 {stride * n}' for n in range(self.L))}>", i64, self.L))
        for t, c in vectors:
            x = self.bin("+", x, self.bin("*", (t, i64, self.L), (str(c), i64, 1)) if c != 1 else (t, i64, self.L))
        return x

    def address(self, buf: Buffer, const: int, terms: tuple[tuple[str, int], ...]) -> str:
        """Run-time part first, then the constant, which becomes the instruction's displacement.

        What the innermost loop adds in steps that no addressing mode scales by is an offset of its own, counted beside the loop's variable: code
        generation at this level would multiply in every iteration.
        """
        p, ty = self.base[buf.name], in_memory(buf.dtype)
        steps = [c * buf.dtype.itemsize for t, c in terms if t == self.innermost]
        if steps and steps[0] not in SCALES and len(steps) == 1:
            terms = tuple([(t, c) for t, c in terms if t != self.innermost])
            self.offsets.add(steps[0])
        else:
            steps = []
        if terms:
            p = self.op(f"getelementptr {ty}, ptr {p}, i64 {self.integer((0, terms, 0, ()))}")
        if steps:
            p = self.op(f"getelementptr i8, ptr {p}, i64 {self.innermost}.by{steps[0]}")
        return self.op(f"getelementptr {ty}, ptr {p}, i64 {const}") if const else p

    def pointers(self, buf: Buffer, at: At) -> str:
        """A vector of addresses."""
        return self.op(f"getelementptr {in_memory(buf.dtype)}, ptr {self.base[buf.name]}, {typed(i64, self.L)} {self.widen(self.index(at))}")

    # ---- values ---------------------------------------------------------------------------------------------------------------------

    def evaluate(self, e: Expr) -> Val:
        """The value of e, however deep."""
        steps = self.steps.get(id(e))
        if steps is None:
            steps = self.steps[id(e)] = milestones(e)
        for x in steps:
            self.value(x)
        return self.value(e)

    def value(self, e: Expr) -> Val:
        v = self.memo.get(id(e))
        if v is None:
            v = self.memo[id(e)] = self.compute(e)
        return v

    def compute(self, e: Expr) -> Val:
        match e:
            case Load(buf, ix): return self.load(buf, self.place(buf, ix))
            case Bin(op, a, b):
                if self.is_pure(e):
                    return self.index(self.at(self.affine(e)))
                return self.bin(op, self.value(a), self.value(b))
            case Lit(v, dtype): return literal(v, dtype), dtype, 1
            case Var() | Int(): return self.index(self.at(self.affine(e)))
            case Un(op, a): return self.un(op, self.value(a))
            case Select(c, a, b): return self.select(self.value(c), self.value(a), self.value(b))
            case Cast(a, dtype): return self.cast(self.value(a), dtype)
            case Bitcast(a, dtype): return self.bitcast(self.value(a), dtype)
            case Call(fn, args):
                vals = [self.value(a) for a in args]
                return self.fma(*vals) if fn == "fma" else self.ldexp(*vals) if fn == "ldexp" else self.copysign(*vals)
            case _: assert_never(e)

    # ---- memory ---------------------------------------------------------------------------------------------------------------------

    def mask(self) -> str | None:
        """Which lanes are on, or None for all of them."""
        assert self.lane is not None
        n, on = self.lane.active, f"<{self.L} x i1>"
        text = None
        if isinstance(n, str):
            text = self.op(self.call(on, f"get.active.lane.mask.v{self.L}i1.i64", ("i64", str(self.lane.base)), ("i64", n)))
        elif n < self.L:
            text = f"<{', '.join(f'i1 {int(k < n)}' for k in range(self.L))}>"
        for m in self.masks:
            text = m if text is None else self.op(f"and {on} {text}, {m}")
        return text

    def load(self, buf: Buffer, at: At) -> Val:
        if buf.space == "register":
            assert not at[1] and not at[3], f"{buf.name} is in registers: its index must be constant after unroll and simd"
            v = self.regs.get((buf.name, at[0]))
            assert v is not None, f"{buf.name}[{at[0]}] is read before it is written"
            assert v[2] == 1 or self.lane is not None, f"{buf.name} holds lanes: it is read outside a simd loop"
            return v
        moving = bool(at[2] or at[3])
        key = (buf.name, at, self.version.get(buf.name), moving and self.lane and (self.lane.active, *self.masks))
        found: Val | None = self.known.get(key)
        if found is None:
            found = self.known[key] = self.from_memory(self.fetch(buf, at), buf.dtype, self.L if moving else 1)
        return found

    def fetch(self, buf: Buffer, at: At) -> str:
        """What memory holds: a scalar, neighbours as a vector, or lanes gathered one by one (by mask where that is a run-time value)."""
        const, terms, stride, vectors = at
        ty, size, V = in_memory(buf.dtype), buf.dtype.itemsize, f"<{self.L} x {in_memory(buf.dtype)}>"
        if not stride and not vectors:
            return self.fresh(f"load {ty}, ptr {self.address(buf, const, terms)}, align {size}")
        assert self.lane is not None
        mask, on, n = self.mask(), f"<{self.L} x i1>", self.lane.active
        if stride == 1 and not vectors:
            p = self.address(buf, const, terms)
            if mask is None:
                return self.fresh(f"load {V}, ptr {p}, align {size}")
            if isinstance(n, int) and not self.masks and n & (n - 1) == 0:                # a half, a quarter: a shorter vector
                if n == 1:
                    return self.op(f"insertelement {V} zeroinitializer, {ty} {self.fresh(f'load {ty}, ptr {p}, align {size}')}, i64 0")
                part, picks = self.fresh(f"load <{n} x {ty}>, ptr {p}, align {size}"), ", ".join(f"i32 {min(k, n)}" for k in range(self.L))
                return self.op(f"shufflevector <{n} x {ty}> {part}, <{n} x {ty}> zeroinitializer, <{self.L} x i32> <{picks}>")
            return self.fresh(self.call(V, f"masked.load.{suffix(V)}.p0", ("ptr", p), ("i32", str(size)), (on, mask), (V, "zeroinitializer")))
        if isinstance(n, str) or self.masks:
            P = f"<{self.L} x ptr>"
            return self.fresh(self.call(V, f"masked.gather.{suffix(V)}.v{self.L}p0", (P, self.pointers(buf, at)), ("i32", str(size)),
                                        (on, mask or "splat (i1 true)"), (V, "zeroinitializer")))
        if stride == -1 and not vectors and mask is None:
            x = self.fresh(f"load {V}, ptr {self.address(buf, const - self.L + 1, terms)}, align {size}")
            return self.op(f"shufflevector {V} {x}, {V} poison, <{self.L} x i32> <{', '.join(f'i32 {self.L - 1 - k}' for k in range(self.L))}>")
        x = "zeroinitializer"
        for k, p in enumerate(self.each_lane(buf, at, n)):
            x = self.op(f"insertelement {V} {x}, {ty} {self.fresh(f'load {ty}, ptr {p}, align {size}')}, i64 {k}")
        return x

    def each_lane(self, buf: Buffer, at: At, active: int) -> list[str]:
        """The address of each lane's element."""
        const, terms, stride, vectors = at
        if not vectors:
            return [self.address(buf, const + k * stride, terms) for k in range(active)]
        moving = self.widen(self.index((0, (), stride, vectors)))
        return [self.address(buf, const, (*terms, (self.op(f"extractelement {typed(i64, self.L)} {moving}, i64 {k}"), 1))) for k in range(active)]

    def fresh(self, text: str) -> str:
        """An instruction that is not the same as an equal text before it: a load."""
        name = f"%{self.name('v')}"
        self.lines.append(f"  {name} = {text}")
        return name

    def from_memory(self, text: str, dtype: DType, lanes: int) -> Val:
        if dtype is bool_:
            ty = "i8" if lanes == 1 else f"<{lanes} x i8>"
            text = self.op(f"icmp ne {ty} {text}, zeroinitializer" if lanes > 1 else f"icmp ne i8 {text}, 0")
        return text, dtype, lanes

    def store(self, buf: Buffer, at: At, v: Val) -> None:
        assert v[1] is buf.dtype, f"{buf.name} is {buf.dtype}, stored {v[1]}"
        if buf.space == "register":
            assert not at[1] and not at[3], f"{buf.name} is in registers: its index must be constant after unroll and simd"
            key = (buf.name, at[0])
            if self.lane is not None:
                assert at[2] or buf.name in self.own, f"{buf.name} is one value, and the lanes of a simd loop store to it"
                v = (self.widen(v), v[1], self.L)
                if key in self.regs and (m := self.kept(buf, at)) is not None:
                    v = self.select((m, bool_, self.L), v, self.regs[key])
            self.regs[key] = v
            return
        const, terms, stride, vectors = at
        ty, size, V = in_memory(buf.dtype), buf.dtype.itemsize, f"<{self.L} x {in_memory(buf.dtype)}>"
        self.version[buf.name] = self.version.get(buf.name, 0) + 1
        if self.lane is None:
            self.do(f"store {ty} {self.to_memory(v, 1)}, ptr {self.address(buf, const, terms)}, align {size}")
            return
        assert stride or vectors, f"store to {buf.name}: every lane to the same element"
        text, mask, on, n = self.to_memory(v, self.L), self.mask(), f"<{self.L} x i1>", self.lane.active
        if stride == 1 and not vectors:
            p = self.address(buf, const, terms)
            if mask is None:
                self.do(f"store {V} {text}, ptr {p}, align {size}")
            elif isinstance(n, int) and not self.masks and self.target.vector_bytes < 64:
                self.store_part(buf, const, terms, text, n)
            else:
                self.do(self.call("void", f"masked.store.{suffix(V)}.p0", (V, text), ("ptr", p), ("i32", str(size)), (on, mask)))
        elif isinstance(n, str) or self.masks:
            P = f"<{self.L} x ptr>"
            self.do(self.call("void", f"masked.scatter.{suffix(V)}.v{self.L}p0", (V, text), (P, self.pointers(buf, at)), ("i32", str(size)),
                              (on, mask or "splat (i1 true)")))
        else:
            for k, p in enumerate(self.each_lane(buf, at, n)):
                self.do(f"store {ty} {self.op(f'extractelement {V} {text}, i64 {k}')}, ptr {p}, align {size}")

    def kept(self, buf: Buffer, at: At) -> str | None:
        """The mask under which a register changes: needed where lanes that are off are elements of it."""
        assert self.lane is not None
        n = self.lane.active
        whole = buf.name in self.own or (isinstance(n, int) and at[2] == 1 and at[0] % last_axis(buf) + n >= last_axis(buf))
        if whole or n == self.L:
            return self.masks[-1] if self.masks else None
        return self.mask()

    def store_part(self, buf: Buffer, const: int, terms: tuple[tuple[str, int], ...], text: str, n: int) -> None:
        """The first n lanes as a half, a quarter, ... : a masked store is slow where it is not an instruction of its own."""
        ty, size, k = in_memory(buf.dtype), buf.dtype.itemsize, 0
        while k < n:
            m = 1 << (n - k).bit_length() - 1
            p = self.address(buf, const + k, terms)
            V = f"<{self.L} x {ty}>"
            if m == 1:
                self.do(f"store {ty} {self.op(f'extractelement {V} {text}, i64 {k}')}, ptr {p}, align {size}")
            else:
                part = self.op(f"shufflevector {V} {text}, {V} poison, <{m} x i32> <{', '.join(f'i32 {k + i}' for i in range(m))}>")
                self.do(f"store <{m} x {ty}> {part}, ptr {p}, align {size}")
            k += m

    def to_memory(self, v: Val, lanes: int) -> str:
        text = self.widen(v) if lanes > 1 else v[0]
        if v[1] is bool_:
            return self.op(f"zext {typed(bool_, lanes)} {text} to {'i8' if lanes == 1 else f'<{lanes} x i8>'}")
        return text

    # ---- statements -----------------------------------------------------------------------------------------------------------------

    def stmt(self, s: Stmt) -> None:
        self.memo = {}
        match s:
            case Store(buf, ix, value):
                v = self.evaluate(value)
                self.store(buf, self.place(buf, ix), v)
            case Accum(): self.accumulate(s)
            case For(var, lo, hi, how, body):
                if how == "simd":
                    self.simd(s)
                    return
                a, b = self.integer(self.at(self.affine(lo))), self.integer(self.at(self.affine(hi)))
                if how == "unroll" or (isinstance(a, int) and isinstance(b, int) and b - a <= 1):
                    assert isinstance(a, int)
                    assert isinstance(b, int), f"unroll {var}: the extent is not a number"
                    for i in range(a, b):
                        self.env[var] = i
                        self.stmt(body)
                else:
                    self.loop(var, a, b, body)
            case Seq(body):
                for x in body:
                    self.stmt(x)
            case Alloc(): self.alloc(s, self.stmt)
            case If(cond, body):
                c = self.evaluate(cond)
                if c[2] > 1:
                    self.masked(c[0], body)
                elif c[0][0] != "%":
                    if c[0] == "true":
                        self.stmt(body)
                else:
                    self.guarded(c[0], partial(self.stmt, body), self.written(body))
            case While(): self.repeat(s)
            case Check(): self.check(s)
            case _: assert_never(s)

    def accumulate(self, s: Accum) -> None:
        buf, at = s.buf, self.place(s.buf, s.index)
        if self.lane is not None and not at[2] and not at[3] and buf.name not in self.own:
            self.across(s, at)
        elif self.lane is not None and at[2] != 1 and buf.space != "register":
            self.one_by_one(s, at)
        elif s.op == "+" and isinstance(s.value, Bin) and s.value.op == "*" and buf.dtype.is_float:
            a, b = self.evaluate(s.value.a), self.evaluate(s.value.b)
            self.store(buf, at, self.fma(a, b, self.load(buf, at)))
        else:
            v = self.evaluate(s.value)
            self.store(buf, at, self.combine(s.op, self.load(buf, at), v))

    def across(self, s: Accum, at: At) -> None:
        """buf[index] op= v in a simd loop where index does not move with the lanes: the lanes are combined first."""
        dtype, text = s.buf.dtype, self.widen(self.evaluate(s.value))
        if (m := self.mask()) is not None:
            text = self.op(f"select <{self.L} x i1> {m}, {typed(dtype, self.L)} {text}, {typed(dtype, self.L)} splat ({scalar(dtype)} {neutral(s.op, dtype)})")
        start, total = self.load(s.buf, at), (self.fold_lanes(s.op, text, dtype), dtype, 1)
        lane, masks, self.lane, self.masks = self.lane, self.masks, None, []
        self.store(s.buf, at, self.combine(s.op, start, total))
        self.lane, self.masks = lane, masks

    def one_by_one(self, s: Accum, at: At) -> None:
        """Lanes that may meet in one element: in order."""
        assert self.lane is not None
        n = self.lane.active
        assert isinstance(n, int), f"lanes of a run-time number accumulate into {s.buf.name} by an index that is not theirs alone"
        text, dtype, ty = self.widen(self.evaluate(s.value)), s.buf.dtype, in_memory(s.buf.dtype)
        mask = self.masks[-1] if self.masks else None
        for k, p in enumerate(self.each_lane(s.buf, at, n)):
            new: Val = self.op(f"extractelement {typed(dtype, self.L)} {text}, i64 {k}"), dtype, 1
            if mask is not None:
                on: Val = self.op(f"extractelement <{self.L} x i1> {mask}, i64 {k}"), bool_, 1
                new = self.select(on, new, (neutral(s.op, dtype), dtype, 1))
                p = self.op(f"select i1 {on[0]}, ptr {p}, ptr {self.spare()}")
            old = self.from_memory(self.fresh(f"load {ty}, ptr {p}, align {dtype.itemsize}"), dtype, 1)
            self.do(f"store {ty} {self.to_memory(self.combine(s.op, old, new), 1)}, ptr {p}, align {dtype.itemsize}")
        self.version[s.buf.name] = self.version.get(s.buf.name, 0) + 1

    def spare(self) -> str:
        """Scratch that lanes which are off may read and write."""
        self.scratch_max = max(self.scratch_max, self.scratch + 64)
        return self.op(f"getelementptr i8, ptr %scratch, i64 {self.scratch}")

    def alloc(self, s: Alloc, run: Callable[[Stmt], None]) -> None:
        buf = s.buf
        if buf.space == "register":
            if self.lane is not None:
                self.own.add(buf.name)
            run(s.body)
            self.own.discard(buf.name)
            self.regs = {k: v for k, v in self.regs.items() if k[0] != buf.name}
            return
        count = buf.strides[0] * buf.shape[0] if buf.shape else 1  # type: ignore[operator]
        size = -(-count * buf.dtype.itemsize // 64) * 64
        self.base[buf.name] = self.op(f"getelementptr i8, ptr %scratch, i64 {self.scratch}") if self.scratch else "%scratch"
        self.version[buf.name] = self.version.get(buf.name, 0) + 1
        self.scratch += size
        self.scratch_max = max(self.scratch_max, self.scratch)
        run(s.body)
        self.scratch -= size

    def simd(self, s: For) -> None:
        assert self.lane is None, f"simd {s.var} inside a simd loop"
        extent = self.integer(self.at(self.affine(s.hi)))
        for base in range(0, extent, self.L) if isinstance(extent, int) else (0,):
            self.lane = self.env[s.var] = Lane(base, min(self.L, extent - base) if isinstance(extent, int) else extent)
            if not (self.lane.active == self.L and self.across_diagonal(s)):
                self.stmt(s.body)
        self.lane = None

    def across_diagonal(self, s: For) -> bool:
        """A square block copied across its diagonal (`for lanes i: for unrolled j: y[.., i] = x[i, .. j]`): rows loaded, shuffled in halves, stored."""
        match s.body:
            case For(var, Int(0), Int(n), "unroll", Store(to, ix, Load(of, jx))) if n == self.L > 1 and to.space != "register" != of.space: pass
            case _: return False
        self.env[var] = 0
        source, target = self.place(of, jx), self.place(to, ix)
        forms = self.forms[id(of), id(jx)], self.forms[id(to), id(ix)]
        if (target[2] != 1 or source[2] in (0, 1) or source[3] or target[3] or forms[0].coefficient(var) != 1
                or any(f.moves_otherwise(v) for f in forms for v in (var, s.var))):
            return False
        size, V = of.dtype.itemsize, f"<{self.L} x {in_memory(of.dtype)}>"
        rows = [self.fresh(f"load {V}, ptr {self.address(of, source[0] + k * source[2], source[1])}, align {size}") for k in range(self.L)]
        half = 1
        while half < self.L:
            low = ", ".join(f"i32 {k if not k & half else self.L + k - half}" for k in range(self.L))
            high = ", ".join(f"i32 {k + half if not k & half else self.L + k}" for k in range(self.L))
            for k in [k for k in range(self.L) if not k & half]:
                pair = f"{V} {rows[k]}, {V} {rows[k + half]}"
                rows[k], rows[k + half] = (self.op(f"shufflevector {pair}, <{self.L} x i32> <{m}>") for m in (low, high))
            half *= 2
        for j, row in enumerate(rows):
            self.env[var] = j
            at = self.place(to, ix)
            self.do(f"store {V} {row}, ptr {self.address(to, at[0], at[1])}, align {size}")
        self.version[to.name] = self.version.get(to.name, 0) + 1
        return True

    def check(self, s: Check) -> None:
        self.checks = True
        text, _, lanes = self.bin("xor", self.evaluate(s.cond), ("true", bool_, 1))
        if self.lane is not None and (m := self.mask()) is not None:
            text, _, lanes = self.bin("and", (text, bool_, lanes), (m, bool_, self.L))
        bad = self.fold_lanes("+", text, bool_) if lanes > 1 else text
        old = self.fresh("load i32, ptr %status, align 4")
        first = self.op(f"and i1 {bad}, {self.op(f'icmp eq i32 {old}, 0')}")
        self.do(f"store i32 {self.op(f'select i1 {first}, i32 {s.code}, i32 {old}')}, ptr %status, align 4")

    # ---- control --------------------------------------------------------------------------------------------------------------------

    def written(self, s: Stmt) -> frozenset[str]:
        """Names of the buffers that s writes."""
        if id(s) not in self.writes:
            self.writes[id(s)] = frozenset(x.buf.name for x in walk(s) if isinstance(x, Store | Accum))
        return self.writes[id(s)]

    def aside(self, block: str, run: Callable[[], None]) -> list[str]:
        """The text of a block of its own: appended by the caller, once it knows the block's phis."""
        lines, known, self.lines, self.known, self.block = self.lines, self.known, [], dict(self.known), block
        run()
        text, self.lines, self.known = self.lines, lines, known
        return text

    def loop(self, var: str, lo: int | str, hi: int | str, body: Stmt) -> None:
        """for var in lo:hi, tested at its end; entered by a test where the bounds are run-time values."""
        known = isinstance(lo, int) and isinstance(hi, int)
        n = self.name("")
        head, end, before, i = f"loop{n}", f"end{n}", self.block, f"%i{n}"
        enter = f"br label %{head}" if known else f"br i1 {self.op(f'icmp slt i64 {lo}, {hi}')}, label %{head}, label %{end}"
        start, phis = self.carry(self.written(body))
        self.env[var] = i
        outer, self.innermost, self.offsets = (self.innermost, self.offsets), i, set()
        text, latch = self.aside(head, partial(self.stmt, body)), self.block
        offsets, (self.innermost, self.offsets) = sorted(self.offsets), outer
        starts = [lo * c if isinstance(lo, int) else self.op(f"mul nsw i64 {lo}, {c}") for c in offsets]
        self.lines += [f"  {enter}", f"{head}:", f"  {i} = phi i64 [ {lo}, %{before} ], [ {i}.next, %{latch} ]"]
        self.lines += [f"  {i}.by{c} = phi i64 [ {a}, %{before} ], [ {i}.by{c}.next, %{latch} ]" for c, a in zip(offsets, starts, strict=True)]
        self.lines += self.phi_lines(start, phis, before, latch)
        self.lines += [*text, *(f"  {i}.by{c}.next = add nsw i64 {i}.by{c}, {c}" for c in offsets), f"  {i}.next = add nuw nsw i64 {i}, 1", f"  {i}.more = icmp slt i64 {i}.next, {hi}",
                       f"  br i1 {i}.more, label %{head}, label %{end}", f"{end}:"]
        self.block = end
        if known:
            self.forget(start, body)
        else:
            self.merge(start, before, latch)

    def carry(self, written: frozenset[str]) -> tuple[dict[tuple[str, int], Val], dict[tuple[str, int], str]]:
        """Before a loop: the registers that it changes become phis, the memory that it changes is unknown."""
        for name in written:
            self.version[name] = self.version.get(name, 0) + 1
        start = {r: v for r, v in self.regs.items() if r[0] in written}
        phis = {r: f"%{self.name('acc')}" for r in start}
        self.regs = self.regs | {r: (phis[r], v[1], v[2]) for r, v in start.items()}
        return start, phis

    def phi_lines(self, start: dict[tuple[str, int], Val], phis: dict[tuple[str, int], str], before: str, latch: str) -> list[str]:
        return [f"  {phis[r]} = phi {typed(d, n)} [ {v}, %{before} ], [ {self.regs[r][0]}, %{latch} ]" for r, (v, d, n) in start.items()]

    def forget(self, start: dict[tuple[str, int], Val], body: Stmt) -> None:
        """After a loop: registers that only its body wrote hold nothing."""
        written = self.written(body)
        self.regs = {r: v for r, v in self.regs.items() if r[0] not in written or r in start}

    def repeat(self, s: While) -> None:
        n = self.name("")
        head, then, end, before = f"while{n}", f"do{n}", f"end{n}", self.block
        start, phis = self.carry(self.written(s.body))
        lines, known, self.lines, self.known, self.block = self.lines, self.known, [], dict(self.known), head
        self.memo = {}
        cond = self.evaluate(s.cond)
        assert cond[2] == 1, "while: the lanes of a simd loop differ"
        exit_regs, exit_block = dict(self.regs), self.block
        text = self.aside(then, partial(self.stmt, s.body))
        test, self.lines, self.known = self.lines, lines, known
        self.lines += [f"  br label %{head}", f"{head}:", *self.phi_lines(start, phis, before, self.block), *test,
                       f"  br i1 {cond[0]}, label %{then}, label %{end}", f"{then}:", *text, f"  br label %{head}", f"{end}:"]
        assert exit_block == head
        self.block, self.regs = end, exit_regs

    def guarded(self, cond: str, run: Callable[[], None], written: frozenset[str]) -> None:
        """run() where cond holds."""
        n = self.name("")
        then, join, before, start = f"then{n}", f"join{n}", self.block, {r: v for r, v in self.regs.items() if r[0] in written}
        text, latch = self.aside(then, run), self.block
        self.lines += [f"  br i1 {cond}, label %{then}, label %{join}", f"{then}:", *text, f"  br label %{join}", f"{join}:"]
        self.block = join
        for r in [r for r in self.regs if r[0] in written and r not in start]:
            del self.regs[r]
        self.merge(start, before, latch)

    def merge(self, start: dict[tuple[str, int], Val], before: str, latch: str) -> None:
        """After code that may not have run: registers that it changed are phis of both ways."""
        for r, (v, d, n) in start.items():
            if self.regs[r][0] != v:
                assert self.regs[r][2] == n, f"{r[0]} holds {n} lanes, then {self.regs[r][2]}"
                self.regs[r] = self.fresh(f"phi {typed(d, n)} [ {v}, %{before} ], [ {self.regs[r][0]}, %{latch} ]"), d, n

    def masked(self, cond: str, body: Stmt) -> None:
        """If whose condition differs between lanes: its body runs where any lane wants it, on those lanes."""
        on = f"<{self.L} x i1>"
        both = self.op(f"and {on} {self.masks[-1]}, {cond}") if self.masks else cond
        m = self.mask() if not self.masks else None
        live = both if m is None else self.op(f"and {on} {both}, {m}")
        some = self.fold_lanes("+", live, bool_)
        self.masks.append(both)
        self.guarded(some, partial(self.stmt, body), self.written(body))
        self.masks.pop()

    # ---- sharing a kernel among threads ---------------------------------------------------------------------------------------------

    def top(self, s: Stmt) -> None:
        """Outermost parallel loops in balanced shares; what writes registers alone by every thread; the rest by the first."""
        match s:
            case Seq(body):
                rest: list[Stmt] = []
                for x in body:
                    if self.shared(x):
                        self.by_first(rest)
                        rest = []
                        self.top(x)
                    else:
                        rest.append(x)
                self.by_first(rest)
            case Alloc(buf, _) if buf.space == "register": self.alloc(s, self.top)
            case For(var, lo, hi, "parallel", body) if self.shared(s):
                a, b = self.integer(self.at(self.affine(lo))), self.integer(self.at(self.affine(hi)))
                if b == 1:
                    self.env[var] = 0
                    self.top(body)
                else:
                    assert a == 0, f"parallel {var} starts at {a}"
                    share = lambda t: self.op(f"udiv i64 {self.op(f'mul i64 {t}, {b}')}, %threads")
                    self.loop(var, share("%thread"), share(self.op("add i64 %thread, 1")), body)
            case _: self.by_first([s])

    def shared(self, s: Stmt) -> bool:
        match s:
            case For(_, _, Int(1), "parallel", body): return self.shared(body)
            case For(_, _, _, "parallel", _): return True
            case Seq(body): return any(map(self.shared, body))
            case Alloc(buf, body): return buf.space == "register" and self.shared(body)
            case _: return False

    def by_first(self, body: list[Stmt]) -> None:
        for s in body:
            if all(x.buf.space == "register" for x in walk(s) if isinstance(x, Store | Accum)) and not any(isinstance(x, Check) for x in walk(s)):
                self.stmt(s)                                    # every thread needs its registers
            else:
                self.guarded(self.op("icmp eq i64 %thread, 0"), partial(self.stmt, s), self.written(s))


def last_axis(buf: Buffer) -> int:
    n = buf.shape[-1] if buf.shape else 1
    assert isinstance(n, int), buf
    return n


def milestones(e: Expr) -> list[Expr]:
    """Inner expressions to evaluate first, in order, so that recursion never goes deeper than SHALLOW levels."""
    height: dict[int, int] = {}
    found = []
    for x in postorder(e, {}):
        height[id(x)] = h = 1 + max([height[id(c)] for c in children(x)], default=0)
        if h > SHALLOW and isinstance(x, Un | Bin | Select | Cast | Bitcast | Call):
            found.append(x)
            height[id(x)] = 0
    return found


def emit(kernel: Kernel, target: Target) -> KernelText:
    """The function of a kernel, and what it needs of its surroundings. Parameters are numbered, so equal kernels have equal text."""
    e = Emitter(target, lanes_of(kernel.body, target))
    for i, b in enumerate(kernel.buffers):
        e.base[b.name] = f"%a{i}"
    e.env = {n: f"%n{i}" for i, n in enumerate(kernel.sizes)}
    e.top(kernel.body)
    written = e.written(kernel.body)
    args = [f"ptr noalias {'' if b.name in written else 'readonly '}%a{i}" for i, b in enumerate(kernel.buffers)]
    args += ["ptr noalias %scratch", "ptr noalias %status", *(f"i64 %n{i}" for i in range(len(kernel.sizes))), "i64 %thread", "i64 %threads"]
    lines = "\n".join(e.lines)
    text = f"define internal void @{kernel.name}({', '.join(args)}) #0 {{\nentry:\n{lines}\n  ret void\n}}\n"
    return KernelText(kernel.name, text, e.scratch_max, frozenset(e.declared.values()), e.checks)
