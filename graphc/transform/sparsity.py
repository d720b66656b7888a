"""Which elements of a result may depend on which elements of a leaf: known from the graph alone, for every value of its inputs.

The pattern of a Jacobian is asked of the graph that forward mode writes: which elements of the slope can the tangent's change? So there is no rule for
derivatives here; what is flat, stopped, or the user's own rule has been settled before. What an op says of elements comes from what it is already: movement
is the op's NumPy meaning applied to the numbers of sets; a sum sends each element to where its cotangent comes from; what a product has 0 in, by a
constant, is not read. An op without a rule depends with all of its results on all of its operands, which is right for any op.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..core.dtype import i64
from ..core.record import dataclass
from ..core.types import TensorType, TokenType, TupleType
from ..interp.numpy import evaluate
from ..ir.node import Graph, Node
from ..ir.op import Op
from ..ir.walk import topo
from ..ops import contract, elementwise, index, linalg, movement, reduce
from ..ops.along import cumsum
from ..ops.branch import branches_of, cond
from ..ops.call import barrier, custom_jvp, custom_vjp, remat
from ..ops.control import scan
from ..ops.leaf import input_
from ..ops.loop import while_
from ..ops.tuples import get
from ..ops.window import fold, window
from . import grad as reverse
from . import jvp as forward
from .reads import MOST, Array, Reads, Table, beside, closure, composed, everything, itself, nothing, over, pooled, union

Known = Callable[[Node], "Array | None"]                # the value of a node that no input can change
Found = Reads | None                                    # None: it depends on nothing
Results = Found | tuple[Found, ...]                     # of an op with several results, one by one
STEPS = 128                                             # of a scan that are followed one by one


def reads(outputs: Sequence[Node], seeds: Mapping[Node, Reads], given: Mapping[Node, Array] | None = None) -> list[Found]:
    """For each output what its elements may depend on, where seeds says it of some nodes. given: leaves whose values are certain."""
    order = topo(outputs, stop=seeds)
    known = _Values(order, seeds, given or {})
    found: dict[Node, Results] = dict(seeds)
    last = {i: n for n in order for i in n.inputs}                      # what nobody will ask for again is forgotten
    kept = set(outputs)
    for n in order:
        if n in seeds or isinstance(n.type, TokenType):
            continue
        if n.op is get:
            of = found.get(n.inputs[0])
            found[n] = of[n.attrs["index"]] if isinstance(of, tuple) else None
        else:
            operands = tuple(r if isinstance(r := found.get(i), Reads) else None for i in n.inputs)
            found[n] = None if all(r is None for r in operands) else _rule(n)(n, operands, known)
        for i in n.inputs:
            if last[i] is n and i not in kept and i.op is not get and not isinstance(i.type, TupleType):
                found.pop(i, None)
    return [r if isinstance(r := found.get(o), Reads) else None for o in outputs]


class _Values:
    """The values of nodes that depend on no input, computed when they are asked for."""

    def __init__(self, order: Sequence[Node], seeds: Mapping[Node, Reads], given: Mapping[Node, Array]) -> None:
        self.values: dict[Node, Any] = dict(given)
        self.fixed = set(given)
        for n in order:
            if n.op is not input_ and n not in seeds and n.op.pure and n.op.family != "effect" and all([i in self.fixed for i in n.inputs]):
                self.fixed.add(n)

    def __call__(self, n: Node) -> Array | None:
        if n not in self.fixed:
            return None
        if n not in self.values:
            (self.values[n],) = evaluate([n], self.values)
        return np.asarray(self.values[n])


def jvp_reads(y: Node, x: Node, given: Mapping[Node, Array] | None = None) -> tuple[Node, Node, Found]:
    """A tangent of x, the slope of y along it, and which elements of the tangent each element of the slope may depend on: the Jacobian's rows."""
    d = input_(name="d", shape=x.tensor.shape, dtype=x.tensor.dtype.cotangent)
    _, (slope,) = forward.jvp([y], [x], [d])
    return d, slope, reads([slope], {d: itself(x.tensor.static_shape)}, given)[0]


def vjp_reads(y: Node, x: Node, given: Mapping[Node, Array] | None = None) -> tuple[Node, Node, Found]:
    """A cotangent of y, what comes back of it to x, and which elements of the cotangent that depends on: the Jacobian's columns."""
    d = input_(name="d", shape=y.tensor.shape, dtype=y.tensor.dtype.cotangent)
    (slope,) = reverse.vjp([y], [d], [x])
    return d, slope, reads([slope], {d: itself(y.tensor.static_shape)}, given)[0]


# ---- rules -------------------------------------------------------------------------------------------------------------------------------

Rule = Callable[[Node, tuple[Found, ...], Known], Results]
ELEMENTWISE = frozenset({"unary", "binary", "compare", "select", "cast"})


def _rule(n: Node) -> Rule:
    if n.op in RULES:
        return RULES[n.op]
    return _same_place if n.op.family in ELEMENTWISE else _matrices if n.op.family == "linalg" else _all


def _shapes(n: Node) -> list[tuple[int, ...]]:
    types = n.type.items if isinstance(n.type, TupleType) else (n.type,)
    return [t.static_shape if isinstance(t, TensorType) else () for t in types]


def _spread(r: Reads, n: Node, shape: Callable[[tuple[int, ...]], Array]) -> Results:
    """The same for every result of n: `shape` says how r's elements are repeated in a shape."""
    parts = tuple(Reads(shape(s), r.table) for s in _shapes(n))
    return parts if isinstance(n.type, TupleType) else parts[0]


def _all(n: Node, operands: tuple[Found, ...], known: Known) -> Results:
    """Every element of every result on every element of every operand."""
    r = everything([o for o in operands if o is not None])
    return _spread(r, n, lambda s: np.broadcast_to(r.which, s))


def _same_place(n: Node, operands: tuple[Found, ...], known: Known) -> Found:
    out: Found = None
    for o in operands:
        out = beside(out, o)
    return out


def _first(n: Node, operands: tuple[Found, ...], known: Known) -> Found:
    return operands[0]


def _mul(n: Node, operands: tuple[Found, ...], known: Known) -> Found:
    a, b = operands
    if a is not None and b is not None:
        return beside(a, b)
    r, factor = (a, known(n.inputs[1])) if a is not None else (b, known(n.inputs[0]))
    assert r is not None
    return r if factor is None or factor.all() else Reads(np.where(factor != 0, r.which, 0), r.table)


def _where(n: Node, operands: tuple[Found, ...], known: Known) -> Found:
    c = known(n.inputs[0])
    if c is None or operands[0] is not None:
        return _same_place(n, operands, known)
    (_, a, b), table = _numbers(n, operands)
    return Reads(np.where(c, a, b), table)


def _numbers(n: Node, operands: tuple[Found, ...]) -> tuple[list[Array], Table]:
    """An array of sets' numbers for each operand; of those that depend on nothing it is 0."""
    ids, table = pooled([r for r in operands if r is not None])
    rest = iter(ids)
    return [np.zeros(i.tensor.static_shape, np.int64) if r is None else next(rest) for i, r in zip(n.inputs, operands)], table


def _moved(n: Node, operands: tuple[Found, ...], known: Known) -> Found:
    """Each element of the result is one of an operand, or a constant: the op itself, on numbers of sets."""
    ids, table = _numbers(n, operands)
    attrs = {**n.attrs, "value": 0} if "value" in n.attrs else n.attrs
    return Reads(np.asarray(n.op.numpy(*ids, **attrs)), table)


def _summed(n: Node, operands: tuple[Found, ...], known: Known) -> Found:
    """Each element of an operand goes to where its cotangent comes from, which the derivative of the sum says."""
    shape = n.tensor.static_shape
    g = input_(name="g", shape=shape, dtype=i64)
    places = {g: np.arange(math.prod(shape)).reshape(shape)}
    places.update((i, v) for i in n.inputs[1:2] if (v := known(i)) is not None)
    rule = SUMS[n.op].vjp
    assert callable(rule)
    moving = [(p, r) for p, r in zip(rule(g, n, *n.inputs, **n.attrs), operands) if r is not None and p is not None]
    to = evaluate([p for p, _ in moving], places)
    ids, table = pooled([r for _, r in moving])
    return union(np.concatenate([t.ravel() for t in to]), np.concatenate([i.ravel() for i in ids]), shape, table)


def _indexed(n: Node, operands: tuple[Found, ...], known: Known) -> Results:
    """By indices that are constants, movement and sums. By others, anything along the axis."""
    i, axis = n.inputs[1], n.attrs["axis"]
    if operands[1] is not None:
        return _all(n, operands, known)
    at = known(i)
    if at is not None and n.op in SUMS:
        return _summed(n, operands, known)
    if at is not None:
        ids, table = _numbers(n, operands)
        return Reads(np.asarray(n.op.numpy(ids[0], at, *ids[2:], **n.attrs)), table)
    x, u = operands[0], operands[2] if len(operands) > 2 else None
    wide = i.tensor.rank if n.op in SLICES else 1                       # axes of the indices

    def along(r: Reads, axes: range, new: range) -> Reads:
        one = over(r, axes)
        return Reads(np.broadcast_to(np.expand_dims(one.which, tuple(new)), n.tensor.static_shape), one.table)

    there, indices = range(axis, axis + 1), range(axis, axis + wide)
    if len(operands) == 2:
        return None if x is None else along(x, there, indices)
    return beside(x, None if u is None else along(u, indices, there))


def _contract(n: Node, operands: tuple[Found, ...], known: Known) -> Found:
    """What is summed up, all of it; but where a constant factor is 0."""
    shape, inner, lead = n.tensor.static_shape, n.attrs["contracting"], n.attrs["batch"]
    free = [contract.free_axes(x.tensor.rank, c, b) for x, c, b in zip(n.inputs, inner, lead)]
    split = len(lead[0]) + len(free[0])                 # axes of the result: batch, free ones of a; of b

    def rows(k: int, x: Array) -> Array:
        """An operand as [batch, free, contracted]."""
        groups = (lead[k], free[k], inner[k])
        return np.asarray(x.transpose([a for axes in groups for a in axes]).reshape([math.prod([x.shape[a] for a in axes]) for axes in groups]))

    out: Found = None
    for k, r in enumerate(operands):
        if r is None:
            continue
        here, factor = rows(k, r.which), known(n.inputs[1 - k])
        if factor is not None and not factor.all():
            mask = rows(1 - k, factor != 0)
            if np.count_nonzero(mask) * here.shape[1] <= MOST:
                return _through(mask, here, r.table, shape, swapped=k == 1)
        whole = over(Reads(here, r.table), (2,))
        new = range(split, len(shape)) if k == 0 else range(len(lead[0]), split)
        own = whole.which.reshape([m for a, m in enumerate(shape) if a not in new])
        out = beside(out, Reads(np.broadcast_to(np.expand_dims(own, tuple(new)), shape), whole.table))
    return out


def _through(mask: Array, here: Array, table: Table, shape: tuple[int, ...], swapped: bool = False) -> Reads:
    """here[b, i, k] goes to (b, i, j) where mask[b, j, k]; swapped: to (b, j, i)."""
    b, j, k = np.nonzero(mask)
    i = np.arange(here.shape[1])[:, None]
    many, wide = here.shape[1], mask.shape[1]
    rows = (b * wide + j) * many + i if swapped else (b * many + i) * wide + j
    return union(rows, here[b, :, k].T, shape, table)


def _cumsum(n: Node, operands: tuple[Found, ...], known: Known) -> Found:
    """A product with a triangle of ones."""
    (r,), axis = operands, n.attrs["axis"]
    assert r is not None
    last = np.moveaxis(r.which, axis, -1)
    size = last.shape[-1]
    if size * (size + 1) // 2 * math.prod(last.shape[:-1]) > MOST:
        whole = over(r, (axis,))
        return Reads(np.broadcast_to(np.expand_dims(whole.which, axis), r.which.shape), whole.table)
    ones = np.tri(size, dtype=bool)
    out = _through((ones.T if n.attrs["reverse"] else ones)[None], last.reshape(1, -1, size), r.table, last.shape)
    return Reads(np.moveaxis(out.which, -1, axis), out.table)


def _matrices(n: Node, operands: tuple[Found, ...], known: Known) -> Results:
    """Matrix by matrix of a batch; of a system with one matrix column by column."""
    if n.op in (linalg.solve, linalg.triangular_solve) and operands[0] is None and operands[1] is not None:
        columns = over(operands[1], (operands[1].which.ndim - 2,))
        return Reads(np.broadcast_to(np.expand_dims(columns.which, -2), n.tensor.static_shape), columns.table)
    one: Found = None
    for r in operands:
        one = beside(one, None if r is None else over(r, (r.which.ndim - 2, r.which.ndim - 1)))
    assert one is not None
    each, rank = one.which, one.which.ndim
    return _spread(one, n, lambda s: np.broadcast_to(each.reshape(*each.shape, *(1,) * (len(s) - rank)), s))


# ---- bodies ------------------------------------------------------------------------------------------------------------------------------


def _called(n: Node, operands: tuple[Found, ...], known: Known) -> Results:
    return _inside(n.attrs["body"], operands, _given(n.attrs["body"], n.inputs, known))


def _inside(body: Graph, operands: Sequence[Found], given: Mapping[Node, Array]) -> tuple[Found, ...]:
    return tuple(reads(body.outputs, {i: r for i, r in zip(body.inputs, operands) if r is not None}, given))


def _given(body: Graph, operands: Sequence[Node], known: Known, first: int = 0) -> dict[Node, Array]:
    """Of a body's inputs from the first on those whose values are certain."""
    return {i: v for i, x in zip(body.inputs[first:], operands[first:]) if (v := known(x)) is not None}


def _cond(n: Node, operands: tuple[Found, ...], known: Known) -> Results:
    """What any of the branches reads."""
    if operands[0] is not None:
        return _all(n, operands, known)
    out: tuple[Found, ...] = (None,) * len(_shapes(n))
    for b in branches_of(n.attrs):
        out = tuple(map(beside, out, _inside(b, operands[1:], _given(b, n.inputs[1:], known))))
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

    def results(self, inputs: Mapping[int, Reads], cases: int) -> list[Found]:
        sources, table = self.laid(inputs, cases)
        return [None if o is None else composed(o, sources, table) for o in self.outs]

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


def _turn(body: Graph, operands: Sequence[Found], carries: int, given: Mapping[Node, Array]) -> _Turn:
    moving = [r is not None for r in operands]
    while True:
        at = [k for k, m in enumerate(moving) if m]
        sizes = [math.prod(body.inputs[k].tensor.static_shape) for k in at]
        firsts = [sum(sizes[:j]) for j in range(len(at))]
        seeds = {body.inputs[k]: itself(body.inputs[k].tensor.static_shape, first, sum(sizes)) for k, first in zip(at, firsts)}
        outs = tuple(reads(body.outputs, seeds, given))
        late = [k for k in range(carries) if outs[k] is not None and not moving[k]]
        if not late:
            return _Turn(body, at, outs, carries)
        for k in late:
            moving[k] = True


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


def _scan(n: Node, operands: tuple[Found, ...], known: Known) -> Results:
    """Step by step where the steps are few; else a carry depends on all that it could reach in any number of them."""
    body, carries, length = n.attrs["body"], n.attrs["carries"], n.attrs["length"]
    xs, bounded = range(carries, carries + n.attrs["xs"]), n.attrs.get("bounded", False)
    if bounded and operands[xs.stop] is not None:
        return _all(n, operands, known)
    turn = _turn(body, operands, carries, _given(body, n.inputs, known, xs.stop))
    inputs = _starts(turn, operands, xs)
    moving = [k for k in turn.at if k < carries]
    if bounded or length > STEPS:
        ends = turn.ever({k: Reads(w.which[None], w.table) if k in xs and (w := over(r, (0,))) else r for k, r in inputs.items()})
        states = {k: _repeated(r, length) for k, r in ends.items()}
    else:
        ends, before = {k: inputs[k] for k in moving}, []
        for t in range(length)[::-1 if n.attrs.get("reverse") else 1]:
            before.append(ends)
            after = turn.results({**{k: Reads(r.which[t:t + 1], r.table) if k in xs else r for k, r in inputs.items()}, **ends}, 1)
            ends = {k: after[k] or nothing(r.which.shape, r.table) for k, r in ends.items()}
        states = {k: _stacked([b[k] for b in before][::-1 if n.attrs.get("reverse") else 1], inputs[k]) for k in moving}
    ys = turn.results({**inputs, **states}, length)[carries:]
    return (*(Reads(ends[k].which[0], ends[k].table) if k in ends else None for k in range(carries)), *ys, *(states.get(k) for k in range(carries)))


def _stacked(rows: list[Reads], like: Reads) -> Reads:
    if not rows:
        return Reads(like.which[:0], like.table)
    ids, table = pooled(rows)
    return Reads(np.concatenate(ids), table)


def _while(n: Node, operands: tuple[Found, ...], known: Known) -> Results:
    body, test, carries, most = n.attrs["body"], n.attrs["cond"], n.attrs["carries"], n.attrs.get("max_steps")
    turn = _turn(body, operands, carries, _given(body, n.inputs, known, carries))
    if reads(test.outputs, {test.inputs[k]: itself(test.inputs[k].tensor.static_shape) for k in turn.at}) != [None]:
        return _all(n, operands, known)                 # how long it goes on depends on it
    ends = turn.ever(_starts(turn, operands, range(0)))
    last = [Reads(ends[k].which[0], ends[k].table) if k in ends else None for k in range(carries)]
    kept = [] if most is None else [_repeated(ends[k], most) if k in ends else None for k in range(carries)]
    return (*last, *kept, None)


MOVES = (movement.reshape, movement.permute, movement.broadcast, movement.slice_, movement.pad, movement.flip, movement.concat, window)
SLICES = frozenset({index.take, index.scatter_add, index.scatter_set, index.scatter_max, index.scatter_min})
ELEMENTS = frozenset({index.take_along, index.put_along_add, index.put_along_set, index.put_along_max, index.put_along_min})
SUMS: dict[Op, Op] = {                                  # a sum that sends the elements to the same places
    **dict.fromkeys((reduce.reduce_sum, reduce.reduce_prod, reduce.reduce_max, reduce.reduce_min), reduce.reduce_sum), fold: fold,
    **dict.fromkeys((index.scatter_add, index.scatter_max, index.scatter_min), index.scatter_add),
    **dict.fromkeys((index.put_along_add, index.put_along_max, index.put_along_min), index.put_along_add),
}
RULES: dict[Op, Rule] = {
    **dict.fromkeys(MOVES, _moved), **dict.fromkeys(SUMS, _summed), **dict.fromkeys((*SLICES, *ELEMENTS), _indexed),
    elementwise.mul: _mul, elementwise.where: _where, index.check_index: _same_place, contract.contract: _contract, cumsum: _cumsum, barrier: _first,
    **dict.fromkeys((custom_vjp, custom_jvp, remat), _called), cond: _cond, scan: _scan, while_: _while,
}
