"""Random graphs for fuzzing: small, valid, differentiable almost everywhere, and the same for the same seed on every machine."""
from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.dtype import DType, f32, i64
from ..ir.node import Graph, Node, State
from ..ops import branch, contract, control, elementwise, loop, movement, reduce
from ..ops.leaf import input_, splat
from ..ops.tuples import get
from ..transform.pipeline import random_inputs

__all__ = ["CONTROL", "KINDS", "random_graph", "random_inputs"]

KINDS = ("unary", "binary", "number", "move", "reduce", "contract", "select")
CONTROL = ("scan", "cond", "while")                     # these hold graphs of their own; ask for them: kinds=(*KINDS, *CONTROL)
SIZES = (1, 2, 3, 5)
UNARY = (elementwise.neg, elementwise.tanh, elementwise.sin, elementwise.cos, elementwise.erf, elementwise.atan, elementwise.abs_)
BINARY = (elementwise.add, elementwise.sub, elementwise.mul, elementwise.maximum, elementwise.minimum)
REDUCE = (reduce.reduce_sum, reduce.reduce_max, reduce.reduce_min)
NUMBERS = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0)              # those that the rewrite rules know


def random_graph(seed: int, n: int = 12, *, dtype: DType = f32, kinds: Sequence[str] = KINDS) -> Graph:
    """A graph of about n random operations on two inputs and a state: elementwise, movement, reductions, contractions.

    Values stay of moderate size: what grows is squashed. All leaves are of `dtype`, ranks 0 to 3.
    """
    rng = random.Random(seed)
    shape = tuple(rng.choice(SIZES) for _ in range(rng.randint(1, 3)))
    a, b, w = (input_(name=name, shape=shape, dtype=dtype) for name in ("a", "b", "w"))
    pool = [a, b, w]
    makers = {"unary": _unary, "binary": _binary, "number": _number, "move": _move, "reduce": _reduce, "contract": _contract, "select": _select,
              "scan": _scan, "cond": _cond, "while": _while}
    for _ in range(n):
        pool.append(makers[rng.choice(kinds)](rng, pool))
    sinks = tuple(pool[-rng.randint(1, 3):])
    new = elementwise.tanh(rng.choice([p for p in pool if p.type == w.type]))
    return Graph((a, b), sinks, (State("w", w, new),), name=f"random_{seed}")


def _count(x: Node) -> int:
    return int(np.prod(x.tensor.static_shape, dtype=np.int64))


def _unary(rng: random.Random, pool: list[Node]) -> Node:
    return rng.choice(UNARY)(rng.choice(pool))


def _mate(rng: random.Random, pool: list[Node], x: Node) -> Node:
    """Another node of x's type, or a constant."""
    return rng.choice([*(p for p in pool if p.type == x.type), splat(rng.choice(NUMBERS), x)])


def _binary(rng: random.Random, pool: list[Node]) -> Node:
    x = rng.choice(pool)
    pair = [x, _mate(rng, pool, x)]
    rng.shuffle(pair)
    return rng.choice(BINARY)(*pair)


def _number(rng: random.Random, pool: list[Node]) -> Node:
    """Arithmetic with a number: what rules simplify."""
    x = rng.choice(pool)
    op = rng.choice((elementwise.add, elementwise.sub, elementwise.mul, elementwise.pow_, elementwise.div))
    if op is elementwise.pow_:
        return op(x, splat(rng.choice((1.0, 2.0, 3.0)), x))
    return op(x, splat(rng.choice((1.0, 2.0, -0.5)) if op is elementwise.div else rng.choice(NUMBERS), x))


def _select(rng: random.Random, pool: list[Node]) -> Node:
    x = rng.choice(pool)
    y = _mate(rng, pool, x)
    return elementwise.where(elementwise.lt(x, y), elementwise.tanh(x), _mate(rng, pool, x))


def _move(rng: random.Random, pool: list[Node]) -> Node:
    x = rng.choice(pool)
    shape, rank = x.tensor.static_shape, x.tensor.rank
    kind = rng.choice(("reshape", "permute", "broadcast", "slice", "pad", "flip", "concat"))
    if kind == "permute":
        return movement.permute(x, axes=tuple(rng.sample(range(rank), rank)))
    if kind == "broadcast" and rank < 3:
        at = rng.randint(0, rank)
        return movement.broadcast(x, shape=(*shape[:at], rng.choice(SIZES), *shape[at:]), axes=(at,))
    if kind == "slice" and rank:
        starts = tuple(rng.randrange(s) for s in shape)
        stops = tuple(rng.randint(p + 1, s) for p, s in zip(starts, shape))
        return movement.slice_(x, starts=starts, stops=stops, steps=tuple(rng.randint(1, 2) for _ in shape))
    if kind == "pad" and rank and _count(x) < 200:
        return movement.pad(x, lo=tuple(rng.randint(0, 1) for _ in shape), hi=tuple(rng.randint(0, 1) for _ in shape), value=rng.choice((0.0, 1.5)))
    if kind == "flip" and rank:
        return movement.flip(x, axes=tuple(sorted(rng.sample(range(rank), rng.randint(1, rank)))))
    if kind == "concat" and rank and _count(x) < 200:
        return movement.concat(x, _mate(rng, pool, x), axis=rng.randrange(rank))
    flat = _count(x)
    first = rng.choice([k for k in range(1, flat + 1) if flat % k == 0])
    return movement.reshape(x, shape=rng.choice(((flat,), (first, flat // first))))


def _reduce(rng: random.Random, pool: list[Node]) -> Node:
    x = rng.choice(pool)
    axes = tuple(sorted(rng.sample(range(x.tensor.rank), rng.randint(0, x.tensor.rank))))
    return rng.choice(REDUCE)(x, axes=axes)


def _contract(rng: random.Random, pool: list[Node]) -> Node:
    """x with itself or a mate, over one axis, squashed; the other axes free, or the first a batch."""
    x = rng.choice(pool)
    y: Any = _mate(rng, pool, x)
    rank = x.tensor.rank
    if not rank or (rank == 3 and x.tensor.size > 60):
        return elementwise.sin(x)
    if rank == 3:
        out = contract.contract(x, y, contracting=((1,), (1,)), batch=((0,), (0,)))
    else:
        axis = rng.randrange(rank)
        y = movement.permute(y, axes=tuple(reversed(range(rank))))
        out = contract.contract(x, y, contracting=((axis,), (rank - 1 - axis,)), batch=((), ()))
    return elementwise.tanh(out)


# ---- loops and branches: elementwise bodies on a node and a mate of its type -----------------------------------------------------------


def _body(rng: random.Random, *like: Node) -> tuple[tuple[Node, ...], Node]:
    """Leaves of those types, and something of the first one's type made of them; the values stay small."""
    leaves = tuple(input_(name=f"x{k}", shape=x.tensor.shape, dtype=x.tensor.dtype) for k, x in enumerate(like))
    pool = list(leaves)
    for _ in range(rng.randint(1, 4)):
        pool.append(rng.choice((_unary, _binary, _number, _select))(rng, pool))
    return leaves, elementwise.tanh(rng.choice([p for p in pool if p.type == leaves[0].type]))


def _total(x: Node) -> Node:
    return reduce.reduce_sum(x, axes=tuple(range(x.tensor.rank)))


def _scan(rng: random.Random, pool: list[Node]) -> Node:
    """A carry and what stays, over the rows of anything; the last carry, or all of them added up."""
    x = rng.choice(pool)
    rows = [p for p in pool if p.tensor.rank]
    if not rows:
        return elementwise.sin(x)
    xs = rng.choice(rows)
    (c, y), new = _body(rng, x, _mate(rng, pool, x))
    row = input_(name="row", shape=xs.tensor.shape[1:], dtype=x.tensor.dtype)
    new = new + movement.broadcast(elementwise.tanh(_total(row)), shape=x.tensor.shape, axes=tuple(range(x.tensor.rank)))
    out = control.scan(x, xs, _mate(rng, pool, x), body=Graph((c, row, y), (new, elementwise.sin(c)), name="body"), carries=1, xs=1,
                       length=xs.tensor.shape[0], reverse=rng.random() < 0.5)
    return get(out, index=0) if rng.random() < 0.5 else elementwise.tanh(reduce.reduce_sum(get(out, index=1), axes=(0,)))


def _cond(rng: random.Random, pool: list[Node]) -> Node:
    x, count = rng.choice(pool), rng.randint(2, 3)
    y = _mate(rng, pool, x)
    total = _total(x)
    which = elementwise.cast(elementwise.lt(total, splat(0.0, total)), dtype=i64) + elementwise.cast(elementwise.lt(total, splat(1.0, total)), dtype=i64)
    bodies = [_body(rng, x, y) for _ in range(count)]
    graphs = [Graph(leaves, (new,), name=f"branch{k}") for k, (leaves, new) in enumerate(bodies)]
    return get(branch.cond(which, x, y, **branch.attributes(graphs)), index=0)


def _while(rng: random.Random, pool: list[Node]) -> Node:
    """At most four turns, and fewer once the carry's sum is small."""
    x, most = rng.choice(pool), rng.randint(0, 4)
    (c, y), new = _body(rng, x, _mate(rng, pool, x))
    total = _total(c)
    test = elementwise.lt(splat(0.1, total), total)
    return get(loop.while_(x, _mate(rng, pool, x), cond=Graph((c, y), (test,), name="test"), body=Graph((c, y), (new,), name="turn"), carries=1,
                           max_steps=most), index=0)
