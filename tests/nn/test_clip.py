"""Clipping of gradients, against torch's recorded results."""
from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn
from graphc.core.errors import GraphError

with np.load(Path(__file__).parents[1] / "golden" / "nn" / "functional.npz") as file:
    RECORD = dict(file)
NAMES = ("a", "logits1", "bias")


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(np.zeros_like(RECORD[g])) for g in NAMES]


def backward(params: list[nn.Parameter]) -> None:
    """Make the gradient of each what the record says."""
    for p in params:
        p.grad = None
    sum((p * RECORD[g]).sum() for p, g in zip(params, NAMES, strict=True)).backward()


@pytest.mark.parametrize("backend", ["eager", "numpy", "llvm"])
@pytest.mark.parametrize("k", range(len(RECORD["clips"])))
def test_clip_grad_norm(k: int, backend: str) -> None:
    kind, most = map(float, RECORD["clips"][k])
    params = parameters()

    def f() -> Any:
        backward(params)
        return nn.utils.clip_grad_norm_(params, most, norm_type=kind)

    norm = f() if backend == "eager" else gx.compile(f, backend=backend)()
    assert math.isclose(norm, RECORD[f"clip/{k}/norm"], rel_tol=1e-14)
    for p, g in zip(params, NAMES, strict=True):
        assert np.allclose(p.grad.numpy(), RECORD[f"clip/{k}/{g}"], rtol=1e-14, atol=0)


def test_clip_grad_norm_of_one_and_of_none() -> None:
    p = nn.Parameter(np.zeros(2, np.float32))
    assert nn.utils.clip_grad_norm_([p], 1.0).item() == 0.0
    p.grad = gx.asarray(np.float32([3.0, 4.0]))
    assert nn.utils.clip_grad_norm_(p, 1.0).item() == 5.0
    assert np.allclose(p.grad.numpy(), [0.6, 0.8])
    assert p.grad.dtype is gx.float32


def test_clip_grad_value() -> None:
    p = nn.Parameter(np.zeros(3, np.float32))
    p.grad = gx.asarray(np.float32([3.0, -4.0, 0.5]))
    nn.utils.clip_grad_value_([p], 1.0)
    assert p.grad.tolist() == [1.0, -1.0, 0.5]


def test_nonfinite_norms() -> None:
    p = nn.Parameter(np.zeros(2, np.float32))
    p.grad = gx.asarray(np.float32([np.nan, 1.0]))
    with pytest.raises(GraphError, match="norm is nan"):
        nn.utils.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert p.grad.tolist()[1] == 1.0
    assert math.isnan(nn.utils.clip_grad_norm_([p], 1.0).item())
    assert np.isnan(p.grad.numpy()).all()

    def f() -> Any:
        p.grad = None
        (p * p).sum().backward()
        return nn.utils.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)

    with pytest.raises(GraphError, match="error_if_nonfinite needs the value"):
        gx.compile(f, backend="numpy")()


def test_bad_norm_type() -> None:
    p = nn.Parameter(np.zeros(2, np.float32))
    p.grad = gx.asarray(np.float32([1.0, 1.0]))
    with pytest.raises(GraphError, match="norm_type is a positive number or inf"):
        nn.utils.clip_grad_norm_([p], 1.0, norm_type=-1.0)
