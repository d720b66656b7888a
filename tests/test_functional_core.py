"""What holds of the transforms together: memory of forward mode, traces that fail, and the words of wrong arguments, eagerly and compiled."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn
from graphc.ir.walk import all_nodes

X = np.array([0.3, -0.7, 1.1])


# ---- memory ------------------------------------------------------------------------------------------------------------------------


def _root(a: Any) -> Any:
    """The square root by Newton's method, element by element: as many turns as the worst needs."""
    return gx.while_loop(lambda x: gx.max(gx.abs(x * x / a - 1.0)) > 1e-9, lambda x: (x + a / x) / 2, a)


def test_forward_mode_through_a_while_loop_keeps_nothing() -> None:
    """No value of the graph has an axis for the turns, and the arena is a few carries, however long it runs."""
    a = np.linspace(1.0, 1e6, 1000)                                     # 14 turns and more
    step = gx.compile(lambda a, t: gx.jvp(_root, (a,), (t,)), cache=False)
    value, slope = step(a, np.ones(1000))
    np.testing.assert_allclose(value, np.sqrt(a), rtol=1e-9)
    np.testing.assert_allclose(slope, 0.5 / np.sqrt(a), rtol=1e-9)
    assert {n.attrs.get("max_steps") for n in all_nodes(step.lowered.graph) if n.op.name == "while"} == {None}
    assert step.lowered.memory_plan().arena <= 12 * a.nbytes
    again = gx.compile(lambda a, t: gx.jvp(lambda a: gx.jvp(_root, (a,), (t,))[1], (a,), (t,))[1], cache=False)
    np.testing.assert_allclose(again(a, np.ones(1000)), -0.25 * a ** -1.5, rtol=1e-5)
    assert again.lowered.memory_plan().arena <= 24 * a.nbytes


# ---- traces that fail --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_failed_trace_inside_vmap_of_grad_of_scan_leaves_no_trace(compiled: bool) -> None:
    """Whatever was going on: parameters, gradients, buffers, modes and the tape are as before, and the next call is right."""
    from graphc.trace.tape import current
    net = nn.Linear(3, 3).double()
    net.register_buffer("count", gx.zeros(()))
    net.weight.grad = gx.ones((3, 3), dtype="f64")
    before = {k: np.array(v) for k, v in net.state_dict().items()}
    fail = [True]

    def body(c: Any, w: Any) -> Any:
        y = gx.tanh(net(c) * w)
        if fail[0]:
            raise RuntimeError("in the middle")
        return y, y.sum()

    def loss(x: Any) -> Any:
        c, ys = gx.scan(body, x, gx.ones((4, 3), dtype="f64"))
        return c.sum() + ys.sum()

    f = gx.vmap(gx.grad(loss))
    step = gx.compile(f, cache=False) if compiled else lambda x: f(gx.tensor(x)).numpy()
    x = np.stack([X, 2 * X])
    with pytest.raises(RuntimeError, match="in the middle"):
        step(x)
    assert current.tracer is None
    assert current.grad
    np.testing.assert_array_equal(net.weight.grad.numpy(), 1.0)
    for k, v in net.state_dict().items():
        np.testing.assert_array_equal(np.asarray(v), before[k])
    fail[0] = False
    got = step(x)
    for row, point in zip(got, x):
        np.testing.assert_allclose(row, gx.grad(loss)(gx.tensor(point)).numpy(), rtol=1e-10)


# ---- wrong arguments ---------------------------------------------------------------------------------------------------------------


def _wrong_shape(x: Any) -> Any:
    @gx.custom_vjp
    def f(v: Any) -> Any:
        return gx.sin(v)
    f.defvjp(lambda v: (f(v), v), lambda v, g: (g.sum(),))
    return gx.grad(lambda v: f(v).sum())(x)


def _wrong_tangent(x: Any) -> Any:
    @gx.custom_jvp
    def f(v: Any) -> Any:
        return gx.sin(v)
    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0].sum()))
    return gx.jvp(f, (x,), (x,))


WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a loss that is no scalar": (lambda x: gx.grad(lambda v: v * v)(x), "scalar"),
    "backward of what is no scalar": (lambda x: (x.requires_grad_() * 2).backward(), "scalar"),
    "a carry whose dtype changes": (lambda x: gx.scan(lambda c, v: (c.astype(gx.float32), None), x, x), "becomes"),
    "a carry whose shape changes": (lambda x: gx.scan(lambda c, v: (c[:2], None), x, x), "becomes"),
    "a carry of another structure": (lambda x: gx.scan(lambda c, v: ((c, c), None), x, x), "another structure"),
    "a while carry that changes": (lambda x: gx.while_loop(lambda v: v[0] < 1, lambda v: v.sum(), x), "becomes"),
    "branches that disagree": (lambda x: gx.cond(x[0] > 0, lambda v: v, lambda v: v.sum(), x), "branch"),
    "branches of other structures": (lambda x: gx.cond(x[0] > 0, lambda v: v, lambda v: (v, v), x), "branch"),
    "unknown letters": (lambda x: gx.einsum("i->j", x), "j"),
    "letters of unequal sizes": (lambda x: gx.einsum("i,i->", x, x[:2]), "i"),
    "in_axes out of range": (lambda x: gx.vmap(gx.sin, in_axes=2)(x), "out of range"),
    "in_axes of another structure": (lambda x: gx.vmap(lambda a, b: a + b, in_axes=(0, 0, 0))(x, x), "in_axes"),
    "a rule that gives another shape": (_wrong_shape, "f64"),
    "a tangent of another shape": (_wrong_tangent, "f64"),
    "reverse mode of an endless loop": (lambda x: gx.grad(lambda v: gx.while_loop(lambda c: c[0] < 1, lambda c: c * 2, v).sum())(x), "max_steps"),
    "argnums out of range": (lambda x: gx.grad(lambda v: v.sum(), argnums=1)(x), "argument 1 of 1"),
}


@pytest.mark.parametrize("how", ["eager", "compiled"])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_names_the_line_and_the_fix(name: str, how: str) -> None:
    f, word = WRONG[name]
    with pytest.raises(gx.GraphError) as e:
        f(gx.tensor(X)) if how == "eager" else gx.compile(f, cache=False)(X)
    assert word in str(e.value)
    assert e.value.fix, f"no fix in: {e.value}"
    assert __file__.rpartition("/")[2] in str(e.value.at), f"no line in: {e.value}"
