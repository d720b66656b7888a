"""The double-where trap: what a `where` did not choose has the derivative 0, whatever it is."""
from __future__ import annotations

import numpy as np
import pytest

import graphc as gx

AT = np.array([0.0, 2.0, -1.0, 0.5, -0.0])
TRAPS = {                                               # where(x > 0, f(x), 0): f, f', f''
    "log": (gx.log, lambda x: 1 / x, lambda x: -1 / x**2),
    "sqrt": (gx.sqrt, lambda x: 0.5 * x**-0.5, lambda x: -0.25 * x**-1.5),
    "rsqrt": (gx.rsqrt, lambda x: -0.5 * x**-1.5, lambda x: 0.75 * x**-2.5),
    "div": (lambda x: 1.0 / x, lambda x: -1 / x**2, lambda x: 2 / x**3),
    "pow": (lambda x: x**0.3, lambda x: 0.3 * x**-0.7, lambda x: -0.21 * x**-1.7),
    "pow of both": (lambda x: x**x, lambda x: x**x * (np.log(x) + 1), lambda x: x**x * ((np.log(x) + 1) ** 2 + 1 / x)),
    "x log x": (lambda x: x * gx.log(x), lambda x: np.log(x) + 1, lambda x: 1 / x),
    "overflow": (lambda x: gx.exp(1.0 / x) * 1e-3, lambda x: -np.exp(1 / x) / x**2 * 1e-3, lambda x: np.exp(1 / x) * (2 * x + 1) / x**4 * 1e-3),
    "cbrt": (gx.cbrt, lambda x: x ** (-2 / 3) / 3, lambda x: -2 / 9 * x ** (-5 / 3)),
    "log of sqrt": (lambda x: gx.log(gx.sqrt(x)), lambda x: 0.5 / x, lambda x: -0.5 / x**2),
    "not a number": (lambda x: x * (x / x) * x, lambda x: 2 * x, lambda x: 2 + 0 * x),
}


def inside(values, x):
    return np.where(x > 0, np.asarray(values(np.where(x > 0, x, 1.0))), 0.0)


def chosen(f):
    return lambda x: gx.where(x > 0, f(x), 0.0)


@pytest.mark.parametrize("name", TRAPS)
def test_first_and_second_derivatives(name: str) -> None:
    f, first, second = TRAPS[name]
    safe = chosen(f)
    one, two = inside(first, AT), inside(second, AT)
    grad = gx.grad(lambda x: gx.sum(safe(x)))
    for step in (grad, gx.compile(grad), gx.compile(grad, stable=False), gx.compile(grad, backend="numpy")):
        assert np.allclose(np.asarray(step(AT)), one, rtol=1e-12)
    assert np.allclose(np.asarray(gx.compile(gx.grad(lambda x: gx.sum(grad(x))))(AT)), two, rtol=1e-10)
    assert np.allclose(np.diag(np.asarray(gx.compile(gx.jacfwd(grad))(AT))), two, rtol=1e-10)
    assert np.allclose(np.asarray(gx.jvp(safe, (AT,), (np.ones(5),))[1]), one, rtol=1e-12)


@pytest.mark.parametrize("name", TRAPS)
def test_under_vmap_scan_and_in_a_branch(name: str) -> None:
    f, first, _ = TRAPS[name]
    safe, one = chosen(f), inside(first, AT)
    assert np.allclose(gx.compile(gx.vmap(gx.grad(safe)))(AT), one, rtol=1e-12)
    assert np.allclose(gx.compile(gx.grad(lambda x: gx.sum(gx.vmap(safe)(x))))(AT), one, rtol=1e-12)
    looped = gx.grad(lambda x: gx.scan(lambda c, v: (c + safe(v), v), gx.asarray(0.0, dtype=gx.float64), x)[0])
    assert np.allclose(gx.compile(looped)(AT), one, rtol=1e-12)
    assert np.allclose(gx.compile(gx.grad(lambda x: gx.sum(gx.cond(gx.sum(x) > 0, safe, lambda v: v, x))))(AT), one, rtol=1e-12)
    assert np.allclose(gx.compile(gx.grad(lambda x: gx.sum(gx.checkpoint(safe)(x))))(AT), one, rtol=1e-12)


def test_the_other_branch_and_both() -> None:
    def f(x):
        return gx.sum(gx.where(x > 0, gx.sqrt(x), gx.sqrt(-x)) + gx.where(x <= 0, 0.0, gx.log(x)))
    x = np.array([4.0, -9.0])
    assert np.allclose(gx.compile(gx.grad(f))(x), [0.25 + 0.25, -1 / 6])


def test_nested_conditions() -> None:
    def f(x):
        return gx.sum(gx.where(x > 0, gx.where(x < 3, gx.log(x) * gx.log(3 - x), gx.sqrt(x - 3)), 0.0))
    x = np.array([-1.0, 0.0, 1.0, 3.0, 7.0])
    got = gx.compile(gx.grad(f))(x)
    assert np.allclose(got[[0, 1, 2, 4]], [0.0, 0.0, np.log(2.0), 0.25])
    assert np.isinf(got[3])                             # chosen, and sqrt'(0) is inf


def test_arcsin_at_the_edge() -> None:
    f = gx.grad(lambda x: gx.sum(gx.where(gx.abs(x) < 1, gx.asin(x), 0.0)))
    assert np.allclose(gx.compile(f)(np.array([1.0, -1.0, 2.0, 0.6])), [0.0, 0.0, 0.0, 1.25])


def test_a_norm_at_zero() -> None:
    """Of rows, by keepdims and without; x / norm(x) as well: the condition goes down through broadcasts and sums."""
    x = np.array([[3.0, 4.0], [0.0, 0.0]])

    def norms(x):
        n = gx.sqrt(gx.sum(x * x, axis=1))
        return gx.sum(gx.where(n > 0, n, 0.0))

    def units(x):
        n = gx.sqrt(gx.sum(x * x, axis=1, keepdims=True))
        return gx.sum(gx.where(n > 0, x / n, 0.0))
    assert np.allclose(gx.compile(gx.grad(norms))(x), [[0.6, 0.8], [0.0, 0.0]])
    assert np.allclose(gx.compile(gx.grad(units))(x), [[4 * 1 / 125 * 4 - 12 / 125 * 1, 9 / 125 - 12 / 125], [0.0, 0.0]])
    turned = gx.compile(gx.grad(lambda x: gx.sum(gx.permute_dims(gx.where(gx.permute_dims(x, (1, 0)) > 3, 1 / gx.permute_dims(x - 3, (1, 0)), 0.0), (1, 0)))))
    assert np.allclose(turned(x), [[0.0, -1.0], [0.0, 0.0]])


def test_what_is_chosen_keeps_its_infinity() -> None:
    """sqrt'(0) = inf where sqrt(0) was chosen: nothing is hidden."""
    assert np.isposinf(gx.compile(gx.grad(lambda x: gx.sum(gx.where(x >= 0, gx.sqrt(x), 0.0))))(np.zeros(1))).all()


def test_a_branch_that_others_read_too() -> None:
    """The root is read outside of the where as well: there its infinite derivative counts."""
    def f(x):
        r = gx.sqrt(x)
        return gx.sum(gx.where(x > 1, r, 0.0) + 0.5 * r)
    assert np.allclose(gx.compile(gx.grad(f))(np.array([4.0, 0.25])), [0.375, 0.5])
    assert np.isposinf(gx.compile(gx.grad(f))(np.zeros(1))).all()


def test_two_conditions_for_one_branch() -> None:
    def f(x):
        r = gx.log(x)
        return gx.sum(gx.where(x > 0, r, 0.0) + gx.where(x > 1, r, 0.0))
    assert np.allclose(gx.compile(gx.grad(f))(np.array([0.0, 0.5, 2.0])), [0.0, 2.0, 1.0])


def test_a_relu_net_has_no_selection_more() -> None:
    """relu, bias, product: linear down to the contraction, so nothing is added."""
    w = np.ones((4, 3))
    lowered = gx.compile(gx.grad(lambda x: gx.sum(gx.relu(x @ w + 1.0)))).lower(gx.Spec((2, 4), gx.float64))
    assert sum("= where(" in line for line in lowered.text("graph").splitlines()) == 1      # the derivative of relu alone


def test_a_hook_may_change_what_is_zero() -> None:
    x = gx.tensor([0.0, 2.0], dtype=gx.float64, requires_grad=True)
    r = gx.exp(x)
    r.register_hook(lambda g: g + 1.0)
    gx.sum(gx.where(x > 1, r, 0.0)).backward()
    assert np.allclose(x.grad.numpy(), [1.0, 2 * np.exp(2.0)])
