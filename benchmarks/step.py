"""One training step of an MLP, graphc beside PyTorch and JAX, in one run.

    python benchmarks/step.py                       # needs the extra `peers`
    python benchmarks/step.py --sizes 784 128 10 --batch 64 --threads 1 --json out.json

Every candidate has the same initial parameters and data, and must give the same losses over the first ten steps. They are timed in turn, one slice
each, round after round, so that a machine whose speed drifts is unfair to none; what is printed is the median over the rounds, and the ratio to
the best peer. PyTorch gets its fused optimizers, JAX one jitted step with donated parameters.
"""
from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import Run, timed


def data(sizes: list[int], batch: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    ps = []
    for i, o in pairwise(sizes):
        bound = i ** -0.5
        ps += [rng.uniform(-bound, bound, (o, i)).astype(np.float32), rng.uniform(-bound, bound, o).astype(np.float32)]
    return ps, rng.standard_normal((batch, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], batch)


def with_graphc(sizes: list[int], batch: int, optimizer: str, threads: int) -> Run:
    import graphc as gx
    from graphc import nn, optim

    ps, x, y = data(sizes, batch)
    layers: list[nn.Module] = []
    for i, o in pairwise(sizes):
        layers += [nn.Linear(i, o), nn.ReLU()]
    net, criterion = nn.Sequential(*layers[:-1]), nn.CrossEntropyLoss()
    net.load_state_dict(dict(zip(net.state_dict(), ps)))
    opt = optim.SGD(net.parameters(), lr=0.01) if optimizer == "sgd" else optim.Adam(net.parameters(), lr=1e-3)

    @gx.compile(threads=threads)
    def step(x: Any, y: Any) -> Any:
        opt.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        opt.step()
        return loss

    return lambda: step(x, y)


def with_torch(sizes: list[int], batch: int, optimizer: str, threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    ps, x, y = data(sizes, batch)
    layers: list[Any] = []
    for i, o in pairwise(sizes):
        layers += [torch.nn.Linear(i, o), torch.nn.ReLU()]
    net, criterion = torch.nn.Sequential(*layers[:-1]), torch.nn.CrossEntropyLoss()
    with torch.no_grad():
        for p, v in zip(net.parameters(), ps):
            p.copy_(torch.from_numpy(v))
    opt = torch.optim.SGD(net.parameters(), lr=0.01, fused=True) if optimizer == "sgd" else torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)

    def step() -> Any:
        opt.zero_grad()
        loss = criterion(net(tx), ty)
        loss.backward()
        opt.step()
        return loss

    return lambda: step().detach()


def with_jax(sizes: list[int], batch: int, optimizer: str, threads: int) -> Run:
    import jax
    import jax.numpy as jnp

    ps, x, y = data(sizes, batch)
    params: Any = [jnp.asarray(p) for p in ps]
    state: Any = [(jnp.zeros_like(p), jnp.zeros_like(p)) for p in params]
    count: Any = jnp.float32(0)
    jx, jy = jnp.asarray(x), jnp.asarray(y)

    def loss_fn(params: Any) -> Any:
        h = jx
        for k in range(0, len(params), 2):
            h = h @ params[k].T + params[k + 1]
            h = jax.nn.relu(h) if k + 2 < len(params) else h
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(h), jy[:, None], 1))

    def update(params: Any, state: Any, count: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_fn)(params)
        if optimizer == "sgd":
            return [p - 0.01 * g for p, g in zip(params, grads)], state, count, loss
        count = count + 1
        state = [(0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g) for (m, v), g in zip(state, grads)]
        c1, c2 = 1 - 0.9 ** count, 1 - 0.999 ** count
        params = [p - 1e-3 * (m / c1) / (jnp.sqrt(v / c2) + 1e-8) for p, (m, v) in zip(params, state)]
        return params, state, count, loss

    jitted = jax.jit(update, donate_argnums=(0, 1, 2))

    def step() -> Any:
        nonlocal params, state, count
        params, state, count, loss = jitted(params, state, count)
        return loss.block_until_ready()

    return step


CANDIDATES = {"graphc": with_graphc, "torch eager, fused": with_torch, "jax jit": with_jax}


COLD = """
import time, sys
sys.path.insert(0, {here!r})
import graphc
import step
start = time.perf_counter()
run = step.with_graphc({sizes}, {batch}, {optimizer!r}, 1)
start = time.perf_counter()
run()
print(time.perf_counter() - start)
"""


def first_call(sizes: list[int], batch: int, optimizer: str) -> tuple[float, float]:
    """Seconds of the first call in a fresh process that has imported graphc: trace, compile (LLVM's initialisation too), run. With nothing in the
    cache on disk, and with the same step there already."""
    code = COLD.format(here=str(Path(__file__).parent), sizes=sizes, batch=batch, optimizer=optimizer)
    times: list[list[float]] = [[], []]
    for _ in range(5):
        with tempfile.TemporaryDirectory() as folder:
            for kind in times:
                run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "GRAPHC_CACHE_DIR": folder})
                kind.append(float(run.stdout))
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[784, 128, 10])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--slice", type=float, default=0.05, help="seconds a candidate runs at a time")
    parser.add_argument("--peers", nargs="*", default=["torch eager, fused", "jax jit"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    record: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "sizes": args.sizes, "batch": args.batch, "threads": args.threads}
    for optimizer in ("sgd", "adam"):
        steps = {n: f(args.sizes, args.batch, optimizer, args.threads) for n, f in CANDIDATES.items() if n == "graphc" or n in args.peers}
        losses = {n: [float(s()) for _ in range(10)] for n, s in steps.items()}
        for name, values in losses.items():
            np.testing.assert_allclose(values, losses["graphc"], rtol=2e-4, err_msg=f"{name} and graphc disagree")
        times = timed(steps, args.rounds, args.slice)
        cold, warm = first_call(args.sizes, args.batch, optimizer)
        record[optimizer] = times | {"cold seconds": cold, "warm seconds": warm}
        print(f"\n{optimizer}, {'-'.join(map(str, args.sizes))}, batch {args.batch}, {args.threads} thread(s)")
        for name, us in sorted(times.items(), key=lambda kv: kv[1]):
            print(f"  {name:<20} {us:9.1f} us/step   graphc / this = {times['graphc'] / us:.2f}")
        print(f"  graphc's first call: {cold:.3f} s cold, {warm:.3f} s with the cache on disk")
    if args.json:
        args.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
