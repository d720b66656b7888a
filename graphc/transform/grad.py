"""Reverse mode: reads graph, writes graph, so it applies to its own output and gives derivatives of any order.

Activity first: only nodes on a path from what we differentiate by to what we differentiate are visited, so an op off the path needs no rule. Two things
keep zeros and infinities from making NaN: formulas are differentiated in their stable form (`stability`), and what a `where` did not choose stays 0 (`masks`).
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.record import dataclass
from ..core.types import TOKEN, TensorType, TupleType
from ..ir.host import Host
from ..ir.node import Info, Node, recorder
from ..ir.walk import topo
from ..ops.leaf import zeros
from ..ops.tuples import get
from .masks import Mask, Masks
from .stability import Form, forms

Hook = Callable[[Node, Node], Node]


def vjp(outputs: Sequence[Node], cotangents: Sequence[Node], wrt: Sequence[Node], on_cotangent: Hook | None = None,
        watched: Collection[Node] = ()) -> tuple[Node, ...]:
    """The product of cotangents with the Jacobian of outputs by wrt: for each node of wrt a node of its type (f32 for f16 and bf16), zeros where no path leads.

    on_cotangent(node, g), if given, sees each node's whole cotangent once, before it goes on, and returns what goes on in its place. What has a stable
    form is differentiated by that, and the nodes between are passed by, except where one of them is in wrt or in `watched`.
    Raises GraphError at the user's line where an op on the path has no rule.
    """
    order = topo(outputs)
    for o, ct in zip(outputs, cotangents, strict=True):
        want = o.tensor.cotangent
        if ct.type != want:
            raise GraphError(f"the cotangent of a {o.type} is a {want}, got {ct.type}")
    sums = _Reverse(on_cotangent, Masks()).run(order, zip(outputs, cotangents), wrt, forms(order, {*wrt, *watched}))
    return tuple(sums[w] if w in sums else zeros(w) for w in wrt)


@dataclass(frozen=True, slots=True)
class _Reverse:
    """One run of reverse mode."""

    on_cotangent: Hook | None
    masks: Masks

    def run(self, order: Sequence[Node], seeds: Iterable[tuple[Node, Node]], wrt: Sequence[Node], forms: Mapping[Node, Form],
            ends: Collection[Node] = ()) -> dict[Node, Node]:
        """The cotangents of the nodes of `order` that are on a path from wrt to what the seeds belong to; none goes on from an end."""
        on_cotangent, masks = self.on_cotangent, self.masks
        active = set(wrt)
        for n in order:
            if n not in active and n.type is not TOKEN and any([i in active for i in n.inputs]):
                active.add(n)
        sums: dict[Node, Node] = {}                                     # cotangents of tensors so far
        items: dict[Node, dict[int, Node]] = {}                         # of tuples, item by item
        for o, ct in seeds:
            if o in active:
                sums[o] = sums[o] + ct if o in sums else ct
        for n in reversed(order):
            if n not in active or not (n in sums or n in items):
                continue
            with _at(n):
                if n in sums and on_cotangent is not None:
                    given = on_cotangent(n, sums[n])
                    if given is not sums[n]:
                        sums[n] = given
                        masks.of.pop(n, None)                           # whoever changes it may change zeros
                if n in ends or not any([i in active for i in n.inputs]):
                    continue
                if n.op is get:
                    of, at = items.setdefault(n.inputs[0], {}), n.attrs["index"]
                    of[at] = of[at] + sums[n] if at in of else sums[n]
                    continue
                pulled: Iterable[tuple[Node, Node, Mask | None]]
                if n in forms:
                    pulled = self.through(n, sums[n], forms[n], active)
                else:
                    pulled = [(i, *masks.pulled(n, k, g)) for k, (i, g) in enumerate(zip(n.inputs, _pull(n, sums.get(n), items.get(n)), strict=True))
                              if g is not None and i in active and _smooth(i)]
                for i, g, mask in pulled:
                    if g.type != i.tensor.cotangent:
                        raise GraphError(f"the derivative of {n.op} gave a {g.type} for an operand of type {i.type}", op=n.op)
                    masks.note(i, mask, i not in sums)
                    sums[i] = sums[i] + g if i in sums else g
        return sums

    def through(self, n: Node, g: Node, form: Form, active: set[Node]) -> list[tuple[Node, Node, Mask | None]]:
        """The cotangents of the nodes that n's stable form is made of."""
        inner = Masks()
        if (mask := self.masks.of.get(n)) is not None:
            inner.of[form.root] = mask
        ends = [e for e in form.ends if e in active]
        sums = _Reverse(None, inner).run(topo((form.root,), stop=form.ends), [(form.root, g)], ends, {}, form.ends)
        return [(e, sums[e], inner.of.get(e)) for e in ends if e in sums]


def _pull(n: Node, g: Node | None, items: dict[int, Node] | None) -> tuple[Node | None, ...]:
    """The cotangents of a node's inputs from its own."""
    rule = n.op.vjp
    if rule == "zero":
        return (None,) * len(n.inputs)
    if rule is None:
        function = n.attrs.get("function")
        raise GraphError(f"{n.op}{f' of {function.name}' if isinstance(function, Host) else ''} has no derivative", op=n.op, at=_line(),
                         fix="stop_gradient(x) where none is meant, or a rule of your own: gx.custom_vjp, gx.custom_jvp or gx.autograd.Function")
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
