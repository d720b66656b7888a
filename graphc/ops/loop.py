"""A loop that says itself when it is over, as one node: closed graphs for the question and for a turn."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..core.dtype import bool_, f64, i64
from ..core.errors import GraphError
from ..core.types import TensorType, TupleType, Type
from ..ir.node import Graph, Node
from ..ir.op import Op, Sample, register
from .check import Array, tensor
from .control import scan_vjp
from .elementwise import lt
from .leaf import input_, splat
from .reduce import reduce_sum
from .tuples import get


def _while_type(*types: Type, cond: Graph, body: Graph, carries: int, max_steps: int | None = None) -> TupleType:
    """The carries'; with `max_steps` the carries' with that in front; an i64."""
    for what, g in (("cond", cond), ("body", body)):
        if g.states or g.effects:
            raise GraphError(f"while: {what} has states or effects of its own", fix="make them carries")
        if tuple(i.type for i in g.inputs) != types:
            raise GraphError(f"while: {what} takes ({', '.join(str(i.type) for i in g.inputs)}), and is given ({', '.join(map(str, types))})")
    if [o.type for o in cond.outputs] != [TensorType((), bool_)]:
        raise GraphError(f"while: cond returns one bool, got ({', '.join(str(o.type) for o in cond.outputs)})")
    init = tuple(tensor("while", t) for t in types[:carries])
    for k, (a, b) in enumerate(zip(init, (o.type for o in body.outputs), strict=True)):
        if a != b:
            raise GraphError(f"while: carry {k} starts as {a} and becomes {b}", fix="give the first value the shape and dtype that the body returns")
    histories = () if max_steps is None else tuple(TensorType((max_steps, *t.shape), t.dtype) for t in init)
    return TupleType((*init, *histories, TensorType((), i64)))


def _while(*arrays: Array, cond: Graph, body: Graph, carries: int, max_steps: int | None = None,
           evaluate: Callable[[Graph, Sequence[Array]], list[Array]]) -> tuple[Array, ...]:
    carry, consts = list(arrays[:carries]), arrays[carries:]
    histories = [] if max_steps is None else [np.zeros((max_steps, *c.shape), c.dtype) for c in carry]
    turns = 0
    while (max_steps is None or turns < max_steps) and evaluate(cond, [*carry, *consts])[0]:
        for h, c in zip(histories, carry):
            h[turns] = c
        carry = evaluate(body, [*carry, *consts])
        turns += 1
    return (*carry, *histories, np.asarray(turns, np.int64))


def _while_vjp(g: tuple[Node | None, ...], y: Node, *operands: Node, cond: Graph, body: Graph, carries: int, max_steps: int | None = None,
               pullback: Callable[..., tuple[Node, ...]]) -> tuple[Node | None, ...]:
    """Once it is over, a loop of as many turns as it took: the scan whose reverse mode we know, over the carries' histories."""
    if max_steps is None:
        raise GraphError("while_loop has no reverse mode without max_steps", op="while_loop",
                         why="the carries of every turn are needed again, and how many turns there will be is known only when it runs",
                         fix="while_loop(..., max_steps=N), or forward mode (gx.jvp, gx.jacfwd), or fori_loop with Python integers")
    turns = input_(name="turns", shape=(), dtype=i64)
    turn = Graph((*body.inputs[:carries], turns, *body.inputs[carries:]), body.outputs, name=body.name)
    count = get(y, index=2 * carries)
    out = scan_vjp(g[:2 * carries], y, *operands[:carries], count, *operands[carries:], body=turn, carries=carries, xs=0, length=max_steps, bounded=True,
                   pullback=pullback)
    return (*out[:carries], *out[carries + 1:])


def _samples(rng: np.random.Generator) -> list[Sample]:
    """x ← x * w and n ← n + 1 while the sum of x is less than 9, which is three turns or four, of which two are made."""
    x, n, w = input_(name="x", shape=(2,), dtype=f64), input_(name="n", shape=(), dtype=i64), input_(name="w", shape=(2,), dtype=f64)
    total = reduce_sum(x, axes=(0,))
    test = Graph((x, n, w), (lt(total, splat(9.0, total)),), name="test")
    turn = Graph((x, n, w), (x * w, n + 1), name="turn")
    arrays = [rng.uniform(0.5, 1.0, 2), np.asarray(0), rng.uniform(1.9, 2.0, 2)]
    return [(arrays, {"cond": test, "body": turn, "carries": 2, "max_steps": 2})]


_doc = "body on the carries while cond holds, `max_steps` times at most. Gives (last carries, with `max_steps` the carries before each turn, how many turns)"
while_: Op = register(Op("while", "control", _while_type, _while, _while_vjp, _doc, _samples, engine=True))
