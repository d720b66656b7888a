"""New tensors: from data, from numbers, from shapes. Eagerly an array; in a trace a constant or an `iota`."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dims import Dim
from ..core.dtype import DType, as_dtype, bool_, f32, i64
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..ops import leaf
from ..trace.apply import apply
from ..trace.broadcast import as_shape, as_tensor, axis_index, cast, from_array
from ..trace.broadcast import full as _full
from ..trace.generator import Generator, default_generator
from ..trace.storage import Storage
from ..trace.tape import current
from ..trace.tensor import Tensor
from .dtypes import check_device


def _dtype(dtype: Any, default: DType) -> DType:
    return default if dtype is None else as_dtype(dtype)


def tensor(data: Any, dtype: Any = None, *, requires_grad: bool = False, device: Any = None) -> Tensor:
    """A new Tensor with a copy of data: Python floats become f32, ints i64; NumPy arrays keep their dtype."""
    if isinstance(data, Tensor):
        out = data.detach()
        out = out if dtype is None else cast(out, as_dtype(dtype))
        out._weak = False
    else:
        out = from_array(data, None if dtype is None else as_dtype(dtype))
    return _leaf(out, requires_grad)


def _leaf(out: Tensor, requires_grad: bool) -> Tensor:
    if not requires_grad:
        return out
    if current.tracer is None:
        return Tensor.with_storage(Storage(out._array()), requires_grad=True)
    return out.requires_grad_()


def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Tensor:
    """obj as a Tensor: itself if it is one already (a copy with copy=True), else a copy of its data, which copy=False refuses."""
    check_device(device)
    if isinstance(obj, Tensor):
        out = obj if dtype is None else cast(obj, as_dtype(dtype))
        if copy is False and out is not obj:
            raise GraphError(f"asarray of {obj.type} as {out.dtype} without a copy", at=user_loc(), fix="copy=None")
        return obj.clone() if copy and out is obj else out
    if copy is False:
        raise GraphError(f"asarray of a {type(obj).__name__} without a copy", at=user_loc(), why="a Tensor owns its elements", fix="copy=None")
    return from_array(obj, None if dtype is None else as_dtype(dtype))


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A Tensor with a copy of what another array library holds in this machine's memory."""
    check_device(device)
    return asarray(x if isinstance(x, Tensor) else np.from_dlpack(x), copy=copy)


def from_numpy(array: Any) -> Tensor:
    """A Tensor with a copy of a NumPy array (torch's would share its memory)."""
    return asarray(array)


def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The number in every element: of dtype f32, i64 or bool after the number, unless told."""
    check_device(device)
    if isinstance(fill_value, Tensor):
        from .manipulation import broadcast_to
        return broadcast_to(cast(fill_value, _dtype(dtype, fill_value.dtype)), shape)
    if isinstance(fill_value, np.generic):
        fill_value = fill_value.item()
    default = bool_ if isinstance(fill_value, bool) else i64 if isinstance(fill_value, int) else f32
    return _leaf(_full(as_shape(shape), fill_value, _dtype(dtype, default)), requires_grad)


def _sizes(sizes: tuple[Any, ...], shape: Any = None) -> Any:
    if shape is not None:
        return shape
    return sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes


def zeros(*sizes: Any, shape: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros: zeros(2, 3) or zeros((2, 3)); f32 unless told."""
    return full(_sizes(sizes, shape), 0, dtype=_dtype(dtype, f32), device=device, requires_grad=requires_grad)


def ones(*sizes: Any, shape: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones: ones(2, 3) or ones((2, 3)); f32 unless told."""
    return full(_sizes(sizes, shape), 1, dtype=_dtype(dtype, f32), device=device, requires_grad=requires_grad)


def empty(*sizes: Any, shape: Any = None, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros too: there is no uninitialised memory here."""
    return zeros(*sizes, shape=shape, dtype=dtype, device=device)


def full_like(x: Any, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The number in the shape (and, unless told, the dtype) of x."""
    x = as_tensor(x)
    return full(x.shape, fill_value, dtype=_dtype(dtype, x.dtype), device=device)


def zeros_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros in the shape of x."""
    return full_like(x, 0, dtype=dtype, device=device)


def ones_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones in the shape of x."""
    return full_like(x, 1, dtype=dtype, device=device)


def empty_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros in the shape of x."""
    return zeros_like(x, dtype=dtype, device=device)


def iota(shape: Any, axis: int = 0, dtype: Any = i64) -> Tensor:
    """The index along an axis, 0, 1, 2, ..., in every place of a shape."""
    shape = as_shape(shape)
    return apply(leaf.iota, shape=shape, dtype=as_dtype(dtype), axis=axis_index("iota", axis, len(shape)))


def arange(start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None) -> Tensor:
    """start, start + step, ... below stop; i64 for ints, else f32. A symbolic size may stand for stop alone."""
    check_device(device)
    if stop is None:
        start, stop = 0, start
    if isinstance(stop, Dim):
        if start != 0 or step != 1:
            raise GraphError(f"arange to the symbolic size {stop} starts at 0 with step 1", at=user_loc(), fix="arange(n) * step + start")
        return iota((stop,), dtype=_dtype(dtype, i64))
    if any(isinstance(v, Tensor) and v.is_traced for v in (start, stop, step)):
        raise GraphError("arange with a traced bound has a size that depends on data", at=user_loc(), fix="a Python number")
    start, stop, step = (v.item() if isinstance(v, (Tensor, np.generic)) else v for v in (start, stop, step))
    whole = all(isinstance(v, int) for v in (start, stop, step))
    if step == 0:
        raise GraphError(f"arange from {start} to {stop} in steps of 0", op="arange", at=user_loc())
    if whole and _dtype(dtype, i64).is_integer:            # counted where it is used: no array of constants
        count = iota((len(range(start, stop, step)),), dtype=_dtype(dtype, i64))
        count = count if step == 1 else count * step
        return count if start == 0 else count + start
    return from_array(np.arange(start, stop, step), _dtype(dtype, i64 if whole else f32))


def linspace(start: float, stop: float, /, num: int, *, dtype: Any = None, device: Any = None, endpoint: bool = True) -> Tensor:
    """num numbers at equal distances from start to stop."""
    check_device(device)
    (num,) = as_shape(num)
    return from_array(np.linspace(start, stop, num, endpoint=endpoint), _dtype(dtype, f32))


def eye(n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones on the k-th diagonal, zeros elsewhere."""
    check_device(device)
    shape = as_shape((n_rows, n_rows if n_cols is None else n_cols))
    return cast(iota(shape, 0) + k == iota(shape, 1), _dtype(dtype, f32))


def tril(x: Any, /, k: int = 0) -> Tensor:
    """x with zeros above the k-th diagonal of the last two axes."""
    return _triangle(as_tensor(x), k, lower=True)


def triu(x: Any, /, k: int = 0) -> Tensor:
    """x with zeros below the k-th diagonal of the last two axes."""
    return _triangle(as_tensor(x), k, lower=False)


def _triangle(x: Tensor, k: int, lower: bool) -> Tensor:
    from .elementwise import where
    if x.ndim < 2:
        raise GraphError(f"a triangle of {x.type}, which has fewer than 2 axes", at=user_loc())
    row, column = iota(x.shape[-2:], 0), iota(x.shape[-2:], 1)
    return where(column <= row + k if lower else column >= row + k, x, zeros_like(x))


def meshgrid(*arrays: Any, indexing: str = "xy") -> list[Tensor]:
    """For 1-D arrays the coordinates of the points of their grid: the i-th varies along axis i ("ij"), with the first two axes exchanged in "xy"."""
    from .manipulation import broadcast_arrays, reshape, swapaxes
    xs = [as_tensor(x) for x in arrays]
    if indexing not in ("xy", "ij") or any(x.ndim > 1 for x in xs):
        raise GraphError(f'meshgrid takes 1-D arrays and indexing="xy" or "ij", got {", ".join(str(x.type) for x in xs)} and {indexing!r}', at=user_loc())
    out = broadcast_arrays(*(reshape(x, tuple(x.size if a == k else 1 for a in range(len(xs)))) for k, x in enumerate(xs))) if xs else []
    return [swapaxes(x, 0, 1) for x in out] if indexing == "xy" and len(xs) > 1 else out


def one_hot(x: Any, num_classes: int, *, dtype: Any = None) -> Tensor:
    """1 at the index along a new last axis, else 0 (i64 unless told); an index out of range gives zeros."""
    x = as_tensor(x)
    if not x.dtype.is_integer:
        raise GraphError(f"one_hot needs integer classes, got {x.type}", at=user_loc(), fix=".astype(gx.int64)")
    from .manipulation import expand_dims
    return cast(expand_dims(x, -1) == iota((num_classes,), dtype=x.dtype), _dtype(dtype, i64))


# ---- random --------------------------------------------------------------------------------------------------------------------------


def rand(*shape: Any, dtype: Any = None, generator: Generator | None = None, requires_grad: bool = False) -> Tensor:
    """Uniform in [0, 1)."""
    return _leaf((generator or default_generator()).uniform(_sizes(shape), _dtype(dtype, f32)), requires_grad)


def randn(*shape: Any, dtype: Any = None, generator: Generator | None = None, requires_grad: bool = False) -> Tensor:
    """Normal, mean 0 and variance 1. In a compiled function new numbers at every call."""
    return _leaf((generator or default_generator()).normal(_sizes(shape), _dtype(dtype, f32)), requires_grad)


def randint(low: int, high: int, shape: Any, *, dtype: Any = None, generator: Generator | None = None) -> Tensor:
    """Integers in [low, high), of floor(uniform * (high - low)): a range up to 2**24 is even to 1 part in 2**24."""
    if not low < high:
        raise GraphError(f"randint needs low < high, got {low} and {high}", at=user_loc())
    from .elementwise import floor
    u = (generator or default_generator()).uniform(shape, "f64")
    return cast(floor(u * float(high - low)), _dtype(dtype, i64)) + low


def bernoulli(p: float, shape: Any, *, dtype: Any = None, generator: Generator | None = None) -> Tensor:
    """1 with probability p, else 0."""
    return cast((generator or default_generator()).uniform(shape) < p, _dtype(dtype, f32))
