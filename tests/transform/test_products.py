"""Sums of products in the order of fewest operations: the same numbers, never more multiplications, and only where `fast=True` asks."""
from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

import graphc as gx
from graphc.core.dims import symbol
from graphc.core.dtype import f32, f64
from graphc.core.options import Options
from graphc.interp.numpy import run
from graphc.ir.node import Graph, Node
from graphc.ir.text import equal
from graphc.ir.verify import verify
from graphc.ir.walk import topo
from graphc.ops import elementwise, movement, reduce
from graphc.ops.contract import contract
from graphc.ops.leaf import input_, splat
from graphc.transform import pipeline
from graphc.transform.cse import cse
from graphc.transform.products import cost, products


def x_of(*shape, name="x", dtype=f64):
    return input_(name=name, shape=shape, dtype=dtype)


def total(graph: Graph) -> int:
    return sum(cost(n) for n in topo(graph.roots))


def ops_of(graph: Graph) -> list[str]:
    return [n.op.name for n in topo(graph.roots) if n.op.name not in ("input", "const")]


def same(before: Graph, after: Graph, signed: bool = False) -> None:
    """Norm-wise, in f64; of numbers without a sign nothing cancels, and every element is compared."""
    rng = np.random.default_rng(1)
    feeds = [rng.standard_normal(i.tensor.static_shape) if signed else rng.uniform(0.5, 2.0, i.tensor.static_shape) for i in before.inputs]
    for a, b in zip(run(before, feeds).outputs, run(verify(after), feeds).outputs, strict=True):
        np.testing.assert_allclose(b, a, rtol=0.0 if signed else 1e-12, atol=1e-12 * float(np.linalg.norm(a)) if signed else 0.0)


# ---- any sum of products -----------------------------------------------------------------------------------------------------------

SIZES = {"i": 3, "j": 5, "k": 4, "l": 2, "m": 1}


def spread(x: Node, labels: str, every: str, rng: random.Random) -> Node:
    """x along all of the labels, permuted by the way."""
    order = sorted(labels, key=every.index)
    if rng.random() < 0.5:
        turned = rng.sample(range(len(order)), len(order))
        x = movement.permute(x, axes=tuple(labels.index(order[k]) for k in turned))
        x = movement.permute(x, axes=tuple(turned.index(k) for k in range(len(order))))
    else:
        x = movement.permute(x, axes=tuple(labels.index(c) for c in order))
    missing = tuple(at for at, c in enumerate(every) if c not in labels)
    return movement.broadcast(x, shape=tuple(SIZES[c] for c in every), axes=missing) if missing else x


def written_somehow(seed: int) -> Graph:
    """A random sum of products of two to six factors, with squares, signs, numbers, repeated axes, axes of one, and inner sums."""
    rng = random.Random(seed)
    every = "".join(rng.sample("ijklm", rng.randint(2, 5)))
    leaves, terms = [], []
    for k in range(rng.randint(1, 4)):
        labels = "".join(rng.sample(every, rng.randint(1, len(every))))
        leaf = x_of(*(SIZES[c] for c in labels), name=f"x{k}")
        leaves.append(leaf)
        leaf = elementwise.exp(leaf) if rng.random() < 0.2 else leaf
        term = spread(leaf, labels, every, rng)
        terms.append(rng.choice((term, term, term * term, elementwise.neg(term), term * 0.5, elementwise.pow_(term, splat(2.0, term)))))
    y = terms[0]
    for term in terms[1:]:
        y = y * term if rng.random() < 0.5 else term * y
    y = y * y if rng.random() < 0.2 else y
    over = tuple(sorted(rng.sample(range(len(every)), rng.randint(1, len(every)))))
    if len(over) > 1 and rng.random() < 0.5:            # in two steps, with a factor between
        y = reduce.reduce_sum(y, axes=over[1:])
        return Graph(tuple(leaves), (reduce.reduce_sum(y * y if rng.random() < 0.5 else y * 3.0, axes=over[:1]),))
    outputs = (reduce.reduce_sum(y, axes=over), *((y,) if rng.random() < 0.2 else ()))
    return Graph(tuple(leaves), outputs)


@pytest.mark.parametrize("seed", range(150))
def test_any_sum_of_products(seed: int) -> None:
    graph = verify(written_somehow(seed))
    after = products(graph)
    same(graph, after)
    same(graph, after, signed=True)
    assert total(cse(after)) <= total(cse(graph))
    assert products(after) is after or equal(products(after), after)


@pytest.mark.parametrize("seed", range(60))
def test_chains_of_contractions(seed: int) -> None:
    """Random trees of random contractions, with axes of both in the batch."""
    rng = random.Random(seed)
    leaves = [x_of(*rng.choices((1, 2, 3, 4), k=rng.randint(1, 3)), name=f"x{k}") for k in range(rng.randint(2, 5))]
    todo = list(leaves)
    while len(todo) > 1:
        a, b = todo.pop(rng.randrange(len(todo))), todo.pop(rng.randrange(len(todo)))
        pairs = [(i, j) for i, j in itertools.product(range(a.tensor.rank), range(b.tensor.rank)) if a.tensor.shape[i] == b.tensor.shape[j]]
        rng.shuffle(pairs)
        taken: list[tuple[int, int]] = []
        for p in pairs:
            if all(p[0] != q[0] and p[1] != q[1] for q in taken) and len(taken) < 2:
                taken.append(p)
        cut = rng.randint(0, len(taken))
        if a.tensor.rank + b.tensor.rank - len(taken) - cut > 6:
            cut = len(taken)
        inner, batch = (tuple(zip(*part)) or ((), ()) for part in (taken[:cut], taken[cut:]))
        todo.append(contract(a, b, contracting=inner, batch=batch))
    graph = verify(Graph(tuple(leaves), (todo[0],)))
    after = products(graph)
    same(graph, after)
    assert total(after) <= total(graph)


def product(a, b, over=((1,), (0,))):
    return contract(a, b, contracting=over, batch=((), ()))


def test_a_chain_is_settled_from_the_cheap_end() -> None:
    shapes = [(6, 7), (7, 8), (8, 9), (9,)]
    leaves = [x_of(*s, name=f"x{k}") for k, s in enumerate(shapes)]
    y = leaves[0]
    for leaf in leaves[1:]:
        y = product(y, leaf)
    graph = Graph(tuple(leaves), (y,))
    after = products(graph)
    same(graph, after)
    assert total(after) == 8 * 9 + 7 * 8 + 6 * 7
    assert ops_of(pipeline.run(graph)) == ["contract"] * 3
    assert total(pipeline.run(graph)) == total(graph)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("owner", [0, 1])
def test_every_side_and_axis(side: int, owner: int) -> None:
    """(a·b)·c and c·(a·b), where c belongs to a or to b; results have their axes in the order they had."""
    a, b, c = x_of(5, 4, 6), x_of(4, 7, 3, name="b"), x_of(*((2, 6) if owner == 0 else (2, 7)), name="c")
    k = product(a, b, ((1,), (0,)))                     # [5, 6, 7, 3]
    inner, mine = (1,), ((1,) if owner == 0 else (2,))
    y = product(k, c, (mine, inner)) if side == 0 else product(c, k, (inner, mine))
    graph = Graph((a, b, c), (y,))
    after = products(graph)
    assert total(after) < total(graph)
    same(graph, after)


def test_what_is_read_twice_or_is_dearer_stays() -> None:
    a, b, v = x_of(3, 4), x_of(4, 5, name="b"), x_of(5, 40, name="v")
    k = product(a, b)
    graph = Graph((a, b, v), (product(k, v), k))
    assert products(graph) is graph
    wide = Graph((a, b, v), (product(product(a, b), v),))       # 60 + 600 against 800 + 480
    assert products(wide) is wide
    x, c = x_of(3, 40), x_of(3, name="c")
    row = Graph((x, c), (reduce.reduce_sum(x * movement.broadcast(c, shape=(3, 40), axes=(1,)), axes=(0,)),))
    assert products(row) is row                         # one sweep as it is


def test_one_value_that_two_sums_share() -> None:
    """The product goes once all who read it do without; one who needs it keeps it, and then the other reads it too."""
    a, b, u, v = x_of(8, 9), x_of(9, 7, name="b"), x_of(7, name="u"), x_of(7, name="v")
    k = product(a, b)
    both = Graph((a, b, u, v), (product(k, u), product(k, v)))
    assert total(products(both)) == 2 * (9 * 7 + 8 * 9)
    held = Graph((a, b, u, v), (product(k, u), product(elementwise.exp(k), v)))
    assert products(held) is held
    same(both, products(both))


# ---- per-example gradients ---------------------------------------------------------------------------------------------------------


def outer_norms(x: Node, d: Node) -> Node:
    g = contract(d, x, contracting=((), ()), batch=((0,), (0,)))
    return reduce.reduce_sum(g * g, axes=(1, 2))


def test_norms_of_outer_products() -> None:
    x, d = x_of(6, 7), x_of(6, 5, name="d")
    graph = Graph((x, d), (outer_norms(x, d),))
    after = pipeline.run(graph, options=Options(fast=True))
    assert ops_of(after) == ["mul", "reduce_sum", "mul", "reduce_sum", "mul"]
    same(graph, after, signed=True)


def test_a_clipped_sum_is_one_contraction() -> None:
    x, d, c = x_of(6, 7), x_of(6, 5, name="d"), x_of(6, name="c")
    g = contract(x, d, contracting=((), ()), batch=((0,), (0,)))
    graph = Graph((x, d, c), (reduce.reduce_sum(g * movement.broadcast(c, shape=(6, 7, 5), axes=(1, 2)), axes=(0,)),))
    after = pipeline.run(graph, options=Options(fast=True))
    assert ops_of(after) == ["broadcast", "mul", "contract"]
    same(graph, after, signed=True)


def test_norms_over_a_sequence_by_gram_matrices() -> None:
    """Σ (Σₜ x d)²: with a short sequence, (x·xᵀ)(d·dᵀ) is less than the gradient; with a long one it is not."""
    for steps, shorter in ((2, True), (40, False)):
        x, d = x_of(3, steps, 11), x_of(3, steps, 13, name="d")
        g = contract(x, d, contracting=((1,), (1,)), batch=((0,), (0,)))
        graph = Graph((x, d), (reduce.reduce_sum(g * g, axes=(1, 2)),))
        after = products(graph)
        assert (total(after) < total(graph)) == shorter
        same(graph, after, signed=True)


def loss(p, x, y):
    h = gx.tanh(x @ p["w"] + p["b"])
    return gx.sum((h @ p["v"] - y) ** 2)


def clipped(p, x, y):
    """The sum of per-example gradients, each no longer than 1, and their norms."""
    def one(p, x, y):
        g = gx.grad(loss)(p, x, y)
        norm = gx.sqrt(sum(gx.sum(v * v) for v in g.values()))
        return {k: v * gx.minimum(1.0, 1.0 / norm) for k, v in g.items()}, norm
    g, norm = gx.vmap(one, in_axes=(None, 0, 0))(p, x, y)
    return {k: gx.sum(v, axis=0) for k, v in g.items()}, norm


def data(dtype) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    p = {"w": rng.standard_normal((7, 5)), "b": rng.standard_normal(5), "v": rng.standard_normal((5, 3))}
    return {k: v.astype(dtype) for k, v in p.items()}, rng.standard_normal((6, 7)).astype(dtype), rng.standard_normal((6, 3)).astype(dtype)


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_clipped_gradients(backend: str) -> None:
    """f64 judges f32; no node of the step has an example's whole gradient."""
    step, plain = gx.compile(clipped, fast=True, backend=backend), gx.compile(clipped, backend=backend)
    (g, norm), (exact, lengths) = step(*data(np.float32)), plain(*data(np.float64))
    np.testing.assert_allclose(norm, lengths, rtol=1e-5)
    for k in g:
        np.testing.assert_allclose(g[k], exact[k], atol=1e-5 * np.abs(exact[k]).max())
    if backend == "llvm":
        shapes = {n.tensor.shape for n in topo(step.lowered.executable().optimized.roots)}
        assert not shapes & {(6, 7, 5), (6, 5, 7), (6, 5, 3), (6, 3, 5)}


def test_gradients_through_it() -> None:
    """Of the norms and of the sum, by reverse mode in the same step."""
    def f(p, x, y):
        g, norm = clipped(p, x, y)
        return sum(gx.sum(gx.sin(v)) for v in g.values()) + gx.sum(norm)

    slope, exact = gx.compile(gx.grad(f), fast=True)(*data(np.float64)), gx.compile(gx.grad(f))(*data(np.float64))
    for k in slope:
        np.testing.assert_allclose(slope[k], exact[k], rtol=1e-9, atol=1e-10)


def test_any_batch_size() -> None:
    n = symbol("N")
    x, d, c = x_of(n, 7), x_of(n, 5, name="d"), x_of(n, name="c")
    g = contract(d, x, contracting=((), ()), batch=((0,), (0,)))
    clip = movement.broadcast(c, shape=(n, 5, 7), axes=(1, 2))
    graph = Graph((x, d, c), (reduce.reduce_sum(g * clip, axes=(0,)), outer_norms(x, d)))
    after = verify(pipeline.run(graph, options=Options(fast=True)))
    assert all(m.tensor.rank < 3 for m in topo(after.roots))
    rng = np.random.default_rng(0)
    for size in (1, 3):
        feeds = [rng.standard_normal((size, *m.tensor.shape[1:])) for m in (x, d, c)]
        for a, b in zip(run(graph, feeds).outputs, run(after, feeds).outputs):
            np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-12)
    repeated = Graph((c,), (reduce.reduce_sum(movement.broadcast(c * c, shape=(3, n), axes=(0,)), axes=(0, 1)),
                            reduce.reduce_sum(movement.broadcast(c, shape=(n, n), axes=(0,)), axes=(0,))))
    after = verify(products(repeated))
    for a, b in zip(run(repeated, [np.arange(4.0)]).outputs, run(after, [np.arange(4.0)]).outputs):
        np.testing.assert_allclose(b, a)


def test_inside_of_a_loop() -> None:
    def f(x, d):
        return gx.scan(lambda c, _: (c * 0.5 + gx.sum((x[:, :, None] * d[:, None, :]) ** 2, axis=(1, 2)), None), gx.zeros(6, dtype="f64"), None, length=3)[0]

    rng = np.random.default_rng(0)
    args = rng.standard_normal((6, 7)), rng.standard_normal((6, 5))
    step = gx.compile(f, fast=True)
    np.testing.assert_allclose(step(*args), gx.compile(f)(*args), rtol=1e-12)


# ---- what it may not change --------------------------------------------------------------------------------------------------------


def test_nothing_of_it_runs_unasked() -> None:
    x, d = x_of(6, 7), x_of(6, 5, name="d")
    graph = Graph((x, d), (outer_norms(x, d), product(product(d, x, ((0,), (0,))), splat(1.0, movement.reshape(x, shape=(7, 6))))))
    assert "products" in [p.name for p in (pipeline.PRODUCTS,)]
    assert total(pipeline.run(graph)) > total(pipeline.run(graph, options=Options(fast=True)))
    assert total(pipeline.run(graph, options=Options(passes=("products",)))) < total(graph)


def test_squares_that_would_overflow_do_so_only_where_asked() -> None:
    """x d is an ordinary number, x² and d² are none: that is what "for real numbers only" means."""
    x, d = np.full((2, 3), 1e-25, np.float32), np.full((2, 4), 1e25, np.float32)
    f = lambda x, d: gx.sum((x[:, :, None] * d[:, None, :]) ** 2, axis=(1, 2))
    np.testing.assert_allclose(gx.compile(f)(x, d), 12.0, rtol=1e-5)
    assert not np.isfinite(gx.compile(f, fast=True)(x, d)).all()


@pytest.mark.parametrize("shape", [(0, 7, 5), (6, 0, 5), (6, 7, 0), (1, 7, 5), (6, 1, 5), (6, 7, 1), (1, 1, 1)], ids=str)
def test_axes_of_nothing_and_of_one(shape: tuple[int, int, int]) -> None:
    n, i, j = shape
    x, d, c = x_of(n, i), x_of(n, j, name="d"), x_of(n, name="c")
    g = contract(x, d, contracting=((), ()), batch=((0,), (0,)))
    graph = Graph((x, d, c), (outer_norms(x, d), reduce.reduce_sum(g * movement.broadcast(c, shape=(n, i, j), axes=(1, 2)), axes=(0,))))
    same(graph, products(graph), signed=True)


def test_numbers_too_large_to_bring_together() -> None:
    x, y = x_of(3, 4, dtype=f32), x_of(4, 2, name="y", dtype=f32)
    k = product(x * 1e25, y * 1e25)
    graph = Graph((x, y), (reduce.reduce_sum(k, axes=(1,)),))
    assert all(np.isfinite(n.attrs["value"]).all() for n in topo(products(graph).roots) if n.op.name == "const")


def test_integers_stay_as_they_are() -> None:
    x = np.arange(6).reshape(2, 3)
    f = lambda x: gx.sum((x[:, :, None] * x[:, None, :]) ** 2, axis=(1, 2))
    plain, quick = (gx.compile(f, fast=fast).lower(x).executable().optimized for fast in (False, True))
    assert equal(plain, quick)
