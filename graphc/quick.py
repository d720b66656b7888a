"""The short way of a call: the step of the last call again, if a native look says that nothing it depends on has changed.

Everything here could be left out: `Quick.run` answers NotImplemented whenever anything is unusual (an argument to be converted, a rebound name, a step that
fails), and then the call goes the long way, which knows what to do or to say. What is checked on either way is the same.
"""
from __future__ import annotations

import types
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .core.fork import polling
from .llvm import guard
from .llvm.guard import ARRAY, COUNT, ENTRY, GIVEN, INSIDE, ITEM, NAME, NUMBER, PLACE, SAME, TYPED, Record
from .trace import tree
from .trace.guards import MISSING, Captured, gradients, is_container, process

if TYPE_CHECKING:
    from .driver import Variant
    from .executable import Native
    from .frame import Frame
    from .trace.arguments import Arguments


class Quick:
    """A variant's executable, entered through a guard of what the trace depends on."""

    __slots__ = ("_content", "_enter", "_fit", "_frame", "_names", "_native", "_only", "_others", "_settled", "_unsure", "variant")

    def __init__(self, variant: Variant, native: Native, frame: Frame, takes: int, records: Sequence[Record], bound: bool) -> None:
        t = variant.traced
        self.variant, self._native, self._frame, self._fit = variant, native, frame, frame.fit
        self._names, self._others = _names(t.captured)
        self._content = _content(self._names)
        self._settled = -1                              # the count of gradients at which a call leaves every .grad as it was
        self._unsure = native.team is not None or native.calls_python or bool(frame.lent)
        self._only = frame.results[t.out_leaves[0][1]] if t.out_tree is tree.LEAF and t.out_leaves[0][0] and not self._unsure else None
        gives = len(t.number_leaves) + len(t.sources) + (0 if bound else len(t.array_leaves))
        numbers: list[Record] = []
        for k, source in enumerate(t.sources, gives - len(t.sources)):
            numbers.append((NUMBER, source.where, source.key, k))
            if source.index is not None:
                numbers.append((ITEM, 0, source.index, k))
        names = [r for c, value in self._names for r in _looks(c, value)]
        self._enter = frame.guarded("again" if bound else "entry", takes, gives, [*records, *names, *numbers])

    def current(self) -> bool:
        """Whether the sizes are those of the frame, and the names stand for the very objects that are looked for; a number that is equal is not that."""
        return self._fit is self._frame.fit and all(c.read() is value for c, value in self._names) and self._content == _content(self._names)

    def run(self, args: tuple[Any, ...]) -> Any:
        """The result of a call, or NotImplemented. The caller holds `running`."""
        t = self.variant.traced
        if t.epoch != process.count and not t.structure_holds():
            return NotImplemented
        if self._fit is not self._frame.fit:
            return NotImplemented
        now = gradients.count
        if self._settled != now and not t.gradients_hold():
            return NotImplemented
        for c in self._others:
            if not c.holds():
                return NotImplemented
        if polling.value:
            return NotImplemented
        if self._unsure:
            self._native.begin(self._frame)
        writer = t.writer
        if writer.lost:
            writer.claim(t.written)
        try:
            if self._enter(*args):
                return NotImplemented
        finally:
            writer.count += 1                           # interrupted just behind the step, it has happened
        if self._settled == now and self._only is not None:
            return self._only[()] if not self._only.ndim else self._only.copy()
        results = self._native.end(self._frame)
        if self._settled != now:
            self.variant.leave(results)
            if gradients.count == now:
                self._settled = now
        return self.variant.result(results)


def _names(captured: Sequence[Captured]) -> tuple[list[tuple[Captured, Any]], list[Captured]]:
    """Those that a guard can look at, with the objects that they stand for now, and the others."""
    names: list[tuple[Captured, Any]] = []
    others: list[Captured] = []
    for c in captured:
        now = c.read()
        if now is not MISSING and c.holds() and (type(c.where) is dict or isinstance(c.where, types.CellType)) and (c.members is None or _plain(now)):
            names.append((c, now))
        else:
            others.append(c)
    return names, others


def _plain(x: Any) -> bool:
    """Nothing that is compared by its content but dicts, lists and tuples of Python's own, none in itself."""
    def plain(x: Any, depth: int) -> bool:
        if not is_container(x, depth):
            return True
        return type(x) in (dict, list, tuple) and all(plain(v, depth + 1) for v in (x.values() if type(x) is dict else x))
    return plain(x, 0)


def _looks(c: Captured, value: Any) -> list[Record]:
    """What a guard looks at for a name: that it stands for this, and if that is a container, that this is in it."""
    records: list[Record] = [(INSIDE, c.where, value, 0) if isinstance(c.where, types.CellType) else (NAME, c.where, value, c.key)]
    level, depth = [value], 0
    while c.members is not None and level:
        level = [x for x in level if is_container(x, depth)]
        for x in level:
            records.append((COUNT, x, len(x), 0))
            if type(x) is dict:
                records += [(ENTRY, x, v, k) for k, v in x.items()]
            elif type(x) is list:
                records += [(PLACE, x, v, k) for k, v in enumerate(x)]
        level, depth = [v for x in level for v in (x.values() if type(x) is dict else x)], depth + 1
    return records


def _content(names: Sequence[tuple[Captured, Any]]) -> list[tuple[int, ...]]:
    """The identities of all that `_looks` looks at."""
    return [tuple(map(id, r)) for c, value in names if c.members is not None for r in _looks(c, value)]


def of_call(variant: Variant, native: Native, args: Sequence[Any], call: Arguments) -> Quick | None:
    """The short way for calls like this one, of plain arguments by position; None where there is none."""
    if native.frame.enter is None or not guard.self_test():
        return None
    positional, keywords = call.treedef.children
    if keywords.children or len(positional.children) != len(args):
        return None
    t, leaf = variant.traced, 0
    records: list[Record] = []
    for k, (a, shape) in enumerate(zip(args, positional.children)):
        if shape is tree.NONE:
            records.append((SAME, k, a, 0))
            continue
        if shape is not tree.LEAF:
            return None
        kind = call.keys[leaf][0]
        if kind == "array":
            if type(a) is not np.ndarray:
                return None
            records.append((ARRAY, k, 0, t.array_leaves.index(leaf)))
        elif kind in ("float", "int"):
            if type(a) is not (float if kind == "float" else int):
                return None
            records.append((TYPED, k, type(a), len(t.array_leaves) + t.number_leaves.index(leaf)))
        else:
            records.append((SAME, k, a, 0))
        leaf += 1
    return Quick(variant, native, native.frame, len(args), records, bound=False)


def of_leaves(variant: Variant, native: Native, leaves: Sequence[Any]) -> Quick | None:
    """The short way for these very arguments, whose arrays the step reads where they are; None where there is none."""
    if native.frame.enter is None or not guard.self_test():
        return None
    t, frame = variant.traced, native.new_frame()
    native.meet(frame, [leaves[k].shape for k in t.array_leaves] + [()] * (len(native.graph.inputs) - len(t.array_leaves)))
    for k, leaf in enumerate(t.array_leaves):
        frame.table[frame.slots[k][1]] = leaves[leaf].ctypes.data
    return Quick(variant, native, frame, 0, [(GIVEN, leaves[leaf], 0, k) for k, leaf in enumerate(t.number_leaves)], bound=True)
