"""Indices, memory and expressions as LLVM IR text: where an element is, what it takes to load and store it, the value of an expression.

*Indices are affine forms*, made once for each index expression: constant + coefficient * variable, + what is not affine. The lanes of a `simd` loop
are one more coefficient: 0 is a scalar, 1 a vector, anything else is gathered. Lanes that are off never touch memory. User arrays are aligned
to their elements only, and so is every access; it costs nothing.
"""
from __future__ import annotations

import math

from ..core.compat import assert_never
from ..core.dtype import DType, bool_, i64
from ..core.record import dataclass
from ..core.target import Target
from ..loop.affine import Form, form, place
from ..loop.ir import Bin, Bitcast, Buffer, Call, Cast, Expr, Int, Lit, Load, Select, Un, Var, children, postorder
from .types import Val, in_memory, literal, suffix, typed
from .values import Values


@dataclass(slots=True)
class Lane:
    """The value of a simd variable: base + 0, 1, ... of which `active` are on; an SSA name: those below it."""

    base: int
    active: int | str


At = tuple[int, tuple[tuple[str, int], ...], int, tuple[tuple[str, int], ...]]
# const + sum(coefficient * SSA name) + stride * lane number + sum(coefficient * SSA name of a vector)

SCALES = (1, 2, 4, 8)
SHALLOW = 48                                                    # levels of an expression that recursion may go down at once


class Memory(Values):
    """The state of emission: what variables, registers and buffers are at this point."""

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
        self.in_order = False                                   # the blocks of the present simd loop must not be mixed
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
        n, whole, rest = d[0], tuple((t, c // d[0]) for t, c in a[1] if not c % d[0]), tuple((t, c) for t, c in a[1] if c % d[0])
        grain = math.gcd(n, *(c for _, c in rest))              # the rest moves in steps of this, the lanes within one
        first = a[0] % grain
        if not a[3] and a[2] >= 0 and first + a[2] * (self.L - 1) < grain:
            if not rest:
                return (a[0] // n, whole, 0, ()) if e.op == "//" else (first, (), a[2], ())
            base = self.integer((a[0] - first, rest, 0, ()))
            if e.op == "//":
                return 0, (*whole, (self.op(f"udiv i64 {base}, {n}"), 1)), 0, ()
            return first, ((self.op(f"urem i64 {base}, {n}"), 1),), a[2], ()
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
        assert stride == 0 == len(vectors), "an index that differs between lanes where one number is needed"
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
        def lanes(start: int) -> Val:
            return f"<{', '.join(f'i64 {start + stride * n}' for n in range(self.L))}>", i64, self.L

        if stride and not terms:
            x = lanes(const)
        else:
            x = (str(self.integer((const, terms, 0, ()))), i64, 1)
            if stride:
                x = self.bin("+", x, lanes(0))
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
        if isinstance(e, Load):
            return self.value(e)
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
                if fn == "rare":
                    return self.rare(*args)
                vals = [self.value(a) for a in args]
                return self.fma(*vals) if fn == "fma" else self.copysign(*vals)
            case _: assert_never(e)

    def rare(self, a: Expr, b: Expr, cond: Expr) -> Val:
        """a where cond else b: a branch around a, taken where cond holds in no lane. What is known only in there is forgotten."""
        usual, c = self.value(b), self.value(cond)
        if c[0] in ("true", "false"):
            return self.value(a) if c[0] == "true" else usual
        some = self.fold_lanes("+", c[0], bool_) if c[2] > 1 else c[0]
        n = self.name("")
        then, join, before = f"rare{n}", f"usual{n}", self.block
        lines, known, memo, self.lines, self.known, self.memo = self.lines, self.known, self.memo, [], dict(self.known), dict(self.memo)
        self.block = then
        mixed = self.select(c, self.value(a), usual)
        text, latch = self.lines, self.block
        self.lines, self.known, self.memo, self.block = lines, known, memo, join
        wide = self.widen(usual) if mixed[2] > 1 else usual[0]
        self.lines += [f"  br i1 {some}, label %{then}, label %{join}", f"{then}:", *text, f"  br label %{join}", f"{join}:"]
        return self.fresh(f"phi {typed(mixed[1], mixed[2])} [ {wide}, %{before} ], [ {mixed[0]}, %{latch} ]"), mixed[1], mixed[2]

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
            assert at[1] == () == at[3], f"{buf.name} is in registers: its index must be constant after unroll and simd"
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
            assert at[1] == () == at[3], f"{buf.name} is in registers: its index must be constant after unroll and simd"
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


def last_axis(buf: Buffer) -> int:
    n = buf.shape[-1] if buf.shape else 1
    assert isinstance(n, int), buf
    return n


def milestones(e: Expr) -> list[Expr]:
    """Inner expressions to evaluate first, in order, so that recursion never goes deeper than SHALLOW levels."""
    height: dict[int, int] = {}
    found: list[Expr] = []
    seldom: dict[int, int] = {}                                 # what only a rare branch needs is not evaluated before it
    rare = [x for x in postorder(e, {}) if isinstance(x, Call) and x.fn == "rare"]
    if rare:
        usual = {id(x) for x in _usual(e)}
        seldom = {id(x): 0 for r in rare for x in postorder(r.args[0], {}) if id(x) not in usual}
    for x in postorder(e, {}):
        if id(x) in seldom:
            height[id(x)] = 0
            continue
        height[id(x)] = h = 1 + max([height[id(c)] for c in children(x)], default=0)
        if h > SHALLOW and isinstance(x, Un | Bin | Select | Cast | Bitcast | Call):
            found.append(x)
            height[id(x)] = 0
    return found


def _usual(e: Expr) -> list[Expr]:
    """The expressions that are evaluated whether or not something rare happens."""
    stack, seen = [e], dict[int, Expr]()
    while stack:
        x = stack.pop()
        if id(x) not in seen:
            seen[id(x)] = x
            stack.extend(x.args[1:] if isinstance(x, Call) and x.fn == "rare" else children(x))
    return list(seen.values())
