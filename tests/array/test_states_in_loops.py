"""A state that the body of a loop writes is a carry: read and written at every step, and written outside when the loop is over."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn

XS = np.random.default_rng(0).standard_normal((5, 4, 3)).astype(np.float32)


class Norm(nn.Module):
    """Subtracts a running mean."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", gx.zeros(3))
        self.w = nn.Parameter(gx.ones(3))

    def forward(self, x: Any) -> Any:
        self.mean.copy_(0.9 * self.mean + 0.1 * gx.mean(x, axis=0))
        return (x - self.mean) * self.w


def expected(rounds: int = 1) -> tuple[np.ndarray, list[np.ndarray]]:
    mean, ys = np.zeros(3), []
    for _ in range(rounds):
        for x in XS:
            mean = 0.9 * mean + 0.1 * x.mean(0)
            ys.append(x - mean)
    return mean, ys


@pytest.fixture(params=["eager", "numpy", "llvm"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    if request.param == "eager":
        return lambda f: lambda *args: f(*(gx.tensor(a) for a in args))
    return lambda f: gx.compile(f, backend=request.param, cache=False)


@pytest.mark.parametrize("how", [{}, {"unroll": 2}, {"unroll": True}, {"checkpoint": 2}], ids=str)
def test_running_statistics_in_a_scan(run: Callable[..., Any], how: dict[str, Any]) -> None:
    net = Norm()
    step = run(lambda xs: gx.scan(lambda c, x: (c + net(x).sum(), net.mean * 1.0), gx.tensor(0.0), xs, **how))
    for rounds in (1, 2):
        total, means = step(XS)
        mean, ys = expected(rounds)
        np.testing.assert_allclose(net.mean.numpy(), mean, atol=1e-6)
        np.testing.assert_allclose(np.asarray(means)[-1], mean, atol=1e-6)
        np.testing.assert_allclose(float(total), np.sum(ys[-5:]), rtol=1e-4)


def test_gradients_go_through_the_body(run: Callable[..., Any]) -> None:
    net = Norm()
    slope = run(lambda w, xs: gx.grad(lambda w: gx.scan(lambda c, x: (c + (net(x) * w).sum(), None), gx.tensor(0.0), xs)[0])(w))(np.ones(3, np.float32), XS)
    mean, ys = expected()
    np.testing.assert_allclose(np.asarray(slope), np.sum(ys, axis=(0, 1)), rtol=1e-4)
    np.testing.assert_allclose(net.mean.numpy(), mean, atol=1e-6)


def test_loops_in_loops_and_counted_ones(run: Callable[..., Any]) -> None:
    count, product = gx.zeros((), dtype="i64"), gx.ones(())

    def inner(c: Any, x: Any) -> Any:
        count.add_(1)
        return c + x.sum() * count, None

    def outer(c: Any, x: Any) -> Any:
        product.mul_(2.0)
        return gx.scan(inner, c, x)[0], None

    def f(xs: Any) -> Any:
        total = gx.scan(outer, gx.tensor(0.0), xs)[0]
        return gx.fori_loop(0, 3, lambda i, c: c + product.add_(1.0), total), count * 1
    total, n = run(f)(XS)
    assert (int(count), int(n)) == (20, 20)
    assert float(product.numpy()) == 2.0 ** 5 + 3
    want = sum(k * s for k, s in enumerate(XS.reshape(20, 3).sum(1), 1)) + 33 + 34 + 35
    np.testing.assert_allclose(float(total), want, rtol=1e-4)


def test_a_while_loop_whose_test_reads_the_state(run: Callable[..., Any]) -> None:
    count = gx.zeros(())

    def f(x: Any) -> Any:
        def turn(v: Any) -> Any:
            count.add_(x)
            return v * 2.0
        return gx.while_loop(lambda v: count < 5.5, turn, gx.tensor(1.0))
    step = run(f)
    assert float(step(np.float32(2.0))) == 8.0
    assert float(count.numpy()) == 6.0
    assert float(step(np.float32(2.0))) == 1.0                          # it is past the bound now


def test_random_numbers_in_a_body_are_new_at_every_step(run: Callable[..., Any]) -> None:
    gx.manual_seed(5)
    alone = [gx.rand(3).numpy() for _ in range(4)]
    gx.manual_seed(5)
    _, rows = run(lambda x: gx.scan(lambda c, _: (c, gx.rand(3)), x, None, length=4))(np.float32(0.0))
    np.testing.assert_array_equal(np.asarray(rows), alone)
    np.testing.assert_array_equal(gx.rand(3).numpy() == alone[3], False)


def test_no_steps_write_nothing(run: Callable[..., Any]) -> None:
    net = Norm()
    run(lambda xs: gx.scan(lambda c, x: (c + net(x).sum(), None), gx.tensor(0.0), xs)[0])(XS[:0])
    np.testing.assert_array_equal(net.mean.numpy(), 0.0)


# ---- refused -----------------------------------------------------------------------------------------------------------------------


def test_a_parameter_is_no_carry(run: Callable[..., Any]) -> None:
    net = Norm()

    def body(c: Any, x: Any) -> Any:
        with gx.no_grad():
            net.w.mul_(2.0)
        return c, None
    with pytest.raises(gx.GraphError, match="the parameter w would be written inside a loop body"):
        run(lambda xs: gx.scan(body, gx.tensor(0.0), xs)[0])(XS)
    np.testing.assert_array_equal(net.w.numpy(), 1.0)


def test_the_test_of_a_loop_writes_nothing(run: Callable[..., Any]) -> None:
    count = gx.zeros(())
    with pytest.raises(gx.GraphError, match="cond_fun writes"):
        run(lambda x: gx.while_loop(lambda v: count.add_(1.0) < x, lambda v: v, gx.tensor(1.0)))(np.float32(1.0))
    assert float(count.numpy()) == 0.0


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_a_value_of_the_trace_is_no_state(backend: str) -> None:
    """What the compiled function itself computed cannot be written by a body: it has no place to be written to. (Eagerly it has.)"""
    def f(xs: Any) -> Any:
        total = xs[0] * 1.0

        def body(c: Any, x: Any) -> Any:
            total.add_(x)
            return c, None
        gx.scan(body, gx.tensor(0.0), xs)
        return total
    with pytest.raises(gx.GraphError, match=r"is written inside of a loop's body"):
        gx.compile(f, backend=backend)(XS)      # type: ignore[call-overload]
    np.testing.assert_allclose(f(gx.tensor(XS)).numpy(), XS[0] + XS.sum(0), rtol=1e-5)


def test_a_trace_that_fails_behind_the_loop_changes_nothing() -> None:
    net = Norm()

    def f(xs: Any) -> Any:
        gx.scan(lambda c, x: (c + net(x).sum(), None), gx.tensor(0.0), xs)
        raise ValueError("mine")
    with pytest.raises(ValueError, match="mine"):
        gx.compile(f)(XS)
    np.testing.assert_array_equal(net.mean.numpy(), 0.0)
