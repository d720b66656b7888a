"""A failing graph made small: whatever can be left out while it still fails is left out, and what remains is printed as lines that can be run.

Outputs go, nodes become one of their operands, a constant or an argument, bodies lose operations or stand alone, sizes become 1, 2 or 3. The search is greedy
and the largest steps come first: most mistakes of a compiler show in one operation on its own, and then the first candidates find them.

The idea is Zeller and Hildebrandt's, "Simplifying and isolating failure-inducing input", IEEE TSE 2002; the moves are those of a graph with types.
"""
from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..core.dims import Size
from ..core.errors import GraphError
from ..core.types import TensorType, TupleType
from ..ir.node import Graph, Node
from ..ir.text import show
from ..ir.walk import all_nodes, substitute, topo
from ..ops.leaf import const, input_, splat
from .draw import unpacked

Fails = Callable[[Graph], bool]
NUMBERS = (0.0, 1.0)
SIZED = ("shape", "stops", "lengths", "length", "dim", "k", "lo", "hi", "max_steps")     # attributes that may hold a size


def shrink(graph: Graph, fails: Fails, *, most: int = 3000) -> Graph:
    """The smallest graph found that still fails. `fails` says of a graph whether it does, and draws the graph's arguments itself; it is asked `most` times
    at most, and what it raises counts as no.

    >>> small = shrink(graph, lambda g: native_difference(g, seed=7) is not None)
    >>> print(reproduction(small, seed=7))
    """
    assert fails(graph), "the graph to shrink does not fail"
    left, tried = most, set[str]()
    progress = True
    while progress and left > 0:
        progress = False
        for candidate in _candidates(graph):
            if measure(candidate) >= measure(graph) or (key := show(candidate, names=False, locs=False)) in tried:
                continue
            tried.add(key)
            left -= 1
            if _asked(fails, candidate):
                graph, progress = candidate, True
                break
            if left <= 0:
                break
    return graph


def measure(graph: Graph) -> tuple[int, int, int]:
    """What is made smaller: operations, then elements and axes of all values, then roots."""
    nodes = [n for n in all_nodes(graph) if n.op.name not in ("input", "get")]
    values = [t for n in all_nodes(graph) for t in (n.type.items if isinstance(n.type, TupleType) else (n.type,)) if isinstance(t, TensorType)]
    return len(nodes), sum(int(np.prod(t.static_shape)) + t.rank for t in values), len(graph.roots) + len(graph.states)


def _asked(fails: Fails, graph: Graph) -> bool:
    try:
        return fails(graph)
    except Exception:
        return False


def closed(roots: Sequence[Node], keep: Sequence[Node] = ()) -> Graph:
    """The graph of these outputs, with the leaves that it needs as inputs."""
    return Graph((*keep, *(n for n in topo(roots) if n.op.name == "input" and n not in keep)), tuple(roots), name="shrunk")


# ---- candidates --------------------------------------------------------------------------------------------------------------------


def _candidates(graph: Graph) -> Iterator[Graph]:
    order = [n for n in topo(graph.roots) if n.op.name != "input"]
    for depth in (1, 2, 3):
        for n in order:
            yield from _alone(n, depth)
    for n in order:
        for body in (v for v in n.attrs.values() if isinstance(v, Graph)):
            yield Graph(body.inputs, body.outputs, name="shrunk")
    if graph.states or len(graph.roots) > 1:
        for root in graph.roots:
            yield closed([root])
        for root in graph.roots:
            yield closed([r for r in graph.roots if r is not root])
    for n in reversed(order):
        for other in _instead(n, graph, fresh=True):
            yield closed(_replaced(graph.roots, n, other))
    for n in order:
        for node in _smaller_bodies(n):
            yield closed(_replaced(graph.roots, n, node))
    yield from _resized(graph)


def _alone(n: Node, depth: int) -> Iterator[Graph]:
    """The node on arguments: what lies more than `depth` operations before it is given."""
    if n.op.name in ("get", "const"):
        return
    env: dict[Node, Node] = {}
    level: list[Node] = list(n.inputs)
    for step in range(depth):
        level = [i for x in level for i in ((x,) if step == 0 else x.inputs)]
        if step == depth - 1:
            ends = [x for x in dict.fromkeys(level) if isinstance(x.type, TensorType)]
            env = {x: x if x.op.name in ("input", "const") else _fresh(x, f"c{k}") for k, x in enumerate(ends)}
    if n in env:
        return
    (m,) = substitute([n], env)
    outputs = unpacked(m) if isinstance(m.type, TupleType) else (m,)
    if outputs and all(isinstance(o.type, TensorType) for o in outputs):
        yield closed(outputs)


def _fresh(like: Node, name: str) -> Node:
    t = like.tensor
    return input_(name=name, shape=t.shape, dtype=t.dtype)


def _instead(n: Node, graph: Graph, fresh: bool) -> Iterator[Node]:
    """What may stand in the place of a tensor: an argument, a value that it is made of, a number."""
    if not isinstance(n.type, TensorType):
        return
    if fresh:
        taken = {x.attrs["name"] for x in graph.leaves}
        yield _fresh(n, next(name for k in range(len(taken) + 1) if (name := f"c{k}") not in taken))
    seen: set[Node] = set()
    level: list[Node] = [n]
    for _ in range(3):
        level = [i for x in level for i in x.inputs]
        for i in level:
            if i.type == n.type and i not in seen:
                seen.add(i)
                yield i
    if n.op.name != "const":
        for v in NUMBERS:
            yield splat(v, n)


def _replaced(roots: Sequence[Node], n: Node, other: Node) -> tuple[Node, ...]:
    return substitute(roots, {n: other})


def _smaller_bodies(n: Node) -> Iterator[Node]:
    """The same loop, branch or call with one operation less in a body, at any depth."""
    for key, body in n.attrs.items():
        if not isinstance(body, Graph):
            continue
        order = [m for m in topo(body.outputs) if m.op.name != "input"]
        for m in reversed(order):
            for other in (*_instead(m, body, fresh=False), *_smaller_bodies(m)):
                outputs = _replaced(body.outputs, m, other)
                try:
                    yield n.op(*n.inputs, **{**n.attrs, key: Graph(body.inputs, outputs, name=body.name)})
                except GraphError:
                    continue


def _resized(graph: Graph) -> Iterator[Graph]:
    """Every axis of some size made shorter, wherever it occurs."""
    sizes = {int(s) for n in all_nodes(graph) for t in ([n.type] if isinstance(n.type, TensorType) else []) for s in t.static_shape if int(s) > 1}
    for old in sorted(sizes, reverse=True):
        for new in dict.fromkeys((1, 2, 3, old // 2, old - 1)):
            if 0 < new < old:
                try:
                    yield _with_size(graph, old, new)
                except (GraphError, ValueError, IndexError, AssertionError):
                    continue


def _with_size(graph: Graph, old: int, new: int) -> Graph:
    """Rebuilt with one size for another; raises GraphError where the types then do not meet."""
    def changed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(changed(v) for v in value)
        return new if isinstance(value, int) and not isinstance(value, bool) and value == old else value

    def shape(s: tuple[Size, ...]) -> tuple[Size, ...]:
        return tuple(new if n == old else n for n in s)

    def built(g: Graph) -> Graph:
        done: dict[Node, Node] = {}
        for n in topo((*g.leaves, *g.roots)):
            attrs = {k: built(v) if isinstance(v, Graph) else changed(v) if k in SIZED else v for k, v in n.attrs.items()}
            if n.op is const and np.ndim(n.attrs["value"]):
                value = np.resize(n.attrs["value"], shape(n.attrs["value"].shape))
                value.flags.writeable = False
                attrs["value"] = value
            done[n] = n.op(*(done[i] for i in n.inputs), **attrs)
        return Graph(tuple(done[i] for i in g.leaves), tuple(done[r] for r in g.roots), name=g.name)

    return built(graph)


# ---- printing ----------------------------------------------------------------------------------------------------------------------


def reproduction(graph: Graph, seed: int = 0, check: str = "native_difference") -> str:
    """Lines of Python that build the graph, run the check of that name in `graphc.testing` on it, and raise AssertionError where it finds something."""
    return (f"from graphc.ir.text import parse\nfrom graphc.testing import {check}\n\ngraph = parse('''\n{show(graph, locs=False)}\n''')\n"
            f"why = {check}(graph, seed={seed})\nassert why is None, why\n")


def dies(graph: Graph, seed: int = 0, check: str = "native_difference", timeout: float = 60.0) -> bool:
    """Whether the check ends its process (a crash of native code) or does not end at all: a predicate for `shrink` that outlives what it looks for."""
    try:
        done = subprocess.run([sys.executable, "-c", reproduction(graph, seed, check)], capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return True
    return done.returncode not in (0, 1)
