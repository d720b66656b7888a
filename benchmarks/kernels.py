"""Where the time of a step goes: each kernel of a compiled function alone, in a native loop, beside the whole step.

    python benchmarks/kernels.py [W1 W2 W2b W8 W11]             # the workloads of `run.py`

For each kernel: its time with its data where it left them, the time it should take (its FMAs at this core's measured speed, or its bytes at the speed of
the cache that holds them, whichever is longer), and its share. The whole step is longer than the sum where kernels find their data farther away.
"""
from __future__ import annotations

import argparse
import ctypes
import os
import time
from collections.abc import Callable
from typing import Any

import contractions
import numpy as np
from contractions import Loops

SPEEDS = ((24 << 10, 150.0), (256 << 10, 60.0), (8 << 20, 25.0), (1 << 60, 12.0))     # bytes up to which, GB/s: a guess at L1, L2, L3, memory


def expected(kernel: Any, peak: float) -> tuple[float, float]:
    """Microseconds that the multiplications of a kernel's contraction take at `peak` GF/s, and that its bytes take."""
    from graphc.loop.ir import Accum, Bin, For, Int, Load, Seq

    def products(s: Any) -> int:
        match s:
            case Accum(buf, _, Bin("*", Load(), Load())) if buf.space == "register": return 1
            case For(_, Int(lo), Int(hi), _, body): return (hi - lo) * products(body)
            case Seq(body): return sum(map(products, body))
            case _: return products(s.body) if hasattr(s, "body") else 0

    nbytes = sum(int(np.prod(b.shape)) * b.dtype.itemsize for b in kernel.buffers)
    return 2e-3 * products(kernel.body) / peak, nbytes / next(s for most, s in SPEEDS if nbytes <= most) / 1e3


def profile(executable: Any, rounds: int = 15, slice_seconds: float = 0.003) -> list[tuple[str, float, float, float]]:
    """(name, microseconds, of arithmetic, of memory) for each launch of a step that has been called, and for the whole."""
    from graphc.llvm.detect import host
    from graphc.llvm.jit import compile_text, load
    from graphc.llvm.step import step_text
    from graphc.loop.place import launches

    loops, target = Loops(), host()
    peak = contractions.peak(loops)
    fn, table = loops.fn("steps", ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p), executable.frame.table.ctypes.data
    layout, plan = executable._manifest.layout, executable.plan
    end = max((x.region.offset + x.region.nbytes for x in executable.lives), default=0)
    made: dict[str, tuple[Any, float, float]] = {"the step": (executable._code, 0.0, 0.0)}
    for n, launch in enumerate(launches(plan)):
        code = load(compile_text(step_text(launch, target, layout, end).text, target))
        made[f"{launch.kernel.name} ({', '.join(launch.kernel.origin[-2:])}) #{n}"] = (code, *expected(launch.kernel, peak))
    def of(address: int) -> Callable[[int], None]:
        return lambda count: fn(address, count, table)

    times = contractions.rounds_of({name: of(code.address("step")) for name, (code, _, _) in made.items()}, rounds, slice_seconds)
    return [(name, float(np.median(t)) * 1e6, made[name][1], made[name][2]) for name, t in times.items()]


def show(title: str, executable: Any, call: Callable[[], Any]) -> None:
    rows = profile(executable)
    start = time.thread_time()
    for _ in range(200):
        call()
    python = (time.thread_time() - start) / 200 * 1e6
    whole = rows[0][1]
    print(f"\n{title}: {whole:.2f} us in the native step, {python:.2f} us a call, kernels {sum(r[1] for r in rows[1:]):.2f}")
    for name, us, arithmetic, memory in rows[1:]:
        print(f"  {us:9.2f} us {100 * us / whole:5.1f} %   arithmetic {arithmetic:8.2f}  memory {memory:8.2f}   {max(arithmetic, memory) / us:5.2f}   {name}")


def compiled_in(f: Any, depth: int = 4) -> Any:
    """The compiled function that a function closes over, however deep."""
    for cell in getattr(f, "__closure__", None) or ():
        found = cell.cell_contents if hasattr(cell.cell_contents, "lower") else compiled_in(cell.cell_contents, depth - 1) if depth else None
        if found is not None:
            return found
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", default=["W1", "W2", "W2b", "W8", "W11"])
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    from peers.graphc_ import Graphc
    from workloads import WORKLOADS

    for name in options.workloads:
        work, peer = WORKLOADS[name], Graphc(1)
        step = getattr(peer, work.kind)(work)
        step.call()
        show(f"{name}, {work.title}", compiled_in(step.call)._last[2], step.call)


if __name__ == "__main__":
    main()
