"""Plain NumPy: the forward pass and the gradients by hand, the optimizer as its formula."""
from __future__ import annotations

from typing import Any

import numpy as np
from workloads.base import Inference, Pullback, Training
from workloads.contraction import Contraction

from .base import Peer, Step, in_turn


class NumPy(Peer):
    def train(self, w: Training) -> Step:
        p: dict[str, Any] = w.params()
        slots = {k: [np.zeros_like(v)] * w.optimizer.slots for k, v in p.items()}
        t = 0

        def step(*batch: Any) -> Any:
            nonlocal t
            t += 1
            loss, grads = w.by_hand(p, *batch)
            for k in p:
                p[k], *slots[k] = w.optimizer.update(np.sqrt, t, p[k], grads[k], *slots[k])
            return loss

        return Step(in_turn(step, w.batches()))

    def pullback(self, w: Pullback) -> Step:
        return Step(in_turn(w.by_hand, [(w.cotangent(), *w.args())]))

    def infer(self, w: Inference) -> Step:
        p = w.params()
        return Step(in_turn(lambda x: w.by_hand(p, x), w.batches()))

    def contract(self, w: Contraction) -> Step:
        def product(*sizes: int) -> Any:
            a, b = w.operands(*sizes)
            return in_turn(np.matmul, [(a if w.transposed[0] == "N" else a.T, b if w.transposed[1] == "N" else b.T)])

        return Step(product(w.m, w.n, w.k), empty=product(1, 1, 1))
