"""Derivatives of linear algebra where books stop: singular matrices, norms at 0, equal eigenvalues, ranks that are not full, exponentials of any size."""
from __future__ import annotations

from itertools import permutations
from typing import Any

import mpmath
import numpy as np
import pytest

import graphc as gx

Array = np.ndarray[Any, Any]
L = gx.linalg
RNG = np.random.default_rng(7)


def of_rank(n: int, rank: int) -> Array:
    """Whole numbers: singular exactly."""
    return np.asarray(RNG.integers(-3, 4, (n, rank)) @ RNG.integers(-3, 4, (rank, n)), float)


def multilinear(x: Array, *ds: Array) -> float:
    """The derivative of det at x along each d: their columns in the place of x's, in every way."""
    total = 0.0
    for columns in permutations(range(len(x)), len(ds)):
        m = x.copy()
        for c, d in zip(columns, ds):
            m[:, c] = d[:, c]
        total += float(np.linalg.det(m))
    return total


# ---- determinants ----------------------------------------------------------------------------------------------------------------------

RANKS = [(1, 0), (2, 1), (3, 1), (4, 3), (6, 2)]


def along(f: Any, d: Array) -> Any:
    return lambda x: (gx.grad(f)(x) * d).sum()


@pytest.mark.parametrize(("n", "rank"), RANKS)
def test_the_gradient_of_det_at_singular_matrices(n: int, rank: int) -> None:
    """To second order, by reverse mode over reverse mode and forward mode over it, eagerly and compiled."""
    x, d, e = of_rank(n, rank), *RNG.standard_normal((2, n, n))
    size = max(1.0, np.abs(x).max() ** (n - 1))

    def three(x: Any) -> tuple[Any, ...]:
        return along(L.det, d)(x), along(along(L.det, d), e)(x), gx.jvp(along(L.det, d), (x,), (e,))[1]

    want = (multilinear(x, d), multilinear(x, d, e), multilinear(x, d, e))
    for got in (three(gx.asarray(x)), gx.compile(three)(x)):
        np.testing.assert_allclose([float(g) for g in got], want, rtol=1e-9, atol=1e-10 * size)


def test_the_third_derivative_of_det() -> None:
    d = RNG.standard_normal((3, 3, 3))
    f = along(along(along(L.det, d[0]), d[1]), d[2])
    for rank in range(4):
        x = of_rank(3, rank)
        assert f(gx.asarray(x)).item() == pytest.approx(multilinear(x, *d), rel=1e-9)


def test_one_singular_matrix_in_a_batch() -> None:
    """And as many examples of `vmap`; in f32; where a pivot is 0 that is not the last; far from 1."""
    x = np.stack([of_rank(4, 3), 1e8 * of_rank(4, 3), RNG.standard_normal((4, 4)), np.diag([1e-6, 1.0], 2) + 0.0, np.kron(np.eye(2), [[0.0, 1], [0, 0]])])
    want = np.stack([[[multilinear(m, np.eye(4)[:, [i]] * np.eye(4)[[j]]) for j in range(4)] for i in range(4)] for m in x])
    assert np.abs(want[3]).max() == 0
    for run in (lambda x: gx.grad(lambda y: L.det(y).sum())(gx.asarray(x)).numpy(), gx.compile(gx.grad(lambda y: L.det(y).sum())),
                gx.compile(gx.vmap(gx.grad(L.det)))):
        for dtype, tol in ((np.float64, 1e-12), (np.float32, 5e-3)):
            got = run(x.astype(dtype))
            assert got.dtype == dtype
            for g, w in zip(got, want):
                np.testing.assert_allclose(g, w, atol=tol * max(1.0, np.abs(w).max()))


def test_a_singular_matrix_has_no_logarithm() -> None:
    g = gx.compile(gx.grad(lambda x: L.slogdet(x).logabsdet.sum()))(np.stack([np.ones((3, 3)), 2 * np.eye(3)]))
    assert np.isnan(g[0]).all()
    np.testing.assert_allclose(g[1], np.eye(3) / 2, atol=1e-16)


# ---- norms -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ord", [None, "fro", "nuc", 1, 2, 3, 0.5, -1, -2, np.inf, -np.inf], ids=str)
def test_norms_have_a_subgradient_everywhere(ord: Any) -> None:
    """At 0, and by the elements that are 0: never NaN, and no longer than the slope of the norm."""
    matrix = gx.compile(gx.grad(lambda x: L.norm(x, ord)))
    if ord not in (3, 0.5):
        assert np.abs(matrix(np.zeros((3, 2)))).max() <= 1
    if ord not in ("fro", "nuc"):
        vector = gx.compile(gx.grad(lambda x: L.norm(x, ord)))
        assert not vector(np.zeros(3)).any()
        x = np.array([0.0, 1, -2])
        g = vector(x)
        assert np.isfinite(g).all()
        assert g[0] == 0
        if ord is not None and ord > 0:
            assert g @ x == pytest.approx(np.linalg.norm(x, ord))                    # Euler: a norm is homogeneous
        if ord is None or ord > 0 or ord == -np.inf:
            assert L.norm(x, ord).item() == pytest.approx(np.linalg.norm(x, ord))
        else:
            assert L.norm(x, ord).item() == 0


# ---- spectra ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [np.eye(3), np.zeros((3, 3)), np.diag([2.0, 1, 1]), np.ones((3, 3))], ids=["identity", "zero", "two equal", "rank 1"])
def test_values_have_gradients_where_they_are_equal(x: Array) -> None:
    """An element of the subdifferential: of the sum of the k largest, whose slope along d is the sum of those of d among the equal ones at most."""
    for values, sign in ((lambda y: L.eigvalsh(y)[::-1], 1), (L.svdvals, 1)):
        for k in (1, 2, 3):
            g = gx.compile(gx.grad(lambda y, k=k, values=values: values(y)[:k].sum()))(x)
            assert np.isfinite(g).all()
            for _ in range(5):                          # a convex function lies above its tangents
                z = RNG.standard_normal((3, 3))
                z = z + z.T
                top = values(gx.asarray(x + z))[:k].sum().item(), values(gx.asarray(x))[:k].sum().item()
                assert sign * (top[0] - top[1] - (g * z).sum()) >= -1e-12


def test_vectors_of_equal_values_do_not_turn() -> None:
    """JAX's and PyTorch's gradients are NaN there; ours is that of what the eigenspace alone decides, and finite for the rest."""
    for f in (lambda x: L.eigh(x).eigenvectors.sum(), lambda x: L.svd(x).U.sum(), lambda x: L.svd(x).Vh.sum()):
        assert np.isfinite(gx.compile(gx.grad(f))(np.eye(3))).all()


@pytest.mark.parametrize("shape", [(4, 3), (3, 4)], ids=str)
def test_pseudo_inverses_of_less_than_full_rank(shape: tuple[int, int]) -> None:
    """At constant rank, which a product of thin factors keeps, the derivative is what differences say; so is that of a least-squares solution."""
    m, n = shape
    b, c, db, dc = RNG.standard_normal((m, 2)), RNG.standard_normal((2, n)), RNG.standard_normal((m, 2)), RNG.standard_normal((2, n))
    w, right = RNG.standard_normal((n, m)), RNG.standard_normal((m, 1))

    def x(t: Any) -> Any:
        return (b + t * db) @ (c + t * dc)

    for f in (lambda t: (L.pinv(x(t), rtol=1e-9) * w).sum(), lambda t: L.lstsq(x(t), right, rcond=1e-9).solution.sum()):
        h = 1e-4
        at = [f(k * h).item() for k in (-2, -1, 1, 2)]
        slope = (8 * (at[2] - at[1]) - at[3] + at[0]) / (12 * h)
        assert gx.compile(gx.grad(f))(np.float64(0.0)) == pytest.approx(slope, rel=1e-7)
    assert not gx.grad(lambda x: L.pinv(x).sum())(gx.zeros(shape)).numpy().any()


def test_ranks_and_conditions() -> None:
    """A rank is a whole number: it has no slope. The condition of a singular matrix is infinite, or as large as rounding lets it be."""
    x = RNG.standard_normal((3, 3))
    np.testing.assert_array_equal(gx.grad(lambda x: x.sum() + L.matrix_rank(x).astype(gx.float64))(gx.asarray(x)).numpy(), np.ones((3, 3)))
    assert L.matrix_rank(np.zeros((3, 2))).item() == 0
    assert L.cond(np.diag([1.0, 0])).item() == np.inf
    assert L.cond(np.ones((2, 2))).item() > 1e15
    assert L.cond(np.ones((2, 2)), 1).isnan().item() if hasattr(gx.Tensor, "isnan") else np.isnan(L.cond(np.ones((2, 2)), 1).item())


# ---- exponentials ----------------------------------------------------------------------------------------------------------------------

HARD = {"zero": np.zeros((3, 3)), "identity": 3 * np.eye(3), "large": 40 * RNG.standard_normal((3, 3)) - 60 * np.eye(3),
        "not normal": np.array([[-1.0, 1e4, 0], [0, -2, 1e3], [0, 0, -1]]), "nilpotent": np.triu(np.full((3, 3), 30.0), 1),
        "rotation": 50 * np.array([[0.0, 1, 0], [-1, 0, 2], [0, -2, 0]])}


@pytest.mark.parametrize("name", HARD)
def test_exponentials_and_their_derivatives_beside_mpmath(name: str) -> None:
    """The derivative along d stands beside the exponential in that of [[x, d], [0, x]]."""
    x, d, w = HARD[name], *RNG.standard_normal((2, 3, 3))
    with mpmath.workdps(60):
        both = np.array(mpmath.expm(mpmath.matrix(np.block([[x, d], [np.zeros((3, 3)), x]]))).tolist(), float)
    value, slope = both[:3, :3], both[:3, 3:]

    def f(x: Any) -> tuple[Any, ...]:
        return *gx.jvp(L.expm, (x,), (gx.asarray(d),)), (gx.grad(lambda x: (L.expm(x) * w).sum())(x) * d).sum()

    y, along, back = gx.compile(f)(x)
    room = 1e-13 * max(1.0, np.abs(x).max())
    assert np.abs(y - value).max() <= room * np.abs(value).max()
    assert np.abs(along - slope).max() <= 10 * room * np.abs(slope).max()
    assert abs(back - (slope * w).sum()) <= 10 * room * np.abs(slope).max() * np.abs(w).sum()
