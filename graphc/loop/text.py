"""The loop IR and the Plan as text, for people and for golden tests; nothing parses it back.

An expression is a DAG of shared objects. What a statement uses twice is printed once, as a `let` before it; so is every thirtieth level of a
deep nest, which keeps lines readable and the printer's own recursion shallow.
"""
from __future__ import annotations  # noqa: I001

import numpy as np

from ..core.compat import assert_never
from ..core.dtype import DType, f32, f64
from .ir import (
    Accum, Alloc, Barrier, Bin, Bitcast, Branch, Buffer, Call, Cast, Check, Expr, Extern, For, If, Int, Kernel, Launch, Lit, Load, Loop, Plan, Ref, Select,
    Seq, Steps, Stmt, Store, Un, Var, While, children, postorder,
)

DEEP = 30                                                       # levels of one expression on one line
TIGHT = {"*": "*", "/": "/", "//": "//", "%": "%"}
LEVEL = {"or": 1, "xor": 2, "and": 3, "<": 4, "<=": 4, "==": 4, "!=": 4, "<<": 5, ">>": 5, "+": 6, "-": 6, "*": 7, "/": 7, "//": 7, "%": 7}


def show(x: Kernel | Stmt | Expr | Plan) -> str:
    match x:
        case Kernel(): return kernel(x)
        case Store() | Accum() | Alloc() | For() | If() | Seq() | While() | Check(): return "\n".join(statement(x))
        case Launch() | Steps() | Loop() | Branch() | Barrier() | Extern(): return plan(x)
        case _: return "\n".join(with_lets((x,), lambda t: t))


def kernel(k: Kernel) -> str:
    args = [declared(b) for b in k.buffers] + [f"{n}: size" for n in k.sizes]
    return "\n".join([f"kernel {k.name}({', '.join(args)})", *indent(statement(k.body))])


def declared(b: Buffer) -> str:
    return f"{b.name}: {b.dtype}[{', '.join(map(str, b.shape))}]"


def indent(lines: list[str]) -> list[str]:
    return ["  " + line for line in lines]


# ---- statements ------------------------------------------------------------------------------------------------------------------


def statement(s: Stmt) -> list[str]:
    match s:
        case Store(b, ix, v): return with_lets((*ix, v), lambda *t: f"{b.name}[{', '.join(t[:-1])}] = {t[-1]}")
        case Accum(b, ix, v, op): return with_lets((*ix, v), lambda *t: f"{b.name}[{', '.join(t[:-1])}] {op}= {t[-1]}")
        case Alloc(b, body): return [f"{declared(b)} in {b.space}", *statement(body)]
        case For(var, lo, hi, how, body): return [*with_lets((lo, hi), lambda a, b: f"{how} {var} in {a}:{b}"), *indent(statement(body))]
        case If(cond, body): return [*with_lets((cond,), lambda c: f"if {c}"), *indent(statement(body))]
        case While(cond, body): return [*with_lets((cond,), lambda c: f"while {c}"), *indent(statement(body))]
        case Check(cond, code): return with_lets((cond,), lambda c: f"check {c} else {code}")
        case Seq(body): return [line for x in body for line in statement(x)]
        case _: assert_never(s)


def with_lets(roots, line) -> list[str]:                        # type: ignore[no-untyped-def]
    """The line made from the text of the roots, after a `let` for each subexpression that is shared or deep."""
    uses: dict[int, int] = {}
    height: dict[int, int] = {}
    names: dict[int, str] = {}
    lines: list[str] = []
    order = [e for root in roots for e in postorder(root, uses)]
    for e in order:
        for c in children(e):
            uses[id(c)] = uses.get(id(c), 0) + 1
    for e in order:
        height[id(e)] = 1 + max((height[id(c)] for c in children(e)), default=0)
        if isinstance(e, Un | Bin | Select | Cast | Bitcast | Call) and ((uses[id(e)] > 1 and not counts(e)) or height[id(e)] > DEEP):
            lines.append(f"let t{len(lines)} = {text(e, names)}")
            names[id(e)] = f"t{len(lines) - 1}"
            height[id(e)] = 1
    return [*lines, line(*(text(root, names) for root in roots))]


def counts(e: Expr) -> bool:
    """Whether e is index arithmetic over variables alone: short, and clearer where it stands."""
    match e:
        case Var() | Int(): return True
        case Bin(_, a, b): return counts(a) and counts(b)
        case _: return False


# ---- expressions -----------------------------------------------------------------------------------------------------------------


def literal(value: float | int | bool, dtype: DType) -> str:
    if dtype.kind == "bool":
        return "true" if value else "false"
    if dtype is f32:
        with np.errstate(over="ignore"):
            return repr(float(str(np.float32(value))))
    return f"{float(value)!r}:f64" if dtype is f64 else f"{int(value)}:{dtype}"


def text(e: Expr, names: dict[int, str], above: int = 0) -> str:
    """e as text; parenthesised if it binds less tightly than `above`."""
    if id(e) in names:
        return names[id(e)]
    match e:
        case Var(name): return name
        case Int(value): return str(value)
        case Lit(value, dtype): return literal(value, dtype)
        case Load(b, ix): return f"{b.name}[{', '.join(text(i, names) for i in ix)}]"
        case Un("neg", a): return f"-{text(a, names, 8)}"
        case Un("not", a): return f"not {text(a, names, 8)}"
        case Un(op, a): return f"{op}({text(a, names)})"
        case Bin("max" | "min" as op, a, b): return f"{op}({text(a, names)}, {text(b, names)})"
        case Bin(op, a, b):
            level = LEVEL[op]
            line = f"{text(a, names, level)}{TIGHT.get(op, f' {op} ')}{text(b, names, level + 1)}"
            return f"({line})" if level < above else line
        case Select(c, a, b): return f"({text(a, names)} if {text(c, names)} else {text(b, names)})"
        case Cast(a, dtype): return f"{dtype}({text(a, names)})"
        case Bitcast(a, dtype): return f"bits.{dtype}({text(a, names)})"
        case Call(fn, args): return f"{fn}({', '.join(text(a, names) for a in args)})"
        case _: assert_never(e)


# ---- plans -----------------------------------------------------------------------------------------------------------------------


def plan(p: Plan) -> str:
    """Each kernel once, in the order of its first launch, then the tree of launches."""
    kernels: dict[int, Kernel] = {}

    def ref(r: Ref) -> str:
        at = f"+{r.region.offset}" if r.region.offset is not None else ""
        start = "" if r.start == Int(0) else f"[{show(r.start)}:]"
        return f"{r.region.name}{start}@{r.region.where}{at}"

    def go(p: Plan) -> list[str]:
        match p:
            case Launch(k, args, sizes, shared):
                kernels.setdefault(id(k), k)
                return [f"{'share' if shared else 'launch'} {k.name}({', '.join([*map(ref, args), *map(show, sizes)])})"]
            case Steps(body): return [line for x in body for line in go(x)]
            case Loop(var, count, body, down, limit, test):
                end = f"0:{count}" if limit is None else f"0:min({ref(limit)}, {count})"
                return [f"loop {var} in {end}{' down' * down}{f' while {ref(test)}' if test is not None else ''}", *indent(go(body))]
            case Branch(index, bodies):
                return [line for k, x in enumerate(bodies) for line in (f"branch {k} of {ref(index)}", *indent(go(x)))]
            case Barrier(): return ["barrier"]
            case Extern(name, call, args, _, reads):
                return [f"host {call} {name}({', '.join(map(ref, args[:reads]))}) -> {', '.join(map(ref, args[reads:]))}".rstrip("-> ")]
            case _: assert_never(p)

    tree = go(p)
    return "\n\n".join([*map(kernel, kernels.values()), "\n".join(["step", *indent(tree)])])
