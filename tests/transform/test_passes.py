"""Passes keep the meaning, and do what they are for."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphc.core.dims import symbol
from graphc.core.dtype import bool_, f32, f64, i8, i64, u32, u64
from graphc.core.errors import GraphError
from graphc.core.loc import Loc
from graphc.core.options import Options
from graphc.core.types import TupleType
from graphc.interp.numpy import run
from graphc.ir.host import Host
from graphc.ir.journal import Journal
from graphc.ir.node import Graph, Info, Node, Recorder, State, recording
from graphc.ir.text import equal, show
from graphc.ir.verify import verify
from graphc.ir.walk import all_nodes, topo
from graphc.ops import control, effect, elementwise, movement, reduce
from graphc.ops.contract import contract
from graphc.ops.index import check_index, take
from graphc.ops.leaf import const, input_, size, splat
from graphc.ops.tuples import get
from graphc.testing import random_graph
from graphc.transform import pipeline
from graphc.transform.cse import bits_of, cse
from graphc.transform.dce import dce
from graphc.transform.fold import fold
from graphc.transform.grad import vjp
from graphc.transform.simplify import holds, simplify


def x_of(*shape, dtype=f64, name="x"):
    return input_(name=name, shape=shape, dtype=dtype)


def ops_of(graph: Graph) -> list[str]:
    return [n.op.name for n in topo(graph.roots)]


# ---- all of them -----------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 100_000), st.integers(1, 25))
def test_passes_keep_the_meaning_of_random_graphs(seed: int, n: int) -> None:
    graph = verify(random_graph(seed, n))
    after = verify(pipeline.run(graph, options=Options(check_passes=True)))
    assert len(topo(after.roots)) <= len(topo(graph.roots)) + 4
    for _ in range(4):                                  # cse lays bare what rules take; but that comes to an end
        before, after = after, pipeline.run(after)
    assert equal(after, before)


@given(st.integers(0, 100_000))
def test_each_pass_alone(seed: int) -> None:
    graph = random_graph(seed, 15)
    for p in pipeline.PASSES:
        pipeline.check(p.name, graph, verify(p.run(graph)), seed)


def test_journal_and_selection() -> None:
    x = x_of(3, 4)
    graph = Graph((x,), (elementwise.tanh(x) * 1.0 + elementwise.tanh(x),))
    journal = Journal()
    after = pipeline.run(graph, journal=journal)
    assert [e.name for e in journal] == [p.name for p in pipeline.PASSES]
    assert [e.nodes for e in journal.entries[:2]] == [(6, 6), (6, 5)]
    assert "tanh" in journal.entries[-1].text
    assert str(journal).splitlines()[2].split() == ["cse", str(journal).splitlines()[2].split()[1], "6", "→", "5"]
    assert ops_of(after) == ["input", "tanh", "add"]
    assert ops_of(pipeline.run(graph, options=Options(passes=("cse",)))) == ["input", "tanh", "const", "mul", "add"]
    assert pipeline.run(graph, options=Options(passes=())) is graph
    with pytest.raises(GraphError, match="there is no pass 'unroll'") as e:
        pipeline.run(graph, options=Options(passes=("unroll",)))
    assert e.value.fix is not None
    assert "cse, fold, simplify" in e.value.fix


def test_a_wrong_pass_is_named() -> None:
    x = x_of(3)
    graph = Graph((x,), (elementwise.tanh(x),), (State("w", w := x_of(2), w),))
    bad = pipeline.Pass("bad", lambda g: g.with_roots((elementwise.sin(x), w)))
    with pytest.raises(GraphError, match="the pass 'bad' changed the meaning of the graph: output 0 differs by"):
        pipeline.run(graph, (bad,), Options(check_passes=True))


def test_a_symbolic_graph_passes() -> None:
    x = x_of(symbol("N"), 4)
    y = elementwise.tanh(movement.permute(movement.permute(x, axes=(1, 0)), axes=(1, 0))) * 1.0
    mean = reduce.reduce_sum(y, axes=(0, 1)) / elementwise.cast(size(dim=symbol("N")), dtype=f64)
    after = pipeline.run(Graph((x,), (mean,)), options=Options(check_passes=True))
    assert ops_of(after) == ["input", "tanh", "reduce_sum", "size", "cast", "div"]


# ---- cse -------------------------------------------------------------------------------------------------------------------------


def test_cse_merges_info() -> None:
    here, there = (Info(frozenset({Loc("a.py", k, "f")}), frozenset({f"n{k}"})) for k in (1, 2))
    rec = Recorder()
    x = x_of(3)
    with recording(rec):
        rec.here = here
        a = elementwise.tanh(x)
        rec.here = there
        b = elementwise.tanh(x)
    after = cse(Graph((x,), (a, b), info=rec.info))
    assert after.outputs[0] is after.outputs[1]
    assert after.where(after.outputs[0]) == here | there


@pytest.mark.parametrize(("a", "b"), [(0.0, -0.0), (1, True), (1, 1.0), (1.0, np.float64(1.0)), (np.float32(1), np.float64(1)), ((1,), (True,)),
                                      ((1,), 1), ("1", 1), (np.zeros(2), np.zeros((2, 1))), (None, False), (f32, "f32")])
def test_bits_keep_apart(a, b) -> None:
    assert bits_of(a) != bits_of(b)


def test_bits_of_nans() -> None:
    quiet, payload = (np.asarray([k], "u4").view("f4")[0] for k in (0x7FC00000, 0x7FC00001))
    assert bits_of(quiet) != bits_of(payload)
    assert bits_of(quiet) == bits_of(np.float32(np.nan))
    assert bits_of(float("nan")) == bits_of(float("nan"))


def test_cse_keeps_zeros_apart() -> None:
    x = x_of(3)
    graph = Graph((x,), (x + 0.0, x + -0.0, x + 0.0))
    a, b, c = cse(graph).outputs
    assert a is c
    assert a is not b


def noted(t: Node, x: Node, name: str = "x") -> Node:
    return get(effect.io_callback(t, x, function=Host(name), results=TupleType(())), index=0)


def test_cse_leaves_inputs_effects_and_recomputation_alone() -> None:
    x, y = x_of(3), x_of(3)
    t = effect.token()
    p = noted(noted(t, x), x)
    again = [Node(elementwise.tanh, (x,), {"recompute": 1}, x.type) for _ in range(2)]
    graph = Graph((x, y), (elementwise.sin(x), elementwise.sin(y), *again), effects=(p,))
    after = cse(graph)
    assert len(topo(after.roots)) == len(topo(graph.roots))


def test_cse_reaches_into_bodies_and_merges_equal_scans() -> None:
    def loop(h, xs):
        c, s = x_of(2, name="c"), x_of(2, name="s")
        body = Graph((c, s), (elementwise.tanh(c) + elementwise.tanh(c) * s,), name="body")
        return get(control.scan(h, xs, body=body, carries=1, xs=1, length=3), index=0)

    h, xs = x_of(2, name="h"), x_of(3, 2, name="xs")
    after = cse(Graph((h, xs), (loop(h, xs), loop(h, xs))))
    assert after.outputs[0] is after.outputs[1]
    assert sum(n.op.name == "tanh" for n in all_nodes(after)) == 1


# ---- fold ------------------------------------------------------------------------------------------------------------------------


def test_splats_stay_splats() -> None:
    big = splat(2.0, x_of(1000, 1000))
    root = movement.permute(elementwise.exp(movement.reshape(big * big, shape=(500, 2000))), axes=(1, 0))
    (out,) = fold(Graph((), (root,))).outputs
    assert out.op is const
    assert out.attrs["value"] == np.exp(4.0)
    assert out.tensor.shape == (2000, 500)


def test_small_results_are_folded_and_large_are_not() -> None:
    value = np.arange(12.0).reshape(3, 4)
    value.flags.writeable = False
    c = const(value=value, shape=(3, 4), dtype=f64)
    graph = Graph((), (reduce.reduce_sum(c, axes=(0,)), movement.broadcast(c, shape=(100, 3, 4), axes=(0,))))
    small, large = verify(fold(graph)).outputs
    np.testing.assert_array_equal(small.attrs["value"], value.sum(0))
    assert large.op is movement.broadcast


def test_folding_leaves_errors_to_the_run() -> None:
    """An index out of range is the step's error, with the user's line; not the compiler's."""
    i = const(value=np.int64(9), shape=(2,), dtype=i64)
    x = x_of(3)
    graph = Graph((x,), (take(x, check_index(i, size=3), axis=0),))
    assert "check_index" in ops_of(fold(graph))


@pytest.mark.parametrize(("value", "dtype", "want"), [(300.0, i8, 127), (np.nan, i64, 0), (-3.7, u32, 0), (2.0, bool_, True)])
def test_casts_fold_as_they_run(value, dtype, want) -> None:
    (out,) = fold(Graph((), (elementwise.cast(const(value=np.float64(value), shape=(2,), dtype=f64), dtype=dtype),))).outputs
    assert out.attrs["value"] == want


def test_pad_of_the_same_number_is_a_splat_and_of_minus_zero_is_not() -> None:
    x = splat(0.0, x_of(100, 100))
    graph = Graph((), tuple(movement.pad(x, lo=(1, 1), hi=(0, 0), value=v) for v in (0.0, -0.0)))
    a, b = fold(graph).outputs
    assert a.op is const
    assert b.op is movement.pad


# ---- simplify --------------------------------------------------------------------------------------------------------------------


def test_plus_zero_stays() -> None:
    x = x_of(3)
    assert ops_of(simplify(Graph((x,), (x + 0.0,)))) == ["input", "const", "add"]


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)], ids=str)
@pytest.mark.parametrize("pair", [(((1,), (0,)), ((), ())), (((2,), (1,)), ((0,), (2,))), (((0, 2), (1, 0)), ((), ())), (((), ()), ((1,), (1,)))], ids=str)
def test_a_permuted_operand_is_absorbed(side: int, axes, pair) -> None:
    """Over every permutation of three axes: batched, doubly contracted, and free axes that come out in another order."""
    contracting, batch = pair
    shapes = [[2, 3, 4], [5, 6, 7]]
    for left, right in (contracting, batch):
        for i, j in zip(left, right):
            shapes[1][j] = shapes[0][i]
    moved = shapes[side]
    original = [0] * 3
    for at, k in enumerate(axes):
        original[k] = moved[at]
    shapes[side] = original
    x, y = x_of(*shapes[0], name="x"), x_of(*shapes[1], name="y")
    operands = [x, y]
    operands[side] = movement.permute(operands[side], axes=axes)
    graph = Graph((x, y), (contract(*operands, contracting=contracting, batch=batch),))
    after = verify(simplify(graph))
    assert all(i.op.name == "input" for n in topo(after.roots) if n.op is contract for i in n.inputs)
    rng = np.random.default_rng(0)
    feeds = [rng.standard_normal(s) for s in shapes]
    np.testing.assert_allclose(run(after, feeds).outputs[0], run(graph, feeds).outputs[0], rtol=1e-12)


def test_a_transposed_product_swaps_only_where_nobody_else_reads_it() -> None:
    x, y = x_of(3, 4), x_of(4, 5, name="y")
    product = contract(x, y, contracting=((1,), (0,)), batch=((), ()))
    turned = movement.permute(product, axes=(1, 0))
    assert ops_of(simplify(Graph((x, y), (turned,)))) == ["input", "input", "contract"]
    assert ops_of(simplify(Graph((x, y), (turned, product)))).count("contract") == 1


def test_a_linear_layers_gradient_has_no_permute() -> None:
    """y = x wᵀ through an explicit transpose: forward and both gradients read w, x and g as they lie."""
    x, w, g = x_of(8, 5), x_of(3, 5, name="w"), x_of(8, 3, name="g")
    y = contract(x, movement.permute(w, axes=(1, 0)), contracting=((1,), (0,)), batch=((), ()))
    graph = Graph((x, w, g), (y, *vjp([y], [g], [x, w])))
    assert sorted(set(ops_of(pipeline.run(graph, options=Options(check_passes=True))))) == ["contract", "input"]


def test_rules_reach_into_bodies() -> None:
    c, s = x_of(2, name="c"), x_of(2, name="s")
    body = Graph((c, s), (elementwise.neg(elementwise.neg(c)) * s * 1.0,), name="body")
    h, xs = x_of(2, name="h"), x_of(3, 2, name="xs")
    after = simplify(Graph((h, xs), (get(control.scan(h, xs, body=body, carries=1, xs=1, length=3), index=0),)))
    assert sorted(n.op.name for n in all_nodes(after) if n.op.name != "input") == ["get", "mul", "scan"]


@pytest.mark.parametrize(("a", "b", "want"), [(bool_, i8, True), (i8, i64, True), (i64, i8, False), (u32, i64, True), (u64, i64, False), (i8, u32, False),
                                              (i64, f64, False), (u32, f64, True), (i64, f32, False), (f32, f64, True), (f64, f32, False), (f32, i64, False)])
def test_what_holds_what(a, b, want) -> None:
    assert holds(a, b) is want


def test_a_narrowing_detour_by_float_stays() -> None:
    """i64 1000 → f64 → i8 saturates at 127; i64 → i8 would wrap."""
    i = x_of(3, dtype=i8)
    graph = Graph((i,), (elementwise.cast(elementwise.cast(i, dtype=f64), dtype=u32),))
    assert ops_of(simplify(graph)) == ["input", "cast", "cast"]


def test_division_by_what_is_no_power_of_two_stays() -> None:
    x = x_of(3)
    assert ops_of(simplify(Graph((x,), (x / 3.0,)))) == ["input", "const", "div"]
    assert ops_of(simplify(Graph((x,), (x / 2.0**-1074,)))) == ["input", "const", "div"]
    assert ops_of(simplify(Graph((x,), (x / 8.0,)))) == ["input", "const", "mul"]


def test_slices_of_what_was_put_together() -> None:
    x, y = x_of(3, 4), x_of(2, 4, name="y")
    both = movement.concat(x, y, axis=0)
    part = movement.slice_(both, starts=(3, 0), stops=(5, 4), steps=(1, 1))
    assert simplify(Graph((x, y), (part,))).outputs == (y,)
    across = movement.slice_(both, starts=(2, 0), stops=(5, 4), steps=(1, 1))
    assert ops_of(simplify(Graph((x, y), (across,)))) == ["input", "input", "concat", "slice"]
    padded = movement.pad(x, lo=(1, 2), hi=(0, 0), value=7.0)
    assert simplify(Graph((x,), (movement.slice_(padded, starts=(1, 2), stops=(4, 6), steps=(1, 1)),))).outputs == (x,)


# ---- dce -------------------------------------------------------------------------------------------------------------------------


def test_dead_info_is_forgotten() -> None:
    rec = Recorder(here=Info(names=frozenset({"n"})))
    x = x_of(3)
    with recording(rec):
        y, _dead = elementwise.tanh(x), elementwise.sin(x)
    after = dce(Graph((x,), (y,), info=rec.info))
    assert set(after.info) == {y}


def scan_with_leftovers() -> Graph:
    """Carries: a (read at the end), b (read by a), c (read by nobody but itself); a result that nobody reads; an operand that only it uses."""
    a, b, c, s, t, w = (x_of(2, name=n) for n in ("a", "b", "c", "s", "t", "w"))
    body = Graph((a, b, c, s, t, w), (a * b, b + s, c + t, a * w, c * t), name="body")
    init = [x_of(2, name=f"{n}0") for n in "abc"]
    xs = [x_of(3, 2, name=n) for n in ("s", "t")]
    w0 = x_of(2, name="w")
    out = control.scan(*init, *xs, w0, body=body, carries=3, xs=2, length=3)
    return Graph((*init, *xs, w0), (get(out, index=0), get(out, index=5)))          # the last a, and a's history


def test_scans_lose_what_nobody_reads() -> None:
    graph = scan_with_leftovers()
    after = verify(dce(graph))
    (scan,) = (n for n in topo(after.roots) if n.op is control.scan)
    body = scan.attrs["body"]
    assert [i.attrs["name"] for i in body.inputs] == ["a", "b", "s"]
    assert (scan.attrs["carries"], scan.attrs["xs"], len(body.outputs)) == (2, 1, 2)
    pipeline.check("dce", graph, after)
    assert dce(after) is after or equal(dce(after), after)


def test_a_scans_gradient_by_one_operand_loses_the_others() -> None:
    (arrays, attrs), _ = control.scan.samples(np.random.default_rng(0))
    leaves = tuple(input_(name=f"x{k}", shape=a.shape, dtype=f64) for k, a in enumerate(arrays))
    h = get(control.scan(*leaves, **attrs), index=0)
    graph = Graph(leaves, vjp([h], [splat(1.0, h)], [leaves[2]]))
    after = pipeline.run(graph, options=Options(check_passes=True))
    backward = [n for n in topo(after.roots) if n.op is control.scan][-1]
    assert len(backward.attrs["body"].outputs) == 2                                 # the carry's cotangent and the constant's, no slices'
    assert show(after) != show(graph)
