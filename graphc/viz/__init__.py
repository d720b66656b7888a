"""Pictures of graphs. `draw` writes a file, `to_dot` gives Graphviz's text, `to_graphviz` an object that a notebook shows."""
from __future__ import annotations

import os
import pathlib
from typing import Any

from ..ir.node import Graph
from .dot import to_dot
from .render import write_picture

__all__ = ["draw", "to_dot", "to_graphviz"]


def draw(graph: Graph, path: str | os.PathLike[str], *, title: str | None = None, timeout: float = 60.0) -> pathlib.Path:
    """Draw a graph into a .svg, .png, .pdf or .dot file, and return the path of the file written.

    Forward, backward and update are lanes; states are cylinders, inputs ovals; a derivative bears its parameter's name; tooltips (in .svg) tell
    the rest, source lines included. Needs Graphviz: the system's `dot`, or `pip install "graphc[viz]"`. Without one, or where it takes longer
    than `timeout` seconds, the DOT text is written beside, its path returned, and a warning in the log says how to mend it.
    Raises GraphError for another suffix, OSError where the file cannot be written.
    """
    return write_picture(to_dot(graph, title=title), path, timeout=timeout)


def to_graphviz(graph: Graph, *, title: str | None = None) -> Any:
    """The graph as a `graphviz.Source`, which Jupyter shows where the system has Graphviz."""
    import graphviz

    return graphviz.Source(to_dot(graph, title=title))
