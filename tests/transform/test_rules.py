"""Every rewrite rule, on the smallest example that it builds itself: it fires, keeps the type, and the oracle sees no difference."""
from __future__ import annotations

import numpy as np
import pytest

from graphc.core.dtype import bool_, f32, i8, i64, u8, u64
from graphc.core.errors import GraphError
from graphc.interp.numpy import run
from graphc.ir.rewrite import P, Rule, match, rewrite, smallest_example
from graphc.ir.verify import verify
from graphc.transform.fast import FAST
from graphc.transform.simplify import EXACT


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal bit by bit, but for the sign and payload of NaNs."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    return bool(np.all((np.isnan(a) & np.isnan(b)) | ((a == b) & (np.signbit(a) == np.signbit(b)))))


@pytest.mark.parametrize("dtype", [None, f32, bool_, i8, i64, u8, u64], ids=str)
@pytest.mark.parametrize("rule", EXACT, ids=str)
def test_exact_rule(rule: Rule, dtype) -> None:
    """On the dtypes of its own example (None), and on every other that its pattern takes: |-x| is not |x| where x is unsigned."""
    try:
        graph, feeds = smallest_example(rule.pattern, dtype)
    except (GraphError, OverflowError):                 # an op that is not for this dtype, a constant that is none of it
        assert dtype is not None
        return
    verify(graph)
    (root,) = graph.outputs
    env = {}
    if not match(rule.pattern, root, env):
        assert dtype is not None, "the pattern does not match its own example"
        return
    new = rule.function(**env)
    if new is None:                                     # a condition on dtypes, which its own meet
        assert dtype is not None
        return
    assert new is not root
    after = verify(graph.with_roots((new,)))
    for _ in range(3):
        with np.errstate(all="ignore"):
            a, b = run(graph, feeds).outputs[0], run(after, feeds).outputs[0]
        assert same_bits(a, b), f"{rule}: {a} became {b}"
        feeds = [np.roll(f, 1 + k).copy() for k, f in enumerate(feeds)]
    assert rewrite(graph, [rule]) is not graph


@pytest.mark.parametrize("rule", FAST, ids=str)
def test_fast_rule(rule: Rule) -> None:
    """Right on ordinary numbers; and not exact, or it would stand in the other table."""
    graph, nasty = smallest_example(rule.pattern)
    rng = np.random.default_rng(0)
    env = {}
    assert not rule.exact
    assert match(rule.pattern, graph.outputs[0], env)
    after = verify(graph.with_roots((rule.function(**env),)))
    feeds = [rng.uniform(0.5, 2.0, f.shape) for f in nasty]
    np.testing.assert_allclose(run(after, feeds).outputs[0], run(graph, feeds).outputs[0], rtol=1e-14)


def test_fast_zero_rules_are_not_exact() -> None:
    zero = np.full((3, 4), -0.0), np.full((3, 4), 0.0)
    for rule in FAST[:3]:
        graph, feeds = smallest_example(rule.pattern)
        env = {}
        match(rule.pattern, graph.outputs[0], env)
        after = graph.with_roots((rule.function(**env),))
        assert any(not same_bits(run(graph, [z] * len(feeds)).outputs[0], run(after, [z] * len(feeds)).outputs[0]) for z in zero), rule


def test_a_false_rule_is_caught() -> None:
    """x * x → x, the mutant: the check above must see it."""
    from graphc.ir.rewrite import Hole
    from graphc.ops.elementwise import mul
    rule = Rule(P(mul, (Hole("x"), Hole("x"))), lambda x: x, "false")
    graph, feeds = smallest_example(rule.pattern)
    after = graph.with_roots((graph.inputs[0],))
    assert not same_bits(run(graph, feeds).outputs[0], run(after, feeds).outputs[0])


def test_comments_are_unique() -> None:
    comments = [r.comment for r in (*EXACT, *FAST)]
    assert len(set(comments)) == len(comments)
