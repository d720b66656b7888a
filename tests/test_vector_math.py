"""docs/vector_math.md has every function that rounds, and its figures hold: a coarser sweep finds nothing worse. And denormals: flushed, and kept."""
from __future__ import annotations

import platform
import sys
from pathlib import Path

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.loop.math import FUNCTIONS

DOCS = Path(__file__).parents[1] / "docs"
sys.path[:0] = [str(DOCS)]

import make_vector_math  # type: ignore[import-not-found]  # noqa: E402

sys.path.remove(str(DOCS))
ROWS = make_vector_math.ROWS
COMPOSITES = {"log10", "softplus", "silu", "gelu"}


def figures() -> dict[str, tuple[float, float]]:
    """f32 and f64, ulp, by function."""
    lines = [x.split("|") for x in (DOCS / "vector_math.md").read_text(encoding="utf-8").splitlines() if x.startswith("| `")]
    return {x[1].strip(" `"): (float(x[2]), float(x[3])) for x in lines}


def test_the_table_is_whole() -> None:
    assert figures().keys() == ROWS.keys() == FUNCTIONS.keys() | {"sqrt", "rsqrt"} | COMPOSITES


@pytest.mark.parametrize("name", ROWS)
def test_f32_is_no_worse_than_the_table_says(name: str) -> None:
    assert make_vector_math.sweep_f32(name, 4096) <= figures()[name][0] + 0.05


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the true values need 80-bit arithmetic")
@pytest.mark.parametrize("name", [n for n, r in ROWS.items() if not r.slow])
def test_f64_is_no_worse_than_the_table_says(name: str) -> None:
    assert make_vector_math.sample_f64(name, 2000) <= figures()[name][1] + 0.05


def test_the_activations_do_not_cancel() -> None:
    """Where 1 + tanh or 1 + erf would be 0: the true values to a few ulp, and their gradients finite at every number."""
    x = np.array([-80.0, -30.0, -12.5, -6.0, 0.0, 6.0, 90.0, 3e38, -3e38], np.float32)
    sigmoid, gelu = (gx.compile(f, cache=False)(x) for f in (gx.sigmoid, gx.gelu))
    np.testing.assert_allclose(sigmoid[:4], 1 / (1 + np.exp(-x[:4].astype(np.float64))), rtol=3e-7)
    np.testing.assert_allclose(gelu[2:4], [-12.5 * 3.7325642987e-36, -6 * 9.8658764503770e-10], rtol=3e-7)
    for f in (gx.sigmoid, gx.gelu, gx.silu, gx.softplus):
        assert np.isfinite(gx.compile(gx.grad(lambda v, f=f: gx.sum(f(v))), cache=False)(x)).all()


@pytest.mark.parametrize("flush", [True, False])
def test_dead_units_leave_no_denormals(flush: bool) -> None:
    """Adam's first moment of a unit without gradients shrinks by 0.9 a step: after 1,200 steps it would be a denormal, and then for ever."""
    gx.manual_seed(0)
    net = nn.Linear(5, 3)
    opt = optim.Adam(net.parameters(), lr=0.0)
    x = np.ones((4, 5), np.float32)

    def step(x: gx.Tensor, alive: gx.Tensor) -> gx.Tensor:
        opt.zero_grad()
        loss = gx.sum(net(x) * alive)
        loss.backward()
        opt.step()
        return loss

    run = gx.compile(step, flush_denormals=flush, cache=False)
    run(x, np.float32(1e-20))
    for _ in range(1200):
        run(x, np.float32(0))
    moments = [np.asarray(v) for s in opt.state_dict()["state"].values() for k, v in s.items() if k.startswith("exp_avg")]
    assert len(moments) == 4
    found = sum(int(((m != 0) & (np.abs(m) < np.finfo(np.float32).tiny)).sum()) for m in moments)
    assert found == 0 if flush else found > 0
