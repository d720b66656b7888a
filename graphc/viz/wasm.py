"""Graphviz as WebAssembly, which comes with graphc, for any JavaScript engine: the page's, Node.js's, or V8 in a wheel.

It has no fonts, and knows the widths of a few. Of these DejaVu Sans is nearest to ours, a tenth wider: a label fits whatever shows it.
"""
from __future__ import annotations

import functools
import json
import pathlib
import re

from .theme import FONT

MODULE = pathlib.Path(__file__).with_name("vendor") / "wasm-graphviz.js"
FACE = "DejaVu Sans"
_RANDOM = "globalThis.crypto ??= { getRandomValues: (a) => a.fill(7) };"      # a bare engine has none, and a picture is to be the same again


@functools.cache
def script() -> str:
    """The vendored module as a script: what it exports as Graphviz becomes a global."""
    text, found = re.subn(r"export\{[^}]*?(\w+) as Graphviz\b[^}]*\};?\s*(//# sourceMappingURL=\S*)?\s*$", r"globalThis.graphcGraphviz=\1;",
                          MODULE.read_text(encoding="utf-8"))
    assert found == 1
    return text


def program(dot: str) -> str:
    """A JavaScript program that ends in the promise of DOT text as SVG."""
    dot = dot.replace(f'fontname="{FONT}"', f'fontname="{FACE}"')
    return f"{_RANDOM}\n(() => {{ {script()} }})();\ngraphcGraphviz.load().then((graphviz) => graphviz.layout({json.dumps(dot)}, 'svg', 'dot'))"


def in_our_font(svg: str) -> str:
    """What the program made, in the font that it was to be in."""
    return svg.replace(f'font-family="{FACE}"', f'font-family="{FONT}"')
