"""Newton's method for differential equations, with sparse Jacobians.

The residual of a boundary value problem on a thousand points has a Jacobian of a million entries, of which three thousand are not 0. `sparse_jacobian` finds
out which by itself, and computes them by three sweeps. Its diagonals go into the elimination that everybody learns for tridiagonal matrices, here two `scan`s,
and the whole of Newton's method is one native function.
"""
from __future__ import annotations

import numpy as np

import graphc as gx


def solve(J, r):
    """x of J x = r, where J has three diagonals: what is below is eliminated from the top down, then x substituted from the bottom up."""
    lower, upper, zero = gx.pad(J.diagonal(-1), (1, 0)), gx.pad(J.diagonal(1), (0, 1)), r[0] * 0

    def down(before, row):
        a, b, c, d = row
        new = c / (b - a * before[0]), (d - a * before[1]) / (b - a * before[0])
        return new, new

    def up(x, row):
        x = row[1] - row[0] * x
        return x, x

    _, eliminated = gx.scan(down, (zero, zero), (lower, J.diagonal(), upper, r))
    return gx.scan(up, zero, eliminated, reverse=True)[1]


def newton(residual, u, tolerance):
    """The root of the residual near u, and the turns it took."""
    def turn(s):
        return s[0] - solve(gx.sparse_jacobian(residual)(s[0]), residual(s[0])), s[1] + 1
    return gx.while_loop(lambda s: gx.abs(residual(s[0])).max() > tolerance, turn, (u, 0), max_steps=50)


# ---- Bratu's problem: u'' + exp(u) = 0 on [0, 1], 0 at both ends ------------------------------------------------------------------

N, h = 1000, 1 / 1001


def bratu(u):
    wide = gx.pad(u, 1)
    return wide[2:] - 2 * wide[1:-1] + wide[:-2] + h * h * gx.exp(u)


print(gx.jacobian_sparsity(bratu)(gx.Spec((N,), gx.float64)))
u, turns = gx.compile(lambda u: newton(bratu, u, 1e-13))(np.zeros(N))
x, theta = np.linspace(0, 1, N + 2)[1:-1], 1.0
for _ in range(100):                                     # the solution in closed form has a number in it that is a fixed point
    theta = np.sqrt(2) * np.cosh(theta / 4)
exact = -2 * np.log(np.cosh((x - 0.5) * theta / 2) / np.cosh(theta / 4))
print(f"Bratu's problem on {N} points: {turns} turns, {np.abs(u - exact).max():.1e} from the solution in closed form")
assert turns <= 5
assert np.abs(u - exact).max() < 1e-7

# ---- Burgers' equation: u_t + u u_x = nu u_xx, by implicit steps ------------------------------------------------------------------


@gx.compile
def wave(u, nu=0.001, dt=0.01):
    """All states. Every step solves for the next one, so its size is not bound by the grid's: Newton's loop inside of a loop."""
    def step(old, _):
        def residual(new):
            wide = gx.pad(new, 1)
            slope, bend = (wide[2:] - wide[:-2]) / (2 * h), (wide[2:] - 2 * new + wide[:-2]) / (h * h)
            return new - old + dt * (new * slope - nu * bend)
        new, _ = newton(residual, old, 1e-10)
        return new, new
    return gx.scan(step, u, None, length=60)[1]


start = np.exp(-(((x - 0.3) / 0.12) ** 2))
states = wave(start)
for k in (0, 29, 59):                                    # the wave stands up as it goes
    print(f"t = {(k + 1) / 100:.2f}  " + "".join(" .:-=+*#%@"[int(9.99 * min(max(v, 0), 1))] for v in states[k][::16]))
assert np.abs(states.sum(1) / start.sum() - 1).max() < 5e-3             # nothing is lost
assert np.abs(np.diff(states[-1])).max() > 3 * np.abs(np.diff(start)).max()
