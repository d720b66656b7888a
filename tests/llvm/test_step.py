"""The step: the table, offsets, loops, checks, shared kernels, denormals; and the life of loaded code."""
from __future__ import annotations

import ctypes
import gc
import weakref
from itertools import pairwise

import numpy as np
import pytest

from graphc.core.dtype import f32, i32
from graphc.core.target import AVX512, Target
from graphc.llvm.detect import host
from graphc.llvm.jit import Code, asm, compile_text, load
from graphc.llvm.step import StepText, step_text
from graphc.llvm.table import Layout
from graphc.loop.interp import run_plan
from graphc.loop.ir import (
    Accum,
    Alloc,
    Barrier,
    Bin,
    Buffer,
    Check,
    For,
    Int,
    Kernel,
    Launch,
    Lit,
    Loop,
    Plan,
    Ref,
    Region,
    Steps,
    Store,
    Var,
    seq,
)
from graphc.loop.verify import verify

i, t = Var("i"), Var("t")
x, y = Buffer("x", (3,), f32), Buffer("y", (3,), f32)


def add(name: str = "add", amount: float = 1.0) -> Kernel:
    return Kernel(name, (x, y), (), For("i", Int(0), Int(3), "parallel", Accum(y, (i,), x[i] + Lit(amount, f32))))


def execute(plan: Plan, layout: Layout, regions: dict[Region, np.ndarray], arena_bytes: int = 0, flush: bool = True) -> int:
    """Natively, each region where it says; and by the interpreter, with the same status and the same bytes afterwards."""
    verify(plan)
    meant = {r: a.copy() for r, a in regions.items()}
    status = run_plan(plan, meant)
    step = step_text(plan, host(), layout, arena_bytes, flush)
    code = load(compile_text(step.text, host()))
    arena, table = np.zeros(step.arena_bytes, np.uint8), (ctypes.c_void_p * layout.size)()
    table[0] = arena.ctypes.data
    for r, a in regions.items():
        if r.where == "arena":
            arena[r.offset:r.offset + r.nbytes] = a
        else:
            table[layout.index(r.where, r.slot)] = a.ctypes.data
    got = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(code.address("step"))(ctypes.addressof(table))
    for r, a in regions.items():
        if r.where == "arena":
            a[...] = arena[r.offset:r.offset + r.nbytes]
        np.testing.assert_array_equal(a, meant[r], err_msg=r.name)
    assert got == status
    return status


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32).view(np.uint8)


def test_every_kind_of_region() -> None:
    kinds = [Region("a", "argument", 12, 1), Region("s", "scalar", 12, 0), Region("p", "state", 12, 1), Region("c", "constant", 12, 0),
             Region("r", "result", 12, 0), Region("t", "arena", 12, offset=0), Region("u", "arena", 12, offset=64)]
    layout = Layout(arguments=2, scalars=1, states=2, constants=1, results=1)
    assert [layout.index(r.where, r.slot) for r in kinds] == [2, 3, 5, 6, 7, 0, 0]
    assert layout.size == 8
    with pytest.raises(AssertionError, match="state 2 of 2"):
        layout.index("state", 2)
    chain = Steps(tuple(Launch(add(amount=n), (Ref(a), Ref(b))) for n, (a, b) in enumerate(pairwise(kinds))))
    assert execute(chain, layout, {r: floats(n, 2, 3) for n, r in enumerate(kinds)}, 76) == 0


def test_offsets_loops_and_scratch() -> None:
    """Rows of a longer array one after another, through scratch behind the arena's regions."""
    a, b = Region("a", "argument", 60), Region("b", "arena", 36, offset=64)
    tmp = Buffer("tmp", (3,), f32, "scratch")
    reverse = Kernel("reverse", (x, y), (), Alloc(tmp, seq(For("i", Int(0), Int(3), "parallel", Store(tmp, (i,), x[i])),
                                                          For("j", Int(0), Int(3), "parallel", Accum(y, (Var("j"),), tmp[Int(2) - Var("j")])))))
    inner = Loop("u", 2, Launch(reverse, (Ref(a, t * 3 + Var("u") * 6), Ref(b, t * 3))))
    plan = Steps((Loop("t", 3, Steps((inner, Barrier()))), Loop("v", 1, Launch(add(), (Ref(a, Int(12)), Ref(b, Int(6)))))))
    execute(plan, Layout(arguments=1), {a: floats(*range(15)), b: floats(*[0] * 9)}, 100)
    assert step_text(plan, host(), Layout(arguments=1), 100).arena_bytes == 128 + 64


def test_a_failed_check_stops_the_step() -> None:
    n = Buffer("n", (), i32)
    label = Kernel("label", (n,), (), Check(Bin("<", n[()], Lit(10, i32)), 3))
    late = Kernel("late", (n,), (), Check(Bin("<", n[()], Lit(5, i32)), 4))
    a, b, c = Region("a", "argument", 12), Region("b", "argument", 12, 1), Region("n", "scalar", 4)
    plan = Steps((Launch(label, (Ref(c),)), Launch(add(), (Ref(a), Ref(b))), Loop("t", 2, Launch(late, (Ref(c),))), Launch(add(), (Ref(a), Ref(b)))))
    for value, status, total in ((1, 0, 4.0), (7, 4, 2.0), (11, 3, 0.0)):
        regions = {a: floats(1, 1, 1), b: floats(0, 0, 0), c: np.array(value, np.int32).reshape(1).view(np.uint8)}
        assert execute(plan, Layout(arguments=2, scalars=1), regions) == status
        assert regions[b].view(np.float32)[0] == total


def test_equal_kernels_are_emitted_once_and_names_do_not_clash() -> None:
    a, b = Region("a", "argument", 12), Region("b", "argument", 12, 1)
    kernels = [add("add"), add("same"), add("add", 2.0), add("step", 3.0), add("fc1/weight +=", 4.0)]
    plan = Steps(tuple(Launch(k, (Ref(a), Ref(b))) for k in kernels))
    text = step_text(plan, host(), Layout(arguments=2), 0).text
    assert text.count("define internal") == 4
    assert text.count("call void @add(") == 2
    execute(plan, Layout(arguments=2), {a: floats(1, 2, 3), b: floats(0, 0, 0)})


def test_sizes() -> None:
    u, v = Buffer("u", ("N", 2), f32), Buffer("v", (), f32)
    total = Kernel("total", (u, v), ("N",), For("i", Int(0), Var("N"), "serial", Accum(v, (), u[i, 1])))
    a, b = Region("a", "argument", 24), Region("b", "result", 4)
    regions = {a: floats(*range(6)), b: floats(0)}
    execute(Loop("t", 2, Launch(total, (Ref(a), Ref(b)), (t * 2 + 1,))), Layout(arguments=1, results=1), regions)
    assert regions[b].view(np.float32)[0] == 1 + 1 + 3 + 5


CSR = """
declare void @llvm.x86.sse.stmxcsr(ptr)
define i32 @csr() { %p = alloca i32
 call void @llvm.x86.sse.stmxcsr(ptr %p)
 %v = load i32, ptr %p
 ret i32 %v }
"""


@pytest.mark.skipif(host().triple != "" or "sse" not in host().features, reason="x86 only")
@pytest.mark.parametrize("flush", [True, False])
def test_denormals(flush: bool) -> None:
    """Flushed inside the step when asked, and the caller's mode is as it was, by way of a failed check too."""
    half = Kernel("half", (x, y), (), seq(For("i", Int(0), Int(3), "serial", Store(y, (i,), Bin("*", x[i], Lit(0.5, f32)))),
                                          Check(Bin("<", x[2], Lit(1.0, f32)), 2)))
    a, b = Region("a", "argument", 12), Region("b", "argument", 12, 1)
    probe = load(compile_text(CSR, host()), ("csr",))
    mode = ctypes.CFUNCTYPE(ctypes.c_uint32)(probe.address("csr"))
    control = mode() & 0x8040
    for last, status in ((0.5, 0), (3.0, 2)):
        values, out = floats(1.2e-38, 2.0, last), floats(7, 7, 7)
        step = step_text(Launch(half, (Ref(a), Ref(b))), host(), Layout(arguments=2), 0, flush)
        code = load(compile_text(step.text, host()))
        table = (ctypes.c_void_p * 3)(0, values.ctypes.data, out.ctypes.data)
        assert ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(code.address("step"))(ctypes.addressof(table)) == status
        assert (out.view(np.float32)[0] == 0) == flush
        assert out.view(np.float32)[1] == 1.0
        assert mode() & 0x8040 == control


# ---- code ----------------------------------------------------------------------------------------------------------------------------


def constant(value: int) -> Code:
    return load(compile_text(f"define i32 @step(ptr %table) {{ ret i32 {value} }}", host()))


def test_loaded_code_is_freed_with_its_object() -> None:
    codes = [constant(n) for n in range(3)]
    assert [ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(c.address("step"))(None) for c in codes] == [0, 1, 2]
    seen = [weakref.ref(c) for c in codes]
    del codes
    gc.collect()
    assert all(r() is None for r in seen)


def test_the_same_text_gives_the_same_bytes() -> None:
    text = step_text(Launch(add(), (Ref(Region("a", "argument", 12)), Ref(Region("b", "argument", 12, 1)))), host(), Layout(arguments=2), 0).text
    assert compile_text(text, host()) == compile_text(text, host())


def test_other_machines() -> None:
    """Code for machines that this one is not: AVX-512, and another architecture."""
    plan = Launch(add(), (Ref(Region("a", "argument", 12)), Ref(Region("b", "argument", 12, 1))))
    assert "vaddss" in asm(step_text(plan, AVX512, Layout(arguments=2), 0).text, AVX512)
    arm = Target("cortex-a76", "", 16, 32, True, triple="aarch64-unknown-linux-gnu")
    step = step_text(plan, arm, Layout(arguments=2), 0)
    assert isinstance(step, StepText)
    assert "mxcsr" not in step.text
    assert "fadd\ts" in asm(step.text, arm)
