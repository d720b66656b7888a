"""Functions that move elements and compute nothing. Most of them vanish when the graph is lowered."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.dims import Dim, Size, product
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..ops import movement as ops
from ..trace.apply import apply
from ..trace.broadcast import as_shape, as_size, as_tensor, axis_index, axis_tuple, broadcast_shapes, cast, result_dtype
from ..trace.broadcast import broadcast_to as _broadcast_to
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


def roll(x: Any, /, shift: int, *, axis: int) -> Tensor:
    """Shifted around along an axis: what falls off the end comes in at the start."""
    x = as_tensor(x)
    axis = axis_index("roll", axis, x.ndim)
    n = as_size(x.shape[axis]).__index__()
    k = shift % n if n else 0
    return x if k == 0 else concat([narrow(x, axis, n - k, n), narrow(x, axis, 0, n - k)], axis=axis)


def tile(x: Any, repetitions: Sequence[int], /) -> Tensor:
    """x repeated whole, so many times along each axis."""
    x = as_tensor(x)
    reps = (1,) * (x.ndim - len(repetitions)) + tuple(repetitions)
    x = reshape(x, (1,) * (len(reps) - x.ndim) + x.shape)
    wide = broadcast_to(reshape(x, tuple(m for n in x.shape for m in (1, n))), tuple(m for r, n in zip(reps, x.shape) for m in (r, n)))
    return reshape(wide, tuple(r * n for r, n in zip(reps, x.shape)))


def repeat(x: Any, repeats: int, /, *, axis: int) -> Tensor:
    """Each slice along an axis `repeats` times in a row."""
    x = as_tensor(x)
    axis = axis_index("repeat", axis, x.ndim)
    wide = expand_dims(x, axis + 1)
    wide = broadcast_to(wide, (*x.shape[:axis + 1], repeats, *x.shape[axis + 1:]))
    return reshape(wide, (*x.shape[:axis], x.shape[axis] * repeats, *x.shape[axis + 1:]))


def pad(x: Any, pad_width: Any, *, constant_value: float = 0) -> Tensor:
    """Constants before and after: pad_width is one (before, after) for each axis, NumPy's order."""
    x = as_tensor(x)
    pairs = [(p, p) if isinstance(p, int) else tuple(p) for p in pad_width]
    if len(pairs) != x.ndim:
        raise GraphError(f"pad of {x.type} needs {x.ndim} pairs, got {len(pairs)}", op="pad", at=user_loc())
    return apply(ops.pad, x, lo=tuple(a for a, _ in pairs), hi=tuple(b for _, b in pairs), value=constant_value)
