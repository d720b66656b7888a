"""Newton's method for differential equations, with sparse Jacobians.

The residual of a boundary value problem on a thousand points has a Jacobian of a million entries, of which three thousand are not 0. `sparse_jacobian` finds
out which by itself, and computes them by three sweeps. Its diagonals go into the elimination that everybody learns for tridiagonal matrices, here two `scan`s,
and the whole of Newton's method is one native function.
"""
from __future__ import annotations

import numpy as np

import graphc as gx

# ---- a matrix of three diagonals -------------------------------------------------------------------------------------------------


def solve(J, r):
    """x of J x = r: eliminate what is below the diagonal from the top down, then substitute from the bottom up."""
    zero = r[:1] * 0
    lower, main, upper = gx.concat([zero, J.diagonal(-1)]), J.diagonal(), gx.concat([J.diagonal(1), zero])

    def down(before, row):
        a, b, c, d = row
        pivot = b - a * before[0]
        new = c / pivot, (d - a * before[1]) / pivot
        return new, new

    def up(x, row):
        x = row[1] - row[0] * x
        return x, x

    _, eliminated = gx.scan(down, (zero[0], zero[0]), (lower, main, upper, r))
    return gx.scan(up, zero[0], eliminated, reverse=True)[1]


def newton(residual, u, tolerance):
    """The root of the residual near u, and the turns it took."""
    def turn(state):
        u, k = state
        return u - solve(gx.sparse_jacobian(residual)(u), residual(u)), k + 1
    return gx.while_loop(lambda state: gx.abs(residual(state[0])).max() > tolerance, turn, (u, 0), max_steps=50)


# ---- Bratu's problem: u'' + exp(u) = 0 on [0, 1], 0 at both ends ------------------------------------------------------------------

N = 1000
h = 1 / (N + 1)


def bratu(u):
    wide = gx.pad(u, 1)
    return wide[2:] - 2 * wide[1:-1] + wide[:-2] + h * h * gx.exp(u)


print(gx.jacobian_sparsity(bratu)(gx.Spec((N,), gx.float64)))
print(gx.jacobian_sparsity(bratu)(gx.Spec((12,), gx.float64)).spy())

u, turns = gx.compile(lambda u: newton(bratu, u, 1e-13))(np.zeros(N))
theta = 1.0
for _ in range(100):                                     # the solution in closed form has a number in it that is a fixed point
    theta = np.sqrt(2) * np.cosh(theta / 4)
x = np.linspace(0, 1, N + 2)[1:-1]
exact = -2 * np.log(np.cosh((x - 0.5) * theta / 2) / np.cosh(theta / 4))
print(f"Bratu's problem on {N} points: {turns} turns, {np.abs(u - exact).max():.1e} from the solution in closed form")
assert turns <= 5
assert np.abs(u - exact).max() < 1e-7

# ---- Burgers' equation: u_t + u u_x = nu u_xx, by implicit steps ------------------------------------------------------------------

nu, dt, steps = 0.001, 0.01, 60


@gx.compile
def wave(u):
    """Every step solves for the next state, so its size is not bound by the grid's. Newton's loop inside of a loop; gives all states."""
    def step(old, _):
        def residual(new):
            wide = gx.pad(new, 1)
            slope, bend = (wide[2:] - wide[:-2]) / (2 * h), (wide[2:] - 2 * new + wide[:-2]) / (h * h)
            return new - old + dt * (new * slope - nu * bend)
        new, _ = newton(residual, old, 1e-10)
        return new, new
    return gx.scan(step, u, None, length=steps)[1]


start = np.exp(-(((x - 0.3) / 0.12) ** 2))
states = wave(start)
for k in (0, 29, 59):                                    # the wave stands up as it goes
    heights = states[k][::16]
    print(f"t = {dt * (k + 1):.2f}  " + "".join(" .:-=+*#%@"[int(9.99 * min(max(v, 0), 1))] for v in heights))
mass, steep = states.sum(1) * h, [np.abs(np.diff(v)).max() / h for v in (start, states[-1])]
print(f"mass {mass[0]:.5f} at first, {mass[-1]:.5f} at the end; the steepest slope {steep[0]:.0f} at first, {steep[1]:.0f} at the end")
assert np.abs(mass / mass[0] - 1).max() < 5e-3
assert steep[1] > 3 * steep[0]

# ---- the second derivatives of an energy ------------------------------------------------------------------------------------------


def energy(u):
    """What Bratu's solution makes stationary: h² times the integral of u'²/2 - exp(u)."""
    wide = gx.pad(u, 1)
    return ((wide[1:] - wide[:-1]) ** 2).sum() / 2 - h * h * gx.exp(u).sum()


H = gx.compile(gx.sparse_hessian(energy))(u)
J = gx.compile(gx.sparse_jacobian(bratu))(u)
print(f"the Hessian of the energy takes {H.pattern.colors} products, and is minus the Jacobian to {np.abs(H.data + J.data).max():.0e}")
assert H.pattern.colors == 3
assert np.abs(H.data + J.data).max() < 1e-15
