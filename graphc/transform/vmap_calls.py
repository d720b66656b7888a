"""Batching of calls: the body for all examples, and the rule for all examples."""
from __future__ import annotations

from collections.abc import Sequence

from ..core.dims import Size
from ..ir.node import Graph, Node
from ..ops.call import smooth
from ..ops.leaf import input_
from ..ops.reduce import reduce_sum
from ..ops.tuples import get
from .vmap_control import Push, Results, spread


def _batched(graph: Graph, moving: Sequence[bool], n: Size, push: Push) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    """The inputs of a closed graph, batched where they move, and its outputs for all examples."""
    leaves = [input_(name=i.attrs["name"], shape=(n, *i.tensor.shape) if m else i.tensor.shape, dtype=i.tensor.dtype) for i, m in zip(graph.inputs, moving)]
    pairs = list(zip(graph.inputs, leaves, moving))
    outs = push(graph.outputs, {i: x for i, x, m in pairs if m}, n, {i: x for i, x, m in pairs if not m})
    return tuple(leaves), tuple(o if each else spread(o, n) for o, each in outs)


def call_(node: Node, inputs: tuple[Node, ...], moving: tuple[bool, ...], n: Size, push: Push) -> Results:
    """Body and rule batched. What the rule says of an operand that is the same for all is summed over the examples."""
    attrs = dict(node.attrs)
    attrs["body"] = Graph(*_batched(attrs["body"], moving, n, push), name=attrs["body"].name)
    floating = [m for i, m in zip(node.inputs, moving) if smooth(i.type)]
    if (forward := attrs.get("forward")) is not None:
        attrs["forward"] = Graph(*_batched(forward, (*moving, *floating), n, push), name=forward.name)
    if (backward := attrs.get("backward")) is not None:
        leaves, cts = _batched(backward, (True,) * len(backward.inputs), n, push)
        attrs["backward"] = Graph(leaves, tuple(c if m else reduce_sum(c, axes=(0,)) for c, m in zip(cts, floating)), name=backward.name)
    new = node.op(*inputs, **attrs)
    return tuple((get(new, index=k), True) for k in range(len(attrs["body"].outputs)))
