"""Leaves: what a graph is given, and what it is born with."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..core import half
from ..core.dims import Size
from ..core.dtype import DType, f64, i64
from ..core.errors import GraphError
from ..core.types import TensorType
from ..ir.node import Node
from ..ir.op import Op, register
from .check import Array, axis_of


def _typed(*, shape: tuple[Size, ...], dtype: DType, **_: Any) -> TensorType:
    """`shape`."""
    return TensorType(shape, dtype)


def _given(**_: Any) -> Array:
    raise AssertionError("an input is given its value")


input_: Op = register(Op("input", "leaf", _typed, _given, None, "A value given from outside: an argument or a state.", lambda rng: []))


def _const(*, value: Array, shape: tuple[int, ...], dtype: DType) -> Array:
    return np.broadcast_to(np.asarray(value, dtype.numpy), shape)


const: Op = register(Op("const", "leaf", _typed, _const, None, "A constant; a value of rank 0 stands for every element of the shape.",
                    lambda rng: [([], {"value": np.float64(1.5), "shape": (3, 4), "dtype": f64}),
                                 ([], {"value": rng.standard_normal((3, 4)), "shape": (3, 4), "dtype": f64})]))


def splat(value: float, like: Node | TensorType) -> Node:
    """The number in every element of a tensor of that type."""
    t = like if isinstance(like, TensorType) else like.tensor
    return const(value=half.scalar(value, t.dtype), shape=t.shape, dtype=t.dtype)


def zeros(x: Node | TensorType) -> Node:
    """The cotangent 0 of a tensor: of its shape, in the type of its gradient."""
    t = x if isinstance(x, TensorType) else x.tensor
    return splat(0.0, t.cotangent)


def _iota_type(*, shape: tuple[Size, ...], dtype: DType, axis: int) -> TensorType:
    """`shape`."""
    axis_of("iota", axis, len(shape))
    if dtype.is_half:
        raise GraphError(f"iota does not count in {dtype}", why="f16 and bf16 are for storage", fix=f"dtype=gx.float32, and .astype({dtype.name!r}) of it")
    return TensorType(shape, dtype)


def _iota(*, shape: tuple[int, ...], dtype: DType, axis: int) -> Array:
    column = np.arange(shape[axis]).astype(dtype.numpy)
    return np.broadcast_to(column.reshape([-1 if a == axis else 1 for a in range(len(shape))]), shape)


iota: Op = register(Op("iota", "leaf", _iota_type, _iota, None, "The index along an axis: 0, 1, 2, ...",
                   lambda rng: [([], {"shape": (3, 4), "dtype": i64, "axis": 1})]))


def _size_type(*, dim: Size) -> TensorType:
    """No axes."""
    if isinstance(dim, int) and dim < 0:
        raise GraphError(f"a size is >= 0, got {dim}")
    return TensorType((), i64)


size: Op = register(Op("size", "leaf", _size_type, lambda *, dim: np.asarray(dim, np.int64), None, "A size as a value: the mean over N divides by it.",
                   lambda rng: [([], {"dim": 5})]))


