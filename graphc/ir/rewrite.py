"""Rewrite rules as data, and the engine that applies them.

A pattern is a small tree: `P(mul, (x, one))` is a product whose second factor is the constant 1. `Hole("x")` stands for any node, `Splat(1)` for a
constant that is 1 everywhere. A rule is a pattern and a function of what the holes found; the function gives the new node, or None where a condition
of its own does not hold. Because rules are data, each can build its own smallest example (`smallest_example`), on which the oracle checks that the
two sides are the same. `exact` rules keep every bit of every value; the others reassociate or forget a signed zero, and are opt-in.

The form is tinygrad's (`UPat`) and GEM's; the checked example is ours.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..core.compat import assert_never
from ..core.dtype import DType, bool_, f64, i64
from ..core.record import dataclass, field
from .node import NOWHERE, Graph, Node, Recorder, recording
from .op import REGISTRY, Op
from .walk import map_subgraphs, topo

Env = dict[str, Node]

# ---- patterns --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hole:
    """Any node. The same name twice in a pattern is the same node twice. shape and dtype are those of the smallest example."""

    name: str
    shape: tuple[int, ...] = (3, 4)
    dtype: DType = f64


@dataclass(frozen=True, slots=True)
class Splat:
    """A constant with this value in every element, sign of zero included; `kinds` narrows the element types.

    any: every constant that is one number everywhere; `value` is then that of the smallest example.
    """

    value: float
    kinds: tuple[str, ...] = ("float", "int", "uint")
    name: str | None = None
    any: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class P:
    """An op applied to patterns. `attrs` must be equal; `name` is the node itself, for rules that read its type or attributes.

    `example` holds the attributes of the smallest example. `commutes`: the two operands match in either order. `single`: nobody else reads
    the node, so taking it apart computes nothing twice.
    """

    op: Op
    args: tuple[Pattern, ...] = ()
    name: str | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)
    example: Mapping[str, Any] = field(default_factory=dict)
    commutes: bool = False
    single: bool = False


Pattern: TypeAlias = "Hole | Splat | P"


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """pattern → function(**what the names in it matched). The comment states the algebra."""

    pattern: P
    function: Callable[..., Node | None]
    comment: str
    exact: bool = True

    def __repr__(self) -> str:
        return self.comment


def could_match(p: P, n: Node) -> bool:
    """Whether the ops of n's inputs are what the pattern wants there: a quick no for most rules. n's own op is the pattern's."""
    if len(p.args) != len(n.inputs):
        return not p.args
    if all([_fits(a, i) for a, i in zip(p.args, n.inputs)]):
        return True
    return p.commutes and _fits(p.args[0], n.inputs[1]) and _fits(p.args[1], n.inputs[0])


def _fits(p: Pattern, n: Node) -> bool:
    return n.op is p.op if type(p) is P else type(p) is Hole or n.op.name == "const"


def match(p: Pattern, n: Node, env: Env, uses: Mapping[Node, int] | None = None) -> bool:
    """Whether the node has the form of the pattern; env receives the named nodes (and may hold leavings after a failure)."""
    match p:
        case Hole():
            return env.setdefault(p.name, n) is n
        case Splat(value, kinds, name):
            return is_splat(n, None if p.any else value, kinds) and (name is None or env.setdefault(name, n) is n)
        case P(op, args, name, attrs):
            if n.op is not op or (attrs and any(k not in n.attrs or n.attrs[k] != v for k, v in attrs.items())):
                return False
            if p.single and uses is not None and uses.get(n, 2) > 1:
                return False
            if name is not None and env.setdefault(name, n) is not n:
                return False
            if args and len(args) != len(n.inputs):
                return False
            saved = dict(env) if p.commutes else env
            if all(match(a, i, env, uses) for a, i in zip(args, n.inputs)):
                return True
            if not p.commutes:
                return False
            env.clear()
            env.update(saved)
            return all(match(a, i, env, uses) for a, i in zip(args, reversed(n.inputs)))
        case _:
            assert_never(p)


def is_splat(n: Node, value: float | None, kinds: tuple[str, ...] = ("float", "int", "uint")) -> bool:
    """Whether n is a constant that is `value` (None: one number) everywhere; +0.0 is not -0.0, and an unsigned type has no -1."""
    if n.op.name != "const":
        return False
    v = n.attrs["value"]
    dtype: DType = n.attrs["dtype"]
    if np.ndim(v) or dtype.kind not in kinds:
        return False
    if value is None:
        return True
    return bool(v == value) and (not dtype.is_float or bool(np.signbit(v)) == bool(np.signbit(value)))


# ---- the engine ------------------------------------------------------------------------------------------------------------------

FUEL = 64                                               # firings for each node of the graph, before we say that rules chase each other


def rewrite(graph: Graph, rules: Iterable[Rule], also: Callable[[Node], Node | None] | None = None, fired: list[tuple[Node, Rule]] | None = None) -> Graph:
    """Apply rules bottom-up until none fits anywhere; the same graph object where none did.

    `also` is tried on every node before the rules: what is a function of a node and no pattern, such as folding. New nodes, and nodes that take
    the place of others, get the Info of what they replace. `fired` is told of each rule that was applied, and to what.
    """
    index: dict[Op, list[Rule]] = {}
    for rule in rules:
        index.setdefault(rule.pattern.op, []).append(rule)
    return _Engine(index, also, fired).run(graph)


@dataclass(frozen=True, slots=True)
class _Engine:
    index: Mapping[Op, Sequence[Rule]]
    also: Callable[[Node], Node | None] | None
    fired: list[tuple[Node, Rule]] | None = None

    def run(self, graph: Graph) -> Graph:
        info = dict(graph.info)
        order = topo(graph.roots)
        uses = _count_uses(order, graph.roots)
        done: dict[Node, Node] = {leaf: leaf for leaf in graph.leaves}  # a node → its final form, in which nothing fits any more
        becomes: dict[Node, Node] = {}                                  # a node → what a rule made of it, not yet final
        fuel = FUEL * (len(order) + 8)
        recorder = Recorder(info)
        with recording(recorder):
            for first in order:
                stack = [first]
                while stack:
                    n = stack[-1]
                    if n in done:
                        stack.pop()
                    elif n in becomes:
                        new = becomes[n]
                        if new not in done:
                            stack.append(new)
                            continue
                        new = done[n] = done[new]
                        uses[new] = uses.get(new, 0) + uses.get(n, 1)
                        if n in info:
                            info[new] = info.get(new, NOWHERE) | info[n]
                        stack.pop()
                    elif waiting := [i for i in n.inputs if i not in done]:
                        stack.extend(reversed(waiting))
                    else:
                        recorder.here = info.get(n, NOWHERE)
                        m = self.with_inputs(n, tuple([done[i] for i in n.inputs]))
                        uses[m] = uses.get(n, 1)
                        new, why = self.fire(m, uses)
                        if new is m:
                            done[n] = done[m] = m
                            stack.pop()
                            continue
                        assert new.type == m.type, f"{why} turned {m.type} into {new.type}"
                        becomes[n] = new
                        uses.setdefault(new, 0)                         # n's readers become its readers once it is final
                        fuel -= 1
                        if not fuel:
                            raise RuntimeError(f"rewriting does not come to an end; last was {why}")
        roots = tuple(done[r] for r in graph.roots)
        return graph if roots == graph.roots else graph.with_roots(roots, info)

    def with_inputs(self, n: Node, inputs: tuple[Node, ...]) -> Node:
        """n on final inputs, with the graphs inside it rewritten too. Types do not change, so nothing is inferred again."""
        attrs = map_subgraphs(n.attrs, self.run)
        return n if inputs == n.inputs and attrs is n.attrs else Node(n.op, inputs, attrs, n.type)

    def fire(self, n: Node, uses: Mapping[Node, int]) -> tuple[Node, object]:
        """What n becomes, and by what; n itself where nothing fits."""
        if self.also is not None and (new := self.also(n)) is not None:
            return new, self.also
        for rule in self.index.get(n.op, ()):
            if not could_match(rule.pattern, n):
                continue
            env: Env = {}
            if match(rule.pattern, n, env, uses):
                new = rule.function(**env)
                if new is not None:
                    if self.fired is not None:
                        self.fired.append((n, rule))
                    return new, rule
        return n, None


def _count_uses(order: Iterable[Node], roots: Iterable[Node]) -> dict[Node, int]:
    uses: dict[Node, int] = {}
    for n in order:
        for i in n.inputs:
            uses[i] = uses.get(i, 0) + 1
    for r in roots:
        uses[r] = uses.get(r, 0) + 1
    return uses


# ---- examples --------------------------------------------------------------------------------------------------------------------

NASTY = (0.0, -0.0, 1.0, -1.0, 2.5, -0.75, np.inf, -np.inf, np.nan, 5e-324, 1e300, -3.0)


def smallest_example(pattern: P, dtype: DType | None = None) -> tuple[Graph, list[np.ndarray[Any, Any]]]:
    """A graph of exactly the pattern's form, and values for its inputs: zeros of both signs, infinities, NaN and a denormal among them.

    dtype, if given, takes the place of f64 and i64 in the holes.
    """
    leaves: dict[str, Node] = {}
    feeds: list[np.ndarray[Any, Any]] = []

    def build(p: Pattern, like: Node | None) -> Node:
        match p:
            case Hole(name, shape, own):
                if name not in leaves:
                    t = dtype if dtype is not None and own in (f64, i64) else own
                    leaves[name] = REGISTRY["input"](name=name, shape=shape, dtype=t)
                    feeds.append(_nasty(shape, t, len(feeds)))
                return leaves[name]
            case Splat(value):
                assert like is not None, "a constant beside nothing has no type"
                t = like.tensor.with_dtype(bool_) if p.kinds == ("bool",) else like.tensor
                return REGISTRY["const"](value=t.dtype.numpy.type(value), shape=t.shape, dtype=t.dtype)
            case P(op, args, _, attrs, example):
                built = {k: build(a, None) for k, a in enumerate(args) if not isinstance(a, Splat)}
                typed = [n for n in built.values() if n.tensor.dtype is not bool_] or list(built.values())
                inputs = [built[k] if k in built else build(a, typed[0] if typed else None) for k, a in enumerate(args)]
                return op(*inputs, **{**example, **attrs})

    root = build(pattern, None)
    return Graph(tuple(leaves.values()), (root,), name="example"), feeds


def _nasty(shape: tuple[int, ...], dtype: DType, turn: int) -> np.ndarray[Any, Any]:
    """NASTY, begun at another place for each hole, so that pairs of special values meet."""
    n = int(np.prod(shape))
    values = [NASTY[(k * (1 + 4 * turn) + 5 * turn) % len(NASTY)] for k in range(n)]
    if dtype is bool_:
        return np.asarray([k % 3 != turn % 3 for k in range(n)]).reshape(shape)
    if not dtype.is_float:
        edge = np.iinfo(dtype.numpy)
        whole = (0, 1, edge.max, edge.min, 3, 2, edge.max - 1) if dtype.kind == "uint" else (-2, -1, 0, 1, 2, 3, 4, edge.min, edge.max)
        return np.asarray([whole[(k + turn) % len(whole)] for k in range(n)], dtype.numpy).reshape(shape)
    with np.errstate(all="ignore"):
        return np.asarray(values, np.float64).astype(dtype.numpy).reshape(shape)
