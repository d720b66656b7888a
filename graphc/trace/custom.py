"""Functions with derivatives of the user's: `custom_vjp` and `custom_jvp`, with JAX's words. torch's form, `Function`, is in `extension`.

The function and its rule are traced once into closed graphs and become one node (`ops.call`), which every transform understands; it is inlined when derivatives
have been taken. Where nothing asks for a derivative there is no node: the function is called. Unlike JAX's, a rule for one mode serves the other too, by
transposition, as long as it is linear in the cotangents or tangents.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial, update_wrapper
from typing import Any

from ..core.dtype import f32
from ..core.errors import GraphError, GraphTypeError
from ..core.loc import user_loc
from ..core.record import dataclass
from ..core.types import TensorType
from ..ir.node import Graph, Node
from ..ops import call, leaf
from ..ops.tuples import get
from . import checks, tree
from .apply import apply_several
from .broadcast import as_tensor, cast
from .guards import bump
from .tape import current
from .tensor import Tensor
from .tracer import Tracer, depends


@dataclass(frozen=True, slots=True)
class Body:
    """A function traced on leaves of its own."""

    inputs: list[Node]
    result: Any
    captured: list[tuple[Node, Tensor]]                 # the leaf that stands for a Tensor from outside


def closed(types: Sequence[TensorType], f: Callable[..., Any], weak: Sequence[bool] = (), name: str = "x", owner: Any = None) -> Body:
    """Trace f, which takes Tensors of these types, into a graph of its own. What f returns must hold nodes, not Tensors."""
    tracer = Tracer(current.tracer, is_body=True, body="custom")
    tracer.owner = owner
    with tracer.running():
        inputs = [tracer.input(f"{name}{k}", t) for k, t in enumerate(types)]
        given = [Tensor.from_node(n, requires_grad=n.tensor.dtype.is_inexact, weak=any(weak[k:k + 1])) for k, n in enumerate(inputs)]
        tracer.active.update(n for n, t in zip(inputs, given) if t.requires_grad)
        result = f(*given)
    return Body(inputs, result, list(tracer.captured.values()))


@dataclass(frozen=True, slots=True)
class Residual:
    """What a forward rule hands to the backward rule: a node of the body, and whether it meets arrays as a Python number does."""

    node: Node
    weak: bool


def residual(x: Any) -> Any:
    """A Tensor of the body that is being traced as a residual; anything else is a value for the rule alone."""
    return Residual(x.node(), x.weak) if isinstance(x, Tensor) else x


def is_tensor(x: Any) -> bool:
    return isinstance(x, Tensor)


def strong(x: Any) -> Tensor:
    """A Tensor with a dtype of its own: a Python float as f32."""
    x = as_tensor(x)
    return cast(x, f32) if x.weak and x.dtype.is_float else x


def asks(tensors: Sequence[Tensor]) -> bool:
    """Does anything ask for a derivative here?"""
    return current.grad and any(t.requires_grad for t in tensors)


LEVELS = 2                                              # a function called inside of its own rule has its rule this deep: as many orders of derivatives more


def within(owner: Any) -> int:
    """How many rules of this function are being traced around this place."""
    t, n = current.tracer, 0
    while t is not None:
        n += t.owner is owner
        t = t.parent
    return n


def refuse_captured(what: str, captured: Sequence[tuple[Node, Tensor]]) -> None:
    """The rule says nothing of what the function reads from outside."""
    for _, outer in captured:
        if outer.requires_grad:
            raise GraphError(f"{what} reads {outer.name or outer.type} from outside, which requires a gradient", at=user_loc(),
                             why="its rule speaks of its arguments alone, so this gradient would be lost",
                             fix="hand it in as an argument, or stop_gradient(...) it")


class _Custom:
    """What both forms share: arguments, and which of them are no tensors."""

    word = ""

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        if not callable(fun):
            raise GraphError(f"{self.word} of a {type(fun).__name__}, which is no function", at=user_loc())
        self.fun = fun
        given: Any = (nondiff_argnums,) if checks.whole(nondiff_argnums) else nondiff_argnums
        if not isinstance(given, (tuple, list)) or not all(map(checks.whole, given)):
            raise GraphTypeError(f"{self.word} of {self.name}: nondiff_argnums is a {type(nondiff_argnums).__name__}", at=user_loc(),
                                 fix="the number of an argument, or a tuple of them")
        self.nondiff_argnums: tuple[int, ...] = tuple(given)
        self._hooks: dict[str, Callable[..., Any]] = {}                 # the rules: what they read from outside, a compiled function compares
        update_wrapper(self, fun)

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        return self if obj is None else partial(self, obj)

    def __repr__(self) -> str:
        return f"<{self.word} of {self.name}>"

    @property
    def name(self) -> str:
        return str(getattr(self.fun, "__name__", type(self.fun).__name__))

    def define(self, **rules: Callable[..., Any]) -> None:
        """Set the rules."""
        for key, rule in rules.items():
            if not callable(rule):
                raise GraphError(f"the {key} rule of {self.name} is a {type(rule).__name__}, no function", at=user_loc())
        self._hooks = dict(rules)
        bump(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        args = self._positional(args, kwargs)
        if not self._hooks:
            raise GraphError(f"{self.name} has no rule yet", at=user_loc(), fix=f"{self.name}.{self.missing}")
        depends(self)
        for k in self.nondiff_argnums:
            if not -len(args) <= k < len(args):
                raise GraphError(f"{self.name} has {len(args)} arguments, and nondiff_argnums names argument {k}", at=user_loc(),
                                 fix=f"argument numbers from 0 to {len(args) - 1}" if args else "no nondiff_argnums")
        static = {k % len(args) for k in self.nondiff_argnums}
        fixed = [args[k] for k in sorted(static)]
        leaves, in_tree = tree.flatten(tuple(a for k, a in enumerate(args) if k not in static), is_tensor)
        tensors = [self._operand(x, path) for x, path in zip(leaves, tree.paths(in_tree, "argument"))]
        if not asks(tensors) or within(self) >= LEVELS:
            return self.fun(*args)

        def whole(xs: Sequence[Any]) -> list[Any]:
            """The arguments of the function from its leaves."""
            rest, given = iter(in_tree.unflatten(xs)), iter(fixed)
            return [next(given) if k in static else next(rest) for k in range(len(args))]
        return self.call(fixed, tensors, in_tree, whole)

    missing = ""

    def call(self, fixed: list[Any], tensors: list[Tensor], in_tree: tree.TreeDef, whole: Callable[[Sequence[Any]], list[Any]]) -> Any:
        raise NotImplementedError

    def _positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """Arguments in the places of the function's parameters, defaults filled in."""
        try:
            bound = inspect.signature(self.fun).bind(*args, **kwargs)
        except ValueError:                              # no signature to be had
            return args
        bound.apply_defaults()
        if bound.kwargs:
            raise GraphError(f"{self.name} takes keyword-only arguments, and its rule is for places", at=user_loc(), fix="ordinary parameters")
        return bound.args

    def _operand(self, x: Any, path: str) -> Tensor:
        if isinstance(x, str) or callable(x):
            raise GraphError(f"{path} of {self.name} is a {type(x).__name__}, no tensor", at=user_loc(),
                             fix=f"{self.word}(..., nondiff_argnums=...) names its place")
        return as_tensor(x)


class custom_vjp(_Custom):
    """A function with a reverse-mode rule of its own: `f.defvjp(fwd, bwd)`. JAX's.

    fwd takes f's arguments and returns (f's value, residuals): any tree of tensors, and whatever else bwd needs. bwd takes (residuals, cotangent), the
    cotangent a tree like f's value (None where that is not floating), and returns a tuple with an entry for each argument: a tree like it, or None for zeros.
    The arguments at `nondiff_argnums` are no tensors: f and fwd take them in their places, bwd takes them first. Higher derivatives go through fwd and bwd.
    Forward mode is the transpose of bwd, where that is linear in the cotangent; a clipping rule is not, and has none.

    >>> import graphc as gx
    >>> @gx.custom_vjp
    ... def clipped(x, most):
    ...     return x
    >>> clipped.defvjp(lambda x, most: (x, most), lambda most, g: (gx.clip(g, -most, most), None))
    >>> gx.grad(lambda x: 10.0 * clipped(x, 0.5))(3.0).item()
    0.5
    """

    word = "custom_vjp"
    missing = "defvjp(fwd, bwd)"

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Set the rule."""
        self.define(fwd=fwd, bwd=bwd)

    def call(self, fixed: list[Any], tensors: list[Tensor], in_tree: tree.TreeDef, whole: Callable[[Sequence[Any]], list[Any]]) -> Any:
        fwd, bwd = self._hooks["fwd"], self._hooks["bwd"]
        types = [t.type for t in tensors]

        def run(*xs: Tensor) -> tuple[list[Node], tree.TreeDef, list[Any], tree.TreeDef]:
            out = fwd(*whole(xs))
            if not isinstance(out, tuple) or len(out) != 2:
                raise GraphError(f"fwd of {self.name} returns a pair, got {checks.kind(out)}", at=user_loc(), fix="return value, residuals")
            values, out_tree = tree.flatten(out[0], is_tensor)
            residuals, res_tree = tree.flatten(out[1], is_tensor)
            return [strong(v).node() for v in values], out_tree, [residual(r) for r in residuals], res_tree
        forward = closed(types, run, [t.weak for t in tensors], owner=self)
        refuse_captured(self.name, forward.captured)
        outs, out_tree, residuals, res_tree = forward.result

        def pull(res: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
            got = bwd(*fixed, res_tree.unflatten(res), out_tree.unflatten(cts))
            if not isinstance(got, (tuple, list)) or len(got) != len(in_tree.children):
                n, what = len(in_tree.children), f"{len(got)}" if isinstance(got, (tuple, list)) else f"a {type(got).__name__}"
                raise GraphError(f"bwd of {self.name} returns a tuple with a cotangent for each of {n} arguments, got {what}", at=user_loc(),
                                 fix="None for an argument that has none, and a comma: return (g,)")
            return list(spread(got, in_tree, "argument", f"bwd of {self.name}"))
        found = with_backward(self.name, tensors, forward, outs, residuals, pull, owner=self)
        return out_tree.unflatten(found)


def with_backward(name: str, tensors: Sequence[Tensor], forward: Body, outs: Sequence[Node], residuals: Sequence[Any],
                  pull: Callable[[Sequence[Any], Sequence[Any]], list[Any]], zeros: bool = False, once: bool = False, owner: Any = None) -> list[Tensor]:
    """The call of a body with a backward rule, and its results. `residuals` are made by `residual`; `pull(residuals, cotangents)` is the
    rule. zeros: results that are not floating have cotangents too. once: the rule itself has no derivative."""
    kept = [r for r in residuals if isinstance(r, Residual)]
    floating = [call.smooth(o.type) for o in outs]

    def run(*given: Tensor) -> list[Node]:
        known, cts = iter(given[:len(kept)]), iter(given[len(kept):])
        res = [next(known) if isinstance(r, Residual) else r for r in residuals]
        got = pull(res, [next(cts) if f else Tensor.from_node(leaf.splat(0, o)) if zeros else None for o, f in zip(outs, floating)])
        return [cotangent(g, t, f"the cotangent of {t.name or f'operand {k}'} from the rule of {name}") for k, (g, t) in enumerate(zip(got, tensors))
                if call.smooth(t.type)]
    types = [*(r.node.tensor for r in kept), *call.slopes(o.type for o in outs)]
    backward = closed(types, run, [r.weak for r in kept], "r", owner)
    more = [outer for _, outer in backward.captured]                    # what the rule reads from outside is one more residual
    passed = [leaf.input_(name=n.attrs["name"], shape=n.tensor.shape, dtype=n.tensor.dtype) for n, _ in backward.captured]
    operands = [*tensors, *(outer for _, outer in forward.captured), *more]
    cts = [*backward.result, *(leaf.splat(0.0, t) for t in call.slopes(t.type for t in operands[len(tensors):]))]
    body = Graph((*forward.inputs, *(n for n, _ in forward.captured), *passed), (*outs, *(r.node for r in kept), *passed), name=name)
    n = len(kept)
    rule = Graph((*backward.inputs[:n], *(c for c, _ in backward.captured), *backward.inputs[n:]), tuple(_last(cts) if once else cts), name=f"{name}_backward")
    return list(apply_several(call.custom_vjp, *operands, body=body, results=len(outs), backward=rule)[:len(outs)])


def _last(nodes: Sequence[Node]) -> Iterator[Node]:
    """The nodes, as what has no derivative."""
    for n in nodes:
        x = leaf.input_(name="x", shape=n.tensor.shape, dtype=n.tensor.dtype)
        yield get(call.custom_vjp(n, body=Graph((x,), (x,), name="backward"), results=1), index=0)


def spread(value: Any, like: tree.TreeDef, path: str, what: str) -> Iterator[Any]:
    """The leaves of a tree of cotangents in the places of `like`; None in the place of anything says None for all of it."""
    if value is None:
        yield from [None] * len(tree.paths(like))
    elif like.kind is None:
        yield value
    elif like.kind is not type(None):
        parts = tree.parts(value, like)
        if parts is None:
            raise GraphError(f"{what}: the cotangent of {path} is a {type(value).__name__}, and belongs to a {like.kind.__name__} of {len(like.children)}",
                             at=user_loc(), fix="the same containers, or None for zeros")
        for name, part, child in zip(tree.places(like, path), parts, like.children):
            yield from spread(part, child, name, what)


def cotangent(g: Any, like: Tensor, what: str) -> Node:
    """A cotangent or tangent from a rule of the user's as a node of like's type; None is zeros. What nobody asks for may be anything."""
    if g is None or not like.requires_grad:
        return leaf.splat(0.0, like.type.cotangent)
    t, want = as_tensor(g), like.type.cotangent
    t = cast(t, want.dtype) if (t.weak or like.weak) and t.dtype is not want.dtype else t
    if t.type != want:
        raise GraphError(f"{what} is {t.type}, and belongs to {like.type}", at=user_loc(), why="a derivative has the shape and the dtype of what it belongs to",
                         fix="sum over what was broadcast, cast what was promoted")
    return t.node()


class custom_jvp(_Custom):
    """A function with a forward-mode rule of its own: `f.defjvp(rule)`. JAX's; reverse mode is its transpose.

    rule takes (primals, tangents), tuples with an entry for each argument, and returns (f's value, its tangent); the tangent must be linear in the tangents.
    What is not floating has None for its tangent. The arguments at `nondiff_argnums` come first. `f.defjvps(rule_x, rule_y)` gives a rule for each argument
    instead: `rule_x(tangent, value, *arguments)`, and None where the derivative is zero.

    >>> import graphc as gx
    >>> @gx.custom_jvp
    ... def log1pexp(x):
    ...     return gx.log(1.0 + gx.exp(x))
    >>> @log1pexp.defjvp
    ... def rule(primals, tangents):
    ...     (x,), (t,) = primals, tangents
    ...     return log1pexp(x), t / (1.0 + gx.exp(-x))
    >>> gx.grad(log1pexp)(100.0).item()
    1.0
    """

    word = "custom_jvp"
    missing = "defjvp(rule)"

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Set the rule; gives it back, so it is a decorator too."""
        self.define(jvp=rule)
        return rule

    def defjvps(self, *rules: Callable[..., Any] | None) -> None:
        """Set a rule for each argument: (tangent, value, *arguments) → the tangent of the value."""
        def rule(*given: Any) -> tuple[Any, Any]:
            *fixed, primals, tangents = given
            if len(rules) != len(primals):
                raise GraphError(f"{self.name} has {len(rules)} rules for {len(primals)} arguments", at=user_loc(), fix="None for an argument without one")
            value, total = self(*fixed, *primals), None
            for r, t in zip(rules, tangents):
                if r is not None:
                    part = r(t, value, *primals)
                    total = part if total is None else tree.map_leaves(lambda a, b: a + b, total, part, is_leaf=is_tensor)
            return value, total
        self.define(jvp=rule, **{f"of argument {k}": r for k, r in enumerate(rules) if r is not None})

    def call(self, fixed: list[Any], tensors: list[Tensor], in_tree: tree.TreeDef, whole: Callable[[Sequence[Any]], list[Any]]) -> Any:
        types, weak = [t.type for t in tensors], [t.weak for t in tensors]

        def run(*xs: Tensor) -> tuple[list[Node], tree.TreeDef]:
            values, out_tree = tree.flatten(self.fun(*whole(xs)), is_tensor)
            return [strong(v).node() for v in values], out_tree
        body = closed(types, run, weak)
        refuse_captured(self.name, body.captured)
        outs, out_tree = body.result
        floating = call.slopes(types)

        def push(*given: Tensor) -> list[Node]:
            primals, ts = given[:len(types)], iter(given[len(types):])
            tangents = [next(ts) if call.smooth(t) else None for t in types]
            got = self._hooks["jvp"](*fixed, tuple(in_tree.unflatten(primals)), tuple(in_tree.unflatten(tangents)))
            if not isinstance(got, tuple) or len(got) != 2:
                raise GraphError(f"the jvp rule of {self.name} returns a pair, got {checks.kind(got)}", at=user_loc(), fix="return value, tangent")
            slopes = list(spread(got[1], out_tree, "result", f"the jvp rule of {self.name}"))
            likes = [Tensor.from_node(o, requires_grad=call.smooth(o.type)) for o in outs]
            return [cotangent(s, o, f"the tangent of {path} from the rule of {self.name}") for s, o, path in zip(slopes, likes, tree.paths(out_tree, "result"))
                    if call.smooth(o.type)]
        forward = closed([*types, *floating], push, weak, "t", self)
        operands = [*tensors, *(o for _, o in body.captured), *(o for _, o in forward.captured)]
        refuse_captured(f"the rule of {self.name}", [(n, o) for n, o in forward.captured if all(o is not t for t in tensors)])

        def copies(captured: Sequence[tuple[Node, Tensor]]) -> list[Node]:
            return [leaf.input_(name=n.attrs["name"], shape=n.tensor.shape, dtype=n.tensor.dtype) for n, _ in captured]
        extra = call.slopes(t.type for t in operands[len(tensors):])
        graph = Graph((*body.inputs, *(n for n, _ in body.captured), *copies(forward.captured)), tuple(outs), name=self.name)
        tangents = [leaf.input_(name="t", shape=t.shape, dtype=t.dtype) for t in extra]
        rule = Graph((*forward.inputs[:len(types)], *copies(body.captured), *(n for n, _ in forward.captured), *forward.inputs[len(types):], *tangents),
                     tuple(forward.result), name=f"{self.name}_forward")
        return out_tree.unflatten(list(apply_several(call.custom_jvp, *operands, body=graph, forward=rule)))
