"""Layers, activations and losses against torch's recorded values and gradients, and the words of their errors."""
from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn
from graphc.core.errors import GraphError, GraphIndexError
from graphc.nn import functional as F

with np.load(Path(__file__).parents[1] / "golden" / "nn" / "functional.npz") as file:
    RECORD = dict(file)
CASES: dict[str, dict[str, Any]] = json.loads(str(RECORD["cases"]))


def close(got: Any, want: np.ndarray, tol: float) -> None:
    got = np.asarray(got)
    assert got.shape == want.shape
    finite = np.isfinite(want)
    assert np.array_equal(np.isnan(got), np.isnan(want))
    assert np.array_equal(got[~finite & ~np.isnan(want)], want[~finite & ~np.isnan(want)])
    assert np.linalg.norm(got[finite] - want[finite]) <= tol * max(np.linalg.norm(want[finite]), 1e-300)


def prepared(name: str, dtype: Any) -> tuple[Any, list[Any], list[str], Any]:
    """The function of a case on its float arguments, those arguments, their names, and the cotangent."""
    case = CASES[name]
    kw = {k: RECORD[v].astype(dtype) if isinstance(v, str) and v in RECORD else v for k, v in case["kw"].items()}
    names = [a for a in case["args"] if RECORD[a].dtype == np.float64]
    whole = {a: RECORD[a] for a in case["args"] if a not in names}

    def f(*floats: Any) -> Any:
        given = dict(zip(names, floats, strict=True)) | whole
        values = [given[a] for a in case["args"]]
        if case["fn"] == "layer_norm":
            return F.layer_norm(**dict(zip(("input", "weight", "bias"), values)), **kw)
        return getattr(F, case["fn"])(*values, **kw)

    return f, [RECORD[a].astype(dtype) for a in names], names, RECORD[f"{name}/cotangent"].astype(dtype)


def both(f: Any, cotangent: Any, n: int) -> Any:
    """(f, its pulled-back cotangent), as one function."""
    def g(*xs: Any) -> Any:
        grads = gx.grad(lambda *ys: (f(*ys) * cotangent).sum(), argnums=tuple(range(n)))(*xs)
        return f(*xs), *grads
    return g


@pytest.mark.parametrize("name", CASES)
def test_as_torch_eagerly(name: str) -> None:
    f, args, names, cotangent = prepared(name, np.float64)
    y, *grads = both(f, cotangent, len(args))(*args)
    close(y, RECORD[f"{name}/out"], 1e-12)
    for a, g in zip(names, grads, strict=True):
        close(g, RECORD[f"{name}/grad/{a}"], 1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", [n for n in CASES if not n.endswith(("-sum", "-none")) or n == "ce-everything-none"])
def test_as_torch_natively(name: str, dtype: Any) -> None:
    f, args, names, cotangent = prepared(name, dtype)
    y, *grads = gx.compile(both(f, cotangent, len(args)), backend="llvm")(*args)
    tol = 1e-12 if dtype is np.float64 else 3e-6
    close(y, RECORD[f"{name}/out"], tol)
    for a, g in zip(names, grads, strict=True):
        assert g.dtype == dtype
        close(g, RECORD[f"{name}/grad/{a}"], tol)


# ---- errors --------------------------------------------------------------------------------------------------------------------------

X = np.zeros((5, 10), np.float32)


def refused(f: Any, *args: Any, backend: str = "numpy") -> GraphError:
    with pytest.raises(GraphError) as caught:
        gx.compile(f, backend=backend)(*args)
    return caught.value


def test_a_target_of_two_dims() -> None:
    e = refused(nn.CrossEntropyLoss(), np.zeros((1, 10), np.float32), np.zeros((1, 28), np.int64))
    assert e.what == "target (1,28) int64 has 2 dims; CrossEntropyLoss wants class indices (1,) or probabilities (1,10)"
    assert "reduces over image rows" in e.why
    assert e.fix
    assert "test_functional.py" in str(e.at)


def test_a_target_of_another_length() -> None:
    e = refused(nn.CrossEntropyLoss(), X, np.zeros(4, np.int64))
    assert e.what == "target (4,) int64 does not fit the input (5,10); CrossEntropyLoss wants class indices (5,) or probabilities (5,10)"


def test_float_labels() -> None:
    e = refused(nn.CrossEntropyLoss(), X, np.zeros(5, np.float32))
    assert e.what == "CrossEntropyLoss got float32 labels; class indices are whole numbers"
    assert "class probabilities, of shape (5,10)" in e.why
    assert "astype" in e.fix


def test_integer_logits() -> None:
    assert "wants floating logits" in refused(nn.CrossEntropyLoss(), X.astype(np.int64), np.zeros(5, np.int64)).what


def test_weights_of_another_number_of_classes() -> None:
    assert "one float for each of the 10 classes, got f32[3]" in refused(nn.CrossEntropyLoss(weight=[1.0, 2.0, 3.0]), X, np.zeros(5, np.int64)).what


@pytest.mark.parametrize("label", [-1, 10, 2**40])
@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_a_label_out_of_range_raises_when_it_runs(backend: str, label: int) -> None:
    f = gx.compile(nn.CrossEntropyLoss(), backend=backend)
    good = np.array([0, 9, 3, 1, -100])
    assert math.isclose(f(X, good), math.log(10), rel_tol=1e-6)
    bad = good.copy()
    bad[2] = label
    with pytest.raises(GraphIndexError):
        f(X, bad)
    assert math.isclose(f(X, good), math.log(10), rel_tol=1e-6)


def test_losses_of_unequal_shapes_are_refused() -> None:
    for loss in (nn.MSELoss(), nn.L1Loss()):
        e = refused(loss, np.zeros((8, 1), np.float32), np.zeros(8, np.float32))
        assert "needs equal shapes, got f32[8,1] and f32[8]" in e.what
        assert "broadcasting" in e.why


def test_linear_says_which_layer() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc2 = nn.Linear(784, 10)

        def forward(self, x: Any) -> Any:
            return self.fc2(x)

    net = Net()
    e = refused(lambda x: net(x), np.zeros((3, 28, 28), np.float32))
    assert e.what == "linear needs equal inner sizes, got f32[3,28,28] and fc2.weight f32[10,784]"
    assert e.why == "28 is the last axis of x, 784 the in_features of fc2"
    assert e.fix == "nn.Linear(28, 10) or flatten(x, 1) before fc2"
    assert "Net.forward" in str(e.at) or "in forward" in str(e.at)
    assert "no last axis" in refused(lambda x: net(x), np.float32(1.0)).why


@pytest.mark.parametrize(("make", "words"), [
    (lambda: nn.CrossEntropyLoss(reduction="avg"), 'reduction is "none", "mean" or "sum", got \'avg\''),
    (lambda: nn.CrossEntropyLoss(label_smoothing=1.5), "label_smoothing is in 0..1, got 1.5"),
    (lambda: nn.Dropout(1.5), "p is a probability"),
    (lambda: F.gelu(X, "erf"), 'approximate is "none" or "tanh"'),
    (lambda: F.mse_loss(X, X, "avg"), 'reduction is "none", "mean" or "sum"'),
    (lambda: nn.Linear(3.0, 4), "in_features must be a whole number >= 0, got 3.0"),
])
def test_bad_settings(make: Any, words: str) -> None:
    with pytest.raises(GraphError, match=words.replace("(", r"\(")):
        make()


# ---- dropout -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_dropout(backend: str) -> None:
    x = np.full((50, 40), 3.0, np.float32)
    net = nn.Dropout(0.25)
    f = gx.compile(lambda x: net(x), backend=backend)
    gx.manual_seed(5)
    first, second = f(x), f(x)
    assert set(np.unique(first)) == {np.float32(0.0), np.float32(4.0)}
    assert abs((first == 0).mean() - 0.25) < 0.04
    assert not np.array_equal(first, second)
    gx.manual_seed(5)
    assert np.array_equal(f(x), first)
    net.eval()
    assert np.array_equal(f(x), x)
    assert not F.dropout(x, 1.0).numpy().any()


def test_one_hot() -> None:
    assert F.one_hot(np.array([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_layer_norm_refuses() -> None:
    with pytest.raises(GraphError, match=r"layer_norm over \(5,\) needs an input that ends in these sizes, got f32\[3,4\]") as e:
        nn.LayerNorm(5)(gx.zeros((3, 4)))
    assert "nn.LayerNorm(4)" in str(e.value)
    with pytest.raises(GraphError, match=r"layer_norm: bias should have shape \(4,\), got \(3,\)"):
        F.layer_norm(gx.zeros((3, 4)), 4, gx.ones(4), gx.ones(3))


def test_layer_norm_module() -> None:
    net = nn.LayerNorm((3, 4), bias=False)
    assert [(n, p.shape) for n, p in net.named_parameters()] == [("weight", (3, 4))]
    assert nn.LayerNorm(4, elementwise_affine=False).state_dict() == {}
    y = net(gx.asarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))).numpy()
    np.testing.assert_allclose(y.reshape(2, -1).mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(y.reshape(2, -1).std(1), 1, atol=1e-5)
