"""Sums of products, in the order of fewest operations: what `einsum` does with a path, found in a graph however it was written.

A reduction or a contraction is read back as one sum over products of factors, each with a label for every axis: through products and squares, signs and
numbers, permutations and repetitions, and through sums and contractions inside of it, whose labels are bound. So (A·B)·v is Σ A[i,j] B[j,k] v[k], the squared
norms of per-example gradients are Σ d[n,j] d[n,j] x[n,i] x[n,i], and the sum of those gradients, clipped, is Σ c[n] d[n,j] x[n,i]. The cheapest order of
pairs is found over all subsets of the factors, and taken where it costs less than what stands there: A·(B·v); Σd² times Σx²; a matrix product with c·d.

Right for real numbers only: d² alone overflows where (d x)² would not. `fast=True` asks for it. Not a fusion: what is no contraction stays elementwise.
"""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from ..core.dims import Size, nominal, product
from ..core.record import dataclass, field
from ..ir.node import NOWHERE, Graph, Node, Recorder, recording
from ..ir.rewrite import is_splat
from ..ir.walk import map_subgraphs, topo
from ..ops.contract import contract, free_axes
from ..ops.elementwise import add, mul, neg, pow_
from ..ops.leaf import splat
from ..ops.movement import broadcast, permute, reshape
from ..ops.reduce import reduce_sum
from .fast import ordinary, raised

COMMENTS = ("(A·B)·v → A·(B·v)   and every chain of contractions", "sum((x ⊗ y)²) → sum(x²) * sum(y²)   (but x² may overflow where x * y does not)",
            "sum(c * (x ⊗ y)) → (c * x)·y   over an axis that all of them have", "sum(x * y) → x·y   where each lacks an axis of the other")

MOST = 6                                                # factors of one sum: all orders of six are 729 pairs of subsets
ROUNDS = 4                                              # what was a factor, since there were six others, may be taken apart when they are settled

Label = int


def products(graph: Graph) -> Graph:
    """The graph with its sums of products in the order of fewest operations; the same object where none can be better."""
    for _ in range(ROUNDS):
        after = _once(graph)
        if after is graph:
            break
        graph = after
    return graph


def _once(graph: Graph) -> Graph:
    order, ends = topo(graph.roots), set(graph.roots)
    found = {n: s for n in order if n.op in (reduce_sum, contract) and n.tensor.dtype.is_float and (s := sum_of(n, ends)) is not None}
    better = _worth(found, order, ends)
    done: dict[Node, Node] = {leaf: leaf for leaf in graph.leaves}
    info = dict(graph.info)
    recorder = Recorder(info)
    with recording(recorder):
        for n in order:
            if n in done:
                continue
            recorder.here = info.get(n, NOWHERE)
            if n in better:
                done[n] = better[n].written(lambda f: done[f])
                info[done[n]] = info.get(done[n], NOWHERE) | recorder.here
                continue
            inputs, attrs = tuple([done[i] for i in n.inputs]), map_subgraphs(n.attrs, products)
            done[n] = n if inputs == n.inputs and attrs is n.attrs else Node(n.op, inputs, attrs, n.type)
    roots = tuple(done[r] for r in graph.roots)
    return graph if roots == graph.roots else graph.with_roots(roots, info)


# ---- a sum, read back --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Factor:
    """A node that is read as it stands, the label of each of its axes of more than one element, and how often it multiplies."""

    node: Node
    labels: tuple[Label, ...]
    power: int = 1


@dataclass(slots=True)
class Sum:
    """root = scale * Σ over the labels that `out` lacks of the product of the factors."""

    root: Node
    out: tuple[Label, ...]                              # of the root's axes of more than one element
    sizes: dict[Label, Size] = field(default_factory=dict)
    factors: list[Factor] = field(default_factory=list)
    scale: float = 1.0
    inside: dict[Node, bool] = field(default_factory=dict)      # nodes that are taken apart; whether the root computes them in its own loop
    path: Path | None = None

    def size(self, labels: Collection[Label]) -> int:
        return math.prod(nominal(self.sizes[k]) for k in labels)

    def shape(self, labels: Sequence[Label]) -> tuple[Size, ...]:
        return tuple(self.sizes[k] for k in labels)

    def written(self, now: Callable[[Node], Node]) -> Node:
        """The sum as nodes, along its path."""
        assert self.path is not None
        return _Writer(self, now).write()


def sum_of(root: Node, ends: Collection[Node] = ()) -> Sum | None:
    """The sum of products that a reduction or a contraction is, with its best path; None where there is nothing to choose. Ends are stored in any case."""
    s = Sum(root, ())
    s.out = tuple(_labels(s, root.tensor.shape))
    factors: dict[tuple[Node, tuple[Label, ...]], int] = {}
    todo = [(root, list(s.out), 1, True)]
    while todo:
        n, labels, power, inline = todo.pop()
        below = _apart(s, n, labels, power, len(factors) + len(todo))
        if below is None:
            key = n, tuple(labels)
            factors[key] = factors.get(key, 0) + power
            continue
        if n is not root:
            s.inside[n] = s.inside.get(n, False) or inline
            inline = inline and n not in ends and n.op is not reduce_sum
        todo += [(i, ls, p, inline and n.op is not contract) for i, ls, p in below]
    s.factors += [Factor(n, labels, power) for (n, labels), power in factors.items()]
    missing = s.sizes.keys() - {k for f in s.factors for k in f.labels} - set(s.out)
    if len(s.factors) < 2 or not all(isinstance(s.sizes[k], int) for k in missing) or 0 in s.sizes.values() or any(f.node in s.inside for f in s.factors):
        return None
    s.scale *= s.size(missing)                          # of n equal terms: n times one
    if not ordinary(s.scale):
        return None
    s.path = best(s)
    return s


def _labels(s: Sum, shape: Sequence[Size]) -> list[Label]:
    """New labels for the axes of more than one element."""
    fresh = []
    for n in shape:
        if n != 1:
            fresh.append(len(s.sizes))
            s.sizes[len(s.sizes)] = n
    return fresh


def _long(n: Node) -> list[int]:
    return [k for k, m in enumerate(n.tensor.shape) if m != 1]


def _apart(s: Sum, n: Node, labels: list[Label], power: int, others: int) -> list[tuple[Node, list[Label], int]] | None:
    """What n to this power is a product of, with labels and powers; None where it is a factor itself. `labels` are of n's axes of more than one element."""
    at = dict(zip(_long(n), labels, strict=True))
    if n.op is neg or _adds_nothing(n) or (n.op is reshape and [n.tensor.shape[k] for k in _long(n)] == [m for m in n.inputs[0].tensor.shape if m != 1]):
        s.scale *= (-1.0) ** power if n.op is neg else 1.0
        return [(n.inputs[0], labels, power)]
    if n.op is permute:
        back = {old: at[new] for new, old in enumerate(n.attrs["axes"]) if new in at}
        return [(n.inputs[0], [back[k] for k in sorted(back)], power)]
    if n.op is broadcast:
        return [(n.inputs[0], [at[k] for k in range(n.tensor.rank) if k in at and k not in n.attrs["axes"]], power)]
    if n.op is pow_ and is_splat(n.inputs[1], 2):
        return [(n.inputs[0], labels, 2 * power)]
    if n.op is mul:
        for k in (0, 1):
            if is_splat(n.inputs[k], None, ("float",)) and abs(v := float(n.inputs[k].attrs["value"])) < 1e30:
                s.scale *= v ** power
                return [(n.inputs[1 - k], labels, power)]
        if n.inputs[0] is n.inputs[1]:
            return [(n.inputs[0], labels, 2 * power)]
        return [(i, labels, power) for i in n.inputs] if others + 2 <= MOST else None
    if n is not s.root and others + 2 * power > MOST:
        return None
    if n.op is reduce_sum:
        x, out = n.inputs[0], []
        for _ in range(power):                          # each with an index of its own
            kept = iter(labels)
            out.append((x, [_labels(s, [x.tensor.shape[k]])[0] if k in n.attrs["axes"] else next(kept) for k in _long(x)], 1))
        return out
    return [part for _ in range(power) for part in _operands(s, n, labels)] if n.op is contract else None


def _operands(s: Sum, n: Node, labels: list[Label]) -> list[tuple[Node, list[Label], int]]:
    (ca, cb), (ba, bb) = n.attrs["contracting"], n.attrs["batch"]
    a, b = n.inputs
    at = dict(zip(_long(n), labels, strict=True))
    names: tuple[dict[int, Label], dict[int, Label]] = ({}, {})
    places = [*((i, j) for i, j in zip(ba, bb)), *((i, None) for i in free_axes(a.tensor.rank, ca, ba)), *((None, j) for j in free_axes(b.tensor.rank, cb, bb))]
    for k, pair in enumerate(places):
        for side, axis in enumerate(pair):
            if axis is not None and k in at:
                names[side][axis] = at[k]
    for i, j in zip(ca, cb):
        if a.tensor.shape[i] != 1:
            (names[0][i],) = (names[1][j],) = _labels(s, [a.tensor.shape[i]])
    return [(x, [names[side][k] for k in sorted(names[side])], 1) for side, x in enumerate((a, b))]


# ---- the cheapest order ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Path:
    """One factor (`pair` is None), or two paths multiplied; then summed over what nobody else needs. A multiplication that adds counts once."""

    labels: tuple[Label, ...]
    cost: int
    factor: int | None = None
    pair: tuple[Path, Path] | None = None


def best(s: Sum) -> Path:
    """The path of least cost, by dynamic programming over the subsets of the factors."""
    count = len(s.factors)
    full = (1 << count) - 1
    has = [set(f.labels) for f in s.factors]

    def needed(subset: int) -> set[Label]:
        """Labels that the result or a factor outside of the subset has."""
        return set(s.out).union(*(has[k] for k in range(count) if not subset >> k & 1))

    table: dict[int, Path] = {}
    for k, f in enumerate(s.factors):
        kept = tuple(x for x in f.labels if x in needed(1 << k))
        sweeps = max(_powering(f.power), int(len(kept) < len(f.labels)))        # the last of them adds
        table[1 << k] = Path(kept, s.size(f.labels) * sweeps, factor=k)
    for subset in range(1, full + 1):                   # after all of its parts, whose numbers are smaller
        if subset in table:
            continue
        want, least = needed(subset), None
        part = (subset - 1) & subset
        while part:
            other = subset ^ part
            if part < other:
                a, b = table[part], table[other]
                if len(a.labels) < len(b.labels):       # the larger first: its axes stay where they are
                    a, b = b, a
                union = dict.fromkeys((*a.labels, *b.labels))
                cost = a.cost + b.cost + s.size(union)
                if least is None or cost < least.cost:
                    least = Path(tuple(k for k in union if k in want), cost, pair=(a, b))
            part = (part - 1) & subset
        assert least is not None
        table[subset] = least
    return table[full]


def _powering(power: int) -> int:
    """Multiplications of x ** power by squaring."""
    return power.bit_length() + bin(power).count("1") - 2


# ---- whether it is worth it --------------------------------------------------------------------------------------------------------


def _worth(found: Mapping[Node, Sum], order: Sequence[Node], ends: Collection[Node]) -> dict[Node, Sum]:
    """The sums that cost less along their paths than as they stand, counting what nobody needs any more once all of them are rewritten."""
    chosen = dict(found)
    while True:
        needed = set(ends)
        for n in reversed(order):
            if n in needed:
                needed.update([f.node for f in chosen[n].factors] if n in chosen else n.inputs)
        live = {n: s for n, s in chosen.items() if n in needed}
        sharers = Counter([n for s in live.values() for n in s.inside if n not in needed])
        declined = [n for n, s in live.items() if not _saves(s, sharers, ends)]
        if not declined:
            return live
        for n in declined:
            del chosen[n]


def _saves(s: Sum, sharers: Mapping[Node, int], ends: Collection[Node]) -> bool:
    """Whether the path costs less; as much will do where it makes a matrix product, whose factors are read in blocks."""
    assert s.path is not None
    old = cost(s.root)
    for n, inline in s.inside.items():
        if inline and n not in ends and n.op not in (contract, reduce_sum):
            old += cost(n)
        elif n in sharers:
            old += cost(n) // sharers[n]
    return s.path.cost < old or (s.path.cost == old and s.root.op is reduce_sum and _is_matrix_product(s))


def cost(n: Node) -> int:
    """Multiplications, each with its addition; movement, signs and numbers are free."""
    if n.op is contract:
        a, b = n.inputs
        paired = (*n.attrs["contracting"][1], *n.attrs["batch"][1])
        return nominal(product(a.tensor.shape)) * math.prod(nominal(m) for k, m in enumerate(b.tensor.shape) if k not in paired)
    if n.op is reduce_sum:
        below = n.inputs[0]
        while below.op in (permute, neg, reshape) or _adds_nothing(below):
            below = below.inputs[0]
        return 0 if cost_of_product(below) else nominal(product(n.inputs[0].tensor.shape))
    return cost_of_product(n)


def cost_of_product(n: Node) -> int:
    return nominal(product(n.tensor.shape)) if n.op in (mul, pow_) and not any(is_splat(i, None) for i in n.inputs[:1 if n.op is pow_ else 2]) else 0


def _adds_nothing(n: Node) -> bool:
    """x + 0.0: an outer product is written so."""
    return n.op is add and is_splat(n.inputs[1], 0.0)


def _is_matrix_product(s: Sum) -> bool:
    """Two factors, each with an axis that the other lacks, and one that they share and that is summed."""
    if len(s.factors) != 2:
        return False
    a, b = (set(f.labels) for f in s.factors)
    return bool(a - b and b - a and (a & b) - set(s.out))


# ---- the path, written -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Writer:
    """Nodes along the path of a sum; `now` gives what a factor has become."""

    s: Sum
    now: Callable[[Node], Node]

    def write(self) -> Node:
        s = self.s
        assert s.path is not None
        n = self.step(s.path, s.out)
        if s.scale != 1.0:
            n = mul(n, splat(s.scale, n))
        return n if n.tensor.shape == s.root.tensor.shape else reshape(n, shape=s.root.tensor.shape)

    def step(self, p: Path, order: Sequence[Label] | None = None) -> Node:
        """A path's node with its axes in this order, or in that of p.labels."""
        order = p.labels if order is None else order
        if p.pair is None:
            assert p.factor is not None
            f = self.s.factors[p.factor]
            n = self.now(f.node)
            if n.tensor.rank != len(f.labels):
                n = reshape(n, shape=self.s.shape(f.labels))
            n = raised(n, f.power)
            over = tuple(k for k, label in enumerate(f.labels) if label not in p.labels)
            return self.moved(reduce_sum(n, axes=over) if over else n, p.labels, order)
        a, b = p.pair
        both = [k for k in a.labels if k in b.labels]
        summed = [k for k in both if k not in p.labels]
        alone = [[k for k in x.labels if k not in both] for x in (a, b)]
        if summed and (all(alone) or (any(alone) and len(both) == len(summed))):
            batch = [k for k in both if k in p.labels]
            if (*batch, *alone[0], *alone[1]) != tuple(order) and (*batch, *alone[1], *alone[0]) == tuple(order):
                a, b, alone = b, a, alone[::-1]
            where = [(tuple(x.labels.index(k) for k in summed), tuple(x.labels.index(k) for k in batch)) for x in (a, b)]
            n = contract(self.step(a), self.step(b), contracting=(where[0][0], where[1][0]), batch=(where[0][1], where[1][1]))
            return self.moved(n, (*batch, *alone[0], *alone[1]), order)
        wide = tuple(dict.fromkeys((*a.labels, *b.labels)))
        n = mul(self.moved(self.step(a), a.labels, wide), self.moved(self.step(b), b.labels, wide))
        return self.moved(reduce_sum(n, axes=tuple(sorted(wide.index(k) for k in summed))) if summed else n, p.labels, order)

    def moved(self, n: Node, have: Sequence[Label], want: Sequence[Label]) -> Node:
        """Axes in the order that is wanted, and repeated along those that n lacks."""
        kept = [k for k in want if k in have]
        axes = tuple(list(have).index(k) for k in kept)
        n = n if axes == tuple(range(len(axes))) else permute(n, axes=axes)
        new = tuple(i for i, k in enumerate(want) if k not in have)
        return broadcast(n, shape=self.s.shape(want), axes=new) if new else n
