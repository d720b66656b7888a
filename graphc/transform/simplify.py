"""Algebra on tensors, as rules. Each rule is data, and the tests check each on its own smallest example against the oracle.

EXACT rules keep every bit of every value: signed zeros, infinities, and what is NaN (a NaN's own sign and payload do not count). Movement that goes past
arithmetic is in `sink`, numerics (log of softmax) in `stability`, and what is right for real numbers only, which nobody runs unasked, in `fast`.
"""
from __future__ import annotations

import math
from collections.abc import Callable

from ..core.dtype import DType, bool_, f64, i64, u64
from ..ir.node import Graph, Node
from ..ir.op import Op
from ..ir.rewrite import Hole, P, Pattern, Rule, Splat, rewrite
from ..ops.contract import Pair, contract, free_axes
from ..ops.elementwise import abs_, add, and_, bitcast, cast, div, eq, maximum, minimum, mul, ne, neg, not_, or_, pow_, stop_gradient, sub, where
from ..ops.leaf import splat
from ..ops.movement import broadcast, concat, flip, pad, permute, reshape, slice_
from ..ops.reduce import reduce_max, reduce_min, reduce_prod
from .fold import fold_node
from .sink import sink


def simplify(graph: Graph) -> Graph:
    """Apply the exact rules, and fold the constants that they lay bare."""
    return rewrite(graph, EXACT, also=_also)


def _also(n: Node) -> Node | None:
    folded = fold_node(n)
    return sink(n) if folded is None else folded


x, y, z = Hole("x"), Hole("y"), Hole("z")
c, d = Hole("c", dtype=bool_), Hole("d", dtype=bool_)
one, two, minus_one = Splat(1), Splat(2), Splat(-1, ("float", "int"))
float_zero, minus_zero, int_zero = Splat(0.0, ("float",)), Splat(-0.0, ("float",)), Splat(0, ("int", "uint"))
INT = Hole("x", dtype=i64)


def both(op: Op, a: Pattern, b: Pattern, name: str | None = None) -> P:
    """op(a, b) or op(b, a)."""
    return P(op, (a, b), name=name, commutes=True)


def keeps(name: str = "x") -> Callable[..., Node]:
    """The rule's function that gives back what one hole found."""
    return lambda **env: env[name]


# ---- arithmetic ------------------------------------------------------------------------------------------------------------------


def _halves(x: Node, k: Node) -> Node | None:
    """x / 2ⁿ → x * 2⁻ⁿ, where both powers are ordinary numbers: the two are the same real number, rounded once."""
    v = float(k.attrs["value"])
    mantissa, exponent = math.frexp(v)
    return mul(x, splat(1.0 / v, x)) if abs(mantissa) == 0.5 and abs(exponent) < 120 else None


ARITHMETIC = (
    Rule(both(mul, x, one), keeps(), "x * 1 → x"),
    Rule(P(div, (x, one)), keeps(), "x / 1 → x"),
    Rule(both(mul, x, minus_one), lambda x: neg(x), "x * -1 → -x"),
    Rule(both(add, x, minus_zero), keeps(), "x + -0.0 → x   (x + 0.0 is not x: it turns -0.0 into 0.0)"),
    Rule(both(add, INT, int_zero), keeps(), "i + 0 → i   for integers"),
    Rule(P(sub, (x, float_zero)), keeps(), "x - 0.0 → x   (-0.0 - 0.0 is -0.0)"),
    Rule(P(sub, (INT, int_zero)), keeps(), "i - 0 → i   for integers"),
    Rule(P(sub, (minus_zero, x)), lambda x: neg(x), "-0.0 - x → -x   (0.0 - x is not: of 0.0 it makes 0.0)"),
    Rule(P(sub, (int_zero, INT)), lambda x: neg(x), "0 - i → -i   for integers"),
    Rule(both(mul, INT, Splat(0, ("int", "uint"), name="zero")), keeps("zero"), "i * 0 → 0   for integers (inf * 0.0 is NaN)"),
    Rule(P(neg, (P(neg, (x,)),)), keeps(), "--x → x"),
    Rule(both(add, x, P(neg, (y,))), lambda x, y: sub(x, y), "x + -y → x - y"),
    Rule(P(sub, (x, P(neg, (y,)))), lambda x, y: add(x, y), "x - -y → x + y"),
    Rule(P(mul, (P(neg, (x,)), P(neg, (y,)))), lambda x, y: mul(x, y), "-x * -y → x * y"),
    Rule(P(div, (P(neg, (x,)), P(neg, (y,)))), lambda x, y: div(x, y), "-x / -y → x / y"),
    Rule(P(div, (x, Splat(4.0, ("float",), "k", any=True))), _halves, "x / 4 → x * 0.25   and every power of two"),
    Rule(P(pow_, (x, two)), lambda x: mul(x, x), "x ** 2 → x * x   (rounded once, which a power at best is)"),
    Rule(P(pow_, (x, one)), keeps(), "x ** 1 → x"),
    Rule(P(pow_, (x, minus_one)), lambda x: div(splat(1.0, x), x), "x ** -1 → 1 / x"),
    Rule(P(abs_, (P(neg, (x,)),)), lambda x: abs_(x) if x.tensor.dtype.kind != "uint" else None, "|-x| → |x|   but for unsigned x"),
    Rule(P(abs_, (P(abs_, (x,), name="a"),)), keeps("a"), "||x|| → |x|"),
    Rule(P(maximum, (x, x)), keeps(), "max(x, x) → x"),
    Rule(P(minimum, (x, x)), keeps(), "min(x, x) → x"),
    Rule(both(maximum, x, Splat(-math.inf, ("float",))), keeps(), "max(x, -inf) → x"),
    Rule(both(minimum, x, Splat(math.inf, ("float",))), keeps(), "min(x, inf) → x"),
    Rule(P(stop_gradient, (x,)), keeps(), "stop_gradient(x) → x   once derivatives are taken"),
)

# ---- bools, selection, casts -----------------------------------------------------------------------------------------------------


def holds(a: DType, b: DType) -> bool:
    """Whether b holds every value of a, so that a cast to it and a cast on from it are one cast."""
    if a is b or a is bool_:
        return True
    if a.is_inexact:
        return b.is_float and b.bits >= a.bits
    if b.is_half:
        return False
    if b.is_float:
        return a.bits <= (53 if b is f64 else 24)
    return b.is_integer and (b.bits >= a.bits if a.kind == b.kind else a.kind == "uint" and b.bits > a.bits)


def _cast_once(x: Node, a: Node, b: Node) -> Node | None:
    """Not from integers by way of a float back to integers: a float saturates where an integer wraps."""
    start, middle, end = x.tensor.dtype, a.tensor.dtype, b.tensor.dtype
    return cast(x, dtype=end) if holds(start, middle) and not (start.is_integer and middle.is_float and end.is_integer) else None


SELECTION = (
    Rule(P(where, (Splat(True, ("bool",)), x, y)), lambda x, y: x, "where(true, x, y) → x"),
    Rule(P(where, (Splat(False, ("bool",)), x, y)), lambda x, y: y, "where(false, x, y) → y"),
    Rule(P(where, (c, x, x)), lambda c, x: x, "where(c, x, x) → x"),
    Rule(P(where, (P(not_, (c,)), x, y)), lambda c, x, y: where(c, y, x), "where(not c, x, y) → where(c, y, x)"),
    Rule(P(where, (c, x, P(where, (c, y, z)))), lambda c, x, y, z: where(c, x, z), "where(c, x, where(c, y, z)) → where(c, x, z)"),
    Rule(P(where, (c, P(where, (c, x, y)), z)), lambda c, x, y, z: where(c, x, z), "where(c, where(c, x, y), z) → where(c, x, z)"),
    Rule(P(not_, (P(not_, (c,)),)), lambda c: c, "not not c → c"),
    Rule(P(not_, (P(eq, (x, y)),)), lambda x, y: ne(x, y), "not x == y → x != y   (with a NaN too)"),
    Rule(P(not_, (P(ne, (x, y)),)), lambda x, y: eq(x, y), "not x != y → x == y"),
    Rule(P(and_, (c, c)), lambda c: c, "c and c → c"),
    Rule(P(or_, (c, c)), lambda c: c, "c or c → c"),
    Rule(P(cast, (x,), name="y", example={"dtype": f64}), lambda x, y: x if x.type == y.type else None, "cast(x) to its own dtype → x"),
    Rule(P(cast, (P(cast, (Hole("x", dtype=bool_),), name="a", example={"dtype": i64}),), name="b", example={"dtype": f64}), _cast_once,
         "cast(cast(x)) → cast(x)   where the first loses nothing"),
    Rule(P(bitcast, (P(bitcast, (INT,), example={"dtype": u64}),), name="b", example={"dtype": f64}),
         lambda x, b: x if x.type == b.type else bitcast(x, dtype=b.tensor.dtype), "bitcast(bitcast(x)) → bitcast(x)"),
)

# ---- movement --------------------------------------------------------------------------------------------------------------------


def _broadcast_twice(x: Node, a: Node, b: Node) -> Node:
    """The outer's new axes, and the places to which the inner's went."""
    kept = [k for k in range(b.tensor.rank) if k not in b.attrs["axes"]]
    return broadcast(x, shape=b.tensor.shape, axes=tuple(sorted((*b.attrs["axes"], *(kept[k] for k in a.attrs["axes"])))))


def _permute_broadcast(x: Node, a: Node, b: Node) -> Node:
    """Permute what is repeated, then repeat it."""
    order, new = b.attrs["axes"], a.attrs["axes"]
    olds = [k for k in range(a.tensor.rank) if k not in new]
    axes = tuple(olds.index(k) for k in order if k not in new)
    return broadcast(permute(x, axes=axes), shape=b.tensor.shape, axes=tuple(at for at, k in enumerate(order) if k in new))


def _slice_twice(x: Node, a: Node, b: Node) -> Node | None:
    """start + step * start', step * step'."""
    if not (x.tensor.is_static and a.tensor.is_static and b.tensor.is_static):
        return None
    steps = tuple(s * t for s, t in zip(a.attrs["steps"], b.attrs["steps"]))
    starts = tuple(p + s * q for p, s, q in zip(a.attrs["starts"], a.attrs["steps"], b.attrs["starts"]))
    stops = tuple(min(n, p + t * m) for n, p, t, m in zip(x.tensor.static_shape, starts, steps, b.tensor.static_shape))
    return slice_(x, starts=tuple(min(p, q) for p, q in zip(starts, stops)), stops=stops, steps=steps)


def _slice_of_pad(x: Node, a: Node, b: Node) -> Node | None:
    """A slice that lies in what was padded never sees the padding."""
    if not (x.tensor.is_static and b.tensor.is_static) or 0 in b.tensor.shape:
        return None
    starts = tuple(s - p for s, p in zip(b.attrs["starts"], a.attrs["lo"]))
    stops = tuple(e - p for e, p in zip(b.attrs["stops"], a.attrs["lo"]))
    inside = all(0 <= s <= e <= n for s, e, n in zip(starts, stops, x.tensor.static_shape))
    return slice_(x, starts=starts, stops=stops, steps=b.attrs["steps"]) if inside else None


def _slice_of_concat(a: Node, b: Node) -> Node | None:
    """A slice that lies in one of the parts is a slice of that part."""
    axis, at = a.attrs["axis"], 0
    if not a.tensor.is_static:
        return None
    lo, hi = b.attrs["starts"][axis], b.attrs["stops"][axis]
    for part in a.inputs:
        n = part.tensor.static_shape[axis]
        if at <= lo < hi <= at + n:
            shift = tuple(at if k == axis else 0 for k in range(a.tensor.rank))
            return slice_(part, starts=tuple(s - k for s, k in zip(b.attrs["starts"], shift)),
                          stops=tuple(e - k for e, k in zip(b.attrs["stops"], shift)), steps=b.attrs["steps"])
        at += n
    return None


def _pad_twice(x: Node, a: Node, b: Node) -> Node | None:
    same = splat(a.attrs["value"], x).attrs["value"].tobytes() == splat(b.attrs["value"], x).attrs["value"].tobytes()
    lo, hi = (tuple(p + q for p, q in zip(a.attrs[k], b.attrs[k])) for k in ("lo", "hi"))
    return pad(x, lo=lo, hi=hi, value=a.attrs["value"]) if same else None


def _flip_twice(x: Node, a: Node, b: Node) -> Node:
    axes = tuple(sorted(set(a.attrs["axes"]) ^ set(b.attrs["axes"])))
    return flip(x, axes=axes) if axes else x


def _drop_ones(x: Node, y: Node) -> Node | None:
    """A reduction of one element is that element."""
    axes = y.attrs["axes"]
    return None if any(x.tensor.shape[k] != 1 for k in axes) else reshape(x, shape=y.tensor.shape) if axes else x


def _broadcast_to_reshape(x: Node, y: Node) -> Node | None:
    """Repeating once, along axes of size 1, is a reshape."""
    return reshape(x, shape=y.tensor.shape) if all(y.tensor.shape[k] == 1 for k in y.attrs["axes"]) else None


def _permute_to_reshape(x: Node, y: Node) -> Node | None:
    """A permutation that moves only axes of size 1 past the others is a reshape."""
    if sorted(y.attrs["axes"]) == list(y.attrs["axes"]):
        return x
    long = [k for k in y.attrs["axes"] if x.tensor.shape[k] != 1]
    return reshape(x, shape=y.tensor.shape) if long == sorted(long) else None


def _is_whole(x: Node, y: Node) -> Node | None:
    """A slice, a pad or a reshape that changes nothing. A slice of the same shape with step 1 is the whole; a step needs two elements to matter."""
    return x if x.type == y.type and all(s == 1 for s in y.attrs.get("steps", ())) else None


_T = {"axes": (1, 0)}
_CUT = {"starts": (0, 1), "stops": (3, 4), "steps": (1, 1)}
MOVEMENT = (
    Rule(P(permute, (x,), name="y", example={"axes": (0, 1)}), _permute_to_reshape, "permute of nothing, or of axes of size 1 → x, or a reshape"),
    Rule(P(permute, (P(permute, (Hole("x", (2, 3, 4)),), name="a", example={"axes": (2, 0, 1)}),), name="b", example={"axes": (0, 2, 1)}),
         lambda x, a, b: permute(x, axes=tuple(a.attrs["axes"][k] for k in b.attrs["axes"])), "permute(permute(x)) → permute(x)"),
    Rule(P(permute, (P(broadcast, (Hole("x", (3, 4)),), name="a", example={"shape": (3, 2, 4), "axes": (1,)}),), name="b", example={"axes": (2, 1, 0)}),
         _permute_broadcast, "permute(broadcast(x)) → broadcast(permute(x))"),
    Rule(P(reshape, (x,), name="y", example={"shape": (3, 4)}), _is_whole, "reshape(x) to its own shape → x"),
    Rule(P(reshape, (P(reshape, (x,), example={"shape": (2, 6)}),), name="y", example={"shape": (12,)}),
         lambda x, y: reshape(x, shape=y.tensor.shape), "reshape(reshape(x)) → reshape(x)"),
    Rule(P(broadcast, (x,), name="y", example={"shape": (3, 1, 4), "axes": (1,)}), _broadcast_to_reshape, "broadcast(x) along axes of size 1 → reshape(x)"),
    Rule(P(broadcast, (P(broadcast, (x,), name="a", example={"shape": (3, 2, 4), "axes": (1,)}),), name="b", example={"shape": (3, 2, 4, 5), "axes": (3,)}),
         _broadcast_twice, "broadcast(broadcast(x)) → broadcast(x)"),
    Rule(P(slice_, (x,), name="y", example={"starts": (0, 0), "stops": (3, 4), "steps": (1, 1)}), _is_whole, "x[:] → x"),
    Rule(P(slice_, (P(slice_, (Hole("x", (5, 9)),), name="a", example={"starts": (1, 0), "stops": (5, 8), "steps": (1, 3)}),), name="b",
           example={"starts": (0, 1), "stops": (3, 3), "steps": (2, 1)}), _slice_twice, "x[a][b] → x[a∘b]"),
    Rule(P(slice_, (P(pad, (x,), name="a", example={"lo": (1, 0), "hi": (1, 2), "value": 0.0}),), name="b",
           example={"starts": (1, 1), "stops": (4, 4), "steps": (1, 2)}), _slice_of_pad, "pad(x)[inside] → x[inside]"),
    Rule(P(slice_, (P(concat, (x, y), name="a", example={"axis": 0}),), name="b", example={"starts": (4, 1), "stops": (6, 4), "steps": (1, 1)}),
         lambda a, b, **_: _slice_of_concat(a, b), "concat(x, y)[in y] → y[...]"),
    Rule(P(pad, (x,), name="y", example={"lo": (0, 0), "hi": (0, 0), "value": 0.0}), _is_whole, "pad(x) with nothing → x"),
    Rule(P(pad, (P(pad, (x,), name="a", example={"lo": (1, 0), "hi": (0, 2), "value": 0.5}),), name="b", example={"lo": (0, 1), "hi": (1, 1), "value": 0.5}),
         _pad_twice, "pad(pad(x)) → pad(x)   of equal values"),
    Rule(P(flip, (x,), attrs={"axes": ()}), keeps(), "flip(x) along no axis → x"),
    Rule(P(flip, (P(flip, (x,), name="a", example={"axes": (0, 1)}),), name="b", example={"axes": (1,)}), _flip_twice, "flip(flip(x)) → flip(x)"),
    Rule(P(concat, (x,), example={"axis": 0}), keeps(), "concat(x) → x"),
    *(Rule(P(r, (Hole("x", (3, 1)),), name="y", example={"axes": (1,)}), _drop_ones, f"{r}(x) over no axes, or over axes of size 1 → reshape(x)")
      for r in (reduce_prod, reduce_max, reduce_min)),
    *(Rule(P(r, (P(r, (Hole("x", (2, 3, 4)),), name="a", example={"axes": (1,)}),), name="b", example={"axes": (1,)}),
           lambda x, a, b, r=r: _reduce_twice(r, x, a, b), f"{r}({r}(x)) → {r}(x)") for r in (reduce_max, reduce_min)),
)


def _reduce_twice(r: Op, x: Node, a: Node, b: Node) -> Node:
    kept = [k for k in range(x.tensor.rank) if k not in a.attrs["axes"]]
    return r(x, axes=tuple(sorted((*a.attrs["axes"], *(kept[k] for k in b.attrs["axes"])))))


# ---- contraction -----------------------------------------------------------------------------------------------------------------


def _absorb(side: int) -> Callable[[Node, Node, Node, Node], Node]:
    """contract reads axes by number, so a permuted operand is the operand with other numbers. Free axes come out in the operand's order."""
    def rule(x: Node, y: Node, p: Node, k: Node) -> Node:
        axes = p.attrs["axes"]

        def renamed(pair: Pair) -> Pair:
            mine = tuple(axes[i] for i in pair[side])
            return (mine, pair[1]) if side == 0 else (pair[0], mine)

        contracting, batch = k.attrs["contracting"], k.attrs["batch"]
        out = contract(x, y, contracting=renamed(contracting), batch=renamed(batch))
        free = [axes[i] for i in free_axes(p.tensor.rank, contracting[side], batch[side])]      # x's names of the axes, as they came out before
        if free == sorted(free):
            return out
        first = len(batch[0]) + (0 if side == 0 else out.tensor.rank - len(batch[0]) - len(free))
        order = [first + sorted(free).index(f) for f in free]
        return permute(out, axes=tuple(order[i - first] if first <= i < first + len(free) else i for i in range(out.tensor.rank)))
    return rule


def _swap(x: Node, y: Node, k: Node, p: Node) -> Node | None:
    """(x·y)ᵀ = yᵀ·xᵀ: if a permutation puts y's free axes, in order, before x's, the operands change places. Products commute bit by bit."""
    contracting, batch = k.attrs["contracting"], k.attrs["batch"]
    b = len(batch[0])
    m = x.tensor.rank - b - len(contracting[0])
    if p.attrs["axes"] != (*range(b), *range(b + m, k.tensor.rank), *range(b, b + m)):
        return None
    return contract(y, x, contracting=contracting[::-1], batch=batch[::-1])


def _outer(x: Node, y: Node, k: Node) -> Node | None:
    """A contraction over nothing multiplies each element of x with each of y, and what follows may be in the same loop: it need not be written down."""
    contracting, batch = k.attrs["contracting"], k.attrs["batch"]
    if contracting[0] or k.tensor.dtype.kind not in ("float", "int", "uint"):
        return None
    rank, b = k.tensor.rank, len(batch[0])
    m = x.tensor.rank - b

    def spread(v: Node, side: int, new: tuple[int, ...]) -> Node:
        axes = (*batch[side], *free_axes(v.tensor.rank, (), batch[side]))
        v = v if axes == tuple(range(len(axes))) else permute(v, axes=axes)
        return broadcast(v, shape=k.tensor.shape, axes=new) if new else v

    product = spread(x, 0, tuple(range(b + m, rank))) * spread(y, 1, tuple(range(b, b + m)))
    return product + 0.0 if k.tensor.dtype.is_float else product        # a sum begins with 0: of -0 alone it is 0


_OUTER = {"contracting": ((), ()), "batch": ((), ())}
_MM = {"contracting": ((1,), (0,)), "batch": ((), ())}
CONTRACTION = (
    Rule(P(contract, (P(permute, (x,), name="p", example=_T), y), name="k", example=_MM), _absorb(0),
         "contract(permute(x), y) → contract(x, y) by other axes"),
    Rule(P(contract, (x, P(permute, (y,), name="p", example=_T)), name="k", example=_MM), _absorb(1),
         "contract(x, permute(y)) → contract(x, y) by other axes"),
    Rule(P(contract, (x, y), name="k", example=_OUTER), _outer, "contract(x, y) over nothing → x * y + 0, each with each"),
    Rule(P(permute, (P(contract, (x, Hole("y", (4, 5))), name="k", example=_MM, single=True),), name="p", example=_T), _swap,
         "permute(contract(x, y)) → contract(y, x)"),
)

EXACT: tuple[Rule, ...] = (*ARITHMETIC, *SELECTION, *MOVEMENT, *CONTRACTION)
