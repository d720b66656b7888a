"""Trees through every transform: what goes in as dict, list, tuple, namedtuple, dataclass or None comes out so; against closed forms, loops and differences."""
from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import graphc as gx

A, B = np.asarray([0.3, -0.7, 1.1]), np.asarray([1.5, 0.4, -0.2])


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass
class Box:
    a: Any
    b: Any


@dataclasses.dataclass(frozen=True)
class Frozen:
    a: Any
    b: Any


KINDS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any], tuple[Any, Any]]]] = {
    "dict": (lambda a, b: {"b": b, "a": a}, lambda t: (t["a"], t["b"])),
    "ordered": (lambda a, b: OrderedDict(a=a, b=b), lambda t: (t["a"], t["b"])),
    "list": (lambda a, b: [a, b], lambda t: (t[0], t[1])),
    "tuple": (lambda a, b: (a, b), lambda t: (t[0], t[1])),
    "namedtuple": (Pair, lambda t: (t.a, t.b)),
    "dataclass": (Box, lambda t: (t.a, t.b)),
    "frozen": (Frozen, lambda t: (t.a, t.b)),
    "nested": (lambda a, b: {"x": [a, None, Pair((), {"y": b})]}, lambda t: (t["x"][0], t["x"][2].b["y"])),
}


@pytest.fixture(params=["eager", "numpy", "llvm"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a function of arrays eagerly or compiled; its results are taken apart by the caller."""
    if request.param == "eager":
        return lambda f, *args: f(*map(gx.tensor, args))
    return lambda f, *args: gx.compile(f, backend=request.param)(*args)


def close(got: Any, want: Any) -> None:
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_every_transform_keeps_the_tree(run: Any, kind: str) -> None:
    """f(a, b) = Σ a² sin b, in a tree; its derivatives in the same tree."""
    make, parts = KINDS[kind]
    same = type(make(0, 0))

    def f(t: Any) -> Any:
        a, b = parts(t)
        return (a * a * gx.sin(b)).sum()

    def g(t: Any) -> Any:
        a, b = parts(t)
        return make(a * b, (a * a).sum())
    da, db = 2 * A * np.sin(B), A * A * np.cos(B)
    out = run(lambda a, b: gx.grad(f)(make(a, b)), A, B)
    assert type(out) is same
    close(parts(out)[0], da)
    close(parts(out)[1], db)
    value, out = run(lambda a, b: gx.value_and_grad(lambda k, t: (f(t), make(k, t)), argnums=1, has_aux=True)(3.0, make(a, b)), A, B)
    close(value[0], np.sum(A * A * np.sin(B)))
    close(parts(out)[1], db)
    assert type(value[1]) is same
    y, dy = run(lambda a, b: gx.jvp(g, (make(a, b),), (make(b, a),)), A, B)
    assert type(y) is type(dy) is same
    close(parts(dy)[0], B * B + A * A)
    close(parts(dy)[1], 2 * A @ B)
    (pulled,) = run(lambda a, b: gx.vjp(g, make(a, b))[1](make(a, b[0])), A, B)
    close(parts(pulled)[0], A * B + 2 * A * B[0])
    close(parts(pulled)[1], A * A)
    close(parts(run(lambda a, b: gx.linearize(g, make(a, b))[1](make(b, a)), A, B))[0], B * B + A * A)
    for jacobian in (gx.jacfwd, gx.jacrev):
        j = run(lambda a, b, jacobian=jacobian: jacobian(g)(make(a, b)), A, B)
        close(parts(parts(j)[0])[0], np.diag(B))
        close(parts(parts(j)[0])[1], np.diag(A))
        close(parts(parts(j)[1])[0], 2 * A)
    h = run(lambda a, b: gx.hessian(f)(make(a, b)), A, B)
    close(parts(parts(h)[0])[1], np.diag(2 * A * np.cos(B)))
    close(parts(parts(h)[1])[0], np.diag(2 * A * np.cos(B)))
    hv = run(lambda a, b: gx.hvp(f, (make(a, b),), (make(b, a),)), A, B)
    close(parts(hv)[0], 2 * np.sin(B) * B + 2 * A * np.cos(B) * A)
    many = run(lambda a, b: gx.vmap(gx.grad(f))(make(gx.stack([a, b]), gx.stack([b, a]))), A, B)
    assert type(many) is same
    close(parts(many)[0], [da, 2 * B * np.sin(A)])


@pytest.mark.parametrize("kind", KINDS)
def test_axes_in_trees(run: Any, kind: str) -> None:
    """in_axes and out_axes are trees that begin like what they speak of."""
    make, parts = KINDS[kind]
    xs = np.stack([A, B, A + B, A - B], 1)                              # examples along axis 1

    def f(t: Any, k: Any) -> Any:
        a, b = parts(t)
        return make(a * k, a @ b)
    out = run(lambda xs, b: gx.vmap(f, in_axes=(make(1, None), None), out_axes=make(1, 0))(make(xs, b), 2.0), xs, B)
    close(parts(out)[0], 2 * xs)
    close(parts(out)[1], B @ xs)
    out = run(lambda xs: gx.vmap(gx.vmap(f, in_axes=(None, 0)), in_axes=(1, None), out_axes=make(2, 1))(make(xs, xs), gx.arange(2, dtype="f64")), xs)
    close(parts(out)[0], np.stack([0 * xs.T, xs.T], 0).transpose(0, 2, 1))
    close(parts(out)[1], np.stack([np.sum(xs * xs, 0)] * 2))


def test_argnums_and_aux_everywhere(run: Any) -> None:
    def f(a: Any, k: Any, b: Any) -> Any:
        return (a * a * b).sum() * k, {"k": k, "none": None, "s": a.sum()}
    for argnums, pick in ((0, [0]), (2, [1]), (-1, [1]), ((0, 2), [0, 1]), ((2, 0), [1, 0])):
        (g, aux) = run(lambda a, b, argnums=argnums: gx.grad(f, argnums, has_aux=True)(a, 3, b), A, B)
        want = [6 * A * B, 3 * A * A]
        for got, p in zip(g if isinstance(argnums, tuple) else (g,), pick, strict=True):
            close(got, want[p])
        assert aux["none"] is None
        close(aux["s"], A.sum())
        for jacobian in (gx.jacfwd, gx.jacrev):
            j, aux = run(lambda a, b, jacobian=jacobian, argnums=argnums: jacobian(f, argnums, has_aux=True)(a, 3, b), A, B)
            for got, p in zip(j if isinstance(argnums, tuple) else (j,), pick, strict=True):
                close(got, want[p])
            assert set(aux) == {"k", "none", "s"}
    h, aux = run(lambda a, b: gx.hessian(f, (0, 2), has_aux=True)(a, 1, b), A, B)
    close(h[0][0], np.diag(2 * B))
    close(h[0][1], np.diag(2 * A))
    close(h[1][1], np.zeros((3, 3)))


def recurrence(c: Any, xs: Any) -> Any:
    """A loop over examples with a tree for its carry: c ← tanh(c w + x)."""
    end, ys = gx.scan(lambda s, x: ({"c": gx.tanh(s["c"] * s["w"] + x), "w": s["w"]}, (s["c"] * x, None)), {"c": c[0], "w": c[1]}, xs)
    return end["c"] + ys[0].sum()


def _recurrence(c: np.ndarray, xs: np.ndarray) -> Any:
    h, w, total = c[0], c[1], 0.0
    for x in xs:
        total = total + h * x
        h = np.tanh(h * w + x)
    return h + total


def _differences(f: Callable[[np.ndarray], Any], x: np.ndarray, h: float = 1e-3) -> np.ndarray:
    columns = []
    for k in range(x.size):
        e = np.zeros_like(x)
        e[k] = h
        columns.append((8 * (f(x + e) - f(x - e)) - (f(x + 2 * e) - f(x - 2 * e))) / (12 * h))
    return np.stack(columns, -1)


def test_loops_of_gradients_of_loops(run: Any) -> None:
    """grad through scan through grad, its Hessian, and all of it for a batch: against a NumPy loop and its differences."""
    c = np.asarray([0.4, 0.8])

    def inner(x: np.ndarray) -> np.ndarray:                             # two steps of descent on the loop itself
        for _ in range(2):
            x = x - 0.1 * _differences(lambda c: _recurrence(c, A), x)
        return x

    def outer(c: Any, xs: Any) -> Any:
        end, _ = gx.scan(lambda x, _: (x - 0.1 * gx.grad(recurrence)(x, xs), None), c, None, length=2)
        return (end * end).sum()
    np.testing.assert_allclose(run(outer, c, A), np.sum(inner(c) ** 2), rtol=1e-8)
    np.testing.assert_allclose(run(gx.grad(outer), c, A), _differences(lambda c: np.sum(inner(c) ** 2), c), rtol=1e-6)
    h = np.asarray(run(gx.hessian(outer), c, A))
    np.testing.assert_allclose(h, h.T, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(h, _differences(lambda c: np.asarray(gx.grad(outer)(gx.tensor(c), gx.tensor(A)).numpy()), c), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(run(gx.vmap(gx.grad(outer), in_axes=(None, 0)), c, np.stack([A, B])),
                               [run(gx.grad(outer), c, x) for x in (A, B)], rtol=1e-10)
    np.testing.assert_allclose(run(gx.jacfwd(gx.jacrev(recurrence)), c, A), run(gx.jacrev(gx.jacfwd(recurrence)), c, A), rtol=1e-10)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_words(compiled: bool) -> None:
    cases: list[tuple[Callable[[Any], Any], str]] = [
        (lambda x: gx.grad(lambda t: t["a"].sum(), argnums=2)({"a": x}), "argument 2 of 1"),
        (lambda x: gx.jvp(lambda t: t["a"], ({"a": x},), ({"b": x},)), "another structure"),
        (lambda x: gx.vjp(lambda t: t["a"], {"a": x})[1]([x]), "another structure"),
        (lambda x: gx.vmap(lambda t: t["a"], in_axes=({"b": 0},))({"a": x}), "in_axes has"),
        (lambda x: gx.vmap(lambda t: t["a"], in_axes=(0, 0))({"a": x}), "in_axes has 2 entries"),
        (lambda x: gx.vmap(lambda t: (t, t), out_axes=(0, 0, 0))(x), "out_axes has"),
        (lambda x: gx.grad(lambda t: t)({"a": x}), "returns a floating scalar, got dict"),
    ]
    for f, words in cases:
        with pytest.raises(gx.GraphError, match=words):
            gx.compile(f)(A) if compiled else f(gx.tensor(A))
