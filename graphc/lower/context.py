"""What every kernel in the making shares: where tensors lie, and the loops around a body."""
from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.target import Target
from ..ir.node import Node
from ..loop.contraction import map_schedule
from ..loop.ir import Alloc, Buffer, For, Int, Kernel, Launch, Stmt, Store, Var, seq
from ..loop.signature import signature
from .access import Home, Reader, variables
from .fuse import shape_of

Made = list[tuple[str, Reader, Stmt]]                  # kernels: a hint for the name, the buffers, the scheduled nest


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


def kernel(name: str, reader: Reader, body: Stmt, origin: Sequence[str]) -> Launch:
    return Launch(Kernel(name, tuple(reader.buffers.values()), (), body, tuple(origin)), tuple(reader.refs))


def copy(n: Node, homes: Sequence[Home], ctx: Context) -> tuple[str, Reader, Stmt]:
    """Write a node's value, wherever it comes from, to the homes."""
    reader = ctx.reader()
    ix = variables("i", shape_of(n))
    value = reader.at(n, ix)
    stores = [Store(*reader.place(h, ix), value) for h in homes]
    order = homes[0].order
    nest = loops([ix[a] for a in order], [shape_of(n)[a] for a in order], seq(*stores))
    return "copy", reader, scheduled(map_schedule, nest, names_of(ix, order), ctx.target)


_schedules: dict[Hashable, Stmt] = {}                   # equal layers have equal nests: each is scheduled once in the life of the process
_MOST = 4096


def scheduled(schedule: Callable[..., Stmt], nest: Stmt, *args: Any) -> Stmt:
    """schedule(nest, *args); the same object for the same nest, so that whoever emits it can do so once."""
    key = (schedule, signature(nest), args)
    if key not in _schedules:
        if len(_schedules) >= _MOST:
            _schedules.clear()
        _schedules[key] = schedule(nest, *args)
    return _schedules[key]


def loops(ix: Sequence[Var], shape: Sequence[int], body: Stmt) -> Stmt:
    """Independent iterations, the first variable outermost."""
    for v, n in reversed(list(zip(ix, shape))):
        body = For(v.name, Int(0), Int(n), "parallel", body)
    return body


def names_of(ix: Sequence[Var], order: Sequence[int]) -> tuple[str, ...]:
    return tuple(ix[a].name for a in order)


def serial(ks: Sequence[Var], sizes: Sequence[int], body: Stmt) -> Stmt:
    """Iterations in order."""
    if 0 in sizes:
        return seq()
    for v, n in reversed(list(zip(ks, sizes))):
        body = For(v.name, Int(0), Int(n), "serial", body)
    return body


def in_registers(registers: Sequence[Buffer], body: Stmt) -> Stmt:
    """The body with these registers."""
    for reg in reversed(registers):
        body = Alloc(reg, body)
    return body
