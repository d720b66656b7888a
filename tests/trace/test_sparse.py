"""Sparse Jacobians and Hessians as users ask for them: eagerly and compiled on both backends, beside the dense ones; and the words of errors."""
from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.trace import tree

Array = np.ndarray[Any, Any]
X = np.random.default_rng(0).standard_normal(12)


@pytest.fixture(params=["eager", "numpy", "llvm"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a function of arrays eagerly or compiled."""
    if request.param == "eager":
        return lambda f, *args: f(*(gx.asarray(a) for a in args))
    return lambda f, *args: gx.compile(f, backend=request.param)(*args)


def dense(m: Any) -> Array:
    return np.asarray(m.toarray())


def laplacian(u: Any) -> Any:
    wide = gx.pad(u, 1)
    return wide[2:] - 2 * wide[1:-1] + wide[:-2] + 0.1 * gx.exp(u)


def rosenbrock(x: Any) -> Any:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def block(x: Any) -> Any:
    rows = x.reshape(4, 3)
    return gx.softmax(rows @ gx.asarray(np.ones((3, 3)) + np.eye(3)), axis=-1)


CASES: dict[str, tuple[Callable[[Any], Any], int]] = {
    "diagonal": (lambda x: gx.sin(x) * x, 1),
    "tridiagonal": (laplacian, 3),
    "banded": (lambda x: x[3:] * x[2:-1] + gx.sin(x[:-3]), 4),
    "blocks": (block, 3),
    "a full row": (lambda x: gx.where(gx.arange(12) == 5, (x * x).sum(), gx.tanh(x)), 2),
    "a mean": (lambda x: (x - x.mean()) ** 2, 12),
    "nothing": (lambda x: gx.stop_gradient(x) + gx.floor(x), 0),
    "scalar": (lambda x: (x ** 3).sum(), 1),
    "gathered": (lambda x: x[np.array([3, 1, 3, 0])] * x[np.array([0, 1, 2, 3])], 2),
    "a matrix with zeros": (lambda x: gx.tanh(np.eye(12, k=2) @ x + x), 2),
    "steps": (lambda x: gx.scan(lambda u, _: (u + 0.1 * laplacian(u), None), x, None, length=2)[0], 5),
    "sorted": (lambda x: gx.sort(x), 12),
    "a choice by value": (lambda x: gx.where(x > 0, x ** 2, gx.flip(x)), 2),
    "a choice": (lambda x: gx.cond(x[0] > 0, lambda u: gx.sin(u), lambda u: gx.flip(u) ** 2, x), 2),
    "a loop": (lambda x: gx.while_loop(lambda u: (u * u).sum() > 1e-3, lambda u: gx.sin(u) / 2, x), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_jacobians_are_the_dense_ones(run: Callable[..., Any], name: str) -> None:
    f, colors = CASES[name]
    got = run(gx.sparse_jacobian(f), X)
    want = gx.jacfwd(f)(gx.asarray(X)).numpy().reshape(got.shape)
    np.testing.assert_allclose(dense(got), want, rtol=1e-12, atol=1e-13)
    assert got.pattern.colors == colors
    assert got.pattern == gx.jacobian_sparsity(f)(gx.Spec((12,), gx.float64))
    assert np.asarray(got.data).shape == (got.nnz,)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_both_modes(run: Callable[..., Any], mode: str) -> None:
    got = run(gx.sparse_jacobian(laplacian, mode=mode), X)
    np.testing.assert_allclose(dense(got), gx.jacrev(laplacian)(gx.asarray(X)).numpy(), rtol=1e-12)
    assert got.pattern.coloring(mode).mode == mode


HESSIANS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "Rosenbrock": (rosenbrock, 3),
    "an arrow": (lambda x: (x[0] * x[1:] ** 2).sum(), 2),
    "separable": (lambda x: gx.sin(x).sum(), 1),
    "linear": (lambda x: (3 * x).sum(), 0),
    "kinks": (lambda x: gx.relu(x).sum() + gx.abs(x[0] * x[1]), 2),
    "blocks": (lambda x: gx.logsumexp(x.reshape(4, 3), axis=1).sum(), 3),
    "full": (lambda x: gx.sin(x.sum()), 12),
    "a grid": (lambda x: (gx.diff(x.reshape(3, 4), axis=0) ** 4).sum() + ((x.reshape(3, 4)[:, 1:] * x.reshape(3, 4)[:, :-1]) ** 2).sum(), 5),
}


@pytest.mark.parametrize("name", HESSIANS)
def test_hessians_are_the_dense_ones(run: Callable[..., Any], name: str) -> None:
    f, colors = HESSIANS[name]
    got = run(gx.sparse_hessian(f), X)
    np.testing.assert_allclose(dense(got), gx.hessian(f)(gx.asarray(X)).numpy(), rtol=1e-11, atol=1e-12)
    assert got.pattern.symmetric
    assert got.pattern.colors == colors
    assert got.pattern == gx.hessian_sparsity(f)(gx.Spec((12,), gx.float64))


def test_trees_and_several_arguments(run: Callable[..., Any]) -> None:
    def f(p: Any, y: Any) -> Any:
        return {"a": p["u"] * y, "b": (p["v"].sum(), y[:2] * p["u"][0])}

    def sparse(u: Any, v: Any, y: Any) -> Any:
        return gx.sparse_jacobian(f, argnums=(0, 1))({"u": u, "v": v}, y)

    def full(u: Any, v: Any, y: Any) -> Any:
        return gx.jacrev(f, argnums=(0, 1))({"u": u, "v": v}, y)

    args = X[:3], X[3:7].reshape(2, 2), X[7:10]
    got, want = run(sparse, *args), full(*map(gx.asarray, args))
    found, shape = tree.flatten(got, lambda x: isinstance(x, gx.SparseMatrix))
    dense_, same = tree.flatten(want, lambda x: isinstance(x, gx.Tensor))
    assert shape == same
    for s, d in zip(found, dense_):
        np.testing.assert_allclose(dense(s), d.numpy().reshape(s.shape), rtol=1e-13)
    assert got["b"][1][0]["u"].pattern.colors == 1
    assert got["b"][0][1].nnz == 0


def test_a_hessian_of_several_arguments() -> None:
    def f(a: Any, b: Any) -> Any:
        return (a ** 3 * b).sum() + (b[1:] * b[:-1]).sum()
    args = gx.asarray(X[:4]), gx.asarray(X[4:8])
    got, want = gx.sparse_hessian(f, argnums=(0, 1))(*args), gx.hessian(f, argnums=(0, 1))(*args)
    for i in range(2):
        for j in range(2):
            np.testing.assert_allclose(dense(got[i][j]), want[i][j].numpy(), rtol=1e-12)
            assert got[i][j].pattern.symmetric == (i == j)


def test_auxiliary_results() -> None:
    got, aux = gx.sparse_jacobian(lambda x: (x * x, x.sum()), has_aux=True)(gx.asarray(X))
    assert aux.item() == pytest.approx(X.sum())
    np.testing.assert_allclose(dense(got), np.diag(2 * X))
    h, aux = gx.sparse_hessian(lambda x: ((x ** 3).sum(), x[0]), has_aux=True)(gx.asarray(X))
    np.testing.assert_allclose(dense(h), np.diag(6 * X))
    assert aux.item() == X[0]


def test_half_and_single_precision() -> None:
    x = gx.asarray(X.astype(np.float32))
    assert gx.sparse_jacobian(laplacian)(x).data.dtype == gx.float32
    half = gx.sparse_jacobian(lambda x: (x.astype(gx.float32) ** 2).astype(gx.float16))(gx.asarray(X).astype(gx.float16))
    np.testing.assert_allclose(dense(half), np.diag(2 * X.astype(np.float16).astype(np.float32)))


def test_a_derivative_of_the_users_own_is_what_counts() -> None:
    """The pattern is that of the rule, not of the function."""
    @gx.custom_jvp
    def f(x: Any) -> Any:
        return x * x.sum()
    f.defjvp(lambda primals, tangents: (f(*primals), 3 * tangents[0]))
    got = gx.sparse_jacobian(f)(gx.asarray(X))
    np.testing.assert_allclose(dense(got), 3 * np.eye(12))
    assert got.pattern.colors == 1

    @gx.custom_vjp
    def clipped(x: Any) -> Any:
        return x
    clipped.defvjp(lambda x: (x, None), lambda _, g: (gx.clip(g, -1.0, 0.5),))
    with pytest.raises(gx.GraphError, match="not linear"):
        gx.sparse_jacobian(clipped)(gx.asarray(X))
    np.testing.assert_allclose(dense(gx.sparse_jacobian(clipped, mode="reverse")(gx.asarray(X))), np.eye(12) / 2)


# ---- composition -----------------------------------------------------------------------------------------------------------------------


def test_entries_can_be_differentiated(run: Callable[..., Any]) -> None:
    got = run(gx.grad(lambda x: (gx.sparse_jacobian(laplacian)(x).data ** 2).sum()), X)
    want = gx.grad(lambda x: (gx.jacrev(laplacian)(x) ** 2).sum())(gx.asarray(X))
    np.testing.assert_allclose(np.asarray(got), want.numpy(), rtol=1e-11, atol=1e-12)


def test_vmap_gives_the_data_an_axis(run: Callable[..., Any]) -> None:
    xs = np.stack([X, 2 * X, X - 1])
    got = run(gx.vmap(gx.sparse_jacobian(laplacian)), xs)
    want = gx.vmap(gx.jacrev(laplacian))(gx.asarray(xs)).numpy()
    assert np.asarray(got.data).shape == (3, got.nnz)
    np.testing.assert_allclose(dense(got), want, rtol=1e-12)
    np.testing.assert_allclose(np.asarray(got.diagonal(-1)), np.stack([np.diag(w, -1) for w in want]), rtol=1e-12)


def test_a_loop_whose_body_takes_one() -> None:
    """Newton's method: the matrix is a value inside a native loop, its pattern found while the loop is traced."""
    def residual(u: Any) -> Any:
        return laplacian(u) - u

    def solve(u: Any) -> Any:
        def step(u: Any) -> Any:
            return u - gx.linalg.solve(gx.sparse_jacobian(residual)(u).toarray(), residual(u))
        return gx.while_loop(lambda u: gx.abs(residual(u)).max() > 1e-13, step, u, max_steps=20)

    found = gx.compile(solve)(0 * X)
    assert found.min() > 0.05
    np.testing.assert_allclose(residual(gx.asarray(found)).numpy(), 0, atol=1e-12)


def test_a_matrix_is_an_argument_and_a_result() -> None:
    m = gx.sparse_jacobian(laplacian)(gx.asarray(X))
    given = gx.SparseMatrix(m.data.numpy(), m.pattern)
    traces = []

    @gx.compile
    def twice(a: Any, v: Any) -> Any:
        traces.append(1)
        return gx.SparseMatrix(2 * a.data, a.pattern), a @ v, a.diagonal()

    for _ in range(2):
        double, product, main = twice(given, X)
    np.testing.assert_allclose(dense(double), 2 * dense(m))
    np.testing.assert_allclose(product, dense(m) @ X)
    np.testing.assert_allclose(main, np.diag(dense(m)))
    assert len(traces) == 1
    other = gx.Pattern(np.arange(given.nnz) % 12, np.arange(given.nnz) // 12, (12, 12))
    twice(gx.SparseMatrix(given.data, other), X)
    assert len(traces) == 2, "another pattern is another function"


def test_static_fields_belong_to_the_shape_of_a_tree() -> None:
    @dataclass
    class Options:
        rate: Any
        name: str = field(metadata={"static": True})

    leaves, shape = tree.flatten(Options(0.5, "adam"))
    assert leaves == [0.5]
    assert shape.unflatten([2.0]) == Options(2.0, "adam")
    assert shape != tree.flatten(Options(0.5, "sgd"))[1]
    scale = gx.compile(lambda o: Options(o.rate * 2, o.name + "!"))
    assert (scale(Options(np.float64(3.0), "a")).rate, scale(Options(np.float64(3.0), "b")).name) == (6.0, "b!")


# ---- patterns and matrices -------------------------------------------------------------------------------------------------------------


def test_a_pattern_that_is_known_already(run: Callable[..., Any]) -> None:
    known = gx.jacobian_sparsity(laplacian)(gx.Spec((12,), gx.float64))
    for pattern in (known, known.toarray()):
        got = run(gx.sparse_jacobian(laplacian, pattern=pattern, check=True), X)
        assert got.pattern == known
        np.testing.assert_allclose(dense(got), gx.jacrev(laplacian)(gx.asarray(X)).numpy(), rtol=1e-12)
    more = gx.sparse_jacobian(laplacian, pattern=np.ones((12, 12), bool), check=True)(gx.asarray(X))
    np.testing.assert_allclose(dense(more), gx.jacrev(laplacian)(gx.asarray(X)).numpy(), rtol=1e-12)
    lower = np.tri(12, dtype=bool) & (dense(gx.sparse_hessian(rosenbrock)(gx.asarray(X))) != 0)     # a half of it is said
    np.testing.assert_allclose(dense(gx.sparse_hessian(rosenbrock, pattern=lower, check=True)(gx.asarray(X))), gx.hessian(rosenbrock)(gx.asarray(X)).numpy())


def test_what_is_known_of_indices(run: Callable[..., Any]) -> None:
    """Constants are followed. Of an argument nothing is known in a trace, so the pattern holds for all of its values."""
    i = np.array([2, 0, 1])
    fixed = gx.jacobian_sparsity(lambda x: x[i])(gx.Spec((3,)))
    np.testing.assert_array_equal(fixed.toarray(), np.eye(3)[i])
    assert gx.jacobian_sparsity(lambda x, i: x[i])(gx.Spec((3,)), i).nnz == 9
    got = run(gx.sparse_jacobian(lambda x, i: x[i]), X[:3], i)
    np.testing.assert_array_equal(dense(got), np.eye(3)[i])
    assert got.nnz == 9


def test_a_python_branch_on_a_value_has_no_pattern() -> None:
    def f(x: Any) -> Any:
        return x if x[0] > 0 else gx.flip(x)
    with pytest.raises(gx.GraphError, match=r"gx\.cond"):
        gx.sparse_jacobian(f)(gx.asarray(X))
    got = gx.sparse_jacobian(f, pattern=np.eye(12, dtype=bool) | np.eye(12, dtype=bool)[::-1])(gx.asarray(X))
    np.testing.assert_array_equal(dense(got), np.eye(12) if X[0] > 0 else np.eye(12)[::-1])


def test_the_values_of_parameters_do_not_shape_a_pattern() -> None:
    """w is 0 today. What is differentiated by it later must be there."""
    def size(w: Any) -> Any:
        return (gx.sparse_jacobian(lambda x: w * x)(gx.asarray(X)).data * gx.asarray(np.arange(12.0))).sum()
    np.testing.assert_allclose(gx.grad(size)(gx.zeros(12, dtype="f64")).numpy(), np.arange(12.0))


def test_methods_of_a_matrix(run: Callable[..., Any]) -> None:
    def f(x: Any) -> Any:
        return x[2:] * x[:-2] + gx.sin(x[1:-1]).sum()

    def parts(x: Any) -> Any:
        m = gx.sparse_jacobian(f)(x)
        return m.toarray(), [m.diagonal(k) for k in (-2, 0, 1, 2, 9, 11)], m @ x, m.todense()

    full, diagonals, product, again = run(parts, X[:5])
    full = np.asarray(full)
    np.testing.assert_allclose(full, gx.jacrev(f)(gx.asarray(X[:5])).numpy(), rtol=1e-13)
    for k, d in zip((-2, 0, 1, 2, 9, 11), diagonals):
        np.testing.assert_array_equal(np.asarray(d), np.diag(full, k) if k < 9 else [])
    np.testing.assert_allclose(np.asarray(product), full @ X[:5], rtol=1e-12)
    np.testing.assert_array_equal(np.asarray(again), full)


def test_methods_of_a_matrix_of_arrays() -> None:
    m = gx.compile(gx.sparse_jacobian(lambda x: x[2:] * x[:-2]))(X)
    full = dense(m)
    for k in range(-9, 13):
        np.testing.assert_array_equal(m.diagonal(k), np.diag(full, k))
    np.testing.assert_allclose(m @ X, full @ X)
    np.testing.assert_allclose((m @ gx.asarray(X)).numpy(), full @ X)
    assert m.diagonal(1).dtype == np.float64
    assert repr(m) == "SparseMatrix(10 x 12, 20 entries, float64)"
    assert (m.nnz, m.shape, m.rows.tolist()[:4], m.cols.tolist()[:4]) == (20, (10, 12), [0, 0, 1, 1], [0, 2, 1, 3])


def test_csr_needs_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    m = gx.sparse_jacobian(laplacian)(gx.asarray(X))
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(ImportError, match="pip install scipy"):
        m.tocsr()

    class Csr:
        def __init__(self, parts: Any, shape: Any) -> None:
            self.parts, self.shape = parts, shape

    fake = type(sys)("scipy.sparse")
    fake.csr_array = Csr                                                # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "scipy", type(sys)("scipy"))
    monkeypatch.setitem(sys.modules, "scipy.sparse", fake)
    csr = m.tocsr()
    data, cols, starts = csr.parts
    out = np.zeros(csr.shape)
    for i in range(12):
        out[i, cols[starts[i]:starts[i + 1]]] = data[starts[i]:starts[i + 1]]
    np.testing.assert_array_equal(out, dense(m))


def test_a_pattern_looks_like_itself() -> None:
    p = gx.jacobian_sparsity(lambda x: x[1:] + x[:-1])(gx.Spec((4,)))
    assert p.spy() == "**..\n.**.\n..**"
    assert repr(p) == "Pattern(3 x 4, 6 entries, 2 colors)"
    assert gx.jacobian_sparsity(laplacian)(gx.Spec((100,))).spy(4) == "**..\n***.\n.***\n..**"
    assert p == gx.Pattern([2, 0, 0, 1, 1, 2, 2], [3, 0, 1, 1, 2, 2, 3], (3, 4))
    assert hash(p) == hash(gx.Pattern(p.rows, p.cols, p.shape))
    assert p != gx.Pattern(p.rows, p.cols, (3, 5))


# ---- words -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wrong", "words"), [
    (lambda x: gx.sparse_jacobian(laplacian, mode="sideways"), "no mode 'sideways'\n.*\n *fix *auto, forward or reverse"),
    (lambda x: gx.sparse_jacobian(laplacian, pattern=np.ones((3, 4), bool))(x), "the pattern is of 3 x 4, the matrix of 12 x 12"),
    (lambda x: gx.sparse_jacobian(laplacian, pattern=[np.ones((12, 12))] * 2)(x), "2 patterns for 1 matrices"),
    (lambda x: gx.sparse_jacobian(laplacian, pattern=np.eye(12, dtype=bool), check=True)(x), r"lacks 22 entries that the derivative may have, \(0, 1\)"),
    (lambda x: gx.sparse_hessian(rosenbrock, pattern=np.eye(12, dtype=bool), check=True)(x), r"sparse_hessian: the pattern lacks 22 entries"),
    (lambda x: gx.sparse_hessian(laplacian)(x), "needs a function that returns a floating scalar"),
    (lambda x: gx.sparse_jacobian(lambda x: x > 0)(x), "sparse_jacobian of a function that returns bool"),
    (lambda x: gx.sparse_jacobian(laplacian, argnums=1)(x), "sparse_jacobian by argument 1 of 1"),
    (lambda x: gx.jacobian_sparsity(laplacian)(gx.Spec((3,), gx.int64)), "only floating tensors have gradients"),
    (lambda x: gx.jacobian_sparsity(gx.sin)(gx.Spec(("N",))), "needs sizes that are numbers"),
    (lambda x: gx.Pattern([0, 1], [0], (2, 2)), "two lists of integers of one length"),
    (lambda x: gx.Pattern([0.5], [0], (2, 2)), "two lists of integers"),
    (lambda x: gx.Pattern([0, 2], [0, 0], (2, 2)), "an entry outside of it"),
    (lambda x: gx.Pattern([0, 1], [0, 0], (2, 3), symmetric=True), "a symmetric Pattern is square"),
    (lambda x: gx.sparse_jacobian(laplacian)(x) @ np.ones(5), "is multiplied with a vector of 12"),
])
def test_words(wrong: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(gx.GraphError, match=words):
        wrong(gx.asarray(X))


def test_symbolic_sizes_in_a_compiled_function() -> None:
    with pytest.raises(gx.GraphError, match="sparse_jacobian needs sizes that are numbers") as e:
        gx.compile(gx.sparse_jacobian(gx.sin)).lower(gx.Spec(("N",), gx.float64))
    assert "compile for a fixed size" in str(e.value)


def test_a_state_is_not_written_where_a_pattern_is_asked() -> None:
    with pytest.raises(gx.GraphError, match="would be written inside a function whose sparsity is asked"):
        gx.jacobian_sparsity(lambda x: gx.nn.functional.dropout(x))(gx.Spec((4, 3)))
