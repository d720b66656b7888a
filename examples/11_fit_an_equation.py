"""The differential equation behind some measurements.

Foxes and rabbits (Lotka and Volterra) are followed for ten units of time by a `scan` of Runge-Kutta steps. From noisy counts their four rates are found again:
Levenberg's and Marquardt's method, with the Jacobian through the solver by forward mode (four rates, hundreds of counts: four columns are cheap), inside one
`while_loop` that ends by itself. All of it is one native function. The Jacobian at the end says how sure the rates are.
"""
from __future__ import annotations

import numpy as np

import graphc as gx

STEPS, DT, EVERY = 1000, 0.01, 10
RATES = np.array([1.1, 0.4, 0.4, 0.1])                   # births, rabbits eaten, deaths of foxes, foxes fed
START = np.array([10.0, 5.0])


def change(rates, u):
    rabbits, foxes = u[0], u[1]
    return gx.stack([rates[0] * rabbits - rates[1] * rabbits * foxes, rates[3] * rabbits * foxes - rates[2] * foxes])


def follow(rates, start):
    """Rabbits and foxes at every tenth step, by the classical method of Runge and Kutta."""
    def step(u, _):
        a = change(rates, u)
        b = change(rates, u + DT / 2 * a)
        c = change(rates, u + DT / 2 * b)
        d = change(rates, u + DT * c)
        u = u + DT / 6 * (a + 2 * b + 2 * c + d)
        return u, u
    return gx.scan(step, start, None, length=STEPS)[1][EVERY - 1::EVERY]


def fit(rates, start, counts):
    def off(rates):
        return gx.reshape(gx.log(follow(rates, start) / counts), (-1,))      # counts are wrong by a share of themselves

    def turn(state):
        rates, damping, _, k = state
        e, jacobian = off(rates), gx.jacfwd(off)(rates)
        normal = jacobian.T @ jacobian
        new = rates - gx.linalg.solve(normal + damping * gx.linalg.diagonal(normal) * gx.eye(4, dtype=rates.dtype), jacobian.T @ e)
        e_new = off(new)
        better = e_new @ e_new < e @ e                   # NaN, where the step led out of the world, is not better
        return gx.where(better, new, rates), gx.where(better, damping / 10, damping * 10), gx.where(better, gx.abs(new / rates - 1).max(), 1.0), k + 1

    rates, _, _, turns = gx.while_loop(lambda s: (s[2] > 1e-10) & (s[3] < 50), turn, (rates, rates[0] * 0 + 1e-2, rates[0] * 0 + 1, 0))
    e, jacobian = off(rates), gx.jacfwd(off)(rates)
    variance = (e @ e) / (e.shape[0] - 4)
    return rates, gx.sqrt(gx.linalg.diagonal(gx.linalg.inv(jacobian.T @ jacobian)) * variance), turns


exact = gx.compile(follow)(RATES, START)
counts = exact * np.exp(0.05 * np.random.default_rng(1).standard_normal(exact.shape))
rates, spread, turns = gx.compile(fit)(np.array([1.0, 0.3, 0.3, 0.12]), START, counts)
print(f"{counts.size} counts, 5 % wrong; {turns} turns of Levenberg and Marquardt")
for name, true, found, s in zip(("births", "eaten", "deaths", "fed"), RATES, rates, spread):
    print(f"  {name:7} {found:.4f} ± {s:.4f}   was {true}")
assert np.abs((rates - RATES) / spread).max() < 3
assert (spread / RATES < 0.02).all()
