"""Functions of graphc that are several nodes and have one name in books: sinh, asinh, hypot, logaddexp. Found by their own graphs, for printing alone.

What a function makes of symbols is the pattern: nothing here is to be kept in step with `graphc.array`. The new ops have the derivatives that books write,
and are in no registry, as those of `textbook`.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import sympy

from ..core.dtype import DType
from ..core.types import TensorType
from ..ir.node import Node
from ..ir.op import Op
from ..ops.elementwise import sigmoid, sqrt
from ..trace import arguments, function
from ..trace.methods import functions
from ..trace.spec import Spec


def _op(name: str, numpy: Callable[..., Any], vjp: Callable[..., Any], doc: str) -> Op:
    return Op(name, "unary", lambda t, *_: t, numpy, vjp, doc, lambda rng: [])


cosh: Op
sinh = _op("sinh", np.sinh, lambda g, y, x: (g * cosh(x),), "(exp(x) - exp(-x)) / 2")
cosh = _op("cosh", np.cosh, lambda g, y, x: (g * sinh(x),), "(exp(x) + exp(-x)) / 2")
atanh = _op("atanh", np.arctanh, lambda g, y, x: (g / (1.0 - x * x),), "the inverse of tanh")
asinh = _op("asinh", np.arcsinh, lambda g, y, x: (g / sqrt(x * x + 1.0),), "the inverse of sinh")
acosh = _op("acosh", np.arccosh, lambda g, y, x: (g / sqrt(x * x - 1.0),), "the inverse of cosh")
hypot = _op("hypot", np.hypot, lambda g, y, a, b: (g * a / y, g * b / y), "sqrt(x^2 + y^2)")
logaddexp = _op("logaddexp", np.logaddexp, lambda g, y, a, b: (g * sigmoid(a - b), g * sigmoid(b - a)), "log(exp(x) + exp(y))")

log10 = _op("log10", np.log10, lambda g, y, x: (g / (x * math.log(10.0)),), "the logarithm to base 10")

MEANING: dict[Op, Callable[..., Any]] = {
    sinh: sympy.sinh, cosh: sympy.cosh, asinh: sympy.asinh, acosh: sympy.acosh, atanh: sympy.atanh, hypot: lambda a, b: sympy.sqrt(a**2 + b**2),
    logaddexp: lambda a, b: sympy.log(sympy.exp(a) + sympy.exp(b)), log10: lambda x: sympy.log(x, 10),
}
_ARITY = {op: 2 if op in (hypot, logaddexp) else 1 for op in MEANING}


@lru_cache
def _pattern(op: Op, dtype: DType) -> tuple[Node, tuple[Node, ...]]:
    """What graphc's function of this name makes of numbers, and the numbers."""
    count = _ARITY[op]
    call = arguments.take_apart((Spec((), dtype),) * count, {}, lambda _: ["x", "y"][:count])
    graph = function.trace(getattr(functions.namespace, op.name), call, [TensorType((), dtype)] * count, stable=False).graph
    return graph.outputs[0], graph.inputs


def composite(n: Node) -> tuple[Op, tuple[Node, ...]] | None:
    """The function that ends in n, and its operands."""
    if n.op.name not in ("where", "add", "mul") or not n.tensor.dtype.is_float:
        return None
    for op in _ARITY:
        pattern, inputs = _pattern(op, n.tensor.dtype)
        holes: dict[Node, Node] = {}
        if _is_like(pattern, n, holes, set(inputs)):
            return op, tuple(holes[i] for i in inputs)
    return None


def _is_like(p: Node, n: Node, holes: dict[Node, Node], free: set[Node]) -> bool:
    """Is n the pattern, of any shape, with nodes for its inputs?"""
    if p in free:
        return holes.setdefault(p, n) is n
    if p.op is not n.op or len(p.inputs) != len(n.inputs):
        return False
    for name, value in p.attrs.items():
        if name != "shape" and not (value == n.attrs[name] if isinstance(value, DType) else np.array_equal(value, n.attrs[name], equal_nan=True)):
            return False
    return all(_is_like(a, b, holes, free) for a, b in zip(p.inputs, n.inputs))
