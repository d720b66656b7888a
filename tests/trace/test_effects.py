"""Effects keep the program's order, on both backends, and happen once in every call: io_callback, debug_callback, debug_print."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx

X = np.array([1.0, 2.0], np.float32)


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_prints_in_order(backend: str, capsys: Any) -> None:
    @gx.compile(backend=backend)
    def f(x: Any) -> Any:
        y = x * 2
        gx.debug_print("second is first: ", y.sum())
        gx.debug_print("x = ", x)
        return y + 1

    for k in (1, 5):
        np.testing.assert_array_equal(f(np.array([k, 2], np.int32)), [2 * k + 1, 5])
        assert capsys.readouterr().out == f"second is first: {2 * k + 4}\nx = [{k} 2]\n"


def test_eagerly_at_once(capsys: Any) -> None:
    gx.debug_print("x = ", gx.asarray([1, 2]))
    assert capsys.readouterr().out == "x = [1 2]\n"


def test_an_effect_is_part_of_the_graph() -> None:
    def f(x: Any) -> Any:
        gx.debug_print("x = ", x)
        return x

    graph = gx.compile(f, backend="numpy").lower(gx.Spec((3,), gx.float32)).graph
    assert 'io_callback(%1, %x) {function=host("print x =")' in str(graph)
    assert len(graph.effects) == 1


@pytest.mark.parametrize("backend", ["eager", "numpy", "llvm"])
@pytest.mark.parametrize("threads", [1, 2])
def test_in_program_order_used_or_not_and_never_merged(backend: str, threads: int) -> None:
    log: list[Any] = []

    def draw(a: Any) -> Any:
        log.append(("draw", float(a[0])))
        return np.float32(len(log))

    def f(x: Any) -> Any:
        gx.io_callback(draw, gx.Spec(()), x)
        k = gx.io_callback(draw, gx.Spec(()), x)
        gx.debug_callback(lambda a, *, name: log.append((name, float(a))), k, name=None)
        gx.pure_callback(draw, gx.Spec(()), x)                          # unused, and pure
        return x + k

    step = f if backend == "eager" else gx.compile(f, backend=backend, threads=threads)
    for n in (0, 3):
        got = np.asarray(step(gx.asarray(X) if backend == "eager" else X))
        if backend == "eager":
            log.pop()                                                   # eagerly everything is called at once
        np.testing.assert_array_equal(got, X + n + 2)
        assert log[n:] == [("draw", 1.0), ("draw", 1.0), (None, n + 2.0)]
    assert backend == "eager" or len(step.variants) == 1                # what a callback changes is no reason to trace again


def test_a_failure_leaves_states_and_what_comes_behind() -> None:
    w, log = gx.nn.Parameter(gx.zeros(2)), list[Any]()

    def refuse_zero(a: Any) -> None:
        if a[0] == 0:
            raise ZeroDivisionError("here")

    @gx.compile
    def step(x: Any) -> Any:
        with gx.no_grad():
            w.copy_(w + x)
        gx.debug_callback(log.append, x)
        gx.debug_callback(refuse_zero, w)
        gx.debug_callback(log.append, w)

    step(X)
    assert [v.tolist() for v in log] == [[1, 2], [1, 2]]
    with pytest.raises(ZeroDivisionError, match="here"):
        step(np.array([-1.0, 5.0], np.float32))
    assert [v.tolist() for v in log[2:]] == [[-1, 5]]
    np.testing.assert_array_equal(w.numpy(), [1, 2])


@pytest.mark.parametrize("threads", [1, 2])
def test_symbolic_sizes(threads: int) -> None:
    shapes: list[Any] = []
    step = gx.compile(lambda x: gx.io_callback(lambda a: (shapes.append(a.shape), a * 2)[1], x, x) + 1, threads=threads).lower(gx.Spec(("N", 2))).compile()
    for n in (3, 1):
        np.testing.assert_array_equal(step(np.ones((n, 2), np.float32)), np.full((n, 2), 3))
    assert shapes == [(3, 2), (1, 2)]


def test_inside_of_a_gradient_it_happens_once() -> None:
    log: list[float] = []

    def loss(x: Any) -> Any:
        y = x * x
        gx.debug_callback(lambda a: log.append(float(a[1])), y)
        noise = gx.io_callback(lambda: np.float32(len(log)), gx.Spec(()))
        return gx.sum(y * noise)

    def forward(x: Any) -> Any:
        return gx.jvp(loss, (x,), (gx.asarray(np.array([1.0, 0.0], np.float32)),))[1] * 0 + 2 * x

    def behind_a_loop(x: Any) -> Any:
        return loss(gx.scan(lambda c, v: (c + v, None), x, gx.zeros((2, 2)))[0])

    for f in (gx.grad(loss), gx.compile(gx.grad(loss)), gx.compile(gx.grad(gx.checkpoint(loss))), gx.compile(forward), gx.compile(gx.grad(behind_a_loop)),
              gx.compile(lambda x: gx.jacfwd(behind_a_loop)(x))):
        log.clear()
        np.testing.assert_array_equal(np.asarray(f(X)), 2 * X)
        assert log == [4.0]


def test_an_index_error_behind_an_effect_does_not_repeat_it() -> None:
    log: list[int] = []
    step = gx.compile(lambda x: x[gx.io_callback(lambda: (log.append(1), np.int64(7))[1], gx.Spec((), gx.int64))])
    with pytest.raises(gx.GraphIndexError, match=r"an index is not in 0\.\.1"):
        step(X)
    assert log == [1]


@pytest.mark.parametrize(("f", "words"), [
    (lambda x: gx.scan(lambda h, v: (gx.debug_print("h = ", h), (h + v, h))[1], 0.0, x), "debug_print inside a loop body"),
    (lambda x: gx.vmap(lambda v: gx.io_callback(np.sin, gx.Spec(()), v))(x), "io_callback inside vmap"),
    (lambda x: gx.cond(x[0] > 0, lambda x: (gx.debug_callback(print, x), x)[1], lambda x: x, x), "debug_callback inside a branch"),
    (lambda x: gx.grad(lambda x: gx.sum(gx.io_callback(np.sin, x, x)))(x), "io_callback of sin has no derivative"),
    (lambda x: gx.jvp(lambda x: gx.io_callback(np.sin, x, x), (x,), (x,)), "io_callback of sin has no derivative"),
    (lambda x: gx.io_callback(np.sin, gx.Spec((3,)), x), r"the result is f32\[2\], and should be f32\[3\]"),
    (lambda x: gx.debug_callback(3, x), "debug_callback of a int, which is no function"),
])
@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_refused(f: Any, words: str, backend: str) -> None:
    with pytest.raises(gx.GraphError, match=words) as e:
        gx.compile(f, backend=backend)(X)
    assert "test_effects.py" in str(e.value.at)
