"""`explain_grad`: why a gradient is zero, or None, or not a number. The graph is walked from the parameter up, and reverse mode is run with its numbers."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.types import TensorType
from ..interp.numpy import evaluate
from ..ir.node import NOWHERE, Graph, Info, Node
from ..ir.walk import topo
from ..ops.elementwise import stop_gradient
from ..ops.leaf import splat
from ..trace.tape import eager
from ..trace.tensor import Tensor
from ..transform.grad import vjp

MOST = 5                                                # places of a kind that are listed
CHOOSERS = frozenset({"where", "maximum", "minimum", "mul", "reduce_max", "reduce_min", "take", "slice"})


def explain_grad(loss: Tensor | Callable[[], Tensor], param: Tensor) -> str:
    """What becomes of the derivative of loss by param, in words: the ways there are, where they are cut, and how much of it arrives.

    loss is a Tensor computed eagerly, or a function of no arguments that computes it; only the latter is traced, so only it shows the lines, and what detach()
    or no_grad() cut. A cut is an operation through which no derivative goes: detach, a comparison, argmax, a conversion to integers. Where ways remain the
    gradient is computed, and what stops its elements on the way (the zeros of a relu, say) is counted.

    >>> import graphc as gx
    >>> w = gx.tensor([1.0, 2.0], requires_grad=True)
    >>> print(gx.explain_grad((gx.relu(w - 1.5) * 3).sum(), w))
    f32[2]: 1 way to the loss, of 4 operations
    gradient: norm 3, 1 of 2 elements are 0
      where passes 1 of 2 elements
    """
    if not isinstance(param, Tensor):
        raise GraphError(f"explain_grad by a {type(param).__name__}", at=user_loc(), fix="a Tensor: net.fc1.weight, say")
    graph, leaf, values = _of_function(loss, param) if not isinstance(loss, Tensor) and callable(loss) else _of_tensor(loss, param)
    name = f"{param.name}: {param.type}" if param.name else str(param.type)
    lines = [] if param.requires_grad else [f"{name} does not require a gradient: requires_grad_() asks for one"]
    if leaf is None or leaf not in set(topo(graph.outputs)):
        seen = "; what detach(), no_grad() or .item() cut leaves no trace here: explain_grad(lambda: loss) sees it" if isinstance(loss, Tensor) else ""
        return "\n".join([*lines, f"{name} is not used to compute the loss: its gradient is None{seen}"])
    return "\n".join([*lines, *_ways(graph, leaf, values, name)])


def _of_tensor(loss: Any, param: Tensor) -> tuple[Graph, Node | None, dict[Node, Any]]:
    if not isinstance(loss, Tensor) or loss.is_traced or loss.size != 1:
        got = loss.type if isinstance(loss, Tensor) else type(loss).__name__
        raise GraphError(f"explain_grad of a {got}", at=user_loc(), fix="a loss of one element, computed outside of a compiled function; or lambda: loss")
    node = loss.node()
    order = topo([node])
    return Graph((), (node,)), param.node(), {n: eager.values[n] for n in order if n in eager.values and n is not node and not n.inputs}


def _of_function(loss: Callable[[], Any], param: Tensor) -> tuple[Graph, Node | None, dict[Node, Any]]:
    from ..driver import compile
    asks: list[bool] = []

    def noted() -> Any:
        out = loss()
        asks.append(isinstance(out, Tensor) and out.requires_grad)
        return out
    traced = compile(noted, backend="numpy").lower().traced
    (out,) = traced.graph.outputs if len(traced.graph.outputs) == 1 else (None,)
    if out is None or out.tensor.shape != () or not out.tensor.dtype.is_float:
        raise GraphError("explain_grad needs a function that returns a floating scalar", at=user_loc(), fix=".mean() or .sum() of what it returns")
    graph = traced.graph
    values: dict[Node, Any] = {s.read: storage.array for s, storage in zip(graph.states, traced.storages)}
    values.update({n: np.asarray(source(), n.tensor.dtype.numpy) for n, source in zip(graph.inputs, traced.sources)})
    if not asks[-1]:                                                    # what was detached is a constant from there on
        graph = graph.with_roots((stop_gradient(graph.outputs[0]), *graph.roots[1:]), graph.info)
    leaf = next((s.read for s, storage in zip(graph.states, traced.storages) if storage is param.storage), None)
    return Graph((), graph.outputs, info=graph.info), leaf, values


def _ways(graph: Graph, leaf: Node, values: dict[Node, Any], name: str) -> list[str]:
    order = topo(graph.outputs)
    (loss,) = graph.outputs
    above = {leaf}                                                      # what depends on the parameter
    alive = {leaf}                                                      # ... and has a derivative by it
    cuts: list[Node] = []
    ways: dict[Node, int] = {leaf: 1}
    for n in order:
        if n is leaf or not any(i in above for i in n.inputs):
            continue
        above.add(n)
        if any(i in alive for i in n.inputs):
            if (n.op.vjp == "zero" and n.op.name != "get") or (n.op.name == "cast" and not n.tensor.dtype.is_inexact):
                cuts.append(n)
            else:
                alive.add(n)
                ways[n] = sum(ways[i] for i in n.inputs if i in alive)
    to_loss = _below(loss, above)
    cuts = [c for c in cuts if c in to_loss]
    told = [c for c in cuts if isinstance(c.type, TensorType) and c.tensor.dtype.kind != "bool"]
    if told or loss in alive:                                           # that a condition has no derivative surprises nobody
        cuts = told
    if loss not in alive:
        return [f"{name}: every way to the loss is cut, so its gradient is zero", *_listed([f"cut by {_where(c, graph)}" for c in cuts])]
    n_ops = len(alive & to_loss) - 1
    out = [f"{name}: {ways[loss]} way{'s' * (ways[loss] != 1)} to the loss, of {n_ops} operations" + (f"; {len(cuts)} cut" if cuts else "")]
    out += _listed([f"cut by {_where(c, graph)}" for c in cuts])
    return out + _numbers(graph, loss, leaf, values, alive & to_loss)


def _below(root: Node, within: set[Node]) -> set[Node]:
    seen, stack = {root}, [root]
    while stack:
        for i in stack.pop().inputs:
            if i in within and i not in seen:
                seen.add(i)
                stack.append(i)
    return seen


def _numbers(graph: Graph, loss: Node, leaf: Node, values: dict[Node, Any], path: set[Node]) -> list[str]:
    """Reverse mode with numbers: what arrives, and who stopped the rest."""
    seen: dict[Node, Node] = {}

    def note(n: Node, g: Node) -> Node:
        seen[n] = g
        return g
    (slope,) = vjp([loss], [splat(1.0, loss)], [leaf], note)
    nodes = [n for n in seen if n in path]
    arrays = dict(zip(nodes, evaluate([seen[n] for n in nodes], values)))
    (got,) = evaluate([slope], values)
    out = [f"gradient: {_described(got)}"]
    bad = [n for n in nodes if not np.isfinite(arrays[n]).all()]
    if bad:
        made = [n for n in nodes if np.isfinite(arrays[n]).all() and any(i in arrays and not np.isfinite(arrays[i]).all() for i in n.inputs)]
        return [*out, *_listed([f"made by the derivative of {_where(n, graph)}" for n in made[:1]])]
    for n in reversed([n for n in topo(graph.outputs) if n in arrays and n.op.name in CHOOSERS]):
        inside = [i for i in n.inputs if i in arrays and arrays[i].size]
        for i in inside:
            live, passed = int(np.count_nonzero(arrays[n])), int(np.count_nonzero(arrays[i]))
            if arrays[i].shape == arrays[n].shape and passed < live:
                out.append(f"  {_where(n, graph)} passes {passed} of {live} elements")
    return [*out[:1], *_listed([x.strip() for x in out[1:]])]


def _described(g: Any) -> str:
    if not g.size or not np.any(g):
        return "0 everywhere"
    if not np.isfinite(g).all():
        return f"{int(np.sum(~np.isfinite(g)))} of {g.size} elements are not finite"
    zeros = int(np.sum(g == 0))
    return f"norm {float(np.linalg.norm(g)):.4g}" + (f", {zeros} of {g.size} elements are 0" if zeros else "")


def _listed(lines: Sequence[str]) -> list[str]:
    more = len(lines) - MOST
    return [f"  {x}" for x in lines[:MOST]] + ([f"  and {more} more"] if more > 0 else [])


def _where(n: Node, graph: Graph) -> str:
    info: Info = graph.info.get(n, NOWHERE)
    word = "stop_gradient (detach, no_grad)" if n.op.name == "stop_gradient" else f"{n.op} to {n.tensor.dtype}" if n.op.name == "cast" else n.op.name
    scope = f" in {min(info.scopes)}" if info.scopes else ""
    return f"{word}{scope}{f' at {min(map(str, info.locs))}' if info.locs else ''}"
