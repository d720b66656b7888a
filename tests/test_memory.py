"""The memory of a step: known before it runs, refused where it is too much, shared only by what is never alive together."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import limits, nn, optim
from graphc.core import cgroup
from graphc.core.errors import GraphError
from graphc.loop import place
from graphc.testing.oracle import check_against_oracle, loop_level

X = np.linspace(-1, 1, 5 * 7, dtype=np.float32).reshape(5, 7)


def training(**options: Any) -> Any:
    gx.manual_seed(0)
    net = nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 6), nn.Tanh(), nn.Linear(6, 3))
    optimizer = optim.Adam(net.parameters())

    @gx.compile(**options)
    def step(x: Any) -> Any:
        optimizer.zero_grad()
        hidden = net(x)
        loss = gx.mean(hidden ** 2)
        loss.backward()
        optimizer.step()
        return loss
    return step


# ---- what is shared ----------------------------------------------------------------------------------------------------------------


def by_poison(step: Any) -> None:
    """The plan through the interpreter, which overwrites every region after its last step, gives what the oracle gives."""
    low = step.lower(X)
    traced = low._variant.traced
    check_against_oracle(low.graph, [X, *(np.asarray(s()) for s in traced.sources)], [s.numpy() for s in traced.storages], loop_level)


def test_what_is_freed_is_never_read() -> None:
    by_poison(training())


def test_a_region_that_ends_too_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    lives = place.lives
    monkeypatch.setattr(place, "lives", lambda plan: [place.Life(x.region, x.first, x.first) for x in lives(plan)])
    with pytest.raises(AssertionError):
        by_poison(training())


def test_regions_that_are_alive_together_are_apart_and_others_share() -> None:
    net = nn.Sequential(nn.Linear(7, 70), nn.Tanh(), nn.Linear(70, 60), nn.Tanh(), nn.Linear(60, 50), nn.Tanh(), nn.Linear(50, 3))
    plan = gx.compile(lambda x: net(x)).lower(X).memory_plan()
    for k, (a, at, n, first, last) in enumerate(plan.regions):
        for b, at2, n2, first2, last2 in plan.regions[:k]:
            assert last < first2 or last2 < first or at + n <= at2 or at2 + n2 <= at, f"{a} and {b}"
    assert max(at + n for _, at, n, _, _ in plan.regions) < sum(n for _, _, n, _, _ in plan.regions), "something is shared"


def test_the_plan_is_what_is_allocated() -> None:
    step = training()
    step(X)
    native = step.lowered.executable()
    plan = step.lowered.memory_plan()
    assert plan.arena == native._arena.nbytes - 64
    assert max(at + n for _, at, n, _, _ in plan.regions) <= plan.arena
    assert plan.results == sum(r.nbytes for r in native.frame.results) == 4
    assert plan.states == sum(s.array.nbytes for s in native._storages)
    assert plan.total == plan.arena + plan.states + plan.results + plan.constants


# ---- what is refused -----------------------------------------------------------------------------------------------------------------


def grows(**options: Any) -> Any:
    @gx.compile(**options)
    def f(x: Any) -> Any:
        wide = gx.reshape(x, (-1, 1)) * gx.reshape(x, (1, -1))
        return gx.sum(wide @ gx.tanh(wide))
    return f


def refused(call: Callable[[], Any]) -> GraphError:
    with pytest.raises(GraphError) as e:
        call()
    return e.value


@pytest.mark.parametrize("cached", [False, True])
def test_a_step_beyond_the_limit_is_refused_with_its_largest_buffers(cached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    if cached:
        monkeypatch.setenv("GRAPHC_CACHE", "1")
        grows()(X)                                      # the code is on disk, and the limit is not part of its key
    error = refused(lambda: grows(memory_limit=3000)(X))
    text = str(error)
    assert "f needs" in text
    assert "memory_limit is 3,000" in text
    assert "f32[35,35] of" in text
    assert "4,900" in text
    assert "test_memory.py" in str(error.at)
    needed = int(text.partition("needs ")[2].partition(" bytes")[0].replace(",", ""))
    assert f"memory_limit={needed}" in str(error.fix)
    assert np.isfinite(grows(memory_limit=needed)(X))
    refused(lambda: grows(memory_limit=needed - 1)(X))


def test_states_and_results_count() -> None:
    w = nn.Parameter(np.zeros(1000, np.float32))
    assert "state" in str(refused(lambda: gx.compile(lambda: w * 1, memory_limit=7999)()))
    gx.compile(lambda: w * 1, memory_limit=8000 + 4096)()


def test_a_step_beyond_the_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "machine_bytes", lambda: 3000)
    grows()(X)                                          # small steps are not held against it
    monkeypatch.setattr(limits, "SMALL", 3000)
    text = str(refused(lambda: grows()(X)))
    assert "this machine has 3,000" in text
    assert "memory_limit=" not in text
    assert "memory_limit is 2,999" in str(refused(lambda: grows(memory_limit=2999)(X)))


def test_a_step_of_a_terabyte_allocates_nothing() -> None:
    """Two matrices of a petabyte in all: refused, by words."""
    x = np.zeros(1 << 23, np.float32)
    error = refused(lambda: grows()(x))
    assert "this machine has" in str(error)
    assert "f32[8388608,8388608]" in str(error)


@pytest.mark.parametrize("limit", [0, -1, 1.5, "2G", True])
def test_a_limit_is_a_number_of_bytes(limit: Any) -> None:
    with pytest.raises(GraphError, match="memory_limit must be a number of bytes"):
        gx.compile(lambda x: x, memory_limit=limit)


def test_memory_of_a_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, own = tmp_path / "cgroup", tmp_path / "self"
    inner = root / "a" / "b"
    inner.mkdir(parents=True)
    assert cgroup.memory(root, own) is None             # no such file
    own.write_text("0::/a/b\n")
    assert cgroup.memory(root, own) is None
    (inner / "memory.max").write_text("max\n")
    assert cgroup.memory(root, own) is None
    (root / "a" / "memory.max").write_text("1000000\n")
    assert cgroup.memory(root, own) == 1000000
    (inner / "memory.max").write_text("2000000\n")
    assert cgroup.memory(root, own) == 1000000          # the group above grants less
    old = root / "memory" / "c"
    old.mkdir(parents=True)
    own.write_text("3:cpuset:/x\n2:memory:/c\n")
    (old / "memory.limit_in_bytes").write_text("12345\n")
    assert cgroup.memory(root, own) == 12345
    monkeypatch.setattr(cgroup, "memory", lambda: 777)
    limits.machine_bytes.cache_clear()
    assert limits.machine_bytes() == 777
    monkeypatch.setattr(cgroup, "memory", lambda: None)
    limits.machine_bytes.cache_clear()
    assert limits.machine_bytes() > 777
