"""f16 and bf16: every pattern both ways on the three evaluators, rounding, what is refused, gradients, arguments, memory."""
from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.core import half
from graphc.core.dtype import ALL, BFLOAT16, DType, as_dtype, bf16, f16, f32, f64
from graphc.core.options import Options
from graphc.executable import compile_graph
from graphc.interp.numpy import run
from graphc.ir.node import Graph
from graphc.ops.elementwise import cast
from graphc.ops.leaf import input_

Array = np.ndarray[Any, Any]
HALVES = pytest.mark.parametrize("dtype", [f16, bf16], ids=str)
PATTERNS = np.arange(2**16, dtype=np.uint16)


def evaluators(have: DType, want: DType, n: int, flush: bool = True) -> dict[str, Callable[[Array], Array]]:
    """cast of n elements, on each."""
    x = input_(name="x", shape=(n,), dtype=have)
    graph = Graph((x,), (cast(x, dtype=want),))
    step: Any = compile_graph(graph, [], Options(flush_denormals=flush, cache=False))
    return {"numpy": lambda a: run(graph, [a]).outputs[0], "loops": lambda a: step.run_loops([a], []).outputs[0],
            "native": lambda a: np.array(step([a])[0])}


def exact(dtype: DType) -> Array:
    """The numbers of all patterns in f64, from the definition of the format: sign, exponent, fraction."""
    fraction, bias = (10, 15) if dtype is f16 else (7, 127)
    p = PATTERNS.astype(np.int64)
    sign, e, m = np.where(p >> 15, -1.0, 1.0), p >> fraction & (2**(15 - fraction) - 1), p & (2**fraction - 1)
    usual = np.ldexp(1.0 + m / 2.0**fraction, e - bias)
    tiny = np.ldexp(m / 2.0**fraction, np.full_like(e, 1 - bias))
    size = np.where(e == 0, tiny, np.where(e < 2**(15 - fraction) - 1, usual, np.where(m == 0, np.inf, np.nan)))
    return np.asarray(sign * size)


def nearest(x: Array, dtype: DType) -> Array:
    """The patterns of the nearest numbers, ties to the even pattern, by searching in the list of all of them."""
    fraction, bias = (10, 15) if dtype is f16 else (7, 127)
    sizes = exact(dtype)[:2**15]
    sizes = sizes[np.isfinite(sizes)]
    sizes = np.append(sizes, np.ldexp(1.0, 2**(15 - fraction) - 1 - bias))      # what infinity would be, were it a number
    size = np.abs(x.astype(np.float64))
    above = np.clip(np.searchsorted(sizes, size), 1, len(sizes) - 1)
    low, high = size - sizes[above - 1], sizes[above] - size
    pattern = np.where((low < high) | ((low == high) & (above % 2 == 1)), above - 1, above)
    pattern = np.where(size >= sizes[-1], len(sizes) - 1, pattern)
    return (pattern | np.where(np.signbit(x), 0x8000, 0)).astype(np.uint16)


def hard(dtype: DType) -> Array:
    """f32 numbers at every half, both sides of each middle between two halves and the middle itself, and the ends."""
    every = exact(dtype)
    every = np.unique(every[np.isfinite(every)])
    middles = ((every[1:] + every[:-1]) / 2).astype(np.float32)
    overflow = np.float32(65520.0) if dtype is f16 else np.float32(float.fromhex("0x1.ffp127"))
    ends = np.float32([0.0, -0.0, np.inf, -np.inf, overflow, -overflow, np.nextafter(overflow, np.float32(0)), 1e-45, -1e-45, 1.17549435e-38, 3.4e38, -3.4e38])
    return np.concatenate([np.nextafter(middles, np.float32(-np.inf)), middles, np.nextafter(middles, np.float32(np.inf)), every.astype(np.float32), ends])


@HALVES
@pytest.mark.parametrize("flush", [True, False], ids=["flush", "keep"])
def test_every_pattern_both_ways(dtype: DType, flush: bool, request: pytest.FixtureRequest) -> None:
    want = exact(dtype)
    nan = np.isnan(want)
    first = evaluators(dtype, f32, 2**16)["numpy"](PATTERNS.view(dtype.numpy))
    np.testing.assert_array_equal(first[~nan].astype(np.float64), want[~nan])
    np.testing.assert_array_equal(np.signbit(first), PATTERNS >> 15 == 1)
    quiet = np.where(nan, PATTERNS | (0x200 if dtype is f16 else 0x40), PATTERNS)
    steps = {"numpy": 1, "native": 1} | ({} if flush else {"loops": 1 if request.config.getoption("--slow") else 13})      # the interpreter takes its time
    for name, step in steps.items():
        some = np.ascontiguousarray(PATTERNS[::step])
        wide = evaluators(dtype, f32, len(some), flush)[name](some.view(dtype.numpy))
        np.testing.assert_array_equal(wide.view(np.uint32), first[::step].view(np.uint32), name)
        np.testing.assert_array_equal(half.bits(evaluators(f32, dtype, len(some), flush)[name](wide)), quiet[::step], name)


@HALVES
@pytest.mark.parametrize("flush", [True, False], ids=["flush", "keep"])
def test_rounding_to_nearest_even(dtype: DType, flush: bool) -> None:
    """Ties, their neighbours, overflow, numbers that become denormal or nothing, f32 denormals."""
    x = hard(dtype)
    want = nearest(x, dtype)
    assert len(x) > 20_000
    narrowed = evaluators(f32, dtype, len(x), flush)
    for name in ("numpy", "native"):
        np.testing.assert_array_equal(half.bits(narrowed[name](x)), want, name)
    some = x[::97][:1999]
    np.testing.assert_array_equal(half.bits(evaluators(f32, dtype, len(some), flush)["loops"](some)), want[::97][:1999])


def test_known_roundings() -> None:
    """Spelt out, so that the tests' own arithmetic is not believed alone."""
    f = float.fromhex
    for dtype, rows in ((f16, [(1 + 2.0**-11, 0x3C00), (1 + 3 * 2.0**-11, 0x3C02), (65504.0, 0x7BFF), (65519.996, 0x7BFF), (65520.0, 0x7C00),
                               (2.0**-24, 1), (2.0**-25, 0), (f("0x1.000002p-25"), 1), (-1e-40, 0x8000)]),
                        (bf16, [(1 + 2.0**-8, 0x3F80), (1 + 3 * 2.0**-8, 0x3F82), (f("0x1.fep127"), 0x7F7F), (f("0x1.fefffep127"), 0x7F7F),
                                (f("0x1.ffp127"), 0x7F80), (-1e-40, 0x8001), (3e-41, 0), (5e-41, 1)])):
        for x, pattern in rows:
            assert int(half.bits(half.to_half(np.float32(x), dtype))) == pattern, (dtype, x)
    nans = np.array([0x7F800001, 0xFFC00000, 0xFFFFFFFF, 0x7F80_8000], np.uint32).view(np.float32)
    assert half.bits(half.to_half(nans, bf16)).tolist() == [0x7FC0, 0xFFC0, 0xFFFF, 0x7FC0]
    assert half.bits(half.to_half(nans, f16)).tolist() == [0x7E00, 0xFE00, 0xFFFF, 0x7E04]


@HALVES
def test_to_integers_saturates_without_a_warning(dtype: DType) -> None:
    x = gx.tensor([np.nan, np.inf, -np.inf, 300.0, -300.0, 1.5], dtype=dtype)
    assert x.astype(gx.int8).tolist() == [0, 127, -128, 127, -128, 1]
    assert x.astype(gx.uint8).tolist() == [0, 255, 0, 255, 0, 1]
    assert x.astype(gx.bool).tolist() == [True] * 6
    assert gx.tensor([2**63 - 1, 3], dtype=gx.int64).astype(dtype).tolist() == [float(np.inf) if dtype is f16 else 2.0**63, 3.0]


# ---- what is refused ---------------------------------------------------------------------------------------------------------------

ARITHMETIC: dict[str, Callable[[Any], Any]] = {
    "add": lambda x: x + x, "mul": lambda x: x * 2, "div": lambda x: 1 / x, "pow": lambda x: x ** 2.5, "neg": lambda x: -x, "lt": lambda x: x < x,
    "eq": lambda x: x == x, "exp": gx.exp, "abs": gx.abs, "sign": gx.sign, "floor": gx.floor, "isnan": gx.isnan,
    "maximum": lambda x: gx.maximum(x, x), "reduce_sum": gx.sum,
    "reduce_max": gx.max, "contract": lambda x: x @ x, "argmax": gx.argmax, "argsort": gx.sort, "cumsum": lambda x: gx.cumsum(x, 0),
    "topk": lambda x: gx.topk(x, 1), "scatter_add": lambda x: gx.scatter(x, [0], x[:1], axis=0, mode="add"),
}


@HALVES
@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_is_refused(name: str, dtype: DType) -> None:
    x = gx.ones(3, dtype=dtype)
    with pytest.raises(gx.GraphError, match=f"{name} does not compute in {dtype}, got {dtype}") as e:
        ARITHMETIC[name](x)
    assert e.value.fix == ".astype(gx.float32) first"
    assert "storage" in str(e.value.why)
    assert __file__.rpartition("/")[2] in str(e.value.at)
    ARITHMETIC[name](x.float())


@HALVES
def test_other_refusals(dtype: DType) -> None:
    with pytest.raises(gx.GraphError, match=f"iota does not count in {dtype}"):
        gx.iota((3,), dtype=dtype)
    with pytest.raises(gx.GraphError, match=f"random numbers are not drawn in {dtype}") as e:
        gx.randn(3, dtype=dtype)
    assert e.value.fix == f"gx.randn(...).astype('{dtype}')"
    with pytest.raises(gx.GraphError, match="SGD trains f32 and f64") as e:
        gx.optim.SGD([gx.ones(3, dtype=dtype, requires_grad=True)], lr=0.1)
    assert "forward" in str(e.value.fix)
    with pytest.raises(gx.GraphError, match=f"got {dtype}") as e:
        gx.nn.Linear(2, 3).to(dtype)
    assert "storage" in str(e.value.why)


def test_numpy_cannot_mistake_the_bits_for_numbers() -> None:
    a = gx.tensor([1.5, 2.0], dtype=gx.bfloat16).numpy()
    for wrong in (lambda: a.astype(np.float32), lambda: np.asarray(a, np.float64), lambda: a + a, lambda: a.sum()):
        with pytest.raises(TypeError):
            wrong()


# ---- the front -----------------------------------------------------------------------------------------------------------------------


def test_names() -> None:
    assert gx.float16 is gx.half is f16
    assert gx.bfloat16 is bf16 is as_dtype("bfloat16") is as_dtype("bf16") is as_dtype(BFLOAT16)
    x = gx.tensor([1.0, 2.0])
    assert (x.half().dtype, x.bfloat16().dtype, x.bfloat16().float().dtype, x.to("bf16").dtype, x.to(gx.float16).dtype) == (f16, bf16, f32, bf16, f16)
    for kind in (gx.half, gx.bfloat16):
        assert (gx.zeros(2, dtype=kind).dtype, gx.full((2,), 1.5, dtype=kind).tolist(), gx.arange(3, dtype=kind).tolist()) == (kind, [1.5, 1.5], [0, 1, 2])


def test_printing() -> None:
    x = gx.tensor([1.5, -2.0, np.inf], dtype=gx.bfloat16)
    assert repr(x) == "tensor([ 1.5, -2. ,  inf], dtype=bf16)"
    assert repr(x[0]) == "tensor(1.5, dtype=bf16)"
    assert (x.tolist(), x[1].item(), float(x[0]), int(x[0]), bool(x[0]), bool(gx.zeros((), dtype="bf16"))) == ([1.5, -2.0, np.inf], -2.0, 1.5, 1, True, False)
    np.testing.assert_array_equal(np.asarray(x, np.float64), [1.5, -2.0, np.inf])
    assert x.numpy().dtype == BFLOAT16
    assert x.float().numpy().tolist() == [1.5, -2.0, np.inf]
    with pytest.raises(TypeError, match="no index"):
        range(x[0])


@HALVES
def test_gradients_are_f32(dtype: DType) -> None:
    """Through a cast to half and back; with respect to a half leaf; through what moves halves."""
    w = gx.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (w.astype(dtype).float() * w).sum().backward()
    assert (w.grad.dtype, w.grad.tolist()) == (f32, [2.0, 4.0, 6.0])
    h = gx.tensor([1.0, 2.0, 3.0], dtype=dtype, requires_grad=True)
    moved = gx.concat([gx.pad(h[::-1], [(1, 0)]), gx.take(h, [0, 0], axis=0), gx.where([True, False, True], h, 0)])
    (moved.float() * gx.arange(9.0)).sum().backward()
    assert (h.grad.dtype, h.grad.tolist()) == (f32, [3 + 4 + 5 + 6, 2.0, 1.0 + 8.0])
    h.grad = gx.zeros(3)
    with pytest.raises(gx.GraphError, match=r"the gradient of a .* is a f32\[3\]"):
        h.grad = gx.zeros(3, dtype=dtype)
    assert gx.grad(lambda x: (x.float() ** 2).sum())(h).dtype is f32


@HALVES
def test_gradients_in_a_step_as_eagerly(dtype: DType) -> None:
    """bf16 copies of f32 weights in a matmul, a scan with a half carry, a put: native and oracle, forward and gradient."""
    def loss(w: Any, x: Any) -> Any:
        y = x @ w.astype(dtype).float()
        _, ys = gx.scan(lambda c, r: ((c.float() * 0.5 + r).astype(dtype), c), gx.zeros(4, dtype=dtype), y)
        put = gx.put_along_axis(y.astype(dtype), gx.zeros((3, 1), dtype=gx.int64), gx.ones((3, 1), dtype=dtype), axis=1)
        return (ys.float() ** 2).mean() + put.float().sum()

    rng = np.random.default_rng(0)
    w, x = rng.standard_normal((5, 4)).astype(np.float32), rng.standard_normal((3, 5)).astype(np.float32)
    results = []
    for backend in ("numpy", "llvm"):
        f = gx.compile(gx.value_and_grad(loss), backend=backend)
        results.append(f(w, x))
    (a, da), (b, db) = results
    np.testing.assert_allclose(b, a, rtol=1e-5)
    np.testing.assert_allclose(db, da, rtol=1e-4, atol=1e-6)
    assert da.dtype == np.float32
    assert np.abs(da).max() > 0.1


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_arguments_results_and_states(backend: str) -> None:
    weight = gx.tensor([[1.5, 2.0], [3.0, 4.0]], dtype=gx.bfloat16)

    @gx.compile(backend=backend)
    def f(a: Any, b: Any, s: Any) -> Any:
        weight.copy_(weight.float() * 2)
        return a.float() + b.float(), weight, s, weight[0, 1], a[::-1], gx.tensor(np.float16([1, 2])).float(), gx.tensor(weight_array).float()

    weight_array = half.to_half([5.0, 6.0], bf16)
    a, b = np.float16([1, 2, 3]), half.to_half([0.5, 0.25, -1], bf16)
    for k in (1, 2):
        out = f(a, b, b[1])
        assert out[0].tolist() == [1.5, 2.25, 2.0]
        assert out[1].dtype == BFLOAT16
        assert half.from_half(out[1]).tolist() == [[1.5 * 2**k, 2.0 * 2**k], [3.0 * 2**k, 4.0 * 2**k]]
        assert (half.from_half(out[2]), half.from_half(out[3]), out[4].tolist()) == (0.25, 2.0 * 2**k, [3, 2, 1])
        assert (out[5].tolist(), out[6].tolist()) == ([1, 2], [5, 6])
    assert weight.float().tolist() == [[6.0, 8.0], [12.0, 16.0]]
    wide = np.zeros(6, BFLOAT16)
    wide[::2] = b
    odd = np.zeros(7, np.uint8)[1:].view(np.float16)
    odd[...] = a
    assert f(odd, wide[::2], gx.tensor(0.25, dtype="bf16"))[0].tolist() == [1.5, 2.25, 2.0]       # neither contiguous nor aligned; a Tensor
    assert f(a.astype(">f2"), b, b[1])[0].tolist() == [1.5, 2.25, 2.0]


class Foreign:
    """An array whose dtype has another library's name: a dtype of that name cannot be made without that library."""

    def __init__(self, patterns: Array) -> None:
        self.patterns, self.dtype = patterns, SimpleNamespace(name="bfloat16", itemsize=2)

    def view(self, dtype: Any) -> Array: return self.patterns.view(dtype)


def test_another_librarys_bfloat16_is_known_by_its_name() -> None:
    a = np.array([0x3FC0, 0x4000], np.uint16)
    mine = half.own(Foreign(a))                         # type: ignore[arg-type]
    assert half.from_half(mine).tolist() == [1.5, 2.0]
    assert np.shares_memory(mine, a)


def test_ml_dtypes_arrays() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    a = np.array([1.5, 2.0, -3.0], ml_dtypes.bfloat16)
    f = gx.compile(lambda x: (x.float() * 2, x))
    assert [v.tolist() for v in (f(a)[0], f(a[::-1])[0], f(a)[0])] == [[3.0, 4.0, -6.0], [-6.0, 4.0, 3.0], [3.0, 4.0, -6.0]]
    assert f(a)[1].view(ml_dtypes.bfloat16).tolist() == [1.5, 2.0, -3.0]
    assert gx.asarray(a).dtype is as_dtype(ml_dtypes.bfloat16) is bf16
    assert gx.nn.Parameter(a).float().tolist() == [1.5, 2.0, -3.0]
    assert gx.compile(lambda: gx.asarray(a).float())().tolist() == [1.5, 2.0, -3.0]


@HALVES
def test_memory_is_16_bits(dtype: DType) -> None:
    """What is cast to a half is kept as one, though the f32 that it came from is computed in the same step."""
    f = gx.compile(lambda x: gx.cumsum(gx.exp(x).astype(dtype)[::-1].float(), 0))
    regions = f.lower(np.zeros(1000, np.float32)).memory_plan().regions
    assert [nbytes for _, _, nbytes, _, _ in regions] == [2000]


def test_a_contraction_reads_bf16_where_it_lies() -> None:
    f = gx.compile(lambda x, w: x @ w.float())
    w = half.to_half(np.random.default_rng(0).standard_normal((40, 24)), bf16)
    x = np.random.default_rng(1).standard_normal((33, 40)).astype(np.float32)
    np.testing.assert_allclose(f(x, w), x @ half.from_half(w), rtol=1e-4, atol=1e-4)
    made = f.lower(x, w)
    assert made.report.kernels == 1
    assert not made.memory_plan().regions               # no f32 copy of w


def test_the_passes_keep_a_rounding() -> None:
    f = gx.compile(lambda x: (x.bfloat16().float(), x.half().double(), x.bfloat16().float().bfloat16().float()))
    x = np.float32([1.001953125])
    assert [v.tolist() for v in f(x)] == [[1.0], [1.001953125], [1.0]]
    text = f.lower(x).text("optimized")
    assert text.count("bf16[1] = cast") == 1            # the second time nothing is rounded


@pytest.mark.parametrize("have", ALL, ids=str)
def test_by_way_of_f32(have: DType) -> None:
    """f64 and integers are rounded to f32 first, as PyTorch rounds them."""
    x = half.astype(np.array([0, 1, 100]), have)
    for want in (f16, bf16):
        np.testing.assert_array_equal(half.bits(half.astype(x, want)), half.bits(half.to_half(half.astype(x, f32), want)))
    twice = 1 + 2.0**-8 + 2.0**-40
    assert half.from_half(half.to_half(np.float64(twice), bf16)) == 1.0
    assert float(gx.tensor(twice, dtype=f64).bfloat16()) == 1.0


@pytest.mark.parametrize("dtype", [f16, bf16], ids=str)
def test_transforms(dtype: DType) -> None:
    """A half's tangents and cotangents are f32, in every transform."""
    x, t = gx.asarray([1.0, 2.0, 4.0], dtype=dtype), gx.asarray([1.0, 0.5, 2.0])

    def f(x: gx.Tensor) -> gx.Tensor:
        return (x.float() * x[::-1].float()).sum()

    def g(x: gx.Tensor) -> gx.Tensor:
        return (x.float() ** 2).astype(dtype)

    value, slope = gx.jvp(f, (x,), (t,))
    assert (value.item(), slope.item()) == (12.0, 2 * (4.0 + 1.0 + 2.0))
    y, pull = gx.vjp(g, x)
    assert y.dtype is dtype
    np.testing.assert_array_equal(pull(t)[0].numpy(), np.float32([2.0, 2.0, 16.0]))
    np.testing.assert_array_equal(gx.linearize(g, x)[1](t).numpy(), np.float32([2.0, 2.0, 16.0]))
    for jacobian in (gx.jacfwd, gx.jacrev, gx.compile(gx.jacfwd(g)), gx.compile(gx.jacrev(g))):
        made = jacobian(x) if isinstance(jacobian, gx.CompiledFunction) else jacobian(g)(x).numpy()
        np.testing.assert_array_equal(made, np.diag(np.float32([2.0, 4.0, 8.0])))
    np.testing.assert_array_equal(gx.hessian(f)(x).numpy(), 2 * np.eye(3, dtype=np.float32)[::-1])
    np.testing.assert_array_equal(gx.vmap(gx.grad(lambda v: v.float() ** 2))(x).numpy(), np.float32([2.0, 4.0, 8.0]))
    with pytest.raises(gx.GraphError, match=r"tangent\[0\] is .*16\[3\], and should be f32\[3\]"):
        gx.jvp(f, (x,), (x,))
