"""Windows: x seen as (..., positions, ..., offsets within a window), and the adjoint, which adds up what overlaps.

A window computes nothing and is never in memory: a convolution is a contraction over its offsets, a pooling a reduction over them. Padding is
`pad`, before.
"""
from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ..core.dims import Size
from ..core.errors import GraphError
from ..core.types import TensorType, Type
from ..ir.op import Op, register
from .check import Array, computed, distinct_axes, draws, known, several, tensor

Ints = tuple[int, ...]


def _fits(name: str, rank: int, axes: Ints, *counts: Ints) -> None:
    distinct_axes(name, axes, rank)
    if any(len(c) != len(axes) for c in counts) or min((1, *itertools.chain(*counts))) < 1:
        raise GraphError(f"{name} along {axes} needs for each axis a size, a stride and a dilation >= 1, got {' and '.join(map(str, counts))}")


def positions(n: int, size: int, stride: int, dilation: int) -> int:
    """How many windows of `size` elements, `dilation` apart, begin in 0:n at multiples of `stride`."""
    return (n - (size - 1) * dilation - 1) // stride + 1


def _window_type(t: Type, *, axes: Ints, sizes: Ints, strides: Ints, dilations: Ints) -> TensorType:
    """The shape of x with (n - (size - 1) * dilation - 1) // stride + 1 in place of each windowed n, then the window sizes."""
    t = tensor("window", t)
    _fits("window", t.rank, axes, sizes, strides, dilations)
    shape: list[Size] = list(t.shape)
    for a, k, s, d in zip(axes, sizes, strides, dilations):
        n = known("window", t.shape[a])
        if n < (k - 1) * d + 1:
            raise GraphError(f"a window of {k}{f' elements, {d} apart,' if d > 1 else ''} does not fit axis {a} of {t}", fix="pad first")
        shape[a] = positions(n, k, s, d)
    return TensorType((*shape, *sizes), t.dtype)


def _window(x: Array, *, axes: Ints, sizes: Ints, strides: Ints, dilations: Ints) -> Array:
    """Every span as a view, then every stride-th of them and every dilation-th element."""
    if not axes:
        return x
    spans = [(k - 1) * d + 1 for k, d in zip(sizes, dilations)]
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axes)
    steps = [strides[axes.index(a)] if a in axes else 1 for a in range(x.ndim)] + list(dilations)
    return np.asarray(view[tuple(slice(None, None, s) for s in steps)])


def _fold_type(t: Type, *, lengths: Sequence[Size], axes: Ints, strides: Ints, dilations: Ints) -> TensorType:
    """The shape that a window was taken of: the last axes go, and `lengths` stand in place of the positions."""
    t = computed("fold", tensor("fold", t))
    if t.dtype.kind == "bool":
        raise GraphError(f"fold is for numbers, got {t}", fix=".astype(...) first")
    rank = t.rank - len(axes)
    sizes = tuple(known("fold", k) for k in t.shape[rank:])
    _fits("fold", rank, axes, sizes, strides, dilations)
    shape: list[Size] = list(t.shape[:rank])
    if len(lengths) != len(axes):
        raise GraphError(f"fold along {axes} needs as many lengths, got {tuple(lengths)}")
    for a, n, k, s, d in zip(axes, lengths, sizes, strides, dilations):
        n = known("fold", n)
        if n < (k - 1) * d + 1 or t.shape[a] != positions(n, k, s, d):
            raise GraphError(f"fold of {t}: an axis of {n} has not {t.shape[a]} windows of {k}, stride {s}, dilation {d}")
        shape[a] = n
    return TensorType(tuple(shape), t.dtype)


def _fold(x: Array, *, lengths: Ints, axes: Ints, strides: Ints, dilations: Ints) -> Array:
    """Each offset's slice added to where it came from, offsets in order."""
    rank = x.ndim - len(axes)
    shape = list(x.shape[:rank])
    for a, n in zip(axes, lengths):
        shape[a] = n
    out = np.zeros(shape, x.dtype)
    every = (slice(None),) * rank
    for at in np.ndindex(*x.shape[rank:]):
        place = list(every)
        for a, w, s, d in zip(axes, at, strides, dilations):
            place[a] = slice(w * d, w * d + (x.shape[a] - 1) * s + 1, s)
        out[tuple(place)] += x[every + at]
    return out


window: Op = register(Op("window", "movement", _window_type, _window,
                     lambda g, y, x, *, axes, sizes, strides, dilations:
                         (fold(g, lengths=tuple(x.tensor.shape[a] for a in axes), axes=axes, strides=strides, dilations=dilations),),
                     "Element (..., p, ..., w) is x[..., p * stride + w * dilation, ...]: the windows along some axes, their offsets last",
                     several(draws((2, 7), axes=(1,), sizes=(3,), strides=(1,), dilations=(1,)),
                             draws((8, 9), axes=(0, 1), sizes=(2, 3), strides=(2, 3), dilations=(3, 1)),
                             draws((6, 2, 5), axes=(2, 0), sizes=(2, 4), strides=(2, 1), dilations=(1, 1)),
                             draws((3,), axes=(0,), sizes=(3,), strides=(2,), dilations=(1,)))))

fold: Op = register(Op("fold", "reduce", _fold_type, _fold,
                   lambda g, y, x, *, lengths, axes, strides, dilations:
                       (window(g, axes=axes, sizes=tuple(x.tensor.shape[x.tensor.rank - len(axes):]), strides=strides, dilations=dilations),),
                   "Element (..., j, ...) is the sum of x[..., p, ..., w] over p * stride + w * dilation = j: windows put back, overlaps added",
                   several(draws((2, 5, 3), lengths=(7,), axes=(1,), strides=(1,), dilations=(1,)),
                           draws((3, 3, 2, 3), lengths=(8, 9), axes=(0, 1), strides=(2, 3), dilations=(3, 1)),
                           draws((3, 2, 2, 2, 4), lengths=(5, 6), axes=(2, 0), strides=(2, 1), dilations=(1, 1)))))
