"""What it costs to leave a step for a function of Python's that gives back its argument, beside JAX where it is installed.

    taskset -c 1 python benchmarks/callbacks.py

8 elements and 10⁶; alone, and 100 times in a scan. Beside it stands the same function called by Python, and the step without it. In microseconds a call of the
function, the least of many calls in turn; every result is compared.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from side_by_side import timed

import graphc as gx

TURNS, ROUNDS, SLICE = 100, 20, 0.02


def same(a: Any) -> Any:
    return a


def works(xp: Any, pure_callback: Any, scan: Any, ones: Callable[[int], Any]) -> dict[str, tuple[Callable[[Any], Any], Any, int]]:
    """Function, argument, and how often it leaves the step."""
    def once(x: Any) -> Any:
        return pure_callback(same, x, x + 1)

    def often(x: Any) -> Any:
        return scan(lambda c, _: (pure_callback(same, c, c + 1), None), x, None, length=TURNS)[0]

    return {"8 elements": (once, ones(8), 1), "10⁶ elements": (once, ones(10 ** 6), 1), "8 elements, in a scan": (often, ones(8), TURNS)}


def main() -> None:
    def array(n: int) -> Any:
        return np.ones(n, np.float32)

    tried = {"graphc": {name: (gx.compile(f), x, k) for name, (f, x, k) in works(gx, gx.pure_callback, gx.scan, array).items()},
             "graphc, without it": {name: (gx.compile(f), x, k) for name, (f, x, k) in works(gx, lambda f, like, x: x, gx.scan, array).items()}}
    wait: Callable[[Any], Any] = lambda y: y
    try:
        import jax
    except ImportError:
        pass
    else:
        wait = jax.block_until_ready
        tried["jax"] = {name: (jax.jit(f), x, k) for name, (f, x, k) in
                        works(jax.numpy, jax.pure_callback, jax.lax.scan, lambda n: jax.numpy.ones(n, "float32")).items()}
    for name in next(iter(tried.values())):
        runs, counts = {}, {}
        for who, found in tried.items():
            f, x, k = found[name]
            np.testing.assert_array_equal(np.asarray(f(x)), np.asarray(x) + k)
            runs[who], counts[who] = (lambda f=f, x=x: wait(f(x))), k
        for who, time in timed(runs, ROUNDS, SLICE, min).items():
            print(f"{name:<24}{who:<22}{time / counts[who]:>10.2f} µs")


if __name__ == "__main__":
    main()
