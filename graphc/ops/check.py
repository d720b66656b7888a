"""What the type rules of every family share."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.dims import Dim, Size
from ..core.dtype import DType, f64
from ..core.errors import GraphError
from ..core.types import TensorType, Type
from ..ir.op import Sample

Array = np.ndarray[Any, Any]


def tensor(name: str, t: Type) -> TensorType:
    """The type, if it is a tensor's."""
    if not isinstance(t, TensorType):
        raise GraphError(f"{name} takes tensors, got a {t}")
    return t


def same(name: str, *types: Type) -> TensorType:
    """The one type that all of them have."""
    first, *rest = (tensor(name, t) for t in types)
    for t in rest:
        if t != first:
            raise GraphError(f"{name} needs equal types, got {' and '.join(map(str, types))}",
                             why="the graph itself neither broadcasts nor promotes", fix="broadcast and cast first, as Tensor's operators do")
    return first


def computed(name: str, t: TensorType) -> TensorType:
    """The type, if it is one of arithmetic: f16 and bf16 are stored and moved."""
    if t.dtype.is_half:
        raise GraphError(f"{name} does not compute in {t.dtype}, got {t}", why="f16 and bf16 are for storage: they are moved, and cast to be computed with",
                         fix=".astype(gx.float32) first")
    return t


def floating(name: str, t: TensorType) -> TensorType:
    computed(name, t)
    if not t.dtype.is_float:
        raise GraphError(f"{name} is for floating types, got {t}", fix=".astype(gx.float32) first")
    return t


def axis_of(name: str, axis: int, rank: int) -> int:
    if not 0 <= axis < rank:
        raise GraphError(f"{name}: axis {axis} is not in 0..{rank - 1}")
    return axis


def distinct_axes(name: str, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    for a in axes:
        axis_of(name, a, rank)
    if len(set(axes)) != len(axes):
        raise GraphError(f"{name}: axes {tuple(axes)} repeat")
    return tuple(axes)


def known(name: str, n: Size) -> int:
    """A size that this op must know as a number."""
    if isinstance(n, Dim):
        raise GraphError(f"{name} needs a size that is a number, got the symbolic {n}", fix="compile for a fixed size")
    return n


def draws(*shapes: tuple[int, ...], low: float = -2.0, high: float = 2.0, dtype: DType = f64, **attrs: Any) -> Any:
    """A sampler of one example: uniform arrays of these shapes, and the attributes."""
    def samples(rng: np.random.Generator) -> Sequence[Sample]:
        return [([rng.uniform(low, high, s).astype(dtype.numpy) for s in shapes], attrs)]
    return samples


def several(*samplers: Any) -> Any:
    """The examples of several samplers."""
    return lambda rng: [s for f in samplers for s in f(rng)]
