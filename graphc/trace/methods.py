"""The operators and methods of a Tensor that are array functions under another spelling, and nothing more.

The functions themselves are in `graphc.array`, which sits above this package and hands itself over through `provide`. Kept apart from
`tensor.py` because a class with a method called `float` or `any` cannot use those words for types.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.dims import Dim

if TYPE_CHECKING:
    from .tensor import Tensor


class _Functions:
    """The array functions behind operators and methods, once graphc.array has provided them."""

    def __init__(self) -> None:
        self.table: dict[str, Callable[..., Any]] = {}
        self.namespace: Any = None


functions = _Functions()


def provide(table: dict[str, Callable[..., Any]]) -> None:
    """Called by graphc.array: the functions by name."""
    functions.table.update(table)


def provide_namespace(module: Any) -> None:
    """Called by graphc: what `__array_namespace__` returns."""
    functions.namespace = module


def function(name: str) -> Callable[..., Tensor]:
    """The array function of this name."""
    return functions.table[name]


def _sizes(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """reshape(2, 3) and reshape((2, 3)) are one."""
    return tuple(args[0]) if len(args) == 1 and isinstance(args[0], (tuple, list)) else args


def _operator(name: str, a: Any, b: Any) -> Tensor:
    if isinstance(a, _OPERANDS) and isinstance(b, _OPERANDS):
        return function(name)(a, b)
    return NotImplemented  # type: ignore[no-any-return]


class Methods:
    """The base of Tensor."""

    _type: Any

    # ---- operators ---------------------------------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Tensor: return _operator("add", self, other)
    def __radd__(self, other: Any) -> Tensor: return _operator("add", other, self)
    def __sub__(self, other: Any) -> Tensor: return _operator("subtract", self, other)
    def __rsub__(self, other: Any) -> Tensor: return _operator("subtract", other, self)
    def __mul__(self, other: Any) -> Tensor: return _operator("multiply", self, other)
    def __rmul__(self, other: Any) -> Tensor: return _operator("multiply", other, self)
    def __truediv__(self, other: Any) -> Tensor: return _operator("divide", self, other)
    def __rtruediv__(self, other: Any) -> Tensor: return _operator("divide", other, self)
    def __floordiv__(self, other: Any) -> Tensor: return _operator("floor_divide", self, other)
    def __rfloordiv__(self, other: Any) -> Tensor: return _operator("floor_divide", other, self)
    def __mod__(self, other: Any) -> Tensor: return _operator("remainder", self, other)
    def __rmod__(self, other: Any) -> Tensor: return _operator("remainder", other, self)
    def __pow__(self, other: Any) -> Tensor: return _operator("pow", self, other)
    def __rpow__(self, other: Any) -> Tensor: return _operator("pow", other, self)
    def __matmul__(self, other: Any) -> Tensor: return _operator("matmul", self, other)
    def __rmatmul__(self, other: Any) -> Tensor: return _operator("matmul", other, self)
    def __and__(self, other: Any) -> Tensor: return _operator("bitwise_and", self, other)
    def __rand__(self, other: Any) -> Tensor: return _operator("bitwise_and", other, self)
    def __or__(self, other: Any) -> Tensor: return _operator("bitwise_or", self, other)
    def __ror__(self, other: Any) -> Tensor: return _operator("bitwise_or", other, self)
    def __xor__(self, other: Any) -> Tensor: return _operator("bitwise_xor", self, other)
    def __rxor__(self, other: Any) -> Tensor: return _operator("bitwise_xor", other, self)
    def __lshift__(self, other: Any) -> Tensor: return _operator("bitwise_left_shift", self, other)
    def __rlshift__(self, other: Any) -> Tensor: return _operator("bitwise_left_shift", other, self)
    def __rshift__(self, other: Any) -> Tensor: return _operator("bitwise_right_shift", self, other)
    def __rrshift__(self, other: Any) -> Tensor: return _operator("bitwise_right_shift", other, self)
    def __lt__(self, other: Any) -> Tensor: return _operator("less", self, other)
    def __le__(self, other: Any) -> Tensor: return _operator("less_equal", self, other)
    def __gt__(self, other: Any) -> Tensor: return _operator("greater", self, other)
    def __ge__(self, other: Any) -> Tensor: return _operator("greater_equal", self, other)
    def __eq__(self, other: Any) -> Any: return _operator("equal", self, other)
    def __ne__(self, other: Any) -> Any: return _operator("not_equal", self, other)
    def __neg__(self) -> Tensor: return function("negative")(self)
    def __pos__(self) -> Any: return self
    def __abs__(self) -> Tensor: return function("abs")(self)
    def __invert__(self) -> Tensor: return function("bitwise_invert")(self)
    def __getitem__(self, key: Any) -> Tensor: return function("getitem")(self, key)
    __hash__ = object.__hash__

    @property
    def type(self) -> Any: return self._type
    @property
    def size(self) -> Any: return self._type.size

    # ---- methods that are array functions ----------------------------------------------------------------------------------------

    @property
    def T(self) -> Tensor: return function("transpose")(self)
    @property
    def mT(self) -> Tensor: return function("matrix_transpose")(self)

    @property
    def at(self) -> Any: return function("at")(self)
    def __setitem__(self, key: Any, value: Any) -> None: function("setitem")(self, key, value)

    def astype(self, dtype: Any, copy: Any = False) -> Tensor: return function("astype")(self, dtype, copy=copy)
    def to_device(self, device: Any, /, *, stream: Any = None) -> Tensor: return function("to")(self, device=str(device))
    def to(self, *args: Any, **kwargs: Any) -> Tensor: return function("to")(self, *args, **kwargs)
    def float(self) -> Tensor: return function("to")(self, "f32")
    def half(self) -> Tensor: return function("to")(self, "f16")
    def bfloat16(self) -> Tensor: return function("to")(self, "bf16")
    def double(self) -> Tensor: return function("to")(self, "f64")
    def long(self) -> Tensor: return function("to")(self, "i64")
    def int(self) -> Tensor: return function("to")(self, "i32")
    def bool(self) -> Tensor: return function("to")(self, "bool")
    def sum(self, axis: Any = None, keepdims: Any = False, **kw: Any) -> Tensor: return function("sum")(self, axis=axis, keepdims=keepdims, **kw)
    def mean(self, axis: Any = None, keepdims: Any = False) -> Tensor: return function("mean")(self, axis=axis, keepdims=keepdims)
    def var(self, axis: Any = None, **kw: Any) -> Tensor: return function("var")(self, axis=axis, **kw)
    def std(self, axis: Any = None, **kw: Any) -> Tensor: return function("std")(self, axis=axis, **kw)
    def prod(self, axis: Any = None, keepdims: Any = False) -> Tensor: return function("prod")(self, axis=axis, keepdims=keepdims)
    def max(self, axis: Any = None, keepdims: Any = False) -> Tensor: return function("max")(self, axis=axis, keepdims=keepdims)
    def min(self, axis: Any = None, keepdims: Any = False) -> Tensor: return function("min")(self, axis=axis, keepdims=keepdims)
    def argmax(self, axis: Any = None, keepdims: Any = False) -> Tensor: return function("argmax")(self, axis=axis, keepdims=keepdims)
    def argmin(self, axis: Any = None, keepdims: Any = False) -> Tensor: return function("argmin")(self, axis=axis, keepdims=keepdims)
    def any(self, axis: Any = None, keepdims: Any = False) -> Tensor: return function("any")(self, axis=axis, keepdims=keepdims)
    def all(self, axis: Any = None, keepdims: Any = False) -> Tensor: return function("all")(self, axis=axis, keepdims=keepdims)
    def cumsum(self, axis: Any) -> Tensor: return function("cumsum")(self, axis)
    def cumprod(self, axis: Any) -> Tensor: return function("cumprod")(self, axis)
    def sort(self, axis: Any = -1, descending: Any = False) -> Tensor: return function("sort")(self, axis=axis, descending=descending)
    def argsort(self, axis: Any = -1, descending: Any = False) -> Tensor: return function("argsort")(self, axis=axis, descending=descending)
    def reshape(self, *shape: Any) -> Tensor: return function("reshape")(self, _sizes(shape))
    def view(self, *shape: Any) -> Tensor: return function("reshape")(self, _sizes(shape))
    def flatten(self, start_dim: Any = 0, end_dim: Any = -1) -> Tensor: return function("flatten")(self, start_dim, end_dim)
    def permute(self, *axes: Any) -> Tensor: return function("permute_dims")(self, _sizes(axes))
    def transpose(self, *axes: Any) -> Tensor: return function("transpose")(self, *axes)
    def t(self) -> Tensor: return function("transpose")(self)
    def squeeze(self, axis: Any = None) -> Tensor: return function("squeeze")(self, axis)
    def unsqueeze(self, axis: Any) -> Tensor: return function("expand_dims")(self, axis)
    def expand(self, *shape: Any) -> Tensor: return function("expand")(self, _sizes(shape))
    def matmul(self, other: Any) -> Tensor: return function("matmul")(self, other)
    def dot(self, other: Any) -> Tensor: return function("matmul")(self, other)
    def exp(self) -> Tensor: return function("exp")(self)
    def log(self) -> Tensor: return function("log")(self)
    def sqrt(self) -> Tensor: return function("sqrt")(self)
    def rsqrt(self) -> Tensor: return function("rsqrt")(self)
    def square(self) -> Tensor: return function("square")(self)
    def pow(self, exponent: Any) -> Tensor: return function("pow")(self, exponent)
    def abs(self) -> Tensor: return function("abs")(self)
    def sin(self) -> Tensor: return function("sin")(self)
    def cos(self) -> Tensor: return function("cos")(self)
    def tanh(self) -> Tensor: return function("tanh")(self)
    def sigmoid(self) -> Tensor: return function("sigmoid")(self)
    def relu(self) -> Tensor: return function("relu")(self)
    def softmax(self, axis: Any = -1) -> Tensor: return function("softmax")(self, axis)
    def log_softmax(self, axis: Any = -1) -> Tensor: return function("log_softmax")(self, axis)
    def logsumexp(self, axis: Any = None, keepdims: Any = False) -> Tensor: return function("logsumexp")(self, axis=axis, keepdims=keepdims)
    def norm(self, axis: Any = None, keepdims: Any = False, ord: Any = 2) -> Tensor:
        return function("vector_norm")(self, axis=axis, keepdims=keepdims, ord=ord)
    def clip(self, min: Any = None, max: Any = None) -> Tensor: return function("clip")(self, min, max)
    def clamp(self, min: Any = None, max: Any = None) -> Tensor: return function("clip")(self, min, max)
    def isnan(self) -> Tensor: return function("isnan")(self)
    def isfinite(self) -> Tensor: return function("isfinite")(self)
    def numel(self) -> Any: return self.size


_OPERANDS = (Methods, bool, int, float, Dim, np.ndarray, np.generic, list)
