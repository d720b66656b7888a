"""What a compiled function must see unchanged before it may run again without a new trace.

Structure (Modules, optimizers, hooks) is counted: `bump(obj)` after a structural change raises the object's epoch and the epoch of the whole
process, so the fast path is one comparison. Names that the function reads are compared by identity, plain numbers and strings by value.
"""
from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.loc import Loc

_STABLE = ("graphc", "numpy", "math", "builtins", "functools", "itertools", "typing", "collections")
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_DEPTH = 4                                              # of containers and of helper functions
_WIDTH = 256                                            # members of a captured container that are compared


class _Epoch:
    """How many structural changes this process has seen."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


process = _Epoch()


def bump(obj: Any) -> None:
    """Say that the structure of obj (an object with an int attribute `_epoch`) has changed: traces that touched it are stale."""
    obj.__dict__["_epoch"] = obj.__dict__.get("_epoch", 0) + 1
    process.count += 1


def structure(obj: Any) -> Any:
    """What is compared: `obj._structure()`, a hashable value, where the class has it, else the epoch."""
    describe = getattr(obj, "_structure", None)
    return describe() if describe is not None else getattr(obj, "_epoch", 0)


class _Missing:
    """Stands for a name that was not bound."""


MISSING = _Missing()


@dataclass(frozen=True, slots=True)
class Captured:
    """A name that the function reads from outside, and what it stood for: `where` is a namespace or the cell of a closure."""

    name: str
    where: dict[str, Any] | types.CellType
    key: str
    value: Any
    members: Any = None                                 # of a container: a snapshot of what is in it

    def read(self) -> Any:
        """What it stands for now, or MISSING."""
        if isinstance(self.where, dict):
            return self.where.get(self.key, MISSING)
        try:
            return self.where.cell_contents
        except ValueError:
            return MISSING

    def restore(self) -> None:
        """Bind the name again as it was, after a trace that rebound it."""
        if isinstance(self.where, dict):
            self.where[self.key] = self.value
        else:
            self.where.cell_contents = self.value

    def holds(self) -> bool:
        now = self.read()
        return same(now, self.value) and (self.members is None or _members(now, 0) == self.members)


def same(a: Any, b: Any) -> bool:
    """One object, or two equal plain values of one type."""
    return a is b or (type(a) is type(b) and isinstance(a, _PLAIN) and a == b)


class Identity:
    """Compares by identity, and keeps what it stands for alive so that an id is never used twice."""

    __slots__ = ("of",)

    def __init__(self, of: Any) -> None:
        self.of = of

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and same(self.of, other.of)

    def __hash__(self) -> int:
        return id(self.of)


def _members(x: Any, depth: int) -> Any:
    """A snapshot of a container, comparable by ==; of anything else its identity."""
    if depth < _DEPTH and type(x) in (list, tuple) and len(x) <= _WIDTH:
        return (type(x), *(_members(v, depth + 1) for v in x))
    if depth < _DEPTH and type(x) is dict and len(x) <= _WIDTH:
        return (dict, *((k, _members(v, depth + 1)) for k, v in x.items()))
    return Identity(x)


def captures(fn: Callable[..., Any]) -> list[Captured]:
    """Every name that fn and the helpers it names read from globals, closures and attributes of captured objects."""
    found: dict[tuple[int, str], Captured] = {}
    seen: set[int] = set()
    _from_function(fn, found, seen, 0)
    return list(found.values())


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            yield from _codes(c)


def _from_function(fn: Any, found: dict[tuple[int, str], Captured], seen: set[int], depth: int) -> None:
    owner = getattr(fn, "__self__", None)
    fn = getattr(fn, "__func__", fn)
    if not isinstance(fn, types.FunctionType) or id(fn) in seen or depth > _DEPTH:
        return
    seen.add(id(fn))
    names = {n for c in _codes(fn.__code__) for n in c.co_names}
    if owner is not None:
        _from_object(owner, getattr(type(owner), "__name__", "self"), names, found, seen, depth)
    scope = fn.__globals__
    for name in sorted(names & scope.keys()):
        _note(name, scope, name, names, found, seen, depth)
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or ()):
        key = (id(cell), name)
        if key not in found:
            value = Captured(name, cell, name, None).read()
            found[key] = Captured(name, cell, name, value, _snapshot(value))
            _inside(value, name, names, found, seen, depth)
    for name, value in zip(fn.__code__.co_varnames[max(0, fn.__code__.co_argcount - len(fn.__defaults__ or ())):], fn.__defaults__ or ()):
        if isinstance(value, types.FunctionType):
            _inside(value, name, names, found, seen, depth)


def _snapshot(value: Any) -> Any:
    return _members(value, 0) if type(value) in (list, tuple, dict) else None


def _note(path: str, scope: dict[str, Any], name: str, names: set[str], found: dict[tuple[int, str], Captured], seen: set[int], depth: int) -> None:
    value = scope[name]
    if isinstance(value, types.ModuleType) and value.__name__.partition(".")[0] in _STABLE:
        return
    key = (id(scope), name)
    if key not in found:
        found[key] = Captured(path, scope, name, value, _snapshot(value))
        _inside(value, path, names, found, seen, depth)


def _inside(value: Any, path: str, names: set[str], found: dict[tuple[int, str], Captured], seen: set[int], depth: int) -> None:
    """Go on through a captured helper, or a captured object of the user's."""
    if type(value) in (list, tuple, dict):
        for v in (value.values() if type(value) is dict else value):
            if callable(v):
                _inside(v, path, names, found, seen, depth + 1)
        return
    if isinstance(value, (types.FunctionType, types.MethodType)):
        module = getattr(value, "__module__", None) or ""
        if module.partition(".")[0] not in _STABLE:
            _from_function(value, found, seen, depth + 1)
        return
    _from_object(value, path, names, found, seen, depth)


def _from_object(obj: Any, path: str, names: set[str], found: dict[tuple[int, str], Captured], seen: set[int], depth: int) -> None:
    """The attributes of obj that the code names. Modules and optimizers of graphc keep an epoch instead."""
    if obj is MISSING or isinstance(obj, type) or hasattr(obj, "_epoch") or id(obj) in seen or depth > _DEPTH:
        return
    scope = getattr(obj, "__dict__", None)
    if not isinstance(scope, dict) or (type(obj).__module__ or "").partition(".")[0] in _STABLE:
        return
    seen.add(id(obj))
    for name in sorted(names & scope.keys()):
        _note(f"{path}.{name}", scope, name, names, found, seen, depth + 1)
    if not isinstance(obj, types.ModuleType):                           # self.helper(): the methods that the code names
        for name in sorted(names - scope.keys()):
            method = getattr(type(obj), name, None)
            if isinstance(method, types.FunctionType):
                _from_function(types.MethodType(method, obj), found, seen, depth + 1)
                for deeper in sorted({n for c in _codes(method.__code__) for n in c.co_names} & scope.keys()):
                    _note(f"{path}.{deeper}", scope, deeper, names, found, seen, depth + 1)


@dataclass(frozen=True, slots=True)
class Constant:
    """A number or an array that a trace has baked in: where it was read from, what it was."""

    name: str
    value: Any
    loc: Loc | None = None

    def __str__(self) -> str:
        shown = f"array of shape {self.value.shape}" if isinstance(self.value, np.ndarray) and self.value.ndim else repr(self.value)
        return f"{self.name} = {shown}"
