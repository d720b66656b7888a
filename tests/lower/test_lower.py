"""Lowering against the oracle: every op, whole steps, and the hazards of writing states in place."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphc.core.dtype import f32, f64, from_numpy, i64
from graphc.core.errors import GraphIndexError
from graphc.core.types import TensorType, TupleType
from graphc.ir.node import Graph, Node, State
from graphc.ir.op import REGISTRY, Op
from graphc.loop.place import launches
from graphc.lower.elementwise import ELEMENTWISE
from graphc.lower.fuse import CLOSED_HEADS, LEAVES, MOVEMENT, OPEN_HEADS
from graphc.ops.call import CALLS
from graphc.ops.contract import contract
from graphc.ops.elementwise import add, cast, eq, exp, lt, tanh, where
from graphc.ops.index import check_index, put_along_add, take, take_along
from graphc.ops.leaf import const, input_, iota, splat
from graphc.ops.movement import broadcast, concat, flip, permute, reshape
from graphc.ops.reduce import reduce_max, reduce_sum
from graphc.ops.tuples import get
from graphc.transform.grad import vjp

from .three import agree, native


def leaf(name: str, shape: tuple[int, ...], dtype: Any = f32) -> Node:
    return input_(name=name, shape=shape, dtype=dtype)


def results(y: Node) -> tuple[Node, ...]:
    return tuple(get(y, index=k) for k in range(len(y.type.items))) if isinstance(y.type, TupleType) else (y,)


def same_dtypes(arrays: list[Any], single: bool) -> list[Any]:
    return [a.astype(np.float32) if single and a.dtype == np.float64 else a for a in map(np.asarray, arrays)]


@pytest.mark.parametrize("single", [False, True], ids=["f64", "f32"])
@pytest.mark.parametrize("op", [op for op in REGISTRY.values() if op.samples(np.random.default_rng(0))], ids=str)
def test_every_op_on_its_samples(op: Op, single: bool) -> None:
    if single and (op.family == "control" or op.name == "const"):
        pytest.skip("the sample holds its dtype in an attribute")
    for arrays, attrs in op.samples(np.random.default_rng(1)):
        if single and op.name == "bitcast" and attrs["dtype"].bits == 64:
            continue
        values = same_dtypes(list(arrays), single)
        xs = [leaf(f"x{k}", a.shape, from_numpy(a.dtype)) for k, a in enumerate(values)]
        agree(Graph(tuple(xs), results(op(*xs, **attrs))), values)


def test_every_op_can_be_lowered() -> None:
    known = set(ELEMENTWISE) | OPEN_HEADS | CLOSED_HEADS | LEAVES | MOVEMENT | {"get", "barrier", "random_bits"} | {op.name for op in CALLS}
    assert not set(REGISTRY) - known
    assert not set(ELEMENTWISE) - set(REGISTRY), "a lowering of an op that is not there"


# ---- whole steps -----------------------------------------------------------------------------------------------------------------


def linear(x: Node, w: Node, b: Node) -> Node:
    z = contract(x, w, contracting=((1,), (1,)), batch=((), ()))
    return z + broadcast(b, shape=z.tensor.shape, axes=(0,))


def everywhere(v: Node, like: Node) -> Node:
    return broadcast(cast(v, dtype=like.tensor.dtype), shape=like.tensor.shape, axes=tuple(range(like.tensor.rank)))


def mlp(optimizer: str, dtype: Any, batch: int = 5, sizes: tuple[int, int, int] = (7, 6, 3), clip: bool = False) -> Graph:
    """A two-layer classifier's training step, by hand: forward, cross-entropy, reverse mode, update."""
    d, h, o = sizes
    x, y, lr = leaf("x", (batch, d), dtype), leaf("y", (batch,), i64), leaf("lr", (), f64)
    ps = [leaf("w1", (h, d), dtype), leaf("b1", (h,), dtype), leaf("w2", (o, h), dtype), leaf("b2", (o,), dtype)]
    z = linear(x, ps[0], ps[1])
    z = linear(where(lt(z, splat(0.0, z)), splat(0.0, z), z), ps[2], ps[3])
    s = z - broadcast(reduce_max(z, axes=(1,)), shape=z.tensor.shape, axes=(1,))
    lse = REGISTRY["log"](reduce_sum(exp(s), axes=(1,)))
    logp = s - broadcast(lse, shape=s.tensor.shape, axes=(1,))
    picked = take_along(logp, reshape(check_index(y, size=o), shape=(batch, 1)), axis=1)
    loss = -reduce_sum(picked, axes=(0, 1)) / float(batch)
    grads = vjp([loss], [splat(1.0, loss)], ps)
    outputs = [loss]
    if clip:
        total = REGISTRY["sqrt"](sum((reduce_sum(g * g, axes=tuple(range(g.tensor.rank))) for g in grads[1:]), reduce_sum(grads[0] * grads[0], axes=(0, 1))))
        scale = REGISTRY["minimum"](splat(1.0, total), 1.0 / (total + 1e-6))
        grads = tuple(g * everywhere(scale, g) for g in grads)
        outputs.append(total)
    states = []
    for p, g in zip(ps, grads):
        name = p.attrs["name"]
        if optimizer == "sgd":
            states.append(State(name, p, p - everywhere(lr, p) * g))
        else:
            m, v = leaf(name + ".m", p.tensor.static_shape, dtype), leaf(name + ".v", p.tensor.static_shape, dtype)
            m2, v2 = m * 0.9 + g * 0.1, v * 0.999 + g * g * 0.001
            states += [State(name, p, p - everywhere(lr, p) * (m2 / (REGISTRY["sqrt"](v2) + 1e-8))), State(name + ".m", m, m2), State(name + ".v", v, v2)]
    return Graph((x, y, lr), tuple(outputs), tuple(states), name="step")


def feed(g: Graph, classes: int, seed: int = 0) -> tuple[list[Any], list[Any]]:
    rng = np.random.default_rng(seed)
    ins = [rng.integers(0, classes, n.tensor.static_shape) if n.type.dtype is i64 else np.asarray(0.1) if n.tensor.rank == 0
           else rng.standard_normal(n.tensor.static_shape).astype(n.tensor.dtype.numpy) for n in g.inputs]
    return ins, [(0.1 * np.abs(rng.standard_normal(s.read.tensor.static_shape))).astype(s.read.tensor.dtype.numpy) for s in g.states]


@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
@pytest.mark.parametrize("clip", [False, True], ids=["plain", "clipped"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_training_step(optimizer: str, clip: bool, dtype: Any) -> None:
    for batch, sizes in ((5, (7, 6, 3)), (1, (1, 1, 2)), (33, (20, 17, 9))):
        g = mlp(optimizer, dtype, batch, sizes, clip)
        agree(g, *feed(g, sizes[2]), f32=1e-5)


def test_the_update_is_in_the_contraction() -> None:
    """Without a norm between, the weight's gradient never is in memory: one kernel multiplies and updates."""
    g = mlp("sgd", f32)
    step, _ = native(g, feed(g, 3)[1])
    assert not [r for r in step.memory_plan().regions if r[2] == 6 * 7 * 4], "a weight-sized buffer"
    assert "state0@state" in step.text("loops")


# ---- states in place -------------------------------------------------------------------------------------------------------------


def test_swapped_states() -> None:
    a, b = leaf("a", (3, 4)), leaf("b", (3, 4))
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    agree(Graph((), (), (State("a", a, b), State("b", b, a))), [], [x, -x])


def test_a_state_becomes_its_own_mirror() -> None:
    a = leaf("a", (3, 4))
    agree(Graph((), (a,), (State("a", a, flip(a, axes=(1,)) + a),)), [], [np.arange(12, dtype=np.float32).reshape(3, 4)])


def test_the_old_value_is_an_output_too() -> None:
    a, x = leaf("a", (5,)), leaf("x", (5,))
    new = a + x
    agree(Graph((x,), (a, new, reshape(new, shape=(5, 1))), (State("a", a, new),)), [np.ones(5, np.float32)], [np.arange(5, dtype=np.float32)])


def test_states_that_read_each_other_across_kernels() -> None:
    a, b = leaf("a", (4,)), leaf("b", (4,))
    sa, sb = (broadcast(reduce_sum(v, axes=(0,)), shape=(4,), axes=(0,)) for v in (a, b))
    agree(Graph((), (), (State("a", a, a + sb), State("b", b, b * sa))), [], [np.arange(4, dtype=np.float32), np.ones(4, np.float32)])


def test_a_state_read_after_it_was_written() -> None:
    w, x = leaf("w", (3, 4)), leaf("x", (2, 4))
    new = w * 0.5
    after = contract(x, new, contracting=((1,), (1,)), batch=((), ()))
    old = contract(x, w, contracting=((1,), (1,)), batch=((), ()))
    rng = np.random.default_rng(0)
    agree(Graph((x,), (after, old), (State("w", w, new),)), [rng.standard_normal((2, 4)).astype(np.float32)], [rng.standard_normal((3, 4)).astype(np.float32)])


def test_a_bad_index_changes_no_state() -> None:
    """Also where the state does not depend on the index, and where the check depends on the new state."""
    n, i, table = leaf("n", (), i64), leaf("i", (3,), i64), leaf("table", (4,))
    count = n + 1
    picked = take(table, check_index(i, size=4), axis=0)
    later = take(table, check_index(reshape(count, shape=(1,)), size=4), axis=0)
    for outputs in ((picked,), (picked, later)):
        g = Graph((i,), outputs, (State("n", n, count), State("table", table, table * 2.0)))
        start = [np.asarray(1), np.arange(4, dtype=np.float32)]
        agree(g, [np.array([0, 3, 1])], start)
        step, storages = native(g, start)
        with pytest.raises(GraphIndexError, match=r"index 4 is not in 0\.\.3"):
            step([np.array([0, 4, 1])])
        for s, v in zip(storages, start):
            np.testing.assert_array_equal(s.array, v)


def test_layout_is_chosen_once_and_seen_by_nobody() -> None:
    """A weight lies with its summed axis outermost; what the user reads is what was there."""
    g = mlp("sgd", f32)
    st = feed(g, 3)[1]
    step, storages = native(g, st)
    assert storages[0].order == (1, 0)
    np.testing.assert_array_equal(storages[0].array, st[0])
    again, _ = native(g, st)
    assert again.text("loops") == step.text("loops")


# ---- shapes and movement ---------------------------------------------------------------------------------------------------------


def test_empty_tensors() -> None:
    x = leaf("x", (0, 4))
    total = reduce_sum(x, axes=(0,))
    agree(Graph((x,), (x + 1.0, total, exp(total), reduce_max(x, axes=(0, 1)), concat(x, x, axis=0))), [np.zeros((0, 4), np.float32)])
    a, b = leaf("a", (3, 0)), leaf("b", (0, 2))
    agree(Graph((a, b), (contract(a, b, contracting=((1,), (0,)), batch=((), ())) + 1.0,)), [np.zeros((3, 0), np.float32), np.zeros((0, 2), np.float32)])


def test_movement_into_a_contraction() -> None:
    x, w = leaf("x", (3, 4)), leaf("w", (5, 2))
    moved = concat(flip(permute(x, axes=(1, 0)), axes=(0,)), splat(2.0, TensorType((1, 3), f32)), axis=0)
    y = contract(moved, w, contracting=((0,), (0,)), batch=((), ()))
    rng = np.random.default_rng(3)
    agree(Graph((x, w), (y,)), [rng.standard_normal((3, 4)).astype(np.float32), rng.standard_normal((5, 2)).astype(np.float32)])


def test_batched_and_many_axed_contractions() -> None:
    rng = np.random.default_rng(4)
    a, b = leaf("a", (2, 3, 5, 4)), leaf("b", (4, 2, 6, 5))
    y = contract(a, b, contracting=((3, 2), (0, 3)), batch=((0,), (1,)))
    agree(Graph((a, b), (tanh(y),)), [rng.standard_normal(n.tensor.static_shape).astype(np.float32) for n in (a, b)])


def test_outer_products_and_dots() -> None:
    """Contractions over no axis, and of vectors."""
    rng = np.random.default_rng(8)
    a, b, w = leaf("a", (5,)), leaf("b", (7,)), leaf("w", (5, 7))
    outer = contract(a, b, contracting=((), ()), batch=((), ()))
    left = contract(a, w, contracting=((0,), (0,)), batch=((), ()))
    right = contract(w, b, contracting=((1,), (0,)), batch=((), ()))
    dot = contract(left, b, contracting=((0,), (0,)), batch=((), ()))
    agree(Graph((a, b, w), (outer, left, right, dot)), [rng.standard_normal(n.tensor.static_shape).astype(np.float32) for n in (a, b, w)])


def test_reductions_of_one_sweep() -> None:
    """A value and its gradients: the sums read the operands once, in one kernel, and nothing of the operands' size is stored."""
    x = leaf("x", (40, 33))
    t, e = tanh(x * 1.5), exp(-(x * x))
    sums = [reduce_sum(v, axes=(0, 1)) for v in (t * e, (1.0 - t * t) * e, (1.0 - t * t) * e * x)]
    centred = x - broadcast(reduce_max(x, axes=(1,)), shape=(40, 33), axes=(1,))
    rows = [reduce_max(t, axes=(1,)), reduce_sum(t * x, axes=(1,)) * 2.0, reduce_sum(centred, axes=(1,))]
    columns = [reduce_sum(t, axes=(0,)), reduce_sum(e, axes=(0,)) + 1.0]
    a = np.random.default_rng(9).standard_normal((40, 33)).astype(np.float32)
    step = agree(Graph((x,), tuple(sums)), [a])
    assert len(list(launches(step.plan))) == 1
    assert not step.memory_plan().regions
    agree(Graph((x,), (*sums, *rows, *columns)), [a])
    agree(Graph((x,), (*rows, *columns, t)), [a])


def test_reshape_of_what_lies_in_another_order() -> None:
    w, x = leaf("w", (3, 4)), leaf("x", (2, 4))
    y = contract(x, w, contracting=((1,), (1,)), batch=((), ()))
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((2, 4), (3, 4))]
    agree(Graph((x,), (y, reshape(w, shape=(2, 6)), reshape(permute(w, axes=(1, 0)), shape=(12,))), (State("w", w, w * 2.0),)), arrays[:1], arrays[1:])


def test_constants_and_indices_as_operands() -> None:
    x = leaf("x", (3, 4))
    c = const(value=np.arange(12, dtype=np.float32).reshape(3, 4), shape=(3, 4), dtype=f32)
    n = iota(shape=(12,), dtype=f32, axis=0)
    put = put_along_add(x, iota(shape=(3, 1), dtype=i64, axis=0), splat(5.0, TensorType((3, 1), f32)), axis=1)
    agree(Graph((x,), (add(x, c), reshape(n, shape=(3, 4)) + x, reshape(splat(7.0, n), shape=(4, 3)), put, c)), [np.ones((3, 4), np.float32)])


def test_sizes_around_the_vector_width() -> None:
    rng = np.random.default_rng(5)
    for n in (1, 7, 8, 9, 15, 16, 17, 33):
        x, w = leaf("x", (3, n)), leaf("w", (n, n))
        y = contract(x, w, contracting=((1,), (0,)), batch=((), ()))
        g = Graph((x, w), (tanh(y), reduce_sum(y, axes=(0,)), reduce_max(x, axes=(1,)), reduce_sum(exp(x), axes=(0, 1))))
        agree(g, [rng.standard_normal(t.tensor.static_shape).astype(np.float32) for t in (x, w)])


def test_a_long_chain_is_cut_into_kernels() -> None:
    x = leaf("x", (9,))
    y = x
    for _ in range(700):
        y = y * 1.01 - x
    step = agree(Graph((x,), (y,)), [np.linspace(-1, 1, 9, dtype=np.float32)], f32=1e-4)
    assert 1 < len(list(launches(step.plan))) < 60


def test_arena_reuse_is_sound() -> None:
    """Many temporaries of many sizes: fewer bytes than their sum, and the same numbers."""
    rng = np.random.default_rng(6)
    x = leaf("x", (16, 16))
    y, total = x, 0
    for _ in range(12):
        y = contract(tanh(y), x, contracting=((1,), (0,)), batch=((), ()))
        total += 16 * 16 * 4
    step = agree(Graph((x,), (y,)), [rng.standard_normal((16, 16)).astype(np.float32) * 0.2])
    assert step.memory_plan().arena < total


def test_checked_labels_are_compared_in_half_the_width() -> None:
    """Of what is known to be 0 .. 2**31 - 1 alone: a label that nobody has checked may be anything."""
    labels, x, columns = leaf("y", (5,), i64), leaf("x", (5, 11)), iota(axis=0, dtype=i64, shape=(11,))
    for y, values, width in ((check_index(labels, size=11), [0, 10, 3, 7, 9], "i32("), (labels, [0, 10, 1 << 32, -1, (1 << 33) + 3], "i64(")):
        hit = eq(broadcast(y, shape=(5, 11), axes=(1,)), broadcast(columns, shape=(5, 11), axes=(0,)))
        picked = where(hit, x, splat(0, x))
        numbers = np.random.default_rng(3).standard_normal((5, 11)).astype(np.float32)
        step = agree(Graph((labels, x), (reduce_sum(picked, axes=(1,)),)), [np.array(values), numbers])
        assert width in step.text("loops")


def test_what_follows_a_division_that_is_stored_is_not_stored_too() -> None:
    a, b, x = leaf("a", ()), leaf("b", ()), leaf("x", (5, 7))
    whole = broadcast(-broadcast(a / b, shape=(5,), axes=(0,)), shape=(5, 7), axes=(1,))
    step = agree(Graph((a, b, x), (x * whole,)), [np.float32(3), np.float32(7), np.ones((5, 7), np.float32)])
    assert step.report.kernels == 2
