"""The passes between the traced graph and the lowering, in order. Each is a function Graph → Graph that keeps the meaning; each is named, timed and noted.

With `options.check_passes` (GRAPHC_CHECK=1) every pass is also verified and evaluated: the oracle runs the graph before and after it on random inputs,
in f64, and a difference is an error that names the pass.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import half
from ..core.errors import GraphError, GraphIndexError
from ..core.options import Options
from ..core.record import dataclass
from ..core.types import TensorType
from ..interp.numpy import run as oracle
from ..ir.host import hosts
from ..ir.journal import Journal
from ..ir.node import Graph
from ..ir.verify import verify
from ..ir.walk import all_nodes
from ..ops.call import inline
from .cse import cse
from .dce import dce
from .fast import fast
from .fold import fold
from .products import products
from .simplify import simplify

TOLERANCE = 1e-9                                        # of a check, in f64, norm-wise: a contraction may have another order


@dataclass(frozen=True, slots=True)
class Pass:
    """A named function from graph to graph."""

    name: str
    run: Callable[[Graph], Graph]
    tolerance: float = TOLERANCE                        # within which a check must find the same, in f64


PASSES: tuple[Pass, ...] = (
    Pass("inline", inline),                             # calls have served, once derivatives are taken
    Pass("cse", cse),                                   # traces repeat themselves: what follows has less to read
    Pass("fold", fold),
    Pass("simplify", simplify),
    Pass("cse again", cse),                             # rules lay bare what is the same
    Pass("dce", dce),
)
FAST = Pass("fast", fast, 1e-4)                         # with options.fast, before the exact rules; another order, of what may cancel
PRODUCTS = Pass("products", products, 1e-4)             # and behind them, when movement has come to rest


def run(graph: Graph, passes: Sequence[Pass] = PASSES, options: Options | None = None, journal: Journal | None = None) -> Graph:
    """The graph after the passes; options.passes, if given, says by name which of them run and in which order."""
    options = options or Options()
    if options.passes is not None:
        passes = choose(options.passes, passes)
    elif options.fast:
        passes = [q for p in passes for q in ((FAST, p, PRODUCTS) if p.name == "simplify" else (p,))]
    for p in passes:
        start = time.perf_counter()
        after = p.run(graph)
        seconds = time.perf_counter() - start
        if journal is not None:
            journal.note(p.name, seconds, graph, after)
        if options.check_passes and after is not graph:
            check(p.name, graph, verify(after), tolerance=p.tolerance)
        graph = after
    return graph


def choose(names: Sequence[str], passes: Sequence[Pass] = PASSES) -> list[Pass]:
    """Passes by name."""
    known = {p.name: p for p in (*passes, FAST, PRODUCTS)}
    for name in names:
        if name not in known:
            raise GraphError(f"there is no pass {name!r}", fix=f"the passes are {', '.join(known)}")
    return [known[name] for name in names]


def check(name: str, before: Graph, after: Graph, seed: int = 0, tolerance: float = TOLERANCE) -> None:
    """Raise GraphError unless both graphs give the same on random inputs."""
    if any(n.op.name == "while" and n.attrs.get("max_steps") is None for n in all_nodes(before)):
        return                                          # on random inputs such a loop may have no end
    if hosts(before):
        return                                          # functions of Python's are the user's to call
    try:
        arrays = random_inputs(before, seed)
        n = len(before.inputs)
        a, b = (oracle(g, arrays[:n], arrays[n:], double=True) for g in (before, after))
    except GraphIndexError:
        return                                          # a graph whose indices we cannot guess is not evaluated
    labels = [f"output {k}" for k in range(len(a.outputs))] + [f"state {s.name!r}" for s in before.states]
    for label, x, y in zip(labels, (*a.outputs, *a.states), (*b.outputs, *b.states), strict=True):
        if (why := difference(x, y, tolerance)) is not None:
            raise GraphError(f"the pass {name!r} changed the meaning of the graph: {label} {why}", fix="report it, with the graph's text")


def random_inputs(graph: Graph, seed: int = 0, size: int = 3) -> list[np.ndarray[Any, Any]]:
    """An array for each input and state: floats around 0, integers 0 (an index that is always good), symbolic sizes `size`, `size` + 1, ..."""
    rng = np.random.default_rng(seed)
    names = sorted({d for leaf in graph.leaves for d in leaf.tensor.dims})
    sizes = {d: size + k for k, d in enumerate(names)}
    return [random_array(leaf.tensor.bind(sizes), rng) for leaf in graph.leaves]


def random_array(t: TensorType, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    shape = t.static_shape
    if t.dtype.is_inexact:
        return half.astype(np.asarray(rng.standard_normal(shape)), t.dtype)
    return np.asarray(rng.integers(0, 2, shape), np.bool_) if t.dtype.kind == "bool" else np.zeros(shape, t.dtype.numpy)


def difference(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], tolerance: float) -> str | None:
    """How two arrays differ beyond a norm-wise tolerance (‖a − b‖ / ‖a‖ over the finite elements), or None."""
    a, b = np.asarray(half.plain(a)), np.asarray(half.plain(b))
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"is {b.dtype}{list(b.shape)}, was {a.dtype}{list(a.shape)}"
    if a.dtype.kind != "f":
        return None if np.array_equal(a, b) else f"differs in {int(np.sum(a != b))} of {a.size} elements"
    fine = np.isfinite(a)
    with np.errstate(all="ignore"):
        odd = (~fine | ~np.isfinite(b)) & (a != b) & ~(np.isnan(a) & np.isnan(b))
        if odd.any():
            return f"differs in {int(odd.sum())} of {a.size} elements, where one is not finite"
        scale = float(np.max(np.abs(a), where=fine, initial=0.0)) or 1.0
        x, y = np.where(fine, a, 0) / scale, np.where(fine, b, 0) / scale
        error = float(np.linalg.norm(x - y)) / max(float(np.linalg.norm(x)), np.finfo(np.float64).tiny)
    return None if error <= tolerance else f"differs by {error:.2g} of its norm"
