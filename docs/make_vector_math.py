"""Writes docs/vector_math.md: how far each function is from the true value, and how fast it is.

    python docs/make_vector_math.py                     # some minutes: every 16th f32 and the neighbours of special ones
    python docs/make_vector_math.py --every=1           # all of them: most of an hour
    python docs/make_vector_math.py --every=1 tanh erf  # prints these rows

f32 is judged by the f64 function of the same name, inside one native step that sweeps the bit patterns; f64 by mpmath or by the 80-bit functions of
x86's C library, on samples dense where the functions are hard. Denormals are kept. Times are of 2**14 numbers in the cache, the least of many.
"""
from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent)]

import graphc as gx  # noqa: E402
from graphc.core.dtype import f32, u32  # noqa: E402
from graphc.ops.elementwise import bitcast  # noqa: E402
from graphc.trace.apply import apply  # noqa: E402

Array = np.ndarray[Any, Any]
L = np.longdouble
CHUNK = 1 << 20
HEAD = """# Vector math

Written by `docs/make_vector_math.py`; do not edit. Largest distances found from the true value, in units of the last place of the result, and times beside
NumPy's on one thread ({cpu}). f32: {swept}; two operands: {pairs:,} drawn pairs. f64: {samples:,} numbers, against mpmath or
80-bit arithmetic. Denormals are kept; in a step they are zero unless `flush_denormals=False`, and so are results that pass through one (`silu` and
`gelu` of numbers below -87 or so, whose factor is a denormal: the table takes these functions above -87 in f32 and -700 or -37 in f64).

| function | f32, ulp | f64, ulp | f32, ns | NumPy | f64, ns | NumPy |
|---|---|---|---|---|---|---|
"""


def logistic(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (e + 1)


def exactly(f: Callable[[Any], Any]) -> Callable[[Array], Array]:
    """f of mpmath numbers, rounded to 80 bits, of an array."""
    def at(v: Any) -> Any:
        y = f(mp.mpf(float(v)))
        head = float(y)
        return L(head) + L(float(y - mp.mpf(head))) if np.isfinite(head) else L(head)
    return lambda x: np.array([at(v) for v in x.ravel()], L).reshape(x.shape)


@dataclass(frozen=True)
class Row:
    """A function: as graphc's, as NumPy would write it (for the time), and its true value on 80-bit numbers."""

    ours: Callable[..., Any]
    numpy: Callable[..., Any]
    true: Callable[..., Any]
    hard: tuple[float, float] = (-10.0, 10.0)           # where f64 samples are dense
    least: tuple[float, float] = (-np.inf, -np.inf)     # the smallest argument that counts, f32 and f64
    slow: bool = False                                  # the true value comes from mpmath
    operands: int = 1


def phi(x: Any) -> Any:
    """The normal distribution function; mpmath's erfc is for numbers of reasonable size."""
    return mp.erfc(-x / mp.sqrt(2)) / 2 if abs(x) < 60 else x if mp.isnan(x) else mp.mpf(int(x > 0))


def row(name: str, like: str = "", **options: Any) -> Row:
    f = getattr(np, like or name)
    return Row(getattr(gx, name), f, f, **options)


def softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def normal(x: Array) -> Array:
    from scipy.special import ndtr
    return ndtr(x)


def error_function(x: Array) -> Array:
    from scipy.special import erf
    return erf(x)


ROWS: dict[str, Row] = {
    "exp": row("exp", hard=(-745, 709)), "expm1": row("expm1"), "log": row("log", hard=(0, 3)), "log2": row("log2", hard=(0, 3)),
    "log10": row("log10", hard=(0, 3)), "log1p": row("log1p", hard=(-1, 3)),
    "tanh": row("tanh", hard=(-2, 2)), "sigmoid": Row(gx.sigmoid, logistic, logistic), "softplus": Row(gx.softplus, softplus, softplus),
    "silu": Row(gx.silu, lambda x: x * logistic(x), lambda x: x * logistic(x), least=(-87, -700)),
    "erf": Row(gx.erf, error_function, exactly(mp.erf), hard=(-4, 4), slow=True),
    "ndtr": Row(gx.ndtr, normal, exactly(phi), hard=(-9, 9), slow=True),
    "gelu": Row(gx.gelu, lambda x: x * normal(x), exactly(lambda x: x * phi(x)), hard=(-9, 9), least=(-13, -37), slow=True),
    "sin": row("sin"), "cos": row("cos"), "tan": row("tan"), "asin": row("asin", "arcsin", hard=(-1, 1)),
    "acos": row("acos", "arccos", hard=(-1, 1)), "atan": row("atan", "arctan"), "sqrt": row("sqrt", hard=(0, 4)),
    "rsqrt": Row(gx.rsqrt, lambda x: 1 / np.sqrt(x), lambda x: 1 / np.sqrt(x), hard=(0, 4)), "cbrt": row("cbrt"),
    "pow": row("pow", "power", hard=(0, 4), operands=2), "atan2": row("atan2", "arctan2", operands=2)}

# ---- f32: a sweep in one native step ----------------------------------------------------------------------------------------------------


def ulp_error(y: Any, true: Any) -> Any:
    """|y - true| in units of y's last place, as a graph; inf where one is finite or a number and the other is not."""
    want = true.astype(gx.float32)
    power = apply(bitcast, apply(bitcast, want, dtype=u32) & 0x7F800000, dtype=f32)
    unit = gx.maximum(power.astype(gx.float64) * 2.0 ** -23, 2.0 ** -149)
    same = gx.logical_or(y == want, gx.logical_and(gx.isnan(y), gx.isnan(want)))
    good = gx.logical_and(gx.isfinite(y), gx.isfinite(want))
    return gx.where(good, gx.abs(y.astype(gx.float64) - true) / unit, gx.where(same, 0.0, np.inf))


def judge(r: Row) -> Callable[..., float]:
    def worst(*xs: Any) -> Any:
        e = ulp_error(r.ours(*xs), r.ours(*(x.astype(gx.float64) for x in xs)))
        return gx.max(gx.where(xs[0] >= r.least[0], e, 0.0) if np.isfinite(r.least[0]) else e)
    return gx.compile(worst, flush_denormals=False, on_new_shape="compile")


def special(dtype: Any) -> Array:
    """The neighbours, to 200 either way, of zeros, infinities, extremes, whole numbers and thresholds."""
    bits, unit = (np.uint32, np.int64(1)) if dtype == np.float32 else (np.uint64, np.int64(1))
    info = np.finfo(dtype)
    points = [0.0, info.tiny, info.max, np.inf, 0.17, 0.25, 0.3, 0.5, 0.625, *range(1, 20), *np.pi / 4 * np.arange(1, 9), *np.log(2) / 2 * np.arange(1, 20),
              87.0, 88.5, 88.72284, 103.9, 709.78, 745.1, 1e6, 2.0 ** 22, 2.0 ** 31, 1e10]
    with np.errstate(over="ignore"):
        at = np.array(points, dtype).view(bits).astype(np.int64)
    near = np.unique((at[:, None] + np.arange(-200, 201) * unit).ravel())
    near = near[near >= 0].astype(bits).view(dtype)
    return np.concatenate([near, -near])


def patterns(step: int) -> Iterator[Array]:
    """Chunks of f32: every step-th bit pattern."""
    for start in range(0, 1 << 32, CHUNK * step):
        bits = np.arange(start, min(start + CHUNK * step, 1 << 32), step, dtype=np.uint64)
        yield np.resize(bits, CHUNK).astype(np.uint32).view(np.float32)


def sweep_f32(name: str, step: int) -> float:
    r = ROWS[name]
    run = judge(r)
    rng = np.random.default_rng(1)
    if r.operands == 2:
        chunks: Iterable[tuple[Array, ...]] = (pair(name, rng) for _ in range(max(1, (1 << 12) // step)))
    else:
        near = special(np.float32)
        chunks = ((c,) for part in (iter([np.resize(near, CHUNK)]), patterns(step)) for c in part)
    return max(float(run(*c)) for c in chunks)


def pair(name: str, rng: np.random.Generator) -> tuple[Array, Array]:
    """Of pow: results of every magnitude; else any two numbers of like size, and any two bit patterns."""
    if name == "pow":
        x = np.exp(rng.uniform(-87, 88, CHUNK)).astype(np.float32)
        return x, (rng.uniform(-104, 89, CHUNK) / np.log(x.astype(np.float64))).astype(np.float32)
    bits = rng.integers(0, 1 << 32, (2, CHUNK), dtype=np.uint32).view(np.float32)
    like = np.exp(rng.uniform(-5, 5, (2, CHUNK))).astype(np.float32)
    return tuple(np.where(np.arange(CHUNK) % 2 == 0, a, b) for a, b in zip(bits, like))       # type: ignore[return-value]


# ---- f64: samples -----------------------------------------------------------------------------------------------------------------------


def sample_f64(name: str, n: int) -> float:
    r = ROWS[name]
    rng = np.random.default_rng(2)
    n = min(n, 1500) if r.slow else n
    dense = rng.uniform(*r.hard, n)
    wide = np.exp(rng.uniform(-700, 700, n)) * rng.choice([-1, 1], n)
    tiny = np.exp(rng.uniform(-40, 1, n)) * rng.choice([-1, 1], n)
    near = special(np.float64)
    x = np.concatenate([dense, wide, tiny, rng.choice(near, min(n, 300)) if r.slow else near])
    xs: tuple[Array, ...] = (x,)
    if name == "pow":
        x = np.exp(rng.uniform(-700, 700, 3 * n))
        xs = x, rng.uniform(-744, 709, len(x)) / np.log(x)
    elif r.operands == 2:
        xs = x, rng.permutation(x)
    xs = tuple(a[xs[0] >= r.least[1]] for a in xs) if np.isfinite(r.least[1]) else xs
    y = np.asarray(gx.compile(r.ours, flush_denormals=False, cache=False)(*xs))
    with np.errstate(all="ignore"), mp.workdps(60):
        true = r.true(*(a.astype(L) if not r.slow else a for a in xs))
        want = true.astype(np.float64)
        good = np.isfinite(y) & np.isfinite(want)
        e = np.abs(y.astype(L) - true) / np.spacing(np.abs(np.where(good, want, 1)))
        same = (y == want) | (np.isnan(y) & np.isnan(want))
    return float(np.where(good, e, np.where(same, 0, np.inf)).max())


# ---- time -------------------------------------------------------------------------------------------------------------------------------


def nanoseconds(f: Callable[..., Any], xs: tuple[Array, ...], seconds: float = 0.15) -> float:
    f(*xs)
    best, end = np.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        f(*xs)
        best = min(best, time.perf_counter() - start)
    return best / xs[0].size * 1e9


def times(name: str, dtype: Any) -> tuple[float, float]:
    r = ROWS[name]
    rng = np.random.default_rng(3)
    xs = tuple(rng.uniform(0.05, 0.95, 1 << 14).astype(dtype) for _ in range(r.operands))
    return nanoseconds(gx.compile(r.ours, cache=False), xs), nanoseconds(r.numpy, xs)


def line(name: str, step: int, samples: int) -> str:
    cells = [f"{sweep_f32(name, step):.2f}", f"{sample_f64(name, samples):.2f}", *(f"{t:.2f}" for d in (np.float32, np.float64) for t in times(name, d))]
    return f"| `{name}` | {' | '.join(cells)} |"


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((x.partition(": ")[2] for x in lines if x.startswith("model name")), "unknown")


def main(arguments: list[str]) -> None:
    step, samples = next((int(a.partition("=")[2]) for a in arguments if a.startswith("--every=")), 16), 20_000
    names = [a for a in arguments if not a.startswith("-")]
    rows = []
    for name in names or ROWS:
        rows.append(line(name, step, samples))
        print(rows[-1], flush=True)
    if not names:
        swept = "all 2**32 numbers" if step == 1 else f"every {step}th of the 2**32 numbers, and the neighbours of special ones"
        head = HEAD.format(cpu=cpu(), swept=swept, pairs=max(1, (1 << 12) // step) * CHUNK, samples=3 * samples)
        (DOCS / "vector_math.md").write_text(head + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
