"""What stands before a step's entry: a builtin function that looks whether the step is still the function's, and finds the numbers that it reads anew.

`GUARD` is LLVM text of @guard, to stand in a module beside `entry_text`. It is the same for every step: what it looks at is a list of records
(`Record`), in a bytes object behind its `self`. Each tells what an argument must be and which parameter of the entry it is, what a name must stand
for (a dict's entry, a closure's cell), or in which dict a number lives. If all is as the records say, the entry is called and its answer is the
answer; if not, nothing was called and the answer is REFUSED.

It compares pointers and calls nothing but Python's look-ups in dicts, lists and tuples: some 10 ns a record, where the interpreter takes 40.
"""
from __future__ import annotations

import ctypes
import struct
import types
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from .entry import BYTES, EXTERNAL, REFUSED, TYPE, Param, ScalarParam, builtin, function_text
from .entry import self_test as arrays_as_expected

CELL = types.CellType.__basicsize__ - 8                         # of a cell's content
SIZE = object.__basicsize__                                     # of how many things a dict, a list or a tuple holds
ARRAY, TYPED, SAME, NAME, INSIDE, NUMBER, ITEM, GIVEN, COUNT, ENTRY, PLACE = range(11)

# (kind, a, b, c), where a, b and c are objects, compared by identity, or small numbers:
#   ARRAY   argument a is parameter c                           NAME    the dict a has b under the key c
#   TYPED   so is argument a, which is of type b                INSIDE  the cell a holds b
#   SAME    argument a is b                                     NUMBER  parameter c is what the dict a has under the key b
#   GIVEN   parameter c is a                                    ITEM    ... and now place b of it, a tuple
#   COUNT   the dict, list or tuple a holds b things            ENTRY   the dict a, of the last COUNT, has next the key c with b
#   PLACE   the list a holds b in place c
Record = tuple[int, Any, Any, Any]
_NUMBERS = {ARRAY: (0, 2), TYPED: (0, 2), SAME: (0,), NUMBER: (2,), ITEM: (1, 2), GIVEN: (2,), COUNT: (1,), PLACE: (2,)}   # which of a, b, c are small numbers


def _case(name: str, *lines: str, then: str) -> str:
    return "\n".join([f"{name}:", *(f"  {line}" for line in lines), f"  {then}"])


def _argument(name: str) -> tuple[str, str]:
    return f"%{name}.at = getelementptr ptr, ptr %args, i64 %a.int", f"%{name}.x = load ptr, ptr %{name}.at, align 8"


def _parameter(name: str) -> tuple[str, str]:
    return f"%{name}.to = getelementptr ptr, ptr %vector, i64 %c.int", f"store ptr %{name}.x, ptr %{name}.to, align 8"


_AGAIN = "br label %again"
_CASES = (
    ("array", _case("array", *_argument("array"), *_parameter("array"), then=_AGAIN)),
    ("typed", _case("typed", *_argument("typed"), *_parameter("typed"), f"%typed.type.at = getelementptr i8, ptr %typed.x, i64 {TYPE}",
                    "%typed.type = load ptr, ptr %typed.type.at, align 8", "%typed.ok = icmp eq ptr %typed.type, %b",
                    then="br i1 %typed.ok, label %again, label %refused")),
    ("same", _case("same", *_argument("same"), "%same.ok = icmp eq ptr %same.x, %b", then="br i1 %same.ok, label %again, label %refused")),
    ("name", _case("name", "%name.x = call ptr @PyDict_GetItemWithError(ptr %a, ptr %c)", "%name.ok = icmp eq ptr %name.x, %b",
                   then="br i1 %name.ok, label %again, label %wrong")),
    ("inside", _case("inside", f"%inside.at = getelementptr i8, ptr %a, i64 {CELL}", "%inside.x = load ptr, ptr %inside.at, align 8",
                     "%inside.ok = icmp eq ptr %inside.x, %b", then="br i1 %inside.ok, label %again, label %refused")),
    ("number", _case("number", "%number.x = call ptr @PyDict_GetItemWithError(ptr %a, ptr %b)", *_parameter("number"),
                     "%number.ok = icmp ne ptr %number.x, null",
                     then="br i1 %number.ok, label %again, label %wrong")),
    ("item", _case("item", "%item.from = getelementptr ptr, ptr %vector, i64 %c.int", "%item.of = load ptr, ptr %item.from, align 8",
                   "%item.x = call ptr @PyTuple_GetItem(ptr %item.of, i64 %b.int)", *_parameter("item"), "%item.ok = icmp ne ptr %item.x, null",
                   then="br i1 %item.ok, label %again, label %wrong")),
    ("given", _case("given", "%given.to = getelementptr ptr, ptr %vector, i64 %c.int", "store ptr %a, ptr %given.to, align 8", then=_AGAIN)),
    ("count", _case("count", f"%count.at = getelementptr i8, ptr %a, i64 {SIZE}", "%count.x = load i64, ptr %count.at, align 8",
                    "store i64 0, ptr %pos, align 8", "%count.ok = icmp eq i64 %count.x, %b.int", then="br i1 %count.ok, label %again, label %refused")),
    ("holds", _case("holds", "%holds.more = call i32 @PyDict_Next(ptr %a, ptr %pos, ptr %key, ptr %value)", "%holds.is = icmp ne i32 %holds.more, 0",
                    then="br i1 %holds.is, label %holds.found, label %refused")),
    ("place", _case("place", "%place.x = call ptr @PyList_GetItem(ptr %a, i64 %c.int)", "%place.ok = icmp eq ptr %place.x, %b",
                    then="br i1 %place.ok, label %again, label %wrong")),
)

GUARD = f"""
declare ptr @PyDict_GetItemWithError(ptr, ptr)
declare ptr @PyTuple_GetItem(ptr, i64)
declare ptr @PyList_GetItem(ptr, i64)
declare i32 @PyDict_Next(ptr, ptr, ptr, ptr)

define ptr @guard(ptr %self, ptr %args, i64 %nargs) nounwind {{
start:
  %words = getelementptr i8, ptr %self, i64 {BYTES}
  %entry = load ptr, ptr %words, align 8
  %at.own = getelementptr i64, ptr %words, i64 1
  %own = load ptr, ptr %at.own, align 8
  %at.takes = getelementptr i64, ptr %words, i64 2
  %takes = load i64, ptr %at.takes, align 8
  %at.gives = getelementptr i64, ptr %words, i64 3
  %gives = load i64, ptr %at.gives, align 8
  %at.n = getelementptr i64, ptr %words, i64 4
  %n = load i64, ptr %at.n, align 8
  %records = getelementptr i64, ptr %words, i64 5
  %behind = getelementptr [4 x i64], ptr %records, i64 %n
  %vector = alloca ptr, i64 %gives, align 8
  %pos = alloca i64, align 8
  %key = alloca ptr, align 8
  %value = alloca ptr, align 8
  %counted = icmp eq i64 %nargs, %takes
  br i1 %counted, label %again, label %refused
again:
  %r = phi ptr [ %records, %start ], {", ".join(f"[ %next, %{'holds.found' if name == 'holds' else name} ]" for name, _ in _CASES)}
  %next = getelementptr [4 x i64], ptr %r, i64 1
  %more = icmp ult ptr %r, %behind
  br i1 %more, label %one, label %all
one:
  %kind = load i64, ptr %r, align 8
  %at.a = getelementptr i64, ptr %r, i64 1
  %at.b = getelementptr i64, ptr %r, i64 2
  %at.c = getelementptr i64, ptr %r, i64 3
  %a = load ptr, ptr %at.a, align 8
  %b = load ptr, ptr %at.b, align 8
  %c = load ptr, ptr %at.c, align 8
  %a.int = ptrtoint ptr %a to i64
  %b.int = ptrtoint ptr %b to i64
  %c.int = ptrtoint ptr %c to i64
  switch i64 %kind, label %refused [ {" ".join(f"i64 {k}, label %{name}" for k, (name, _) in enumerate(_CASES))} ]
{chr(10).join(text for _, text in _CASES)}
holds.found:
  %holds.key = load ptr, ptr %key, align 8
  %holds.x = load ptr, ptr %value, align 8
  %holds.named = icmp eq ptr %holds.key, %c
  %holds.same = icmp eq ptr %holds.x, %b
  %holds.ok = and i1 %holds.named, %holds.same
  br i1 %holds.ok, label %again, label %refused
all:
  %result = call ptr %entry(ptr %own, ptr %vector, i64 %gives)
  ret ptr %result
wrong:
  call void @PyErr_Clear()
  br label %refused
refused:
  %refusal = call ptr @PyLong_FromLongLong(i64 {REFUSED})
  ret ptr %refusal
}}
"""


def entries_text(params: Sequence[Param], slots: Sequence[int], busy: int | None = None, sizes: Mapping[str, int] | None = None) -> str:
    """The ways into a step: @entry takes every argument, @again only the numbers (the arrays' pointers are in the table already), and @guard."""
    numbers = [(p, at) for p, at in zip(params, slots, strict=True) if isinstance(p, ScalarParam)]
    again = function_text("again", [p for p, _ in numbers], [at for _, at in numbers], busy)
    return "\n".join([function_text("entry", params, slots, busy, sizes), again, GUARD, EXTERNAL])


def make_guard(address: int, entry: int, own: bytes, takes: int, gives: int, records: Sequence[Record], keep_alive: object) -> Callable[..., int]:
    """A builtin function over @guard at `address`: it takes `takes` arguments and calls the entry at `entry`, whose `self` is `own`, with `gives`.

    It keeps alive what the records name, and `keep_alive`.
    """
    words = [entry, id(own), takes, gives, len(records)]
    for kind, *abc in records:
        words += [kind, *(x if k in _NUMBERS.get(kind, ()) else id(x) for k, x in enumerate(abc))]
    return builtin(b"step", address, struct.pack(f"{len(words)}q", *words), (own, tuple(records), keep_alive))


@lru_cache(None)
def self_test() -> bool:
    """Whether closures' cells, dicts, lists and tuples, too, are laid out as @guard reads them."""
    content = object()
    if any(ctypes.c_ssize_t.from_address(id(x) + SIZE).value != 3 for x in ({1: 1, 2: 2, 3: 3}, [1, 2, 3], (1, 2, 3))):
        return False
    cell = types.CellType(content)
    return arrays_as_expected() and types.CellType.__basicsize__ >= 24 and ctypes.c_void_p.from_address(id(cell) + CELL).value == id(content)
