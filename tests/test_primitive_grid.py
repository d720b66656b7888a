"""Every primitive × dtype × awkward shape × memory layout, on the three evaluators: NumPy's meaning, the loop interpreter, machine code.

Cases of one dtype and a few ops make one graph with many outputs, so that a thousand of them are one compilation. Small shapes go through all
three; what is longer than 2**16, through two. Each layout of the arguments is a call of its own, checked whole.
"""
from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

import graphc.ops  # noqa: F401  (fills the registry)
from graphc.core import half
from graphc.core.dtype import ALL, DType, bf16, bool_, f16, f32, f64, from_numpy, i32, i64, u8, u32, u64
from graphc.core.errors import GraphError
from graphc.core.options import Options
from graphc.core.types import TensorType, TupleType
from graphc.executable import compile_graph
from graphc.interp.numpy import run
from graphc.ir.node import Graph, Node
from graphc.ir.op import REGISTRY
from graphc.llvm.detect import host
from graphc.ops.leaf import const, input_
from graphc.ops.spectral import LINALG
from graphc.ops.tuples import get
from graphc.ops.window import positions

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

WIDTHS = {n: host().vector_bytes // n for n in (4, 8)}


def small(d: DType) -> tuple[Shape, ...]:
    """No axis, an empty one, one element, a vector's width and its neighbours, and a few axes."""
    w = WIDTHS[max(d.itemsize, 4)]
    return (), (0,), (1,), (w - 1,), (w,), (w + 1,), (3, 0), (3, 1), (2, 3, 2)


LARGE: tuple[Shape, ...] = ((33,), (9, 33), (65537,), (3, 21847))
LAYOUTS = ("plain", "backwards", "odd address", "every other")
ELSEWHERE = {"input", "token", "get",                   # given, without a value, or in every case with several results
             "pure_callback", "io_callback",            # whatever a function of Python's gives: tests/trace/test_callback.py
             "custom_vjp", "custom_jvp", "remat", "barrier",    # values of other primitives under another name: tests/trace/test_custom.py
             *LINALG}                                   # of matrices, by their residuals: tests/array/test_linalg.py


# ---- values ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arg:
    """One operand: what is drawn for it. Equal ones are one input of the graph."""

    shape: Shape
    dtype: DType
    kind: str = "plain"         # plain: -2..2.  nasty: zeros, infinities, NaN, extremes, denormals among them.  special: without extremes
    below: int = 0              # an index: -1..below, which is one too far either way
    which: int = 0

    def draw(self) -> Array:
        rng = np.random.default_rng(zlib.crc32(repr(self).encode()))
        d, n = self.dtype, math.prod(self.shape)
        if self.below:
            return rng.integers(-1 if d.kind == "int" else 0, self.below + 1, self.shape).astype(d.numpy)
        if d is bool_:
            return rng.integers(0, 2, self.shape).astype(bool)
        if d.is_integer:
            info = np.iinfo(d.numpy)
            odd = [info.min, info.max, 0, 1, info.max // 2] if self.kind != "plain" else []
            values = rng.integers(max(info.min, -20), 20, n).astype(d.numpy)
        elif d.is_half:                                 # nasty: any pattern at all
            odd = list(rng.integers(0, 2**16, n).astype(np.uint16).view(d.numpy)) if self.kind != "plain" else []
            values = half.to_half(rng.uniform(-2, 2, n), d)
        else:
            finfo = np.finfo(d.numpy)
            odd = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, 2.5, -1.5] if self.kind != "plain" else []
            odd += [finfo.max, finfo.tiny, finfo.smallest_subnormal, finfo.min, 1e-3, -1e5] if self.kind == "nasty" else []
            values = rng.uniform(-2, 2, n).astype(d.numpy)
        if odd and n:
            where = rng.random(n) < 0.6
            values[where] = rng.choice(np.array(odd, d.numpy), int(where.sum()))
        return values.reshape(self.shape)


def laid_out(a: Array, layout: str) -> Array:
    """The same values lying otherwise."""
    if a.ndim == 0 or layout == "plain":
        return a
    if layout == "backwards":
        return np.ascontiguousarray(np.flip(a))[(slice(None, None, -1),) * a.ndim]
    if layout == "every other":
        wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
        wide[..., ::2] = a
        return wide[..., ::2]
    bytes_ = np.zeros(a.nbytes + 1, np.uint8)
    odd = bytes_[1:].view(a.dtype).reshape(a.shape)
    odd[...] = a
    return odd


# ---- cases -------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    name: str
    args: tuple[Arg, ...]
    attrs: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        attrs = ", ".join(f"{k}={v}" for k, v in self.attrs)
        return f"{self.name}({', '.join(f'{a.dtype}{list(a.shape)}' for a in self.args)}{', ' if attrs else ''}{attrs})"

    @property
    def layouts(self) -> int:
        """How many of the layouts differ for this case: a tensor without an axis or without elements has one."""
        return len(LAYOUTS) if any(a.shape and 0 not in a.shape for a in self.args) else 1


def case(name: str, *args: Arg, **attrs: Any) -> Case:
    return Case(name, args, tuple(attrs.items()))


Recipe = Callable[[Shape, DType], Iterator[Case]]
RECIPES: dict[str, Recipe] = {}


def recipe(*names: str) -> Callable[[Callable[..., Iterator[Case]]], None]:
    """What is tried of these ops at a shape and dtype."""
    def note(f: Callable[..., Iterator[Case]]) -> None:
        for name in names:
            RECIPES[name] = lambda shape, dtype, name=name: f(name, shape, dtype)   # type: ignore[misc]
    return note


def ends(shape: Shape) -> tuple[int, ...]:
    """The first axis and the last."""
    return tuple(dict.fromkeys((0, len(shape) - 1))) if shape else ()


SPECIAL = {"mod", "floordiv"}                           # a quotient beyond 2**24 has no exact remainder in one step
WAVES = {"sin", "cos", "tan", "pow", "atan2"}
UNARY = tuple(name for name, op in REGISTRY.items() if op.family == "unary")
BINARY = tuple(name for name, op in REGISTRY.items() if op.family in ("binary", "compare"))


@recipe(*UNARY, *BINARY)
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    kind = "special" if name in SPECIAL | WAVES else "nasty"
    yield case(name, *(Arg(shape, d, kind, which=k) for k in range(1 if name in UNARY else 2)))


@recipe("where")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    yield case(name, Arg(shape, bool_), Arg(shape, d, "nasty"), Arg(shape, d, "nasty", which=1))


@recipe("cast")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    for to in ALL:
        yield case(name, Arg(shape, d, "nasty"), dtype=to)


@recipe("bitcast")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    for to in ALL:
        yield case(name, Arg(shape, d, "nasty"), dtype=to)


@recipe("reshape")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    for new in ((math.prod(shape),), (1, *shape[::-1], 1)):
        yield case(name, Arg(shape, d), shape=new)


@recipe("permute")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    yield case(name, Arg(shape, d), axes=tuple(reversed(range(len(shape)))))


@recipe("broadcast")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    yield case(name, Arg(shape, d), shape=(2, *shape), axes=(0,))
    yield case(name, Arg(shape, d), shape=(*shape, 3), axes=(len(shape),))


@recipe("slice")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    for start, step in ((1, 1), (0, 2), (2, 3)):
        yield case(name, Arg(shape, d), starts=tuple(min(start, n) for n in shape), stops=shape, steps=(step,) * len(shape))


@recipe("pad")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    yield case(name, Arg(shape, d), lo=(1,) * len(shape), hi=(2,) * len(shape), value=1.0)
    yield case(name, Arg(shape, d), lo=(0,) * len(shape), hi=(1,) * len(shape), value=0.0)


@recipe("flip")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    yield case(name, Arg(shape, d), axes=tuple(range(len(shape))))
    yield case(name, Arg(shape, d), axes=ends(shape)[:1])


@recipe("concat")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    for a in ends(shape):
        yield case(name, Arg(shape, d), Arg((*shape[:a], 2, *shape[a + 1:]), d, which=1), Arg(shape, d, which=2), axis=a)


@recipe("window", "fold")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    for a in ends(shape):
        for k, s, e in ((2, 1, 1), (3, 2, 1), (2, 3, 2)):
            if shape[a] >= (k - 1) * e + 1:
                many = {"axes": (a,), "strides": (s,), "dilations": (e,)}
                if name == "window":
                    yield case(name, Arg(shape, d), sizes=(k,), **many)
                else:
                    yield case(name, Arg((*shape[:a], positions(shape[a], k, s, e), *shape[a + 1:], k), d), lengths=(shape[a],), **many)


@recipe("reduce_sum", "reduce_prod", "reduce_max", "reduce_min")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    kind = "nasty" if name in ("reduce_max", "reduce_min") else "plain"
    for axes in dict.fromkeys((tuple(range(len(shape))), *((a,) for a in ends(shape)))):
        yield case(name, Arg(shape, d, kind), axes=axes)


@recipe("argmax", "argmin", "argsort")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    for a in ends(shape):
        yield case(name, Arg(shape, d, "nasty"), axis=a)


@recipe("cumsum")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    for a in ends(shape):
        for reverse in (False, True):
            yield case(name, Arg(shape, d), axis=a, reverse=reverse)


@recipe("topk")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    for a in ends(shape):
        yield case(name, Arg(shape, d, "nasty"), k=min(3, shape[a]), axis=a)


@recipe("contract")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    r = len(shape)
    if not r:
        yield case(name, Arg((), d), Arg((), d, which=1), contracting=((), ()), batch=((), ()))
        return
    yield case(name, Arg(shape, d), Arg(shape, d, which=1), contracting=((r - 1,), (r - 1,)), batch=(tuple(range(r - 1)),) * 2)
    yield case(name, Arg(shape, d), Arg((shape[-1], 3), d, which=1), contracting=((r - 1,), (0,)), batch=((), ()))


@recipe("check_index")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    yield case(name, Arg(shape, u8 if d is u8 else d), size=100)


@recipe("take")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    for a in ends(shape):
        for at in ((3,), (2, 2), ()):
            yield case(name, Arg(shape, d), Arg(at, i64 if at else i32, below=max(shape[a], 1)), axis=a)


@recipe("take_along")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    for a in ends(shape):
        yield case(name, Arg(shape, d), Arg((*shape[:a], 4, *shape[a + 1:]), i64, below=max(shape[a], 1)), axis=a)


@recipe("scatter_add", "scatter_set", "scatter_max", "scatter_min")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    for a in ends(shape):
        for at in ((5,), (2, 2)):
            yield case(name, Arg(shape, d), Arg(at, i64, below=max(shape[a], 1)), Arg((*shape[:a], *at, *shape[a + 1:]), d, which=1), axis=a)


@recipe("put_along_add", "put_along_set", "put_along_max", "put_along_min")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    for a in ends(shape):
        for n in (1, 4):
            at = (*shape[:a], n, *shape[a + 1:])
            yield case(name, Arg(shape, d), Arg(at, i64, below=max(shape[a], 1)), Arg(at, d, which=1), axis=a)


@recipe("const")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    yield case(name, value=half.scalar(1, d), shape=shape, dtype=d)


@recipe("iota")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    for a in ends(shape):
        yield case(name, shape=shape, dtype=d, axis=a)


@recipe("size")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    if d is i64:
        yield case(name, dim=math.prod(shape))


@recipe("random_bits")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    if d is u32:
        yield case(name, Arg((2,), u32, "nasty"), Arg((), u64, "nasty"), shape=shape)


@recipe("scan")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    """Along the first axis: the carry takes the larger, what went round comes out."""
    if shape and shape[0] <= 33:
        for reverse in (False, True):
            yield case(name, Arg(shape[1:], d), Arg(shape, d, which=1), body=_body(shape[1:], d), carries=1, xs=1, length=shape[0], reverse=reverse)


@lru_cache(None)
def _body(shape: Shape, d: DType) -> Graph:
    c, x = (input_(name=n, shape=shape, dtype=d) for n in "cx")
    if d.is_half:
        return Graph((c, x), (x, c), name="body")
    return Graph((c, x), (REGISTRY["or" if d is bool_ else "maximum"](c, x), REGISTRY["eq"](c, x)), name="body")


@recipe("while")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    """Two operands change places, three times or as often as is allowed."""
    n, c, x = input_(name="n", shape=(), dtype=i64), input_(name="c", shape=shape, dtype=d), input_(name="x", shape=shape, dtype=d)
    three = const(value=np.int64(3), shape=(), dtype=i64)
    test, turn = Graph((n, c, x), (REGISTRY["lt"](n, three),), name="test"), Graph((n, c, x), (n + 1, x, c), name="turn")
    for most in (None, 0, 2):
        yield case(name, Arg((), i64, below=1), Arg(shape, d), Arg(shape, d, which=1), cond=test, body=turn, carries=3, max_steps=most)


@recipe("cond")
def _(name: str, shape: Shape, d: DType) -> Iterator[Case]:
    """Of two branches the first, the last by an index beyond it, and either by one drawn from -1..2."""
    c, x = (input_(name=n, shape=shape, dtype=d) for n in "cx")
    other = Graph((c, x), (c, c if d.is_half else REGISTRY["lt"](c, x)), name="other")
    for below in (0, 2):
        yield case(name, Arg((), i64, below=below), Arg(shape, d), Arg(shape, d, which=1), branch0=_body(shape, d), branch1=other)


GROUPS: dict[str, tuple[str, ...]] = {
    "unary": UNARY,
    "binary": (*BINARY, "where"),
    "cast": ("cast", "bitcast"),
    "movement": ("reshape", "permute", "broadcast", "slice", "pad", "flip", "concat", "window"),
    "reduce": ("reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "fold", "argmax", "argmin", "cumsum"),
    "order": ("argsort", "topk", "contract", "scan", "cond", "while"),
    "index": ("take", "take_along", "check_index", "scatter_add", "scatter_set", "scatter_max", "scatter_min", "put_along_add", "put_along_set",
              "put_along_max", "put_along_min"),
    "leaves": ("const", "iota", "size", "random_bits"),
}


def leaf(a: Arg, name: str = "x") -> Node:
    return input_(name=name, shape=a.shape, dtype=a.dtype)


def fits(c: Case) -> bool:
    """Whether the op's own type rule takes this case: which dtypes an op is for is said there alone."""
    try:
        REGISTRY[c.name](*map(leaf, c.args), **dict(c.attrs))
    except GraphError:
        return False
    return c.name != "check_index" or c.args[0].dtype.kind == "uint" or c.args[0].shape == (0,)


@lru_cache(None)
def cases(group: str, dtype: DType, shapes: tuple[Shape, ...]) -> tuple[Case, ...]:
    return tuple(c for name in GROUPS[group] for shape in shapes for c in RECIPES[name](shape, dtype) if fits(c))


# ---- comparing ---------------------------------------------------------------------------------------------------------------------

ULPS = {"exp": 2, "expm1": 3, "log": 2, "log2": 3, "log1p": 3, "sin": 3, "cos": 3, "tan": 4, "asin": 4, "acos": 4, "atan": 3, "tanh": 3,
        "sigmoid": 4, "erf": 3, "ndtr": 6, "pow": 3, "atan2": 4, "cbrt": 2}
HALVES = (f16.numpy, bf16.numpy)
SUMS = {"reduce_sum", "reduce_prod", "contract"}        # another order of the sum, or an fma in it: relative to the sum of the sizes


def agree(c: Case, got: Array, want: Array, arrays: Sequence[Array], where: str) -> None:
    assert (got.shape, got.dtype) == (want.shape, want.dtype), f"{c} {where}: {got.dtype}{got.shape}, should be {want.dtype}{want.shape}"
    if want.dtype in HALVES:                            # the payload of a NaN too
        np.testing.assert_array_equal(half.bits(got), half.bits(want), f"{c} {where}")
        return
    if want.dtype.kind != "f" or not (c.name in ULPS or c.name in SUMS):
        np.testing.assert_array_equal(got, want, f"{c} {where}")
        return
    eps = np.finfo(want.dtype).eps
    if c.name in ULPS:
        room = ULPS[c.name] * np.maximum(np.abs(want) * eps, np.finfo(want.dtype).smallest_subnormal * 4)
    elif c.name == "reduce_prod":
        room = 2 * eps * math.prod(arrays[0].shape) * np.abs(want)
    elif c.name == "contract":
        room = 64 * eps * np.asarray(REGISTRY["contract"].numpy(*(np.abs(a) for a in arrays), **dict(c.attrs)))
    else:
        room = 64 * eps * np.asarray(np.abs(arrays[0]).sum(dict(c.attrs)["axes"]))
    odd = ~np.isfinite(want)
    with np.errstate(all="ignore"):
        fine = np.where(odd, (got == want) | np.isnan(got) & np.isnan(want), np.abs(got - want) <= room)
    assert fine.all(), f"{c} {where}: {got[~fine][:3]}, should be {want[~fine][:3]}; {[a[~fine][:3] for a in arrays if a.shape == fine.shape]}"


def check(chosen: Sequence[Case], loops: bool) -> None:
    """One graph of all the cases, compiled once; every layout of its arguments."""
    inputs: dict[Arg, Node] = {}
    outputs: list[Node] = []
    owners: list[Case] = []
    for c in chosen:
        for a in c.args:
            inputs.setdefault(a, leaf(a, f"x{len(inputs)}"))
        y = REGISTRY[c.name](*(inputs[a] for a in c.args), **dict(c.attrs))
        results = [get(y, index=k) for k in range(len(y.type.items))] if isinstance(y.type, TupleType) else [y]
        outputs += results
        owners += [c] * len(results)
    graph = Graph(tuple(inputs.values()), tuple(outputs), name="grid")
    drawn = {a: a.draw() for a in inputs}
    want = run(graph, list(drawn.values())).outputs
    step = compile_graph(graph, [], Options(flush_denormals=False, cache=False))
    if loops:
        for c, got, value in zip(owners, step.run_loops(list(drawn.values()), []).outputs, want, strict=True):     # type: ignore[attr-defined]
            agree(c, got, value, [drawn[a] for a in c.args], "in the loop interpreter")
    for layout in LAYOUTS:
        given = [laid_out(v, layout) for v in drawn.values()]
        for c, got, value in zip(owners, step(given), want, strict=True):
            agree(c, np.asarray(got), value, [drawn[a] for a in c.args], f"in machine code, arguments {layout}")


# ---- tests -------------------------------------------------------------------------------------------------------------------------

PAIRS = [(g, d) for g in GROUPS for d in ALL]


@pytest.mark.parametrize(("group", "dtype"), PAIRS, ids=[f"{g}-{d}" for g, d in PAIRS])
def test_small_shapes(group: str, dtype: DType) -> None:
    check(cases(group, dtype, small(dtype)), loops=True)


@pytest.mark.parametrize(("group", "dtype"), PAIRS, ids=[f"{g}-{d}" for g, d in PAIRS])
def test_large_shapes(group: str, dtype: DType) -> None:
    check(cases(group, dtype, LARGE), loops=False)


def test_the_grid_is_whole() -> None:
    """Every primitive is in it, in each dtype that it takes, and there are more than ten thousand cases."""
    assert set(RECIPES) == set(REGISTRY) - ELSEWHERE
    assert {n for names in GROUPS.values() for n in names} == set(RECIPES)
    every = [c for g, d in PAIRS for c in (*cases(g, d, small(d)), *cases(g, d, LARGE))]
    assert {c.name for c in every} == set(RECIPES)
    assert sum(c.layouts for c in every) >= 10_000


def test_a_wrong_kernel_is_caught() -> None:
    """The mutant: one bit of one element. Exact ops see it, and so does an op with a tolerance, a few bits up."""
    for name, off in (("add", 1e-7), ("exp", 1e-6), ("reduce_sum", 1e-4)):
        c = next(c for g in GROUPS for c in cases(g, f32, ((9,),)) if c.name == name)
        arrays = [np.linspace(0.5, 1, 9, dtype=np.float32) for _ in c.args]
        want = np.asarray(REGISTRY[name].numpy(*arrays, **dict(c.attrs)))
        agree(c, want, want, arrays, "")
        wrong = (want * np.float32(1 + off)).astype(np.float32)
        with pytest.raises(AssertionError):
            agree(c, wrong, want, arrays, "")


def test_arguments_are_laid_out_as_said() -> None:
    a = np.arange(12, dtype=np.int32).reshape(3, 4)
    backwards, odd, other = (laid_out(a, k) for k in LAYOUTS[1:])
    assert max(backwards.strides) < 0
    assert odd.ctypes.data % 4
    assert not other.flags.c_contiguous
    for b in (backwards, odd, other):
        np.testing.assert_array_equal(a, b)
    assert from_numpy(a.dtype) is i32
    assert TensorType((3,), f64).dtype is f64
