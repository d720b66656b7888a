"""The functions of loop/math.py against true values: NumPy's f64 for f32, mpmath for f64, NumPy's own answers at special values."""
from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import mpmath as mp
import numpy as np
import pytest

from graphc.core.dtype import DType, f32, f64, i32
from graphc.loop.ir import Buffer, Expr, Int, Lit, children, postorder
from graphc.loop.math import FUNCTIONS

from .expr_eval import evaluate

Array = np.ndarray[Any, np.dtype[Any]]


def _normal(x: float) -> float:
    """The normal distribution function: the rounding of x/sqrt(2) alone would be hundreds of ulp far out in the tail."""
    if not -40 < x < 0:
        return 0.5 * math.erfc(-x * math.sqrt(0.5))
    half = x * math.sqrt(0.5)
    with mp.workdps(40):
        lost = float(mp.mpf(x) * mp.sqrt(0.5) - half)                   # erfc(-(half + lost)), to first order
    return 0.5 * math.erfc(-half) + lost * math.exp(-half * half) / math.sqrt(math.pi)


UNARY = [n for n in FUNCTIONS if n not in ("pow", "atan2")]
NUMPY: dict[str, Callable[..., Array]] = {
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "pow": np.power, "atan2": np.arctan2, "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "sigmoid": lambda x: np.where(x < 0, np.exp(-np.abs(x)), 1) / (1 + np.exp(-np.abs(x))),
    "ndtr": np.vectorize(lambda x: _normal(x), otypes=[np.float64])}
MPMATH: dict[str, Callable[..., Any]] = {
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)), "pow": mp.power, "log1p": mp.log1p, "log2": lambda x: mp.log(x, 2), "ndtr": mp.ncdf,
    "cbrt": lambda x: mp.sign(x) * mp.cbrt(abs(x))}
# ulp, with fma and without: what was measured, rounded up
F32_BOUND = {"exp": 1.1, "expm1": 1.6, "log": 0.9, "log2": 1.8, "log1p": 1.5, "tanh": 1.9, "sigmoid": 1.8, "erf": 1.3, "ndtr": 0.8, "sin": 1.7, "cos": 1.7,
             "tan": 0.7, "asin": 2.0, "acos": 1.3, "atan": 1.7, "cbrt": 1.0, "pow": 0.8, "atan2": 1.7}
F64_BOUND = {"exp": 1.1, "expm1": 1.9, "log": 0.9, "log2": 1.5, "log1p": 1.5, "tanh": 1.9, "sigmoid": 1.6, "erf": 1.2, "ndtr": 4.1, "sin": 2.5, "cos": 2.5,
             "tan": 3.0, "asin": 1.8, "acos": 1.3, "atan": 1.7, "cbrt": 1.0, "pow": 1.3, "atan2": 1.5}


@cache
def expression(name: str, dtype: DType) -> tuple[Expr, tuple[Buffer, ...]]:
    buffers = tuple(Buffer(f"x{i}", (5,), dtype) for i in range(1 if name in UNARY else 2))
    return FUNCTIONS[name](*(b[0] for b in buffers)), buffers


def run(name: str, dtype: DType, *xs: Array, fma: bool = True) -> Array:
    e, buffers = expression(name, dtype)
    return evaluate(e, {b.name: x for b, x in zip(buffers, xs, strict=True)}, fma)


def numpy(name: str) -> Callable[..., Array]:
    return NUMPY.get(name) or getattr(np, name)


def ulps(y: Array, true: Array) -> Array:
    """|y - true| in units of y's last place at the true value, where both are finite; else 0 or inf."""
    want = true.astype(y.dtype)
    finite = np.isfinite(y) & np.isfinite(want)
    scaled = np.abs(y.astype(np.float64) - np.where(finite, true, 0)) / np.spacing(np.abs(np.where(finite, want, 1))).astype(np.float64)
    return np.where(finite, scaled, np.where((y == want) | (np.isnan(y) & np.isnan(want)), 0, np.inf))


# ---- accuracy --------------------------------------------------------------------------------------------------------------------


def f32_arguments(name: str, rng: np.random.Generator, n: int) -> tuple[Array, ...]:
    """Bit patterns of all kinds; for pow, results of every magnitude, for the rest a share where the function is not flat."""
    if name == "pow":
        x = np.exp(rng.uniform(-100, 88, n)).astype(np.float32)
        return x, (rng.uniform(-104, 89, n) / np.log(x.astype(np.float64))).astype(np.float32)
    any_bits = rng.integers(0, 1 << 32, (2, n), dtype=np.uint32).view(np.float32)
    if name == "atan2":
        near = np.exp(rng.uniform(-3, 3, n)) * rng.choice([-1, 1], n)
        return np.concatenate([any_bits[0], near.astype(np.float32)]), np.concatenate([any_bits[1], rng.uniform(-1, 1, n).astype(np.float32)])
    return (np.concatenate([any_bits[0], *(rng.uniform(-s, s, n).astype(np.float32) for s in (1.5, 10, 104))]),)


@pytest.mark.parametrize("fma", [True, False])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_f32_is_within_the_bound(name: str, fma: bool) -> None:
    xs = f32_arguments(name, np.random.default_rng(3), 20_000)
    with np.errstate(all="ignore"):
        error = ulps(run(name, f32, *xs, fma=fma), numpy(name)(*(x.astype(np.float64) for x in xs)))
    worst = int(error.argmax())
    assert error[worst] <= F32_BOUND[name], [x[worst] for x in xs]


@pytest.mark.slow
@pytest.mark.parametrize("name", UNARY)
def test_f32_is_within_the_bound_densely(name: str) -> None:
    for start in range(0, 1 << 32, 1 << 27):
        x = np.arange(start, start + (1 << 27), 63, dtype=np.uint64).astype(np.uint32).view(np.float32)
        with np.errstate(all="ignore"):
            error = ulps(run(name, f32, x), numpy(name)(x.astype(np.float64)))
        worst = int(error.argmax())
        assert error[worst] <= F32_BOUND[name], x[worst]


def f64_arguments(name: str, rng: np.random.Generator, n: int) -> tuple[Array, ...]:
    u, sign = rng.uniform(-1, 1, (2, n)), rng.choice([-1, 1], n)
    tiny = sign * np.exp(rng.uniform(-30, 0, n))
    match name:
        case "pow":
            x = np.concatenate([np.exp(700 * u[0]), 1 + u[1] * 0.5 ** rng.integers(1, 50, n)])
            x = x[x != 1]
            return x, rng.uniform(-744, 709, len(x)) / np.log(x)
        case "atan2": return u[0] * np.exp(9 * rng.uniform(-1, 1, n)), u[1]
        case "exp": parts = [u[0] * 745, tiny]
        case "expm1": parts = [u[0] * 3, u[1] * 60, tiny]
        case "log" | "log2": parts = [1 + u[0] / 2, np.exp(700 * u[1]), np.abs(tiny) * 1e-308]
        case "sigmoid": parts = [u[0] * 740, u[1] * 3, tiny]
        case "ndtr": parts = [u[0] * 38, u[1] * 3, tiny]
        case "cbrt": parts = [u[0], sign * np.exp(700 * u[1]), tiny * 1e-308]
        case "log1p": parts = [u[0], np.exp(40 * u[1]), np.exp(rng.uniform(-30, 0, n)) - 1, tiny]
        case "sin" | "cos" | "tan": parts = [u[0] * 10, u[1] * 2.0 ** 20, np.round(u[0] * 1e6) * np.pi / 2, tiny, np.exp(709 * np.abs(u[1]))]
        case "asin" | "acos": parts = [u[0], sign * (1 - 10.0 ** (-16 * np.abs(u[1]))), tiny]
        case _: parts = [u[0] * 6, 1.5 * u[1], 1 / tiny, tiny]
    return (np.concatenate(parts),)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_f64_is_within_the_bound(name: str) -> None:
    xs = f64_arguments(name, np.random.default_rng(4), 500)
    function = MPMATH.get(name) or getattr(mp, name)
    with mp.workdps(350 if name in ("sin", "cos", "tan") else 50):
        true = [function(*map(mp.mpf, map(float, at))) for at in zip(*xs, strict=True)]
        for fma in (True, False):
            for *at, y, want in zip(*xs, run(name, f64, *xs, fma=fma), true, strict=True):
                rounded = float(want)
                error = 0.0 if y == rounded else float(abs(mp.mpf(float(y)) - want) / math.ulp(rounded))
                assert error <= F64_BOUND[name], (at, fma)


# the worst that there is in each format: closest to a multiple of pi/2, by Kahan's search; and the ends
HARD = {f32: (16367173 * 2.0 ** 72, 2.0 ** 127, float(np.finfo(np.float32).max), 1e6, 1000000.0625),
        f64: (6381956970095103 * 2.0 ** 797, 5.319372648326541e255, 2.0 ** 1023, float(np.finfo(np.float64).max), 1e6, math.nextafter(1e6, 2e6))}


@pytest.mark.parametrize("dtype", [f32, f64])
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_the_largest_angles(name: str, dtype: DType) -> None:
    top = 127 if dtype is f32 else 1023
    rng = np.random.default_rng(5)
    x = np.ldexp(rng.uniform(1, 2, 3 * top) * rng.choice([-1, 1], 3 * top), np.repeat(np.arange(1, top + 1), 3))
    x = np.concatenate([x, HARD[dtype]]).astype(dtype.numpy)
    bound = (F32_BOUND if dtype is f32 else F64_BOUND)[name]
    with mp.workdps(400):
        true = [getattr(mp, name)(mp.mpf(float(v))) for v in x]
        for fma in (True, False):
            for v, y, want in zip(x, run(name, dtype, x, fma=fma), true, strict=True):
                assert abs(mp.mpf(float(y)) - want) <= bound * float(np.spacing(np.abs(dtype.numpy.type(float(want))))), (v, fma)


# ---- special values --------------------------------------------------------------------------------------------------------------


def lattice(dtype: DType) -> Array:
    info = np.finfo(dtype.numpy)
    ones = np.array([1], dtype.numpy)
    positive = [0.0, math.inf, float(info.smallest_subnormal), float(info.tiny) / 3, float(info.tiny), float(info.max), 0.5, 1.0, 2.0, 3.0,
                float(np.nextafter(ones, 0 * ones)[0]), float(np.nextafter(ones, 2 * ones)[0]), 2.5, 1e-10, 17.0, 1e5, 0.625, 2.0 ** 24 + 2,
                2.0 ** 53 - 1, *(k * math.pi / 2 for k in (1, 2, 3, 4, 1000)), math.log(float(info.max)), math.log(float(info.smallest_subnormal)) - 1]
    half = np.array(positive).astype(dtype.numpy)
    return np.concatenate([half, -half, np.array([math.nan], dtype.numpy)])


@pytest.mark.parametrize("dtype", [f32, f64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values_are_numpys(name: str, dtype: DType) -> None:
    x = lattice(dtype)
    xs: tuple[Array, ...] = (x,) if name in UNARY else tuple(a.ravel() for a in np.meshgrid(x, x))
    for fma in (True, False):
        y = run(name, dtype, *xs, fma=fma)
        assert y.dtype == dtype.numpy
        with np.errstate(all="ignore"):
            want = numpy(name)(*(a.astype(np.float64) for a in xs))
            close = ulps(y, want) <= 3
            want = want.astype(dtype.numpy)
        assert close.all(), (*(a[~close] for a in xs), y[~close], want[~close])
        zero = want == 0
        assert (np.signbit(y) == np.signbit(want))[zero].all(), [a[zero] for a in xs]


def test_pow_has_c99s_cases() -> None:
    nan, inf = math.nan, math.inf
    cases = [(nan, 0.0, 1.0), (1.0, nan, 1.0), (-1.0, inf, 1.0), (-1.0, -inf, 1.0), (-1.0, nan, nan), (-2.0, 0.5, nan), (-2.0, 3.0, -8.0),
             (-2.0, inf, inf), (-0.5, inf, 0.0), (-0.0, 3.0, -0.0), (-0.0, -3.0, -inf), (-0.0, 2.0, 0.0), (0.0, -0.5, inf), (-inf, 3.0, -inf),
             (-inf, -3.0, -0.0), (-inf, 0.5, inf), (-inf, 2.0, inf), (inf, -0.5, 0.0), (0.0, nan, nan), (nan, 1.0, nan), (-8.0, 2.0 ** 24, inf)]
    for dtype in (f32, f64):
        x, y, want = np.array(cases).T.astype(dtype.numpy)
        np.testing.assert_array_equal(run("pow", dtype, x, y), want)
        assert (np.signbit(run("pow", dtype, x, y)) == np.signbit(want))[~np.isnan(want)].all()


# ---- form ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [f32, f64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_subexpressions_are_shared(name: str, dtype: DType) -> None:
    """No subtree is built twice: but for literals, equal expressions are one object."""
    e, _ = expression(name, dtype)
    numbers: dict[object, int] = {}
    of: dict[int, int] = {}
    for x in postorder(e, {}):
        own = (type(x), tuple(of[id(c)] for c in children(x)), *(repr(getattr(x, a, "")) for a in ("op", "fn", "value", "dtype", "buf")))
        assert own not in numbers or isinstance(x, Lit | Int), x
        of[id(x)] = numbers.setdefault(own, len(numbers))


def test_there_is_no_math_of_integers() -> None:
    with pytest.raises(TypeError, match="no vector math in i32"):
        FUNCTIONS["exp"](Buffer("n", (5,), i32)[0])
