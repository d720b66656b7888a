"""The gradient of a gradient.

A gradient graph is a graph, so it has gradients too. Three uses: the third derivative of tanh, the product of a Hessian and a vector without the Hessian,
and a penalty on the slope of a net inside a compiled training step. Each is held against what calculus says.
"""
from __future__ import annotations

import numpy as np

import graphc as gx
from graphc import nn, optim

# ---- the third derivative of tanh ------------------------------------------------------------------------------------------------

third = gx.compile(gx.grad(gx.grad(gx.grad(gx.tanh))))
for x in (-1.0, 0.0, 0.5):
    t = np.tanh(x)
    formula = (1 - t**2) * (6 * t**2 - 2)               # t' = 1 - t², t'' = -2 t t', t''' = t' (6 t² - 2)
    print(f"tanh'''({x:4}) = {third(x):9.6f}   formula {formula:9.6f}")
    assert abs(third(x) - formula) < 1e-12               # a Python float is f64

# ---- Hessian times vector: the derivative of the gradient along v ----------------------------------------------------------------


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


@gx.compile
def hessian_times(x, v):
    return gx.grad(lambda x: (gx.grad(rosenbrock)(x) * v).sum())(x)


x, v = np.array([0.5, -1.0]), np.array([1.0, 2.0])
hessian = np.array([[1200 * x[0] ** 2 - 400 * x[1] + 2, -400 * x[0]], [-400 * x[0], 200]])
print(f"Hessian times {v}: {hessian_times(x, v)}   formula {hessian @ v}")
assert np.allclose(hessian_times(x, v), hessian @ v, rtol=1e-12)

# ---- a gradient penalty ----------------------------------------------------------------------------------------------------------
# A critic f tells a cloud of points from the same cloud moved by (0.6, 0.8), a distance of 1. Its slope is held near 1 by a penalty:
#     maximise  E f(moved) - E f(cloud) - 10 E (|grad f| - 1)²
# the last mean over points between the two. A straight f of slope s reaches s - 10 (s - 1)², which is greatest at s = 1 + 1/20 = 1.05.

gx.manual_seed(0)
critic = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = optim.Adam(critic.parameters(), lr=0.01)
cloud = (0.3 * np.random.default_rng(0).standard_normal((64, 2))).astype(np.float32)
moved = cloud + np.float32([0.6, 0.8])


@gx.compile
def train_step(a, b):
    optimizer.zero_grad()
    points = a + gx.rand(64, 1) * (b - a)
    gradient = gx.grad(lambda x: critic(x).sum())(points)               # the slope at each point: a graph,
    slope = gx.sqrt((gradient**2).sum(axis=1))
    distance = critic(b).mean() - critic(a).mean()
    loss = 10 * ((slope - 1) ** 2).mean() - distance
    loss.backward()                                                     # and here its gradient
    optimizer.step()
    return distance, slope.mean()


for k in range(1000):
    optimizer.param_groups[0]["lr"] = 0.01 * (1 - k / 1000)
    distance, slope = train_step(cloud, moved)
print(f"distance of the clouds {distance:.4f}, slope {slope:.4f}   formula 1.05, 1.05")
assert abs(distance - 1.05) < 0.02
assert abs(slope - 1.05) < 0.02
