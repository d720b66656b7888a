"""Random programs: every op of the registry, all dtypes, awkward sizes, loops in branches in loops, and derivatives of them to second order.

`random_graph` is small, of one dtype and differentiable: what tests of passes want. This is what hunts want.
"""
from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.types import TensorType
from ..ir.node import Graph, Node, State
from ..ir.walk import all_nodes
from ..ops.elementwise import cast, sin
from ..ops.leaf import splat
from ..ops.reduce import reduce_sum
from ..transform.grad import vjp
from . import makers  # noqa: F401  (fills the table of makers)
from .draw import UNDRAWN, Draw, draw_array

Array = np.ndarray[Any, Any]
SIZES = (0, 1, 1, 2, 2, 3, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33)           # vectors hold 4, 8 or 16: their neighbours too
LARGE = ((65537,), (3, 21847), (257, 256), (65536, 1))                 # past 2**16 elements


def random_program(seed: int, n: int | None = None, *, smooth: bool = False, order: int = 0, every: int = 64) -> Graph:
    """A graph of n draws (2 to 24 if not given: 3 to 60 nodes, and those in bodies) on inputs and a state, the same for the same seed.

    smooth: differentiable almost everywhere, of floating inputs that stay away from singularities. order: the derivative of that order of a scalar made
    of the outputs, by all floating leaves, stands beside them. One of `every` programs has tensors of more than 2**16 elements.

    >>> graph = random_program(7)
    >>> check_against_oracle(graph, *random_arguments(graph, seed=7))
    """
    rng = random.Random(f"{seed}/{smooth}")
    many = n if n is not None else rng.choice((2, 3, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24))
    large = rng.randrange(every) == 0 and not smooth and not order
    d = Draw(rng, tuple(rng.sample(SIZES, rng.randint(2, 4))) if not smooth else tuple(rng.sample((1, 2, 3, 4, 5), 3)), smooth)
    for _ in range(rng.randint(2, 4)):
        d.leaf(TensorType(d.shape(), d.dtype()))
    if large:
        d.leaf(TensorType(rng.choice(LARGE), d.dtype()))
        many = min(many, 10)
    for _ in range(many):
        d.step()
    outputs = tuple(dict.fromkeys(d.pool[-rng.randint(1, 4):]))
    if smooth:
        outputs = tuple(dict.fromkeys((*outputs, next(x for x in reversed(d.pool) if x.tensor.dtype.is_float))))
    leaves = list(d.leaves or ())
    w = rng.choice(leaves)
    states = () if rng.random() < 0.5 else (State("w", w, d.of(w.tensor)),)
    leaves = list(d.leaves or ())
    if order:
        outputs += _slopes((*outputs, *(s.write for s in states)), [x for x in leaves if x.tensor.dtype.is_float], order)
    return Graph(tuple(x for x in leaves if not states or x is not w), outputs, states, name=f"program_{seed}")


def drawn_ops(graph: Graph) -> set[str]:
    """The names of all ops in a graph and in the graphs inside it."""
    return {n.op.name for n in all_nodes(graph)} - set(UNDRAWN)


def _slopes(roots: Sequence[Node], wrt: list[Node], order: int) -> tuple[Node, ...]:
    """The derivatives of that order of the sum of sines of everything floating, by everything floating."""
    found: tuple[Node, ...] = tuple(roots)
    for _ in range(order):
        floats = [r for r in found if r.tensor.dtype.is_float and r.tensor.size]
        if not floats or not wrt:
            return ()
        dtype = floats[0].tensor.dtype
        parts = [cast(reduce_sum(sin(r), axes=tuple(range(r.tensor.rank))), dtype=dtype) for r in floats]
        total = parts[0]
        for p in parts[1:]:
            total = total + p
        found = vjp([total], [splat(1.0, total)], wrt)
    return found


def random_arguments(graph: Graph, seed: int = 0, nasty: float | None = None) -> tuple[list[Array], list[Array]]:
    """Arrays for the inputs and for the states. A leaf's values depend on its name, its type and the seed, so they stay when others go away.

    nasty: the share of infinities, NaN, extremes and denormals; if not given none in two of three arguments, and a tenth in the others.
    """
    def drawn(x: Node) -> Array:
        rng = np.random.default_rng(zlib.crc32(f"{x.attrs['name']} {x.type} {seed}".encode()))
        share = rng.choice((0.0, 0.0, 0.1)) if nasty is None else nasty
        return draw_array(x.tensor, rng, float(share))

    return [drawn(x) for x in graph.inputs], [drawn(s.read) for s in graph.states]


def laid_out(a: Array, how: int) -> Array:
    """The same values lying otherwise: backwards in memory, every other element, or at an odd address."""
    if a.ndim == 0 or how % 4 == 0:
        return a
    if how % 4 == 1:
        backwards: Array = np.ascontiguousarray(np.flip(a))[(slice(None, None, -1),) * a.ndim]
        return backwards
    if how % 4 == 2:
        wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
        wide[..., ::2] = a
        return np.asarray(wide[..., ::2])
    room = np.zeros(a.nbytes + 1, np.uint8)
    odd: Array = room[1:].view(a.dtype).reshape(a.shape)
    odd[...] = a
    return odd
