"""What a random program is drawn from: a pool of values, ways to get an operand of any type out of it, and the table of makers, one for each op.

A maker takes a `Draw` and gives a node of its op, or None where nothing fits today. `maker("name")` registers one; an op without is made from its own
samples (`by_sample`), so whoever registers an op has it in the random programs at once.
"""
from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..core import half
from ..core.dtype import ALL, DType, bf16, bool_, f16, f32, f64, from_numpy, i32, i64, u8, u32
from ..core.errors import GraphError
from ..core.types import TensorType, TupleType
from ..ir.node import Node
from ..ir.op import REGISTRY, Op
from ..ops import elementwise, movement
from ..ops.leaf import const, input_, iota, splat
from ..ops.tuples import get

Maker = Callable[["Draw"], "Node | None"]
MAKERS: dict[str, Maker] = {}
MOST = 1 << 12                                          # elements of what a program computes on the way, but for its large leaves
NESTS = ("scan", "while", "cond", "remat")
NUMBERS = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0)              # those that the rewrite rules know
DTYPES = (f32, f32, f32, f64, f64, i64, i32, bool_, u8, u32, f16, bf16)


def maker(*names: str) -> Callable[[Maker], Maker]:
    """Register how nodes of these ops are drawn."""
    def note(f: Maker) -> Maker:
        MAKERS.update(dict.fromkeys(names, f))
        return f
    return note


@dataclass
class Draw:
    """One program as it grows. `smooth`: all of it has derivatives, and stands away from singularities."""

    rng: random.Random
    sizes: tuple[int, ...]
    smooth: bool = False
    leaves: list[Node] | None = field(default_factory=list)            # None: closed, a body; it can ask for no more inputs
    pool: list[Node] = field(default_factory=list)
    depth: int = 3                                                      # of bodies in bodies that are left
    made: set[str] = field(default_factory=set)                         # names of the ops
    op: Op = REGISTRY["input"]                                          # whose maker runs

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def size(self) -> int:
        return self.rng.choice(self.sizes)

    def shape(self, most: int = 3) -> tuple[int, ...]:
        shape = tuple(self.size() for _ in range(self.rng.choice((0, 1, 1, 2, 2, 3)[:most + 3])))
        return shape if math.prod(shape) <= MOST else shape[:1]

    def dtype(self) -> DType:
        return self.rng.choice((f64, f32)) if self.smooth else self.rng.choice(DTYPES if self.chance(0.8) else ALL)

    def some(self, ok: Callable[[TensorType], bool] = lambda t: True) -> Node | None:
        """A value whose type is right; the younger ones are likelier."""
        found = [x for x in self.pool if ok(x.tensor)]
        return found[-1 - int(len(found) * self.rng.random() ** 2)] if found else None

    def number(self, ok: Callable[[TensorType], bool] = lambda t: True, dtypes: Sequence[DType] = (f32, f64)) -> Node:
        """A value whose type is right, or one cast to a dtype that is."""
        return self.some(ok) or self.cast(self.rng.choice(self.pool), self.rng.choice(list(dtypes)))

    def cast(self, x: Node, dtype: DType) -> Node:
        return x if x.tensor.dtype is dtype else elementwise.cast(x, dtype=dtype)

    def leaf(self, t: TensorType) -> Node:
        assert self.leaves is not None
        x = input_(name=f"x{len(self.leaves)}", shape=t.shape, dtype=t.dtype)
        self.leaves.append(x)
        self.pool.append(x)
        return x

    def of(self, t: TensorType) -> Node:
        """An operand of exactly this type: there already, new, constant, counted, or another value cast and cut to fit."""
        same = [x for x in self.pool if x.type == t]
        if same and self.chance(0.8):
            return self.rng.choice(same)
        how = self.rng.random()
        if how < 0.25 and self.leaves is not None and len(self.leaves) < 12 and (t.dtype.is_float or not self.smooth):
            return self.leaf(t)
        if how < 0.40:
            return splat(self.rng.choice(NUMBERS) if t.dtype.kind in ("float", "half", "int") else 1.0, t)
        if how < 0.45 and t.rank and not t.dtype.is_half and t.dtype is not bool_:
            return iota(shape=t.shape, dtype=t.dtype, axis=self.rng.randrange(t.rank))
        return self.shaped(self.cast(self.rng.choice(self.pool), t.dtype), t.static_shape)

    def shaped(self, x: Node, shape: tuple[int, ...]) -> Node:
        """x's elements in this shape: repeated or cut off."""
        have, want = math.prod(x.tensor.static_shape), math.prod(shape)
        if x.tensor.shape == shape:
            return x
        if have == 0 or want == 0:
            return splat(0.0, TensorType(shape, x.tensor.dtype))
        if have < want:
            flat = movement.reshape(x, shape=(have,))
            x = movement.broadcast(flat, shape=(-(-want // have), have), axes=(0,))
        if math.prod(x.tensor.static_shape) > want:
            flat = movement.reshape(x, shape=(math.prod(x.tensor.static_shape),))
            x = movement.slice_(flat, starts=(0,), stops=(want,), steps=(1,))
        return x if x.tensor.shape == shape else movement.reshape(x, shape=shape)

    def inside(self, x: Node, low: float, high: float) -> Node:
        """A floating value brought between two numbers, smoothly."""
        return elementwise.sigmoid(x) * (high - low) + low

    def calm(self, x: Node | None) -> Node | None:
        """Values stay of moderate size: what may grow is squashed, mostly."""
        if x is None or not isinstance(x.type, TensorType) or not x.type.dtype.is_float or not self.chance(0.9 if self.smooth else 0.5):
            return x
        return self.rng.choice((elementwise.tanh, elementwise.sin, lambda v: v * 0.25))(x)

    def index(self, t: TensorType, n: int) -> Node:
        """An i64 operand of that shape, mostly between 0 and n - 1."""
        x = self.of(t)
        if self.chance(0.7):
            x = elementwise.maximum(elementwise.minimum(x, splat(max(n - 1, 0), t)), splat(0, t))
        return x

    def body(self, types: Sequence[TensorType], n: int | None = None) -> tuple[tuple[Node, ...], Draw]:
        """Leaves of these types, and a closed program on them, with some operations drawn already."""
        leaves = tuple(input_(name=f"b{k}", shape=t.shape, dtype=t.dtype) for k, t in enumerate(types))
        inner = Draw(self.rng, self.sizes, self.smooth, None, list(leaves) or [splat(1.0, TensorType((), f64))], self.depth - 1, self.made)
        for _ in range(self.rng.randint(1, 4) if n is None else n):
            inner.step(self.rng.choice(NESTS) if inner.depth > 0 and self.chance(0.2) else None)
        return leaves, inner

    def step(self, name: str | None = None) -> Node | None:
        """One more operation, of this name or any."""
        name = self.rng.choice(self.names()) if name is None else name
        self.op = REGISTRY[name]
        node = MAKERS.get(name, by_sample)(self)
        if node is None:
            return None
        self.made.add(name)
        for x in unpacked(node) if isinstance(node.type, TupleType) else (node,):
            if math.prod(x.tensor.static_shape) <= 4 * MOST or self.chance(0.5):
                self.pool.append(x)
        return node

    def names(self) -> list[str]:
        """The ops that may be drawn here."""
        return [n for n, op in REGISTRY.items() if n not in UNDRAWN and not (self.smooth and n in CUT) and not (self.depth <= 0 and op.engine)]


def unpacked(node: Node) -> tuple[Node, ...]:
    """The results of a node with several. Of a loop that may stop early, those that have a row for each turn are left out: rows past the last are undefined."""
    assert isinstance(node.type, TupleType)
    early = node.op.name == "while" or node.attrs.get("bounded", False)
    known = [k for k in range(len(node.type.items)) if not early or k < node.attrs["carries"]]
    return tuple(get(node, index=k) for k in known)


def by_sample(d: Draw) -> Node | None:
    """The op at one of its own samples: each floating operand the sample's plus something small of the pool's, all others the sample's."""
    rng = np.random.default_rng(d.rng.randrange(1 << 30))
    arrays, attrs = d.rng.choice(list(d.op.samples(rng)))
    operands = []
    for a in map(np.asarray, arrays):
        dtype = from_numpy(a.dtype)
        assert dtype is not None
        a = np.array(a)
        a.flags.writeable = False
        x = const(value=a if a.ndim else a[()], shape=a.shape, dtype=dtype)
        operands.append(x + elementwise.tanh(d.of(x.tensor)) * 0.01 if dtype.is_float else x)
    for k, v in attrs.items():
        if isinstance(v, np.ndarray):
            attrs[k] = v.copy()
            attrs[k].flags.writeable = False
    try:
        return d.op(*operands, **attrs)
    except GraphError:
        return None


UNDRAWN = {
    "input": "is what a program is given",
    "get": "takes one result out of several: drawn with every op that has several",
    "token": "begins a chain of effects, and has no value",
    "io_callback": "is a function of the user's, and an effect: tests/trace/test_effects.py",
    "pure_callback": "is a function of the user's: tests/trace/test_callback.py",
}
CUT = {                                                 # in a smooth program finite differences see through what these cut
    "stop_gradient": "is flat to derivatives and not to differences", "bitcast": "is not continuous", "floordiv": "jumps", "check_index": "has no floats",
}


def draw_array(t: TensorType, rng: np.random.Generator, nasty: float = 0.0) -> np.ndarray:
    """Values for a leaf: moderate, and with probability `nasty` each element one of infinities, NaN, zeros of both signs, extremes, denormals."""
    shape, d = t.static_shape, t.dtype
    n = math.prod(shape)
    if d is bool_:
        return rng.integers(0, 2, shape).astype(bool)
    if d.is_integer:
        info = np.iinfo(d.numpy)
        odd = np.array([info.min, info.max, 0, 1, info.max // 2], d.numpy)
        values = rng.integers(max(info.min, -20), 20, n).astype(d.numpy)
    elif d.is_half:
        odd = np.array([0x0000, 0x8000, 0x7C00 if d is f16 else 0x7F80, 0x0001, 0x3C00], np.uint16).view(d.numpy)
        values = half.to_half(rng.standard_normal(n), d)
    else:
        finfo = np.finfo(d.numpy)
        odd = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, finfo.max, finfo.tiny, finfo.smallest_subnormal, -1.5, 1e-3], d.numpy)
        values = rng.standard_normal(n).astype(d.numpy)
    if nasty and n:
        at = rng.random(n) < nasty
        values[at] = rng.choice(odd, int(at.sum()))
    return values.reshape(shape)
