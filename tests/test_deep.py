"""A graph 100,000 nodes deep is an ordinary graph: traced, differentiated, printed, parsed back and run, without recursion."""
from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc.interp.numpy import run
from graphc.ir.text import equal, parse
from graphc.ir.walk import topo

STEPS = 50_000


@pytest.mark.timeout(300)
def test_a_chain_of_100_000_nodes() -> None:
    def f(x: gx.Tensor) -> gx.Tensor:
        for _ in range(STEPS):
            x = x * 1.00001 + 0.5
        return x.sum()

    graph = gx.compile(gx.value_and_grad(f), backend="numpy").lower(np.ones(3)).graph
    assert len(topo(graph.roots)) > 100_000
    assert equal(parse(str(graph)), graph)
    value, slope = run(graph, [np.ones(3)]).outputs
    np.testing.assert_allclose(slope, 1.00001 ** STEPS, rtol=1e-9)
    np.testing.assert_allclose(value, 3 * (1.00001 ** STEPS + 0.5 * (1.00001 ** STEPS - 1) / 1e-5), rtol=1e-9)
