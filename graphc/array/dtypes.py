"""Dtypes: conversion, what they hold, and how two of them meet. The Array API's names."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dtype import ALL, DType, as_dtype, bf16, f32, promote
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.record import dataclass
from ..core.types import TensorType
from ..trace.broadcast import as_tensor, cast, lift
from ..trace.broadcast import result_dtype as _result_dtype
from ..trace.tensor import Tensor


def check_device(device: Any) -> None:
    """There is one device, "cpu"; any other is an error."""
    if device is not None and str(device).partition(":")[0] != "cpu":
        raise GraphError(f"there is no device {device!r}: graphc compiles for the CPU", at=user_loc(), fix='leave device= out, or device="cpu"')


def floating(x: Any) -> Tensor:
    """x as a floating tensor: integers and bools become f32."""
    x = as_tensor(x)
    return x if x.dtype.is_inexact else cast(x, f32)


def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Tensor:
    """x in another dtype; float to integer truncates and saturates. The gradient goes through from float to float.

    With copy=False a tensor that has the dtype is given back itself.
    """
    check_device(device)
    x = as_tensor(x)
    out = cast(x, as_dtype(dtype))
    if out is x and (x.weak or copy):
        out = x.clone()
    out._weak = False
    return out


def to(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """x.to(dtype). There is one device, "cpu": it is accepted and changes nothing; any other is an error."""
    for a in (*args, *kwargs.values()):
        if isinstance(a, str) and a not in _NAMES and a.partition(":")[0] in ("cpu", "cuda", "mps", "gpu", "tpu"):
            if a.partition(":")[0] != "cpu":
                raise GraphError(f"there is no device {a!r}: graphc compiles for the CPU", at=user_loc(), fix='leave .to(...) out, or .to("cpu")')
        elif isinstance(a, Tensor):
            x = astype(x, a.dtype, copy=False)
        elif a is not None and not isinstance(a, bool):
            x = astype(x, a, copy=False)
    return x


_NAMES = frozenset(d.name for d in ALL)


# ---- what a dtype holds --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FloatInfo:
    """The limits of a floating dtype, as Python numbers."""

    bits: int
    eps: float                  # from 1 to the next number
    max: float
    min: float
    smallest_normal: float
    dtype: DType


@dataclass(frozen=True, slots=True)
class IntegerInfo:
    """The limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: DType


def _dtype_of(x: Any) -> DType:
    return x.dtype if isinstance(x, Tensor) else as_dtype(x.dtype if isinstance(x, (np.ndarray, np.generic)) else x)


def finfo(type: Any, /) -> FloatInfo:
    """The limits of a floating dtype, or of a tensor's."""
    dtype = _dtype_of(type)
    if not dtype.is_inexact:
        raise GraphError(f"finfo is for floating dtypes, got {dtype}", at=user_loc(), fix="iinfo" if dtype.is_integer else None)
    if dtype is bf16:                                   # f32 with the lower half cut off
        return FloatInfo(16, 2.0**-7, (2.0 - 2.0**-7) * 2.0**127, -(2.0 - 2.0**-7) * 2.0**127, 2.0**-126, dtype)
    info = np.finfo(dtype.numpy)
    return FloatInfo(dtype.bits, float(info.eps), float(info.max), float(info.min), float(info.tiny), dtype)


def iinfo(type: Any, /) -> IntegerInfo:
    """The limits of an integer dtype, or of a tensor's."""
    dtype = _dtype_of(type)
    if not dtype.is_integer:
        raise GraphError(f"iinfo is for integer dtypes, got {dtype}", at=user_loc(), fix="finfo" if dtype.is_inexact else None)
    info = np.iinfo(dtype.numpy)
    return IntegerInfo(dtype.bits, int(info.max), int(info.min), dtype)


_KINDS = {"bool": ("bool",), "signed integer": ("int",), "unsigned integer": ("uint",), "integral": ("int", "uint"), "real floating": ("float", "half"),
          "complex floating": (), "numeric": ("int", "uint", "float", "half")}


def isdtype(dtype: Any, kind: Any) -> bool:
    """Is the dtype of a kind: "bool", "signed integer", "unsigned integer", "integral", "real floating", "complex floating" (none is), "numeric",
    a dtype, or any of a tuple of these?
    """
    dtype = as_dtype(dtype)
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str) and kind not in _NAMES:
        if kind not in _KINDS:
            raise GraphError(f"there is no kind of dtypes {kind!r}", at=user_loc(), why=f"kinds are {', '.join(_KINDS)}")
        return dtype.kind in _KINDS[kind]
    return dtype is as_dtype(kind)


def result_type(*arrays_and_dtypes: Any) -> DType:
    """The dtype in which arrays, dtypes and Python numbers meet; numbers are weak. Numbers alone give bool, i64 or f32."""
    dtypes: list[Any] = []
    for x in arrays_and_dtypes:
        if isinstance(x, (Tensor, np.ndarray, np.generic, bool, int, float)):
            dtypes.append(lift(x))
        else:
            dtypes.append(Tensor._blank(TensorType((), as_dtype(x))))
    if not dtypes:
        raise GraphError("result_type of nothing", at=user_loc())
    weak = all(not isinstance(x, Tensor) or x.weak for x in dtypes)
    out = _result_dtype(dtypes)
    return f32 if weak and out.is_float else out


def can_cast(from_: Any, to: Any, /) -> bool:
    """Does what promotion makes of the two stay with `to`? Promotion is torch's, so integers can be cast to every floating dtype."""
    a, b = _dtype_of(from_), as_dtype(to)
    return promote(a, b) is b
