"""Reverse mode applied to its own output: derivatives of higher order, and what it never looks at."""
from __future__ import annotations

import math

import numpy as np
import pytest

from graphc.core.dtype import f64, i64
from graphc.interp.numpy import run
from graphc.ir.node import Graph
from graphc.ir.walk import topo
from graphc.ops.elementwise import cast, exp, mul, sin, tanh
from graphc.ops.leaf import input_, splat
from graphc.ops.tuples import get, topk
from graphc.testing import check_grads, random_graph
from graphc.transform.grad import vjp
from graphc.transform.pipeline import random_inputs
from graphc.transform.pipeline import run as run_passes


def _tanh(t):
    return [1 - t**2, -2 * t * (1 - t**2), (1 - t**2) * (6 * t**2 - 2)]


CASES = {
    "tanh": (tanh, lambda x: _tanh(math.tanh(x))),
    "exp": (exp, lambda x: [math.exp(x)] * 3),
    "sin": (sin, lambda x: [math.cos(x), -math.sin(x), -math.cos(x)]),
    "cube": (lambda n: mul(mul(n, n), n), lambda x: [3 * x**2, 6 * x, 6.0]),
}


@pytest.mark.parametrize("optimised", [False, True], ids=["as traced", "after passes"])
@pytest.mark.parametrize("name", CASES)
def test_three_orders(name: str, optimised: bool) -> None:
    f, want = CASES[name]
    x = input_(name="x", shape=(5,), dtype=f64)
    orders, y = [], f(x)
    for _ in range(3):
        (y,) = vjp([y], [splat(1.0, y)], [x])
        orders.append(y)
    graph = Graph((x,), tuple(orders))
    points = np.asarray([-1.5, -0.3, 0.2, 0.9, 2.0])
    got = run(run_passes(graph) if optimised else graph, [points]).outputs
    np.testing.assert_allclose(got, np.asarray([want(p) for p in points]).T, rtol=0, atol=1e-9)


def test_a_deep_chain_differentiates() -> None:
    x = input_(name="x", shape=(2,), dtype=f64)
    y = x
    for k in range(30_000):
        y = sin(y) if k % 2 else y + 0.5
    (g,) = vjp([y], [splat(1.0, y)], [x])
    assert len(topo((g,))) > 30_000
    assert np.isfinite(run(Graph((x,), (g,)), [np.ones(2)]).outputs[0]).all()


def test_no_path_gives_zeros() -> None:
    x, w = (input_(name=n, shape=(3,), dtype=f64) for n in "xw")
    gx, gw = vjp([tanh(x)], [splat(1.0, x)], [x, w])
    assert gx.op is mul
    assert gw.op.name == "const"


def test_integers_have_no_cotangent() -> None:
    i = input_(name="i", shape=(3,), dtype=i64)
    x = input_(name="x", shape=(3,), dtype=f64)
    y = cast(i, dtype=f64) * x
    (g,) = vjp([y], [splat(1.0, y)], [x])
    assert i in topo((g,))


def test_two_results() -> None:
    """topk: only the values carry a cotangent; the indices are read again."""
    x = input_(name="x", shape=(3, 5), dtype=f64)
    t = topk(x, k=2, axis=1)
    values = get(t, index=0)
    check_grads(Graph((x,), (values * values, get(t, index=1))), [np.random.default_rng(0).permuted(np.linspace(-1, 1, 15)).reshape(3, 5)])


def test_hooks_see_the_whole_cotangent_once() -> None:
    x = input_(name="x", shape=(3,), dtype=f64)
    a = tanh(x)
    y = a * a
    seen = []

    def hook(n, g):
        if n is a:
            seen.append(g)
            return g * 2.0
        return g

    (plain,) = vjp([y], [splat(1.0, y)], [x])
    (doubled,) = vjp([y], [splat(1.0, y)], [x], hook)
    assert len(seen) == 1
    p, d = run(Graph((x,), (plain, doubled)), [np.asarray([0.1, 0.2, -0.5])]).outputs
    np.testing.assert_allclose(d, 2 * p)


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs(seed: int) -> None:
    """Finite differences of fuzzed graphs; a kink within the step is possible, so only the smooth kinds of op are drawn."""
    graph = random_graph(seed, 8, dtype=f64, kinds=("unary", "move", "contract"))
    check_grads(graph, random_inputs(graph, seed), order=2, tolerance=1e-5)
