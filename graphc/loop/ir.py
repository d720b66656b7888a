"""The loop IR and the Plan: closed, pure data.

A kernel is a nest over buffers. An *index* is integer arithmetic (`Var`, `Int`, i64 loads); a *value* is arithmetic over loads, and has the
dtype that `dtype_of` gives. There are no vector types: `simd` is a property of a loop, as in ISPC, and an expression is a vector exactly
where it depends on that loop's variable. There are no accumulator objects: a buffer in `register` space is an array of SSA values, provided
that every index into it is constant once `unroll` and `simd` loops are spelt out; a register of rank 0, stored once, is a `let`.

From Exo (Assign apart from Reduce, the grammar on a page), Halide (schedules), ISPC (simd as a loop's property).
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from operator import is_
from typing import Any, Literal, TypeAlias, cast, overload

from ..core.compat import assert_never
from ..core.dims import Dim, Size
from ..core.dtype import DType, bool_, i64
from ..core.record import dataclass, replace

# ---- data ------------------------------------------------------------------------------------------------------------------------

Space = Literal["argument", "scratch", "register"]
How = Literal["serial", "parallel", "unroll", "simd"]           # parallel: iterations are independent, whoever runs them


@dataclass(frozen=True, slots=True)
class Buffer:
    """A dense row-major array. A str is a symbolic size, allowed on the first axis."""

    name: str
    shape: tuple[int | str, ...]
    dtype: DType
    space: Space = "argument"

    def __getitem__(self, index: IndexLike | tuple[IndexLike, ...]) -> Load:
        return Load(self, tuple(map(lift, index if isinstance(index, tuple) else (index,))))

    @property
    def strides(self) -> tuple[int, ...]:
        steps = [1]
        for n in reversed(self.shape[1:]):
            assert isinstance(n, int), self
            steps.insert(0, steps[0] * n)
        return tuple(steps[:len(self.shape)])


# ---- expressions -----------------------------------------------------------------------------------------------------------------


class Arithmetic:
    """Operators for building expressions; a Python int beside one is an index literal, so values need `Lit`."""

    __slots__ = ()

    def __add__(self, b: IndexLike) -> Expr: return fold(Bin("+", cast("Expr", self), lift(b)))
    def __sub__(self, b: IndexLike) -> Expr: return fold(Bin("-", cast("Expr", self), lift(b)))
    def __mul__(self, b: IndexLike) -> Expr: return fold(Bin("*", cast("Expr", self), lift(b)))
    def __truediv__(self, b: IndexLike) -> Expr: return Bin("/", cast("Expr", self), lift(b))
    def __floordiv__(self, b: IndexLike) -> Expr: return fold(Bin("//", cast("Expr", self), lift(b)))
    def __mod__(self, b: IndexLike) -> Expr: return fold(Bin("%", cast("Expr", self), lift(b)))
    def __lt__(self, b: IndexLike) -> Expr: return Bin("<", cast("Expr", self), lift(b))
    def __le__(self, b: IndexLike) -> Expr: return Bin("<=", cast("Expr", self), lift(b))


@dataclass(frozen=True, slots=True)
class Var(Arithmetic):
    """A loop variable or a symbolic size: an index."""

    name: str


@dataclass(frozen=True, slots=True)
class Int(Arithmetic):
    """An index literal."""

    value: int


@dataclass(frozen=True, slots=True)
class Lit(Arithmetic):
    """A value literal of a dtype. -0.0 and nan are values like others: compare literals by `same_bits`, not by ==."""

    value: float | int | bool
    dtype: DType


@dataclass(frozen=True, slots=True)
class Load(Arithmetic):
    """buf[index]; as an index, a load of an i64 buffer."""

    buf: Buffer
    index: tuple[Expr, ...]


UnOp = Literal["neg", "abs", "sqrt", "floor", "ceil", "round", "trunc", "not"]      # round: to even; not: of bool and integers, bitwise
BinOp = Literal["+", "-", "*", "/", "//", "%", "max", "min", "and", "or", "xor", "<<", ">>", "<", "<=", "==", "!="]
# On values: / is of floats; max and min keep NaN and order -0 < 0; // and % of integers truncate toward zero and never trap (x // 0 is 0,
# x % 0 is 0, INT_MIN // -1 wraps); >> is arithmetic on signed, logical on unsigned, shift counts are taken modulo the width.
# On indices: // and % are of non-negative numbers; max and min are allowed. == and < with a NaN are false, != is true.


@dataclass(frozen=True, slots=True)
class Un(Arithmetic):
    op: UnOp
    a: Expr


@dataclass(frozen=True, slots=True)
class Bin(Arithmetic):
    op: BinOp
    a: Expr
    b: Expr


@dataclass(frozen=True, slots=True)
class Select(Arithmetic):
    """a where cond else b. Both are evaluated: a load in either must be in bounds."""

    cond: Expr
    a: Expr
    b: Expr


@dataclass(frozen=True, slots=True)
class Cast(Arithmetic):
    """The value of a (or the index a) as another dtype. Float to integer saturates and takes NaN to 0; anything to bool is != 0."""

    a: Expr
    dtype: DType


@dataclass(frozen=True, slots=True)
class Bitcast(Arithmetic):
    """The bits of a as another dtype of the same width."""

    a: Expr
    dtype: DType


@dataclass(frozen=True, slots=True)
class Call(Arithmetic):
    """fma(a, b, c): one rounding where the target has it, else a*b + c.  copysign(x, y).  rare(a, b, cond): a where cond, else b, and cond seldom
    holds: where it does for no lane, a is not computed."""

    fn: Literal["fma", "copysign", "rare"]
    args: tuple[Expr, ...]


Expr: TypeAlias = "Var | Int | Lit | Load | Un | Bin | Select | Cast | Bitcast | Call"
IndexLike: TypeAlias = "Expr | int | str | Dim"

# ---- statements ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Store:
    buf: Buffer
    index: tuple[Expr, ...]
    value: Expr


@dataclass(frozen=True, slots=True)
class Accum:
    """buf[index] = buf[index] op value. With "+", a product contracts to one fma. Apart from Store, since its order may be changed."""

    buf: Buffer
    index: tuple[Expr, ...]
    value: Expr
    op: Literal["+", "*", "max", "min"] = "+"


@dataclass(frozen=True, slots=True)
class Alloc:
    """A buffer that lives while body runs."""

    buf: Buffer
    body: Stmt


@dataclass(frozen=True, slots=True)
class For:
    var: str
    lo: Expr
    hi: Expr
    how: How
    body: Stmt


@dataclass(frozen=True, slots=True)
class If:
    """cond is a comparison of indices, or a scalar bool value."""

    cond: Expr
    body: Stmt


@dataclass(frozen=True, slots=True)
class Seq:
    body: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class While:
    """While the scalar bool value cond holds."""

    cond: Expr
    body: Stmt


@dataclass(frozen=True, slots=True)
class Check:
    """Where cond (a bool value) does not hold, the kernel's status becomes `code`; the kernel runs on, and the step ends before any later launch."""

    cond: Expr
    code: int


Stmt: TypeAlias = "Store | Accum | Alloc | For | If | Seq | While | Check"


@dataclass(frozen=True, slots=True)
class Kernel:
    """A nest over argument buffers. Run by every thread of the step: outermost `parallel` loops are shared among them."""

    name: str
    buffers: tuple[Buffer, ...]
    sizes: tuple[str, ...]                                      # symbolic sizes: i64 arguments
    body: Stmt
    origin: tuple[str, ...] = ()                                # names of the graph nodes that it computes


# ---- plan ------------------------------------------------------------------------------------------------------------------------

Where = Literal["argument", "scalar", "state", "constant", "result", "arena", "temporary"]


@dataclass(frozen=True, slots=True)
class Region:
    """A piece of memory of the step. In the arena, `place` gives it an offset; elsewhere `slot` numbers it among those of its kind. A temporary is
    in the arena too, wherever the step's table says: its size, or another's, is known only when the step is entered."""

    name: str
    where: Where
    nbytes: Size
    slot: int = 0
    offset: int | None = None                                   # bytes from the start of the arena, a multiple of 64


@dataclass(frozen=True, slots=True)
class Ref:
    """What a kernel gets for one of its buffers: a region from element offset `start` on, an index over the plan's loop variables."""

    region: Region
    start: Expr = Int(0)


@dataclass(frozen=True, slots=True)
class Launch:
    """Run a kernel on these regions, one for each of its buffers: by the first thread, or with `shared` by every thread, a share each."""

    kernel: Kernel
    args: tuple[Ref, ...]
    sizes: tuple[Expr, ...] = ()
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Steps:
    body: tuple[Plan, ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """for var in 0:count, in order; `down`: from the last to the first.

    With `limit` only as far as the i64 there says when the loop is entered, at most count; with `go` only while the bool there holds, looked at before
    each turn."""

    var: str
    count: int
    body: Plan
    down: bool = False
    limit: Ref | None = None
    go: Ref | None = None


@dataclass(frozen=True, slots=True)
class Branch:
    """Run one of the bodies: that of the number in the i64 at `index`; the first where it is less than 0, the last where it is too large."""

    index: Ref
    bodies: tuple[Plan, ...]


@dataclass(frozen=True, slots=True)
class Barrier:
    """Every thread has finished what stands before it."""


@dataclass(frozen=True, slots=True)
class Extern:
    """Leave the step: the host runs its function number `call`, which reads the first `reads` of these places, and writes the others. The first thread does,
    alone; if the function fails, the step ends here."""

    name: str
    call: int
    args: tuple[Ref, ...]
    dtypes: tuple[DType, ...]                                   # one for each place
    reads: int


Plan: TypeAlias = "Launch | Steps | Loop | Branch | Barrier | Extern"

# ---- making ----------------------------------------------------------------------------------------------------------------------


def lift(x: IndexLike) -> Expr:
    """An index. A symbolic size is a variable under its own text: N, 28*N."""
    return Int(x) if isinstance(x, int) else Var(str(x)) if isinstance(x, (str, Dim)) else x


def seq(*body: Stmt) -> Stmt:
    flat = [x for s in body for x in (s.body if isinstance(s, Seq) else (s,))]
    return flat[0] if len(flat) == 1 else Seq(tuple(flat))


def fold(e: Bin) -> Expr:
    """Constant folding of indices. Values are left alone: x + 0.0 is not x."""
    if not isinstance(e.a, Int) and not isinstance(e.b, Int):
        return e
    match e:
        case Bin("+", Int(0), x) | Bin("+" | "-", x, Int(0)) | Bin("*" | "//", x, Int(1)) | Bin("*", Int(1), x): return x
        case Bin("+", Int(a), Int(b)): return Int(a + b)
        case Bin("-", Int(a), Int(b)): return Int(a - b)
        case Bin("*", Int(a), Int(b)): return Int(a * b)
        case Bin("//", Int(a), Int(b)) if b: return Int(a // b)
        case Bin("%", Int(a), Int(b)) if b: return Int(a % b)
        case Bin("*", Int(0), _) | Bin("*", _, Int(0)): return Int(0)
        case Bin("%", _, Int(1)): return Int(0)
        case Bin("+", Int(), x): return fold(Bin("+", x, e.a))
        case Bin("*", Int(), x): return fold(Bin("*", x, e.a))
        case Bin("+", Bin("+", x, Int(a)), Int(b)): return fold(Bin("+", x, Int(a + b)))
        case Bin("-", Bin("+", x, Int(a)), Int(b)): return fold(Bin("+", x, Int(a - b)))
        case Bin("*", Bin("*", x, Int(a)), Int(b)): return fold(Bin("*", x, Int(a * b)))
        case _: return e


def dtype_of(e: Expr) -> DType:
    """The element type of an expression; an index counts as i64."""
    match e:
        case Var() | Int(): return i64
        case Lit(_, dtype) | Cast(_, dtype) | Bitcast(_, dtype): return dtype
        case Load(buf, _): return buf.dtype
        case Bin("<" | "<=" | "==" | "!=", _, _): return bool_
        case Un(_, a) | Bin(_, a, _) | Select(_, a, _): return dtype_of(a)
        case Call(_, args): return dtype_of(args[0])
        case _: assert_never(e)


# ---- walking: every pass is made of these ----------------------------------------------------------------------------------------


def map_plan(p: Plan, f: Callable[[Plan], Plan]) -> Plan:
    """Rebuild p with f applied to the plans directly below it."""
    match p:
        case Steps(body): return Steps(tuple([f(x) for x in body]))
        case Loop(): return replace(p, body=f(p.body))
        case Branch(index, bodies): return Branch(index, tuple([f(x) for x in bodies]))
        case Launch() | Barrier() | Extern(): return p
        case _: assert_never(p)


def walk_plan(p: Plan) -> Iterator[Plan]:
    """p and every plan in it, outer before inner, in order."""
    yield p
    match p:
        case Steps(body) | Branch(_, body):
            for x in body:
                yield from walk_plan(x)
        case Loop(): yield from walk_plan(p.body)
        case Launch() | Barrier() | Extern(): pass
        case _: assert_never(p)


def looked_at(p: Plan) -> tuple[Ref, ...]:
    """What p itself, a loop or a branch, must look at to know where to go on."""
    match p:
        case Loop(): return tuple([r for r in (p.limit, p.go) if r is not None])
        case Branch(index, _): return (index,)
        case Launch() | Steps() | Barrier() | Extern(): return ()
        case _: assert_never(p)


def map_stmt(s: Stmt, f: Callable[[Stmt], Stmt]) -> Stmt:
    """Rebuild s with f applied to the statements directly below it."""
    match s:
        case Seq(body): return seq(*map(f, body))
        case Store() | Accum() | Check(): return s
        case For() | Alloc() | If() | While(): return with_body(s, f(s.body))
        case _: assert_never(s)


def with_body(s: For | Alloc | If | While, body: Stmt) -> Stmt:
    """s around another body; s itself if it is the same. (Plain constructors: `dataclasses.replace` takes ten times as long.)"""
    if body is s.body:
        return s
    match s:
        case For(): return For(s.var, s.lo, s.hi, s.how, body)
        case Alloc(): return Alloc(s.buf, body)
        case If(): return If(s.cond, body)
        case While(): return While(s.cond, body)
        case _: assert_never(s)


def map_children(e: Expr, f: Callable[[Expr], Expr]) -> Expr:
    """Rebuild e with f applied to the expressions directly below it; indices fold. Where f changes nothing it is e itself."""
    old = children(e)
    new = tuple([f(c) for c in old])
    if all(map(is_, old, new)):
        return fold(e) if isinstance(e, Bin) else e
    match e:
        case Load(b, _): return Load(b, new)
        case Bin(op, _, _): return fold(Bin(op, *new))
        case Un(op, _): return Un(op, *new)
        case Select(): return Select(*new)
        case Cast(_, d): return Cast(new[0], d)
        case Bitcast(_, d): return Bitcast(new[0], d)
        case Call(fn, _): return Call(fn, new)
        case Var() | Int() | Lit(): return e
        case _: assert_never(e)


@overload
def map_expr(x: Expr, f: Callable[[Expr], Expr]) -> Expr: ...
@overload
def map_expr(x: Stmt, f: Callable[[Expr], Expr]) -> Stmt: ...
def map_expr(x: Expr | Stmt, f: Callable[[Expr], Expr]) -> Expr | Stmt:
    """Rebuild x bottom-up with f applied to every expression in it. Shared subexpressions are visited once."""
    memo: dict[int, Expr] = {}
    level = 0

    def expr(e: Expr) -> Expr:
        nonlocal level
        new = memo.get(id(e))
        if new is None and level < 50:
            level += 1
            new = memo[id(e)] = f(map_children(e, expr))
            level -= 1
        elif new is None:                                       # deep: children first, without recursion
            for x in postorder(e, memo):
                memo[id(x)] = f(map_children(x, expr))
            new = memo[id(e)]
        return new

    def stmt(s: Stmt) -> Stmt:
        match s:
            case Store(b, ix, v): return Store(b, tuple(map(expr, ix)), expr(v))
            case Accum(b, ix, v, op): return Accum(b, tuple(map(expr, ix)), expr(v), op)
            case For(): return For(s.var, expr(s.lo), expr(s.hi), s.how, stmt(s.body))
            case If(): return If(expr(s.cond), stmt(s.body))
            case While(): return While(expr(s.cond), stmt(s.body))
            case Check(c, code): return Check(expr(c), code)
            case Seq() | Alloc(): return map_stmt(s, stmt)
            case _: assert_never(s)

    return stmt(x) if isinstance(x, Store | Accum | Alloc | For | If | Seq | While | Check) else expr(x)


def walk(s: Stmt) -> Iterator[Stmt]:
    """s and every statement in it, outer before inner, in order."""
    stack = [s]
    while stack:
        x = stack.pop()
        yield x
        if isinstance(x, Seq):
            stack.extend(reversed(x.body))
        elif isinstance(x, Alloc | For | If | While):
            stack.append(x.body)


def expressions(s: Stmt) -> Iterator[Expr]:
    """Every expression in s and below it, each object once."""
    seen: set[int] = set()
    for x in walk(s):
        match x:
            case Store(_, ix, v) | Accum(_, ix, v): stack: list[Expr] = [*ix, v]
            case For(): stack = [x.lo, x.hi]
            case If() | While() | Check(): stack = [x.cond]
            case Seq() | Alloc(): stack = []
            case _: assert_never(x)
        while stack:
            e = stack.pop()
            if id(e) in seen:
                continue
            seen.add(id(e))
            yield e
            stack.extend(children(e))


def children(e: Expr) -> tuple[Expr, ...]:
    match e:
        case Bin(): return (e.a, e.b)
        case Var() | Int() | Lit(): return ()
        case Load(): return e.index
        case Un() | Cast() | Bitcast(): return (e.a,)
        case Select(c, a, b): return (c, a, b)
        case Call(_, args): return args
        case _: assert_never(e)


def postorder(e: Expr, seen: MutableMapping[int, Any]) -> Iterator[Expr]:
    """e and every expression in it whose id is not in `seen`, each object once, children first; no recursion, so nests may be deep.

    The caller enters what it has dealt with; what it leaves out is entered as 0.
    """
    stack = [e]
    while stack:
        x = stack[-1]
        if id(x) in seen:
            stack.pop()
            continue
        below = [c for c in children(x) if id(c) not in seen]
        if below:
            stack.extend(reversed(below))
        else:
            stack.pop()
            yield x
            seen.setdefault(id(x), 0)


@overload
def subst(x: Expr, env: dict[str, Expr]) -> Expr: ...
@overload
def subst(x: Stmt, env: dict[str, Expr]) -> Stmt: ...
def subst(x: Expr | Stmt, env: dict[str, Expr]) -> Expr | Stmt:
    """Replace variables, all at once. With an empty env it only folds constants."""
    if {v.name for e in env.values() for v in postorder(e, {}) if isinstance(v, Var)} & env.keys():
        aside: dict[str, Expr] = {name: Var(f"{name}'") for name in env}    # i + 0 with i → j folds to j, which must not be replaced again
        x = map_expr(x, lambda e: aside.get(e.name, e) if isinstance(e, Var) else e)
        env = {f"{name}'": e for name, e in env.items()}
    return map_expr(x, lambda e: env.get(e.name, e) if isinstance(e, Var) else e)
