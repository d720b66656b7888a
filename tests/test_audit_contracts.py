"""Contracts of a compiled call where two of them meet: copies of models, gradients over several functions, states that swap, traces that fail."""
from __future__ import annotations

import copy
import dataclasses
import gc
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim

RNG = np.random.default_rng(0)
X = RNG.standard_normal((5, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 5)
criterion = nn.CrossEntropyLoss()


@pytest.fixture(params=["numpy", "llvm"])
def compile_(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return lambda fn=None, **options: gx.compile(fn, backend=request.param, **options)


def fresh() -> nn.Module:
    gx.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def training(net: nn.Module, optimizer: optim.Optimizer) -> Callable[..., Any]:
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        return loss
    return step


def weights(net: nn.Module) -> list[np.ndarray]:
    return [p.numpy() for p in net.parameters()]


def agree(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


# ---- states that are each other's new value --------------------------------------------------------------------------------------------


def test_two_states_swap_and_are_returned(compile_: Any) -> None:
    a, b = gx.tensor([1.0, 2.0, 3.0]), gx.tensor([4.0, 5.0, 6.0])

    @compile_
    def swap() -> Any:
        old = a + 0
        a.copy_(b)
        b.copy_(old)
        return a, b
    for first, second in (([4, 5, 6], [1, 2, 3]), ([1, 2, 3], [4, 5, 6])):
        got = swap()
        np.testing.assert_array_equal(got, [first, second])
        np.testing.assert_array_equal([a.numpy(), b.numpy()], [first, second])


def test_a_state_becomes_its_transpose(compile_: Any) -> None:
    w, value = gx.tensor(np.arange(9.0).reshape(3, 3)), np.arange(9.0).reshape(3, 3)
    turn = compile_(lambda: w.copy_(w.T))
    for _ in range(2):
        value = value.T.copy()
        np.testing.assert_array_equal(turn(), value)
        np.testing.assert_array_equal(w.numpy(), value)


def test_a_weight_laid_out_by_one_function_is_reshaped_sorted_and_scanned_by_another(compile_: Any) -> None:
    net = fresh()
    compile_(training(net, optim.SGD(net.parameters(), lr=0.1)))(X, Y)           # fixes the order of the axes
    w = net[0].weight
    flat, rows, largest = compile_(lambda: (w.reshape(-1), gx.scan(lambda c, row: (c + row, c * row), gx.zeros(4), w)[1], gx.topk(w, 2)[0]))()
    value = w.numpy()
    np.testing.assert_array_equal(flat, value.ravel())
    np.testing.assert_allclose(rows, (np.cumsum(value, 0) - value) * value, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(largest, -np.sort(-value, 1)[:, :2])


# ---- gradients over several functions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, lr=0.1, momentum=0.9), lambda p: optim.Adam(p, lr=0.05)])
@pytest.mark.parametrize("both", [True, False])
def test_gradients_gathered_by_one_function_and_used_by_another(compile_: Any, make: Any, both: bool) -> None:
    def run(compiled: bool) -> list[np.ndarray]:
        net = fresh()
        optimizer = make(net.parameters())

        def gather(x: Any, y: Any) -> None:
            criterion(net(x), y).backward()

        def use() -> None:
            optimizer.step()
            optimizer.zero_grad()
        if compiled:
            gather, use = compile_(gather), compile_(use) if both else use
        for _ in range(3):
            for rows in (slice(0, 3), slice(2, 5)):
                gather(*((X[rows], Y[rows]) if compiled else (gx.asarray(X[rows]), gx.asarray(Y[rows]))))
            use()
        return weights(net)
    agree(run(True), run(False))


@pytest.mark.parametrize("of", ["module", "optimizer"])
def test_zero_grad_without_none(compile_: Any, of: str) -> None:
    def run(compiled: bool) -> tuple[list[np.ndarray], int]:
        net = fresh()
        optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.5)

        def step(x: Any, y: Any) -> Any:
            (net if of == "module" else optimizer).zero_grad(set_to_none=False)
            loss = criterion(net(x), y)
            loss.backward()
            optimizer.step()
            return loss
        f = compile_(step) if compiled else step
        for _ in range(4):
            f(*((X, Y) if compiled else (gx.asarray(X), gx.asarray(Y))))
        return weights(net), len(f.variants) if compiled else 0
    (a, variants), (b, _) = run(True), run(False)
    agree(a, b)
    assert variants == 2                                                 # .grad is None before the first call alone


def test_zero_grad_makes_an_infinite_gradient_zero() -> None:
    net = nn.Sequential(nn.Linear(2, 1))
    for who in (net, optim.SGD(net.parameters(), lr=0.1)):
        net[0].weight.grad = gx.tensor([[np.inf, np.nan]])
        who.zero_grad(set_to_none=False)
        np.testing.assert_array_equal(net[0].weight.grad.numpy(), [[0, 0]])
        assert net[0].bias.grad is None


# ---- copies of models ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("how", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copied_module_trains_on_its_own(compile_: Any, how: Any, used: bool) -> None:
    net = fresh()
    if used:                                                             # its weights lie in a layout of a compiled step by then
        compile_(training(net, optim.SGD(net.parameters(), lr=0.1)))(X, Y)
    other, before = how(net), weights(net)
    agree(before, weights(other))
    f = compile_(training(other, optim.SGD(other.parameters(), lr=0.1)))
    losses = [f(X, Y).item() for _ in range(3)]
    assert losses == sorted(losses, reverse=True)
    agree(before, weights(net))
    assert not np.allclose(before[0], weights(other)[0])
    assert f(X, Y).item() == pytest.approx(losses[-1], rel=0.5)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_keeps_ties_and_gradients(how: Any) -> None:
    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    b.weight = a.weight
    net = nn.Sequential(a, b)
    (net(gx.asarray(X)) ** 2).sum().backward()
    other = how(net)
    assert other[0].weight is other[1].weight
    np.testing.assert_array_equal(other[0].weight.grad.numpy(), a.weight.grad.numpy())
    assert other[0].weight.dtype is gx.float32
    t = how(gx.tensor([1.0, 2.0], requires_grad=True))
    assert t.requires_grad
    np.testing.assert_array_equal(t.numpy(), [1, 2])


@pytest.mark.parametrize("how", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copied_optimizer_goes_on_where_it_was(compile_: Any, how: Any) -> None:
    net = fresh()
    optimizer = optim.Adam([{"params": net[0].parameters(), "lr": 0.1}, {"params": net[2].parameters()}])
    step = compile_(training(net, optimizer))
    step(X, Y)
    other, copied = how((net, optimizer))
    assert copied.param_groups[0]["params"][0] is other[0].weight
    again = compile_(training(other, copied))
    for _ in range(2):
        step(X, Y)
        again(X, Y)
    agree(weights(net), weights(other))
    copied.param_groups[0]["lr"] = copied.param_groups[1]["lr"] = 0.0
    before = weights(other)
    again(X, Y)
    agree(before, weights(other))
    assert optimizer.param_groups[0]["lr"] == 0.1


# ---- arguments -----------------------------------------------------------------------------------------------------------------------


def test_a_dataclass_arrives_with_all_of_its_fields_and_is_not_made_anew(compile_: Any) -> None:
    @dataclasses.dataclass(frozen=True)
    class Batch:
        x: Any
        k: Any = dataclasses.field(init=False, default=5.0)
        made: list[int] = dataclasses.field(default_factory=list, repr=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "x", self.x * 10)
    batch = Batch(X)
    object.__setattr__(batch, "k", 2.0)
    out = compile_(lambda b: dataclasses.replace(b) and b)(batch)
    assert isinstance(out, Batch)
    np.testing.assert_allclose(out.x, X * 10)
    np.testing.assert_allclose(compile_(lambda b: b.x * b.k)(batch), X * 20, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "uint64"])
def test_labels_of_any_integer_type(compile_: Any, dtype: str) -> None:
    want = criterion(gx.asarray(X), gx.asarray(Y)).item()
    f = compile_(lambda x, y: criterion(x, y))
    assert f(X, Y.astype(dtype)).item() == pytest.approx(want, rel=1e-6)
    bad = Y.astype(dtype)
    bad[1] = 101
    with pytest.raises(gx.GraphIndexError):
        f(X, bad)


# ---- failures ------------------------------------------------------------------------------------------------------------------------


def test_a_failing_trace_undoes_structure_too(compile_: Any) -> None:
    net, k = fresh(), []

    def step(x: Any) -> Any:
        net.eval()
        net.requires_grad_(False)
        handle = net[0].bias.requires_grad_().register_hook(lambda g: g)
        k.append(handle)
        raise ValueError("the user's own")
    with pytest.raises(ValueError, match="the user's own"):
        compile_(step)(X)
    assert net.training
    assert net[0].training
    assert all(p.requires_grad for p in net.parameters())
    assert not net[0].bias._hooks


def test_an_interrupted_compilation_leaves_no_lock_and_no_change(compile_: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphc import executable
    net = fresh()
    step, before = compile_(training(net, optim.Adam(net.parameters(), lr=0.1))), weights(net)

    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(executable, "compile_graph", interrupted)
        with pytest.raises(KeyboardInterrupt):
            step(X, Y)
    agree(before, weights(net))
    assert all(p.grad is None for p in net.parameters())
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(step(X, Y)))     # another thread: a lock that is held would be held against it
    thread.start()
    thread.join(30)
    assert got


def test_an_interrupt_among_the_writes_of_the_numpy_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphc.trace.storage import Storage
    states = [gx.zeros(3) for _ in range(4)]

    @gx.compile(backend="numpy")
    def step() -> None:
        for s in states:
            s.add_(1.0)
    step()
    original, writes = Storage.assign, []

    def assign(self: Storage, value: Any) -> None:
        writes.append(1)
        if len(writes) == 3:
            raise KeyboardInterrupt
        original(self, value)
    with monkeypatch.context() as m:
        m.setattr(Storage, "assign", assign)
        with pytest.raises(KeyboardInterrupt):
            step()
    np.testing.assert_array_equal([s.numpy() for s in states], np.full((4, 3), 2.0))


@pytest.mark.parametrize("options", [{"keep_grads": "no"}, {"flush_denormals": 0}, {"check_passes": None}, {"passes": "cse"}, {"passes": (1,)}])
def test_options_of_a_wrong_kind(options: dict[str, Any]) -> None:
    with pytest.raises(gx.GraphError, match=next(iter(options)) + " must be"):
        gx.compile(lambda x: x, **options)


# ---- what is dropped is freed ----------------------------------------------------------------------------------------------------------


def test_a_dropped_step_is_freed_with_its_model(compile_: Any) -> None:
    net = fresh()
    step = compile_(training(net, optim.Adam(net.parameters(), lr=0.1)))
    step(X, Y)
    alive = [weakref.ref(x) for x in (step, net, step.variants[0], next(iter(step.variants[0].executables.values())))]
    del step, net
    gc.collect()
    assert [r() for r in alive] == [None] * 4


# ---- the same everywhere -----------------------------------------------------------------------------------------------------------------

PROGRAM = """
import hashlib, numpy as np, graphc as gx
from graphc import nn, optim
gx.manual_seed(0)
net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
optimizer = optim.AdamW([{"params": net[2].parameters(), "lr": 0.01}, {"params": net[0].parameters()}])
@gx.compile
def step(x, y):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return {"loss": loss, "first": net(x)[0]}
x, y = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32), np.array([0, 1, 2, 2, 1, 0])
for _ in range(5):
    out = step(x, y)
text = [step.lowered.text(stage) for stage in ("graph", "optimized", "loops", "llvm")]
text += [p.numpy().tobytes().hex() for p in net.parameters()] + [out["first"].tobytes().hex(), str(step.lowered.memory_plan())]
print(*(hashlib.sha256(t.encode()).hexdigest()[:16] for t in text))
"""


def test_texts_and_bits_are_the_same_in_every_process() -> None:
    root = str(Path(gx.__file__).parent.parent)
    seen = {subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=root,
                           env={**os.environ, "PYTHONHASHSEED": seed}).stdout for seed in ("0", "1", "2", "3")}
    assert len(seen) == 1
    assert len(seen.pop().split()) == 10


def test_the_passes_are_checked_where_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphc.transform import pipeline
    checked: list[str] = []
    original = pipeline.check
    monkeypatch.setattr(pipeline, "check", lambda name, *args, **kw: (checked.append(name), original(name, *args, **kw))[1])
    for value, expected in (("0", False), ("1", True)):
        monkeypatch.setenv("GRAPHC_CHECK", value)
        net = fresh()
        step = gx.compile(training(net, optim.Adam(net.parameters(), lr=0.1)))
        assert np.isfinite(step(X, Y))
        assert bool(checked) is expected
    assert "cse" in checked
