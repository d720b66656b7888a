"""A training loop of one's own: no Module, no optimizer.

Parameters are a dict of arrays that goes in and comes out. `gx.value_and_grad` gives the gradient with the same keys, momentum is two lines, and the
learning rate is a `gx.scalar`: a number that a compiled function reads anew at each call. It follows a cosine for 30 epochs and the step is compiled once.
"""
from __future__ import annotations

import math

import numpy as np

import graphc as gx
from graphc import data
from graphc.nn import functional as F

x_train, y_train, x_test, y_test = data.digits()
x_train, x_test = (gx.flatten(x, 1).numpy() for x in (x_train, x_test))

rng = np.random.default_rng(0)
params = {
    "w1": (rng.standard_normal((64, 48)) / 8).astype(np.float32), "b1": np.zeros(48, np.float32),
    "w2": (rng.standard_normal((48, 10)) / 7).astype(np.float32), "b2": np.zeros(10, np.float32),
}
velocity = {name: np.zeros_like(p) for name, p in params.items()}
rate = gx.scalar(0.0)
traced = []                                             # Python runs only while a function is traced: this counts the traces


def logits(params, x):
    return gx.relu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def loss_of(params, x, y):
    return F.cross_entropy(logits(params, x), y)


@gx.compile
def train_step(params, velocity, x, y):
    traced.append(1)
    loss, gradient = gx.value_and_grad(loss_of)(params, x, y)
    velocity = {name: 0.9 * velocity[name] + gradient[name] for name in params}
    params = {name: params[name] - rate * velocity[name] for name in params}
    return params, velocity, loss


@gx.compile
def accuracy(params, x, y):
    return (logits(params, x).argmax(1) == y).astype(gx.float32).mean()


loader = data.DataLoader((x_train, y_train), batch_size=64, shuffle=True, drop_last=True, seed=0)
epochs = 30
steps = epochs * len(loader)
losses = []
for x, y in (batch for _ in range(epochs) for batch in loader):
    rate.value = 0.05 * (1 + math.cos(math.pi * len(losses) / steps)) / 2
    params, velocity, loss = train_step(params, velocity, x, y)
    losses.append(loss)

score = accuracy(params, x_test, y_test)
print(f"{steps} steps, the rate from 0.05 to {rate.value:.1e}: the loss fell from {losses[0]:.2f} to {np.mean(losses[-20:]):.4f}")
print(f"{score:.2%} of {len(y_test)} unseen digits are read rightly")
print(f"traces: {len(traced)}, compilations: {len(train_step.variants)}")
assert len(losses) == steps
assert len(traced) == len(train_step.variants) == 1
assert score > 0.95
