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
    """obj as a Tensor: itself if it is one already, else a copy of its data."""
    if isinstance(obj, Tensor):
        out = obj.clone() if copy else obj
    else:
        out = from_array(obj, None if dtype is None else as_dtype(dtype))
    return out if dtype is None else cast(out, as_dtype(dtype))


def from_numpy(array: Any) -> Tensor:
    """A Tensor with a copy of a NumPy array (torch's would share its memory)."""
    return asarray(array)


def full(shape: Any, fill_value: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """The number in every element: of dtype f32, i64 or bool after the number, unless told."""
    if isinstance(fill_value, Tensor):
        from .manipulation import broadcast_to
        return broadcast_to(cast(fill_value, _dtype(dtype, fill_value.dtype)), shape)
    if isinstance(fill_value, np.generic):
        fill_value = fill_value.item()
    default = bool_ if isinstance(fill_value, bool) else i64 if isinstance(fill_value, int) else f32
    return _leaf(_full(as_shape(shape), fill_value, _dtype(dtype, default)), requires_grad)


def _sizes(shape: tuple[Any, ...]) -> Any:
    return shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape


def zeros(*shape: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros: zeros(2, 3) or zeros((2, 3)); f32 unless told."""
    return full(_sizes(shape), 0, dtype=_dtype(dtype, f32), requires_grad=requires_grad)


def ones(*shape: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones: ones(2, 3) or ones((2, 3)); f32 unless told."""
    return full(_sizes(shape), 1, dtype=_dtype(dtype, f32), requires_grad=requires_grad)


def empty(*shape: Any, dtype: Any = None) -> Tensor:
    """Zeros too: there is no uninitialised memory here."""
    return zeros(*shape, dtype=dtype)


def full_like(x: Any, fill_value: Any, *, dtype: Any = None) -> Tensor:
    """The number in the shape (and, unless told, the dtype) of x."""
    x = as_tensor(x)
    return full(x.shape, fill_value, dtype=_dtype(dtype, x.dtype))


def zeros_like(x: Any, *, dtype: Any = None) -> Tensor:
    """Zeros in the shape of x."""
    return full_like(x, 0, dtype=dtype)


def ones_like(x: Any, *, dtype: Any = None) -> Tensor:
    """Ones in the shape of x."""
    return full_like(x, 1, dtype=dtype)


def empty_like(x: Any, *, dtype: Any = None) -> Tensor:
    """Zeros in the shape of x."""
    return zeros_like(x, dtype=dtype)


def iota(shape: Any, axis: int = 0, dtype: Any = i64) -> Tensor:
    """The index along an axis, 0, 1, 2, ..., in every place of a shape."""
    shape = as_shape(shape)
    return apply(leaf.iota, shape=shape, dtype=as_dtype(dtype), axis=axis_index("iota", axis, len(shape)))


def arange(start: Any, stop: Any = None, step: Any = 1, *, dtype: Any = None) -> Tensor:
    """start, start + step, ... below stop; i64 for ints, else f32. A symbolic size may stand for stop alone."""
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
    if whole and step and _dtype(dtype, i64).is_integer:            # counted where it is used: no array of constants
        count = iota((len(range(start, stop, step)),), dtype=_dtype(dtype, i64))
        count = count if step == 1 else count * step
        return count if start == 0 else count + start
    return from_array(np.arange(start, stop, step), _dtype(dtype, i64 if whole else f32))


def linspace(start: float, stop: float, num: int, *, dtype: Any = None, endpoint: bool = True) -> Tensor:
    """num numbers at equal distances from start to stop."""
    return from_array(np.linspace(start, stop, num, endpoint=endpoint), _dtype(dtype, f32))


def eye(n_rows: int, n_cols: int | None = None, *, k: int = 0, dtype: Any = None) -> Tensor:
    """Ones on the k-th diagonal, zeros elsewhere."""
    shape = as_shape((n_rows, n_rows if n_cols is None else n_cols))
    return cast(iota(shape, 0) + k == iota(shape, 1), _dtype(dtype, f32))


def tril(x: Any, k: int = 0) -> Tensor:
    """x with zeros above the k-th diagonal of the last two axes."""
    return _triangle(as_tensor(x), k, lower=True)


def triu(x: Any, k: int = 0) -> Tensor:
    """x with zeros below the k-th diagonal of the last two axes."""
    return _triangle(as_tensor(x), k, lower=False)


def _triangle(x: Tensor, k: int, lower: bool) -> Tensor:
    from .elementwise import where
    if x.ndim < 2:
        raise GraphError(f"a triangle of {x.type}, which has fewer than 2 axes", at=user_loc())
    row, column = iota(x.shape[-2:], 0), iota(x.shape[-2:], 1)
    return where(column <= row + k if lower else column >= row + k, x, 0)


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
