"""`apply`: the one place where an op meets Tensors. In a trace it makes a node; outside it also evaluates it, by the oracle, at once."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.types import TensorType, TupleType
from ..interp.numpy import evaluate
from ..ir.node import Node
from ..ir.op import Op
from ..ops import tuples
from .storage import Array, check_bytes
from .tape import current, eager
from .tensor import Tensor


def apply(op: Op, *tensors: Tensor, **attrs: Any) -> Tensor:
    """The op on Tensors whose shapes and dtypes fit: a node in a trace, a value outside. Errors of the op's type rule get the user's line."""
    out = apply_several(op, *tensors, **attrs)
    assert isinstance(out, Tensor), op
    return out


def apply_several(op: Op, *tensors: Tensor, **attrs: Any) -> Any:
    """`apply`, where an op with several results gives a tuple of Tensors."""
    tracer = current.tracer
    try:
        return _apply_eager(op, tensors, attrs) if tracer is None else _apply_traced(tracer, op, tensors, attrs)
    except GraphError as e:
        if e.at is None:
            e.at = user_loc()
        if e.op is None:
            e.op = f"{op.name}({', '.join(_label(t) for t in tensors)})"
        raise
    except MemoryError:
        raise GraphError(f"there is not enough memory for the result of {op.name}", at=user_loc()) from None


def _label(t: Tensor) -> str:
    return t.name or str(t._type)


def wrap(node: Node, cls: type[Tensor], requires_grad: bool, weak: bool) -> Tensor:
    """A Tensor for a node of the trace."""
    return cls.from_node(node, requires_grad=requires_grad and node.tensor.dtype.is_inexact, weak=weak)


def result_class(tensors: Sequence[Tensor]) -> type[Tensor]:
    """The class of a result: the first operand's that is not plain Tensor."""
    for t in tensors:
        if t.result_type is not Tensor:
            return t.result_type
    return Tensor


def stopped(tracer: Any, tensors: Sequence[Tensor]) -> list[Node]:
    """The Tensors' nodes: where a gradient is wanted, as constants for those by which none is."""
    nodes = [t._traced_node(tracer) for t in tensors]
    if current.grad and any(t._requires_grad for t in tensors):
        return [tracer.stopped(n) if not t._requires_grad and n in tracer.active and t.dtype.is_inexact else n for t, n in zip(tensors, nodes)]
    return nodes


def _apply_traced(tracer: Any, op: Op, tensors: tuple[Tensor, ...], attrs: dict[str, Any]) -> Any:
    tracer.here()
    nodes = stopped(tracer, tensors)
    requires = current.grad and any(t._requires_grad for t in tensors)
    node = op(*nodes, **attrs)
    if not tracer.active.isdisjoint(nodes):
        tracer.active.add(node)
    cls = result_class(tensors)
    weak = bool(tensors) and all(t._weak for t in tensors) and isinstance(node.type, TensorType) and not node.type.shape
    if isinstance(node.type, TupleType):
        parts = [tuples.get(node, index=i) for i in range(len(node.type.items))]
        if node in tracer.active:
            tracer.active.update(parts)
        return tuple(wrap(p, cls, requires, False) for p in parts)
    check_bytes(node.tensor)
    return wrap(node, cls, requires, weak)


def _apply_eager(op: Op, tensors: tuple[Tensor, ...], attrs: dict[str, Any]) -> Any:
    nodes = [t.node() for t in tensors]
    node = op(*nodes, **attrs)
    if isinstance(node.type, TensorType):
        check_bytes(node.type)
    (value,) = evaluate([node], {n: eager.values[n] for n in nodes})
    requires = current.grad and any(t._requires_grad for t in tensors)
    cls = result_class(tensors)
    weak = bool(tensors) and all(t._weak for t in tensors) and isinstance(node.type, TensorType) and not node.type.shape
    if isinstance(node.type, TupleType):
        if requires:
            eager.values[node] = value                                  # reverse mode asks for more of it than was asked for here
        return tuple(concrete(tuples.get(node, index=i), v, cls, requires, False) for i, v in enumerate(value))
    return concrete(node, value, cls, requires, weak)


def apply_graph(build: Callable[..., Sequence[Node]], *tensors: Tensor) -> list[Tensor]:
    """`apply` of a piece of graph: `build` takes the Tensors' nodes and gives tensor nodes, written into the trace or evaluated at once."""
    tracer = current.tracer
    requires = current.grad and any(t._requires_grad for t in tensors)
    cls = result_class(tensors)
    if tracer is None:
        out = build(*(t.node() for t in tensors))
        return [concrete(n, v, cls, requires) for n, v in zip(out, computed(out))]
    tracer.here()
    nodes = stopped(tracer, tensors)
    out = build(*nodes)
    if not tracer.active.isdisjoint(nodes):
        tracer.active.update(out)
    return [wrap(n, cls, requires, False) for n in out]


def computed(nodes: Sequence[Node]) -> Sequence[Array]:
    """The values of nodes, from what is on the tape."""
    for n in nodes:
        check_bytes(n.tensor)
    try:
        return evaluate(nodes, eager.known(nodes))
    except MemoryError as e:
        raise GraphError("there is not enough memory for this", at=user_loc(), why=str(e) or None,
                         fix="smaller sizes, or parts of it after each other") from None


def concrete(node: Node, value: Array, cls: type[Tensor] = Tensor, requires_grad: bool = False, weak: bool = False) -> Tensor:
    """An eager Tensor for a node whose value is known; the node goes on the tape where a gradient is wanted."""
    out = cls.from_value(np.asarray(value), weak=weak)
    if requires_grad and out.dtype.is_inexact:
        eager.values[node] = out._value
        out._node, out._requires_grad = node, True
    return out
