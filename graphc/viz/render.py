"""A picture into a file. DOT text becomes SVG, PNG or PDF by whatever Graphviz there is: the system's `dot`, else the library inside the
`pygraphviz` wheel, else, for SVG, the WebAssembly that comes with graphc, run by Node.js.

Each runs in a process of its own, for its layout can take for ever and can crash; all read standard input and write standard output, so a picture
is written whole or not at all. Where none works a page is written that draws itself in any browser, and one sentence says how to mend it.

The font comes with graphc and is shown to the renderer by a fontconfig file, so labels are legible where there is not one font.
"""
from __future__ import annotations

import importlib.util
import logging
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from xml.sax.saxutils import escape

from ..core.errors import GraphError
from .dot import write_dot
from .picture import Picture
from .theme import theme_named

SUFFIXES = (".svg", ".png", ".pdf", ".dot", ".html")
SHARP = ((600, 144), (2000, 96))                        # dots per inch of a .png while the DOT text has fewer lines; beyond, 72
MEND = 'pip install "graphc[viz]"'
MEND_SYSTEM = "apt-get install graphviz"                # where the wheel does not load: it needs libX11 and GLib of the system
FONTS = pathlib.Path(__file__).with_name("fonts")
WASM = pathlib.Path(__file__).with_name("vendor") / "wasm-graphviz.js"

# Reads DOT, writes the picture. The arguments: its format, and the resolution or nothing.
_CHILD = """
import sys, pygraphviz
graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode("utf-8"))
if len(sys.argv) > 2:
    graph.graph_attr["dpi"] = sys.argv[2]
sys.stdout.buffer.write(graph.draw(format=sys.argv[1], prog="dot"))
"""
_NODE = """
import { readFileSync } from "node:fs";
const { Graphviz } = await import("data:text/javascript;base64," + readFileSync(process.argv[1]).toString("base64"));
process.stdout.write((await Graphviz.load()).layout(readFileSync(0, "utf8"), "svg", "dot"));
"""

_UNHINTED = ('<match target="font"><edit name="hinting" mode="assign"><bool>false</bool></edit>'           # whole pixels tear small letters apart
             '<edit name="hintstyle" mode="assign"><const>hintnone</const></edit></match>')


def commands(kind: str, dpi: int | None = None) -> list[tuple[str, list[str]]]:
    """The renderers of this machine, best first: a name, and the command that reads DOT and writes `kind`."""
    found: list[tuple[str, list[str]]] = []
    dot = shutil.which("dot")
    if dot is not None:
        found.append(("dot", [dot, f"-T{kind}", *([] if dpi is None else [f"-Gdpi={dpi}"])]))
    if sys.executable and importlib.util.find_spec("pygraphviz") is not None:
        found.append(("pygraphviz", [sys.executable, "-c", _CHILD, kind, *([] if dpi is None else [str(dpi)])]))
    node = shutil.which("node")
    if node is not None and kind == "svg":
        found.append(("node", [node, "--input-type=module", "-e", _NODE, str(WASM)]))
    return found


@contextmanager
def font_environment() -> Iterator[dict[str, str]]:
    """The environment for a renderer: fontconfig finds our fonts first, and after them the system's, for what ours lack."""
    system = os.environ.get("FONTCONFIG_FILE") or "/etc/fonts/fonts.conf"
    with tempfile.TemporaryDirectory(prefix="graphc-fonts-") as folder:
        for font in FONTS.glob("*.ttf"):                # a copy: some versions of fontconfig leave a file beside the fonts that they read
            shutil.copy(font, folder)
        conf = pathlib.Path(folder, "fonts.conf")
        conf.write_text(f'<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig><dir>{escape(folder)}</dir>'
                        f'<include ignore_missing="yes">{escape(system)}</include><cachedir>{escape(folder)}/cache</cachedir>{_UNHINTED}</fontconfig>\n',
                        encoding="utf-8")
        yield {**os.environ, "FONTCONFIG_FILE": str(conf)}


class Rendered(NamedTuple):
    """A picture's bytes; or none, and why, and whether it was for lack of time."""

    data: bytes | None
    why: str = ""
    slow: bool = False


def rendered(dot: str, kind: str, *, timeout: float = 60.0) -> Rendered:
    """The picture of a DOT text as "svg", "png" or "pdf"."""
    until = time.monotonic() + timeout
    lines = dot.count("\n")
    dpi = next((dpi for most, dpi in SHARP if lines < most), 72) if kind == "png" else None
    renderers, failures = commands(kind, dpi), list[str]()
    with font_environment() as env:
        for name, command in renderers:
            try:
                done = subprocess.run(command, input=dot.encode(), capture_output=True, timeout=max(until - time.monotonic(), 0.0), check=False, env=env)
            except subprocess.TimeoutExpired:
                failures.append(f"{name} took more than {timeout:g} s")
                return Rendered(None, "; ".join(failures), slow=True)      # the time is spent
            except OSError as e:
                failures.append(f"{name} did not start ({e.strerror or e})")
                continue
            if done.returncode == 0 and done.stdout:
                return Rendered(centred(done.stdout) if kind == "svg" else done.stdout)
            said = done.stderr.decode("utf-8", "replace").split("\n")
            failures.append(f"{name} failed ({next((s.strip() for s in reversed(said) if s.strip()), f'exit code {done.returncode}')})")
    return Rendered(None, f"{'; '.join(failures)}; {MEND_SYSTEM} brings another" if renderers else f"there is no Graphviz here; {MEND} brings one")


def centred(svg: bytes) -> bytes:
    """The text of each box anchored in its middle: whoever shows the picture may have fonts of other widths than those it was laid out with."""
    return re.sub(rb'<g id="[^"]*" class="node">.*?\n</g>', _centred_box, svg, flags=re.DOTALL)


def _centred_box(m: re.Match[bytes]) -> bytes:
    box = m[0]
    shape = re.search(rb'<polygon [^>]*points="([^"]*)"|<path [^>]* d="([^"]*)"|<ellipse [^>]*cx="([^"]*)"', box)
    if shape is None:
        return box
    numbers = [float(x) for x in re.findall(rb"(-?[\d.]+),-?[\d.]+", shape[1] or shape[2] or shape[3] + b",0")]
    middle = b"%.2f" % ((min(numbers) + max(numbers)) / 2)
    return re.sub(rb'text-anchor="start" x="[^"]*"', b'text-anchor="middle" x="' + middle + b'"', box)


def write_picture(make: Callable[[bool], Picture], path: str | os.PathLike[str], *, theme: str = "light", timeout: float = 60.0) -> pathlib.Path:
    """Write a picture in the format of the path's suffix, or as a page beside it where that cannot be. Returns the path written.

    `make(folded)` gives the picture, as asked for or with all folded that can be: which is drawn where the former takes too long.
    """
    target = pathlib.Path(path)
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise GraphError(f"cannot draw into {target.name!r}: the suffix {target.suffix!r} is none of {', '.join(SUFFIXES)}",
                         fix=f"{target.stem or 'graph'}.svg")
    from .html import write_html

    log = logging.getLogger("graphc")
    picture = make(False)
    if suffix == ".html":
        write_file(target, write_html(picture, theme).encode())
        return target
    dot = write_dot(picture, theme_named(theme))
    if suffix == ".dot":
        write_file(target, dot.encode())
        return target
    made = rendered(dot, suffix[1:], timeout=timeout)
    if made.slow:
        folded = make(True)
        if folded != picture:
            again = rendered(write_dot(folded, theme_named(theme)), suffix[1:], timeout=timeout)
            if again.data is not None:
                log.warning("drew %s folded, for %s over the whole; a longer timeout= may help, and .html opens piece by piece", target.name, made.why)
                made, picture = again, folded
    if made.data is not None:
        write_file(target, made.data)
        return target
    beside = target.with_suffix(".html")
    write_file(beside, write_html(picture, theme).encode())
    log.warning("wrote %s, which any browser opens, in the place of %s: %s", beside, target.name, made.why)
    return beside


def write_file(path: pathlib.Path, data: bytes) -> None:
    """The whole file or the old one, never half of it."""
    part = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
