"""Bisection finds the level and the node; the helpers of `graphc.testing` can fail."""
from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from graphc.core.dtype import f32, f64
from graphc.interp.numpy import Result, run
from graphc.ir.node import Graph, Node, State
from graphc.ir.rewrite import Hole, P, Rule, rewrite
from graphc.ir.walk import map_nodes
from graphc.ops.elementwise import add, exp, sin, tanh
from graphc.ops.leaf import input_
from graphc.ops.reduce import reduce_sum
from graphc.testing import bisect, check_against_oracle, check_grads, compare_golden, random_graph, random_inputs
from graphc.testing.oracle import numpy_level
from graphc.transform.pipeline import PASSES, Pass


def net() -> tuple[Graph, list[np.ndarray], list[np.ndarray]]:
    x, w = (input_(name=n, shape=(3, 4), dtype=f32) for n in "xw")
    h = tanh(x * w)
    e = exp(h)
    loss = reduce_sum(sin(e) + h, axes=(0, 1))
    rng = np.random.default_rng(0)
    return Graph((x,), (loss,), (State("w", w, w + e),)), [rng.standard_normal((3, 4), np.float32)], [rng.standard_normal((3, 4), np.float32)]


def test_nothing_to_find() -> None:
    assert bisect(*net(), evaluators={"numpy": numpy_level}) is None


def test_a_wrong_pass_and_its_node() -> None:
    """exp(x) → exp(x) * 1.001: visible in the loss and in a state, made at one node."""
    rule = Rule(P(exp, (Hole("x"),), name="e"), lambda x, e: tanh(x), "wrong")
    bad = Pass("bad", lambda g: rewrite(g, [rule]))
    found = bisect(*net(), passes=(*PASSES, bad), evaluators={})
    assert found is not None
    assert found.level == "pass 'bad'"
    assert found.node is not None
    assert found.node.op is exp
    assert found.line.startswith("%3: f32[3,4] = exp(%2)")
    assert "%3 differs by" in str(found)


def _broken(graph: Graph, inputs, states) -> Result:
    """A backend whose additions lose an element."""
    def wrong(n: Node, new: tuple[Node, ...]) -> Node:
        bad = dataclasses.replace(n.op, numpy=lambda a, b: np.where(np.arange(a.size).reshape(a.shape) == 0, a, a + b)) if n.op is add else n.op
        return Node(bad, new, n.attrs, n.type)
    return run(map_nodes(graph, wrong), inputs, states)


def test_a_wrong_evaluator_and_its_node() -> None:
    found = bisect(*net(), evaluators={"numpy": numpy_level, "machine": _broken})
    assert found is not None
    assert (found.level, found.node.op if found.node else None) == ("machine", add)


def test_a_level_that_cannot_run() -> None:
    def refuses(graph: Graph, inputs, states) -> Result:
        raise NotImplementedError("no sin here") if any(o.op is reduce_sum for o in graph.outputs) else KeyError("x")

    found = bisect(*net(), evaluators={"machine": refuses})
    assert found is not None
    assert "raised KeyError" in found.what


def test_a_difference_that_no_node_shows_alone() -> None:
    graph, inputs, states = net()

    def wrong_as_a_whole(g: Graph, i, s) -> Result:
        r = run(g, i, s)
        return Result(r.outputs, [v + 1 for v in r.states])

    found = bisect(graph, inputs, states, evaluators={"machine": wrong_as_a_whole})
    assert found is not None
    assert found.node is None
    assert found.what == f"state 'w' {found.what.split(' ', 2)[2]}"


def test_check_against_oracle() -> None:
    graph, inputs, states = net()
    check_against_oracle(graph, inputs, states, numpy_level)
    with pytest.raises(AssertionError, match="output 0 differs by"):
        check_against_oracle(graph, inputs, states, _broken)


@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_random_graphs_run_and_agree_in_both_precisions(seed: int) -> None:
    graph = random_graph(seed, 15)
    arrays = random_inputs(graph, seed)
    n = len(graph.inputs)
    check_against_oracle(graph, arrays[:n], arrays[n:], numpy_level, tolerance=1e-2)


def test_random_graphs_are_the_same_for_a_seed() -> None:
    assert str(random_graph(5, 20)) == str(random_graph(5, 20))
    assert str(random_graph(5, 20)) != str(random_graph(6, 20))


def test_check_grads_sees_each_order() -> None:
    """A vjp that is right, whose own derivative is wrong: only the second order tells."""
    from graphc.ir.op import Op
    flat = Op("flat", "unary", lambda t: t, np.cos, "zero", "a cosine that claims to be flat", lambda rng: [])
    odd = Op("odd", "unary", lambda t: t, np.sin, lambda g, y, x: (g * flat(x),), "a sine over it", lambda rng: [])
    x = input_(name="x", shape=(4,), dtype=f64)
    graph = Graph((x,), (odd(x),), name="odd")
    points = [np.linspace(0.1, 1.0, 4)]
    check_grads(graph, points, order=1)
    with pytest.raises(AssertionError, match="derivative 2 of odd"):
        check_grads(graph, points, order=2)


def test_golden_texts(tmp_path) -> None:
    path = tmp_path / "a" / "b.txt"
    with pytest.raises(AssertionError, match="no golden text"):
        compare_golden("one\n", path)
    compare_golden("one", path, update=True)
    compare_golden("one\n", path)
    with pytest.raises(AssertionError, match=r"(?s)-one.*\+two"):
        compare_golden("two", path)
