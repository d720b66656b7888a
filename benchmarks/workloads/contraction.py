"""One product of matrices, C = A @ B, where either operand may be stored transposed. A library of it is called by pointer, with no framework between."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .base import Array, Workload

SQUARES = (64, 128, 256, 512, 1024)
OF_W1 = {"fc1": (64, 128, 784), "fc1 dW": (128, 784, 64), "fc2": (64, 10, 128), "fc2 dX": (64, 128, 10), "fc2 dW": (10, 128, 64)}      # M, N, K


@dataclass(frozen=True)
class Contraction(Workload):
    m: int = 0
    n: int = 0
    k: int = 0
    transposed: str = "NN"
    kind = "contract"

    def operands(self, m: int, n: int, k: int) -> tuple[Array, Array]:
        rng = np.random.default_rng(0)
        return (rng.random((m, k) if self.transposed[0] == "N" else (k, m), np.float32) - .5,
                rng.random((k, n) if self.transposed[1] == "N" else (n, k), np.float32) - .5)

    def reference(self) -> list[Array]:
        a, b = (x.astype(np.float64) for x in self.operands(self.m, self.n, self.k))
        return [(a if self.transposed[0] == "N" else a.T) @ (b if self.transposed[1] == "N" else b.T)]

    @property
    def flops(self) -> float:  # type: ignore[override]
        return 2. * self.m * self.n * self.k

    @property
    def bytes(self) -> float:  # type: ignore[override]
        return 4. * (self.m * self.k + self.k * self.n + self.m * self.n)


def every() -> list[Contraction]:
    shapes = {f"{s}": (s, s, s) for s in SQUARES} | OF_W1
    return [Contraction(f"C {name} {t}", f"contraction {name} {t}, {m}×{k} by {k}×{n}", {}, {"mkl": 1 / .95}, m, n, k, t)
            for name, (m, n, k) in shapes.items() for t in ("NN", "NT", "TN")]
