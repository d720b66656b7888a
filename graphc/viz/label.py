"""What is said of a node: its words as plain rows, with any string of the user's made short, printable and one line long. `dot` escapes them."""
from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from ..core import half
from ..core.dims import Size
from ..ir.node import Graph, Info, Node
from ..ir.text import literal, number

SHORT, LONG = 32, 240                                   # characters of a name in a label, and of anything in a tooltip
FEW = 4                                                 # elements of a constant that stands in a label; lines of code in a tooltip
TELLING = ("axes", "axis", "index", "length", "k")      # attributes worth a word in the label

# ---- text ------------------------------------------------------------------------------------------------------------------------


def shorten(text: str, most: int) -> str:
    """At most so many characters, an ellipsis in the middle where some are missing: the end of a path says as much as its beginning."""
    return text if len(text) <= most else f"{text[:most // 2]}…{text[len(text) - (most - 1) // 2:]}"


def plain(text: str, most: int = SHORT) -> str:
    """Any string on one line, short, without what XML or a terminal would choke on.

    A backslash becomes its twin ∖ (U+2216): Graphviz expands \\N, \\G and the like in text of every kind, once or twice, and versions differ.
    """
    start = " ".join(text[:4 * LONG].split()) + "…" * (len(text) > 4 * LONG)
    return "".join("\ufffd" if _unprintable(c) else c for c in shorten(start, most)).replace("\\", "∖")


def clean(text: str, most: int = SHORT) -> str:
    """Any string as text for a label, its markup escaped."""
    return escape(plain(text, most))


def _unprintable(c: str) -> bool:
    """Control characters, lone surrogates, what is no character, and the marks that turn the direction of writing."""
    return unicodedata.category(c) in ("Cc", "Cs", "Cn") or c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def nbytes_text(n: Size) -> str:
    """1536 → 1.5 KiB; a symbolic size as it is."""
    if not isinstance(n, int):
        return f"{n} B"
    size, unit = float(n), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.4g} {unit}" if size < 1000 else f"{size:.0f} {unit}"


# ---- what is said of a node ------------------------------------------------------------------------------------------------------


def constant_text(node: Node, whole: bool = True) -> str | None:
    """A constant that is short enough to stand in its reader's label, else None; unless `whole`, the beginning of a long one."""
    if node.op.name != "const":
        return None
    a = np.asarray(node.attrs["value"])
    flat = a.reshape(-1)
    if a.ndim == 0 or (0 < a.size <= 4096 and a.size > FEW and flat.tobytes() == flat[:1].tobytes() * a.size):
        return _short_number(flat[0])                   # one number for every element
    if a.ndim == 1 and a.size <= FEW:
        return f"[{', '.join(map(_short_number, flat))}]"
    return None if whole else f"[{', '.join(map(_short_number, flat[:2]))}, …]"


def _short_number(v: Any) -> str:
    v = half.plain(v)
    return f"{float(v):.4g}" if np.asarray(v).dtype.kind == "f" else number(v)


def einsum_letters(contracting: tuple[Sequence[int], Sequence[int]], batch: tuple[Sequence[int], Sequence[int]],
                   ranks: tuple[int, int]) -> tuple[list[str], list[str], list[str]]:
    """A letter for each axis of the operands of a contraction, and of its result."""
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
    return left, right, result


def einsum_text(contracting: tuple[Sequence[int], Sequence[int]], batch: tuple[Sequence[int], Sequence[int]], ranks: tuple[int, int],
                moved: tuple[Sequence[int] | None, Sequence[int] | None, Sequence[int] | None] = (None, None, None)) -> str:
    """The axes of a contraction as NumPy's einsum writes them: ij,kj→ik.

    `moved`: where an operand is a transposition permute(x, axes) of what is shown, and the result is shown transposed, those axes.
    """
    left, right, result = einsum_letters(contracting, batch, ranks)
    for k, side in enumerate((left, right)):
        axes = moved[k]
        if axes is not None:                            # axis m of permute(x, axes) is axis axes[m] of x
            side[:] = [letter for _, letter in sorted(zip(axes, side))]
    if moved[2] is not None:
        result = [result[a] for a in moved[2]]
    fresh = iter("ijklmnopqrstuvwxyzabcdefgh")
    rename = {c: next(fresh) for c in dict.fromkeys((*left, *right)) if c != "?"}
    return "{},{}→{}".format(*("".join(rename.get(c, c) for c in side) for side in (left, right, result)))


Spell = Callable[[Node], str | None]                    # the words that stand for an operand, None where an edge brings it


def op_text(node: Node, spell: Spell, moved: Mapping[Node, Sequence[int]] | None = None) -> str:
    """The op, with what it reads without an edge in its place, and the attributes worth a word."""
    name = node.op.name
    if name == "contract":
        a, b = (i.tensor.rank for i in node.inputs)
        left, right = ((moved or {}).get(i) for i in node.inputs)
        return f"{name} {einsum_text(node.attrs['contracting'], node.attrs['batch'], (a, b), (left, right, (moved or {}).get(node)))}"
    words = [spell(i) for i in node.inputs]
    args = f"({', '.join(w or '·' for w in words)})" if any(words) else ""
    told = [] if name == "broadcast" else [f"{k} {_plain(node.attrs[k])}" for k in TELLING if k in node.attrs]
    return " ".join((f"{name}{args}", *told))


def move_text(node: Node) -> str:
    """A move on the edge that it became: only what a reader of the shapes would miss."""
    match node.op.name:
        case "broadcast" | "stop_gradient": return ""
        case "cast": return "cast"
        case name: return name


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def tooltip(node: Node, info: Info, *more: str) -> tuple[str, ...]:
    """Names, op, type, attributes, modules, lines: one line each, the user's own lines last."""
    told = node.attrs.keys() - ({"name", "shape", "dtype"} if not node.inputs else set())
    attrs = ", ".join(f"{k}={_attribute(v)}" for k, v in sorted(node.attrs.items()) if k in told and not isinstance(v, Graph))
    rows = [*more, *sorted(info.names), f"{node.op}: {node.type}", attrs, *(f"in {s}" for s in sorted(info.scopes) if s),
            *_few(sorted(map(str, info.locs)))]
    return tuple(plain(row, LONG) for row in rows if row)


def _attribute(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > FEW:
        return f"array of {value.size}"
    try:
        return str(literal(value))
    except TypeError:                                   # what has no printed form
        return type(value).__name__


def _few(rows: list[str]) -> list[str]:
    return rows if len(rows) <= FEW else [*rows[:FEW], f"and {len(rows) - FEW} more"]
