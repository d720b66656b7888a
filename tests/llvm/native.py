"""Run one kernel natively on NumPy arrays, and compare it with the interpreter."""
from __future__ import annotations

import ctypes

import numpy as np

from graphc.core.target import Target
from graphc.llvm.detect import host
from graphc.llvm.emit import emit
from graphc.llvm.jit import compile_text, load
from graphc.llvm.step import step_text
from graphc.llvm.table import Layout
from graphc.loop.interp import run
from graphc.loop.ir import Int, Kernel, Launch, Ref, Region

SMALL = Target("x86-64-v3", "", vector_bytes=16, registers=16, fma=True)       # four f32 lanes: tails on small shapes
WIDE = Target("x86-64-v3", "", vector_bytes=32, registers=16, fma=True)
PLAIN = Target("x86-64", "", vector_bytes=16, registers=16, fma=False)          # no FMA, no vector rounding, no masked loads


def plan_of(kernel: Kernel, arrays: dict[str, np.ndarray], sizes: dict[str, int]) -> Launch:
    refs = tuple(Ref(Region(b.name, "argument", arrays[b.name].nbytes, i)) for i, b in enumerate(kernel.buffers))
    return Launch(kernel, refs, tuple(Int(sizes[n]) for n in kernel.sizes))


def native(kernel: Kernel, arrays: dict[str, np.ndarray], sizes: dict[str, int] | None = None, target: Target | None = None, flush: bool = False) -> int:
    """The status; the arrays are written in place."""
    target = target or host()
    step = step_text(plan_of(kernel, arrays, sizes or {}), target, Layout(arguments=len(kernel.buffers)), 0, flush)
    code = load(compile_text(step.text, target))
    arena = np.empty(step.arena_bytes + 64, np.uint8)
    at = arena.ctypes.data + -arena.ctypes.data % 64
    table = (ctypes.c_void_p * (1 + len(kernel.buffers)))(at, *(arrays[b.name].ctypes.data for b in kernel.buffers))
    return ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(code.address("step"))(ctypes.addressof(table))


def shares(kernel: Kernel, arrays: dict[str, np.ndarray], sizes: dict[str, int] | None = None, target: Target | None = None, threads: int = 3) -> None:
    """The kernel run by `threads` threads, one after another."""
    target = target or host()
    k = emit(kernel, target)
    args = ", ".join([f"ptr %a{i}" for i in range(len(kernel.buffers))] + ["ptr %scratch", "ptr %status"] + [f"i64 {(sizes or {})[n]}" for n in kernel.sizes])
    outer = ", ".join([f"ptr %a{i}" for i in range(len(kernel.buffers))] + ["ptr %scratch", "ptr %status", "i64 %t"])
    text = f"{k.text}\ndefine void @share({outer}) {{\n  call void @{k.name}({args}, i64 %t, i64 {threads})\n  ret void\n}}\n"
    text += "\n".join(sorted(k.declarations)) + "\nattributes #0 = { nounwind noinline }\n"
    code = load(compile_text(text, target), ("share",))
    fn = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (len(kernel.buffers) + 2), ctypes.c_int64)(code.address("share"))
    scratch, status = np.empty(k.scratch_bytes + 64, np.uint8), np.zeros(1, np.int32)
    for t in range(threads):
        fn(*(arrays[b.name].ctypes.data for b in kernel.buffers), scratch.ctypes.data, status.ctypes.data, t)


def guarded(a: np.ndarray) -> np.ndarray:
    """A copy of a between guard bytes, aligned to its element only: what is written outside shows."""
    raw = np.full(a.nbytes + 256, 0xAB, np.uint8)
    start = 128 + (-raw.ctypes.data % 64) + a.dtype.itemsize
    inside = raw[start:start + a.nbytes].view(a.dtype).reshape(a.shape)
    inside[...] = a
    return inside


def intact(a: np.ndarray) -> bool:
    raw = a
    while raw.base is not None:
        raw = raw.base
    start = a.ctypes.data - raw.ctypes.data
    return bool((raw[:start] == 0xAB).all() and (raw[start + a.nbytes:] == 0xAB).all())


def check(kernel: Kernel, arrays: dict[str, np.ndarray], sizes: dict[str, int] | None = None, targets: tuple[Target, ...] = (SMALL, WIDE, PLAIN),
          rtol: float = 1e-5) -> dict[str, np.ndarray]:
    """Run the kernel by the interpreter and natively for each target; same status, same arrays (exactly where they are not floats)."""
    meant = {n: a.copy() for n, a in arrays.items()}
    status = run(kernel, meant, sizes)
    for target in targets:
        got = {n: guarded(a) for n, a in arrays.items()}
        assert native(kernel, got, sizes, target) == status, target
        for n, a in got.items():
            assert intact(a), f"{n}: written outside, {target}"
            if a.dtype.kind == "f":
                np.testing.assert_allclose(a, meant[n], rtol=rtol, atol=rtol, err_msg=f"{n} {target}")
                assert (np.signbit(a) == np.signbit(meant[n]))[(a == 0) & (meant[n] == 0)].all(), f"{n}: the sign of zero, {target}"
            else:
                np.testing.assert_array_equal(a, meant[n], err_msg=f"{n} {target}")
    return meant
