"""Element types, and the lattice by which two of them meet.

A `DType` is one of a closed set of records; each knows its NumPy twin, and nothing here converts values (for f16 and bf16, `half` does). Promotion is
PyTorch's: a floating type meets an integer type as itself (f32 with i64 is f32), Python scalars are weak (`promote_scalar`).
"""
from __future__ import annotations

from typing import Any, Literal

import numpy as np

from .record import dataclass

Kind = Literal["bool", "int", "uint", "half", "float"]

# bfloat16, which NumPy has not: a record of its 16 bits. It moves, and cannot be added by mistake. The second, empty field is there because a record of
# one field converts to numbers: to its bits, silently.
BFLOAT16 = np.dtype([("bits", np.uint16), ("bfloat16", "V0")], align=True)


@dataclass(frozen=True, slots=True, eq=False)
class DType:
    """An element type. There is one object of each, so `is` is equality."""

    name: str               # as printed in graphs: f32
    kind: Kind
    bits: int
    numpy: np.dtype[Any]

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and unpickled, it is the same object."""
        return _by_name, (self.name,)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy twin, under the name by which NumPy finds it: np.zeros(3, gx.float32)."""
        return self.numpy

    @property
    def itemsize(self) -> int:
        return self.numpy.itemsize

    @property
    def is_float(self) -> bool:
        """A type of floating arithmetic. f16 and bf16 are not: they are stored, and computed with as f32."""
        return self.kind == "float"

    @property
    def is_half(self) -> bool:
        return self.kind == "half"

    @property
    def is_inexact(self) -> bool:
        """A type of numbers with fractions, which have gradients: f16 and bf16 among them."""
        return self.kind in ("float", "half")

    @property
    def cotangent(self) -> DType:
        """The type of a gradient with respect to a tensor of this type: the type itself, and f32 for f16 and bf16."""
        return f32 if self.kind == "half" else self

    @property
    def is_integer(self) -> bool:
        """A signed or unsigned integer; bool is not one."""
        return self.kind in ("int", "uint")


bool_ = DType("bool", "bool", 1, np.dtype(np.bool_))
i8 = DType("i8", "int", 8, np.dtype(np.int8))
i16 = DType("i16", "int", 16, np.dtype(np.int16))
i32 = DType("i32", "int", 32, np.dtype(np.int32))
i64 = DType("i64", "int", 64, np.dtype(np.int64))
u8 = DType("u8", "uint", 8, np.dtype(np.uint8))
u16 = DType("u16", "uint", 16, np.dtype(np.uint16))
u32 = DType("u32", "uint", 32, np.dtype(np.uint32))
u64 = DType("u64", "uint", 64, np.dtype(np.uint64))
f16 = DType("f16", "half", 16, np.dtype(np.float16))
bf16 = DType("bf16", "half", 16, BFLOAT16)
f32 = DType("f32", "float", 32, np.dtype(np.float32))
f64 = DType("f64", "float", 64, np.dtype(np.float64))

ALL = (bool_, i8, i16, i32, i64, u8, u16, u32, u64, f16, bf16, f32, f64)
COMPUTED = tuple([d for d in ALL if not d.is_half])       # the types of arithmetic, and all that there are below the tensor graph
BY_NAME = {d.name: d for d in ALL}
_BY_NUMPY = {d.numpy: d for d in ALL}


def _by_name(name: str) -> DType:
    return BY_NAME[name]


def from_numpy(dtype: np.typing.DTypeLike) -> DType | None:
    """The DType of a NumPy dtype in native byte order, or None where graphc has none (complex, object, longdouble, ...)."""
    return _BY_NUMPY.get(np.dtype(dtype))


def as_dtype(x: Any) -> DType:
    """A DType from a DType, its name, a NumPy dtype (ml_dtypes' bfloat16 too), or one of Python's bool, int and float.

    int is i64, float is f32, as in PyTorch. Raises TypeError where there is none.
    """
    if isinstance(x, DType):
        return x
    if x is bool:
        return bool_
    if x is int:
        return i64
    if x is float:
        return f32
    if isinstance(x, str) and x in BY_NAME:
        return BY_NAME[x]
    try:
        named = x == "bfloat16" or np.dtype(x).name == "bfloat16"
        found = bf16 if named else from_numpy(x)
    except TypeError:
        found = None
    if found is None:
        raise TypeError(f"no graphc element type for {x!r}; there are {', '.join(BY_NAME)}")
    return found


_SIGNED = {8: i8, 16: i16, 32: i32, 64: i64}


def promote(a: DType, b: DType) -> DType:
    """The type in which a and b meet: bool < integers < halves < floats, the wider of a kind.

    Unsigned with signed is the signed type that holds both, at most i64; f16 with bf16 is f32, which holds both.
    """
    if a is b:
        return a
    rank = {"bool": 0, "int": 1, "uint": 1, "half": 2, "float": 3}
    if rank[a.kind] != rank[b.kind]:
        return a if rank[a.kind] > rank[b.kind] else b
    if a.kind == "half":
        return f32
    if a.kind == b.kind:
        return a if a.bits >= b.bits else b
    u, s = (a, b) if a.kind == "uint" else (b, a)
    return s if s.bits > u.bits else _SIGNED[min(64, u.bits * 2)]


def promote_scalar(a: DType, scalar: bool | int | float) -> DType:
    """The type in which an array of type a meets a Python scalar: the scalar is weak, so it raises the kind and never the width."""
    if isinstance(scalar, bool):
        return a
    if isinstance(scalar, int):
        return i64 if a.kind == "bool" else a
    return a if a.is_inexact else f32
