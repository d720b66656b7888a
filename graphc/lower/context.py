"""What every kernel in the making shares: where tensors lie, and the loops around a body."""
from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from ..core.dims import Size
from ..core.record import dataclass
from ..core.target import Target
from ..ir.node import Node
from ..loop.contraction import map_schedule
from ..loop.ir import Alloc, Buffer, For, Int, Stmt, Store, Var, lift, seq
from ..loop.nest import Argument, Nest, Schedule
from .access import Home, Reader, variables
from .fuse import shape_of

Made = list[Nest]


@dataclass(frozen=True, slots=True)
class Context:
    """What every nest needs: the machine, where tensors lie, where results go."""

    target: Target
    homes: Mapping[Node, Home]
    constant: Callable[[Node], Home]
    results: Callable[[Node], Sequence[Home]]           # where a member's value must be written; () for what only this kernel needs
    check_code: Callable[[Node], int]

    def reader(self, own: Collection[Node] = ()) -> Reader:
        return Reader(self.homes, self.constant, own)


def nest(hint: str, reader: Reader, body: Stmt, schedule: Schedule | None = None, *args: Argument) -> Nest:
    """A kernel to be: a hint for its name, the buffers that its reader has met, its loops, and how they will be scheduled."""
    return Nest(hint, tuple(reader.buffers.values()), tuple(reader.refs), body, schedule, args)


def copy(n: Node, homes: Sequence[Home], ctx: Context) -> Nest:
    """Write a node's value, wherever it comes from, to the homes."""
    reader = ctx.reader()
    ix = variables("i", shape_of(n))
    value = reader.at(n, ix)
    stores = [Store(*reader.place(h, ix), value) for h in homes]
    order = homes[0].order
    body = loops([ix[a] for a in order], [shape_of(n)[a] for a in order], seq(*stores))
    return nest("copy", reader, body, map_schedule, names_of(ix, order), ctx.target)


def loops(ix: Sequence[Var], shape: Sequence[Size], body: Stmt) -> Stmt:
    """Independent iterations, the first variable outermost."""
    for v, n in reversed(list(zip(ix, shape))):
        body = For(v.name, Int(0), lift(n), "parallel", body)
    return body


def names_of(ix: Sequence[Var], order: Sequence[int]) -> tuple[str, ...]:
    return tuple(ix[a].name for a in order)


def serial(ks: Sequence[Var], sizes: Sequence[Size], body: Stmt) -> Stmt:
    """Iterations in order."""
    if 0 in sizes:
        return seq()
    for v, n in reversed(list(zip(ks, sizes))):
        body = For(v.name, Int(0), lift(n), "serial", body)
    return body


def in_registers(registers: Sequence[Buffer], body: Stmt) -> Stmt:
    """The body with these registers."""
    for reg in reversed(registers):
        body = Alloc(reg, body)
    return body
