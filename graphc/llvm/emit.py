"""A kernel of the loop IR as LLVM IR text: one pass, no optimiser behind it. Four ideas carry it.

1. *Unrolling is evaluation.* `unroll` and `simd` loops run here, while their body is emitted; their variables are numbers.
2. *Registers are a dictionary* from (buffer, constant index) to a value. A run-time loop turns the entries that its body writes into phis.
3. *Text is the value number* (`values.py`); a load's key holds its buffer's version, which a store raises.
4. *Indices are affine forms* (`memory.py`).

A `simd` loop is ceil(extent / lanes) blocks of lanes, the last one masked; where its extent is a run-time value, each is, as many as the bound that
it states takes. One number of lanes serves the whole kernel.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from ..core.compat import assert_never
from ..core.dtype import bool_
from ..core.record import dataclass
from ..core.target import Target
from ..loop.ir import Accum, Alloc, Bin, Buffer, Check, Expr, For, If, Int, Kernel, Load, Seq, Stmt, Store, While, expressions, walk
from ..loop.schedule import at_most, lanes_of
from .interleave import in_turns, worthwhile
from .memory import At, Lane, Memory
from .types import Val, in_memory, typed
from .values import neutral

Registers = dict[tuple[str, int], Val]
MANY = 1 << 10                                                  # elements along an axis whose size is not a number


@dataclass(frozen=True, slots=True)
class KernelText:
    """A kernel as LLVM IR. Its parameters: a pointer for each buffer, scratch, status (i32), each size (i64); where it is shared, thread and threads (i64)."""

    name: str
    text: str                       # the function's definition
    scratch_bytes: int              # for one thread
    declarations: frozenset[str]    # of the intrinsics it calls
    checks: bool                    # whether it may set the status
    written: frozenset[int]         # the buffers that it writes, by number


class Emitter(Memory):
    """Statements, in order."""

    turns = 0                                                   # statements so far that one thread runs

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
        elif self.lane is not None and at[3] and buf.space != "register":
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
            text = self.select((m, bool_, self.L), (text, dtype, self.L), (neutral(s.op, dtype), dtype, 1))[0]
        self.in_order |= s.buf.space != "register"
        start, total = self.load(s.buf, at), (self.fold_lanes(s.op, text, dtype), dtype, 1)
        lane, masks, self.lane, self.masks = self.lane, self.masks, None, []
        self.store(s.buf, at, self.combine(s.op, start, total))
        self.lane, self.masks = lane, masks

    def one_by_one(self, s: Accum, at: At) -> None:
        """Lanes that may meet in one element: in order."""
        self.in_order = True
        assert self.lane is not None
        n = self.lane.active
        text, dtype, ty = self.widen(self.evaluate(s.value)), s.buf.dtype, in_memory(s.buf.dtype)
        mask = self.mask() if self.masks or not isinstance(n, int) else None
        for k, p in enumerate(self.each_lane(s.buf, at, n if isinstance(n, int) else self.L)):
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
            elif len(buf.shape) == 2:
                self.ask(s.body)
            run(s.body)
            self.own.discard(buf.name)
            self.regs = {k: v for k, v in self.regs.items() if k[0] != buf.name}
            return
        count = math.prod(int(n) for n in buf.shape)
        size = -(-count * buf.dtype.itemsize // 64) * 64
        self.base[buf.name] = self.op(f"getelementptr i8, ptr %scratch, i64 {self.scratch}") if self.scratch else "%scratch"
        self.version[buf.name] = self.version.get(buf.name, 0) + 1
        self.scratch += size
        self.scratch_max = max(self.scratch_max, self.scratch)
        run(s.body)
        self.scratch -= size

    def ask(self, s: Stmt) -> None:
        """Prefetch what stands behind the sum of a register tile, before the sum begins: an update reads and writes arrays that lie beyond L2, and the
        machine does not see them coming through the sum."""
        while isinstance(s, Alloc):
            s = s.body
        at = next((i for i, x in enumerate(s.body) if isinstance(x, For) and x.how == "serial"), None) if isinstance(s, Seq) else None
        if at is None or not isinstance(s, Seq):
            return
        asked: set[tuple[str, tuple[tuple[str, int], ...], int]] = set()

        def line(buf: Buffer, index: tuple[Expr, ...]) -> None:
            const, terms, _, vectors = self.place(buf, index)
            key = buf.name, terms, const * buf.dtype.itemsize // 64
            if not vectors and key not in asked:
                asked.add(key)
                self.do(self.call("void", "prefetch.p0", ("ptr", self.address(buf, const, terms)), ("i32", "1"), ("i32", "3"), ("i32", "1")))

        def far(x: Store) -> list[tuple[Buffer, tuple[Expr, ...]]]:
            """What it touches of arrays that are larger than L1."""
            loads = [(e.buf, e.index) for e in expressions(x) if isinstance(e, Load) and all(map(self.is_pure, e.index))]
            return [(b, ix) for b, ix in [(x.buf, x.index), *loads] if b.space == "argument"
                    and math.prod(n if isinstance(n, int) else MANY for n in b.shape) * b.dtype.itemsize > self.target.l1]

        behind = s.body[at + 1:]
        touched = {id(x): far(x) for y in behind for x in walk(y) if isinstance(x, Store)}
        if not any(touched.values()):
            return

        def go(x: Stmt) -> None:
            match x:
                case For(var, Int(lo), Int(hi), how, body):
                    for i in range(lo, hi, self.L if how == "simd" else 1):
                        self.env[var] = i
                        go(body)
                case Seq(body):
                    for y in body:
                        go(y)
                case Alloc(_, body): go(body)
                case Store():
                    for buf, index in touched[id(x)]:
                        line(buf, index)
                case _: pass

        for x in behind:
            go(x)

    def simd(self, s: For) -> None:
        assert self.lane is None, f"simd {s.var} inside a simd loop"
        extent = self.integer(self.at(self.affine(s.hi)))
        blocks, start, self.in_order = list[list[str]](), len(self.lines), False
        for base in range(0, extent if isinstance(extent, int) else at_most(s) or self.L, self.L):
            self.lane = self.env[s.var] = Lane(base, min(self.L, extent - base) if isinstance(extent, int) else extent)
            if not (isinstance(s.body, For) and self.lane.active == self.L and self.across_diagonal(s)):
                self.stmt(s.body)
            blocks.append(self.lines[start:])
            start += len(blocks[-1])
        if not self.in_order and worthwhile(blocks):
            self.lines[start - sum(map(len, blocks)):] = in_turns(blocks)
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
        self.checks = self.in_order = True
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
        self.lines += [*text, *(f"  {i}.by{c}.next = add nsw i64 {i}.by{c}, {c}" for c in offsets)]
        self.lines += [f"  {i}.next = add nuw nsw i64 {i}, 1", f"  {i}.more = icmp slt i64 {i}.next, {hi}",
                       f"  br i1 {i}.more, label %{head}, label %{end}", f"{end}:"]
        self.block = end
        self.forget(start, body)
        if not known:
            self.merge(start, before, latch)

    def carry(self, written: frozenset[str]) -> tuple[Registers, dict[tuple[str, int], str]]:
        """Before a loop: the registers that it changes become phis, the memory that it changes is unknown."""
        for name in written:
            self.version[name] = self.version.get(name, 0) + 1
        start = {r: v for r, v in self.regs.items() if r[0] in written}
        phis = {r: f"%{self.name('acc')}" for r in start}
        self.regs = self.regs | {r: (phis[r], v[1], v[2]) for r, v in start.items()}
        return start, phis

    def phi_lines(self, start: Registers, phis: dict[tuple[str, int], str], before: str, latch: str) -> list[str]:
        return [f"  {phis[r]} = phi {typed(d, n)} [ {v}, %{before} ], [ {self.regs[r][0]}, %{latch} ]" for r, (v, d, n) in start.items()]

    def forget(self, start: Registers, body: Stmt) -> None:
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
        exit_regs = dict(self.regs)
        text = self.aside(then, partial(self.stmt, s.body))
        test, self.lines, self.known = self.lines, lines, known
        self.lines += [f"  br label %{head}", f"{head}:", *self.phi_lines(start, phis, before, self.block), *test,
                       f"  br i1 {cond[0]}, label %{then}, label %{end}", f"{then}:", *text, f"  br label %{head}", f"{end}:"]
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

    def merge(self, start: Registers, before: str, latch: str) -> None:
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
        """Outermost parallel loops in balanced shares; what writes registers alone by every thread; the rest by one thread each, in turn."""
        match s:
            case Seq(body):
                rest: list[Stmt] = []
                for x in body:
                    if self.shared(x):
                        self.in_turn(rest)
                        rest = []
                        self.top(x)
                    else:
                        rest.append(x)
                self.in_turn(rest)
            case Alloc(buf, _) if buf.space == "register": self.alloc(s, self.top)
            case For(var, lo, hi, "parallel", body) if self.shared(s):
                a, b = self.integer(self.at(self.affine(lo))), self.integer(self.at(self.affine(hi)))
                if b == 1:
                    self.env[var] = 0
                    self.top(body)
                else:
                    assert a == 0, f"parallel {var} starts at {a}"
                    first, end = (self.op(f"udiv i64 {self.op(f'mul i64 {t}, {b}')}, %threads") for t in ("%thread", self.op("add i64 %thread, 1")))
                    self.loop(var, first, end, body)
            case If(cond, body) if self.shared(s):
                c = self.evaluate(cond)
                self.guarded(c[0], partial(self.top, body), self.written(body))
            case _: self.in_turn([s])

    def shared(self, s: Stmt) -> bool:
        match s:
            case For(_, _, Int(1), "parallel", body): return self.shared(body)
            case For(_, _, _, "parallel", _): return True
            case Seq(body): return any(map(self.shared, body))
            case If(_, body): return self.shared(body)
            case Alloc(buf, body): return buf.space == "register" and self.shared(body)
            case _: return False

    def in_turn(self, body: list[Stmt]) -> None:
        """Each statement by one thread, the next by the next: what stands beside it is apart from it, or the kernel is not shared."""
        for s in body:
            if all(x.buf.space == "register" for x in walk(s) if isinstance(x, Store | Accum)) and not any(isinstance(x, Check) for x in walk(s)):
                self.stmt(s)                                    # every thread needs its registers
            else:
                turn = self.op(f"urem i64 {self.turns}, %threads") if self.turns else "0"
                self.turns += 1
                self.guarded(self.op(f"icmp eq i64 %thread, {turn}"), partial(self.stmt, s), self.written(s))


def emit(kernel: Kernel, target: Target, shared: bool = True) -> KernelText:
    """The function of a kernel, and what it needs of its surroundings. Parameters are numbered, so equal kernels have equal text. One that is not shared
    among threads does all of it, whoever calls."""
    e = Emitter(target, lanes_of(kernel.body, target))
    for i, b in enumerate(kernel.buffers):
        e.base[b.name] = f"%a{i}"
    e.env = {n: f"%n{i}" for i, n in enumerate(kernel.sizes)}
    (e.top if shared else e.stmt)(kernel.body)
    written = e.written(kernel.body)
    args = [f"ptr noalias {'' if b.name in written else 'readonly '}%a{i}" for i, b in enumerate(kernel.buffers)]
    args += ["ptr noalias %scratch", "ptr noalias %status", *(f"i64 %n{i}" for i in range(len(kernel.sizes)))]
    args += ["i64 %thread", "i64 %threads"] if shared else []
    lines = "\n".join(e.lines)
    text = f"define internal void @{kernel.name}({', '.join(args)}) #0 {{\nentry:\n{lines}\n  ret void\n}}\n"
    return KernelText(kernel.name, text, e.scratch_max, frozenset(e.declared.values()), e.checks,
                      frozenset(i for i, b in enumerate(kernel.buffers) if b.name in written))
