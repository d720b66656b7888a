"""Orthogonal factors and spectra: what results must satisfy, over shapes and dtypes, eagerly and in machine code; derivatives; what is special."""
from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest

import graphc as gx
from graphc.lower import jacobi
from graphc.testing import check_grads

Array = np.ndarray[Any, Any]
L = gx.linalg
RNG = np.random.default_rng(11)


def t(x: Array) -> Array:
    return np.swapaxes(x, -1, -2)


def close(name: str, residual: Array, eps: float, n: int, *sizes: Array) -> None:
    scale = max(1.0, *(float(np.abs(s).max(initial=0)) for s in sizes)) if sizes else 1.0
    assert np.abs(residual).max(initial=0) <= 20 * eps * max(n, 1) * scale, name


# ---- residuals -------------------------------------------------------------------------------------------------------------------------

SHAPES = [(0, 0), (3, 0), (0, 3), (1, 1), (1, 4), (3, 3), (3, 4), (4, 3), (10, 10), (33, 33), (65, 65), (70, 7), (2, 3, 4, 3), (9, 4, 4), (9, 3, 5), (0, 3, 3)]


def factors(x: Any) -> tuple[Any, ...]:
    square = (*L.eigh(x), L.eigvalsh(x)) if x.shape[-1] == x.shape[-2] else ()
    return (*L.qr(x), *L.qr(x, mode="complete"), *L.svd(x, full_matrices=False), *L.svd(x), L.svdvals(x), L.pinv(x), *square)


def hold(x: Array, out: tuple[Array, ...]) -> None:
    m, n = x.shape[-2:]
    k, eps, x = min(m, n), float(np.finfo(x.dtype).eps), x.astype(float)
    q, r, qc, rc, u, s, vh, uf, sf, vhf, values, p, *rest = (o.astype(float) for o in out)
    for name, basis, of in (("Q", q, k), ("complete Q", qc, m), ("U", u, k), ("V", t(vh), k), ("complete U", uf, m), ("complete V", t(vhf), n)):
        assert basis.shape[-1] == of, name
        close(name, t(basis) @ basis - np.eye(of), eps, max(m, n))
    for a, b in ((q, r), (qc, rc)):
        close("QR", a @ b - x, eps, max(m, n), x)
        assert not np.tril(b, -1).any()
        assert (np.diagonal(b, axis1=-2, axis2=-1) >= 0).all()
    close("SVD", u * s[..., None, :] @ vh - x, eps, max(m, n), x)
    close("complete SVD", uf[..., :k] * sf[..., None, :] @ vhf[..., :k, :] - x, eps, max(m, n), x)
    assert (s[..., :-1] >= s[..., 1:]).all()
    assert (s >= 0).all()
    np.testing.assert_array_equal(values, s)
    if k:
        close("singular values", s - np.linalg.svd(x, compute_uv=False), eps, max(m, n), x)
        close("pinv", x @ p @ x - x, eps, max(m, n), x, np.abs(p).max(initial=0) * np.abs(x) ** 2 * n)
    if rest:
        w, v, w2 = rest
        half = (x + t(x)) / 2
        close("eigenvectors", t(v) @ v - np.eye(n), eps, n)
        close("eigh", v * w[..., None, :] @ t(v) - half, eps, n, x)
        assert (w[..., :-1] <= w[..., 1:]).all()
        np.testing.assert_array_equal(w, w2)
    for vectors in (t(vh), rest[1]) if rest else (t(vh),):
        for one in t(vectors).reshape(-1, vectors.shape[-2]) if vectors.size else ():
            assert one[np.argmax(np.abs(one) >= 0.6 * np.abs(one).max())] > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_factors(shape: tuple[int, ...], dtype: Any) -> None:
    x = RNG.standard_normal(shape).astype(dtype)
    for out in (tuple(o.numpy() for o in factors(gx.asarray(x))), gx.compile(factors)(x)):
        assert all(o.dtype == dtype for o in out)
        hold(x, out)


INTERPRETED = [((3, 2), L.qr), ((10, 3), L.qr), ((2, 2), L.svd), ((5, 2, 2), L.svd), ((5, 2, 2), L.eigh), ((9, 9), L.eigvalsh), ((9, 9), L.eigh),
               ((9, 9), L.svdvals)]


@pytest.mark.parametrize(("shape", "f"), INTERPRETED, ids=[f"{f.__name__}{shape}" for shape, f in INTERPRETED])
@pytest.mark.parametrize("many", [12, 8])
def test_in_the_loop_interpreter(shape: tuple[int, ...], f: Any, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds are checked there, and what nobody wrote is NaN. One by one, along the lanes, in blocks; by rotations, and by way of a tridiagonal matrix."""
    if many == 8 and shape != (9, 9):
        pytest.skip("the same")
    monkeypatch.setattr(jacobi, "MANY", many)
    x = RNG.standard_normal(shape)
    want = f(x)
    got = gx.compile(f, cache=False).lower(x).executable().run_loops([x], []).outputs
    for a, b in zip(got, want if isinstance(want, tuple) else (want,), strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-11)


SPECIAL = {
    "zero": np.zeros((4, 4)), "identity": np.eye(4), "rank 1": np.ones((4, 4)), "rank 2": np.arange(16.0).reshape(4, 4),
    "zero column": np.triu(np.ones((4, 4)), 1),
    "plus and minus": np.kron(np.eye(2), [[0.0, 1], [1, 0]]),
    "scaled": np.diag([1e-20, 1, 1e-5, 1e10]) @ RNG.standard_normal((4, 4)),
    "huge": 1e200 * np.ones((4, 4)),
    "tiny": 1e-200 * RNG.standard_normal((4, 4)), "graded": 10.0 ** -np.add.outer(np.arange(4) * 3, np.arange(4) * 3),
}


@pytest.mark.parametrize("blocks", [1, 5])
def test_special_matrices(blocks: int) -> None:
    """Alone and along the lanes, rotated and by way of a tridiagonal matrix. Of large and small numbers, what is computed with 1e200 times them."""
    def scaled(out: tuple[Array, ...], size: float) -> tuple[Array, ...]:
        rows = [np.array(o) for o in out]
        for k in (1, 3, 5, 8, 10, 12, 14):              # R twice, the singular values, the eigenvalues
            rows[k] = rows[k] / size
        rows[11] = rows[11] * size
        return tuple(rows)

    compiled = gx.compile(factors)
    given = [np.kron(np.eye(blocks), x) for x in SPECIAL.values()]
    many = compiled(np.stack(given))
    for k, x in enumerate(given):
        size = np.abs(x).max() or 1.0
        hold(x / size, scaled(compiled(x), size))
        hold(x / size, scaled(tuple(o[k] for o in many), size))


def test_small_eigenvalues_of_a_definite_matrix_are_exact() -> None:
    """D A D with a well-conditioned A: each eigenvalue to a few eps, whatever its size. LAPACK's tridiagonal form loses them."""
    d = 10.0 ** -np.arange(0.0, 30, 6)
    a = np.full((5, 5), 0.1) + np.eye(5)
    w = gx.compile(L.eigvalsh)(a * d * d[:, None])
    exact = [[Fraction(float(v)) for v in row] for row in a * d * d[:, None]]
    trace = sum(exact[i][i] for i in range(5))
    det = Fraction(1)
    for k in range(5):
        det *= exact[k][k]
        for i in range(k + 1, 5):
            f = exact[i][k] / exact[k][k]
            exact[i] = [x - f * y for x, y in zip(exact[i], exact[k])]
    assert math.prod(w) == pytest.approx(float(det), rel=1e-12)
    assert math.fsum(w) == pytest.approx(float(trace), rel=1e-14)


def test_what_is_not_finite_gives_nan_for_itself_alone() -> None:
    for n in (3, 20):
        x = RNG.standard_normal((6, n, n))
        x[2, 0, n - 1], x[4, 1, 1] = np.nan, np.inf
        for f in (lambda x: (*L.eigh(x), *L.svd(x)), gx.compile(lambda x: (*L.eigh(x), *L.svd(x)))):
            for o in map(np.asarray, f(x)):
                assert np.isnan(o[[2, 4]]).all()
                assert np.isfinite(o[[0, 1, 3, 5]]).all()


def test_same_bits_for_every_number_of_threads() -> None:
    x = RNG.standard_normal((64, 20, 20)).astype(np.float32)
    one, two = (gx.compile(factors, threads=n)(x) for n in (1, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_large_matrices() -> None:
    x = RNG.standard_normal((130, 70))
    hold(x, gx.compile(factors)(x))


# ---- what is made of them --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (3, 3), (2, 5, 2)], ids=str)
def test_least_squares(shape: tuple[int, ...]) -> None:
    a, b = RNG.standard_normal(shape), RNG.standard_normal((*shape[:-1], 2))
    a[..., -1] = a[..., 0]                              # one rank less
    for got in (L.lstsq(a, b), gx.compile(L.lstsq)(a, b)):
        x, residuals, rank, values = map(np.asarray, got)
        for at in np.ndindex(shape[:-2]):
            want = np.linalg.lstsq(a[at], b[at], rcond=None)
            np.testing.assert_allclose(x[at], want[0], atol=1e-13)
            np.testing.assert_allclose(residuals[at], ((a[at] @ want[0] - b[at]) ** 2).sum(0), atol=1e-13)
            assert rank[at] == want[2]
            np.testing.assert_allclose(values[at], want[3], atol=1e-13)
    if a.ndim == 2:
        np.testing.assert_allclose(L.lstsq(a, b[:, 0]).solution.numpy(), want[0][:, 0], atol=1e-13)


def test_ranks_norms_and_conditions() -> None:
    x, r = RNG.standard_normal((3, 4, 3)) @ np.diag([1.0, 0.5, 1e-9]), np.array([1e-6, 1e-12, 0.99])

    def f(x: Any, r: Any) -> tuple[Any, ...]:
        norms = tuple(L.matrix_norm(x, ord=o, keepdims=True) for o in (2, -2, "nuc"))
        return (L.matrix_rank(x), L.matrix_rank(x, rtol=1e-6), L.matrix_rank(x, rtol=r), L.cond(x), L.cond(x[:, :3], 1), L.pinv(x, rtol=r)[0],
                L.pinv(x, rtol=1e-6), *norms)

    for out in (f(gx.asarray(x), gx.asarray(r)), gx.compile(f)(x, r)):
        rank, some, each, cond, first, p, p2, *norms = map(np.asarray, out)
        assert (rank.tolist(), some.tolist(), each.tolist()) == ([3, 3, 3], [2, 2, 2], [2, 3, 1])
        for o, got in zip((2, -2, "nuc"), norms, strict=True):
            np.testing.assert_allclose(got[:, 0, 0], [np.linalg.norm(m, o) for m in x], rtol=1e-6, atol=1e-15)
        np.testing.assert_allclose(cond, np.linalg.cond(x), rtol=1e-5)
        np.testing.assert_allclose(first, np.linalg.cond(x[:, :3], 1), rtol=1e-5)
        np.testing.assert_allclose(p, np.linalg.pinv(x[0], 1e-6), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(p2, np.linalg.pinv(x, 1e-6), rtol=1e-6, atol=1e-9)
    assert L.norm(x[0], "nuc").item() == pytest.approx(np.linalg.norm(x[0], "nuc"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exponentials(dtype: Any) -> None:
    """Of norms that need no squaring and many, in one batch; of a nilpotent matrix exactly; beside mpmath."""
    x = np.stack([s * RNG.standard_normal((4, 4)) for s in (0, 1e-3, 1, 12)]).astype(dtype)
    x[3] -= 8 * np.eye(4, dtype=dtype)
    eps = np.finfo(dtype).eps
    for got in (L.expm(gx.asarray(x)).numpy(), gx.compile(L.expm)(x), gx.compile(gx.vmap(L.expm))(x)):
        for g, one in zip(got, x.astype(float)):
            want = np.array(mpmath.expm(mpmath.matrix(one)).tolist(), float)
            assert np.abs(g - want).max() <= 2000 * eps * np.abs(want).max()
    np.testing.assert_array_equal(gx.compile(L.expm)(np.zeros((2, 2), dtype)), np.eye(2))
    np.testing.assert_allclose(gx.compile(L.expm)(np.array([[0, 1000], [0, 0]], dtype)), [[1, 1000], [0, 1]], rtol=20 * eps)
    assert np.isnan(gx.compile(L.expm)(np.full((2, 2), 1e9, dtype))).all()
    assert L.expm(np.zeros((0, 0))).shape == (0, 0)


# ---- derivatives -----------------------------------------------------------------------------------------------------------------------

X = RNG.uniform(-0.3, 0.3, (4, 4)) + np.diag([1.0, 2, 3, 4])
DERIVED: list[tuple[str, Any, Array]] = [
    ("qr", lambda x: gx.concat([gx.flatten(o) for o in L.qr(x)]), X), ("qr tall", lambda x: gx.concat([gx.flatten(o) for o in L.qr(x)]), X[:, :2]),
    ("qr wide", lambda x: gx.concat([gx.flatten(o) for o in L.qr(x)]), X[:3]), ("qr R", lambda x: L.qr(x, mode="complete").R, X[:3]),
    ("eigh", lambda x: gx.concat([gx.flatten(o) for o in L.eigh(x)]), X), ("eigvalsh", L.eigvalsh, X),
    ("svd", lambda x: gx.concat([gx.flatten(o) for o in L.svd(x)]), X),
    ("svd tall", lambda x: gx.concat([gx.flatten(o) for o in L.svd(x, full_matrices=False)]), X[:, :2]),
    ("svd wide", lambda x: gx.concat([gx.flatten(o) for o in L.svd(x, full_matrices=False)]), X[:2]), ("svdvals", L.svdvals, X[:, :3]),
    ("nuclear", lambda x: L.matrix_norm(x, ord="nuc"), X), ("pinv", L.pinv, X[:, :2]), ("pinv wide", L.pinv, X[:2]),
    ("lstsq", lambda x: L.lstsq(x[:, :2], x[:, 2:]).solution, X), ("expm", L.expm, X), ("expm small", L.expm, X / 9), ("cond", L.cond, X),
    ("batch", lambda x: L.eigvalsh(gx.stack([x, x @ x])), X),
]
CASES = pytest.mark.parametrize(("f", "x"), [d[1:] for d in DERIVED], ids=[d[0] for d in DERIVED])


@CASES
def test_derivatives(f: Any, x: Array) -> None:
    """To second order against differences; reverse, forward, and reverse over reverse in machine code as eagerly."""
    check_grads(f, [x], order=2, tolerance=1e-5)
    weight = np.random.default_rng(5).standard_normal(f(gx.asarray(x)).shape)

    def loss(x: Any) -> Any:
        return (f(x) * weight).sum()

    def all_of_them(x: Any) -> Any:
        first = gx.grad(loss)
        return first(x), gx.jvp(f, (x,), (gx.sin(x),))[1], gx.grad(lambda x: (first(x) ** 2).sum())(x)

    for got, want in zip(gx.compile(all_of_them)(x), all_of_them(gx.asarray(x)), strict=True):
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-7, atol=1e-9)


@CASES
def test_vmap_is_a_batch(f: Any, x: Array) -> None:
    many = np.stack([x, 1.5 * x, x + 0.1, 2 * x, 3 * x])
    want = np.stack([f(gx.asarray(one)).numpy() for one in many])
    np.testing.assert_allclose(gx.compile(gx.vmap(f))(many), want, rtol=1e-9, atol=1e-10)


def test_what_does_not_depend_on_the_basis_has_the_right_gradient_where_eigenvalues_are_equal() -> None:
    """The sum of squares of an eigenspace's projector applied to vectors; the trace of a function; the nuclear norm of an orthogonal matrix."""
    q = np.linalg.qr(RNG.standard_normal((4, 4)))[0]
    x, b = q * [1.0, 1, 3, 3] @ q.T, RNG.standard_normal((4, 2))

    def projected(x: Any) -> Any:
        v = L.eigh(x).eigenvectors[:, 2:]
        return ((v.mT @ b) ** 2).sum()

    def through(x: Any) -> Any:                         # the trace of b bᵀ sqrt(x)
        w, v = L.eigh(x)
        return ((v.mT @ b) ** 2 * gx.sqrt(w)[:, None]).sum()

    for f, at in ((projected, x), (lambda x: L.matrix_norm(x, ord="nuc"), q), (lambda x: gx.exp(L.eigvalsh(x)).sum(), x)):
        g = gx.compile(gx.grad(f))(at)
        for _ in range(3):
            d = RNG.standard_normal((4, 4))
            d = d + d.T if f is not None and at is x else d
            h = 1e-5
            slope = (f(gx.asarray(at + h * d)).item() - f(gx.asarray(at - h * d)).item()) / (2 * h)
            assert (g * d).sum() == pytest.approx(slope, rel=1e-5, abs=1e-7)
    assert np.isfinite(gx.compile(gx.grad(through))(x)).all()


def test_the_complete_basis_has_no_derivative() -> None:
    for f in (lambda x: L.qr(x, mode="complete").Q.sum(), lambda x: L.svd(x).U.sum()):
        with pytest.raises(gx.GraphError, match=r"the complete QR of f64\[4,2\] has no derivative") as e:
            gx.grad(f)(X[:, :2])
        assert "any basis of what x does not reach" in str(e.value)
    assert gx.grad(lambda x: L.svd(x).S.sum())(X[:, :2]).shape == (4, 2)


@pytest.mark.parametrize(("call", "words"), [
    (lambda: L.qr(gx.ones(3)), "qr is of matrices, got f32[3]"), (lambda: L.qr(gx.ones((2, 2)), mode="r"), "there is no mode 'r'"),
    (lambda: L.eigh(gx.ones((2, 3))), "eigh is of square matrices"), (lambda: L.svdvals(gx.ones(2)), "svdvals is of matrices"),
    (lambda: L.lstsq(gx.ones((3, 2)), gx.ones((2, 1))), "lstsq needs as many rows on the right as on the left, got f32[3,2] and f32[2,1]"),
    (lambda: L.expm(gx.ones((2, 3))), "expm is of square matrices"), (lambda: L.expm(gx.ones((2, 2), dtype=gx.bfloat16)), "expm does not compute in bf16"),
    (lambda: L.eigh(gx.ones((2, 2), dtype=gx.float16)), "eigh does not compute in f16"), (lambda: L.matrix_norm(gx.ones((2, 2)), ord=3), "no matrix norm 3"),
])
def test_bad_calls_say_what_and_where(call: Any, words: str) -> None:
    with pytest.raises(gx.GraphError) as e:
        call()
    assert words in str(e.value)
    assert "test_spectra.py" in str(e.value)


def test_results_have_the_standards_names() -> None:
    assert L.qr(X)._fields == ("Q", "R")
    assert L.eigh(X)._fields == ("eigenvalues", "eigenvectors")
    assert L.svd(X)._fields == ("U", "S", "Vh")
    assert L.slogdet(X)._fields == ("sign", "logabsdet")
