"""graphc, as its users write it: `gx.compile` around the body of the training loop."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from workloads.base import Inference, Pullback, Training
from workloads.contraction import Contraction

import graphc as gx
from graphc import nn, optim
from graphc.nn import functional as F

from .base import Peer, Step, in_turn


def layer_norm(x: Any, w: Any, b: Any) -> Any:
    d = x - gx.mean(x, axis=1, keepdims=True)
    return d / gx.sqrt(gx.mean(d * d, axis=1, keepdims=True) + 1e-5) * w + b


W = SimpleNamespace(linear=F.linear, relu=F.relu, tanh=gx.tanh, exp=gx.exp, sum=gx.sum, softmax=F.softmax, layer_norm=layer_norm,
                    cross_entropy=F.cross_entropy, mse=F.mse_loss, logistic=lambda z, y: gx.mean(F.softplus(z) - y * z))


class Graphc(Peer):
    def train(self, w: Training) -> Step:
        p = {k: nn.Parameter(gx.asarray(v)) for k, v in w.params().items()}
        optimizer = getattr(optim, type(w.optimizer).__name__)(list(p.values()), lr=w.optimizer.lr)

        @gx.compile(threads=self.threads)
        def step(*batch: Any) -> Any:
            optimizer.zero_grad()
            loss = w.loss(W, p, *batch)
            loss.backward()
            optimizer.step()
            return loss

        return Step(in_turn(step, w.batches()))

    def pullback(self, w: Pullback) -> Step:
        def paired(*args: Any) -> Any:
            y = w.f(W, *args[:-1])
            return gx.sum(y * args[-1]), y

        @gx.compile(threads=self.threads)
        def step(*args: Any) -> Any:
            (_, y), grads = gx.value_and_grad(paired, argnums=w.wrt, has_aux=True)(*args)
            return y, grads

        return Step(in_turn(step, [(*w.args(), w.cotangent())]))

    def infer(self, w: Inference) -> Step:
        p = {k: nn.Parameter(gx.asarray(v)) for k, v in w.params().items()}
        return Step(in_turn(gx.compile(lambda x: w.f(W, p, x), threads=self.threads), w.batches()))

    def contract(self, w: Contraction) -> Step:
        def product() -> Any:
            return gx.compile(lambda a, b: (a if w.transposed[0] == "N" else a.T) @ (b if w.transposed[1] == "N" else b.T), threads=self.threads)

        return Step(in_turn(product(), [w.operands(w.m, w.n, w.k)]), empty=in_turn(product(), [w.operands(1, 1, 1)]))
