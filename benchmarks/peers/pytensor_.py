"""PyTensor as pip gives it, with its default linker; and, beside it, its C linker with MKL linked by hand."""
from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from workloads.base import Inference, Pullback, Training

from .base import Peer, Step, in_turn

one = np.float32(1)


def layer_norm(x: Any, w: Any, b: Any) -> Any:
    d = x - x.mean(1, keepdims=True)
    return d / pt.sqrt((d * d).mean(1, keepdims=True) + np.float32(1e-5)) * w + b


W = SimpleNamespace(linear=lambda x, w, b: pt.dot(x, w) + b, relu=lambda x: pt.maximum(x, np.float32(0)), tanh=pt.tanh, exp=pt.exp, sum=pt.sum,
                    softmax=lambda x: pt.special.softmax(x, axis=1), layer_norm=layer_norm, mse=lambda z, y: pt.mean((z - y) ** 2),
                    logistic=lambda z, y: pt.mean(pt.softplus(z) - y * z),
                    cross_entropy=lambda z, y: -pt.mean(pt.special.log_softmax(z, axis=1)[pt.arange(y.shape[0]), y]))


def symbol(a: np.ndarray) -> Any:
    return pt.TensorType(str(a.dtype), a.shape)()


class PyTensor(Peer):
    def function(self, inputs: Any, outputs: Any, **more: Any) -> Callable[..., Any]:
        """Compiled at the first call."""
        made: list[Any] = []

        def call(*args: Any) -> Any:
            if not made:
                made.append(pytensor.function(inputs, outputs, **more))
                made[0].trust_input = True
            return made[0](*args)

        return call

    def train(self, w: Training) -> Step:
        p = {k: pytensor.shared(np.ascontiguousarray(v.T)) for k, v in w.params().items()}
        batches = w.batches()
        inputs = [symbol(a) for a in batches[0]]
        loss = w.loss(W, p, *inputs)
        t = pytensor.shared(np.float32(0))
        updates = [(t, t + one)]
        for k, g in zip(p, pt.grad(loss, list(p.values())), strict=True):
            slots = [pytensor.shared(np.zeros_like(p[k].get_value())) for _ in range(w.optimizer.slots)]
            updates += zip([p[k], *slots], w.optimizer.update(pt.sqrt, t + one, p[k], g, *slots), strict=True)
        updates = [(old, new.astype("float32")) for old, new in updates]
        return Step(in_turn(self.function(inputs, loss, updates=updates), batches))

    def pullback(self, w: Pullback) -> Step:
        g, *args = (w.cotangent(), *w.args())
        inputs = [symbol(a) for a in (g, *args)]
        y = w.f(W, *inputs[1:])
        grads = pt.grad(None, [inputs[1 + k] for k in w.wrt], known_grads={y: inputs[0]})
        return Step(in_turn(self.function(inputs, [y, *grads]), [(g, *args)]))

    def infer(self, w: Inference) -> Step:
        p = {k: pytensor.shared(np.ascontiguousarray(v.T)) for k, v in w.params().items()}
        batches = w.batches()
        x = symbol(batches[0][0])
        return Step(in_turn(self.function([x], w.f(W, p, x)), batches))


class WithMKL(PyTensor):
    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        lib = Path(sys.prefix) / "lib"
        (rt,) = lib.glob("libmkl_rt.so*")
        pytensor.config.blas__ldflags = f"-L{lib} -Wl,-rpath,{lib} -l:{rt.name}"
