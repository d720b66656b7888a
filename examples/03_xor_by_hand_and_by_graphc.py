"""XOR, by hand and by graphc.

The smallest problem that needs a hidden layer. Its gradient is written twice: by the formulas of the chain rule in NumPy, and by graphc from the
forward pass alone. They agree to 1e-12, before training and after it; and the net learns exclusive or.
"""
from __future__ import annotations

import numpy as np

import graphc as gx
from graphc import nn, optim

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float64)
Y = np.array([[0], [1], [1], [0]], np.float64)

gx.manual_seed(1)
net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1), nn.Sigmoid()).double()     # f64: 1e-12 can be asked for
criterion = nn.MSELoss()


def by_hand(w1, b1, w2, b2):
    """The gradients of mean (p - y)² by w1, b1, w2, b2, where h = tanh(x w1ᵀ + b1) and p = sigmoid(h w2ᵀ + b2)."""
    h = np.tanh(X @ w1.T + b1)
    p = 1 / (1 + np.exp(-(h @ w2.T + b2)))
    dp = 2 * (p - Y) / p.size                           # of the mean of squares
    dz = dp * p * (1 - p)                               # through the sigmoid
    dh = dz @ w2                                        # to the hidden layer
    da = dh * (1 - h**2)                                # through tanh
    return da.T @ X, da.sum(0), dz.T @ h, dz.sum(0)


@gx.compile
def gradients(x, y):                                    # without optimizer.step() the gradients stay, in p.grad
    net.zero_grad()
    loss = criterion(net(x), y)
    loss.backward()
    return loss


def compare(when):
    gradients(X, Y)
    wanted = by_hand(*(p.numpy() for p in net.parameters()))
    worst = max(np.abs(p.grad.numpy() - want).max() for p, want in zip(net.parameters(), wanted))
    print(f"{when}: the gradients differ by at most {worst:.1e}")
    assert worst < 1e-12, worst


optimizer = optim.Adam(net.parameters(), lr=0.05)


@gx.compile
def train_step(x, y):
    optimizer.zero_grad()
    loss = criterion(net(x), y)
    loss.backward()
    optimizer.step()
    return loss


compare("before training")
for _ in range(500):
    loss = train_step(X, Y)
compare("after it")

p = gx.compile(lambda x: net(x))(X)
for (a, b), q in zip(X, p[:, 0]):
    print(f"{a:.0f} xor {b:.0f} = {q:.3f}")
assert np.array_equal(p > 0.5, Y > 0.5)
assert loss < 0.01
