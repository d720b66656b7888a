"""Contractions through the loop IR against a hand-written text generator of the same kernels, interleaved in one process.

    python benchmarks/loop_vs_prototype.py --prototype DIR [--rounds 41] [--spills]

DIR holds the generator, `gemm.py`. Both sides go through the same LLVM at the same level, for the same machine (AVX2, whatever this host has); the
candidates alternate, and the table gives the median over rounds of the ratio of their times, with quartiles, and the ratio of the best times. Times
drift with the clock and with neighbours: only ratios mean something. Compile times are the third-best of nine, in CPU time. `--spills` compiles
the kernels for AVX-512, which need not be here, and counts the vector registers that go to the stack.
"""
from __future__ import annotations

import argparse
import ctypes
import sys
import time
from collections.abc import Callable

import numpy as np

from graphc.core.dtype import f32
from graphc.core.target import AVX2, AVX512, Target
from graphc.llvm.jit import Code, asm, compile_text, load
from graphc.llvm.step import step_text
from graphc.llvm.table import Layout
from graphc.loop.contraction import contraction, matmul_schedule
from graphc.loop.ir import Bin, Buffer, Expr, Kernel, Launch, Lit, Ref, Region, Select, Stmt, Store, Var

m, n, k = Var("m"), Var("n"), Var("k")
CASES = {                                                       # name: M, N, K, A is stored [K, M], the weight update is in the store
    "fc1, bias + relu": (64, 128, 784, False, False),
    "dW, W -= lr*dW": (784, 128, 64, True, True),
    "odd, bias + relu": (61, 100, 77, False, False),
    "cube, bias + relu": (256, 256, 256, False, False),
    "large, bias + relu": (512, 512, 512, False, False),
}
REPEAT = """
define void @five(ptr %f, i64 %n, ptr %a, ptr %b, ptr %c, ptr %d, ptr %e) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
  call void %f(ptr %a, ptr %b, ptr %c, ptr %d, ptr %e)
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}
define void @one(ptr %f, i64 %n, ptr %a) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
  %r = call i32 %f(ptr %a)
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}
"""


def kernel(M: int, N: int, K: int, ta: bool, update: bool, target: Target) -> Kernel:
    """relu(A @ B + bias) -> C, or C -= lr * A.T @ B."""
    A, B, C = Buffer("A", (K, M) if ta else (M, K), f32), Buffer("B", (K, N), f32), Buffer("C", (M, N), f32)
    bias, zero = Buffer("bias", (N,), f32), Lit(0.0, f32)

    def store(x: Expr) -> Stmt:
        if update:
            return Store(C, (m, n), Bin("-", C[m, n], Bin("*", bias[0], x)))            # bias[0] stands for the learning rate
        y = Bin("+", x, bias[n])
        return Store(C, (m, n), Select(Bin("<", y, zero), zero, y))

    nest = contraction({"m": M, "n": N}, {"k": K}, A[(k, m) if ta else (m, k)] * B[k, n], store)
    return Kernel("gemm", (A, B, C, bias), (), matmul_schedule(nest, "m", "n", ("k",), target, f32))


def step_of(kernel: Kernel, target: Target) -> str:
    refs = tuple(Ref(Region(b.name, "argument", 1 << 30, i)) for i, b in enumerate(kernel.buffers))
    return step_text(Launch(kernel, refs), target, Layout(arguments=4), 0, flush_denormals=False).text


def aligned(*shape: int) -> np.ndarray:
    raw = np.zeros(int(np.prod(shape)) * 4 + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start:start + int(np.prod(shape)) * 4].view(np.float32).reshape(shape)


def runner(name: str, code: Code, symbol: str, arrays: list[np.ndarray], table: bool) -> Callable[[int], None]:
    """A function that runs the code n times, looped natively."""
    repeat = load(compile_text(REPEAT, AVX2), ("five", "one"))
    pointers = [a.ctypes.data for a in arrays]
    if table:
        entries = (ctypes.c_void_p * (1 + len(pointers[:4])))(pointers[4], *pointers[:4])
        fn = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)(repeat.address("one"))
        return lambda count, keep=(code, repeat, entries, arrays): fn(code.address(symbol), count, ctypes.addressof(entries))
    fn = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 7)(repeat.address("five"))
    return lambda count, keep=(code, repeat, arrays): fn(code.address(symbol), count, *pointers)


def compare(ours: Callable[[int], None], theirs: Callable[[int], None], rounds: int) -> tuple[np.ndarray, float, float]:
    """Quartiles of the ratios of times, and the best time of each."""
    def seconds(f: Callable[[int], None], count: int) -> float:
        start = time.perf_counter()
        f(count)
        return (time.perf_counter() - start) / count

    ours(1), theirs(1)
    count = max(1, int(.004 / seconds(theirs, 3)))
    pairs = []
    for r in range(rounds):
        first, second = (ours, theirs) if r % 2 else (theirs, ours)
        a, b = seconds(first, count), seconds(second, count)
        pairs.append((a, b) if r % 2 else (b, a))
    times = np.array(pairs)
    return np.quantile(times[:, 0] / times[:, 1], [.25, .5, .75]), times[:, 0].min(), times[:, 1].min()


def cpu_ms(f: Callable[[], object]) -> float:
    times = []
    for _ in range(9):
        start = time.process_time()
        f()
        times.append(time.process_time() - start)
    return sorted(times)[2] * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prototype", required=True, help="the folder of gemm.py")
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--spills", action="store_true")
    options = parser.parse_args()
    sys.path.insert(0, options.prototype)
    import gemm as prototype

    print(f"{'kernel':20} {'against':8} {'time ours/theirs':>24} {'best':>6} {'GF/s':>13}   compile ms: ours (schedule + emit + LLVM)  theirs  ratio")
    rng = np.random.default_rng(0)
    for name, (M, N, K, ta, update) in CASES.items():
        A, B, C, bias, scratch = aligned(*((K, M) if ta else (M, K))), aligned(K, N), aligned(M, N), aligned(N), aligned(1 << 21)
        A[:], B[:] = rng.standard_normal(A.shape), rng.standard_normal(B.shape)
        ours = kernel(M, N, K, ta, update, AVX2)
        text = step_of(ours, AVX2)
        parts = [cpu_ms(f) for f in (lambda c=(M, N, K, ta, update): kernel(*c, AVX2), lambda s=ours: step_of(s, AVX2), lambda t=text: compile_text(t, AVX2))]
        run_ours = runner("ours", load(compile_text(text, AVX2)), "step", [A, B, C, bias, scratch], True)
        run_ours(1)
        want = (A.T if ta else A) @ B
        assert update or np.abs(C - np.maximum(want, 0)).max() < 1e-2, name
        for form, settings in (("lean", {"packa": 0, "packb": 0, "unroll": 1}), ("default", {})):
            def generate(settings=settings, c=(M, N, K, ta), update=update) -> str:             # type: ignore[no-untyped-def]
                g = prototype.Gemm("gemm", *c[:3], int(c[3]), 0, vw=8, nreg=16, bias=int(not update), relu=int(not update), beta=int(update), **settings)
                return str(g.emit() + prototype.decls(8))
            theirs_text = generate()
            their_ms = cpu_ms(generate) + cpu_ms(lambda t=theirs_text: compile_text(t, AVX2))
            D = aligned(M, N)
            run_theirs = runner("theirs", load(compile_text(theirs_text, AVX2), ("gemm",)), "gemm", [A, B, D, bias, scratch], False)
            q, a, b = compare(run_ours, run_theirs, options.rounds)
            work = 2e-9 * M * N * K
            print(f"{name:20} {form:8} {q[1]:8.3f} [{q[0]:.3f} {q[2]:.3f}] {a / b:8.3f} {work / a:6.1f} {work / b:6.1f}   "
                  f"{sum(parts):5.1f} ({' + '.join(f'{p:.1f}' for p in parts)})  {their_ms:5.1f}  {sum(parts) / their_ms:.2f}", flush=True)
    if options.spills:
        for name, case in CASES.items():
            code = asm(step_of(kernel(*case, AVX512), AVX512), AVX512).splitlines()
            vectors = [line for line in code if "zmm" in line]
            print(f"AVX-512 {name:20} {len(vectors):5} lines with zmm, {sum('(%rsp)' in line for line in vectors)} of them on the stack")


if __name__ == "__main__":
    main()
