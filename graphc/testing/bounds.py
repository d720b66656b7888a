"""How far a right evaluator may be from the oracle: the oracle again, with every intermediate value that is rounded moved by a few ulp, several times.

What moves between the runs is not decided by the program: an evaluator that rounds otherwise may move it as far. The spread, times a factor, is the room
of each element; an integer or a bool that changes at all (a comparison at a tie, the place of the largest) is open. What is exact (movement, integers,
minimum and maximum, selection) is not moved, so that a value and its copy stay equal.

The idea is that of stochastic arithmetic: Vignes, "A stochastic arithmetic for reliable scientific computation", 1993.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import half
from ..core.dtype import BFLOAT16
from ..core.record import dataclass
from ..interp.numpy import evaluate_graph
from ..ir.node import Graph, Node
from ..ir.walk import topo

Array = np.ndarray[Any, Any]
ULPS, TRIALS, FACTOR = 16, 6, 4.0
EXACT = {"neg", "abs", "sign", "floor", "ceil", "round", "maximum", "minimum", "where", "stop_gradient", "reduce_max", "reduce_min", "const", "iota", "size",
         "take", "take_along", "scatter_set", "scatter_max", "scatter_min", "put_along_set", "put_along_max", "put_along_min", "topk", "bitcast", "barrier",
         "check_index", "random_bits", "input", "get", "not", "and", "or", "xor"}
SUMS = {"reduce_sum", "contract", "cumsum", "fold", "scatter_add", "put_along_add"}     # errors are relative to the sum of the sizes
LOOPS = {"scan", "while", "cond", "custom_vjp", "custom_jvp", "remat"}                  # their bodies are moved, not they


@dataclass(frozen=True, slots=True)
class Bound:
    """An element may be anything between `low - room` and `high + room`; where `open`, anything."""

    value: Array
    room: Array
    open: Array


def propagated(graph: Graph, inputs: Sequence[Array], states: Sequence[Array] = (), *, trials: int = TRIALS, ulps: float = ULPS) -> list[Bound]:
    """For each root of the graph the oracle's value, in the graph's own dtypes, and how far from it is near enough."""
    env = dict(zip(graph.leaves, map(np.asarray, (*inputs, *states)), strict=True))
    runs = [Moved(0.0, 0).run(graph.roots, env)]
    runs += [Moved(ulps if t % 2 else -ulps, 1 + t // 2).run(graph.roots, env) for t in range(trials)]      # by pairs, the one opposite to the other
    return [_spread([np.asarray(half.plain(v)) for v in values]) for values in zip(*runs)]


def _spread(values: list[Array]) -> Bound:
    first, *others = values
    if first.dtype.kind != "f":
        moved = np.zeros(first.shape, bool)
        for v in others:
            moved |= v != first
        return Bound(first, np.zeros(first.shape), moved)
    with np.errstate(all="ignore"):
        room, free = np.zeros(first.shape, np.float64), np.zeros(first.shape, bool)
        for v in others:
            gap = np.abs(v.astype(np.float64) - first.astype(np.float64))
            odd = ~np.isfinite(v) | ~np.isfinite(first)
            free |= odd & ~((v == first) | (np.isnan(v) & np.isnan(first)))
            room = np.maximum(room, np.where(odd, 0.0, gap))
    return Bound(first, FACTOR * room, free)


def outside(bound: Bound, got: Array) -> Array:
    """Which elements of another evaluator's result are further away than that."""
    a, b = bound.value, np.asarray(half.plain(got))
    if a.dtype.kind != "f":
        return np.asarray((a != b) & ~bound.open)
    with np.errstate(all="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        near = np.isfinite(a) & np.isfinite(b) & (np.abs(a.astype(np.float64) - b.astype(np.float64)) <= bound.room)
    return np.asarray(~(same | near | bound.open))


class Moved:
    """The oracle, with what is rounded moved by up to `ulps` units in the last place, at random but the same for the same seed; -ulps: the other way, so that
    a value at an edge (a floor of exactly 1) is on either side of it in one of the two."""

    def __init__(self, ulps: float, seed: int) -> None:
        self.ulps, self.seed, self.rng = ulps, seed, np.random.default_rng(seed)

    def run(self, roots: Sequence[Node], env: dict[Node, Any]) -> list[Any]:
        values = dict(env)
        with np.errstate(all="ignore"):
            for n in topo(roots, stop=values):
                if n not in values:
                    values[n] = self.apply(n, [values[i] for i in n.inputs])
        return [values[r] for r in roots]

    def body(self, graph: Graph, inputs: Sequence[Any]) -> list[Any]:
        return self.run(graph.outputs, dict(zip(graph.inputs, inputs, strict=True)))

    def apply(self, n: Node, arrays: list[Any]) -> Any:
        extra = {"evaluate": self.body if self.ulps else evaluate_graph} if n.op.engine else {}
        value = n.op.numpy(*arrays, **n.attrs, **extra)
        if n.op.family == "linalg":
            lost = not all(np.isfinite(a).all() for a in map(np.asarray, arrays) if a.dtype.kind == "f")
            least = _bordered(arrays[0]) if n.op.name == "cofactors" else 0.0
            parts = tuple(self.normwise(np.asarray(v), lost, least) for v in (value if isinstance(value, tuple) else (value,)))
            return parts if isinstance(value, tuple) else parts[0]
        if isinstance(value, tuple) or n.op.family == "movement" or n.op.name in EXACT or n.op.name in LOOPS:
            return value
        value = np.asarray(value)
        if not self.ulps:
            return value
        if value.dtype in (np.float16, BFLOAT16):
            return self.halves(value, arrays[0])
        if value.dtype.kind != "f" or (n.op.name == "cast" and arrays[0].dtype.kind in "bui" and arrays[0].dtype.itemsize < value.dtype.itemsize):
            return value
        if n.op.name == "cast" and arrays[0].dtype.kind != "f":
            return value                                # integers round to nearest on every backend; halves are exact
        return (value + self.noise(value.shape) * self.scale(n, value, arrays)).astype(value.dtype)

    def normwise(self, value: Array, lost: bool, least: float | Array = 0.0) -> Array:
        """Algorithms of linear algebra are right up to ulps of the largest element of each matrix; their operands here are well conditioned. How far a NaN or
        an infinity spreads, and which pivots are taken then, is the algorithm's."""
        if not self.ulps or not value.size:
            return value
        if value.dtype.kind != "f":
            return np.full_like(value, -1) if lost else value
        largest = np.maximum(np.max(np.abs(value), axis=tuple(range(max(value.ndim - 2, 0), value.ndim)), keepdims=True), least)
        moved = value + self.noise(value.shape) * (np.where(np.isfinite(largest), largest, 0) * np.finfo(value.dtype).eps * 4)
        if lost:
            return np.asarray(np.full_like(value, np.nan if self.ulps > 0 else 1e30 if self.seed % 2 else -1e30))
        return np.asarray(np.where(np.isfinite(largest), moved, np.nan), value.dtype)

    def noise(self, shape: tuple[int, ...]) -> Array:
        """Up to that many ulps, and half of them at least: what hardly moves would have hardly any room."""
        return np.asarray(self.ulps * self.rng.uniform(0.5, 1.0, shape) * self.rng.choice((-1.0, 1.0), shape))

    def scale(self, n: Node, value: Array, arrays: list[Any]) -> Array:
        """One ulp of each element; of a sum, of the sizes that were added; of a difference of products, of the larger."""
        finfo = np.finfo(value.dtype)
        size = np.abs(value)
        if n.op.name in SUMS:
            sizes = [np.abs(a) if np.asarray(a).dtype.kind == "f" else a for a in arrays]
            size = np.asarray(n.op.numpy(*sizes, **n.attrs))
        elif n.op.name == "mod":
            size = np.maximum(np.abs(arrays[0]), np.abs(arrays[1]))
        ulp = np.asarray(size * (finfo.eps / 2), np.float64)
        return np.where(np.isfinite(ulp), np.maximum(ulp, np.where(size == 0, 0.0, float(finfo.smallest_subnormal))), 0.0)

    def halves(self, value: Array, given: Any) -> Array:
        """Rounding to a half is coarse: what is inexact goes to either neighbour."""
        given = np.asarray(given)
        if given.dtype.kind != "f":
            return value
        bits = half.bits(value).astype(np.int32)
        finite = np.isfinite(half.from_half(value)) & (half.from_half(value) != given)
        step = self.rng.integers(-1, 2, value.shape) * finite * int(np.sign(self.ulps))
        step = np.where((bits & 0x7FFF) == 0, np.maximum(step, 0), step)
        out: Array = (bits + step).astype(np.uint16).view(value.dtype)
        return out


def _bordered(x: Array) -> Array:
    """What the cofactors of a singular matrix are beside: they are made of its inverse within a border, whose condition may cost three digits, or four."""
    largest = np.max(np.abs(x), axis=(-2, -1), keepdims=True, initial=0.0)
    return np.asarray(1e3 * largest ** (x.shape[-1] - 1))
