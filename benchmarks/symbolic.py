"""A step compiled once for every batch size, beside steps compiled for one: how much slower it is, in one run.

    python benchmarks/symbolic.py
    python benchmarks/symbolic.py --sizes 784 128 10 --batches 1 3 32 64 100 1024 --optimizers sgd adam --threads 1

Both start from the same parameters and must have the same losses, bit for bit, over the first three steps. They are timed in turn; what is printed
is the median over the rounds in microseconds, and the ratio. Also: how long the one takes to compile (for all sizes) and the other (for one).
"""
from __future__ import annotations

import argparse
from itertools import pairwise
from typing import Any

import numpy as np
from side_by_side import timed


def data(sizes: list[int], batch: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    ps = []
    for i, o in pairwise(sizes):
        bound = i ** -0.5
        ps += [rng.uniform(-bound, bound, (o, i)).astype(np.float32), rng.uniform(-bound, bound, o).astype(np.float32)]
    return ps, rng.standard_normal((batch, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], batch)


def step_of(sizes: list[int], optimizer: str, threads: int) -> Any:
    import graphc as gx
    from graphc import nn, optim

    layers: list[nn.Module] = []
    for i, o in pairwise(sizes):
        layers += [nn.Linear(i, o), nn.ReLU()]
    net, criterion = nn.Sequential(*layers[:-1]), nn.CrossEntropyLoss()
    net.load_state_dict(dict(zip(net.state_dict(), data(sizes, 1)[0])))
    opt = optim.SGD(net.parameters(), lr=0.01) if optimizer == "sgd" else optim.Adam(net.parameters(), lr=1e-3)

    @gx.compile(threads=threads, cache=False)
    def step(x: Any, y: Any) -> Any:
        opt.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        opt.step()
        return loss

    return step


def main() -> None:
    import graphc as gx

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sizes", type=int, nargs="+", default=[784, 128, 10])
    p.add_argument("--batches", type=int, nargs="+", default=[64, 1024])
    p.add_argument("--optimizers", nargs="+", default=["sgd", "adam"], choices=["sgd", "adam"])
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--rounds", type=int, default=41)
    a = p.parse_args()
    print(f"{'optimizer':<10}{'batch':>6}{'symbolic us':>13}{'static us':>12}{'ratio':>8}{'compile ms':>13}{'(static)':>10}")
    for optimizer in a.optimizers:
        for batch in a.batches:
            _, x, y = data(a.sizes, batch)
            every, one = step_of(a.sizes, optimizer, a.threads), step_of(a.sizes, optimizer, a.threads)
            every.lower(gx.Spec(("N", a.sizes[0])), gx.Spec(("N",), gx.int64)).compile()
            losses = [[np.asarray(step(x, y)).tobytes() for _ in range(3)] for step in (every, one)]
            assert losses[0] == losses[1], "the losses differ"
            times = timed({"every": lambda every=every, x=x, y=y: every(x, y), "one": lambda one=one, x=x, y=y: one(x, y)}, a.rounds, 0.02)
            made = [sum(s.lowered.report.stages.values()) * 1e3 for s in (every, one)]
            us, one_us = times["every"], times["one"]
            print(f"{optimizer:<10}{batch:>6}{us:>13.1f}{one_us:>12.1f}{us / one_us:>8.3f}{made[0]:>13.0f}{made[1]:>10.0f}", flush=True)


if __name__ == "__main__":
    main()
