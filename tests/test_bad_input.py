"""Bad input: each mistake is an error with what, op, at, why and fix in its words, or is converted; never a wrong number."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim

X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
Y = np.array([0, 1, 2, 1, 0])
HERE = Path(__file__).name


@pytest.fixture(params=["numpy", "llvm"])
def compile_(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return lambda fn=None, **options: gx.compile(fn, backend=request.param, **options)


def error(f: Callable[..., Any], *args: Any, kind: type[gx.GraphError] = gx.GraphError) -> gx.GraphError:
    """What f(*args) raises; its `at` must name a line of this file."""
    with pytest.raises(kind) as e:
        f(*args)
    assert HERE in str(e.value.at), str(e.value)
    return e.value


# ---- shapes --------------------------------------------------------------------------------------------------------------------------


def test_wrong_inner_sizes(compile_: Any) -> None:
    f = compile_(lambda x, w: gx.relu(x) @ w)
    e = error(f, X, np.zeros((3, 2), np.float32))
    assert e.what == "matmul needs equal inner sizes, got f32[5,4] and f32[3,2]"
    assert "matmul(" in str(e.op)
    assert "w" in str(e.op)
    assert "4 is the last axis of" in str(e.why)
    assert f"from {HERE}:" in str(e.why)
    assert "3 the first of w" in str(e.why)
    assert e.fix


def test_wrong_inner_sizes_eagerly() -> None:
    e = error(lambda: gx.zeros(5, 4) @ gx.zeros(3, 2))
    assert e.what == "matmul needs equal inner sizes, got f32[5,4] and f32[3,2]"


def test_wrong_features_of_a_linear_layer(compile_: Any) -> None:
    net = nn.Sequential(nn.Linear(8, 3))
    e = error(compile_(lambda x: net(x)), X)
    assert "4" in str(e)
    assert "8" in str(e)
    assert "nn.Linear(4," in str(e.fix)


def test_wrong_rank(compile_: Any) -> None:
    e = error(compile_(lambda x: gx.reshape(x, (4, 5, 2))), X)
    assert e.what == "cannot reshape f32[5,4] to [4,5,2]"
    assert e.why == "20 elements are not 40"
    e = error(compile_(lambda x: x.sum(axis=2)), X)
    assert "axis 2 is out of range for 2 axes" in e.what
    e = error(compile_(lambda x: x[0, 0, 0]), X)
    assert e.what == "3 indices for the 2 axes of f32[5,4]"
    e = error(compile_(lambda x: gx.concat([x, x[0]])), X)
    assert "equal rank" in e.what


def test_shapes_that_do_not_broadcast(compile_: Any) -> None:
    e = error(compile_(lambda x, b: x + b), X, np.zeros(3, np.float32))
    assert e.what == "add needs shapes that broadcast, got f32[5,4] and f32[3]"
    assert e.op == "add(x, b)"
    assert e.why == "axis -1: 4 is not 3"
    assert e.fix


def test_index_out_of_range(compile_: Any) -> None:
    e = error(compile_(lambda x: x[5]), X)
    assert e.what == "index 5 is out of range for axis 0 of f32[5,4]"
    assert e.why == "indices are -5..4"
    f = compile_(lambda x, i: gx.take(x, i, axis=0))
    np.testing.assert_array_equal(f(X, np.array([-1, 0])), X[[-1, 0]])
    for bad in (5, -6):
        with pytest.raises(gx.GraphIndexError, match=r"not in 0\.\.4"):
            f(X, np.array([0, bad]))


def test_sizes_whose_bytes_overflow(compile_: Any) -> None:
    f = compile_(lambda x: gx.broadcast_to(x, (2**31, 2**31, 5, 4)))
    e = error(f, X)
    assert "needs 368,934,881,474,191,032,320 bytes" in e.what
    assert e.why == "the limit is 281,474,976,710,656 (2**48)"
    assert "2**48" in str(error(lambda: gx.zeros(2**62, 2**62)))
    assert "2**48" in str(error(lambda: compile_(lambda x: x).lower(gx.Spec((2**40, 2**40)))))
    assert "2**48" in str(error(compile_(lambda x: gx.iota((2**60,)) + 1), X))


# ---- labels --------------------------------------------------------------------------------------------------------------------------


def test_float_labels(compile_: Any) -> None:
    f = compile_(lambda x, y: nn.CrossEntropyLoss()(x, y))
    e = error(f, X, Y.astype(np.float32))
    assert "f32[5]" in str(e)
    assert e.fix


def test_a_target_of_shape_1_28(compile_: Any) -> None:
    f = compile_(lambda x, y: nn.CrossEntropyLoss()(x, y))
    e = error(f, np.zeros((28, 10), np.float32), np.zeros((1, 28), np.int64))
    assert "i64[1,28]" in str(e)
    assert e.fix


# ---- values that are not there yet ---------------------------------------------------------------------------------------------------


def test_if_on_a_traced_value(compile_: Any) -> None:
    def f(x: Any) -> Any:
        if x.sum() > 0:
            return x
        return -x
    e = error(compile_(f), X)
    assert e.what == "the traced value bool[] is needed as a Python bool (if, while, and, or, not, assert)"
    assert e.op == "lt"
    assert "stands for the numbers of every call" in str(e.why)
    assert "gx.where(condition, a, b)" in str(e.fix)
    assert "in " in str(e.at)


@pytest.mark.parametrize(("use", "what", "fix"), [
    (lambda x: float(x.sum()), "a Python float", "return it"),
    (lambda x: int(x.sum()), "a Python int", "return it"),
    (lambda x: x.sum().item(), ".item()", "return it from the compiled function and call .item()"),
    (lambda x: np.asarray(x), "a NumPy array", "gx.*"),
    (lambda x: x.numpy(), "a NumPy array", "gx.*"),
    (lambda x: np.exp(x), "np.exp", "gx.exp"),
    (lambda x: list(range(gx.argmax(x))), "an index (range", "return it"),
    (lambda x: bool(gx.any(x > 0)), "a Python bool", "gx.where"),
    (lambda x: x.sum() > 0 and x, "a Python bool", "gx.where"),
    (lambda x: [1, 2, 3][gx.argmax(x)], "an index", "return it"),
])
def test_a_traced_value_as_a_python_value(compile_: Any, use: Any, what: str, fix: str) -> None:
    e = error(compile_(use), X)
    assert what in e.what
    assert fix in str(e.fix)
    assert e.why


def test_a_loop_over_a_symbolic_size(compile_: Any) -> None:
    f = compile_(lambda x: [row for row in x])
    e = error(lambda: f.lower(gx.Spec(("N", 4))))
    assert "a loop over the symbolic size N has no fixed length" in e.what
    assert "gx.scan" in str(e.fix)


def test_a_leaked_tracer(compile_: Any) -> None:
    kept: list[Any] = []

    @compile_
    def f(x: Any) -> Any:
        kept.append(x * 2)
        return x
    f(X)
    leaked = kept[0]
    for use in (lambda: leaked + 1, lambda: leaked.numpy(), lambda: float(leaked), lambda: bool(leaked), lambda: leaked.item(),
                lambda: compile_(lambda x: x + leaked)(X), lambda: f(leaked)):
        e = error(use)
        assert "is used outside of the trace that made it" in e.what, e.what
        assert "return it" in str(e.fix)
        assert e.op == "mul"


def test_a_parameter_made_inside_the_trace(compile_: Any) -> None:
    e = error(compile_(lambda x: nn.Linear(4, 3)(x)), X)
    assert "is made inside the trace" in e.what
    assert "outside of the compiled function" in str(e.fix)
    e = error(compile_(lambda x: x * nn.Parameter(gx.zeros(4))), X)
    assert "is made inside the trace" in e.what


# ---- gradients -----------------------------------------------------------------------------------------------------------------------


def test_backward_on_a_non_scalar(compile_: Any) -> None:
    w = gx.tensor([1.0, 2.0], requires_grad=True)
    for f in (lambda: (w * 2).backward(), lambda: compile_(lambda: (w * 2).backward())()):
        e = error(f)
        assert e.what == "backward() needs a scalar, got f32[2]"
        assert ".mean() or .sum() first" in str(e.fix)
        assert e.op
        assert e.why


def test_backward_on_what_requires_no_gradient(compile_: Any) -> None:
    e = error(compile_(lambda x: x.sum().backward()), X)
    assert "does not require a gradient" in e.what
    assert e.fix


def test_the_gradient_of_an_integer(compile_: Any) -> None:
    e = error(lambda: gx.tensor([1, 2], requires_grad=True))
    assert e.what == "only floating tensors have gradients, got i64[2]"
    assert ".astype(gx.float32)" in str(e.fix)
    e = error(compile_(lambda i: gx.grad(lambda i: i.sum() * 1.0)(i)), Y)
    assert "i64[5]" in e.what
    w = gx.tensor([1.0, 2.0], requires_grad=True)
    e = error(compile_(lambda: gx.argmax(w).backward()))
    assert "only floating tensors have gradients" in e.what


def test_grad_of_a_function_that_is_no_scalar(compile_: Any) -> None:
    e = error(compile_(lambda x: gx.grad(lambda x: x * 2)(x)), X)
    assert e.what == "grad needs a function that returns a floating scalar, got f32[5,4]"


def test_f64_data_against_f32_weights(compile_: Any) -> None:
    net = nn.Sequential(nn.Linear(4, 3))
    e = error(compile_(lambda x: net(x)), X.astype(np.float64))
    assert "f64[5,4]" in e.what
    assert "f32[4,3]" in e.what
    assert "astype(numpy.float32)" in str(e.fix)
    assert "double()" in str(e.fix)
    assert e.why


def test_a_gradient_of_another_shape(compile_: Any) -> None:
    w = gx.tensor([1.0, 2.0], requires_grad=True)
    e = error(lambda: setattr(w, "grad", gx.zeros(3)))
    assert e.what == "the gradient of a f32[2] is a f32[2], got f32[3]"


def test_writing_a_leaf_with_a_value_that_requires_a_gradient() -> None:
    w = gx.tensor([1.0, 2.0], requires_grad=True)
    v = gx.tensor([1.0, 2.0], requires_grad=True)
    e = error(lambda: w.add_(v))
    assert "no_grad" in str(e.fix)


# ---- arrays: copied or refused, never wrong ------------------------------------------------------------------------------------------


def unusual(kind: str) -> np.ndarray:
    """X, stored in an unusual way."""
    match kind:
        case "read-only":
            a = X.copy()
            a.flags.writeable = False
        case "transposed":
            a = X.T.copy().T
        case "every second":
            a = np.zeros((10, 8), np.float32)
            a[::2, ::2] = X
            a = a[::2, ::2]
        case "backwards":
            a = X[::-1, ::-1].copy()[::-1, ::-1]
        case "byte-swapped":
            a = X.astype(X.dtype.newbyteorder())
        case "misaligned":
            raw = np.zeros(X.nbytes + 1, np.uint8)
            a = raw[1:].view(np.float32).reshape(X.shape)
            a[...] = X
            assert not a.flags.aligned
        case "repeated":
            a = np.broadcast_to(X[:1], X.shape)
        case "matrix":
            with pytest.warns(PendingDeprecationWarning):
                a = np.matrix(X)
        case _:
            raise AssertionError(kind)
    return a


@pytest.mark.parametrize("kind", ["read-only", "transposed", "every second", "backwards", "byte-swapped", "misaligned", "repeated", "matrix"])
def test_unusual_arrays(compile_: Any, kind: str) -> None:
    f = compile_(lambda x: (x * 2 + 1, x.sum(axis=0)))
    a = unusual(kind)
    want = np.asarray(a, np.float32)
    for _ in range(3):                                                   # the first call and those that take the fast path
        twice, total = f(a)
        np.testing.assert_array_equal(twice, want * 2 + 1)
        np.testing.assert_allclose(total, want.sum(0), rtol=1e-5)
        twice[...] = 0                                                   # results are the caller's
    np.testing.assert_array_equal(np.asarray(a, np.float32), want)
    f(X)
    assert len(f.variants) == 1


def test_overlapping_arguments(compile_: Any) -> None:
    base = np.arange(6, dtype=np.float32)
    f = compile_(lambda a, b: (a + b, a - b))
    a, b = base[:4], base[2:]
    total, difference = f(a, b)
    np.testing.assert_array_equal(total, [2, 4, 6, 8])
    np.testing.assert_array_equal(difference, [-2, -2, -2, -2])
    np.testing.assert_array_equal(base, np.arange(6))
    np.testing.assert_array_equal(f(base[:4], base[:4])[0], base[:4] * 2)


@pytest.mark.parametrize(("value", "words"), [
    (np.array([1, "a", None], object), "dtype object (Python objects)"),
    (np.array(["a", "b"]), "(strings)"),
    (np.array([1j, 2j]), "complex128 (complex numbers)"),
    (np.array(["2020-01-01"], "datetime64[D]"), "(dates)"),
    (np.zeros(2, [("a", "f4")]), "(records)"),
    (np.zeros(2, "V2"), "|V2"),
    (np.ma.masked_array([1.0, 2.0], [True, False]), "masked array"),
])
def test_arrays_that_are_refused(compile_: Any, value: Any, words: str) -> None:
    e = error(compile_(lambda x: x), value, kind=gx.GraphTypeError)
    assert words in e.what
    assert "the argument x" in e.what
    assert e.fix


def test_arguments_that_are_refused(compile_: Any) -> None:
    e = error(compile_(lambda batch: batch["x"]), {"x": {1, 2}}, kind=gx.GraphTypeError)
    assert e.what == "the argument batch['x'] is a set, which graphc does not take"
    assert e.why
    assert e.fix
    assert "64 bits" in error(compile_(lambda n: n * 2), 2**63).what
    with pytest.raises(gx.GraphTypeError, match="Spec is no argument"):
        compile_(lambda x: x)(gx.Spec((3,)))


def test_nan_flows(compile_: Any) -> None:
    x = X.copy()
    x[1, 2] = np.nan
    total, positive, biggest, where = compile_(lambda x: (x.sum(), gx.relu(x), x.max(), gx.argmax(x)))(x)
    assert np.isnan(total)
    assert np.isnan(positive[1, 2])
    assert np.isnan(positive).sum() == 1
    assert np.isnan(biggest)
    assert where == 1 * 4 + 2


def test_a_number_that_does_not_fit_its_dtype(compile_: Any) -> None:
    e = error(compile_(lambda x: x + 300), np.zeros(3, np.int8))
    assert e.what == "300 is out of range for i8"
    assert e.why == "i8 holds -128..127"


def test_data_dependent_shapes(compile_: Any) -> None:
    e = error(compile_(lambda x: x[x > 0]), X)
    assert "a size that depends on data" in e.what
    assert "gx.where" in str(e.fix)


def test_options_that_do_not_exist() -> None:
    with pytest.raises(gx.GraphError, match="no option 'bakcend'"):
        gx.compile(lambda x: x, bakcend="llvm")
    with pytest.raises(gx.GraphError, match="no backend 'cuda'"):
        gx.compile(lambda x: x, backend="cuda")
    with pytest.raises(gx.GraphError, match="threads must be a whole number"):
        gx.compile(lambda x: x, threads=0)
    with pytest.raises(gx.GraphTypeError, match="compile needs a function"):
        gx.compile(3)


def test_a_device_that_does_not_exist() -> None:
    assert "compiles for the CPU" in error(lambda: gx.zeros(3).to("cuda")).what
    assert gx.zeros(3).to("cpu").shape == (3,)


def test_a_step_with_nothing_to_differentiate(compile_: Any) -> None:
    net = nn.Sequential(nn.Linear(4, 3))
    net.requires_grad_(False)
    optimizer = optim.SGD(net.parameters(), lr=0.1)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.CrossEntropyLoss()(net(x), y)
        loss.backward()
        optimizer.step()
        return loss
    assert "does not require a gradient" in error(compile_(step), X, Y).what
