"""A choice as one node: closed branches of one type, of which one runs. `where` computes both sides and chooses element by element; this does not."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..core.dtype import f64, i64
from ..core.errors import GraphError
from ..core.types import TensorType, TupleType, Type
from ..ir.node import Graph, Node
from ..ir.op import Op, Sample, register
from ..ir.walk import substitute
from .check import Array
from .leaf import input_, splat
from .tuples import get


def branches_of(attrs: Mapping[str, Any]) -> tuple[Graph, ...]:
    """The branches among a node's attributes, in the order of their numbers."""
    return tuple(attrs[f"branch{k}"] for k in range(len(attrs)))


def attributes(branches: Sequence[Graph]) -> dict[str, Graph]:
    """The inverse of `branches_of`."""
    return {f"branch{k}": b for k, b in enumerate(branches)}


def _cond_type(index: Type, *types: Type, **branches: Graph) -> TupleType:
    """What every branch returns."""
    if index != TensorType((), i64):
        raise GraphError(f"cond chooses by one i64, got {index}")
    if not branches or set(branches) != {f"branch{k}" for k in range(len(branches))}:
        raise GraphError(f"cond: the branches are branch0, branch1, ..., got {', '.join(sorted(branches)) or 'none'}")
    first, *others = branches_of(branches)
    for k, b in enumerate((first, *others)):
        if b.states or b.effects:
            raise GraphError("cond: a branch has states or effects of its own", fix="return what they become")
        if tuple(i.type for i in b.inputs) != types:
            raise GraphError(f"cond: branch {k} takes ({', '.join(str(i.type) for i in b.inputs)}), and is given ({', '.join(map(str, types))})")
        if [o.type for o in b.outputs] != [o.type for o in first.outputs]:
            raise GraphError(f"cond: branch {k} returns ({', '.join(str(o.type) for o in b.outputs)}), "
                             f"branch 0 ({', '.join(str(o.type) for o in first.outputs)})")
    return TupleType(tuple(o.type for o in first.outputs))


def _cond(index: Array, *arrays: Array, evaluate: Callable[[Graph, Sequence[Array]], list[Array]], **branches: Graph) -> tuple[Array, ...]:
    return tuple(evaluate(branches_of(branches)[chosen(index, len(branches))], arrays))


def chosen(index: Any, count: int) -> int:
    """The number of the branch that runs: an index outside is that of the nearest."""
    return max(0, min(int(index), count - 1))


def _cond_vjp(g: tuple[Node | None, ...], y: Node, index: Node, *operands: Node, pullback: Callable[..., tuple[Node, ...]],
              **branches: Graph) -> tuple[Node | None, ...]:
    """The same choice among the branches' own reverse modes. They compute again what they need of the way there (decision 018)."""
    smooth = [k for k, x in enumerate(operands) if x.tensor.dtype.is_inexact]
    given = [k for k, ct in enumerate(g) if ct is not None]
    back = []
    for b in branches_of(branches):
        before = [_leaf(i.attrs["name"], i.tensor) for i in b.inputs]
        cts = [_leaf(f"d_y{k}", b.outputs[k].tensor.cotangent) for k in given]
        outs = substitute([b.outputs[k] for k in given], dict(zip(b.inputs, before)))
        back.append(Graph((*before, *cts), pullback(outs, cts, [before[k] for k in smooth]), name=f"{b.name}_backward"))
    if not smooth:
        return (None,) * (1 + len(operands))
    out = cond(index, *operands, *(ct for ct in g if ct is not None), **attributes(back))
    result: list[Node | None] = [None] * (1 + len(operands))
    for at, k in enumerate(smooth):
        result[1 + k] = get(out, index=at)
    return tuple(result)


def _leaf(name: str, t: TensorType) -> Node:
    return input_(name=name, shape=t.shape, dtype=t.dtype)


def _samples(rng: np.random.Generator) -> list[Sample]:
    """x * y and x, or x * x and a number, or y * y * y and y: by 0, 1, and what is above."""
    def branch(name: str, f: Callable[[Node, Node], tuple[Node, ...]]) -> Graph:
        x, y = (input_(name=n, shape=(2,), dtype=f64) for n in ("x", "y"))
        return Graph((x, y), f(x, y), name=name)
    three = attributes([branch("both", lambda x, y: (x * y, x)), branch("first", lambda x, y: (x * x, splat(1.5, x))),
                        branch("second", lambda x, y: (y * y * y, y))])
    return [([np.asarray(k), rng.standard_normal(2), rng.standard_normal(2)], three) for k in (0, 1, 7, -3)]


_doc = "One of several closed branches, by its number; the first or the last where there is none of it"
cond: Op = register(Op("cond", "control", _cond_type, _cond, _cond_vjp, _doc, _samples, engine=True))
