"""`Parameter`: a tensor with memory of its own that training changes. Buffers are the same without a gradient."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dtype import DType, f32
from ..core.errors import GraphError
from ..trace.storage import Storage
from ..trace.tape import current
from ..trace.tensor import Tensor


class Parameter(Tensor):
    """A leaf tensor that a Module registers when it is assigned as an attribute: `self.w = nn.Parameter(gx.randn(3, 4))`.

    The data are copied. Python numbers become f32; arrays and Tensors keep their element type. It requires a gradient unless told otherwise.
    Making one inside a compiled function is an error: it would be forgotten after the call.
    """

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Parameter:
        if data is None:                                        # Tensor's own constructors begin with an empty object
            return object.__new__(cls)
        return cls.with_storage(_stored(data), requires_grad)

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        if data is None:
            raise GraphError("nn.Parameter needs its data", fix="nn.Parameter(gx.zeros(3, 4))")

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


def as_buffer(data: Any) -> Tensor:
    """A state without a gradient, from a copy of the data."""
    return Tensor.with_storage(_stored(data))


def empty(shape: tuple[int, ...], dtype: DType) -> np.ndarray[Any, Any]:
    """Room for a parameter that is filled in a moment."""
    return np.zeros(shape, dtype.numpy)


def _stored(data: Any) -> Storage:
    if isinstance(data, Tensor):
        if current.tracer is not None:                          # refused by with_storage, which names the shape
            return Storage(np.zeros(tuple(n if isinstance(n, int) else 1 for n in data.shape), data.dtype.numpy), data.name)
        return Storage(data.numpy(), data.name)
    value = np.asarray(data)
    if not isinstance(data, np.ndarray | np.generic) and value.dtype == np.float64:
        value = value.astype(f32.numpy)
    return Storage(value)
