"""SGD, Adam and AdamW follow torch's recorded trajectories for 100 steps: f64 to 1e-10, f32 to 1e-4, per tensor and norm-wise."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim

GOLDEN = Path(__file__).parents[1] / "golden" / "optim"
RECORD: dict[str, dict[str, np.ndarray]] = {}
for _kind in ("f32", "f64"):
    with np.load(GOLDEN / f"{_kind}.npz") as file:
        RECORD[_kind] = dict(file)
CASES: dict[str, dict[str, Any]] = json.loads(str(RECORD["f64"]["cases"]))
TOLERANCE = {"f32": 1e-4, "f64": 1e-10}
DTYPE = {"f32": np.float32, "f64": np.float64}


class Net(nn.Module):
    def __init__(self, act: Any) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3, self.act = nn.Linear(5, 7), nn.Linear(7, 6), nn.Linear(6, 3), act

    def forward(self, x: Any) -> Any:
        return self.fc3(self.act(self.fc2(self.act(self.fc1(x)))))


def split(net: nn.Module, vector: np.ndarray) -> dict[str, np.ndarray]:
    """A recorded vector as a state_dict."""
    out, at = {}, 0
    for name, p in net.named_parameters():
        n = int(np.prod(p.shape))
        out[name] = vector[at:at + n].reshape(p.shape)
        at += n
    assert at == len(vector)
    return out


def settings(kw: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in kw.items()}


def follow(name: str, kind: str, backend: str, steps: int = 100) -> None:
    case, record, dtype, tol = CASES[name], RECORD[kind], DTYPE[kind], TOLERANCE[kind]
    net = Net(nn.Tanh() if case["act"] == "tanh" else nn.ReLU())
    if kind == "f64":
        net.double()
    net.load_state_dict(split(net, record["init"]))
    params = list(net.parameters())
    groups = params if "last" not in case else [{"params": params[:4]}, {"params": params[4:], **settings(case["last"])}]
    optimizer = getattr(optim, case["optim"])(groups, **settings(case["kw"]))
    criterion = nn.CrossEntropyLoss() if case["loss"] == "cross_entropy" else nn.MSELoss()

    def train_step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), case["clip"]) if "clip" in case else loss
        optimizer.step()
        return loss, norm

    step = train_step if backend == "eager" else gx.compile(train_step, backend=backend)
    targets = record["labels"] if case["loss"] == "cross_entropy" else record["targets"].astype(dtype)
    recorded = {int(n): k for k, n in enumerate(record["steps"])}
    for i in range(steps):
        if i == 50:
            optimizer.param_groups[0].update(settings(case.get("then", {})))
        loss, norm = step(record["x"][i % 4].astype(dtype), targets[i % 4])
        assert loss.dtype == (gx.asarray(loss).dtype if backend == "eager" else dtype)
        assert np.isclose(float(loss), record[f"{name}/losses"][i], rtol=tol, atol=0), f"loss of step {i + 1}"
        if "clip" in case:
            assert np.isclose(float(norm), record[f"{name}/norms"][i], rtol=tol, atol=0), f"norm of step {i + 1}"
        if i + 1 in recorded:
            want = split(net, record[f"{name}/params"][recorded[i + 1]])
            for key, value in net.state_dict().items():
                error = np.linalg.norm(value - want[key]) / np.linalg.norm(want[key])
                assert error <= tol, f"{key} after {i + 1} steps is off by {error:.1e}"
    if backend != "eager":
        assert len(step.variants) == 1, "a changed number has recompiled the step"


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("kind", ["f64", "f32"])
@pytest.mark.parametrize("name", CASES)
def test_compiled(name: str, kind: str, backend: str) -> None:
    follow(name, kind, backend)


@pytest.mark.parametrize("name", ["sgd-all", "sgd-nesterov", "adam-amsgrad", "adamw-mse", "adam-clip", "sgd-groups"])
def test_eager(name: str) -> None:
    follow(name, "f64", "eager", steps=5)
