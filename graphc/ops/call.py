"""Calls: closed graphs as one node, for as long as derivatives are taken. Before a graph is lowered `inline` puts each body in the place of its call.

Three reasons to call: the body has a derivative of the user's (`custom_vjp`, `custom_jvp`), or its values are to be computed again in the backward pass
(`remat`). The rules are graphs among the attributes, so every pass sees them, `vmap` batches them, and text and pictures show them. The forms are JAX's.
`barrier` is what keeps the second computation from being the first: x itself, once other values are there.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..core.dtype import f64
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.types import TensorType, TupleType, Type
from ..ir.node import NOWHERE, Graph, Info, Node, Recorder, recorder, recording
from ..ir.op import Op, Sample, register
from ..ir.walk import rebuilt, substitute, topo
from .check import Array, tensor
from .depends import dependent
from .elementwise import cos, sin
from .leaf import input_, splat, zeros
from .tuples import get

Evaluate = Callable[[Graph, Sequence[Array]], list[Array]]
Pullback = Callable[..., tuple[Node, ...]]
Cotangents = tuple[Node | None, ...]


def smooth(t: Type) -> bool:
    """Whether what has this type has derivatives."""
    return isinstance(t, TensorType) and t.dtype.is_inexact


def slopes(types: Iterable[Type]) -> list[TensorType]:
    """The types of the tangents and cotangents of those that have some."""
    return [t.cotangent for t in types if isinstance(t, TensorType) and t.dtype.is_inexact]


def inlined(body: Graph, operands: Sequence[Node]) -> tuple[Node, ...]:
    """The results of a closed graph on operands. Its new nodes come from the lines that the body's came from."""
    rec = recorder()
    here = NOWHERE if rec is None else rec.here
    done = dict(zip(body.inputs, operands, strict=True))
    for n in topo(body.outputs, stop=done):
        if n in done:
            continue
        if rec is not None:
            known = rec.info.get(n) or body.info.get(n, here)
            rec.here = Info(known.locs, known.names, known.scopes, here.phases or known.phases)
        done[n] = rebuilt(n, tuple(done[i] for i in n.inputs))
    if rec is not None:
        rec.here = here
    return tuple(done[o] for o in body.outputs)


def inline(graph: Graph, barriers: bool = True) -> Graph:
    """The graph without calls: each body in the place of its call, inside loops too. The same object where there are none. barriers=False: without them too,
    for who reads what is computed and not when."""
    rec = Recorder(dict(graph.info))
    with recording(rec):
        out = _inline(graph, rec, barriers)
    return graph if out is graph else graph.with_roots(out.roots, rec.info)


def _inline(graph: Graph, rec: Recorder, barriers: bool) -> Graph:
    order = topo((*graph.leaves, *graph.roots))
    if not any(n.op in CALLS or (n.op is barrier and not barriers) or any(isinstance(v, Graph) for v in n.attrs.values()) for n in order):
        return graph
    info = rec.info
    done: dict[Node, Node] = {leaf: leaf for leaf in graph.leaves}
    parts: dict[Node, tuple[Node, ...]] = {}
    for n in order:
        if n in done:
            continue
        here = info.get(n, graph.where(n))
        inputs = tuple(done.get(i, i) for i in n.inputs)
        if n.op in CALLS:
            body = _inline(n.attrs["body"], rec, barriers)
            rec.here = Info(here.locs, frozenset(), here.scopes, here.phases)
            parts[n] = inlined(body, inputs)
        elif n.op is barrier and not barriers:
            done[n] = inputs[0]
        elif n.op is get and n.inputs[0] in parts:
            done[n] = m = parts[n.inputs[0]][n.attrs["index"]]
            info[m] = info.get(m, NOWHERE) | here
        else:
            rec.here = here
            inner = {k: _inline(v, rec, barriers) for k, v in n.attrs.items() if isinstance(v, Graph)}
            rec.here = here
            changed = any(n.attrs[k] is not v for k, v in inner.items())
            done[n] = Node(n.op, inputs, {**n.attrs, **inner} if changed else n.attrs, n.type) if changed or inputs != n.inputs else n
    roots = tuple(done[r] for r in graph.roots)
    return graph if roots == graph.roots else graph.with_roots(roots)


def _fits(name: str, what: str, graph: Graph, types: Sequence[Type]) -> None:
    """The graph takes values of these types, and is closed."""
    if graph.states or graph.effects:
        raise GraphError(f"{name}: the {what} has states or effects of its own", fix="return what they shall be, and write it outside")
    got = tuple(i.type for i in graph.inputs)
    if got != tuple(types):
        raise GraphError(f"{name}: the {what} takes {_words(got)}, and is given {_words(types)}")


def _gives(name: str, what: str, graph: Graph, types: Sequence[Type]) -> None:
    got = tuple(o.type for o in graph.outputs)
    if got != tuple(types):
        raise GraphError(f"{name}: the {what} gives {_words(got)}, and should give {_words(types)}")


def _words(types: Sequence[Type]) -> str:
    return f"({', '.join(map(str, types))})"


def _value(*arrays: Array, body: Graph, evaluate: Evaluate, **_: Any) -> tuple[Array, ...]:
    return tuple(evaluate(body, arrays))


def _leaf(name: str, t: TensorType) -> Node:
    return input_(name=name, shape=t.shape, dtype=t.dtype)


def _number() -> Node:
    return input_(name="x", shape=(3,), dtype=f64)


def _square() -> Graph:
    x = _number()
    return Graph((x,), (x * x,), name="square")


def _drawn(attrs: Callable[[], dict[str, Any]]) -> Callable[[np.random.Generator], Sequence[Sample]]:
    return lambda rng: [([rng.standard_normal(3)], attrs())]


# ---- custom_vjp ------------------------------------------------------------------------------------------------------------------------


def _vjp_type(*types: Type, body: Graph, results: int, backward: Graph | None = None) -> TupleType:
    """The body's: its first `results` are the function's, the others what `backward` takes beside the cotangents of the floating ones."""
    _fits("custom_vjp", "function", body, types)
    outs = [o.type for o in body.outputs]
    if backward is not None:
        _fits("custom_vjp", "backward rule", backward, [*outs[results:], *slopes(outs[:results])])
        _gives("custom_vjp", "backward rule", backward, slopes(types))
    return TupleType(tuple(outs))


def _vjp_vjp(g: Cotangents, y: Node, *operands: Node, body: Graph, results: int, pullback: Pullback, backward: Graph | None = None) -> Cotangents:
    """The user's rule for the results. The residuals are ordinary values: what comes back to them (of a second order) goes through the body."""
    if backward is None:
        raise GraphError(f"{body.name} has a value and no derivative", op=y.op, why="its backward is marked once_differentiable",
                         fix="write backward with operations that have derivatives, and take the mark away")
    where = [k for k, x in enumerate(operands) if smooth(x.type)]
    total: dict[int, Node] = {}
    if any(c is not None for c in g[:results]):
        residuals = [get(y, index=k) for k in range(results, len(body.outputs))]
        cts = [splat(0.0, o.tensor.cotangent) if c is None else c for o, c in zip(body.outputs[:results], g) if smooth(o.type)]
        total = dict(zip(where, inlined(backward, [*residuals, *cts])))
    late = [k for k in range(results, len(body.outputs)) if g[k] is not None]
    if late:
        cts = [c for k in late if (c := g[k]) is not None]              # by the body's own inputs: one node may be several operands
        pulled = pullback([body.outputs[k] for k in late], cts, [body.inputs[k] for k in where])
        pulled = substitute(pulled, {**dict(zip(body.inputs, operands)), **{c: c for c in cts}})
        total = {k: total[k] + p if k in total else p for k, p in zip(where, pulled)}
    return tuple(total.get(k) for k in range(len(operands)))


def _vjp_sample() -> dict[str, Any]:
    x, ct = _number(), _leaf("ct", _number().tensor)
    return {"body": Graph((x,), (sin(x), cos(x)), name="sine"), "results": 1, "backward": Graph((x, ct), (x * ct,), name="backward")}


custom_vjp: Op = register(Op("custom_vjp", "control", _vjp_type, _value, _vjp_vjp,
                             "A function whose reverse mode is the graph `backward`: (residuals, cotangents) → cotangents", _drawn(_vjp_sample), engine=True))


# ---- custom_jvp ------------------------------------------------------------------------------------------------------------------------


def _jvp_type(*types: Type, body: Graph, forward: Graph) -> TupleType:
    """The body's; `forward` takes the operands and a tangent for each floating one, and gives those of the floating results."""
    _fits("custom_jvp", "function", body, types)
    outs = [o.type for o in body.outputs]
    _fits("custom_jvp", "forward rule", forward, [*types, *slopes(types)])
    _gives("custom_jvp", "forward rule", forward, slopes(outs))
    return TupleType(tuple(outs))


def _jvp_vjp(g: Cotangents, y: Node, *operands: Node, body: Graph, forward: Graph, pullback: Pullback) -> Cotangents:
    """The transpose of the user's rule, which is linear in the tangents: they are names, and gone from what comes out."""
    where = [k for k, x in enumerate(operands) if smooth(x.type)]
    names = [_leaf("t", operands[k].tensor.cotangent) for k in where]
    pushed = iter(inlined(forward, [*operands, *names]))
    pairs = [(next(pushed), c) for o, c in zip(body.outputs, g) if smooth(o.type)]
    cts = [c for _, c in pairs if c is not None]
    pulled = pullback([s for s, c in pairs if c is not None], cts, names)
    pulled = linear_or_refuse("forward", body.name, pulled, names, [*operands, *cts])
    found = dict(zip(where, pulled))
    return tuple(found.get(k) for k in range(len(operands)))


def linear_or_refuse(rule: str, name: str, results: Sequence[Node], names: Sequence[Node], ends: Sequence[Node]) -> tuple[Node, ...]:
    """The derivative by the names, with them gone. Raises GraphError where it depends on them: then what was differentiated was not linear."""
    if set(names).isdisjoint(topo(results, stop=ends)):
        return tuple(results)
    if any(dependent(results, names, ends)):
        what, other = ("tangents", "reverse") if rule == "forward" else ("cotangents", "forward")
        op = "custom_jvp" if rule == "forward" else "custom_vjp"
        raise GraphError(f"the {rule} rule of {name} is not linear in the {what}, so it has no {other} mode", op=op, at=user_loc(),
                         why=f"{other} mode is the transpose of the rule, and only what is linear has one",
                         fix="gx.custom_vjp, with a rule for reverse mode" if rule == "forward" else "gx.custom_jvp, with a rule for forward mode")
    return substitute(results, {**{e: e for e in ends}, **{t: zeros(t) for t in names}})    # handed into a loop or branch, and not used there


def _jvp_sample() -> dict[str, Any]:
    x, t = _number(), _leaf("t", _number().tensor)
    return {"body": _square(), "forward": Graph((x, t), (2.0 * x * t,), name="forward")}


custom_jvp: Op = register(Op("custom_jvp", "control", _jvp_type, _value, _jvp_vjp,
                             "A function whose forward mode is the graph `forward`: (operands, tangents) → tangents", _drawn(_jvp_sample), engine=True))


# ---- remat -----------------------------------------------------------------------------------------------------------------------------


def _remat_type(*types: Type, body: Graph) -> TupleType:
    """The body's."""
    _fits("remat", "function", body, types)
    return TupleType(tuple(o.type for o in body.outputs))


def _remat_vjp(g: Cotangents, y: Node, *operands: Node, body: Graph, pullback: Pullback) -> Cotangents:
    """The body once more, from operands that are there only when the cotangents are: nothing of it need be kept until then."""
    where = [k for k, x in enumerate(operands) if smooth(x.type)]
    cts = [c for c in g if c is not None]
    again = [x if not x.inputs and x.op is not input_ else barrier(x, *cts) for x in operands]
    outs = [o for o, c in zip(inlined(body, again), g) if c is not None]
    found = dict(zip(where, pullback(outs, cts, [again[k] for k in where])))
    return tuple(found.get(k) for k in range(len(operands)))


remat: Op = register(Op("remat", "control", _remat_type, _value, _remat_vjp, "A function that reverse mode computes again instead of keeping its values",
                        _drawn(lambda: {"body": _square()}), engine=True))


def _barrier_type(t: Type, *after: Type) -> TensorType:
    """That of x."""
    return tensor("barrier", t)


barrier: Op = register(Op("barrier", "control", _barrier_type, lambda x, *after: x, lambda g, y, x, *after: (g, *(None,) * len(after)),
                          "x, once the other operands are there too: no value made of it is one made before",
                          lambda rng: [([rng.standard_normal((3, 4)), rng.standard_normal(5)], {}), ([rng.standard_normal(3)], {})]))

CALLS = frozenset({custom_vjp, custom_jvp, remat})
