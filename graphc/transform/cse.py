"""Common subexpressions: of nodes that do the same to the same, one is kept.

Nodes have identity until here, so that hooks and `grad(loss, a)` mean the node the user holds; from here on, what cannot be told apart by bits is
one. Attributes are compared by type and bits: 0.0, -0.0, 0, False and each nan are different. Never merged: inputs, effects, and nodes that carry the
attribute `recompute` (rematerialisation put them there to be computed again).
"""
from __future__ import annotations

import hashlib
import struct
from collections.abc import Hashable, Mapping
from types import NoneType
from typing import Any

import numpy as np

from ..core.dims import Dim
from ..core.dtype import DType
from ..core.types import TensorType, TokenType, TupleType
from ..ir.host import Host, hosts
from ..ir.node import NOWHERE, Graph, Info, Node, Recorder, recording
from ..ir.text import show
from ..ir.walk import map_subgraphs, topo

RECOMPUTE = "recompute"


def cse(graph: Graph) -> Graph:
    """The graph with each computation once; Info is merged. The same object where there was nothing to merge."""
    info: dict[Node, Info] = dict(graph.info)
    done: dict[Node, Node] = {leaf: leaf for leaf in graph.leaves}
    table: dict[Hashable, Node] = {}
    recorder = Recorder(info)
    with recording(recorder):
        for n in topo(graph.roots):
            if n in done:
                continue
            inputs = tuple([done[i] for i in n.inputs])
            attrs = map_subgraphs(n.attrs, cse)
            m = n
            if inputs != n.inputs or attrs is not n.attrs:
                recorder.here = info.get(n, NOWHERE)
                m = Node(n.op, inputs, attrs, n.type)
            if n.op.pure and n.op.name != "input" and not isinstance(n.type, TokenType) and RECOMPUTE not in attrs:
                found = table.setdefault((n.op, inputs, key_of(attrs)), m)
                if found is not m and m in info:
                    info[found] = info.get(found, NOWHERE) | info[m]
                m = found
            done[n] = m
    roots = tuple(done[r] for r in graph.roots)
    return graph if roots == graph.roots else graph.with_roots(roots, info)


def key_of(attrs: Mapping[str, Any]) -> Hashable:
    """Attributes as a key: equal exactly where type and bits are."""
    return tuple([(k, bits_of(v)) for k, v in sorted(attrs.items())])


PLAIN = (bool, int, str, Dim, DType, TensorType, TupleType, TokenType, NoneType)      # equal where they print alike


def bits_of(value: Any) -> Hashable:
    """One attribute as a key."""
    if type(value) in PLAIN:
        return type(value).__name__, value
    if isinstance(value, tuple):
        return ("tuple", *map(bits_of, value))
    if isinstance(value, np.generic | np.ndarray):      # before float: np.float64 is one
        raw = value.tobytes()
        return "array", str(value.dtype), value.shape, raw if len(raw) <= 64 else hashlib.blake2b(raw, digest_size=32).digest()
    if isinstance(value, float):
        return "float", struct.pack("d", value)
    if isinstance(value, Graph):
        return "graph", show(value, names=False, locs=False), *hosts(value)
    if isinstance(value, Host):
        return "host", value
    if isinstance(value, PLAIN):
        return type(value).__name__, value
    raise TypeError(f"an attribute cannot be {value!r}")
