"""What transforms cost, beside JAX and PyTorch where they are installed: a step of a loop, gradients example by example, Hessians by the thousand.

    taskset -c 1 python benchmarks/transforms.py [loop] [examples] [hessians]

The loop: `scan` of 1,000 steps of c ← c/2 + x and its gradient, in nanoseconds a step, the body included. The examples: an MLP 784-128-10, batch 64, f32;
`vmap(grad)` writes 64 gradients of 101,770 numbers (26 MB), the batch's gradient one. Beside them stand the operations of both, and a plain store of as many
bytes into memory that is used again and into fresh memory: per-example gradients are a matter of memory, not of arithmetic. What one wants of them seldom is:
their norms, and the step of private training (DP-SGD: each clipped to a norm, summed, noise, update) beside the plain step. Hessians: of a small function,
and of 10⁴ of them. The least processor time of many slices in turn; every result is compared with the others'. One thread: pin the process to a core.
"""
from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
from side_by_side import timed

import graphc as gx

STEPS, BATCH, SIZES, CLIP, NOISE, RATE = 1000, 64, (784, 128, 10), 1.0, 0.5, 0.05


def graphc_(**options: Any) -> SimpleNamespace:
    return SimpleNamespace(np=gx, f=gx, random=gx.random, scan=gx.scan, wait=lambda y: y, own=lambda x: x, f64=lambda: gx.zeros((), dtype="f64"),
                           compile=lambda f: gx.compile(f, **options))


def libraries() -> dict[str, SimpleNamespace]:
    """Who is there. Arguments are in each one's own arrays before the clock runs."""
    found = {"graphc": graphc_(), "graphc, fast": graphc_(fast=True)}
    try:
        import jax
    except ImportError:
        return found
    jax.config.update("jax_enable_x64", True)
    own = lambda x: jax.tree_util.tree_map(jax.numpy.asarray, x)
    f = SimpleNamespace(grad=jax.grad, vmap=jax.vmap, hessian=jax.hessian, jacfwd=jax.jacfwd, jacrev=jax.jacrev)
    found["jax"] = SimpleNamespace(np=jax.numpy, f=f, random=jax.random, scan=jax.lax.scan, wait=jax.block_until_ready, own=own,
                                   f64=lambda: jax.numpy.zeros((), "float64"), compile=jax.jit)
    return found


def leaves(tree: Any) -> list[Any]:
    return [v for item in tree for v in leaves(item)] if isinstance(tree, tuple | list) else [np.asarray(tree, np.float64)]


def same(results: dict[str, Any], rtol: float) -> None:
    """All of what the libraries gave, norm-wise."""
    flat = {name: leaves(r) for name, r in results.items()}
    first = next(iter(flat.values()))
    for name, mine in flat.items():
        for a, b in zip(first, mine, strict=True):
            assert np.linalg.norm(a - b) <= rtol * np.linalg.norm(a), name


def measured(works: dict[str, Callable[[SimpleNamespace], Any]], args: tuple[Any, ...], rtol: float = 1e-4, skip: tuple[str, ...] = (),
             also: dict[str, Callable[[], Any]] | None = None) -> dict[str, float]:
    """The least microseconds of "work, library" for all of both, in turn."""
    runs: dict[str, Callable[[], Any]] = dict(also or {})
    for work, make in works.items():
        results = {}
        for name, lib in libraries().items():
            if f"{work}, {name}" in skip:
                continue
            step, own = lib.compile(make(lib)), lib.own(args)
            runs[f"{work}, {name}"] = lambda step=step, own=own, lib=lib: lib.wait(step(*own))       # type: ignore[misc]
            results[name] = step(*own)
        same(results, rtol) if rtol else None
    return timed(runs, rounds=21, slice_seconds=0.004, of=min, clock=time.process_time)


# ---- a loop --------------------------------------------------------------------------------------------------------------------------


def loop() -> None:
    def total(lib: SimpleNamespace) -> Callable[[Any], Any]:
        return lambda xs: lib.scan(lambda c, x: (c * 0.5 + x, None), lib.f64(), xs)[0]

    works = {"scan": total, "its gradient": lambda lib: lib.f.grad(total(lib)) if lib.f is not gx else gx.grad(total(lib))}
    xs = np.random.default_rng(0).standard_normal(STEPS)
    skip = tuple(f"{w}, graphc, fast" for w in works)
    long_, short = (measured(works, (x,), 1e-12, skip) for x in (xs, xs[:1].copy()))
    for name in long_:
        print(f"{name:24} {1e3 * (long_[name] - short[name]) / (STEPS - 1):8.1f} ns a step")


# ---- gradients, example by example -------------------------------------------------------------------------------------------------------


def loss_of(lib: SimpleNamespace) -> Callable[[Any, Any, Any], Any]:
    np_ = lib.np

    def loss(params: Any, x: Any, y: Any) -> Any:
        """Of one example, or the sum over a batch; y is one-hot."""
        for k, (w, b) in enumerate(params):
            x = x @ w + b
            x = np_.maximum(x, 0.0) if k < len(params) - 1 else x
        top = np_.max(x, axis=-1, keepdims=True)
        return np_.sum(y * (top + np_.log(np_.sum(np_.exp(x - top), axis=-1, keepdims=True)) - x))
    return loss


def each_of(lib: SimpleNamespace) -> Any:
    return lib.f.vmap(lib.f.grad(loss_of(lib)), in_axes=(None, 0, 0))


def norms_of(lib: SimpleNamespace) -> Any:
    return lambda params, x, y, key: sum(lib.np.sum(g * g, axis=tuple(range(1, g.ndim))) for pair in each_of(lib)(params, x, y) for g in pair)


def clipped_of(lib: SimpleNamespace) -> Any:
    def clipped(params: Any, x: Any, y: Any, key: Any) -> Any:
        scale = lib.np.minimum(1.0, CLIP / lib.np.sqrt(norms_of(lib)(params, x, y, key)))
        return [tuple(lib.np.sum(g * scale.reshape((-1, *[1] * (g.ndim - 1))), axis=0) for g in pair) for pair in each_of(lib)(params, x, y)]
    return clipped


def plain_of(lib: SimpleNamespace) -> Any:
    def step(params: Any, x: Any, y: Any, key: Any) -> Any:
        gradient = lib.f.grad(loss_of(lib))(params, x, y)
        return [tuple(p - (RATE / BATCH) * g for p, g in zip(pair, gs)) for pair, gs in zip(params, gradient)]
    return step


def private_of(lib: SimpleNamespace, noise: float = NOISE) -> Any:
    def step(params: Any, x: Any, y: Any, key: Any) -> Any:
        gradient, keys, out = clipped_of(lib)(params, x, y, key), lib.random.split(key, 4), []
        for k, (pair, gs) in enumerate(zip(params, gradient)):
            if noise:
                gs = tuple(g + noise * CLIP * lib.random.normal(keys[2 * k + i], g.shape, "float32") for i, g in enumerate(gs))
            out.append(tuple(p - (RATE / BATCH) * g for p, g in zip(pair, gs)))
        return out
    return step


def examples() -> None:
    rng = np.random.default_rng(1)
    params = [(rng.standard_normal((i, o)).astype(np.float32) / np.float32(i ** 0.5), np.zeros(o, np.float32)) for i, o in pairwise(SIZES)]
    x, y = rng.standard_normal((BATCH, SIZES[0])).astype(np.float32), np.eye(SIZES[-1], dtype=np.float32)[rng.integers(0, SIZES[-1], BATCH)]
    key = np.asarray(gx.random.key(0))
    weights = [i * o for i, o in pairwise(SIZES)]
    size = BATCH * sum(weights)
    again = np.zeros(size, np.float32)
    works = {"the batch": lambda lib: lambda p, x, y, key: lib.f.grad(loss_of(lib))(p, x, y),
             "each example": lambda lib: lambda p, x, y, key: each_of(lib)(p, x, y),
             "their norms": norms_of, "clipped, summed": clipped_of, "plain step": plain_of, "private step, no noise": lambda lib: private_of(lib, 0.0)}
    also = {"26 MB stored again": lambda: again.fill(1.0), "26 MB stored afresh": lambda: np.full(size, 1.0, np.float32), **in_torch(params, x, y)}
    times = measured(works, (params, x, y, key), also=also)
    times |= measured({"private step": private_of}, (params, x, y, key), rtol=0.0)      # each library has numbers of its own
    forward, outer, back = 2 * BATCH * sum(weights), BATCH * sum(weights), 2 * BATCH * sum(weights[1:])     # an outer product has no sums
    print(f"operations of each example over those of the batch: {(forward + outer + back) / (2 * forward + back):.2f}")
    for name, us in times.items():
        base = times["plain step, graphc" if "step" in name else "the batch, graphc"]
        print(f"{name:40} {us:8.0f} us  {us / base:6.2f} of graphc's {'plain step' if 'step' in name else 'batch'}")


def in_torch(params: Any, x: Any, y: Any) -> dict[str, Callable[[], Any]]:
    """torch.func, eager."""
    try:
        import torch
    except ImportError:
        return {}
    torch.set_num_threads(1)
    lib = SimpleNamespace(np=torch, f=torch.func)
    own = [tuple(map(torch.tensor, pair)) for pair in params]

    def loss(params: Any, x: Any, y: Any) -> Any:
        for k, (w, b) in enumerate(params):
            x = x @ w + b
            x = torch.relu(x) if k < len(params) - 1 else x
        return -torch.sum(torch.log_softmax(x, -1) * y)

    whole, each = lib.f.grad(loss), lib.f.vmap(lib.f.grad(loss), in_dims=(None, 0, 0))
    tx, ty = torch.tensor(x), torch.tensor(y)
    norms = lambda: sum(g.square().flatten(1).sum(1) for pair in each(own, tx, ty) for g in pair)
    return {"the batch, torch.func": lambda: whole(own, tx, ty), "each example, torch.func": lambda: each(own, tx, ty), "their norms, torch.func": norms}


# ---- Hessians ----------------------------------------------------------------------------------------------------------------------------


def rosenbrock(lib: SimpleNamespace) -> Callable[[Any], Any]:
    return lambda x: lib.np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2) + lib.np.sum(lib.np.sin(x) * lib.np.exp(-x * x))


def hessians() -> None:
    works = {"hessian": lambda lib: lib.f.hessian(rosenbrock(lib)), "jacfwd(jacrev)": lambda lib: lib.f.jacfwd(lib.f.jacrev(rosenbrock(lib))),
             "jacrev(jacrev)": lambda lib: lib.f.jacrev(lib.f.jacrev(rosenbrock(lib)))}
    many = {f"{POINTS} × {w}": lambda lib, make=make: lib.f.vmap(make(lib)) for w, make in works.items()}
    rng = np.random.default_rng(0)
    for n in (2, 8):
        print(f"of {n} variables")
        for some, shape in ((works, (n,)), (many, (POINTS, n))):
            times = measured(some, (rng.standard_normal(shape),), 1e-10, tuple(f"{w}, graphc, fast" for w in some))
            for w in some:
                row = {name: us for name, us in times.items() if name.startswith(w + ",")}
                mine = row[f"{w}, graphc"]
                print(f"{w:24}", "   ".join(f"{name.rpartition(', ')[2]} {us:8.1f} us" for name, us in row.items()),
                      "" if len(row) < 2 else f"   ratio {mine / row[f'{w}, jax']:.2f}")


POINTS = 10_000

if __name__ == "__main__":
    for chosen in sys.argv[1:] or ("loop", "examples", "hessians"):
        {"loop": loop, "examples": examples, "hessians": hessians}[chosen]()
