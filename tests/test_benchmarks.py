"""The benchmarks run and judge: a small comparison from end to end, what becomes of a peer that fails or is wrong, and the page that is made of the figures."""
from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "benchmarks"))               # as its commands have it

import peers as contenders  # noqa: E402
import workloads  # noqa: E402
from peers import Contender  # noqa: E402
from rig import chart, compare, machine, report  # noqa: E402
from workloads.base import Pullback, Training  # noqa: E402


def fresh(us: float, **more: Any) -> dict[str, Any]:
    return {"status": "ok", "us": us, "low": us, "high": us, "best": us, "slices": 3, "disturbed": 0, "cold_s": None, "warm_s": None, "peak_mb": None,
            "error": 0.} | more


def record(**us: dict[str, float]) -> dict[str, Any]:
    return {"rows": {w: {"1": {"floor_us": 1., "contenders": {n.replace("_", " "): fresh(t) for n, t in row.items()}}} for w, row in us.items()}}


def test_small_run(tmp_path: Path) -> None:
    out, picture = tmp_path / "out.json", tmp_path / "out.svg"
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--workloads", "W3", "--threads", "1", "--peers", "numpy", "jax jit",
               "--rounds", "1", "--slice", ".01", "--starts", "0", "--patience", "1", "--json", str(out), "--chart", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    row = json.loads(out.read_text())["rows"]["W3"]["1"]["contenders"]
    assert list(row) == ["graphc", "jax jit", "numpy"]
    for n in ("graphc", "numpy"):
        assert row[n]["status"] == "ok"
        assert row[n]["us"] > 0
        assert row[n]["error"] < 1e-4
    assert "jax jit" in done.stdout
    ET.parse(picture)


SMALL = {"W1": {"batch": 5, "sizes": (7, 4, 3)}, "W3": {}, "W8": {}, "W11": {"rows": 50, "columns": 3}}


@pytest.mark.parametrize("name", SMALL)
def test_gradients_by_hand(name: str) -> None:
    """The reference is itself compared: its gradients with differences of its loss."""
    w = replace(workloads.WORKLOADS[name], **SMALL[name])
    if not isinstance(w, Training):
        assert w.reference()[0].shape == (1, 10)
        return
    rng = np.random.default_rng(3)
    p = {k: v + .3 * rng.standard_normal(v.shape) for k, v in w.params().items()}
    batch = tuple(a.astype(np.float64) if a.dtype.kind == "f" else a for a in w.batches()[0])
    _, grads = w.by_hand(p, *batch)
    for k in p:
        d = rng.standard_normal(p[k].shape)
        up, down = (w.by_hand(p | {k: p[k] + s * 1e-6 * d}, *batch)[0] for s in (1, -1))
        assert (up - down) / 2e-6 == pytest.approx(np.sum(grads[k] * d), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", ["W7", "W7s", "W10a", "W10b"])
def test_pullbacks_by_hand(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    w = workloads.WORKLOADS[name]
    assert isinstance(w, Pullback)
    monkeypatch.setattr(type(w), *(("n", 11) if "W7" in name else ("shape", (3, 5))))
    g, *args = (a.astype(np.float64) for a in (w.cotangent(), *w.args()))
    _, grads = w.by_hand(g, *args)
    for k, got in zip(w.wrt, grads, strict=True):
        d = np.random.default_rng(k).standard_normal(args[k].shape)
        up, down = (np.sum(g * w.by_hand(g, *args[:k], args[k] + s * 1e-6 * d, *args[k + 1:])[0]) for s in (1, -1))
        assert (up - down) / 2e-6 == pytest.approx(np.sum(got * d), rel=1e-5, abs=1e-7)


BROKEN = '''
from peers.base import Step
from peers.numpy_ import NumPy
class Liar(NumPy):
    def train(self, w):
        step = super().train(w)
        return Step(lambda: step.call() * 1.01)
class Dead(NumPy):
    def train(self, w):
        raise ValueError("no such thing here")
class Later(NumPy):
    def train(self, w):
        step, left = super().train(w), iter(range(10))
        def call():
            if next(left, None) is None:
                raise ValueError("tired")
            return step.call()
        return Step(call)
'''


def test_who_fails_or_is_wrong_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its row; and the others are timed all the same."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys, types\nsys.path.insert(0, {str(ROOT / 'benchmarks')!r})\nimport peers\n"
        "for name in ('Liar', 'Dead', 'Later'):\n    peers.CONTENDERS[name] = peers.Contender(name, f'broken_.{name}', ('numpy',), peers.STEPS)\n"
        f"peers.__path__.append({str(tmp_path)!r})\n")
    (tmp_path / "broken_.py").write_text(BROKEN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    able = {n: (Contender(n, f"broken_.{n}", ("numpy",), contenders.STEPS), sys.executable) for n in ("Liar", "Dead", "Later")}
    able |= {"numpy": (contenders.CONTENDERS["numpy"], sys.executable), "jax jit": (contenders.CONTENDERS["jax jit"], None)}
    said: list[str] = []
    rows = compare.compare("W3", 1, able, compare.Method(rounds=2, slice=.01, starts=0, patience=1), said.append)
    assert {n: r["status"] for n, r in rows.items()} == {"Liar": "wrong", "Dead": "failed", "Later": "failed", "numpy": "ok", "jax jit": "not installed"}
    assert "ValueError: no such thing here" in rows["Dead"]["words"]
    assert "tired" in rows["Later"]["words"]
    assert "off the reference" in rows["Liar"]["words"]


def test_the_bar_is_over_the_best_of_the_row() -> None:
    """A scan stands beside the row, and has a bar of its own where the workload names it."""
    r = record(W3={"graphc": 10., "jax_jit": 80., "numpy": 60., "jax_scan": 12.}, W1={"graphc": 50., "jax_jit": 100., "jax_scan": 60.})
    got = [(v.workload, v.peer, round(v.ratio, 3), v.bar, v.met) for v in report.verdicts(r)]
    assert got == [("W1", "jax jit", .5, .68, True), ("W3", "numpy", .167, .2, True), ("W3", "jax scan", .833, .6, False)]
    assert "missed" in report.summary(r)
    assert "60 µs" in report.one_row("W3", 1, r["rows"]["W3"]["1"])
    assert ET.fromstring(chart.svg(r)).tag.endswith("svg")


def test_other_bars() -> None:
    r = record(W1={"graphc": 50., "jax_jit": 100.})
    w1 = r["rows"]["W1"]["1"]["contenders"]
    w1["graphc"] |= {"cold_s": .2, "warm_s": .1, "peak_mb": 100.}
    w1["jax jit"] |= {"cold_s": .25, "warm_s": .1, "peak_mb": 200.}
    r["depth"] = {"4": {"llvm_s": .1, "python_s": .1, "nodes": 100}, "48": {"llvm_s": .12, "python_s": .19, "nodes": 1000}}
    got = [(round(p.figure, 6), p.met) for p in report.promises(r)]
    assert got == [(.2, True), (.1, False), (.8, False), (100, True), (1.2, True), (100, False)]


def test_floor() -> None:
    """W1 is bound by its FLOPs, the chain by its bytes."""
    roof = {"gflops": 100., "read": dict.fromkeys(machine.SIZES, 10.), "triad": dict.fromkeys(machine.SIZES, 20.)}
    assert machine.floor(workloads.WORKLOADS["W1"], roof) == pytest.approx((2 * 64 * 784 * 128 * 2 + 3 * 2 * 64 * 128 * 10) / 100e9 * 1e6)
    assert machine.floor(workloads.WORKLOADS["W7"], roof) == pytest.approx(200e6 / 20e9 * 1e6)


def test_page(docs_script: Callable[[str], ModuleType]) -> None:
    """docs/benchmarks.md and its chart are what the script makes of the record."""
    make = docs_script("make_benchmarks")
    kept = json.loads((ROOT / "docs" / "benchmarks.json").read_text(encoding="utf-8"))
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == make.page(kept)
    assert (ROOT / "docs" / "benchmarks.svg").read_text(encoding="utf-8") == chart.svg(kept)
