"""A step compiled once for every batch size, beside steps compiled for one: how much slower it is, in one run.

    python benchmarks/symbolic.py
    python benchmarks/symbolic.py --works sgd adam inference --batches 1 7 63 64 65 1000 1023 1024 --threads 1

An MLP 784-128-10 (`--sizes`), trained with cross-entropy or asked for logits. Both steps start from the same parameters and must have the same results,
bit for bit, over the first three calls. They are timed in turn; what is printed is the median over the rounds in microseconds, and the ratio. Also: the
milliseconds that the one takes to compile (once, for all sizes) and the other (for each).
"""
from __future__ import annotations

import argparse
from itertools import pairwise
from typing import Any

import numpy as np
from side_by_side import timed


class Step:
    """A step of one work, and what it changes."""

    def __init__(self, work: str, sizes: list[int], threads: int) -> None:
        import graphc as gx
        from graphc import nn, optim

        gx.manual_seed(0)
        layers: list[nn.Module] = []
        for i, o in pairwise(sizes):
            layers += [nn.Linear(i, o), nn.ReLU()]
        net, criterion = nn.Sequential(*layers[:-1]), nn.CrossEntropyLoss()
        opt = optim.SGD(net.parameters(), lr=0.01) if work == "sgd" else optim.Adam(net.parameters(), lr=1e-3)
        self.net, self.opt = net, opt
        self.start = net.state_dict(), opt.state_dict()

        def train(x: Any, y: Any) -> Any:
            opt.zero_grad()
            loss = criterion(net(x), y)
            loss.backward()
            opt.step()
            return loss

        self.run = gx.compile(net.__call__ if work == "inference" else train, threads=threads, cache=False)

    def three(self, args: list[Any]) -> list[bytes]:
        """The results of the first calls."""
        self.net.load_state_dict(self.start[0])
        self.opt.load_state_dict(self.start[1])
        return [np.asarray(self.run(*args)).tobytes() for _ in range(3)]

    def milliseconds(self) -> float:
        return sum(self.run.lowered.report.stages.values()) * 1e3


def main() -> None:
    import graphc as gx

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sizes", type=int, nargs="+", default=[784, 128, 10])
    p.add_argument("--batches", type=int, nargs="+", default=[1, 7, 63, 64, 65, 1000, 1023, 1024])
    p.add_argument("--works", nargs="+", default=["sgd", "adam", "inference"], choices=["sgd", "adam", "inference"])
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--rounds", type=int, default=21)
    a = p.parse_args()
    rng = np.random.default_rng(0)
    for work in a.works:
        every = Step(work, a.sizes, a.threads)
        specs = [gx.Spec(("N", a.sizes[0])), gx.Spec(("N",), gx.int64)]
        every.run.lower(*specs[:1 if work == "inference" else 2]).compile()
        print(f"{work:<10}{'batch':>6}{'symbolic us':>13}{'static us':>12}{'ratio':>8}{'compile ms':>13}{'(static)':>10}")
        for batch in a.batches:
            args = [rng.standard_normal((batch, a.sizes[0])).astype(np.float32), rng.integers(0, a.sizes[-1], batch)][:1 if work == "inference" else 2]
            one = Step(work, a.sizes, a.threads)
            assert every.three(args) == one.three(args), "the results differ"
            times = timed({"every": lambda every=every, args=args: every.run(*args), "one": lambda one=one, args=args: one.run(*args)}, a.rounds, 0.02)
            us, one_us = times["every"], times["one"]
            print(f"{'':<10}{batch:>6}{us:>13.1f}{one_us:>12.1f}{us / one_us:>8.3f}{every.milliseconds():>13.0f}{one.milliseconds():>10.0f}", flush=True)


if __name__ == "__main__":
    main()
