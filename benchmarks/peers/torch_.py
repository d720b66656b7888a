"""PyTorch in three ways: eager with its fused optimizer; the loss and the optimizer compiled, which is the usual advice; and the whole step as one
compiled function, with `torch.func` for the gradients."""
from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from workloads.base import Inference, Pullback, Training

from .base import Peer, Step, flat, in_turn

W = SimpleNamespace(linear=F.linear, relu=torch.relu, tanh=torch.tanh, exp=torch.exp, sum=torch.sum, softmax=lambda x: torch.softmax(x, 1),
                    layer_norm=lambda x, w, b: F.layer_norm(x, w.shape, w, b), cross_entropy=F.cross_entropy, mse=F.mse_loss,
                    logistic=F.binary_cross_entropy_with_logits)


def own(arrays: Any) -> list[Any]:
    return [tuple(torch.from_numpy(a) for a in batch) for batch in arrays]


class Eager(Peer):
    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        torch.set_num_threads(threads)

    def numbers(self, result: Any) -> list[np.ndarray]:
        return [a.detach().numpy() for a in flat(result)]

    def compiled(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return f

    def train(self, w: Training) -> Step:
        p = {k: torch.from_numpy(v).requires_grad_() for k, v in w.params().items()}
        optimizer = getattr(torch.optim, type(w.optimizer).__name__)(p.values(), lr=w.optimizer.lr, fused=True)
        loss_of, update = self.compiled(lambda *batch: w.loss(W, p, *batch)), self.compiled(optimizer.step)

        def step(*batch: Any) -> Any:
            optimizer.zero_grad()
            loss = loss_of(*batch)
            loss.backward()
            update()
            return loss.detach()

        return Step(in_turn(step, own(w.batches())))

    def pullback(self, w: Pullback) -> Step:
        f = self.compiled(lambda *args: w.f(W, *args))

        def step(g: Any, *args: Any) -> Any:
            y = f(*args)
            return y.detach(), torch.autograd.grad(y, [args[k] for k in w.wrt], g)

        ((g, *args),) = own([(w.cotangent(), *w.args())])
        for k in w.wrt:
            args[k].requires_grad_()
        return Step(lambda: step(g, *args))

    def infer(self, w: Inference) -> Step:
        p = {k: torch.from_numpy(v) for k, v in w.params().items()}
        f = self.compiled(lambda x: w.f(W, p, x))

        def step(x: Any) -> Any:
            with torch.inference_mode():
                return f(x)

        return Step(in_turn(step, own(w.batches())))



class Compiled(Eager):
    """torch.compile of the loss and of optimizer.step."""
    def compiled(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(f)


class Whole(Compiled):
    """One compiled function: loss, gradients, update."""
    def train(self, w: Training) -> Step:
        p = {k: torch.from_numpy(v) for k, v in w.params().items()}
        slots = {k: [torch.zeros_like(v) for _ in range(w.optimizer.slots)] for k, v in p.items()}
        t = torch.zeros(())

        @torch.compile(fullgraph=True)
        def step(*batch: Any) -> Any:
            grads, loss = torch.func.grad_and_value(lambda p: w.loss(W, p, *batch))(p)
            t.add_(1)
            for k in p:
                for old, new in zip([p[k], *slots[k]], w.optimizer.update(torch.sqrt, t, p[k], grads[k], *slots[k]), strict=True):
                    old.copy_(new)
            return loss

        return Step(in_turn(step, own(w.batches())))

    def pullback(self, w: Pullback) -> Step:
        @torch.compile(fullgraph=True)
        def step(g: Any, *args: Any) -> Any:
            def f(*wrt: Any) -> Any:
                full = list(args)
                for k, v in zip(w.wrt, wrt, strict=True):
                    full[k] = v
                return w.f(W, *full)

            y, pull = torch.func.vjp(f, *(args[k] for k in w.wrt))
            return y, pull(g)

        return Step(in_turn(step, own([(w.cotangent(), *w.args())])))
