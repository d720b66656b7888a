"""This machine: what it is called, and what it can do, measured: FMAs a second, and bytes a second by the size of what is swept over.

The loops are LLVM text of our own, so nobody's library decides. A workload cannot take less than its FLOPs over the one or its bytes over the other: the floor.
"""
from __future__ import annotations

import ctypes
import os
import platform
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from workloads.base import Workload

from graphc.core.dtype import f32
from graphc.core.target import Target
from graphc.llvm import detect, jit

SIZES = {"16 KiB": 16 << 10, "256 KiB": 256 << 10, "4 MiB": 4 << 20, "256 MiB": 256 << 20}
Roofline = dict[str, Any]                               # for a number of threads: "gflops", and "read" and "triad" in GB/s, by size


def describe() -> dict[str, Any]:
    target = detect.host()
    return {"cpu": _cpu_name(), "llvm_cpu": target.cpu, "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "vector_bytes": target.vector_bytes, "l1": target.l1, "l2": target.l2, "l3": detect.cache_bytes(3, 0), "system": platform.system(),
            "python": platform.python_version(), "llvmlite": version("llvmlite"), "numpy": np.__version__}


def _cpu_name() -> str:
    try:
        return next(line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


REPEATED = """
define void @step(ptr %a, i64 %n, i64 %times) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
  call void @once(ptr %a, i64 %n)
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, %times
  br i1 %more, label %loop, label %end
end:
  ret void
}
"""


def fma_text(target: Target, chains: int = 10) -> str:
    """void once(ptr a, i64 n): n rounds of one FMA in each of `chains` independent accumulators, whose sum goes to a."""
    v = f"<{target.lanes(f32)} x float>"
    r = range(chains)
    lines = [f"declare {v} @llvm.fma.v{target.lanes(f32)}f32({v}, {v}, {v})", "define void @once(ptr %a, i64 %n) noinline {", "entry:",
             f"  %x = load {v}, ptr %a, align 4", "  br label %loop", "loop:", "  %i = phi i64 [ 0, %entry ], [ %j, %loop ]"]
    lines += [f"  %c{k} = phi {v} [ %x, %entry ], [ %d{k}, %loop ]" for k in r]
    lines += [f"  %d{k} = call {v} @llvm.fma.v{target.lanes(f32)}f32({v} %c{k}, {v} %x, {v} %x)" for k in r]
    lines += ["  %j = add i64 %i, 1", "  %more = icmp slt i64 %j, %n", "  br i1 %more, label %loop, label %end", "end:"]
    lines += [f"  %s{k} = fadd {v} %{f's{k - 1}' if k > 1 else 'd0'}, %d{k}" for k in r if k]
    return "\n".join([*lines, f"  store {v} %s{chains - 1}, ptr %a, align 4", "  ret void", "}"])


def sweep_text(target: Target, triad: bool, unroll: int = 8) -> str:
    """void once(ptr a, i64 n): n vectors, `unroll` at a time; triad: c[i] = a[i] + b[i] of three arrays one behind the other; else a sum of one."""
    width, v, r = target.vector_bytes, f"<{target.lanes(f32)} x float>", range(unroll)
    lines = ["define void @once(ptr %a, i64 %n) noinline {", "entry:", f"  %bytes = mul i64 %n, {width}", "  %b = getelementptr i8, ptr %a, i64 %bytes",
             "  %c = getelementptr i8, ptr %b, i64 %bytes", "  br label %loop", "loop:", "  %i = phi i64 [ 0, %entry ], [ %j, %loop ]"]
    if not triad:
        lines += [f"  %s{k} = phi {v} [ zeroinitializer, %entry ], [ %t{k}, %loop ]" for k in r]
    lines += [f"  %at = mul i64 %i, {width}"]
    for k in r:
        lines += [f"  %o{k} = add i64 %at, {k * width}", f"  %p{k} = getelementptr i8, ptr %a, i64 %o{k}", f"  %x{k} = load {v}, ptr %p{k}, align {width}"]
        if triad:
            lines += [f"  %q{k} = getelementptr i8, ptr %b, i64 %o{k}", f"  %y{k} = load {v}, ptr %q{k}, align {width}", f"  %z{k} = fadd {v} %x{k}, %y{k}",
                      f"  %r{k} = getelementptr i8, ptr %c, i64 %o{k}", f"  store {v} %z{k}, ptr %r{k}, align {width}"]
        else:
            lines += [f"  %t{k} = fadd {v} %s{k}, %x{k}"]
    lines += [f"  %j = add i64 %i, {unroll}", "  %more = icmp slt i64 %j, %n", "  br i1 %more, label %loop, label %end", "end:"]
    if not triad:
        lines += [f"  %u{k} = fadd {v} %{f'u{k - 1}' if k > 1 else 't0'}, %t{k}" for k in r if k] + [f"  store {v} %u{unroll - 1}, ptr %a, align {width}"]
    return "\n".join([*lines, "  ret void", "}"])


def rate(code: jit.Code, amount: float, n: int, nbytes: int, threads: int, rounds: int = 25) -> float:
    """amount a call of once(a, n), per second, all threads together: the best of the rounds, for this is a limit. Each has memory of its own."""
    step = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(code.address("step"))
    memory = [np.zeros(nbytes + 4096, np.uint8) for _ in range(threads)]
    calls = max(1, int(1e8 // amount))
    barrier = threading.Barrier(threads)

    def run(m: np.ndarray, spans: list[tuple[float, float]]) -> None:
        m[:] = 0
        a = m.ctypes.data + -m.ctypes.data % 4096
        for _ in range(rounds):
            barrier.wait()
            begin = time.perf_counter()
            step(a, n, calls)
            spans.append((begin, time.perf_counter()))

    spans: list[list[tuple[float, float]]] = [[] for _ in memory]
    workers = [threading.Thread(target=run, args=a) for a in zip(memory, spans, strict=True)]
    for t in workers:
        t.start()
    for t in workers:
        t.join()
    return float(max(amount * calls * threads / (max(e for _, e in at) - min(b for b, _ in at)) for at in zip(*spans, strict=True)))


def roofline(threads: int) -> Roofline:
    target = detect.host()
    build: Callable[[str], jit.Code] = lambda text: jit.load(jit.compile_text(text + REPEATED, target))
    lanes, n = target.lanes(f32), 1 << 20
    out: Roofline = {"gflops": rate(build(fma_text(target)), 2. * lanes * 10 * n, n, 4096, threads) / 1e9}
    for kind, arrays in (("read", 1), ("triad", 3)):
        code = build(sweep_text(target, kind == "triad"))
        out[kind] = {}
        for name, size in SIZES.items():
            vectors = size // arrays // target.vector_bytes // 8 * 8
            out[kind][name] = rate(code, float(vectors * arrays * target.vector_bytes), vectors, size, threads) / 1e9
    return out


def floor(workload: Workload, roof: Roofline) -> float:
    """Microseconds that the workload must take: by its FLOPs, and by its bytes at the best rate seen for a set of that size."""
    size = next((name for name, size in SIZES.items() if workload.bytes <= size), "256 MiB")
    return float(max(workload.flops / roof["gflops"], workload.bytes / max(roof["read"][size], roof["triad"][size]))) / 1e3
