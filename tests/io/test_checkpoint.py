"""gx.save and gx.load: what comes back, that a continued run is the same to the last bit, and that what does not fit changes nothing."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.io import formats

from .model import Run, X, Y

pytest.importorskip("safetensors")
SUFFIXES = ["safetensors", "npz"]


@pytest.fixture(params=SUFFIXES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"model.{request.param}"


# ---- what comes back -----------------------------------------------------------------------------------------------------------------


def test_round_trip(path: Path) -> None:
    run = Run()
    run.train(3)
    assert gx.save(path, **run.parts, step=3, note={"a": [1, 2.5, None, True]}, best=np.float32(0.5), x=X[:2], t=gx.asarray([1, 2])) == path
    found = gx.load(path)
    assert found.step == 3
    assert found.version == gx.__version__
    assert [*found.module] == ["0.weight", "0.bias", "3.weight", "3.bias"]
    for k, a in run.net.state_dict().items():
        assert np.array_equal(found.module[k], a)
        assert found.module[k].dtype == a.dtype
    assert found.extra["note"] == {"a": [1, 2.5, None, True]}
    assert found.extra["best"] == 0.5
    assert np.array_equal(found.extra["x"], X[:2])
    assert found.extra["t"].tolist() == [1, 2]
    assert found.extra["loader"] == run.loader.state_dict()
    assert found.optimizer is not None
    assert found.optimizer["param_groups"] == run.optimizer.state_dict()["param_groups"]
    assert "optimizer" in repr(found)
    assert "step 3" in repr(found)


def test_shapes_that_are_often_forgotten(path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scalar, self.empty = nn.Parameter(np.float64(2.5)), nn.Parameter(np.zeros((0, 3), np.float32))
            self.register_buffer("count", np.array([2**63 - 1, -1]))
            self.register_buffer("mask", np.array([True, False]))
            self.register_buffer("scratch", np.zeros(2), persistent=False)

    gx.save(path, module=Odd())
    other = Odd()
    other.load_state_dict({"scalar": np.float64(0), "empty": np.zeros((0, 3), np.float32), "count": np.zeros(2, np.int64), "mask": np.zeros(2, bool)})
    gx.load(path, module=other)
    assert other.scalar.item() == 2.5
    assert other.count.tolist() == [2**63 - 1, -1]
    assert other.mask.tolist() == [True, False]
    assert sorted(gx.load(path).module) == ["count", "empty", "mask", "scalar"]


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("cut", [0, 1, 6, 7, 8, 15])
def test_a_continued_run_is_the_same_to_the_last_bit(cut: int, prefetch: int, tmp_path: Path) -> None:
    path = tmp_path / f"model.{SUFFIXES[cut % 2]}"
    whole = Run()
    losses, state = whole.train(18), whole.snapshot()   # now, for all runs share the default generator
    first = Run(prefetch=prefetch)
    before = first.train(cut)
    gx.save(path, **first.parts, step=cut)
    second = Run(seed=99, prefetch=prefetch)
    second.steps = gx.load(path, **second.parts).step or 0
    assert before + second.train(18) == losses
    assert second.snapshot() == state


def test_a_run_goes_on_in_another_process(path: Path) -> None:
    whole = Run()
    whole.train(10)
    state = whole.snapshot()
    first = Run()
    first.train(4)
    gx.save(path, **first.parts)
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import graphc as gx
from model import Run
run = Run(seed=5)
gx.load({str(path)!r}, **run.parts)
run.train(6)
gx.save({str(path)!r}, **run.parts)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(gx.__file__).parent.parent, timeout=100)
    last = Run(seed=77)
    gx.load(path, **last.parts)
    assert last.snapshot() == state


def test_loading_into_a_compiled_step_that_has_run(path: Path) -> None:
    run = Run()
    run.train(2)
    gx.save(path, **run.parts)
    losses = []
    for _ in range(3):
        gx.load(path, **run.parts)
        run.steps = 2
        losses.append(run.train(8))
    assert losses[0] == losses[1] == losses[2]
    assert len(run.step.variants) == 2                  # the full batches, and the short one


class Halves(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.w = nn.Parameter(gx.full((3, 4), value))
        self.register_buffer("narrow", gx.full((3,), value, dtype=gx.float16))
        self.register_buffer("short", gx.full((2, 3), value, dtype=gx.bfloat16))
        self.register_buffer("one", gx.full((), value, dtype=gx.bfloat16))


def test_f16_and_bf16(tmp_path: Path) -> None:
    """Under safetensors' own names for them, whatever lies before and behind."""
    there, here = Halves(1.5), Halves(0.0)
    path = gx.save(tmp_path / "h.safetensors", module=there, best=gx.tensor([2.5], dtype=gx.bfloat16), x=np.arange(3))
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    assert length % 8 == 0
    assert {k: v["dtype"] for k, v in header.items() if k != "__metadata__"} == {
        "w": "F32", "narrow": "F16", "short": "BF16", "one": "BF16", "@extra.best": "BF16", "@extra.x": "I64"}
    found = gx.load(path, module=here)
    for t, u in ((here.narrow, there.narrow), (here.short, there.short), (here.one, there.one)):
        assert (t.dtype, t.tolist()) == (u.dtype, u.tolist())
    assert gx.tensor(found.extra["best"]).tolist() == [2.5]
    assert found.extra["x"].tolist() == [0, 1, 2]
    wide = Halves(0.0)
    wide.register_buffer("short", gx.zeros((2, 3)))
    with pytest.raises(gx.GraphError, match="does not fit") as e:
        gx.load(path, module=wide)
    assert "short is bf16[2,3] there and f32[2,3] here" in str(e.value.why)
    wide.load_state_dict(found.module)                  # which casts
    assert wide.short.tolist() == there.short.tolist()


def test_bf16_is_not_for_npz(tmp_path: Path) -> None:
    path = tmp_path / "h.npz"
    with pytest.raises(gx.GraphError, match=r"h.npz cannot hold 'short', which is bf16") as e:
        gx.save(path, module=Halves(1.5))
    assert "safetensors" in str(e.value.fix)
    assert not path.exists()
    gx.save(path, h=np.float16([1.5]))
    assert gx.load(path).extra["h"].dtype == np.float16


def test_damaged_bf16(tmp_path: Path) -> None:
    path = gx.save(tmp_path / "h.safetensors", module=Halves(1.5))
    data = path.read_bytes()
    for k in range(0, len(data), 7):
        for broken in (data[:k], data[:k] + bytes([data[k] ^ 0x15]) + data[k + 1:]):
            path.write_bytes(broken)
            here = Halves(0.0)
            try:
                gx.load(path, module=here)
            except gx.GraphError:
                assert here.one.item() == here.w.numpy().sum() == 0
            else:                                       # only padding was hit
                assert here.short.tolist() == [[1.5] * 3] * 2


def test_momentum_of_sgd(path: Path) -> None:
    def make() -> tuple[Any, Any, Any]:
        gx.manual_seed(1)
        net = nn.Linear(5, 2)
        optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9, dampening=0.5)

        @gx.compile
        def step() -> Any:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(X), Y)
            loss.backward()
            optimizer.step()
            return loss
        return net, optimizer, step

    net, optimizer, step = make()
    step()
    gx.save(path, module=net, optimizer=optimizer)
    want = [step() for _ in range(3)]
    net, optimizer, step = make()
    gx.load(path, module=net, optimizer=optimizer)
    assert [step() for _ in range(3)] == want


def test_a_model_is_a_plain_safetensors_file(tmp_path: Path) -> None:
    import safetensors.numpy

    net = nn.Linear(3, 2)
    gx.save(tmp_path / "a.safetensors", module=net)
    assert sorted(safetensors.numpy.load_file(tmp_path / "a.safetensors")) == ["bias", "weight"]
    safetensors.numpy.save_file({"weight": np.full((2, 3), 7, np.float32), "bias": np.zeros(2, np.float32)}, tmp_path / "b.safetensors")
    found = gx.load(tmp_path / "b.safetensors", module=net)
    assert found.version is None
    assert net.weight.tolist() == [[7] * 3] * 2
    np.savez(tmp_path / "c.npz", weight=np.full((2, 3), 8, np.float32), bias=np.zeros(2, np.float32))
    gx.load(tmp_path / "c.npz", module=net)
    assert net.weight.tolist() == [[8] * 3] * 2


# ---- what does not fit ---------------------------------------------------------------------------------------------------------------


def test_every_difference_is_told_and_nothing_is_loaded(path: Path) -> None:
    run = Run()
    run.train(2)
    gx.save(path, **run.parts)
    other = Run(seed=1)
    other.net.add_module("4", nn.Linear(2, 2))
    other.net.add_module("0", nn.Linear(6, 7))
    other.net.add_module("3", nn.Linear(7, 2).double())
    other.optimizer = optim.SGD(other.net.parameters(), momentum=0.9)
    before = other.snapshot()
    with pytest.raises(gx.GraphError, match="differences, nothing was loaded") as e:
        gx.load(path, **other.parts)
    for words in ("4.weight is missing", "4.bias is missing", "0.weight is f32[7,5] there and f32[7,6] here", "3.bias is f32[2] there and f64[2] here",
                  "the optimizer's groups have [4] parameters there and [6] here"):
        assert words in str(e.value)
    assert other.snapshot() == before


def test_another_optimizer_is_refused(path: Path) -> None:
    run = Run()
    run.train(2)
    gx.save(path, optimizer=run.optimizer)
    for other, words in ((optim.SGD(run.net.parameters()), "exp_avg of 0.weight is no slot of SGD"),
                         (optim.SGD(run.net.parameters()), "betas is left over"),
                         (optim.Adam(nn.Linear(3, 2).parameters()), "groups have [4] parameters there and [2] here"),
                         (optim.Adam([{"params": [p]} for p in run.net.parameters()]), "groups have [4] parameters there and [1, 1, 1, 1] here")):
        with pytest.raises(gx.GraphError) as e:
            gx.load(path, optimizer=other)
        assert words in str(e.value)
        assert other.state_dict()["state"] == {}


def test_what_is_not_there_is_missed(path: Path) -> None:
    run, other = Run(), nn.Linear(5, 2)
    before = run.snapshot()
    gx.save(path, module=other, step=1)
    with pytest.raises(gx.GraphError) as e:
        gx.load(path, **run.parts)
    for words in ("0.weight is missing", "weight is left over", "there is no optimizer", "there is no generator", "there is no loader"):
        assert words in str(e.value)
    gx.save(path, **{**run.parts, "loader": {"epoch": 0}})
    with pytest.raises(gx.GraphError, match="1 difference, ") as e:
        gx.load(path, **run.parts)
    assert "loader: this is no position of a DataLoader" in str(e.value)
    assert run.snapshot() == before


def test_not_strict_takes_what_fits(path: Path) -> None:
    gx.save(path, module=nn.Sequential(nn.Linear(3, 2)))
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    gx.load(path, module=net, strict=False)
    assert net.state_dict()["0.weight"].tolist() == gx.load(path).module["0.weight"].tolist()


@pytest.mark.parametrize(("make", "words"), [
    (lambda p: gx.save(p.with_suffix(".pt"), module=nn.Linear(3, 2)), "'model.pt' does not say its format"),
    (lambda p: gx.load(p.with_suffix("")), "the suffix is ''"),
    (lambda p: gx.save(p, module=[1]), "module= takes a Module, got list"),
    (lambda p: gx.save(p, optimizer=nn.Linear(3, 2)), "optimizer= takes a Optimizer, got Linear"),
    (lambda p: gx.save(p, step=-1), "step is a whole number >= 0, got -1"),
    (lambda p: gx.save(p, step=1.5), "got 1.5"),
    (lambda p: gx.save(p, thing=object()), "thing is a object"),
    (lambda p: gx.save(p, thing={"a": [{1: 2}]}), "has the key 1"),
    (lambda p: gx.save(p, thing=np.array([1j])), "thing is an array of complex128"),
    (lambda p: gx.load(p, thing=3), "thing is a int, which has no load_state_dict"),
])
def test_misuse(make: Any, words: str, path: Path) -> None:
    gx.save(path, step=1)
    with pytest.raises(gx.GraphError) as e:
        make(path)
    assert words in str(e.value)
    assert gx.load(path).step == 1


def test_not_inside_a_compiled_function(path: Path) -> None:
    net = nn.Linear(3, 2)
    gx.save(path, module=net)

    @gx.compile
    def step(x: Any) -> Any:
        gx.load(path, module=net)
        return net(x)

    with pytest.raises(gx.GraphError, match=r"gx\.load is called inside a compiled function"):
        step(np.ones((2, 3), np.float32))


# ---- damage and hostility ------------------------------------------------------------------------------------------------------------


def reseal(path: Path, **changes: Any) -> None:
    """The file with another note, its checksums right."""
    arrays, note = formats.read(path)
    assert note is not None
    note.update(changes)
    note.pop("crc32")
    formats.write(path, arrays, note)


PARAM_GROUP = {"lr": 0.03, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 1e-3, "amsgrad": False, "maximize": False, "params": [0, 1, 2, 3]}


def told(**group: Any) -> dict[str, Any]:
    """A note's optimizer, with one group."""
    return {"name": "Adam", "param_groups": [{**PARAM_GROUP, **group}], "slots": {}}


@pytest.mark.parametrize(("changes", "words"), [
    ({"format": 2}, "has the format 2, this graphc reads 1"), ({"format": None}, "has the format None"), ({"version": 3}, "is damaged"),
    ({"step": -1}, "is damaged"), ({"step": True}, "is damaged"), ({"step": 1.5}, "is damaged"), ({"extra": []}, "is damaged"),
    ({"optimizer": None}, "its optimizer is not"), ({"optimizer": {}}, "its optimizer is not"),
    ({"optimizer": {**told(), "param_groups": [1]}}, "parameter groups"), ({"optimizer": told(params=[0, 2])}, "parameter groups"),
    ({"optimizer": told(params="abc")}, "parameter groups"), ({"optimizer": {**told(), "slots": {"9": ["step"]}}}, "the slots of its optimizer"),
    ({"optimizer": {**told(), "slots": {"0": "step"}}}, "the slots"), ({"optimizer": {**told(), "slots": {"0": ["new"]}}}, "slots of parameter 0 are missing"),
    ({"optimizer": told()}, "nobody knows what @optimizer.0."),
])
def test_a_note_that_is_not_graphc_s(changes: dict[str, Any], words: str, path: Path) -> None:
    run = Run()
    run.train(1)
    gx.save(path, **run.parts)
    reseal(path, **changes)
    before = run.snapshot()
    with pytest.raises(gx.GraphError) as e:
        gx.load(path, **run.parts)
    assert words in str(e.value)
    assert run.snapshot() == before


@pytest.mark.parametrize(("group", "words"), [
    ({"lr": -1.0}, "lr must be a number >= 0"), ({"lr": "1"}, "lr of param_groups is 1 there"), ({"lr": None}, "lr of"), ({"lr": float("nan")}, "lr must be"),
    ({"lr": 10**400}, "lr of"), ({"lr": True}, "lr of"), ({"betas": [0.9]}, "betas of"),
    ({"betas": [0.9, 1.0]}, "betas[1] must be"), ({"betas": 1}, "betas of"),
    ({"amsgrad": 0}, "amsgrad of"), ({"new": 1}, "new is left over"), ({"params": [0, 1]}, "[2] parameters there and [4] here"),
])
def test_settings_are_compared_before_they_are_taken(group: dict[str, Any], words: str, path: Path) -> None:
    run = Run()
    gx.save(path, **run.parts)
    reseal(path, optimizer=told(**group))
    before = run.snapshot()
    with pytest.raises(gx.GraphError) as e:
        gx.load(path, **run.parts)
    assert words in str(e.value)
    assert run.snapshot() == before


@pytest.mark.parametrize(("name", "value", "words"), [
    ("@optimizer.0.step", np.float32(1.5), "step count of 0.weight is no whole number"),
    ("@optimizer.0.step", np.float32("nan"), "no whole number"), ("@optimizer.0.step", np.zeros(2, np.float32), "no whole number"),
    ("@optimizer.0.exp_avg", np.zeros((5, 7), np.float32), "exp_avg of 0.weight is f32[5,7] there and f32[7,5] here"),
    ("@optimizer.0.exp_avg", np.zeros((7, 5)), "exp_avg of 0.weight is f64[7,5] there"),
    ("@generator.key", np.zeros(3, np.uint32), "generator is not"), ("@generator.counter", np.zeros((), np.int64), "generator is not"),
    ("@strange", np.zeros(1), "nobody knows what @strange is"), ("0.weight", np.zeros((7, 5)), "0.weight is f64[7,5] there and f32[7,5] here"),
])
def test_arrays_are_compared_before_they_are_taken(name: str, value: np.ndarray, words: str, path: Path) -> None:
    run = Run()
    run.train(1)
    gx.save(path, **run.parts)
    arrays, note = formats.read(path)
    assert note is not None
    note.pop("crc32")
    formats.write(path, {**arrays, name: value}, note)
    before = run.snapshot()
    with pytest.raises(gx.GraphError) as e:
        gx.load(path, **run.parts)
    assert words in str(e.value)
    assert run.snapshot() == before


# ---- what is imported ----------------------------------------------------------------------------------------------------------------


def test_without_safetensors_one_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gx.save(tmp_path / "a.safetensors", step=1)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for call in (lambda: gx.save(tmp_path / "a.safetensors", step=2), lambda: gx.load(tmp_path / "a.safetensors")):
        with pytest.raises(ImportError, match=r'pip install "graphc\[io\]"\. A path that ends in \.npz needs nothing'):
            call()
    gx.save(tmp_path / "a.npz", step=2)
    assert gx.load(tmp_path / "a.npz").step == 2


def test_importing_graphc_imports_none_of_this() -> None:
    code = """
import json, sys
import graphc
print(json.dumps(sorted(m for m in sys.modules if m.split(".")[0] in ("safetensors", "tqdm", "zipfile", "csv") or m.startswith(("graphc.io", "graphc.cli")))))
"""
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=Path(gx.__file__).parent.parent, timeout=60).stdout
    assert [m for m in json.loads(out) if m != "zipfile"] == []
