"""Random graphs with loops and branches among the rest: three evaluators, the passes, the text, and derivatives both ways."""
from __future__ import annotations

import numpy as np
import pytest

from graphc.core.dtype import f64
from graphc.interp.numpy import run
from graphc.ir.node import Graph
from graphc.ir.text import equal, parse, show
from graphc.ir.verify import verify
from graphc.ir.walk import all_nodes
from graphc.ops.leaf import const
from graphc.ops.reduce import reduce_sum
from graphc.testing import random_graph, random_inputs
from graphc.testing.graphs import CONTROL, KINDS
from graphc.transform import pipeline
from graphc.transform.grad import vjp
from graphc.transform.jvp import jvp

from .three import agree

SEEDS = [seed if seed < 24 else pytest.param(seed, marks=pytest.mark.slow) for seed in range(300)]


def drawn(seed: int) -> tuple[Graph, list[np.ndarray]]:
    graph = random_graph(seed, 9, dtype=f64, kinds=(*KINDS, *CONTROL, *CONTROL))
    return graph, random_inputs(graph, seed)


def test_they_have_all_three() -> None:
    found = [{n.op.name for n in all_nodes(drawn(seed)[0])} & set(CONTROL) for seed in range(24)]
    assert set().union(*found) == set(CONTROL)
    assert sum(map(bool, found)) > 18


@pytest.mark.parametrize("seed", SEEDS)
def test_evaluators_passes_and_text(seed: int) -> None:
    graph, arrays = drawn(seed)
    n = len(graph.inputs)
    assert equal(parse(show(verify(graph))), graph)
    want = run(graph, arrays[:n], arrays[n:])
    once = verify(pipeline.run(graph))
    got = run(once, arrays[:n], arrays[n:])
    for a, b in zip((*got.outputs, *got.states), (*want.outputs, *want.states), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    agree(graph, arrays[:n], arrays[n:], f64=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_forward_mode_is_the_transpose_of_reverse(seed: int) -> None:
    graph, arrays = drawn(seed)
    rng = np.random.default_rng(seed)

    def number(x: np.ndarray) -> object:
        x = np.asarray(x)
        x.flags.writeable = False
        return const(value=x if x.ndim else x[()], shape=x.shape, dtype=f64)
    wrt = list(graph.leaves)
    ts = [rng.standard_normal(w.tensor.static_shape) for w in wrt]
    cts = [rng.standard_normal(o.tensor.static_shape) for o in graph.outputs]
    _, slopes = jvp(graph.outputs, wrt, [number(t) for t in ts])
    pulled = vjp(graph.outputs, [number(c) for c in cts], wrt)
    both = Graph(graph.leaves, tuple(reduce_sum(x, axes=()) for x in (*slopes, *pulled)), name="both")
    out = run(verify(both), arrays).outputs
    k = len(cts)
    forward = sum(float((c * s).sum()) for c, s in zip(cts, out[:k]))
    backward = sum(float((t * g).sum()) for t, g in zip(ts, out[k:]))
    scale = 1 + sum(float(np.abs(c * s).sum()) for c, s in zip(cts, out[:k])) + sum(float(np.abs(t * g).sum()) for t, g in zip(ts, out[k:]))
    assert np.isfinite(scale)
    assert abs(forward - backward) <= 1e-10 * scale
