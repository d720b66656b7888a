"""Types of values in the tensor graph: a tensor, a tuple of types, or an effect token."""
from __future__ import annotations

from collections.abc import Mapping

from .dims import Dim, Size, evaluate, product
from .dtype import DType
from .record import dataclass

MAX_BYTES = 2**48                                       # beyond any machine; sizes are checked against it in exact integers


@dataclass(frozen=True, slots=True)
class TensorType:
    """A dense array: its shape (ints and Dims) and its element type. Printed f32[64,784]."""

    shape: tuple[Size, ...]
    dtype: DType

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Size:
        """Number of elements."""
        return product(self.shape)

    @property
    def is_static(self) -> bool:
        return all([isinstance(n, int) for n in self.shape])

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as ints; raises GraphError where a size is symbolic."""
        for n in self.shape:
            if isinstance(n, Dim):
                return tuple([k if isinstance(k, int) else k.__index__() for k in self.shape])
        return self.shape                               # type: ignore[return-value]

    @property
    def dims(self) -> frozenset[str]:
        """Names of the symbolic sizes in the shape."""
        return frozenset(name for n in self.shape if isinstance(n, Dim) for name in n.names)

    def bind(self, sizes: Mapping[str, int]) -> TensorType:
        """The type under a binding of its symbolic sizes."""
        return TensorType(tuple(evaluate(n, sizes) for n in self.shape), self.dtype)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(self.shape, dtype)

    @property
    def cotangent(self) -> TensorType:
        """The type of a gradient with respect to such a tensor: f32 where it is f16 or bf16."""
        return self.with_dtype(self.dtype.cotangent)


@dataclass(frozen=True, slots=True)
class TupleType:
    """The type of an op with several results; `get(i)` takes one out."""

    items: tuple[Type, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.items))})"


@dataclass(frozen=True, slots=True)
class TokenType:
    """The order of effects: each effect takes a token and gives one."""

    def __str__(self) -> str:
        return "token"


Type = TensorType | TupleType | TokenType
TOKEN = TokenType()
