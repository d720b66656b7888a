"""Random bits: counter-based, so that a draw is a pure function of (key, counter) and has the same bits on every backend and thread count.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
"""
from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dims import Size
from ..core.dtype import u32, u64
from ..core.errors import GraphError
from ..core.types import TensorType, Type
from ..ir.op import Op, register
from .check import Array

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


def _bits_type(key: Type, counter: Type, *, shape: tuple[Size, ...]) -> TensorType:
    """`shape`."""
    if key != TensorType((2,), u32) or counter != TensorType((), u64):
        raise GraphError(f"random_bits needs a key u32[2] and a counter u64[], got {key} and {counter}")
    return TensorType(shape, u32)


def philox(key: Array, blocks: Array) -> Array:
    """Four words for each block number: u32[2], u64[n] -> u32[n, 4]."""
    low = np.uint64(0xFFFFFFFF)
    x0, x1 = blocks & low, blocks >> np.uint64(32)
    x2 = x3 = np.zeros_like(blocks)
    k0, k1 = (np.uint64(k) for k in key)
    for _ in range(ROUNDS):
        p, q = x0 * np.uint64(MULTIPLIERS[0]), x2 * np.uint64(MULTIPLIERS[1])
        x0, x1, x2, x3 = (q >> np.uint64(32)) ^ x1 ^ k0, q & low, (p >> np.uint64(32)) ^ x3 ^ k1, p & low
        k0, k1 = (k0 + np.uint64(WEYL[0])) & low, (k1 + np.uint64(WEYL[1])) & low
    return np.stack([x0, x1, x2, x3], -1).astype(np.uint32)


def _random_bits(key: Array, counter: Array, *, shape: tuple[int, ...]) -> Array:
    n = int(np.prod(shape, dtype=np.int64))
    blocks = np.uint64(counter) + np.arange(-(-n // 4), dtype=np.uint64)
    return philox(key, blocks).reshape(-1)[:n].reshape(shape)


def _samples(rng: np.random.Generator) -> list[Any]:
    key = rng.integers(0, 2**32, 2, dtype=np.uint32)
    return [([key, np.asarray(c, np.uint64)], {"shape": s}) for c, s in ((0, (3, 5)), (2**32 - 1, (4,)), (7, ()))]


random_bits: Op = register(Op("random_bits", "random", _bits_type, _random_bits, "zero",
                          "Independent u32 words: element i is word i % 4 of Philox block counter + i // 4 under the key", _samples))
