"""Damaged checkpoints: a GraphError and nothing loaded, or, where the damage is outside of everything that counts, the whole of it."""
from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import graphc as gx

from ..data.damage import damaged
from .model import Run

pytest.importorskip("safetensors")
EACH, QUICK = 2_000, 200


@pytest.fixture(scope="module")
def run() -> Run:
    run = Run()
    run.train(3)
    return run


def outcomes(run: Run, suffix: str, seeds: range, folder: Path) -> tuple[int, int]:
    """How many were refused and read. A damaged file never changes a bit, nor is one of its numbers believed."""
    good, bad = folder / f"good.{suffix}", folder / f"bad.{suffix}"
    gx.save(good, **run.parts, step=3, x=np.arange(5))
    data, state = good.read_bytes(), run.snapshot()
    refused = read = 0
    for seed in seeds:
        bad.write_bytes(damaged(data, seed))
        try:
            found = gx.load(bad, **run.parts)
            read += 1
            assert (found.step, found.extra["x"].tolist()) == (3, [0, 1, 2, 3, 4])
        except gx.GraphError:
            refused += 1
        assert run.snapshot() == state
        bad.unlink()
    return refused, read


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_damage_is_a_typed_error(suffix: str, run: Run, tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        refused, _ = outcomes(run, suffix, range(QUICK), tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused > QUICK // 2
    assert peak < 64 << 20


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_damage_is_a_typed_error_at_length(suffix: str, run: Run, tmp_path: Path) -> None:
    outcomes(run, suffix, range(QUICK, EACH), tmp_path)
