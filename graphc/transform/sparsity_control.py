"""Which elements of the results of loops, branches and calls may depend on what: bodies, followed by `sparsity.reads`, which they are given.

What a turn of a loop does to elements is found once, as a relation among them; a loop is that relation again and again.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..core.record import dataclass
from ..core.types import TensorType, TupleType
from ..interp.numpy import evaluate
from ..ir.node import Graph, Node
from ..ir.op import Op
from ..ir.walk import topo
from ..ops.branch import branches_of, cond
from ..ops.call import custom_jvp, custom_vjp, remat
from ..ops.control import scan
from ..ops.leaf import input_
from ..ops.loop import while_
from ..ops.tuples import get
from .reads import Array, Reads, Table, beside, closure, composed, everything, itself, nothing, over, pooled

Found = Reads | None                                    # None: it depends on nothing
Results = Found | tuple[Found, ...]                     # of an op with several results, one by one
Follow = Callable[[Sequence[Node], Mapping[Node, Reads], Mapping[Node, Array]], "list[Found]"]     # `sparsity.reads` itself
STEPS = 128                                             # of a scan that are followed one by one


class Known:
    """What else is known of the nodes of a graph: the values of those that depend on no input, computed when they are asked for; which results are read."""

    def __init__(self, order: Sequence[Node], seeds: Mapping[Node, Reads], given: Mapping[Node, Array]) -> None:
        self.values: dict[Node, Any] = dict(given)
        self.fixed = set(given)
        self.asked = {(n.inputs[0], n.attrs["index"]) for n in order if n.op is get}
        for n in order:
            if n.op is not input_ and n not in seeds and n.op.pure and n.op.family != "effect" and all([i in self.fixed for i in n.inputs]):
                self.fixed.add(n)

    def __call__(self, n: Node) -> Array | None:
        if n not in self.fixed:
            return None
        if n not in self.values:
            (self.values[n],) = evaluate([n], self.values)
        return np.asarray(self.values[n])


def shapes(n: Node) -> list[tuple[int, ...]]:
    types = n.type.items if isinstance(n.type, TupleType) else (n.type,)
    return [t.static_shape if isinstance(t, TensorType) else () for t in types]


def spread(r: Reads, n: Node, shape: Callable[[tuple[int, ...]], Array]) -> Results:
    """The same for every result of n: `shape` says how r's elements are repeated in a shape."""
    parts = tuple(Reads(shape(s), r.table) for s in shapes(n))
    return parts if isinstance(n.type, TupleType) else parts[0]


def on_everything(n: Node, operands: tuple[Found, ...], known: Known) -> Results:
    """Every element of every result on every element of every operand."""
    r = everything([o for o in operands if o is not None])
    return spread(r, n, lambda s: np.broadcast_to(r.which, s))


def _called(n: Node, operands: tuple[Found, ...], known: Known, follow: Follow) -> Results:
    return _inside(n.attrs["body"], operands, _given(n.attrs["body"], n.inputs, known), follow)


def _inside(body: Graph, operands: Sequence[Found], given: Mapping[Node, Array], follow: Follow) -> tuple[Found, ...]:
    return tuple(follow(body.outputs, {i: r for i, r in zip(body.inputs, operands) if r is not None}, given))


def _given(body: Graph, operands: Sequence[Node], known: Known, first: int = 0) -> dict[Node, Array]:
    """Of a body's inputs from the first on those whose values are certain."""
    return {i: v for i, x in zip(body.inputs[first:], operands[first:]) if (v := known(x)) is not None}


def _cond(n: Node, operands: tuple[Found, ...], known: Known, follow: Follow) -> Results:
    """What any of the branches reads."""
    if operands[0] is not None:
        return on_everything(n, operands, known)
    out: tuple[Found, ...] = (None,) * len(shapes(n))
    for b in branches_of(n.attrs):
        out = tuple(map(beside, out, _inside(b, operands[1:], _given(b, n.inputs[1:], known), follow)))
    return out


@dataclass(frozen=True, slots=True)
class _Turn:
    """The body of a loop, in terms of the elements of those of its inputs that depend on something in some turn, one input after the other."""

    body: Graph
    at: list[int]                                       # which inputs these are
    outs: tuple[Found, ...]
    carries: int

    def laid(self, inputs: Mapping[int, Reads], cases: int) -> tuple[Array, Table]:
        """What the elements of the inputs depend on, case by case; an input has a row for each case, or one for all."""
        ids, table = pooled([inputs[k] for k in self.at])
        return np.concatenate([np.broadcast_to(i.reshape(len(i), math.prod(i.shape[1:])), (cases, math.prod(i.shape[1:]))) for i in ids], 1), table

    def results(self, inputs: Mapping[int, Reads], cases: int, count: int | None = None) -> list[Found]:
        """The first `count` of them, or all."""
        sources, table = self.laid(inputs, cases)
        return [None if o is None else composed(o, sources, table) for o in self.outs[:count]]

    def knowing(self, given: Mapping[Node, Array], follow: Follow) -> _Turn:
        """The same turn where the values of some inputs are certain."""
        return _Turn(self.body, self.at, tuple(follow(self.body.outputs, _elements(self.body, self.at), given)), self.carries)

    def ever(self, inputs: Mapping[int, Reads]) -> dict[int, Reads]:
        """What each carry may depend on after any number of turns, none among them."""
        sizes = [math.prod(self.body.inputs[k].tensor.static_shape) for k in self.at]
        relation: Found = itself((sum(sizes),))
        first = 0
        for k, size in zip(self.at, sizes):
            if k < self.carries and (o := self.outs[k]) is not None:
                numbers = np.zeros(sum(sizes), np.int64)
                numbers[first:first + size] = o.which.ravel()
                relation = beside(relation, Reads(numbers, o.table))
            first += size
        assert relation is not None
        out = composed(closure(relation), *self.laid(inputs, 1))
        parts = np.split(out.which, np.cumsum(sizes)[:-1], 1)
        return {k: Reads(p.reshape(1, *self.body.inputs[k].tensor.static_shape), out.table) for k, p in zip(self.at, parts) if k < self.carries}


def _turn(body: Graph, operands: Sequence[Found], carries: int, given: Mapping[Node, Array], follow: Follow) -> _Turn:
    moving = [r is not None for r in operands]
    while True:
        at = [k for k, m in enumerate(moving) if m]
        outs = tuple(follow(body.outputs, _elements(body, at), given))
        late = [k for k in range(carries) if outs[k] is not None and not moving[k]]
        if not late:
            return _Turn(body, at, outs, carries)
        for k in late:
            moving[k] = True


def _elements(body: Graph, at: Sequence[int]) -> dict[Node, Reads]:
    """These inputs of a body as one source, one behind the other."""
    shapes = [body.inputs[k].tensor.static_shape for k in at]
    firsts = np.cumsum([0, *map(math.prod, shapes)]).tolist()
    return {body.inputs[k]: itself(s, first, firsts[-1]) for k, s, first in zip(at, shapes, firsts)}


def _starts(turn: _Turn, operands: Sequence[Found], xs: range) -> dict[int, Reads]:
    """What the inputs of the body depend on at first; of slices all steps."""
    like = next(r for r in operands if r is not None).table
    out = {}
    for k in turn.at:
        r = operands[k] or nothing(turn.body.inputs[k].tensor.static_shape, like)
        out[k] = r if k in xs else Reads(r.which[None], r.table)
    return out


def _repeated(r: Reads, times: int) -> Reads:
    return Reads(np.broadcast_to(r.which, (times, *r.which.shape[1:])), r.table)


def _scan(n: Node, operands: tuple[Found, ...], known: Known, follow: Follow) -> Results:
    """Step by step where the steps are few; else a carry depends on all that it could reach in any number of them."""
    body, carries, length = n.attrs["body"], n.attrs["carries"], n.attrs["length"]
    xs, bounded = range(carries, carries + n.attrs["xs"]), n.attrs.get("bounded", False)
    if bounded and operands[xs.stop] is not None:
        return on_everything(n, operands, known)
    given = _given(body, n.inputs, known, xs.stop)
    turn = _turn(body, operands, carries, given, follow)
    inputs = _starts(turn, operands, xs)
    ys: list[Found]
    if bounded or length > STEPS:
        ends = turn.ever({k: Reads(w.which[None], w.table) if k in xs and (w := over(r, (0,))) else r for k, r in inputs.items()})
        states = {k: _repeated(r, length) for k, r in ends.items()}
        ys = turn.results({**inputs, **states}, length)[carries:]
    else:
        slices = {body.inputs[k]: v for k in xs if k not in turn.at and (v := known(n.inputs[k])) is not None}
        counters = _counters(body, {k: v for k in range(carries) if k not in turn.at and (v := known(n.inputs[k])) is not None}, {**given, **slices})
        rows_wanted = any((n, k) in known.asked for k in range(carries, len(shapes(n))))
        ends, rows = {k: inputs[k] for k in turn.at if k < carries}, []
        for t in range(length)[::-1 if n.attrs.get("reverse") else 1]:
            certain = {**given, **{i: v[t] for i, v in slices.items()}, **{body.inputs[k]: v for k, v in counters.items()}}
            step = turn.knowing(certain, follow) if slices or counters else turn
            counters = dict(zip(counters, evaluate([body.outputs[k] for k in counters], certain)))
            now = {**{k: Reads(r.which[t:t + 1], r.table) if k in xs else r for k, r in inputs.items()}, **ends}
            after = step.results(now, 1, None if rows_wanted else carries)
            rows.append((ends, after[carries:]))
            ends = {k: after[k] or nothing(r.which.shape, r.table) for k, r in ends.items()}
        rows = rows[::-1 if n.attrs.get("reverse") else 1] if rows_wanted else []
        states = {k: _stacked([before[k] for before, _ in rows], inputs[k]) for k in ends if rows}
        like = next(iter(inputs.values()))
        ys = [_stacked([y[j] for _, y in rows], nothing((1, *o.tensor.static_shape), like.table)) for j, o in enumerate(body.outputs[carries:]) if rows]
        ys = ys or [None for _ in body.outputs[carries:]]
    return (*(Reads(ends[k].which[0], ends[k].table) if k in ends else None for k in range(carries)), *ys, *(states.get(k) for k in range(carries)))


def _counters(body: Graph, values: dict[int, Array], given: Mapping[Node, Array]) -> dict[int, Array]:
    """Of the carries that begin with these values those that stay certain: step numbers, say."""
    while True:
        known = Known(topo(body.outputs), {}, {**given, **{body.inputs[k]: v for k, v in values.items()}})
        kept = {k: v for k, v in values.items() if body.outputs[k] in known.fixed}
        if len(kept) == len(values):
            return kept
        values = kept


def _stacked(rows: Sequence[Found], like: Reads) -> Reads:
    """One behind the other; nothing is as wide as `like`."""
    ids, table = pooled([r or nothing(like.which.shape, like.table) for r in rows])
    return Reads(np.concatenate(ids), table)


def _while(n: Node, operands: tuple[Found, ...], known: Known, follow: Follow) -> Results:
    body, test, carries, most = n.attrs["body"], n.attrs["cond"], n.attrs["carries"], n.attrs.get("max_steps")
    turn = _turn(body, operands, carries, _given(body, n.inputs, known, carries), follow)
    if follow(test.outputs, {test.inputs[k]: itself(test.inputs[k].tensor.static_shape) for k in turn.at}, {}) != [None]:
        return on_everything(n, operands, known)                 # how long it goes on depends on it
    ends = turn.ever(_starts(turn, operands, range(0)))
    last = [Reads(ends[k].which[0], ends[k].table) if k in ends else None for k in range(carries)]
    kept = [] if most is None else [_repeated(ends[k], most) if k in ends else None for k in range(carries)]
    return (*last, *kept, None)


Body = Callable[[Node, tuple[Found, ...], Known, Follow], Results]
BODIES: dict[Op, Body] = {**dict.fromkeys((custom_vjp, custom_jvp, remat), _called), cond: _cond, scan: _scan, while_: _while}
