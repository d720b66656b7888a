"""Reverse mode: reads graph, writes graph, so it applies to its own output and gives derivatives of any order.

Activity first: only nodes on a path from what we differentiate by to what we differentiate are visited, so an op off the path needs no rule.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.types import TensorType, TupleType
from ..ir.node import Info, Node, recorder
from ..ir.walk import topo
from ..ops.leaf import zeros
from ..ops.tuples import get

Hook = Callable[[Node, Node], Node]


def vjp(outputs: Sequence[Node], cotangents: Sequence[Node], wrt: Sequence[Node], on_cotangent: Hook | None = None) -> tuple[Node, ...]:
    """The product of cotangents with the Jacobian of outputs by wrt: for each node of wrt a node of its type (f32 for f16 and bf16), zeros where no path leads.

    on_cotangent(node, g), if given, sees each node's whole cotangent once, before it goes on, and returns what goes on in its place.
    Raises GraphError at the user's line where an op on the path has no rule.
    """
    order = topo(outputs)
    active = set(wrt)
    for n in order:
        if n not in active and any(i in active for i in n.inputs):
            active.add(n)
    sums: dict[Node, Node] = {}                                         # cotangents of tensors so far
    items: dict[Node, dict[int, Node]] = {}                             # of tuples, item by item
    for o, ct in zip(outputs, cotangents, strict=True):
        want = o.tensor.cotangent
        if ct.type != want:
            raise GraphError(f"the cotangent of a {o.type} is a {want}, got {ct.type}")
        if o in active:
            sums[o] = sums[o] + ct if o in sums else ct
    for n in reversed(order):
        if n not in active or not (n in sums or n in items):
            continue
        with _at(n):
            if n in sums and on_cotangent is not None:
                sums[n] = on_cotangent(n, sums[n])
            if not any(i in active for i in n.inputs):
                continue
            if n.op is get:
                of, at = items.setdefault(n.inputs[0], {}), n.attrs["index"]
                of[at] = of[at] + sums[n] if at in of else sums[n]
                continue
            for i, g in zip(n.inputs, _pull(n, sums.get(n), items.get(n)), strict=True):
                if g is None or i not in active or not _smooth(i):
                    continue
                if g.type != i.tensor.cotangent:
                    raise GraphError(f"the derivative of {n.op} gave a {g.type} for an operand of type {i.type}", op=n.op)
                sums[i] = sums[i] + g if i in sums else g
    return tuple(sums[w] if w in sums else zeros(w) for w in wrt)


def _pull(n: Node, g: Node | None, items: dict[int, Node] | None) -> tuple[Node | None, ...]:
    """The cotangents of a node's inputs from its own."""
    rule = n.op.vjp
    if rule == "zero":
        return (None,) * len(n.inputs)
    if rule is None:
        raise GraphError(f"{n.op} has no derivative", op=n.op, at=_line(), fix="stop_gradient(x) where none is meant, or give the op a vjp")
    whole = g if isinstance(n.type, TensorType) else tuple((items or {}).get(k) for k in range(len(n.type.items))) if isinstance(n.type, TupleType) else None
    extra = {"pullback": vjp} if n.op.engine else {}
    try:
        return rule(whole, n, *n.inputs, **n.attrs, **extra)
    except GraphError as e:
        e.at = e.at or _line()
        raise


def _line() -> str | None:
    """Where the user wrote the node that is being differentiated; eagerly, where the derivative is asked for."""
    rec = recorder()
    return (", ".join(sorted(map(str, rec.here.locs))) if rec else "") or str(user_loc() or "") or None


def _smooth(n: Node) -> bool:
    return isinstance(n.type, TupleType) or (isinstance(n.type, TensorType) and n.type.dtype.is_inexact)


class _at:
    """Nodes made inside carry the lines and scopes of the node they are the derivative of, and the phase "backward"."""

    def __init__(self, n: Node) -> None:
        self.n, self.rec = n, recorder()

    def __enter__(self) -> None:
        if self.rec is not None:
            self.before = self.rec.here
            info = self.rec.info.get(self.n, self.before)
            self.rec.here = Info(info.locs, frozenset(), info.scopes, frozenset({"backward"}))

    def __exit__(self, *_: object) -> None:
        if self.rec is not None:
            self.rec.here = self.before
