"""How each op is drawn for a random program. One maker for each op or family; see `draw`."""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..core import half
from ..core.dtype import ALL, bool_, f32, f64, i32, i64, u32, u64
from ..core.errors import GraphError
from ..core.types import TensorType
from ..ir.node import Graph, Node
from ..ir.op import REGISTRY
from ..ir.walk import substitute
from ..ops import along, branch, call, contract, control, elementwise, index, leaf, loop, movement, window
from ..ops.leaf import const, input_, splat
from ..ops.random import random_bits
from ..ops.tuples import topk
from ..ops.window import positions
from ..transform.grad import vjp
from ..transform.jvp import jvp
from .draw import MOST, NUMBERS, Draw, maker

ELEMENTWISE = tuple(name for name, op in REGISTRY.items() if op.family in ("unary", "binary", "compare") and name != "stop_gradient")
INTO_DOMAIN = {"mod", "floordiv", "shl", "shr"}         # beyond 2**24 a quotient of floats has no exact remainder in one step


def computes(t: TensorType) -> bool:
    return not t.dtype.is_half


def floats(t: TensorType) -> bool:
    return t.dtype.is_float


def numbers(t: TensorType) -> bool:
    return t.dtype.is_float or t.dtype.is_integer


def _fitting(d: Draw) -> Node | None:
    """A value that the op at hand takes, by its own type rule."""
    arity = len(d.op.samples(np.random.default_rng(0))[0][0])
    for x in [y for y in (d.some() for _ in range(6)) if y is not None]:
        try:
            d.op.infer(*[x.type] * arity)
            return x
        except GraphError:
            pass
    x = d.rng.choice(d.pool)
    for dtype in d.rng.sample((f32, i64, bool_, f64, i32), 5):
        try:
            d.op.infer(*[x.tensor.with_dtype(dtype)] * arity)
            return d.cast(x, dtype)
        except GraphError:
            pass
    return None


@maker(*ELEMENTWISE)
def _elementwise(d: Draw) -> Node | None:
    x = _fitting(d)
    if x is None or (d.smooth and not floats(x.tensor)):
        return None
    arity = len(d.op.samples(np.random.default_rng(0))[0][0])
    operands = [x, *(d.of(x.tensor) for _ in range(arity - 1))]
    if floats(x.tensor) and d.op.domain is not None and (d.smooth or d.op.name in INTO_DOMAIN or d.chance(0.5)):
        operands = [d.inside(v, *d.op.domain) for v in operands]
    d.rng.shuffle(operands)
    return d.calm(d.op(*operands))


@maker("stop_gradient")
def _stop(d: Draw) -> Node:
    return d.op(d.number(lambda t: t.dtype.is_inexact))


@maker("where")
def _where(d: Draw) -> Node:
    x = d.rng.choice(d.pool)
    return elementwise.where(d.of(x.tensor.with_dtype(bool_)), x, d.of(x.tensor))


@maker("cast")
def _cast(d: Draw) -> Node:
    x = d.rng.choice(d.pool)
    return elementwise.cast(x, dtype=d.rng.choice((f32, f64)) if d.smooth else d.rng.choice(ALL))


@maker("bitcast")
def _bitcast(d: Draw) -> Node | None:
    """Of what is given, or of integers: the payload of a NaN that was computed is nobody's promise."""
    x = d.some(lambda t: t.dtype.is_integer)
    if d.leaves and d.chance(0.5):
        x = d.rng.choice(d.leaves)
    same = [t for t in ALL if x is not None and t.itemsize == x.tensor.dtype.itemsize and bool_ not in (t, x.tensor.dtype)]
    return elementwise.bitcast(x, dtype=d.rng.choice(same)) if x is not None and same else None


# ---- leaves ------------------------------------------------------------------------------------------------------------------------


@maker("const")
def _const(d: Draw) -> Node:
    dtype, shape = d.dtype(), d.shape(2)
    if d.chance(0.5):
        return splat(d.rng.choice(NUMBERS) if dtype.kind in ("float", "half", "int") else 1.0, TensorType(shape, dtype))
    rng = np.random.default_rng(d.rng.randrange(1 << 30))
    values = half.astype(rng.integers(0, 9, shape).astype(np.float64) / 4, dtype)
    values = np.array(values, dtype.numpy)
    values.flags.writeable = False
    return const(value=values if values.ndim else values[()], shape=shape, dtype=dtype)


@maker("iota")
def _iota(d: Draw) -> Node:
    dtype = d.rng.choice((f32, f64) if d.smooth else [t for t in ALL if not t.is_half])
    shape = d.shape(2) or (d.size(),)
    return leaf.iota(shape=shape, dtype=dtype, axis=d.rng.randrange(len(shape)))


@maker("size")
def _size(d: Draw) -> Node:
    return leaf.size(dim=d.size())


@maker("random_bits")
def _bits(d: Draw) -> Node:
    return random_bits(d.of(TensorType((2,), u32)), d.of(TensorType((), u64)), shape=d.shape())


# ---- movement ----------------------------------------------------------------------------------------------------------------------


def _axis(d: Draw, ok: Callable[[TensorType], bool] = lambda t: True) -> tuple[Node, int] | None:
    """A value with an axis, and one of them."""
    x = d.some(lambda t: t.rank > 0 and ok(t))
    return None if x is None else (x, d.rng.randrange(x.tensor.rank))


def count(x: Node) -> int:
    return math.prod(x.tensor.static_shape)


@maker("reshape")
def _reshape(d: Draw) -> Node:
    x = d.rng.choice(d.pool)
    n, shape = count(x), x.tensor.static_shape
    first = d.rng.choice([k for k in range(1, min(n, 64) + 1) if n % k == 0] or [1])
    return movement.reshape(x, shape=d.rng.choice(((n,), (first, n // first), (n // first, 1, first), (*reversed(shape), 1))))


@maker("permute")
def _permute(d: Draw) -> Node:
    x = d.rng.choice(d.pool)
    return movement.permute(x, axes=tuple(d.rng.sample(range(x.tensor.rank), x.tensor.rank)))


@maker("broadcast")
def _broadcast(d: Draw) -> Node | None:
    x = d.some(lambda t: t.rank < 4)
    if x is None:
        return None
    shape, at, n = x.tensor.static_shape, d.rng.randint(0, x.tensor.rank), d.size()
    return movement.broadcast(x, shape=(*shape[:at], n, *shape[at:]), axes=(at,)) if count(x) * n <= MOST else None


@maker("slice")
def _slice(d: Draw) -> Node:
    x = d.rng.choice(d.pool)
    starts = tuple(d.rng.randint(0, n) if d.chance(0.5) else 0 for n in x.tensor.static_shape)
    stops = tuple(d.rng.randint(a, n) if d.chance(0.5) else n for a, n in zip(starts, x.tensor.static_shape))
    return movement.slice_(x, starts=starts, stops=stops, steps=tuple(d.rng.choice((1, 1, 2, 3)) for _ in starts))


@maker("pad")
def _pad(d: Draw) -> Node | None:
    x = d.some(lambda t: t.rank > 0 and math.prod(t.static_shape) <= MOST)
    if x is None:
        return None
    lo, hi = (tuple(d.rng.choice((0, 0, 1, 2)) for _ in x.tensor.shape) for _ in range(2))
    return movement.pad(x, lo=lo, hi=hi, value=d.rng.choice((0.0, 1.0) if not x.tensor.dtype.is_inexact else (0.0, -0.0, 1.5)))


@maker("flip")
def _flip(d: Draw) -> Node:
    x = d.rng.choice(d.pool)
    return movement.flip(x, axes=tuple(sorted(d.rng.sample(range(x.tensor.rank), d.rng.randint(0, x.tensor.rank)))))


@maker("concat")
def _concat(d: Draw) -> Node | None:
    found = _axis(d, lambda t: math.prod(t.static_shape) <= MOST)
    if found is None:
        return None
    x, axis = found
    shape = x.tensor.static_shape
    others = [d.of(TensorType((*shape[:axis], d.rng.choice((shape[axis], 1, 2)), *shape[axis + 1:]), x.tensor.dtype)) for _ in range(d.rng.randint(0, 2))]
    parts = [x, *others]
    d.rng.shuffle(parts)
    return movement.concat(*parts, axis=axis)


def _windows(d: Draw, n: int) -> tuple[int, int, int] | None:
    """(size, stride, dilation) of windows that fit n elements."""
    fits = [(k, s, e) for k in (1, 2, 3) for s in (1, 2) for e in (1, 2) if n >= (k - 1) * e + 1]
    return d.rng.choice(fits) if fits else None


@maker("window")
def _window(d: Draw) -> Node | None:
    found = _axis(d, lambda t: t.rank <= 3 and math.prod(t.static_shape) <= MOST)
    how = _windows(d, found[0].tensor.static_shape[found[1]]) if found else None
    if found is None or how is None:
        return None
    return window.window(found[0], axes=(found[1],), sizes=(how[0],), strides=(how[1],), dilations=(how[2],))


@maker("fold")
def _fold(d: Draw) -> Node | None:
    x = d.number(lambda t: numbers(t) and t.rank > 0)
    if not x.tensor.rank:
        return None
    axis = d.rng.randrange(x.tensor.rank)
    shape = x.tensor.static_shape
    how = _windows(d, shape[axis])
    if how is None:
        return None
    k, s, e = how
    given = d.of(TensorType((*shape[:axis], positions(shape[axis], k, s, e), *shape[axis + 1:], k), x.tensor.dtype))
    return window.fold(given, lengths=(shape[axis],), axes=(axis,), strides=(s,), dilations=(e,))


# ---- reductions --------------------------------------------------------------------------------------------------------------------


@maker("reduce_sum", "reduce_max", "reduce_min", "reduce_prod")
def _reduce(d: Draw) -> Node:
    x = d.number(computes if d.op.name in ("reduce_max", "reduce_min") and not d.smooth else numbers)
    if d.op.name == "reduce_prod" and floats(x.tensor):
        x = d.inside(x, 0.5, 1.5)
    axes = tuple(sorted(d.rng.sample(range(x.tensor.rank), d.rng.randint(0, x.tensor.rank))))
    y = d.op(x, axes=axes)
    return d.calm(y) or y


@maker("argmax", "argmin", "argsort")
def _order(d: Draw) -> Node | None:
    found = _axis(d, computes)
    if found is None or (d.op.name != "argsort" and found[0].tensor.shape[found[1]] == 0):
        return None
    return d.op(found[0], axis=found[1])


@maker("cumsum")
def _cumsum(d: Draw) -> Node | None:
    found = _axis(d, numbers)
    return None if found is None else d.calm(along.cumsum(found[0], axis=found[1], reverse=d.chance(0.5)))


@maker("topk")
def _topk(d: Draw) -> Node | None:
    found = _axis(d, numbers)
    return None if found is None else topk(found[0], k=d.rng.randint(0, min(found[0].tensor.static_shape[found[1]], 4)), axis=found[1])


@maker("contract")
def _contract(d: Draw) -> Node | None:
    """Some axes of x with those of another, some of both a batch, some of the other free."""
    x = d.number(lambda t: computes(t) and t.rank <= 3 and math.prod(t.static_shape) <= MOST)
    if not computes(x.tensor) or count(x) > MOST:
        return None
    axes = d.rng.sample(range(x.tensor.rank), d.rng.randint(0, x.tensor.rank))
    batch, inner = axes[:1] if d.chance(0.3) else [], axes[1:] if d.chance(0.3) else axes
    inner = [a for a in inner if a not in batch]
    sizes = [x.tensor.static_shape[a] for a in (*batch, *inner)] + [d.size() for _ in range(d.rng.randint(0, 1))]
    if math.prod(sizes) > MOST or count(x) * math.prod(sizes[len(batch) + len(inner):]) > 1 << 17:
        return None
    places = d.rng.sample(range(len(sizes)), len(sizes))                # axis k of the list stands at places[k] of the operand
    shape = tuple(n for _, n in sorted(zip(places, sizes)))
    y = d.of(TensorType(shape, x.tensor.dtype))
    pair = tuple(inner), tuple(places[len(batch):len(batch) + len(inner)])
    return d.calm(contract.contract(x, y, contracting=pair, batch=(tuple(batch), tuple(places[:len(batch)]))))


# ---- indexing ----------------------------------------------------------------------------------------------------------------------


@maker("check_index")
def _check(d: Draw) -> Node:
    """Of an index that is good."""
    n = d.rng.randint(1, 9)
    t = TensorType(d.shape(2), d.rng.choice((i64, i32)))
    x = elementwise.maximum(elementwise.minimum(d.of(t), splat(n - 1, t)), splat(0, t))
    return index.check_index(x, size=n)


def _along_an_axis(d: Draw, reads: str) -> tuple[Node, int] | None:
    """A value that is not large, and an axis of it that has elements; of numbers, but for the op that only reads."""
    found = _axis(d, lambda t: (numbers(t) if d.op.name != reads else True) and math.prod(t.static_shape) <= MOST)
    return found if found is not None and found[0].tensor.shape[found[1]] != 0 else None


@maker("take", "scatter_add", "scatter_set", "scatter_max", "scatter_min")
def _take(d: Draw) -> Node | None:
    found = _along_an_axis(d, "take")
    if found is None:
        return None
    x, axis = found
    shape = x.tensor.static_shape
    at = d.rng.choice(((), (1,), (5,), (2, 2), (0,)))
    i = d.index(TensorType(at, d.rng.choice((i64, i64, i32))), shape[axis])
    if d.op.name == "take":
        return index.take(x, i, axis=axis)
    return d.op(x, i, d.of(TensorType((*shape[:axis], *at, *shape[axis + 1:]), x.tensor.dtype)), axis=axis)


@maker("take_along", "put_along_add", "put_along_set", "put_along_max", "put_along_min")
def _along(d: Draw) -> Node | None:
    found = _along_an_axis(d, "take_along")
    if found is None:
        return None
    x, axis = found
    shape = x.tensor.static_shape
    at = (*shape[:axis], d.rng.choice((1, 2, 4)), *shape[axis + 1:])
    i = d.index(TensorType(at, i64), shape[axis])
    return index.take_along(x, i, axis=axis) if d.op.name == "take_along" else d.op(x, i, d.of(TensorType(at, x.tensor.dtype)), axis=axis)


# ---- loops, branches, calls --------------------------------------------------------------------------------------------------------


def _carry(d: Draw) -> Node:
    x = d.some(lambda t: math.prod(t.static_shape) <= 256) or splat(0.5, TensorType((), f32))
    return x


def _kept(d: Draw, inner: Draw, t: TensorType) -> Node:
    """A value of a body in a type; floating ones squashed, since they go round."""
    y = inner.of(t)
    return elementwise.tanh(y) if t.dtype.is_float else y


@maker("scan")
def _scan(d: Draw) -> Node | None:
    rows = [x for x in d.pool if x.tensor.rank and x.tensor.static_shape[0] <= 33 and count(x) <= MOST]
    bounded = d.chance(0.2)                             # as the reverse mode of a while makes them: without slices
    xs = [d.rng.choice(rows)] if rows and not bounded and d.chance(0.8) else []
    length = xs[0].tensor.static_shape[0] if xs else d.rng.choice((0, 1, 2, 5))
    carries = [_carry(d) for _ in range(d.rng.randint(0, 2))]
    consts = [_carry(d) for _ in range(d.rng.randint(0, 1))]
    turns = [d.of(TensorType((), i64))] if bounded else []
    types = [*(c.tensor for c in carries), *(TensorType(x.tensor.shape[1:], x.tensor.dtype) for x in xs), *(c.tensor for c in (*turns, *consts))]
    if not types:
        return None
    leaves, inner = d.body(types)
    ys = [y for _ in range(d.rng.randint(0, 2)) if (y := inner.some(lambda t: math.prod(t.static_shape) * max(length, 1) <= MOST)) is not None]
    outs = (*(_kept(d, inner, c.tensor) for c in carries), *ys)
    if not outs:
        return None
    return control.scan(*carries, *xs, *turns, *consts, body=Graph(leaves, outs, name="body"), carries=len(carries), xs=len(xs), length=length,
                        reverse=d.chance(0.5), **({"bounded": True} if bounded else {}))


@maker("while")
def _while(d: Draw) -> Node:
    """It counts, so that it ends; and stops before if something of its carries says so."""
    carries = [d.of(TensorType((), i64)), *(_carry(d) for _ in range(d.rng.randint(0, 2)))]
    consts = [_carry(d) for _ in range(d.rng.randint(0, 1))]
    carries[0] = splat(0, carries[0])
    types = [x.tensor for x in (*carries, *consts)]
    leaves, inner = d.body(types)
    turn = (leaves[0] + 1, *(_kept(d, inner, c.tensor) for c in carries[1:]))
    tests, asked = d.body(types, 1)
    more = elementwise.lt(tests[0], splat(d.rng.choice((0, 1, 2, 4)), tests[0]))
    if not d.smooth and d.chance(0.5):
        more = elementwise.and_(more, asked.of(more.tensor))
    most = d.rng.choice((0, 1, 3, 5)) if d.smooth or d.chance(0.6) else None
    return loop.while_(*carries, *consts, cond=Graph(tests, (more,), name="test"), body=Graph(leaves, turn, name="turn"), carries=len(carries),
                       **({} if most is None else {"max_steps": most}))


@maker("cond")
def _cond(d: Draw) -> Node:
    which = d.of(TensorType((), i64))
    operands = [_carry(d) for _ in range(d.rng.randint(1, 3))]
    types = [x.tensor for x in operands]
    bodies = [d.body(types) for _ in range(d.rng.randint(1, 4))]        # one branch, two: cond; more: switch
    out = [x.tensor for _ in range(d.rng.randint(1, 2)) if (x := bodies[0][1].some(lambda t: math.prod(t.static_shape) <= MOST)) is not None] or types[:1]
    graphs = [Graph(leaves, tuple(inner.of(t) for t in out), name=f"branch{k}") for k, (leaves, inner) in enumerate(bodies)]
    return branch.cond(which, *operands, **branch.attributes(graphs))


def _smooth_operands(d: Draw) -> list[Node]:
    return [d.number(lambda t: floats(t) and math.prod(t.static_shape) <= MOST) for _ in range(d.rng.randint(1, 2))]


def _function(d: Draw, operands: list[Node]) -> tuple[tuple[Node, ...], Node]:
    """A differentiable function of them, drawn: its leaves and its result."""
    before, d.smooth = d.smooth, True
    leaves, inner = d.body([x.tensor for x in operands])
    d.smooth = before
    t = operands[0].tensor
    return leaves, elementwise.sin(inner.of(t)) * leaves[0]


@maker("remat")
def _remat(d: Draw) -> Node:
    operands = [_carry(d) for _ in range(d.rng.randint(1, 2))]
    leaves, inner = d.body([x.tensor for x in operands])
    return call.remat(*operands, body=Graph(leaves, tuple(inner.pool[-d.rng.randint(1, 2):]), name="again"))


@maker("custom_vjp")
def _custom_vjp(d: Draw) -> Node | None:
    """The rule is the function's own derivative, found from its operands again."""
    operands = _smooth_operands(d)
    if not all(floats(x.tensor) for x in operands) or any(count(x) > MOST for x in operands):
        return None
    leaves, y = _function(d, operands)
    again = tuple(input_(name=f"r{k}", shape=x.tensor.shape, dtype=x.tensor.dtype) for k, x in enumerate(leaves))
    ct = input_(name="ct", shape=y.tensor.shape, dtype=y.tensor.dtype)
    pulled = vjp(substitute([y], dict(zip(leaves, again))), [ct], again)
    return call.custom_vjp(*operands, body=Graph(leaves, (y, *leaves), name="f"), results=1, backward=Graph((*again, ct), pulled, name="backward"))


@maker("custom_jvp")
def _custom_jvp(d: Draw) -> Node | None:
    operands = _smooth_operands(d)
    if not all(floats(x.tensor) for x in operands) or any(count(x) > MOST for x in operands):
        return None
    leaves, y = _function(d, operands)
    again, names = (tuple(input_(name=f"{n}{k}", shape=x.tensor.shape, dtype=x.tensor.dtype) for k, x in enumerate(leaves)) for n in "rt")
    try:
        _, pushed = jvp(substitute([y], dict(zip(leaves, again))), again, names)
    except GraphError:                                  # a custom_vjp in it, of a rule whose transpose cannot be told from one that is not linear
        return None
    return call.custom_jvp(*operands, body=Graph(leaves, (y,), name="f"), forward=Graph((*again, *names), pushed, name="forward"))


@maker("barrier")
def _barrier(d: Draw) -> Node:
    return call.barrier(d.rng.choice(d.pool), *(d.rng.choice(d.pool) for _ in range(d.rng.randint(0, 2))))
