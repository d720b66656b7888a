"""Forward mode of calls: of a body that reverse mode computes again the tangents are computed again too; a rule of the user's is what it says it is."""
from __future__ import annotations

from collections.abc import Callable

from ..ir.node import Graph, Node
from ..ops.call import custom_jvp, inlined, remat, smooth
from ..ops.leaf import zeros
from ..ops.tuples import get
from .jvp_control import Push, Tangents, Written, named


def _remat(n: Node, ts: Tangents, push: Push) -> Written:
    """The call of the body with its tangents: reverse mode computes these again too."""
    body: Graph = n.attrs["body"]
    inputs = [named(i.attrs["name"], i.tensor) for i in body.inputs]
    seeds = {i: named(f"d_{i.attrs['name']}", i.tensor.cotangent) for i, t in zip(inputs, ts) if t is not None}
    values, slopes = push(inlined(body, inputs), seeds)
    moving = [k for k, s in enumerate(slopes) if s is not None]
    both = Graph((*inputs, *seeds.values()), (*values, *(s for s in slopes if s is not None)), name=f"{body.name}_forward")
    new = remat(*n.inputs, *(t for t in ts if t is not None), body=both)
    at = {k: len(values) + j for j, k in enumerate(moving)}
    return tuple(get(new, index=k) for k in range(len(values))), tuple(get(new, index=at[k]) if k in at else None for k in range(len(values)))


def _custom_jvp(n: Node, ts: Tangents, push: Push) -> Written:
    """The user's rule."""
    given = [zeros(i) if t is None else t for i, t in zip(n.inputs, ts) if smooth(i.type)]
    slopes = iter(inlined(n.attrs["forward"], [*n.inputs, *given]))
    outs = n.attrs["body"].outputs
    return tuple(get(n, index=k) for k in range(len(outs))), tuple(next(slopes) if smooth(o.type) else None for o in outs)


BODIES: dict[object, Callable[[Node, Tangents, Push], Written]] = {remat: _remat, custom_jvp: _custom_jvp}
