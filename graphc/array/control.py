"""Loops that stay loops: `scan` is one node whose body is traced once."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.dtype import f32
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.types import TensorType
from ..ir.node import Graph
from ..ops import control as ops
from ..trace import tree
from ..trace.apply import apply_several
from ..trace.broadcast import as_tensor, cast
from ..trace.tape import current
from ..trace.tensor import Tensor
from ..trace.tracer import Tracer


def scan(f: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any = None, length: int | None = None, reverse: bool = False) -> tuple[Any, Any]:
    """A loop over the first axis of xs: `carry, y = f(carry, x)` for each slice; gives (last carry, the y's stacked).

    init, xs and y are tensors or trees of them (xs may be None, then `length` says how often). f is traced once, so it must be pure: it may
    read parameters and other tensors from outside, and write none. Gradients flow through the loop.

    >>> import graphc as gx
    >>> gx.scan(lambda c, x: (c + x, c * x), gx.tensor(0.0), gx.tensor([1.0, 2.0, 3.0]))
    (tensor(6.), tensor([0., 2., 9.]))
    """
    carries, carry_tree = tree.flatten(init, _is_leaf)
    slices, xs_tree = tree.flatten(xs, _is_leaf)
    carries, slices = [_strong(c) for c in carries], [as_tensor(x) for x in slices]
    n = _length(slices, length)
    body_tracer = Tracer(current.tracer, is_body=True)
    requires = current.grad and any(t.requires_grad for t in (*carries, *slices))
    with body_tracer.running():
        leaves = [body_tracer.input(f"carry{k}", c.type) for k, c in enumerate(carries)]
        leaves += [body_tracer.input(f"x{k}", TensorType(x.shape[1:], x.dtype)) for k, x in enumerate(slices)]
        values = [Tensor.from_node(node, requires_grad=requires and node.tensor.dtype.is_float) for node in leaves]
        body_tracer.active.update(leaf for leaf, v in zip(leaves, values) if v.requires_grad)
        result = f(carry_tree.unflatten(values[:len(carries)]), xs_tree.unflatten(values[len(carries):]))
        if not isinstance(result, tuple) or len(result) != 2:
            raise GraphError(f"the body of scan returns (carry, y), got {type(result).__name__}", op="scan", at=user_loc(), fix="return carry, None")
        after, after_tree = tree.flatten(result[0], _is_leaf)
        ys, ys_tree = tree.flatten(result[1], _is_leaf)
        if after_tree != carry_tree:
            raise GraphError("the body of scan returns a carry of another structure than it takes", op="scan", at=user_loc(),
                             why=f"{after_tree} is not {carry_tree}")
        after = [a if isinstance(a, Tensor) and not a.weak else cast(as_tensor(a), c.dtype) for a, c in zip(after, carries)]
        outs = [t.node() for t in (*after, *map(_strong, ys))]
    captured = list(body_tracer.captured.values())
    body = Graph((*leaves, *(node for node, _ in captured)), tuple(outs), name=getattr(f, "__name__", "body"))
    consts = [outer for _, outer in captured]
    out = apply_several(ops.scan, *carries, *slices, *consts, body=body, carries=len(carries), xs=len(slices), length=n, reverse=reverse)
    return carry_tree.unflatten(list(out[:len(carries)])), ys_tree.unflatten(list(out[len(carries):len(carries) + len(ys)]))


def _is_leaf(x: Any) -> bool:
    return isinstance(x, Tensor)


def _strong(x: Any) -> Tensor:
    """A Tensor with a dtype of its own: a Python number as f32 or i64."""
    x = as_tensor(x)
    return cast(x, f32) if x.weak and x.dtype.is_float else x


def _length(xs: list[Tensor], length: int | None) -> int:
    for x in xs:
        if not x.shape:
            raise GraphError("scan over a tensor of rank 0", op="scan", at=user_loc())
        if length is not None and x.shape[0] != length:
            raise GraphError(f"scan of length {length} over {x.type}", op="scan", at=user_loc(), why=f"its first axis is {x.shape[0]}")
        length = x.shape[0]
    if length is None:
        raise GraphError("scan without xs needs a length", op="scan", at=user_loc(), fix="scan(f, init, None, length=10)")
    return length

