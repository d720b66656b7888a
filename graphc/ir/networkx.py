"""A graph as a NetworkX multigraph: for questions that NetworkX answers (paths, cuts, centrality, drawing by other hands). NetworkX loads when first asked."""
from __future__ import annotations

from typing import Any

from .node import Graph
from .text import literal, name_nodes
from .walk import subgraphs, topo


def to_networkx(graph: Graph) -> Any:
    """A `networkx.MultiDiGraph` whose keys are the names in the printed form.

    Nodes carry op, type, attrs (as printed), names, scopes, phases, locs, and `output`, `state` where they are one; an edge runs from input to
    user and carries the input's `position`, so x*x is two edges. Graphs inside attributes stand at their node as `bodies`, converted too.
    """
    import networkx as nx

    out = nx.MultiDiGraph(name=graph.name)
    order = topo((*graph.leaves, *graph.roots))
    name = name_nodes(graph, order)
    for n in order:
        info = graph.where(n)
        inner = subgraphs(n)
        out.add_node(name[n], op=n.op.name, type=str(n.type), names=tuple(sorted(info.names)), scopes=tuple(sorted(info.scopes)),
                     phases=tuple(sorted(info.phases)), locs=tuple(sorted(map(str, info.locs))),
                     attrs={k: literal(v) for k, v in sorted(n.attrs.items()) if not isinstance(v, Graph)},
                     **({"bodies": tuple(map(to_networkx, inner))} if inner else {}))
        out.add_edges_from((name[i], name[n], {"position": k}) for k, i in enumerate(n.inputs))
    for k, o in enumerate(graph.outputs):
        out.nodes[name[o]].setdefault("output", k)
    for s in graph.states:
        out.nodes[name[s.read]]["state"] = s.name
        out.nodes[name[s.write]]["updates"] = s.name
    return out
