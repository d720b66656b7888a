"""Transforms and loops given what they are not for: each a GraphError with this file's line, none an exception of the inside; and dicts in any order."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.trace.tape import current

HERE = Path(__file__).name
X = gx.tensor([0.0, 1.0, 2.0])
LEAF = gx.tensor([0.0, 1.0, 2.0], requires_grad=True)


def total(x: Any) -> Any:
    return (x * x).sum()


def step(c: Any, x: Any) -> Any:
    return c, x


def ruled(word: str, **options: Any) -> Any:
    f = getattr(gx, word)(lambda x: 2 * x, **options)
    f.defvjp(lambda x: (2 * x, None), lambda _, g: (g,)) if word == "custom_vjp" else f.defjvp(lambda p, t: (2 * p[0], 2 * t[0]))
    return gx.grad(lambda x: f(x).sum())(X)


WORDS = {
    "grad of a tensor": (lambda: gx.grad(LEAF, X), "grad of a Tensor, which is no function", "autograd.grad(outputs, inputs)"),
    "jvp of None": (lambda: gx.jvp(None, (X,), (X,)), "jvp of a NoneType, which is no function", ""),
    "vmap of a number": (lambda: gx.vmap(3), "vmap of a int, which is no function", ""),
    "hvp without tuples": (lambda: gx.hvp(total, X, X), "hvp takes its primals and its tangents as tuples", "gx.hvp(f, (x,), (t,))"),
    "argnums by name": (lambda: gx.grad(total, argnums="x")(X), "grad: argnums is 'x'", "the number of an argument"),
    "argnums None": (lambda: gx.jacrev(total, argnums=None)(X), "jacrev: argnums is None", "the number of an argument"),
    "argnums twice": (lambda: gx.grad(lambda x, y: total(x), argnums=(0, -2))(X, X), "grad: argnums names argument 0 twice: (0, -2)", "each argument once"),
    "argnums out of range": (lambda: gx.hessian(total, argnums=3)(X), "by argument 3 of 1", "from 0 to 0"),
    "by a keyword": (lambda: gx.grad(total)(x=X), "grad by argument 0 of 0", "keywords have no number"),
    "no pair": (lambda: gx.grad(total, has_aux=True)(X), "grad with has_aux=True needs a function that returns a pair, got Tensor", "return value, aux"),
    "a triple": (lambda: gx.value_and_grad(lambda x: (total(x), x, x), has_aux=True)(X), "returns a pair, got a tuple of 3", "return value, aux"),
    "axis_size": (lambda: gx.vmap(total, in_axes=None, axis_size=-1)(X), "vmap: axis_size is -1", "how many examples"),
    "axis_size of text": (lambda: gx.vmap(total, in_axes=None, axis_size="3")(X), "vmap: axis_size is a str", "how many examples"),
    "too many examples": (lambda: gx.vmap(total, in_axes=None, axis_size=2 ** 70)(X), f"vmap: axis_size is {2 ** 70}", ""),
    "scan of None": (lambda: gx.scan(None, X, X), "scan: f is a NoneType, not a function", ""),
    "scan reversed by text": (lambda: gx.scan(step, X, X, reverse="yes"), "scan: reverse is a str, not a bool", ""),
    "scan for ever": (lambda: gx.scan(step, X, None, length=2 ** 70), f"scan: length is {2 ** 70}, not a number of steps", ""),
    "checkpoint of arrays": (lambda: gx.scan(step, X, X, checkpoint=np.zeros(2)), "scan: checkpoint is array([0., 0.])", "sqrt"),
    "fori_loop of None": (lambda: gx.fori_loop(0, 3, None, X), "fori_loop: body is a NoneType, not a function", ""),
    "while_loop of None": (lambda: gx.while_loop(None, total, X), "while_loop: cond_fun is a NoneType, not a function", ""),
    "while_loop without body": (lambda: gx.while_loop(total, 3, X), "while_loop: body_fun is a int, not a function", ""),
    "too many turns": (lambda: gx.while_loop(lambda x: x.sum() < 3, lambda x: x, X, max_steps=2 ** 70), f"while_loop: max_steps is {2 ** 70}", ""),
    "switch of a function": (lambda: gx.switch(0, total, X), "switch: branches is a function", "a list of functions"),
    "switch of None": (lambda: gx.switch(0, [None], X), "switch: branches[0] is NoneType, not a function", ""),
    "autograd of nothing": (lambda: gx.autograd.grad(total(LEAF), []), "autograd.grad: inputs is empty", "a Tensor"),
    "autograd by None": (lambda: gx.autograd.grad(total(LEAF), [None]), "autograd.grad: inputs[0] is a NoneType, not a Tensor", "a Tensor"),
    "autograd of text": (lambda: gx.autograd.grad("loss", LEAF), "autograd.grad: outputs is a str", "a Tensor"),
    "too many cotangents": (lambda: gx.autograd.grad(LEAF * 2, LEAF, [X, X]), "autograd.grad: 1 outputs and 2 gradients of them", "one for each"),
    "backward of nothing": (lambda: gx.autograd.backward([]), "backward(): what it is called on is empty", ""),
    "backward by a constant": (lambda: total(LEAF).backward(inputs=[X]), "backward() by f32[3], which does not require a gradient", "requires_grad_()"),
    "a hook that is none": (lambda: LEAF.register_hook(X), "a hook on f32[3] is a Tensor, not a function", "lambda g"),
    "requires_grad of text": (lambda: X.requires_grad_("yes"), "requires_grad is a str, not a bool", ""),
    "nondiff_argnums by name": (lambda: ruled("custom_vjp", nondiff_argnums="x"), "custom_vjp of <lambda>: nondiff_argnums is a str", ""),
    "nondiff_argnums beyond": (lambda: ruled("custom_jvp", nondiff_argnums=(4,)), "<lambda> has 1 arguments, and nondiff_argnums names argument 4", "0 to 0"),
    "gradcheck of a tensor": (lambda: gx.gradcheck(LEAF, LEAF), "gradcheck of a Tensor, which is no function", "gx.gradcheck(f, inputs)"),
}


@pytest.mark.parametrize("case", WORDS)
@pytest.mark.parametrize("traced", [False, True])
def test_words(case: str, traced: bool) -> None:
    f, what, fix = WORDS[case]
    with pytest.raises(gx.GraphError) as e:
        gx.compile(lambda x: f())(np.zeros(1)) if traced else f()
    assert what in e.value.what
    assert fix in str(e.value.fix)
    assert HERE in str(e.value.at)
    assert current.tracer is None
    assert current.grad


@pytest.mark.parametrize("f", [gx.hessian(total), gx.jacrev(lambda x: 2 * x), gx.jacfwd(lambda x: 2 * x),
                               lambda x: gx.scan(lambda c, _: (c, c), x, None, length=2 ** 30)])
def test_results_that_no_memory_holds(f: Callable[..., Any]) -> None:
    with pytest.raises(gx.GraphError, match=r"there is not enough memory|needs .* bytes") as e:
        f(gx.zeros(2 ** 24))
    assert HERE in str(e.value.at)


def test_argument_numbers_of_numpy() -> None:
    f = lambda x, y: (x * y).sum()
    np.testing.assert_array_equal(gx.grad(f, argnums=np.int64(1))(X, 2 * X), X)
    np.testing.assert_array_equal(gx.jacrev(f, argnums=[np.int32(0)])(X, 2 * X)[0], 2 * X)


def test_a_loss_that_is_a_python_number_has_no_slope() -> None:
    np.testing.assert_array_equal(gx.grad(lambda x: 1.0)(X), np.zeros(3))
    assert gx.value_and_grad(lambda x: np.float64(2.0))(X)[0].item() == 2.0


def test_dicts_are_equal_in_any_order() -> None:
    a, b = gx.tensor(2.0), gx.tensor(3.0)

    def turned(d: Any) -> Any:
        return {"n": {"v": d["n"]["v"] * 2, "u": d["n"]["u"]}, "m": d["m"] + 1}
    start = {"m": a, "n": {"u": a, "v": b}}
    want = {"m": 5.0, "n": {"u": 2.0, "v": 24.0}}
    for got in (gx.scan(lambda c, _: (turned(c), None), start, None, length=3)[0], gx.fori_loop(0, 3, lambda i, c: turned(c), start),
                gx.while_loop(lambda c: c["m"] < 5, turned, start)):
        assert {"m": got["m"].item(), "n": {k: v.item() for k, v in got["n"].items()}} == want
        assert list(got) == ["m", "n"]
    got = gx.cond(False, lambda d: d, turned, start)
    assert (got["m"].item(), got["n"]["u"].item(), got["n"]["v"].item()) == (3.0, 2.0, 6.0)
    f = lambda p: p["m"] * p["n"]["u"] ** 2
    assert gx.jvp(f, (start,), ({"n": {"v": a, "u": b}, "m": a},))[1].item() == 2 * 4 + 2 * 2 * 2 * 3
    _, pullback = gx.vjp(lambda x: {"p": x, "q": 3 * x}, a)
    assert pullback({"q": b, "p": a})[0].item() == 11.0


# ---- values that a body does not have yet ----------------------------------------------------------------------------------------------


def in_scan(f: Any) -> Any:
    return gx.scan(lambda c, x: (f(c), None), X, None, length=2)


def in_vmap(f: Any) -> Any:
    return gx.vmap(f)(gx.ones((2, 3)))


USES = {
    "if": (lambda v: v if v.sum() > 0 else -v, "a Python bool", "gx.where(condition, a, b)"),
    "int": (lambda v: v * int(v.sum()), "a Python int", "return it from the body"),
    "item": (lambda v: v * v.sum().item(), ".item()", "return it from the body and call .item()"),
    "range": (lambda v: v * len(range(gx.argmax(v))), "an index", "return it from the body"),
    "np.exp": (lambda v: np.exp(v), "an argument of np.exp", "gx.exp"),
    "np.sum": (lambda v: np.sum(v), "an argument of np.sum", "gx.sum"),
    "np.linalg.norm": (lambda v: v * np.linalg.norm(v), "an argument of np.linalg.norm", "gx.norm"),
    "np.concatenate": (lambda v: np.concatenate([v, v]), "an argument of np.concatenate", "gx.exp, gx.sum"),
    "np.array": (lambda v: np.array([v[0], v[1]]), "a NumPy array", "stay with gx.* functions"),
    "format": (lambda v: v * len(f"{v.sum():.2f}"), "text (format '.2f')", "return it from the body, and print it there"),
}


@pytest.mark.parametrize("use", USES)
def test_a_value_of_a_body_as_a_python_value(use: str) -> None:
    f, what, fix = USES[use]
    for body, where in ((in_scan, "inside a loop's body a Tensor stands for the numbers of every turn"),
                        (in_vmap, "inside vmap a Tensor stands for the numbers of every example"),
                        (lambda g: gx.compile(g)(X.numpy()), "inside a compiled function a Tensor stands for the numbers of every call")):
        with pytest.raises(gx.GraphError) as e:
            body(f)
        assert what in e.value.what
        assert str(e.value.why).startswith(where)
        assert (fix if "every call" not in where else fix.replace("the body", "the compiled function")) in str(e.value.fix)
        assert HERE in str(e.value.at)


def test_a_value_kept_from_a_body() -> None:
    kept: list[Any] = []
    for body, one in ((in_scan, "turn"), (in_vmap, "example")):
        body(lambda v: kept.append(v) or v)             # type: ignore[func-returns-value]
        with pytest.raises(gx.GraphError, match="is used outside of the trace that made it") as e:
            kept[-1] + 1
        assert f"a number of one {one}" in str(e.value.why)
        assert e.value.fix == "return it from the body"


def test_numpy_and_text_of_values_that_are_there() -> None:
    assert np.sum(X) == 3
    assert np.shape(X) == (3,)
    assert isinstance(np.concatenate([X, X]), np.ndarray)
    np.testing.assert_allclose(np.mean(gx.stack([X, X]), axis=0), X)
    assert gx.compile(lambda x: x * np.ndim(x) * np.size(x) * np.shape(x)[0])(X.numpy())[1] == 9
    assert f"{X.sum():.2f} {X}" == "3.00 tensor([0., 1., 2.])"


LOSSES = {"a pair": (lambda x: (x.sum(), x), "got a tuple of 2", "has_aux=True"), "nothing": (lambda x: None, "got NoneType", "return the loss"),
          "a count": (lambda x: gx.argmax(x), "got i64[]", "has no slope"), "a vector": (lambda x: x, "got f32[3]", ".mean() or .sum()")}


@pytest.mark.parametrize("case", LOSSES)
def test_losses(case: str) -> None:
    f, got, fix = LOSSES[case]
    with pytest.raises(gx.GraphError, match="grad needs a function that returns a floating scalar, ") as e:
        gx.grad(f)(X)
    assert got in e.value.what
    assert fix in str(e.value.fix)
    assert HERE in str(e.value.at)
