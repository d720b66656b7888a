"""The derivative rules of the elementwise ops, proved: what the rule writes, against what SymPy's `diff` says of the op's own expression.

A rule is run on symbols (the vjp of the op, applied to nodes), its graph is translated, and the difference from g ∂f/∂x is shown to be 0: by
simplification, and where SymPy cannot do that, by evaluating it to 60 digits at random rational points, which is evidence and is called so. An op
whose derivative is said to be 0 must be constant around random points.
"""
from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import sympy

from ..core.dtype import bool_, f64, i64
from ..core.errors import GraphError
from ..core.record import dataclass
from ..ir.node import Node
from ..ir.op import Op
from ..ops import elementwise as ops
from ..ops.leaf import input_
from .translate import elements

How = Literal["simplified", "60 digits", "constant", "logical", "cut", "wrong"]
POINTS, DIGITS = 40, 60


@dataclass(frozen=True, slots=True)
class Proof:
    """One partial derivative of one op."""

    op: Op
    by: str                                             # the operand: x, or a and b
    function: str                                       # the op's expression
    rule: str                                           # what its rule gives for the cotangent g
    how: How
    difference: str = ""                                # from the truth, where it is wrong


def prove(op: Op, **attrs: Any) -> list[Proof]:
    """A proof for each operand that may be floating. `wrong` among them is a mistake in the op's vjp."""
    xs = _operands(op, attrs)
    names = [x.attrs["name"] for x in xs]
    symbols: dict[Node, Any] = {x: _scalar(sympy.Symbol(x.attrs["name"], real=True)) for x in xs}
    for x in xs:
        if x.tensor.dtype is bool_:
            symbols[x] = _scalar(sympy.Symbol(x.attrs["name"]))
    y = op(*xs, **attrs)
    if op.vjp == "zero":
        if not y.tensor.dtype.is_float or not xs[0].tensor.dtype.is_float:
            return [Proof(op, ", ".join(names), _show(y, symbols), "0", "logical")]
        if op is ops.stop_gradient:
            return [Proof(op, names[0], _show(y, symbols), "0", "cut")]
        return [_constant(op, x, y, xs, symbols) for x in xs]
    assert callable(op.vjp), op
    g = input_(name="g", shape=(), dtype=y.tensor.dtype)
    symbols[g] = _scalar(sympy.Symbol("g", real=True))
    found = []
    for x, rule in zip(xs, op.vjp(g, y, *xs, **attrs), strict=True):
        if x.tensor.dtype.is_float and y.tensor.dtype.is_float:
            found.append(_compare(op, x, y, rule, g, xs, symbols))
        elif rule is not None:
            found.append(Proof(op, x.attrs["name"], _show(y, symbols), _show(rule, symbols), "wrong", "an operand that is no float has no cotangent"))
    return found or [Proof(op, names[0], _show(y, symbols), "0", "logical")]


def _scalar(e: Any) -> Any:
    out = np.empty((), object)
    out[()] = e
    return out


def _operands(op: Op, attrs: dict[str, Any]) -> list[Node]:
    """Scalars of types that the op takes: floats where it can."""
    for kinds in ((f64,), (f64, f64), (bool_, f64, f64), (bool_,), (bool_, bool_), (i64, i64)):
        names = {1: "x", 2: "ab", 3: "cab"}[len(kinds)]
        xs = [input_(name=name, shape=(), dtype=k) for name, k in zip(names, kinds)]
        try:
            op.infer(*(x.type for x in xs), **attrs)
        except (GraphError, TypeError):
            continue
        return xs
    raise GraphError(f"{op} takes no scalars", op=op)


def _value(n: Node, symbols: dict[Node, Any]) -> sympy.Expr:
    return elements([n], symbols)[0].item()


def _show(n: Node, symbols: dict[Node, Any]) -> str:
    try:
        return str(_value(n, symbols))
    except GraphError:
        names = ", ".join(i.attrs["name"] for i in n.inputs)
        return f"{n.op}({names})"


def _compare(op: Op, x: Node, y: Node, rule: Node | None, g: Node, xs: Sequence[Node], symbols: dict[Node, Any]) -> Proof:
    f = _value(y, symbols)
    by = symbols[x].item()
    got = sympy.Integer(0) if rule is None else _value(rule, symbols)
    # between their jumps floors are constants
    steps = sorted(f.atoms(sympy.floor, sympy.ceiling), key=str)
    held = {s: sympy.Symbol(f"step{k}", real=True) for k, s in enumerate(steps)}
    want = (symbols[g].item() * sympy.diff(f.xreplace(held), by)).xreplace({v: k for k, v in held.items()})
    difference = got - want
    text = {"op": op, "by": x.attrs["name"], "function": str(f), "rule": str(got)}
    if difference.has(sympy.Heaviside):
        difference = difference.rewrite(sympy.Piecewise)
    if sympy.simplify(difference) == 0:
        return Proof(**text, how="simplified")
    for point in _points(op, [symbols[s].item() for s in (*xs, g)], not_equal=False):
        off = sympy.N(difference.subs(point), DIGITS)
        if not (off.is_number and abs(off) < sympy.Float(10) ** (10 - DIGITS)):
            return Proof(**text, how="wrong", difference=f"{sympy.N(off, 6)} at {', '.join(f'{k} = {v}' for k, v in point.items())}")
    return Proof(**text, how="60 digits")


def _constant(op: Op, x: Node, y: Node, xs: Sequence[Node], symbols: dict[Node, Any]) -> Proof:
    """Is the op the same a little to the right of random points?"""
    f, by = _value(y, symbols), symbols[x].item()
    text = {"op": op, "by": x.attrs["name"], "function": str(f), "rule": "0"}
    for point in _points(op, [symbols[s].item() for s in xs], not_equal=True):
        here, there = f.subs(point), f.subs({**point, by: point[by] + sympy.Rational(1, 10**20)})
        if here != there:
            return Proof(**text, how="wrong", difference=f"it changes at {point}")
    return Proof(**text, how="constant")


def _points(op: Op, symbols: Sequence[sympy.Symbol], not_equal: bool) -> list[dict[sympy.Symbol, Any]]:
    """Random rational points of the op's domain: the same ones every time, and also ties, unless not_equal."""
    rng = random.Random(op.name)
    low, high = op.domain or (-2.0, 2.0)
    out = []
    for k in range(POINTS):
        numbers = [sympy.Rational(int(low * 9973) + rng.randrange(1, int((high - low) * 9973)), 9973) for _ in symbols]
        if k < 3 and not not_equal:
            numbers[:-1] = [numbers[0]] * (len(numbers) - 1)
        out.append({s: (sympy.true if k % 2 else sympy.false) if s.name == "c" else v for s, v in zip(symbols, numbers)})
    return out
