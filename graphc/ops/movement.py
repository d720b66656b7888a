"""Movement: each result element is one element of the operand, or a constant. No arithmetic; the planner makes most of them vanish."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..core import half
from ..core.dims import Size, product
from ..core.dtype import from_numpy
from ..core.errors import GraphError
from ..core.types import TensorType, Type
from ..ir.node import Node
from ..ir.op import Op, register
from .check import Array, axis_of, distinct_axes, draws, known, several, tensor
from .reduce import reduce_sum


def _reshape_type(t: Type, *, shape: tuple[Size, ...]) -> TensorType:
    """`shape`, of as many elements."""
    t = tensor("reshape", t)
    if product(shape) != t.size:
        raise GraphError(f"cannot reshape {t} to [{','.join(map(str, shape))}]", why=f"{t.size} elements are not {product(shape)}")
    return TensorType(shape, t.dtype)


reshape: Op = register(Op("reshape", "movement", _reshape_type, lambda x, *, shape: np.reshape(x, shape),
                      lambda g, y, x, *, shape: (reshape(g, shape=x.tensor.shape),), "The same elements in row-major order under another shape",
                      several(draws((3, 4), shape=(2, 6)), draws((3, 4), shape=(12,)), draws((), shape=(1, 1)))))


def _permute_type(t: Type, *, axes: tuple[int, ...]) -> TensorType:
    """The sizes of x in the order `axes`."""
    t = tensor("permute", t)
    if sorted(axes) != list(range(t.rank)):
        raise GraphError(f"permute of {t} needs each axis once, got {axes}")
    return TensorType(tuple(t.shape[a] for a in axes), t.dtype)


def inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes this one."""
    return tuple(axes.index(i) for i in range(len(axes)))


permute: Op = register(Op("permute", "movement", _permute_type, lambda x, *, axes: np.transpose(x, axes),
                      lambda g, y, x, *, axes: (permute(g, axes=inverse(axes)),), "Axis i of the result is axis axes[i] of x",
                      several(draws((3, 4), axes=(1, 0)), draws((2, 3, 4), axes=(2, 0, 1)))))


def _broadcast_type(t: Type, *, shape: tuple[Size, ...], axes: tuple[int, ...]) -> TensorType:
    """`shape`, which without `axes` is the shape of x."""
    t = tensor("broadcast", t)
    distinct_axes("broadcast", axes, len(shape))
    rest = tuple(n for a, n in enumerate(shape) if a not in axes)
    if rest != t.shape:
        raise GraphError(f"broadcast of {t} to [{','.join(map(str, shape))}] along {axes}: the other axes are [{','.join(map(str, rest))}]")
    return TensorType(shape, t.dtype)


broadcast: Op = register(Op("broadcast", "movement", _broadcast_type, lambda x, *, shape, axes: np.broadcast_to(np.expand_dims(x, axes), shape),
                        lambda g, y, x, *, shape, axes: (reduce_sum(g, axes=axes),), "x repeated along the axes `axes` of the result, which x lacks",
                        several(draws((3,), shape=(2, 3), axes=(0,)), draws((3,), shape=(3, 4), axes=(1,)), draws((), shape=(3, 4), axes=(0, 1)))))


def _slice_type(t: Type, *, starts: tuple[int, ...], stops: tuple[Size, ...], steps: tuple[int, ...]) -> TensorType:
    """ceil((stop - start) / step) along each axis."""
    t = tensor("slice", t)
    if not len(starts) == len(stops) == len(steps) == t.rank:
        raise GraphError(f"slice of {t} needs starts, stops and steps for {t.rank} axes")
    shape: list[Size] = []
    for n, a, b, s in zip(t.shape, starts, stops, steps):
        if b == n and a == 0 and s == 1:
            shape.append(n)
            continue
        n, b = known("slice", n), known("slice", b)
        if not (0 <= a <= b <= n and s >= 1):
            raise GraphError(f"slice {a}:{b}:{s} is not within an axis of size {n}")
        shape.append(-(-(b - a) // s))
    return TensorType(tuple(shape), t.dtype)


def _slice_vjp(g: Node, y: Node, x: Node, *, starts: tuple[int, ...], stops: tuple[Any, ...], steps: tuple[int, ...]) -> tuple[Node]:
    shape, spread = x.tensor.shape, g
    for a, s in enumerate(steps):
        if s > 1:                                                       # put s - 1 zeros behind each element, then cut the last ones off
            k = known("slice", spread.tensor.shape[a])
            spread = _dilate(spread, a, s) if k > 1 else spread
    lo = tuple(starts)
    hi = tuple(0 if n == d and a == 0 else known("slice", n) - a - known("slice", d) for n, a, d in zip(shape, starts, spread.tensor.shape))
    return (spread if not any(lo) and not any(hi) else pad(spread, lo=lo, hi=hi, value=0.0),)


def _dilate(x: Node, axis: int, step: int) -> Node:
    """step - 1 zeros between neighbours along an axis."""
    shape = x.tensor.shape
    k = known("slice", shape[axis])
    wide = reshape(x, shape=(*shape[:axis + 1], 1, *shape[axis + 1:]))
    rank = len(shape) + 1
    wide = pad(wide, lo=(0,) * rank, hi=tuple(step - 1 if a == axis + 1 else 0 for a in range(rank)), value=0.0)
    long = reshape(wide, shape=(*shape[:axis], k * step, *shape[axis + 1:]))
    stops = tuple((k - 1) * step + 1 if a == axis else n for a, n in enumerate(shape))
    return slice_(long, starts=(0,) * len(shape), stops=stops, steps=(1,) * len(shape))


slice_: Op = register(Op("slice", "movement", _slice_type, lambda x, *, starts, stops, steps: x[tuple(map(slice, starts, stops, steps))], _slice_vjp,
                     "x[start:stop:step] along every axis, steps >= 1",
                     several(draws((4, 6), starts=(1, 0), stops=(3, 6), steps=(1, 2)), draws((4, 6), starts=(1, 2), stops=(4, 6), steps=(2, 3)),
                             draws((5,), starts=(2,), stops=(2,), steps=(1,)))))


def _pad_type(t: Type, *, lo: tuple[int, ...], hi: tuple[int, ...], value: float) -> TensorType:
    """lo + n + hi along each axis."""
    t = tensor("pad", t)
    if not len(lo) == len(hi) == t.rank or min((*lo, *hi, 0)) < 0:
        raise GraphError(f"pad of {t} needs a count >= 0 before and after each of {t.rank} axes, got {lo} and {hi}")
    return TensorType(tuple(n + a + b for n, a, b in zip(t.shape, lo, hi)), t.dtype)


def _pad(x: Array, *, lo: tuple[int, ...], hi: tuple[int, ...], value: float) -> Array:
    dtype = from_numpy(x.dtype)
    fill = x.dtype.type(value) if dtype is None else half.scalar(value, dtype)
    out = np.full([a + n + b for a, n, b in zip(lo, x.shape, hi)], fill, x.dtype)
    out[tuple([slice(a, a + n) for a, n in zip(lo, x.shape)])] = x
    return out


def _pad_vjp(g: Node, y: Node, x: Node, *, lo: tuple[int, ...], hi: tuple[int, ...], value: float) -> tuple[Node]:
    stops = tuple(a + n for a, n in zip(lo, x.tensor.shape))
    return (slice_(g, starts=lo, stops=stops, steps=(1,) * len(lo)),)


pad: Op = register(Op("pad", "movement", _pad_type, _pad, _pad_vjp,
                  "x with lo elements of `value` before and hi after it along each axis",
                  several(draws((3, 4), lo=(0, 1), hi=(2, 0), value=0.0), draws((3,), lo=(1,), hi=(1,), value=-1.5))))


def _flip_type(t: Type, *, axes: tuple[int, ...]) -> TensorType:
    """The shape of x."""
    t = tensor("flip", t)
    distinct_axes("flip", axes, t.rank)
    return t


flip: Op = register(Op("flip", "movement", _flip_type,
                   lambda x, *, axes: np.flip(x, axes), lambda g, y, x, *, axes: (flip(g, axes=axes),), "x backwards along the axes",
                   several(draws((3, 4), axes=(1,)), draws((3, 4), axes=(0, 1)))))


def _concat_type(*types: Type, axis: int) -> TensorType:
    """The sizes along `axis` added up; the others are equal."""
    ts = [tensor("concat", t) for t in types]
    if not ts:
        raise GraphError("concat needs at least one tensor")
    first = ts[0]
    axis_of("concat", axis, first.rank)
    for t in ts:
        if t.dtype is not first.dtype or t.rank != first.rank or any(a != axis and n != m for a, (n, m) in enumerate(zip(t.shape, first.shape))):
            raise GraphError(f"concat along axis {axis} needs equal other axes and dtypes, got {' and '.join(map(str, ts))}")
    total: Size = 0
    for t in ts:
        total = total + t.shape[axis]
    return TensorType((*first.shape[:axis], total, *first.shape[axis + 1:]), first.dtype)


def _concat_vjp(g: Node, y: Node, *xs: Node, axis: int) -> tuple[Node, ...]:
    out, at = [], 0
    for x in xs:
        n = known("concat", x.tensor.shape[axis]) if len(xs) > 1 else x.tensor.shape[axis]
        starts = tuple(at if a == axis else 0 for a in range(x.tensor.rank))
        stops = tuple(at + n if a == axis else m for a, m in enumerate(x.tensor.shape))
        out.append(slice_(g, starts=starts, stops=stops, steps=(1,) * x.tensor.rank))
        at = at + n if isinstance(n, int) else at
    return tuple(out)


def _concat(*xs: Array, axis: int) -> Array:
    return np.concatenate(xs, axis)


concat: Op = register(Op("concat", "movement", _concat_type, _concat, _concat_vjp, "The tensors one after the other along an axis",
                     several(draws((3, 4), (2, 4), axis=0), draws((3, 2), (3, 1), (3, 3), axis=1))))
