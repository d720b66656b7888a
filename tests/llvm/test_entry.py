"""The builtin function around a step: right arguments enter, each kind of wrong one is refused, nothing leaks."""
from __future__ import annotations

import gc
import sys
import sysconfig
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from graphc.core.dtype import ALL, DType, bool_, f32, f64, i8, i32, i64, u8, u64
from graphc.llvm.detect import host
from graphc.llvm.entry import BUSY, REFUSED, ArrayParam, Param, ScalarParam, entry_text, make_entry, self_test, slow_entry
from graphc.llvm.jit import compile_text, load

Array = np.ndarray[Any, np.dtype[Any]]

pytestmark = pytest.mark.skipif(bool(sysconfig.get_config_var("Py_GIL_DISABLED")) or sys.implementation.name != "cpython" or sys.maxsize < 2 ** 32,
                                reason="objects laid out otherwise: slow_entry is used")

# The step of these tests counts its calls in arena[0], waits while arena[2] is 1, and returns arena[1].
STEP = """
define i32 @step(ptr %table) {
  %arena = load ptr, ptr %table
  %n = load i64, ptr %arena
  %n1 = add i64 %n, 1
  store volatile i64 %n1, ptr %arena
  %at = getelementptr i64, ptr %arena, i64 2
  br label %again
again:
  %wait = load volatile i64, ptr %at
  %more = icmp eq i64 %wait, 1
  br i1 %more, label %again, label %done
done:
  %as = getelementptr i64, ptr %arena, i64 1
  %status = load i32, ptr %as
  ret i32 %status
}
"""


class Step:
    """An entered step: a table whose scalar entries point to cells of 8 bytes."""

    def __init__(self, params: Sequence[Param], busy: bool = False) -> None:
        n = len(params)
        self.arena = np.zeros(3, np.int64)
        self.cells = np.zeros((n, 8), np.uint8)
        self.table = np.zeros(n + 2, np.uint64)
        self.table[0] = self.arena.ctypes.data
        self.slots = range(n, 0, -1)                            # not in order
        for i, (p, slot) in enumerate(zip(params, self.slots)):
            if isinstance(p, ScalarParam):
                self.table[slot] = self.cells[i].ctypes.data
        self.code = load(compile_text(STEP + entry_text(params, self.slots, n + 1 if busy else None), host()), ("step", "entry"))
        self.call: Callable[..., int] = make_entry(self.code.address("entry"), self.table.ctypes.data, (self.code, self.table, self.arena, self.cells))

    @property
    def calls(self) -> int:
        return int(self.arena[0])

    def pointer(self, i: int) -> int:
        return int(self.table[self.slots[i]])

    def scalar(self, i: int, dtype: DType) -> Any:
        return self.cells[i].view(dtype.numpy)[0]


@pytest.fixture(scope="module")
def two() -> Step:
    return Step([ArrayParam((3, 4), f32), ArrayParam((5,), i64)])


def good() -> tuple[Array, Array]:
    return np.ones((3, 4), np.float32), np.arange(5)


def test_this_python_is_supported() -> None:
    assert self_test()


def test_right_arrays_enter(two: Step) -> None:
    x, y = good()
    before = two.calls
    for status in (0, 7, 2 ** 31 - 1):
        two.arena[1] = status
        assert two.call(x, y) == status
        assert (two.pointer(0), two.pointer(1)) == (x.ctypes.data, y.ctypes.data)
    two.arena[1] = 0
    assert two.calls == before + 3


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_each_dtype_enters_and_only_it(dtype: DType) -> None:
    step = Step([ArrayParam((2,), dtype)])
    for d in ALL:
        assert step.call(np.zeros(2, d.numpy)) == (0 if d is dtype else REFUSED)
    assert step.calls == 1


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (3, 0), (2, 1, 3), (1, 2, 1, 3, 1)])
def test_each_shape_enters_and_only_it(shape: tuple[int, ...]) -> None:
    step = Step([ArrayParam(shape, f64)])
    x = np.zeros(shape)
    assert step.call(x) == 0
    assert step.pointer(0) == x.ctypes.data
    for other in ((), (1,), (2,), (0,), (0, 3), (3, 0), (2, 1, 3), (2, 3, 1), (1, 2, 1, 3, 1)):
        assert other == shape or step.call(np.zeros(other)) == REFUSED


def test_read_only_arrays_and_slices_that_are_contiguous_enter(two: Step) -> None:
    x, y = good()
    x.flags.writeable = False
    assert two.call(x, np.arange(20)[5:10]) == 0
    assert two.call(np.ones((6, 4), np.float32)[3:], y) == 0


class Subclass(np.ndarray):                                     # type: ignore[type-arg]
    pass


def wrong() -> dict[str, Any]:
    x = np.ones((3, 4), np.float32)
    return {
        "dtype": x.astype(np.float64), "same size, other kind": x.view(np.int32), "shape": np.ones((4, 3), np.float32), "rank": x.reshape(1, 3, 4),
        "flat": x.ravel(), "0-d": np.array(1, np.float32), "transposed": np.ones((4, 3), np.float32).T, "strided": np.ones((3, 8), np.float32)[:, ::2],
        "reversed": x[::-1], "broadcast": np.broadcast_to(x[:1], (3, 4)), "byte-swapped": x.astype(x.dtype.newbyteorder()),
        "misaligned": np.zeros(49, np.uint8)[1:].view(np.float32).reshape(3, 4), "subclass": x.view(Subclass), "masked": np.ma.masked_array(x),
        "list": x.tolist(), "None": None, "float": 1.0, "int": 1, "numpy scalar": np.float32(1), "bytes": bytes(48), "type": np.ndarray, "object": object(),
        "with metadata": x.astype(np.dtype(np.float32, metadata={"a": 1})), "memoryview": memoryview(x)}


@pytest.mark.parametrize("kind", wrong())
def test_a_wrong_argument_is_refused(two: Step, kind: str) -> None:
    x, y = good()
    two.call(x, y)
    before, pointers = two.calls, two.table.copy()
    assert two.call(wrong()[kind], good()[1]) == REFUSED
    assert two.call(good()[0], wrong()[kind]) == REFUSED
    assert two.calls == before
    np.testing.assert_array_equal(two.table, pointers)          # not even the first argument was stored


def test_a_wrong_count_is_refused(two: Step) -> None:
    before = two.calls
    x, y = good()
    assert [two.call(), two.call(x), two.call(x, y, y)] == [REFUSED] * 3
    assert two.calls == before
    with pytest.raises(TypeError, match="no keyword arguments"):
        two.call(x, y=y)


def test_no_parameters() -> None:
    step = Step([])
    assert (step.call(), step.call(None), step.calls) == (0, REFUSED, 1)


# ---- scalars ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "values"), [
    (f32, [0.1, -0.0, 3, -2 ** 40, 1e300, float("inf"), 2 ** 63 - 1]), (f64, [0.1, 2 ** 53 + 1, -5e-324, -7]), (i8, [-128, 127]), (u8, [0, 255]),
    (i32, [-2 ** 31, 2 ** 31 - 1]), (i64, [-2 ** 63, 2 ** 63 - 1]), (u64, [0, 2 ** 64 - 1])], ids=str)
def test_scalars_are_stored(dtype: DType, values: list[float]) -> None:
    step = Step([ArrayParam((1,), f32), ScalarParam(dtype)])
    for v in values:
        assert step.call(np.zeros(1, np.float32), v) == 0
        with np.errstate(over="ignore"):
            want = np.float64(v).astype(dtype.numpy) if dtype.is_float else dtype.numpy.type(v)
        got = step.scalar(1, dtype)
        assert got == want
        assert np.signbit(got) == np.signbit(want)
    step.call(np.zeros(1, np.float32), float("nan"))
    assert not dtype.is_float or np.isnan(step.scalar(1, dtype))


@pytest.mark.parametrize(("dtype", "values"), [
    (f32, [True, 2 ** 63, -2 ** 64, np.float64(1), np.float32(1), "1", None, 1j, np.zeros(1)]), (f64, [False, np.float64(1), 10 ** 400]),
    (i8, [-129, 128, 1.0, True]), (u8, [-1, 256]), (i32, [2 ** 31, -2 ** 31 - 1]), (i64, [2 ** 63, -2 ** 63 - 1, np.int64(1), 0.0]),
    (u64, [-1, 2 ** 64, 1.0, True])], ids=str)
def test_scalars_that_do_not_fit_are_refused(dtype: DType, values: list[Any]) -> None:
    step = Step([ScalarParam(dtype)])
    assert step.call(5) == 0
    for v in values:
        assert step.call(v) == REFUSED, v
    assert step.calls == 1
    assert step.scalar(0, dtype) == 5


def test_a_bool_scalar_is_a_bool() -> None:
    step = Step([ScalarParam(bool_)])
    for v in (True, False):
        assert step.call(v) == 0
        assert step.scalar(0, bool_) == v
    for v in (1, 0.0, np.True_, None, np.array(True)):
        assert step.call(v) == REFUSED, v
    assert step.calls == 2


# ---- lifetime and threads --------------------------------------------------------------------------------------------------------


def test_reference_counts_do_not_change() -> None:
    step = Step([ArrayParam((3, 4), f32), ScalarParam(f64), ScalarParam(i64), ScalarParam(u64)])
    x, bad, number, big = np.ones((3, 4), np.float32), np.ones((3, 4)), float("1.5"), 10 ** 15
    watched = [x, bad, number, big, x.dtype, np.ndarray, None]
    before = [sys.getrefcount(o) for o in watched]
    for _ in range(10_000):
        step.call(x, number, big, big)
        step.call(bad, number, big, big)
        step.call(None, number, big, -1)
        step.call(x, number, big, -1)
    assert [abs(sys.getrefcount(o) - b) < 10 for o, b in zip(watched, before)] == [True] * len(watched)
    assert step.calls == 10_000


def test_the_function_keeps_what_it_needs_alive_and_no_longer() -> None:
    class Token:
        pass

    token = Token()
    step = Step([ArrayParam((1,), f32)])
    call = make_entry(step.code.address("entry"), step.table.ctypes.data, (token, step))
    gone = weakref.ref(token)
    del token, step
    gc.collect()
    assert gone() is not None
    assert call(np.zeros(1, np.float32)) == 0
    gone().call = call                                          # type: ignore[union-attr]   # a cycle
    del call
    gc.collect()
    assert gone() is None


def test_without_the_gil_a_second_thread_is_told_to_wait() -> None:
    step = Step([ArrayParam((1,), f32)], busy=True)
    x = np.zeros(1, np.float32)
    assert (step.call(x), step.call(x)) == (0, 0)
    step.arena[2] = 1                                           # the step spins
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(step.call(x)))
    thread.start()
    while step.calls < 3:                                       # runs only if the spinning thread let go of the GIL
        pass
    assert step.call(x) == BUSY
    assert step.call(None) == REFUSED
    step.arena[2] = 0
    thread.join()
    assert (results, step.call(x), step.calls) == ([0], 0, 4)


@pytest.mark.parametrize("release_gil", [True, False])
def test_slow_entry_calls_the_step(release_gil: bool) -> None:
    step = Step([])
    call = slow_entry(step.code.address("step"), step.table.ctypes.data, step, release_gil)
    step.arena[1] = 3
    assert (call(), call(), step.calls) == (3, 3, 2)
