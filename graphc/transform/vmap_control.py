"""Batching of control flow. A loop stays one loop over the steps, with the examples inside; a choice that the examples make apart computes every branch."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..core.dims import Size
from ..core.dtype import i64
from ..ir.node import Graph, Node
from ..ops import movement
from ..ops.branch import attributes, branches_of, cond
from ..ops.control import scan
from ..ops.elementwise import cast, le, lt, where
from ..ops.leaf import input_, iota, splat
from ..ops.loop import while_
from ..ops.reduce import reduce_max
from ..ops.tuples import get

Results = tuple[tuple[Node, bool], ...]                 # of an op with several results: each with or without the batch axis
Push = Callable[[Sequence[Node], Mapping[Node, Node], Size, Mapping[Node, Node]], Results]     # batching itself: `vmap.push`
Body = Callable[[Node, tuple[Node, ...], tuple[bool, ...], Size, Push], Results]


def spread(x: Node, n: Size) -> Node:
    """x for each of n examples."""
    return movement.broadcast(x, shape=(n, *x.tensor.shape), axes=(0,))


def to_front(x: Node, axis: int) -> Node:
    """x with that axis first."""
    return x if axis == 0 else movement.permute(x, axes=(axis, *(a for a in range(x.tensor.rank) if a != axis)))


def from_front(x: Node, axis: int) -> Node:
    """x with its first axis at that place."""
    rest = list(range(1, x.tensor.rank))
    return x if axis == 0 else movement.permute(x, axes=(*rest[:axis], 0, *rest[axis:]))


def _given(body: Graph, each: Sequence[bool], n: Size) -> list[Node]:
    """Leaves for a body, those of `each` with the batch axis."""
    return [input_(name=i.attrs["name"], shape=(n, *i.tensor.shape) if m else i.tensor.shape, dtype=i.tensor.dtype) for i, m in zip(body.inputs, each)]


def _pushed(outputs: Sequence[Node], leaves: Sequence[Node], given: Sequence[Node], each: Sequence[bool], n: Size, push: Push) -> Results:
    """The outputs, where the leaves are what is given."""
    pairs = list(zip(leaves, given, each, strict=True))
    return push(outputs, {i: x for i, x, m in pairs if m}, n, {i: x for i, x, m in pairs if not m})


def _as(results: Results, each: Sequence[bool], n: Size) -> tuple[Node, ...]:
    """The results, those of `each` with the batch axis."""
    return tuple(spread(o, n) if e and not m else o for (o, m), e in zip(results, each))


def chosen(which: Node, a: Node, b: Node) -> Node:
    """For each example a where its bool says so, else b."""
    return where(movement.broadcast(which, shape=a.tensor.shape, axes=tuple(range(1, a.tensor.rank))), a, b)


def cond_(node: Node, inputs: tuple[Node, ...], moving: tuple[bool, ...], n: Size, push: Push) -> Results:
    """One branch for all, batched. Where each example has an index of its own, every branch for all examples, of which each takes its own."""
    branches, (which, *given), (apart, *each) = branches_of(node.attrs), inputs, moving
    if apart:
        done = [_as(out, [True] * len(out), n) for out in (_pushed(b.outputs, b.inputs, given, each, n, push) for b in branches)]
        results = list(done[-1])
        for k in reversed(range(len(branches) - 1)):
            here = le(which, splat(k, which))
            results = [chosen(here, a, b) for a, b in zip(done[k], results)]
        return tuple((r, True) for r in results)
    leaves = [_given(b, each, n) for b in branches]
    outs = [_pushed(b.outputs, b.inputs, xs, each, n, push) for b, xs in zip(branches, leaves)]
    late = [any(out[k][1] for out in outs) for k in range(len(outs[0]))]
    graphs = [Graph(tuple(xs), _as(out, late, n), name=b.name) for b, xs, out in zip(branches, leaves, outs)]
    new = cond(which, *given, **attributes(graphs))
    return tuple((get(new, index=k), m) for k, m in enumerate(late))


def _settled(body: Graph, carries: int, each: list[bool], n: Size, push: Push) -> tuple[list[Node], Results]:
    """Leaves and outputs of a loop's body. A carry has the batch axis if it starts so or, a step later, has become so: `each` says so then."""
    while True:
        leaves = _given(body, each, n)
        outs = _pushed(body.outputs, body.inputs, leaves, each, n, push)
        late = [k for k in range(carries) if outs[k][1] and not each[k]]
        if not late:
            return leaves, outs
        for k in late:
            each[k] = True


def scan_(node: Node, inputs: tuple[Node, ...], moving: tuple[bool, ...], n: Size, push: Push) -> Results:
    """One loop over the steps, its body batched."""
    body: Graph = node.attrs["body"]
    carries, xs, each = node.attrs["carries"], node.attrs["xs"], list(moving)
    apart = node.attrs.get("bounded", False) and moving[carries + xs]   # each example makes steps of a number of its own
    if apart:
        each[:carries] = [True] * carries
    leaves, outs = _settled(body, carries, each, n, push)
    out_each = [each[k] if k < carries else m for k, (_, m) in enumerate(outs)]
    results = _as(outs, out_each, n)
    operands = [spread(i, n) if e and not m else i for i, m, e in zip(inputs, moving, each)]
    for k in range(carries, carries + xs):
        if moving[k]:
            operands[k] = from_front(operands[k], 1)                    # the steps first, then the examples
    if apart:                                                           # as many steps as the longest, in which those that are through stand still
        counts, most, length = operands[carries + xs], leaves[carries + xs], node.attrs["length"]
        t, longest = (input_(name=name, shape=(), dtype=i64) for name in ("t", "longest"))
        here = lt(movement.broadcast(t, shape=(n,), axes=(0,)), most)
        results = (*(chosen(here, new, old) for new, old in zip(results[:carries], leaves)), *results[carries:])
        leaves[carries + xs:carries + xs] = [t, longest]
        operands[carries + xs:carries + xs] = [iota(shape=(length,), dtype=i64, axis=0), reduce_max(counts, axes=(0,))]
        xs += 1
    new = scan(*operands, **{**node.attrs, "body": Graph(tuple(leaves), results, name=body.name), "xs": xs})
    return tuple((to_front(item, 1) if e and k >= carries else item, e)
                 for k, e in enumerate([*out_each, *each[:carries]]) for item in (get(new, index=k),))


def while_loop(node: Node, inputs: tuple[Node, ...], moving: tuple[bool, ...], n: Size, push: Push) -> Results:
    """One loop for all examples: until the last is through, and the others stand still meanwhile."""
    body, test, carries, each = node.attrs["body"], node.attrs["cond"], node.attrs["carries"], list(moving)
    while True:
        leaves, outs = _settled(body, carries, each, n, push)
        ((goes_on, apart),) = _pushed(test.outputs, test.inputs, leaves, each, n, push)
        if not apart or all(each[:carries]):
            break
        each[:carries] = [True] * carries
    results, operands, total = _as(outs, each[:carries], n), [spread(i, n) if e and not m else i for i, m, e in zip(inputs, moving, each)], carries
    question = goes_on
    if apart:                                                           # a carry more: how many turns each example makes
        count = input_(name="turns", shape=(n,), dtype=i64)
        results = (*(chosen(goes_on, new, old) for new, old in zip(results, leaves)), count + cast(goes_on, dtype=i64))
        question, total = reduce_max(goes_on, axes=(0,)), carries + 1
        leaves[carries:carries] = [count]
        operands[carries:carries] = [splat(0, count)]
    new = while_(*operands, **{**node.attrs, "body": Graph(tuple(leaves), results, name=body.name), "carries": total,
                               "cond": Graph(tuple(leaves), (question,), name=test.name)})
    out = [(get(new, index=k), each[k]) for k in range(carries)]
    if node.attrs.get("max_steps") is not None:
        out += [(to_front(get(new, index=total + k), 1) if each[k] else get(new, index=total + k), each[k]) for k in range(carries)]
    turns = carries if apart else total if node.attrs.get("max_steps") is None else 2 * total
    return (*out, (get(new, index=turns), apart))
