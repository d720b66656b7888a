"""A picture as DOT text: what Graphviz draws. Written by hand, so that quoting is ours and the same picture gives the same bytes.

Labels are Graphviz's HTML-like ones, so a name may hold quotes, backslashes, markup: it is escaped once, here, and is text ever after.
"""
from __future__ import annotations

from html import escape

from .label import LONG, SHORT, plain
from .picture import UNSEEN, Box, Frame, Link, Picture, Row, collapsed
from .theme import FONT, LIGHT, Theme

SIZES = {"head": 11, "line": 9, "minor": 9, "note": 8}


def attributes(**items: object) -> str:
    """[key=value, ...], where a value that begins with < is markup."""
    return f"[{', '.join(f'{k}={v}' if str(v).startswith('<') else f'{k}={quoted(str(v))}' for k, v in items.items())}]"


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def label(rows: tuple[Row, ...], theme: Theme, most: int = 2 * SHORT, **sizes: int) -> str:
    """A label of several lines. What is bold is ink, what is small is quiet."""
    out = []
    for text, style in rows:
        text = escape(plain(text, most))
        if text:
            ink = theme["ink" if style in ("head", "line") else "quiet"]
            words = f"<b>{text}</b>" if style == "head" else text
            out.append(f'<font point-size="{sizes.get(style, SIZES[style])}" color="{ink}">{words}</font>')
    return f"<{'<br/>'.join(out)}>" if out else ""


def tip(rows: tuple[str, ...]) -> str:
    """A tooltip. Escaped like a label: Graphviz reads entities in text of every kind."""
    return "\n".join(escape(plain(row, LONG)) for row in rows) or " "


# ---- looks -----------------------------------------------------------------------------------------------------------------------


def head(picture: Picture, theme: Theme) -> list[str]:
    """The lines that say how everything looks."""
    graph = attributes(label=label(((picture.title, "head"),), theme, head=15), labelloc="t", fontname=FONT, bgcolor=theme["paper"], rankdir="TB",
                       newrank="true", nodesep=0.2, ranksep=0.14, pad=0.2, tooltip=" ", **({"layout": "nop2"} if picture.placed else {}))
    nodes = attributes(shape="box", style="rounded,filled", fontname=FONT, fontsize=11, penwidth=1.1, height=0.3, margin="0.1,0.04")
    edges = attributes(fontname=FONT, fontsize=8, fontcolor=theme["quiet"], arrowsize=0.55, penwidth=1.1)
    return [f"  graph {graph}", f"  node {nodes}", f"  edge {edges}"]


def box_look(b: Box, theme: Theme, tips: bool = True) -> str:
    if b.shape == "unseen":
        return attributes(style="invis", label="", width=0, height=0, margin=0)
    look: dict[str, object] = {"label": label(b.rows, theme), "fillcolor": theme[f"{b.paint}.fill"], "color": theme[f"{b.paint}.stroke"]}
    match b.shape:
        case "input": look |= {"shape": "oval", "style": "filled", "margin": "0.05,0.02"}
        case "state": look |= {"shape": "cylinder", "style": "filled"}
        case "small": look |= {"height": 0.22, "margin": "0.06,0.02"}
        case "module": look |= {"shape": "box", "peripheries": 1, "penwidth": 1.4}
        case "area": look |= {"style": "filled", "penwidth": 0.6}
        case "text": look |= {"style": "", "color": theme["paper"], "penwidth": 0}
    if b.place is not None:
        x, y, w, h = b.place
        look |= {"pos": f"{x:.2f},{y:.2f}", "width": f"{w / 72:.4f}", "height": f"{h / 72:.4f}", "fixedsize": "true", "margin": 0}
    if b.heavy:
        look["penwidth"] = 2.6
    if b.again:
        look |= {"style": "filled,dashed", "fillcolor": theme["paper.fill"]}
    return attributes(**look, **({"tooltip": tip(b.tip)} if tips else {}))


def frame_look(f: Frame, theme: Theme, tips: bool = True) -> str:
    hint = {"tooltip": tip(f.tip)} if tips else {}
    if f.kind == "lane":
        return attributes(label=label(((f.title, "head"),), theme, head=13).replace(theme["ink"], theme[f"{f.paint}.edge"]), labeljust="l",
                          style="rounded,filled", color=theme[f"{f.paint}.border"], fillcolor=theme[f"{f.paint}.lane"], margin=10, **hint)
    filled = {"style": "rounded,filled", "fillcolor": theme["paper.fill"]} if f.kind not in ("update", "shared") else {"style": "rounded,dashed"}
    return attributes(label=label(((f.title, "minor"),), theme, SHORT), labeljust="l", color=theme["frame"], margin=7, **filled, **hint)


def link_look(x: Link, theme: Theme, tips: bool = True) -> str:
    if x.kind in UNSEEN:
        return attributes(style="invis", **({"weight": x.weight} if x.weight != 1 else {}), **({"minlen": x.length} if x.length != 1 else {}))
    look: dict[str, object] = {"color": theme[f"{x.paint}.edge"]}
    match x.kind:
        case "kept" | "shared": look |= {"color": theme["kept"], "style": "dashed", "weight": 0}
        case "grad": look |= {"penwidth": 1.6}
        case "body": look = {"style": "dotted", "arrowhead": "none", "color": theme["kept"]}
    if x.up:
        look["dir"] = "back"
    if x.free:
        look["constraint"] = "false"
    if x.length != 1:
        look["minlen"] = x.length
    if x.label:
        look["label"] = label(((x.label, "note"),), theme).replace('">', '">&#160;', 1)
    return attributes(**look, **({"tooltip": tip((x.tip,))} if tips and x.tip else {}))


def link_text(x: Link, look: str) -> str:
    a, b = (x.head, x.tail) if x.up else (x.tail, x.head)
    return f"{a} -> {b} {look}"


# ---- writing ---------------------------------------------------------------------------------------------------------------------


def write_dot(picture: Picture, theme: Theme = LIGHT) -> str:
    """The DOT text of what is to be seen of a picture, ending in a newline. Any string may stand in it."""
    seen = collapsed(picture)
    within: dict[str, list[Box]] = {"": [], **{f.id: [] for f in seen.frames}}
    parts: dict[str, list[Frame]] = {key: [] for key in within}
    for b in seen.boxes:
        within[b.frame].append(b)
    for f in seen.frames:
        parts[f.parent].append(f)
    filled = set(f for f, boxes in within.items() if boxes)
    for f in reversed(seen.frames):                     # children come after their parents
        if f.id in filled:
            filled.add(f.parent)
    out = ["digraph graphc {", *head(picture, theme)]

    def write(frame: str, pad: str) -> None:
        out.extend(f"{pad}{b.id} {box_look(b, theme)}" for b in within[frame])
        for f in parts[frame]:
            if f.id in filled:
                out.extend([f"{pad}subgraph cluster_{f.id} {{", f"{pad}  graph {frame_look(f, theme)}"])
                write(f.id, pad + "  ")
                out.append(pad + "}")

    write("", "  ")
    out += [f"  {link_text(x, link_look(x, theme))}" for x in seen.links]
    out += [f"  {{ rank=min; {' -> '.join(row)} [style=invis] }}" for row in seen.ranks]
    return "\n".join([*out, "}"]) + "\n"
