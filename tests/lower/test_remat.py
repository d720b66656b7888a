"""memory_limit= has values computed again: fewer bytes, the same graph to the last bit, and a report; or words about what is still missing."""
from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.core.errors import GraphError
from graphc.interp.numpy import run
from graphc.ir.verify import verify
from graphc.ir.walk import topo
from graphc.lower.remat import candidates
from graphc.testing import check_against_oracle

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((2, 96, 12)).astype(np.float32)


def deep(limit=None, depth=8, **options):
    gx.manual_seed(0)
    layers = []
    for _ in range(depth):
        layers += [nn.Linear(12, 12), nn.Tanh()]
    net = nn.Sequential(*layers)
    optimizer = optim.SGD(net.parameters(), lr=1e-2)

    @gx.compile(memory_limit=limit, **{"cache": False, **options})
    def step(x, y):
        optimizer.zero_grad()
        loss = gx.mean((net(x) - y) ** 2)
        loss.backward()
        optimizer.step()
        return loss
    return step, net


def chain(x):
    """Elements, with a sum of all of them between: a chain without is one kernel, block by block, and needs no memory."""
    for k in range(12):
        x = gx.tanh(x * (1.0 + k / 100)) + gx.sum(x) * 1e-4
    return gx.sum(x)


def attention(x, w):
    out = x
    for k in range(3):
        q, v = out @ w[k], out @ w[k + 1]
        p = gx.softmax(q @ gx.permute_dims(out, (1, 0)), axis=1)
        out = gx.tanh(p @ v) + out
    return gx.mean(out * out)


def fits(make, arguments, arena: float, kinds: set[str]):
    """The step with `arena` of its intermediates' memory: it fits, says what it does twice, and has the same bits."""
    plain = make(None)
    want = plain(*arguments)
    plan = plain.lowered.memory_plan()
    assert plan.again is None
    limit = plan.total - int(plan.arena * (1 - arena))
    again = make(limit)
    got = again(*arguments)
    less = again.lowered.memory_plan()
    assert less.total <= limit < plan.total
    assert less.again is not None
    assert (less.again.before, less.again.after) == (plan.total, less.total)
    assert {op for op, _ in less.again.kinds} >= kinds
    assert less.again.flops > 0
    assert "computed again in the backward pass" in str(less)
    assert "remat" in [e.name for e in again.lowered.report.journal]
    for a, b in zip(leaves(want), leaves(got), strict=True):
        assert np.allclose(a, b, rtol=1e-13, atol=1e-15)            # a sum over rows may have other blocks
    graphs = [s.lowered.executable().optimized for s in (plain, again)]
    one, two = (run(g, [np.asarray(a) for a in arguments]).outputs for g in graphs)
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a, b)                                 # by the oracle: the very same numbers
    return again


def leaves(x):
    return [np.asarray(v) for v in (x if isinstance(x, (tuple, list)) else [x])]


def test_a_deep_net_trains_with_the_same_bits_in_less_memory() -> None:
    plain, net = deep()
    losses = [plain(X, Y) for _ in range(3)]
    plan = plain.lowered.memory_plan()
    limit = plan.total - plan.arena * 3 // 10
    again, other = deep(limit)
    assert [again(X, Y) for _ in range(3)] == losses
    for p, q in zip(net.parameters(), other.parameters()):
        assert np.array_equal(p.numpy(), q.numpy())
    less = again.lowered.memory_plan()
    assert less.total <= limit
    assert {"contract", "tanh"} <= {op for op, _ in less.again.kinds}


def test_a_chain_of_elements() -> None:
    x = RNG.standard_normal(4000)
    fits(lambda limit: gx.compile(gx.value_and_grad(chain), memory_limit=limit, cache=False), (x,), 0.75, {"tanh"})


def test_attention() -> None:
    x, w = RNG.standard_normal((64, 8)), RNG.standard_normal((4, 8, 8)) * 0.3
    step = fits(lambda limit: gx.compile(lambda x, w: gx.value_and_grad(attention)(x, w), memory_limit=limit, cache=False), (x, w), 0.8, set())
    assert "%" in step.lowered.text("optimized")


def test_what_does_not_fit_says_by_how_much() -> None:
    plain, _ = deep()
    plan = plain.lower(X, Y).memory_plan()
    step, _ = deep(plan.states + 20_000)
    with pytest.raises(GraphError, match=r"needs [\d,]+ bytes") as e:
        step(X, Y)
    text = str(e.value)
    assert "memory_limit is" in text
    assert "computed again" in text
    needed = int(text.split("needs ")[1].split(" bytes")[0].replace(",", ""))
    assert needed < plan.total
    again, _ = deep(needed)
    assert np.isfinite(again(X, Y))
    assert again.lowered.memory_plan().total <= needed


def test_from_the_cache_too(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    plain, _ = deep(cache=True, depth=6)
    plan = plain.lower(X, Y).memory_plan()
    limit = plan.total - plan.arena // 4
    first, _ = deep(limit, cache=True, depth=6)
    second, _ = deep(limit, cache=True, depth=6)
    assert first(X, Y) == second(X, Y) == plain(X, Y)
    assert first.lowered.memory_plan() == second.lowered.memory_plan()
    assert second.lowered.memory_plan().again is not None
    assert "passes" not in second.lowered.report.stages


def test_loops_are_left_alone() -> None:
    """A scan and its history are never run twice: what is around it may be."""
    xs = RNG.standard_normal((50, 30))

    def f(xs):
        h, ys = gx.scan(lambda h, x: (gx.tanh(h + x), h), gx.zeros(30, dtype=gx.float64), xs)
        return gx.sum(chain(ys) * h)
    plain = gx.compile(gx.grad(f), cache=False)
    want = plain(xs)
    plan = plain.lowered.memory_plan()
    step = gx.compile(gx.grad(f), memory_limit=plan.total - plan.arena // 4, cache=False)
    assert np.array_equal(step(xs), want)
    scans = [sum(n.op.name == "scan" for n in topo(s.lowered.executable().optimized.roots)) for s in (plain, step)]
    assert scans[0] == scans[1]


def test_nothing_to_compute_again() -> None:
    """A forward pass alone has no backward pass to wait for, and one that fits is not touched."""
    step = gx.compile(lambda x: gx.sum(gx.cumulative_sum(gx.tanh(x), axis=0) * x), memory_limit=4000, cache=False)
    with pytest.raises(GraphError, match="needs"):
        step(RNG.standard_normal(1000))
    roomy, _ = deep(1 << 24, depth=2)
    roomy(X, Y)
    assert roomy.lowered.memory_plan().again is None


def test_symbolic_sizes_are_refused_as_before() -> None:
    step = gx.compile(gx.grad(chain), memory_limit=200_000, cache=False).lower(gx.Spec(("N",), gx.float64)).compile()
    assert step(np.ones(3)).shape == (3,)
    with pytest.raises(GraphError, match="memory_limit is 200,000"):
        step(np.ones(20_000))


@pytest.mark.parametrize("f", [chain, lambda x: attention(x, gx.stack([x[:8, :8]] * 4) * 0.1)], ids=["chain", "attention"])
def test_each_candidate_has_the_meaning(f) -> None:
    """Whatever it cuts: verified, and the same on the native evaluator as the graph on the oracle."""
    x = RNG.uniform(0.1, 0.9, (12, 8))
    graph = gx.compile(gx.grad(f), cache=False).lower(x).executable().optimized
    count = 0
    for again in candidates(graph):
        verify(again.graph)
        assert len(topo(again.graph.roots)) > len(topo(graph.roots))
        if count < 3:
            check_against_oracle(again.graph, [x])
        count += 1
    assert count
