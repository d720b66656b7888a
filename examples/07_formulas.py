"""Formulas in and out: SymPy and LaTeX.

A physicist's formula becomes a compiled function, a fit is done with its gradients, and a small net's gradients are written down as a book would write them.
Each is held against what is known.
"""
from __future__ import annotations

import numpy as np
import sympy

import graphc as gx
from graphc import nn
from graphc.nn import functional as F

# ---- a SymPy expression as a compiled function -----------------------------------------------------------------------------------
# The Lennard-Jones force, cut off smoothly at r = 3: SymPy differentiates the potential, graphc computes a million forces at once.

r, depth, size = sympy.symbols("r epsilon sigma", real=True)
potential = 4 * depth * ((size / r) ** 12 - (size / r) ** 6)
force = sympy.Piecewise((-sympy.diff(potential, r), r < 3), (0, True))
f = gx.symbolic.from_sympy(force, [r, depth, size])
distances = np.linspace(0.9, 4.0, 1_000_000)
forces = f(distances, 1.0, 1.0)
rest = distances[np.abs(forces[distances < 2]).argmin()]
print(f"the force is zero at r = {rest:.5f}   formula 2^(1/6) = {2 ** (1 / 6):.5f}")
assert abs(rest - 2 ** (1 / 6)) < 1e-5
assert (forces[distances >= 3] == 0.0).all()

# ---- and back: what graphc differentiates, SymPy simplifies ------------------------------------------------------------------------

u = gx.symbolic.from_sympy(potential, [r, depth, size])
slope = gx.symbolic.to_sympy(gx.grad(lambda r: u(r, 1.0, 1.0)))
same = sympy.simplify(slope - sympy.diff(potential.subs({depth: 1, size: 1}), r))
print(f"graphc's derivative less SymPy's: {same}")
assert same == 0

# ---- parameters of a formula, by its gradients -----------------------------------------------------------------------------------
# Newton's cooling, T = T0 + d exp(-k t): gradient descent finds d and k from noisy readings.

t, start, drop, rate = sympy.symbols("t T_0 d k")
cooling = gx.symbolic.from_sympy(start + drop * sympy.exp(-rate * t), [t, start, drop, rate])
times = np.linspace(0.0, 5.0, 60)
readings = 20 + 60 * np.exp(-0.7 * times) + np.random.default_rng(0).normal(0.0, 0.2, 60)


@gx.compile
def gradients(p):
    return gx.value_and_grad(lambda p: ((cooling(times, 20.0, 100 * p[0], p[1]) - readings) ** 2).mean())(p)


p = np.array([0.3, 1.0])
for _ in range(2000):
    loss, g = gradients(p)
    p -= 2e-4 * g
print(f"d = {100 * p[0]:.2f}, k = {p[1]:.3f}   made with 60 and 0.7")
assert abs(100 * p[0] - 60) < 0.5
assert abs(p[1] - 0.7) < 0.02

# ---- the gradients of a net, as a book writes them ---------------------------------------------------------------------------------

net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
text = gx.symbolic.latex(lambda x, y: F.cross_entropy(net(x), y), gx.Spec(("N", 4)), gx.Spec(("N", 3)), wrt=list(net.parameters()))
print(text)
assert r"\frac{\partial L}{\partial W_{0}} &= \delta_{0}^\top X" in text
