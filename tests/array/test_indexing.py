"""Indexing and functional updates against NumPy: eagerly, compiled, x[key] = v, and derivatives by finite differences in f64."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 5))
I = np.array([2, 0, 2])
J = np.array([[1], [2]])
MASK = RNG.random((3, 4)) < 0.5
ALL = slice(None)
KEYS: list[Any] = [
    I, (ALL, J), (0, ALL, I), (I, ALL, I), (..., I), (slice(1, None), I, slice(None, None, 2)), (I, None, I), (J, I), (ALL, J, I), (I, 1), (I, -1, ..., None),
    (None, I, 1, slice(3, 0, -2)), MASK, (MASK, 0), (ALL, MASK[0]), MASK.tolist(), (..., 2), slice(None, None, -2),
    (slice(1, 3), slice(0, 4, 3), slice(4, None, -3)),
    0, slice(2, 1), (0, I, ALL), (0, ALL, None, 2), (), ..., [1, -1], (I - 3, np.int64(2)), np.zeros(0, np.int64), (I, I, I), (slice(0, 1), slice(1, None, 3)),
]
UFUNCS = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "min": np.minimum, "max": np.maximum}


def name(key: Any) -> str:
    return repr(key).replace("slice", "").replace("array", "").replace("None", "N")[:40]


@pytest.mark.parametrize("key", KEYS, ids=name)
def test_getitem(key: Any) -> None:
    want = X[key]
    got = gx.asarray(X)[key]
    assert got.shape == want.shape
    np.testing.assert_array_equal(got.numpy(), want)
    np.testing.assert_array_equal(gx.compile(lambda x: x[key])(X), want)
    w = RNG.standard_normal(want.shape)
    want_grad = np.zeros_like(X)
    np.add.at(want_grad, key, w)
    np.testing.assert_allclose(gx.grad(lambda x: (x[key] * w).sum())(X).numpy(), want_grad)


@pytest.mark.parametrize("key", KEYS, ids=name)
def test_at(key: Any) -> None:
    v = RNG.uniform(0.5, 2.0, X[key].shape)
    v = v[:1] if v.ndim > 1 and v.shape[0] else v                        # it broadcasts
    names = list(UFUNCS)
    compiled = gx.compile(lambda x, v: tuple(getattr(x.at[key], n)(v) for n in names))(X, v)
    for n, native in zip(names, compiled, strict=True):
        want = X.copy()
        UFUNCS[n].at(want, key, v)
        np.testing.assert_allclose(getattr(gx.asarray(X).at[key], n)(v).numpy(), want, rtol=1e-12, err_msg=n)
        np.testing.assert_allclose(native, want, rtol=1e-12, err_msg=n)
    np.testing.assert_array_equal(gx.asarray(X).at[key].get().numpy(), X[key])


@pytest.mark.parametrize("key", KEYS, ids=name)
def test_set(key: Any) -> None:
    v = RNG.standard_normal(X[key].shape)
    want = X.copy()
    want[key] = v

    def body(x: Any, v: Any) -> Any:
        y = x * 1.0
        z = y + 0.0
        y[key] = v
        return y, z, x.at[key].set(v)

    t = gx.asarray(X)
    t[key] = v
    np.testing.assert_array_equal(t.numpy(), want)
    changed, before, functional = gx.compile(body)(X, v)
    np.testing.assert_array_equal(changed, want)
    np.testing.assert_array_equal(before, X)
    np.testing.assert_array_equal(functional, want)


@pytest.mark.parametrize("mode", ["set", "add", "multiply", "divide", "max"])
@pytest.mark.parametrize("key", [slice(None, None, 2), (slice(1, None), 0), np.array([2, 0]), (np.array([2, 0, 2]), np.array([1, 1, 1])), MASK], ids=name)
def test_derivatives_of_updates(key: Any, mode: str) -> None:
    a = X[..., 0]
    v = RNG.uniform(0.5, 2.0, a[key].shape)
    weight, da, dv = RNG.standard_normal(a.shape), RNG.standard_normal(a.shape), RNG.standard_normal(v.shape)

    def f(x: Any, v: Any) -> Any:
        return (getattr(x.at[key], mode)(v) * weight).sum()

    ga, gv = gx.grad(f, argnums=(0, 1))(a, v)
    eps = 1e-6
    want = (f(gx.asarray(a + eps * da), v + eps * dv).item() - f(gx.asarray(a - eps * da), v - eps * dv).item()) / (2 * eps)
    assert (ga.numpy() * da).sum() + (gv.numpy() * dv).sum() == pytest.approx(want, rel=1e-5, abs=1e-7)


def test_masks_in_a_trace_write() -> None:
    def f(x: Any, v: Any) -> Any:
        y = x + 0.0
        y[y < 0] = 0.0
        return y, x.at[(x > 0).any(axis=2)].add(v)
    clipped, added = gx.compile(f)(X, X[0, 0])
    np.testing.assert_array_equal(clipped, np.maximum(X, 0))
    np.testing.assert_array_equal(added, X + (X > 0).any(2)[..., None] * X[0, 0])


def test_a_parameter_is_written() -> None:
    w = gx.nn.Parameter(gx.zeros(3, 4))
    with gx.no_grad():
        w[1, ::2] = 2.0
    step = gx.compile(lambda v: w.__setitem__((slice(None), 1), v))
    step(np.float32([1, 2, 3]))
    np.testing.assert_array_equal(w.detach().numpy(), [[0, 1, 0, 0], [2, 2, 2, 0], [0, 3, 0, 0]])


def test_symbolic_axes_are_indexed_too() -> None:
    f = gx.compile(lambda x, i: (x[i, 1], x[i, i, None], x.at[:, 1].set(0.0)))
    for n in (4, 6):
        x, i = RNG.standard_normal((n, 3)), np.array([2, -1])
        got = f(x, i)
        x0 = x.copy()
        x0[:, 1] = 0
        for ours, want in zip(got, (x[i, 1], x[i, i, None], x0), strict=True):
            np.testing.assert_array_equal(ours, want)


@pytest.mark.parametrize(("f", "words"), [
    (lambda x: x[0, 0, 0, 0], "4 indices for the 3 axes"),
    (lambda x: x[1.5], "a float is no index"),
    (lambda x: x[0, True], "indexing with a bool among other indices"),
    (lambda x: x[np.zeros((2, 4), bool)], r"a mask bool\[2,4\] for axes 0..1"),
    (lambda x: x[np.array([0, 3])], r"index 3 is not in 0\.\.2"),
    (lambda x: x[np.array([0, 1]), np.array([0, 1, 2])], "needs shapes that broadcast"),
    (lambda x: x.at[3].set(1.0), "index 3 is out of range for axis 0"),
    (lambda x: x.at[0].set(np.zeros(3)), "does not broadcast"),
    (lambda x: (x > 0).at[0].set(1), r"a value i64\[\] written into bool\[3,4,5\]"),
    (lambda x: x.astype(gx.int32).at[0].set(1.5), r"written into i32\[3,4,5\]"),
    (lambda x: x.astype(gx.int32).at[0].divide(2), "divide of i32"),
])
def test_errors(f: Any, words: str) -> None:
    with pytest.raises(gx.GraphError, match=words):
        f(gx.asarray(X))


def test_a_mask_in_a_trace_is_refused_with_the_reason() -> None:
    with pytest.raises(gx.GraphError, match="depends on data") as e:
        gx.compile(lambda x: x[x > 0])(X)
    assert e.value.why == "sizes are fixed when the function is traced"
    assert "x.at[mask].set(v)" in str(e.value.fix)
