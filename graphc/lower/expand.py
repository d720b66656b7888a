"""What is one node for its derivative's sake, spelt out before kernels are made: a solution becomes a factorization and two triangular solutions.

Every solution with one matrix, a cotangent's too, shares the factorization. Batches of several axes become one axis.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..core.dims import product
from ..core.dtype import i64
from ..core.types import TensorType, TupleType
from ..ir.node import Graph, Info, Node, Recorder, recording
from ..ir.op import Op
from ..ir.walk import all_nodes, topo
from ..ops import determinant, linalg, spectral
from ..ops.elementwise import abs_, cast, eq, le, log, lt, sign, where
from ..ops.index import take_along
from ..ops.leaf import splat
from ..ops.matrix import each_column, each_row, identity, matmul, transpose
from ..ops.movement import broadcast, reshape, slice_
from ..ops.reduce import argmax, reduce_max, reduce_sum
from ..ops.spectral import LINALG
from ..ops.tuples import get

Results = tuple[Node, ...]
VALUES: dict[Op, tuple[int, Op]] = {spectral.eigh: (0, spectral.eigvalsh), spectral.svd: (1, spectral.svdvals)}
TURNED = 16                                             # rows, from which on it pays to turn a matrix before it is rotated


def expand(graph: Graph) -> Graph:
    """The graph in ops that have kernels, loop bodies too. The same object where nothing changes."""
    if not any(n.op.name in LINALG for n in all_nodes(graph)):
        return graph
    rec = Recorder(dict(graph.info))
    with recording(rec):
        out = _expand(graph, rec)
    return graph if out is graph else graph.with_roots(out.roots, rec.info)


def _expand(graph: Graph, rec: Recorder) -> Graph:
    order = topo((*graph.leaves, *graph.roots))
    if not any(n.op.name in LINALG or any(isinstance(v, Graph) for v in n.attrs.values()) for n in order):
        return graph
    done: dict[Node, Node] = {leaf: leaf for leaf in graph.leaves}
    parts: dict[Node, Results] = {}
    factors, whole = _Factors(), _with_vectors(order)

    def visit(n: Node) -> None:
        here = rec.info.get(n, graph.where(n))
        inputs = tuple(done.get(i, i) for i in n.inputs)
        if n.op is determinant.cofactors:               # a choice, in whose branches there is more to spell out
            rec.here = here
            out = determinant.cofactors_of(inputs[0])
            done[inputs[0]] = inputs[0]
            each_of(topo((out,), stop=inputs))
            done[n] = done[out]
        elif n.op.name in LINALG:
            rec.here = Info(here.locs, frozenset(), here.scopes, here.phases)
            if n.op in VALUES and (n.op, n.inputs[0]) not in whole:
                return                                  # of which only the values will be asked for
            both = next((op for op, (_, alone) in VALUES.items() if n.op is alone and (op, n.inputs[0]) in whole), None)
            if both is not None:
                done[n] = EXPANDED[both.name](factors, *inputs)[VALUES[both][0]]
                return
            results = EXPANDED[n.op.name](factors, *inputs, **n.attrs) if n.op.name in EXPANDED else flat(n.op, inputs, n.attrs)
            if isinstance(n.type, TupleType):
                parts[n] = results
                return
            done[n] = results[0]
        elif n.op is get and n.inputs[0].op in VALUES and n.inputs[0] not in parts:
            rec.here = here
            (done[n],) = _alone(VALUES[n.inputs[0].op][1], factors, done.get(n.inputs[0].inputs[0], n.inputs[0].inputs[0]))
        elif n.op is get and n.inputs[0] in parts:
            done[n] = parts[n.inputs[0]][n.attrs["index"]]
        else:
            rec.here = here
            inner = {k: _expand(v, rec) for k, v in n.attrs.items() if isinstance(v, Graph)}
            rec.here = here
            changed = any(n.attrs[k] is not v for k, v in inner.items())
            done[n] = Node(n.op, inputs, {**n.attrs, **inner} if changed else n.attrs, n.type) if changed or inputs != n.inputs else n
            return
        rec.info[done[n]] = rec.info.get(done[n], here) | here

    def each_of(nodes: Sequence[Node]) -> None:
        for n in nodes:
            if n not in done and n not in parts:
                visit(n)

    each_of(order)
    roots = tuple(done[r] for r in graph.roots)
    return graph if roots == graph.roots else graph.with_roots(roots)


def _with_vectors(order: Sequence[Node]) -> set[tuple[Op, Node]]:
    """The decompositions, and the matrices, of which somebody reads more than the values."""
    read = {(of.op, of.inputs[0]) for n in order if n.op is get and (of := n.inputs[0]).op in VALUES and n.attrs["index"] != VALUES[of.op][0]}
    return read | {(spectral.svd, n.inputs[0]) for n in order if n.op is spectral.pinv}


def flat(op: Op, inputs: Results, attrs: Mapping[str, Any]) -> Results:
    """The results of an op whose kernels know one batch axis at most."""
    lead = inputs[0].tensor.shape[:-2]
    several = len(lead) > 1
    if several:
        inputs = tuple(reshape(i, shape=(product(lead), *i.tensor.shape[len(lead):])) for i in inputs)
    y = op(*inputs, **attrs)
    out = tuple(get(y, index=k) for k in range(len(y.type.items))) if isinstance(y.type, TupleType) else (y,)
    return tuple(reshape(o, shape=(*lead, *o.tensor.shape[1:])) for o in out) if several else out


# ---- systems ---------------------------------------------------------------------------------------------------------------------------


class _Factors:
    """The factorization of each matrix that something is solved with, and its singular values."""

    def __init__(self) -> None:
        self.known: dict[Node, tuple[Node, Node, Node]] = {}
        self.spectra: dict[Node, Results] = {}
        self.eigen: dict[Node, Results] = {}

    def of(self, a: Node) -> tuple[Node, Node, Node]:
        """L and U in one, the order of the rows, and for each matrix whether it is singular."""
        if a not in self.known:
            f, perm = flat(linalg.lu, (a,), {})
            self.known[a] = f, perm, linalg.diagonal_is_zero(f)
        return self.known[a]


def _solve(factors: _Factors, a: Node, b: Node, *, transposed: bool) -> Results:
    """P a = L U, so a x = b is L U x = P b, and aᵀ x = b is Uᵀ Lᵀ (P x) = b."""
    f, perm, singular = factors.of(a)

    def triangular(x: Node, lower: bool) -> Node:
        return flat(linalg.triangular_solve, (f, x), {"lower": lower, "transposed": transposed, "unit": lower})[0]

    if transposed:
        x = linalg.rows_taken(triangular(triangular(b, False), True), linalg.inverse(perm))
    else:
        x = triangular(triangular(linalg.rows_taken(b, perm), True), False)
    t: TensorType = x.tensor
    return (where(broadcast(singular, shape=t.shape, axes=(t.rank - 2, t.rank - 1)), splat(float("nan"), x), x),)


def _lu(factors: _Factors, a: Node) -> Results:
    return factors.of(a)[:2]


def _pivots(f: Node) -> Node:
    """The diagonal of matrices of static size: every n + 1st place of what is flat."""
    *lead, n, _ = f.tensor.shape
    flat = reshape(f, shape=(*lead, n * n))
    return slice_(flat, starts=(0,) * (len(lead) + 1), stops=flat.tensor.shape, steps=(*(1 for _ in lead), n + 1))


def _det(factors: _Factors, a: Node) -> Results:
    f, perm, _ = factors.of(a)
    return (determinant.signed_product(_pivots(f), perm),)


def _slogdet(factors: _Factors, a: Node) -> Results:
    f, perm, _ = factors.of(a)
    pivots = _pivots(f)
    return determinant.signed_product(sign(pivots), perm), reduce_sum(log(abs_(pivots)), axes=(pivots.tensor.rank - 1,))


# ---- factors of matrices that are not square -------------------------------------------------------------------------------------------


def _qr(_: _Factors, x: Node, *, full: bool) -> Results:
    """Of no columns Q is the identity, and there is nothing to compute."""
    out = spectral.qr.infer(x.type, full=full)
    assert isinstance(out, TupleType)
    q, r = (t for t in out.items if isinstance(t, TensorType))
    return (identity(q), splat(0.0, r)) if 0 in x.tensor.shape else flat(spectral.qr, (x,), {"full": full})


def _eigh(factors: _Factors, x: Node) -> Results:
    if x not in factors.eigen:
        factors.eigen[x] = flat(spectral.eigh, (x,), {})
    return factors.eigen[x]


def _alone(op: Op, factors: _Factors, x: Node) -> Results:
    return _svdvals(factors, x) if op is spectral.svdvals else flat(op, (x,), {})


def _svdvals(factors: _Factors, x: Node) -> Results:
    """Of a wide matrix those of its transpose, of a tall one those of R."""
    m, n = (k.__index__() for k in x.tensor.shape[-2:])
    if m < n:
        x, m, n = transpose(x), n, m
    return flat(spectral.svdvals, (_qr(factors, x, full=False)[1] if n < m else x,), {})


def _svd(factors: _Factors, x: Node) -> Results:
    if x not in factors.spectra:
        factors.spectra[x] = _spectrum(factors, x)
    return factors.spectra[x]


def _spectrum(factors: _Factors, x: Node) -> Results:
    """Of a square matrix; a tall one is Q times one, a wide one the transpose of a tall one."""
    m, n = (k.__index__() for k in x.tensor.shape[-2:])
    if 0 in x.tensor.shape:
        return flat(spectral.svd, (x,), {})
    if m < n:
        u, s, vt = _tall(factors, transpose(x))
        return _signed(transpose(vt), s, transpose(u))
    return _square(x) if m == n else _tall(factors, x)


def _square(x: Node) -> Results:
    """A larger matrix is turned by the eigenvectors of xᵀ x first, which leaves few rotations, and those restore what the product has lost."""
    if x.tensor.shape[-1].__index__() <= TURNED:
        return flat(spectral.svd, (x,), {})
    t = x.tensor
    axes = (t.rank - 2, t.rank - 1)
    largest = reduce_max(abs_(x), axes=axes)
    scale = where(eq(largest, splat(0.0, largest)), splat(1.0, largest), largest)
    one = x / broadcast(scale, shape=t.shape, axes=axes)
    _, v = flat(spectral.eigh, (matmul(transpose(one), one),), {})
    u, s, vt = flat(spectral.svd, (matmul(one, v),), {})
    return _signed(u, s * broadcast(scale, shape=s.tensor.shape, axes=(s.tensor.rank - 1,)), matmul(vt, transpose(v)))


def _tall(factors: _Factors, x: Node) -> Results:
    q, r = _qr(factors, x, full=False)
    u, s, vt = _square(r)
    return matmul(q, u), s, vt


def _signed(u: Node, s: Node, vt: Node) -> Results:
    """With the signs that `spectral.turned` gives the rows of Vᵀ."""
    t = vt.tensor
    size, last = abs_(vt), t.rank - 1
    large = le(broadcast(reduce_max(size, axes=(last,)), shape=t.shape, axes=(last,)) * spectral.SIGN, size)
    first = argmax(cast(large, dtype=i64), axis=last)
    one = take_along(vt, reshape(first, shape=(*t.shape[:-1], 1)), axis=last)
    sign = where(lt(one, splat(0.0, one)), splat(-1.0, one), splat(1.0, one))
    sign = reshape(sign, shape=t.shape[:-1])
    return u * each_row(sign, u.tensor), s, vt * each_column(sign, t)


def _pinv(factors: _Factors, x: Node, *, rtol: float) -> Results:
    """V diag(1 / s) Uᵀ."""
    u, s, vt = _svd(factors, x)
    if 0 in s.tensor.shape:
        return (splat(0.0, transpose(x)),)
    r = s.tensor.rank
    top = broadcast(reduce_max(s, axes=(r - 1,)), shape=s.tensor.shape, axes=(r - 1,))
    keep = lt(top * rtol, s)
    inverse = where(keep, splat(1.0, s) / where(keep, s, splat(1.0, s)), s * 0.0)
    v = transpose(vt)
    return (matmul(v * each_row(inverse, v.tensor), transpose(u)),)


EXPANDED: dict[str, Callable[..., Results]] = {"lu": _lu, "solve": _solve, "det": _det, "slogdet": _slogdet, "eigh": _eigh, "svdvals": _svdvals,
                                            "qr": _qr, "svd": _svd, "pinv": _pinv}
