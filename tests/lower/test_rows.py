"""Nests that share rows: one kernel, the same numbers on the three evaluators, and the same bits for every number of threads.

The machine of these tests has caches of a few hundred bytes, so that small shapes are worth a block.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.core.dtype import f32, f64, i64
from graphc.core.options import Options
from graphc.executable import compile_graph
from graphc.interp.numpy import run
from graphc.ir.node import Graph, Node, State
from graphc.llvm import detect
from graphc.loop.ir import For, Store, walk
from graphc.loop.place import launches
from graphc.nn import functional as F
from graphc.ops.contract import contract
from graphc.ops.elementwise import exp, tanh
from graphc.ops.index import check_index, take
from graphc.ops.leaf import input_
from graphc.ops.movement import broadcast, flip, permute
from graphc.ops.reduce import reduce_max, reduce_sum
from graphc.testing import random_graph, random_inputs
from graphc.trace.storage import Storage

from .three import agree, close


@pytest.fixture(autouse=True, params=[(64, 1 << 10), (128, 1 << 14)], ids=["blocks of few rows", "blocks of many"])
def small_caches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    l1, l2 = request.param
    target = replace(detect.host(), l1=l1, l2=l2)
    monkeypatch.setattr(detect, "host", lambda: target)


def leaf(name: str, *shape: int, dtype: Any = f32) -> Node:
    return input_(name=name, shape=shape, dtype=dtype)


def numbers(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def kernels(step: Any) -> list[str]:
    return [x.kernel.name for x in launches(step.plan)]


def spread(x: Node, axis: int, size: int) -> Node:
    shape = (*x.tensor.static_shape[:axis], size, *x.tensor.static_shape[axis:])
    return broadcast(x, axes=(axis,), shape=shape)


def softmax(x: Node) -> Node:
    *_, n = x.tensor.static_shape
    last = x.tensor.rank - 1
    e = exp(x - spread(reduce_max(x, axes=(last,)), last, n))
    return e / spread(reduce_sum(e, axes=(last,)), last, n)


@pytest.mark.parametrize("shape", [(8, 5), (37, 19), (3, 7, 9), (2, 3, 4, 5), (1, 33), (33, 1)], ids=str)
def test_softmax_over_the_last_axis(shape: tuple[int, ...]) -> None:
    x = leaf("x", *shape)
    step = agree(Graph((x,), (softmax(x),)), [numbers(*shape)])
    if min(shape) > 1:
        assert [k.rpartition("_rows_")[0] for k in kernels(step)] == ["k1"], "one kernel, and nothing else"
        assert not step.memory_plan().regions, "what stays in the kernel is scratch"


def test_a_sum_over_rows_beside_sums_within_them() -> None:
    """Layer norm's shape: results of the rows, and a result that adds all rows up."""
    x, g = leaf("x", 37, 6), leaf("g", 37, 6)
    mean = reduce_sum(x, axes=(1,)) / 6.0
    d = x - spread(mean, 1, 6)
    r = exp(-reduce_sum(d * d, axes=(1,)))
    outputs = (d * spread(r, 1, 6) * g, reduce_sum(d * g, axes=(0,)), reduce_sum(g * g * d, axes=(0, 1)))
    step = agree(Graph((x, g), outputs), [numbers(37, 6), numbers(37, 6, seed=1)])
    assert len(kernels(step)) == 1


def test_a_matrix_read_once_for_both_products() -> None:
    """Logistic regression: X @ w, and X.T @ f(X @ w)."""
    x, w = leaf("x", 41, 12), leaf("w", 12)
    z = tanh(contract(x, w, contracting=((1,), (0,)), batch=((), ())))
    step = agree(Graph((x, w), (contract(z, x, contracting=((0,), (0,)), batch=((), ())), reduce_sum(z, axes=(0,)))), [numbers(41, 12), numbers(12)])
    assert len(kernels(step)) == 1


@pytest.mark.parametrize("turned", [False, True])
def test_a_layer_with_one_output_is_a_matrix_and_a_vector(turned: bool) -> None:
    """X @ W.T where W has one row, and f(X @ W.T).T @ X: axes of one are in nobody's way."""
    x, w = leaf("x", 41, 12), leaf("w", 1, 12)
    z = tanh(contract(x, w, contracting=((1,), (1,)), batch=((), ())))
    dw = contract(*((x, z) if turned else (z, x)), contracting=((0,), (0,)), batch=((), ()))
    step = agree(Graph((x, w), (dw, reduce_sum(z, axes=(0,)))), [numbers(41, 12), numbers(1, 12)])
    assert len(kernels(step)) == 1


def test_rows_of_two_axes_and_a_sum_over_them() -> None:
    x, g = leaf("x", 3, 11, 5), leaf("g", 3, 11, 5)
    p = softmax(x)
    agree(Graph((x, g), (p * g, reduce_sum(p * g, axes=(0, 1)), reduce_max(p, axes=(0, 1)))), [numbers(3, 11, 5), numbers(3, 11, 5, seed=1)])


def test_another_row_is_another_kernel() -> None:
    """Row i of the second nest reads row n - 1 - i, or all rows, of the first: they cannot go block by block."""
    x = leaf("x", 21, 8)
    s = reduce_sum(x, axes=(1,))
    turned = exp(x - spread(flip(s, axes=(0,)), 1, 8))
    crossed = exp(permute(x, axes=(1, 0)) * spread(s, 0, 8))
    whole = exp(x * spread(spread(reduce_sum(s, axes=(0,)), 0, 21), 1, 8))
    step = agree(Graph((x,), (turned, crossed, whole, s)), [numbers(21, 8) / 4])
    assert len(kernels(step)) > 1


def test_a_sum_over_rows_is_complete_before_it_is_read() -> None:
    x = leaf("x", 25, 8)
    e = exp(x)
    m = reduce_sum(e, axes=(0,)) / 25.0
    step = agree(Graph((x,), (e - spread(m, 0, 25), m)), [numbers(25, 8)])
    assert len(kernels(step)) == 2


def test_states_change_in_place_and_old_rows_are_read_before() -> None:
    """v <- 0.9 v + softmax(x) row by row, and what reads the old v in the same step still sees it."""
    x, v, b = leaf("x", 23, 7), leaf("v", 23, 7), leaf("b", 7)
    p = softmax(x)
    g = Graph((x,), (reduce_sum(v * p, axes=(1,)), reduce_sum(v, axes=(0,))),
              (State("v", v, v * 0.9 + p), State("b", b, b - reduce_sum(p * v, axes=(0,)) * 0.1)))
    agree(g, [numbers(23, 7)], [numbers(23, 7, seed=1), numbers(7, seed=2)])


def test_nothing_is_written_by_a_step_that_fails() -> None:
    """A check between nests that share rows: no state changes when it fails."""
    x, i, v = leaf("x", 19, 6), leaf("i", 19, dtype=i64), leaf("v", 19, 6)
    p = softmax(x)
    picked = take(reduce_sum(v, axes=(0,)), check_index(i, size=6), axis=0)
    g = Graph((x, i), (reduce_sum(picked, axes=(0,)),), (State("v", v, v * p),))
    good, bad = np.arange(19) % 6, np.array([*range(6)] * 3 + [6])
    agree(g, [numbers(19, 6), good], [numbers(19, 6, seed=1)])
    storage = Storage(numbers(19, 6, seed=1), "v")
    step = compile_graph(g, [storage], Options())
    with pytest.raises(gx.GraphError, match="6"):
        step([numbers(19, 6), bad])
    np.testing.assert_array_equal(storage.array, numbers(19, 6, seed=1))


def test_several_chains_in_a_deep_net() -> None:
    """Layer norm, product, layer norm, product: every norm is a kernel of its own, and equal ones are emitted once."""
    rng = np.random.default_rng(0)
    ws = [rng.standard_normal((8, 8)).astype(np.float32) for _ in range(4)]

    def f(x: Any) -> Any:
        for w in ws:
            x = F.layer_norm(x, 8) @ w
        return x

    x = rng.standard_normal((33, 8)).astype(np.float32)
    compiled = gx.compile(f)
    np.testing.assert_allclose(compiled(x), gx.compile(f, backend="numpy")(x), rtol=2e-5, atol=2e-6)
    rows = [x.kernel for x in launches(compiled.lowered.executable().plan) if "_rows_" in x.kernel.name]
    assert len(rows) == 4
    assert len({id(k.body) for k in rows[1:]}) == 1


@pytest.mark.parametrize("make", [
    lambda x, g: (F.layer_norm(x, 8) * g).sum(), lambda x, g: (gx.softmax(x, axis=1) * g).sum(), lambda x, g: (gx.log_softmax(x, axis=-1) * g).sum(),
    lambda x, g: (gx.logsumexp(x, axis=1) * g[:, 0]).sum(), lambda x, g: (gx.tanh(x - x.mean(0)) * g).sum(),
], ids=["layer norm", "softmax", "log softmax", "logsumexp", "columns"])
def test_gradients_on_both_backends(make: Callable[[Any, Any], Any]) -> None:
    x, g = numbers(45, 8, dtype=np.float64), numbers(45, 8, seed=1, dtype=np.float64)
    both = gx.value_and_grad(make, argnums=(0, 1))
    value, (dx, dg) = gx.compile(both, flush_denormals=False)(x, g)
    want, (wx, wg) = gx.compile(both, backend="numpy")(x, g)
    for a, b in ((value, want), (dx, wx), (dg, wg)):
        close(np.asarray(a), np.asarray(b), 1e-13, "native")


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs(seed: int) -> None:
    g = random_graph(seed, 24, dtype=f64)
    arrays = random_inputs(g, seed)
    agree(g, arrays[:len(g.inputs)], arrays[len(g.inputs):], f64=1e-9)


def test_the_same_bits_for_every_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphc.loop import share
    monkeypatch.setattr(share, "LAUNCH", 0.0)
    monkeypatch.setattr(share, "STEP", 0.0)
    x, g = numbers(301, 19), numbers(301, 19, seed=1)
    both = gx.value_and_grad(lambda x, w, g: (F.layer_norm(x, 19, w) * g).sum(), argnums=(0, 1))
    results = [gx.compile(both, threads=n)(x, np.ones(19, np.float32), g) for n in (1, 2, 3)]
    for value, (dx, dw) in results[1:]:
        assert (value.tobytes(), dx.tobytes(), dw.tobytes()) == (results[0][0].tobytes(), results[0][1][0].tobytes(), results[0][1][1].tobytes())


def test_no_row_is_missed_or_done_twice() -> None:
    """Whatever the number of rows: the blocks, the groups and the rest cover them once."""
    for n in (2, 3, 31, 32, 33, 64, 65, 255, 257, 4097):
        x = leaf("x", n, 3)
        s = spread(reduce_sum(x, axes=(1,)), 1, 3)
        step = compile_graph(Graph((x,), (x * s, reduce_sum(s, axes=(0,)), s)), [], Options())
        values = np.ones((n, 3), np.float32)
        for a, b in zip(step([values]), run(step.graph, [values], []).outputs, strict=True):
            np.testing.assert_array_equal(a, b)
        assert any(isinstance(x, For | Store) for k in launches(step.plan) for x in walk(k.kernel.body))


@pytest.mark.parametrize("dtypes", [(np.float32, np.float64), (np.int64, np.float32), (np.int32, np.float64)], ids=str)
def test_sums_of_several_widths_over_the_same_rows(dtypes: tuple[type, type]) -> None:
    """Partial sums are as many as lanes, and a kernel has one number of lanes."""
    x, y = (np.random.default_rng(k).integers(-9, 9, (3000, 8, 8)).astype(d) for k, d in enumerate(dtypes))
    for f in (lambda x, y: (gx.sum(x, axis=(1, 2)), gx.sum(y, axis=(1, 2)) + gx.astype(gx.sum(x, axis=(1, 2)), y.dtype)),
              lambda x, y: (gx.prod(y[:, 0], axis=1) * gx.astype(gx.sum(x, axis=(1, 2)), y.dtype),)):
        for got, want in zip(gx.compile(f)(x, y), f(gx.asarray(x), gx.asarray(y)), strict=True):
            np.testing.assert_allclose(got, want.numpy(), rtol=1e-5)
