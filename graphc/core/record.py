"""`dataclass`, `field` and `replace` as the standard library's, for classes that take a twentieth of the time to make.

`dataclasses.dataclass` writes the source of six methods for each class and has Python compile it: half a millisecond, and seventy such classes stand between
the import of graphc and the result of a first call. Here the methods are written once for each number of fields, and a class gets copies in which the
fields have their names. What graphc does not use is missing: inherited fields, ordering, keyword-only fields. To a type checker, and to
`dataclasses.fields`, these are dataclasses like others.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import replace as replace
else:
    from dataclasses import _FIELD, MISSING, Field, FrozenInstanceError, field

    FIELDS = "abcdefg"                                  # what they are called below
    # By the number of fields; p .. v put a value into its field, and give None.
    INIT = (
        lambda: lambda self: None,
        lambda p: lambda self, a: p(self, a),
        lambda p, q: lambda self, a, b: p(self, a) or q(self, b),
        lambda p, q, r: lambda self, a, b, c: p(self, a) or q(self, b) or r(self, c),
        lambda p, q, r, s: lambda self, a, b, c, d: p(self, a) or q(self, b) or r(self, c) or s(self, d),
        lambda p, q, r, s, t: lambda self, a, b, c, d, e: p(self, a) or q(self, b) or r(self, c) or s(self, d) or t(self, e),
        lambda p, q, r, s, t, u: lambda self, a, b, c, d, e, f: p(self, a) or q(self, b) or r(self, c) or s(self, d) or t(self, e) or u(self, f),
        lambda p, q, r, s, t, u, v: lambda self, a, b, c, d, e, f, g: (
            p(self, a) or q(self, b) or r(self, c) or s(self, d) or t(self, e) or u(self, f) or v(self, g)),
    )
    EQ = (
        lambda: lambda x, y: True if y.__class__ is x.__class__ else NotImplemented,
        lambda: lambda x, y: (x.a,) == (y.a,) if y.__class__ is x.__class__ else NotImplemented,
        lambda: lambda x, y: (x.a, x.b) == (y.a, y.b) if y.__class__ is x.__class__ else NotImplemented,
        lambda: lambda x, y: (x.a, x.b, x.c) == (y.a, y.b, y.c) if y.__class__ is x.__class__ else NotImplemented,
        lambda: lambda x, y: (x.a, x.b, x.c, x.d) == (y.a, y.b, y.c, y.d) if y.__class__ is x.__class__ else NotImplemented,
        lambda: lambda x, y: (x.a, x.b, x.c, x.d, x.e) == (y.a, y.b, y.c, y.d, y.e) if y.__class__ is x.__class__ else NotImplemented,
        lambda: lambda x, y: (x.a, x.b, x.c, x.d, x.e, x.f) == (y.a, y.b, y.c, y.d, y.e, y.f) if y.__class__ is x.__class__ else NotImplemented,
    )
    HASH = (
        lambda: lambda x: hash(()),
        lambda: lambda x: hash((x.a,)),
        lambda: lambda x: hash((x.a, x.b)),
        lambda: lambda x: hash((x.a, x.b, x.c)),
        lambda: lambda x: hash((x.a, x.b, x.c, x.d)),
        lambda: lambda x: hash((x.a, x.b, x.c, x.d, x.e)),
        lambda: lambda x: hash((x.a, x.b, x.c, x.d, x.e, x.f)),
    )

    def dataclass(*, frozen=False, slots=False, eq=True):
        """A decorator: `@dataclass(frozen=True, slots=True)`."""
        return lambda cls: _made(cls, frozen, slots, eq)

    def _made(cls, frozen, slots, eq):
        assert not any("__dataclass_fields__" in base.__dict__ for base in cls.__mro__[1:]), f"{cls.__name__} inherits fields"
        own = dict(cls.__dict__)
        fields = {name: _field(name, type_, own.pop(name, MISSING)) for name, type_ in cls.__annotations__.items()}
        names = tuple(fields)
        for name in ("__dict__", "__weakref__"):
            own.pop(name, None)
        methods = {"__repr__": _repr(fields), "__match_args__": names, "__dataclass_fields__": fields}
        if frozen:
            methods |= {"__setattr__": _refuse_assignment, "__delattr__": _refuse_deletion}
        if eq:
            methods |= {"__eq__": _equal(names), "__hash__": _hash(names) if frozen else None}
        if slots:
            methods["__slots__"] = names
        made = type(cls)(cls.__name__, cls.__bases__, {**methods, **own})
        made.__qualname__ = cls.__qualname__
        setters = [getattr(made, n).__set__ if slots else _setter(n) for n in names]
        made.__init__ = _init(made, fields, setters)
        if slots and frozen:                            # copied and pickled field by field, for nothing may be assigned
            made.__getstate__, made.__setstate__ = _state(names, setters)
        return made

    def _field(name, type_, given):
        f = given if isinstance(given, Field) else field(default=given)
        f.name, f.type, f._field_type = name, type_, _FIELD
        return f

    def _named(method, names, called):
        """A method of that many fields as one of these."""
        code, new = method.__code__, dict(zip(FIELDS, names))
        method.__code__ = code.replace(co_name=called, co_names=tuple([new.get(n, n) for n in code.co_names]),
                                       co_varnames=tuple([new.get(n, n) for n in code.co_varnames]))
        method.__name__ = called
        return method

    def _init(cls, fields, setters):
        n, after = len(setters), getattr(cls, "__post_init__", None)
        if n < len(INIT) and after is None and all(f.default_factory is MISSING for f in fields.values()):
            method = _named(INIT[n](*setters), fields, "__init__")
            method.__defaults__ = tuple([f.default for f in fields.values() if f.default is not MISSING])
            return method

        def __init__(self, *args, **kwargs):
            if kwargs or len(args) != n:
                args = _bind(cls, fields, args, kwargs)
            for put, value in zip(setters, args):
                put(self, value)
            if after is not None:
                after(self)

        return __init__

    def _bind(cls, fields, args, kwargs):
        """The value of every field, from what a call says of some."""
        if len(args) > len(fields):
            raise TypeError(f"{cls.__name__}() takes {len(fields)} arguments, got {len(args)}")
        values = dict(zip(fields, args))
        for name, value in kwargs.items():
            if name not in fields:
                raise TypeError(f"{cls.__name__}() got an unexpected keyword argument {name!r}")
            if name in values:
                raise TypeError(f"{cls.__name__}() got multiple values for argument {name!r}")
            values[name] = value
        for name, f in fields.items():
            if name not in values:
                if f.default is f.default_factory is MISSING:
                    raise TypeError(f"{cls.__name__}() missing the argument {name!r}")
                values[name] = f.default if f.default_factory is MISSING else f.default_factory()
        return [values[name] for name in fields]

    def _setter(name):
        put = object.__setattr__
        return lambda self, value: put(self, name, value)

    def _equal(names):
        if len(names) < len(EQ):
            return _named(EQ[len(names)](), names, "__eq__")
        return lambda x, y: [getattr(x, n) for n in names] == [getattr(y, n) for n in names] if y.__class__ is x.__class__ else NotImplemented

    def _hash(names):
        if len(names) < len(HASH):
            return _named(HASH[len(names)](), names, "__hash__")
        return lambda x: hash(tuple([getattr(x, n) for n in names]))

    def _repr(fields):
        shown = [n for n, f in fields.items() if f.repr]
        return lambda self: f"{self.__class__.__qualname__}({', '.join([f'{n}={getattr(self, n)!r}' for n in shown])})"

    def _state(names, setters):
        def __setstate__(self, values):
            for put, value in zip(setters, values):
                put(self, value)

        return lambda self: [getattr(self, n) for n in names], __setstate__

    def _refuse_assignment(self, name, value):
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def _refuse_deletion(self, name):
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def replace(x: Any, /, **changes: Any) -> Any:
        """x with other values of some fields."""
        return x.__class__(**{n: getattr(x, n) for n in x.__match_args__} | changes)

    def _sound():
        """Whether this Python's methods can be renamed so. If not, the standard library's serve, and take longer."""
        try:
            @dataclass(frozen=True, slots=True)
            class Pair:
                left: int
                right: int = 2

            a, b = Pair(1), Pair(right=2, left=1)
            return a == b != Pair(2, 1) and hash(a) == hash(b) and (a.left, a.right) == (1, 2)
        except Exception:
            return False

    if not _sound():
        from dataclasses import dataclass, replace  # noqa: F401
