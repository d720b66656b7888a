"""Nests over a symbolic number of rows: what `rows` does for a number of them, for all numbers at once.

Whether nests go through the cache together, and in blocks of how many rows, is a function of their number that changes its mind at a few; beyond the last
of those they are *one kernel*, whose blocks are as many as it finds at run time. Below, each stays a kernel of its own, which sums in the order that it would
have in the blocks of that size: the bits of a step are those of a compilation for the size that comes. Both are launched, and one of them does nothing.

Not followed: several symbolic sizes, and rows of several axes.
"""
from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

from ..core.dims import evaluate, parse
from ..core.record import dataclass, replace
from ..core.target import Target
from .ir import Bin, Buffer, Expr, For, If, Int, Stmt, Var, seq, walk
from .nest import Nest
from .rows import Chain, Fused, Member, Part, View, reduction, runs, schedule, summation

MOST = 1 << 24                                                  # of a symbolic size, beyond which nothing new is looked for
NOBODYS = 1_000_003                                             # a size that stands for all

@dataclass(frozen=True, slots=True)
class Place:
    """Of a nest: the chain that it is in, the rows of that one's blocks, and the order in which it sums: in blocks of so many rows (0: in one go; -1: it does
    not sum over rows, but is scheduled as the reduction that it is)."""

    chain: int = -1
    rows: int = 0
    order: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """From `first` on, a nest is in an order of `Place`."""

    first: int
    order: int


def symbolic(items: Sequence[Nest], dims: Collection[str], private: Collection[str], target: Target) -> list[Nest]:
    """The nests, in an order that keeps their meaning: those that share a symbolic number of rows one by one for few rows, and together for many."""
    if len(dims) != 1 or not any(n.sizes for n in items):
        return list(items)
    (dim,) = dims
    asked = _Asked(items, dim, target)
    firsts = asked.changes()
    last = firsts[-1]
    out: list[Nest] = []

    def alone(k: int, below: int | None = None) -> Nest:
        found = [Order(n, asked.at(n)[k].order) for n in firsts if below is None or n < below]
        orders = found[:1] + [b for a, b in pairwise(found) if a.order != b.order]
        n = items[k]
        if len(orders) > 1 or orders[0].order:
            n = _in_orders(n, dim, orders, target)
        return n if below is None else _if(n, Bin("<", Var(dim), Int(below)))

    for before, chain, rest in asked.runs(MOST):
        out += [alone(asked.number[id(n)]) for n in before]
        if chain is not None:
            numbers = [asked.number[id(m.of)] for m in chain.members]
            members = [_unbound(m, items[k]) for m, k in zip(chain.members, numbers)]
            together = [m for m in members if m is not None]
            whole = len(together) == len(members) and len({str(_length(m)) for m in together}) == 1
            if whole:
                others = {ref.region.name for n in (*out, *(items[asked.number[id(x)]] for x in rest)) for ref in n.refs}
                fused = Fused(Chain((-1,), together), set(private) - others, target, chain.block(target, asked.view(MOST)), _length(together[0])).nest()
                out.append(fused if last == 1 else _if(fused, Bin("<=", Int(last), Var(dim))))
            if not whole or last > 1:
                out += [alone(k, last if whole else None) for k in numbers]
    return out


class _Asked:
    """What `rows` would do with nests bound to a size. Which of them make a chain does not depend on it, so that is found once."""

    def __init__(self, items: Sequence[Nest], dim: str, target: Target) -> None:
        self.dim, self.target, self.items = dim, target, items
        self.bound = [x.bound({dim: NOBODYS}) for x in items]
        self.number = {id(x): k for k, x in enumerate(self.bound)}
        self.texts = {text for x in items for text in x.sizes}
        self.once, self.known = View(), dict[int, tuple[Place, ...]]()

    def view(self, n: int) -> View:
        """Of the nests where the size is n."""
        return replace(self.once, numbers={evaluate(parse(text), {self.dim: NOBODYS}): evaluate(parse(text), {self.dim: n}) for text in self.texts})

    def runs(self, n: int) -> list[tuple[list[Nest], Chain | None, list[Nest]]]:
        return list(runs(self.bound, self.target, self.view(n)))

    def at(self, n: int) -> tuple[Place, ...]:
        """The place of each nest where the size is n."""
        if n not in self.known:
            view, found = self.view(n), dict[int, Place]()
            for k, (_, chain, _) in enumerate(runs(self.bound, self.target, view)):
                if chain is not None:
                    rows = chain.block(self.target, view) if len(chain.sizes) == 1 else 0
                    for m in chain.members:
                        found[id(m.of)] = Place(k, rows, (rows if m.total is not None else -1 if m.of is not m.nest else 0) if rows else 0)
            self.known[n] = tuple([found.get(id(x), Place()) for x in self.bound])
        return self.known[n]

    def changes(self) -> list[int]:
        """The sizes from which on nests have other places than before, 1 first."""
        firsts, n = [1], 1
        while n < MOST:
            low, high, now = n, 2 * n, self.at(n)
            if self.at(high) != now:
                for power in [1 << k for k in range(low.bit_length(), high.bit_length())]:      # where blocks grow
                    for guess in (power - 1, power):
                        if low < guess < high:
                            low, high = (guess, high) if self.at(guess) == now else (low, guess)
                while high - low > 1:
                    middle = (low + high) // 2
                    low, high = (middle, high) if self.at(middle) == now else (low, middle)
                firsts.append(high)
            n = high
        return firsts


def _length(m: Member) -> Expr:
    """How many rows there are."""
    return next(x.hi for x in walk(m.nest.body) if isinstance(x, For) and x.var == m.rows[-1])


def _unbound(m: Member, nest: Nest) -> Member | None:
    """A member of a chain of bound nests as the nest that it was."""
    own = reduction(nest)
    if own is None or len(m.rows) != 1:
        return None
    return Member(own, nest, m.rows, (-1,), summation(own.body) if m.total is not None else None)


def _if(nest: Nest, cond: Expr) -> Nest:
    """The nest where a condition on its sizes holds, else nothing."""
    parts = nest.args if nest.schedule is schedule else (((nest.schedule, nest.args),),)
    return replace(nest, body=If(cond, nest.body), schedule=schedule, args=parts)


def _in_orders(nest: Nest, dim: str, orders: Sequence[Order], target: Target) -> Nest:
    """The nest once for each order, under a condition on the size."""
    total, own = summation(nest.body), reduction(nest)
    assert total is not None
    assert own is not None
    m = Member(own, nest, (total.main.var,), (-1,), total)
    versions: list[Stmt] = []
    parts: list[Part] = []
    for k, order in enumerate(orders):
        f = Fused(Chain((-1,), [m]), set(), target, max(order.order, 1), total.main.hi)
        if order.order > 0:
            s = f.nest().body
            parts += f.parts
        else:
            s = f.placed(m, nest.body)
            parts.append((own.schedule, own.args) if order.order else (nest.schedule, nest.args))
        if k + 1 < len(orders):
            s = If(Bin("<", Var(dim), Int(orders[k + 1].first)), s)
        versions.append(If(Bin("<=", Int(order.first), Var(dim)), s) if k else s)
    buffers = [Buffer(f"a{j}", b.shape, b.dtype) for j, b in enumerate(nest.buffers)]
    return Nest(nest.hint, tuple(buffers), nest.refs, seq(*versions), schedule, (tuple(parts),), nest.origin)
