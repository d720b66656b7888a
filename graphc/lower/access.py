"""The element of a node at an index, as a loop expression: elementwise ops become arithmetic, movement becomes index arithmetic.

This is where fusion happens: what is not stored is computed in the place where it is read. Shared nodes give shared expression objects, which the
code generator computes once.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from operator import index
from typing import Any

import numpy as np

from ..core.dims import Dim, Size
from ..core.dtype import bool_, i32, i64
from ..core.errors import GraphError
from ..core.record import dataclass
from ..core.types import TensorType
from ..ir.node import Node
from ..loop.ir import Bin, Buffer, Cast, Expr, Int, Lit, Ref, Region, Select, Var, children, dtype_of, lift, subst
from . import half
from .elementwise import ELEMENTWISE, number, philox
from .fuse import memory_of, only_ones, shape_of, unique_put

Index = tuple[Expr, ...]
Shape = tuple[Size, ...]


ORIGIN = Int(0)


@dataclass(frozen=True)
class Home:
    """Where a tensor lies: a region from element `start` on, physical axis i being logical axis order[i]."""

    region: Region
    type: TensorType
    order: tuple[int, ...]
    start: Expr = ORIGIN

    @cached_property
    def axes(self) -> tuple[int, ...]:
        """The order as kernels see it: axes of size 1 in front of a symbolic one go behind it. The bytes are the same."""
        shape = self.type.shape
        k = next((k for k, a in enumerate(self.order) if shape[a] != 1), 0)
        return (*self.order[k:], *self.order[:k]) if k and isinstance(shape[self.order[k]], Dim) else self.order

    @cached_property
    def physical(self) -> tuple[Size, ...]:
        return tuple(self.type.shape[a] for a in self.axes)

    def buffer(self, name: str) -> Buffer:
        """As a kernel sees it. A symbolic size must be outermost, so that strides are numbers."""
        first, rest = self.physical[:1], self.physical[1:]
        return Buffer(name, (*(str(n) if isinstance(n, Dim) else n for n in first), *map(index, rest)), half.stored(self.type.dtype))


class Reader:
    """One kernel in the making: the buffers it has touched, and the elements it has asked for."""

    def __init__(self, homes: Mapping[Node, Home], constant: Callable[[Node], Home], own: Collection[Node] = ()) -> None:
        self.homes, self.constant, self.own = homes, constant, own      # own: what this kernel computes, so cannot load
        self.lets: dict[Node, Expr] = {}                # nodes of this kernel that have a register at the kernel's own index
        self.buffers: dict[tuple[str, Expr, tuple[Size, ...]], Buffer] = {}
        self.refs: list[Ref] = []
        self.memo: dict[tuple[object, ...], Expr] = {}
        self.alive: list[Expr] = []                     # what is known by its id

    def buffer(self, home: Home) -> Buffer:
        """The kernel's argument for a piece of memory; the same piece under the same shape is one argument."""
        key = (home.region.name, home.start, home.physical)
        if key not in self.buffers:
            self.buffers[key] = home.buffer(f"b{len(self.buffers)}")
            self.refs.append(Ref(home.region, home.start))
        return self.buffers[key]

    def place(self, home: Home, ix: Index) -> tuple[Buffer, Index]:
        """The buffer and the physical index of a logical one."""
        return self.buffer(home), tuple(ix[a] for a in home.axes)

    def load(self, home: Home, ix: Index) -> Expr:
        buf, at = self.place(home, ix)
        return buf[at]

    def at(self, n: Node, ix: Index) -> Expr:
        """The element of n at ix."""
        key = self.key(n, ix)
        if key not in self.memo:
            self.memo[key] = self.lets[n] if n in self.lets else self._at(n, ix)
        return self.memo[key]

    def key(self, n: Node, ix: Index) -> tuple[object, ...]:
        """What an element is known by: its node and index, a small index by what it says and another (of a gather) by which object it is. A function of
        a function shares its parts, and has too many of them as a tree to be compared."""
        return (n, *[i if isinstance(i, Var | Int) or _is_small(i) else self._id(i) for i in ix])

    def _id(self, e: Expr) -> int:
        self.alive.append(e)
        return id(e)

    def home(self, n: Node) -> Home | None:
        """The memory of n, seen in n's shape."""
        if n in self.own:
            return None
        if n in self.homes:
            return self.homes[n]
        h = self.homes.get(memory_of(n))
        if h is None or h.order != tuple(range(len(h.order))):
            return None
        return Home(h.region, n.tensor, tuple(range(n.tensor.rank)), h.start)

    def _at(self, n: Node, ix: Index) -> Expr:
        if (home := self.home(n)) is not None:
            return self.load(home, ix)
        attrs = n.attrs
        match n.op.name:
            case "const":
                value = attrs["value"]
                if attrs["dtype"].is_half and value.ndim == 0:
                    return half.literal(value, attrs["dtype"])
                return number(value.item(), attrs["dtype"]) if value.ndim == 0 else self.load(self.constant(n), ix)
            case "iota":
                return _as(ix[attrs["axis"]], n)
            case "size":
                return number(attrs["dim"], i64) if isinstance(attrs["dim"], int) else lift(attrs["dim"])
            case "reshape":
                return self.at(n.inputs[0], _through_ones(shape_of(n), shape_of(n.inputs[0]), ix)) if only_ones(n) else self._alias(n, ix)
            case "barrier":
                return self.at(n.inputs[0], ix)
            case "permute":
                axes = attrs["axes"]
                return self.at(n.inputs[0], tuple(ix[axes.index(a)] for a in range(len(axes))))
            case "broadcast":
                return self.at(n.inputs[0], tuple(i for a, i in enumerate(ix) if a not in attrs["axes"]))
            case "slice":
                return self.at(n.inputs[0], tuple(i * s + a for i, a, s in zip(ix, attrs["starts"], attrs["steps"])))
            case "flip":
                shape = shape_of(n)
                return self.at(n.inputs[0], tuple(lift(shape[a] - 1) - i if a in attrs["axes"] else i for a, i in enumerate(ix)))
            case "window":
                at = list(ix[:len(shape_of(n.inputs[0]))])
                for a, w, s, d in zip(attrs["axes"], ix[len(at):], attrs["strides"], attrs["dilations"]):
                    at[a] = at[a] * s + w * d
                return self.at(n.inputs[0], tuple(at))
            case "pad":
                return self._pad(n, ix, **attrs)
            case "concat":
                return self._concat(n, ix, **attrs)
            case "take":
                return self._take(n, ix, **attrs)
            case "take_along":
                where = self._index(n.inputs[1], ix, shape_of(n.inputs[0])[attrs["axis"]])
                return self.at(n.inputs[0], (*ix[:attrs["axis"]], where, *ix[attrs["axis"] + 1:]))
            case "put_along_add" if unique_put(n):
                x, i, u = n.inputs
                axis = attrs["axis"]
                row = (*ix[:axis], Int(0), *ix[axis + 1:])
                hit = Bin("==", _as(ix[axis], i), self._clamped(self.at(i, row), shape_of(x)[axis]))
                return Bin("+", self.at(x, ix), Select(hit, self.at(u, row), number(0, n.tensor.dtype)))
            case "random_bits":
                key, counter = n.inputs
                return philox((self.at(key, (Int(0),)), self.at(key, (Int(1),))), self.at(counter, ()), _flat(shape_of(n), ix))
            case "eq" if all(map(_fits_i32, n.inputs)):        # of a label and 0, 1, ..: half the vector
                return Bin("==", *(Cast(self.at(i, ix), i32) for i in n.inputs))
            case "cast" if n.tensor.dtype.is_half or n.inputs[0].tensor.dtype.is_half:
                return half.convert(self.at(n.inputs[0], ix), n.inputs[0].tensor.dtype, n.tensor.dtype)
            case name if name in ELEMENTWISE:
                return ELEMENTWISE[name](*(self.at(i, ix) for i in n.inputs), **attrs)
            case name:
                raise GraphError(f"{name} has no native lowering", op=n.op, fix='backend="numpy"')

    def _alias(self, n: Node, ix: Index) -> Expr:
        """A reshape of a constant, or of memory that lies in another order: its position, taken apart again."""
        root = memory_of(n)
        if root.op.name == "const" and root.attrs["value"].ndim == 0:
            return self.at(root, ())
        flat, at = _flat(shape_of(n), ix), []
        for m in reversed(shape_of(root)[1:]):
            at.append(flat % m)
            flat = flat // m
        at.append(flat)
        return self.at(root, tuple(reversed(at)))

    def _pad(self, n: Node, ix: Index, lo: tuple[int, ...], hi: tuple[int, ...], value: float) -> Expr:
        (x,) = n.inputs
        shape = shape_of(x)
        outside = number(value, n.tensor.dtype)
        if 0 in shape:
            return outside
        inside: Expr | None = None
        at = []
        for i, m, a, b in zip(ix, shape, lo, hi):
            j = i - a
            if a:
                inside = _and(inside, Bin("<=", Int(a), i))
                j = Bin("max", j, Int(0))
            if b:
                inside = _and(inside, Bin("<", i, lift(m + a)))
                j = Bin("min", j, lift(m - 1))
            at.append(j)
        element = self.at(x, tuple(at))
        return element if inside is None else Select(inside, element, outside)

    def _concat(self, n: Node, ix: Index, axis: int) -> Expr:
        xs = [x for x in n.inputs if shape_of(x)[axis]]
        if not xs:
            return number(0, n.tensor.dtype)
        out: Expr | None = None
        start: Size = sum((shape_of(x)[axis] for x in xs), start=0)
        for x in reversed(xs):
            m = shape_of(x)[axis]
            start = start - m
            j = ix[axis] - start
            if start:
                j = Bin("max", j, Int(0))
            if out is not None:
                j = Bin("min", j, lift(m - 1))
            element = self.at(x, (*ix[:axis], j, *ix[axis + 1:]))
            out = element if out is None else Select(Bin("<", ix[axis], lift(start + m)), element, out)
        assert out is not None
        return out

    def _take(self, n: Node, ix: Index, axis: int) -> Expr:
        x, i = n.inputs
        k = len(shape_of(i))
        return self.at(x, (*ix[:axis], self._index(i, ix[axis:axis + k], shape_of(x)[axis]), *ix[axis + k:]))

    def _index(self, i: Node, ix: Index, size: Size) -> Expr:
        """The value of an index node, clamped to 0..size-1, as an index: the same object each time."""
        key = (size, *self.key(i, ix))
        if key not in self.memo:
            self.memo[key] = self._clamped(self.at(i, ix), size) if not _checked(i, size) else _wide(self.at(i, ix))
        return self.memo[key]

    def _clamped(self, e: Expr, size: Size) -> Expr:
        e = _wide(e)
        return Bin("min", Bin("max", e, Lit(0, i64)), Lit(max(size - 1, 0), i64) if isinstance(size, int) else lift(size - 1))


def _is_small(e: Expr, most: int = 24) -> bool:
    """Whether an expression, as a tree, has at most so many parts."""
    stack = [e]
    while stack and most:
        stack.extend(children(stack.pop()))
        most -= 1
    return not stack


def _checked(i: Node, size: Size) -> bool:
    """An index that comes out of `check_index` for this size is in range already: the kernel that checks it also clamps it."""
    while i.op.name in ("reshape", "broadcast", "permute"):
        i = i.inputs[0]
    return i.op.name == "check_index" and i.attrs["size"] == size


def _fits_i32(i: Node) -> bool:
    """Whether an i64 is known to be 0 .. 2**31 - 1: it counts along an axis, or is an index that has been checked."""
    while i.op.name in ("reshape", "broadcast", "permute"):
        i = i.inputs[0]
    n = i.attrs["size"] if i.op.name == "check_index" else i.attrs["shape"][i.attrs["axis"]] if i.op.name == "iota" else None
    return isinstance(n, int) and n < 1 << 31 and i.tensor.dtype is i64


def _wide(e: Expr) -> Expr:
    return e if dtype_of(e) is i64 else Cast(e, i64)


def _as(i: Expr, like: Node) -> Expr:
    """An index as a value of like's dtype."""
    return Cast(i, like.tensor.dtype)


def _and(a: Expr | None, b: Expr) -> Expr:
    return b if a is None else Bin("and", a, b)


def _through_ones(new: Shape, old: Shape, ix: Index) -> Index:
    """The index into the old shape, which differs from the new one in axes of size 1 only."""
    rest = [i for i, n in zip(ix, new) if n != 1]
    return tuple(Int(0) if n == 1 else rest.pop(0) for n in old)


def _flat(shape: Shape, ix: Index) -> Expr:
    """The row-major position."""
    at: Expr = Int(0)
    for n, i in zip(shape, ix):
        at = at * n + i
    return subst(at, {})


def variables(prefix: str, shape: Shape) -> tuple[Var, ...]:
    return tuple(Var(f"{prefix}{k}") for k in range(len(shape)))


def lowest(dtype: Any) -> float:
    return -np.inf if dtype.is_float else 0 if dtype is bool_ else int(np.iinfo(dtype.numpy).min)


def highest(dtype: Any) -> float:
    return np.inf if dtype.is_float else 1 if dtype is bool_ else int(np.iinfo(dtype.numpy).max)
