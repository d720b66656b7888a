"""Batching over the registry: vmap(op) is a Python loop over the examples, whichever operands are batched. An op that has no rule runs as a loop."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

import graphc.ops  # noqa: F401  (fills the registry)
from graphc.core import half
from graphc.core.dtype import f64, from_numpy, i64
from graphc.core.errors import GraphError
from graphc.core.types import TensorType, TokenType, TupleType
from graphc.interp.numpy import run
from graphc.ir.host import Host
from graphc.ir.node import Graph
from graphc.ir.op import REGISTRY, Op
from graphc.ir.verify import verify
from graphc.ir.walk import topo
from graphc.ops import effect, index
from graphc.ops.control import scan
from graphc.ops.elementwise import sin, tanh
from graphc.ops.index import put_along_add, scatter_set, take
from graphc.ops.leaf import input_
from graphc.ops.movement import permute
from graphc.ops.tuples import get
from graphc.testing import random_graph
from graphc.transform.pipeline import random_inputs
from graphc.transform.vmap import RULES, push, vmap

N = 3
OPS = [op for op in REGISTRY.values() if op.family != "leaf" and op.samples(np.random.default_rng(0))]
GENERIC = {"random_bits"}                               # ops that run as a loop over the examples, known to


def frozen(value):
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
    return value


def batches(op: Op, seed: int) -> list[tuple[list[np.ndarray], dict]]:
    """Draws of an op's samples, that differ only in the arrays: N examples of each."""
    draws = [op.samples(np.random.default_rng(seed + k)) for k in range(N)]
    return [([np.stack([np.asarray(d[j][0][i]) for d in draws]) for i in range(len(draws[0][j][0]))], draws[0][j][1]) for j in range(len(draws[0]))]


def outputs(node) -> tuple:
    return tuple(get(node, index=k) for k in range(len(node.type.items))) if isinstance(node.type, TupleType) else (node,)


@pytest.mark.parametrize("op", OPS, ids=str)
def test_every_op_is_a_loop(op: Op) -> None:
    for arrays, attrs in batches(op, 11):
        attrs = {k: frozen(v) for k, v in attrs.items()}
        leaves = [input_(name=f"x{k}", shape=a.shape[1:], dtype=from_numpy(a.dtype)) for k, a in enumerate(arrays)]
        one = Graph(tuple(leaves), outputs(op(*leaves, **attrs)))
        for moving in itertools.product((False, True), repeat=len(arrays)):
            if not any(moving):
                continue
            given = [a if m else a[0] for a, m in zip(arrays, moving)]
            batched = [input_(name=f"x{k}", shape=a.shape, dtype=from_numpy(a.dtype)) for k, a in enumerate(given)]
            pairs = list(zip(leaves, batched, moving))
            out = push(one.outputs, {x: b for x, b, m in pairs if m}, N, {x: b for x, b, m in pairs if not m})
            got = run(verify(Graph(tuple(batched), tuple(o for o, _ in out))), given).outputs
            want = [run(one, [g[k] if m else g for g, m in zip(given, moving)]).outputs for k in range(N)]
            for j, (value, (_, each)) in enumerate(zip(got, out)):
                for k in range(N):
                    here, there = (half.plain(np.asarray(a)) for a in (value[k] if each else value, want[k][j]))
                    np.testing.assert_allclose(here, there, rtol=1e-13, atol=1e-13, err_msg=f"{op} {attrs} {moving}")


@pytest.mark.parametrize("op", OPS, ids=str)
def test_rules_do_not_loop(op: Op) -> None:
    """An op without a rule is right, and slow: say here that it is meant so."""
    if op is scan:
        return
    arrays, attrs = batches(op, 3)[0]
    leaves = [input_(name=f"x{k}", shape=a.shape[1:], dtype=from_numpy(a.dtype)) for k, a in enumerate(arrays)]
    batched = [input_(name=f"x{k}", shape=a.shape, dtype=from_numpy(a.dtype)) for k, a in enumerate(arrays)]
    out = vmap(outputs(op(*leaves, **{k: frozen(v) for k, v in attrs.items()})), dict(zip(leaves, batched)), N)
    assert any(n.op is scan for n in topo(out)) == (op.name in GENERIC)


def test_every_rule_is_an_ops() -> None:
    assert set(RULES) <= set(REGISTRY.values())


def test_an_op_without_a_rule_is_a_loop() -> None:
    strange = Op("strange", "reduce", lambda t: TensorType(t.shape[:-1], t.dtype), lambda x: x[..., 0] * x[..., -1], None, "no rule", lambda rng: [])
    x, xs = input_(name="x", shape=(2, 3), dtype=f64), input_(name="xs", shape=(4, 2, 3), dtype=f64)
    (out,) = vmap([strange(x)], {x: xs}, 4)
    assert get in {n.op for n in topo((out,))}
    value = np.random.default_rng(0).standard_normal((4, 2, 3))
    np.testing.assert_array_equal(run(Graph((xs,), (out,)), [value]).outputs[0], value[..., 0] * value[..., -1])


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs(seed: int) -> None:
    graph = random_graph(seed, dtype=f64)
    leaves = graph.leaves
    floats = [random_inputs(graph, seed + 100 * k) for k in range(N)]
    moving = [bool((seed >> k) & 1) or k == 0 for k in range(len(leaves))]
    given = [np.stack([f[k] for f in floats]) if m else floats[0][k] for k, m in enumerate(moving)]
    batched = [input_(name=f"x{k}", shape=g.shape, dtype=f64) for k, g in enumerate(given)]
    pairs = list(zip(leaves, batched, moving))
    out = push(graph.outputs, {x: b for x, b, m in pairs if m}, N, {x: b for x, b, m in pairs if not m})
    got = run(verify(Graph(tuple(batched), tuple(o for o, _ in out))), given).outputs
    for k in range(N):
        want = run(Graph(leaves, graph.outputs), [g[k] if m else g for g, m in zip(given, moving)]).outputs
        for value, (_, each), w in zip(got, out, want):
            np.testing.assert_allclose(value[k] if each else value, w, rtol=1e-10, atol=1e-10)


def test_what_no_example_reaches_is_computed_once() -> None:
    x, w = (input_(name=n, shape=(2,), dtype=f64) for n in "xw")
    xs = input_(name="xs", shape=(4, 2), dtype=f64)
    still = sin(w)
    (out,) = vmap([tanh(x) * still], {x: xs}, 4)
    assert still in topo((out,))
    (out,) = push([still], {x: xs}, 4)
    assert out == (still, False)


def test_indices_out_of_range_stay_within_their_example() -> None:
    """A gather clamps: an index of one example never reads another's slices."""
    x, i = input_(name="x", shape=(3,), dtype=f64), input_(name="i", shape=(2,), dtype=i64)
    xs, js = input_(name="xs", shape=(2, 3), dtype=f64), input_(name="js", shape=(2, 2), dtype=i64)
    values, at = np.arange(6.0).reshape(2, 3), np.asarray([[-5, 7], [3, 1]])
    (out,) = vmap([take(x, i, axis=0)], {x: xs, i: js}, 2)
    np.testing.assert_array_equal(run(Graph((xs, js), (out,)), [values, at]).outputs[0], [[0, 2], [5, 4]])
    (out,) = vmap([scatter_set(x, i, splat_like(i), axis=0)], {x: xs, i: js}, 2)
    np.testing.assert_array_equal(run(Graph((xs, js), (out,)), [values, at]).outputs[0], [[9, 1, 9], [3, 9, 9]])


def splat_like(i):
    from graphc.ops.leaf import splat
    return splat(9.0, TensorType(i.tensor.shape, f64))


def test_empty_axes() -> None:
    x, i = input_(name="x", shape=(0, 2), dtype=f64), input_(name="i", shape=(0,), dtype=i64)
    xs, js = input_(name="xs", shape=(3, 0, 2), dtype=f64), input_(name="js", shape=(3, 0), dtype=i64)
    (out,) = vmap([take(x, i, axis=0)], {x: xs, i: js}, 3)
    assert run(Graph((xs, js), (out,)), [np.zeros((3, 0, 2)), np.zeros((3, 0), np.int64)]).outputs[0].shape == (3, 0, 2)


def test_a_carry_that_becomes_different() -> None:
    """The count never has the batch axis; a carry that starts the same and meets an example has it from the start."""
    a, count, x = (input_(name=n, shape=(2,), dtype=f64) for n in ("a", "count", "x"))
    body = Graph((a, count, x), (a + x, count + 1.0, permute(a * x, axes=(0,))), name="body")
    start, zero, xs = input_(name="start", shape=(2,), dtype=f64), input_(name="zero", shape=(2,), dtype=f64), input_(name="xs", shape=(4, 2), dtype=f64)
    loop = scan(start, zero, xs, body=body, carries=2, xs=1, length=4)
    many = input_(name="many", shape=(3, 4, 2), dtype=f64)
    out = push(outputs(loop), {xs: many}, 3)
    assert [m for _, m in out] == [True, False, True, True, False]
    graph = verify(Graph((start, zero, many), tuple(o for o, _ in out)))
    rng = np.random.default_rng(0)
    s, z, m = rng.standard_normal(2), np.zeros(2), rng.standard_normal((3, 4, 2))
    got = run(graph, [s, z, m]).outputs
    for k in range(3):
        for (value, each), want in zip([(g, e) for g, (_, e) in zip(got, out)], run(Graph((start, zero, xs), outputs(loop)), [s, z, m[k]]).outputs):
            np.testing.assert_allclose(value[k] if each else value, want, rtol=1e-14)


def test_effects_have_no_batch() -> None:
    x, xs = input_(name="x", shape=(), dtype=f64), input_(name="xs", shape=(3,), dtype=f64)
    printed = get(effect.io_callback(effect.token(), x, function=Host("print"), results=TupleType(())), index=0)
    assert isinstance(printed.type, TokenType)
    with pytest.raises(GraphError, match="io_callback inside vmap"):
        push([printed], {x: xs}, 3)


def test_put_along_broadcasts_what_is_shared() -> None:
    x, i, u = input_(name="x", shape=(3,), dtype=f64), input_(name="i", shape=(2,), dtype=i64), input_(name="u", shape=(2,), dtype=f64)
    us = input_(name="us", shape=(2, 2), dtype=f64)
    (out,) = vmap([put_along_add(x, i, u, axis=0)], {u: us}, 2)
    got = run(Graph((x, i, us), (out,)), [np.zeros(3), np.asarray([2, 2]), np.asarray([[1.0, 2.0], [3.0, 4.0]])]).outputs[0]
    np.testing.assert_array_equal(got, [[0, 0, 3], [0, 0, 7]])
    assert index.put_along_add in RULES
