"""Contraction (dot-general): matrix product, batched, over any axes. The one op that multiplies and adds at once."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..core.errors import GraphError
from ..core.types import TensorType, Type
from ..ir.node import Node
from ..ir.op import REGISTRY, Op, register
from .check import Array, computed, distinct_axes, draws, several, tensor

Pair = tuple[tuple[int, ...], tuple[int, ...]]


def free_axes(rank: int, *taken: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that are neither batch nor contracted, in order."""
    return tuple(a for a in range(rank) if not any(a in t for t in taken))


def _contract_type(a: Type, b: Type, *, contracting: Pair, batch: Pair) -> TensorType:
    """The batch axes, the free axes of a, the free axes of b."""
    a, b = computed("contract", tensor("contract", a)), computed("contract", tensor("contract", b))
    if a.dtype is not b.dtype:
        raise GraphError(f"contract needs equal dtypes, got {a} and {b}", fix=".astype(...) one of them")
    for t, axes in ((a, (*contracting[0], *batch[0])), (b, (*contracting[1], *batch[1]))):
        distinct_axes("contract", axes, t.rank)
    for kind, (left, right) in (("inner", contracting), ("batch", batch)):
        if len(left) != len(right) or any(a.shape[i] != b.shape[j] for i, j in zip(left, right)):
            raise GraphError(f"contract needs equal {kind} sizes, got {a} along {left} and {b} along {right}")
    shape = [a.shape[i] for i in batch[0]]
    shape += [a.shape[i] for i in free_axes(a.rank, contracting[0], batch[0])]
    shape += [b.shape[j] for j in free_axes(b.rank, contracting[1], batch[1])]
    return TensorType(tuple(shape), a.dtype)


def _contract(a: Array, b: Array, *, contracting: Pair, batch: Pair) -> Array:
    fa, fb = free_axes(a.ndim, contracting[0], batch[0]), free_axes(b.ndim, contracting[1], batch[1])
    lead = [a.shape[i] for i in batch[0]]
    m, n, k = [a.shape[i] for i in fa], [b.shape[j] for j in fb], [a.shape[i] for i in contracting[0]]
    left = a.transpose([*batch[0], *fa, *contracting[0]]).reshape([*lead, _size(m), _size(k)])
    right = b.transpose([*batch[1], *contracting[1], *fb]).reshape([*lead, _size(k), _size(n)])
    return np.asarray(np.matmul(left, right).reshape([*lead, *m, *n]))


def _size(ns: list[int]) -> int:
    return int(np.prod(ns, dtype=np.int64))


def _contract_vjp(g: Node, y: Node, a: Node, b: Node, *, contracting: Pair, batch: Pair) -> tuple[Node, Node]:
    """da = g·b over b's free axes, db = g·a over a's; then the axes go back to their places."""
    fa, fb = free_axes(a.tensor.rank, contracting[0], batch[0]), free_axes(b.tensor.rank, contracting[1], batch[1])
    nb, na = len(batch[0]), len(fa)
    gb, ga, gn = tuple(range(nb)), tuple(range(nb, nb + na)), tuple(range(nb + na, nb + na + len(fb)))

    def pull(other: Node, mine: tuple[int, ...], theirs: tuple[int, ...], batch_: Pair, free: tuple[int, ...], side: int) -> Node:
        out = contract(g, other, contracting=(theirs, free), batch=(gb, batch_[1 - side]))
        # out's axes: batch, my free ones, then the contracted ones in the other's order
        rest = sorted(contracting[1 - side])
        where_ = [*batch_[side], *mine, *(contracting[side][contracting[1 - side].index(r)] for r in rest)]
        axes = tuple(where_.index(i) for i in range(len(where_)))
        return out if axes == tuple(range(len(axes))) else REGISTRY["permute"](out, axes=axes)

    return pull(b, fa, gn, batch, fb, 0), pull(a, fb, ga, batch, fa, 1)


_PLAIN: dict[str, Any] = {"contracting": ((1,), (0,)), "batch": ((), ())}

contract: Op = register(Op("contract", "contract", _contract_type, _contract, _contract_vjp,
                       "The sum of products over `contracting` pairs of axes; result axes: batch, free of a, free of b",
                       several(draws((3, 4), (4, 5), **_PLAIN), draws((3, 4), (5, 4), contracting=((1,), (1,)), batch=((), ())),
                               draws((4, 3), (4, 5), contracting=((0,), (0,)), batch=((), ())),
                               draws((2, 3, 4), (5, 4, 2), contracting=((2,), (1,)), batch=((0,), (2,))),
                               draws((3, 4, 2), (2, 5, 4), contracting=((1, 2), (2, 0)), batch=((), ())),
                               draws((3,), (3,), contracting=((0,), (0,)), batch=((), ())))))
