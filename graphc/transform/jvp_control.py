"""Forward mode of control flow: what moves has its tangent beside it. No history is needed, so the memory is that of the program itself."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from ..core.types import TensorType
from ..ir.node import Graph, Node
from ..ir.walk import substitute
from ..ops.branch import attributes, branches_of, cond
from ..ops.control import scan
from ..ops.leaf import input_, zeros
from ..ops.loop import while_
from ..ops.tuples import get

Tangent = Node | None                                   # None is zero
Tangents = tuple[Tangent, ...]
Push = Callable[[Sequence[Node], dict[Node, Node]], tuple[tuple[Node, ...], Tangents]]      # forward mode itself: `jvp.push`
Written = tuple[tuple[Node, ...], Tangents]             # the results, from a node written anew, and their tangents


def named(name: str, t: TensorType) -> Node:
    return input_(name=name, shape=t.shape, dtype=t.dtype)


def _inside(body: Graph) -> tuple[list[Node], tuple[Node, ...]]:
    """A body on leaves of its own."""
    inputs = [named(i.attrs["name"], i.tensor) for i in body.inputs]
    return inputs, substitute(body.outputs, dict(zip(body.inputs, inputs)))


def _seed(leaf: Node) -> Node:
    return named(f"d_{leaf.attrs['name']}", leaf.tensor.cotangent)


def _or_zero(t: Tangent, like: Node) -> Node:
    return zeros(like) if t is None else t


def _cond(n: Node, ts: Tangents, push: Push) -> Written:
    """The same choice among the branches' forward modes: a result moves if it does in any of them."""
    moving = [k for k, t in enumerate(ts) if t is not None]             # of the operands, the index among them
    done = []
    for b in branches_of(n.attrs):
        inputs, outs = _inside(b)
        seeds = [_seed(inputs[k - 1]) for k in moving]
        values, slopes = push(outs, {inputs[k - 1]: s for k, s in zip(moving, seeds)})
        done.append((b.name, (*inputs, *seeds), values, slopes))
    count = len(done[0][2])
    late = [k for k in range(count) if any(slopes[k] is not None for _, _, _, slopes in done)]
    graphs = [Graph(inputs, (*values, *(_or_zero(slopes[k], values[k]) for k in late)), name=f"{name}_forward") for name, inputs, values, slopes in done]
    new = cond(*n.inputs, *(t for t in ts if t is not None), **attributes(graphs))
    at = {k: count + j for j, k in enumerate(late)}
    return tuple(get(new, index=k) for k in range(count)), tuple(get(new, index=at[k]) if k in at else None for k in range(count))


def _scan(n: Node, ts: Tangents, push: Push) -> Written:
    """The loop with a tangent beside each value that moves. A carry moves if it starts so or, a step later, has become so."""
    body: Graph = n.attrs["body"]
    carries, xs = n.attrs["carries"], n.attrs["xs"]
    n_ys = len(body.outputs) - carries
    inputs, outs = _inside(body)
    moving = [t is not None for t in ts]
    while True:
        seeds = {k: _seed(i) for k, i in enumerate(inputs) if moving[k]}
        values, slopes = push(outs, {inputs[k]: s for k, s in seeds.items()})
        late = [k for k in range(carries) if slopes[k] is not None and not moving[k]]
        if not late:
            break
        for k in late:
            moving[k] = True
    cs, es, ks = ([k for k in r if moving[k]] for r in (range(carries), range(carries, carries + xs), range(carries + xs, len(ts))))
    ys = [k for k in range(n_ys) if slopes[carries + k] is not None]

    def beside(all_: Sequence[Node], others: Callable[[int], Node]) -> tuple[Node, ...]:
        """Carries, their tangents, slices, theirs, constants, theirs."""
        return (*all_[:carries], *map(others, cs), *all_[carries:carries + xs], *map(others, es), *all_[carries + xs:], *map(others, ks))

    forward = Graph(beside(inputs, seeds.__getitem__),
                    (*values[:carries], *(_or_zero(slopes[k], outs[k]) for k in cs), *values[carries:], *(_or_zero(slopes[carries + k], outs[k]) for k in ys)),
                    name=f"{body.name}_forward")
    operands = beside(n.inputs, lambda k: _or_zero(ts[k], n.inputs[k]))
    new = scan(*operands, **{**n.attrs, "body": forward, "carries": carries + len(cs), "xs": xs + len(es)})
    # its results: carries, their tangents, ys, theirs, histories, theirs
    first, second = carries + len(cs), carries + len(cs) + n_ys + len(ys)
    old = (*range(carries), *range(first, first + n_ys), *range(second, second + carries))
    at = {k: carries + j for j, k in enumerate(cs)}
    at |= {carries + k: first + n_ys + j for j, k in enumerate(ys)}
    at |= {carries + n_ys + k: second + carries + j for j, k in enumerate(cs)}
    return tuple(get(new, index=k) for k in old), tuple(get(new, index=at[k]) if k in at else None for k in range(len(old)))


def _while(n: Node, ts: Tangents, push: Push) -> Written:
    """The loop with tangents beside the carries that move; they have no say in how long it goes on."""
    body, test, carries = n.attrs["body"], n.attrs["cond"], n.attrs["carries"]
    inputs, outs = _inside(body)
    moving = [t is not None for t in ts]
    while True:
        seeds = {k: _seed(i) for k, i in enumerate(inputs) if moving[k]}
        values, slopes = push(outs, {inputs[k]: s for k, s in seeds.items()})
        late = [k for k in range(carries) if slopes[k] is not None and not moving[k]]
        if not late:
            break
        for k in late:
            moving[k] = True
    cs, ks = ([k for k in r if moving[k]] for r in (range(carries), range(carries, len(ts))))

    def beside(all_: Sequence[Node], others: Callable[[int], Node]) -> tuple[Node, ...]:
        """Carries, their tangents, constants, theirs."""
        return (*all_[:carries], *map(others, cs), *all_[carries:], *map(others, ks))

    leaves = beside(inputs, seeds.__getitem__)
    forward = Graph(leaves, (*values, *(_or_zero(slopes[k], outs[k]) for k in cs)), name=f"{body.name}_forward")
    question = Graph(leaves, substitute(test.outputs, dict(zip(test.inputs, inputs))), name=test.name)
    both = carries + len(cs)
    new = while_(*beside(n.inputs, lambda k: _or_zero(ts[k], n.inputs[k])), **{**n.attrs, "cond": question, "body": forward, "carries": both})
    # its results: carries, their tangents, with max_steps the histories of both, the count
    kept = n.attrs.get("max_steps") is not None
    old = (*range(carries), *(range(both, both + carries) if kept else ()), 2 * both if kept else both)
    at = {k: carries + j for j, k in enumerate(cs)}
    if kept:
        at |= {carries + k: both + carries + j for j, k in enumerate(cs)}
    return tuple(get(new, index=k) for k in old), tuple(get(new, index=at[k]) if k in at else None for k in range(len(old)))


BODIES: dict[object, Callable[[Node, Tangents, Push], Written]] = {scan: _scan, cond: _cond, while_: _while}
