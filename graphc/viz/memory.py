"""The arena over the course of a step: a bar for each region, as wide as it lives and as high as it is large, at its offset. Below, the bytes alive.

Bars that share a height without touching share bytes. The view places its boxes itself; Graphviz only writes them down.
"""
from __future__ import annotations

from typing import Any

from ..core.compat import assert_never
from ..loop.ir import Barrier, Branch, Extern, Launch, Loop, Plan, Steps
from .kernels import names_of_regions, times
from .label import nbytes_text, plain
from .picture import Box, Picture, Row
from .theme import FAMILY

WIDTH, HEIGHT, BELOW = 1000.0, 460.0, 70.0              # points: the chart, and the profile under it
THIN = 1.4                                              # no bar is lower
LEFT = 70.0


def picture_of(native: Any, title: str) -> Picture:
    """The picture of a compiled step's arena: of its `lives` and its `plan`."""
    lives = native.lives
    steps = max(1, len(list(_steps(native.plan))))
    total = max((x.region.offset + x.region.nbytes for x in lives), default=1)
    names = names_of_regions(native.graph, native.optimized, native.program.homes)
    kinds = {home.region.name: FAMILY.get(n.op.family, "plain") for n, home in native.program.homes.items()}
    step, scale = WIDTH / steps, HEIGHT / total
    boxes = [_text("axis", LEFT - 36 + WIDTH / 2, HEIGHT + 22, WIDTH, ((f"{nbytes_text(total)} of arena, {len(lives)} regions, over {steps} steps", "line"),)),
             Box("ground", "", (), "area", "paper", (), place=(LEFT + WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT))]
    for k in range(5):
        boxes.append(_text(f"y{k}", LEFT - 36, HEIGHT * k / 4, 64, ((nbytes_text(round(total * k / 4)), "note"),)))
    every = max(1, steps // 20)
    for k in range(0, steps, every):
        boxes.append(_text(f"x{k}", LEFT + (k + 0.5) * step, -10, max(step, 24), ((str(k + 1), "note"),)))
    for k, x in enumerate(sorted(lives, key=lambda x: (x.first, x.region.offset))):
        r = x.region
        w, h = (x.last - x.first + 1) * step, max(r.nbytes * scale, THIN)
        called = names.get(r.name) or r.name.partition("_")[2] or r.name
        rows: list[Row] = []
        if h >= 13 and w >= 30:
            rows.append((plain(called, max(3, int(w / 6))), "head" if h >= 16 else "note"))
            if h >= 30:
                rows.append((nbytes_text(r.nbytes), "note"))
        tip = (plain(called, 240), f"{r.name}: {nbytes_text(r.nbytes)} at offset {r.offset:,}", f"steps {x.first + 1} to {x.last + 1}")
        paint = kinds.get(r.name, "plain")
        boxes.append(Box(f"b{k}", "", tuple(rows), "area", "elementwise" if paint in ("plain", "leaf") else paint, tip,
                         place=(LEFT + x.first * step + w / 2, r.offset * scale + h / 2, w, h)))
    alive = [sum(x.region.nbytes for x in lives if x.first <= k <= x.last) for k in range(steps)]
    top = -30.0
    boxes.append(_text("alive", LEFT - 36, top - BELOW / 2, 64, (("alive", "note"),)))
    for k, n in enumerate(alive):
        h = max(n / total * BELOW, THIN)
        boxes.append(Box(f"a{k}", "", (), "area", "module", (f"step {k + 1}: {_name(native.plan, k)}", f"{nbytes_text(n)} alive"),
                         place=(LEFT + (k + 0.5) * step, top - BELOW + h / 2, step * 0.9, h)))
    return Picture(title, tuple(boxes), placed=True)


def _text(key: str, x: float, y: float, width: float, rows: tuple[Row, ...]) -> Box:
    return Box(key, "", rows, "text", "paper", (), place=(x, y, width, 14.0))


def _steps(plan: Plan) -> list[Plan]:
    match plan:
        case Steps(body): return [q for p in body for q in _steps(p)]
        case Launch() | Loop() | Branch() | Barrier() | Extern(): return [plan]
        case _: assert_never(plan)


def _name(plan: Plan, k: int) -> str:
    steps = _steps(plan)
    step = steps[k] if k < len(steps) else None
    match step:
        case Launch(kernel): return kernel.name
        case Extern(name): return name
        case Loop(): return times(step)
        case Branch(_, bodies): return f"one of {len(bodies)}"
        case _: return "barrier"
