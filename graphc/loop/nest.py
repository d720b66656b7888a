"""A kernel before its schedule: what it computes, and which schedule will say how. The form in which kernels can still be put together (`rows`)."""
from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import cached_property

from ..core.dims import evaluate, parse
from ..core.record import dataclass, replace
from .ir import Accum, Buffer, Check, For, Int, Kernel, Launch, Ref, Stmt, Store, Var, subst, walk
from .signature import Signature, signature, variables

Argument = Hashable
Schedule = Callable[..., Stmt]


@dataclass(frozen=True, slots=True)
class Effects:
    """What the order of nests depends on: the regions that some of them write, and touch at all; whether what they write lasts; whether they can fail."""

    writes: frozenset[str] = frozenset()
    touches: frozenset[str] = frozenset()
    lasting: bool = False
    fails: bool = False

    def __or__(self, other: Effects) -> Effects:
        return Effects(self.writes | other.writes, self.touches | other.touches, self.lasting or other.lasting, self.fails or other.fails)

    def conflicts(self, other: Effects) -> bool:
        """Whether the order of the two matters: one writes what the other touches, or can fail before the other has written what lasts."""
        return bool(not self.writes.isdisjoint(other.touches) or not other.writes.isdisjoint(self.touches)
                    or (self.lasting and other.fails) or (other.lasting and self.fails))


@dataclass(frozen=True)
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

    @cached_property
    def signature(self) -> Signature:
        return signature(self.body)

    @cached_property
    def sizes(self) -> tuple[str, ...]:
        """The symbolic sizes that it needs: what its shapes name, and the variables that no loop binds."""
        free = variables(self.signature) - {x.var for x in walk(self.body) if isinstance(x, For)}
        return tuple(sorted(free | {n for b in self.buffers for n in b.shape if isinstance(n, str)}))

    @cached_property
    def effects(self) -> Effects:
        statements = list(walk(self.body))
        names = {x.buf.name for x in statements if isinstance(x, Store | Accum)}
        written = [r.region for b, r in zip(self.buffers, self.refs, strict=True) if b.name in names]
        return Effects(frozenset([r.name for r in written]), frozenset([r.region.name for r in self.refs]),
                       any(r.where != "arena" for r in written), any(isinstance(x, Check) for x in statements))

    def bound(self, dims: Mapping[str, int]) -> Nest:
        """Its loops and buffers under a binding of the symbolic dims: to be looked at, not to be run."""
        values = {n: evaluate(parse(n), dims) for n in self.sizes}
        buffers = [replace(b, shape=tuple([values[n] if isinstance(n, str) else n for n in b.shape])) for b in self.buffers]
        return replace(self, buffers=tuple(buffers), body=subst(self.body, {n: Int(v) for n, v in values.items()}))

    def launch(self, name: str) -> Launch:
        return Launch(Kernel(name, self.buffers, self.sizes, self.scheduled(), self.origin), self.refs, tuple(map(Var, self.sizes)))

    def scheduled(self) -> Stmt:
        """The body scheduled; the same object for the same nest, so that whoever emits it can do so once."""
        if self.schedule is None:
            return self.body
        key = (self.schedule, self.signature, self.args)
        if key not in _schedules:
            if len(_schedules) >= _MOST:
                _schedules.clear()
            _schedules[key] = self.schedule(self.body, *self.args)
        return _schedules[key]


_schedules: dict[Hashable, Stmt] = {}                           # equal layers have equal nests: each is scheduled once in the life of the process
_MOST = 4096
