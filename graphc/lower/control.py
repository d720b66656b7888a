"""Control flow as loops and branches of the plan, around the plans of the bodies; and the way out of the plan, to the host. A body is lowered once, however
often it runs.

What a body is given lies in memory, whole and in row-major order; what it returns is written where it is wanted. So nothing is copied on the way in or
out but carries: a turn writes the new ones beside the old, which all of it may read, and then over them.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import index
from typing import TYPE_CHECKING

from ..core.dtype import i64
from ..core.record import dataclass, replace
from ..core.types import TensorType
from ..ir.host import Host
from ..ir.node import Node
from ..loop.ir import Branch, Expr, Extern, Loop, Plan, Ref, Var
from ..loop.nest import Nest
from ..ops.branch import branches_of
from ..ops.leaf import input_, splat
from . import context
from .access import Home
from .context import Context

if TYPE_CHECKING:
    from .lower import _Lowering

Lowered = list["Plan | Nest"]
FOREVER = 1 << 62


def scan(low: _Lowering, n: Node, ctx: Context) -> Lowered:
    """A loop over rows. The carries lie where the last ones are expected."""
    body, carries, xs, length = (n.attrs[k] for k in ("body", "carries", "xs", "length"))
    reverse, length = n.attrs.get("reverse", False), index(length)
    homes = low.items[n]
    finals, stacked, histories = homes[:carries], homes[carries:len(body.outputs)], homes[len(body.outputs):]
    out = _copied(low, n, n.inputs[:carries], finals, ctx)
    given = [_row_major(low, x, ctx, out, n) for x in n.inputs[carries:]]
    t = _variable(low)
    inside = low.inside(body, (*finals, *(_row(x, t) for x in given[:xs]), *given[xs:]))
    before = _kept(low, n, inside, finals, histories, len(body.outputs), t, ctx)
    new = _beside(low, inside, body.outputs[:carries], finals)
    for o, home in zip(body.outputs[carries:], stacked):
        inside.sink(o, _row(home, t))
    plan = inside.body()
    turn = low.steps((*before, plan, *_moved(low, n, inside, new, finals, ctx)))
    limit = Ref(given[xs].region, given[xs].start) if n.attrs.get("bounded") else None
    return [*out, Loop(t.name, length, turn, reverse, limit)] if length else out


def while_(low: _Lowering, n: Node, ctx: Context) -> Lowered:
    """A loop that looks, before each turn, at what the question left; it is asked before the first and at the end of each."""
    body, carries, most = n.attrs["body"], n.attrs["carries"], n.attrs.get("max_steps")
    finals, histories, count = low.items[n][:carries], low.items[n][carries:-1], low.items[n][-1]
    out = _copied(low, n, n.inputs[:carries], finals, ctx)
    given = [_row_major(low, x, ctx, out, n) for x in n.inputs[carries:]]
    asking = low.inside(n.attrs["cond"], (*finals, *given))
    go = low.arena(asking.graph.outputs[0].tensor, "go", ())
    asking.sink(asking.graph.outputs[0], go)
    ask, t = asking.body(), _variable(low)
    inside = low.inside(body, (*finals, *given))
    before = _kept(low, n, inside, finals, histories, carries, t, ctx)
    new = _beside(low, inside, body.outputs, finals)
    plan = inside.body()
    after = _moved(low, n, inside, new, finals, ctx)
    if any(g.attrs["index"] == len(low.items[n]) - 1 for g in low.gets.get(n, ())):
        turns = input_(name="turns", shape=(), dtype=i64)
        inside.homes[turns] = count
        out += _copied(low, n, [splat(0, turns)], [count], ctx)
        after += _copied(low, n, [turns + 1], [count], replace(ctx, homes=inside.homes))
    turn = low.steps((*before, plan, *after, ask))
    return [*out, ask, Loop(t.name, FOREVER if most is None else most, turn, go=Ref(go.region))] if most != 0 else out


def cond(low: _Lowering, n: Node, ctx: Context) -> Lowered:
    """A branch of the plan: each body writes the results."""
    out: Lowered = []
    which, *given = (_row_major(low, x, ctx, out, n) for x in n.inputs)
    plans = []
    for b in branches_of(n.attrs):
        inside = low.inside(b, given)
        for o, home in zip(b.outputs, low.items[n]):
            inside.sink(o, home)
        plans.append(inside.body())
    return [*out, Branch(Ref(which.region, which.start), tuple(plans))]


@dataclass(frozen=True, slots=True)
class HostCall:
    """A place where the plan calls a function of Python's."""

    function: Host
    operands: tuple[TensorType, ...]
    results: tuple[TensorType, ...]


def host(low: _Lowering, n: Node, ctx: Context) -> Lowered:
    """A function of Python's: it sees its operands whole, and its results are written where they are wanted."""
    out: Lowered = []
    given = [_row_major(low, x, ctx, out, n) for x in n.inputs if isinstance(x.type, TensorType)]
    call = HostCall(n.attrs["function"], tuple([h.type for h in given]), tuple([h.type for h in low.items[n]]))
    low.names.calls.append(call)
    places = [*given, *low.items[n]]
    return [*out, Extern(call.function.name, len(low.names.calls) - 1, tuple([Ref(h.region, h.start) for h in places]),
                         tuple([h.type.dtype for h in places]), len(given))]


LOWERED: dict[str, Callable[[_Lowering, Node, Context], Lowered]] = {"scan": scan, "while": while_, "cond": cond, "pure_callback": host,
                                                                         "io_callback": host}

# ---- carries and rows ------------------------------------------------------------------------------------------------------------


def _variable(low: _Lowering) -> Var:
    low.names.loops += 1
    return Var(f"t{low.names.loops}")


def _row(home: Home, at: Expr) -> Home:
    """Row `at` of what lies there."""
    inner = TensorType(home.type.shape[1:], home.type.dtype)
    return Home(home.region, inner, tuple(range(inner.rank)), home.start + at * index(inner.size))


def _copied(low: _Lowering, n: Node, values: Sequence[Node], homes: Sequence[Home], ctx: Context) -> Lowered:
    """The values, written to the homes."""
    return [x for v, home in zip(values, homes) if 0 not in v.tensor.shape for x in low.made([context.copy(v, [home], ctx)], [n])]


def _kept(low: _Lowering, n: Node, inside: _Lowering, carries: Sequence[Home], histories: Sequence[Home], first: int, t: Var, ctx: Context) -> Lowered:
    """The carries before this turn, written to those histories (results from `first` on) that somebody reads."""
    used = {g.attrs["index"] for g in low.gets.get(n, ())}
    kept = [k for k in range(len(histories)) if first + k in used]
    return _copied(low, n, [inside.graph.inputs[k] for k in kept], [_row(histories[k], t) for k in kept], replace(ctx, homes=inside.homes))


def _beside(low: _Lowering, inside: _Lowering, outputs: Sequence[Node], carries: Sequence[Home]) -> list[Home]:
    """Memory for the new carries, which the body will write."""
    new = [low.arena(h.type, "carry", h.order) for h in carries]
    for o, home in zip(outputs, new):
        inside.sink(o, home)
    return new


def _moved(low: _Lowering, n: Node, inside: _Lowering, new: Sequence[Home], carries: Sequence[Home], ctx: Context) -> Lowered:
    """The new carries, copied over the old."""
    waiting = [Node(leaf.op, (), {}, leaf.type) for leaf in inside.graph.inputs[:len(new)]]
    inside.homes.update(zip(waiting, new))
    return _copied(low, n, waiting, carries, replace(ctx, homes=inside.homes))


def _row_major(low: _Lowering, x: Node, ctx: Context, out: Lowered, n: Node) -> Home:
    """The home of an operand that a body will see: whole and in row-major order."""
    home = ctx.reader().home(x)
    if home is not None and home.order == tuple(range(len(home.order))):
        return home
    home = low.arena(x.tensor, "operand", tuple(range(x.tensor.rank)))
    out += _copied(low, n, [x], [home], ctx)
    return home
