"""Constant folding: a node all of whose inputs are constants becomes one, by its own NumPy meaning.

A splat (one number for every element) stays a splat: an elementwise op of splats is one, and so is any movement of one, whatever its size. Other results
are folded only where they are small, since a constant is memory and text.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from ..core import half
from ..core.dtype import from_numpy
from ..core.errors import GraphError
from ..core.types import TensorType
from ..ir.node import Graph, Node
from ..ir.rewrite import rewrite
from ..ir.walk import substitute
from ..ops.branch import branches_of, chosen, cond
from ..ops.call import barrier
from ..ops.leaf import const
from ..ops.tuples import get

LARGEST_RESULT = 64                                     # elements
LARGEST_OPERAND = 4096
ELEMENTWISE = frozenset({"unary", "binary", "compare", "select", "cast"})
MOVES = frozenset({"reshape", "permute", "broadcast", "slice", "flip"})
FAMILIES = ELEMENTWISE | {"movement", "reduce", "contract", "index"}


def fold(graph: Graph) -> Graph:
    """Evaluate what can be evaluated now."""
    return rewrite(graph, (), also=fold_node)


def fold_node(n: Node) -> Node | None:
    """The constant that a node is, or None."""
    if not n.inputs:
        return const(value=np.int64(n.attrs["dim"]), shape=(), dtype=n.tensor.dtype) if n.op.name == "size" and isinstance(n.attrs["dim"], int) else None
    if n.op is get and n.inputs[0].op is cond and n.inputs[0].inputs[0].op is const:
        return _taken(n.inputs[0], n.attrs["index"])
    if n.op is barrier:
        return n.inputs[0] if n.inputs[0].op is const else None         # a number needs no keeping
    for i in n.inputs:
        if i.op is not const:
            return None
    if n.op.family not in FAMILIES or not isinstance(n.type, TensorType):
        return None
    values = [np.asarray(i.attrs["value"]) for i in n.inputs]
    if all(v.ndim == 0 for v in values):
        if n.op.family in ELEMENTWISE:
            return _constant(n, values)
        if n.op.name in MOVES or (n.op.name in ("concat", "pad") and _all_same(n, values)):
            return const(value=n.inputs[0].attrs["value"], shape=n.type.shape, dtype=n.type.dtype)
    if not n.type.is_static or not all(i.tensor.is_static for i in n.inputs):
        return None
    if n.op.name == "broadcast":                        # an index of what is there; and a kernel that sums over it is the one of a symbolic size
        return None
    if _elements(n.type) > LARGEST_RESULT or any(_elements(i.tensor) > LARGEST_OPERAND for i in n.inputs):
        return None
    return _constant(n, [np.broadcast_to(v, i.tensor.static_shape) for v, i in zip(values, n.inputs)])


def _taken(n: Node, item: int) -> Node:
    """A result of the branch that is always taken, inlined."""
    branches = branches_of(n.attrs)
    branch = branches[chosen(n.inputs[0].attrs["value"], len(branches))]
    return substitute((branch.outputs[item],), dict(zip(branch.inputs, n.inputs[1:])))[0]


def _constant(n: Node, values: list[np.ndarray[Any, Any]]) -> Node | None:
    """n's meaning on these values; None where it refuses them (an index out of range: the step says so when it runs)."""
    try:
        with np.errstate(all="ignore"):
            value = np.array(n.op.numpy(*values, **n.attrs))
    except GraphError:
        return None
    t = n.tensor
    assert from_numpy(value.dtype) is t.dtype, f"{n.op} gave {value.dtype}, its type says {t}"
    if value.ndim == 0:
        return const(value=value[()], shape=t.shape, dtype=t.dtype)
    value.flags.writeable = False
    return const(value=value, shape=t.shape, dtype=t.dtype)


def _all_same(n: Node, values: list[np.ndarray[Any, Any]]) -> bool:
    """Whether what is put together is one number everywhere, bit by bit."""
    parts = [v.tobytes() for v in values]
    if n.op.name == "pad":
        parts.append(half.scalar(n.attrs["value"], n.tensor.dtype).tobytes())
    return len(set(parts)) == 1


def _elements(t: TensorType) -> int:
    return int(np.prod(t.static_shape, dtype=np.int64))
