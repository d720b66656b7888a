"""Ways through a graph. Explicit stacks: a graph 100,000 nodes deep is an ordinary graph."""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from ..core.dims import Dim, evaluate
from ..core.dtype import DType
from ..core.types import TensorType, TupleType, Type
from .node import Graph, Node, State


def topo(roots: Iterable[Node], stop: Iterable[Node] = ()) -> list[Node]:
    """Every node that the roots need, each after its inputs, in an order fixed by the graph alone. Does not go below `stop`."""
    order: list[Node] = []
    seen: set[Node] = set()
    ends = set(stop)
    for root in roots:
        stack: list[tuple[Node, Iterator[Node]]] = []
        if root not in seen:
            seen.add(root)
            stack.append((root, iter(() if root in ends else root.inputs)))
        while stack:
            node, rest = stack[-1]
            for i in rest:
                if i not in seen:
                    seen.add(i)
                    stack.append((i, iter(() if i in ends else i.inputs)))
                    break
            else:
                order.append(node)
                stack.pop()
    return order


def frontier(roots: Iterable[Node], inside: Collection[Node]) -> tuple[Node, ...]:
    """The first nodes of `inside` on every way down from the roots, which may be among them."""
    found: dict[Node, None] = {}
    stack = list(roots)
    seen = set(stack)
    while stack:
        n = stack.pop()
        if n in inside:
            found[n] = None
            continue
        stack += [i for i in n.inputs if i not in seen]
        seen.update(n.inputs)
    return tuple(found)


def users(order: Iterable[Node]) -> dict[Node, list[Node]]:
    """For each node of `order`, the nodes of it that read it (once for each reading)."""
    out: dict[Node, list[Node]] = {}
    for n in order:
        out.setdefault(n, [])
        for i in n.inputs:
            out.setdefault(i, []).append(n)
    return out


def subgraphs(node: Node) -> list[Graph]:
    """The closed graphs among a node's attributes (the body of a scan)."""
    return [v for v in node.attrs.values() if isinstance(v, Graph)]


def map_subgraphs(attrs: Mapping[str, Any], f: Callable[[Graph], Graph]) -> Mapping[str, Any]:
    """The attributes with f of every graph among them; the same object if f gave the same graphs."""
    for key, value in attrs.items():
        if isinstance(value, Graph) and (body := f(value)) is not value:
            attrs = {**attrs, key: body}
    return attrs


def all_nodes(graph: Graph) -> Iterator[Node]:
    """Every node of a graph and of the graphs inside it."""
    todo = [graph]
    while todo:
        for n in topo((*todo.pop().roots, *graph.leaves)):
            yield n
            todo.extend(subgraphs(n))


def map_nodes(graph: Graph, f: Callable[[Node, tuple[Node, ...]], Node]) -> Graph:
    """Rebuild a graph bottom-up: f(old node, its rebuilt inputs) gives the new node; leaves stay as they are."""
    done: dict[Node, Node] = {leaf: leaf for leaf in graph.leaves}
    for n in topo(graph.roots):
        if n not in done:
            done[n] = f(n, tuple(done[i] for i in n.inputs))
    return graph.with_roots(tuple(done[r] for r in graph.roots))


def rebuilt(node: Node, inputs: tuple[Node, ...]) -> Node:
    """The node itself if its inputs did not change, else its op on the new inputs."""
    return node if inputs == node.inputs else node.op(*inputs, **node.attrs)


def substitute(roots: Iterable[Node], env: Mapping[Node, Node]) -> tuple[Node, ...]:
    """The roots with nodes replaced: what inlining a closed graph is made of."""
    roots, done = tuple(roots), dict(env)
    for n in topo(roots, stop=env):
        if n not in done:
            done[n] = rebuilt(n, tuple(done[i] for i in n.inputs))
    return tuple(done[r] for r in roots)


def bind_value(value: Any, sizes: Mapping[str, int], dtypes: Mapping[DType, DType]) -> Any:
    """An attribute or a type with its symbolic sizes bound and its element types exchanged."""
    if isinstance(value, Dim):
        return evaluate(value, sizes) if value.names <= sizes.keys() else value
    if isinstance(value, DType):
        return dtypes.get(value, value)
    if isinstance(value, tuple):
        return tuple(bind_value(v, sizes, dtypes) for v in value)
    if isinstance(value, TensorType):
        return TensorType(bind_value(value.shape, sizes, dtypes), bind_value(value.dtype, sizes, dtypes))
    if isinstance(value, TupleType):
        return TupleType(bind_value(value.items, sizes, dtypes))
    if isinstance(value, Graph):
        return bind(value, sizes, dtypes)
    return value


def bind(graph: Graph, sizes: Mapping[str, int], dtypes: Mapping[DType, DType] | None = None) -> Graph:
    """The graph for given sizes (and, for the oracle, with f64 in the place of f32)."""
    dtypes = dtypes or {}

    def bound(t: Type) -> Any:
        return bind_value(t, sizes, dtypes)

    done: dict[Node, Node] = {}
    info = dict(graph.info)
    for leaf in (*graph.leaves, *topo(graph.roots)):
        if leaf in done:
            continue
        attrs = {k: bind_value(v, sizes, dtypes) for k, v in leaf.attrs.items()}
        done[leaf] = Node(leaf.op, tuple(done[i] for i in leaf.inputs), attrs, bound(leaf.type))
        info[done[leaf]] = graph.where(leaf)
    states = tuple(State(s.name, done[s.read], done[s.write]) for s in graph.states)
    return Graph(tuple(done[i] for i in graph.inputs), tuple(done[o] for o in graph.outputs), states, tuple(done[e] for e in graph.effects), info, graph.name)
