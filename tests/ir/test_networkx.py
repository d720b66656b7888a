"""The graph as NetworkX sees it."""
from __future__ import annotations

import subprocess
import sys

import networkx as nx
import numpy as np

from graphc.core.dtype import f32, f64
from graphc.ir.networkx import to_networkx
from graphc.ir.node import Graph, Info, Recorder, State, recording
from graphc.ops import control
from graphc.ops.elementwise import tanh
from graphc.ops.leaf import input_
from graphc.ops.tuples import get


def test_nodes_edges_and_attributes() -> None:
    rec = Recorder(here=Info(names=frozenset({"square"}), phases=frozenset({"forward"})))
    x, w = (input_(name=n, shape=(3, 4), dtype=f32) for n in ("x", "w"))
    with recording(rec):
        y = x * x
    graph = Graph((x,), (y,), (State("net.w", w, tanh(w)),), info=rec.info)
    out = to_networkx(graph)
    assert nx.is_directed_acyclic_graph(out)
    assert list(out.edges(keys=True, data="position")) == [("x", "square", 0, 0), ("x", "square", 1, 1), ("w", "2", 0, 0)]
    square = out.nodes["square"]
    assert (square["op"], square["type"], square["phases"], square["output"]) == ("mul", "f32[3,4]", ("forward",), 0)
    assert out.nodes["w"]["state"] == out.nodes["2"]["updates"] == "net.w"


def test_bodies() -> None:
    arrays, attrs = control.scan.samples(np.random.default_rng(0))[0]
    leaves = tuple(input_(name=f"x{k}", shape=a.shape, dtype=f64) for k, a in enumerate(arrays))
    out = to_networkx(Graph(leaves, (get(control.scan(*leaves, **attrs), index=0),)))
    (body,) = out.nodes["1"]["bodies"]
    assert body.name == "body"
    assert "body" not in out.nodes["1"]["attrs"]


def test_networkx_is_not_loaded_before_it_is_asked_for() -> None:
    code = "import sys, graphc.ir.networkx, graphc.ops; assert 'networkx' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
