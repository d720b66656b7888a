"""The chart: for each row a bar as long as graphc's time over that of the best peer, on a logarithmic axis, and a tick where it is to be. SVG by hand."""
from __future__ import annotations

import math
from html import escape

from workloads import WORKLOADS

from .report import Record, Verdict, verdicts

LOW, HIGH = .03, 4.                                     # of the axis
LEFT, WIDTH, STEP = 190, 520, 17
COLOURS = {1: "#3a76b0", 2: "#3f9a83"}
STYLE = ("text{font:12px Helvetica,Arial,sans-serif;fill:#1f2933}.q{fill:#66727f;font-size:11px}.g{stroke:#d3dae1}.one{stroke:#1f2933}"
         ".bar{stroke:#c8642b;stroke-width:3}@media(prefers-color-scheme:dark){text{fill:#e8edf2}.q{fill:#9aa7b4}.g{stroke:#3a444e}.one{stroke:#e8edf2}}")


def at(ratio: float) -> float:
    return LEFT + WIDTH * math.log(min(max(ratio, LOW), HIGH) / LOW) / math.log(HIGH / LOW)


def svg(record: Record) -> str:
    shown = [v for v in verdicts(record) if WORKLOADS[v.workload].kind != "contract"]
    groups: dict[tuple[str, bool], list[Verdict]] = {}
    for v in shown:
        groups.setdefault((v.workload, v.peer in WORKLOADS[v.workload].against), []).append(v)
    parts, y = [], 46
    for (name, extra), vs in groups.items():
        parts.append(f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(name)}{escape(" / " + vs[0].peer) if extra else ""}</text>')
        for v in vs:
            x, zero = at(v.ratio), at(1)
            parts.append(f'<rect x="{min(x, zero):.1f}" y="{y}" width="{abs(x - zero):.1f}" height="{STEP - 4}" fill="{COLOURS.get(v.threads, "#8f69a6")}">'
                         f'<title>{escape(WORKLOADS[name].title)}, {v.threads} threads: {v.ratio:.2f} of {escape(v.peer)}</title></rect>')
            if v.bar is not None:
                parts.append(f'<line class="bar" x1="{at(v.bar):.1f}" x2="{at(v.bar):.1f}" y1="{y - 2}" y2="{y + STEP - 2}"/>')
            parts.append(f'<text class="q" x="{LEFT + WIDTH + 8}" y="{y + 11}">{v.ratio:.2f} of {escape(v.peer)}</text>')
            y += STEP
        y += 8
    grid = []
    for tick in (.05, .1, .2, .5, 1, 2):
        x = at(tick)
        grid.append(f'<line class="{"one" if tick == 1 else "g"}" x1="{x:.1f}" x2="{x:.1f}" y1="38" y2="{y}"/>'
                    f'<text class="q" x="{x:.1f}" y="32" text-anchor="middle">{tick:g}</text>')
    key = "".join(f'<rect x="{LEFT + 150 * k}" y="6" width="12" height="12" fill="{c}"/>'
                  f'<text class="q" x="{LEFT + 150 * k + 18}" y="16">{n} thread{"s" * (n > 1)}</text>' for k, (n, c) in enumerate(COLOURS.items()))
    key += f'<line class="bar" x1="{LEFT + 306}" x2="{LEFT + 306}" y1="5" y2="19"/><text class="q" x="{LEFT + 314}" y="16">the bar: at most this</text>'
    body = "\n".join([key, *grid, *parts])
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 190}" height="{y + 10}" viewBox="0 0 {LEFT + WIDTH + 190} {y + 10}" role="img">'
            f"<title>Time of graphc over that of the best peer; left of 1 is faster</title><style>{STYLE}</style>\n{body}\n</svg>\n")
