"""Indices as affine forms: constant + sum(coefficient * variable) + what is not affine. The code generator and the legality of schedules rest on it."""
from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..core.record import dataclass
from .ir import Bin, Buffer, Expr, Int, Var, children


@dataclass(slots=True)
class Form:
    """const + sum(coefficient * variable) + sum(coefficient * expression)"""

    const: int
    variables: list[tuple[str, int]]
    others: list[tuple[Expr, int]]

    def coefficient(self, var: str) -> int:
        return next((c for v, c in self.variables if v == var), 0)

    def moves_otherwise(self, var: str) -> bool:
        """Whether var stands in the part that is not affine."""
        return any(mentions(e, var) for e, _ in self.others)


def form(parts: Iterable[tuple[Expr, int]]) -> Form:
    """sum(k * e) over the pairs (e, k). A quotient and its remainder (x // d * d + x % d) meet in x again."""
    const, variables, others = 0, dict[str, int](), list[tuple[Expr, int]]()
    todo = list(parts)
    while todo:
        e, k = todo.pop()
        match e:
            case Int(v): const += k * v
            case Var(name): variables[name] = variables.get(name, 0) + k
            case Bin("+", a, b): todo += [(b, k), (a, k)]
            case Bin("-", a, b): todo += [(b, -k), (a, k)]
            case Bin("*", a, Int(c)) | Bin("*", Int(c), a): todo.append((a, k * c))
            case Bin("//" | "%" as op, a, Int(d)):
                twin = next((i for i, (o, c) in enumerate(others) if isinstance(o, Bin) and o.op == ("%" if op == "//" else "//")
                             and o.b == e.b and (c * d == k if op == "//" else k * d == c) and o.a == a), None)
                if twin is None:
                    others.append((e, k))
                else:
                    c = others.pop(twin)[1]
                    todo.append((a, c if op == "//" else k))
            case _: others.append((e, k))
    return Form(const, [(v, c) for v, c in variables.items() if c], others)


def place(buf: Buffer, index: tuple[Expr, ...]) -> Form:
    """The element's number in a row-major array."""
    return form(zip(index, buf.strides, strict=True))


def mentions(e: Expr, var: str) -> bool:
    stack, seen = [e], set[int]()                       # expressions share parts: as a tree a function of a function has too many
    while stack:
        x = stack.pop()
        if isinstance(x, Var) and x.name == var:
            return True
        if id(x) not in seen:
            seen.add(id(x))
            stack.extend(children(x))
    return False


def bounds(f: Form, ranges: Mapping[str, tuple[int, int]]) -> tuple[int, int] | None:
    """Least and greatest value of a form over ranges of its variables (both ends included), where they are known."""
    low = high = f.const
    for v, c in f.variables:
        if v not in ranges:
            return None
        a, b = ranges[v]
        low, high = low + min(c * a, c * b), high + max(c * a, c * b)
    for e, c in f.others:
        match e:
            case Bin("%", _, Int(d)): a, b = 0, d - 1
            case Bin("//", x, Int(d)):
                inner = bounds(form(((x, 1),)), ranges)
                if inner is None:
                    return None
                a, b = inner[0] // d, inner[1] // d
            case _: return None
        low, high = low + min(c * a, c * b), high + max(c * a, c * b)
    return low, high
