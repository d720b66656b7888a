"""Movement goes toward the results: arithmetic is done before a broadcast repeats it, and a permutation waits for one that undoes it or for a contraction,
which reads axes in any order. Exact: the same numbers are computed from the same numbers, only fewer times or elsewhere.
"""
from __future__ import annotations

from ..core.dims import Size
from ..ir.node import Node
from ..ops.leaf import const
from ..ops.movement import broadcast, permute, slice_
from ..ops.reduce import reduce_max, reduce_min

ELEMENTWISE = frozenset({"unary", "binary", "compare", "select", "cast"})


def sink(n: Node) -> Node | None:
    """n with a movement of its operands made a movement of its result; None where there is none to move."""
    family = n.op.family
    if family in ELEMENTWISE:
        first = n.inputs[0]
        if first.op is const and len(n.inputs) > 1:
            first = n.inputs[1] if n.inputs[1].op is not const else n.inputs[-1]
        if first.op is broadcast:
            return _below_broadcast(n)
        return _below_permute(n, first.attrs["axes"]) if first.op is permute else None
    if n.op is slice_ and n.inputs[0].op in (broadcast, permute):
        return _slice(n, n.inputs[0])
    if n.op in (reduce_max, reduce_min) and n.inputs[0].op is broadcast:
        return _extremum(n, n.inputs[0])
    return None


def _is_number(n: Node) -> bool:
    return n.op is const and not n.attrs["value"].ndim


def _shaped(n: Node, shape: tuple[Size, ...]) -> Node:
    return const(value=n.attrs["value"], shape=shape, dtype=n.tensor.dtype)


def _again(n: Node, inputs: tuple[Node, ...]) -> Node:
    return n.op(*inputs, **n.attrs)


def _below_broadcast(n: Node) -> Node | None:
    """f(broadcast(x), broadcast(y), 2) → broadcast(f(x, y, 2)), along the axes that all of them lack."""
    axes: set[int] | None = None
    for i in n.inputs:
        if i.op is broadcast:
            axes = set(i.attrs["axes"]) if axes is None else axes & set(i.attrs["axes"])
        elif not _is_number(i):
            return None
    if not axes:
        return None
    shape = tuple(m for k, m in enumerate(n.tensor.shape) if k not in axes)
    return broadcast(_again(n, tuple([_less(i, axes, shape) for i in n.inputs])), shape=n.tensor.shape, axes=tuple(sorted(axes)))


def _less(i: Node, axes: set[int], shape: tuple[Size, ...]) -> Node:
    """An operand without these axes."""
    if i.op is not broadcast:
        return _shaped(i, shape)
    own = i.attrs["axes"]
    kept = [k for k in range(i.tensor.rank) if k not in axes]
    rest = tuple(at for at, k in enumerate(kept) if k in own)
    return broadcast(i.inputs[0], shape=shape, axes=rest) if rest else i.inputs[0]


def _below_permute(n: Node, axes: tuple[int, ...]) -> Node | None:
    """f(permute(x), permute(y), 2) → permute(f(x, y, 2))."""
    for i in n.inputs:
        if not (_is_number(i) or (i.op is permute and i.attrs["axes"] == axes)):
            return None
    shape = next(i.inputs[0].tensor.shape for i in n.inputs if i.op is permute)
    return permute(_again(n, tuple([i.inputs[0] if i.op is permute else _shaped(i, shape) for i in n.inputs])), axes=axes)


def _slice(n: Node, m: Node) -> Node | None:
    """A part of what is repeated or turned is a part of it, repeated or turned."""
    cut = {k: n.attrs[k] for k in ("starts", "stops", "steps")}
    if m.op is permute:
        back = [m.attrs["axes"].index(k) for k in range(m.tensor.rank)]
        return permute(slice_(m.inputs[0], **{k: tuple(v[j] for j in back) for k, v in cut.items()}), axes=m.attrs["axes"])
    kept = [k for k in range(m.tensor.rank) if k not in m.attrs["axes"]]
    return broadcast(slice_(m.inputs[0], **{k: tuple(v[j] for j in kept) for k, v in cut.items()}), shape=n.tensor.shape, axes=m.attrs["axes"])


def _extremum(n: Node, m: Node) -> Node | None:
    """The largest of what is repeated at least once is the largest of it."""
    new, gone = m.attrs["axes"], n.attrs["axes"]
    if any(m.tensor.shape[k] == 0 for k in new):
        return None
    kept = [k for k in range(m.tensor.rank) if k not in new]
    over = tuple(at for at, k in enumerate(kept) if k in gone)
    x = n.op(m.inputs[0], axes=over) if over else m.inputs[0]
    rest = [k for k in range(m.tensor.rank) if k not in gone]
    axes = tuple(at for at, k in enumerate(rest) if k in new)
    return broadcast(x, shape=n.tensor.shape, axes=axes) if axes else x


COMMENTS = ("f(broadcast(x), broadcast(y), 2) → broadcast(f(x, y, 2))", "f(permute(x), permute(y), 2) → permute(f(x, y, 2))",
            "broadcast(x)[a] → broadcast(x[a'])", "permute(x)[a] → permute(x[a'])", "max(broadcast(x)) → max(x)   and min")
