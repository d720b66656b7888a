"""Products of matrices and vectors: each is one contraction, batched by broadcasting."""
from __future__ import annotations

from typing import Any

from ..core.dtype import bool_, f32
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.types import TensorType
from ..ops import contract as ops
from ..trace.apply import apply
from ..trace.broadcast import as_tensor, axis_index, broadcast_shapes, broadcast_to, cast, describe, result_dtype
from ..trace.tensor import Tensor
from .manipulation import reshape


def operands(name: str, x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Both in one dtype. f64 with f32 is refused: it is nearly always data that should have been converted once, not at every step."""
    a, b = as_tensor(x), as_tensor(y)
    if a.dtype.is_float and b.dtype.is_float and a.dtype is not b.dtype and not a.weak and not b.weak:
        wide, narrow = (a, b) if a.dtype.bits > b.dtype.bits else (b, a)
        raise GraphError(f"{name} of {a.type} and {b.type}", op=_call(name, a, b), at=user_loc(),
                         why=f"{describe(wide)} is {wide.dtype} and {describe(narrow)} is {narrow.dtype}; converting at every call is slow, and rarely meant",
                         fix=f"{describe(wide)}.astype({_spelled(narrow)}) once, before the call, or make the weights {wide.dtype} (net.double())")
    dtype = result_dtype([a, b])
    if dtype is bool_:
        raise GraphError(f"{name} of bools", op=_call(name, a, b), at=user_loc(), fix=".astype(gx.float32) first")
    if a.weak or b.weak:
        dtype = f32 if a.weak and b.weak else dtype
    return cast(a, dtype), cast(b, dtype)


def _spelled(t: Tensor) -> str:
    return {"f32": "numpy.float32", "f64": "numpy.float64"}[t.dtype.name]


def _call(name: str, a: Tensor, b: Tensor) -> str:
    return f"{name}({describe(a)}, {describe(b)})"


def _where_from(x: Tensor) -> str:
    """The line that made a traced operand, for an error."""
    if x._tracer is None or x._node is None:
        return ""
    locs = x._tracer.recorder.info[x._node].locs if x._node in x._tracer.recorder.info else ()
    return f" (from {min(map(str, locs)).partition('  in ')[0]})" if locs else ""


def _inner(name: str, a: Tensor, b: Tensor, i: int, j: int) -> None:
    m, n = a.shape[i], b.shape[j]
    if m != n:
        last, first = "last" if i == a.ndim - 1 else f"number {i}", "first" if j == 0 else "last" if j == b.ndim - 1 else "second to last" \
            if j == b.ndim - 2 else f"number {j}"
        fix = "flatten(x, 1) first, nn.Linear of the right size, or transpose one of them"
        raise GraphError(f"{name} needs equal inner sizes, got {a.type} and {b.type}", op=_call(name, a, b), at=user_loc(),
                         why=f"{m} is the {last} axis of {describe(a)}{_where_from(a)}, {n} the {first} of {describe(b)}", fix=fix)


def matmul(x: Any, y: Any, /) -> Tensor:
    """The matrix product x @ y. A vector meets a matrix as a row or a column; axes before the last two are batch axes and broadcast."""
    a, b = operands("matmul", x, y)
    if a.ndim == 0 or b.ndim == 0:
        raise GraphError(f"matmul needs at least one axis each, got {a.type} and {b.type}", op=_call("matmul", a, b), at=user_loc(), fix="a * b")
    _inner("matmul", a, b, a.ndim - 1, 0 if b.ndim == 1 else b.ndim - 2)
    if a.ndim <= 2 and b.ndim <= 2:
        return apply(ops.contract, a, b, contracting=((a.ndim - 1,), (0,)), batch=((), ()))
    if b.ndim <= 2:                                                     # no batch on the right: every row of a meets the same matrix
        return apply(ops.contract, a, b, contracting=((a.ndim - 1,), (0,)), batch=((), ()))
    if a.ndim == 1:
        out = apply(ops.contract, a, b, contracting=((0,), (b.ndim - 2,)), batch=((), ()))
        return out
    lead = broadcast_shapes("matmul", [_lead(a), _lead(b)])
    a, b = broadcast_to(a, (*lead, *a.shape[-2:])), broadcast_to(b, (*lead, *b.shape[-2:]))
    axes = tuple(range(len(lead)))
    return apply(ops.contract, a, b, contracting=((len(lead) + 1,), (len(lead),)), batch=(axes, axes))


def _lead(x: Tensor) -> Tensor:
    """Stands for x with its batch axes alone."""
    return Tensor._blank(TensorType(x.shape[:-2], x.dtype))


def vecdot(x: Any, y: Any, /, *, axis: int = -1) -> Tensor:
    """The sum of products along an axis; the others broadcast."""
    a, b = operands("vecdot", x, y)
    _inner("vecdot", a, b, axis_index("vecdot", axis, a.ndim), axis_index("vecdot", axis, b.ndim))
    shape = broadcast_shapes("vecdot", [a, b])
    a, b = broadcast_to(a, shape), broadcast_to(b, shape)
    k = axis_index("vecdot", axis, len(shape))
    rest = tuple(i for i in range(len(shape)) if i != k)
    return apply(ops.contract, a, b, contracting=((k,), (k,)), batch=(rest, rest))


def tensordot(x: Any, y: Any, /, *, axes: Any = 2) -> Tensor:
    """The sum of products over pairs of axes: the last n of x with the first n of y, or two lists."""
    a, b = operands("tensordot", x, y)
    pairs = (axes,) if isinstance(axes, int) else tuple(map(len, axes))
    if len(set(pairs)) != 1 or not 0 <= pairs[0] <= min(a.ndim, b.ndim):
        raise GraphError(f"tensordot over axes {axes!r} of {a.type} and {b.type}", op=_call("tensordot", a, b), at=user_loc(),
                         why="axes is how many there are, or two lists of equal length")
    if isinstance(axes, int):
        left, right = tuple(range(a.ndim - axes, a.ndim)), tuple(range(axes))
    else:
        left = tuple(axis_index("tensordot", i, a.ndim) for i in axes[0])
        right = tuple(axis_index("tensordot", j, b.ndim) for j in axes[1])
    for i, j in zip(left, right, strict=True):
        _inner("tensordot", a, b, i, j)
    return apply(ops.contract, a, b, contracting=(left, right), batch=((), ()))


def outer(x: Any, y: Any, /) -> Tensor:
    """All products of an element of x with an element of y."""
    a, b = as_tensor(x), as_tensor(y)
    return reshape(a, (a.size, 1)) * reshape(b, (1, b.size))


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """x @ weight.T + bias, weight as [out, in]: torch's layout. One contraction, nothing transposed."""
    a, w = operands("linear", x, weight)
    if w.ndim != 2 or a.ndim == 0:
        raise GraphError(f"linear needs x[..., in] and weight[out, in], got {a.type} and {w.type}", op=_call("linear", a, w), at=user_loc())
    if a.shape[-1] != w.shape[1]:
        raise GraphError(f"linear needs {w.shape[1]} features, got {a.type}", op=_call("linear", a, w), at=user_loc(),
                         why=f"{a.shape[-1]} is the last axis of {describe(a)}{_where_from(a)}, {w.shape[1]} the last of {describe(w)} {w.type}",
                         fix=f"nn.Linear({a.shape[-1]}, ...) or flatten(x, 1) before it")
    out = apply(ops.contract, a, w, contracting=((a.ndim - 1,), (1,)), batch=((), ()))
    return out if bias is None else out + bias


__all__ = ["linear", "matmul", "operands", "outer", "tensordot", "vecdot"]
