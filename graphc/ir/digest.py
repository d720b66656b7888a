"""A graph as a number: what is equal in the eyes of the compiler has the same digest, in every process and on every day.

It covers what `text.show` prints and more: ops, attributes bit by bit (arrays by their bytes, so a large constant costs no text), types, which node reads
which, what is an input, an output, a state, and the lines of the user's that errors name. Names of nodes are left out: nothing that is compiled depends on
them.
"""
from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from .node import Graph, Node
from .text import literal
from .walk import topo


def digest(graph: Graph) -> str:
    """SHA-256 of the graph, in hexadecimal digits."""
    h = hashlib.sha256()
    number: dict[Node, int] = {}
    places: dict[Any, str] = {}                         # of an Info: most nodes share theirs
    known: dict[Any, str] = {}                          # of a type

    def numbers(nodes: tuple[Node, ...]) -> str:
        return ",".join([str(number[n]) for n in nodes])

    for n in topo((*graph.leaves, *graph.roots)):
        info = graph.where(n)
        place = places.get(info.locs)
        if place is None:
            place = places[info.locs] = "|".join(sorted([f"{x.file}:{x.line}:{x.function}" for x in info.locs]))
        kind = known.get(n.type)
        if kind is None:
            kind = known[n.type] = str(n.type)
        attrs = ";".join([f"{k}={_value(n.attrs[k])}" for k in sorted(n.attrs)])
        h.update(f"{n.op.name}({numbers(n.inputs)}){kind}{{{attrs}}}{place}\n".encode())
        number[n] = len(number)
    states = ",".join([f"{number[s.read]}:{number[s.write]}" for s in graph.states])
    h.update(f"{numbers(graph.inputs)} {numbers(graph.outputs)} {states} {numbers(graph.effects)}".encode())
    return h.hexdigest()


def _value(value: Any) -> str:
    """An attribute, exactly."""
    if isinstance(value, np.ndarray) and value.ndim:
        return f"{value.dtype.str}{value.shape}{hashlib.sha256(np.ascontiguousarray(value).view(np.uint8).data).hexdigest()}"
    return literal(value, digest)
