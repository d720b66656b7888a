"""Plan → Plan: every arena region gets an offset. Regions whose lives do not overlap share bytes.

A region lives from the first launch that touches it to the last; what is touched inside a loop of the plan lives through the whole loop.
First fit by size, largest first; ties by name, so that the same plan is placed the same.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..core.compat import assert_never
from .ir import Barrier, Launch, Loop, Plan, Ref, Region, Steps

ALIGN = 64


@dataclass(frozen=True, slots=True)
class Life:
    """A region and the first and last step at which it is in use."""

    region: Region
    first: int
    last: int


def launches(plan: Plan) -> Iterator[Launch]:
    """Every launch, in program order."""
    match plan:
        case Launch(): yield plan
        case Steps(body):
            for p in body:
                yield from launches(p)
        case Loop(_, _, body): yield from launches(body)
        case Barrier(): pass
        case _: assert_never(plan)


def lives(plan: Plan) -> list[Life]:
    """How long each arena region is in use, in steps of the plan: a launch is one, and a loop is one."""
    spans: dict[Region, list[int]] = {}
    for at, step in enumerate(top(plan)):
        for launch in launches(step):
            for ref in launch.args:
                if ref.region.where == "arena":
                    spans.setdefault(ref.region, [at, at])[1] = at
    return [Life(r, a, b) for r, (a, b) in spans.items()]


def top(plan: Plan) -> Iterator[Plan]:
    """The steps that lives are counted in: launches, barriers, whole loops."""
    if isinstance(plan, Steps):
        for p in plan.body:
            yield from top(p)
    else:
        yield plan


def place(plan: Plan) -> tuple[Plan, list[Life], int]:
    """The plan with offsets, the lives of its regions (placed), and the bytes of the arena."""
    placed: list[Life] = []
    for life in sorted(lives(plan), key=lambda x: (-x.region.nbytes, x.first, x.region.name)):
        need, at = -(-life.region.nbytes // ALIGN) * ALIGN, 0
        beside = [(p.region.offset or 0, p.region.nbytes) for p in placed if p.first <= life.last and life.first <= p.last]
        for offset, nbytes in sorted(beside):
            if offset - at >= need:
                break
            at = max(at, -(-(offset + nbytes) // ALIGN) * ALIGN)
        placed.append(Life(replace(life.region, offset=at), life.first, life.last))
    where = {p.region.name: p.region for p in placed}
    total = max((-(-((p.region.offset or 0) + p.region.nbytes) // ALIGN) * ALIGN for p in placed), default=0)
    return _moved(plan, where), sorted(placed, key=lambda x: x.first), total


def _moved(plan: Plan, where: dict[str, Region]) -> Plan:
    match plan:
        case Launch(kernel, args, sizes): return Launch(kernel, tuple(Ref(where.get(r.region.name, r.region), r.start) for r in args), sizes)
        case Steps(body): return Steps(tuple(_moved(p, where) for p in body))
        case Loop(var, count, body): return Loop(var, count, _moved(body, where))
        case Barrier(): return plan
        case _: assert_never(plan)
