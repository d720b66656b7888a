"""f16 and bf16 as NumPy arrays: their conversions to and from f32, and what else NumPy would get wrong about them.

Every conversion goes by way of f32, as in PyTorch: f64 and integers are rounded to f32 first. To nearest, ties to even; beyond the largest number to
infinity. A NaN keeps its sign and the upper bits of its payload, and is made quiet where it is narrowed. No version of NumPy matters, and
no denormal is flushed. `lower.half` is the same in the loop IR.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from .dtype import BFLOAT16, DType, bf16, from_numpy

Array = np.ndarray[Any, Any]


def bits(x: Any) -> Array:
    """The u16 patterns of f16 or bf16 elements: the same memory."""
    out: Array = np.asarray(x).view(np.uint16)
    return out


def from_half(x: Any) -> Array:
    """f16 or bf16 as f32: exact."""
    x = np.asarray(x)
    if x.dtype == BFLOAT16:
        return np.asarray((bits(x).astype(np.uint32) << np.uint32(16)).view(np.float32))
    out = np.asarray(x, np.float16).astype(np.float32)
    nan = np.isnan(out)
    if nan.any():                                       # some processors make them quiet, some do not
        h = bits(x).astype(np.uint32)
        out = np.where(nan, (h & 0x8000) << 16 | 0x7F800000 | (h & 0x3FF) << 13, out.view(np.uint32)).astype(np.uint32).view(np.float32)
    return out


def to_half(x: Any, dtype: DType) -> Array:
    """f32 (or what becomes f32 first) as f16 or bf16."""
    with np.errstate(all="ignore"):
        x = np.ascontiguousarray(x, np.float32).reshape(np.shape(x))
        u = x.view(np.uint32)
        if dtype is bf16:
            out = (u + np.uint32(0x7FFF) + (u >> 16 & 1)) >> 16             # the carry into the upper half is the rounding, to infinity too
            quiet = u >> 16 | 0x40
        else:
            out = bits(x.astype(np.float16)).astype(np.uint32)
            quiet = u >> 16 & 0x8000 | 0x7E00 | u >> 13 & 0x3FF
    return np.asarray(np.where(np.isnan(x), quiet, out).astype(np.uint16)).view(dtype.numpy)


def own(x: Array) -> Array:
    """Another library's bfloat16, known by its name (ml_dtypes has one), as ours: the same memory. Other arrays as they are."""
    return x.view(BFLOAT16) if x.dtype.name == "bfloat16" and x.dtype.itemsize == 2 else x


def astype(x: Array, dtype: DType | np.dtype[Any]) -> Array:
    """x.astype(dtype), where either may be f16 or bf16; NumPy's own rules for all others."""
    want = dtype if isinstance(dtype, DType) else from_numpy(dtype)
    x = own(x)
    have = from_numpy(x.dtype)
    if want is None or have is None or have is want:
        return x.astype(dtype.numpy if isinstance(dtype, DType) else dtype, copy=False)
    if have.is_half:
        x = from_half(x)
    return to_half(x, want) if want.is_half else x.astype(want.numpy, copy=False)


def scalar(value: Any, dtype: DType) -> Any:
    """A Python number as a NumPy scalar of any of the types."""
    return to_half(value, dtype)[()] if dtype.is_half else dtype.numpy.type(value)


def plain(x: Any) -> Any:
    """x for who computes or prints: bf16 as f32, all else as it is."""
    return from_half(x)[()] if getattr(x, "dtype", None) == BFLOAT16 else x
