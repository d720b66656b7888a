"""Linear systems: what results must satisfy, over shapes and dtypes, eagerly and in machine code; derivatives, batches, matrices without an answer."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.loop.place import launches
from graphc.testing import check_grads

Array = np.ndarray[Any, Any]
L = gx.linalg
SHAPES = [(0, 0), (1, 1), (3, 3), (33, 33), (65, 65), (2, 3, 4, 4), (9, 5, 5), (0, 3, 3), (2, 33, 33)]
COLUMNS = {33: 7, 65: 30}


def t(x: Array) -> Array:
    return np.swapaxes(x, -1, -2)


def drawn(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> tuple[Array, Array, Array]:
    """A matrix far from singular, one positive definite, and right-hand sides."""
    rng, n = np.random.default_rng(seed), shape[-1]
    a = rng.uniform(-1, 1, shape) + 2 * np.sqrt(n) * np.eye(n)
    b = rng.uniform(-1, 1, (*shape[:-1], COLUMNS.get(n, 2)))
    return a.astype(dtype), (a @ t(a) + np.eye(n)).astype(dtype), b.astype(dtype)


def systems(a: Any, s: Any, b: Any) -> tuple[Any, ...]:
    c, f, low = L.cholesky(s), L.lu(a), gx.tril(a)
    return (L.solve(a, b), L.inv(a), L.det(a), *L.slogdet(a), c, L.cholesky(s, upper=True), L.cholesky_solve(b, c), *f,
            L.solve_triangular(low, b, upper=False), L.solve_triangular(a, b, upper=True), L.solve_triangular(a / 9, b, upper=True, unitriangular=True),
            L.solve_triangular(low, gx.matrix_transpose(b), upper=False, left=False), L.matrix_power(a, -2))


def hold(a: Array, s: Array, b: Array, out: tuple[Any, ...]) -> None:
    """Residuals, in f64, relative to what was multiplied."""
    x, inv, det, sign, logabs, c, u, y, p, low, up, z1, z2, z3, z4, power = (np.asarray(o) for o in out)
    a64, s64, b64, n, eps = a.astype(float), s.astype(float), b.astype(float), a.shape[-1], np.finfo(a.dtype).eps
    for o in out:
        assert np.asarray(o).dtype == a.dtype
    unit = np.triu(a64 / 9, 1) + np.eye(n)

    def zero(name: str, residual: Array, *sizes: Array) -> None:
        scale = np.prod([np.abs(m).max(initial=0) for m in sizes])
        assert np.abs(residual).max(initial=0) <= 30 * eps * max(n, 1) * max(scale, 1), name

    zero("solve", a64 @ x - b64, a64, x)
    zero("inv", a64 @ inv - np.eye(n), a64, inv)
    zero("cholesky", c.astype(float) @ t(c) - s64, s64)
    zero("cholesky_solve", s64 @ y - b64, s64, y)
    zero("lu", p.astype(float) @ low @ up - a64, a64, a64)
    zero("lower", np.tril(a64) @ z1 - b64, a64, z1)
    zero("upper", np.triu(a64) @ z2 - b64, a64, z2)
    zero("unit", unit @ z3 - b64, unit, z3)
    zero("right", z4 @ np.tril(a64) - t(b64), a64, z4)
    zero("power", a64 @ a64 @ power - np.eye(n), a64, a64, power)
    np.testing.assert_array_equal(u, t(c))
    for lower in (c, low, t(up)):
        assert not np.triu(lower, 1).any()
    assert (np.diagonal(c, axis1=-2, axis2=-1) > 0).all()
    assert (np.diagonal(low, axis1=-2, axis2=-1) == 1).all()
    assert (np.abs(low) <= 1).all()
    want, size = np.linalg.slogdet(a64)
    np.testing.assert_array_equal(sign, want)
    np.testing.assert_allclose(logabs, size, rtol=30 * eps, atol=30 * eps * n)
    if n < 33:
        np.testing.assert_allclose(det, np.linalg.det(a64), rtol=100 * eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_systems(shape: tuple[int, ...], dtype: Any) -> None:
    given = drawn(shape, dtype)
    hold(*given, tuple(o.numpy() for o in systems(*map(gx.asarray, given))))
    hold(*given, gx.compile(systems)(*given))


def test_in_the_loop_interpreter() -> None:
    """Bounds are checked there, and what nobody wrote is NaN: a batch along the lanes with a rest, and blocks that do not come out even."""
    for shape in ((5, 3, 3), (10, 10), (2, 3, 3)):
        given = drawn(shape, np.float64)
        step = gx.compile(lambda a, s, b: (L.solve(a, b), L.cholesky(s), L.solve_triangular(a, b, upper=True))).lower(*given)
        x, c, z = step.executable().run_loops(list(given), []).outputs
        np.testing.assert_allclose(given[0] @ x, given[2], atol=1e-12)
        np.testing.assert_allclose(c @ t(c), given[1], atol=1e-11)
        np.testing.assert_allclose(np.triu(given[0]) @ z, given[2], atol=1e-12)


# ---- derivatives ---------------------------------------------------------------------------------------------------------------------------

A, S, B = drawn((3, 3), np.float64, 3)
DERIVED: list[tuple[str, Any, tuple[Array, ...]]] = [
    ("solve", L.solve, (A, B)), ("solve vector", lambda a, b: L.solve(a, b[:, 0]), (A, B)), ("inv", L.inv, (A,)), ("det", L.det, (A,)),
    ("slogdet", lambda a: L.slogdet(a).logabsdet, (A,)), ("cholesky", L.cholesky, (S,)), ("cholesky upper", lambda s: L.cholesky(s, upper=True), (S,)),
    ("cholesky_solve", lambda b, s: L.cholesky_solve(b, L.cholesky(s, upper=True), upper=True), (B, S)), ("lu", lambda a: L.lu(a).L + 2 * L.lu(a).U, (A,)),
    ("triangular", lambda a, b: L.solve_triangular(a, b, upper=True), (A, B)),
    ("right", lambda a, b: L.solve_triangular(a, b.mT, upper=False, left=False), (A, B)),
    ("unit", lambda a, b: L.solve_triangular(a, b, upper=False, unitriangular=True), (A, B)), ("matrix_power", lambda a: L.matrix_power(a, -3), (A,)),
    ("batch", lambda a, b: L.solve(gx.stack([a, 2 * a.mT]), b), (A, B)),
]
CASES = pytest.mark.parametrize(("f", "args"), [d[1:] for d in DERIVED], ids=[d[0] for d in DERIVED])


@CASES
def test_derivatives(f: Any, args: tuple[Array, ...]) -> None:
    """To third order against differences; reverse, forward, and reverse over reverse in machine code as eagerly."""
    check_grads(f, args, order=3)
    weight = np.random.default_rng(5).standard_normal(f(*map(gx.asarray, args)).shape)

    def loss(*xs: Any) -> Any:
        return (f(*xs) * weight).sum()

    def all_of_them(*xs: Any) -> Any:
        every = tuple(range(len(xs)))
        first = gx.grad(loss, argnums=every)
        along = gx.jvp(f, xs, tuple(gx.sin(x) for x in xs))[1]
        return first(*xs), along, gx.grad(lambda *ys: sum((g * g).sum() for g in first(*ys)), argnums=every)(*xs)

    eager = all_of_them(*map(gx.asarray, args))
    compiled = gx.compile(all_of_them)(*args)
    for got, want in zip((*compiled[0], compiled[1], *compiled[2]), (*eager[0], eager[1], *eager[2]), strict=True):
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-9, atol=1e-11)


@CASES
def test_vmap_is_a_batch(f: Any, args: tuple[Array, ...]) -> None:
    many = [np.stack([a, 1.5 * a, a + 0.1, a]) for a in args]
    want = np.stack([f(*map(gx.asarray, one)).numpy() for one in zip(*many)])
    np.testing.assert_allclose(gx.compile(gx.vmap(f))(*many), want, rtol=1e-9, atol=1e-11)
    if len(args) == 2:                                  # one matrix, many right-hand sides; and the other way round
        for axes in ((None, 0), (0, None)):
            given = [m if axis == 0 else a for m, a, axis in zip(many, args, axes)]
            want = np.stack([f(*(gx.asarray(g[k] if axis == 0 else g) for g, axis in zip(given, axes))).numpy() for k in range(4)])
            np.testing.assert_allclose(gx.compile(gx.vmap(f, in_axes=axes))(*given), want, rtol=1e-9, atol=1e-11)


def test_a_solution_and_its_gradient_share_the_factorization() -> None:
    def f(a: Any, b: Any) -> Any:
        return gx.grad(lambda a, b: (L.solve(a, b) ** 2).sum(), argnums=(0, 1))(a, b)

    step = gx.compile(f).lower(A, B).executable()
    kernels = [x.kernel.name.partition("_")[2] for x in launches(step.plan)]
    assert kernels.count("lu") == 1
    assert kernels.count("triangular_solve") == 4


def test_inside_a_loop_and_of_a_symbolic_batch() -> None:
    def f(a: Any, b: Any) -> Any:
        return gx.fori_loop(0, 3, lambda i, x: L.solve(a, x) + b, b)

    want = B
    for _ in range(3):
        want = np.linalg.solve(A, want) + B
    np.testing.assert_allclose(gx.compile(f)(A, B), want, rtol=1e-12)
    many = gx.compile(lambda a, b: (L.solve(a, b), L.cholesky(a @ a.mT)))
    many.lower(gx.Spec(("N", 3, 3), gx.float64), gx.Spec(("N", 3, 2), gx.float64))
    for n in (1, 5, 9):
        a, b = np.stack([A + k for k in range(n)]), np.stack([B - k for k in range(n)])
        x, c = many(a, b)
        np.testing.assert_allclose(x, np.linalg.solve(a, b), rtol=1e-11)
        np.testing.assert_allclose(c, np.linalg.cholesky(a @ t(a)), rtol=1e-9)


def test_a_symbolic_matrix_is_compiled_for_each_size() -> None:
    f = gx.compile(lambda a, b: L.solve(a, b))
    f.lower(gx.Spec(("N", "N"), gx.float64), gx.Spec(("N", 2), gx.float64))
    for n in (3, 4):
        a, _, b = drawn((n, n), np.float64)
        np.testing.assert_allclose(f(a, b), np.linalg.solve(a, b), rtol=1e-11)


def test_same_bits_for_every_number_of_threads() -> None:
    a, s, b = drawn((64, 40, 40), np.float32)
    one, two = (gx.compile(lambda a, s, b: (L.solve(a, b), L.cholesky(s)), threads=n)(a, s, b) for n in (1, 2))
    for x, y in zip(one, two):
        np.testing.assert_array_equal(x, y)


# ---- matrices without an answer --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 33])
@pytest.mark.parametrize("batch", [3, 9])
def test_singular_and_indefinite_matrices_give_nan_for_themselves_alone(n: int, batch: int) -> None:
    """In the middle of a batch, along the lanes and not; the others are as if alone."""
    a, s, b = drawn((batch, n, n), np.float64)
    a[1, :, 1] = 0                                      # singular
    s[1] -= 2 * s[1, -1, -1] * np.diag(np.arange(n) == n - 1)                   # the last pivot is negative
    want = [np.linalg.solve(a[0], b[0]), np.linalg.cholesky(s[0])]
    for run in (lambda f: [o.numpy() for o in f(*map(gx.asarray, (a, s, b)))], lambda f: gx.compile(f)(a, s, b)):
        x, inv, det, sign, logabs, c = run(lambda a, s, b: (L.solve(a, b), L.inv(a), L.det(a), *L.slogdet(a), L.cholesky(s)))
        for got in (x, inv):
            assert np.isnan(got[1]).all()
            assert np.isfinite(np.delete(got, 1, 0)).all()
        assert (det[1], sign[1], logabs[1]) == (0, 0, -np.inf)
        assert np.isnan(np.tril(c[1])[np.tril_indices(n)]).all()
        assert not np.triu(c[1], 1).any()
        np.testing.assert_allclose(x[0], want[0], rtol=1e-10)
        np.testing.assert_allclose(c[0], want[1], rtol=1e-10)


def test_a_semidefinite_matrix_is_not_definite() -> None:
    for x in (np.zeros((1, 1)), np.ones((2, 2)), np.full((2, 2), np.nan), -np.eye(2), np.diag([1.0, np.nan])):
        for got in (L.cholesky(x).numpy(), gx.compile(L.cholesky)(x)):
            assert np.isnan(got[np.tril_indices(len(x))]).all()


def test_a_zero_on_a_triangle_divides() -> None:
    a, b = np.array([[0.0, 0], [1, 2]]), np.array([[1.0], [1]])
    for f in (lambda a, b: L.solve_triangular(a, b, upper=False), gx.compile(lambda a, b: L.solve_triangular(a, b, upper=False))):
        assert np.asarray(f(a, b))[0, 0] == np.inf


def test_a_pivot_is_the_largest() -> None:
    """Without row exchanges this system loses every digit."""
    a, b = np.array([[1e-20, 1], [1, 1]]), np.array([1.0, 2])
    np.testing.assert_allclose(gx.compile(L.solve)(a, b), [1, 1], rtol=1e-15)
    p, low, up = gx.compile(lambda a: tuple(L.lu(a)))(a)
    np.testing.assert_array_equal(p, [[0, 1], [1, 0]])
    np.testing.assert_array_equal(low @ up, [[1, 1], [1e-20, 1]])


def test_one_vector_is_solved_for_as_one_column_is() -> None:
    a, _, b = drawn((3, 3), np.float64)
    v = b[:, 0].copy()
    ways = (L.solve, lambda a, b: L.cholesky_solve(b, a), lambda a, b: L.solve_triangular(a, b, upper=True))
    for way in ways:
        for f in (way, gx.compile(way)):
            np.testing.assert_array_equal(f(a, v), np.asarray(f(a, v[:, None]))[:, 0])
    x = L.solve_triangular(a, v, upper=False, left=False)
    np.testing.assert_allclose(np.asarray(x) @ np.tril(a), v)
    with pytest.raises(gx.GraphError, match="as many rows on the right as on the left"):
        L.solve_triangular(a, v[:2], upper=True)


def test_the_other_triangle_is_not_read() -> None:
    a = np.array([[2.0, np.nan], [1, 4]])
    np.testing.assert_allclose(gx.compile(lambda a: L.solve_triangular(a, np.ones((2, 1)), upper=False))(a), [[0.5], [0.125]])


@pytest.mark.parametrize(("call", "words"), [
    (lambda: L.solve(gx.ones((2, 3)), gx.ones((2, 1))), "solve is of square matrices, got f32[2,3]"),
    (lambda: L.inv(gx.ones(3)), "inv is of square matrices, got f32[3]"),
    (lambda: L.det(gx.ones((3, 2))), "3 rows are not 2 columns"), (lambda: L.cholesky(gx.ones((3, 2))), "cholesky is of square matrices"),
    (lambda: L.solve(gx.ones((3, 3)), gx.ones((2, 1))), "solve needs as many rows on the right as on the left, got f32[3,3] and f32[2,1]"),
    (lambda: L.solve(gx.ones((2, 3, 3)), gx.ones((5, 3, 1))), "solve needs shapes that broadcast"),
    (lambda: L.solve(gx.ones((3, 3)), np.ones((3, 1))), "solve of f32[3,3] and f64[3,1]"),
    (lambda: L.cholesky(gx.ones((3, 3), dtype=gx.float16)), "cholesky does not compute in f16"),
    (lambda: L.slogdet(gx.ones(())), "matrices are the last two axes"),
])
def test_bad_calls_say_what_and_where(call: Any, words: str) -> None:
    with pytest.raises(gx.GraphError) as e:
        call()
    assert words in str(e.value)
    assert "test_linalg.py" in str(e.value)


def test_integers_become_f32_and_batches_broadcast() -> None:
    assert L.solve(np.array([[2, 0], [0, 4]]), np.array([1, 2])).tolist() == [0.5, 0.5]
    assert L.det(np.array([[2, 0], [0, 4]])).dtype is gx.float32
    assert L.solve(np.stack([A] * 4)[:, None], np.stack([B] * 2)).shape == (4, 2, 3, 2)
