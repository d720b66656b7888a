"""Loops that end themselves.

`while_loop` runs until its question says no: here Newton's method with its derivative, and L-BFGS as one native function, a line search inside it, from one
start or from many at once. The two recursions of L-BFGS are `scan`s over its memory, one of them backwards.
"""
from __future__ import annotations

import numpy as np

import graphc as gx

# ---- Newton's method, and the derivative of what it finds ------------------------------------------------------------------------


def root(a):
    """x with x + sin(x) = a."""
    def step(x):
        return x - (x + gx.sin(x) - a) / (1 + gx.cos(x))
    return gx.while_loop(lambda x: gx.abs(x + gx.sin(x) - a) > 1e-14, step, a / 2, max_steps=50)


x, slope = gx.compile(gx.value_and_grad(root))(1.0)
print(f"x + sin(x) = 1 at x = {x:.12f}, whose slope by the 1 is {slope:.6f}   formula {1 / (1 + np.cos(x)):.6f}")
assert abs(x + np.sin(x) - 1) < 1e-14
assert abs(slope - 1 / (1 + np.cos(x))) < 1e-6               # a slope converges one turn behind its value

# ---- L-BFGS ----------------------------------------------------------------------------------------------------------------------

MEMORY = 6


def lbfgs(f, start, tolerance=1e-9, turns=300):
    """The minimum of f from start on, and the turns it took. Nocedal and Wright, algorithms 7.4 and 7.5, with Armijo's rule for the step."""
    def direction(g, s, y, rho):
        def back(q, row):
            s, y, rho = row
            a = rho * (s @ q)
            return q - a * y, a
        q, a = gx.scan(back, g, (s, y, rho), reverse=True)
        scale = gx.where(rho[-1] > 0, 1 / gx.where(rho[-1] > 0, rho[-1] * (y[-1] @ y[-1]), 1.0), 1.0)

        def forth(r, row):
            s, y, rho, a = row
            return r + (a - rho * (y @ r)) * s, None
        return -gx.scan(forth, q * scale, (s, y, rho, a))[0]

    def turn(state):
        x, value, g, s, y, rho, k = state
        p = direction(g, s, y, rho)
        slope = g @ p
        size, _ = gx.while_loop(lambda c: c[1] > value + 1e-4 * c[0] * slope, lambda c: (c[0] / 2, f(x + c[0] / 2 * p)), (x[0] * 0 + 1, f(x + p)), max_steps=40)
        new, g_new = gx.value_and_grad(f)(x + size * p)
        ds, dy = size * p, g_new - g
        curved = ds @ dy > 0                             # else the pair says nothing of the curvature, and counts for nothing
        rho_new = gx.where(curved, 1 / gx.where(curved, ds @ dy, 1.0), 0.0)
        return (x + ds, new, g_new, gx.concat([s[1:], ds[None]]), gx.concat([y[1:], dy[None]]), gx.concat([rho[1:], rho_new[None]]), k + 1)

    value, g = gx.value_and_grad(f)(start)
    empty = gx.zeros((MEMORY, *start.shape), dtype=start.dtype)
    x, *_, k = gx.while_loop(lambda state: gx.abs(state[2]).max() > tolerance, turn, (start, value, g, empty, empty, empty[:, 0], 0), max_steps=turns)
    return x, k


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


minimise = gx.compile(lambda start: lbfgs(rosenbrock, start))
x, turns = minimise(np.full(10, -0.5))
print(f"L-BFGS: Rosenbrock's valley in 10 dimensions, {turns} turns, off by {np.abs(x - 1).max():.0e}")
assert np.abs(x - 1).max() < 1e-8

# ---- from many starts at once ----------------------------------------------------------------------------------------------------

starts = np.random.default_rng(0).uniform(-2.0, 2.0, (8, 3))
found, turns = gx.compile(gx.vmap(lambda start: lbfgs(rosenbrock, start)))(starts)
print(f"8 starts in one loop: {sorted(turns.tolist())} turns, all off by less than {np.abs(found - 1).max():.0e}")
assert np.abs(found - 1).max() < 1e-7
assert len(set(turns.tolist())) > 1                      # those that were through stood still
