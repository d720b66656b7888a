"""Random programs: every op of the registry is among them, they are valid, and the same for a seed."""
from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from graphc.core.dtype import ALL, f32
from graphc.core.types import TensorType
from graphc.interp.numpy import run
from graphc.ir.node import Graph, Node
from graphc.ir.op import REGISTRY, Op
from graphc.ir.text import equal, parse, show
from graphc.ir.verify import verify
from graphc.ir.walk import all_nodes, subgraphs
from graphc.ops.leaf import input_
from graphc.testing import Draw, hunting, native_difference, outside, propagated, random_arguments, random_program
from graphc.testing.draw import CUT, MAKERS, UNDRAWN, by_sample
from graphc.testing.programs import drawn_ops, laid_out

SEEDS = range(300)
WRITTEN = set(MAKERS)                                               # before a page of the documentation adds an op of its own


def depth(graph: Graph) -> int:
    return max((1 + depth(g) for n in all_nodes(graph) for g in subgraphs(n)), default=0)


def test_every_op_is_drawn() -> None:
    """In every dtype and at awkward sizes; and each is among the ops a maker is asked for, but for those that are listed with a reason."""
    ops, dtypes, sizes, deepest, large = Counter[str](), set(), set(), 0, 0
    for seed in SEEDS:
        graph = verify(random_program(seed))
        ops.update(drawn_ops(graph))
        tensors = [n.type for n in all_nodes(graph) if isinstance(n.type, TensorType)]
        dtypes |= {t.dtype for t in tensors}
        sizes |= {k for t in tensors for k in t.static_shape}
        large += any(t.size > 1 << 16 for t in tensors)
        deepest = max(deepest, depth(graph)) if deepest < 3 else deepest
    assert set(ops) == set(REGISTRY) - set(UNDRAWN)
    assert dtypes == set(ALL)
    assert sizes >= {0, 1, 7, 8, 9, 15, 16, 17}
    assert deepest >= 3
    assert large
    assert all(UNDRAWN.values())
    assert WRITTEN | set(UNDRAWN) <= set(REGISTRY)


def test_every_differentiable_op_is_drawn_where_all_is_smooth() -> None:
    ops = Counter[str]()
    for seed in SEEDS:
        ops.update(drawn_ops(random_program(seed, smooth=True)))
    assert set(ops) >= {name for name, op in REGISTRY.items() if callable(op.vjp)} - set(CUT)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_same_for_a_seed(order: int) -> None:
    a, b, c = (random_program(seed, 8, smooth=order > 0, order=order) for seed in (5, 5, 6))
    assert equal(a, b)
    assert not equal(a, c)
    assert equal(parse(show(a)), a)
    assert len(random_program(5, 8, smooth=order > 0, order=order).outputs) >= len(random_program(5, 8, smooth=order > 0).outputs)


def test_an_op_without_a_maker_is_drawn_at_its_samples() -> None:
    """What registers an op has it in the random programs."""
    import random
    for name in ("contract", "topk", "tanh", "take"):
        d = Draw(random.Random(1), (2, 3))
        d.leaf(TensorType((4,), f32))
        d.op = REGISTRY[name]
        node = by_sample(d)
        assert isinstance(node, Node)
        assert node.op is REGISTRY[name]
    mine = Op("mine", "unary", lambda t: t, np.negative, "zero", "-x", lambda rng: [([rng.standard_normal((2, 2))], {})])
    d.op = mine
    made = by_sample(d)
    assert made is not None
    assert made.op is mine


def test_arguments_stay_when_others_go() -> None:
    a, b = (input_(name=n, shape=(3, 4), dtype=f32) for n in "ab")
    both, alone = Graph((a, b), (a, b)), Graph((b,), (b,))
    np.testing.assert_array_equal(random_arguments(both, 3)[0][1], random_arguments(alone, 3)[0][0])


def test_layouts() -> None:
    a = np.arange(12, dtype=np.int32).reshape(3, 4)
    plain, backwards, other, odd = (laid_out(a, k) for k in range(4))
    assert plain is a
    assert max(backwards.strides) < 0
    assert not other.flags.c_contiguous
    assert odd.ctypes.data % 4
    for b in (backwards, other, odd):
        np.testing.assert_array_equal(a, b)


# ---- the bound ---------------------------------------------------------------------------------------------------------------------


def test_the_bound_is_tight_and_knows_what_is_open() -> None:
    """exp(x) has a few ulp of room and not a thousand; x - x none; a comparison of two roundings of one number is open where they meet."""
    x = input_(name="x", shape=(4,), dtype=f32)
    e = REGISTRY["exp"](x)
    third = (x / 3.0) * 3.0
    graph = Graph((x,), (e, x - x, REGISTRY["eq"](third, x), REGISTRY["lt"](e, x), (e + 1e8) - 1e8))
    given = [np.asarray([0.1, 1.0, 2.0, -3.0], np.float32)]
    wants = run(graph, given).outputs
    grown, none, equal_, less, lost = propagated(graph, given)
    for bound, want in zip((grown, none, equal_, less, lost), wants, strict=True):
        np.testing.assert_array_equal(bound.value, want)
        assert not outside(bound, want).any()
    assert not outside(grown, np.nextafter(wants[0], np.float32(9))).any()
    assert outside(grown, wants[0] * np.float32(1 + 1e-4)).all()
    assert outside(none, np.full(4, 1e-30, np.float32)).all()
    assert equal_.open.any()
    assert not less.open.any()
    assert outside(less, ~wants[3]).all()
    assert not outside(lost, wants[4] + np.float32(8)).any()            # the bits that 1e8 took
    assert outside(grown, np.full(4, np.nan, np.float32)).all()


@pytest.mark.parametrize("seed", range(20))
def test_a_value_at_an_edge_is_open(seed: int) -> None:
    """sigmoid(20) is 1 in f32, or the number before it: its floor is not decided, whatever the random numbers are."""
    x = input_(name="x", shape=(seed + 1,), dtype=f32)
    (bound,) = propagated(Graph((x,), (REGISTRY["floor"](REGISTRY["sigmoid"](x)),)), [np.full(seed + 1, 20, np.float32)])
    assert (bound.room >= 1).all()


def test_errors_that_cancel_are_judged_by_more_trials() -> None:
    """tanh(0.9 x) of many x: in six trials the two errors of some element cancel each time, and it has no room; in sixty they do not."""
    x = input_(name="x", shape=(20_000,), dtype=f32)
    graph = Graph((x,), (REGISTRY["tanh"](x * 0.9),))
    given = [np.random.default_rng(0).uniform(0.56, 0.7, 20_000).astype(np.float32)]
    (few,), (many,) = propagated(graph, given), propagated(graph, given, trials=hunting.MANY)
    assert (few.room == 0).any()
    assert (many.room > 0).all()
    assert (many.room >= few.room).all()
    assert native_difference(graph) is None
