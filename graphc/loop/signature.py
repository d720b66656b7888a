"""When two nests are the same: a key that is equal for nests that differ in object identity only.

Dataclass equality would visit a shared subexpression once for each path to it; the signature numbers every distinct expression once, so it
is linear in the size of the DAG. Literals are told apart by their bits (0.0, -0.0; every NaN prints alike).
"""
from __future__ import annotations

from collections.abc import Hashable

from ..core.compat import assert_never

from .ir import (  # isort: skip
    Accum, Alloc, Bin, Bitcast, Call, Cast, Check, Expr, For, If, Int, Lit, Load, Select, Seq, Stmt, Store, Un, Var, While, postorder,
)


Signature = tuple[Hashable, tuple[tuple[Hashable, ...], ...]]   # of the statements, which number the expressions; and of these, in order


def signature(s: Stmt) -> Signature:
    """A key of the nest: equal keys mean equal text, so one schedule and one kernel serve both."""
    number: dict[int, int] = {}                             # of an expression object
    known: dict[tuple[Hashable, ...], int] = {}             # of an expression's key, by which equal objects share a number

    def expr(e: Expr) -> int:
        if known_already := number.get(id(e)):
            return known_already
        for x in postorder(e, number):
            key = _key(x, number)
            number[id(x)] = known.setdefault(key, len(known) + 1)
        return number[id(e)]

    def stmt(s: Stmt) -> Hashable:
        match s:
            case Store(b, ix, v): return ("=", b, *map(expr, ix), expr(v))
            case Accum(b, ix, v, op): return (op, b, *map(expr, ix), expr(v))
            case Alloc(b, body): return ("alloc", b, stmt(body))
            case For(var, lo, hi, how, body): return (how, var, expr(lo), expr(hi), stmt(body))
            case If(c, body): return ("if", expr(c), stmt(body))
            case While(c, body): return ("while", expr(c), stmt(body))
            case Check(c, code): return ("check", expr(c), code)
            case Seq(body): return ("seq", *map(stmt, body))
            case _: assert_never(s)

    return stmt(s), tuple(known)


def variables(of: Signature) -> set[str]:
    """The names of the variables that stand in the expressions of a nest."""
    return {str(key[1]) for key in of[1] if key[0] == "var"}


def _key(e: Expr, number: dict[int, int]) -> tuple[Hashable, ...]:
    def n(x: Expr) -> int:
        return number[id(x)]

    match e:
        case Var(name): return ("var", name)
        case Int(value): return ("int", value)
        case Lit(value, dtype): return ("lit", repr(value), dtype)
        case Load(b, ix): return ("load", b, *map(n, ix))
        case Un(op, a): return (op, n(a))
        case Bin(op, a, b): return (op, n(a), n(b))
        case Select(c, a, b): return ("select", n(c), n(a), n(b))
        case Cast(a, dtype): return ("cast", n(a), dtype)
        case Bitcast(a, dtype): return ("bitcast", n(a), dtype)
        case Call(fn, args): return (fn, *map(n, args))
        case _: assert_never(e)
