"""Rematerialisation: values of the forward pass that are computed again in the backward pass, so that they need no memory between.

It is done where `memory_limit=` is exceeded, on the optimised graph, and here because only lowering knows which nodes are memory (`fuse.stored_nodes`):
what is not stored is computed again wherever it is read anyhow. The saved nodes (stored, forward, read by the backward pass) are cut into segments of
equal bytes in the order of the program. What a segment is computed again from is a minimal cut between what is there (arguments, states, earlier
segments) and its saved nodes, each node's capacity its bytes; the cut is kept, the rest is cloned behind a `barrier` that waits for the
first cotangent which the segment's backward pass needs. The last segment is needed at once, and left alone. Chen et al. 2016 for the segments, PyTorch's
AOTAutograd for the cut; the plan of each candidate is made in full, so the bytes are known and not guessed.

Cheap nodes first, contractions only where that is not enough. Loops, branches and what checks an index are never run twice. Clones are the same ops on
the same operands, in memory where the originals are, so their bits are the same; a sum over rows may be cut into other blocks where other kernels share them.
"""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Mapping, Sequence

from ..core.record import dataclass
from ..core.types import TensorType
from ..ir.node import NOWHERE, Graph, Info, Node, Recorder, recording
from ..ir.walk import topo
from ..ops.call import barrier
from .fuse import BODIES, CLOSED_HEADS, LEAVES, Reads, is_alias, is_head, reads_of, stored_nodes

SEGMENTS = (2, 4, 6, 9, 13, 20, 30)
NEVER = BODIES | {"check_index", "token"}
DEAR = frozenset({"contract", "fold"}) | (CLOSED_HEADS - {"check_index"})


@dataclass(frozen=True, slots=True, eq=False)
class Again:
    """A graph that computes some values twice."""

    graph: Graph
    kinds: tuple[tuple[str, int], ...]                  # ops that are run again, and how many of each
    flops: int                                          # that these take


def candidates(graph: Graph) -> Generator[Again, int | None, None]:
    """The graph with more and more of its forward pass computed again; none where it has no backward pass. Is sent the bytes that each came to: where
    smaller segments do not help any more, the next kind is tried."""
    if any(not n.tensor.is_static for n in graph.leaves):
        return
    found = _Forward.of(graph)
    for dear in (False, True):
        seen: set[frozenset[Node]] = set()
        least, worse = 1 << 62, 0
        for k in SEGMENTS:
            if k > len(found.saved):
                break
            plan = found.segments(k, dear)
            again = frozenset(n for s in plan for n in s)
            if not again or again in seen:
                continue
            seen.add(again)
            made = found.rewritten(plan)
            if made is None:
                continue
            nbytes = yield made
            if nbytes is None:                          # somebody looks at all of them
                continue
            worse = 0 if nbytes < 0.99 * least else worse + 1
            least = min(least, nbytes)
            if worse == 2:
                break


@dataclass(frozen=True, slots=True, eq=False)
class _Forward:
    """A graph seen as what comes before its backward pass, and that."""

    graph: Graph
    order: Sequence[Node]
    late: set[Node]                                     # the backward pass, and what depends on it
    stored: set[Node]
    reads: Mapping[Node, Reads]
    saved: Sequence[Node]                               # stored forward nodes that the backward pass reads, in order

    @staticmethod
    def of(graph: Graph) -> _Forward:
        order = topo(graph.roots)
        late: set[Node] = set()
        for n in order:
            phases = graph.where(n).phases
            if ("backward" in phases and "forward" not in phases and n.inputs) or any([i in late for i in n.inputs]):
                late.add(n)
        stored = stored_nodes(graph.roots, order)
        reads = {n: reads_of(n, stored) for n in order if n in stored}
        wanted = {x for n in reads if n in late for x in (*reads[n].here, *reads[n].elsewhere)} & stored
        roots = set(graph.roots)
        saved = [n for n in order if n in wanted and n not in late and n not in roots and isinstance(n.type, TensorType) and n.op.name not in NEVER]
        return _Forward(graph, order, late, stored, reads, saved)

    def again(self, n: Node, dear: bool) -> bool:
        """May n be computed again?"""
        return n in self.stored and n not in self.late and isinstance(n.type, TensorType) and n.op.pure and n.op.name not in NEVER and (
            dear or n.op.name not in DEAR)

    # ---- which -----------------------------------------------------------------------------------------------------------------------

    def segments(self, count: int, dear: bool) -> list[set[Node]]:
        """The nodes that are computed again, segment by segment."""
        total, at, sizes = sum(map(_bytes, self.saved)), 0, []
        for n in self.saved:
            sizes.append(min(count - 1, at * count // max(total, 1)))
            at += _bytes(n)
        kept: set[Node] = set()
        found: list[set[Node]] = []
        for k in range(count - 1):                      # not the last
            want = [n for n, s in zip(self.saved, sizes) if s == k]
            cut, again = self.cut(want, kept, set(self.saved) - set(want), dear)
            kept |= cut
            found.append(again)
        return [again - kept for again in found]

    def cut(self, want: Sequence[Node], kept: set[Node], others: set[Node], dear: bool) -> tuple[set[Node], set[Node]]:
        """The cheapest nodes to keep so that all of `want` can be computed from them, and what is then computed again."""
        import networkx as nx

        g = nx.DiGraph()
        g.add_node("given")
        g.add_node("wanted")
        free = set(self.graph.roots) | kept
        stack, seen = list(want), set(want)
        for n in want:
            g.add_edge((n, "out"), "wanted")            # no capacity: infinite
        while stack:
            n = stack.pop()
            g.add_edge((n, "in"), (n, "out"), capacity=0 if n in free or n not in self.stored else _bytes(n))
            if n in others or n in free or not self.again(n, dear):
                g.add_edge("given", (n, "in"))
                continue
            below = [x for x in (*self.reads[n].here, *self.reads[n].elsewhere)]
            if not below:
                g.add_node((n, "in"))
            for x in below:
                g.add_edge((x, "out"), (n, "in"))
                if x not in seen:
                    seen.add(x)
                    stack.append(x)
        _, (reachable, rest) = nx.minimum_cut(g, "given", "wanted")
        cut = {n for n in seen if (n, "in") in reachable and (n, "out") in rest and n in self.stored}
        again: set[Node] = set()
        stack = [n for n in want if n not in cut]
        while stack:
            n = stack.pop()
            if n in again or n in cut or n in free or not self.again(n, dear):
                continue
            again.add(n)
            stack += [*self.reads[n].here, *self.reads[n].elsewhere]
        return cut, again

    # ---- how -------------------------------------------------------------------------------------------------------------------------

    def rewritten(self, plan: Sequence[set[Node]]) -> Again | None:
        """The graph in which the backward pass reads clones of these; None where no cotangent stands in front of a segment."""
        plan = list(plan)
        touched = self.touched(plan)
        waits: dict[int, tuple[Node, ...]] = {}
        for k, segment in enumerate(plan):
            if segment:
                waits[k] = self.first_cotangents(k, touched)
                if not waits[k]:                        # needed before there is any: it stays
                    plan[k] = set()
        touched = self.touched(plan)
        order = self.sorted(touched, waits)
        return None if order is None or not any(plan) else _Writer(self, plan, waits).run(order)

    def touched(self, plan: Sequence[set[Node]]) -> dict[Node, frozenset[int]]:
        """For each forward node, the segments that whoever reads it in place computes again."""
        of = {n: k for k, segment in enumerate(plan) for n in segment}
        out: dict[Node, frozenset[int]] = {}
        none: frozenset[int] = frozenset()
        for n in self.order:
            if n in self.late:
                continue
            out[n] = frozenset({of[n]}) if n in of else none if n in self.stored or not n.inputs else none.union(*(out[i] for i in n.inputs))
        return out

    def first_cotangents(self, k: int, touched: Mapping[Node, frozenset[int]]) -> tuple[Node, ...]:
        """What of the backward pass the first reader of segment k needs beside it, and does not itself depend on it."""
        tainted: set[Node] = set()
        for n in self.order:
            if n not in self.late:
                continue
            if any([i in tainted if i in self.late else k in touched[i] for i in n.inputs]):
                tainted.add(n)
                ready = tuple(i for i in n.inputs if i in self.late and i not in tainted and isinstance(i.type, TensorType) and i.op.name not in LEAVES)
                if ready:
                    return ready
        return ()

    def sorted(self, touched: Mapping[Node, frozenset[int]], waits: Mapping[int, tuple[Node, ...]]) -> list[Node] | None:
        """The nodes, each behind what it reads and what the clones that it reads wait for; None where that goes in a circle."""
        def needs(n: Node) -> list[Node]:
            if n not in self.late:
                return list(n.inputs)
            return [*n.inputs, *(w for i in n.inputs if i not in self.late for k in sorted(touched[i]) for w in waits.get(k, ()))]

        done: dict[Node, None] = {}
        busy: set[Node] = set()
        for root in self.order:
            stack = [(root, iter(needs(root)))] if root not in done else []
            busy.update(n for n, _ in stack)
            while stack:
                n, rest = stack[-1]
                for i in rest:
                    if i in busy:
                        return None
                    if i not in done:
                        busy.add(i)
                        stack.append((i, iter(needs(i))))
                        break
                else:
                    done[n] = None
                    busy.discard(n)
                    stack.pop()
        return list(done)


class _Writer:
    """Writes the graph anew. A forward node has one form for each segment that computes it again (in `clones`), and one for late readers that compute
    it in place (in `early`)."""

    def __init__(self, forward: _Forward, plan: Sequence[set[Node]], waits: Mapping[int, tuple[Node, ...]]) -> None:
        self.forward, self.plan, self.waits = forward, plan, waits
        self.of = {n: k for k, segment in enumerate(plan) for n in segment}
        self.clones: list[dict[Node, Node]] = [{} for _ in plan]
        self.early: dict[Node, Node] = {}
        self.done: dict[Node, Node] = {}
        self.recorder = Recorder(dict(forward.graph.info))

    def run(self, order: Sequence[Node]) -> Again:
        f, done, info = self.forward, self.done, self.recorder.info
        with recording(self.recorder):
            for n in order:
                if n not in f.late:
                    done[n] = n
                    continue
                inputs = tuple([done[i] if i in f.late else self.read(i) for i in n.inputs])
                self.recorder.here = info.get(n, NOWHERE)
                done[n] = n if inputs == n.inputs else Node(n.op, inputs, n.attrs, n.type)
        twice = [n for k, made in enumerate(self.clones) for n in made if n in self.plan[k]]
        kinds = tuple(sorted(Counter(n.op.name for n in twice).items()))
        return Again(f.graph.with_roots(tuple(done[r] for r in f.graph.roots), info), kinds, sum(map(_flops, twice)))

    def read(self, top: Node) -> Node:
        """What a late node reads in the place of a forward one. An explicit stack: chains are long."""
        stack: list[tuple[Node, int | None]] = [(top, None)]
        while stack:
            n, k = stack[-1]
            to = self.of.get(n)
            if self.made(k).get(n) is not None:
                stack.pop()
            elif k is None and to is not None:          # stored, and computed again: its segment has it
                if n in self.clones[to]:
                    self.early[n] = self.clones[to][n]
                else:
                    stack.append((n, to))
            elif not n.inputs or (n in self.forward.stored and (k is None or n not in self.plan[k])) or self.is_there(n):
                self.made(k)[n] = n if k is None else self.kept(n, k)
            elif missing := [(i, k) for i in n.inputs if i not in self.made(k)]:
                stack += reversed(missing)
            else:
                inputs = tuple([self.made(k)[i] for i in n.inputs])
                self.place(n)
                new = n if inputs == n.inputs else Node(n.op, inputs, n.attrs, n.type)
                if k is not None and n in self.plan[k] and not is_head(n):
                    new = barrier(new)                  # in memory, as n was: a product that is rounded there is not fused into a sum
                self.made(k)[n] = new
        return self.early[top]

    def made(self, k: int | None) -> dict[Node, Node]:
        return self.early if k is None else self.clones[k]

    def kept(self, n: Node, k: int) -> Node:
        """What a segment is computed from: there already, but not before the cotangent that it waits for."""
        if n.op.name in LEAVES and n.op.name != "input":
            return n
        self.place(n)
        return barrier(n, *(self.done[w] for w in self.waits[k]))

    def is_there(self, n: Node) -> bool:
        """Is n another name of memory that is kept?"""
        if not is_alias(n):
            return False
        while is_alias(n):
            n = n.inputs[0]
        return n not in self.of

    def place(self, n: Node) -> None:
        """What is made next stands for n, in the backward pass."""
        here = self.recorder.info.get(n, NOWHERE)
        self.recorder.here = Info(here.locs, here.names, here.scopes, frozenset({"backward"}))


def _bytes(n: Node) -> int:
    t = n.type
    return math.prod(t.static_shape) * t.dtype.itemsize if isinstance(t, TensorType) else 1 << 40


def _flops(n: Node) -> int:
    """Of computing a stored node: two for each product of a contraction, one for each element of anything else."""
    size = math.prod(n.tensor.static_shape)
    if n.op.name != "contract":
        return max([size, *(math.prod(i.tensor.static_shape) for i in n.inputs if isinstance(i.type, TensorType))])
    a = n.inputs[0].tensor.static_shape
    return 2 * size * int(math.prod([a[k] for k in n.attrs["contracting"][0]]))
