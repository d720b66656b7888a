"""Linear algebra as books write it: A^{-1} b, det A, tr A, ‖x‖. Graph → Graph, for printing alone, as `textbook`; and the words themselves.

A trace is a slice of what is flat, a norm has a case for 0: here they are one node each, with the derivative of a book. What is computed by an algorithm
(solutions, determinants, factors) has no element to write, so it is a phrase: text that stands where a name does, or on a line of its own if it is read twice.
"""
from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from ..core.types import TensorType
from ..ir.node import Graph, Node
from ..ir.op import Op
from ..ops import determinant, linalg, spectral
from ..ops.elementwise import add, cast, eq, mul, sqrt, where
from ..ops.leaf import const, iota
from ..ops.movement import broadcast, reshape, slice_
from ..ops.reduce import reduce_sum
from ..ops.tuples import get
from .textbook import composed, is_number

ADD, HADAMARD, MUL, POW, ATOM = range(5)                # how tightly a text holds together
Text = tuple[str, int]


def _over(g: Node, like: Node) -> Node:
    return broadcast(g, shape=like.tensor.shape, axes=tuple(range(like.tensor.rank)))


def _scalar(t: TensorType) -> TensorType:
    return TensorType((), t.dtype)


def _eye(x: Node) -> Node:
    return identity(shape=x.tensor.shape, dtype=x.tensor.dtype)


identity = Op("identity", "leaf", lambda *, shape, dtype: TensorType(shape, dtype), lambda *, shape, dtype: np.eye(*shape, dtype=dtype.numpy), None,
              "Ones on the diagonal", lambda rng: [])
trace = Op("trace", "reduce", _scalar, np.trace, lambda g, y, x: (_over(g, x) * _eye(x),), "The sum of the diagonal", lambda rng: [])
norm = Op("norm", "reduce", _scalar, np.linalg.norm, lambda g, y, x: (_over(g / y, x) * x,), "The root of the sum of squares", lambda rng: [])
logabsdet = Op("logabsdet", "linalg", _scalar, lambda x: np.linalg.slogdet(x)[1],
               lambda g, y, x: (_over(g, x) * linalg.solve(x, _eye(x), transposed=True),), "log |det x|", lambda rng: [])


def algebra(graph: Graph) -> Graph:
    """The graph with every such composite as one node."""
    return composed(graph, _found)


def _found(n: Node, done: dict[Node, Node]) -> Node | None:
    """The composite that ends in n, on the rebuilt operands."""
    if n.op is get and n.inputs[0].op is determinant.slogdet and n.attrs["index"] == 1 and n.tensor.rank == 0:
        return logabsdet(done[n.inputs[0].inputs[0]])
    if n.op is reduce_sum and n.tensor.rank == 0 and (x := _diagonal(n.inputs[0])) is not None:
        return trace(done[x])
    if n.op is where and n.tensor.rank == 0 and n.inputs[2].op is sqrt and (x := _squares(n)) is not None:
        return norm(done[x])
    if n.op is cast and n.tensor.rank == 2 and n.tensor.shape[0] == n.tensor.shape[1] and _on_diagonal(n.inputs[0]):
        return _eye(n)
    return None


def _diagonal(n: Node) -> Node | None:
    """x, where n is every m + 1st of the m² elements of x."""
    if n.op is not slice_ or n.inputs[0].op is not reshape:
        return None
    x = n.inputs[0].inputs[0]
    square = x.tensor.rank == 2 and x.tensor.shape[0] == x.tensor.shape[1]
    return x if square and n.attrs["starts"] == (0,) and n.attrs["steps"] == (x.tensor.shape[0] + 1,) else None


def _squares(n: Node) -> Node | None:
    """x, where n is the root of its sum of squares, or 0 where that is 0."""
    zero, inner = n.inputs[0], n.inputs[2].inputs[0]
    if zero.op is not eq or not is_number(n.inputs[1], 0.0) or inner.op is not where or inner.inputs[0] is not zero or not is_number(inner.inputs[1], 1.0):
        return None
    s = inner.inputs[2]
    same = s.op is reduce_sum and zero.inputs[0] is s and s.inputs[0].op is mul and s.inputs[0].inputs[0] is s.inputs[0].inputs[1]
    return s.inputs[0].inputs[0] if same else None


def _on_diagonal(n: Node) -> bool:
    def axis(x: Node) -> int | None:
        if x.op is add and x.inputs[1].op is const and is_number(x.inputs[1], 0):
            x = x.inputs[0]
        return int(x.attrs["axis"]) if x.op is iota else None
    return n.op is eq and sorted(-1 if a is None else a for a in map(axis, n.inputs)) == [0, 1]


# ---- words -----------------------------------------------------------------------------------------------------------------------------


def held(t: Text, least: int) -> str:
    """The text, in parentheses unless it holds together as tightly as that."""
    return t[0] if t[1] >= least else f"\\left({t[0]}\\right)"


def level(name: str) -> int:
    """How tightly a name or a phrase holds together: by what is outside of braces and parentheses."""
    depth, found = 0, ATOM
    for token in re.findall(r"\\left|\\right|[{} ^]", name):
        depth += {r"\left": 1, "{": 1, r"\right": -1, "}": -1}.get(token, 0)
        if not depth and token in " ^":
            found = min(found, MUL if token == " " else POW)
    return found


def turned(name: str) -> str:
    """The transpose of what has this name."""
    for here, there in (("^{-1}", "^{-\\top}"), ("^{-\\top}", "^{-1}")):
        if name.endswith(here):
            return name[:-len(here)] + there
    return f"{held((name, level(name)), ATOM)}^\\top"


def _call(name: str) -> Callable[[Text], str]:
    return lambda x: f"\\operatorname{{{name}}}\\left({x[0]}\\right)"


CALLS: dict[Op, Callable[[Text], str]] = {
    determinant.det: lambda x: f"\\det\\left({x[0]}\\right)", logabsdet: lambda x: f"\\log\\left|\\det {held(x, ATOM)}\\right|", trace: _call("tr"),
    linalg.cholesky: _call("chol"), determinant.cofactors: _call("cof"), spectral.pinv: lambda x: f"{held(x, ATOM)}^{{+}}",
}


def phrase(n: Node, parts: list[Text]) -> str | None:
    """What a book says for the op, given how its operands are spelt."""
    if n.op is norm:
        return f"\\left\\|{parts[0][0]}\\right\\|" + ("_F" if n.inputs[0].tensor.rank == 2 else "")
    if n.op in CALLS and n.tensor.rank in (0, 2):
        return CALLS[n.op](parts[0])
    if n.op not in (linalg.solve, linalg.triangular_solve) or n.tensor.rank != 2:
        return None
    a = parts[0]
    if n.op is linalg.triangular_solve and n.inputs[0].op is not linalg.cholesky:
        a = f"\\operatorname{{{'tril' if n.attrs['lower'] else 'triu'}}}\\left({a[0]}\\right)", ATOM
        if n.attrs["unit"]:
            return None
    inverse = held(a, ATOM) + ("^{-\\top}" if n.attrs["transposed"] else "^{-1}")
    return inverse if parts[1][0] == "I" else f"{inverse} {held(parts[1], MUL)}"
