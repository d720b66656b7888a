"""A Gaussian process: a smooth curve through noisy points, and how sure it is.

The marginal likelihood is three lines of linear algebra. Newton's method trains its three hyperparameters, and the Hessian is the gradient's gradient: value,
gradient, Hessian and the step are one native function. The plot goes to out/gaussian_process.png where matplotlib is installed.
Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, algorithm 2.1.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np

import graphc as gx

rng = np.random.default_rng(0)
x = np.sort(rng.uniform(-3, 3, 40))
y = np.sin(2 * x) + 0.1 * rng.standard_normal(40)


def kernel(log, a, b):
    """How the curve at places a goes with the curve at places b."""
    length, scale, _ = log
    return gx.exp(2 * scale - ((a[:, None] - b) / gx.exp(length)) ** 2 / 2)


def root(log, x):
    return gx.linalg.cholesky(kernel(log, x, x) + gx.exp(2 * log[2]) * gx.eye(len(x), dtype=x.dtype))


def surprise(log, x, y):
    """-log p(y | x): least where the curve explains the points, and no more."""
    low = root(log, x)
    white = gx.linalg.solve_triangular(low, y, upper=False)
    return white @ white / 2 + gx.sum(gx.log(gx.linalg.diagonal(low))) + len(x) / 2 * np.log(2 * np.pi)


@gx.compile
def newton(log, x, y):
    """One step, of 1 at most along each axis of curvature; where that is negative the step goes down all the same."""
    value, slope = gx.value_and_grad(surprise)(log, x, y)
    curvature, axes = gx.linalg.eigh(gx.hessian(surprise)(log, x, y))
    return value, slope, log - axes @ gx.clip(axes.T @ slope / gx.abs(curvature), -1.0, 1.0)


@gx.compile
def predict(log, x, y, at):
    low = root(log, x)
    white = gx.linalg.solve_triangular(low, kernel(log, x, at), upper=False)
    return white.T @ gx.linalg.solve_triangular(low, y, upper=False), gx.sqrt(gx.exp(2 * log[1]) - gx.sum(white ** 2, axis=0))


log, turns, slope = np.array([0.0, 0.0, -1.0]), 0, 1.0
while np.abs(slope).max() > 1e-8:
    value, slope, log = newton(log, x, y)
    turns += 1
print(f"{turns} turns of Newton's method: -log p = {value:.4f}; length {np.exp(log[0]):.3f}, scale {np.exp(log[1]):.3f}, noise {np.exp(log[2]):.3f}")
assert turns < 20
assert 0.05 < np.exp(log[2]) < 0.2                       # the noise put in was 0.1

at = np.linspace(-4, 4, 161)
mean, spread = predict(log, x, y, at)
off = np.abs(mean - np.sin(2 * at))[np.abs(at) <= 3].max()
print(f"at most {off:.2f} from the sine between the points; {spread[80]:.2f} sure of itself at 0, {spread[0]:.2f} at -4, where there are none")
assert off < 0.2
assert spread[0] > 5 * spread[80]

try:
    import matplotlib.pyplot as plt
except ImportError:
    pass
else:
    Path("out").mkdir(exist_ok=True)
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.fill_between(at, mean - 2 * spread, mean + 2 * spread, alpha=0.25, label="two standard deviations")
    axes.plot(at, mean, label="the curve")
    axes.plot(x, y, ".", color="0.3", label="noisy points")
    axes.legend()
    figure.savefig("out/gaussian_process.png", dpi=120)
