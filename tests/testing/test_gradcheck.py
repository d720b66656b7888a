"""gradcheck and gradgradcheck as torch has them, by two kinds of differences; explain_grad, in words; what a wrong rule makes of them."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn

X = gx.tensor([0.5, 2.0, -1.5], dtype="f64", requires_grad=True)
Y = gx.tensor([1.5, 0.3, 0.7], dtype="f64", requires_grad=True)


@gx.custom_vjp
def wrong(x: Any, y: Any) -> Any:
    return x * x * y


wrong.defvjp(lambda x, y: (x * x * y, (x, y)), lambda res, g: (2.0 * res[0] * g * res[1], g * res[0]))        # d/dy should be x * x


@pytest.mark.parametrize("method", ["central", "complex step"])
@pytest.mark.parametrize("f", [lambda x, y: gx.sin(x) * y, lambda x, y: (x * y).sum(), lambda x, y: (gx.tanh(x) @ y, gx.outer(x, y)),
                               lambda x, y: gx.where(x > 0, x * x, gx.exp(y))], ids=["map", "scalar", "several", "where"])
def test_right_derivatives(f: Any, method: Any) -> None:
    tight = {"atol": 1e-14, "rtol": 1e-13} if method == "complex step" else {}
    assert gx.gradcheck(f, (X, Y), method=method, check_forward_ad=True, **tight)
    assert gx.gradgradcheck(f, (X, Y), method=method, check_fwd_over_rev=True, **tight)


@pytest.mark.parametrize("method", ["central", "complex step"])
def test_a_wrong_derivative_is_named(method: Any) -> None:
    y = gx.tensor([1.5, 0.3, 0.7], dtype="f64", requires_grad=True)
    y.name = "y"
    with pytest.raises(gx.GradcheckError, match=r"d output 0\[2\] / d input 1 \(y\)\[2\] is -1.5 by reverse mode, and 2.25\d* by"):
        gx.gradcheck(wrong, (X, y), method=method)
    assert gx.gradcheck(wrong, (X, y), raise_exception=False, method=method) is False
    assert gx.gradcheck(wrong, (X, y.detach()), method=method)          # by x it is right
    with pytest.raises(gx.GradcheckError, match="by forward mode"):
        gx.gradcheck(wrong, (X, y), check_backward_ad=False, check_forward_ad=True, method=method)


def test_what_it_takes() -> None:
    assert gx.gradcheck(lambda x, k: x * k, (np.ones(3), 2))            # f64 arrays are differentiated, other arguments stand still
    assert gx.gradcheck(lambda x: (gx.argmax(x), x * x), X)             # integers have no derivative
    assert gx.gradcheck(lambda x: gx.sin(x), gx.tensor([0.3], requires_grad=True), eps=1e-2, atol=1e-2)
    assert gx.gradcheck(lambda x: gx.sqrt(x * 0.0 + 1.0), (X,))
    assert gx.gradcheck(lambda x: x * gx.ones((0, 3), dtype="f64"), (X,))
    noise = iter(range(100))
    cases = [
        (lambda: gx.gradcheck(lambda x: x, X.detach()), "no input requires a gradient"),
        (lambda: gx.gradcheck(lambda x: x, gx.tensor([1.0], requires_grad=True)), "differences with eps=1e-06 need f64"),
        (lambda: gx.gradcheck(lambda x: gx.argmax(x), X), "without a floating result"),
        (lambda: gx.gradcheck(lambda x: x * next(noise), X), "is another one when the function is called again"),
        (lambda: gx.gradcheck(lambda x: abs(x), X, method="complex step"), "abs computes with no complex numbers"),
        (lambda: gx.gradcheck(lambda x: x, X, method="forward"), "there is no method 'forward'"),
    ]
    for f, words in cases:
        with pytest.raises(gx.GraphError, match=words):
            f()


def test_a_wrong_second_derivative() -> None:
    @gx.custom_vjp
    def bent(x: Any) -> Any:
        return x ** 3
    bent.defvjp(lambda x: (x ** 3, gx.stop_gradient(x)), lambda x, g: (3.0 * g * x * x,))      # right once, and constant then
    assert gx.gradcheck(bent, X)
    with pytest.raises(gx.GradcheckError, match=r"d output 0\[2\] / d input 0\[2\] is 0 by reverse mode"):
        gx.gradgradcheck(bent, X)


# ---- explain_grad ------------------------------------------------------------------------------------------------------------------------

W = gx.tensor([1.0, 2.0], requires_grad=True)
V = gx.tensor([3.0, -4.0], requires_grad=True)
W.name = "w"


@pytest.mark.parametrize(("loss", "words"), [
    (lambda: (W * V).sum(), ["w: f32[2]: 1 way to the loss, of 2 operations", "gradient: norm 5"]),
    (lambda: (W * W).sum() + W.sum(), ["w: f32[2]: 3 ways to the loss, of 4 operations", "gradient: norm 5.831"]),
    (lambda: V.sum(), ["w: f32[2] is not used to compute the loss: its gradient is None"]),
    (lambda: W.detach().sum(), ["w: f32[2]: every way to the loss is cut, so its gradient is zero", "cut by stop_gradient (detach, no_grad)"]),
    (lambda: (W.detach() * V).sum(), ["every way to the loss is cut", "cut by stop_gradient (detach, no_grad)"]),
    (lambda: (W > 1).astype("f32").sum() * V[0], ["every way to the loss is cut", "cut by lt"]),
    (lambda: (gx.floor(W) * V).sum(), ["every way", "cut by floor"]),
    (lambda: (W.astype("i32") * V).sum(), ["every way", "cut by cast to i32"]),
    (lambda: (W.detach() * W).sum(), ["1 way to the loss, of 2 operations; 1 cut", "cut by stop_gradient", "gradient: norm 2.236"]),
    (lambda: gx.relu(W - 1.5).sum(), ["1 way", "gradient: norm 1, 1 of 2 elements are 0", "passes 1 of 2 elements"]),
    (lambda: gx.relu(-W).sum(), ["gradient: 0 everywhere", "passes 0 of 2 elements"]),
    (lambda: gx.sqrt(W - W).sum(), ["gradient: 2 of 2 elements are not finite", "made by the derivative of sqrt"]),
    (lambda: gx.checkpoint(gx.sin)(W).sum(), ["1 way", "gradient: norm 0.6"]),
    (lambda: wrong(W, V).sum(), ["gradient: norm"]),
])
def test_explanations(loss: Any, words: list[str]) -> None:
    text = gx.explain_grad(loss, W)
    for w in words:
        assert w in text, text


def test_explanations_of_tensors_and_modules() -> None:
    assert gx.explain_grad((W * V).sum(), W).splitlines() == ["w: f32[2]: 1 way to the loss, of 2 operations", "gradient: norm 5"]
    assert "explain_grad(lambda: loss) sees it" in gx.explain_grad((W.detach() * V).sum(), W)
    gx.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    with gx.no_grad():
        net[0].weight.fill_(-1.0)
        net[0].bias.fill_(0.0)
    text = gx.explain_grad(lambda: net(gx.ones((2, 3))).mean(), net[0].weight)
    assert "gradient: 0 everywhere" in text
    assert "in 1 at test_gradcheck.py" in text, "the layer and the line of the dead relu"
    assert "passes 0 of 8 elements" in text
    frozen = gx.tensor([1.0, 2.0])
    assert "does not require a gradient: requires_grad_() asks for one" in gx.explain_grad(lambda: (frozen * V).sum(), frozen)
    for bad, words in ((lambda: gx.explain_grad(W, W), r"explain_grad of a f32\[2\]"), (lambda: gx.explain_grad(lambda: W, W), "returns a floating scalar"),
                       (lambda: gx.explain_grad(W.sum(), 3), "explain_grad by a int")):
        with pytest.raises(gx.GraphError, match=words):
            bad()
