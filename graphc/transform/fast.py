"""Rules that are right for real numbers only, run where `gx.compile(..., fast=True)` asks for them: another order of sums and products, a signed zero, an
infinity or a NaN forgotten, a last bit lost. What is exact is in `simplify`, what improves a value in `stability`, and the order of contractions, by their
operations, in `products`.
"""
from __future__ import annotations

import numpy as np

from ..ir.node import Graph, Node
from ..ir.rewrite import Hole, P, Rule, Splat, rewrite
from ..ops.elementwise import add, cast, div, exp, mul, neg, pow_, rsqrt, sqrt, sub
from ..ops.leaf import const, size, splat
from ..ops.movement import broadcast
from ..ops.reduce import reduce_sum
from .fold import fold_node
from .simplify import _drop_ones, _reduce_twice, both, keeps


def fast(graph: Graph) -> Graph:
    """Apply the fast rules, and fold the constants that they bring together."""
    return rewrite(graph, FAST, also=fold_node)


x, y, z = Hole("x"), Hole("y"), Hole("z")
zero, half_, minus_half = Splat(0.0, ("float",)), Splat(0.5, ("float",)), Splat(-0.5, ("float",))
C, D = Splat(3.0, ("float",), "c", any=True), Splat(0.7, ("float",), "d", any=True)


def number(n: Node) -> float:
    return float(n.attrs["value"])


def ordinary(v: float) -> bool:
    """Neither zero nor infinite, nor near to either."""
    return 1e-30 < abs(v) < 1e30


# ---- arithmetic ------------------------------------------------------------------------------------------------------------------


def _times(x: Node, v: float) -> Node | None:
    return mul(x, splat(v, x)) if ordinary(v) else None


def _over(x: Node, c: Node) -> Node | None:
    return _times(x, 1.0 / number(c)) if ordinary(number(c)) else None


def _words(sign: str, p: tuple[Hole, Hole], q: tuple[Hole, Hole]) -> str:
    return f"{p[0].name} * {p[1].name} {sign} {q[0].name} * {q[1].name} → x * (y {sign} z)"


def _power(x: Node, k: Node) -> Node | None:
    """x**3 ... x**16, and their inverses, by squaring."""
    v = number(k)
    if not v.is_integer() or not 3 <= abs(v) <= 16:
        return None
    out = raised(x, int(abs(v)))
    return out if v > 0 else div(splat(1.0, out), out)


def raised(x: Node, n: int) -> Node:
    """x to the power of n >= 1, by squaring."""
    out, base = None, x
    while n:
        if n & 1:
            out = base if out is None else mul(out, base)
        n >>= 1
        if n:
            base = mul(base, base)
    assert out is not None
    return out


_ROW = {"shape": (3, 4), "axes": (1,)}
ARITHMETIC = (
    Rule(both(add, x, zero), keeps(), "x + 0.0 → x   (but -0.0 + 0.0 is 0.0)", exact=False),
    Rule(P(sub, (zero, x)), lambda x: neg(x), "0.0 - x → -x   (but 0.0 - 0.0 is 0.0)", exact=False),
    Rule(P(neg, (P(sub, (x, y)),)), lambda x, y: sub(y, x), "-(x - y) → y - x   (but -(x - x) is -0.0)", exact=False),
    Rule(P(sub, (x, x)), lambda x: splat(0.0, x), "x - x → 0   (but inf - inf is NaN)", exact=False),
    Rule(P(div, (x, x)), lambda x: splat(1.0, x), "x / x → 1   (but 0 / 0 is NaN)", exact=False),
    Rule(both(mul, x, Splat(0.0, ("float",), "zero")), keeps("zero"), "x * 0.0 → 0.0   (but inf * 0.0 is NaN)", exact=False),
    Rule(both(add, both(add, x, C), D), lambda x, c, d: add(x, add(c, d)), "(x + c) + d → x + (c + d)", exact=False),
    Rule(P(sub, (both(add, x, C), D)), lambda x, c, d: add(x, sub(c, d)), "(x + c) - d → x + (c - d)", exact=False),
    Rule(both(add, P(sub, (x, C)), D), lambda x, c, d: add(x, sub(d, c)), "(x - c) + d → x + (d - c)", exact=False),
    Rule(P(sub, (P(sub, (x, C)), D)), lambda x, c, d: sub(x, add(c, d)), "(x - c) - d → x - (c + d)", exact=False),
    Rule(both(mul, both(mul, x, C), D), lambda x, c, d: _times(x, number(c) * number(d)), "(x * c) * d → x * (c * d)", exact=False),
    Rule(P(div, (x, C)), _over, "x / c → x * (1 / c)", exact=False),
    Rule(P(div, (x, P(broadcast, (Hole("y", (3,)),), name="b", example=_ROW))), lambda x, y, b: mul(x, broadcast(div(splat(1.0, y), y), **b.attrs)),
         "x / broadcast(y) → x * broadcast(1 / y)", exact=False),
    Rule(P(div, (P(div, (x, y)), z)), lambda x, y, z: div(x, mul(y, z)), "x / y / z → x / (y * z)", exact=False),
    Rule(P(div, (x, P(div, (y, z)))), lambda x, y, z: div(mul(x, z), y), "x / (y / z) → x * z / y", exact=False),
    *(Rule(P(op, (P(mul, p, single=True), P(mul, q, single=True))), lambda x, y, z, op=op: mul(x, op(y, z)), _words(sign, p, q), exact=False)
      for op, sign in ((add, "+"), (sub, "-")) for p in ((x, y), (y, x)) for q in ((x, z), (z, x))),
    Rule(P(pow_, (x, Splat(3.0, ("float",), "k", any=True))), _power, "x ** n → products   for n up to 16 (rounded more often)", exact=False),
    Rule(P(pow_, (x, half_)), lambda x: sqrt(x), "x ** 0.5 → sqrt(x)   (but (-inf) ** 0.5 is inf)", exact=False),
    Rule(P(pow_, (x, minus_half)), lambda x: rsqrt(x), "x ** -0.5 → rsqrt(x)", exact=False),
    Rule(P(mul, (P(sqrt, (x,)), P(sqrt, (x,)))), keeps(), "sqrt(x) * sqrt(x) → x   (but of -1 it is NaN)", exact=False),
    Rule(P(div, (x, P(sqrt, (y,), single=True))), lambda x, y: mul(x, rsqrt(y)), "x / sqrt(y) → x * rsqrt(y)", exact=False),
    Rule(P(mul, (P(exp, (x,), single=True), P(exp, (y,), single=True))), lambda x, y: exp(add(x, y)), "exp(x) * exp(y) → exp(x + y)", exact=False),
    Rule(P(div, (P(exp, (x,), single=True), P(exp, (y,), single=True))), lambda x, y: exp(sub(x, y)), "exp(x) / exp(y) → exp(x - y)", exact=False),
)

# ---- sums ------------------------------------------------------------------------------------------------------------------------


def _sum_of_repeated(x: Node, a: Node, y: Node) -> Node | None:
    """Of n equal terms: n times one. The other axes are summed as before."""
    new, gone = a.attrs["axes"], y.attrs["axes"]
    times = [a.tensor.shape[k] for k in gone if k in new]
    if not times:
        return None
    rest = [k for k in range(a.tensor.rank) if k not in gone or k not in new]      # the axes of what is summed still
    inner_axes = tuple(at for at, k in enumerate(rest) if k in new)
    shape = tuple(a.tensor.shape[k] for k in rest)
    part = broadcast(x, shape=shape, axes=inner_axes) if inner_axes else x
    over = tuple(at for at, k in enumerate(rest) if k in gone)
    part = reduce_sum(part, axes=over) if over else part
    for n in times:
        if isinstance(n, int):
            k = splat(float(n), part)
        else:
            count = cast(size(dim=n), dtype=part.tensor.dtype)
            k = broadcast(count, shape=part.tensor.shape, axes=tuple(range(part.tensor.rank))) if part.tensor.rank else count
        part = mul(part, k)
    return part


_SUM = {"axes": (1,)}
SUMS = (
    Rule(P(reduce_sum, (Hole("x", (3, 1)),), name="y", example=_SUM), _drop_ones,
         "reduce_sum(x) over no axes, or over axes of size 1 → reshape(x)   (but 0.0 + -0.0 is 0.0)", exact=False),
    Rule(P(reduce_sum, (P(reduce_sum, (Hole("x", (2, 3, 4)),), name="a", example=_SUM),), name="b", example=_SUM),
         lambda x, a, b: _reduce_twice(reduce_sum, x, a, b), "sum(sum(x)) → sum(x)   (in another order)", exact=False),
    Rule(P(reduce_sum, (P(broadcast, (Hole("x", (3, 4)),), name="a", example={"shape": (3, 5, 4), "axes": (1,)}),), name="y", example={"axes": (1, 2)}),
         _sum_of_repeated, "sum(broadcast(x)) → n * sum(x)", exact=False),
    Rule(P(reduce_sum, (both(mul, x, C),), name="s", example=_SUM), lambda x, c, s: _scaled(reduce_sum(x, axes=s.attrs["axes"]), c),
         "sum(x * c) → sum(x) * c", exact=False),
    Rule(P(reduce_sum, (P(neg, (x,)),), name="s", example=_SUM), lambda x, s: neg(reduce_sum(x, axes=s.attrs["axes"])), "sum(-x) → -sum(x)   (but of -0.0)",
         exact=False),
)


def _scaled(total: Node, c: Node) -> Node:
    return mul(total, const(value=np.asarray(c.attrs["value"])[()], shape=total.tensor.shape, dtype=total.tensor.dtype))


FAST: tuple[Rule, ...] = (*ARITHMETIC, *SUMS)
