"""Matrix products alone: graphc beside MKL and NumPy's OpenBLAS, interleaved in one process.

    python benchmarks/contractions.py                           # NumPy's OpenBLAS; MKL too where `pip install mkl` put it
    python benchmarks/contractions.py --only 256 --threads 2 --json out.json

Every product is a compiled function whose native step is called in a native loop; the libraries' `cblas_gemm` is called by pointer in the same loop,
one thread each, so nothing here measures Python. Candidates take turns, a slice each, in alternating order; the table has GF/s (median over the rounds) and
the median over the rounds of the ratio of speeds, graphc / library. With `--threads 2` graphc runs again on that many threads, and the last column is the
speed-up. The first line is the speed of independent FMAs on this core, measured the same way: what a product could reach.

MKL picks its own code for the processor it finds (on other makers' machines not its fastest); it is taken as it comes.
"""
from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")             # before NumPy: its pool would be on the other core
os.environ.setdefault("MKL_THREADING_LAYER", "SEQUENTIAL")

import argparse
import ctypes
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[int], None]                                     # runs it so many times


@dataclass(frozen=True, slots=True)
class Product:
    """C[M, N] = A @ B. "T" means stored transposed: TN is A.T @ B."""

    M: int
    N: int
    K: int
    form: str = "NN"
    dtype: str = "f32"

    def __str__(self) -> str:
        return f"{self.M}x{self.N}x{self.K} {self.form}" + (" f64" if self.dtype == "f64" else "")

    def operands(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        kind = np.float32 if self.dtype == "f32" else np.float64
        a = aligned((self.M, self.K) if self.form[0] == "N" else (self.K, self.M), kind)
        b = aligned((self.K, self.N) if self.form[1] == "N" else (self.N, self.K), kind)
        a[...], b[...] = rng.standard_normal(a.shape), rng.standard_normal(b.shape)
        return a, b

    def of(self, a: Any, b: Any) -> Any:
        return (a if self.form[0] == "N" else a.T) @ (b if self.form[1] == "N" else b.T)


@dataclass(frozen=True, slots=True)
class Row:
    """GF/s by candidate, the ratio of graphc's speed to each library's, and its speed-up with threads."""

    product: str
    gflops: dict[str, float]
    ratios: dict[str, float]
    speedup: float | None
    compile_ms: float


SQUARES = [Product(n, n, n, form) for n in (64, 128, 256, 512, 1024) for form in ("NN", "NT", "TN")]
LAYERS = [                                                      # of the MLP 784-128-10, batch 64: forward, dW, dX
    Product(64, 128, 784, "NN"), Product(64, 128, 784, "NT"), Product(784, 128, 64, "TN"), Product(128, 784, 64, "TN"), Product(64, 784, 128, "NN"),
    Product(64, 10, 128, "NN"), Product(64, 10, 128, "NT"), Product(128, 10, 64, "TN"), Product(10, 128, 64, "TN"),
    Product(64, 128, 10, "NT"), Product(64, 128, 10, "NN"),
    Product(1024, 128, 784, "NN"), Product(784, 128, 1024, "TN"), Product(1024, 10, 128, "NN"), Product(128, 10, 1024, "TN"), Product(1024, 128, 10, "NT"),
]
SKINNY = [Product(m, n, k, form) for m in (1, 2, 4, 8) for n, k in ((128, 784), (10, 128)) for form in ("NN", "NT")] + [
    Product(512, 1, 512, "NN"), Product(512, 1, 512, "TN")]
LARGE = [Product(2048, 2048, 2048), Product(64, 64, 16384), Product(64, 64, 16384, "TN"), Product(512, 512, 8192), Product(1000, 1000, 1031),
         Product(100, 300, 500), Product(512, 512, 512, "NN", "f64"), Product(512, 512, 512, "NT", "f64"), Product(61, 100, 77, "NN", "f64")]


def aligned(shape: tuple[int, ...], kind: Any) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start:start + size].view(kind).reshape(shape)


# ---- candidates ----------------------------------------------------------------------------------------------------------------------


def loop_text() -> str:
    """Native loops around a graphc step and around a cblas product with 32- or 64-bit sizes."""
    def text(name: str, parameters: str, call: str) -> str:
        return (f"define void @{name}(ptr %f, i64 %count, {parameters}) {{\nentry:\n  br label %loop\nloop:\n  %i = phi i64 [ 0, %entry ], [ %j, %loop ]\n"
                f"  {call}\n  %j = add i64 %i, 1\n  %more = icmp slt i64 %j, %count\n  br i1 %more, label %loop, label %end\nend:\n  ret void\n}}\n")

    out = text("steps", "ptr %table", "%r = call i32 %f(ptr %table)")
    for size in (32, 64):
        for kind in ("float", "double"):
            values = ["i32 101", "i32 %ta", "i32 %tb", f"i{size} %m", f"i{size} %n", f"i{size} %k", f"{kind} 1.0", "ptr %a", f"i{size} %lda",
                      "ptr %b", f"i{size} %ldb", f"{kind} 0.0", "ptr %c", f"i{size} %n"]
            sizes = [f"i{size} %{v}" for v in ("m", "n", "k", "lda", "ldb")]
            parameters = ", ".join(["i32 %ta", "i32 %tb", *sizes, "ptr %a", "ptr %b", "ptr %c"])
            out += text(f"{kind}{size}", parameters, f"call void %f({', '.join(values)})")
    chains = "\n".join(f"  %c{k} = phi <8 x float> [ splat (float 1.0), %entry ], [ %d{k}, %loop ]" for k in range(10))
    near = "<8 x float> splat (float 0x3FEFFF0000000000)"
    fmas = "\n".join(f"  %d{k} = call <8 x float> @llvm.fma.v8f32(<8 x float> %c{k}, {near}, <8 x float> %x)" for k in range(10))
    sums = "\n".join(f"  %s{k} = fadd <8 x float> {'%s' + str(k - 1) if k else 'zeroinitializer'}, %d{k}" for k in range(10))
    out += (f"define void @peak(ptr %p, i64 %count) {{\nentry:\n  %x = load <8 x float>, ptr %p, align 4\n  br label %loop\nloop:\n"
            f"  %i = phi i64 [ 0, %entry ], [ %j, %loop ]\n{chains}\n{fmas}\n  %j = add i64 %i, 1\n  %more = icmp slt i64 %j, %count\n"
            f"  br i1 %more, label %loop, label %end\nend:\n{sums}\n  store <8 x float> %s9, ptr %p, align 4\n  ret void\n}}\n"
            "declare <8 x float> @llvm.fma.v8f32(<8 x float>, <8 x float>, <8 x float>)\n")
    return out


class Loops:
    """The native loops, compiled."""

    def __init__(self) -> None:
        from graphc.llvm.detect import host
        from graphc.llvm.jit import compile_text, load

        self.names = ("steps", "float32", "float64", "double32", "double64", "peak")
        self.code = load(compile_text(loop_text(), host()), self.names)

    def fn(self, name: str, *types: Any) -> Any:
        return ctypes.CFUNCTYPE(None, *types)(self.code.address(name))


def with_graphc(p: Product, loops: Loops, threads: int, a: np.ndarray, b: np.ndarray) -> tuple[Run, Callable[[], np.ndarray], float]:
    """The step in a loop, what it computes, and the milliseconds that it took to compile."""
    import graphc as gx

    f = gx.compile(p.of, threads=threads, cache=False)
    dtype = gx.float32 if p.dtype == "f32" else gx.float64
    start = time.perf_counter()
    step = f.lower(gx.Spec(a.shape, dtype), gx.Spec(b.shape, dtype)).executable()
    ms = (time.perf_counter() - start) * 1e3
    keep = step([a, b])                                         # fills the table; `keep` holds the result, and the table points at it
    fn = loops.fn("steps", ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
    address, table = step._code.address("step"), step.frame.table.ctypes.data
    return (lambda count, alive=(step, keep, a, b): fn(address, count, table)), (lambda: step([a, b])[0]), ms


@dataclass(frozen=True, slots=True)
class Library:
    """A CBLAS: the address of its products by dtype, and the bits of its sizes."""

    f32: int
    f64: int
    bits: int


def libraries() -> dict[str, Library]:
    """MKL and NumPy's OpenBLAS, where they are."""
    def entry(path: Path, names: tuple[str, str], bits: int) -> Library:
        lib = ctypes.CDLL(str(path), mode=ctypes.RTLD_LOCAL)
        return Library(*(int(ctypes.cast(getattr(lib, n), ctypes.c_void_p).value or 0) for n in names), bits)

    found = {}
    for root in {Path(sys.prefix), Path(np.__file__).parents[4]}:
        for path in sorted(root.glob("lib/libmkl_rt.so*")):
            found["mkl"] = entry(path, ("cblas_sgemm", "cblas_dgemm"), 32)
    for path in sorted((Path(np.__file__).parent.parent / "numpy.libs").glob("libscipy_openblas64_*.so*")):
        found["openblas"] = entry(path, ("scipy_cblas_sgemm64_", "scipy_cblas_dgemm64_"), 64)
    return found


def with_library(p: Product, loops: Loops, lib: Library, a: np.ndarray, b: np.ndarray) -> tuple[Run, Callable[[], np.ndarray]]:
    size = ctypes.c_int64 if lib.bits == 64 else ctypes.c_int32
    fn = loops.fn(("float" if p.dtype == "f32" else "double") + str(lib.bits), ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_int32, *[size] * 5,
                  *[ctypes.c_void_p] * 3)
    c = aligned((p.M, p.N), a.dtype)
    args = [112 if t == "T" else 111 for t in p.form] + [p.M, p.N, p.K, a.shape[1], b.shape[1], a.ctypes.data, b.ctypes.data, c.ctypes.data]
    address = lib.f32 if p.dtype == "f32" else lib.f64

    def value() -> np.ndarray:
        fn(address, 1, *args)
        return c

    return (lambda count, alive=(a, b, c): fn(address, count, *args)), value


# ---- measuring -----------------------------------------------------------------------------------------------------------------------


def rounds_of(runs: dict[str, Run], rounds: int, slice_seconds: float, clock: Callable[[], float] = time.thread_time) -> dict[str, np.ndarray]:
    """Seconds a run, for each round; the order alternates. By default of this thread's own time: what else runs on the core does not count."""
    counts: dict[str, int] = {}
    for name, run in runs.items():
        run(1)
        start = clock()
        run(3)
        counts[name] = max(1, int(slice_seconds / max((clock() - start) / 3, 1e-9)))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for r in range(rounds):
        for name in list(runs) if r % 2 else reversed(list(runs)):
            start = clock()
            runs[name](counts[name])
            times[name].append((clock() - start) / counts[name])
    return {name: np.array(t) for name, t in times.items()}


def peak(loops: Loops, rounds: int = 9) -> float:
    """GF/s of independent FMAs, ten chains of eight lanes."""
    x = aligned((8,), np.float32)
    fn = loops.fn("peak", ctypes.c_void_p, ctypes.c_int64)
    times = rounds_of({"peak": lambda count: fn(x.ctypes.data, 1000 * count)}, rounds, 0.01)["peak"]
    return float(1000 * 10 * 8 * 2 / np.median(times) / 1e9)


def measure(products: Iterable[Product], threads: int = 1, rounds: int = 15, slice_seconds: float = 0.005, loops: Loops | None = None,
            report: Callable[[Row], None] = lambda row: None) -> list[Row]:
    """A row for each product: graphc on one thread and on `threads`, and the libraries that are here on one. Every candidate's result is checked."""
    loops = loops or Loops()
    rows = []
    for p in products:
        a, b = p.operands()
        want = p.of(a.astype(np.float64), b.astype(np.float64))
        bound = 4e-6 * np.sqrt(p.K) * (1 if p.dtype == "f32" else 1e-8) * max(1.0, np.abs(want).max())
        run, value, ms = with_graphc(p, loops, 1, a, b)
        runs, values = {"graphc": run}, {"graphc": value}
        if threads > 1:
            runs["threads"], values["threads"], _ = with_graphc(p, loops, threads, a, b)
        for name, lib in libraries().items():
            runs[name], values[name] = with_library(p, loops, lib, a, b)
        for name, result in values.items():
            error = float(np.abs(result() - want).max())
            assert error <= bound, f"{name} of {p}: off by {error:.2g}"
        times = rounds_of(runs, rounds, slice_seconds, time.thread_time if threads == 1 else time.perf_counter)
        work = 2e-9 * p.M * p.N * p.K
        ratios = {n: float(np.median(times[n] / times["graphc"])) for n in times if n not in ("graphc", "threads")}
        speedup = float(np.median(times["graphc"] / times["threads"])) if "threads" in times else None
        rows.append(Row(str(p), {n: work / float(np.median(t)) for n, t in times.items()}, ratios, speedup, ms))
        report(rows[-1])
    return rows


def show(row: Row) -> None:
    speeds = "  ".join(f"{n} {v:6.1f}" for n, v in row.gflops.items())
    ratios = "  ".join(f"/{n} {v:5.2f}" for n, v in row.ratios.items())
    print(f"{row.product:20} {speeds}   {ratios}" + (f"   x{row.speedup:.2f}" if row.speedup else "") + f"   {row.compile_ms:5.0f} ms", flush=True)


SETS = {"squares": SQUARES, "layers": LAYERS, "skinny": SKINNY, "large": LARGE}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", help=f"of {', '.join(SETS)}")
    parser.add_argument("--only", default="", help="products whose text has this in it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--slice", type=float, default=0.005, help="seconds a candidate runs at a time")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    loops = Loops()
    print(f"{'independent FMAs':20} {peak(loops):.1f} GF/s")
    chosen = [p for name in options.sets or SETS for p in SETS[name] if options.only in str(p)]
    rows = measure(chosen, options.threads, options.rounds, options.slice, loops, show)
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in rows], indent=1))


if __name__ == "__main__":
    main()
