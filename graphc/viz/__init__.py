"""Pictures of graphs, of kernels and of memory. `draw` writes a file, `to_dot` gives Graphviz's text, `to_html` a page that needs nothing but a browser."""
from __future__ import annotations

import os
import pathlib
from typing import Any

from ..core.errors import GraphError
from ..ir.node import Graph
from .dot import write_dot
from .graphs import picture_of
from .picture import Picture
from .render import rendered, write_picture
from .theme import theme_named

__all__ = ["draw", "mimebundle", "to_dot", "to_graphviz", "to_html"]

VIEWS = ("lanes", "modules", "forward", "kernels", "memory")


def draw(what: Any, path: str | os.PathLike[str], *, view: str = "lanes", theme: str = "light", expand: bool | None = None, title: str | None = None,
         timeout: float = 60.0) -> pathlib.Path:
    """Draw a graph, or what a compiled function was lowered to, into a .svg, .png, .pdf, .dot or .html file; return the path of the file written.

    view    "lanes": forward, backward and update side by side; "modules": the modules and what flows between them; "forward": without gradient
            and update; "kernels": what runs, after fusion; "memory": who lives when and where in the arena. The last two need a lowered function.
    theme   "light" or "dark".
    expand  None folds a graph of more than 64 boxes (what moves elements into edges, each update into a box, then the inner modules); True draws
            every node, False folds a small graph too. In .html what is folded can be opened by a click.

    A derivative bears its parameter's name; tooltips (in .svg and .html) tell the rest, source lines included. .html opens without a network and
    without Graphviz; the others need `pip install "graphc[viz]"`, or the system's `dot`. Where it takes longer than `timeout`
    seconds the folded picture is drawn instead; without one, the page is written in the picture's place, its path returned, and a warning in the log
    says how to mend it.
    Raises GraphError for another suffix, view or theme, OSError where the file cannot be written.
    """
    theme_named(theme)
    return write_picture(lambda folded: _picture(what, view, False if folded else expand, title), path, theme=theme, timeout=timeout)


def to_dot(what: Any, *, view: str = "lanes", theme: str = "light", expand: bool | None = None, title: str | None = None) -> str:
    """The DOT text of a picture. The same graph gives the same text, and any string may stand in it."""
    return write_dot(_picture(what, view, expand, title), theme_named(theme))


def to_html(what: Any, *, view: str = "lanes", theme: str | None = None, expand: bool | None = None, title: str | None = None) -> str:
    """A page with the picture, Graphviz itself inside: to open, close, search, move and zoom. Without a theme it follows the reader's system."""
    from .html import write_html

    return write_html(_picture(what, view, expand, title), theme)


def to_graphviz(what: Any, **options: Any) -> Any:
    """The graph as a `graphviz.Source`, which Jupyter shows where the system has Graphviz."""
    import graphviz

    return graphviz.Source(to_dot(what, **options))


def mimebundle(what: Any, **options: Any) -> dict[str, str]:
    """What a notebook shows: the picture as SVG where there is a renderer, else the page in a frame of its own."""
    from html import escape

    picture = _picture(what, "lanes", None, None)
    svg = rendered(write_dot(picture, theme_named("light")), "svg", timeout=20.0).data
    if svg is not None:
        text = svg.decode()
        return {"image/svg+xml": text[text.index("<svg"):], "text/plain": repr(what)}
    from .html import write_html

    page = escape(write_html(picture), quote=True)
    return {"text/html": f'<iframe srcdoc="{page}" style="width:100%;height:600px;border:0"></iframe>', "text/plain": repr(what)}


def _picture(what: Any, view: str, expand: bool | None, title: str | None) -> Picture:
    if view not in VIEWS:
        raise GraphError(f"there is no view {view!r}", fix=f"one of {', '.join(map(repr, VIEWS))}")
    graph: Graph = what if isinstance(what, Graph) else what.graph
    if view not in ("kernels", "memory"):
        return picture_of(graph, view, expand, title)
    if isinstance(what, Graph):
        raise GraphError(f"the view {view!r} shows what a graph was compiled to", fix=f'f.lower(...).draw(path, view="{view}")')
    executable = what.executable()
    if not hasattr(executable, "plan"):
        raise GraphError(f'the backend "numpy" has no {view}', fix='gx.compile(backend="llvm")')
    from . import kernels, memory

    maker = kernels.picture_of if view == "kernels" else memory.picture_of
    return maker(executable, title if title is not None else f"{graph.name}: {view}")
