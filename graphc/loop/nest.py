"""A kernel before its schedule: what it computes, and which schedule will say how. The form in which kernels can still be put together (`rows`)."""
from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from .ir import Buffer, Kernel, Launch, Ref, Stmt
from .signature import signature

Argument = Hashable
Schedule = Callable[..., Stmt]


@dataclass(frozen=True, slots=True)
class Nest:
    """Loops over buffers, each standing for a region, and the call schedule(body, *args) that makes them fast. Without a schedule they are as they
    should be."""

    hint: str                                                   # for the kernel's name
    buffers: tuple[Buffer, ...]
    refs: tuple[Ref, ...]
    body: Stmt
    schedule: Schedule | None = None
    args: tuple[Argument, ...] = ()
    origin: tuple[str, ...] = ()                                # names of the graph nodes that it computes

    def launch(self, name: str) -> Launch:
        body = self.body if self.schedule is None else scheduled(self.schedule, self.body, *self.args)
        return Launch(Kernel(name, self.buffers, (), body, self.origin), self.refs)


_schedules: dict[Hashable, Stmt] = {}                           # equal layers have equal nests: each is scheduled once in the life of the process
_MOST = 4096


def scheduled(schedule: Schedule, body: Stmt, *args: Argument) -> Stmt:
    """schedule(body, *args); the same object for the same nest, so that whoever emits it can do so once."""
    key = (schedule, signature(body), args)
    if key not in _schedules:
        if len(_schedules) >= _MOST:
            _schedules.clear()
        _schedules[key] = schedule(body, *args)
    return _schedules[key]
