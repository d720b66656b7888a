"""Plan → Plan: every arena region gets a place. Regions whose lives do not overlap share bytes.

A region lives from the first launch that touches it to the last; what is touched inside a loop or a branch of the plan
lives through the whole of it.
First fit by size, largest first; ties by order of birth, then of mention, so that the same plan is placed the same.

Where sizes are symbolic the code cannot hold offsets: `loosen` makes every arena region a *temporary*, whose address the step reads from its
table, and whoever runs the step places the temporaries anew for each size (`fit`, on numbers).
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..core.compat import assert_never
from ..core.record import dataclass, replace
from .ir import Barrier, Branch, Extern, Launch, Loop, Plan, Ref, Region, Steps, looked_at, map_plan, walk_plan

ALIGN = 64


@dataclass(frozen=True, slots=True)
class Life:
    """A region and the first and last step at which it is in use."""

    region: Region
    first: int
    last: int


def launches(plan: Plan) -> Iterator[Launch]:
    """Every launch, in program order."""
    for p in walk_plan(plan):
        if isinstance(p, Launch):
            yield p


def refs(plan: Plan) -> Iterator[Ref]:
    """Every place that a plan touches: its launches, the host, and what decides where its loops and branches go."""
    for p in walk_plan(plan):
        yield from p.args if isinstance(p, Launch | Extern) else looked_at(p)


def lives(plan: Plan, phases: bool = False) -> list[Life]:
    """How long each arena region and each temporary is in use, in steps of the plan: a launch is one, and a loop is one.

    With `phases`, in stretches between barriers: then regions that share bytes have a barrier between their lives, whoever touches them."""
    spans: dict[Region, list[int]] = {}
    at = -1
    for step in top(plan):
        at += isinstance(step, Barrier) or at < 0 if phases else 1
        for ref in refs(step):
            if ref.region.where in ("arena", "temporary"):
                spans.setdefault(ref.region, [at, at])[1] = at
    return [Life(r, a, b) for r, (a, b) in spans.items()]


def top(plan: Plan) -> Iterator[Plan]:
    """The steps that lives are counted in: launches, barriers, whole loops and branches."""
    if isinstance(plan, Steps):
        for p in plan.body:
            yield from top(p)
    else:
        yield plan


def fit(spans: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Offsets for pieces of (bytes, first step, last step), multiples of ALIGN, and the bytes of them all."""
    offsets = [0] * len(spans)
    placed: list[int] = []
    for k in sorted(range(len(spans)), key=lambda k: (-spans[k][0], spans[k][1], k)):
        nbytes, first, last = spans[k]
        need, at = _up(nbytes), 0
        for offset, size in sorted((offsets[p], spans[p][0]) for p in placed if spans[p][1] <= last and first <= spans[p][2]):
            if offset - at >= need:
                break
            at = max(at, _up(offset + size))
        offsets[k] = at
        placed.append(k)
    return offsets, max((_up(offset + n) for offset, (n, _, _) in zip(offsets, spans)), default=0)


def _up(nbytes: int) -> int:
    return -(-nbytes // ALIGN) * ALIGN


def place(plan: Plan) -> tuple[Plan, list[Life], int]:
    """The plan with offsets, the lives of its regions (placed), and the bytes of the arena. Every size is a number."""
    found = sorted(lives(plan), key=lambda x: x.region.name)
    offsets, total = fit([(x.region.nbytes.__index__(), x.first, x.last) for x in found])
    placed = [replace(x, region=replace(x.region, offset=at)) for x, at in zip(found, offsets)]
    where = {p.region.name: p.region for p in placed}
    return _moved(plan, lambda r: where.get(r.name, r)), sorted(placed, key=lambda x: x.first), total


def loosen(plan: Plan) -> Plan:
    """The plan with every region of the arena as a temporary of its own slot."""
    slots: dict[str, int] = {}
    for ref in refs(plan):
        if ref.region.where == "arena":
            slots.setdefault(ref.region.name, len(slots))
    return _moved(plan, lambda r: replace(r, where="temporary", slot=slots[r.name]) if r.where == "arena" else r)


def _moved(plan: Plan, f: Callable[[Region], Region]) -> Plan:
    def moved(r: Ref) -> Ref:
        return Ref(f(r.region), r.start)

    new = map_plan(plan, lambda p: _moved(p, f))
    match new:
        case Launch() | Extern(): return replace(new, args=tuple([moved(r) for r in new.args]))
        case Loop(): return replace(new, limit=new.limit and moved(new.limit), go=new.go and moved(new.go))
        case Branch(): return replace(new, index=moved(new.index))
        case Steps() | Barrier(): return new
        case _: assert_never(new)
