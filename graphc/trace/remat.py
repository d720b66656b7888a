"""`checkpoint`: a function whose values reverse mode computes again instead of keeping them. The graph's side is `ops.call.remat`.

The function runs where it stands, in the trace or eagerly, so it may write states (batch norm's statistics, dropout's counter) as anything may. Then what
it made is cut out, from its results down to what was there before, and made one node. Writing to states keeps the first computation; the second has the
same key and counter, so the same mask.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from itertools import islice
from typing import Any

from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.types import TensorType
from ..ir.node import Graph, Node, Recorder, recording
from ..ir.walk import substitute
from ..ops import call, leaf, tuples
from . import tree
from .apply import concrete
from .tape import current, eager
from .tensor import Tensor


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """f, whose inner values are not kept for reverse mode but computed again from its arguments: memory for time. JAX's; `remat` is another name.

    The values and derivatives are those of f. What f reads from outside counts as an argument. A hook or retain_grad inside f is refused.

    >>> import graphc as gx
    >>> gx.grad(gx.checkpoint(lambda x: gx.sin(gx.sin(x))))(0.0).item()
    1.0
    """
    if not callable(f):
        raise GraphError(f"checkpoint of a {type(f).__name__}, which is no function", at=user_loc(), fix="gx.checkpoint(f)(x)")

    @wraps(f, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not current.grad:
            return f(*args, **kwargs)
        tracer = current.tracer
        if tracer is None:
            seen = Recorder()
            with recording(seen):
                result = f(*args, **kwargs)
            made = set(seen.info)
        else:
            before = len(tracer.recorder.info)
            result = f(*args, **kwargs)
            made = set(islice(tracer.recorder.info, before, None))
        leaves, treedef = tree.flatten(result, lambda x: isinstance(x, Tensor))
        places = [k for k, t in enumerate(leaves) if isinstance(t, Tensor) and t.requires_grad and not t.is_leaf and t.node() in made]
        for k, t in zip(places, _cut([leaves[k] for k in places], made, getattr(f, "__name__", "function"))):
            leaves[k] = t
        return treedef.unflatten(leaves)
    return wrapped


def _cut(results: list[Tensor], made: set[Node], name: str) -> list[Tensor]:
    """The results as those of one call; `made` are the nodes that it replaces."""
    tracer = current.tracer
    tape = eager if tracer is None else tracer
    ends = {*tape.leaves, *(tracer.stopped_nodes() if tracer is not None else ())}
    nodes = [t.node() for t in results]
    operands: list[Node] = []
    seen: set[Node] = set()
    stack = list(reversed(nodes))
    while stack:                                        # down to what was there before, what is given, and what is a leaf to reverse mode
        n = stack.pop()
        if n in seen:
            continue
        seen.add(n)
        outside = n.op is leaf.input_ or n in ends or (n not in made and isinstance(n.type, TensorType))
        if n.op is tuples.get and (n.inputs[0] not in made or not n.inputs[0].op.pure):
            outside = True                              # ... and what cannot happen twice
        if outside:
            operands.append(n)
        else:
            if tape.hooks.get(n) or n in tape.retained:
                raise GraphError(f"a hook or retain_grad inside of checkpoint({name})", at=user_loc(),
                                 why="what is inside is computed again, and has no gradient of its own that could be seen", fix="return that value")
            stack.extend(reversed(n.inputs))
    inputs = [leaf.input_(name=f"x{k}", shape=n.tensor.shape, dtype=n.tensor.dtype) for k, n in enumerate(operands)]
    body = Graph(tuple(inputs), substitute(nodes, dict(zip(operands, inputs))), name=name if name.isidentifier() else "function")
    if not nodes or not operands:
        return results
    node = call.remat(*operands, body=body)
    parts = [tuples.get(node, index=k) for k in range(len(nodes))]
    if tracer is None:
        return [concrete(p, t._array(), type(t), True, t.weak) for p, t in zip(parts, results)]
    tracer.active.update((node, *parts))
    new = [type(t).from_node(p, requires_grad=True, weak=t.weak) for p, t in zip(parts, results)]
    for t, old in zip(new, results):
        t.name = old.name
    return new
