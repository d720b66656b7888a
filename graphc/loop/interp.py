"""What the loop IR means, one element at a time: slow, bounds-checked, obvious. Schedules and the code generator answer to it.

Every loop runs in order whatever its mark, every expression of a statement is evaluated (both sides of a `Select`), and an index outside its
buffer is an error. Memory that nobody has written holds NaN, or the smallest integer.
"""
from __future__ import annotations  # noqa: I001

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from ..core.compat import assert_never
from ..core.dtype import DType, bool_, f32, i64
from .ir import (
    Accum, Alloc, Barrier, Bin, Bitcast, Branch, Buffer, Call, Cast, Check, Expr, Extern, For, If, Int, Kernel, Launch, Lit, Load, Loop, Plan, Ref, Region,
    Select, Seq, Steps, Stmt, Store, Un, Var, While, postorder,
)

Array = np.ndarray[Any, np.dtype[Any]]
Env = dict[str, int]


def run(kernel: Kernel, arrays: Mapping[str, Array], sizes: Mapping[str, int] | None = None) -> int:
    """Run the kernel on arrays named after its buffers; the status is 0, or the code of the first `Check` that failed."""
    env = dict(sizes or {})
    for b in kernel.buffers:
        a, shape = arrays[b.name], tuple(env[n] if isinstance(n, str) else n for n in b.shape)
        assert (a.shape, a.dtype) == (shape, b.dtype.numpy), f"{b.name} is {b.dtype}{list(shape)}, got {a.dtype}{list(a.shape)}"
    machine = Machine(dict(arrays))
    with np.errstate(all="ignore"):
        machine.stmt(kernel.body, env)
    return machine.status


HostCall = Callable[[list[Array]], None]                # on the bytes from each of its places on


def run_plan(plan: Plan, regions: Mapping[Region, Array], env: Mapping[str, int] | None = None, calls: Sequence[HostCall] = ()) -> int:
    """Run a plan over its regions, each an array of bytes; stops at the first launch whose status is not 0, and returns that. `calls`: the host's functions."""
    env = dict(env or {})
    match plan:
        case Launch(kernel, args, sizes):
            values = dict(zip(kernel.sizes, (index(e, env) for e in sizes), strict=True))
            return run(kernel, {b.name: view(b, r, regions, values, env) for b, r in zip(kernel.buffers, args, strict=True)}, values)
        case Steps(body):
            for p in body:
                if status := run_plan(p, regions, env, calls):
                    return status
        case Loop(var, count, body, down, limit, go):
            turns = range(count if limit is None else max(0, min(count, int(number(limit, i64, regions, env)))))
            for i in reversed(turns) if down else turns:
                if go is not None and not number(go, bool_, regions, env):
                    break
                if status := run_plan(body, regions, {**env, var: i}, calls):
                    return status
        case Branch(where, bodies):
            return run_plan(bodies[max(0, min(int(number(where, i64, regions, env)), len(bodies) - 1))], regions, env, calls)
        case Barrier(): pass
        case Extern(_, call, args, dtypes, _): calls[call]([regions[r.region][index(r.start, env) * d.itemsize:] for r, d in zip(args, dtypes)])
        case _: assert_never(plan)
    return 0


def number(ref: Ref, dtype: DType, regions: Mapping[Region, Array], env: Env) -> Any:
    """The one element there."""
    return view(Buffer("", (), dtype), ref, regions, {}, env)[()]


def view(b: Buffer, ref: Ref, regions: Mapping[Region, Array], sizes: Mapping[str, int], env: Env) -> Array:
    """The piece of a region that a kernel sees as buffer b."""
    shape = tuple(sizes[n] if isinstance(n, str) else n for n in b.shape)
    at, nbytes = index(ref.start, env) * b.dtype.itemsize, int(np.prod(shape, dtype=np.int64)) * b.dtype.itemsize
    memory = regions[ref.region]
    assert 0 <= at <= memory.nbytes - nbytes, f"{b.name}: bytes {at}:{at + nbytes} of {ref.region}"
    piece: Array = memory[at:at + nbytes].view(b.dtype.numpy).reshape(shape)
    return piece


def index(e: Expr, env: Env) -> int:
    return int(Machine({}).values((e,), env)[0])


class Machine:
    """Memory by name, and the status."""

    def __init__(self, memory: dict[str, Array]) -> None:
        self.memory, self.status = memory, 0
        self.orders: dict[int, list[Expr]] = {}                 # an expression's DAG, children first

    def stmt(self, s: Stmt, env: Env) -> None:
        match s:
            case Seq(body):
                for x in body:
                    self.stmt(x, env)
            case Store(b, ix, v):
                *at, value = self.values((*ix, v), env)
                self.memory[b.name][self.place(b, at)] = value
            case Accum(b, ix, v, op):
                *at, value = self.values((*ix, v), env)
                place = self.place(b, at)
                self.memory[b.name][place] = BINARY[op](self.memory[b.name][place], value)
            case Alloc(b, body):
                outer = self.memory.get(b.name)
                self.memory[b.name] = np.full(b.shape, unwritten(b.dtype), b.dtype.numpy)
                self.stmt(body, env)
                del self.memory[b.name]
                if outer is not None:
                    self.memory[b.name] = outer
            case For(var, lo, hi, _, body):
                a, b = self.values((lo, hi), env)
                for i in range(int(a), int(b)):
                    self.stmt(body, {**env, var: i})
            case If(cond, body):
                if self.values((cond,), env)[0]:
                    self.stmt(body, env)
            case While(cond, body):
                while self.values((cond,), env)[0]:
                    self.stmt(body, env)
            case Check(cond, code):
                if not self.values((cond,), env)[0]:
                    self.status = self.status or code
            case _: assert_never(s)

    def place(self, b: Buffer, at: list[Any]) -> tuple[int, ...]:
        ix, shape = tuple(map(int, at)), self.memory[b.name].shape
        assert all(0 <= i < n for i, n in zip(ix, shape, strict=True)), f"{b.name}{list(ix)} is outside {list(shape)}"
        return ix

    def values(self, roots: tuple[Expr, ...], env: Env) -> list[Any]:
        """NumPy scalars of the roots; an index is an i64."""
        memo: dict[int, Any] = {}
        for root in roots:
            if id(root) not in self.orders:
                self.orders[id(root)] = list(postorder(root, {}))
            for e in self.orders[id(root)]:
                if id(e) not in memo:
                    memo[id(e)] = self.value(e, env, lambda c: memo[id(c)])
        return [memo[id(root)] for root in roots]

    def value(self, e: Expr, env: Env, of: Callable[[Expr], Any]) -> Any:
        match e:
            case Var(name): return np.int64(env[name])
            case Int(v): return np.int64(v)
            case Lit(v, dtype): return np.array(v).astype(dtype.numpy)[()]
            case Load(b, ix): return self.memory[b.name][self.place(b, [of(i) for i in ix])]
            case Un(op, a): return UNARY[op](of(a))
            case Bin(op, a, b):
                x, y = of(a), of(b)
                assert x.dtype == y.dtype, f"{op} of {x.dtype} and {y.dtype}"
                return BINARY[op](x, y)
            case Select(c, a, b): return of(a) if of(c) else of(b)
            case Cast(a, dtype): return cast(of(a), dtype)
            case Bitcast(a, dtype): return of(a).view(dtype.numpy)
            case Call("fma", (a, b, c)): return fma(of(a), of(b), of(c))
            case Call("rare", (a, b, c)): return of(a) if of(c) else of(b)
            case Call("copysign", (a, b)): return np.copysign(of(a), of(b))
            case Call(): raise AssertionError(f"{e.fn} of {len(e.args)} arguments")
            case _: assert_never(e)


# ---- arithmetic: one scalar at a time, in its own dtype ----------------------------------------------------------------------------


def unwritten(dtype: DType) -> Any:
    return np.nan if dtype.is_float else False if dtype is bool_ else np.iinfo(dtype.numpy).min or 165


def same(f: Callable[..., Any]) -> Callable[..., Any]:
    """f with its result in the type of its first argument (NumPy's own may be wider)."""
    return lambda x, *rest: np.asarray(f(x, *rest)).astype(x.dtype)[()]


def divide(x: Any, y: Any) -> Any:
    """Toward zero; x // 0 is 0, and INT_MIN // -1 wraps."""
    q = abs(int(x)) // abs(int(y)) if y else 0
    return wrap(q if (x < 0) == (y < 0) else -q, x.dtype)


def remainder(x: Any, y: Any) -> Any:
    r = abs(int(x)) % abs(int(y)) if y else 0
    return wrap(-r if x < 0 else r, x.dtype)


def wrap(v: int, dtype: np.dtype[Any]) -> Any:
    bits = dtype.itemsize * 8
    v &= (1 << bits) - 1
    return dtype.type(v - (1 << bits) if dtype.kind == "i" and v >> (bits - 1) else v)


def larger(x: Any, y: Any) -> Any:
    if x.dtype.kind == "f" and (x != x or y != y):
        return x if x != x else y
    return (y if np.signbit(x) else x) if x.dtype.kind == "f" and x == y else max(x, y)


def smaller(x: Any, y: Any) -> Any:
    if x.dtype.kind == "f" and (x != x or y != y):
        return x if x != x else y
    return (x if np.signbit(x) else y) if x.dtype.kind == "f" and x == y else min(x, y)


def shift(op: str, x: Any, y: Any) -> Any:
    n = int(y) % (x.dtype.itemsize * 8)
    return wrap(int(x) << n if op == "<<" else int(x) >> n, x.dtype)


def cast(x: Any, dtype: DType) -> Any:
    """Float to integer saturates and takes NaN to 0; anything to bool is != 0."""
    if dtype.is_integer and x.dtype.kind == "f":
        info = np.iinfo(dtype.numpy)
        if x != x:
            return dtype.numpy.type(0)
        return dtype.numpy.type(info.max if x >= info.max else info.min if x <= info.min else int(x))
    if dtype.is_integer:
        return wrap(int(x), dtype.numpy)
    return np.asarray(x).astype(dtype.numpy)[()]


def fma(a: Any, b: Any, c: Any) -> Any:
    """One rounding: by way of f64 in f32 (where the product is exact, and a second rounding all but never shows), of fractions in f64."""
    if a.dtype == f32.numpy:
        return np.float32(np.float64(a) * np.float64(b) + np.float64(c))
    if np.isfinite([a, b, c]).all() and np.isfinite(a * b + c):
        exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
        return np.float64(float(exact)) if exact else a * b + c
    return a * b + c


UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": same(np.negative), "abs": same(np.abs), "sqrt": same(np.sqrt), "floor": same(np.floor), "ceil": same(np.ceil),
    "round": same(np.rint), "trunc": same(np.trunc), "not": np.invert,
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": same(np.add), "-": same(np.subtract), "*": same(np.multiply), "/": same(np.divide), "//": divide, "%": remainder,
    "max": larger, "min": smaller, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "<<": lambda x, y: shift("<<", x, y), ">>": lambda x, y: shift(">>", x, y),
    "<": np.less, "<=": np.less_equal, "==": np.equal, "!=": np.not_equal,
}
