"""Draws docs/house.svg, the packages and who may import whom, from the table that tests/test_floors.py holds the code to.

    python docs/make_house.py

Needs Graphviz (the extra `viz`) for the .svg; the .dot beside it is plain text, and a test says when it is no longer the table's.
"""
from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).parent
FLOORS_FILE = DOCS.parent / "tests" / "test_floors.py"

PARTS = {                                               # title, packages from the top down, fill, line
    "front wing: what users touch": ("nn optim utils array trace", "#fdf1d8", "#b98a2f"),
    "trunk: the tensor graph": ("transform interp ops ir", "#d9f0ea", "#3f9a83"),
    "back wing: loops and machine code": ("lower loop llvm", "#e2e6fb", "#5a68b8"),
}
ROWS = ("lower llvm transform data", "viz array symbolic")  # what stands side by side


def floors() -> tuple[dict[str, list[str]], set[str]]:
    """The table of tests/test_floors.py (package: what it may import) and the packages of the roof, read without running anything."""
    found = {}
    for node in ast.parse(FLOORS_FILE.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in ("FLOORS", "ROOF"):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return {name: allowed.split() for name, allowed in found["FLOORS"].items()}, found["ROOF"]


def house_dot(table: Mapping[str, list[str]]) -> str:
    """The picture as DOT. An arrow says "may import"; the arrows to core, which everybody may import, are left out."""
    out = ["digraph house {", '  graph [rankdir=TB, newrank=true, fontname="Helvetica", fontsize=12, nodesep=0.25, ranksep=0.45, bgcolor="white", '
           'label="an arrow: may import.  Everybody may import core; the roof may import everything; nothing else is allowed.", labelloc=b]',
           '  node [shape=box, style="filled,rounded", fontname="Helvetica", fontsize=12, height=0.35, color="#666666", fillcolor=white]',
           '  edge [color="#777777", arrowsize=0.6]',
           '  roof [label="the roof: driver, executable, build, frame, host, quick, limits, io, train, testing, cli", '
           'fillcolor="#f7dede", color="#b05c5c", width=7]']
    placed = {"core"}
    for k, (title, (names, fill, line)) in enumerate(PARTS.items()):
        mine = [n for n in names.split() if n in table]
        placed.update(mine)
        out += [f"  subgraph cluster_{k} {{", f'    graph [label="{title}", labelloc=t, style=rounded, color="{line}", fontcolor="{line}"]',
                *(f'    {n} [label="{n}", fillcolor="{fill}", color="{line}"]' for n in mine), "  }"]
    out += [f'  {n} [label="{n}"]' for n in table if n not in placed]
    out += ['  core [label="core: types, sizes, errors", fillcolor="#eeeeee", width=7]']
    out += [f"  {{ rank=same; {'; '.join(n for n in row.split() if n in table)} }}" for row in ROWS]
    below = {n: [m for m in allowed if m != "core"] for n, allowed in table.items()}
    used = {m for allowed in below.values() for m in allowed}
    out += [f"  roof -> {n} [style=invis]" for n in ("nn", "optim", "symbolic", "viz") if n not in used]
    out += [f"  {n} -> {m}" for n, allowed in below.items() for m in allowed]
    out += [f"  {n} -> core [style=invis]" for n in ("ir", "loop", "data")]
    return "\n".join([*out, "}"]) + "\n"


def main() -> None:
    from graphc.viz.render import rendered, write_file

    dot = house_dot(floors()[0])
    (DOCS / "house.dot").write_text(dot, encoding="utf-8", newline="\n")
    picture = rendered(dot, "svg")
    if picture.data is None:
        raise SystemExit(picture.why)
    write_file(DOCS / "house.svg", picture.data)
    print("wrote house.dot and house.svg")


if __name__ == "__main__":
    main()
