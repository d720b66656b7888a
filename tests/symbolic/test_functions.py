"""SymPy → graphc: every function, Piecewise under derivatives, sums, matrices, broadcasting, sharing, and what is refused."""
from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

import graphc as gx
from graphc.symbolic import from_sympy, to_sympy
from graphc.symbolic.regular import is_risky, regular_point
from graphc.symbolic.table import FUNCTIONS

x, y, z, n = sp.symbols("x y z n", real=True)
DOMAINS = {sp.log: (0.1, 4.0), sp.asin: (-0.95, 0.95), sp.acos: (-0.95, 0.95), sp.atanh: (-0.95, 0.95), sp.acosh: (1.1, 4.0), sp.csc: (0.2, 3.0),
           sp.cot: (0.2, 3.0), sp.csch: (0.2, 3.0), sp.coth: (0.2, 3.0), sp.acot: (0.2, 3.0), sp.tan: (-1.4, 1.4), sp.sec: (-1.4, 1.4),
           sp.asec: (1.1, 4.0), sp.acsc: (1.1, 4.0), sp.acoth: (1.1, 4.0), sp.asech: (0.1, 0.9), sp.acsch: (0.2, 3.0), sp.erfinv: (-0.95, 0.95)}
BINARY = (sp.atan2, sp.Max, sp.Min, sp.Mod)


def exactly(e: sp.Expr, points: dict[sp.Symbol, np.ndarray]) -> np.ndarray:
    """The expression at points, with 30 digits."""
    count = len(next(iter(points.values())))
    return np.array([float(e.subs({s: sp.Float(float(v[k]), 30) for s, v in points.items()}).evalf(30)) for k in range(count)])


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_functions_and_their_derivatives(f) -> None:
    low, high = DOMAINS.get(f, (-2.3, 2.3))
    rng = np.random.default_rng(1)
    binary = f in BINARY
    points = {x: rng.uniform(low, high, 7), y: rng.uniform(0.5, 2.0, 7)}
    e = f(x * y, y) if binary else f(x)
    ours = from_sympy(e, [x, y])
    want = exactly(e, points)
    np.testing.assert_allclose(ours(points[x], points[y]), want, rtol=1e-13, atol=1e-14)
    small = [v.astype(np.float32) for v in points.values()]
    got = ours(*small)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, exactly(e, dict(zip(points, small))), rtol=1e-4 if binary else 4e-6, atol=2e-6)
    if f in (sp.floor, sp.ceiling, sp.sign, sp.frac, sp.Mod, sp.Heaviside):
        return                                          # steps, of which SymPy has no derivative as a number
    for k, s in enumerate((x, y)):
        g = gx.compile(gx.grad(lambda x, y: ours(x, y).sum(), argnums=k))
        np.testing.assert_allclose(g(*points.values()), exactly(sp.diff(e, s), points), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("e", [
    x**7 - 3 * x**-2 + y / 7, x**sp.Rational(1, 3) * y**sp.Rational(-5, 2), 2**x - sp.pi**y, x**y,
    sp.exp(-x**2 / 2) / sp.sqrt(2 * sp.pi), -x / y, (x - y) / (x + y) / 3,
    sp.sqrt(x) / sp.sqrt(y), sp.Rational(1, 3), sp.E * x, sp.GoldenRatio + 0 * x, -x * -y, (x + y)**2 * (x + y)**3, sp.log(1 + x * y), sp.exp(x) - 1 + y,
    sp.Add(sp.exp(x), -1, sp.exp(y)), sp.log(x, 2), 1 / (1 + sp.exp(-x)),
], ids=str)
def test_arithmetic(e: sp.Expr) -> None:
    points = {x: np.random.default_rng(0).uniform(0.5, 2, 5), y: np.random.default_rng(1).uniform(0.5, 2, 5)}
    np.testing.assert_allclose(np.broadcast_to(from_sympy(e, [x, y])(points[x], points[y]), 5), exactly(sp.sympify(e), points), rtol=4e-15)


def test_numbers_are_rounded_once() -> None:
    assert from_sympy(sp.Rational(1, 3) + 0 * x, [x])(0.0) == 1 / 3
    assert from_sympy(sp.Rational(10**30 + 1, 3 * 10**30) * x, [x])(np.array([1.0]))[0] == 1 / 3
    assert from_sympy(sp.pi * x, [x])(np.array([1.0], np.float32))[0] == np.float32(np.pi)
    tiny = np.array([1e-17, -3e-12])
    assert (from_sympy(sp.log(1 + x), [x])(tiny) == np.log1p(tiny)).all()
    np.testing.assert_allclose(from_sympy(sp.exp(x) - 1, [x])(tiny), np.expm1(tiny), rtol=1e-15)


# ---- Piecewise -----------------------------------------------------------------------------------------------------------------------


BRANCHES = [
    sp.Piecewise((sp.log(x), x > 0), (x**2, True)),
    sp.Piecewise((sp.sqrt(x) * sp.log(x), x > 0), (0, True)),
    sp.Piecewise((1, sp.Eq(x, 0)), (sp.sin(x) / x, True)),
    sp.Piecewise((sp.exp(x), x < 1), (sp.E * x, True)),
    sp.Piecewise((sp.acos(x), sp.And(x > -1, x < 1)), (sp.sqrt(x**2 - 1), x >= 1), (-x, True)),
    sp.Piecewise((x**sp.Rational(3, 2), x >= 0), (sp.Piecewise((1 / (x + 1), x > -1), (sp.log(-x), True)), True)),
    sp.Piecewise((1 / x, x < 0), (1 / (x - 7), x > 7), (x, True)),
    sp.Piecewise((sp.log(x) + sp.log(x)**2, x > 0), (sp.log(-x) + sp.log(-x)**2, x < 0), (0, True)),          # cse takes both logarithms out
]


@pytest.mark.parametrize("e", BRANCHES, ids=str)
def test_a_branch_not_taken_spoils_nothing(e: sp.Expr) -> None:
    points = {x: np.array([-1000.0, -2.5, -1.0, -0.3, 0.0, 0.4, 1.0, 2.0, 7.0, 9.0, 1000.0])}
    f = from_sympy(e, [x])
    first = gx.grad(lambda x: f(x).sum())
    second = gx.grad(lambda x: first(x).sum())
    for ours, k in ((f, 0), (gx.compile(first), 1), (gx.compile(second), 2)):
        branches = [(sp.diff(v, x, k), c) for v, c in e.args]
        want = []
        for v in points[x]:
            value = next((sp.N(b.subs(x, sp.Rational(v)), 20) for b, c in branches if c.subs(x, sp.Rational(v)) == sp.true), sp.nan)
            want.append(float(value) if value.is_extended_real else np.nan)
        want_array = np.array(want)
        real = np.isfinite(want_array) & (abs(want_array) < 1e300)
        assert real.sum() >= 8
        np.testing.assert_allclose(ours(points[x])[real], want_array[real], rtol=1e-12, atol=1e-14)


def test_piecewise_of_several_arrays() -> None:
    e = sp.Piecewise((sp.log(x - y), x > y), (sp.sqrt(y - x), True))
    f = from_sympy(e, [x, y])
    a, b = np.array([[1.0], [2.0], [3.0]]), np.array([0.5, 2.0, 2.5, 9.0])
    np.testing.assert_allclose(f(a, b), np.where(a > b, np.log(np.where(a > b, a - b, 1)), np.sqrt(np.where(a > b, 0, b - a))))
    g = gx.compile(gx.grad(lambda a, b: f(a, b).sum(), argnums=(0, 1)))(a, np.array([0.5, 2.25, 2.5, 9.0]))
    assert all(np.isfinite(v).all() for v in g)


def test_piecewise_without_a_last_branch_is_nan() -> None:
    f = from_sympy(sp.Piecewise((x, x > 0), (-x, x < -1)), [x])
    np.testing.assert_array_equal(f(np.array([2.0, -0.5, -2.0])), [2.0, np.nan, 2.0])
    assert from_sympy(sp.Piecewise((x, sp.false), (y, True)), [x, y])(1.0, 2.0) == 2.0


def test_conditions() -> None:
    e = [sp.And(x > 0, y > 0), sp.Or(x > 0, sp.Not(y > 0)), sp.Xor(x > 0, y > 0), sp.Ne(x, y), x <= y]
    a, b = np.array([-1.0, -1.0, 1.0, 1.0]), np.array([-1.0, 1.0, -1.0, 1.0])
    p, q = a > 0, b > 0
    for got, want in zip(from_sympy(e, [x, y])(a, b), [p & q, p | ~q, p ^ q, a != b, a <= b], strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(from_sympy(sp.ITE(x > 0, y > 0, sp.true), [x, y])(a, b), np.where(p, q, True))


def test_regular_points() -> None:
    assert not is_risky(x**2 * sp.sin(y))
    assert is_risky(x / y)
    point = regular_point(sp.log(x - 5) * sp.sqrt(y - x), [x, y])
    assert point is not None
    assert point[x] > 5
    assert point[y] > point[x]
    assert regular_point(sp.log(-x**2 - 1), [x]) is None
    with pytest.raises(gx.GraphError, match="no point was found"):
        from_sympy(sp.Piecewise((sp.log(-x**2 - 1), x > 0), (0, True)), [x])(np.ones(2))


# ---- sums, matrices, arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(1, 5), (0, 40), (3, 2), (-20, 20)])
def test_sums_and_products(low: int, high: int) -> None:
    a = np.array([[0.3], [0.9]])
    b = np.array([0.5, 1.0, 1.5])
    ks = np.arange(low, high + 1)
    f = from_sympy([sp.Sum(sp.cos(n * x) * y, (n, low, high)), sp.Product(1 + (x * y / 50)**2 + n**2 / sp.Integer(1000), (n, low, high))], [x, y])
    total, product = f(a, b)
    np.testing.assert_allclose(np.broadcast_to(total, (2, 3)), (np.cos(ks * a[..., None]) * b[:, None]).sum(-1), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.broadcast_to(product, (2, 3)), (1 + (a * b / 50)[..., None]**2 + ks**2 / 1000).prod(-1), rtol=1e-12)


def test_a_function_of_the_variable_of_a_sum_is_a_number() -> None:
    """So a Taylor series may have factorials, of which graphc knows nothing."""
    k = sp.Symbol("k", integer=True)
    for terms in (5, 25):
        f = from_sympy(sp.Sum(x**k / sp.factorial(k), (k, 0, terms)), [x])
        np.testing.assert_allclose(f(np.array([-0.5, 0.3])), np.exp([-0.5, 0.3]), rtol=1e-4 if terms == 5 else 1e-14)
    with pytest.raises(gx.GraphError, match="graphc has no factorial"):
        from_sympy(sp.Sum(sp.factorial(x) * k, (k, 0, 3)), [x])


def test_derivatives_outside_of_a_trace() -> None:
    """A compiled formula gives arrays, which have no past; where somebody asks for derivatives it is run step by step."""
    f = from_sympy(sp.sin(x) * y, [x, y])
    points = np.array([0.3, 1.0])
    np.testing.assert_allclose(gx.grad(lambda p: gx.sum(f(p, 2.0)))(points).numpy(), 2 * np.cos(points))
    np.testing.assert_allclose(gx.jacrev(f, argnums=1)(points, points).numpy(), np.diag(np.sin(points)))
    np.testing.assert_allclose(gx.jvp(lambda p: f(p, 2.0), (points,), (np.ones(2),))[1].numpy(), 2 * np.cos(points))
    np.testing.assert_allclose(gx.hessian(f)(np.array(0.3), 2.0).numpy(), -2 * np.sin(0.3))
    np.testing.assert_allclose(gx.vmap(gx.grad(f), in_axes=(0, None))(points, 2.0).numpy(), 2 * np.cos(points))
    np.testing.assert_allclose(from_sympy(sp.asinh(x), [x])(points), np.arcsinh(points))
    assert gx.grad(from_sympy(sp.asinh(x), [x]))(np.array(0.0)).item() == 1.0


def test_a_sum_of_a_constant_and_of_a_sum() -> None:
    m = sp.Symbol("m", integer=True)
    assert from_sympy(sp.Sum(x, (n, 1, 100)), [x])(2.0) == 200.0
    assert from_sympy(sp.Sum(n * m, (n, 1, m), (m, 1, 3)).doit() + x, [x])(0.0) == 1 + 6 + 18
    np.testing.assert_allclose(from_sympy(sp.Sum(x**n * m, (n, 0, 2), (m, 1, 30)), [x])(np.array([2.0])), [7.0 * 465])


def test_indexed() -> None:
    u, i = sp.IndexedBase("u"), sp.Symbol("i", integer=True)
    a = np.random.default_rng(0).standard_normal((2, 5))
    f = from_sympy(sp.Sum((u[i + 1] - u[i])**2, (i, 0, 3)), [u])
    np.testing.assert_allclose(f(a), (np.diff(a, axis=-1)**2).sum(-1))
    w = sp.IndexedBase("w", shape=(2, 5))
    np.testing.assert_allclose(from_sympy(w[1, 2] * x, [w, x])(a, 2.0), 2 * a[1, 2])


def test_matrices() -> None:
    A, B, v = sp.MatrixSymbol("A", 2, 3), sp.MatrixSymbol("B", 3, 2), sp.MatrixSymbol("v", 3, 1)
    rng = np.random.default_rng(0)
    a, b, w = rng.standard_normal((4, 2, 3)), rng.standard_normal((3, 2)), rng.standard_normal((4, 3, 1))
    exprs = {"product": A * B, "affine": 2 * A * v + sp.OneMatrix(2, 1), "gram": A.T * A - sp.Identity(3), "hadamard": sp.HadamardProduct(A, B.T),
             "trace": sp.Trace(A * B), "power": (A * B)**3, "scaled": x * A, "element": A[1, 2] * x, "zero": sp.ZeroMatrix(2, 2) + A * B,
             "form": (v.T * A.T * A * v)[0, 0]}
    got = from_sympy(exprs, [A, B, v, x])(a, b, w, 3.0)
    ab = a @ b
    want = {"product": ab, "affine": 2 * a @ w + 1, "gram": np.swapaxes(a, -1, -2) @ a - np.eye(3), "hadamard": a * b.T,
            "trace": np.trace(ab, axis1=-2, axis2=-1), "power": ab @ ab @ ab, "scaled": 3 * a, "element": 3 * a[..., 1, 2], "zero": ab,
            "form": ((a @ w)**2).sum((-1, -2))}
    assert got.keys() == want.keys()
    for k in want:
        np.testing.assert_allclose(got[k], want[k], rtol=1e-12, atol=1e-14, err_msg=k)
    with pytest.raises(gx.GraphError, match="graphc has no matrix function Adjoint"):
        from_sympy(sp.Adjoint(A * B), [A, B])(a, b)
    with pytest.raises(gx.GraphError, match=r"whose last axes are \(2, 3\), got f64\[3,2\]"):
        from_sympy(A.T, [A])(b)


def test_explicit_matrices_and_trees() -> None:
    M = sp.Matrix([[x, 1, y], [x * y, sp.sin(x), 0]])
    f = from_sympy([M, {"array": sp.Array([x, y]), "det": (M * M.T).det()}, (x, 2)], [sp.Matrix([[x, y]])])
    points = np.random.default_rng(0).standard_normal((5, 1, 2))
    matrix, rest, (first, two) = f(points)
    a, b = points[:, 0, 0], points[:, 0, 1]
    assert matrix.shape == (5, 2, 3)
    np.testing.assert_allclose(matrix[:, 1], np.stack([a * b, np.sin(a), 0 * a], -1))
    np.testing.assert_allclose(rest["array"], points[:, 0])
    np.testing.assert_allclose(rest["det"], np.linalg.det(matrix @ np.swapaxes(matrix, 1, 2)), rtol=1e-9)
    assert two == 2
    np.testing.assert_array_equal(first, a)
    np.testing.assert_array_equal(from_sympy(x - y, [(x, y)])(np.array([[3.0, 1.0], [5.0, 5.0]])), [2.0, 0.0])


def test_broadcasting_dtypes_and_options() -> None:
    f = from_sympy(x * y + z, [x, y, z], backend="numpy")
    assert f.options.backend == "numpy"
    assert f(np.ones((2, 1)), np.ones(3), 1.0).shape == (2, 3)
    assert f(np.ones(3, np.float32), 2.0, 1.0).dtype == np.float32
    assert f(1.0, 2.0, 3.0) == 5.0
    f(1.0, 2.0, 4.0)
    assert len(f.variants) == 3
    with pytest.raises(gx.GraphError, match=r"takes 3 arguments \(x, y, z\), got 2"):
        f(1.0, 2.0)


def test_common_parts_are_computed_once() -> None:
    s = sp.sin(x + y)
    f = from_sympy([s**2 + sp.exp(s), s / (1 + s), sp.Piecewise((s, s > 0), (0, True))], [x, y])
    text = str(f.lower(np.ones(3), np.ones(3)).graph)
    assert text.count(" = sin(") == 1
    assert text.count(" = exp(") == 1


# ---- there and back ------------------------------------------------------------------------------------------------------------------


def expressions() -> st.SearchStrategy[sp.Expr]:
    leaves = st.sampled_from([x, y, sp.Integer(2), sp.Rational(1, 3), sp.pi])
    unary = st.sampled_from([sp.sin, sp.cos, sp.tanh, sp.atan, sp.Abs, lambda e: sp.exp(-e**2), lambda e: sp.sqrt(1 + e**2), lambda e: sp.log(2 + sp.cos(e)),
                             lambda e: -e, lambda e: sp.Piecewise((sp.log(e), e > 1), (e - 1, True))])
    binary = st.sampled_from([lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a - b, lambda a, b: a / (2 + sp.cos(b)), sp.Max, sp.Min])
    return st.recursive(leaves, lambda e: st.builds(lambda f, a: f(a), unary, e) | st.builds(lambda f, a, b: f(a, b), binary, e, e), max_leaves=8)


@given(expressions())
def test_there_and_back(e: sp.Expr) -> None:
    """to_sympy(from_sympy(e)) is e: as numbers, for nobody can say so in general as expressions."""
    back = to_sympy(from_sympy(e, [x, y], backend="numpy"), 1.0, 1.0)
    for a, b in ((0.7, -0.4), (2.2, 1.3)):
        point = {x: sp.Rational(str(a)), y: sp.Rational(str(b))}
        want = sp.N(sp.sympify(e).subs(point), 30)
        assert abs(sp.N(back.subs(point), 30) - want) <= 1e-14 * max(1, abs(want)), (e, back)
        got = from_sympy(e, [x, y], backend="numpy")(a, b)
        assert abs(float(got) - float(want)) <= 1e-12 * max(1.0, abs(float(want)))


# ---- what is refused -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("exprs", "args", "words"), [
    (sp.gamma(x), [x], "graphc has no gamma"),
    (sp.besselj(0, x) + sp.zeta(x), [x], "graphc has no (besselj|zeta)"),
    (sp.Function("f")(x), [x], "graphc has no f"),
    (sp.Derivative(sp.sin(x * y), x), [x, y], "has not been carried out"),
    (sp.Integral(sp.exp(-x**2), (x, 0, y)), [y], "has not been carried out"),
    (x + y, [x], r"y in x \+ y is not among the arguments"),
    (x * sp.I, [x], "is not real"),
    (x, [x, x], "the argument x stands twice"),
    (x, [x + 1], r"x \+ 1 is no argument"),
])
def test_refused_at_once(exprs, args, words: str) -> None:
    with pytest.raises(gx.GraphError, match=words) as e:
        from_sympy(exprs, args)
    assert "test_functions.py" in str(e.value)


def test_an_error_names_what_there_is() -> None:
    with pytest.raises(gx.GraphError) as e:
        from_sympy(sp.gamma(x) * sp.sin(x), [x])
    text = str(e.value)
    assert "op   gamma(x)" in text
    assert "there are Abs, Heaviside, Max" in text
    assert "Piecewise, Sum" in text


@pytest.mark.parametrize(("exprs", "args", "values", "words"), [
    (sp.Sum(x, (n, 1, y)), [x, y], (1.0, 2.0), "the range must be numbers"),
    (sp.Sum(sp.IndexedBase("u")[n], (n, 0, 10**5)), [sp.IndexedBase("u")], (np.ones(3),), "100,001 terms"),
    (sp.IndexedBase("u")[x], [sp.IndexedBase("u"), x], (np.ones(3), 1.0), "an index of a formula is a whole number"),
    (sp.MatrixSymbol("A", 2, 2)**-1, [sp.MatrixSymbol("A", 2, 2)], (np.eye(2),), "no matrix (power|function)"),
])
def test_refused_when_called(exprs, args, values, words: str) -> None:
    with pytest.raises(gx.GraphError, match=words):
        from_sympy(exprs, args)(*values)
