"""Derivatives by reverse mode against finite differences: in f64, along random directions, to any order."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.dtype import f32, f64
from ..interp.numpy import run, solve_sizes
from ..ir.node import Graph, Node
from ..ir.walk import bind
from ..ops.leaf import const
from ..ops.reduce import reduce_sum
from ..transform.grad import vjp

Array = np.ndarray[Any, Any]
STEP = 1e-4                                             # the five-point formula is off by h⁴ f⁽⁵⁾/30, and by rounding of about 1e-16 f/h


def check_grads(fn: Graph | Callable[..., Any], args: Sequence[Any], *, order: int = 2, tolerance: float = 1e-6, step: float = STEP, seed: int = 0) -> None:
    """Raise AssertionError unless the derivatives of fn at args, first to `order`-th, are what finite differences say.

    fn is a graph (args: arrays for its inputs, then its states) or a function of Tensors, which is traced. The derivative of order k is taken along k
    random directions, f32 is computed as f64, and integers stand still. Stay away from kinks by more than 2 * step.

    >>> check_grads(lambda x: gx.tanh(x).sum(), [np.linspace(-1, 1, 5)])
    """
    graph = fn if isinstance(fn, Graph) else _traced(fn, args)
    arrays = [np.asarray(a) for a in args]
    arrays = [a.astype(np.float64) if a.dtype == np.float32 else a for a in arrays]
    graph = bind(graph, solve_sizes(graph, arrays), {f32: f64})
    rng = np.random.default_rng(seed)
    wrt = [leaf for leaf in graph.leaves if leaf.tensor.dtype is f64]
    floats = [o for o in graph.outputs if o.tensor.dtype is f64]
    assert wrt, "there is nothing to differentiate by: no input is floating"
    assert floats, "there is nothing to differentiate: no output is floating"
    values = dict(zip(graph.leaves, arrays, strict=True))

    scalar = _dot(floats, [rng.standard_normal(o.tensor.static_shape) for o in floats])
    for k in range(1, order + 1):
        slopes = vjp([scalar], [const(value=np.float64(1.0), shape=(), dtype=f64)], wrt)
        directions = [rng.standard_normal(w.tensor.static_shape) for w in wrt]
        along = _dot(slopes, directions)
        got, *parts = _evaluate(graph, values, (along, *slopes))
        want = _five_point(graph, values, dict(zip(wrt, directions)), scalar, step)
        scale = max(abs(want), sum(float(np.sum(np.abs(p * d))) for p, d in zip(parts, directions)), float(np.finfo(np.float64).tiny))
        error = abs(float(got) - want) / scale
        noise = 1e-14 * abs(float(_evaluate(graph, values, (scalar,))[0])) / step / scale       # what rounding of the function may do to the quotient
        assert error <= tolerance + noise, f"derivative {k} of {graph.name}: reverse mode says {float(got)!r}, finite differences {want!r} (off by {error:.2g})"
        scalar = along


def _traced(fn: Callable[..., Any], args: Sequence[Any]) -> Graph:
    from ..driver import compile
    graph: Graph = compile(fn, backend="numpy").lower(*args).graph
    return graph


def _dot(nodes: Sequence[Node], weights: Sequence[Array]) -> Node:
    """The sum of all elements, weighted: a scalar."""
    total: Node | None = None
    for n, w in zip(nodes, weights):
        w.flags.writeable = False
        part = reduce_sum(n * const(value=w if w.ndim else w[()], shape=n.tensor.shape, dtype=f64), axes=tuple(range(n.tensor.rank)))
        total = part if total is None else total + part
    assert total is not None
    return total


def _evaluate(graph: Graph, values: dict[Node, Array], roots: tuple[Node, ...]) -> list[Array]:
    """The values of nodes over the graph's leaves."""
    g = Graph(graph.leaves, roots, name=graph.name)
    return run(g, [values[leaf] for leaf in graph.leaves]).outputs


def _five_point(graph: Graph, values: dict[Node, Array], directions: dict[Node, Array], scalar: Node, h: float) -> float:
    """The derivative of the scalar along the directions, by the central formula of fourth order."""
    def at(step: float) -> float:
        return float(_evaluate(graph, {**values, **{w: values[w] + step * d for w, d in directions.items()}}, (scalar,))[0])

    return (8.0 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12.0 * h)
