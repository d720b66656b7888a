"""What is said of a node, a lane, a module: labels and tooltips as DOT attributes, with any string of the user's made harmless.

Labels are Graphviz's HTML-like ones, so a name may hold quotes, backslashes, markup: it is escaped once, here, and is text ever after.
"""
from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from ..ir.node import Graph, Info, Node
from ..ir.text import literal, number
from .theme import FAMILY, FONT, FRAME, INK, INPUT, LANES, PAPER, PLAIN, QUIET, STATE

SHORT, LONG = 32, 240                                   # characters of a name in a label, and of anything in a tooltip
FEW = 4                                                 # elements of a constant that stands in a label; lines of code in a tooltip
TELLING = ("axes", "axis", "index", "length", "k")      # attributes worth a word in the label

# ---- text ------------------------------------------------------------------------------------------------------------------------


def shorten(text: str, most: int) -> str:
    """At most so many characters, an ellipsis in the middle where some are missing: the end of a path says as much as its beginning."""
    return text if len(text) <= most else f"{text[:most // 2]}…{text[len(text) - (most - 1) // 2:]}"


def clean(text: str, most: int = SHORT) -> str:
    """Any string as text for a label: on one line, short, without what XML or a terminal would choke on, its markup escaped.

    A backslash becomes its twin ∖ (U+2216): Graphviz expands \\N, \\G and the like in text of every kind, once or twice, and versions differ.
    """
    start = " ".join(text[:4 * LONG].split()) + "…" * (len(text) > 4 * LONG)
    return escape("".join("\ufffd" if _unprintable(c) else c for c in shorten(start, most))).replace("\\", "∖")


def _unprintable(c: str) -> bool:
    """Control characters, lone surrogates, what is no character, and the marks that turn the direction of writing."""
    return unicodedata.category(c) in ("Cc", "Cs", "Cn") or c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def attributes(**items: object) -> str:
    """[key=value, ...], where a value that begins with < is markup. Text of the user's has been through `clean`."""
    return f"[{', '.join(f'{k}={v}' if str(v).startswith('<') else f'{k}={quoted(str(v))}' for k, v in items.items())}]"


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def lines(*parts: tuple[str, int, str]) -> str:
    """A label of several lines, each (escaped text, points, colour); the first is bold unless it is small."""
    rows = [f'<font point-size="{size}" color="{ink}">{f"<b>{text}</b>" if k == 0 and size > 9 else text}</font>'
            for k, (text, size, ink) in enumerate(parts) if text]
    return f"<{'<br/>'.join(rows)}>" if rows else ""


# ---- what is said of a node ------------------------------------------------------------------------------------------------------


def constant_text(node: Node) -> str | None:
    """A constant that is short enough to stand in its reader's label, else None."""
    if node.op.name != "const":
        return None
    a = np.asarray(node.attrs["value"])
    flat = a.reshape(-1)
    if a.ndim == 0 or (0 < a.size <= 4096 and a.size > FEW and flat.tobytes() == flat[:1].tobytes() * a.size):
        return _short_number(flat[0])                   # one number for every element
    return f"[{', '.join(map(_short_number, flat))}]" if a.ndim == 1 and a.size <= FEW else None


def _short_number(v: Any) -> str:
    return f"{float(v):.4g}" if np.asarray(v).dtype.kind == "f" else number(v)


def einsum_text(contracting: tuple[Sequence[int], Sequence[int]], batch: tuple[Sequence[int], Sequence[int]], ranks: tuple[int, int]) -> str:
    """The axes of a contraction as NumPy's einsum writes them: ij,kj→ik."""
    left, right = [""] * ranks[0], [""] * ranks[1]
    letters = iter("ijklmnopqrstuvwxyzabcdefgh")
    pairs = {a: b for a, b in (*zip(*contracting), *zip(*batch))}
    for a in range(ranks[0]):
        left[a] = next(letters, "?")
        if a in pairs:
            right[pairs[a]] = left[a]
    right = [c or next(letters, "?") for c in right]
    gone = {left[a] for a in contracting[0]}
    together = [left[a] for a in batch[0]]
    result = together + [c for c in left if c not in gone and c not in together] + [c for c in right if c not in gone and c not in together]
    return f"{''.join(left)},{''.join(right)}→{''.join(result)}"


def op_text(node: Node, folded: Iterable[Node]) -> str:
    """The op, with the constants it reads in their places and the attributes worth a word."""
    name, inside = node.op.name, set(folded)
    args = ""
    if any(i in inside for i in node.inputs):
        args = f"({', '.join((constant_text(i) or '·') if i in inside else '·' for i in node.inputs)})"
    if name == "contract":
        a, b = (i.tensor.rank for i in node.inputs)
        return f"{name} {einsum_text(node.attrs['contracting'], node.attrs['batch'], (a, b))}"
    told = [] if name == "broadcast" else [f"{k} {_plain(node.attrs[k])}" for k in TELLING if k in node.attrs]
    return " ".join((f"{name}{args}", *told))


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def tooltip(node: Node, info: Info, *more: str) -> str:
    """Names, op, type, attributes, modules, lines: one line each, the user's own lines last."""
    told = node.attrs.keys() - ({"name", "shape", "dtype"} if not node.inputs else set())
    attrs = ", ".join(f"{k}={_attribute(v)}" for k, v in sorted(node.attrs.items()) if k in told and not isinstance(v, Graph))
    rows = [*more, *sorted(info.names), f"{node.op}: {node.type}", attrs, *(f"in {s}" for s in sorted(info.scopes) if s),
            *_few(sorted(map(str, info.locs)))]
    return "\n".join(clean(row, LONG) for row in rows if row)


def _attribute(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > FEW:
        return f"array of {value.size}"
    try:
        return str(literal(value))
    except TypeError:                                   # what has no printed form
        return type(value).__name__


def _few(rows: list[str]) -> list[str]:
    return rows if len(rows) <= FEW else [*rows[:FEW], f"and {len(rows) - FEW} more"]


# ---- looks -----------------------------------------------------------------------------------------------------------------------


NODES = attributes(shape="box", style="rounded,filled", fontname=FONT, fontsize=11, penwidth=1.1, height=0.36, margin="0.11,0.045")
EDGES = attributes(arrowsize=0.55, penwidth=1.1)


def graph_look(title: str) -> str:
    return attributes(label=lines((clean(title, 2 * SHORT), 15, INK)), labelloc="t", fontname=FONT, bgcolor=PAPER, rankdir="TB", newrank="true",
                      nodesep=0.22, ranksep=0.32, pad=0.25, tooltip=" ")


def lane_look(phase: str) -> str:
    lane = LANES[phase]
    return attributes(label=lines((lane.title, 13, lane.edge)), labeljust="l", style="rounded,filled", color=lane.stroke, fillcolor=lane.fill,
                      margin=12, tooltip=phase)


def module_look(name: str) -> str:
    return attributes(label=lines((clean(name), 9, QUIET)), labeljust="l", style="rounded,dashed", color=FRAME, margin=7, tooltip=clean(name, LONG))


def unseen_look() -> str:
    return attributes(style="invis", label="", width=0, height=0, margin=0)


def written_look(state: str) -> str:
    """The new value of a state, where it is written."""
    return attributes(label=lines((clean(state), 11, INK), ("new value", 9, QUIET)), shape="cylinder", style="filled", fillcolor=STATE.fill,
                      color=STATE.stroke, tooltip=clean(f"the new value of {state}", LONG))


def node_look(n: Node, info: Info, folded: set[Node], state: str | None, output: bool, again: bool = False) -> str:
    """The attributes of one box: the user's name for it where there is one, its op, its type. `again`: a leaf drawn a second time."""
    called = min(info.names, key=lambda s: (len(s), s), default="")
    op, kind = clean(op_text(n, folded), 2 * SHORT), clean(str(n.type), SHORT + 8)
    paint = FAMILY.get(n.op.family, PLAIN)
    look: dict[str, object] = {}
    if state is not None:
        paint = STATE
        look = {"shape": "cylinder", "style": "filled"}
        label = lines((clean(state), 11, INK), (kind, 9, QUIET))
    elif n.op.name == "input":
        paint = INPUT
        look = {"shape": "oval", "style": "filled", "margin": "0.05,0.02"}
        label = lines((clean(str(n.attrs.get("name", "input"))), 11, INK), (kind, 9, QUIET))
    elif called:
        label = lines((clean(called), 11, INK), (op, 9, INK), (kind, 9, QUIET))
    elif paint.small:
        look = {"height": 0.25, "margin": "0.07,0.02"}
        label = lines((op, 9, QUIET), (kind, 8, QUIET))
    else:
        label = lines((op, 11, INK), (kind, 9, QUIET))
    if output:
        look["penwidth"] = 2.6
    if again:
        look |= {"style": "filled,dashed", "fillcolor": PAPER}
    what = ["output"] * output + ([f"state {state}"] if state is not None else [])
    return attributes(**{"label": label, "fillcolor": paint.fill, "color": paint.stroke, **look, "tooltip": tooltip(n, info, *what)})
