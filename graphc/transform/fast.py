"""Rules that are right for real numbers only, run where `gx.compile(..., fast=True)` asks for them: another order of sums and products, a signed zero, an
infinity or a NaN forgotten, a last bit lost. What is exact is in `simplify`, what improves a value in `stability`.

Contractions are reassociated by their floating-point operations: (A·B)·v is A·(B·v) where that takes fewer. A rule looks at two contractions, the first of
which nobody else reads, and each application makes the total smaller; a chain is settled from its inputs up.
"""
from __future__ import annotations

import math

import numpy as np

from ..ir.node import Graph, Node
from ..ir.rewrite import Hole, P, Rule, Splat, rewrite
from ..ops.contract import contract, free_axes
from ..ops.elementwise import add, cast, div, exp, mul, neg, pow_, rsqrt, sqrt, sub
from ..ops.leaf import const, size, splat
from ..ops.movement import broadcast, permute
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
    n, out, base = int(abs(v)), None, x
    while n:
        if n & 1:
            out = base if out is None else mul(out, base)
        n >>= 1
        if n:
            base = mul(base, base)
    assert out is not None
    return out if v > 0 else div(splat(1.0, out), out)


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


# ---- contractions by their operations ----------------------------------------------------------------------------------------------


def _flops(a: Node, b: Node, over: tuple[tuple[int, ...], tuple[int, ...]]) -> int:
    """Multiplications of a contraction without batch."""
    return math.prod(a.tensor.static_shape) * math.prod(n for k, n in enumerate(b.tensor.static_shape) if k not in over[1])


_NONE: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


def _regrouped(k: Node, o: Node, side: int) -> Node | None:
    """o = (a·b)·c, or c·(a·b), with the inner product k at operand `side`; all of what c contracts belongs to a, or all of it to b."""
    c = o.inputs[1 - side]
    a, b = k.inputs
    if k.attrs["batch"] != _NONE or o.attrs["batch"] != _NONE or not all(n.tensor.is_static for n in (a, b, c)):
        return None
    (ka, kb), mine, hers = k.attrs["contracting"], o.attrs["contracting"][side], o.attrs["contracting"][1 - side]
    fa, fb = free_axes(a.tensor.rank, ka), free_axes(b.tensor.rank, kb)
    names = [("a", i) for i in fa] + [("b", i) for i in fb]             # k's axes
    owners = {names[i][0] for i in mine}
    if len(owners) != 1 or not mine:
        return None
    (owner,) = owners
    near, far, near_k, far_k = (b, a, kb, ka) if owner == "b" else (a, b, ka, kb)
    first = tuple(names[i][1] for i in mine)                            # axes of near that c contracts
    new_cost = _flops(near, c, (first, hers))
    left = free_axes(near.tensor.rank, first)                           # near's axes that the new inner product keeps, in front of c's
    outer = tuple(left.index(i) for i in near_k)
    size_inner = math.prod(near.tensor.static_shape[i] for i in left) * math.prod(c.tensor.static_shape[i] for i in free_axes(c.tensor.rank, hers))
    new_cost += size_inner * math.prod(far.tensor.static_shape[i] for i in free_axes(far.tensor.rank, far_k))
    if new_cost >= _flops(a, b, (ka, kb)) + _flops(o.inputs[0], o.inputs[1], o.attrs["contracting"]):
        return None
    inner = contract(near, c, contracting=(first, hers), batch=_NONE)
    out = contract(far, inner, contracting=(far_k, outer), batch=_NONE)
    fc = free_axes(c.tensor.rank, hers)
    have = [("far", i) for i in free_axes(far.tensor.rank, far_k)] + [("near", i) for i in left if i not in near_k] + [("c", i) for i in fc]
    of = {"a": "far" if owner == "b" else "near", "b": "near" if owner == "b" else "far"}
    kept = [(of[n], i) for n, i in (names[j] for j in free_axes(len(names), mine))]
    want = [*kept, *(("c", i) for i in fc)] if side == 0 else [*(("c", i) for i in fc), *kept]
    order = tuple(have.index(w) for w in want)
    return out if order == tuple(range(len(order))) else permute(out, axes=order)


_MM = {"contracting": ((1,), (0,)), "batch": ((), ())}
_VM = {"contracting": ((0,), (0,)), "batch": ((), ())}
CONTRACTIONS = (
    Rule(P(contract, (P(contract, (Hole("a", (3, 4)), Hole("b", (4, 5))), name="k", example=_MM, single=True), Hole("v", (5,))), name="o", example=_MM),
         lambda k, o, **_: _regrouped(k, o, 0), "(A·B)·v → A·(B·v)   where that is fewer operations", exact=False),
    Rule(P(contract, (Hole("v", (3,)), P(contract, (Hole("a", (3, 4)), Hole("b", (4, 5))), name="k", example=_MM, single=True)), name="o", example=_VM),
         lambda k, o, **_: _regrouped(k, o, 1), "v·(A·B) → (v·A)·B   where that is fewer operations", exact=False),
)

FAST: tuple[Rule, ...] = (*ARITHMETIC, *SUMS, *CONTRACTIONS)
