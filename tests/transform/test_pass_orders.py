"""Passes in any company: each off, each alone, in shuffled order, and twice. A share of the 1,000 graphs runs always, all of them with --slow."""
from __future__ import annotations

import random

import pytest

from graphc.core.options import Options
from graphc.ir.text import equal
from graphc.ir.verify import verify
from graphc.testing import random_graph
from graphc.transform import pipeline
from graphc.transform.stability import stabilize

EVERY = (*pipeline.PASSES, pipeline.FAST, pipeline.PRODUCTS, pipeline.Pass("stabilize", stabilize))
SEEDS = [pytest.param(range(k, k + 20), marks=[] if k < 60 else pytest.mark.slow, id=f"{k}..{k + 19}") for k in range(0, 1000, 20)]


@pytest.mark.parametrize("seeds", SEEDS)
def test_each_off_and_in_shuffled_order(seeds) -> None:
    for seed in seeds:
        graph = verify(random_graph(seed, 5 + seed % 40))
        for off in pipeline.PASSES:
            names = tuple(p.name for p in pipeline.PASSES if p is not off)
            pipeline.check(f"all but {off.name}", graph, verify(pipeline.run(graph, options=Options(passes=names))), seed)
        shuffled = list(EVERY)
        random.Random(seed).shuffle(shuffled)
        after = pipeline.run(graph, shuffled)
        pipeline.check(", ".join(p.name for p in shuffled), graph, verify(after), seed, pipeline.FAST.tolerance)


@pytest.mark.parametrize("seeds", SEEDS)
def test_each_alone_and_twice(seeds) -> None:
    for seed in seeds:
        graph = verify(random_graph(seed, 5 + seed % 40))
        for p in EVERY:
            once = verify(p.run(graph))
            pipeline.check(p.name, graph, once, seed, p.tolerance)
            assert p.run(once) is once or equal(p.run(once), once), f"{p.name} on {seed}"
