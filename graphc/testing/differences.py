"""The derivative rules of the tensor ops against differences: a complex step where the op's NumPy meaning computes with complex numbers, else a real one.

f(x + i h d) = f(x) + i h f'(x) d + O(h²): with h = 1e-100 the imaginary part is the derivative to the last bit, no subtraction spoils it. It needs an op
that is arithmetic and movement alone; where an order or a magnitude of elements is asked for, complex numbers have none, and the five-point formula of
`check_grads` is used. (Squire and Trapp, "Using complex variables to estimate derivatives of real functions", 1998.)
"""
from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ..core.dtype import f64, from_numpy
from ..core.record import dataclass
from ..core.types import TupleType
from ..interp.numpy import evaluate
from ..ir.node import Graph, Node
from ..ir.op import Op, Sample
from ..ops.leaf import input_
from ..ops.tuples import get
from ..transform.grad import vjp
from .gradients import check_grads

Array = np.ndarray[Any, Any]
H = 1e-100
ANALYTIC = ("reduce_sum", "reduce_prod", "cumsum", "fold", "take", "take_along", "scatter_add", "scatter_set", "put_along_add", "put_along_set")
COMPLEX, FINITE = 1e-13, 1e-6                           # relative: rounding of a few sums, and the error of the five-point formula


@dataclass(frozen=True, slots=True)
class Checked:
    """What one op's rule was held against, over all its examples."""

    op: Op
    examples: int
    how: Literal["complex step", "finite differences"]


def check_rule(op: Op, seed: int = 0) -> Checked:
    """Raise AssertionError unless the op's vjp agrees with differences at each of its examples, by each floating operand."""
    rng = np.random.default_rng(seed)
    samples = [s for s in op.samples(rng) if any(np.asarray(a).dtype == np.float64 and np.size(a) for a in s[0])]
    assert callable(op.vjp), f"{op} has no rule"
    assert samples, f"{op} has no floating example"
    analytic = op.family in ("movement", "contract") or op.name in ANALYTIC
    for sample in samples:
        graph, arrays = _graph(op, sample)
        if analytic:
            _complex_step(op, graph, arrays, sample[1], rng)
        else:
            check_grads(graph, arrays, order=1, tolerance=FINITE)
    return Checked(op, len(samples), "complex step" if analytic else "finite differences")


def _graph(op: Op, sample: Sample) -> tuple[Graph, list[Array]]:
    arrays = [np.asarray(a) for a in sample[0]]
    leaves = tuple(input_(name=f"x{k}", shape=a.shape, dtype=from_numpy(a.dtype)) for k, a in enumerate(arrays))
    node = op(*leaves, **sample[1])
    outputs = tuple(get(node, index=k) for k in range(len(node.type.items))) if isinstance(node.type, TupleType) else (node,)
    return Graph(leaves, tuple(o for o in outputs if o.tensor.dtype is f64), name=op.name), arrays


def _complex_step(op: Op, graph: Graph, arrays: list[Array], attrs: dict[str, Any], rng: np.random.Generator) -> None:
    directions = {leaf: rng.standard_normal(a.shape) for leaf, a in zip(graph.inputs, arrays) if leaf.tensor.dtype is f64}
    value = np.asarray(op.numpy(*(a + 1j * H * directions[leaf] if leaf in directions else a for leaf, a in zip(graph.inputs, arrays)), **attrs))
    assert value.dtype.kind == "c", op
    (y,) = graph.outputs
    weights = rng.standard_normal(y.tensor.static_shape)
    slopes: tuple[Node, ...] = vjp([y], [ct := input_(name="ct", shape=y.tensor.shape, dtype=f64)], list(directions))
    got = evaluate(slopes, {ct: weights, **dict(zip(graph.inputs, arrays))})
    pulled = [np.asarray(s) * d for s, d in zip(got, directions.values())]
    pushed = weights * value.imag / H
    scale = max(*(float(np.abs(p).sum()) for p in pulled), float(np.abs(pushed).sum()), float(np.finfo(np.float64).tiny))
    error = abs(sum(float(p.sum()) for p in pulled) - float(pushed.sum())) / scale
    assert error <= COMPLEX, f"{op}: the rule and a complex step differ by {error:.2g}, {attrs}"
