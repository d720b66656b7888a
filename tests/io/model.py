"""What the tests of saving train: a small net with dropout, Adam, a shuffled loader."""
from __future__ import annotations

from typing import Any

import numpy as np

import graphc as gx
from graphc import data, nn, optim

X = np.random.default_rng(0).normal(size=(26, 5)).astype(np.float32)
Y = (X.sum(1) > 0).astype(np.int64)


class Run:
    """A training run that can be stopped after any step."""

    def __init__(self, seed: int = 0, prefetch: int = 0) -> None:
        self.generator = gx.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Dropout(0.3), nn.Linear(7, 2))
        self.optimizer = optim.Adam(self.net.parameters(), lr=3e-2, weight_decay=1e-3)
        self.loader = data.DataLoader((X, Y), batch_size=4, shuffle=True, seed=3, prefetch=prefetch)
        self.steps, criterion, net, optimizer = 0, nn.CrossEntropyLoss(), self.net, self.optimizer

        @gx.compile
        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = criterion(net(x), y)
            loss.backward()
            optimizer.step()
            return loss

        self.step = step

    def train(self, until: int) -> list[float]:
        """The losses up to step number `until`."""
        losses = []
        while self.steps < until:
            for x, y in self.loader:
                losses.append(float(self.step(x, y)))
                self.steps += 1
                if self.steps == until:
                    break
        return losses

    @property
    def parts(self) -> dict[str, Any]:
        return {"module": self.net, "optimizer": self.optimizer, "generator": self.generator, "loader": self.loader}

    def snapshot(self) -> list[bytes]:
        """Every bit of the state."""
        state = self.optimizer.state_dict()
        slots = [np.asarray(a) for n in sorted(state["state"]) for _, a in sorted(state["state"][n].items())]
        arrays = [*self.net.state_dict().values(), *slots, self.generator.key.numpy(), self.generator.counter.numpy()]
        return [*(a.tobytes() for a in arrays), repr((state["param_groups"], self.loader.state_dict())).encode()]
