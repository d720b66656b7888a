"""What transforms cost: a step of a loop that does next to nothing, and gradients example by example beside the gradient of the batch.

    python benchmarks/transforms.py

The loop: `scan` of 1,000 steps of c ← c/2 + x and its gradient, in nanoseconds a step, the body included. The gradients: an MLP 784-128-10, batch 64, f32, one
thread; `vmap(grad)` writes 64 gradients of 101,770 numbers (26 MB), the batch's gradient one. Beside the times stand the operations of both, and the bytes
that each must write: per-example gradients are a matter of memory, not of arithmetic. Also their norms alone, which need not be written: what clipping wants.
Medians of calls in turn.
"""
from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from side_by_side import timed

import graphc as gx

STEPS, BATCH, SIZES = 1000, 64, (784, 128, 10)


def loop() -> None:
    def total(xs: Any) -> Any:
        return gx.scan(lambda c, x: (c * 0.5 + x, None), gx.zeros((), dtype="f64"), xs)[0]

    xs = np.random.default_rng(0).standard_normal(STEPS)
    value, slope = gx.compile(total), gx.compile(gx.grad(total))
    np.testing.assert_allclose(value(xs), sum(x * 0.5 ** (STEPS - 1 - k) for k, x in enumerate(xs)), rtol=1e-12)
    np.testing.assert_allclose(slope(xs)[-3:], [0.25, 0.5, 1.0])
    one = xs[:1].copy()
    short, shorter = gx.compile(total), gx.compile(gx.grad(total))
    times = timed({"scan": lambda: value(xs), "scan, one step": lambda: short(one),
                   "its gradient": lambda: slope(xs), "gradient, one step": lambda: shorter(one)}, rounds=21, slice_seconds=0.01)
    for long_, brief in (("scan", "scan, one step"), ("its gradient", "gradient, one step")):
        print(f"{long_:24} {1e3 * (times[long_] - times[brief]) / (STEPS - 1):8.1f} ns a step")


def examples() -> None:
    rng = np.random.default_rng(1)
    params = [(rng.standard_normal((i, o)).astype(np.float32) / i ** 0.5, np.zeros(o, np.float32)) for i, o in pairwise(SIZES)]
    x, y = rng.standard_normal((BATCH, SIZES[0])).astype(np.float32), rng.integers(0, SIZES[-1], BATCH)

    def loss(params: Any, x: Any, y: Any) -> Any:
        """Of one example, or the sum over a batch."""
        for k, (w, b) in enumerate(params):
            x = x @ w + b
            x = gx.maximum(x, 0.0) if k < len(params) - 1 else x
        return -gx.sum(gx.log_softmax(x, axis=-1) * gx.one_hot(y, SIZES[-1]))

    def norms(params: Any, x: Any, y: Any) -> Any:
        each = gx.vmap(gx.grad(loss), in_axes=(None, 0, 0))(params, x, y)
        return sum(gx.sum(gx.square(g), axis=tuple(range(1, g.ndim))) for pair in each for g in pair)

    steps = {"the batch": gx.compile(gx.grad(loss)), "each example": gx.compile(gx.vmap(gx.grad(loss), in_axes=(None, 0, 0))), "their norms": gx.compile(norms)}
    whole, each, squares = (step(params, x, y) for step in steps.values())
    for (gw, gb), (ew, eb) in zip(whole, each):
        np.testing.assert_allclose(ew.sum(0), gw, atol=2e-4)
        np.testing.assert_allclose(eb.sum(0), gb, atol=2e-4)
    np.testing.assert_allclose(squares, sum((g ** 2).reshape(BATCH, -1).sum(1) for pair in each for g in pair), rtol=1e-4)
    times = timed({name: lambda step=step: step(params, x, y) for name, step in steps.items()}, rounds=21, slice_seconds=0.01)   # type: ignore[misc]
    weights = [i * o for i, o in pairwise(SIZES)]
    forward, outer, back = 2 * BATCH * sum(weights), BATCH * sum(weights), 2 * BATCH * sum(weights[1:])     # an outer product has no sums
    operations = {"the batch": 2 * forward + back, "each example": forward + outer + back, "their norms": forward + 3 * outer + back}
    written = {"the batch": 4 * sum(weights), "each example": 4 * BATCH * sum(weights), "their norms": 4 * BATCH}
    for name, us in times.items():
        times_, ops = us / times["the batch"], operations[name] / operations["the batch"]
        print(f"{name:24} {us:8.0f} us  {times_:5.2f} of the batch's time, {ops:4.2f} of its operations, {written[name] / 1e6:6.2f} MB written")


if __name__ == "__main__":
    loop()
    examples()
