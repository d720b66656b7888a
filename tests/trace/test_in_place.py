"""What a function writes to its arguments is its own: `x += 1`, `x.add_(1)`, `x[0] = 5` under every transform, eagerly and compiled."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx

X = np.array([1.0, 2.0, 3.0])


@pytest.fixture(params=["eager", "numpy", "llvm"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """f on X as a Tensor: eagerly, or compiled."""
    if request.param == "eager":
        return lambda f: f(gx.tensor(X))
    return lambda f: gx.compile(f, backend=request.param)(X)


def operators(x: Any) -> Any:
    x += 1
    x *= 2
    return (x * x).sum()


def methods(x: Any) -> Any:
    x.add_(1).mul_(2)
    return (x * x).sum()


def elements(x: Any) -> Any:
    x[0] = 5.0
    x[1:] *= x[2]
    return (x * x).sum()


WRITERS = {"operators": (operators, 8 * (X + 1), 8 * np.eye(3)), "methods": (methods, 8 * (X + 1), 8 * np.eye(3)),
           "elements": (elements, [0, 2 * 2 * 9, 2 * 3 * 4 + 4 * 27], [[0, 0, 0], [0, 18, 24], [0, 24, 2 * 4 + 12 * 9]])}


@pytest.mark.parametrize("name", WRITERS)
def test_derivatives_are_by_the_argument_as_it_was_given(run: Any, name: str) -> None:
    f, first, second = WRITERS[name]
    one = gx.tensor(1.0, dtype="f64")
    ones = gx.tensor(np.ones(3))
    for by in (gx.grad(f), gx.jacrev(f), gx.jacfwd(f), lambda x: gx.vjp(f, x)[1](one)[0], gx.grad(gx.checkpoint(f)), lambda x: gx.vmap(gx.grad(f))(x[None])[0]):
        np.testing.assert_allclose(run(by), first)
    np.testing.assert_allclose(run(lambda x: gx.jvp(f, (x,), (ones,))[1]), np.sum(first))
    np.testing.assert_allclose(run(gx.hessian(f)), second)


def test_the_argument_outside_keeps_its_value() -> None:
    x, leaf = gx.tensor(X), gx.tensor(X, requires_grad=True)
    for f, _, _ in WRITERS.values():
        gx.grad(f)(x), gx.hessian(f)(leaf), gx.vmap(f)(x[None]), gx.linearize(f, x)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(leaf.detach(), X)
    assert leaf.is_leaf


def test_in_the_bodies_of_loops(run: Any) -> None:
    def writes(c: Any, a: Any) -> Any:
        c.add_(a)
        c *= c.sum()
        c[0] = c[1]
        return c, c

    def pure(c: Any, a: Any) -> Any:
        c = (c + a) * (c + a).sum()
        c = gx.stack([c[1], c[1], c[2]])
        return c, c
    for loop in (lambda f, x: gx.scan(f, x, x)[0].sum(), lambda f, x: gx.fori_loop(0, 2, lambda i, c: f(c, 1.0)[0], x).sum(),
                 lambda f, x: gx.while_loop(lambda c: c.sum() < 99, lambda c: f(c, 1.0)[0], x, max_steps=3).sum(),
                 lambda f, x: gx.cond(x[0] > 0, lambda c: f(c, x)[0].sum(), lambda c: c.sum(), x)):
        for d in (lambda f: f, gx.grad, gx.hessian):
            np.testing.assert_allclose(run(d(lambda x: loop(writes, x))), run(d(lambda x: loop(pure, x))))      # noqa: B023


def test_a_leaf_made_inside_of_a_step_stays_one(run: Any) -> None:
    def descend(x: Any) -> Any:
        w = x.detach().clone().requires_grad_()
        for _ in range(3):
            ((w - 1) ** 2).sum().backward()
            with gx.no_grad():
                w -= 0.1 * w.grad
            w.grad = None
        return w.detach()
    np.testing.assert_allclose(run(descend), 1 + 0.8 ** 3 * (X - 1))


def test_a_leaf_made_inside_of_a_step_is_frozen(run: Any) -> None:
    def frozen(x: Any) -> Any:
        w, v = x.detach().clone().requires_grad_(), x.detach().clone().requires_grad_()
        w.requires_grad_(False)
        (w * v).sum().backward()
        assert w.grad is None
        return v.grad
    np.testing.assert_allclose(run(frozen), X)


def test_hooks_stay_with_a_leaf_that_is_written(run: Any) -> None:
    def hooked(x: Any) -> Any:
        w = x.detach().clone().requires_grad_()
        w.register_hook(lambda g: 10 * g)
        with gx.no_grad():
            w.mul_(2)
        (w * w).sum().backward()
        return w.grad
    np.testing.assert_allclose(run(hooked), 40 * X)


def test_a_result_of_operations_that_is_written_under_no_grad_is_a_constant(run: Any) -> None:
    """So gradients made with create_graph=True can be scaled. torch keeps the old derivative beside the new value."""
    def write(x: Any) -> Any:
        w = x.detach().clone().requires_grad_()
        (w ** 3).sum().backward(create_graph=True)
        with gx.no_grad():
            w.grad.mul_(0.5)
        assert not w.grad.requires_grad
        return w.grad
    np.testing.assert_allclose(run(write), 1.5 * X ** 2)

    def lost(x: Any) -> Any:
        y = 2 * x.detach().clone().requires_grad_()
        with gx.no_grad():
            y.add_(1)
        return y.sum().backward()
    with pytest.raises(gx.GraphError, match="does not require a gradient") as e:
        run(lost)
    assert "no_grad()" in str(e.value.why)


def test_a_result_of_operations_that_is_filled_is_a_constant(run: Any) -> None:
    def fill(x: Any) -> Any:
        w = x.detach().clone().requires_grad_()
        y = w * w
        y.fill_(3.0)
        assert not y.requires_grad
        (y * w).sum().backward()
        return w.grad
    np.testing.assert_allclose(run(fill), 3 * np.ones(3))
