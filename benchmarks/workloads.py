"""Workloads beside the peers, in one run: graphc, PyTorch eager, JAX jit, NumPy.

    python benchmarks/workloads.py                  # all of them; needs the extra `peers`
    python benchmarks/workloads.py w7 w10 --rounds 5 --json out.json

W7   sum(tanh(a*x + b) * exp(-x*x)) and its gradients by a and b, 10⁷ floats
W8   inference of the MLP 784-128-10 at batch 1
W10  softmax of 512×1000 with its gradient; layer norm of 4096×768 with its gradients
W11  logistic regression, 10⁵×256, full batch, Adam

(W1, W2 and W3, training steps of MLPs, are `benchmarks/step.py`.) Every candidate of a workload computes the same numbers, which is checked first.
They are timed in turn, a slice each, round after round, so that a machine whose speed drifts is unfair to none; printed is the median over the
rounds and graphc's ratio to each.
"""
from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import Run, timed

Candidates = dict[str, Callable[[], Run]]               # a Run is one evaluation; its result is an array, a number, or a tuple of them

rng = np.random.default_rng(0)


def w7() -> Candidates:
    n = 10_000_000
    x = rng.standard_normal(n).astype(np.float32)
    a, b = np.float32(0.7), np.float32(0.1)

    def with_graphc() -> Run:
        import graphc as gx

        def f(a: Any, b: Any, x: Any) -> Any:
            return gx.sum(gx.tanh(a * x + b) * gx.exp(-x * x))

        step = gx.compile(gx.value_and_grad(f, argnums=(0, 1)))
        aa, bb = np.full((), a), np.full((), b)
        return lambda: step(aa, bb, x)

    def with_torch() -> Run:
        import torch

        tx = torch.from_numpy(x)

        def run() -> Any:
            ta, tb = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
            y = (torch.tanh(ta * tx + tb) * torch.exp(-tx * tx)).sum()
            y.backward()
            return y.detach(), (ta.grad, tb.grad)
        return run

    def with_jax() -> Run:
        import jax
        import jax.numpy as jnp

        jx = jnp.asarray(x)
        f = jax.jit(jax.value_and_grad(lambda a, b, x: jnp.sum(jnp.tanh(a * x + b) * jnp.exp(-x * x)), argnums=(0, 1)))
        return lambda: jax.block_until_ready(f(a, b, jx))

    def with_numpy() -> Run:
        def run() -> Any:
            t, e = np.tanh(a * x + b), np.exp(-x * x)
            g = (1 - t * t) * e
            return np.sum(t * e), (np.sum(g * x), np.sum(g))
        return run

    return {"graphc": with_graphc, "torch eager": with_torch, "jax jit": with_jax, "numpy": with_numpy}


def w8() -> Candidates:
    x = rng.standard_normal((1, 784)).astype(np.float32)
    ws = [(rng.standard_normal(s) * 0.05).astype(np.float32) for s in ((128, 784), (128,), (10, 128), (10,))]

    def with_graphc() -> Run:
        import graphc as gx
        from graphc import nn

        net = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
        net.load_state_dict(dict(zip(net.state_dict(), ws)))
        net.eval()
        f = gx.compile(lambda x: net(x))
        return lambda: f(x)

    def with_torch() -> Run:
        import torch

        w1, b1, w2, b2 = map(torch.from_numpy, ws)
        tx, linear = torch.from_numpy(x), torch.nn.functional.linear

        def run() -> Any:
            with torch.no_grad():
                return linear(torch.relu(linear(tx, w1, b1)), w2, b2)
        return run

    def with_jax() -> Run:
        import jax
        import jax.numpy as jnp

        f = jax.jit(lambda x, w1, b1, w2, b2: jnp.maximum(x @ w1.T + b1, 0) @ w2.T + b2)
        args = [jnp.asarray(v) for v in (x, *ws)]
        return lambda: f(*args).block_until_ready()

    def with_numpy() -> Run:
        w1, b1, w2, b2 = ws
        return lambda: np.maximum(x @ w1.T + b1, 0) @ w2.T + b2

    return {"graphc": with_graphc, "torch eager": with_torch, "jax jit": with_jax, "numpy": with_numpy}


def w10_softmax() -> Candidates:
    x, g = (rng.standard_normal((512, 1000)).astype(np.float32) for _ in range(2))

    def with_graphc() -> Run:
        import graphc as gx

        f = gx.compile(gx.grad(lambda x, g: gx.sum(gx.softmax(x, axis=1) * g)))
        return lambda: f(x, g)

    def with_torch() -> Run:
        import torch

        tg = torch.from_numpy(g)

        def run() -> Any:
            tx = torch.from_numpy(x).requires_grad_()
            torch.softmax(tx, 1).backward(tg)
            return tx.grad
        return run

    def with_jax() -> Run:
        import jax
        import jax.numpy as jnp

        f = jax.jit(jax.grad(lambda x, g: jnp.sum(jax.nn.softmax(x) * g)))
        jx, jg = jnp.asarray(x), jnp.asarray(g)
        return lambda: f(jx, jg).block_until_ready()

    def with_numpy() -> Run:
        def run() -> Any:
            e = np.exp(x - x.max(1, keepdims=True))
            p = e / e.sum(1, keepdims=True)
            return p * (g - (p * g).sum(1, keepdims=True))
        return run

    return {"graphc": with_graphc, "torch eager": with_torch, "jax jit": with_jax, "numpy": with_numpy}


def w10_layer_norm() -> Candidates:
    x, g = (rng.standard_normal((4096, 768)).astype(np.float32) for _ in range(2))
    w, b = rng.standard_normal(768).astype(np.float32), rng.standard_normal(768).astype(np.float32)

    def normal(m: Any, x: Any, w: Any, b: Any, keep: dict[str, Any]) -> Any:
        d = x - m.mean(x, **keep)
        return d / m.sqrt(m.mean(d * d, **keep) + 1e-5) * w + b

    def with_graphc() -> Run:
        import graphc as gx

        keep = {"axis": 1, "keepdims": True}
        f = gx.compile(gx.grad(lambda x, w, b, g: gx.sum(normal(gx, x, w, b, keep) * g), argnums=(0, 1, 2)))
        return lambda: f(x, w, b, g)

    def with_torch() -> Run:
        import torch

        tg = torch.from_numpy(g)

        def run() -> Any:
            tx, tw, tb = (torch.from_numpy(v).requires_grad_() for v in (x, w, b))
            torch.nn.functional.layer_norm(tx, (768,), tw, tb).backward(tg)
            return tx.grad, tw.grad, tb.grad
        return run

    def with_jax() -> Run:
        import jax
        import jax.numpy as jnp

        keep = {"axis": 1, "keepdims": True}
        f = jax.jit(jax.grad(lambda x, w, b, g: jnp.sum(normal(jnp, x, w, b, keep) * g), argnums=(0, 1, 2)))
        args = [jnp.asarray(v) for v in (x, w, b, g)]
        return lambda: jax.block_until_ready(f(*args))

    return {"graphc": with_graphc, "torch eager": with_torch, "jax jit": with_jax}


def w11() -> Candidates:
    n, d = 100_000, 256
    x = rng.standard_normal((n, d)).astype(np.float32)
    y = (x @ rng.standard_normal(d) > 0).astype(np.float32)

    def with_graphc() -> Run:
        import graphc as gx
        from graphc import nn, optim

        net = nn.Linear(d, 1)
        net.load_state_dict({"weight": np.zeros((1, d), np.float32), "bias": np.zeros(1, np.float32)})
        opt = optim.Adam(net.parameters(), lr=1e-3)

        @gx.compile
        def step(x: Any, y: Any) -> Any:
            opt.zero_grad()
            z = gx.reshape(net(x), (-1,))
            loss = gx.mean(nn.functional.softplus(z) - y * z)
            loss.backward()
            opt.step()
            return loss
        return lambda: step(x, y)

    def with_torch() -> Run:
        import torch

        net = torch.nn.Linear(d, 1)
        with torch.no_grad():
            net.weight.zero_()
            net.bias.zero_()
        opt = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
        tx, ty = torch.from_numpy(x), torch.from_numpy(y)

        def run() -> Any:
            opt.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(net(tx).reshape(-1), ty)
            loss.backward()
            opt.step()
            return loss.detach()
        return run

    def with_jax() -> Run:
        import jax
        import jax.numpy as jnp

        jx, jy = jnp.asarray(x), jnp.asarray(y)
        params: Any = (jnp.zeros(d), jnp.zeros(()))
        state: Any = tuple((jnp.zeros_like(p), jnp.zeros_like(p)) for p in params)
        count: Any = jnp.float32(0)

        def loss_fn(params: Any) -> Any:
            z = jx @ params[0] + params[1]
            return jnp.mean(jax.nn.softplus(z) - jy * z)

        def update(params: Any, state: Any, count: Any) -> Any:
            loss, grads = jax.value_and_grad(loss_fn)(params)
            count = count + 1
            state = tuple((0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g) for (m, v), g in zip(state, grads))
            c1, c2 = 1 - 0.9 ** count, 1 - 0.999 ** count
            params = tuple(p - 1e-3 * (m / c1) / (jnp.sqrt(v / c2) + 1e-8) for p, (m, v) in zip(params, state))
            return params, state, count, loss

        jitted = jax.jit(update, donate_argnums=(0, 1, 2))

        def run() -> Any:
            nonlocal params, state, count
            params, state, count, loss = jitted(params, state, count)
            return loss.block_until_ready()
        return run

    return {"graphc": with_graphc, "torch eager": with_torch, "jax jit": with_jax}


WORKLOADS: dict[str, Callable[[], Candidates]] = {"w7": w7, "w8": w8, "w10 softmax": w10_softmax, "w10 layer norm": w10_layer_norm, "w11": w11}


def flat(result: Any) -> list[np.ndarray]:
    return [a for r in result for a in flat(r)] if isinstance(result, tuple) else [np.asarray(result, np.float64)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)}; by prefix")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--slice", type=float, default=0.1, help="seconds a candidate runs at a time")
    parser.add_argument("--without", nargs="*", default=[], help="peers to leave out")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    if "torch eager" not in args.without:
        import torch
        torch.set_num_threads(1)
    record = {}
    for name, make in WORKLOADS.items():
        if args.workloads and not any(name.startswith(w) for w in args.workloads):
            continue
        runs = {n: f() for n, f in make().items() if n not in args.without}
        first = {n: flat(run()) for n, run in runs.items()}
        for n, arrays in first.items():
            for a, b in zip(arrays, first["graphc"], strict=True):
                error = np.linalg.norm(a.ravel() - b.ravel()) / max(np.linalg.norm(b), 1e-30)
                assert error < 1e-3, f"{name}: {n} and graphc differ by {error:.2g}"
        record[name] = times = timed(runs, args.rounds, args.slice)
        print(f"\n{name}")
        for n, us in sorted(times.items(), key=lambda kv: kv[1]):
            print(f"  {n:<14} {us:11.1f} us   graphc / this = {times['graphc'] / us:.2f}")
    if args.json:
        args.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
