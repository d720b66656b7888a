"""Formulas that are right for real numbers and wrong for floating ones, rewritten into forms that are right for both: log(1 + x) is log1p(x).

Each rule is data, with the ways in which users spell what it replaces (`spelt`), on which the tests judge it: no rewritten form may be further from the
true value than what was written. This is the one rewriting that may change a value, and only toward the true one, so it is no pass of the pipeline: it is
the last part of a trace (`stabilize`), and every backend and the oracle see the graph that comes out.

Gradients are written while the function is traced, so reverse and forward mode ask for the stable form of what they differentiate (`forms`):
the derivative of log(softmax(x)) is that of log_softmax(x), eagerly too. `written_as_is()` turns both off. The idea is Theano's phase
"stabilize"; the walk through keepdims, broadcasts and picks, and the forms for derivatives, are ours.
"""
from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from ..core.dims import Size
from ..core.record import dataclass
from ..ir.node import Graph, Node, recorder, recording
from ..ir.op import Op
from ..ir.rewrite import Env, Hole, P, Rule, Splat, could_match, match, rewrite
from ..ir.walk import all_nodes, frontier, topo
from ..ops.contract import free_axes
from ..ops.elementwise import (
    abs_,
    add,
    and_,
    div,
    eq,
    exp,
    expm1,
    isfinite,
    log,
    log1p,
    lt,
    mul,
    neg,
    not_,
    sigmoid,
    sqrt,
    stop_gradient,
    sub,
    tanh,
    where,
)
from ..ops.index import take, take_along
from ..ops.leaf import splat
from ..ops.movement import broadcast, flip, permute, reshape, slice_
from ..ops.reduce import reduce_max, reduce_sum


class _Switch(threading.local):
    on = True


_switch = _Switch()


@contextmanager
def written_as_is(yes: bool = True) -> Iterator[None]:
    """Inside, nothing is rewritten: derivatives are those of the formulas as they stand."""
    before, _switch.on = _switch.on, _switch.on and not yes
    try:
        yield
    finally:
        _switch.on = before


@dataclass(frozen=True, slots=True, eq=False)
class Stable:
    """A rule, and how users write what it is for. slope: the derivative of the new form is better too (that of exp(x) - 1 was good already)."""

    rule: Rule
    spelt: tuple[Callable[[Node], Node], ...]
    slope: bool = True

    def __repr__(self) -> str:
        return self.rule.comment


def stabilize(graph: Graph, fired: list[tuple[Node, Rule]] | None = None) -> Graph:
    """The graph with every formula in its stable form; `fired` is told what was replaced, and by which rule."""
    return rewrite(graph, RULES, fired=fired) if _switch.on and _has_work(graph) else graph


def _has_work(graph: Graph) -> bool:
    """Does any rule fit anywhere? Most graphs have none, and looking costs less than rewriting."""
    with recording(None):
        for n in all_nodes(graph):
            for rule in _RULES_BY_OP.get(n.op, ()):
                env: Env = {}
                if could_match(rule.pattern, n) and match(rule.pattern, n, env) and rule.function(**env) is not None:
                    return True
    return False


# ---- looking through movement ----------------------------------------------------------------------------------------------------------

Axes = tuple[int | None, ...]                           # of a node beneath: which axis of the node on top each of its axes is; None: a new one of size 1


def _step(n: Node, at: Axes) -> tuple[Node, Axes] | None:
    """One broadcast, stop_gradient, or reshape that adds or drops axes of size 1, taken away."""
    if n.op is broadcast:
        new = n.attrs["axes"]
        return n.inputs[0], tuple(a for k, a in enumerate(at) if k not in new)
    if n.op is stop_gradient:
        return n.inputs[0], at
    if n.op is not reshape:
        return None
    x = n.inputs[0]
    long = [k for k, size in enumerate(n.tensor.shape) if size != 1]
    mine = [k for k, size in enumerate(x.tensor.shape) if size != 1]
    if [n.tensor.shape[k] for k in long] != [x.tensor.shape[k] for k in mine]:
        return None
    found: list[int | None] = [None] * x.tensor.rank
    for k, j in zip(mine, long):
        found[k] = at[j]
    return x, tuple(found)


def _repeated(n: Node) -> tuple[Node, Axes]:
    """What n repeats, and where the axes of that stand in n."""
    return _through(n, tuple(range(n.tensor.rank)))


def _through(n: Node, at: Axes) -> tuple[Node, Axes]:
    while (under := _step(n, at)) is not None:
        n, at = under
    return n, at


def _is_over(r: Node, at: Axes) -> bool:
    """Do the axes that a reduction keeps stand where its operand has them?"""
    kept = free_axes(r.inputs[0].tensor.rank, r.attrs["axes"])
    return len(kept) == len(at) and all(a is None or a == k for a, k in zip(at, kept))


def alike(a: Node, b: Node, depth: int = 8) -> bool:
    """Whether two nodes are the same computation: one node, or written twice."""
    if a is b:
        return True
    if a.op is not b.op or not a.inputs or depth == 0 or len(a.inputs) != len(b.inputs) or a.type != b.type or a.attrs != b.attrs:
        return False
    return all([alike(x, y, depth - 1) for x, y in zip(a.inputs, b.inputs)])


# ---- what is there already -------------------------------------------------------------------------------------------------------------


def _is_shifted(a: Node, axes: Sequence[int]) -> bool:
    """Is a = x - max(x), the largest over these very axes?"""
    if a.op is not sub:
        return False
    m, at = _repeated(a.inputs[1])
    if m.op is where and m.inputs[0].op is isfinite:    # 0 in the place of an infinite one
        m, at = _through(m.inputs[1], at)
    return m.op is reduce_max and sorted(m.attrs["axes"]) == sorted(axes) and _is_over(m, at) and alike(_bare(m.inputs[0]), _bare(a.inputs[0]))


def _bare(n: Node) -> Node:
    while n.op is stop_gradient:
        n = n.inputs[0]
    return n


def _is_bounded(a: Node) -> bool:
    """exp(a) cannot overflow, as whoever wrote it has seen to."""
    if a.op is neg:
        return a.inputs[0].op is abs_
    if a.op is where and a.inputs[0].op is lt:          # where(0 < x, -x, x)
        (least, x), minus = a.inputs[0].inputs, a.inputs[1]
        if a.inputs[2] is x and (x in minus.inputs[:1] if minus.op is neg else x.op is neg and x.inputs[0] is minus):
            return _repeated(least)[0].op.name == "const"
    if a.op.name in ("where", "minimum"):
        return any(i.op.name == "const" for i in a.inputs)
    return a.op.name == "const" or (a.op is sub and _repeated(a.inputs[1])[0].op is reduce_max)


# ---- how the stable forms are written --------------------------------------------------------------------------------------------------


def _spread(x: Node, axes: Sequence[int], like: Node) -> Node:
    return broadcast(x, shape=like.tensor.shape, axes=tuple(sorted(axes)))


def _largest(a: Node, axes: Sequence[int]) -> Node:
    """The largest over the axes, a constant to derivatives; 0 where it is not finite, so that a - m is never inf - inf."""
    m = reduce_max(stop_gradient(a), axes=tuple(axes))
    return where(isfinite(m), m, splat(0.0, m))


def _lowered(a: Node, axes: Sequence[int]) -> Node:
    """a - max(a), which it may be already."""
    return a if _is_shifted(a, axes) else a - _spread(_largest(a, axes), axes, a)


def _softplus(a: Node) -> Node:
    """log(1 + exp(a)). (Not max and |a|: where those turn, this does not, and both branches have its derivatives of every order.)"""
    positive = lt(splat(0.0, a), a)
    return where(positive, a, splat(0.0, a)) + log1p(exp(where(positive, -a, a)))


def _negated(a: Node) -> Node:
    return a.inputs[0] if a.op is neg else neg(a)


# ---- rows: softmax and logsumexp -------------------------------------------------------------------------------------------------------


def _sum_of_exp(n: Node) -> tuple[Node, tuple[int, ...]] | None:
    """(a, axes) where n is the sum of exp(a) over the axes, of more than one element."""
    if n.op is not reduce_sum or n.inputs[0].op is not exp or not n.attrs["axes"]:
        return None
    a, axes = n.inputs[0].inputs[0], n.attrs["axes"]
    sizes: list[Size] = [a.tensor.shape[k] for k in axes]
    return None if 0 in sizes or all(s == 1 for s in sizes) else (a, axes)


def _share(n: Node) -> tuple[Node, Node] | None:
    """(a, sum of exp(a)) where n is exp(a) over that sum, divided or multiplied by its inverse."""
    if n.op is div:
        e, s = n.inputs
        total, at = _repeated(s)
    elif n.op is mul:
        e, s = n.inputs if n.inputs[0].op is exp else n.inputs[::-1]
        inverse, at = _repeated(s)
        if inverse.op is not div or not _is_one(inverse.inputs[0]):
            return None
        total, at = _through(inverse.inputs[1], at)
    else:
        return None
    if e.op is not exp or _sum_of_exp(total) is None or not _is_over(total, at) or not alike(e, total.inputs[0]):
        return None
    return e.inputs[0], total


def _is_one(n: Node) -> bool:
    return n.op.name == "const" and not n.attrs["value"].ndim and n.attrs["value"] == 1


def _softmax(**env: Node) -> Node | None:
    """exp(a) / sum(exp(a)) of an a from which nothing is subtracted yet."""
    found = _share(env["n"])
    if found is None:
        return None
    a, total = found
    axes = total.attrs["axes"]
    if _is_shifted(a, axes):
        return None
    e = exp(_lowered(a, axes))
    return e / _spread(reduce_sum(e, axes=axes), axes, e)


def _log_softmax(a: Node, total: Node) -> Node:
    """d - log(sum(exp(d))), d = a - max(a)."""
    axes = total.attrs["axes"]
    d = _lowered(a, axes)
    s = total if d is a else reduce_sum(exp(d), axes=axes)
    return d - _spread(log(s), axes, d)


def _logsumexp(a: Node, axes: tuple[int, ...]) -> Node | None:
    """m + log(sum(exp(a - m))), m the largest. Of nothing but -inf it is -inf, with derivatives of 0."""
    if _is_shifted(a, axes):
        return None
    m = _largest(a, axes)
    total = reduce_sum(exp(a - _spread(m, axes, a)), axes=axes)
    return where(eq(total, splat(0.0, total)), splat(-math.inf, total), log(total)) + m


PICKS = frozenset({reshape, permute, broadcast, slice_, flip, take, take_along})    # each element of the result is one of the operand's


def _log_of_picked(n: Node, x: Node) -> Node | None:
    """The logarithm goes below what only picks elements, to where a softmax or a sum of exponentials is."""
    picks: list[Node] = []
    while x.op in PICKS:
        picks.append(x)
        x = x.inputs[0]
    found: Node | None = None
    if (share := _share(x)) is not None:
        found = _log_softmax(*share)
    elif (sums := _sum_of_exp(x)) is not None:
        found = _logsumexp(*sums)
    if found is None:
        return None
    for p in reversed(picks):
        found = p.op(found, *p.inputs[1:], **p.attrs)
    return found


def _log_of_mean(n: Node, s: Node, k: Node) -> Node | None:
    """log(sum(exp(a)) / k) = logsumexp(a) - log(k): of a mean, k is a positive constant or a size."""
    if not _is_positive(k):
        return None
    top = _log_of_picked(n, s)
    return None if top is None else top - log(k)


def _is_positive(k: Node) -> bool:
    k = _repeated(k)[0]
    if k.op.name == "cast":
        return k.inputs[0].op.name == "size"
    return k.op.name == "const" and not k.attrs["value"].ndim and 0 < float(k.attrs["value"]) < math.inf


# ---- the rules -------------------------------------------------------------------------------------------------------------------------

x, y, s, k = Hole("x"), Hole("y"), Hole("s"), Hole("k")
one, minus_one = Splat(1, ("float",)), Splat(-1, ("float",))


def _both(op: Op, a: P | Hole | Splat, b: P | Hole | Splat, name: str | None = None) -> P:
    return P(op, (a, b), name=name, commutes=True)


def _exp(a: P | Hole) -> P:
    return P(exp, (a,))


def _log_sum_two(x: Node, y: Node) -> Node:
    """log(exp(a) + exp(b)); equal infinities give themselves."""
    below = lt(x, y)
    d = where(and_(eq(x, y), not_(isfinite(x))), splat(0.0, x), where(below, x - y, y - x))
    return where(below, y, x) + log1p(exp(d))


def _log1mexp(x: Node) -> Node:
    """log(1 - exp(x)): near 0 by expm1, else by log1p. (0 - y, not -y: the pattern must not find itself.)"""
    near = lt(splat(-math.log(2.0), x), x)
    return where(near, log(0.0 - expm1(where(near, x, splat(-1.0, x)))), log1p(0.0 - exp(where(near, splat(-1.0, x), x))))


def _summed(n: Node, keep: bool = False, axes: tuple[int, ...] = (1,)) -> Node:
    """The sum over the last axis as users have it: without keepdims an axis of size 1 comes and goes."""
    total = reduce_sum(n, axes=axes)
    if keep:
        shape = tuple(1 if k in axes else m for k, m in enumerate(n.tensor.shape))
        total = reshape(reshape(total, shape=shape), shape=total.tensor.shape)
    return _spread(total, axes, n)


def _hand_softmax(x: Node) -> Node:
    return exp(x) / _summed(exp(x), keep=True)


def _hand_shifted(x: Node) -> Node:
    d = x - _spread(reduce_max(x, axes=(1,)), (1,), x)
    e = exp(d)
    return e / _summed(e)


LOGARITHMS = (
    Stable(Rule(P(log, (_exp(x),)), lambda x: x, "log(exp(x)) → x"), (lambda x: log(exp(x)),)),
    Stable(Rule(P(log, (_both(add, _exp(x), one),)), lambda x: None if _is_bounded(x) else _softplus(x), "log(1 + exp(x)) → max(x, 0) + log1p(exp(-|x|))"),
           (lambda x: log(1.0 + exp(x)), lambda x: log(exp(x) + 1.0), lambda x: log(1.0 + exp(-x)))),
    Stable(Rule(P(log1p, (_exp(x),)), lambda x: None if _is_bounded(x) else _softplus(x), "log1p(exp(x)) → max(x, 0) + log1p(exp(-|x|))"),
           (lambda x: log1p(exp(x)), lambda x: log1p(exp(-x)))),
    Stable(Rule(P(log, (P(add, (_exp(x), _exp(y))),)), _log_sum_two, "log(exp(x) + exp(y)) → max(x, y) + log1p(exp(-|x - y|))"),
           (lambda x: log(exp(x) + exp(x * 0.5)), lambda x: log(exp(x) + exp(-x)))),
    Stable(Rule(P(log, (P(sigmoid, (x,)),)), lambda x: neg(_softplus(_negated(x))), "log(sigmoid(x)) → -softplus(-x)"),
           (lambda x: log(sigmoid(x)), lambda x: log(1.0 / (1.0 + exp(-x))), lambda x: log(1.0 - sigmoid(x)))),
    Stable(Rule(P(log1p, (P(neg, (P(sigmoid, (x,)),)),)), lambda x: neg(_softplus(x)), "log1p(-sigmoid(x)) → -softplus(x)"),
           (lambda x: log1p(-sigmoid(x)),)),
    Stable(Rule(P(log, (P(neg, (P(expm1, (x,)),)),)), _log1mexp, "log(1 - exp(x)) → log(-expm1(x)) near 0, else log1p(-exp(x))"),
           (lambda x: log(1.0 - exp(-abs_(x))),)),
    Stable(Rule(P(log, (Hole("x"),), name="n"), _log_of_picked, "log(softmax(x)) → log_softmax(x), log(sum(exp(x))) → logsumexp(x)"),
           (lambda x: log(_hand_softmax(x)), lambda x: log(_hand_shifted(x)), lambda x: log(reduce_sum(exp(x), axes=(1,))),
            lambda x: log(reduce_sum(exp(x), axes=(0, 1))),
            lambda x: log(slice_(_hand_softmax(x), starts=(0, 1), stops=(2, 3), steps=(1, 1))),
            lambda x: log(exp(x) * _spread(1.0 / reduce_sum(exp(x), axes=(1,)), (1,), x)))),
    Stable(Rule(P(log, (P(div, (s, k)),), name="n"), _log_of_mean, "log(sum(exp(x)) / k) → logsumexp(x) - log(k), of a size or a positive constant"),
           (lambda x: log(reduce_sum(exp(x), axes=(1,)) / float(x.tensor.static_shape[1])),)),
    Stable(Rule(P(log, (_both(add, x, one),)), lambda x: log1p(x), "log(1 + x) → log1p(x)"), (lambda x: log(1.0 + x), lambda x: log(x + 1.0)), slope=False),
    Stable(Rule(P(log, (P(sub, (one, x)),)), lambda x: log1p(neg(x)), "log(1 - x) → log1p(-x)"), (lambda x: log(1.0 - x),), slope=False),
)

EXPONENTIALS = (
    Stable(Rule(P(sub, (_exp(x), one)), lambda x: expm1(x), "exp(x) - 1 → expm1(x)"), (lambda x: exp(x) - 1.0,), slope=False),
    Stable(Rule(_both(add, _exp(x), minus_one), lambda x: expm1(x), "exp(x) + -1 → expm1(x)"), (lambda x: exp(x) + -1.0,), slope=False),
    Stable(Rule(P(sub, (one, _exp(x))), lambda x: neg(expm1(x)), "1 - exp(x) → -expm1(x)"), (lambda x: 1.0 - exp(x),), slope=False),
    Stable(Rule(P(div, (one, _both(add, _exp(x), one))), lambda x: sigmoid(_negated(x)), "1 / (1 + exp(-x)) → sigmoid(x)"),
           (lambda x: 1.0 / (1.0 + exp(-x)), lambda x: 1.0 / (exp(x) + 1.0))),
    Stable(Rule(P(div, (_exp(x), _both(add, _exp(y), one))), lambda x, y: sigmoid(x) if alike(x, y) else None, "exp(x) / (1 + exp(x)) → sigmoid(x)"),
           (lambda x: exp(x) / (1.0 + exp(x)), lambda x: exp(x) / (exp(x) + 1.0))),
    Stable(Rule(P(sub, (one, P(sigmoid, (x,)))), lambda x: sigmoid(_negated(x)), "1 - sigmoid(x) → sigmoid(-x)"),
           (lambda x: 1.0 - sigmoid(x), lambda x: 1.0 - 1.0 / (1.0 + exp(-x)))),
    Stable(Rule(P(div, (P(sub, (_exp(x), P(exp, (P(neg, (Hole("a"),)),)))), P(add, (_exp(y), P(exp, (P(neg, (Hole("b"),)),)))))),
                lambda x, y, a, b: tanh(x) if alike(x, a) and alike(x, y) and alike(x, b) else None, "(exp(x) - exp(-x)) / (exp(x) + exp(-x)) → tanh(x)"),
           (lambda x: (exp(x) - exp(-x)) / (exp(x) + exp(-x)),)),
    Stable(Rule(P(div, (_exp(x), y), name="n"), _softmax, "exp(x) / sum(exp(x)) → exp(d) / sum(exp(d)), d = x - max(x)"),
           (_hand_softmax, lambda x: exp(x) / _summed(exp(x)), lambda x: exp(x) / _summed(exp(x), axes=(0, 1)))),
    Stable(Rule(_both(mul, _exp(x), y, name="n"), _softmax, "exp(x) * (1 / sum(exp(x))) → exp(d) / sum(exp(d)), d = x - max(x)"),
           (lambda x: exp(x) * _spread(1.0 / reduce_sum(exp(x), axes=(1,)), (1,), x),)),
)

ROOTS = (
    Stable(Rule(P(sqrt, (P(mul, (x, x)),)), lambda x: abs_(x), "sqrt(x * x) → |x|"), (lambda x: sqrt(x * x),)),
)

STABLE: tuple[Stable, ...] = (*LOGARITHMS, *EXPONENTIALS, *ROOTS)
RULES: tuple[Rule, ...] = tuple(f.rule for f in STABLE)


_RULES_BY_OP: dict[Op, list[Rule]] = {}
for _r in RULES:
    _RULES_BY_OP.setdefault(_r.pattern.op, []).append(_r)

# ---- for derivatives -------------------------------------------------------------------------------------------------------------------

_BY_OP: dict[Op, list[Rule]] = {}
for _f in STABLE:
    if _f.slope:
        _BY_OP.setdefault(_f.rule.pattern.op, []).append(_f.rule)


@dataclass(frozen=True, slots=True)
class Form:
    """A stable form of a node, and the nodes of its graph that it is made of."""

    root: Node
    ends: tuple[Node, ...]


def forms(order: Sequence[Node], kept: Collection[Node]) -> dict[Node, Form]:
    """For nodes of a graph in topological order, the form whose derivative is to be taken in their place.

    Not where a node of `kept` would be passed by: somebody wants to know its own cotangent.
    """
    found: dict[Node, Form] = {}
    if not _switch.on:
        return found
    inside: set[Node] | None = None
    rec = recorder()
    here = None if rec is None else rec.here
    for n in order:
        if n.op not in _BY_OP:
            continue
        if rec is not None and here is not None:
            rec.here = rec.info.get(n, here)            # a form is of the phase and the line of what it stands for
        new = m = n if not any(i in found for i in n.inputs) else Node(n.op, tuple(found[i].root if i in found else i for i in n.inputs), n.attrs, n.type)
        while (newer := _fire(new)) is not None:
            new = newer
        if new is m:
            continue
        inside = inside or set(order)
        ends = frontier((new,), inside)
        if n not in ends and _clear(n, ends, kept):
            found[n] = Form(new, ends)
    if rec is not None and here is not None:
        rec.here = here
    return found


def _fire(n: Node) -> Node | None:
    for rule in _BY_OP.get(n.op, ()):
        env: Env = {}
        if could_match(rule.pattern, n) and match(rule.pattern, n, env) and (new := rule.function(**env)) is not None:
            return new
    return None


def _clear(n: Node, ends: tuple[Node, ...], kept: Collection[Node]) -> bool:
    """Is nobody between n and the ends kept?"""
    return not any(k.inputs for k in kept) or not any(b in kept for b in topo((n,), stop=ends) if b is not n and b not in ends)
