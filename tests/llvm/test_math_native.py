"""The functions of loop/math.py as machine code: the bits of their expressions, and with denormals flushed still NumPy's answers elsewhere."""
from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from graphc.core.dtype import DType, f32, f64
from graphc.core.target import BASELINE, Target
from graphc.llvm.detect import host
from graphc.llvm.jit import compile_text, load
from graphc.llvm.step import is_x86, step_text
from graphc.llvm.table import Layout
from graphc.loop.ir import Buffer, For, Int, Kernel, Launch, Ref, Region, Store, Var, walk
from graphc.loop.math import FUNCTIONS

from ..loop.expr_eval import evaluate

Array = np.ndarray[Any, np.dtype[Any]]
ROWS, COLUMNS = 53, 19                                          # whole vectors and a masked one, whatever the lanes
N = ROWS * COLUMNS


def kernel(name: str, dtype: DType) -> Kernel:
    xs = tuple(Buffer(f"x{i}", (N,), dtype) for i in range(2 if name in ("pow", "atan2") else 1))
    y = Buffer("y", (N,), dtype)
    i = Var("row") * COLUMNS + Var("column")
    row = For("column", Int(0), Int(COLUMNS), "simd", Store(y, (i,), FUNCTIONS[name](*(x[i] for x in xs))))
    return Kernel(name, (*xs, y), (), For("row", Int(0), Int(ROWS), "serial", row))


def run(k: Kernel, xs: list[Array], target: Target, flush: bool) -> Array:
    y = np.empty_like(xs[0])
    regions = [Region(b.name, "argument", y.nbytes, slot) for slot, b in enumerate(k.buffers)]
    step = step_text(Launch(k, tuple(map(Ref, regions))), target, Layout(arguments=len(regions)), 0, flush)
    code = load(compile_text(step.text, target))
    table = np.array([0, *(a.ctypes.data for a in (*xs, y))], np.uint64)
    assert ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(code.address("step"))(table.ctypes.data) == 0
    return y


@pytest.mark.parametrize("target", [host(), pytest.param(BASELINE, marks=pytest.mark.skipif(not is_x86(BASELINE), reason="x86 only"))],
                         ids=["host", "baseline"])
@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_machine_code_has_the_bits_of_the_expression(name: str, dtype: DType, target: Target) -> None:
    rng = np.random.default_rng(7)
    k = kernel(name, dtype)
    inputs = len(k.buffers) - 1
    patterns = [np.frombuffer(rng.bytes(N * dtype.itemsize), dtype.numpy).copy() for _ in range(inputs)]
    tame = [(rng.uniform(-1, 1, N) * (3 if name not in ("asin", "acos") else 1)).astype(dtype.numpy) for _ in range(inputs)]
    for xs in (patterns, tame):
        value = next(s.value for s in walk(k.body) if isinstance(s, Store))
        want = evaluate(value, {b.name: x for b, x in zip(k.buffers, xs)}, fma=target.fma)
        np.testing.assert_array_equal(run(k, xs, target, flush=False), want)
        flushed, tiny = run(k, xs, target, flush=True), np.finfo(dtype.numpy).tiny
        normal = np.logical_and.reduce([(np.abs(x) >= tiny * 2.0 ** 60) & np.isfinite(x) for x in xs]) & (np.abs(want) >= tiny * 2.0 ** 60)
        np.testing.assert_array_equal(flushed[normal], want[normal])
