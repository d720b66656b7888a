"""Sixty-four Markov chains in one native function.

Hamiltonian Monte Carlo draws from a density of which only the logarithm, and so its gradient, is known: here a bent one, in two dimensions. One step is a
`fori_loop` of leapfrogs, a chain a `scan` of steps, all chains a `vmap` of chains; the random numbers come from keys, so a run can be repeated to the bit.
Neal, "MCMC using Hamiltonian dynamics", 2011.
"""
from __future__ import annotations

import numpy as np

import graphc as gx

CHAINS, STEPS, LEAPS, SIZE = 64, 1500, 10, 0.15


def log_density(q):
    """a ~ normal(0, 1), b ~ normal(a², 1/2): a banana."""
    a, b = q[0], q[1]
    return -(a ** 2 + 4 * (b - a ** 2) ** 2) / 2


def leap(_, state):
    q, p = state
    p = p + SIZE / 2 * gx.grad(log_density)(q)
    q = q + SIZE * p
    return q, p + SIZE / 2 * gx.grad(log_density)(q)


def step(q, key):
    push, accept = gx.random.split(key)
    p = gx.random.normal(push, q.shape, dtype=q.dtype)
    there, p_there = gx.fori_loop(0, LEAPS, leap, (q, p))
    gain = log_density(there) - log_density(q) - (p_there @ p_there - p @ p) / 2
    taken = gx.log(gx.random.uniform(accept, (), dtype=q.dtype)) < gain
    q = gx.where(taken, there, q)
    return q, (q, taken)


def chain(key, start):
    return gx.scan(step, start, gx.random.split(key, STEPS))[1]


run = gx.compile(gx.vmap(chain))
keys, starts = gx.random.split(gx.random.key(0), CHAINS), np.zeros((CHAINS, 2))
draws, taken = run(keys, starts)

settled = draws[:, 500:]
mean, variance = settled.mean((0, 1)), settled.var((0, 1))
between = settled.mean(1).var(0, ddof=1) * settled.shape[1]
mixing = np.sqrt(1 + (between / settled.var(1, ddof=1).mean(0) - 1) / settled.shape[1])
print(f"{CHAINS} chains of {STEPS} steps, {100 * taken.mean():.0f} % of them taken; R̂ {mixing.max():.3f}")
print(f"mean     {mean[0]:6.3f} {mean[1]:6.3f}   should be 0 and 1")
print(f"variance {variance[0]:6.3f} {variance[1]:6.3f}   should be 1 and 2.25")
assert mixing.max() < 1.02                               # Gelman and Rubin: the chains agree with each other
assert np.abs(mean - [0, 1]).max() < 0.05
assert np.abs(variance - [1, 2.25]).max() < 0.25

again, _ = run(keys, starts)
assert np.array_equal(draws, again)                      # the same keys: the same bits

for b in np.linspace(4.5, -1.5, 13):                     # the banana, as the chains saw it
    near = settled[np.abs(settled[..., 1] - b) < 0.25, 0]
    print("  " + "".join(" .:-=+*#%@"[min(9, c // 30)] for c in np.histogram(near, np.linspace(-2.45, 2.45, 50))[0]).rstrip())
