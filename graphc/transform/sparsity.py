"""Which elements of a result may depend on which elements of a leaf: known from the graph alone, for every value of its inputs.

The pattern of a Jacobian is asked of the graph that forward mode writes: which elements of the slope can the tangent's change? So there is no rule for
derivatives here; what is flat, stopped, or the user's own rule has been settled before. What an op says of elements comes from what it is already: movement
is the op's NumPy meaning applied to the numbers of sets; a sum sends each element to where its cotangent comes from; what a product has 0 in, by a
constant, is not read. An op without a rule depends with all of its results on all of its operands, which is right for any op.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..core.dtype import i64
from ..core.types import TokenType, TupleType
from ..interp.numpy import evaluate
from ..ir.node import Node
from ..ir.op import Op
from ..ir.walk import topo
from ..ops import contract, elementwise, index, linalg, movement, reduce
from ..ops.along import cumsum
from ..ops.call import barrier
from ..ops.leaf import input_
from ..ops.tuples import get
from ..ops.window import fold, window
from . import grad as reverse
from . import jvp as forward
from .reads import MOST, Array, Reads, Table, beside, itself, over, pooled, union
from .sparsity_control import BODIES, Found, Known, Results, on_everything, spread


def reads(outputs: Sequence[Node], seeds: Mapping[Node, Reads], given: Mapping[Node, Array] | None = None) -> list[Found]:
    """For each output what its elements may depend on, where seeds says it of some nodes. given: leaves whose values are certain."""
    order = topo(outputs, stop=seeds)
    known = Known(order, seeds, given or {})
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
            if any(r is not None for r in operands):
                found[n] = BODIES[n.op](n, operands, known, reads) if n.op in BODIES else _rule(n)(n, operands, known)
        for i in n.inputs:
            if last[i] is n and i not in kept and i.op is not get and not isinstance(i.type, TupleType):
                found.pop(i, None)
    return [r if isinstance(r := found.get(o), Reads) else None for o in outputs]


def jvp_reads(y: Node, x: Node) -> tuple[Node, Node, Found]:
    """A tangent of x, the slope of y along it, and which elements of the tangent each element of the slope may depend on: the Jacobian's rows."""
    d = input_(name="d", shape=x.tensor.shape, dtype=x.tensor.dtype.cotangent)
    _, (slope,) = forward.jvp([y], [x], [d])
    return d, slope, reads([slope], {d: itself(x.tensor.static_shape)})[0]


def vjp_reads(y: Node, x: Node) -> tuple[Node, Node, Found]:
    """A cotangent of y, what comes back of it to x, and which elements of the cotangent that depends on: the Jacobian's columns."""
    d = input_(name="d", shape=y.tensor.shape, dtype=y.tensor.dtype.cotangent)
    (slope,) = reverse.vjp([y], [d], [x])
    return d, slope, reads([slope], {d: itself(y.tensor.static_shape)})[0]


# ---- rules -------------------------------------------------------------------------------------------------------------------------------

Rule = Callable[[Node, tuple[Found, ...], Known], Results]
ELEMENTWISE = frozenset({"unary", "binary", "compare", "select", "cast"})


def _rule(n: Node) -> Rule:
    if n.op in RULES:
        return RULES[n.op]
    return _same_place if n.op.family in ELEMENTWISE else _matrices if n.op.family == "linalg" else on_everything


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
        return on_everything(n, operands, known)
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
    return spread(one, n, lambda s: np.broadcast_to(each.reshape((*each.shape, *(1,) * (len(s) - rank))), s))


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
}
