"""Bodies of control flow: a function traced once, on leaves of its own, into a closed graph.

What the function reads from outside is *captured*: it becomes an input of the graph, and an operand of the op. Functions that must take the same operands
(the branches of a `cond`, the test and the body of a `while_loop`) are traced apart and closed over what any of them captured. A state that the body of a
loop writes (batch norm's statistics, the counter of random numbers) is captured too, and then a carry: `written`.
"""
from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from ..core.dtype import f32, promote_scalar
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.record import dataclass, replace
from ..core.types import TensorType
from ..ir.node import Graph, Node
from ..ir.walk import substitute
from ..ops import elementwise
from ..ops.leaf import input_
from ..trace import tree
from ..trace.broadcast import as_tensor, cast
from ..trace.tape import current
from ..trace.tensor import Tensor
from ..trace.tracer import BodyKind, Tracer

NUMBER: dict[str, bool | int | float] = {"bool": False, "int": 0, "uint": 0, "float": 0.0}
Captured = dict[Hashable, tuple[Node, Tensor]]          # key → (the input of the body, the Tensor outside)


@dataclass(frozen=True, slots=True)
class Body:
    """A traced function: its inputs, the nodes that it returned and which of them are Python's numbers, the tree of what it returned, what it captured. What
    is also written is among `states` alone."""

    name: str
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    weak: tuple[bool, ...]
    tree: tree.TreeDef
    captured: Captured
    states: Captured                                    # what it captured and wrote
    written: tuple[Node, ...]                           # what that became

    def closed(self, over: Mapping[Hashable, Tensor], outputs: Sequence[Node] | None = None) -> Graph:
        """The graph that takes the inputs, then `over` in its order; what this body does not read it is given all the same."""
        known = {**self.captured, **self.states}
        more = [known[key][0] if key in known else input_(name=t.name, shape=t.shape, dtype=t.dtype) for key, t in over.items()]
        return Graph((*self.inputs, *more), self.outputs if outputs is None else tuple(outputs), name=self.name)


def captures(*bodies: Body) -> dict[Hashable, Tensor]:
    """What the bodies read from outside, each once."""
    return {key: outer for b in bodies for key, (_, outer) in b.captured.items()}


def traced(f: Callable[..., Any], given: Sequence[Tensor], types: Sequence[tuple[str, TensorType]], run: Callable[[list[Tensor]], Any],
           kind: BodyKind = "loop") -> Body:
    """Trace `run(tensors of these types)`: it calls f, and gives a tree of Tensors. `given`: what the body will be run on, for whether it has gradients."""
    tracer = Tracer(current.tracer, is_body=True, body=kind)
    requires = current.grad and any(t.requires_grad for t in given)
    with tracer.running():
        leaves = [tracer.input(name, t) for name, t in types]
        values = [Tensor.from_node(node, requires_grad=requires and node.tensor.dtype.is_inexact) for node in leaves]
        tracer.active.update(leaf for leaf, v in zip(leaves, values) if v.requires_grad)
        flat, out_tree = tree.flatten(run(values), is_tensor)
        tensors = [as_tensor(t) for t in flat]
        weak = tuple(t.weak for t in tensors)
        outputs = tuple(t.node() for t in tensors)
    name = getattr(f, "__name__", "body")
    states, written, outputs = _states(tracer, outputs)
    captured = {key: v for key, v in tracer.captured.items() if key not in states and v[1]._storage not in tracer.written}
    return Body("body" if name == "<lambda>" else name, tuple(leaves), outputs, weak, out_tree, captured, states, written)


def _states(tracer: Tracer, outputs: tuple[Node, ...]) -> tuple[Captured, tuple[Node, ...], tuple[Node, ...]]:
    """The states that a body wrote, by what captured them; what they are in the end; the outputs. Two Tensors of one state are one input."""
    states: Captured = {}
    same: dict[Node, Node] = {}
    for storage, tensor in tracer.written.items():
        cell = tracer.cells[storage]
        for key, (node, outer) in tracer.captured.items():
            if node is cell.read:
                states[key] = node, tensor
            elif outer._storage is storage:
                same[node] = cell.read
    nodes = (*(tracer.cells[s].now for s in tracer.written), *outputs)
    nodes = substitute(nodes, same) if same else nodes
    return states, nodes[:len(states)], nodes[len(states):]


def refuse_states(what: str, body: Body) -> None:
    """The test of a loop writes nothing."""
    if body.states:
        (_, tensor), *_ = body.states.values()
        raise GraphError(f"{what}: cond_fun writes {tensor.name or tensor.type}", op=what, at=user_loc(), why="it is asked once more than there are turns",
                         fix="write it in body_fun")


def reads_states(test: Body, body: Body) -> Body:
    """The test, reading the states that the body writes where they are written: what captured one of them is the body's key for it."""
    found = {outer._storage: key for key, (_, outer) in body.states.items()}
    return replace(test, captured={found.get(outer._storage, key) if outer._storage is not None else key: (node, outer)
                                   for key, (node, outer) in test.captured.items()})


def become(states: Captured, values: Sequence[Tensor]) -> None:
    """Let the states be what the loop left in them."""
    for (_, tensor), value in zip(states.values(), values, strict=True):
        tensor._become(lambda value=value: value.detach() if value.requires_grad else value)    # type: ignore[misc]


def is_tensor(x: Any) -> bool:
    return isinstance(x, Tensor)


def strong(x: Any) -> Tensor:
    """A Tensor with a dtype of its own: a Python number as f32 or i64."""
    x = as_tensor(x)
    return cast(x, f32) if x.weak and x.dtype.is_float else x


def settled(body: Body, k: int) -> Node:
    """Output k with a dtype of its own, as `strong` gives it."""
    node = body.outputs[k]
    return elementwise.cast(node, dtype=f32) if body.weak[k] and node.tensor.dtype.is_float else node


def adapted(body: Body, k: int, like: TensorType) -> Node | None:
    """Output k in that type: a Python number takes the dtype. None where it has another."""
    node = body.outputs[k]
    if node.type == like:
        return node
    takes = body.weak[k] and like.shape == () and promote_scalar(like.dtype, NUMBER[node.tensor.dtype.kind]) is like.dtype
    return elementwise.cast(node, dtype=like.dtype) if takes else None


def widened(body: Body, given: list[Tensor], carries: Sequence[Tensor]) -> list[Tensor] | None:
    """The carries, with a Python float among them in the dtype that the body makes of it (f64 where the data is), for another trace; None where none changes.
    An integer that becomes a float is a mistake more often than not, and stays one. `given` are the carries as they were handed in, and become those."""
    out = list(carries)
    for k, (first, carry) in enumerate(zip(given, carries)):
        if first.weak and adapted(body, k, carry.type) is None:
            got = settled(body, k).tensor
            if got.shape == () and got.dtype.kind == first.dtype.kind:
                out[k] = given[k] = cast(first, got.dtype)
    return out if any(a is not b for a, b in zip(out, carries)) else None


def agreed(what: str, body: Body, k: int, like: TensorType, name: str) -> Node:
    """Output k as the carry of that type and name."""
    node = adapted(body, k, like)
    if node is None:
        got = settled(body, k).tensor
        fix = (f".astype({like.dtype.name!r}) what the body returns, or .astype({got.dtype.name!r}) what it starts with" if got.shape == like.shape else
               "give the first value the shape that the body returns")
        raise GraphError(f"{what}: {name} starts as {like} and becomes {got}", op=what, at=user_loc(), why="what goes round keeps its shape and dtype", fix=fix)
    return node
