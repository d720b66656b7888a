"""The short way of a call: it is taken for plain calls, notices what the long way notices, and `bind` goes it without arguments."""
from __future__ import annotations

import collections
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import driver, nn, optim
from graphc.core.errors import GraphError, GraphIndexError, GraphTypeError
from graphc.llvm import entry, guard

Array = np.ndarray[Any, Any]
X = np.arange(12, dtype=np.float32).reshape(3, 4) / 7

offset = 1.0                                            # a global that functions below read


@pytest.fixture
def only_short(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called, a call that goes the long way fails."""
    def refuse(*_: Any) -> None:
        raise AssertionError("the long way")

    def begin() -> None:
        monkeypatch.setattr(driver.arguments, "take_apart", refuse)
    return begin


class Net:
    """A model, an optimizer and their step, in two copies: compiled, and run by the oracle."""

    def __init__(self, backend: Any, make: Callable[[Any], optim.Optimizer] = lambda ps: optim.Adam(ps, lr=0.1), **options: Any) -> None:
        gx.manual_seed(0)
        self.net = nn.Linear(4, 2)
        self.optimizer = make(self.net.parameters())

        @gx.compile(backend=backend, **options)
        def step(x: Any) -> Any:
            self.optimizer.zero_grad()
            loss = gx.mean(self.net(x) ** 2)
            loss.backward()
            self.optimizer.step()
            return loss
        self.step = step

    def values(self) -> list[Array]:
        return [p.numpy() for p in self.net.parameters()]


@pytest.fixture
def pair() -> tuple[Net, Net]:
    return Net("llvm"), Net("numpy")


def agree(a: Net, b: Net) -> None:
    for x, y in zip(a.values(), b.values(), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5)


# ---- it is taken -----------------------------------------------------------------------------------------------------------------


def test_a_second_call_goes_the_short_way(only_short: Any) -> None:
    f = gx.compile(lambda x, n, flag, nothing, y: gx.sum(x * n + y) if flag == "yes" else x)
    y = np.ones(4, np.float32)
    first = f(X, 2.0, "yes", None, y)
    only_short()
    assert f(X, 2.0, "yes", None, y) == first == f(X.copy(), 2.0, "yes", None, y.copy())
    np.testing.assert_allclose(f(X + 1, 3.0, "yes", None, y), np.sum((X + 1) * 3 + y), rtol=1e-6)
    with pytest.raises(AssertionError, match="the long way"):
        f(X, 2.0, "no", None, y)


def test_a_training_step_goes_the_short_way(pair: tuple[Net, Net], only_short: Any) -> None:
    fast, slow = pair
    for _ in range(3):
        slow.step(X)
    fast.step(X)
    only_short()
    fast.step(X)
    fast.step(X)
    agree(fast, slow)


@pytest.mark.parametrize("give", [lambda x, y: {"a": x, "b": [y, 3]}, lambda x, y: (x, y), lambda x, y: y], ids=["tree", "pair", "array"])
def test_results_of_every_form(give: Any, only_short: Any) -> None:
    f = gx.compile(lambda x: give(gx.sum(x), x * 2))
    first = f(X)
    only_short()
    second = f(X)
    assert repr(first) == repr(second)
    again = f(X + 1)
    assert repr(first) == repr(second) != repr(again)      # none of them was written again


# ---- what it notices --------------------------------------------------------------------------------------------------------------


def test_numbers_of_param_groups_are_read_at_every_call(pair: tuple[Net, Net]) -> None:
    changes: list[Callable[[Any], Any]] = [
        lambda g: None, lambda g: None, lambda g: g.__setitem__("lr", 0.5), lambda g: g.update(lr=0.25), lambda g: dict.__setitem__(g, "lr", 0.3),
        lambda g: g.__setitem__("betas", (0.5, 0.75)), lambda g: g.__setitem__("lr", 1), lambda g: g.__setitem__("lr", np.float64(0.1)),
        lambda g: g.__setitem__("lr", gx.tensor(0.2)), lambda g: g.__setitem__("lr", 0.1)]
    for change in changes:
        for side in pair:
            change(side.optimizer.param_groups[0])
            side.step(X)
        agree(*pair)


@pytest.mark.parametrize(("value", "error"), [("fast", GraphTypeError), (None, GraphTypeError), (True, GraphTypeError)])
def test_a_setting_that_is_no_number_is_an_error_and_the_next_call_works(pair: tuple[Net, Net], value: Any, error: type[Exception]) -> None:
    for side in pair:
        side.step(X)
        side.step(X)
        dict.__setitem__(side.optimizer.param_groups[0], "lr", value)
        with pytest.raises(error, match="number"):
            side.step(X)
        side.optimizer.param_groups[0]["lr"] = 0.1
        side.step(X)
    agree(*pair)


def test_a_setting_that_is_gone_is_an_error() -> None:
    net = Net("llvm")
    net.step(X)
    net.step(X)
    dict.pop(net.optimizer.param_groups[0], "eps")
    with pytest.raises(KeyError):
        net.step(X)


def test_run_time_scalars_are_read_at_every_call(only_short: Any) -> None:
    s, k = gx.scalar(0.5), gx.scalar(3)
    f = gx.compile(lambda x: x * s + k)
    f(X)
    only_short()
    for a, b in ((0.5, 3), (2, 4), (-1.5, -2)):
        s.value, k.value = a, b
        np.testing.assert_allclose(f(X), X * np.float32(a) + b)


def test_rebound_names_are_noticed() -> None:
    global offset
    offset, factor = 1.0, 2.0

    def f(x: Any) -> Any:
        return x * factor + offset
    g = gx.compile(f)
    for a, b in ((2.0, 1.0), (2.0, 1.0), (3.0, 1.0), (3.0, 1.0), (3.0, 5.0), (3.0, 5.0), (2.0, 1.0)):
        factor, offset = a, b
        np.testing.assert_allclose(g(X), X * np.float32(a) + np.float32(b))
    offset = 1.0


def test_an_equal_number_is_the_same_number(only_short: Any) -> None:
    """A name bound to another object of equal value: one call goes the long way, the next ones the short one."""
    k = float("1.5")
    f = gx.compile(lambda x: x * k)
    f(X)
    k = float("1.5")
    f(X)
    only_short()
    np.testing.assert_array_equal(f(X), X * np.float32(1.5))


def test_members_of_containers_are_noticed() -> None:
    ks = [2.0, 3.0]
    f = gx.compile(lambda x: x * ks[0])
    for k in (2.0, 2.0, 5.0, 5.0):
        ks[0] = k
        np.testing.assert_array_equal(f(X), X * np.float32(k))


def test_containers_go_the_short_way(only_short: Any) -> None:
    p = {"w": gx.asarray([2.0, 3.0, 4.0, 5.0]), "more": [1.0, (2.0, {"k": 3.0})], 4: ()}
    f = gx.compile(lambda x: x * p["w"] + p["more"][1][1]["k"])
    f(X)
    only_short()
    np.testing.assert_array_equal(f(X), X * np.float32([2, 3, 4, 5]) + 3)


@pytest.mark.parametrize("change", [
    lambda p: p.update(w=[7.0]), lambda p: p.update(z=1.0), lambda p: p.pop("w"), lambda p: p.update(w=p.pop("w")), lambda p: p["w"].append(7.0),
    lambda p: p["w"].insert(0, 7.0), lambda p: p["w"].pop(), lambda p: p["w"].clear(), lambda p: p["w"].reverse(), lambda p: p["t"][1].append(9.0),
    lambda p: p["t"][1].__setitem__(0, 9.0), lambda p: p["deep"]["er"].update(k=9.0), lambda p: p["deep"].update(er={}), lambda p: p.clear(),
    lambda p: p.update(w=tuple(p["w"]))], ids=range(15))
def test_every_change_of_a_container_is_noticed(change: Callable[[Any], Any]) -> None:
    """What the function makes of a container is what it would make of it now, after every change and before."""
    p: dict[str, Any] = {"w": [2.0, 3.0], "t": (4.0, [5.0]), "deep": {"er": {"k": 6.0}}}

    def total(x: Any) -> Any:
        text = repr(p)
        return x * float(sum(ord(c) * (k + 1) for k, c in enumerate(text)))
    f = gx.compile(total)
    for _ in range(2):
        for _ in range(3):
            np.testing.assert_array_equal(f(X), total(X).astype(np.float32))
        try:
            change(p)
        except (KeyError, IndexError):
            break
    np.testing.assert_array_equal(f(X), total(X).astype(np.float32))


OTHERS = [{1.0, 2.0}, collections.deque([1.0, 2.0]), collections.OrderedDict(a=1.0), [0.0] * 300, [{1.0}]]


@pytest.mark.parametrize("container", OTHERS, ids=lambda c: type(c).__name__)
def test_containers_of_other_kinds(container: Any) -> None:
    f = gx.compile(lambda x: x + len(container))
    for _ in range(3):
        np.testing.assert_array_equal(f(X), X + np.float32(len(container)))
    grow: Any = {"set": lambda: container.add(3.0), "OrderedDict": lambda: container.update(b=2.0)}.get(type(container).__name__, lambda: container.append(3.0))
    if len(container) < 256:
        grow()
        np.testing.assert_array_equal(f(X), X + np.float32(len(container)))


def test_structure_is_noticed() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(1.0))
    f = gx.compile(lambda x: net(x))
    assert not np.any(f(X))
    assert not np.any(f(X))
    net.eval()
    assert np.any(f(X))
    assert np.any(f(X))
    net.train()
    assert not np.any(f(X))


def test_gradients_from_outside_are_noticed() -> None:
    """Without zero_grad a step adds to the gradient that is there."""
    w = nn.Parameter(np.ones(4, np.float32))

    @gx.compile
    def f(x: Any) -> None:
        gx.sum(w * x).backward()
    expected = np.zeros(4, np.float32)
    for k in range(8):
        if k in (3, 6):
            w.grad, expected = None, np.zeros(4, np.float32)
        if k == 5:
            w.grad, expected = gx.tensor(np.full(4, 9, np.float32)), np.full(4, 9, np.float32)
        f(X)
        expected = expected + X.sum(0)
        assert w.grad is not None
        np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-5)


def test_a_gradient_that_lives_inside_stays_there_after_each_call() -> None:
    net = Net("llvm")
    for k in range(4):
        if k == 2:
            net.net.weight.grad = gx.zeros((2, 4))
        net.step(X)
        with pytest.raises(GraphError, match="keep_grads"):
            net.net.weight.grad         # noqa: B018 (reading it raises)


def test_kept_gradients_are_those_of_each_call() -> None:
    a, b = Net("llvm", keep_grads=True), Net("numpy", keep_grads=True)
    for k in range(4):
        for side in (a, b):
            side.step(X + k)
        assert a.net.weight.grad is not None
        assert b.net.weight.grad is not None
        np.testing.assert_allclose(a.net.weight.grad.numpy(), b.net.weight.grad.numpy(), rtol=1e-5)


def test_states_are_read_new_after_each_call() -> None:
    """Two steps in turn write one parameter, and so does the user."""
    w = nn.Parameter(np.zeros(3, np.float32))

    def adds(k: float) -> Any:
        def f() -> None:
            with gx.no_grad():
                w.add_(k)
        return gx.compile(f)
    one, ten, total = adds(1.0), adds(10.0), 0.0
    for k, step in ((1, one), (1, one), (10, ten), (1, one), (10, ten), (10, ten), (1, one)):
        step()
        total += k
        np.testing.assert_array_equal(w.numpy(), np.full(3, total))
        np.testing.assert_array_equal((w * 1).numpy(), np.full(3, total))
        if total == 13:
            with gx.no_grad():
                w.copy_(gx.zeros(3))
            total = 0.0
            np.testing.assert_array_equal((w * 1).numpy(), np.zeros(3))


# ---- arguments that are not as before ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [X.T.copy().T, np.asfortranarray(X), X[::-1], X.astype(">f4"), X[:2], X.astype(np.float64), gx.tensor(X),
                               np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].view(np.float32).reshape(X.shape)], ids=range(8))
def test_other_arrays_go_the_long_way(x: Any) -> None:
    f = gx.compile(lambda x: gx.sum(x * 2, axis=0))
    given = np.array(x.numpy() if isinstance(x, gx.Tensor) else x, np.float32)
    f(X)
    f(X)
    np.testing.assert_allclose(f(x), np.sum(given * 2, 0), rtol=1e-6)
    np.testing.assert_allclose(f(X), np.sum(X * 2, 0), rtol=1e-6)


def test_a_float_is_not_an_int_and_not_a_bool() -> None:
    f = gx.compile(lambda x, k: x * k)
    i = np.arange(3)
    for k in (2.5, 2.5, 2, 2, 2.5, True, True, np.float64(2.5), np.int64(2), 2):
        got = f(i, k)
        assert got.dtype == gx.compile(lambda x, k: x * k, backend="numpy")(i, k).dtype
        np.testing.assert_allclose(got, i * k)


def test_a_wrong_count_and_keywords() -> None:
    f = gx.compile(lambda x, y=None: x * 2 if y is None else x * y)
    f(X)
    f(X)
    np.testing.assert_array_equal(f(X, y=X), X * X)
    np.testing.assert_array_equal(f(X, X), X * X)
    with pytest.raises(TypeError):
        f(X, X, X)
    np.testing.assert_array_equal(f(X), X * 2)


def test_a_step_that_fails_says_why_and_changes_nothing() -> None:
    w = nn.Parameter(np.zeros((5, 2), np.float32))

    @gx.compile
    def f(i: Any) -> Any:
        with gx.no_grad():
            w.add_(1.0)
        return gx.sum(gx.take(w, i, axis=0))
    good, bad = np.array([0, 4]), np.array([0, 5])
    f(good)
    assert f(good) == 8
    for _ in range(2):
        with pytest.raises(GraphIndexError, match=r"5 is not in 0\.\.4|not in"):
            f(bad)
    np.testing.assert_array_equal(w.numpy(), np.full((5, 2), 2.0))
    assert f(good) == 12


def test_eight_callers() -> None:
    """Each gets its own results."""
    f = gx.compile(lambda x: (gx.sum(x), x * 2))
    f(X)
    wrong: list[float] = []

    def call(k: int) -> None:
        x = np.full_like(X, k)
        for _ in range(300):
            s, d = f(x)
            if s != 12 * k or not np.array_equal(d, x * 2):
                wrong.append(s)
    threads = [threading.Thread(target=call, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


# ---- where Python's objects are laid out otherwise -----------------------------------------------------------------------------------


@pytest.fixture(params=[entry, guard], ids=["arrays", "cells"])
def laid_out_otherwise(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request.param, "self_test", lambda: False)


@pytest.mark.usefixtures("laid_out_otherwise")
def test_without_a_native_way_in_everything_works(pair: tuple[Net, Net]) -> None:
    fast, slow = pair
    for k in range(4):
        for side in pair:
            side.optimizer.param_groups[0]["lr"] = 0.1 / (1 + k)
            side.step(X if k < 2 else X.T.copy().T)
    agree(fast, slow)
    again = fast.step.bind(X)
    again()
    slow.step(X)
    agree(fast, slow)
    assert fast.step._quick is None


def test_a_layout_that_is_not_as_expected_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The self-test really reads the objects: with an offset that is wrong it says no."""
    for name, value in (("DATA", 24), ("NDIM", 28), ("DIMS", 40), ("DESCR", 48), ("FLAGS", 72), ("BYTES", 40)):
        entry.self_test.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(entry, name, value)
            assert not entry.self_test(), name
    entry.self_test.cache_clear()
    assert entry.self_test()
    guard.self_test.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(guard, "CELL", 8)
        assert not guard.self_test()
    guard.self_test.cache_clear()
    assert guard.self_test()


# ---- bind ------------------------------------------------------------------------------------------------------------------------------


def test_bound_arrays_are_read_where_they_are(pair: tuple[Net, Net], only_short: Any) -> None:
    fast, slow = pair
    x = X.copy()
    again = fast.step.bind(x)
    agree(fast, slow)                                   # binding runs nothing
    for k in range(4):
        x[:] = X + k
        slow.step(X + k)
        slow.optimizer.param_groups[0]["lr"] = 0.1 / (2 + k)
    only_short()
    for k in range(4):
        x[:] = X + k
        again()
        fast.optimizer.param_groups[0]["lr"] = 0.1 / (2 + k)
    agree(fast, slow)


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_binding_trees_keywords_and_numbers(backend: Any) -> None:
    f = gx.compile(lambda pair, k, mode="a": pair["x"] * k + pair["y"], backend=backend)
    x, y = X.copy(), X + 1
    again, other = f.bind({"x": x, "y": y}, k=3.0), f.bind({"x": y, "y": x}, k=2)
    for _ in range(3):
        x += 1
        np.testing.assert_allclose(again(), x * 3 + y, rtol=1e-6)
        np.testing.assert_allclose(other(), y * 2 + x, rtol=1e-6)
        np.testing.assert_allclose(f({"x": x, "y": y}, k=4.0), x * 4 + y, rtol=1e-6)


@pytest.mark.parametrize("size", [3, 1 << 15])
def test_results_of_a_bound_step_belong_to_who_holds_them(size: int) -> None:
    x = np.zeros(size, np.float32)
    again = gx.compile(lambda x: x + 1).bind(x)
    held = []
    for k in range(4):
        x[:] = k
        held.append(again())
    for k, y in enumerate(held):
        np.testing.assert_array_equal(y, np.full(size, k + 1))


def test_what_a_bound_step_reads_from_outside_may_change() -> None:
    net, factor = nn.Linear(4, 2), 1.0
    again = gx.compile(lambda x: net(x) * factor).bind(X)
    first = again()
    for factor in (1.0, 2.0, 2.0):
        np.testing.assert_allclose(again(), first * factor, rtol=1e-6)
    net = nn.Linear(4, 2)
    for _ in range(2):
        np.testing.assert_allclose(again(), net(gx.tensor(X)).numpy() * 2, rtol=1e-5)


def test_a_bound_step_within_a_trace_is_part_of_it() -> None:
    again = gx.compile(lambda x: x * 2).bind(X)
    np.testing.assert_array_equal(gx.compile(lambda y: y + again())(X), X * 3)


def test_a_bound_step_keeps_its_arrays_alive() -> None:
    class Alive(np.ndarray[Any, Any]):
        pass
    x = X.copy()
    here = weakref.ref(x)
    again = gx.compile(lambda x: x * 2).bind(x)
    del x
    gc.collect()
    assert here() is not None
    np.testing.assert_array_equal(again(), X * 2)
    del again
    gc.collect()
    assert here() is None


@pytest.mark.parametrize(("x", "why"), [(X.T, "C-contiguous"), (X.astype(">f4"), "element type"), ([1.0], None), (gx.tensor(X), "Tensor"),
                                        (np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].view(np.float32), "aligned")], ids=range(5))
def test_what_cannot_be_read_where_it_is_is_refused(x: Any, why: str | None) -> None:
    f = gx.compile(lambda x: x[0] * 2 if isinstance(x, list) else x * 2)
    if why is None:
        assert f.bind(x)() == 2
        return
    with pytest.raises(GraphTypeError, match="bind needs arrays") as e:
        f.bind(x)
    assert why in str(e.value)
    assert "x" in str(e.value)


def test_a_bound_step_that_fails() -> None:
    i = np.array([0, 1])
    w = nn.Parameter(np.zeros((3, 2), np.float32))
    again = gx.compile(lambda i: gx.take(w, i, axis=0)).bind(i)
    again()
    i[1] = 3
    for _ in range(2):
        with pytest.raises(GraphIndexError):
            again()
    i[1] = 2
    assert again().shape == (2, 2)


def test_nothing_is_leaked() -> None:
    """Neither a call nor a refusal changes reference counts, and a dropped function goes."""
    import sys
    f = gx.compile(lambda x, k: x * k)
    x, k = X.copy(), 2.5
    f(x, k)
    before = [sys.getrefcount(o) for o in (x, k, X.dtype)]
    for _ in range(50):
        f(x, k)
        f(x[::-1], k)
    assert [sys.getrefcount(o) for o in (x, k)] == before[:2]
    executable = weakref.ref(f._last[1])                # type: ignore[index]
    del f
    gc.collect()
    assert executable() is None
