"""Batching: a graph for one example becomes the graph for all of them. Reads graph, writes graph; nothing is unrolled.

The batch is the first axis of every node that depends on an example; what does not is computed once. A rule says what an op is to operands of which some
have that axis; most shift their axes by one. An op without a rule becomes a loop over the batch (a scan with that op as its body), which is right for
any op. The idea is JAX's vmap; the first axis alone (moved there at the borders) keeps each rule to a line, since movement costs nothing in a kernel.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..core.dims import Size, product
from ..core.dtype import i64
from ..core.errors import GraphError
from ..core.types import TensorType, TupleType
from ..ir.node import Graph, Node
from ..ir.op import Op
from ..ir.walk import rebuilt, topo
from ..ops import contract, determinant, index, linalg, movement, reduce, spectral, tuples
from ..ops.along import argsort, cumsum
from ..ops.branch import cond
from ..ops.call import barrier, custom_jvp, custom_vjp, remat
from ..ops.check import known
from ..ops.control import scan
from ..ops.effect import pure_callback
from ..ops.elementwise import cast, maximum, minimum, stop_gradient
from ..ops.leaf import input_, iota, splat
from ..ops.loop import while_
from ..ops.tuples import get
from ..ops.window import fold, window
from . import vmap_calls, vmap_control
from .grad import _at, _line
from .vmap_control import Body, Results, spread, to_front

ELEMENTWISE = frozenset({"unary", "binary", "compare", "select", "cast"})


def vmap(outputs: Sequence[Node], env: Mapping[Node, Node], n: Size) -> tuple[Node, ...]:
    """The outputs for n examples along a new first axis, where env gives leaves of the graph with theirs. Raises GraphError where an op has no batch."""
    return tuple(o if b else spread(o, n) for o, b in push(outputs, env, n))


def push(outputs: Sequence[Node], env: Mapping[Node, Node], n: Size, also: Mapping[Node, Node] | None = None) -> Results:
    """`vmap`, where an output that no example reaches stays without the axis. `also` replaces leaves by nodes that are the same for all."""
    done: dict[Node, Node] = {**env, **(also or {})}
    each = set(env)                                                     # nodes of the graph that have the batch axis
    parts: dict[Node, Results] = {}
    for node in topo(outputs, stop=done):
        if node in done:
            continue
        with _at(node):
            if node.op is get and node.inputs[0] in parts:
                done[node], moved = parts[node.inputs[0]][node.attrs["index"]]
                if moved:
                    each.add(node)
                continue
            inputs = tuple(done[i] for i in node.inputs)
            moving = tuple(i in each for i in node.inputs)
            if not any(moving):
                done[node] = rebuilt(node, inputs)
                continue
            if not node.op.pure:
                raise GraphError(f"{node.op} inside vmap", op=node.op, why="an effect of one example at a time has no order",
                                 fix="return the value, and print all of them")
            out = _rule(node, inputs, moving, n)
            if isinstance(node.type, TupleType):
                parts[node] = out if isinstance(out, tuple) else tuple((get(out, index=k), True) for k in range(len(node.type.items)))
                done[node] = node
            else:
                assert isinstance(out, Node)
                want = TensorType((n, *node.tensor.shape), node.tensor.dtype)
                assert out.type == want, f"{node.op} batched is {out.type}, should be {want}"
                done[node] = out
                each.add(node)
    return tuple((done[o], o in each) for o in outputs)


def _rule(node: Node, inputs: tuple[Node, ...], moving: tuple[bool, ...], n: Size) -> Node | Results:
    if node.op in BODIES:
        return BODIES[node.op](node, inputs, moving, n, push)
    rule = RULES.get(node.op)
    if rule is None and node.op.family in ELEMENTWISE:
        rule = _all
    return (rule or _loop)(node, inputs, moving, n)


def _spread(inputs: tuple[Node, ...], moving: tuple[bool, ...], n: Size) -> tuple[Node, ...]:
    return tuple(i if m else spread(i, n) for i, m in zip(inputs, moving))


# ---- rules -------------------------------------------------------------------------------------------------------------------------------

Rule = Callable[[Node, tuple[Node, ...], tuple[bool, ...], Size], "Node | Results"]
Shift = Callable[[dict[str, Any], Size], dict[str, Any]]


def _all(node: Node, inputs: tuple[Node, ...], moving: tuple[bool, ...], n: Size) -> Node:
    """The op does not look at axes: all operands get the batch axis."""
    return node.op(*_spread(inputs, moving, n), **node.attrs)


def _shifted(shift: Shift) -> Rule:
    """All operands get the batch axis, and the attributes speak of the axes after it."""
    def rule(node: Node, inputs: tuple[Node, ...], moving: tuple[bool, ...], n: Size) -> Node:
        return node.op(*_spread(inputs, moving, n), **shift(dict(node.attrs), n))
    return rule


def _up(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + 1 for a in axes)


def _axes(attrs: dict[str, Any], n: Size) -> dict[str, Any]:
    return {**attrs, "axes": _up(attrs["axes"])}


def _axis(attrs: dict[str, Any], n: Size) -> dict[str, Any]:
    return {**attrs, "axis": attrs["axis"] + 1}


def _contract(node: Node, inputs: tuple[Node, ...], moving: tuple[bool, ...], n: Size) -> Node:
    """Two batches are one more batch axis; a batch of one operand is a free axis of it, so weights are read once for all examples."""
    (ca, cb), (ba, bb) = node.attrs["contracting"], node.attrs["batch"]
    a, b = (tuple(map(_up, (c, d))) if m else (c, d) for c, d, m in ((ca, ba, moving[0]), (cb, bb, moving[1])))
    if all(moving):
        return contract.contract(*inputs, contracting=(a[0], b[0]), batch=((0, *a[1]), (0, *b[1])))
    out = contract.contract(*inputs, contracting=(a[0], b[0]), batch=(a[1], b[1]))
    return to_front(out, len(ba) if moving[0] else out.tensor.rank - (inputs[1].tensor.rank - len(cb) - len(bb)))


def _each_row(x: Node, axis: int, n: Size) -> Node:
    """x[n, ..., size, ...] as [n * size, ...]: the slices along an axis, of all examples."""
    front = to_front(to_front(x, axis + 1), 1)
    return movement.reshape(front, shape=(product(front.tensor.shape[:2]), *front.tensor.shape[2:]))


def _own_rows(i: Node, size: Size, n: Size) -> Node:
    """Indices into one example's slices as indices into `_each_row`; clamped first, as a gather would."""
    i = i if i.tensor.dtype is i64 else cast(i, dtype=i64)
    inside = minimum(maximum(i, splat(0, i)), splat(known("vmap of take", size) - 1, i))
    return inside + iota(shape=i.tensor.shape, dtype=i64, axis=0) * splat(size, i)      # type: ignore[arg-type]


def _take(node: Node, inputs: tuple[Node, ...], moving: tuple[bool, ...], n: Size) -> Node:
    axis, size, rank = node.attrs["axis"], node.inputs[0].tensor.shape[node.attrs["axis"]], node.inputs[1].tensor.rank
    if not moving[1]:
        return index.take(*inputs, axis=axis + 1)
    if not moving[0]:
        return to_front(index.take(*inputs, axis=axis), axis)
    if size == 0:
        return movement.reshape(inputs[0], shape=(n, *node.tensor.shape))              # nothing is taken of nothing
    out = index.take(_each_row(inputs[0], axis, n), _own_rows(inputs[1], size, n), axis=0)     # [n, *indices, others]
    return _axes_to(out, 1, rank, axis + 1)


def _axes_to(x: Node, first: int, count: int, to: int) -> Node:
    """x with `count` axes from `first` on standing from `to` on, the others in order."""
    block = range(first, first + count)
    rest = [a for a in range(x.tensor.rank) if a not in block]
    axes = (*rest[:to], *block, *rest[to:])
    return x if axes == tuple(range(len(axes))) else movement.permute(x, axes=axes)


def _scatter(node: Node, inputs: tuple[Node, ...], moving: tuple[bool, ...], n: Size) -> Node:
    axis, size, rank = node.attrs["axis"], node.inputs[0].tensor.shape[node.attrs["axis"]], node.inputs[1].tensor.rank
    x, u = _spread((inputs[0], inputs[2]), (moving[0], moving[2]), n)
    if not moving[1]:
        return node.op(x, inputs[1], u, axis=axis + 1)
    if size == 0:
        return x
    rows = _each_row(x, axis, n)
    out = node.op(rows, _own_rows(inputs[1], size, n), _axes_to(u, axis + 1, rank, 1), axis=0)
    back = movement.reshape(out, shape=(n, size, *rows.tensor.shape[1:]))
    return _axes_to(back, 1, 1, axis + 1)


def _loop(node: Node, inputs: tuple[Node, ...], moving: tuple[bool, ...], n: Size) -> Node | Results:
    """Any op at all: once for each example, in a loop."""
    leaves = [input_(name=f"x{k}", shape=i.tensor.shape, dtype=i.tensor.dtype) for k, i in enumerate(node.inputs)]
    xs = [k for k, m in enumerate(moving) if m]
    order = [*xs, *(k for k, m in enumerate(moving) if not m)]
    one = node.op(*leaves, **node.attrs)
    items = [get(one, index=k) for k in range(len(one.type.items))] if isinstance(one.type, TupleType) else [one]
    body = Graph(tuple(leaves[k] for k in order), tuple(items), name=node.op.name)
    out = scan(*(inputs[k] for k in order), body=body, carries=0, xs=len(xs), length=known(f"vmap of {node.op}", n))
    return tuple((get(out, index=k), True) for k in range(len(items))) if isinstance(one.type, TupleType) else get(out, index=0)


def _callback(node: Node, inputs: tuple[Node, ...], moving: tuple[bool, ...], n: Size) -> Node | Results:
    """As the user says: once for each example, or once for all, who then stand in front."""
    method, attrs = node.attrs.get("vmap_method"), node.attrs
    if method is None:
        raise GraphError(f"{node.op} of {attrs['function'].name} has no batch", op=node.op, at=_line(),
                         why="nobody knows how the function takes a batch: vmap_method is not given",
                         fix='vmap_method="sequential", once for each example; or "expand_dims" or "broadcast_all", once for all')
    if method == "sequential":
        return _loop(node, inputs, moving, n)
    operands = _spread(inputs, moving, n) if method == "broadcast_all" else tuple(
        i if m else movement.reshape(i, shape=(1, *i.tensor.shape)) for i, m in zip(inputs, moving))
    items = tuple([TensorType((n, *t.shape), t.dtype) for t in attrs["results"].items])
    return node.op(*operands, **{**attrs, "results": TupleType(items)})


def _barrier(node: Node, inputs: tuple[Node, ...], moving: tuple[bool, ...], n: Size) -> Node:
    return barrier(inputs[0] if moving[0] else spread(inputs[0], n), *inputs[1:])


def _system(node: Node, inputs: tuple[Node, ...], moving: tuple[bool, ...], n: Size) -> Node:
    """Of one matrix, right-hand sides of all examples are more columns."""
    if moving[0] or not isinstance(n, int):
        return _all(node, inputs, moving, n)
    a, b = inputs
    r, (*lead, rows, columns) = b.tensor.rank, node.tensor.shape
    beside = movement.permute(b, axes=(*range(1, r - 1), 0, r - 1))
    x = node.op(a, movement.reshape(beside, shape=(*lead, rows, n * columns)), **node.attrs)
    return movement.permute(movement.reshape(x, shape=beside.tensor.shape), axes=(r - 2, *range(r - 2), r - 1))


AXES: tuple[Op, ...] = (movement.flip, reduce.reduce_sum, reduce.reduce_max, reduce.reduce_min, reduce.reduce_prod, window, fold)
AXIS: tuple[Op, ...] = (movement.concat, reduce.argmax, reduce.argmin, cumsum, argsort, tuples.topk, index.take_along, index.put_along_add,
                        index.put_along_set, index.put_along_max, index.put_along_min)
RULES: dict[Op, Rule] = {
    **dict.fromkeys(AXES, _shifted(_axes)),
    **dict.fromkeys(AXIS, _shifted(_axis)),
    **dict.fromkeys((index.scatter_add, index.scatter_set, index.scatter_max, index.scatter_min), _scatter),
    movement.reshape: _shifted(lambda attrs, n: {"shape": (n, *attrs["shape"])}),
    movement.permute: _shifted(lambda attrs, n: {"axes": (0, *_up(attrs["axes"]))}),
    movement.broadcast: _shifted(lambda attrs, n: {"shape": (n, *attrs["shape"]), "axes": _up(attrs["axes"])}),
    movement.slice_: _shifted(lambda attrs, n: {"starts": (0, *attrs["starts"]), "stops": (n, *attrs["stops"]), "steps": (1, *attrs["steps"])}),
    movement.pad: _shifted(lambda attrs, n: {"lo": (0, *attrs["lo"]), "hi": (0, *attrs["hi"]), "value": attrs["value"]}),
    index.check_index: _all, stop_gradient: _all, index.take: _take, contract.contract: _contract,
    barrier: _barrier, pure_callback: _callback, linalg.solve: _system, linalg.triangular_solve: _system,
    **dict.fromkeys((linalg.cholesky, linalg.lu, determinant.det, determinant.cofactors, determinant.slogdet, spectral.qr, spectral.eigh, spectral.eigvalsh,
                     spectral.svd, spectral.svdvals, spectral.pinv), _all),
}
BODIES: dict[Op, Body] = {scan: vmap_control.scan_, cond: vmap_control.cond_, while_: vmap_control.while_loop,
                          **dict.fromkeys((custom_vjp, custom_jvp, remat), vmap_calls.call_)}

