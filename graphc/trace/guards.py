"""What a compiled function must see unchanged before it may run again without a new trace.

Structure (Modules, optimizers, hooks) is counted: `bump(obj)` after a structural change raises the object's epoch and the epoch of the whole
process, so the fast path is one comparison. Names that the function reads are compared by identity, plain numbers and strings by value.
"""
from __future__ import annotations

import functools
import sys
import types
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from enum import EnumMeta
from typing import Any

import numpy as np

from ..core.loc import Loc
from ..core.record import dataclass

_STABLE = ("graphc", "numpy", "math", "functools", "itertools", "typing", "collections")
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_DEPTH = 4                                              # of containers and of helper functions
_PRIVATE = ("_parameters", "_buffers", "_modules", "_not_saved", "_forward_hooks", "_forward_pre_hooks")    # of a Module: in its structure
_WIDTH = 256                                            # members of a captured container that are compared


class _Epoch:
    """How many structural changes this process has seen."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


process = _Epoch()
gradients = _Epoch()                                    # how often any .grad has come, gone or changed its place


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
    """A name that the function reads from outside, and what it stood for: `where` is a namespace, the cell of a closure, or an object with attributes."""

    name: str
    where: Any                                          # a dict, a cell, or what has the attribute: a class, an object with slots
    key: str
    value: Any
    members: Any = None                                 # of a container: a snapshot of what is in it

    def read(self) -> Any:
        """What it stands for now, or MISSING."""
        if isinstance(self.where, dict):
            return self.where.get(self.key, MISSING)
        if not isinstance(self.where, types.CellType):
            return getattr(self.where, self.key, MISSING)
        try:
            return self.where.cell_contents
        except ValueError:
            return MISSING

    def restore(self) -> None:
        """Bind the name again as it was, after a trace that rebound it."""
        if isinstance(self.where, dict):
            self.where[self.key] = self.value
        elif isinstance(self.where, types.CellType):
            self.where.cell_contents = self.value
        else:
            setattr(self.where, self.key, self.value)

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


_CONTAINERS = (list, tuple, dict, set, frozenset, deque)


def _is_container(x: Any) -> bool:
    """A container whose content is compared: Python's own and the user's, not graphc's (what is in a param_group is read at every call)."""
    return isinstance(x, _CONTAINERS) and not type(x).__module__.startswith("graphc.")


def is_container(x: Any, depth: int) -> bool:
    """Is x, so deep inside what a name stands for, compared by its content?"""
    return depth < _DEPTH and _is_container(x) and len(x) <= _WIDTH


def _members(x: Any, depth: int) -> Any:
    """A snapshot of a container, comparable by ==; of anything else its identity."""
    if not is_container(x, depth):
        return Identity(x)
    if isinstance(x, dict):
        return (type(x), *((k, _members(v, depth + 1)) for k, v in x.items()))
    if isinstance(x, (set, frozenset)):
        return type(x), frozenset(x)
    return (type(x), *(_members(v, depth + 1) for v in x))


class Captures(list[Captured]):
    """The names, and the objects with a structure (Modules, optimizers) that they lead to."""

    structured: list[Any]


def captures(fn: Callable[..., Any], also: Iterable[Any] = (), arguments: Iterable[Any] = (), called: Collection[types.CodeType] = ()) -> Captures:
    """Every name that fn, the helpers it names, and the methods of the objects `also` read from globals, closures and captured objects.

    `arguments` are those that fn takes as they are: functions, callable objects, Modules. `called`: code that runs in every call, not in the trace, so what
    it reads may change.
    """
    search = _Search(called)
    search.inside(fn, getattr(fn, "__name__", "fn"), set(), 0)
    names = search.names(fn.__code__) if isinstance(fn, types.FunctionType) else set()
    for obj in arguments:
        search.inside(obj, type(obj).__name__, names, 0)
    for obj in also:
        search.methods(obj)
    out = Captures(search.found.values())
    out.structured = list(search.structured.values())
    return out


def _package(x: Any) -> str:
    """The top package of a function's or a class's module."""
    return (getattr(x, "__module__", None) or "").partition(".")[0]


def _is_users(x: Any) -> bool:
    """Was this function or class written by the user, and not installed? What libraries read from their own globals is not followed."""
    return not _is_installed(_package(x))


@functools.lru_cache(None)
def _is_installed(package: str) -> bool:
    if package in _STABLE or (package in sys.stdlib_module_names and package != "builtins"):     # code made by exec is of "builtins"
        return True
    where = getattr(sys.modules.get(package), "__file__", None) or ""
    return "site-packages" in where or "dist-packages" in where


def _is_stable(module: types.ModuleType) -> bool:
    """A module whose names nobody rebinds."""
    package = module.__name__.partition(".")[0]
    return package in _STABLE or package in sys.stdlib_module_names


def code_of(f: Any) -> types.CodeType | None:
    """The code that runs when f is called, where it is Python's: of a function, a method, a partial, an object with __call__."""
    f = getattr(f, "func", f)
    f = getattr(f, "__func__", f if hasattr(f, "__code__") else getattr(type(f), "__call__", None))          # noqa: B004 (the function itself is wanted)
    found = getattr(f, "__code__", None)
    return found if isinstance(found, types.CodeType) else None


def _static(cls: type, name: str) -> Any:
    """What a class that the user wrote, or one above it, has under this name: a function, a property, a value; MISSING."""
    for c in cls.__mro__:
        if name in c.__dict__:
            return c.__dict__[name] if _is_users(c) and c.__module__ != "builtins" else MISSING
    return MISSING


def _code_of(x: Any) -> Iterator[types.FunctionType]:
    """The functions behind a method, a static method or a property."""
    for f in (x.fget, x.fset) if isinstance(x, property) else (getattr(x, "func", getattr(x, "__func__", x)),):
        if isinstance(f, types.FunctionType):
            yield f


class _Search:
    """Walks from a function through what it names. An over-approximation: a name of an attribute counts for every captured object that has it."""

    def __init__(self, called: Collection[types.CodeType] = ()) -> None:
        self.called = frozenset(called)
        self.found: dict[tuple[int, str], Captured] = {}
        self.seen: set[int] = set()
        self.bound: set[tuple[int, int]] = set()        # methods and the objects they were found on
        self.structured: dict[int, Any] = {}            # Modules and optimizers

    def _first(self, x: Any, depth: int) -> bool:
        if id(x) in self.seen or depth > _DEPTH:
            return False
        self.seen.add(id(x))
        return True

    def names(self, code: types.CodeType) -> set[str]:
        """Globals and attributes that the code and the functions inside it name, by getattr(x, "name") too."""
        out = set(code.co_names)
        for c in code.co_consts:
            if isinstance(c, types.CodeType):
                out |= self.names(c) if c not in self.called else set()
            elif type(c) is str and c.isidentifier():
                out.add(c)
        return out

    def cells(self, code: types.CodeType) -> set[str]:
        """The closure's names that the code and the functions inside it read."""
        if not self.called:
            return set(code.co_freevars)
        import dis
        out = {str(i.argval) for i in dis.get_instructions(code) if i.opname.endswith("DEREF")}
        return out.union(*(self.cells(c) for c in code.co_consts if isinstance(c, types.CodeType) and c not in self.called))

    def function(self, fn: types.FunctionType, depth: int) -> None:
        """The globals and closure cells of a function of the user's."""
        if fn.__code__ in self.called or not _is_users(fn) or not self._first(fn, depth):
            return
        names, cells, scope = self.names(fn.__code__), self.cells(fn.__code__), fn.__globals__
        for name in sorted(names & scope.keys()):
            self.note(name, scope, name, names, depth)
        for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or ()):
            if name in cells:
                self.note(name, cell, name, names, depth)
        for key in ("__defaults__", "__kwdefaults__"):
            values = getattr(fn, key)
            if values and not all(isinstance(v, _PLAIN) for v in (values.values() if isinstance(values, dict) else values)):
                self.note(fn.__name__, fn, key, names, depth)

    def note(self, path: str, where: Any, name: str, names: set[str], depth: int) -> None:
        value = Captured(path, where, name, None).read()
        if isinstance(value, types.ModuleType) and _is_stable(value):
            return
        if (id(where), name) not in self.found:
            self.found[id(where), name] = Captured(path, where, name, value, _members(value, 0) if _is_container(value) else None)
            self.inside(value, path, names, depth)

    def inside(self, value: Any, path: str, names: set[str], depth: int) -> None:
        """Go on through a helper, a container of helpers, or an object of the user's."""
        if _is_container(value):
            for v in (value.values() if isinstance(value, dict) else value):
                if depth < _DEPTH and not isinstance(v, _PLAIN):
                    self.inside(v, path, names, depth + 1)
        elif isinstance(value, types.FunctionType):
            self.function(value, depth + (depth > 0))
        elif isinstance(value, types.MethodType):
            code = value.__func__.__code__ if isinstance(value.__func__, types.FunctionType) else None
            if code not in self.called:
                self.attributes(value.__self__, type(value.__self__).__name__, set() if code is None else self.names(code), depth)
                self.inside(value.__func__, path, names, depth)
        elif isinstance(value, functools.partial):
            self.inside([value.func, *value.args, *value.keywords.values()], path, names, depth)
        elif isinstance(value, type):
            self.of_class(value, value, path, names, depth)
        elif value is not MISSING:
            self.attributes(value, path, names, depth)
            call = getattr(type(value), "__call__", None)          # noqa: B004 (the function itself is wanted)
            if isinstance(call, types.FunctionType) and _is_users(type(value)) and not hasattr(value, "_epoch"):
                self.inside(types.MethodType(call, value), path, names, depth + 1)
        wrapped = getattr(value, "__wrapped__", None) if callable(value) else None
        if wrapped is not None:
            self.inside(wrapped, path, names, depth + 1)

    def attributes(self, obj: Any, path: str, names: set[str], depth: int) -> None:
        """The attributes of obj that are named, and its methods that are. Modules and optimizers of graphc describe their structure instead."""
        scope = getattr(obj, "__dict__", {})
        if hasattr(obj, "_epoch"):
            if hasattr(obj, "param_groups") or hasattr(obj, "_modules"):
                self.structured.setdefault(id(obj), obj)
            return
        if not isinstance(scope, dict) or _package(type(obj)) in _STABLE or depth > _DEPTH:
            return
        if isinstance(obj, types.ModuleType) and _is_stable(obj):
            return
        for name in sorted(names & scope.keys()):
            self.note(f"{path}.{name}", scope, name, names, depth + 1)
        self.of_class(obj, type(obj), path, names - scope.keys(), depth)

    def of_class(self, obj: Any, cls: type, path: str, names: set[str], depth: int) -> None:
        """What obj (the class itself, or an object of it) has from its class among the names: values, slots, methods, properties."""
        if depth > _DEPTH or isinstance(cls, EnumMeta):
            return
        for name in sorted(names):
            found = MISSING if name.startswith("__") else _static(cls, name)
            if found is MISSING:
                continue
            functions = list(_code_of(found))
            if isinstance(found, types.MemberDescriptorType):           # a slot
                if obj is not cls:
                    self.note(f"{path}.{name}", obj, name, names, depth + 1)
            elif not functions and not callable(found):
                self.note(f"{path}.{name}", cls, name, names, depth + 1)
            for f in functions:
                if (id(f), id(obj)) not in self.bound:
                    self.bound.add((id(f), id(obj)))
                    self.inside(types.MethodType(f, obj), path, names, depth + 1)

    def methods(self, obj: Any) -> None:
        """What the methods that the user wrote for obj's class read, from outside and (where Modules do not announce a change) from obj itself."""
        for hook in (*getattr(obj, "_hooks", {}).values(), *getattr(obj, "_forward_hooks", {}).values(), *getattr(obj, "_forward_pre_hooks", {}).values()):
            self.inside(hook, "hook", set(), 0)
        cls = type(obj)
        functions = [f for c in cls.__mro__ if _is_users(c) for x in vars(c).values() for f in _code_of(x)]
        if not functions:
            return
        names: set[str] = set()
        for f in functions:
            self.function(f, 0)
            names |= self.names(f.__code__)
        scope = vars(obj)
        for name in sorted(names & scope.keys()):
            if not name.startswith("__") and not isinstance(scope[name], _PLAIN) and name not in _PRIVATE:
                self.note(f"{cls.__name__}.{name}", scope, name, names, 1)
        self.of_class(obj, cls, cls.__name__, names - scope.keys(), 1)


@dataclass(frozen=True, slots=True)
class Constant:
    """A number or an array that a trace has baked in: where it was read from, what it was."""

    name: str
    value: Any
    loc: Loc | None = None

    def __str__(self) -> str:
        shown = f"array of shape {self.value.shape}" if isinstance(self.value, np.ndarray) and self.value.ndim else repr(self.value)
        return f"{self.name} = {shown}"
