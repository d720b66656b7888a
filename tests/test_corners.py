"""The numerical corners: one documented answer for each, eagerly, on NumPy and natively. Derivatives are reverse mode's; forward mode agrees."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn

HOW: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "eager": lambda f: f, "numpy": lambda f: gx.compile(f, backend="numpy"), "llvm": lambda f: gx.compile(f)}
inf, nan = np.inf, np.nan


def of(*values: float, dtype: Any = np.float64) -> np.ndarray:
    return np.array(values, dtype)


def slope(f: Callable[..., Any]) -> Callable[..., Any]:
    return gx.grad(lambda *xs: gx.sum(f(*xs)))


VALUES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Any]] = {
    "softmax of equals far out": (gx.softmax, (of(1e3, 1e3),), of(0.5, 0.5)),
    "log_softmax": (gx.log_softmax, (of(1e4, 0.0),), of(0.0, -1e4)),
    "softplus": (gx.softplus, (of(1e3, -1e3, 0.0),), of(1e3, 0.0, np.log(2.0))),
    "logsigmoid": (nn.functional.logsigmoid, (of(1e4, -1e4),), of(0.0, -1e4)),
    "logsumexp of nothing but -inf": (gx.logsumexp, (of(-inf, -inf),), -inf),
    "logsumexp with inf": (gx.logsumexp, (of(inf, 1.0),), inf),
    "relu of NaN": (gx.relu, (of(nan, -1.0, 2.0),), of(nan, 0.0, 2.0)),
    "max of NaN": (gx.max, (of(1.0, nan, 2.0),), nan),
    "argmax of NaN": (gx.argmax, (of(1.0, nan, 2.0),), np.int64(1)),
    "argmax of ties": (gx.argmax, (of(1.0, 2.0, 2.0),), np.int64(1)),
    "mean of nothing": (gx.mean, (np.zeros(0),), nan),
    "sum of nothing": (gx.sum, (np.zeros(0),), 0.0),
    "std of one": (lambda x: gx.std(x, correction=1), (of(3.0),), nan),
    "prod with zeros": (gx.prod, (of(0.0, 2.0, 3.0),), 0.0),
    "cumulative_prod with zeros": (gx.cumulative_prod, (of(2.0, 0.0, 3.0),), of(2.0, 0.0, 0.0)),
    "0 ** 0": (lambda x, y: x**y, (of(0.0), of(0.0)), of(1.0)),
    "log1p of the tiny": (gx.log1p, (of(1e-20, -1e-20),), of(1e-20, -1e-20)),
    "expm1 of the tiny": (gx.expm1, (of(1e-20, -1e-20),), of(1e-20, -1e-20)),
    "sigmoid at the ends": (gx.sigmoid, (of(1e4, -1e4, -700.0),), of(1.0, 0.0, np.exp(-700.0))),
    "norm of 0": (lambda x: gx.linalg.vector_norm(x), (np.zeros(3),), 0.0),
    "floor_divide of negatives": (lambda a, b: a // b, (np.array([-7, 7, -7]), np.array([2, -2, -2])), np.array([-4, -4, 3])),
    "sinh and cosh beyond e^x": (lambda x: gx.sinh(x) * 0.25 + gx.cosh(-x) * 0.25, (of(710.0),), of(0.5 * np.cosh(710.0))),
    "acosh below 1": (gx.acosh, (of(0.5, -1e4, -1e300, -inf),), of(nan, nan, nan, nan)),
    "remainder of a large quotient": (gx.remainder, (of(1e30, -1e300, 1e308, 5e307), of(3.0, 7.0, 3e-300, -1e-299)),
                                      np.mod(of(1e30, -1e300, 1e308, 5e307), of(3.0, 7.0, 3e-300, -1e-299))),
    "remainder of a large quotient, f32": (gx.remainder, (of(1e10, 3e38, 1e38, dtype=np.float32), of(3.0, -0.7, 1e-37, dtype=np.float32)),
                                           np.mod(of(1e10, 3e38, 1e38, dtype=np.float32), of(3.0, -0.7, 1e-37, dtype=np.float32))),
    "powers of integers wrap": (gx.pow, (np.array([3, 5, -2, -1, -1], np.int8), np.array([64, 127, 7, -128, -127], np.int8)),
                                np.array([1, 5**127 % 256 - 256, -128, 1, -1], np.int8)),
    "remainder of negatives": (lambda a, b: a % b, (np.array([-7, 7, -7]), np.array([2, -2, -2])), np.array([1, -1, -1])),
}
SLOPES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Any]] = {
    "sqrt at 0": (gx.sqrt, (of(0.0),), of(inf)),
    "norm at 0": (lambda x: gx.linalg.vector_norm(x), (np.zeros(3),), np.zeros(3)),
    "where(x > 0, log(x), 0) at 0": (lambda x: gx.where(x > 0, gx.log(x), 0.0), (of(0.0),), of(0.0)),
    "max of ties": (gx.max, (of(2.0, 1.0, 2.0),), of(0.5, 0.0, 0.5)),
    "maximum at a tie": (lambda x: gx.maximum(x, 1.0), (of(1.0, 2.0, 0.0),), of(0.5, 1.0, 0.0)),
    "minimum at a tie": (lambda x: gx.minimum(x, 1.0), (of(1.0, 2.0, 0.0),), of(0.5, 0.0, 1.0)),
    "relu at 0 and NaN": (gx.relu, (of(0.0, nan, -1.0, 2.0),), of(0.0, 1.0, 0.0, 1.0)),
    "abs at 0": (gx.abs, (of(0.0, -0.0, -2.0),), of(0.0, 0.0, -1.0)),
    "clip at the edges": (lambda x: gx.clip(x, 0.0, 1.0), (of(0.0, 1.0, 0.5, -1.0, 2.0),), of(1.0, 1.0, 1.0, 0.0, 0.0)),
    "x ** 0 at 0": (lambda x: x ** gx.zeros_like(x), (of(0.0, 2.0),), of(0.0, 0.0)),
    "x ** 0 (a number) at 0": (lambda x: x**0, (of(0.0),), of(0.0)),
    "0 ** y at 0": (lambda y: gx.zeros_like(y) ** y, (of(0.0, 1.0),), of(0.0, 0.0)),
    "logsumexp of -inf": (gx.logsumexp, (of(-inf, -inf),), of(0.0, 0.0)),
    "logsumexp with one -inf": (gx.logsumexp, (of(-inf, 0.0),), of(0.0, 1.0)),
    "prod with one zero": (gx.prod, (of(0.0, 2.0, 3.0),), of(6.0, 0.0, 0.0)),
    "prod with two zeros": (gx.prod, (of(0.0, 0.0, 3.0),), of(0.0, 0.0, 0.0)),
    "cumulative_prod with a zero": (gx.cumulative_prod, (of(2.0, 0.0, 3.0),), of(1.0, 8.0, 0.0)),
    "softplus at the ends": (gx.softplus, (of(1e3, -1e3, 0.0),), of(1.0, 0.0, 0.5)),
    "log_softmax far out": (lambda x: gx.log_softmax(x)[1], (of(1e4, 0.0),), of(-1.0, 1.0)),
    "tanh at the ends": (gx.tanh, (of(1e3, -1e3),), of(0.0, 0.0)),
}


def same(got: Any, want: Any) -> None:
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", VALUES)
def test_value(name: str, how: str) -> None:
    f, arguments, want = VALUES[name]
    same(HOW[how](f)(*[gx.asarray(a) if how == "eager" else a for a in arguments]), want)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", SLOPES)
def test_slope(name: str, how: str) -> None:
    f, arguments, want = SLOPES[name]
    same(HOW[how](slope(f))(*arguments), want)


CURVATURES: dict[str, tuple[Callable[[Any], Any], float, float]] = {       # of smooth functions where their formulas turn: f, x, f''(x)
    "softplus": (gx.softplus, 0.0, 0.25), "logsigmoid": (nn.functional.logsigmoid, 0.0, -0.25),
    "log(1 + exp(x))": (lambda x: gx.log(1 + gx.exp(x)), 0.0, 0.25), "log(1 - sigmoid(x))": (lambda x: gx.log(1 - gx.sigmoid(x)), 0.0, -0.25),
    "logaddexp": (lambda x: gx.logaddexp(x, 2.0), 2.0, 0.25), "log(exp(x) + exp(2 x))": (lambda x: gx.log(gx.exp(x) + gx.exp(2 * x)), 0.0, 0.25),
    "hypot of equals": (lambda x: gx.hypot(x, 1.0), -1.0, 8**-0.5), "hypot with 0": (lambda x: gx.hypot(x, 2.0), 0.0, 0.5), "asinh": (gx.asinh, 0.0, 0.0),
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", CURVATURES)
def test_curvature(name: str, how: str) -> None:
    f, x, want = CURVATURES[name]
    for twice in (gx.grad(gx.grad(f)), gx.jacfwd(gx.grad(f)), gx.jacfwd(gx.jacfwd(f))):
        same(HOW[how](lambda x, twice=twice: twice(x))(np.array(x)), want)


@pytest.mark.parametrize("how", HOW)
def test_cross_entropy_of_logits_that_are_sure_and_wrong(how: str) -> None:
    x, label = np.array([[1e4, -1e4]]), np.array([1])
    f = HOW[how](lambda x: gx.value_and_grad(lambda x: nn.functional.cross_entropy(x, gx.asarray(label)))(x))
    loss, g = f(x)
    same(loss, 2e4)
    same(g, [[1.0, -1.0]])


@pytest.mark.parametrize("how", HOW)
def test_binary_cross_entropy_of_logits_by_hand(how: str) -> None:
    """-(y log p + (1 - y) log(1 - p)), p = sigmoid(x): the derivative is p - y, and compiled the value is finite too."""
    y = of(0.0, 1.0, 1.0)

    def f(x: Any) -> Any:
        p = gx.sigmoid(x)
        return -gx.sum(y * gx.log(p) + (1 - y) * gx.log(1 - p))
    same(HOW[how](gx.grad(f))(of(1e4, -1e4, 0.0)), of(1.0, -1.0, -0.5))
    if how != "eager":
        same(HOW[how](f)(of(1e4, -1e4, 0.0)), 2e4 + np.log(2.0))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64], ids=str)
@pytest.mark.parametrize("how", HOW)
def test_integers_never_trap(how: str, dtype: Any) -> None:
    """Division by 0 gives 0; of the least by -1, and its absolute value, wrap. In lanes and in the scalar tail; by arrays, by constants, folded."""
    least = np.iinfo(dtype).min
    a = np.array([7, least, least, -7, 0] * 9, dtype)
    b = np.array([0, -1, 0, 2, 0] * 9, dtype)
    f = HOW[how](lambda a, b: (a // b, a % b, gx.abs(a), -a))
    q, r, size, minus = (np.asarray(v) for v in f(*[gx.asarray(v) if how == "eager" else v for v in (a, b)]))
    assert q[:5].tolist() == [0, least, 0, -4, 0]
    assert r[:5].tolist() == [0, 0, 0, 1, 0]
    assert size[1] == minus[1] == least
    assert np.array_equal(np.tile(q[:5], 9), q)
    assert np.array_equal(np.tile(r[:5], 9), r)
    one = HOW[how](lambda a: (a // gx.asarray(np.array(0, dtype)), a % gx.asarray(np.array(0, dtype)), a // gx.asarray(np.array(-1, dtype))))
    q, r, turned = (np.asarray(v) for v in one(gx.asarray(a) if how == "eager" else a))
    assert not q.any()
    assert not r.any()
    assert turned[1] == least


def test_forward_mode_agrees_at_the_corners() -> None:
    for name in ("max of ties", "maximum at a tie", "relu at 0 and NaN", "abs at 0", "clip at the edges", "x ** 0 at 0", "0 ** y at 0", "prod with one zero"):
        f, (x,), want = SLOPES[name]
        pushed = sum(float(np.asarray(gx.jvp(lambda x, f=f: gx.sum(f(x)), (x,), (e,))[1])) for e in np.eye(len(x)))
        assert np.isclose(pushed, want.sum()), name
