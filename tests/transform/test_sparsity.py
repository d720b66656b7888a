"""Patterns of dependence: nothing that a result depends on is missing, for every op of the registry and for random programs; and little is too much."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.core.dtype import f64, from_numpy, i64
from graphc.core.errors import GraphError
from graphc.core.types import TensorType, TupleType
from graphc.interp.numpy import evaluate
from graphc.ir.node import Graph, Node
from graphc.ir.op import REGISTRY, Op
from graphc.ops import contract, control, elementwise, index, linalg, movement, reduce
from graphc.ops.along import cumsum
from graphc.ops.leaf import const, input_, splat
from graphc.ops.tuples import get
from graphc.testing import random_arguments, random_program
from graphc.transform import reads as sets
from graphc.transform.reads import Reads, closure, composed, itself, union
from graphc.transform.sparsity import jvp_reads, reads, vjp_reads
from graphc.transform.vmap import vmap

Array = np.ndarray[Any, Any]
SAMPLED = [op for op in REGISTRY.values() if list(op.samples(np.random.default_rng(0)))]


def size(n: Node) -> int:
    return int(np.prod(n.tensor.static_shape, dtype=np.int64))


def mask(r: Reads | None, m: int, n: int) -> Array:
    """The pattern as a matrix of bools."""
    out = np.zeros((m, n), bool)
    if r is not None:
        out[r.entries()] = True
    return out


def leaves_of(arrays: Sequence[Array], constant: Callable[[Array], bool] = lambda a: False) -> list[Node]:
    """An input for each array, or a constant."""
    made = []
    for k, a in enumerate(arrays):
        t: dict[str, Any] = {"shape": a.shape, "dtype": from_numpy(a.dtype)}
        frozen = np.array(a)
        frozen.flags.writeable = False
        made.append(const(value=frozen, **t) if constant(a) else input_(name=f"x{k}", **t))
    return made


def jacobian(d: Node, slope: Node, env: dict[Node, Array]) -> Array:
    """What the slope is for every unit tensor, one in each column."""
    n = size(d)
    basis = np.eye(n).reshape(n, *d.tensor.static_shape).astype(d.tensor.dtype.numpy)
    (each,) = vmap([slope], {d: const(value=basis, shape=basis.shape, dtype=d.tensor.dtype)}, n)
    (value,) = evaluate([each], env)
    return np.asarray(value, np.float64).reshape(n, -1).T


def sound(graph: Graph, arrays: Sequence[Array], ways: Sequence[Callable[..., Any]] = (jvp_reads, vjp_reads)) -> int:
    """Every entry of every Jacobian that is not 0 is in its pattern. How many there were."""
    env, seen = dict(zip(graph.leaves, arrays, strict=True)), 0
    for x in graph.leaves:
        for y in graph.roots:
            if not (isinstance(y.type, TensorType) and x.tensor.dtype.is_float and y.tensor.dtype.is_float) or not 0 < size(x) * size(y) < 20000:
                continue
            for way in ways:
                try:
                    d, slope, found = way(y, x)
                except GraphError:                      # an op without that mode
                    continue
                values = jacobian(d, slope, env)
                missing = (values != 0) & ~np.isnan(values) & ~mask(found, *values.shape)
                assert not missing.any(), f"{graph.name}: d {y} / d {x} at {np.argwhere(missing)[0]}"
                seen += int((values != 0).sum())
    return seen


def outputs_of(node: Node) -> tuple[Node, ...]:
    return tuple(get(node, index=k) for k in range(len(node.type.items))) if isinstance(node.type, TupleType) else (node,)


@pytest.mark.parametrize("op", SAMPLED, ids=str)
@pytest.mark.parametrize("indices", ["constant", "given"])
def test_every_op_is_sound(op: Op, indices: str) -> None:
    for arrays, attrs in op.samples(np.random.default_rng(7)):
        arrays = [np.asarray(a) for a in arrays]
        leaves = leaves_of(arrays, lambda a: indices == "constant" and a.dtype.kind != "f")
        given = [(x, a) for x, a in zip(leaves, arrays) if x.op is input_]
        sound(Graph(tuple(x for x, _ in given), outputs_of(op(*leaves, **attrs)), name=op.name), [a for _, a in given])


@pytest.mark.parametrize("op", [op for op in SAMPLED if op.family != "random"], ids=str)
def test_what_a_value_depends_on_is_found(op: Op) -> None:
    """Not of slopes but of the op itself, in every operand, integers too: an element that moves moves nothing that does not read it."""
    rng = np.random.default_rng(3)
    for arrays, attrs in list(op.samples(np.random.default_rng(7)))[:3]:
        arrays = [np.asarray(a) for a in arrays]
        leaves = leaves_of(arrays)
        outs = outputs_of(op(*leaves, **attrs))
        for k, (x, a) in enumerate(zip(leaves, arrays)):
            if x.tensor.dtype.is_half or op.name == "check_index":
                continue
            found = reads(outs, {x: itself(a.shape)})
            before = evaluate(outs, dict(zip(leaves, arrays)))
            for at in rng.permutation(a.size)[:6]:
                moved = a.copy()
                moved.flat[at] = ~a.flat[at] if a.dtype == bool else a.flat[at] + (1 if a.dtype.kind in "iu" else 1e-3)
                after = evaluate(outs, {**dict(zip(leaves, arrays)), leaves[k]: moved})
                for y, r, old, new in zip(outs, found, before, after):
                    changed = np.asarray(old != new).ravel() & ~(np.isnan(old) & np.isnan(new)).ravel() if old.dtype.kind == "f" else (old != new).ravel()
                    assert not (changed & ~mask(r, size(y), a.size)[:, at]).any(), f"{op} operand {k}"


@pytest.mark.parametrize("first", range(0, 96, 8))
def test_random_programs_are_sound(first: int) -> None:
    assert sum(_program(seed) for seed in range(first, first + 8)) > 0


@pytest.mark.parametrize("first", range(0, 24, 4))
def test_second_derivatives_of_random_programs_are_sound(first: int) -> None:
    """Gradients are programs too: of them the pattern of a Hessian is asked."""
    assert sum(_program(seed, order=1) for seed in range(first, first + 4)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("first", range(96, 416, 16))
def test_more_random_programs_are_sound(first: int) -> None:
    assert sum(_program(seed) for seed in range(first, first + 16)) > 0


def _program(seed: int, order: int = 0) -> int:
    graph = random_program(seed, smooth=True, order=order)
    inputs, states = random_arguments(graph, seed, nasty=0.0)
    with np.errstate(all="ignore"):
        return sound(graph, [*inputs, *states], ((vjp_reads if seed % 2 and not order else jvp_reads),))


# ---- little is too much ----------------------------------------------------------------------------------------------------------------


def vector(n: int, name: str = "x") -> Node:
    return input_(name=name, shape=(n,), dtype=f64)


def pattern(y: Node, x: Node) -> Array:
    (found,) = reads([y], {x: itself(x.tensor.static_shape)})
    return mask(found, size(y), size(x))


def array(values: Any) -> Node:
    a = np.asarray(values)
    return const(value=a, shape=a.shape, dtype=from_numpy(a.dtype))


def test_movement_is_exact() -> None:
    x = input_(name="x", shape=(2, 3), dtype=f64)
    y = movement.pad(movement.flip(movement.permute(x, axes=(1, 0)), axes=(0,)), lo=(1, 0), hi=(0, 0), value=7.0)
    want = np.zeros((4, 2), int)
    want[1:] = np.arange(1, 7).reshape(2, 3).T[::-1]
    np.testing.assert_array_equal(pattern(y, x) @ np.arange(1, 7), want.ravel())


def test_a_product_with_zeros_is_not_read() -> None:
    x = vector(3)
    np.testing.assert_array_equal(pattern(x * array([1.0, 0.0, 2.0]), x), np.diag([1, 0, 1]))
    a = np.array([[1.0, 0, 2], [0, 0, 3]])
    np.testing.assert_array_equal(pattern(contract.contract(array(a), x, contracting=((1,), (0,)), batch=((), ())), x), a != 0)
    np.testing.assert_array_equal(pattern(contract.contract(x, array(a), contracting=((0,), (1,)), batch=((), ())), x), a != 0)


def test_a_batch_of_products_stays_block_diagonal() -> None:
    x = input_(name="x", shape=(2, 3, 2), dtype=f64)
    w = np.array([[[0.0, 1.0]], [[1.0, 1.0]]])                           # [2, 1, 2]
    y = contract.contract(x, array(w), contracting=((2,), (2,)), batch=((0,), (0,)))
    want = np.einsum("bij,bkj->bik", np.ones((2, 3, 2)), w)
    assert y.tensor.shape == want.shape
    got = pattern(y, x).reshape(2, 3, 1, 2, 3, 2)
    for b, i, k, c, j, m in np.ndindex(*got.shape):
        assert got[b, i, k, c, j, m] == (b == c and i == j and w[b, k, m] != 0)
    own = pattern(contract.contract(x, x, contracting=((2,), (2,)), batch=((0,), (0,))), x).reshape(2, 3, 3, 2, 3, 2)
    for b, i, k, c, j, _ in np.ndindex(*own.shape):
        assert own[b, i, k, c, j].all() == own[b, i, k, c, j].any() == (b == c and j in (i, k))


def test_a_choice_by_a_constant_is_exact_and_by_a_value_is_not() -> None:
    x, c = vector(3), input_(name="c", shape=(3,), dtype=gx.bool)
    other = movement.flip(x, axes=(0,))
    np.testing.assert_array_equal(pattern(elementwise.where(array([True, False, False]), x, other), x), [[1, 0, 0], [0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(pattern(elementwise.where(c, x, other), x), np.eye(3) + np.eye(3)[::-1] > 0)


def test_sums_send_elements_where_their_cotangents_come_from() -> None:
    x = input_(name="x", shape=(2, 3), dtype=f64)
    np.testing.assert_array_equal(pattern(reduce.reduce_max(x, axes=(1,)), x), np.kron(np.eye(2), np.ones(3)))
    i = array(np.array([2, 0, 2]))
    u = vector(3)
    np.testing.assert_array_equal(pattern(index.scatter_add(splat(0.0, vector(4)), i, u, axis=0), u), [[0, 1, 0], [0, 0, 0], [1, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(pattern(index.scatter_set(splat(0.0, vector(4)), i, u, axis=0), u), [[0, 1, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]])


def test_a_running_sum_is_a_triangle() -> None:
    x = input_(name="x", shape=(2, 3), dtype=f64)
    for reverse in (False, True):
        want = np.kron(np.eye(2), np.tri(3).T if reverse else np.tri(3))
        np.testing.assert_array_equal(pattern(cumsum(x, axis=1, reverse=reverse), x), want)


def test_long_running_sums_are_rows_of_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphc.transform import sparsity
    monkeypatch.setattr(sparsity, "MOST", 5)
    x = vector(4)
    np.testing.assert_array_equal(pattern(cumsum(x, axis=0, reverse=False), x), np.ones((4, 4)))


def test_systems_are_solved_matrix_by_matrix_and_column_by_column() -> None:
    a, b = input_(name="a", shape=(2, 3, 3), dtype=f64), input_(name="b", shape=(2, 3, 2), dtype=f64)
    y = linalg.solve(a, b, transposed=False)
    np.testing.assert_array_equal(pattern(y, a), np.kron(np.eye(2), np.ones((6, 9))))
    np.testing.assert_array_equal(pattern(y, b), np.kron(np.eye(2), np.kron(np.ones((3, 3)), np.eye(2))))


def _diffusion(length: int, wide: int = 9, reverse: bool = False, bounded: bool = False) -> tuple[Node, Node]:
    """A few steps of u ← u shifted + u + x, u and x of `wide`, as a scan over rows of x."""
    u, x = vector(wide, "u"), vector(wide, "x")
    shifted = movement.slice_(movement.pad(u, lo=(1,), hi=(0,), value=0.0), starts=(0,), stops=(wide,), steps=(1,))
    new = shifted + u + x
    rows, start = input_(name="rows", shape=(length, wide), dtype=f64), input_(name="start", shape=(wide,), dtype=f64)
    count = input_(name="count", shape=(), dtype=i64)
    inputs = (u, x, count) if bounded else (u, x)
    body = Graph(inputs, (new, new * 2.0), name="body")
    operands = (start, rows, count) if bounded else (start, rows)
    return control.scan(*operands, body=body, carries=1, xs=1, length=length, reverse=reverse, bounded=bounded), start


@pytest.mark.parametrize("reverse", [False, True])
def test_a_short_scan_is_followed_step_by_step(reverse: bool) -> None:
    node, start = _diffusion(3, reverse=reverse)
    band = np.subtract.outer(np.arange(9), np.arange(9))
    last, ys, before = (get(node, index=k) for k in range(3))
    np.testing.assert_array_equal(pattern(last, start), (band >= 0) & (band <= 3))
    for t, row in enumerate(pattern(ys, start).reshape(3, 9, 9)):
        steps = 3 - t if reverse else t + 1
        np.testing.assert_array_equal(row, (band >= 0) & (band <= steps))
    for t, row in enumerate(pattern(before, start).reshape(3, 9, 9)):
        steps = 2 - t if reverse else t
        np.testing.assert_array_equal(row, (band >= 0) & (band <= steps))


@pytest.mark.parametrize(("length", "bounded"), [(200, False), (3, True)])
def test_a_long_or_bounded_scan_is_what_can_be_reached(length: int, bounded: bool) -> None:
    node, start = _diffusion(length, bounded=bounded)
    last, ys, before = (get(node, index=k) for k in range(3))
    np.testing.assert_array_equal(pattern(last, start), np.tri(9))
    for out in (ys, before):
        np.testing.assert_array_equal(pattern(out, start), np.tile(np.tri(9), (length, 1)))


def test_a_scan_without_a_carry_is_a_map() -> None:
    x = vector(2, "x")
    rows = input_(name="rows", shape=(300, 2), dtype=f64)
    node = control.scan(rows, body=Graph((x,), (movement.flip(x, axes=(0,)) * 2.0,), name="body"), carries=0, xs=1, length=300)
    np.testing.assert_array_equal(pattern(get(node, index=0), rows), np.kron(np.eye(300), np.eye(2)[::-1]))


def test_a_scan_of_no_steps() -> None:
    node, start = _diffusion(0)
    np.testing.assert_array_equal(pattern(get(node, index=0), start), np.eye(9))
    assert pattern(get(node, index=1), start).shape == (0, 9)


def test_indices_that_a_loop_takes_along_are_constants_too() -> None:
    def f(x: Any) -> Any:
        def body(u: Any, _: Any) -> Any:
            return u + u[np.array([1, 0, 2])], None
        return gx.scan(body, x, None, length=2)[0]
    np.testing.assert_array_equal(gx.jacobian_sparsity(f)(gx.Spec((3,))).toarray(), [[1, 1, 0], [1, 1, 0], [0, 0, 1]])


def test_numbers_of_steps_are_known_in_a_short_loop() -> None:
    """An index that a loop counts itself is a constant of each step, and so is one of a slice."""
    def swept(x: Any) -> Any:
        return gx.fori_loop(0, 3, lambda i, u: u.at[i + 1].add(u[i]), x)
    np.testing.assert_array_equal(gx.jacobian_sparsity(swept)(gx.Spec((5,))).toarray(), np.tri(5) * (np.arange(5) < 4)[:, None] + np.diag([0, 0, 0, 0, 1]) > 0)

    def taken(x: Any) -> Any:
        def body(j: Any, i: Any) -> Any:
            return i, x[i] * x[j]
        return gx.scan(body, 0, np.array([2, 1, 1]), reverse=True)[1]
    np.testing.assert_array_equal(gx.jacobian_sparsity(taken)(gx.Spec((3,))).toarray(), [[0, 1, 1], [0, 1, 0], [1, 1, 0]])


def test_a_counter_that_is_changed_by_what_is_unknown_is_unknown() -> None:
    def f(x: Any, k: Any) -> Any:
        return gx.scan(lambda i, _: (i + k, x[i]), 0, None, length=3)[1]
    assert gx.jacobian_sparsity(f)(gx.Spec((4,)), gx.Spec((), gx.int64)).nnz == 12


# ---- sets --------------------------------------------------------------------------------------------------------------------------------


def test_elements_that_depend_on_the_same_share_a_set() -> None:
    """A mean that is repeated is one set, and not n of n."""
    x = vector(3000)
    total = reduce.reduce_sum(x, axes=(0,))
    (found,) = reads([movement.broadcast(total, shape=(500, 3000), axes=(0, 1))], {x: itself((3000,))})
    assert found is not None
    assert len(found.table.members) == 3000


def test_what_is_not_sparse_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "MOST", 10000)
    x = vector(200)
    with pytest.raises(GraphError, match="this is not sparse: a tensor \\[200\\] on the way depends on 40,") as e:
        pattern(x - movement.broadcast(reduce.reduce_sum(x, axes=(0,)), shape=(200,), axes=(0,)), x)
    assert "gx.hvp" in str(e.value)


def test_unions_compositions_and_closures() -> None:
    ring = union(np.arange(5), (np.arange(5) + 1) % 5 + 1, (5,), itself((5,)).table)      # k depends on k + 1
    np.testing.assert_array_equal(mask(ring, 5, 5), np.eye(5)[(np.arange(5) + 1) % 5])
    twice = composed(ring, ring.which[None], ring.table)
    np.testing.assert_array_equal(mask(Reads(twice.which[0], twice.table), 5, 5), np.eye(5)[(np.arange(5) + 2) % 5])
    stays = sets.beside(itself((5,)), ring)
    assert stays is not None
    np.testing.assert_array_equal(mask(closure(stays), 5, 5), np.ones((5, 5)))
