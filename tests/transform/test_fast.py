"""What `fast=True` does, and what moves past arithmetic without it."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

import graphc as gx
from graphc.core.dims import symbol
from graphc.core.dtype import f64
from graphc.core.errors import GraphError
from graphc.core.options import Options
from graphc.interp.numpy import run
from graphc.ir.node import Graph
from graphc.ir.text import equal
from graphc.ir.verify import verify
from graphc.ir.walk import topo
from graphc.ops import elementwise, movement, reduce
from graphc.ops.contract import contract
from graphc.ops.leaf import input_, splat
from graphc.testing import random_graph
from graphc.transform import pipeline
from graphc.transform.fast import FAST, fast
from graphc.transform.simplify import simplify

FASTER = Options(fast=True)


def x_of(*shape, name="x"):
    return input_(name=name, shape=shape, dtype=f64)


def ops_of(graph: Graph) -> list[str]:
    return [n.op.name for n in topo(graph.roots) if n.op.name not in ("input", "const")]


def same(before: Graph, after: Graph, rtol: float = 1e-12) -> None:
    rng = np.random.default_rng(1)
    feeds = [rng.uniform(0.5, 2.0, i.tensor.static_shape) for i in before.inputs]
    for a, b in zip(run(before, feeds).outputs, run(verify(after), feeds).outputs, strict=True):
        np.testing.assert_allclose(b, a, rtol=rtol)


# ---- the option ------------------------------------------------------------------------------------------------------------------


def test_nothing_of_it_runs_unasked() -> None:
    x = x_of(3)
    graph = Graph((x,), ((x + 2.0) + 3.0, x / x, x * 2.0 * 3.0))
    assert ops_of(pipeline.run(graph)) == ["add", "add", "div", "mul", "mul"]
    assert ops_of(pipeline.run(graph, options=FASTER)) == ["add", "mul"]
    assert ops_of(pipeline.run(graph, options=Options(passes=("fast",)))) == ["add", "mul"]
    assert not {"fast", "products"} & {p.name for p in pipeline.PASSES}


@pytest.mark.parametrize("value", [1, "yes", None])
def test_the_option_is_a_bool(value) -> None:
    with pytest.raises(GraphError, match="fast must be True or False"):
        gx.compile(lambda x: x, fast=value)


def test_a_compiled_step_with_it() -> None:
    a, b = np.random.default_rng(0).standard_normal((2, 30, 30)).astype(np.float32)
    v = np.ones(30, np.float32)
    plain, quick = gx.compile(lambda a, b, v: (a @ b) @ v), gx.compile(lambda a, b, v: (a @ b) @ v, fast=True)
    assert np.allclose(quick(a, b, v), plain(a, b, v), rtol=1e-4, atol=1e-4)
    shapes = [[n.tensor.shape for n in topo(s.lowered.executable().optimized.roots) if n.op is contract] for s in (plain, quick)]
    assert shapes == [[(30, 30), (30,)], [(30,), (30,)]]


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed: int) -> None:
    graph = verify(random_graph(seed, 20))
    after = verify(pipeline.run(graph, options=FASTER))
    assert equal(fast(after), after) or equal(pipeline.run(pipeline.run(after, options=FASTER), options=FASTER), pipeline.run(after, options=FASTER))


def test_each_rule_comes_to_an_end() -> None:
    comments = [r.comment for r in FAST]
    assert len(set(comments)) == len(comments)
    x = x_of(3, 4)
    y = ((x + 1.0) * 2.0 - 3.0) / 7.0 + 0.0
    graph = Graph((x,), (elementwise.pow_(y, splat(5.0, y)) / elementwise.sqrt(y * y + 1.0),))
    after = pipeline.run(graph, options=FASTER)
    same(graph, after)
    assert fast(after) is after


# ---- sums ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [c for k in range(1, 4) for c in itertools.combinations(range(3), k)], ids=str)
def test_sums_of_what_is_repeated(axes) -> None:
    x = x_of(3, 4)
    for new in range(3):
        shape = [3, 4]
        shape.insert(new, 5)
        graph = Graph((x,), (reduce.reduce_sum(movement.broadcast(x, shape=tuple(shape), axes=(new,)), axes=axes),))
        after = fast(graph)
        same(graph, after)
        assert ("broadcast" in ops_of(after)) == (new not in axes)


def test_a_symbolic_count() -> None:
    x = x_of(4)
    n = symbol("N")
    leaf = x_of(n, name="z")
    graph = Graph((x, leaf), (reduce.reduce_sum(movement.broadcast(x, shape=(n, 4), axes=(0,)), axes=(0,)), reduce.reduce_sum(leaf, axes=(0,))))
    after = fast(graph)
    assert "broadcast" not in [m.op.name for m in topo(after.roots[:1]) if m.inputs and m.inputs[0] is x]
    feeds = [np.arange(4.0), np.ones(7)]
    np.testing.assert_allclose(run(verify(after), feeds).outputs[0], run(graph, feeds).outputs[0])


# ---- movement past arithmetic, exactly -------------------------------------------------------------------------------------------


def test_arithmetic_before_repetition() -> None:
    x, y = x_of(4), x_of(4, name="y")
    wide = [movement.broadcast(i, shape=(3, 4), axes=(0,)) for i in (x, y)]
    graph = Graph((x, y), (elementwise.where(elementwise.lt(*wide), elementwise.exp(wide[0]) * 2.0, splat(1.0, wide[0])),))
    after = pipeline.run(graph)
    assert [n.tensor.shape for n in topo(after.roots) if n.op in (elementwise.exp, elementwise.where, elementwise.mul, elementwise.lt)] == [(4,)] * 4
    assert after.outputs[0].op is movement.broadcast
    same(graph, after, 0.0)


def test_only_common_axes_go_below() -> None:
    x, y = x_of(4), x_of(3, 4, name="y")
    one = movement.broadcast(x, shape=(2, 3, 4), axes=(0, 1))
    two = movement.broadcast(y, shape=(2, 3, 4), axes=(0,))
    graph = Graph((x, y), (one * two,))
    after = simplify(graph)
    assert ops_of(after) == ["broadcast", "mul", "broadcast"]
    same(graph, after, 0.0)
    mixed = Graph((x, y), (elementwise.mul(movement.broadcast(x, shape=(3, 4), axes=(0,)), y),))
    assert simplify(mixed) is mixed


def test_permutations_meet_and_cancel() -> None:
    x, y = x_of(3, 4), x_of(3, 4, name="y")
    turned = [movement.permute(i, axes=(1, 0)) for i in (x, y)]
    graph = Graph((x, y), (movement.permute(elementwise.tanh(turned[0] * turned[1]) + 1.0, axes=(1, 0)),))
    after = pipeline.run(graph)
    assert ops_of(after) == ["mul", "tanh", "add"]
    same(graph, after, 0.0)


def test_a_permutation_reaches_the_contraction() -> None:
    x, y = x_of(3, 4), x_of(3, 5, name="y")
    graph = Graph((x, y), (contract(elementwise.tanh(movement.permute(x, axes=(1, 0))), y, contracting=((1,), (0,)), batch=((), ())),))
    after = pipeline.run(graph)
    assert ops_of(after) == ["tanh", "contract"]
    same(graph, after)


def test_slices_and_largest_of_what_is_moved() -> None:
    x = x_of(3, 4)
    wide = movement.broadcast(x, shape=(3, 5, 4), axes=(1,))
    cut = movement.slice_(wide, starts=(1, 0, 0), stops=(3, 4, 3), steps=(1, 2, 2))
    turned = movement.slice_(movement.permute(x, axes=(1, 0)), starts=(1, 0), stops=(4, 2), steps=(2, 1))
    largest = [reduce.reduce_max(wide, axes=a) for a in ((1,), (0, 1), (0,), (1, 2), (0, 1, 2))]
    graph = Graph((x,), (cut, turned, *largest))
    after = pipeline.run(graph)
    same(graph, after, 0.0)
    assert all(n.inputs[0].op is not movement.broadcast for n in topo(after.roots) if n.op in (reduce.reduce_max, movement.slice_))
    empty = Graph((x,), (reduce.reduce_max(movement.broadcast(x, shape=(3, 0, 4), axes=(1,)), axes=(1,)),))
    assert np.isneginf(run(pipeline.run(empty), [np.ones((3, 4))]).outputs[0]).all()
