"""What a compiled function must see unchanged before it may run again without a new trace.

Structure (Modules, optimizers, hooks) is counted: `bump(obj)` after a structural change raises the object's epoch and the epoch of the whole
process, so the fast path is one comparison. Names that the function reads are compared by identity, plain numbers and strings by value.
"""
from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.loc import Loc

_STABLE = ("graphc", "numpy", "math", "functools", "itertools", "typing", "collections")
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


def captures(fn: Callable[..., Any], also: Iterable[Any] = ()) -> list[Captured]:
    """Every name that fn, the helpers it names, and the methods of the objects `also` read from globals, closures and captured objects."""
    search = _Search()
    search.inside(fn, getattr(fn, "__name__", "fn"), set(), 0)
    for obj in also:
        search.methods(obj)
    return list(search.found.values())


def _is_users(x: Any) -> bool:
    return (getattr(x, "__module__", None) or "").partition(".")[0] not in _STABLE


def _names(code: types.CodeType) -> set[str]:
    """Globals and attributes that the code and the functions inside it name."""
    out = set(code.co_names)
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            out |= _names(c)
    return out


class _Search:
    """Walks from a function through what it names. An over-approximation: a name of an attribute counts for every captured object that has it."""

    def __init__(self) -> None:
        self.found: dict[tuple[int, str], Captured] = {}
        self.seen: set[int] = set()
        self.bound: set[tuple[int, int]] = set()        # methods and the objects they were found on

    def _first(self, x: Any, depth: int) -> bool:
        if id(x) in self.seen or depth > _DEPTH:
            return False
        self.seen.add(id(x))
        return True

    def function(self, fn: types.FunctionType, depth: int) -> None:
        """The globals and closure cells of a function of the user's."""
        if not _is_users(fn) or not self._first(fn, depth):
            return
        names, scope = _names(fn.__code__), fn.__globals__
        for name in sorted(names & scope.keys()):
            self.note(name, scope, name, names, depth)
        for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or ()):
            self.note(name, cell, name, names, depth)
        for value in (*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values()):
            if callable(value):
                self.inside(value, "", names, depth + 1)

    def note(self, path: str, where: dict[str, Any] | types.CellType, name: str, names: set[str], depth: int) -> None:
        value = Captured(path, where, name, None).read()
        if isinstance(value, types.ModuleType) and value.__name__.partition(".")[0] in _STABLE:
            return
        if (id(where), name) not in self.found:
            members = _members(value, 0) if type(value) in (list, tuple, dict) else None
            self.found[id(where), name] = Captured(path, where, name, value, members)
            self.inside(value, path, names, depth)

    def inside(self, value: Any, path: str, names: set[str], depth: int) -> None:
        """Go on through a helper, a container of helpers, or an object of the user's."""
        if type(value) in (list, tuple, dict):
            for v in (value.values() if type(value) is dict else value):
                if callable(v):
                    self.inside(v, path, names, depth + 1)
        elif isinstance(value, types.FunctionType):
            self.function(value, depth + (depth > 0))
        elif isinstance(value, types.MethodType):
            self.attributes(value.__self__, type(value.__self__).__name__, _names(value.__func__.__code__) if isinstance(value.__func__, types.FunctionType)
                            else set(), depth)
            self.inside(value.__func__, path, names, depth)
        elif isinstance(value, functools.partial):
            self.inside([value.func, *value.args, *value.keywords.values()], path, names, depth)
        elif not isinstance(value, type) and value is not MISSING:
            self.attributes(value, path, names, depth)
            call = getattr(type(value), "__call__", None)          # noqa: B004 (the function itself is wanted)
            if isinstance(call, types.FunctionType) and _is_users(type(value)) and not hasattr(value, "_epoch"):
                self.inside(types.MethodType(call, value), path, names, depth + 1)
        wrapped = getattr(value, "__wrapped__", None) if callable(value) else None
        if wrapped is not None:
            self.inside(wrapped, path, names, depth + 1)

    def attributes(self, obj: Any, path: str, names: set[str], depth: int) -> None:
        """The attributes of obj that are named, and its methods that are. Modules and optimizers of graphc keep an epoch instead."""
        scope = getattr(obj, "__dict__", None)
        if not isinstance(scope, dict) or hasattr(obj, "_epoch") or not _is_users(type(obj)) or depth > _DEPTH:
            return
        if isinstance(obj, types.ModuleType) and obj.__name__.partition(".")[0] in _STABLE:
            return
        for name in sorted(names & scope.keys()):
            self.note(f"{path}.{name}", scope, name, names, depth + 1)
        for name in sorted(names - scope.keys()):
            method = getattr(type(obj), name, None)
            if isinstance(method, types.FunctionType) and (id(method), id(obj)) not in self.bound:
                self.bound.add((id(method), id(obj)))
                self.inside(types.MethodType(method, obj), path, names, depth + 1)

    def methods(self, obj: Any) -> None:
        """What the methods that the user wrote for obj's class read."""
        for cls in type(obj).__mro__:
            if _is_users(cls):
                for f in vars(cls).values():
                    if isinstance(f, types.FunctionType):
                        self.function(f, 0)


@dataclass(frozen=True, slots=True)
class Constant:
    """A number or an array that a trace has baked in: where it was read from, what it was."""

    name: str
    value: Any
    loc: Loc | None = None

    def __str__(self) -> str:
        shown = f"array of shape {self.value.shape}" if isinstance(self.value, np.ndarray) and self.value.ndim else repr(self.value)
        return f"{self.name} = {shown}"
