"""The functions of families of their own against NumPy: hyperbolic, floats, searching, sets, manipulation, matrices; and their derivatives."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.ir.walk import topo

RNG = np.random.default_rng(5)
X = RNG.standard_normal((3, 5))
M = RNG.standard_normal((2, 4, 4))
V = RNG.standard_normal(6)
W = np.sort(RNG.integers(0, 9, 7)).astype(np.float64)
Array = np.ndarray[Any, Any]

# name, operands, ours, NumPy's
CASES: list[tuple[str, tuple[Array, ...], Callable[..., Any], Callable[..., Any]]] = [
    ("diagonal", (M,), lambda m: gx.diagonal(m, offset=1), lambda m: np.diagonal(m, 1, -2, -1)),
    ("diagonal far", (X,), lambda x: gx.diagonal(x, offset=-2), lambda x: np.diagonal(x, -2)),
    ("diagonal none", (X,), lambda x: gx.diagonal(x, offset=5) + 0, lambda x: np.diagonal(x, 5)),
    ("diag", (V,), lambda v: gx.diag(v, offset=-2) + gx.diag(v, offset=2), lambda v: np.diag(v, -2) + np.diag(v, 2)),
    ("trace", (M,), lambda m: gx.linalg.trace(m, offset=-1), lambda m: np.trace(m, -1, -2, -1)),
    ("cross", (X[:, :3], M[0, :3, 1:]), lambda a, b: gx.linalg.cross(a, b), np.cross),
    ("cross axis", (X, V[:3, None]), lambda a, b: gx.linalg.cross(a, b, axis=-2), lambda a, b: np.cross(a, np.broadcast_to(b, a.shape), axis=0)),
    ("kron", (X, M[0]), gx.kron, np.kron),
    ("kron ranks", (V, X), gx.kron, np.kron),
    ("matrix_power", (M,), lambda m: gx.linalg.matrix_power(m, 5), lambda m: np.linalg.matrix_power(m, 5)),
    ("matrix_power 0", (M,), lambda m: gx.linalg.matrix_power(m, 0) * m, lambda m: np.linalg.matrix_power(m, 0) * m),
    ("matrix_norm", (M,), lambda m: gx.stack([gx.linalg.matrix_norm(m, ord=o) for o in ("fro", 1, -1, gx.inf, -gx.inf)]),
     lambda m: np.stack([np.linalg.norm(m, o, (-2, -1)) for o in ("fro", 1, -1, np.inf, -np.inf)])),
    ("vector_norm", (X,), lambda x: gx.stack([gx.linalg.vector_norm(x, axis=1, ord=o) for o in (0, 1, 2, 3.5, gx.inf, -gx.inf, -1)]),
     lambda x: np.stack([np.linalg.norm(x, o, 1) for o in (0, 1, 2, 3.5, np.inf, -np.inf, -1)])),
    ("norm", (X, V), lambda x, v: gx.linalg.norm(x) + gx.linalg.norm(v, 3) * gx.linalg.norm(x, 1) + gx.linalg.norm(x, gx.inf, axis=(0, 1)),
     lambda x, v: np.linalg.norm(x) + np.linalg.norm(v, 3) * np.linalg.norm(x, 1) + np.linalg.norm(x, np.inf, (0, 1))),
    ("norm axis", (X,), lambda x: gx.linalg.norm(x, 1, 0) + gx.linalg.norm(x, axis=0), lambda x: np.linalg.norm(x, 1, 0) + np.linalg.norm(x, axis=0)),
    ("sinh", (X,), gx.sinh, np.sinh), ("cosh", (X,), gx.cosh, np.cosh), ("asinh", (X * 1e3,), gx.asinh, np.arcsinh),
    ("acosh", (1 + abs(X),), gx.acosh, np.arccosh), ("atanh", (np.tanh(X),), gx.atanh, np.arctanh),
    ("hypot", (X, X[::-1]), gx.hypot, np.hypot), ("copysign", (X, X[::-1]), gx.copysign, np.copysign),
    ("logaddexp", (X * 9, X[::-1]), gx.logaddexp, np.logaddexp),
    ("meshgrid", (V[:2], V[:3], V[:4]), lambda a, b, c: gx.stack(gx.meshgrid(a, b, c)), lambda a, b, c: np.stack(np.meshgrid(a, b, c))),
    ("meshgrid ij", (V[:2], V[:3]), lambda a, b: gx.meshgrid(a, b, indexing="ij")[1] + 0, lambda a, b: np.meshgrid(a, b, indexing="ij")[1]),
    ("diff ends", (X,), lambda x: gx.diff(x, axis=0, prepend=x[:1], append=x[1:2], n=2), lambda x: np.diff(x, axis=0, prepend=x[:1], append=x[1:2], n=2)),
    ("roll several", (X,), lambda x: gx.roll(x, (2, -1), axis=(0, 1)) + gx.roll(x, 1, axis=(0, 1)) + gx.roll(x, 7),
     lambda x: np.roll(x, (2, -1), (0, 1)) + np.roll(x, 1, (0, 1)) + np.roll(x, 7)),
    ("repeat each", (X,), lambda x: gx.repeat(x, np.array([2, 0, 3]), axis=0), lambda x: np.repeat(x, [2, 0, 3], 0)),
    ("repeat flat", (X,), lambda x: gx.repeat(x, 2), lambda x: np.repeat(x, 2)),
    ("searchsorted", (W, X * 4), lambda w, x: gx.searchsorted(w, x), np.searchsorted),
    ("searchsorted right", (W, np.round(X * 4)), lambda w, x: gx.searchsorted(w, x, side="right"), lambda w, x: np.searchsorted(w, x, "right")),
    ("searchsorted sorter", (V, X), lambda v, x: gx.searchsorted(v, x, sorter=gx.argsort(v)), lambda v, x: np.searchsorted(v, x, sorter=np.argsort(v))),
    ("searchsorted nan", (np.array([1.0, 2, np.inf, np.nan, np.nan]), np.array([np.nan, np.inf, -np.inf, 2])), lambda w, x: gx.searchsorted(w, x),
     np.searchsorted),
    ("searchsorted one", (W[:1], X * 4), lambda w, x: gx.searchsorted(w, x), np.searchsorted),
    ("isin", (np.round(X * 4), W), gx.isin, np.isin),
    ("isin not", (np.round(X * 4), W), lambda x, w: gx.isin(x, w, invert=True), lambda x, w: np.isin(x, w, invert=True)),
    ("logic", (X,), lambda x: gx.logical_xor(x > 0, x < 1) | gx.logical_and(x, 1), lambda x: np.logical_xor(x > 0, x < 1) | np.logical_and(x, 1)),
]
NAMES = [c[0] for c in CASES]


@pytest.mark.parametrize(("args", "ours", "numpys"), [c[1:] for c in CASES], ids=NAMES)
def test_values(args: tuple[Array, ...], ours: Any, numpys: Any) -> None:
    want = numpys(*args)
    for got in (ours(*map(gx.asarray, args)).numpy(), gx.compile(ours)(*args)):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("args", "ours"), [c[1:3] for c in CASES if c[0] not in ("isin", "isin not", "logic") and not c[0].startswith("searchsorted")],
                         ids=[n for n in NAMES if n not in ("isin", "isin not", "logic") and not n.startswith("searchsorted")])
def test_derivatives(args: tuple[Array, ...], ours: Any) -> None:
    weight = RNG.standard_normal(ours(*args).shape)
    directions = [RNG.standard_normal(a.shape) for a in args]

    def f(*xs: Any) -> Any:
        return (ours(*xs) * weight).sum()

    grads = gx.grad(f, argnums=tuple(range(len(args))))(*map(gx.asarray, args))
    eps = 1e-6
    up, down = (f(*(gx.asarray(a + s * eps * d) for a, d in zip(args, directions))).item() for s in (1, -1))
    assert sum((g.numpy() * d).sum() for g, d in zip(grads, directions)) == pytest.approx((up - down) / (2 * eps), rel=2e-5, abs=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_hyperbolic_functions_are_exact_near_0_and_far_out(dtype: Any) -> None:
    """Within a few ulp of what NumPy says in f64 (for f64: of NumPy)."""
    x = np.concatenate([10.0 ** np.linspace(-12, 15, 400), [0.0]]).astype(dtype)
    x = np.concatenate([x, -x])
    eps = np.finfo(dtype).eps
    inside = np.clip(np.tanh(x / 4), -1 + eps, 1 - eps)
    for f, g, at in ((gx.asinh, np.arcsinh, x), (gx.acosh, np.arccosh, 1 + abs(x)), (gx.atanh, np.arctanh, inside), (gx.sinh, np.sinh, np.clip(x, -80, 80)),
                     (gx.hypot, np.hypot, x)):
        args = (at.astype(dtype),) if f is not gx.hypot else (at, at[::-1].copy())
        want = g(*(a.astype(np.float64) for a in args))
        np.testing.assert_allclose(gx.compile(f)(*args), want, rtol=6 * eps, atol=0)


@pytest.mark.parametrize(("dtype", "last"), [(np.float32, 38), (np.float64, 308)])
def test_logarithms_of_powers_of_10_are_whole(dtype: Any, last: int) -> None:
    k = np.arange(1 - last, last + 1)
    x = np.array([float(f"1e{n}") for n in k], dtype)
    for f in (gx.log10, gx.compile(gx.log10), gx.compile(gx.log10, backend="numpy")):
        np.testing.assert_array_equal(np.asarray(f(gx.asarray(x))), k)
    np.testing.assert_allclose(gx.grad(lambda x: gx.sum(gx.log10(x)))(x[last:last + 9]).numpy(), 1 / (x[last:last + 9] * math.log(10)), rtol=1e-6)
    y = np.random.default_rng(0).uniform(0.5, 2000, 999).astype(dtype)
    np.testing.assert_allclose(gx.compile(gx.log10)(y), np.log10(y.astype(np.float64)), rtol=3 * np.finfo(dtype).eps)


def test_hypot_does_not_overflow() -> None:
    assert gx.hypot(gx.asarray(3e38), gx.asarray(1e38)).item() == pytest.approx(3.1622776e38)
    assert gx.hypot(gx.asarray(3e-30), gx.asarray(4e-30)).item() == pytest.approx(5e-30)


def test_unique() -> None:
    x = np.array([[3, 1, 1], [2, 3, 0]])
    values, index, inverse, counts = np.unique(x, return_index=True, return_inverse=True, return_counts=True)
    found = gx.unique_all(x)
    assert [t.tolist() for t in found] == [values.tolist(), index.tolist(), inverse.reshape(x.shape).tolist(), counts.tolist()]
    assert found._fields == ("values", "indices", "inverse_indices", "counts")
    assert gx.unique_counts(x).counts.tolist() == counts.tolist()
    assert gx.unique_inverse(x).inverse_indices.tolist() == inverse.reshape(x.shape).tolist()
    assert gx.unique_values(np.array([np.nan, 1.0, np.nan, -0.0, 0.0])).shape == (4,)        # each NaN is its own, and -0 is 0
    assert gx.unique_values(np.zeros(0)).shape == (0,)
    assert [i.tolist() for i in gx.nonzero(x > 1)] == [i.tolist() for i in np.nonzero(x > 1)]


@pytest.mark.parametrize(("f", "words", "fix"), [
    (gx.nonzero, "nonzero of f64", "gx.where"), (gx.unique_values, "unique of f64", "gx.sort"), (lambda x: x[x > 0], "depends on data", "gx.where"),
    (lambda x: gx.repeat(x, gx.sum(x > 0, axis=0), axis=1), "depends on the values", "Python ints"),
])
def test_sizes_that_depend_on_data_are_refused_in_a_trace(f: Any, words: str, fix: str) -> None:
    with pytest.raises(gx.GraphError, match=words) as e:
        gx.compile(f)(X)
    assert "traced" in str(e.value.why)
    assert fix in str(e.value.fix)


# ---- einsum --------------------------------------------------------------------------------------------------------------------------

SIZES = {"i": 3, "j": 4, "k": 5, "l": 2, "b": 6}
DOTS: dict[str, list[tuple[int, ...]]] = {"b...i,...ij->...bj": [(2, 3), (3,)], "...i,...j->...ij": [(2, 1), (3,)], "...,...": [(2, 1), (3,)],
                                          "...ij->...ji": [(2,)], "...ij,...jk": [(2, 1), (1, 7)]}
EINSUMS = ["ij,jk->ik", "ij,jk", "ii->i", "ii", "iij->ji", "ij->", "ij->j", "ji", "i,ij,j->", "ij,jk,kl->il", "ij,jk,kl,li,bl->b", "bij,bjk,bk->bi", "i,i,i->i",
           "ij,ij->ij", "i,j->ji", "iij,jk->ki", "ij,kl->", "i,,j->ij", "ij,jk,kl,lb,bi,ij->", "bij, bkj -> bik", *DOTS]


def _operands(subscripts: str) -> list[Array]:
    terms = subscripts.replace(" ", "").split("->")[0].split(",")
    dots = DOTS.get(subscripts, [()] * len(terms))
    return [RNG.standard_normal(tuple(m for c in t.replace("...", ".") for m in (d if c == "." else (SIZES[c],)))) for t, d in zip(terms, dots)]


@pytest.mark.parametrize("subscripts", EINSUMS)
def test_einsum(subscripts: str) -> None:
    args = _operands(subscripts)
    want = np.einsum(subscripts, *args)
    for how in ("auto", "greedy", "optimal", False):
        np.testing.assert_allclose(gx.einsum(subscripts, *args, optimize=how).numpy(), want, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(gx.compile(lambda *a: gx.einsum(subscripts, *a))(*args), want, rtol=1e-11, atol=1e-13)
    weight = RNG.standard_normal(want.shape)
    grads = gx.grad(lambda *a: (gx.einsum(subscripts, *a) * weight).sum(), argnums=tuple(range(len(args))))(*args)
    for k, g in enumerate(grads):                       # linear in each operand: the derivative along it is the function of it
        d = RNG.standard_normal(args[k].shape)
        along = (np.einsum(subscripts, *args[:k], d, *args[k + 1:]) * weight).sum()
        assert (g.numpy() * d).sum() == pytest.approx(along, rel=1e-9, abs=1e-11)


def test_einsum_finds_the_cheap_order() -> None:
    """From left to right the first product alone is 60 x 60; from the right there are only vectors."""
    a, b = np.ones((60, 50)), np.ones((50, 60))
    v = np.ones(60)

    def largest(how: Any) -> int:
        graph = gx.compile(lambda a, b, v: gx.einsum("ij,jk,k->i", a, b, v, optimize=how)).lower(a, b, v).graph
        return max(n.tensor.size for n in topo(graph.outputs) if n.op.name == "contract")

    assert largest("auto") == 60
    assert largest(False) == largest([(0, 1), (0, 1)]) == 3600


def test_einsum_of_integers_and_of_symbolic_sizes() -> None:
    i = np.arange(6, dtype=np.int32).reshape(2, 3)
    assert gx.einsum("ij->i", i).dtype == gx.int32
    assert gx.einsum("ij,kj->ik", i, i).tolist() == (i @ i.T).tolist()
    f = gx.compile(lambda x, w: gx.einsum("ni,ij,nj->n", x, w, x))
    w = RNG.standard_normal((3, 3))
    for n in (4, 7, 9):
        x = RNG.standard_normal((n, 3))
        np.testing.assert_allclose(f(x, w), np.einsum("ni,ij,nj->n", x, w, x), rtol=1e-12)


@pytest.mark.parametrize(("subscripts", "shapes", "why"), [
    ("ij,jk->il", [(3, 4), (4, 5)], "the letter 'l' of the result is in no operand"), ("ij,jk->ik", [(3, 4), (3, 5)], "'j' is 4 and 3"),
    ("ij->ii", [(3, 4)], "the letter 'i' comes twice"), ("ij,jk->ik", [(3, 4)], "2 operands, and there are 1"), ("ijk->i", [(3, 4)], "'ijk' has 3 letters"),
    ("i1->i", [(3, 4)], "'1' is no letter"), ("...i->i", [(3, 4)], "the result has not"), ("...i,...i->...", [(3, 4), (2, 4)], "an axis of '...' is"),
])
def test_what_einsum_cannot_read(subscripts: str, shapes: list[tuple[int, ...]], why: str) -> None:
    with pytest.raises(gx.GraphError, match="einsum cannot read") as e:
        gx.einsum(subscripts, *map(np.ones, shapes))
    assert why in str(e.value.why)


def test_einsum_refuses_orders_that_are_none() -> None:
    with pytest.raises(gx.GraphError, match="no order 'best'"):
        gx.einsum("i,i,i->", *[np.ones(3)] * 3, optimize="best")
    with pytest.raises(gx.GraphError, match="no step for 3 operands"):
        gx.einsum("i,i,i->", *[np.ones(3)] * 3, optimize=[(0, 3)])
