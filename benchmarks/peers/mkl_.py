"""MKL's sgemm, called by pointer through ctypes with arguments that are made once."""
from __future__ import annotations

import ctypes
import sys
from ctypes import c_float, c_int, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
from workloads.contraction import Contraction

from .base import Peer, Step


class MKL(Peer):
    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        (rt,) = (Path(sys.prefix) / "lib").glob("libmkl_rt.so*")
        self.sgemm = ctypes.CDLL(str(rt)).cblas_sgemm
        self.sgemm.argtypes = [c_int] * 6 + [c_float, c_void_p, c_int, c_void_p, c_int, c_float, c_void_p, c_int]
        self.sgemm.restype = None

    def contract(self, w: Contraction) -> Step:
        def product(m: int, n: int, k: int) -> Any:
            a, b = w.operands(m, n, k)
            c = np.empty((m, n), np.float32)
            ta, tb = ({"N": 111, "T": 112}[t] for t in w.transposed)
            f, args = self.sgemm, (101, ta, tb, m, n, k, 1., a.ctypes.data, a.shape[1], b.ctypes.data, b.shape[1], 0., c.ctypes.data, n)

            def call(keep: Any = (a, b)) -> Any:
                f(*args)
                return c

            return call

        return Step(product(w.m, w.n, w.k), empty=product(1, 1, 1))
