"""Forward mode on graphs: every op against its own reverse mode (two ways to one number) and against differences; loops carry tangents and no history."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc.ops  # noqa: F401  (fills the registry)
from graphc.core.dtype import f32, f64, from_numpy, i64
from graphc.core.errors import GraphError
from graphc.core.types import TupleType
from graphc.interp.numpy import run
from graphc.ir.node import Graph, Node
from graphc.ir.op import REGISTRY, Op
from graphc.ir.verify import verify
from graphc.ir.walk import topo
from graphc.ops.control import scan
from graphc.ops.elementwise import cast, exp, mul, sin, tanh
from graphc.ops.leaf import const, input_, splat
from graphc.ops.tuples import get
from graphc.testing import random_graph
from graphc.transform.grad import vjp
from graphc.transform.jvp import jvp
from graphc.transform.pipeline import random_inputs
from graphc.transform.pipeline import run as run_passes

OPS = [op for op in REGISTRY.values() if callable(op.vjp)]


def frozen(value):
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
    return value


def examples(op: Op) -> Iterator[tuple[Graph, list[np.ndarray]]]:
    """Each sample of an op as a graph with its arrays."""
    for arrays, attrs in op.samples(np.random.default_rng(7)):
        arrays = [np.asarray(a) for a in arrays]
        leaves = tuple(input_(name=f"x{k}", shape=a.shape, dtype=from_numpy(a.dtype)) for k, a in enumerate(arrays))
        node = op(*leaves, **{k: frozen(v) for k, v in attrs.items()})
        outputs = tuple(get(node, index=k) for k in range(len(node.type.items))) if isinstance(node.type, TupleType) else (node,)
        yield Graph(leaves, outputs, name=op.name), arrays


def number(value) -> Node:
    value = np.asarray(value)
    return const(value=frozen(value) if value.ndim else value[()], shape=value.shape, dtype=from_numpy(value.dtype))


def both_ways(graph: Graph, arrays: list[np.ndarray], seed: int = 0) -> tuple[float, float, float]:
    """⟨c, J t⟩ by forward mode and ⟨Jᵀ c, t⟩ by reverse mode, for random c and t; and the sum of magnitudes, for scale."""
    rng = np.random.default_rng(seed)
    floats = [o for o in graph.outputs if o.tensor.dtype is f64]
    wrt = [i for i in graph.leaves if i.tensor.dtype is f64]
    c, t = ([rng.standard_normal(n.tensor.static_shape) for n in nodes] for nodes in (floats, wrt))
    values, slopes = jvp(floats, wrt, [number(x) for x in t])
    pulled = vjp(floats, [number(x) for x in c], wrt)
    everything = verify(Graph(graph.leaves, (*slopes, *pulled, *values, *floats)))
    out = run(everything, arrays).outputs
    k, m = len(floats), len(wrt)
    for new, old in zip(out[k + m:2 * k + m], out[2 * k + m:]):
        np.testing.assert_array_equal(new, old)                         # a loop written anew gives the same values
    forward, backward = (float(sum(np.sum(a * b) for a, b in zip(x, y))) for x, y in ((c, out[:k]), (out[k:k + m], t)))
    return forward, backward, float(sum(np.sum(np.abs(a * b)) for a, b in zip(c, out[:k]))) + 1e-300


@pytest.mark.parametrize("op", OPS, ids=str)
def test_forward_is_the_transpose_of_reverse(op: Op) -> None:
    tried = 0
    for graph, arrays in examples(op):
        if any(i.tensor.dtype is f64 for i in graph.leaves) and any(o.tensor.dtype is f64 for o in graph.outputs):
            forward, backward, scale = both_ways(graph, arrays)
            assert abs(forward - backward) <= 1e-12 * scale, op
            tried += 1
    assert tried


@pytest.mark.parametrize("op", OPS, ids=str)
def test_each_op_against_differences(op: Op) -> None:
    for graph, arrays in examples(op):
        wrt = [i for i in graph.leaves if i.tensor.dtype is f64]
        floats = [o for o in graph.outputs if o.tensor.dtype is f64]
        if not wrt or not floats or not all(a.size for a in arrays):
            continue
        rng = np.random.default_rng(1)
        t = {i: rng.standard_normal(i.tensor.static_shape) for i in wrt}
        slopes = jvp(floats, wrt, [number(t[i]) for i in wrt])[1]
        got = run(Graph(graph.leaves, slopes), arrays).outputs
        h = 1e-4

        def at(step, graph=graph, arrays=arrays, t=t, floats=floats):
            moved = [a + step * t[i] if i in t else a for i, a in zip(graph.leaves, arrays)]
            return run(Graph(graph.leaves, tuple(floats)), moved).outputs
        for g, a, b, c, d in zip(got, at(h), at(-h), at(2 * h), at(-2 * h)):
            want = (8 * (a - b) - (c - d)) / (12 * h)
            assert np.linalg.norm(g - want) <= 1e-6 * max(np.linalg.norm(want), 1e-3), op


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs_both_ways(seed: int) -> None:
    graph = random_graph(seed, dtype=f64)
    arrays = random_inputs(graph, seed)
    forward, backward, scale = both_ways(graph, arrays, seed)
    assert abs(forward - backward) <= 1e-9 * scale


@pytest.mark.parametrize("optimised", [False, True], ids=["as traced", "after passes"])
@pytest.mark.parametrize(("f", "third"), [(tanh, lambda x: (1 - np.tanh(x)**2) * (6 * np.tanh(x)**2 - 2)), (exp, np.exp), (sin, lambda x: -np.cos(x)),
                                          (lambda n: mul(mul(n, n), n), lambda x: 6 + 0 * x)], ids=["tanh", "exp", "sin", "cube"])
def test_three_orders(f, third, optimised: bool) -> None:
    x = input_(name="x", shape=(5,), dtype=f64)
    y = f(x)
    for _ in range(3):
        (y,) = jvp([y], [x], [splat(1.0, x)])[1]
    graph = Graph((x,), (y,))
    points = np.asarray([-1.5, -0.3, 0.2, 0.9, 2.0])
    got = run(run_passes(graph) if optimised else graph, [points]).outputs[0]
    np.testing.assert_allclose(got, third(points), rtol=0, atol=1e-9)


def test_no_path_gives_zeros_and_costs_nothing() -> None:
    x, w = (input_(name=n, shape=(3,), dtype=f64) for n in "xw")
    (value,), (slope,) = jvp([tanh(x)], [w], [splat(1.0, w)])
    assert slope.op is const
    assert value.op is tanh


def test_an_inactive_op_needs_no_rule() -> None:
    rough = Op("rough", "unary", lambda t: t, np.negative, None, "no rule", lambda rng: [])
    x, w = (input_(name=n, shape=(3,), dtype=f64) for n in "xw")
    assert jvp([rough(x) * w], [w], [splat(1.0, w)])[1][0].op is mul
    with pytest.raises(GraphError, match="rough has no derivative"):
        jvp([rough(x) * w], [x], [splat(1.0, x)])


def test_casts_keep_the_dtypes() -> None:
    x = input_(name="x", shape=(3,), dtype=f32)
    (_, (slope,)) = jvp([cast(sin(cast(x, dtype=f64)), dtype=f32)], [x], [splat(1.0, x)])
    assert slope.tensor.dtype is f32
    (_, (slope,)) = jvp([cast(cast(x, dtype=i64), dtype=f32)], [x], [splat(1.0, x)])
    assert slope.op is const


def test_the_name_of_the_cotangent_is_gone() -> None:
    """The double-vjp trick: what it writes does not contain the cotangent that it was written for."""
    for op in OPS:
        for graph, _ in examples(op):
            wrt = [i for i in graph.leaves if i.tensor.dtype is f64]
            slopes = jvp([o for o in graph.outputs if o.tensor.dtype is f64], wrt, [splat(1.0, w) for w in wrt])[1]
            assert {n for n in topo(slopes) if n.op is input_} <= set(graph.leaves), op


def test_a_deep_chain() -> None:
    x = input_(name="x", shape=(2,), dtype=f64)
    y = x
    for k in range(30_000):
        y = sin(y) if k % 2 else y + 0.5
    (slope,) = jvp([y], [x], [splat(1.0, x)])[1]
    assert np.isfinite(run(Graph((x,), (slope,)), [np.ones(2)]).outputs[0]).all()


def _recurrence(h: Node, w: Node, x: Node) -> Node:
    """h ← tanh(h w) + x, y = h²; a second carry counts and never moves, a third starts still and begins to move."""
    hb, cb, lb, xb, wb = (input_(name=n, shape=(2,), dtype=f64) for n in ("h", "count", "late", "x", "w"))
    new = tanh(hb * wb) + xb
    body = Graph((hb, cb, lb, xb, wb), (new, cb + 1.0, lb + hb, new * new), name="body")
    return scan(h, splat(0.0, h), splat(0.0, h), x, w, body=body, carries=3, xs=1, length=4)


def test_a_loop_carries_tangents() -> None:
    h, w = (input_(name=n, shape=(2,), dtype=f64) for n in "hw")
    x = input_(name="x", shape=(4, 2), dtype=f64)
    s = _recurrence(h, w, x)
    graph = Graph((h, w, x), tuple(get(s, index=k) for k in range(len(s.type.items))))
    rng = np.random.default_rng(0)
    forward, backward, scale = both_ways(graph, [rng.standard_normal(2), rng.standard_normal(2), rng.standard_normal((4, 2))])
    assert abs(forward - backward) <= 1e-12 * scale

    values, slopes = jvp([get(s, index=0), get(s, index=3)], [w], [splat(1.0, w)])
    run_passes(verify(Graph((h, w, x), (*values, *slopes))))
    (loop,) = {n for n in topo((*values, *slopes)) if n.op is scan}     # one loop for values and tangents
    assert loop.attrs["carries"] == 5                                   # the counter has no tangent
    read = {n.attrs["index"] for n in topo((*values, *slopes)) if n.op is get}
    assert all(k < len(loop.attrs["body"].outputs) for k in read)       # nobody reads a history


def test_a_tangent_of_the_wrong_type() -> None:
    x = input_(name="x", shape=(3,), dtype=f64)
    with pytest.raises(GraphError, match=r"the tangent of a f64\[3\] is a f64\[3\], got f64\[\]"):
        jvp([tanh(x)], [x], [const(value=np.float64(1), shape=(), dtype=f64)])


def test_rules_with_branches_loops_and_checkpoints_are_linear_too() -> None:
    """A rule is transposed where it is linear; that a branch, a loop or a checkpoint in it is handed the tangents does not make it depend on them."""
    import graphc as gx

    def through_cond(x: Any) -> Any:
        return gx.cond(x[0] > 0, gx.sin, gx.cos, x) * x

    def through_scan(x: Any) -> Any:
        return gx.scan(lambda c, _: (gx.sin(c) * x, None), x, None, length=3)[0]

    def through_checkpoint(x: Any) -> Any:
        return gx.checkpoint(lambda v: gx.sin(v) * v)(x) * x

    def with_rules(f: Any) -> tuple[Any, Any]:
        forward, reverse = gx.custom_jvp(lambda v: f(v)), gx.custom_vjp(lambda v: f(v))
        forward.defjvp(lambda primals, tangents: gx.jvp(f, tuple(primals), tuple(tangents)))
        reverse.defvjp(lambda v: (f(v), v), lambda v, g: gx.vjp(f, v)[1](g))
        return forward, reverse

    x = np.array([0.3, -0.7, 1.1])
    for f in (through_cond, through_scan, through_checkpoint):
        want = gx.jacfwd(f)(gx.tensor(x)).numpy()
        for h in with_rules(f):
            np.testing.assert_allclose(gx.jacrev(h)(gx.tensor(x)).numpy(), want, atol=1e-14)
            np.testing.assert_allclose(gx.jacfwd(h)(gx.tensor(x)).numpy(), want, atol=1e-14)
            np.testing.assert_allclose(gx.compile(gx.jacrev(h), cache=False)(x), want, atol=1e-14)


def test_dependence_goes_through_bodies() -> None:
    from graphc.ops.depends import dependent
    text = """
        graph g(%x: f64[3], %t: f64[3], %n: i64[]) {
          %1: (f64[3], f64[3], f64[3]) = cond(%n, %x, %t) {
            branch0=graph a(%a: f64[3], %b: f64[3]) {
              %1: f64[3] = sin(%a)
              return %a, %b, %1
            },
            branch1=graph b(%a: f64[3], %b: f64[3]) {
              return %a, %a, %a
            }}
          %2: f64[3] = get(%1) {index=0}
          %3: f64[3] = get(%1) {index=1}
          %4: f64[3] = get(%1) {index=2}
          %5: (f64[3], f64[3], f64[3], f64[3]) = scan(%x, %t, %t) {carries=2, length=1, reverse=False, xs=0,
            body=graph body(%a: f64[3], %b: f64[3], %c: f64[3]) {
              %1: f64[3] = sin(%a)
              return %1, %a
            }}
          %6: f64[3] = get(%5) {index=0}
          %7: f64[3] = get(%5) {index=1}
          %8: (f64[3], f64[3], f64[3], f64[3], i64[]) = while(%x, %x, %t) {carries=2, max_steps=3,
            body=graph turn(%a: f64[3], %b: f64[3], %c: f64[3]) {
              %1: f64[3] = mul(%b, %c)
              return %b, %1
            },
            cond=graph test(%a: f64[3], %b: f64[3], %c: f64[3]) {
              %1: bool[] = const True
              return %1
            }}
          %9: f64[3] = get(%8) {index=0}
          %10: i64[] = get(%8) {index=4}
          return %2, %3, %4, %6, %7, %9, %10
        }"""
    from graphc.ir.text import parse
    graph = parse(text)
    x, t, n = graph.inputs
    assert dependent(graph.outputs, [t]) == [False, True, False, False, False, True, False]
    assert dependent(graph.outputs, [n]) == [True, True, True, False, False, False, False]
    assert dependent(graph.outputs, [t], ends=[graph.outputs[1]]) == [False, False, False, False, False, True, False]
    assert dependent(graph.outputs, [x]) == [True, True, True, True, True, True, False]
