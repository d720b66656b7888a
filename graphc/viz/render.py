"""A picture into a file. DOT text becomes SVG by the first Graphviz there is: the WebAssembly that comes with graphc, in the V8 of the wheel
`mini-racer`; the system's `dot`; the WebAssembly in Node.js. From the SVG a PDF is made here, and a PNG by the wheel `resvg-py`; or `dot` makes it.

Each runs in a process of its own, for its layout can take for ever and can crash; all read standard input and write standard output, so a picture
is written whole or not at all. Where none works a page is written that draws itself in any browser, and one sentence says how to mend it.

The wheels need nothing of the system but a C library, and give the same bytes everywhere. The font comes with graphc and is shown to each renderer,
so labels are legible where there is not one font.
"""
from __future__ import annotations

import importlib.util
import logging
import math
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
from . import wasm
from .dot import write_dot
from .pdf import write_pdf
from .picture import Picture
from .theme import theme_named

SUFFIXES = (".svg", ".png", ".pdf", ".dot", ".html")
SHARP, DULL = 144, 96                                   # dots per inch of a .png by resvg, and by dot
PIXELS = 60e6                                           # of a .png at most: a larger picture is drawn with fewer dots per inch
MEND = 'pip install "graphc[viz]"'
FONTS = pathlib.Path(__file__).with_name("fonts")

# These read standard input and write the picture. A child looks for modules where this process does, but not in the folder that it happens to be in.
_V8 = """
import sys
sys.path = [p for p in sys.path if p]
from py_mini_racer import MiniRacer
engine = MiniRacer()
try:
    svg = engine.eval(sys.stdin.buffer.read().decode("utf-8")).get()
except Exception as e:
    sys.exit(next(filter(None, str(e).splitlines()), repr(e))[:400])
sys.stdout.buffer.write(svg.encode("utf-8"))
"""
_RESVG = """
import sys
sys.path = [p for p in sys.path if p]
import resvg_py
svg = sys.stdin.buffer.read().decode("utf-8")
sys.stdout.buffer.write(bytes(resvg_py.svg_to_bytes(svg_string=svg, dpi=96, width=int(sys.argv[1]), font_files=sys.argv[2:])))
"""

_UNHINTED = ('<match target="font"><edit name="hinting" mode="assign"><bool>false</bool></edit>'           # whole pixels tear small letters apart
             '<edit name="hintstyle" mode="assign"><const>hintnone</const></edit></match>')


class Renderer(NamedTuple):
    """A program of this machine that reads what `reads` makes of DOT text and writes a picture, of which `gives` makes the one we want."""

    name: str
    command: list[str]
    reads: Callable[[str], str] = lambda dot: dot
    gives: Callable[[str], str] = lambda svg: svg


def renderers(kind: str = "svg") -> list[Renderer]:
    """Those of this machine, best first, that make an SVG; or "png", without one."""
    dot, node = shutil.which("dot"), shutil.which("node")
    if kind == "png":
        return [Renderer("dot", [dot, "-Tpng", f"-Gdpi={DULL}"])] if dot else []
    found = []
    if has("py_mini_racer"):
        found.append(Renderer("mini-racer", [sys.executable, "-c", _V8], wasm.program, wasm.in_our_font))
    if dot:
        found.append(Renderer("dot", [dot, "-Tsvg"]))
    if node:
        found.append(Renderer("node", [node, "-"], lambda dot: f"{wasm.program(dot)}.then((svg) => process.stdout.write(svg))", wasm.in_our_font))
    return found


def has(module: str) -> bool:
    """Is there a module that a child can import?"""
    return bool(sys.executable) and importlib.util.find_spec(module) is not None


@contextmanager
def font_environment() -> Iterator[dict[str, str]]:
    """The environment for a renderer: fontconfig finds our fonts first, and after them the system's, for what ours lack."""
    system = os.environ.get("FONTCONFIG_FILE") or "/etc/fonts/fonts.conf"
    with tempfile.TemporaryDirectory(prefix="graphc-fonts-") as folder:
        for font in _fonts():                # a copy: some versions of fontconfig leave a file beside the fonts that they read
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


class _Failed(Exception):
    """A renderer's, in words."""


def rendered(dot: str, kind: str, *, timeout: float = 60.0) -> Rendered:
    """The picture of a DOT text as "svg", "png" or "pdf"."""
    until = time.monotonic() + timeout
    by_svg = kind != "png" or has("resvg_py")
    found, failures = renderers("svg" if by_svg else "png"), list[str]()
    with font_environment() as env:
        for r in found:
            try:
                made = _run(r.name, r.command, r.reads(dot).encode(), until, env)
                if not by_svg:
                    return Rendered(made)
                svg = centred(r.gives(made.decode()).encode())
                match kind:
                    case "svg": return Rendered(svg)
                    case "pdf": return Rendered(write_pdf(svg, FONTS))
                    case _: return Rendered(_run("resvg", [sys.executable, "-c", _RESVG, str(_width(svg)), *map(str, _fonts())], svg, until, env))
            except subprocess.TimeoutExpired:
                failures.append(f"{r.name} took more than {timeout:g} s")
                return Rendered(None, "; ".join(failures), slow=True)      # the time is spent
            except (_Failed, ValueError) as e:
                failures.append(str(e))
    return Rendered(None, f"{'; '.join(failures)}; {MEND} brings another" if found else f"there is no renderer here; {MEND} brings one")


def _run(name: str, command: list[str], given: bytes, until: float, env: dict[str, str]) -> bytes:
    """What a command writes on standard output."""
    try:
        done = subprocess.run(command, input=given, capture_output=True, timeout=max(until - time.monotonic(), 0.0), check=False, env=env)
    except OSError as e:
        raise _Failed(f"{name} did not start ({e.strerror or e})") from None
    if done.returncode == 0 and done.stdout:
        return done.stdout
    said = done.stderr.decode("utf-8", "replace").split("\n")
    raise _Failed(f"{name} failed ({next((s.strip() for s in reversed(said) if s.strip()), f'exit code {done.returncode}')})")


def _fonts() -> list[pathlib.Path]:
    return sorted(FONTS.glob("*.ttf"))


def _width(svg: bytes) -> int:
    """In pixels: `SHARP` to an inch, or as many as `PIXELS` allow."""
    found = re.search(rb'<svg width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    if found is None:
        raise ValueError("an SVG without a size in points")
    width, height = float(found[1]), float(found[2])
    return math.ceil(width * min(SHARP / 72, math.sqrt(PIXELS / (width * height))))


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
