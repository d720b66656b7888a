"""Control flow as graph: a loop is one node that holds its closed body.

A `bounded` scan makes only as many of its `length` steps as its first constant says; rows of its stacked results beyond mean nothing, and nobody reads
them. It is what the reverse mode of a loop that ended early is made of (`loop`).
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..core.dtype import f64, i64
from ..core.errors import GraphError
from ..core.types import TensorType, TupleType, Type
from ..ir.node import Graph, Node
from ..ir.op import Op, Sample, register
from ..ir.walk import substitute
from .check import Array, tensor
from .leaf import input_, zeros
from .tuples import get


def _scan_type(*types: Type, body: Graph, carries: int, xs: int, length: int, reverse: bool = False, bounded: bool = False) -> TupleType:
    """The carries'; the body's other results with `length` in front; the carries' with `length` in front."""
    if bounded and (len(types) <= carries + xs or types[carries + xs] != TensorType((), i64)):
        raise GraphError("scan: a bounded one takes the number of its steps, an i64, behind the slices")
    if len(types) != len(body.inputs):
        raise GraphError(f"scan: the body takes {len(body.inputs)} values, got {len(types)}")
    if body.states or body.effects:
        raise GraphError("scan: the body has states or effects of its own", fix="make them carries")
    for k, (t, leaf) in enumerate(zip(types, body.inputs)):
        t = tensor("scan", t)
        is_x = carries <= k < carries + xs
        if is_x and (not t.shape or t.shape[0] != length):
            raise GraphError(f"scan over {length} steps needs a first axis of {length}, got {t}")
        want = TensorType(t.shape[1:], t.dtype) if is_x else t
        if leaf.type != want:
            raise GraphError(f"scan: the body takes {leaf.type} where it is given {want}")
    init, after = types[:carries], [o.type for o in body.outputs[:carries]]
    for k, (a, b) in enumerate(zip(init, after)):
        if a != b:
            raise GraphError(f"scan: carry {k} starts as {a} and becomes {b}", fix="give the first value the shape and dtype that the body returns")
    stacked = tuple(TensorType((length, *o.tensor.shape), o.tensor.dtype) for o in body.outputs[carries:])
    histories = tuple(TensorType((length, *tensor("scan", t).shape), tensor("scan", t).dtype) for t in init)
    return TupleType((*init, *stacked, *histories))


def _scan(*arrays: Array, body: Graph, carries: int, xs: int, length: int, reverse: bool = False, bounded: bool = False,
          evaluate: Callable[[Graph, Sequence[Array]], list[Array]]) -> tuple[Array, ...]:
    carry, consts = list(arrays[:carries]), arrays[carries + xs:]
    ys = [np.zeros((length, *o.tensor.static_shape), o.tensor.dtype.numpy) for o in body.outputs[carries:]]
    histories = [np.zeros((length, *c.shape), c.dtype) for c in carry]
    steps = range(max(0, min(length, int(arrays[carries + xs]))) if bounded else length)
    for t in reversed(steps) if reverse else steps:
        for h, c in zip(histories, carry):
            h[t] = c
        out = evaluate(body, [*carry, *(x[t] for x in arrays[carries:carries + xs]), *consts])
        carry = out[:carries]
        for y, v in zip(ys, out[carries:]):
            y[t] = v
    return (*carry, *ys, *histories)


def scan_vjp(g: tuple[Node | None, ...], y: Node, *operands: Node, body: Graph, carries: int, xs: int, length: int, reverse: bool = False,
             bounded: bool = False, pullback: Callable[..., tuple[Node, ...]]) -> tuple[Node | None, ...]:
    """The scan run backwards: its carries are the cotangents of the carries and, summed up, of the constants.

    At step t the body's inputs are at hand again: the carries from their history (an extra result of every scan, free where nobody reads it).
    """
    n_ys = len(body.outputs) - carries
    finals, ys, hists = g[:carries], g[carries:carries + n_ys], g[carries + n_ys:]
    smooth = [i.tensor.dtype.is_inexact for i in body.inputs]
    cs = [k for k in range(carries) if smooth[k]]                       # carries, slices and constants that have cotangents
    es = [k for k in range(carries, carries + xs) if smooth[k]]
    ks = [k for k in range(carries + xs, len(operands)) if smooth[k]]
    used_ys = [k for k in range(n_ys) if ys[k] is not None]
    used_hists = [k for k in cs if hists[k] is not None]

    def leaf(name: str, t: TensorType) -> Node:
        return input_(name=name, shape=t.shape, dtype=t.dtype)

    def cotangent(name: str, t: TensorType) -> Node:
        return leaf(name, t.cotangent)

    inner = [i.tensor for i in body.inputs]
    ct_carry = [cotangent(f"d_carry{k}", inner[k]) for k in cs]
    ct_const = [cotangent(f"d_const{k}", inner[k]) for k in ks]
    before = [leaf(f"in{k}", t) for k, t in enumerate(inner)]
    ct_ys = [cotangent(f"d_y{k}", body.outputs[carries + k].tensor) for k in used_ys]
    ct_hists = [cotangent(f"d_history{k}", inner[k]) for k in used_hists]

    outs = substitute(body.outputs, dict(zip(body.inputs, before)))
    wrt = [before[k] for k in (*cs, *es, *ks)]
    pulled = pullback([*(outs[k] for k in cs), *(outs[carries + k] for k in used_ys)], [*ct_carry, *ct_ys], wrt)
    d_cs, d_es, d_ks = pulled[:len(cs)], pulled[len(cs):len(cs) + len(es)], pulled[len(cs) + len(es):]
    from_hist = dict(zip(used_hists, ct_hists))
    d_cs = tuple(d + from_hist[k] if k in from_hist else d for k, d in zip(cs, d_cs))
    back = Graph(inputs=(*ct_carry, *ct_const, *before[:carries + xs], *ct_ys, *ct_hists, *before[carries + xs:]),
                 outputs=(*d_cs, *(c + d for c, d in zip(ct_const, d_ks)), *d_es), name=f"{body.name}_backward")

    def given(item: Node | None, like: Node) -> Node:
        return zeros(like) if item is None else item

    start = [given(finals[k], operands[k]) for k in cs] + [zeros(operands[k]) for k in ks]
    slices = [get(y, index=carries + n_ys + k) for k in range(carries)] + list(operands[carries:carries + xs])
    slices += [v for k in used_ys if (v := ys[k]) is not None] + [v for k in used_hists if (v := hists[k]) is not None]
    out = scan(*start, *slices, *operands[carries + xs:], body=back, carries=len(start), xs=len(slices), length=length, reverse=not reverse, bounded=bounded)
    result: list[Node | None] = [None] * len(operands)
    for at, k in enumerate((*cs, *ks, *es)):
        result[k] = get(out, index=at)
    return tuple(result)


def _samples(rng: np.random.Generator) -> list[Sample]:
    """h ← h * x + w, y = h * h, over 3 steps."""
    h, x, w = (input_(name=n, shape=(2,), dtype=f64) for n in ("h", "x", "w"))
    new = h * x + w
    body = Graph((h, x, w), (new, new * new), name="body")
    arrays = [rng.standard_normal(2), rng.standard_normal((3, 2)), rng.standard_normal(2)]
    return [(arrays, {"body": body, "carries": 1, "xs": 1, "length": 3, "reverse": r}) for r in (False, True)]


_doc = "body over the first axis: carries go round, slices go in, results are stacked. Gives (last carries, stacked results, carries before each step)"
scan: Op = register(Op("scan", "control", _scan_type, _scan, scan_vjp, _doc, _samples, engine=True))

