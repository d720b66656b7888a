"""The rows of docs/requirements.md: each a check of something promised, run on both backends. `compiled` is `gx.compile` for one of them.

A check asserts values against NumPy or algebra, nothing weaker. One that raises is a row that is not true; `reason` says why that is known.
"""
from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import graphc as gx
from graphc import nn, optim

Compiled = Callable[..., Any]
same, near = np.testing.assert_array_equal, np.testing.assert_allclose
X = np.array([0.3, -0.7, 1.1])
A = np.array([[2.0, 1.0, 0.5], [0.0, 3.0, 1.0], [1.0, 0.0, 4.0]])


@dataclass(frozen=True)
class Row:
    section: str
    name: str
    check: Callable[[Compiled], None]
    reason: str                                         # why it is not true yet, where that is known


ROWS: list[Row] = []


def row(section: str, name: str, reason: str = "") -> Callable[[Callable[[Compiled], None]], Callable[[Compiled], None]]:
    def note(check: Callable[[Compiled], None]) -> Callable[[Compiled], None]:
        ROWS.append(Row(section, name, check, reason))
        return check
    return note


@contextlib.contextmanager
def raises(words: str) -> Iterator[None]:
    """A GraphError that says these words."""
    try:
        yield
    except gx.GraphError as e:
        if words not in str(e):
            raise
    else:
        raise AssertionError("nothing was refused")


AUTOGRAD, CAPTURE, DIFFERENTIATION, NUMERICS = "Autograd (tutorial rows 23-38)", "Capture, shapes, control", "Differentiation", "Numerics and ops"

# ---- 1c ----------------------------------------------------------------------------------------------------------------------------


@row(AUTOGRAD, "23 exact, stable derivatives")
def _(compiled: Compiled) -> None:
    near(compiled(gx.grad(lambda x: gx.log1p(gx.exp(-gx.abs(x))).sum()))(X), -np.sign(X) / (1 + np.exp(np.abs(X))), rtol=1e-14)


@row(AUTOGRAD, "24 reverse mode, and its graph can be read and drawn")
def _(compiled: Compiled) -> None:
    step = compiled(gx.grad(lambda w, x: gx.tanh(x @ w).sum()))
    near(step(X, A), A.T @ (1 - np.tanh(A @ X) ** 2))
    assert "backward" in {p for n in step.lowered.graph.info.values() for p in n.phases}
    with tempfile.TemporaryDirectory() as folder:
        step.draw(f"{folder}/step.dot")
        assert "digraph" in Path(folder, "step.dot").read_text(encoding="utf-8")


@row(AUTOGRAD, "25 loss.backward()")
def _(compiled: Compiled) -> None:
    w = nn.Parameter(gx.tensor(X))
    step = compiled(lambda x: (w * x).square().sum().backward())
    step(2 * np.ones(3))
    near(w.grad.numpy(), 8 * X)


@row(AUTOGRAD, "26 autograd.backward(tensors, grad_tensors)")
def _(compiled: Compiled) -> None:
    def f(x: Any) -> Any:
        x.requires_grad_()
        gx.autograd.backward([x * x, x.sum()], [gx.ones(3, dtype="f64"), None], retain_graph=True)
        return x.grad
    near(compiled(f)(X), 2 * X + 1)


@row(AUTOGRAD, "27 Variable is the tensor itself; requires_grad")
def _(compiled: Compiled) -> None:
    def f(x: Any) -> Any:
        v = gx.autograd.Variable(x, requires_grad=True)
        (v ** 3).sum().backward()
        return v.grad
    near(compiled(f)(X), 3 * X ** 2)


@row(AUTOGRAD, "28 autograd.grad, nested to the third order")
def _(compiled: Compiled) -> None:
    def f(x: Any) -> Any:
        x.requires_grad_()
        d = (x ** 5).sum()
        for _ in range(3):
            d, = gx.autograd.grad(d.sum(), x, create_graph=True)
        return d
    near(compiled(f)(X), 60 * X ** 2)


@row(AUTOGRAD, "29 several paths and outputs add up")
def _(compiled: Compiled) -> None:
    def f(x: Any, u: Any, v: Any) -> Any:
        return gx.vjp(lambda x: (x * x, gx.sin(x) * x), x)[1]((u, v))[0]
    u, v = np.ones(3), np.array([1.0, 2.0, 3.0])
    near(compiled(f)(X, u, v), u * 2 * X + v * (np.sin(X) + X * np.cos(X)))


class Cube(gx.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x ** 3

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, = ctx.saved_tensors
        return g * 3 * x * x


@row(AUTOGRAD, "30 autograd.Function with forward and backward")
def _(compiled: Compiled) -> None:
    near(compiled(gx.grad(lambda x: Cube.apply(x).sum()))(X), 3 * X ** 2)
    assert gx.gradcheck(Cube.apply, gx.tensor(X, requires_grad=True))


class NumPyCube(gx.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return gx.pure_callback(lambda a: a ** 3, x, x, vmap_method="expand_dims")

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, = ctx.saved_tensors
        return gx.pure_callback(lambda a, g: 3 * a ** 2 * g, x, x, g, vmap_method="broadcast_all")


@row(AUTOGRAD, "30 a NumPy callback as a custom operator")
def _(compiled: Compiled) -> None:
    near(compiled(lambda x: gx.pure_callback(np.sort, x, x))(X), np.sort(X))
    near(compiled(gx.grad(lambda x: NumPyCube.apply(x).sum()))(X), 3 * X ** 2)
    assert gx.gradcheck(NumPyCube.apply, gx.tensor(X, requires_grad=True))


@row(AUTOGRAD, "31 register_hook on any tensor")
def _(compiled: Compiled) -> None:
    def f(x: Any) -> Any:
        x.requires_grad_()
        h = gx.sin(x)
        h.register_hook(lambda g: 2 * g)
        h.sum().backward()
        return x.grad
    near(compiled(f)(X), 2 * np.cos(X))


@row(AUTOGRAD, "32 gradients of inner values (retain_grad)")
def _(compiled: Compiled) -> None:
    def f(x: Any) -> Any:
        x.requires_grad_()
        h = gx.sin(x)
        h.retain_grad()
        (h * h).sum().backward()
        return h.grad
    near(compiled(f)(X), 2 * np.sin(X))


@row(AUTOGRAD, "33 a gradient checker, to second order")
def _(compiled: Compiled) -> None:
    x = gx.tensor(X, requires_grad=True)
    f = compiled(lambda x: gx.tanh(x) * x)
    assert gx.gradcheck(lambda x: gx.tanh(x) * x, x)
    assert gx.gradgradcheck(lambda x: gx.tanh(x) * x, x)
    near(f(X), np.tanh(X) * X)


@row(AUTOGRAD, "34 forward mode beside reverse mode")
def _(compiled: Compiled) -> None:
    def f(x: Any) -> Any:
        return gx.sin(x) * x[0]
    forward, reverse = compiled(gx.jacfwd(f))(X), compiled(gx.jacrev(f))(X)
    near(forward, reverse)
    near(compiled(lambda x, t: gx.jvp(f, (x,), (t,))[1])(X, np.eye(3)[1]), forward[:, 1])


@row(AUTOGRAD, "35 graphs that depend on data; a Python if says what to write")
def _(compiled: Compiled) -> None:
    f = compiled(lambda x: gx.cond(x.sum() > 0, gx.sin, gx.cos, x))
    near(f(X), np.sin(X))
    near(f(-X), np.cos(X))
    with raises("gx.cond"):
        compiled(lambda x: x if x.sum() > 0 else -x)(X)


@row(AUTOGRAD, "36 the graph is operations and data flow, and public")
def _(compiled: Compiled) -> None:
    step = compiled(lambda x: gx.sin(x) * x)
    near(step(X), np.sin(X) * X)
    assert [d["op"] for _, d in step.lowered.graph.to_networkx().nodes(data=True)] == ["input", "sin", "mul"]


@row(AUTOGRAD, "37 without zero_grad gradients add up; with it they are temporary")
def _(compiled: Compiled) -> None:
    w = nn.Parameter(gx.tensor(X))
    step = compiled(lambda: (w * w).sum().backward())
    step()
    step()
    near(w.grad.numpy(), 4 * X)
    opt = optim.SGD([w], lr=0.5)

    def fresh() -> None:
        opt.zero_grad()
        (w * w).sum().backward()
        opt.step()
    compiled(fresh)()
    near(w.numpy(), np.zeros(3), atol=1e-15)


@row(AUTOGRAD, "38 no GPU, said in an error")
def _(compiled: Compiled) -> None:
    with raises("CPU"):
        nn.Linear(2, 2).to("cuda")
    near(compiled(lambda x: x * 2)(X), X * 2)


# ---- 2a ----------------------------------------------------------------------------------------------------------------------------


@row(CAPTURE, "a whole Python step is one static graph")
def _(compiled: Compiled) -> None:
    def helper(x: Any, k: int) -> Any:
        return sum(x ** i for i in range(1, k)) if k > 1 else x
    step = compiled(lambda d: {"out": [helper(v, 3) for v in d["xs"]], "n": len(d["xs"])})
    out = step({"xs": [X, 2 * X]})
    near(out["out"][1], 2 * X + 4 * X * X)
    assert len(step.variants) == 1


@row(CAPTURE, "forward, backward and the optimizer's update in one function")
def _(compiled: Compiled) -> None:
    w = nn.Parameter(gx.tensor(X))
    opt = optim.SGD([w], lr=0.1)

    def step(x: Any) -> Any:
        opt.zero_grad()
        loss = ((w - x) ** 2).sum()
        loss.backward()
        opt.step()
        return loss
    f = compiled(step)
    near(f(np.zeros(3)), (X ** 2).sum())
    near(w.numpy(), 0.8 * X)
    assert len(f.lowered.graph.states) == 1


@row(CAPTURE, "one compilation for every batch size")
def _(compiled: Compiled) -> None:
    f = compiled(gx.value_and_grad(lambda w, x: gx.tanh(x @ w).mean()))
    f.lower(gx.Spec((3,), gx.float64), gx.Spec(("N", 3), gx.float64)).compile()
    for n in (1, 2, 7, 64):
        x = np.linspace(-1, 1, 3 * n).reshape(n, 3)
        value, slope = f(X, x)
        near(value, np.tanh(x @ X).mean())
        near(slope, x.T @ (1 - np.tanh(x @ X) ** 2) / n, atol=1e-15)
    assert len(f.variants) == 1


@row(CAPTURE, "scan, forwards and with reverse mode")
def _(compiled: Compiled) -> None:
    def f(x: Any) -> Any:
        last, all_ = gx.scan(lambda c, v: (c * v + 1.0, c), gx.ones((), dtype=x.dtype), x)
        return last + all_.sum()
    a, b, c = X
    near(compiled(f)(X), ((a + 1) * b + 1) * c + 1 + 1 + (a + 1) + ((a + 1) * b + 1))
    near(compiled(gx.grad(f))(X), [b * c + 1 + b, (a + 1) * c + (a + 1), (a + 1) * b + 1])


@row(CAPTURE, "while_loop, forward mode, and reverse mode with max_steps")
def _(compiled: Compiled) -> None:
    def f(x: Any, **most: int) -> Any:
        return gx.while_loop(lambda v: v < 100.0, lambda v: v * v, x, **most)
    near(compiled(f)(3.0), 6561.0)
    near(compiled(lambda x: gx.jvp(f, (x,), (1.0,))[1])(3.0), 8 * 3.0 ** 7)
    near(compiled(gx.grad(lambda x: f(x, max_steps=9)))(3.0), 8 * 3.0 ** 7)


@row(CAPTURE, "cond and switch, with reverse mode")
def _(compiled: Compiled) -> None:
    f = compiled(gx.grad(lambda x, k: gx.switch(k, [gx.sin, gx.exp, lambda v: v ** 3], x).sum()))
    for k, want in enumerate((np.cos(X), np.exp(X), 3 * X ** 2)):
        near(f(X, np.int64(k)), want)


@row(CAPTURE, "N training steps in one call")
def _(compiled: Compiled) -> None:
    def train(w: Any, xs: Any) -> Any:
        return gx.scan(lambda w, x: (w - 0.1 * gx.grad(lambda w: ((w - x) ** 2).sum())(w), None), w, xs)[0]
    w = X.copy()
    for x in A:
        w = w - 0.2 * (w - x)
    near(compiled(train)(X, A), w)


# ---- 2b ----------------------------------------------------------------------------------------------------------------------------


@row(DIFFERENTIATION, "reverse mode over every op, the rules proved (derivatives.md)")
def _(compiled: Compiled) -> None:
    near(compiled(gx.grad(lambda x: gx.logsumexp(x * x)))(X), 2 * X * np.exp(X * X) / np.exp(X * X).sum())


@row(DIFFERENTIATION, "forward mode (jvp, linearize)")
def _(compiled: Compiled) -> None:
    near(compiled(lambda x, t: gx.linearize(lambda x: A @ gx.exp(x), x)[1](t))(X, X), A @ (np.exp(X) * X))


@row(DIFFERENTIATION, "any order, compiled")
def _(compiled: Compiled) -> None:
    f = gx.sin
    for _ in range(4):
        f = gx.grad(f)
    near(compiled(gx.vmap(f))(X), np.sin(X), rtol=1e-12)


@row(DIFFERENTIATION, "vmap: nested, with axes, over gradients")
def _(compiled: Compiled) -> None:
    per_example = gx.vmap(gx.grad(lambda w, x: gx.sin(x @ w)), in_axes=(None, 0))
    near(compiled(per_example)(X, A), np.cos(A @ X)[:, None] * A)
    near(compiled(gx.vmap(gx.vmap(lambda a, b: a - b, in_axes=(None, 0)), in_axes=(0, None), out_axes=1))(X, X), X[None, :] - X[:, None])


@row(DIFFERENTIATION, "Jacobian, Hessian, Hessian-vector product")
def _(compiled: Compiled) -> None:
    def f(x: Any) -> Any:
        return (gx.asarray(A) @ x) @ x * x[0]
    q = A + A.T
    want = q * X[0] + np.outer(np.eye(3)[0], q @ X) + np.outer(q @ X, np.eye(3)[0])
    near(compiled(gx.hessian(f))(X), want)
    near(compiled(gx.jacfwd(gx.jacrev(f)))(X), want)
    near(compiled(lambda x, v: gx.hvp(f, (x,), (v,)))(X, X), want @ X)


@row(DIFFERENTIATION, "sparse Jacobians and Hessians by colouring")
def _(compiled: Compiled) -> None:
    def f(x: Any) -> Any:
        return gx.sin(x[1:-1]) * x[2:] * x[:-2]
    x = np.linspace(0.1, 1.0, 40)
    J = compiled(gx.sparse_jacobian(f))(x)
    near(J.toarray(), compiled(gx.jacfwd(f))(x))
    assert (J.shape, J.nnz, J.pattern.colors) == ((38, 40), 3 * 38, 3)
    H = compiled(gx.sparse_hessian(lambda x: f(x).sum()))(x)
    near(H.toarray(), compiled(gx.hessian(lambda x: f(x).sum()))(x))
    assert H.pattern.colors == 5


@row(DIFFERENTIATION, "custom derivatives in JAX's forms")
def _(compiled: Compiled) -> None:
    @gx.custom_vjp
    def f(x: Any) -> Any:
        return gx.sin(x).sum()
    f.defvjp(lambda x: (f(x), x), lambda x, g: (g * 10 * gx.cos(x),))
    near(compiled(gx.grad(f))(X), 10 * np.cos(X))

    @gx.custom_jvp
    def h(x: Any) -> Any:
        return gx.exp(x)
    h.defjvp(lambda primals, tangents: (h(*primals), 3 * tangents[0]))
    near(compiled(gx.grad(lambda x: h(x).sum()))(X), [3, 3, 3])


@row(DIFFERENTIATION, "gradient hooks, compiled")
def _(compiled: Compiled) -> None:
    w = nn.Parameter(gx.tensor(X))
    handle = w.register_hook(lambda g: gx.clip(g, -1.0, 1.0))
    step = compiled(lambda: (w * w).sum().backward())
    step()
    near(w.grad.numpy(), np.clip(2 * X, -1, 1))
    handle.remove()
    w.grad = None
    step()
    near(w.grad.numpy(), 2 * X)


@row(DIFFERENTIATION, "checkpoint: compute again instead of keeping")
def _(compiled: Compiled) -> None:
    def block(x: Any) -> Any:
        return gx.tanh(gx.sin(x) * x)
    f, again = compiled(gx.grad(lambda x: block(block(x)).sum())), compiled(gx.grad(lambda x: gx.checkpoint(lambda x: block(block(x)))(x).sum()))
    same(f(X), again(X))


@row(DIFFERENTIATION, "rematerialisation chosen by the compiler under memory_limit=")
def _(compiled: Compiled) -> None:
    def loss(x: Any) -> Any:
        h = x
        for _ in range(24):
            h = gx.tanh(gx.sin(h) @ gx.cos(h)) * 0.9
        return h.sum()
    x = np.linspace(-1, 1, 128 * 128).reshape(128, 128)
    full = gx.compile(gx.grad(loss), cache=False)
    want = full(x)
    limit = full.lowered.memory_plan().arena * 6 // 10
    near(compiled(gx.grad(loss), memory_limit=limit + 2 * x.nbytes)(x), want)


@row(DIFFERENTIATION, "a gradient checker for users: differences, complex step, whole functions")
def _(compiled: Compiled) -> None:
    x = gx.tensor(X, requires_grad=True)
    assert gx.gradcheck(lambda x: x ** 3 / (1 + x * x), x, method="complex step", atol=1e-13, rtol=1e-13)
    from graphc.testing import check_grads
    check_grads(lambda x: gx.tanh(x).sum(), [X])
    near(compiled(lambda x: x ** 3 / (1 + x * x))(X), X ** 3 / (1 + X * X))


@row(DIFFERENTIATION, "why is this gradient zero?")
def _(compiled: Compiled) -> None:
    w = nn.Parameter(gx.tensor(X))
    said = str(gx.explain_grad(lambda: (w.detach() * 2).sum(), w))
    assert "cut" in said
    assert compiled(gx.grad(lambda x: gx.stop_gradient(x).sum()))(X).sum() == 0


# ---- 2c ----------------------------------------------------------------------------------------------------------------------------


@row(NUMERICS, "float32, float64, integers and bool, with torch's promotion")
def _(compiled: Compiled) -> None:
    f = compiled(lambda a, i, b: (a + i, i // 2, b & (i > 1), a * 2))
    r = f(np.float32([1.5, 2.5]), np.array([1, 3]), np.array([True, True]))
    same([v.dtype.name for v in r], ["float32", "int64", "bool", "float32"])
    same(r[2], [False, True])


@row(NUMERICS, "random numbers by keys: the same bits on every backend")
def _(compiled: Compiled) -> None:
    def f(seed: Any) -> Any:
        a, b = gx.random.split(gx.random.key(seed))
        return gx.random.bits(a, (4,)), gx.random.randint(b, (4,), 0, 10), gx.random.permutation(a, 5), gx.random.uniform(b, (4,)), gx.random.normal(a, (4,))
    *got, normal = compiled(f)(np.int64(7))
    *want, eager = f(np.int64(7))
    for a, b in zip(got, want):
        same(a, np.asarray(b))
    near(normal, np.asarray(eager), rtol=1e-6)          # a logarithm and a cosine: to their last digits


@row(NUMERICS, "the same bits for any number of threads")
def _(compiled: Compiled) -> None:
    x = np.linspace(-1, 1, 300 * 200, dtype=np.float32).reshape(300, 200)
    one, two = (compiled(gx.grad(lambda x: gx.softmax(x @ gx.matrix_transpose(x), axis=-1).max()), threads=t)(x) for t in (1, 2))
    same(one, two)


@row(NUMERICS, "broadcasting and indexing, by the Array API")
def _(compiled: Compiled) -> None:
    i = np.array([2, 0])
    f = compiled(lambda a, i: (a[::-1, 1:], a[:, None] * a, a[..., i], a[i, i], a.at[i].add(1.0)))
    want = A.copy()
    want[i] += 1.0
    for got, right in zip(f(A, i), (A[::-1, 1:], A[:, None] * A, A[..., i], A[i, i], want)):
        same(got, right)


@row(NUMERICS, "gather, scatter, einsum")
def _(compiled: Compiled) -> None:
    near(compiled(lambda a, b: gx.einsum("ij,jk,k->i", a, b, b[0]))(A, A), A @ A @ A[0])
    same(compiled(lambda a, i: gx.take_along_axis(a, i, axis=1))(A, np.array([[0], [2], [1]])), [[2.0], [1.0], [0.0]])


@row(NUMERICS, "linear algebra: solve, inv, det, cholesky, with derivatives")
def _(compiled: Compiled) -> None:
    spd = A @ A.T
    near(compiled(gx.linalg.solve)(A, X), np.linalg.solve(A, X))
    near(compiled(gx.linalg.inv)(A), np.linalg.inv(A))
    near(compiled(gx.linalg.cholesky)(spd), np.linalg.cholesky(spd))
    near(compiled(gx.grad(lambda a: gx.linalg.slogdet(a)[1]))(A), np.linalg.inv(A).T)
    near(compiled(gx.grad(gx.linalg.det))(A), np.linalg.det(A) * np.linalg.inv(A).T)


@row(NUMERICS, "linear algebra: qr, with derivatives", "being written")
def _(compiled: Compiled) -> None:
    q, r = compiled(gx.linalg.qr)(A)
    near(q @ r, A, atol=1e-14)
    near(compiled(gx.grad(lambda a: gx.linalg.qr(a)[1].sum()))(A).shape, (3, 3))


@row(NUMERICS, "linear algebra: eigh, svd, with derivatives", "being written")
def _(compiled: Compiled) -> None:
    spd = A @ A.T
    w, v = compiled(gx.linalg.eigh)(spd)
    near(v @ np.diag(w) @ v.T, spd)
    near(compiled(gx.grad(lambda a: gx.linalg.svd(a)[1].sum()))(A), (lambda u, s, vt: u @ vt)(*np.linalg.svd(A)), atol=1e-12)


@row(NUMERICS, "linear algebra: lstsq, expm", "being written")
def _(compiled: Compiled) -> None:
    near(compiled(gx.linalg.expm)(np.diag(X)), np.diag(np.exp(X)), atol=1e-14)
    near(compiled(gx.linalg.lstsq)(A, X)[0], np.linalg.solve(A, X))


@row(NUMERICS, "unstable forms are rewritten: log(softmax(x)), log(1 + exp(x)), log(sum(exp(x)))")
def _(compiled: Compiled) -> None:
    x = np.array([1e4, 0.0, -1e4])
    near(compiled(lambda x: gx.log(gx.softmax(x, axis=-1)))(x), [0.0, -1e4, -2e4])
    near(compiled(lambda x: gx.log(gx.sum(gx.exp(x))))(x), 1e4)
    near(compiled(lambda x: gx.log(1 + gx.exp(x)))(x), [1e4, np.log(2), 0.0])


@row(NUMERICS, "the gradient of where(x > 0, log(x), 0) at 0 is 0, not NaN")
def _(compiled: Compiled) -> None:
    same(compiled(gx.grad(lambda x: gx.where(x > 0, gx.log(x), 0.0).sum()))(np.array([0.0, 2.0])), [0.0, 0.5])


def outcome(check: Callable[[Compiled], None], backend: str) -> str | None:
    """None where the check holds on that backend, else the first line of what went wrong."""
    def compiled(f: Callable[..., Any], **options: Any) -> Any:
        return gx.compile(f, backend=backend, cache=False, **options)       # type: ignore[call-overload]

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            check(compiled)
    except Exception as e:
        return f"{type(e).__name__}: {str(e).strip().splitlines()[0] if str(e).strip() else ''}"
    return None
