"""Which tensors become memory, and which are computed together: the one place where that is decided.

A *stored* node has memory, or at least a register, of its own; every other node is computed inside its users, by index substitution. Stored nodes
of one shape that can share a sweep form a *group*, and a group becomes a kernel: a head (a contraction, a reduction) with the elementwise nodes that
follow it as its epilogue, or elementwise nodes alone. The shape of the idea is pytato's IndexLambda and Halide's compute_at / compute_inline.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from ..core.dims import Size, nominal, product
from ..core.record import dataclass, field
from ..core.types import TensorType
from ..ir.node import Node
from ..ir.walk import frontier, topo
from ..ops.spectral import LINALG
from .elementwise import ELEMENTWISE, EXPENSIVE
from .half import narrows, widens

REDUCE = frozenset({"reduce_sum", "reduce_prod", "reduce_max", "reduce_min"})
OPEN_HEADS = REDUCE | {"contract", "fold"}                      # elementwise nodes may follow in the same kernel
BODIES = frozenset({"scan", "cond", "while", "pure_callback", "io_callback"})   # bodies of their own, or Python, read what they are given
CLOSED_HEADS = BODIES | {"argmax", "argmin", "argsort", "topk", "cumsum", "check_index"} | LINALG | {
    f"{where}_{how}" for where, hows in (("scatter", ("add", "set", "max", "min")), ("put_along", ("set", "max", "min"))) for how in hows}
LEAVES = frozenset({"input", "const", "iota", "size", "token"})
AFFINE = frozenset({"permute", "broadcast", "slice", "flip", "window"})   # an index of the operand is an affine function of the result's
MOVEMENT = AFFINE | {"reshape", "pad", "concat", "take", "take_along", "put_along_add"}

MANY = 1 << 10                                          # what a symbolic size counts as
MAX_DEPTH = 48                                          # nodes computed in one another; more would only make text
MAX_BUFFERS = 24                                        # of one kernel


@dataclass(eq=False, slots=True)
class Group:
    """Stored nodes that one kernel computes, in order; `head` is the first where it is not elementwise."""

    space: tuple[Size, ...]
    members: list[Node]
    head: Node | None = None
    closed: bool = False
    reads: set[Node] = field(default_factory=set)       # stored nodes and leaves outside, by whatever index


def shape_of(n: Node) -> tuple[Size, ...]:
    return n.type.shape if isinstance(n.type, TensorType) else ()


def size_of(n: Node) -> Size:
    return product(shape_of(n))


def is_alias(n: Node) -> bool:
    """A node that is its operand's memory under another name."""
    return n.op.name in ("get", "barrier") or (n.op.name == "reshape" and not only_ones(n))


def only_ones(n: Node) -> bool:
    """A reshape that only adds or drops axes of size 1 is an index map like another."""
    a, b = shape_of(n.inputs[0]), shape_of(n)
    return [k for k in a if k != 1] == [k for k in b if k != 1]


def unique_put(n: Node) -> bool:
    """put_along_add of one update to each row: an elementwise sum with `where(iota == i, u, 0)`."""
    return n.op.name == "put_along_add" and shape_of(n.inputs[1])[n.attrs["axis"]] == 1


def is_head(n: Node) -> bool:
    return n.op.name in OPEN_HEADS or n.op.name in CLOSED_HEADS or (n.op.name == "put_along_add" and not unique_put(n))


def stored_nodes(roots: Sequence[Node], order: Sequence[Node]) -> set[Node]:
    """The nodes that get memory or a register: roots, heads, and what is dear to compute twice or awkward to compute in place."""
    stored = {n for n in roots if n.op.name not in LEAVES and not is_alias(n)}
    stored |= {n for n in order if is_head(n) or narrows(n)}
    for n in order:
        for k, i in enumerate(n.inputs):
            if needs_memory(n, k, stored):
                base = beneath(i) if n.op.name in ("contract", "take", "take_along") else i
                if base.op.name not in LEAVES and not is_alias(base):
                    stored.add(base)
                elif (n.op.name in BODIES or n.op.name == "reshape") and base.op.name in ("const", "iota", "size"):
                    stored.add(base)                    # a body or an alias reads memory, so even a number must be written down
    owners: dict[Node, set[object]] = {}                # for a node that is not stored: who computes it (a node, or a sweep of several reductions)
    sweep = _sweeps(order)
    depth: dict[Node, int] = {}
    for n in order:
        depth[n] = 0 if n in stored or n.op.name in LEAVES or is_alias(n) else 1 + max((depth[i] for i in n.inputs), default=0)
        if depth[n] > MAX_DEPTH:
            stored.add(n)
            depth[n] = 0
    for n in reversed(order):
        if n not in stored and n.op.name in EXPENSIVE and len(owners.get(n, ())) > 1 and not is_count(n):
            stored.add(n)
        mine: set[object] = {sweep.get(n, n)} if n in stored else owners.get(n, set())
        for i in n.inputs:
            if i not in stored:
                owners.setdefault(i, set()).update(mine)
    return stored


def _sweeps(order: Sequence[Node]) -> dict[Node, object]:
    """For each reduction a name of the sweep that it can share: same operand shape and axes, and equally many heads before it, so none needs another."""
    heads: dict[Node, int] = {}
    out: dict[Node, object] = {}
    for n in order:
        heads[n] = max((heads[i] for i in n.inputs), default=0) + is_head(n)
        if n.op.name in REDUCE:
            out[n] = (shape_of(n.inputs[0]), n.attrs["axes"], n.type, heads[n])
    return out


def needs_memory(n: Node, k: int, stored: Collection[Node]) -> bool:
    """Must operand k of n be in memory, because n reads it often or in another order? `stored`: what has memory as it is."""
    name, x = n.op.name, n.inputs[k]
    if name in BODIES:
        return bool(k >= n.attrs.get("carries", 0))           # the first carries are copied to where they go round
    if name in ("contract", "topk"):
        return True
    if name in ("take", "take_along"):                  # computing what few elements are asked for is less than computing all
        base = beneath(x)
        return k == 0 and base.op.name not in LEAVES and not is_alias(base) and nominal(size_of(n), MANY) > nominal(size_of(x), MANY)
    if name == "reshape":
        return not only_ones(n)
    if name == "barrier":
        return k == 0                                   # what is computed again is computed from what was kept
    if name == "random_bits":
        return True
    if name in ("pad", "concat", "window", "fold"):
        return is_dear(x, stored)
    return name == "broadcast" and (is_dear(x, stored) or not shape_of(x)) and not is_count(x)


def is_count(x: Node) -> bool:
    """A leaf, or arithmetic of symbolic sizes and constants: where the size is a number, a constant too, so that both are lowered alike."""
    return x.op.name in LEAVES or (x.op.name in ELEMENTWISE and all(i.op.name in ("size", "const") or (i.inputs and is_count(i)) for i in x.inputs))


def is_dear(x: Node, stored: Collection[Node]) -> bool:
    """Does computing an element of x, down to what is stored or a leaf, take an expensive op?"""
    stack, seen = [x], 0
    while stack and seen < MAX_DEPTH:
        n = stack.pop()
        seen += 1
        if n in stored:
            continue
        if n.op.name in EXPENSIVE:
            return True
        if n.op.name not in LEAVES and not is_head(n) and not is_alias(n):
            stack.extend(n.inputs)
    return False


def beneath(n: Node) -> Node:
    """What an operand is under its affine movements, and under a conversion that costs no more than they do."""
    while n.op.name in AFFINE or widens(n) or (n.op.name == "reshape" and only_ones(n)):
        n = n.inputs[0]
    return n


@dataclass(frozen=True, slots=True)
class Reads:
    """What a stored node reads: `here` at its own index, `elsewhere` at another one (a node can be in both). It waits for what stands in `after`, too."""

    here: tuple[Node, ...]
    elsewhere: tuple[Node, ...]
    after: tuple[Node, ...] = ()


def reads_of(n: Node, stored: set[Node]) -> Reads:
    """The stored nodes, aliases and leaves under n, and whether n's own index reaches them."""
    here: dict[Node, None] = {}
    elsewhere: dict[Node, None] = {}
    waits: dict[Node, None] = {}

    def below(x: Node, same: bool) -> list[tuple[Node, bool]]:
        if unique_put(x):
            return [(x.inputs[2], False), (x.inputs[1], False), (x.inputs[0], same)]
        return [(i, same and x.op.name in ELEMENTWISE) for i in reversed(x.inputs)]

    stack = below(n, not is_head(n))
    seen: set[tuple[Node, bool]] = set()
    while stack:
        x, same = stack.pop()
        if (x, same) in seen:
            continue
        seen.add((x, same))
        if x in stored or x.op.name == "input" or is_alias(x) or (x.op.name == "const" and x.attrs["value"].ndim):
            (here if same else elsewhere)[root_of(x)] = None
            if is_alias(x) and same:
                elsewhere[root_of(x)] = None
            waits.update(dict.fromkeys(_barriers(x)))
        else:
            stack += below(x, same)
    return Reads(tuple(here), tuple(elsewhere), frontier(waits, stored))


def _barriers(x: Node) -> Iterator[Node]:
    """What the barriers among the names of x's memory wait for."""
    while is_alias(x):
        if x.op.name == "barrier":
            yield from x.inputs[1:]
        x = x.inputs[0]


def memory_of(n: Node) -> Node:
    """The node whose memory a reshape or a barrier is: a result of its own, where an op has several."""
    while n.op.name == "barrier" or (n.op.name == "reshape" and not only_ones(n)):
        n = n.inputs[0]
    return n


def root_of(n: Node) -> Node:
    """The node that writes the memory an alias is."""
    while is_alias(n):
        n = n.inputs[0]
    return n


def groups(roots: Sequence[Node]) -> tuple[list[Group], set[Node], dict[Node, Reads]]:
    """The kernels of a graph, each after those it reads from; the stored nodes; and what each of them reads."""
    order = topo(roots)
    stored = stored_nodes(roots, order)
    reads = {n: reads_of(n, stored) for n in order if n in stored}
    out: list[Group] = []
    home: dict[Node, Group] = {}
    before: dict[Group, set[Group]] = {}                # every group that must run earlier

    def depends(g: Group, on: Group) -> bool:
        return g is on or on in before[g]

    for n in order:
        if n not in stored:
            continue
        r = reads[n]
        needs = {home[x] for x in (*r.here, *r.elsewhere, *r.after) if x in home}
        group = None
        if not is_head(n):
            group = _join(n, r, needs, out, home, depends)
        elif n.op.name in REDUCE:
            group = _beside(n, r, needs, out, depends)
        if group is None:
            group = Group(shape_of(n), [], n if is_head(n) else None, closed=is_head(n) and n.op.name not in OPEN_HEADS)
            out.append(group)
            before[group] = set()
        group.members.append(n)
        home[n] = group
        group.reads.update(x for x in (*r.here, *r.elsewhere) if home.get(x) is not group)
        added = {g for d in needs if d is not group for g in (d, *before[d])} - before[group]
        if added:
            for g in out:
                if depends(g, group):
                    before[g] |= added
    return _sorted(out, before), stored, reads


def _join(n: Node, r: Reads, needs: set[Group], out: list[Group], home: dict[Node, Group], depends: Callable[[Group, Group], bool]) -> Group | None:
    """An open group of n's shape that n can join: it is among those n reads, or reads what n reads; and joining makes no cycle."""
    inputs = {*r.here, *r.elsewhere}
    for g in reversed(out):
        if g.closed or g.space != shape_of(n) or not (g in needs or not g.space or inputs & g.reads):
            continue
        if any(home.get(x) is g for x in r.elsewhere):
            continue
        if any(d is not g and depends(d, g) for d in needs):
            continue
        if len(g.reads | inputs) + len(g.members) <= MAX_BUFFERS or not g.space:
            return g
    return None


def _beside(n: Node, r: Reads, needs: set[Group], out: list[Group], depends: Callable[[Group, Group], bool]) -> Group | None:
    """A reduction over the same axes of the same shape that reads something of what n reads: one sweep serves both."""
    inputs = {*r.here, *r.elsewhere}
    for g in reversed(out):
        h = g.head
        if h is None or h.op.name not in REDUCE or (h.type, h.attrs["axes"], shape_of(h.inputs[0])) != (n.type, n.attrs["axes"], shape_of(n.inputs[0])):
            continue
        if inputs & g.reads and not any(depends(d, g) for d in needs) and len(g.reads | inputs) + len(g.members) <= MAX_BUFFERS:
            return g
    return None


def _sorted(out: list[Group], before: dict[Group, set[Group]]) -> list[Group]:
    """In an order that respects `before`, otherwise as found."""
    rank = {g: k for k, g in enumerate(out)}
    done: dict[Group, None] = {}
    for g in out:                                       # `before` is transitive: who has fewer before it may run first
        done.update(dict.fromkeys(sorted(before[g] - done.keys(), key=lambda x: (len(before[x]), rank[x]))))
        done[g] = None
    return list(done)

