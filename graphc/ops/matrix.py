"""Matrices in the last two axes, as graph: what the derivative rules of the decompositions are written in. Axes before the last two are a batch."""
from __future__ import annotations

from ..core.dtype import bool_, i64
from ..core.errors import GraphError
from ..core.types import TensorType, Type
from ..ir.node import Node
from .check import floating, tensor
from .contract import contract
from .elementwise import cast, eq, le, lt, where
from .leaf import iota, splat
from .movement import broadcast, permute
from .reduce import reduce_sum


def matrices(name: str, t: Type, square: bool = False) -> TensorType:
    """The type, if it is of matrices of floats."""
    t = floating(name, tensor(name, t))
    if t.rank < 2 or (square and t.shape[-1] != t.shape[-2]):
        raise GraphError(f"{name} is of {'square ' if square else ''}matrices, got {t}", why="they are the last two axes; those before are a batch")
    return t


def transpose(x: Node) -> Node:
    """The last two axes change places."""
    r = x.tensor.rank
    return permute(x, axes=(*range(r - 2), r - 1, r - 2))


def matmul(a: Node, b: Node) -> Node:
    """The matrix products, batch by batch."""
    r = a.tensor.rank
    lead = tuple(range(r - 2))
    return contract(a, b, contracting=((r - 1,), (r - 2,)), batch=(lead, lead))


def row(t: TensorType) -> Node:
    """The number of its row at each place of matrices of that type."""
    return iota(shape=t.shape, dtype=i64, axis=t.rank - 2)


def column(t: TensorType) -> Node:
    return iota(shape=t.shape, dtype=i64, axis=t.rank - 1)


def tril(x: Node, strict: bool = False) -> Node:
    """x on and below the diagonal, or below it alone; 0 elsewhere."""
    t = x.tensor
    return where((lt if strict else le)(column(t), row(t)), x, splat(0.0, x))


def triu(x: Node, strict: bool = False) -> Node:
    t = x.tensor
    return where((lt if strict else le)(row(t), column(t)), x, splat(0.0, x))


def triangle(x: Node, lower: bool, strict: bool) -> Node:
    return tril(x, strict) if lower else triu(x, strict)


def on_diagonal(t: TensorType) -> Node:
    """Whether a place is on the diagonal."""
    return eq(row(t), column(t))


def identity(t: TensorType) -> Node:
    return cast(on_diagonal(t), dtype=t.dtype)


def diagonal(x: Node) -> Node:
    """The diagonal of square matrices, as vectors."""
    return reduce_sum(where(on_diagonal(x.tensor), x, splat(0.0, x)), axes=(x.tensor.rank - 1,))


def each_row(v: Node, like: TensorType) -> Node:
    """The vectors v, one for each matrix of that type, as every row of them: v[..., None, :]."""
    return broadcast(v, shape=like.shape, axes=(like.rank - 2,))


def each_column(v: Node, like: TensorType) -> Node:
    """v[..., :, None]."""
    return broadcast(v, shape=like.shape, axes=(like.rank - 1,))


def bools(t: TensorType) -> TensorType:
    return t.with_dtype(bool_)
