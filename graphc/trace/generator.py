"""Random numbers: a counter-based generator whose key and counter are states, so that a compiled step draws new numbers at every call.

The bits are Philox's (`ops.random`) and the same on every backend; floats are made of them by exact scalings, normals by Box-Muller.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.dims import Dim, Size, product
from ..core.dtype import DType, as_dtype, f32, f64, u64
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..ops import elementwise, leaf, movement
from ..ops import random as random_ops
from .apply import apply
from .broadcast import as_shape, binary, cast
from .storage import Storage
from .tape import no_grad
from .tensor import Tensor

Bits = Callable[[tuple[Size, ...]], Tensor]             # u32 words of a shape


class Generator:
    """A stream of random numbers: a key (of the seed) and a counter of the blocks of four words drawn so far."""

    def __init__(self, seed: int = 0) -> None:
        self.key = Tensor.from_storage(Storage(words_of(seed), "random.key"))
        self.counter = Tensor.from_storage(Storage(np.zeros((), np.uint64), "random.counter"))

    def manual_seed(self, seed: int) -> Generator:
        """Start again from a seed."""
        with no_grad():
            self.key.copy_(words_of(seed))
            self.counter.copy_(np.zeros((), np.uint64))
        return self

    def bits(self, shape: Any) -> Tensor:
        """Independent uniform u32 words; the counter goes on."""
        shape = as_shape(shape)
        with no_grad():
            out = draw(self.key, self.counter, shape)
            self.counter.copy_(binary(elementwise.add, "add", self.counter, _blocks(product(shape))))
        return out

    def uniform(self, shape: Any, dtype: Any = f32) -> Tensor:
        """In [0, 1): multiples of 2**-24 in f32, of 2**-53 in f64."""
        return uniform(self.bits, as_shape(shape), dtype)

    def normal(self, shape: Any, dtype: Any = f32) -> Tensor:
        """Mean 0, variance 1: `normal`."""
        return normal(self.bits, as_shape(shape), dtype)


def draw(key: Tensor, counter: Tensor, shape: tuple[Size, ...]) -> Tensor:
    """Independent uniform u32 words of a key, from a block of four on."""
    return apply(random_ops.random_bits, key, counter, shape=shape)


def uniform(bits: Bits, shape: tuple[Size, ...], dtype: Any = f32) -> Tensor:
    """In [0, 1): multiples of 2**-24 in f32, of 2**-53 in f64, which takes two words a number. Exact, so the same on every backend."""
    if floating(dtype) is f64:
        words = bits((2, *shape))
        high, low = (cast(binary(elementwise.shr, "shr", row(words, i), s), f64) for i, s in ((0, 5), (1, 6)))
        return (high * 2.0**26 + low) * 2.0**-53
    return cast(binary(elementwise.shr, "shr", bits(shape), 8), f32) * 2.0**-24


def normal(bits: Bits, shape: tuple[Size, ...], dtype: Any = f32) -> Tensor:
    """Mean 0, variance 1. Two uniforms a number: sqrt(-2 log(1 - u)) cos(2 pi v). (Box and Muller, 1958.)"""
    pair = uniform(bits, (2, *shape), dtype)
    with no_grad():
        radius = apply(elementwise.sqrt, -2.0 * apply(elementwise.log, 1.0 - row(pair, 0)))
        return radius * apply(elementwise.cos, (2.0 * math.pi) * row(pair, 1))


def words_of(seed: int) -> np.ndarray[Any, Any]:
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool):
        raise GraphError(f"a seed is an int, got {seed!r}", at=user_loc())
    seed = int(seed) % 2**64
    return np.array([seed % 2**32, seed >> 32], np.uint32)


def floating(dtype: Any) -> DType:
    dtype = as_dtype(dtype)
    if dtype.is_half:
        raise GraphError(f"random numbers are not drawn in {dtype}", at=user_loc(), why="f16 and bf16 are for storage",
                         fix=f"gx.randn(...).astype({dtype.name!r})")
    if not dtype.is_float:
        raise GraphError(f"random numbers of dtype {dtype} are not continuous", at=user_loc(), fix="dtype=gx.float32")
    return dtype


def _blocks(words: Size) -> Any:
    """ceil(words / 4), as a number or, where the size is symbolic, as a u64 Tensor."""
    if isinstance(words, Dim):
        n = cast(apply(leaf.size, dim=words), u64)
        return binary(elementwise.shr, "shr", binary(elementwise.add, "add", n, 3), 2)
    return -(-words // 4)


def row(x: Tensor, i: int) -> Tensor:
    """x[i]."""
    rest = x.shape[1:]
    cut = apply(movement.slice_, x, starts=(i, *(0 for _ in rest)), stops=(i + 1, *rest), steps=(1,) * x.ndim)
    return apply(movement.reshape, cut, shape=rest)


_default: list[Generator] = []


def default_generator() -> Generator:
    """The one that gx.randn, nn.init and Dropout draw from; its seed is 0 until `manual_seed` says otherwise."""
    if not _default:
        _default.append(Generator(0))
    return _default[0]


def manual_seed(seed: int) -> Generator:
    """Seed the default generator: everything random that follows is reproducible."""
    return default_generator().manual_seed(seed)
