"""Nests that share rows become one kernel that takes a block of rows through all of them: what one writes and the next reads stays in the cache.

    for i: m[i] = max(x[i, :])                          for block:
    for i: s[i] = sum(exp(x[i, :] - m[i]))      ->          for i in block: m[i] = max(x[i, :])
    for i: y[i, :] = exp(x[i, :] - m[i]) / s[i]             for i in block: s[i] = ..;  for i in block: y[i, :] = ..

A *row* is one iteration of the outermost loops that the nests have in common. A nest that sums over rows (the gradient of a bias) joins too: each group
of blocks has a partial result of its own, and the partial results are added up at the end, so the order of the sum depends on the shape and the target
alone. What nobody else reads is never in memory whole: it shrinks to a block. The nests are fused before they are scheduled, and each is scheduled for
the block it gets.

It is Halide's compute_at, decided by dependence: two nests may share a block where every element that one of them writes and the other touches belongs to
the same row in both.
"""
from __future__ import annotations  # noqa: I001

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ..core.record import dataclass, field, replace
from functools import cached_property

from ..core.target import Target
from .affine import Form, bounds, mentions, place
from .chunk import begins, reduces
from .contraction import map_schedule, matmul_schedule, reduce_schedule
from .ir import (  # isort: skip
    Accum, Alloc, Bin, Buffer, Expr, For, How, If, Int, Load, Ref, Seq, Stmt, Store, Var, expressions, map_stmt, seq, subst, walk, with_body,
)
from .nest import Argument, Effects, Nest, Schedule
from .schedule import neutral, reindex

MOST_NESTS = 32                                                 # of one kernel
AHEAD = 32                                                      # nests among which those that share rows are looked for
MOST_BUFFERS = 256                                              # before those that stay inside have become scratch
MOST_ROWS = 2048                                                # of a block
GROUPS = 64                                                     # at most, of blocks that add into one partial result
MOST_GROUPS = 1 << 10                                           # partial results
NONE = 1 << 10                                                  # bits of what is not there
PARTIAL = 1 << 14                                               # bytes of a partial result, at most


def fuse(items: Sequence[Nest], private: Collection[str], target: Target) -> list[Nest]:
    """The nests, in an order that keeps their meaning, those that share rows put together. `private`: regions that nobody but these nests touches."""
    out: list[Nest] = []
    for alone, chain, rest in runs(items, target, View()):
        out += alone
        if chain is not None:
            others = {ref.region.name for n in (*out, *rest) for ref in n.refs}
            out.append(Fused(chain, set(private) - others, target).nest())
    return out


@dataclass(frozen=True, slots=True)
class View:
    """What has been found about nests, by their ids, which somebody keeps; and what the sizes that they are bound to stand for. Which nests make a chain
    does not depend on that, so it is found once for all sizes."""

    numbers: Mapping[int, int] = field(default_factory=dict)
    members: dict[tuple[int, tuple[int, ...]], Member | None] = field(default_factory=dict)
    chains: dict[tuple[tuple[int, ...], tuple[int, ...]], Chain] = field(default_factory=dict)

    def product(self, sizes: Iterable[int]) -> int:
        return math.prod([self.numbers.get(n, n) for n in sizes])

    def member(self, nest: Nest, sizes: tuple[int, ...]) -> Member | None:
        if (id(nest), sizes) not in self.members:
            self.members[id(nest), sizes] = member(nest, sizes)
        return self.members[id(nest), sizes]

    def chain(self, nests: Sequence[Nest], sizes: tuple[int, ...]) -> Chain:
        key = tuple(map(id, nests)), sizes
        if key not in self.chains:
            self.chains[key] = _chain(nests, sizes, self)
        return self.chains[key]


def runs(items: Sequence[Nest], target: Target, view: View) -> Iterator[tuple[list[Nest], Chain | None, list[Nest]]]:
    """Nests that stay alone, then a chain of some that do not, and the rest, which the next run goes on with."""
    rest, alone = list(items), list[Nest]()
    while rest:
        chain = _longest(rest[:AHEAD], target, view)
        if len(chain.members) < 2:
            alone.append(rest.pop(0))
            continue
        taken, behind = {id(m.of) for m in chain.members}, {id(n) for n in chain.behind}
        passed = rest[:next(k for k, n in enumerate(rest) if n is chain.members[-1].of) + 1]
        alone += [n for n in passed if id(n) not in taken | behind]
        rest = [n for n in passed if id(n) in behind] + rest[len(passed):]
        yield alone, chain, list(rest)
        alone = []
    yield alone, None, []


# ---- what a nest does with rows ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Touch:
    """One load or store. Two touches of a region that have a key in common meet only within a row."""

    region: str
    writes: bool
    keys: frozenset[tuple[object, ...]]
    position: tuple[int, ...] | None                            # of the row's variables in the index, where they stand alone
    nbytes: int                                                 # from one row to the next


@dataclass(frozen=True)
class Member:
    """A nest of a chain: `rows` are its variables of a row; with `total`, it sums over them. `of` is the nest when it is alone."""

    nest: Nest
    of: Nest
    rows: tuple[str, ...]
    sizes: tuple[int, ...]
    total: Sum | None = None

    @cached_property
    def inside(self) -> list[Touch]:
        """What it touches in the loops over rows."""
        return list(self._touches(self.nest.body if self.total is None else self.total.main))

    @cached_property
    def after(self) -> list[Touch]:
        """What it touches when a sum is complete."""
        return [] if self.total is None else list(self._touches(seq(*self.total.rest)))

    @property
    def regions(self) -> frozenset[str]:
        return self.nest.effects.touches

    @cached_property
    def bits(self) -> tuple[int, int]:
        """Of the narrowest floats, and of the narrowest integers from 32 up, that it computes with: what the number of lanes is made of (`lanes_of`)."""
        summed = [x for x in walk(self.nest.body) if isinstance(x, For) and x.how == "serial"]
        lanes = summed if self.nest.schedule is reduce_schedule else [self.nest.body]
        dtypes = {buf.dtype for x in lanes for buf, _, _ in _accesses(x)}
        return min((d.bits for d in dtypes if d.is_float), default=NONE), min((d.bits for d in dtypes if d.is_integer and d.bits >= 32), default=NONE)

    @cached_property
    def buffers(self) -> set[tuple[str, object]]:
        """The kernel's arguments that it needs."""
        return {(r.region.name, b.shape) for b, r in zip(self.nest.buffers, self.nest.refs, strict=True)}

    def _touches(self, s: Stmt) -> Iterator[Touch]:
        refs = {b.name: ref for b, ref in zip(self.nest.buffers, self.nest.refs, strict=True)}
        ranges = {x.var: (0, x.hi.value - 1) for x in walk(self.nest.body) if isinstance(x, For) and isinstance(x.hi, Int)}
        for buf, ix, writes in _accesses(s):
            if buf.name in refs:
                yield self._touch(buf, ix, writes, refs[buf.name], ranges)

    def _touch(self, buf: Buffer, ix: tuple[Expr, ...], writes: bool, ref: Ref, ranges: dict[str, tuple[int, int]]) -> Touch:
        f = place(buf, ix)
        steps = [0 if f.moves_otherwise(v) else f.coefficient(v) for v in self.rows]
        keys: list[tuple[object, ...]] = []
        within = bounds(Form(f.const, [(v, c) for v, c in f.variables if v not in self.rows], f.others), ranges)
        nested = all(a == b * n for a, b, n in zip(steps, steps[1:], self.sizes[1:]))
        if within is not None and nested and within[0] >= 0 and within[1] < steps[-1] and not any(map(f.moves_otherwise, self.rows)):
            keys.append(("step", ref.start, steps[-1]))
        position = tuple([next((k for k, e in enumerate(ix) if e == Var(v)), -1) for v in self.rows])
        others = [e for k, e in enumerate(ix) if k not in position]
        alone = -1 not in position and not any(mentions(e, v) for e in others for v in self.rows)
        if alone:
            keys.append(("at", ref.start, buf.shape, position))
        return Touch(ref.region.name, writes, frozenset(keys), position if alone else None, abs(steps[-1]) * buf.dtype.itemsize)


@dataclass(frozen=True, slots=True)
class Sum:
    """free loops: registers: inits; main; rest: a nest that accumulates, taken apart."""

    free: tuple[For, ...]
    registers: tuple[Buffer, ...]
    inits: tuple[Stmt, ...]
    main: For
    rest: tuple[Stmt, ...]
    terms: tuple[Accum, ...]


def summation(s: Stmt) -> Sum | None:
    """The parts of a nest that sets registers, accumulates into them in a loop, and goes on with the results."""
    free: list[For] = []
    registers: list[Buffer] = []
    while isinstance(s, For) and s.how == "parallel":
        free.append(s)
        s = s.body
    while isinstance(s, Alloc) and s.buf.space == "register":
        registers.append(s.buf)
        s = s.body
    if not isinstance(s, Seq):
        return None
    for at, x in enumerate(s.body):
        if isinstance(x, For) and x.how == "serial" and (sums := reduces(x)) and len(begins(s.body[:at], sums)) == at:
            return Sum(tuple(free), tuple(registers), s.body[:at], x, s.body[at + 1:], tuple(sums.values()))
    return None


def reduction(nest: Nest) -> Nest | None:
    """The nest as rows can be made of it: a map, a reduction, or a product of a matrix and a vector, which is one."""
    if nest.schedule in (map_schedule, reduce_schedule):
        return nest
    if nest.schedule is matmul_schedule:
        m, n, summed, target, _ = nest.args
        free = [x for x in walk(nest.body) if isinstance(x, For) and x.how == "parallel"]
        if any(size(x) == 1 for x in free if x.var in (m, n)):
            return replace(nest, schedule=reduce_schedule, args=(tuple([x.var for x in free]), summed, target))
    return None


def member(of: Nest, sizes: tuple[int, ...]) -> Member | None:
    """The nest as one over rows of these sizes, or None."""
    nest = reduction(of)
    if nest is None:
        return None
    outer = perfect(nest.body, "parallel")
    if tuple(map(size, outer[:len(sizes)])) == sizes:
        return Member(nest, of, tuple([x.var for x in outer[:len(sizes)]]), sizes)
    if nest.schedule is reduce_schedule and (total := summation(nest.body)) is not None:
        summed = perfect(total.main, "serial")
        nbytes = sum(math.prod(map(size, total.free)) * t.buf.dtype.itemsize for t in total.terms)
        if tuple(map(size, summed[:len(sizes)])) == sizes and nbytes <= PARTIAL:
            return Member(nest, of, tuple([x.var for x in summed[:len(sizes)]]), sizes, total)
    return None


def perfect(s: Stmt, how: str) -> list[For]:
    """The loops of one kind that directly hold each other, outermost first."""
    out: list[For] = []
    while isinstance(s, For) and s.how == how:
        out.append(s)
        s = s.body
    return out


def size(loop: For) -> int:
    """The extent; -1 where it is not a number, or does not start at 0."""
    return loop.hi.value if isinstance(loop.hi, Int) and loop.lo == Int(0) else -1


def _accesses(s: Stmt) -> Iterator[tuple[Buffer, tuple[Expr, ...], bool]]:
    for x in walk(s):
        if isinstance(x, Store | Accum):
            yield x.buf, x.index, True
    for e in expressions(s):
        if isinstance(e, Load):
            yield e.buf, e.index, False


# ---- chains ------------------------------------------------------------------------------------------------------------------------


def lane(bits: tuple[int, int]) -> int:
    """Bits of a lane, where floats and integers have these."""
    floats, integers = bits
    return floats if floats != NONE else integers if integers != NONE else 32


class Chain:
    """Nests to run row by row together; and those met on the way that must run after them. The others met on the way may run before."""

    def __init__(self, sizes: tuple[int, ...], members: Iterable[Member] = ()) -> None:
        self.sizes, self.members, self.behind = sizes, list[Member](), list[Nest]()
        self._late, self._all = Effects(), Effects()            # of those behind, and of them and the members
        self._inside: dict[str, list[Touch]] = {}               # of the members, by region
        self._after: dict[str, list[Touch]] = {}
        self._buffers: set[tuple[str, object]] = set()
        for m in members:
            self.add(m)

    def add(self, m: Member) -> None:
        self.members.append(m)
        self._all |= m.nest.effects
        for touches, of in ((self._inside, m.inside), (self._after, m.after)):
            for t in of:
                touches.setdefault(t.region, []).append(t)
        self._buffers |= m.buffers

    def add_behind(self, n: Nest) -> None:
        self.behind.append(n)
        self._late |= n.effects
        self._all |= n.effects

    def conflicts(self, n: Nest) -> bool:
        """Whether n must stay behind a member, or behind what does."""
        return self._all.conflicts(n.effects)

    def takes(self, m: Member) -> bool:
        """Whether m may run beside the members, row by row, and has something to gain from it."""
        return (len(self.members) < MOST_NESTS and any(not m.regions.isdisjoint(x.regions) for x in self.members) and not self._late.conflicts(m.nest.effects)
                and len(self._buffers | m.buffers) <= MOST_BUFFERS and self._one_width(m)
                and all(x.keys & y.keys for y in m.inside for x in self._inside.get(y.region, ()) if x.writes or y.writes)
                and not any(x.writes or y.writes for y in m.inside for x in self._after.get(y.region, ())))

    def _one_width(self, m: Member) -> bool:
        """Whether every reduction is in lanes as wide as the kernel's will be: partial sums are made for a number of them."""
        every = [*self.members, m]
        sums = {lane(x.bits) for x in every if x.nest.schedule is reduce_schedule}
        return not sums or sums == {lane((min(x.bits[0] for x in every), min(x.bits[1] for x in every)))}

    def row_bytes(self) -> int:
        """Of everything that moves with the rows."""
        found: dict[str, int] = {}
        for m in self.members:
            for t in m.inside:
                found[t.region] = max(found.get(t.region, 0), t.nbytes)
        return sum(found.values())

    def pays(self, target: Target, view: View) -> bool:
        """Whether the rows would otherwise leave the cache between two nests, and one of them fits."""
        nbytes = self.row_bytes()
        groups = view.product(self.sizes[:-1]) if any(m.total for m in self.members) else 1
        return nbytes * view.product(self.sizes) > 2 * target.l1 and nbytes <= target.l2 // 4 and groups <= MOST_GROUPS

    def block(self, target: Target, view: View) -> int:
        """Rows that go through the nests together: a power of two."""
        most = min(MOST_ROWS, target.l2 // 8 // max(self.row_bytes(), 1), view.product(self.sizes[-1:]))
        return 1 << max(0, most.bit_length() - 1)


def _longest(nests: Sequence[Nest], target: Target, view: View) -> Chain:
    """The chain that starts with the first nest, over as many of its loops as make it longest."""
    first, none = nests[0], Chain(())
    if reduction(first) is None or first.sizes:        # symbolic: how many rows there are is not known
        return none
    if sum(view.product(map(int, b.shape)) * b.dtype.itemsize for b in first.buffers) <= target.l1 // 2:
        return none
    outer = tuple(map(size, perfect(first.body, "parallel")))
    found = [view.chain(nests, outer[:p]) for p in range(len(outer), 0, -1) if -1 not in outer[:p] and view.product(outer[:p]) > 1]
    return max((c for c in found if c.pays(target, view)), key=lambda c: len(c.members), default=none)


def _chain(nests: Sequence[Nest], sizes: tuple[int, ...], view: View) -> Chain:
    """The first nest, and all later ones that may join it."""
    chain = Chain(sizes)
    for n in nests:
        m = view.member(n, sizes)
        if m is not None and (not chain.members or chain.takes(m)):
            chain.add(m)
        elif chain.conflicts(n):
            chain.add_behind(n)
    return chain


# ---- one kernel --------------------------------------------------------------------------------------------------------------------

Part = tuple[Schedule | None, tuple[Argument, ...]]
SKELETON = frozenset({"group", "block", "last"})


def schedule(s: Stmt, parts: tuple[Part, ...]) -> Stmt:
    """Each nest of a fused kernel scheduled on its own, in order."""
    todo = iter(parts)

    def go(x: Stmt) -> Stmt:
        match x:
            case For(var) if var in SKELETON or var.startswith("row"): return with_body(x, go(x.body))
            case Alloc(buf) if buf.space == "scratch": return with_body(x, go(x.body))
            case If(): return with_body(x, go(x.body))
            case Seq(body): return seq(*map(go, body))
        how, args = next(todo)
        return x if how is None else how(x, *args)

    return go(s)


class Fused:
    """A chain as one nest: its buffers, and the loops around what the members do to a block."""

    def __init__(self, chain: Chain, private: set[str], target: Target, rows: int = 0, length: Expr | None = None) -> None:
        """With `length`, there are as many rows as that says at run time, in blocks of `rows`."""
        self.chain, self.target, self.sizes = chain, target, chain.sizes
        self.rows = rows or chain.block(target, View())
        self.private = {r for r in private if self._only_by_row(r)}
        self.buffers: dict[tuple[str, Expr, tuple[int | str, ...]], Buffer] = {}
        self.refs: list[Ref] = []
        self.local: dict[str, Buffer] = {}
        self.parts: list[Part] = []
        n = Int(self.sizes[-1]) if length is None else length
        self.blocks: Expr = n // self.rows
        self.left: Expr = n - self.blocks * self.rows
        self.each: Expr = Int(1)                                # blocks of a group
        self.count: Expr = self.blocks                          # of whole groups
        self.groups: Expr = Int(math.prod(self.sizes[:-1]))
        most = math.prod(self.sizes[:-1])
        if len(self.sizes) == 1:                                # rows of one axis: groups of blocks
            if any(m.total for m in chain.members):
                self.each = _larger(_smaller(Int(GROUPS), _larger(Int(1), self.blocks // 64)), (self.blocks + (MOST_GROUPS - 1)) // MOST_GROUPS)
            self.count = (self.blocks + self.each - 1) // self.each
            self.groups = self.count + _smaller(self.left, Int(1))
            most = self.groups.value if isinstance(self.groups, Int) else MOST_GROUPS + 1
        self.partial = {(k, t.buf.name): Buffer(f"{t.buf.name}_{k}", (most, *map(size, m.total.free)), t.buf.dtype, "scratch")
                        for k, m in enumerate(chain.members) if m.total is not None for t in m.total.terms}

    def _only_by_row(self, region: str) -> bool:
        """Whether every touch of a region stands at its row, so that a block of it is enough."""
        inside = [t for m in self.chain.members for t in m.inside if t.region == region]
        after = [t for m in self.chain.members for t in m.after if t.region == region]
        return not after and all(t.position is not None for t in inside) and len({frozenset(k for k in t.keys if k[0] == "at") for t in inside}) == 1

    def nest(self) -> Nest:
        outer, blocks, left = self.sizes[:-1], self.blocks, self.left
        names = [Var(f"row{j}") for j in range(len(outer))]
        group: Expr = Int(0)
        for v, m in zip(names, outer):
            group = group * m + v
        body: list[Stmt] = []
        if outer:
            inside = [*self._begin(group), *self._blocks(group, Int(0), blocks, "serial" if self.partial else "parallel")]
            inside += [self._block(blocks * self.rows, left, group)] if left != Int(0) else []
            whole = seq(*inside)
            for v, m in reversed(list(zip(names, outer))):
                whole = For(v.name, Int(0), Int(m), "parallel", whole)
            body.append(whole)
        elif self.partial:
            g = Var("group")
            count, start = self.count, g * self.each
            even = isinstance(blocks, Int) and isinstance(self.each, Int) and blocks.value % self.each.value == 0
            end = start + self.each if even else Bin("min", start + self.each, blocks)
            body.append(For("group", Int(0), count, "parallel", seq(*self._begin(g), *self._blocks(g, start, end - start, "serial"))))
            if left != Int(0):
                body.append(For("last", Int(0), Int(1), "parallel", seq(*self._begin(count), self._block(blocks * self.rows, left, count))))
        else:
            body += self._blocks(Int(0), Int(0), blocks, "parallel")
            body += [For("last", Int(0), Int(1), "parallel", self._block(blocks * self.rows, left, Int(0)))] if left != Int(0) else []
        body += [self._end(k, m) for k, m in enumerate(self.chain.members) if m.total is not None]
        s = seq(*body)
        for buf in self.partial.values():
            s = Alloc(buf, s)
        hint = self.chain.members[-1].nest.hint
        origin = tuple(dict.fromkeys(x for m in self.chain.members for x in m.nest.origin))
        return Nest(f"rows_{hint}", tuple(self.buffers.values()), tuple(self.refs), s, schedule, (tuple(self.parts),), origin)

    # ---- over rows

    def _blocks(self, group: Expr, start: Expr, count: Expr, how: How) -> list[Stmt]:
        if count == Int(0):
            return []
        return [For("block", Int(0), count, how, self._block((start + Var("block")) * self.rows, Int(self.rows), group))]

    def _block(self, base: Expr, rows: Expr, group: Expr) -> Stmt:
        """What the members do to the rows from base on."""
        s = seq(*(self._member(k, m, base, rows, group) for k, m in enumerate(self.chain.members)))
        for buf in self.local.values():
            s = Alloc(buf, s)
        return s

    def _member(self, k: int, m: Member, base: Expr, rows: Expr, group: Expr) -> Stmt:
        *outer, last = m.rows
        s = m.nest.body
        if m.total is not None:
            t = m.total
            mine = {x.buf.name for x in t.terms}
            keep = []
            for term in t.terms:
                at = (group, *(Var(f.var) for f in t.free))
                keep.append(Accum(self.partial[k, term.buf.name], at, Load(term.buf, ()), term.op))
            s = seq(*t.inits, t.main, *keep)
            for b in reversed([b for b in t.registers if b.name in mine]):
                s = Alloc(b, s)
            for f in reversed(t.free):
                s = with_body(f, s)

        def cut(x: Stmt) -> Stmt:
            if isinstance(x, For) and x.var in outer:
                return cut(x.body)
            if isinstance(x, For) and x.var == last:
                return For(last, Int(0), rows, x.how, cut(x.body))
            return map_stmt(x, cut)

        at_row = {last: base + Var(last), **{v: Var(f"row{j}") for j, v in enumerate(outer)}}
        s = subst(cut(s), at_row)
        s = self.placed(m, s)
        how, args = m.nest.schedule, tuple([_without(a, outer) for a in m.nest.args])
        self.parts.append((how, args))
        return s

    def placed(self, m: Member, s: Stmt) -> Stmt:
        """The buffers of a member become the kernel's; of what is private, a block."""
        for b, ref in zip(m.nest.buffers, m.nest.refs, strict=True):
            region = ref.region.name
            if region in self.private:
                position = next(t.position for t in m.inside if t.region == region)
                assert position is not None
                if region not in self.local:
                    shape = [self.rows if k == position[-1] else n for k, n in enumerate(b.shape) if k not in position[:-1]]
                    self.local[region] = Buffer(f"r{len(self.local)}", tuple(shape), b.dtype, "scratch")

                def inside(ix: tuple[Expr, ...], position: tuple[int, ...] = position) -> tuple[Expr, ...]:
                    return tuple([Var(m.rows[-1]) if k == position[-1] else e for k, e in enumerate(ix) if k not in position[:-1]])

                s = reindex(s, b, self.local[region], inside)
            else:
                key = (region, ref.start, b.shape)
                if key not in self.buffers:
                    self.buffers[key] = Buffer(f"a{len(self.buffers)}", b.shape, b.dtype)
                    self.refs.append(ref)
                s = reindex(s, b, self.buffers[key], lambda ix: ix)
        return s

    # ---- sums over rows

    def _begin(self, group: Expr) -> list[Stmt]:
        """The partial results of a group, at what is neutral."""
        out = []
        for k, m in enumerate(self.chain.members):
            for term in m.total.terms if m.total is not None else ():
                assert m.total is not None
                names = tuple([f.var for f in m.total.free])
                s: Stmt = Store(self.partial[k, term.buf.name], (group, *map(Var, names)), neutral(term.op, term.buf.dtype))
                for f in reversed(m.total.free):
                    s = with_body(f, s)
                self.parts.append((map_schedule, (names, self.target)))
                out.append(s)
        return out

    def _end(self, k: int, m: Member) -> Stmt:
        """The partial results of the groups added up, and what the member does with the sums."""
        t = m.total
        assert t is not None
        free = tuple([f.var for f in t.free])
        terms = [Accum(x.buf, (), Load(self.partial[k, x.buf.name], (Var("part"), *map(Var, free))), x.op) for x in t.terms]
        s: Stmt = seq(*t.inits, For("part", Int(0), self.groups, "serial", seq(*terms)), *t.rest)
        for b in reversed(t.registers):
            s = Alloc(b, s)
        for f in reversed(t.free):
            s = with_body(f, s)
        self.parts.append((reduce_schedule, (free, ("part",), self.target)))
        return self.placed(m, s)


def _smaller(a: Expr, b: Expr) -> Expr:
    return Int(min(a.value, b.value)) if isinstance(a, Int) and isinstance(b, Int) else Bin("min", a, b)


def _larger(a: Expr, b: Expr) -> Expr:
    return Int(max(a.value, b.value)) if isinstance(a, Int) and isinstance(b, Int) else Bin("max", a, b)


def _without(a: Argument, names: Collection[str]) -> Argument:
    return tuple([x for x in a if x not in names]) if isinstance(a, tuple) else a
