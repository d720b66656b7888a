"""A line and a curve through points, with a plot.

First a line through four points, where pencil and paper give the answer: slope 1.9, intercept 0.9. Then thirteen tanh units through sixty noisy points of
a sine. Both are trained by the same five lines; the plot goes to out/regression.png where matplotlib is installed, and to the terminal otherwise.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np

import graphc as gx
from graphc import nn, optim


def fit(net, x, y, lr, steps):
    """Train net on all of (x, y) at every step; the compiled step is made here, once for each net."""
    criterion, optimizer = nn.MSELoss(), optim.Adam(net.parameters(), lr=lr)

    @gx.compile
    def train_step(x, y):
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    for k in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - k / steps)          # a run-time number: nothing is compiled again
        loss = train_step(x, y)
    assert len(train_step.variants) == 1
    return loss


def column(values):
    return np.asarray(values, np.float32)[:, None]


# ---- the line --------------------------------------------------------------------------------------------------------------------
# Means: x 1.5, y 3.75.   slope = sum (x - 1.5)(y - 3.75) / sum (x - 1.5)² = 9.5 / 5 = 1.9,   intercept = 3.75 - 1.9 * 1.5 = 0.9

gx.manual_seed(0)
line = nn.Linear(1, 1)
fit(line, column([0, 1, 2, 3]), column([1, 3, 4, 7]), lr=0.1, steps=500)
slope, intercept = line.weight.item(), line.bias.item()
print(f"the line:  y = {slope:.4f} x + {intercept:.4f}   (by hand: 1.9 x + 0.9)")
assert abs(slope - 1.9) < 1e-3
assert abs(intercept - 0.9) < 1e-3

# ---- the curve -------------------------------------------------------------------------------------------------------------------

rng = np.random.default_rng(0)
x = column(np.linspace(-3, 3, 60))
noise = column(0.1 * rng.standard_normal(60))
y = np.sin(x) + noise
net = nn.Sequential(nn.Linear(1, 13), nn.Tanh(), nn.Linear(13, 1))
loss = fit(net, x, y, lr=0.02, steps=2000)
curve = gx.compile(lambda x: net(x))(x)
off = np.abs(curve - np.sin(x)).max()
print(f"the curve: mean square {loss:.4f} (of the noise alone {np.mean(noise**2):.4f}), at most {off:.2f} from the sine")
assert loss < np.mean(noise**2)                          # the best curve is nearer to the points than the sine is
assert off < 0.2

# ---- the plot --------------------------------------------------------------------------------------------------------------------

try:
    import matplotlib.pyplot as plt
except ImportError:
    for low in np.linspace(1.2, -1.4, 14):
        high = low + 0.2
        print("".join("#" if low <= c < high else "." if low <= p < high else " " for c, p in zip(curve[:, 0], y[:, 0])).rstrip())
else:
    Path("out").mkdir(exist_ok=True)
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.plot(x, y, ".", color="0.6", label="noisy points")
    axes.plot(x, curve, label="13 tanh units")
    axes.legend()
    figure.savefig("out/regression.png", dpi=120)
    print("drew out/regression.png")
