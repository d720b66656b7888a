"""Forward mode: reads graph, writes graph. Tangents go with the program, so a loop needs no history and a function of one number one pass.

A primitive has one derivative rule, its vjp, which is linear in the cotangent; the transpose of that is its jvp. Three ways to have it: of an elementwise
op the Jacobian is diagonal and its own transpose; a (multi)linear op is applied to the tangent; of any other the vjp is written down for a cotangent that
does not exist, and differentiated by it (J. Townsend, "A new trick for calculating Jacobian vector products", 2017). Loops carry tangents beside values.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ..core.errors import GraphError
from ..core.types import TensorType, TupleType
from ..ir.node import Node
from ..ir.walk import rebuilt, substitute, topo
from ..ops import contract, determinant, index, movement, reduce, tuples
from ..ops.along import cumsum
from ..ops.call import barrier, custom_vjp, linear_or_refuse
from ..ops.elementwise import cast, eq, maximum, where
from ..ops.leaf import splat
from ..ops.tuples import get
from ..ops.window import fold, window
from . import jvp_calls, jvp_control
from .grad import _at, _pull, _smooth, vjp
from .jvp_control import Push, Tangent, Tangents, Written, named
from .stability import forms

DIAGONAL = frozenset({"unary", "binary", "select"})     # families whose Jacobians are: each result depends on the operands at its place


def jvp(outputs: Sequence[Node], wrt: Sequence[Node], tangents: Sequence[Node]) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    """The outputs, and the product of their Jacobian by wrt with the tangents: for each output a node of its type, zeros where no path leads.

    The outputs are the nodes given, but for what comes out of a loop or a branch: that is written anew with its tangents, and its values are taken from there.
    Raises GraphError at the user's line where an op on the path has no rule.
    """
    values, slopes = push(outputs, dict(zip(wrt, tangents, strict=True)))
    return values, tuple(splat(0.0, o.tensor.cotangent) if t is None else t for o, t in zip(outputs, slopes))


def push(outputs: Sequence[Node], seeds: dict[Node, Node], stop: Collection[Node] = (), stable: bool = True) -> tuple[tuple[Node, ...], Tangents]:
    """`jvp`, where no tangent at all is None. Nothing below `stop` is looked at; stable: what has a stable form is differentiated by that."""
    for w, t in seeds.items():
        if t.type != w.tensor.cotangent:
            raise GraphError(f"the tangent of a {w.type} is a {w.tensor.cotangent}, got {t.type}")
    slopes: dict[Node, Tangent] = dict(seeds)
    items: dict[Node, Tangents] = {}                                    # of tuples, item by item
    value: dict[Node, Node] = {}                                        # nodes written anew
    parts: dict[Node, tuple[Node, ...]] = {}                            # loops, branches and calls written anew, result by result
    order = topo(outputs, stop=[*seeds, *stop])
    by = forms(order, seeds) if stable else {}
    for n in order:
        if n in seeds or n in stop:
            continue
        with _at(n):
            if n.op is get:
                of, at = n.inputs[0], n.attrs["index"]
                if of in parts:
                    value[n] = parts[of][at]
                elif of in value:
                    value[n] = get(value[of], index=at)
                if of in items and items[of][at] is not None:
                    slopes[n] = items[of][at]
                elif not of.op.pure and _smooth(n) and any(i in slopes for i in of.inputs):
                    _pull(of, None, None)                               # says that there is none
                continue
            if not n.op.pure:                                           # it happens once, where it stands
                continue
            m = rebuilt(n, tuple(value.get(i, i) for i in n.inputs))
            if m is not n:
                value[n] = m
            ts = tuple(slopes.get(i) for i in n.inputs)
            if all(t is None for t in ts):
                continue
            if n in by:
                ends = {e: t for e in by[n].ends if (t := slopes.get(e)) is not None}
                _, (slope,) = push((by[n].root,), ends, by[n].ends, stable=False)
                if slope is not None:
                    slopes[n] = substitute((slope,), value)[0] if value else slope
                continue
            if n.op in BODIES:
                parts[n], items[n] = BODIES[n.op](m, ts, push)
                continue
            out = _push(m, ts)
            if isinstance(n.type, TupleType):
                items[n] = out
            elif out[0] is not None and _smooth(n):
                if out[0].type != n.tensor.cotangent:
                    raise GraphError(f"the derivative of {n.op} gave a tangent {out[0].type} for a result {n.type}", op=n.op)
                slopes[n] = out[0]
    return tuple(value.get(o, o) for o in outputs), tuple(slopes.get(o) for o in outputs)


def _push(n: Node, ts: Tangents) -> Tangents:
    """The tangents of a node's results from those of its inputs, of which one at least is there."""
    if n.op.vjp == "zero":
        return (None,) * (len(n.type.items) if isinstance(n.type, TupleType) else 1)
    if n.op in RULES:
        return (RULES[n.op](n, ts),) if not isinstance(n.type, TupleType) else (RULES[n.op](n, ts), *(None,) * (len(n.type.items) - 1))
    if n.op.family in DIAGONAL:
        return (_sum([_pull(n, t, None)[k] for k, t in enumerate(ts) if t is not None]),)
    return _transposed(n, ts)


def _sum(parts: Sequence[Tangent]) -> Tangent:
    total: Tangent = None
    for p in parts:
        if p is not None:
            total = p if total is None else total + p
    return total


def _transposed(n: Node, ts: Tangents, used: list[Node] | None = None) -> Tangents:
    """vjp(u) = uᵀJ for a u that is only a name; the derivative of ⟨vjp(u), t⟩ by u is Jt, and u is gone from it. `used` is told the names."""
    types = n.type.items if isinstance(n.type, TupleType) else (n.type,)
    names = [named("u", t.cotangent) if isinstance(t, TensorType) and t.dtype.is_inexact else None for t in types]
    present = [u for u in names if u is not None]
    if used is not None:
        used += present
    whole = {k: u for k, u in enumerate(names) if u is not None}
    pulled = _pull(n, None, whole) if isinstance(n.type, TupleType) else _pull(n, names[0], None) if present else (None,) * len(ts)
    pairs = [(g, t) for g, t in zip(pulled, ts) if g is not None and t is not None]
    if not pairs:
        return (None,) * len(types)
    pushed = dict(zip(present, vjp([g for g, _ in pairs], [t for _, t in pairs], present)))
    return tuple(None if u is None else pushed[u] for u in names)


# ---- linear in some operands: the op itself, on the tangent ----------------------------------------------------------------------------

Rule = Callable[[Node, Tangents], Tangent]


def _linear(n: Node, ts: Tangents) -> Tangent:
    """Linear in the operands that have tangents together; zeros stand for those that have none and might have."""
    return n.op(*(t if t is not None else splat(0.0, i.tensor.cotangent) if _smooth(i) else i for i, t in zip(n.inputs, ts)), **n.attrs)


def _multilinear(n: Node, ts: Tangents) -> Tangent:
    """Linear in each operand: the product rule."""
    return _sum([n.op(*(t if j == k else i for j, i in enumerate(n.inputs)), **n.attrs) for k, t in enumerate(ts) if t is not None])


def _pad(n: Node, ts: Tangents) -> Tangent:
    assert ts[0] is not None
    return movement.pad(ts[0], **{**n.attrs, "value": 0.0})


def _cast(n: Node, ts: Tangents) -> Tangent:
    assert ts[0] is not None
    return cast(ts[0], dtype=n.tensor.dtype.cotangent) if n.tensor.dtype.is_inexact else None


def _topk(n: Node, ts: Tangents) -> Tangent:
    assert ts[0] is not None
    return index.take_along(ts[0], get(n, index=1), axis=n.attrs["axis"])


def _barrier(n: Node, ts: Tangents) -> Tangent:
    return None if ts[0] is None else barrier(ts[0], *n.inputs[1:])


def _extremum(n: Node, ts: Tangents) -> Tangent:
    """The mean of the tangents of the k equal extrema; of none (an empty axis, a NaN) 0, as in reverse mode."""
    (x,), (t,), axes = n.inputs, ts, n.attrs["axes"]
    assert t is not None
    hit = eq(x, movement.broadcast(n, shape=x.tensor.shape, axes=axes))
    count = reduce.reduce_sum(cast(hit, dtype=x.tensor.dtype), axes=axes)
    return reduce.reduce_sum(where(hit, t, splat(0.0, t)), axes=axes) / maximum(count, splat(1.0, count))


def _cofactors(n: Node, ts: Tangents) -> Tangent:
    """Through the ops that they are."""
    (x,), (t,) = n.inputs, ts
    assert t is not None
    return push((determinant.cofactors_of(x),), {x: t})[1][0]


LINEAR = (movement.reshape, movement.permute, movement.broadcast, movement.slice_, movement.flip, movement.concat, reduce.reduce_sum, cumsum, window, fold,
          index.take, index.take_along, index.scatter_add, index.put_along_add)
RULES: dict[object, Rule] = {**dict.fromkeys(LINEAR, _linear), contract.contract: _multilinear, reduce.reduce_max: _extremum, reduce.reduce_min: _extremum,
                           movement.pad: _pad, cast: _cast, tuples.topk: _topk, determinant.cofactors: _cofactors,
                           barrier: _barrier}


def _custom_vjp(n: Node, ts: Tangents, push: Push) -> Written:
    """The transpose of the user's rule, where that is linear in the cotangents."""
    names: list[Node] = []
    slopes = _transposed(n, ts, names)
    there = [s for s in slopes if s is not None]
    linear = iter(linear_or_refuse("backward", n.attrs["body"].name, there, names, [n, *n.inputs, *(t for t in ts if t is not None)]))
    return tuple(get(n, index=k) for k in range(len(slopes))), tuple(None if s is None else next(linear) for s in slopes)


BODIES = {**jvp_control.BODIES, **jvp_calls.BODIES, custom_vjp: _custom_vjp}
