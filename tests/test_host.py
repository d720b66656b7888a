"""How a native step calls Python: exceptions that leave every state as it was, threads that wait, calls inside of calls, steps from the disk, and staleness."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.core.fork import running
from graphc.testing.bisection import bisect

X = np.array([3.0, 1.0, 2.0], np.float32)
WIDE = np.linspace(-1, 1, 1 << 18, dtype=np.float32).reshape(512, 512)


class Oops(Exception):
    """Nobody else's."""


def failing(when: list[bool], error: BaseException) -> Any:
    def host(a: Any) -> Any:
        if when:
            raise error
        return a
    return host


# ---- exceptions ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("error", [Oops("no"), KeyboardInterrupt(), SystemExit(3), gx.GraphError("of theirs")], ids=lambda e: type(e).__name__)
def test_the_very_exception_reaches_the_caller_and_no_state_has_changed(backend: str, threads: int, error: BaseException) -> None:
    net, when = nn.Linear(3, 2), list[bool]()
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    host = failing(when, error)

    @gx.compile(backend=backend, threads=threads)
    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = net(gx.pure_callback(host, x, x)).square().sum()
        loss.backward()
        optimizer.step()
        after = net.weight.sum()                                        # a callback of what the step has changed
        return loss, gx.pure_callback(host, after.detach(), after.detach())

    def states() -> list[bytes]:
        return [p.numpy().tobytes() for p in net.parameters()] + [repr(optimizer.state_dict()).encode()]

    step(X)
    before = states()
    when.append(True)
    for _ in range(2):
        with pytest.raises(type(error)) as e:
            step(X)
        assert e.value is error
        assert any(f.name == "host" for f in traceback.extract_tb(e.value.__traceback__))
        assert states() == before
    if hasattr(error, "__notes__"):
        assert "graphc: in the callback host, called at test_host.py" in error.__notes__[0]
    when.clear()
    step(X)
    assert states() != before


def test_an_exception_in_a_loop_and_in_a_branch() -> None:
    turns: list[float] = []

    def host(a: Any) -> Any:
        turns.append(float(a))
        if len(turns) == 3:
            raise Oops("third")
        return a + 1

    step = gx.compile(lambda x: gx.scan(lambda c, v: (gx.pure_callback(host, c, c), v), x[0] * 0, x))
    with pytest.raises(Oops, match="third"):
        step(X)
    assert turns == [0, 1, 2]
    branch = gx.compile(lambda x: gx.cond(x[0] > 0, lambda x: gx.pure_callback(failing([True], Oops("taken")), x, x), lambda x: x, x))
    with pytest.raises(Oops, match="taken"):
        branch(X)
    np.testing.assert_array_equal(branch(-X), -X)


def test_bound_and_slow_entries_raise_too(monkeypatch: pytest.MonkeyPatch) -> None:
    when: list[bool] = []
    host = failing(when, Oops("no"))
    step = gx.compile(lambda x: gx.pure_callback(host, x, x) * 2)
    again = step.bind(X)
    np.testing.assert_array_equal(again(), X * 2)
    when.append(True)
    with pytest.raises(Oops):
        again()
    with pytest.raises(Oops):
        step(X.astype(np.float64)[::-1].astype(np.float32)[::-1])       # no array that the step reads where it is: the long way in
    when.clear()
    np.testing.assert_array_equal(again(), X * 2)


# ---- threads ---------------------------------------------------------------------------------------------------------------------------


def test_it_runs_on_the_thread_that_called_and_the_others_wait() -> None:
    who = []

    def host(a: Any) -> Any:
        who.append(threading.get_ident())
        return a * 2

    def f(x: Any) -> Any:
        y = gx.tanh(x @ x)
        return gx.exp(gx.pure_callback(host, y, y)) @ x

    want = gx.compile(f, threads=1)(WIDE)
    step = gx.compile(f, threads=2)
    for _ in range(3):
        np.testing.assert_array_equal(step(WIDE), want)
    assert set(who) == {threading.get_ident()}
    lines = step.lowered.text("loops").splitlines()
    at = next(k for k, line in enumerate(lines) if "host 0" in line)
    if any(line.strip().startswith("share") for line in lines):
        assert [lines[k].strip() for k in (at - 1, at + 1)] == ["barrier", "barrier"]


def test_in_a_shared_loop() -> None:
    def f(x: Any) -> Any:
        def body(c: Any, k: Any) -> Any:
            c = gx.tanh(c @ x)
            return gx.pure_callback(lambda c, k: c + k, c, c, k), gx.sum(c)
        return gx.scan(body, x, gx.asarray(np.arange(3, dtype=np.float32)))

    for a, b in zip(gx.compile(f, threads=1)(WIDE), gx.compile(f, threads=2)(WIDE)):
        np.testing.assert_array_equal(a, b)


def test_an_exception_frees_the_workers() -> None:
    when: list[bool] = []
    host = failing(when, Oops("no"))

    def f(x: Any) -> Any:
        return gx.exp(gx.pure_callback(host, x, gx.tanh(x @ x))) @ x

    step = gx.compile(f, threads=2)
    want = step(WIDE)
    for _ in range(3):
        when.append(True)
        with pytest.raises(Oops):
            step(WIDE)
        when.clear()
        np.testing.assert_array_equal(step(WIDE), want)


# ---- calls inside of calls -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("outer", [1, 2])
@pytest.mark.parametrize("inner", [1, 2])
def test_it_may_call_another_compiled_function(backend: str, outer: int, inner: int) -> None:
    """Whose workers are those that wait outside: it runs alone then."""
    other = gx.compile(lambda x: gx.exp(gx.tanh(x @ x)), threads=inner, backend=backend)
    want = other(WIDE)

    def host(a: Any) -> Any:
        return other(a)

    step = gx.compile(lambda x: gx.tanh(gx.pure_callback(host, x, x * 1)) @ x, threads=outer, backend=backend)
    expected = gx.compile(lambda y, x: gx.tanh(y) @ x, threads=1, backend=backend)(want, WIDE)
    for _ in range(3):
        np.testing.assert_allclose(step(WIDE), expected, rtol=1e-6)
        np.testing.assert_array_equal(other(WIDE), want)


def test_a_failure_inside_is_not_the_outer_steps() -> None:
    """The status of a step that was entered inside is its own."""
    table = gx.compile(lambda t, k: gx.exp(t @ t)[k], threads=2)

    def host(a: Any) -> Any:
        with pytest.raises(gx.GraphIndexError):
            table(a, np.array(9999))
        return a

    step = gx.compile(lambda x: gx.exp(gx.pure_callback(host, x, gx.tanh(x @ x))) @ x, threads=2)
    np.testing.assert_array_equal(step(WIDE), gx.compile(lambda x: gx.exp(gx.tanh(x @ x)) @ x, threads=2)(WIDE))


def test_it_may_not_call_its_own_step() -> None:
    steps: list[Any] = []

    def host(a: Any) -> Any:
        if a[0] > 0:
            steps[0](a - 1)
        return a

    step = gx.compile(lambda x: gx.pure_callback(host, x, x) * 2)
    steps.append(step)
    for _ in range(2):
        with pytest.raises(gx.GraphError, match="was called by a function that it calls itself") as e:
            step(X)
        assert "call another compiled function" in str(e.value.fix)
    again = step.bind(X)
    steps[0] = lambda a: again()
    with pytest.raises(gx.GraphError, match="was called by a function that it calls itself"):
        step(X)
    np.testing.assert_array_equal(step(-X), -X * 2)


def test_the_oracle_may_call_itself() -> None:
    """It has no memory of its own."""
    def host(a: Any) -> Any:
        return step(a - 1) if a[0] > 0 else a

    step = gx.compile(lambda x: gx.pure_callback(host, x, x) * 2, backend="numpy")
    np.testing.assert_array_equal(step(np.array([2.0, 5.0])), [0, 24])


def test_it_may_trace_and_compile() -> None:
    def host(a: Any) -> Any:
        return gx.compile(lambda x: gx.sort(x) + 1)(a)

    step = gx.compile(lambda x: gx.pure_callback(host, x, x) * 2)
    np.testing.assert_array_equal(step(X), (np.sort(X) + 1) * 2)


def test_it_sees_states_as_they_were() -> None:
    w = gx.nn.Parameter(gx.ones(3))
    seen = []

    @gx.compile
    def step(x: Any) -> Any:
        with gx.no_grad():
            w.copy_(w * 2)
        return gx.pure_callback(lambda a: (seen.append((a.copy(), w.numpy().copy())), a)[1], w, w)

    step(X)
    np.testing.assert_array_equal(seen[0][0], [2, 2, 2])
    np.testing.assert_array_equal(seen[0][1], [1, 1, 1])
    np.testing.assert_array_equal(w.numpy(), [2, 2, 2])


# ---- what a call sees ------------------------------------------------------------------------------------------------------------------


def test_what_it_reads_may_change_without_a_new_trace() -> None:
    """It runs in every call, so its closure, its globals and its object are read then."""
    log: list[float] = []
    k = 1.0

    def host(a: Any) -> Any:
        log.append(float(a[0]))
        return a * np.float32(k)

    class Scaler:
        def __init__(self) -> None:
            self.scale, self.calls = 1.0, 0

        def apply(self, a: Any) -> Any:
            self.calls += 1
            return a * np.float32(self.scale)

    scaler = Scaler()

    def f(x: Any) -> Any:
        y = gx.pure_callback(lambda a: (log.append(1.0), a)[1], x, x)
        return gx.pure_callback(scaler.apply, x, gx.pure_callback(host, y, y))

    step = gx.compile(f)
    step(X)
    k, scaler.scale = 5.0, 2.0
    np.testing.assert_array_equal(step(X), X * 10)
    assert (len(step.variants), len(log), scaler.calls) == (1, 4, 2)


def test_another_function_under_the_name_is_noticed() -> None:
    host = np.sort
    step = gx.compile(lambda x: gx.pure_callback(host, x, x))
    np.testing.assert_array_equal(step(X), np.sort(X))
    host = np.flip
    np.testing.assert_array_equal(step(X), np.flip(X))


def test_denormals_are_the_users() -> None:
    """The step flushes them; NumPy, called from inside, does not."""
    tiny = np.full(3, 1e-40, np.float32)
    step = gx.compile(lambda x, y: (gx.pure_callback(lambda a: (a.astype(np.float64) * 1e40).astype(np.float32), x, x), x * y))
    inside, outside = step(tiny, np.ones(3, np.float32))
    np.testing.assert_allclose(inside, 1.0, rtol=1e-4)
    if gx.compile(lambda x: x * 2)(tiny).any():
        pytest.skip("this machine does not flush")
    assert not outside.any()


def test_an_index_error_does_not_need_it() -> None:
    step = gx.compile(lambda x, k: gx.pure_callback(np.sort, x, x)[k])
    with pytest.raises(gx.GraphIndexError, match=r"7 is not in 0\.\.2"):
        step(X, np.array(7))


def test_bisect_finds_all_levels_agree() -> None:
    """The loop interpreter calls it too, and the judge in f64 hands it what it was written for."""
    def host(c: Any, v: Any) -> Any:
        assert c.dtype == v.dtype == np.float32
        return c + np.sort(v)

    step = gx.compile(lambda x: gx.scan(lambda c, v: (gx.pure_callback(host, c, c, v), c), x[0] * 0, x)[0] * 2)
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    assert bisect(step.lower(x).graph, [x]) is None


# ---- from the disk ---------------------------------------------------------------------------------------------------------------------

PROGRAM = """
import sys, numpy as np, graphc as gx
k = float(sys.argv[1])

def first(a):
    return a * np.float32(k)

def second(a):
    return a + np.float32(k)

@gx.compile
def step(x):
    y = gx.pure_callback(first, x, x) + gx.pure_callback(second, x, x * 2)
    return gx.pure_callback(first if sys.argv[2] == "same" else second, y, y)

print(step(np.array([1, 2, 3], np.float32)).tolist(), step.lowered.report.stages.keys())
"""


def test_a_step_from_the_disk_calls_the_functions_of_its_trace(tmp_path: Path) -> None:
    """Neither a function nor an address is kept: the code that another process made calls this one's. Which calls are of one function is part of the key."""
    env = {**os.environ, "GRAPHC_CACHE": "1", "GRAPHC_CACHE_DIR": str(tmp_path)}

    def run(k: float, which: str) -> str:
        return subprocess.run([sys.executable, "-c", PROGRAM, str(k), which], env=env, capture_output=True, text=True, check=True, timeout=100).stdout

    x = np.array([1, 2, 3])
    cold, warm, other = run(2, "same"), run(3, "same"), run(3, "other")
    assert cold.startswith(str(((2 * x + 2 * x + 2) * 2.0).tolist()))
    assert "'llvm'" in cold
    assert warm.startswith(str(((3 * x + 2 * x + 3) * 3.0).tolist()))
    assert "'llvm'" not in warm
    assert other.startswith(str((3 * x + 2 * x + 3 + 3.0).tolist()))


# ---- Ctrl-C ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "raise_signal") or sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_signal_inside_ends_the_step(threads: int) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    w = gx.nn.Parameter(gx.zeros(3))

    def host(a: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return a

    @gx.compile(threads=threads)
    def step(x: Any) -> Any:
        y = gx.pure_callback(host, x, x)
        with gx.no_grad():
            w.copy_(w + y)
        return y

    try:
        with pytest.raises(KeyboardInterrupt):
            step(X)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not w.numpy().any()
    assert running.acquire(blocking=False)
    running.release()
