"""Reductions: an axis goes away. A sum's order is the backend's, fixed by shape and dtype; of ties an argmax takes the first."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.dims import product
from ..core.dtype import i64
from ..core.errors import GraphError
from ..core.types import TensorType, Type
from ..ir.node import Node
from ..ir.op import REGISTRY, Op, Vjp, register
from .check import Array, axis_of, computed, distinct_axes, draws, known, several, tensor
from .elementwise import cast, eq, where
from .leaf import splat


def _reduced(name: str, kinds: tuple[str, ...]) -> Callable[..., TensorType]:
    def infer(t: Type, *, axes: tuple[int, ...]) -> TensorType:
        """The shape of x without `axes`."""
        t = tensor(name, t)
        distinct_axes(name, axes, t.rank)
        if computed(name, t).dtype.kind not in kinds:
            raise GraphError(f"{name} is for numbers, got {t}", fix=".astype(...) first")
        return TensorType(tuple(n for a, n in enumerate(t.shape) if a not in axes), t.dtype)
    return infer


def _spread(x: Node, axes: tuple[int, ...], like: Node) -> Node:
    """The inverse of taking `axes` away: repeat along them."""
    return REGISTRY["broadcast"](x, shape=like.tensor.shape, axes=axes)


def _reduce(name: str, numpy: Callable[..., Any], vjp: Vjp, doc: str, kinds: tuple[str, ...] = ("float", "int", "uint")) -> Op:
    examples = several(draws((3, 4), axes=(1,)), draws((3, 4), axes=(0,)), draws((2, 3, 4), axes=(0, 2)), draws((5,), axes=(0,)), draws((3, 4), axes=()),
                       draws((3, 0), axes=(1,)))
    return register(Op(name, "reduce", _reduced(name, kinds), numpy, vjp, doc, examples))


reduce_sum: Op = _reduce("reduce_sum", lambda x, *, axes: np.sum(x, axes, dtype=x.dtype), lambda g, y, x, *, axes: (_spread(g, axes, x),),
                     "The sum over axes; 0 over none")


def _extremum_vjp(g: Node, y: Node, x: Node, *, axes: tuple[int, ...]) -> tuple[Node]:
    """Ties share: each of k equal extrema gets g / k."""
    hit = eq(x, _spread(y, axes, x))
    share = g / reduce_sum(cast(hit, dtype=x.tensor.dtype), axes=axes)
    return (where(hit, _spread(share, axes, x), splat(0.0, x)),)


def _extremum(f: Callable[..., Any]) -> Callable[..., Array]:
    def numpy(x: Array, *, axes: tuple[int, ...]) -> Array:
        if x.dtype.kind == "f":
            return np.asarray(f(x, axis=axes, initial=-np.inf if f is np.max else np.inf))
        if x.dtype.kind == "b":
            return np.asarray(f(x, axis=axes, initial=f is np.min))
        info = np.iinfo(x.dtype)
        return np.asarray(f(x, axis=axes, initial=info.min if f is np.max else info.max))
    return numpy


ANY = ("float", "int", "uint", "bool")

reduce_max: Op = _reduce("reduce_max", _extremum(np.max), _extremum_vjp,
                         "The largest over axes; NaN if any is; over none the least value of the dtype. Of bools: is any true?", ANY)
reduce_min: Op = _reduce("reduce_min", _extremum(np.min), _extremum_vjp,
                         "The smallest over axes; NaN if any is; over none the greatest value of the dtype. Of bools: are all true?", ANY)


def _others(x: Node) -> Node:
    """At each place of the last axis the product of all the other places, without dividing: (product before) * (product after)."""
    pad, slice_, flip = REGISTRY["pad"], REGISTRY["slice"], REGISTRY["flip"]
    shape = x.tensor.shape
    n, last = known("reduce_prod", shape[-1]), len(shape) - 1
    zeros, ones = (0,) * len(shape), (1,) * len(shape)

    def shifted(v: Node, by: int) -> Node:
        cut = slice_(v, starts=zeros, stops=(*shape[:-1], n - by), steps=ones)
        return pad(cut, lo=(*zeros[:-1], by), hi=zeros, value=1.0)

    def before(v: Node) -> Node:
        p, by = shifted(v, 1), 1
        while by < n:
            p, by = p * shifted(p, by), by * 2
        return p

    return before(x) * flip(before(flip(x, axes=(last,))), axes=(last,))


def _prod_vjp(g: Node, y: Node, x: Node, *, axes: tuple[int, ...]) -> tuple[Node]:
    reshape, permute = REGISTRY["reshape"], REGISTRY["permute"]
    if not axes:
        return (g,)
    kept = tuple(a for a in range(x.tensor.rank) if a not in axes)
    order = kept + axes
    moved = permute(x, axes=order)
    lead = tuple(x.tensor.shape[a] for a in kept)
    rows = reshape(moved, shape=(*lead, product([x.tensor.shape[a] for a in axes])))
    if known("reduce_prod", rows.tensor.shape[-1]) == 0:
        return (splat(0.0, x),)
    others = reshape(_others(rows), shape=moved.tensor.shape)
    back = permute(others, axes=tuple(order.index(i) for i in range(len(order))))
    return (_spread(g, axes, x) * back,)


reduce_prod: Op = _reduce("reduce_prod", lambda x, *, axes: np.prod(x, axes, dtype=x.dtype), _prod_vjp,
                      "The product over axes; 1 over none; its derivative is right where factors are 0")


def _arg_type(name: str) -> Callable[..., TensorType]:
    def infer(t: Type, *, axis: int) -> TensorType:
        """The shape of x without `axis`."""
        t = computed(name, tensor(name, t))
        axis_of(name, axis, t.rank)
        if t.shape[axis] == 0:
            raise GraphError(f"{name} over an empty axis has no answer: {t} along axis {axis}")
        return TensorType(tuple(n for a, n in enumerate(t.shape) if a != axis), i64)
    return infer


def _argextremum(name: str, f: Callable[..., Any], doc: str) -> Op:
    return register(Op(name, "reduce", _arg_type(name), lambda x, *, axis: np.asarray(f(x, axis), np.int64), "zero", doc,
                       several(draws((3, 4), axis=1), draws((3, 4), axis=0), draws((5,), axis=0))))


argmax: Op = _argextremum("argmax", np.argmax, "Where the largest is along an axis: the first of ties, and NaN is largest")
argmin: Op = _argextremum("argmin", np.argmin, "Where the smallest is along an axis: the first of ties, and NaN is smallest")
