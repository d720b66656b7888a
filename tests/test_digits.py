"""The main job on real data: the digits' step is one native function, agrees with NumPy after 200 steps, and learns."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import data, nn, optim
from graphc.executable import Native


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: Any) -> Any:
        return self.fc2(gx.relu(self.fc1(gx.flatten(x, 1))))


def trained(backend: str, dtype: str, optimizer: str, steps: int = 200) -> tuple[Net, Any, list[float]]:
    gx.manual_seed(0)
    net, criterion = Net(), nn.CrossEntropyLoss()
    if dtype == "float64":
        net.double()
    opt = optim.Adam(net.parameters(), lr=1e-3) if optimizer == "adam" else optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    @gx.compile(backend=backend)
    def train_step(x: Any, y: Any) -> Any:
        opt.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        return loss

    x_train, y_train, _, _ = data.digits()
    loader = data.DataLoader((x_train.astype(dtype), y_train), batch_size=64, shuffle=True, seed=3)
    losses: list[float] = []
    while len(losses) < steps:
        for x, y in loader:
            losses.append(float(train_step(x, y)))
    return net, train_step, losses


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-10)])
def test_both_backends_agree_after_200_steps(dtype: str, tolerance: float, optimizer: str) -> None:
    (a, _, _), (b, step, _) = trained("numpy", dtype, optimizer), trained("llvm", dtype, optimizer)
    for (name, p), q in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
        assert np.linalg.norm(p - q) <= tolerance * np.linalg.norm(p), name
    assert len(step.variants) == 2, "one for full batches, one for the short last one"


def test_the_loop_body_is_one_native_function() -> None:
    _, step, losses = trained("llvm", "float32", "adam", steps=23)
    executable = step.lowered.executable()
    assert isinstance(executable, Native)
    assert executable.llvm.count("define i32 @step(") == 1
    assert losses[-1] < losses[0]
    graph = step.lowered.graph
    assert len(graph.outputs) == 1
    assert {s.name for s in graph.states} >= {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}
    phases = {p for n in graph.info.values() for p in n.phases}
    assert phases == {"forward", "backward", "update"}


def test_the_same_bits_on_every_run() -> None:
    (a, _, first), (b, _, second) = (trained("llvm", "float32", "adam", steps=46) for _ in range(2))
    assert first == second
    for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        np.testing.assert_array_equal(p, q)
