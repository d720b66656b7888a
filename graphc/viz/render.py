"""DOT text into a picture, by whatever Graphviz there is: the system's `dot`, else the library inside the `pygraphviz` wheel.

Either runs in a process of its own, for its layout can take for ever and can crash; both read standard input and write standard output, so a
picture is written whole or not at all. Where neither works the DOT text itself is written, and one sentence says how to mend it.
"""
from __future__ import annotations

import importlib.util
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import time
import uuid

from ..core.errors import GraphError

SUFFIXES = (".svg", ".png", ".pdf", ".dot")
SHARP = ((600, 144), (2000, 96))                        # dots per inch of a .png while the DOT text has fewer lines; beyond, 72
MEND = 'pip install "graphc[viz]", or install Graphviz so that `dot` is on PATH'

# Reads DOT, writes the picture. The arguments: its format, and the resolution or nothing.
_CHILD = """
import sys, pygraphviz
graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode("utf-8"))
if len(sys.argv) > 2:
    graph.graph_attr["dpi"] = sys.argv[2]
sys.stdout.buffer.write(graph.draw(format=sys.argv[1], prog="dot"))
"""


def commands(kind: str, dpi: int | None = None) -> list[tuple[str, list[str]]]:
    """The renderers of this machine, best first: a name, and the command that reads DOT and writes `kind`."""
    found: list[tuple[str, list[str]]] = []
    dot = shutil.which("dot")
    if dot is not None:
        found.append(("dot", [dot, f"-T{kind}", *([] if dpi is None else [f"-Gdpi={dpi}"])]))
    if sys.executable and importlib.util.find_spec("pygraphviz") is not None:
        found.append(("pygraphviz", [sys.executable, "-c", _CHILD, kind, *([] if dpi is None else [str(dpi)])]))
    return found


def write_picture(dot: str, path: str | os.PathLike[str], *, timeout: float = 60.0) -> pathlib.Path:
    """Write DOT text as a picture in the format of the path's suffix, or as `.dot` beside it where none can be made. Returns the path written."""
    target = pathlib.Path(path)
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise GraphError(f"cannot draw into {target.name!r}: the suffix {target.suffix!r} is none of {', '.join(SUFFIXES)}",
                         fix=f"{target.stem or 'graph'}.svg")
    if suffix == ".dot":
        _write(target, dot.encode())
        return target
    until = time.monotonic() + timeout
    size = dot.count("\n")
    dpi = next((dpi for most, dpi in SHARP if size < most), 72) if suffix == ".png" else None
    renderers, failures = commands(suffix[1:], dpi), list[str]()
    for name, command in renderers:
        try:
            done = subprocess.run(command, input=dot.encode(), capture_output=True, timeout=max(until - time.monotonic(), 0.0), check=False)
        except subprocess.TimeoutExpired:
            failures.append(f"{name} took more than {timeout:g} s (a longer timeout= or a smaller graph may help)")
            break                                       # the time is spent
        except OSError as e:
            failures.append(f"{name} did not start ({e.strerror or e})")
            continue
        if done.returncode == 0 and done.stdout:
            _write(target, done.stdout)
            return target
        said = done.stderr.decode("utf-8", "replace").split("\n")
        failures.append(f"{name} failed ({next((s.strip() for s in reversed(said) if s.strip()), f'exit code {done.returncode}')})")
    beside = target.with_suffix(".dot")
    _write(beside, dot.encode())
    why = "; ".join(failures) if renderers else f"there is no Graphviz here; {MEND}"
    logging.getLogger("graphc").warning("wrote %s in the place of %s: %s", beside, target.name, why)
    return beside


def _write(path: pathlib.Path, data: bytes) -> None:
    """The whole file or the old one, never half of it."""
    part = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
