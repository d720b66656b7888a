"""JAX: one jitted step whose parameters are donated; and, beside it, a scan over the batches, which enters the machine once for all of them."""
from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from workloads.base import Inference, Pullback, Training

from .base import Peer, Step, in_turn


def layer_norm(x: Any, w: Any, b: Any) -> Any:
    d = x - x.mean(1, keepdims=True)
    return d * jax.lax.rsqrt((d * d).mean(1, keepdims=True) + 1e-5) * w + b


W = SimpleNamespace(linear=lambda x, w, b: x @ w + b, relu=jax.nn.relu, tanh=jnp.tanh, exp=jnp.exp, sum=jnp.sum, softmax=lambda x: jax.nn.softmax(x, axis=1),
                    layer_norm=layer_norm, mse=lambda z, y: jnp.mean((z - y) ** 2), logistic=lambda z, y: jnp.mean(jax.nn.softplus(z) - y * z),
                    cross_entropy=lambda z, y: -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], 1)))


def own_params(params: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {k: jnp.asarray(np.ascontiguousarray(v.T)) for k, v in params.items()}


def own(arrays: Any) -> list[Any]:
    return [tuple(map(jnp.asarray, batch)) for batch in arrays]


class Jit(Peer):
    def wait(self, result: Any) -> None:
        jax.block_until_ready(result)

    def start(self, w: Training) -> tuple[Any, Any]:
        """The state, and the step: state, batch → state, loss."""
        p = own_params(w.params())
        slots = {k: tuple(jnp.zeros_like(v) for _ in range(w.optimizer.slots)) for k, v in p.items()}

        def step(state: Any, batch: Any) -> Any:
            p, slots, t = state
            t = t + 1
            loss, grads = jax.value_and_grad(lambda p: w.loss(W, p, *batch))(p)
            new = {k: w.optimizer.update(jnp.sqrt, t, p[k], grads[k], *slots[k]) for k in p}
            return ({k: v[0] for k, v in new.items()}, {k: v[1:] for k, v in new.items()}, t), loss

        return (p, slots, jnp.zeros(())), step

    def train(self, w: Training) -> Step:
        state, step = self.start(w)
        jitted = jax.jit(step, donate_argnums=0)

        def call(*batch: Any) -> Any:
            nonlocal state
            state, loss = jitted(state, batch)
            return loss

        return Step(in_turn(call, own(w.batches())))

    def pullback(self, w: Pullback) -> Step:
        def step(g: Any, *args: Any) -> Any:
            def f(*wrt: Any) -> Any:
                full = list(args)
                for k, v in zip(w.wrt, wrt, strict=True):
                    full[k] = v
                return w.f(W, *full)

            y, pull = jax.vjp(f, *(args[k] for k in w.wrt))
            return y, pull(g)

        return Step(in_turn(jax.jit(step), own([(w.cotangent(), *w.args())])))

    def infer(self, w: Inference) -> Step:
        p, f = own_params(w.params()), jax.jit(lambda p, x: w.f(W, p, x))
        return Step(in_turn(lambda x: f(p, x), own(w.batches())))



class Scan(Jit):
    """As many steps as there are batches in one call."""
    def train(self, w: Training) -> Step:
        state, step = self.start(w)
        batches = w.batches()
        every = tuple(jnp.asarray(np.stack(column)) for column in zip(*batches, strict=True))
        scanned = jax.jit(lambda state, every: jax.lax.scan(step, state, every), donate_argnums=0)

        def call() -> Any:
            nonlocal state
            state, losses = scanned(state, every)
            return losses

        return Step(call, per_call=len(batches))
