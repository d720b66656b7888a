"""Signals inside a step: a long loop is left at once with every state as it was, or goes on; and nobody enters another step meanwhile."""
from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn
from graphc.core.errors import GraphError
from graphc.core.fork import polling
from graphc.llvm import entry, runtime

pytestmark = [pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here"),
              pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals are handled on the main thread")]

FOREVER = 10 ** 10                                      # turns: minutes, so that whoever is not interrupted runs into the timeout
SMALL, SHARED = 4, 1 << 17                              # elements: of a carry that one thread does alone, and of one that threads share


@contextmanager
def alarm(handler: Callable[[], Any]) -> Iterator[None]:
    """The handler is called again and again, every hundredth of a second, while a step is inside a loop (and not while it is compiled)."""
    calls: list[int] = []                               # one at a time: the next signal may come while the handler works

    def once(*_: Any) -> None:
        if polling.value and not calls:
            calls.append(1)
            try:
                handler()
            finally:
                calls.clear()
    before = signal.signal(signal.SIGALRM, once)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def interrupt() -> None:
    raise KeyboardInterrupt


class Long:
    """A step that repeats an addition, and then writes a state."""

    def __init__(self, length: int, size: int = SMALL, threads: int = 1) -> None:
        self.w = nn.Parameter(np.zeros((), np.float32))
        self.x = np.ones(size, np.float32)

        @gx.compile(threads=threads)
        def step(x: Any) -> Any:
            carry, _ = gx.scan(lambda c, _: (c + x, None), gx.zeros((size,)), None, length=length)
            with gx.no_grad():
                self.w.add_(1.0)
            return carry
        self.step = step

    def interrupted(self) -> None:
        before = self.w.item()
        with alarm(interrupt), pytest.raises(KeyboardInterrupt):
            self.step(self.x)
        assert self.w.item() == before
        assert not polling.value


@pytest.fixture(params=[(SMALL, 1), (SMALL, 2), (SHARED, 2)], ids=["alone", "one of two", "shared"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    size, threads = request.param
    monkeypatch.setattr(runtime, "available", lambda: 2)
    return size, threads


def test_a_long_loop_is_left_at_once_and_no_state_has_changed(kind: tuple[int, int]) -> None:
    step = Long(FOREVER, *kind)
    assert step.step.lower(step.x).executable()._manifest.threads == (2 if kind[0] == SHARED else 1)
    for _ in range(2):                                  # the long way, and the short one
        step.interrupted()
    np.testing.assert_array_equal(gx.compile(lambda x: x * 2)(step.x), step.x * 2)


def test_where_objects_are_laid_out_otherwise(kind: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "self_test", lambda: False)
    Long(FOREVER, *kind).interrupted()


def test_a_bound_step() -> None:
    step = Long(FOREVER)
    again = step.step.bind(step.x)
    for _ in range(2):
        with alarm(interrupt), pytest.raises(KeyboardInterrupt):
            again()
    assert step.w.item() == 0


def test_after_a_handler_that_returns_the_loop_goes_on(kind: tuple[int, int]) -> None:
    length = (1 << 24 if kind[0] == SMALL else 1 << 14) // 4
    step, calls = Long(length, *kind), []
    with alarm(lambda: calls.append(0)):
        for _ in range(3):
            np.testing.assert_array_equal(step.step(step.x), np.full(kind[0], min(length, 1 << 24)))
    assert step.w.item() == 3


def test_no_step_is_entered_inside_another(kind: tuple[int, int]) -> None:
    """What a handler may not do, with words; both steps work afterwards."""
    step, other, native = Long(FOREVER, *kind), Long(3), Long(3)
    other.step(other.x)
    with alarm(lambda: other.step(other.x)), pytest.raises(GraphError, match="while another one runs"):
        step.step(step.x)
    with alarm(lambda: native.step(native.x)), pytest.raises(GraphError, match="while another one runs"):      # it would be traced first
        step.step(step.x)
    assert (step.w.item(), other.w.item(), native.w.item()) == (0, 1, 0)
    other.step(other.x)
    native.step(native.x)
    assert (other.w.item(), native.w.item()) == (2, 1)


@pytest.mark.parametrize("form", ["before", "inside", "behind"])
def test_states_are_whole_wherever_they_are_written(form: str) -> None:
    """Where a state has been written already, or each turn writes a piece of one, the loop is not left."""
    length = 1 << 19
    w = nn.Parameter(np.zeros(length, np.float32))

    @gx.compile
    def step(x: Any) -> Any:
        with gx.no_grad():
            if form == "before":
                w.add_(1.0)
            carry, ys = gx.scan(lambda c, _: (c + x, gx.sum(x) * 0 + 1), gx.zeros((SMALL,)), None, length=length)
            if form == "inside":
                w.copy_(w[0] + ys)
            if form == "behind":
                w.add_(carry[0] * 0 + 1)
        return carry
    x = np.ones(SMALL, np.float32)
    step(x)
    np.testing.assert_array_equal(w.numpy(), np.ones(length))
    before = signal.signal(signal.SIGALRM, lambda *_: interrupt())
    try:
        for k in range(20):
            value = w.numpy()[0]
            with suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.001 * (k + 1))
                step(x)
            with suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0)
            np.testing.assert_array_equal(w.numpy(), np.full(length, w.numpy()[0]))
            assert w.numpy()[0] in (value, value + 1)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_step_on_another_thread_asks_nobody() -> None:
    """Signals are the main thread's: there a step that another thread runs to its end is not left."""
    step, calls = Long(1 << 22), []
    caller = threading.Thread(target=step.step, args=(step.x,))
    with alarm(lambda: calls.append(threading.current_thread())):
        caller.start()
        caller.join()
    assert step.w.item() == 1
    assert set(calls) <= {threading.main_thread()}
