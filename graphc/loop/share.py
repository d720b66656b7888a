"""Plan → Plan: which launches the threads of a step share, and where they must meet.

A step is one program that every thread runs. A launch is run by all, each its share of the outermost parallel loops, or by the first thread
alone; `share` decides by an estimate of its time, which reads the nest and the target and nothing else. The results cannot depend on it: an
iteration of a parallel loop computes the same bits whoever runs it, and a reduction that is not such a loop stays on one thread.

`split` runs before `place`: a kernel whose parallel loops depend on each other (a packing, then what reads the packed array) becomes several.
`share` runs after it, since regions that share bytes depend on each other too; a Barrier stands only where an access on one thread may meet an
access on another, one of them a write, since the last barrier. As SPMD compilers place them (Tseng, "Compiler optimizations for eliminating
barrier synchronization").
"""
from __future__ import annotations  # noqa: I001

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeGuard

from ..core.compat import assert_never
from ..core.record import dataclass, field, replace
from ..core.target import Target
from .affine import bounds, form
from .affine import place as number
from .ir import (  # isort: skip
    Accum, Alloc, Barrier, Bin, Branch, Buffer, Call, Check, Expr, Extern, For, If, Int, Kernel, Launch, Load, Loop, Plan, Ref, Region, Select, Seq, Steps,
    Stmt, Store, Un, While, children, expressions, looked_at, map_plan, postorder, seq, walk, walk_plan,
)
from .place import launches
from .schedule import at_most, lanes_of, reindex

LAUNCH = 4_000.0                # ns of a launch below which two barriers and cold caches eat what a second thread saves
STEP = 30_000.0                 # ns of all shared launches below which waking the threads does
UNKNOWN = 1 << 10               # iterations of a loop whose extent is not a number

# ---- how long a kernel takes -------------------------------------------------------------------------------------------------------


def nanoseconds(kernel: Kernel, target: Target) -> float:
    """An estimate of a kernel's time on one thread, good to a factor of two or three: arithmetic at 3 GHz, or memory, whichever is slower."""
    nbytes = sum(math.prod(n if isinstance(n, int) else UNKNOWN for n in b.shape) * b.dtype.itemsize for b in kernel.buffers)
    return max(_cycles(kernel.body, lanes_of(kernel.body, target)) / 3, nbytes / (10 if nbytes > 4 * target.l2 else 40))


def _cycles(s: Stmt, lanes: int) -> float:
    match s:
        case Store(buf, _, v): return _work(v) + (0.5 if buf.space != "register" else 0)
        case Accum(buf, _, Bin("*", Load(), Load())) if buf.space == "register": return 0.5         # an fma of a tile, whose loads others use too
        case Accum(buf, _, v): return _work(v) + (1 if buf.space != "register" else 0.5)
        case For(_, lo, hi, how, body):
            n = hi.value - lo.value if isinstance(hi, Int) and isinstance(lo, Int) else UNKNOWN
            return -(-n // lanes) * _cycles(body, lanes) if how == "simd" else n * (_cycles(body, lanes) + (how != "unroll"))
        case Seq(body): return sum(_cycles(x, lanes) for x in body)
        case Alloc(_, body): return _cycles(body, lanes)
        case If(cond, body): return _work(cond) + _cycles(body, lanes)
        case While(cond, body): return UNKNOWN * (_work(cond) + _cycles(body, lanes))
        case Check(cond, _): return _work(cond) + 1
        case _: assert_never(s)


def _work(e: Expr) -> float:
    """Cycles of an expression, each shared subexpression once, indices for nothing."""
    total, stack, seen = 0.0, [e], set[int]()
    while stack:
        x = stack.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        match x:
            case Load(buf, _):
                total += 0.25 if buf.space != "register" else 0
                continue
            case Bin("/" | "//" | "%", _, _) | Un("sqrt", _): total += 5
            case Call("rare", (_, usual, cond)):
                stack += [usual, cond]
                continue
            case Bin() | Un() | Select() | Call(): total += 0.5
            case _: pass
        stack.extend(children(x))
    return total


# ---- what threads may share --------------------------------------------------------------------------------------------------------


def shareable(kernel: Kernel) -> bool:
    """Whether threads that each run their share of a kernel's outermost parallel loops, in no order between them, do what one thread does.

    A kernel that can fail is not: its status is the first failure's.
    """
    items = list(_outermost(kernel.body))
    everyones = [x for x in items if _registers_only(x) and not _spreads(x)]
    parts = [x for x in items if not _registers_only(x) or _spreads(x)]         # shared, or one thread's: a tail of one iteration, say
    written = {x.buf.name for s in parts for x in walk(s) if isinstance(x, Store | Accum)}
    return ((len(parts) > 1 or any(isinstance(s, For) and s.hi not in (Int(0), Int(1)) for s in parts if _spreads(s)))
            and not any(isinstance(x, Check) for x in walk(kernel.body))
            and not any(written & {e.buf.name for e in expressions(s) if isinstance(e, Load)} for s in everyones)
            and not any(_leaks(s) for s in parts)
            and all(_apart(a, b) for k, a in enumerate(parts) for b in parts[:k]))


def _spreads(s: Stmt) -> bool:
    """Whether there is a loop in s that threads share: as the code generator sees it."""
    match s:
        case For(_, _, Int(1), "parallel", body): return _spreads(body)
        case For(_, _, _, "parallel", _): return True
        case Seq(body): return any(map(_spreads, body))
        case If(_, body): return _spreads(body)
        case Alloc(buf, body): return buf.space == "register" and _spreads(body)
        case _: return False


def _outermost(s: Stmt) -> Iterator[Stmt]:
    """The statements that are shared, or run whole: through sequences, registers and parallel loops of one iteration."""
    match s:
        case Seq(body):
            for x in body:
                yield from _outermost(x)
        case For(_, _, Int(1), "parallel", body) | Alloc(_, body) if _spreads(s): yield from _outermost(body)
        case _: yield s


def _registers_only(s: Stmt) -> bool:
    return all(x.buf.space == "register" for x in walk(s) if isinstance(x, Store | Accum))


def _leaks(s: Stmt) -> bool:
    """Whether s writes a register that outlives it."""
    own = {x.buf.name for x in walk(s) if isinstance(x, Alloc)}
    return any(x.buf.space == "register" and x.buf.name not in own for x in walk(s) if isinstance(x, Store | Accum))


Access = tuple[Buffer, tuple[Expr, ...], bool]


def _accesses(s: Stmt) -> list[Access]:
    """Each place of memory that s touches outside itself, and whether it writes."""
    own = {x.buf.name for x in walk(s) if isinstance(x, Alloc)}
    found = [(x.buf, x.index, True) for x in walk(s) if isinstance(x, Store | Accum)]
    found += [(e.buf, e.index, False) for e in expressions(s) if isinstance(e, Load)]
    return [a for a in found if a[0].name not in own]


def _apart(a: Stmt, b: Stmt) -> bool:
    """Whether no element that the one writes is touched by the other: some position of the index, or the element's number, stays in other bounds."""
    ranges_a, ranges_b = _ranges(a), _ranges(b)
    of_b: dict[str, list[Access]] = {}
    for access in _accesses(b):
        of_b.setdefault(access[0].name, []).append(access)
    for buf, ix, writes in _accesses(a):
        for _, jx, also in of_b.get(buf.name, ()):
            if not (writes or also) or buf.space == "register":
                continue
            pairs = [(form(((i, 1),)), form(((j, 1),))) for i, j in zip(ix, jx, strict=True)]
            if not any(_disjoint(bounds(f, ranges_a), bounds(g, ranges_b)) for f, g in (*pairs, (number(buf, ix), number(buf, jx)))):
                return False
    return True


def _ranges(s: Stmt) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for x in walk(s):
        if isinstance(x, For) and (most := at_most(x)) is not None and isinstance(x.lo, Int):
            low, high = found.get(x.var, (x.lo.value, most - 1))
            found[x.var] = min(low, x.lo.value), max(high, most - 1)
    loose = {x.var for x in walk(s) if isinstance(x, For) and not (at_most(x) is not None and isinstance(x.lo, Int))}
    return {v: r for v, r in found.items() if v not in loose}


def _disjoint(a: tuple[int, int] | None, b: tuple[int, int] | None) -> bool:
    return a is not None and b is not None and (a[1] < b[0] or b[1] < a[0])


# ---- one kernel, several launches --------------------------------------------------------------------------------------------------


def split(plan: Plan, target: Target) -> Plan:
    """Kernels worth sharing whose parallel loops depend on each other, as one kernel for each phase; scratch between them becomes regions of the
    arena. A plan that is not worth threads stays as it is."""
    known: dict[tuple[int, tuple[Buffer, ...]], list[Kernel]] = {}     # equal bodies are one object, and stay so

    def parts(k: Kernel) -> list[Kernel]:
        key = id(k.body), k.buffers
        if key not in known:
            known[key] = _phases(k) if not shareable(k) and nanoseconds(k, target) >= LAUNCH else []
        return known[key]

    def go(p: Plan) -> Plan:
        match p:
            case Launch(k, args, sizes):
                if not (kernels := parts(k)):
                    return p
                given = dict(zip((b.name for b in k.buffers), args, strict=True))
                for b in (b for part in kernels for b in part.buffers if b.name not in given):
                    given[b.name] = Ref(Region(f"{k.name}.{b.name}", "arena", math.prod(map(int, b.shape)) * b.dtype.itemsize))
                return Steps(tuple(Launch(replace(part, name=f"{k.name}_{n}", origin=k.origin), tuple(given[b.name] for b in part.buffers), sizes)
                                   for n, part in enumerate(kernels)))
            case Steps() | Loop() | Branch() | Barrier() | Extern(): return map_plan(p, go)
            case _: assert_never(p)

    done = go(plan)
    return done if _shared(done, target) else plan


def _phases(k: Kernel) -> list[Kernel]:
    """The kernel in pieces that each can be shared, or nothing."""
    ones: list[For | If] = []                                   # parallel loops of one iteration, and what sizes must be, around everything
    scratch: list[Buffer] = []
    s = k.body
    while isinstance(s, Alloc) or _of_sizes(s) or (isinstance(s, For) and s.how == "parallel" and s.hi == Int(1)):
        if isinstance(s, For | If):
            ones.append(s)
        elif s.buf.space == "scratch":
            scratch.append(s.buf)
        else:
            return []
        s = s.body
    if not isinstance(s, Seq) or any(isinstance(x, Check) for x in walk(s)):
        return []
    groups: list[list[Stmt]] = []
    for x in s.body:
        if not groups or not all(_apart(x, y) for y in groups[-1]):
            groups.append([])
        groups[-1].append(x)
    kernels = []
    for group in groups:
        body = seq(*group)
        for b in scratch:
            body = reindex(body, b, replace(b, space="argument"), lambda ix: ix)
        for one in reversed(ones):
            body = replace(one, body=body)
        used = {b.name for x in group for b, _, _ in _accesses(x)}
        buffers = (*(b for b in k.buffers if b.name in used), *(replace(b, space="argument") for b in scratch if b.name in used))
        kernels.append(Kernel(k.name, buffers, k.sizes, body, k.origin))
    return kernels if len(kernels) > 1 and any(map(shareable, kernels)) else []


# ---- who runs what, and where they meet --------------------------------------------------------------------------------------------


def share(plan: Plan, target: Target) -> Plan:
    """The plan, placed, with its launches marked and barriers between them; the same plan where threads are not worth while."""
    marks = _shared(plan, target)
    return _Barriers(marks).plan(plan) if marks else plan


def _of_sizes(s: Stmt) -> TypeGuard[If]:
    """Whether s asks what symbolic sizes are, and nothing of memory."""
    return isinstance(s, If) and not any(isinstance(e, Load) for e in postorder(s.cond, {}))


def _shared(plan: Plan, target: Target) -> dict[tuple[int, tuple[Buffer, ...]], bool]:
    """By kernel (its body and buffers): whether threads share it. Empty where the step is too short for threads."""
    cost: dict[tuple[int, tuple[Buffer, ...]], float] = {}
    total = 0.0
    for launch, times in _counted(plan):
        k = launch.kernel
        key = id(k.body), k.buffers
        if key not in cost:
            time = nanoseconds(k, target)
            cost[key] = time if time >= LAUNCH and shareable(k) else 0.0
        total += times * cost[key]
    return {key: time > 0 for key, time in cost.items()} if total >= STEP else {}


def _counted(plan: Plan, times: int = 1) -> Iterator[tuple[Launch, int]]:
    """Every launch and how often it runs."""
    match plan:
        case Launch(): yield plan, times
        case Steps(body):
            for p in body:
                yield from _counted(p, times)
        case Loop(): yield from _counted(plan.body, times * (plan.count if plan.go is None else min(plan.count, UNKNOWN)))
        case Branch(_, bodies):
            for p in bodies:
                yield from _counted(p, times)
        case Barrier() | Extern(): pass
        case _: assert_never(plan)


@dataclass(frozen=True, slots=True)
class Touch:
    """Bytes of a piece of memory that a launch uses."""

    memory: tuple[str, int]                                     # the arena, or a region elsewhere
    first: int
    end: int
    writes: bool

    def meets(self, other: Touch) -> bool:
        return (self.writes or other.writes) and self.memory == other.memory and self.first < other.end and other.first < self.end


@dataclass(slots=True)
class _Barriers:
    """What ran since the last barrier: memory touched by threads each on their own, by the first alone, and whether a check or a loop did."""

    marks: dict[tuple[int, tuple[Buffer, ...]], bool]
    apart: list[Touch] = field(default_factory=list)
    first: list[Touch] = field(default_factory=list)
    checked: bool = False

    def plan(self, p: Plan) -> Plan:
        match p:
            case Launch() if self.shares(p):
                touches = _touches(p)
                meet = self.checked or _meet(touches, self.apart) or _meet(touches, self.first)
                return self.after(meet, replace(p, shared=True), touches, self.apart)
            case Loop() if p.count and any(map(self.shares, launches(p.body))):
                looks = _looks(p)
                meet = self.looking(looks)
                if p.go is not None:                            # and begins so, once all have looked: the iteration changes what they looked at
                    self.clear()
                inside = self.plan(p.body)                      # what comes before an iteration is what came before the loop, or nothing:
                self.clear()                                    # each ends by meeting
                if p.go is not None:
                    inside = Steps((Barrier(), inside))
                    self.apart.extend(looks)
                loop = replace(p, body=Steps((inside, Barrier())))
                return Steps((Barrier(), loop)) if meet else loop
            case Branch(_, bodies) if any(map(self.shares, launches(p))):
                meet = self.looking(_looks(p))
                known, done = (list(self.apart), list(self.first), self.checked), []
                for body in bodies:
                    self.apart, self.first, self.checked = list(known[0]), list(known[1]), known[2]
                    done.append(Steps((self.plan(body), Barrier())))
                self.clear()
                branch = replace(p, bodies=tuple(done))
                return Steps((Barrier(), branch)) if meet else branch
            case Launch() | Loop() | Branch() | Extern():
                inside = list(walk_plan(p))
                touches = [*(t for x in inside for t in _looks(x)), *(t for x in inside if isinstance(x, Launch | Extern) for t in _touches(x))]
                out = self.after(_meet(touches, self.apart), p, touches, self.first)
                loops = any(isinstance(x, Loop) for x in inside)
                ends = loops and not any(t.writes and t.memory[0] == "state" for t in touches)      # early, for a signal
                self.checked |= ends or any(isinstance(x, Extern) for x in inside)
                self.checked |= any(isinstance(s, Check) for x in launches(p) for s in walk(x.kernel.body))
                return out
            case Steps(body): return Steps(tuple(map(self.plan, body)))
            case Barrier():
                self.clear()
                return p
            case _: assert_never(p)

    def shares(self, launch: Launch) -> bool:
        """Marked, and no two of its buffers are the same memory: what `shareable` says holds for buffers that are apart."""
        touches = _touches(launch)
        return self.marks[id(launch.kernel.body), launch.kernel.buffers] and not any(a.meets(b) for n, a in enumerate(touches) for b in touches[:n])

    def looking(self, looks: Sequence[Touch]) -> bool:
        """Whether all must meet before each of them looks there."""
        if not looks:
            return False
        meet = self.checked or _meet(looks, self.apart) or _meet(looks, self.first)
        if meet:
            self.clear()
        self.apart.extend(looks)
        return meet

    def after(self, meet: bool, p: Plan, touches: Sequence[Touch], where: list[Touch]) -> Plan:
        if meet:
            self.clear()
        where.extend(touches)
        return Steps((Barrier(), p)) if meet else p

    def clear(self) -> None:
        self.apart.clear()
        self.first.clear()
        self.checked = False


def _meet(a: Iterable[Touch], b: Sequence[Touch]) -> bool:
    return any(x.meets(y) for x in a for y in b)


def _looks(p: Plan) -> list[Touch]:
    """What a loop or a branch reads to know where to go on."""
    return [_touch(r, False) for r in looked_at(p)]


def _touch(ref: Ref, writes: bool) -> Touch:
    r = ref.region
    assert r.where != "arena" or r.offset is not None, f"{r.name} has no place yet"
    start = r.offset or 0
    nbytes = r.nbytes if isinstance(r.nbytes, int) else 1           # of a region of its own, all that counts is whether it is the same
    return Touch((r.where, r.slot if r.where != "arena" else 0), start, start + nbytes, writes)


def _touches(launch: Launch | Extern) -> list[Touch]:
    if isinstance(launch, Extern):
        return [_touch(ref, k >= launch.reads) for k, ref in enumerate(launch.args)]
    written = {x.buf.name for x in walk(launch.kernel.body) if isinstance(x, Store | Accum)}
    return [_touch(ref, b.name in written) for b, ref in zip(launch.kernel.buffers, launch.args, strict=True)]
