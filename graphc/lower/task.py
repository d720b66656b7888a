"""One kernel of an op on matrices, from its two nests: one for one matrix, one for as many as there are lanes."""
from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

from ..core.dtype import DType
from ..core.record import dataclass
from ..core.types import TupleType
from ..ir.node import Node
from ..loop.ir import Bin, Expr, Int, Stmt, Store, Var, seq
from . import small, tiles
from .access import Home, Index, Reader
from .context import Context, Made, loops, nest
from .fuse import shape_of
from .tiles import stripes


@dataclass(frozen=True, slots=True)
class Task:
    """One op on one matrix of a batch: how its operands are read and its results written."""

    reader: Reader
    batch: Index                                        # the number of the matrix, or nothing
    dtype: DType
    lanes: int

    def operand(self, x: Node) -> tiles.Element:
        return lambda i, j: self.reader.at(x, (*self.batch, i, j))

    def written(self, homes: Sequence[Home], rows: int, columns: int, value: tiles.Element) -> Stmt:
        def at(i: Expr, j: Expr) -> Stmt:
            v = value(i, j)
            return seq(*(Store(*self.reader.place(h, (*self.batch, i, j)), v) for h in homes))
        return stripes(rows, columns, self.lanes, at) if homes else seq()

    def vector_written(self, homes: Sequence[Home], n: int, value: Callable[[Expr], Expr]) -> Stmt:
        i = Var("i")
        v = value(i)
        return tiles.each("i", 0, n, seq(*(Store(*self.reader.place(h, (*self.batch, i)), v) for h in homes))) if homes else seq()


Blocked = Callable[[Node, Task, Sequence[Sequence[Home]]], Stmt]


def lowered(blocked: Blocked, across: small.Small) -> Callable[[Node, Context], Made]:
    """The kernel of an op from its two nests: one matrix, and as many as there are lanes."""
    def head(n: Node, ctx: Context) -> Made:
        homes = by_item(n, ctx)
        if all(0 in h.type.shape for h in ctx.results(n)):
            return []
        (*batch, _, _), dtype = shape_of(n.inputs[0]), n.inputs[0].tensor.dtype
        reader, lanes = ctx.reader(), ctx.target.lanes(dtype)
        body = small.body(n, across, reader, homes, lanes)
        if body is None:
            body = loops([Var("b")], batch, blocked(n, Task(reader, tuple(Var("b") for _ in batch), dtype, lanes), homes))
        return [nest(n.op.name, reader, body)]
    return head


def by_item(n: Node, ctx: Context) -> list[list[Home]]:
    """The homes of each result."""
    homes = list(ctx.results(n))
    return [[h] for h in homes] if isinstance(n.type, TupleType) else [homes]


def sizes(n: Node, operand: int = 0) -> tuple[int, int]:
    rows, columns = shape_of(n.inputs[operand])[-2:]
    return operator.index(rows), operator.index(columns)


def at_most(a: Expr, b: int) -> Expr:
    return Bin("min", a, Int(b))
