"""A picture as one page: the data, Graphviz as WebAssembly, a font and a few hundred lines of script. It asks the network for nothing, and its
Content-Security-Policy would not let it.
"""
from __future__ import annotations

import base64
import functools
import json
import pathlib
import re
from typing import Any

from . import wasm
from .dot import box_look, frame_look, head, link_look
from .label import LONG, clean, plain
from .picture import UNSEEN, Box, Picture
from .theme import DARK, FONT, LIGHT, PAGE, theme_named

HERE = pathlib.Path(__file__).parent


def write_html(picture: Picture, theme: str | None = None) -> str:
    """The page. Without a theme it follows the reader's system."""
    if theme is not None:
        theme_named(theme)
    filled = {
        "THEME": f' data-theme="{theme}"' if theme is not None else "",
        "TITLE": clean(picture.title, 2 * LONG),
        "REGULAR": _font("graphc-sans.ttf"), "BOLD": _font("graphc-sans-bold.ttf"),
        "LIGHT": _variables(LIGHT), "DARK": _variables(DARK),
        "DATA": json.dumps(data(picture), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c").replace("\u2028", "\\u2028"),
        "WASM": wasm.script(), "PAGE": _text("page.js"),
    }
    return re.sub(r"@([A-Z]+)@", lambda m: filled.get(m[1], m[0]), _text("page.html"))


def data(picture: Picture) -> dict[str, Any]:
    """What the script needs. Looks are DOT attributes in the colours of `PAGE`, for which it puts variables."""
    lines = [line.replace(f'fontname="{FONT}"', f'fontname="{wasm.FACE}"') for line in head(picture, PAGE)]
    frames = []
    for f in picture.frames:
        summary = f.summary if f.summary is not None else Box(f.id, f.parent, ((f.title, "head"),))
        frames.append({"id": f.id, "parent": f.parent, "title": plain(f.title, LONG), "kind": f.kind, "closed": f.closed, "look": frame_look(f, PAGE, False),
                       "summary": box_look(summary, PAGE, False), "tip": [plain(t, LONG) for t in f.tip], "inside": [plain(t, LONG) for t in summary.tip]})
    boxes = [{"id": b.id, "frame": b.frame, "look": box_look(b, PAGE, False), "tip": [plain(t, LONG) for t in b.tip],
              "words": " ".join((*(plain(text, LONG) for text, _ in b.rows), *(plain(t, LONG) for t in b.tip)))} for b in picture.boxes]
    links = []
    for x in picture.links:
        look = link_look(x, PAGE, False)
        links.append({"tail": x.tail, "head": x.head, "look": look, "bare": re.sub(r", label=<.*>(?=[,\]])", "", look), "up": x.up,
                      "held": x.kind in UNSEEN, "top": x.kind == "top", "free": x.free, "shared": x.kind == "shared", "tip": plain(x.tip, LONG)})
    return {"title": plain(picture.title, LONG), "head": lines, "frames": frames, "boxes": boxes, "links": links,
            "ranks": [list(row) for row in picture.ranks], "roles": {colour: _variable(role) for role, colour in PAGE.items()}}


def _variable(role: str) -> str:
    return role.replace(".", "-")


def _variables(theme: Any) -> str:
    return " ".join(f"--{_variable(role)}: {colour};" for role, colour in theme.items())


@functools.cache
def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@functools.cache
def _font(name: str) -> str:
    return base64.b64encode((HERE / "fonts" / name).read_bytes()).decode()
