"""`core.record.dataclass` beside the standard library's: whatever graphc uses of it behaves the same."""
from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import pickle
from pathlib import Path
from typing import Any

import pytest

from graphc.core import record
from graphc.loop.ir import Bin, Int, Var


def make(module: Any, n: int, how: dict[str, bool]) -> Any:
    """A class of n fields."""
    space = {"__annotations__": {f"f{k}": "int" for k in range(n)}, "__module__": __name__, "__qualname__": f"C{n}", "__doc__": "doc"}
    return module.dataclass(**how)(type(f"C{n}", (), space))


def seen(f: Any, *args: Any, **kwargs: Any) -> Any:
    """What happens: how the value prints, or the type of an exception."""
    try:
        return repr(f(*args, **kwargs))
    except Exception as e:
        return type(e)


WHAT: dict[str, Any] = {                                # of a class and the values of its fields
    "repr": lambda c, v: c(*v),
    "equal": lambda c, v: c(*v) == c(*v),
    "not equal": lambda c, v: c(*v) == c(*v[:-1], -1),
    "a number": lambda c, v: c(*v) == 1,
    "eq": lambda c, v: c(*v).__eq__(1),
    "hash": lambda c, v: hash(c(*v)) == hash(c(*v)),
    "one more": lambda c, v: c(*v, 0),
    "one less": lambda c, v: c(*v[1:]),
    "by name": lambda c, v: c(**{f"f{k}": x for k, x in enumerate(v)}),
    "twice": lambda c, v: c(*v, f0=1),
    "unknown": lambda c, v: c(*v[1:], g=1),
    "match": lambda c, v: c.__match_args__,
    "assign": lambda c, v: setattr(c(*v), "f0", 5),
    "delete": lambda c, v: delattr(c(*v), "f0"),
    "fields": lambda c, v: [(f.name, f.type) for f in dataclasses.fields(c)],
    "dict": lambda c, v: hasattr(c(*v), "__dict__"),
    "copy": lambda c, v: copy.deepcopy(c(*v)),
    "replace": lambda c, v: dataclasses.replace(c(*v), f0=7),
    "asdict": lambda c, v: dataclasses.asdict(c(*v)),
    "names": lambda c, v: (c.__name__, c.__qualname__, c.__module__, c.__doc__),
}


@pytest.mark.parametrize("n", range(1, 10))
@pytest.mark.parametrize("how", [{"frozen": True, "slots": True}, {"slots": True}, {"frozen": True}, {"frozen": True, "slots": True, "eq": False}], ids=str)
def test_a_class_behaves_as_the_standard_librarys(n: int, how: dict[str, bool]) -> None:
    ours, theirs, values = make(record, n, how), make(dataclasses, n, how), list(range(n))
    for name, test in WHAT.items():
        assert seen(test, ours, values) == seen(test, theirs, values), name
    assert seen(record.replace, ours(*values), f0=7) == seen(dataclasses.replace, theirs(*values), f0=7)
    if n < len(record.INIT):
        assert [*inspect.signature(ours).parameters] == [*inspect.signature(theirs).parameters]
    if "eq" not in how and how.get("frozen"):
        assert hash(ours(*values)) == hash(theirs(*values))


@record.dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float = 2.0

    @property
    def norm(self) -> float:
        return math.hypot(self.x, self.y)


@record.dataclass(slots=True)
class Bag:
    items: list[int] = record.field(default_factory=list)
    hidden: str = record.field(default="h", repr=False)


@record.dataclass(frozen=True, slots=True)
class Checked:
    x: int

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("negative")


def test_defaults_factories_and_what_the_body_says() -> None:
    assert Point(3.0) == Point(3.0, 2.0) == Point(y=2.0, x=3.0) != Point(3.0, 1.0)
    assert Point(3.0, 4.0).norm == 5
    assert repr(Point(1.0)) == "Point(x=1.0, y=2.0)"
    a, b = Bag(), Bag()
    a.items.append(1)
    assert b.items == [] != a.items
    assert repr(a) == "Bag(items=[1])"
    assert Checked(1).x == 1
    assert (seen(hash, a), seen(Checked, -1), seen(record.replace, Checked(1), x=-1)) == (TypeError, ValueError, ValueError)
    match Point(1.0, 5.0):
        case Point(1.0, y): assert y == 5


def test_a_frozen_record_is_copied_and_pickled() -> None:
    p = Point(1.0, 5.0)
    assert copy.copy(p) == copy.deepcopy(p) == pickle.loads(pickle.dumps(p)) == p
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'x'"):
        p.x = 2.0       # type: ignore[misc]


def test_classes_of_equal_fields_are_not_equal() -> None:
    assert Var("i") != Int(1)
    assert Bin("+", Var("i"), Int(1)) == Bin("+", Var("i"), Int(1)) != Bin("+", Var("i"), Int(2))


def test_fields_are_not_inherited() -> None:
    with pytest.raises(AssertionError, match="inherits fields"):
        @record.dataclass(slots=True)
        class More(Bag):
            more: int = 0


def test_a_python_whose_methods_cannot_be_renamed_gets_the_standard_ones() -> None:
    text = Path(record.__file__).read_text(encoding="utf-8")
    for broken in ("code.no_such(", "dict("):
        names: dict[str, Any] = {"__name__": "broken"}
        exec(text.replace("code.replace(", broken), names)
        assert names["dataclass"] is dataclasses.dataclass
        assert names["replace"] is dataclasses.replace
    assert record.dataclass is not dataclasses.dataclass
