"""Broadcasting and promotion, in this one place. Below it (nodes) shapes and dtypes are equal; above it nobody thinks of them.

Promotion is torch's lattice (`core.dtype`); Python numbers and run-time scalars are weak: they take the array's dtype, and raise at most its
kind. A symbolic size meets itself and 1, and nothing else.
"""
from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import half
from ..core.dims import Dim, Size
from ..core.dtype import DType, bool_, f32, f64, from_numpy, i64, promote, promote_scalar
from ..core.errors import GraphError, GraphTypeError
from ..core.loc import user_loc
from ..core.types import TensorType
from ..ir.op import Op
from ..ops import elementwise, leaf, movement
from .apply import apply
from .storage import check_bytes
from .tape import current, eager
from .tensor import Tensor

Operand = Any                                           # a Tensor, or a Python bool, int or float


def lift(x: Any) -> Operand:
    """A Tensor, or a Python number (NumPy's scalars count as such). Arrays, nested lists and symbolic sizes become Tensors."""
    if isinstance(x, (Tensor, bool, int, float)) and not isinstance(x, np.generic):
        return x
    if isinstance(x, np.generic):
        value = x.item()
        if isinstance(value, (bool, int, float)):
            return value
    return value_of(x) if isinstance(x, Dim) else from_array(x)


def value_of(n: Size) -> Any:
    """A size in arithmetic: a number, or a run-time number where it is symbolic."""
    if isinstance(n, int):
        return n
    if current.tracer is not None:
        current.tracer.here()
    out = apply(leaf.size, dim=n)
    out._weak = True
    return out


def from_array(x: Any, dtype: DType | None = None) -> Tensor:
    """A Tensor with a copy of array-like data; in a trace, a constant of the graph."""
    a = native(x, dtype=dtype)
    if current.tracer is None:
        return Tensor.from_value(np.array(a, order="C"))
    current.tracer.here()
    return Tensor.from_node(current.tracer.constant(x if isinstance(x, np.ndarray) and dtype is None else a))


def is_masked(x: Any) -> bool:
    """Whether x is one of NumPy's masked arrays. (To name their class would load numpy.ma; who has one has loaded it.)"""
    ma = sys.modules.get("numpy.ma")
    return ma is not None and isinstance(x, ma.MaskedArray)


def native(x: Any, what: str = "this value", dtype: DType | None = None) -> np.ndarray[Any, Any]:
    """x as an array of that dtype, or of its own if graphc has it, in native byte order. Python floats become f32, as in torch.

    Refuses objects, strings, complex numbers and masks.
    """
    if is_masked(x):
        raise GraphTypeError(f"{what} is a masked array, and graphc has no masks", at=user_loc(), fix="x.filled(value) first")
    if isinstance(x, np.ndarray):
        a = x
    else:
        parts = _tensors_in(x)
        if parts:
            raise GraphTypeError(f"{what} is a list of Tensors, not an array", at=user_loc(), fix="gx.stack([...])")
        try:
            a = np.asarray(x)
        except ValueError as e:
            raise GraphTypeError(f"{what} is no array: {e}", at=user_loc()) from None
        if dtype is None and a.dtype == np.float64 and not hasattr(x, "__array__"):
            a = a.astype(np.float32)
    a = half.own(a)
    if from_numpy(a.dtype.newbyteorder("=")) is None:
        kind = {"O": "Python objects", "U": "strings", "S": "bytes", "c": "complex numbers", "M": "dates", "m": "time spans", "V": "records"}
        raise GraphTypeError(f"{what} has dtype {a.dtype}{f' ({kind[a.dtype.kind]})' if a.dtype.kind in kind else ''}, which graphc does not have",
                             at=user_loc(), fix="numpy.asarray(x, numpy.float32), say")
    if dtype is not None:
        return half.astype(a, dtype)
    return a if a.dtype.isnative else a.astype(a.dtype.newbyteorder("="))


def _tensors_in(x: Any) -> bool:
    return isinstance(x, (list, tuple)) and any(isinstance(v, Tensor) or _tensors_in(v) for v in x)


def as_tensor(x: Any) -> Tensor:
    """A Tensor; a Python number becomes a weak one of rank 0."""
    x = lift(x)
    if isinstance(x, Tensor):
        return x
    dtype = bool_ if isinstance(x, bool) else i64 if isinstance(x, int) else f64
    return full((), x, dtype, weak=True)


def full(shape: tuple[Size, ...], value: Any, dtype: DType, *, weak: bool = False) -> Tensor:
    """The Python number in every element."""
    t = TensorType(shape, dtype)
    check_bytes(t)
    out = apply(leaf.const, value=number(value, dtype), shape=shape, dtype=dtype)
    out._weak = weak
    if out._value is not None and shape:
        out._value = np.array(out._value)               # a splat is a view of one number; Tensors own their elements
    return out


def number(value: Any, dtype: DType) -> Any:
    """The Python number as a NumPy scalar of the dtype; an integer must fit."""
    if isinstance(value, complex):
        raise GraphTypeError(f"{value} is a complex number, which graphc does not have", at=user_loc(), fix="its .real and .imag")
    if dtype.is_integer and not isinstance(value, bool):
        info = np.iinfo(dtype.numpy)
        if value != value or not info.min <= value <= info.max:
            raise GraphError(f"{value} is out of range for {dtype}", at=user_loc(), why=f"{dtype} holds {info.min}..{info.max}")
    with np.errstate(over="ignore"):
        return half.scalar(value, dtype)


def result_dtype(operands: Sequence[Operand]) -> DType:
    """The dtype in which the operands meet."""
    strong: DType | None = None
    for x in operands:
        if isinstance(x, Tensor) and not x.weak:
            strong = x.dtype if strong is None else promote(strong, x.dtype)
    numbers = [_sample(x) for x in operands if not isinstance(x, Tensor) or x.weak]
    if strong is None:
        return f64 if any(isinstance(v, float) for v in numbers) else bool_ if all(isinstance(v, bool) for v in numbers) else i64
    for v in numbers:
        strong = promote_scalar(strong, v)
    return strong


def _sample(x: Operand) -> Any:
    if isinstance(x, Tensor):
        return 0.0 if x.dtype.is_float else False if x.dtype is bool_ else 0
    return x


def shape_of(x: Operand) -> tuple[Size, ...]:
    return x.shape if isinstance(x, Tensor) else ()


def broadcast_shapes(name: str, operands: Sequence[Operand]) -> tuple[Size, ...]:
    """The shape that all operands broadcast to."""
    shapes = [shape_of(x) for x in operands]
    rank = max(map(len, shapes), default=0)
    out: list[Size] = []
    for axis in range(-rank, 0):
        size: Size = 1
        for s in shapes:
            n = s[axis] if len(s) >= -axis else 1
            if n == size or n == 1:
                continue
            if size != 1:
                raise _no_broadcast(name, operands, axis, size, n)
            size = n
        out.append(size)
    return tuple(out)


def _no_broadcast(name: str, operands: Sequence[Operand], axis: int, m: Size, n: Size) -> GraphError:
    types = " and ".join(str(x.type) if isinstance(x, Tensor) else repr(x) for x in operands)
    symbolic = isinstance(m, Dim) or isinstance(n, Dim)
    return GraphError(f"{name} needs shapes that broadcast, got {types}", op=f"{name}({', '.join(describe(x) for x in operands)})", at=user_loc(),
                      why=f"axis {axis}: {m} is not {n}" + (", whatever the symbolic size is" if symbolic else ""),
                      fix="reshape, or index with None to add an axis of size 1")


def describe(x: Operand) -> str:
    """How an operand is written in an error: its name, else the module that made it, else its type."""
    if not isinstance(x, Tensor):
        return repr(x)
    if x.name:
        return x.name
    tracer = x._tracer
    if tracer is not None and x._node is not None:
        info = tracer.recorder.info.get(x._node)
        if info is not None:
            if info.names:
                return min(map(str, info.names))
            if info.scopes:
                return f"{sorted(info.scopes)[0]}(...)"
        return f"{x._node.op.name}(...)"
    return str(x.type)


def cast(x: Operand, dtype: DType) -> Tensor:
    """x in a dtype; a number becomes a Tensor of rank 0."""
    if not isinstance(x, Tensor):
        return full((), x, dtype)
    return x if x.dtype is dtype else apply(elementwise.cast, x, dtype=dtype)


def broadcast_to(x: Tensor, shape: tuple[Size, ...]) -> Tensor:
    """x repeated to a shape: new axes in front, and along its axes of size 1."""
    if x.shape == shape:
        return x
    lead = len(shape) - len(x.shape)
    if lead < 0 or any(n not in (1, m) for n, m in zip(x.shape, shape[lead:])):
        raise GraphError(f"{x.type} does not broadcast to [{','.join(map(str, shape))}]", op="broadcast_to", at=user_loc(),
                         why="each axis must be equal or 1, from the last one backwards")
    check_bytes(TensorType(shape, x.dtype))
    spread = tuple(a for a, (n, m) in enumerate(zip(x.shape, shape[lead:])) if n != m)
    if spread:
        x = apply(movement.reshape, x, shape=tuple(n for a, n in enumerate(x.shape) if a not in spread))
    return apply(movement.broadcast, x, shape=shape, axes=(*range(lead), *(lead + a for a in spread)))


def unify(name: str, operands: Sequence[Any], dtype: DType | None = None) -> list[Tensor]:
    """The operands with one dtype and one shape, as nodes need them. A result of weak operands alone is weak."""
    xs = [lift(x) for x in operands]
    dtype = dtype or result_dtype(xs)
    shape = broadcast_shapes(name, xs)
    weak = all(not isinstance(x, Tensor) or x.weak for x in xs)
    out = []
    for x in xs:
        if isinstance(x, Tensor):
            out.append(broadcast_to(cast(x, dtype), shape))
        else:
            number_ = full(shape, x, dtype, weak=weak and not shape)
            if number_._value is not None:              # eagerly: the node says that it is this number, for the rules of derivatives
                number_._node = leaf.const(value=number(x, dtype), shape=number_.shape, dtype=dtype)
                eager.values[number_._node] = number_._value
            out.append(number_)
    return out


def binary(op: Op, name: str, a: Any, b: Any, *, floating: bool = False) -> Tensor:
    """A binary op on anything that broadcasts. floating: integers meet as f32 first, as in a true division."""
    xs = [lift(a), lift(b)]
    dtype = result_dtype(xs)
    if floating and not dtype.is_inexact:
        dtype = f64 if all(not isinstance(x, Tensor) or x.weak for x in xs) else f32
    return apply(op, *unify(name, xs, dtype))


def unary(op: Op, x: Any, *, floating: bool = True) -> Tensor:
    """A unary op. floating: an integer operand becomes f32 first, as in torch."""
    x = as_tensor(x)
    if floating and not x.dtype.is_inexact:
        x = cast(x, f32)
    return apply(op, x)


def axis_index(name: str, axis: Any, rank: int) -> int:
    """An axis as 0..rank-1; counts from the end where it is negative."""
    if not hasattr(axis, "__index__"):
        raise GraphTypeError(f"{name}: an axis is an int, got {axis!r}", at=user_loc())
    axis = int(axis.__index__())
    if not -rank <= axis < rank:
        raise GraphError(f"{name}: axis {axis} is out of range for {rank} axes", at=user_loc(), why=f"axes are {-rank}..{rank - 1}")
    return int(axis) % rank


def axis_tuple(name: str, axis: Any, rank: int) -> tuple[int, ...]:
    """Several axes, one, or None for all."""
    if axis is None:
        return tuple(range(rank))
    axes = tuple(axis_index(name, a, rank) for a in (axis if isinstance(axis, (tuple, list)) else (axis,)))
    if len(set(axes)) != len(axes):
        raise GraphError(f"{name}: axes {tuple(axis)} repeat", at=user_loc())
    return tuple(sorted(axes))


def as_shape(shape: Any) -> tuple[Size, ...]:
    """A shape from an int or a sequence; sizes are >= 0."""
    sizes = tuple(as_size(n) for n in (shape if isinstance(shape, (tuple, list)) else (shape,)))
    for n in sizes:
        if isinstance(n, int) and n < 0:
            raise GraphError(f"a size is >= 0, got the shape {sizes}", at=user_loc())
    return sizes


def as_size(n: Any) -> Size:
    """A size from an int-like, a Dim or a concrete integer Tensor."""
    if not isinstance(n, Dim) and not hasattr(n, "__index__"):
        raise GraphTypeError(f"a size is an int, got {n!r}", at=user_loc())
    return n if isinstance(n, (int, Dim)) else int(n.__index__())
