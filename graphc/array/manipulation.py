"""Functions that move elements and compute nothing. Most of them vanish when the graph is lowered."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.dims import Dim, Size, product
from ..core.dtype import bool_
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..ops import movement as ops
from ..ops import window as window_ops
from ..ops.index import take
from ..trace.apply import apply
from ..trace.broadcast import as_shape, as_size, as_tensor, axis_index, axis_tuple, broadcast_shapes, cast, from_array, result_dtype
from ..trace.broadcast import broadcast_to as _broadcast_to
from ..trace.tape import current
from ..trace.tensor import Tensor


def reshape(x: Any, /, shape: Any, *, copy: bool | None = None) -> Tensor:
    """The same elements in row-major order under another shape; one size may be -1, the rest decides it."""
    x = as_tensor(x)
    sizes = [as_size(n) for n in (shape if isinstance(shape, (tuple, list)) else (shape,))]
    unknown = [k for k, n in enumerate(sizes) if isinstance(n, int) and n == -1]
    if len(unknown) > 1 or any(isinstance(n, int) and n < -1 for n in sizes):
        raise GraphError(f"cannot reshape {x.type} to {tuple(sizes)}", op="reshape", at=user_loc(), why="at most one size may be -1, and none less")
    if unknown:
        rest = product([n for n in sizes if not (isinstance(n, int) and n == -1)])
        sizes[unknown[0]] = _quotient(x, x.size, rest, sizes)
    return apply(ops.reshape, x, shape=tuple(sizes))


def _quotient(x: Tensor, total: Size, rest: Size, sizes: list[Size]) -> Size:
    if isinstance(total, int) and isinstance(rest, int):
        if rest == 0 or total % rest:
            raise GraphError(f"cannot reshape {x.type} to {tuple(sizes)}", op="reshape", at=user_loc(), why=f"{total} elements are no multiple of {rest}")
        return total // rest
    return total // rest if isinstance(total, Dim) else total if rest == 1 else _no_quotient(x, sizes)


def _no_quotient(x: Tensor, sizes: list[Size]) -> Size:
    raise GraphError(f"cannot reshape {x.type} to {tuple(sizes)}", op="reshape", at=user_loc(), why="the symbolic sizes do not divide")


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The axes from start_dim to end_dim as one: flatten(x, 1) keeps the batch."""
    x = as_tensor(x)
    if x.ndim == 0:
        return reshape(x, (1,))
    a, b = axis_index("flatten", start_dim, x.ndim), axis_index("flatten", end_dim, x.ndim)
    if a > b:
        raise GraphError(f"flatten: start_dim {start_dim} is behind end_dim {end_dim}", at=user_loc())
    return reshape(x, (*x.shape[:a], product(x.shape[a:b + 1]), *x.shape[b + 1:]))


def permute_dims(x: Any, /, axes: Sequence[int]) -> Tensor:
    """Axis i of the result is axis axes[i] of x."""
    x = as_tensor(x)
    order = tuple(axis_index("permute_dims", a, x.ndim) for a in axes)
    if sorted(order) != list(range(x.ndim)):
        raise GraphError(f"permute_dims of {x.type} needs each axis once, got {tuple(axes)}", at=user_loc())
    return x if order == tuple(range(x.ndim)) else apply(ops.permute, x, axes=order)


def transpose(x: Any, *axes: Any) -> Tensor:
    """All axes reversed; transpose(x, 0, 1) exchanges two (torch), transpose(x, (1, 0)) permutes them all (NumPy)."""
    x = as_tensor(x)
    if not axes:
        return permute_dims(x, tuple(reversed(range(x.ndim))))
    if len(axes) == 1 and isinstance(axes[0], (tuple, list)):
        return permute_dims(x, axes[0])
    return swapaxes(x, *axes)


def matrix_transpose(x: Any, /) -> Tensor:
    """The last two axes exchanged."""
    return swapaxes(x, -1, -2)


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged."""
    x = as_tensor(x)
    order = list(range(x.ndim))
    a, b = axis_index("swapaxes", axis1, x.ndim), axis_index("swapaxes", axis2, x.ndim)
    order[a], order[b] = b, a
    return permute_dims(x, order)


def moveaxis(x: Any, source: Any, destination: Any, /) -> Tensor:
    """Axes moved to other places; the rest keep their order."""
    x = as_tensor(x)
    src = [axis_index("moveaxis", a, x.ndim) for a in (source if isinstance(source, (tuple, list)) else (source,))]
    dst = [axis_index("moveaxis", a, x.ndim) for a in (destination if isinstance(destination, (tuple, list)) else (destination,))]
    if len(src) != len(dst) or len(set(src)) != len(src) or len(set(dst)) != len(dst):
        raise GraphError(f"moveaxis of axes {source!r} of {x.type} to {destination!r}", op="moveaxis", at=user_loc(), why="each goes to a place of its own")
    order = [a for a in range(x.ndim) if a not in src]
    for d, s in sorted(zip(dst, src, strict=True)):
        order.insert(d, s)
    return permute_dims(x, order)


def squeeze(x: Any, /, axis: Any = None) -> Tensor:
    """Without axes of size 1: those named, or all of them."""
    x = as_tensor(x)
    if axis is None:
        axes = tuple(a for a, n in enumerate(x.shape) if n == 1)
    else:
        axes = axis_tuple("squeeze", axis, x.ndim)
        for a in axes:
            if x.shape[a] != 1:
                raise GraphError(f"squeeze: axis {a} of {x.type} has size {x.shape[a]}, not 1", at=user_loc())
    return reshape(x, tuple(n for a, n in enumerate(x.shape) if a not in axes))


def expand_dims(x: Any, /, axis: Any = 0) -> Tensor:
    """A new axis of size 1 (or several) at that place of the result."""
    x = as_tensor(x)
    places = axis if isinstance(axis, (tuple, list)) else (axis,)
    rank = x.ndim + len(places)
    axes = axis_tuple("expand_dims", tuple(places), rank)
    sizes = iter(x.shape)
    return reshape(x, tuple(1 if a in axes else next(sizes) for a in range(rank)))


unsqueeze = expand_dims


def broadcast_to(x: Any, /, shape: Any) -> Tensor:
    """x repeated to a shape."""
    return _broadcast_to(as_tensor(x), as_shape(shape))


def expand(x: Any, shape: Any) -> Tensor:
    """torch's: broadcast_to, where -1 keeps a size."""
    x = as_tensor(x)
    lead = len(shape) - x.ndim
    return broadcast_to(x, tuple(x.shape[k - lead] if isinstance(n, int) and n == -1 and k >= lead else n for k, n in enumerate(shape)))


def broadcast_arrays(*arrays: Any) -> list[Tensor]:
    """All of them in the shape in which they meet."""
    xs = [as_tensor(a) for a in arrays]
    shape = broadcast_shapes("broadcast_arrays", xs)
    return [_broadcast_to(x, shape) for x in xs]


def _joined(name: str, arrays: Sequence[Any]) -> list[Tensor]:
    if isinstance(arrays, Tensor) or not arrays:
        raise GraphError(f"{name} needs a list of at least one tensor", at=user_loc())
    xs = [as_tensor(a) for a in arrays]
    dtype = result_dtype(xs)
    return [cast(x, dtype) for x in xs]


def concat(arrays: Sequence[Any], /, *, axis: int | None = 0) -> Tensor:
    """The tensors one after the other along an axis that exists (axis=None: all flattened)."""
    xs = _joined("concat", arrays)
    if axis is None:
        xs, axis = [flatten(x) for x in xs], 0
    if any(x.ndim != xs[0].ndim for x in xs):
        raise GraphError(f"concat needs tensors of equal rank, got {' and '.join(str(x.type) for x in xs)}", op="concat", at=user_loc())
    return xs[0] if len(xs) == 1 else apply(ops.concat, *xs, axis=axis_index("concat", axis, xs[0].ndim))


def stack(arrays: Sequence[Any], /, *, axis: int = 0) -> Tensor:
    """The tensors side by side along a new axis."""
    xs = _joined("stack", arrays)
    if any(x.shape != xs[0].shape for x in xs):
        raise GraphError(f"stack needs tensors of equal shapes, got {' and '.join(str(x.type) for x in xs)}", op="stack", at=user_loc())
    return concat([expand_dims(x, axis) for x in xs], axis=axis_index("stack", axis, xs[0].ndim + 1))


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices along an axis, one by one."""
    x = moveaxis(x, axis, 0)
    return tuple(x)


def split(x: Any, sections: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """Pieces along an axis: of a size (the last may be short), or of the given sizes."""
    x = as_tensor(x)
    axis = axis_index("split", axis, x.ndim)
    n = as_size(x.shape[axis]).__index__()
    sizes = list(sections) if isinstance(sections, (tuple, list)) else [min(sections, n - k) for k in range(0, n, sections)]
    if sum(sizes) != n:
        raise GraphError(f"split of an axis of {n} into {sizes}", at=user_loc(), why=f"they add up to {sum(sizes)}")
    out, at = [], 0
    for k in sizes:
        out.append(narrow(x, axis, at, at + k))
        at += k
    return tuple(out)


def narrow(x: Tensor, axis: int, start: int, stop: int) -> Tensor:
    """x[start:stop] along one axis."""
    starts = tuple(start if a == axis else 0 for a in range(x.ndim))
    stops = tuple(stop if a == axis else n for a, n in enumerate(x.shape))
    return apply(ops.slice_, x, starts=starts, stops=stops, steps=(1,) * x.ndim)


def flip(x: Any, /, *, axis: Any = None) -> Tensor:
    """Backwards along the axes."""
    x = as_tensor(x)
    axes = axis_tuple("flip", axis, x.ndim)
    return apply(ops.flip, x, axes=axes) if axes else x


def roll(x: Any, /, shift: Any, *, axis: Any = None) -> Tensor:
    """Shifted around along an axis, or along several, each by its own: what falls off the end comes in at the start. Without an axis, as if flat."""
    x = as_tensor(x)
    if axis is None:
        return reshape(roll(reshape(x, (x.size,)), shift, axis=0), x.shape)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    shifts = shift if isinstance(shift, (tuple, list)) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        raise GraphError(f"roll by {len(shifts)} shifts along {len(axes)} axes", op="roll", at=user_loc())
    for by, axis in zip(shifts, axes):
        axis = axis_index("roll", axis, x.ndim)
        n = as_size(x.shape[axis]).__index__()
        k = by % n if n else 0
        x = x if k == 0 else concat([narrow(x, axis, n - k, n), narrow(x, axis, 0, n - k)], axis=axis)
    return x


def tile(x: Any, repetitions: Sequence[int], /) -> Tensor:
    """x repeated whole, so many times along each axis."""
    x, reps = as_tensor(x), as_shape(repetitions)
    reps = (1,) * (x.ndim - len(reps)) + reps
    x = reshape(x, (1,) * (len(reps) - x.ndim) + x.shape)
    wide = broadcast_to(reshape(x, tuple(m for n in x.shape for m in (1, n))), tuple(m for r, n in zip(reps, x.shape) for m in (r, n)))
    return reshape(wide, tuple(r * n for r, n in zip(reps, x.shape)))


def repeat(x: Any, repeats: Any, /, *, axis: int | None = None) -> Tensor:
    """Each slice along an axis `repeats` times in a row, or each its own number of times. Without an axis, of x as if flat."""
    x = as_tensor(x)
    if axis is None:
        x, axis = reshape(x, (x.size,)), 0
    axis = axis_index("repeat", axis, x.ndim)
    if not isinstance(repeats, int):
        counts = static_integers("repeat", repeats)
        if counts.ndim == 1 and counts.size != 1:
            return _repeated(x, counts, axis)
        repeats = int(counts.item())
    if repeats < 0:
        raise GraphError(f"repeat by {repeats}", op="repeat", at=user_loc())
    wide = expand_dims(x, axis + 1)
    wide = broadcast_to(wide, (*x.shape[:axis + 1], repeats, *x.shape[axis + 1:]))
    return reshape(wide, (*x.shape[:axis], x.shape[axis] * repeats, *x.shape[axis + 1:]))


def _repeated(x: Tensor, counts: Any, axis: int) -> Tensor:
    if counts.size != x.shape[axis] or (counts < 0).any():
        raise GraphError(f"repeat of {x.type} along axis {axis} by {counts.tolist()}", op="repeat", at=user_loc(), why="each slice needs one count >= 0")
    return apply(take, x, from_array(np.repeat(np.arange(counts.size), counts)), axis=axis)


def static_integers(name: str, x: Any) -> np.ndarray[Any, Any]:
    """Integers that decide a shape, so that they must be known before the function runs."""
    if isinstance(x, Tensor) and current.tracer is not None:
        raise GraphError(f"{name}: the size of the result depends on the values of {x.type}", op=name, at=user_loc(),
                         why="inside a compiled function sizes are known when it is traced, and numbers when it runs", fix="Python ints or a NumPy array")
    a = x.numpy() if isinstance(x, Tensor) else np.asarray(x)
    if a.dtype.kind not in "iu":
        raise GraphError(f"{name} needs integers, got {a.dtype}", op=name, at=user_loc())
    return a


def pad(x: Any, pad_width: Any, mode: str = "constant", *, constant_values: float = 0) -> Tensor:
    """More elements before and after. pad_width is (before, after) of each axis; one such pair, or one number, is for every axis. (NumPy's.)

    mode: "constant" (one number, `constant_values`); "edge" (torch's "replicate") repeats the end; "wrap" ("circular") goes round; "reflect" mirrors at
    the end element, "symmetric" behind it. Mirrored and wrapped pads may be longer than the axis, as NumPy's.
    """
    x = as_tensor(x)
    try:
        widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2))
    except ValueError:
        widths = np.full((x.ndim, 2), -1)
    if x.ndim and (widths.dtype.kind not in "iu" or widths.min() < 0):
        raise GraphError(f"pad of {x.type} needs {x.ndim} pairs of counts >= 0, got {pad_width}", op="pad", at=user_loc(),
                         fix="(before, after) for each axis, or one such pair for all")
    pairs = [(int(a), int(b)) for a, b in widths]
    if mode == "constant":
        return apply(ops.pad, x, lo=tuple(a for a, _ in pairs), hi=tuple(b for _, b in pairs), value=constant_values)
    rule = _PADS.get(mode)
    if rule is None:
        raise GraphError(f"there is no pad mode {mode!r}", op="pad", at=user_loc(), why=f"modes are constant, {', '.join(_PADS)}")
    for axis, (lo, hi) in enumerate(pairs):
        if lo or hi:
            n = as_size(x.shape[axis]).__index__()
            if n == 0:
                raise GraphError(f"pad of {x.type}: axis {axis} is empty, so there is nothing to {mode}", op="pad", at=user_loc(), fix='mode="constant"')
            x = rule(x, axis, n, lo, hi)
    return x


def _edge(x: Tensor, axis: int, n: int, lo: int, hi: int) -> Tensor:
    def many(k: int, at: int) -> Tensor:
        return broadcast_to(narrow(x, axis, at, at + 1), (*x.shape[:axis], k, *x.shape[axis + 1:]))
    return concat([*([many(lo, 0)] if lo else []), x, *([many(hi, n - 1)] if hi else [])], axis=axis)


def _wrap(x: Tensor, axis: int, n: int, lo: int, hi: int) -> Tensor:
    ends = [narrow(x, axis, n - lo % n, n)] if lo % n else [], [narrow(x, axis, 0, hi % n)] if hi % n else []
    return concat([*ends[0], *[x] * (lo // n + 1 + hi // n), *ends[1]], axis=axis)


def _mirror(skip: int) -> Any:
    """Mirrored at the end element (skip 1) or behind it (skip 0); a mirror longer than the axis is mirrored again."""
    def rule(x: Tensor, axis: int, n: int, lo: int, hi: int) -> Tensor:
        if n == skip:
            return _edge(x, axis, n, lo, hi)
        a, b = min(lo, n - skip), min(hi, n - skip)
        ends = [flip(narrow(x, axis, skip, a + skip), axis=axis)] if a else [], [flip(narrow(x, axis, n - b - skip, n - skip), axis=axis)] if b else []
        y = concat([*ends[0], x, *ends[1]], axis=axis)
        return rule(y, axis, n + a + b, lo - a, hi - b) if lo > a or hi > b else y
    return rule


_PADS = {"edge": _edge, "replicate": _edge, "wrap": _wrap, "circular": _wrap, "reflect": _mirror(1), "symmetric": _mirror(0)}


def window(x: Any, sizes: Any, *, axis: Any = None, stride: Any = 1, dilation: Any = 1) -> Tensor:
    """Every window of `sizes` elements along the axes (the last ones unless told): positions stand where the axes stood, offsets come last.

    window(x, 3)[..., p, w] is x[..., p * stride + w * dilation]. A view: a sum over the last axis is a sum pooling, and no window is ever stored.
    """
    x = as_tensor(x)
    sizes = sizes if isinstance(sizes, (tuple, list)) else (sizes,)
    axes = range(x.ndim - len(sizes), x.ndim) if axis is None else axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = tuple(axis_index("window", a, x.ndim) for a in axes)
    strides, dilations = ((v,) * len(axes) if isinstance(v, int) else tuple(v) for v in (stride, dilation))
    return apply(window_ops.window, x, axes=axes, sizes=tuple(sizes), strides=strides, dilations=dilations)


def fold(x: Any, lengths: Any, *, axis: Any = None, stride: Any = 1, dilation: Any = 1) -> Tensor:
    """The adjoint of `window`: its windows put back into axes of these lengths, what overlaps added up."""
    x = as_tensor(x)
    lengths = lengths if isinstance(lengths, (tuple, list)) else (lengths,)
    rank = x.ndim - len(lengths)
    axes = range(rank - len(lengths), rank) if axis is None else axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = tuple(axis_index("fold", a, rank) for a in axes)
    strides, dilations = ((v,) * len(axes) if isinstance(v, int) else tuple(v) for v in (stride, dilation))
    return apply(window_ops.fold, x, lengths=tuple(lengths), axes=axes, strides=strides, dilations=dilations)


def diff(x: Any, /, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> Tensor:
    """Each element less the one before it along an axis, n times over: the axis is n shorter. First of all, elements may be put before and after."""
    x = as_tensor(x)
    axis = axis_index("diff", axis, x.ndim)
    if n < 0:
        raise GraphError(f"diff {n} times over", op="diff", at=user_loc())
    parts = [as_tensor(part) for part in (prepend, x, append) if part is not None]
    if len(parts) > 1:
        line = (*x.shape[:axis], 1, *x.shape[axis + 1:])
        x = concat([part if part.ndim or part is x else _broadcast_to(part, line) for part in parts], axis=axis)
    for _ in range(n):
        k = as_size(x.shape[axis]).__index__()
        later, before = narrow(x, axis, min(1, k), k), narrow(x, axis, 0, max(k - 1, 0))
        x = later ^ before if x.dtype is bool_ else later - before
    return x
