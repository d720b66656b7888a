"""The way from Python into a native step: a builtin function that reads its NumPy arguments in place, in about the time of an empty Python call.

`entry_text` is LLVM text of a METH_FASTCALL function, to stand in one module with `i32 @step(ptr table)`; `make_entry` makes a Python callable of
its address. The function checks each argument exactly (the type is ndarray itself, the dtype object, dimensions, C-contiguous, aligned), stores
the data pointers in the step's table, calls the step and returns its status. An argument that is anything else is refused: the result is REFUSED,
and nothing was stored or called. What to do then is the caller's: make arrays of the right kind, or say what is wrong, and enter again.

It allocates nothing, takes no reference that outlives the call, and holds no address: those come through the function's `self`, a bytes object
of pointers (WORDS). It does rely on where CPython and NumPy keep the fields of their objects, which have not moved in the lives of NumPy 1 and 2;
`self_test` looks. Where it says no (free-threaded builds, other Pythons), enter by `slow_entry`.
"""
from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from ..core.dtype import ALL, DType, f32, u64
from ..core.record import dataclass
from .types import in_memory

REFUSED = -1            # an argument is not what the step takes
BUSY = -2               # another thread is inside this step
INTERRUPTED = -3        # Python has an exception: a signal's handler, or a function that the step calls, has raised it

# Offsets, in bytes, of 64-bit CPython's PyObject and of NumPy's PyArrayObject_fields.
TYPE = 8
DATA, NDIM, DIMS, DESCR, FLAGS = 16, 24, 32, 56, 64
C_CONTIGUOUS, ALIGNED = 0x1, 0x100
BYTES = bytes.__basicsize__ - 1                                 # of a bytes object's data

WORDS = ("table", "ndarray", "float", "int", "True", "False", *(d.name for d in ALL))  # pointers: the step's table, types, bools, NumPy's dtype objects
METH_FASTCALL = 0x80

EXTERNAL = """
declare ptr @PyLong_FromLongLong(i64)
declare i64 @PyLong_AsLongLongAndOverflow(ptr, ptr)
declare i64 @PyLong_AsUnsignedLongLong(ptr)
declare double @PyFloat_AsDouble(ptr)
declare ptr @PyErr_Occurred()
declare void @PyErr_Clear()
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
"""


@dataclass(frozen=True, slots=True)
class ArrayParam:
    """A NumPy array: its data pointer goes into the table. A size that is a str is compared with an entry of the table."""

    shape: tuple[int | str, ...]
    dtype: DType


@dataclass(frozen=True, slots=True)
class ScalarParam:
    """A Python float or int, or where the dtype is bool a bool: its value goes to where the table points. An int that the dtype cannot hold is refused."""

    dtype: DType


Param = ArrayParam | ScalarParam

# ---- the text --------------------------------------------------------------------------------------------------------------------


def entry_text(params: Sequence[Param], slots: Sequence[int], busy: int | None = None, sizes: Mapping[str, int] | None = None) -> str:
    """LLVM text of @entry(self, args, nargs), for positional arguments `params` whose table entries are `slots`, and of what it calls.
    `sizes` says which entries hold the symbolic sizes.

    `busy` names a table entry of its own, 0 at first. With it the GIL is released while the step runs, which costs some 40 ns, and a second
    thread that enters meanwhile gets BUSY. Without it the GIL is held, and threads wait at the call.
    """
    return function_text("entry", params, slots, busy, sizes) + EXTERNAL


def function_text(name: str, params: Sequence[Param], slots: Sequence[int], busy: int | None, sizes: Mapping[str, int] | None = None) -> str:
    """One such function."""
    e = _Entry()
    e.do(f"%count = icmp eq i64 %nargs, {len(params)}")
    e.require("%count")
    e.do(f"%words = getelementptr i8, ptr %self, i64 {BYTES}")
    for i, word in enumerate(WORDS):
        if i < len(WORDS) - len(ALL) or any(isinstance(p, ArrayParam) and p.dtype.name == word for p in params):
            e.do(f"%at.{word} = getelementptr ptr, ptr %words, i64 {i}", f"%word.{word} = load ptr, ptr %at.{word}, align 8")
    for n in dict.fromkeys(n for p in params if isinstance(p, ArrayParam) for n in p.shape if isinstance(n, str)):
        at = e.sizes[n] = f"%size{len(e.sizes)}"
        e.do(f"{at}.at = getelementptr i64, ptr %word.table, i64 {(sizes or {})[n]}", f"{at} = load i64, ptr {at}.at, align 8")
    for i, (p, slot) in enumerate(zip(params, slots, strict=True)):
        e.do(f"%at{i} = getelementptr ptr, ptr %args, i64 {i}", f"%o{i} = load ptr, ptr %at{i}, align 8")
        e.field(f"%type{i}", f"%o{i}", "ptr", TYPE)
        e.after.append(f"%slot{i} = getelementptr ptr, ptr %word.table, i64 {slot}")
        if isinstance(p, ArrayParam):
            e.array(i, p)
        else:
            e.scalar(i, p.dtype)
    e.do(*e.after)
    if busy is None:
        e.do("%status = call i32 @step(ptr %word.table)")
    else:
        e.do(f"%at.busy = getelementptr i64, ptr %word.table, i64 {busy}", "%inside = load i64, ptr %at.busy, align 8",
             "%free = icmp eq i64 %inside, 0", "br i1 %free, label %enter, label %wait", "wait:")
        e.do(f"%busy = call ptr @PyLong_FromLongLong(i64 {BUSY})", "ret ptr %busy", "enter:", "store i64 1, ptr %at.busy, align 8",
             "%thread = call ptr @PyEval_SaveThread()", "%status = call i32 @step(ptr %word.table)",
             "call void @PyEval_RestoreThread(ptr %thread)", "store i64 0, ptr %at.busy, align 8")
    e.do(f"%raised = icmp eq i32 %status, {INTERRUPTED}", "br i1 %raised, label %error, label %ended", "error:")
    e.do("ret ptr null", "ended:")
    e.do("%wide = sext i32 %status to i64", "%result = call ptr @PyLong_FromLongLong(i64 %wide)", "ret ptr %result", "refused:",
         f"%refusal = call ptr @PyLong_FromLongLong(i64 {REFUSED})", "ret ptr %refusal")
    body = "\n".join(line if line.endswith(":") else f"  {line}" for line in e.lines)
    return f"define ptr @{name}(ptr %self, ptr %args, i64 %nargs) nounwind {{\n  %overflow = alloca i32, align 4\n{body}\n}}\n"


class _Entry:
    """Lines of the function's body; `after` holds the stores, which stand behind the last check."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.after: list[str] = []
        self.checks = 0
        self.sizes: dict[str, str] = {}                         # registers of the symbolic sizes

    def do(self, *lines: str) -> None:
        self.lines += lines

    def require(self, condition: str) -> None:
        self.checks += 1
        self.do(f"br i1 {condition}, label %ok{self.checks}, label %refused", f"ok{self.checks}:")

    def field(self, result: str, of: str, ty: str, offset: int) -> None:
        self.do(f"{result}.at = getelementptr i8, ptr {of}, i64 {offset}", f"{result} = load {ty}, ptr {result}.at, align 4")

    def all_equal(self, name: str, pairs: Sequence[tuple[str, str, str | int]]) -> None:
        """Require a == b of every (type, a, b)."""
        for j, (ty, a, b) in enumerate(pairs):
            self.do(f"%{name}.{j} = icmp eq {ty} {a}, {b}")
            if j:
                self.do(f"%{name}.all{j} = and i1 %{name}.{j if j == 1 else f'all{j - 1}'}, %{name}.{j if j > 1 else 0}")
        self.require(f"%{name}.{f'all{len(pairs) - 1}' if len(pairs) > 1 else 0}")

    def array(self, i: int, p: ArrayParam) -> None:
        o = f"%o{i}"
        self.all_equal(f"isarray{i}", [("ptr", f"%type{i}", "%word.ndarray")])           # what follows reads inside the object
        self.field(f"%descr{i}", o, "ptr", DESCR)
        self.field(f"%flags{i}", o, "i32", FLAGS)
        self.field(f"%ndim{i}", o, "i32", NDIM)
        self.field(f"%data{i}", o, "ptr", DATA)
        self.do(f"%layout{i} = and i32 %flags{i}, {C_CONTIGUOUS | ALIGNED}")
        self.all_equal(f"kind{i}", [("ptr", f"%descr{i}", f"%word.{p.dtype.name}"), ("i32", f"%layout{i}", C_CONTIGUOUS | ALIGNED),
                                    ("i32", f"%ndim{i}", len(p.shape))])
        if p.shape:
            self.field(f"%dims{i}", o, "ptr", DIMS)
            for k in range(len(p.shape)):
                self.field(f"%dim{i}.{k}", f"%dims{i}", "i64", 8 * k)
            self.all_equal(f"shape{i}", [("i64", f"%dim{i}.{k}", self.sizes[n] if isinstance(n, str) else n) for k, n in enumerate(p.shape)])
        self.after.append(f"store ptr %data{i}, ptr %slot{i}, align 8")

    def scalar(self, i: int, dtype: DType) -> None:
        o, ty = f"%o{i}", in_memory(dtype)
        if dtype.is_half:                               # no Python number: whoever enters again has the 16 bits
            self.require("false")
            return
        if dtype.is_float:
            self.do(f"%isfloat{i} = icmp eq ptr %type{i}, %word.float", f"br i1 %isfloat{i}, label %float{i}, label %other{i}", f"other{i}:")
            self.integer(i)
            self.do(f"%rounded{i} = sitofp i64 %int{i} to double", f"br label %number{i}", f"float{i}:",
                    f"%float.value{i} = call double @PyFloat_AsDouble(ptr {o})", f"br label %number{i}", f"number{i}:",
                    f"%wide{i} = phi double [ %rounded{i}, %ok{self.checks} ], [ %float.value{i}, %float{i} ]")
            value = f"%wide{i}"
            if dtype is f32:
                value = f"%value{i}"
                self.do(f"{value} = fptrunc double %wide{i} to float")
        elif dtype is u64:
            self.all_equal(f"isint{i}", [("ptr", f"%type{i}", "%word.int")])
            value = f"%value{i}"
            self.do(f"{value} = call i64 @PyLong_AsUnsignedLongLong(ptr {o})", f"%error{i} = call ptr @PyErr_Occurred()",
                    f"%raised{i} = icmp ne ptr %error{i}, null", f"br i1 %raised{i}, label %clear{i}, label %fits{i}", f"clear{i}:",
                    "call void @PyErr_Clear()", "br label %refused", f"fits{i}:")
        elif dtype.is_integer:
            self.integer(i)
            info = np.iinfo(dtype.numpy)
            self.do(f"%low{i} = icmp sge i64 %int{i}, {info.min}", f"%high{i} = icmp sle i64 %int{i}, {info.max}", f"%inside{i} = and i1 %low{i}, %high{i}")
            self.require(f"%inside{i}")
            value = f"%value{i}" if dtype.bits < 64 else f"%int{i}"
            if dtype.bits < 64:
                self.do(f"{value} = trunc i64 %int{i} to {ty}")
        else:
            self.do(f"%true{i} = icmp eq ptr {o}, %word.True", f"%false{i} = icmp eq ptr {o}, %word.False", f"%isbool{i} = or i1 %true{i}, %false{i}")
            self.require(f"%isbool{i}")
            value = f"%value{i}"
            self.do(f"{value} = zext i1 %true{i} to {ty}")
        self.after += [f"%cell{i} = load ptr, ptr %slot{i}, align 8", f"store {ty} {value}, ptr %cell{i}, align {dtype.itemsize}"]

    def integer(self, i: int) -> None:
        """%int{i}: the value of an int that fits in an i64."""
        self.all_equal(f"isint{i}", [("ptr", f"%type{i}", "%word.int")])
        self.do(f"%int{i} = call i64 @PyLong_AsLongLongAndOverflow(ptr %o{i}, ptr %overflow)", f"%over{i} = load i32, ptr %overflow, align 4")
        self.all_equal(f"fits{i}", [("i32", f"%over{i}", 0)])


# ---- the callable ----------------------------------------------------------------------------------------------------------------


class _MethodDef(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p))


def make_entry(address: int, table: int, keep_alive: object) -> Callable[..., int]:
    """A builtin function over the code of `entry_text` at `address`, filling the step's table of pointers at `table`.

    It takes the arguments by position and returns the step's status, REFUSED or BUSY. It keeps `keep_alive` (the code, the table and what the table
    points to) alive, and the garbage collector sees that it does.
    """
    return builtin(b"step", address, words(table), keep_alive)


def words(table: int) -> bytes:
    """The `self` of a function over `entry_text`."""
    pointers = table, id(np.ndarray), id(float), id(int), id(True), id(False), *(id(d.numpy) for d in ALL)
    return struct.pack(f"{len(pointers)}P", *pointers)


def builtin(name: bytes, address: int, own: bytes, keep_alive: object) -> Callable[..., int]:
    """A METH_FASTCALL function of Python over native code, whose `self` is `own`."""
    assert self_test(), "this Python's objects are laid out otherwise: enter by slow_entry"
    definition = _MethodDef(name, address, METH_FASTCALL, b"Enter a native step. Returns its status.")
    new = ctypes.pythonapi.PyCFunction_NewEx
    new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.py_object)(ctypes.cast(new, ctypes.c_void_p).value or 0)
    held = keep_alive, definition                               # as the function's module, which nobody asks for and it holds to its end
    function: Callable[..., int] = new(ctypes.addressof(definition), own, held)
    return function


def slow_entry(address: int, table: int, keep_alive: object, release_gil: bool = False) -> Callable[[], int]:
    """Enter the step itself, at `address`, through ctypes; the caller has filled the table. For where `self_test` says no. Some 200 ns.

    The function keeps `keep_alive` alive.
    """
    prototype = (ctypes.CFUNCTYPE if release_gil else ctypes.PYFUNCTYPE)(ctypes.c_int, ctypes.c_void_p)
    step = prototype(address)

    def enter(_held: object = keep_alive) -> int:
        return int(step(table))

    return enter


@lru_cache(None)
def self_test() -> bool:
    """Whether the objects of this Python and NumPy are laid out as `entry_text` reads them. Looks once."""
    if sys.implementation.name != "cpython" or struct.calcsize("P") != 8:
        return False
    if sys.version_info >= (3, 13):
        import sysconfig
        if sysconfig.get_config_var("Py_GIL_DISABLED"):
            return False
    if np.ndarray.__basicsize__ < FLAGS + 4 or bytes.__basicsize__ - 1 != BYTES:
        return False
    words = struct.pack("2P", 0x1234567, id(np.ndarray))
    if ctypes.string_at(id(words) + BYTES, len(words)) != words:
        return False
    base = np.arange(24, dtype=np.float32)
    cases = [base, base.reshape(2, 3, 4), base.reshape(4, 6).T, base[::2], np.empty((0, 3)), np.array(1, np.int64), np.empty(3, ">i4"),
             np.empty(9, np.uint8)[1:].view(np.float32)]
    return all(map(_as_expected, cases))


def _as_expected(a: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> bool:
    def at(offset: int, ty: type[ctypes.c_void_p] | type[ctypes.c_int]) -> int:
        return ty.from_address(id(a) + offset).value or 0

    dims = at(DIMS, ctypes.c_void_p)
    flags = (C_CONTIGUOUS if a.flags.c_contiguous else 0) | (ALIGNED if a.flags.aligned else 0)
    return (at(TYPE, ctypes.c_void_p) == id(np.ndarray) and at(DATA, ctypes.c_void_p) == a.ctypes.data and at(NDIM, ctypes.c_int) == a.ndim
            and at(DESCR, ctypes.c_void_p) == id(a.dtype) and at(FLAGS, ctypes.c_int) & (C_CONTIGUOUS | ALIGNED) == flags
            and (not a.ndim or tuple((ctypes.c_ssize_t * a.ndim).from_address(dims)) == a.shape))
