"""Composites under the names that books give them: softmax, logsumexp, softplus, relu. Graph → Graph, for printing alone.

A stable softmax is a dozen nodes (the largest is taken off, unless it is infinite, ...). Here the dozen is one node again, with the derivative a book
would write, so that reverse mode over the result writes what a book would. The new ops are in no registry: they are for formulas, not for steps.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import sympy

from ..core.types import TensorType
from ..ir.node import Graph, Node
from ..ir.op import Op
from ..ir.walk import rebuilt, topo
from ..ops import elementwise as ops
from ..ops.elementwise import add, div, eq, exp, isfinite, le, log, log1p, lt, mul, neg, stop_gradient, sub, where
from ..ops.leaf import const, splat
from ..ops.movement import broadcast, permute, reshape
from ..ops.reduce import reduce_max, reduce_sum
from . import composites
from .composites import composite


def _over(x: Node, axes: tuple[int, ...], like: Node) -> Node:
    return broadcast(x, shape=like.tensor.shape, axes=axes)


def _softmax_vjp(g: Node, y: Node, x: Node, *, axis: int) -> tuple[Node]:
    return (y * (g - _over(reduce_sum(g * y, axes=(axis,)), (axis,), y)),)


def _logsumexp_numpy(x: Any, *, axes: tuple[int, ...]) -> Any:
    return np.log(np.sum(np.exp(x), axes))


softmax = Op("softmax", "reduce", lambda t, *, axis: t, lambda x, *, axis: np.exp(x) / np.sum(np.exp(x), axis, keepdims=True), _softmax_vjp,
             "exp(x) over its sum along an axis", lambda rng: [])
logsumexp = Op("logsumexp", "reduce", lambda t, *, axes: TensorType(tuple(n for a, n in enumerate(t.shape) if a not in axes), t.dtype), _logsumexp_numpy,
               lambda g, y, x, *, axes: (_over(g, axes, x) * (softmax(x, axis=axes[0]) if len(axes) == 1 else exp(x - _over(y, axes, x))),),
               "log(sum(exp(x)))", lambda rng: [])
softplus = Op("softplus", "unary", lambda t: t, lambda x: np.log1p(np.exp(x)), lambda g, y, x: (g * ops.sigmoid(x),), "log(1 + exp(x))", lambda rng: [])
log_sigmoid = Op("log_sigmoid", "unary", lambda t: t, lambda x: -np.logaddexp(0, -x), lambda g, y, x: (g * (1.0 - ops.sigmoid(x)),), "log(sigmoid(x))",
                 lambda rng: [])
log_of_rest = Op("log_of_rest", "unary", lambda t: t, lambda x: -np.logaddexp(0, x), lambda g, y, x: (-(g * ops.sigmoid(x)),), "log(1 - sigmoid(x))",
                 lambda rng: [])
relu = Op("relu", "unary", lambda t: t, lambda x: np.maximum(x, 0),
          lambda g, y, x: (where(lt(splat(0.0, x), x), g, splat(0.0, g)),), "max(x, 0)", lambda rng: [])


# Of elements, as SymPy says it.
WORDS: dict[Op, Callable[..., Any]] = {
    **composites.MEANING, softplus: lambda x: sympy.log(1 + sympy.exp(x)), relu: lambda x: sympy.Max(0, x),
    log_sigmoid: lambda x: -sympy.log(1 + sympy.exp(-x)), log_of_rest: lambda x: -sympy.log(1 + sympy.exp(x)),
}


def textbook(graph: Graph) -> Graph:
    """The graph with every composite that is found as one node."""
    return composed(graph, _found)


def composed(graph: Graph, found: Callable[[Node, dict[Node, Node]], Node | None]) -> Graph:
    """The graph with what `found` says, of a node and of what the nodes before it became, in the place of the nodes of which it says something."""
    done: dict[Node, Node] = {}
    info = dict(graph.info)
    for n in topo((*graph.roots, *graph.leaves)):
        done[n] = found(n, done) or rebuilt(n, tuple(done[i] for i in n.inputs))
        info[done[n]] = graph.where(n)
    return graph.with_roots(tuple(done[r] for r in graph.roots), info)


def _found(n: Node, done: dict[Node, Node]) -> Node | None:
    """The composite that ends in n, on the rebuilt operands."""
    if n.op is div and (e := _exp_shifted(n.inputs[0])) and _sums(n.inputs[1], n.inputs[0], e[1]) and len(e[1]) == 1:
        return softmax(done[e[0]], axis=e[1][0])
    if n.op is mul:                                                     # e * (1 / sum(e)), as graphc computes it
        for e, r in (n.inputs, n.inputs[::-1]):
            if (r := _bare(r)).op is div and is_number(r.inputs[0], 1.0) and (x := _exp_shifted(e)) and _sums(r.inputs[1], e, x[1]) and len(x[1]) == 1:
                return softmax(done[x[0]], axis=x[1][0])
    if n.op is sub and (d := _shifted(n.inputs[0])):
        inner = _bare(n.inputs[1])
        if inner.op is log and _is_sum_of_exp(inner.inputs[0], n.inputs[0], d[1]):
            x = done[d[0]]
            return sub(x, _over(logsumexp(x, axes=d[1]), d[1], x))
    if n.op is log:
        return _of_a_sigmoid(n, done)
    if n.op is lt and n.inputs[0].op is ops.bitcast and n.inputs[0].inputs[0].tensor.dtype.is_float and is_number(n.inputs[1], 0):
        x = done[n.inputs[0].inputs[0]]                                 # the sign bit, which of a real number says only this
        return lt(x, splat(0.0, x))
    if n.op is where and n.tensor.rank and n.inputs[0].op is eq and is_number(n.inputs[1], 0.0) and n.inputs[2].op is ops.sqrt:
        (s, zero), inner = n.inputs[0].inputs, n.inputs[2].inputs[0]    # norms of rows, whose derivative at 0 is 0
        if is_number(zero, 0.0) and inner.op is where and inner.inputs[0] is n.inputs[0] and inner.inputs[2] is s and is_number(inner.inputs[1], 1.0):
            return ops.sqrt(done[s])
    if (found := composite(n)) is not None:
        return found[0](*(done[x] for x in found[1]))
    if n.op is add:
        return _of_a_sum(n, done)
    if n.op is where and n.inputs[0].op is le and n.inputs[0].inputs[0] is n.inputs[2] and all(is_number(x, 0.0) for x in (n.inputs[0].inputs[1], n.inputs[1])):
        return relu(done[n.inputs[2]])
    return None


def _of_a_sigmoid(n: Node, done: dict[Node, Node]) -> Node | None:
    """log(sigmoid(x)) and log(1 - sigmoid(x)), whose stable derivatives are choices."""
    a = n.inputs[0]
    if a.op is ops.sigmoid:
        return log_sigmoid(done[a.inputs[0]])
    if a.op is sub and is_number(a.inputs[0], 1.0) and a.inputs[1].op is ops.sigmoid:
        return log_of_rest(done[a.inputs[1].inputs[0]])
    return None


def _of_a_sum(n: Node, done: dict[Node, Node]) -> Node | None:
    """log(sum(exp(x - m))) + m, and max(x, 0) + log1p(exp(-|x|)), where max and |x| are choices."""
    a, b = n.inputs
    if a.op is where and b.op is log1p and b.inputs[0].op is exp and is_number(a.inputs[2], 0.0):
        (positive, x, _), d = a.inputs, b.inputs[0].inputs[0]
        if d.op is where and d.inputs[0] is positive and positive.op is lt and is_number(positive.inputs[0], 0.0) and positive.inputs[1] is x \
                and d.inputs[1].op is neg and d.inputs[1].inputs[0] is x and d.inputs[2] is x:
            return softplus(done[x])
    for left, right in ((a, b), (b, a)):
        inner = _log_of(left)
        if inner.op is log and (total := _bare(inner.inputs[0])).op is reduce_sum and (e := _exp_shifted(total.inputs[0])):
            x, axes = e
            if total.attrs["axes"] == axes and _shift_of(right) == (x, axes):
                out = logsumexp(done[x], axes=axes)
                return out if out.type == n.type else reshape(out, shape=n.tensor.shape)
    return None


def _bare(n: Node) -> Node:
    """What a node repeats or reshapes."""
    while n.op in (reshape, broadcast, stop_gradient):
        n = n.inputs[0]
    return n


def _log_of(n: Node) -> Node:
    """log(x), where n is that or -inf where x is 0, which is the same."""
    n = _bare(n)
    if n.op is where and n.inputs[0].op is eq and is_number(n.inputs[0].inputs[1], 0.0) and is_number(n.inputs[1], -np.inf):
        inner = _bare(n.inputs[2])
        if inner.op is log and _bare(n.inputs[0].inputs[0]) is _bare(inner.inputs[0]):
            return inner
    return n


def is_number(n: Node, value: float) -> bool:
    n = _bare(n)
    return n.op is const and np.ndim(n.attrs["value"]) == 0 and bool(n.attrs["value"] == value)


def _shift_of(n: Node) -> tuple[Node, tuple[int, ...]] | None:
    """(x, axes) where n is the largest of x along axes, or 0 where that is infinite."""
    n = _bare(n)
    if n.op is where and n.inputs[0].op is isfinite and is_number(n.inputs[2], 0.0):
        m = _bare(n.inputs[1])
        if m.op is reduce_max and _bare(n.inputs[0].inputs[0]) is m:
            x = m.inputs[0]
            return (x.inputs[0] if x.op is stop_gradient else x), m.attrs["axes"]
    return None


def _shifted(n: Node) -> tuple[Node, tuple[int, ...]] | None:
    """(x, axes) where n is x less its shift."""
    if n.op is not sub:
        return None
    found = _shift_of(n.inputs[1])
    return found if found is not None and found[0] is n.inputs[0] else None


def _exp_shifted(n: Node) -> tuple[Node, tuple[int, ...]] | None:
    return _shifted(n.inputs[0]) if n.op is exp else None


def _sums(n: Node, e: Node, axes: tuple[int, ...]) -> bool:
    n = _bare(n)
    return n.op is reduce_sum and n.inputs[0] is e and n.attrs["axes"] == axes


def _is_sum_of_exp(n: Node, d: Node, axes: tuple[int, ...]) -> bool:
    n = _bare(n)
    return n.op is reduce_sum and n.inputs[0].op is exp and n.inputs[0].inputs[0] is d and n.attrs["axes"] == axes


TRANSPARENT = (reshape, broadcast, permute, stop_gradient, ops.cast, ops.neg)   # what needs no name of its own
