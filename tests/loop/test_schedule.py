"""Schedules keep the meaning: every step of a small GEMM against the interpreter; and they refuse what would not."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphc.core.dtype import f32, i64
from graphc.core.target import Target
from graphc.loop.contraction import contraction, in_registers
from graphc.loop.interp import run
from graphc.loop.ir import Accum, Alloc, Buffer, Cast, For, Int, Kernel, Lit, Select, Stmt, Store, Var, seq, subst, walk
from graphc.loop.schedule import ScheduleError, chunks, collapse, dependence, each, lanes_of, mark, partial_sums, sink, spill, stage, tile
from graphc.loop.text import show
from graphc.loop.verify import verify

SMALL = Target("x86-64-v3", "", vector_bytes=16, registers=16, fma=True)
M, N, K = 7, 11, 6
A, B, bias, C = Buffer("A", (M, K), f32), Buffer("B", (K, N), f32), Buffer("bias", (N,), f32), Buffer("C", (M, N), f32)
m, n, k = Var("m"), Var("n"), Var("k")
zero = Lit(0.0, f32)


def nest() -> Stmt:
    def relu(x):                                                # type: ignore[no-untyped-def]
        y = x + bias[n]
        return Store(C, (m, n), Select(y < zero, zero, y))
    return contraction({"m": M, "n": N}, {"k": K}, A[m, k] * B[k, n], relu)


def means_the_same(s: Stmt, finished: bool = True) -> None:
    """Same results; on the way, registers may still have run-time indices."""
    rng = np.random.default_rng(0)
    arrays = {b.name: rng.integers(-4, 5, b.shape).astype(np.float32) for b in (A, B, bias, C)}
    kernel = Kernel("gemm", (A, B, bias, C), (), s)
    if finished:
        verify(kernel)
    assert run(kernel, arrays) == 0
    np.testing.assert_array_equal(arrays["C"], np.maximum(arrays["A"] @ arrays["B"] + arrays["bias"], 0))


def test_every_step_of_a_register_tile(golden) -> None:          # type: ignore[no-untyped-def]
    s, texts = nest(), []
    for step in (lambda s: s, lambda s: tile(s, "m", 3), lambda s: tile(s, "n", 8, unit=4), lambda s: sink(s, "mi"), lambda s: sink(s, "ni"),
                 lambda s: mark(s, mi="unroll", ni="simd"), lambda s: mark(tile(s, "k", 4), ki="unroll")):
        s = step(s)
        means_the_same(s, finished=False)
        texts.append(show(s))
    means_the_same(s)
    golden("\n\n".join(texts), "loop/gemm_steps")


def test_a_rolled_epilogue() -> None:
    """The tile goes to memory, and what follows the sum is a loop over it: full vectors one at a time, a tail as it is."""
    for columns, rolled in ((8, True), (12, False)):            # 11 columns: 8 + 3, or one tile of 11
        s = spill(mark(in_registers(nest(), "m", "n", 3, columns, SMALL, f32), mi="unroll", ni="simd"), "acc", "mi", "ni", 4)
        means_the_same(s)
        assert any(x.var == "niv" for x in walk(s) if isinstance(x, For)) == rolled
        assert any(isinstance(x, Alloc) and x.buf.name == "acc_tile" for x in walk(s))


def test_a_run_without_loops_keeps_its_scalars() -> None:
    """Two stores of one register: sunk as one block, the register stays of rank 0 though the accumulator gains axes."""
    v = Buffer("v", (), f32, "register")
    s = contraction({"m": M, "n": N}, {"k": K}, A[m, k] * B[k, n],
                    lambda x: Alloc(v, seq(Store(v, (), x + bias[n]), Store(C, (m, n), Select(v[()] < zero, zero, v[()])))))
    s = in_registers(s, "m", "n", 3, 8, SMALL, f32)
    means_the_same(s)
    assert {x.buf.shape for x in walk(s) if isinstance(x, Alloc) and x.buf.name == "v"} == {()}


def test_packing(golden) -> None:                                # type: ignore[no-untyped-def]
    s = sink(nest(), "m", into="n")
    s = tile(s, "n", 4, unit=4, outer="np")
    s = tile(s, "np", 2, outer="nc", inner="no")
    s = tile(s, "m", 3)
    for step in (lambda s: sink(s, "no", into="mo"), lambda s: sink(sink(s, "mi"), "ni"), lambda s: stage(s, "nc", B, ("no", "k", "ni")),
                 lambda s: stage(s, "mo", A, ("mi", "k"), pad=4), lambda s: mark(tile(s, "k_A", 4, unit=4), k_Ai="simd", ni_B="simd")):
        s = step(s)
        means_the_same(s, finished=False)
    s = mark(s, mi="unroll", ni="simd")
    means_the_same(s)
    golden(show(s), "loop/gemm_packed")


def test_partial_sums(golden) -> None:                           # type: ignore[no-untyped-def]
    for lanes in (0, 4):
        s = partial_sums(tile(nest(), "k", 8, unit=8), "acc", "ki", lanes)
        means_the_same(s, finished=False)
        s = mark(s, ki="simd")
        means_the_same(s)
    golden(show(s), "loop/partial_sums")


def test_interchange_and_each() -> None:
    s = sink(nest(), "m", into="n")
    assert [x.var for x in walk(s) if isinstance(x, For)] == ["n", "m", "k"]
    means_the_same(s)
    means_the_same(each(nest(), "k", lambda loop: tile(loop, "k", 5)))


def test_by_columns() -> None:
    for by_columns in (False, True):
        means_the_same(in_registers(nest(), "m", "n", 3, 8, SMALL, f32, by_columns))


def test_collapse() -> None:
    x, y = Buffer("x", (3, 4), f32), Buffer("y", (3, 4), f32)
    s: Stmt = For("i", Int(0), Int(3), "parallel", For("j", Int(0), Int(4), "parallel", Store(y, (Var("i"), Var("j")), x[Var("i"), Var("j")])))
    s = mark(tile(collapse(s, "i", "j", "f"), "f", 8, unit=4), fi="simd")
    kernel = Kernel("copy", (x, y), (), s)
    verify(kernel)
    arrays = {"x": np.arange(12, dtype=np.float32).reshape(3, 4), "y": np.zeros((3, 4), np.float32)}
    run(kernel, arrays)
    np.testing.assert_array_equal(arrays["x"], arrays["y"])


def test_symbolic_rows() -> None:
    a, c = Buffer("A", ("M", K), f32), Buffer("C", ("M", N), f32)
    s = contraction({"m": "M", "n": N}, {"k": K}, a[m, k] * B[k, n], lambda x: Store(c, (m, n), x))
    s = in_registers(s, "m", "n", 3, 8, SMALL, f32)
    kernel = Kernel("gemm", (a, B, c), ("M",), s)
    verify(kernel)
    rng = np.random.default_rng(0)
    for rows in (1, 2, 3, 7):
        arrays = {"A": rng.integers(-4, 5, (rows, K)).astype(np.float32), "B": rng.integers(-4, 5, (K, N)).astype(np.float32),
                  "C": np.zeros((rows, N), np.float32)}
        run(kernel, arrays, {"M": rows})
        np.testing.assert_array_equal(arrays["C"], arrays["A"] @ arrays["B"])


@given(st.integers(0, 300), st.integers(1, 40), st.integers(1, 9))
def test_chunks_cover_a_range_once(total: int, most: int, unit: int) -> None:
    most = max(most, unit)
    covered = [at + c * size + j for at, count, size in chunks(total, most, unit) for c in range(count) for j in range(size)]
    assert covered == list(range(total))
    sizes = [size for _, _, size in chunks(total, most, unit)]
    assert all(size <= most for size in sizes)
    assert all(size % unit == 0 for size in sizes[:-1])


def test_lanes_of() -> None:
    x, y, z = Buffer("x", (4,), f32), Buffer("y", (4,), i64), Buffer("z", (4,), replace(C).dtype)
    i = Var("i")
    loop = lambda b: For("i", Int(0), Int(4), "simd", Store(b, (i,), b[i]))
    assert lanes_of(loop(x), SMALL) == 4
    assert lanes_of(loop(y), SMALL) == 2
    assert lanes_of(seq(loop(y), loop(z)), SMALL) == 4


# ---- what is refused -----------------------------------------------------------------------------------------------------------------

x, y = Buffer("x", (40,), f32), Buffer("y", (40,), f32)
idx = Buffer("idx", (8,), i64)
i, j = Var("i"), Var("j")


def loop(body: Stmt, size: int = 8, how: str = "parallel") -> For:
    return For("i", Int(0), Int(size), how, body)               # type: ignore[arg-type]


def inner(body: Stmt, size: int = 4) -> For:
    return For("j", Int(0), Int(size), "serial", body)


@pytest.mark.parametrize(("body", "free"), [
    (Store(y, (i,), x[i]), True),
    (Store(y, (i * 2 + 1,), x[0]), True),
    (Store(y, (Int(0),), x[i]), False),
    (Accum(y, (Int(0),), x[i]), False),
    (Store(x, (i,), x[i + 1]), False),                          # reads what another iteration writes
    (Store(x, (i,), x[i + 8]), True),                           # beyond what any iteration writes
    (Store(x, (i,), x[i]), True),
    (Store(y, (idx[i],), x[i]), False),                         # data decides
    (inner(Store(y, (i * 4 + j,), x[i])), True),
    (inner(Store(y, (i * 3 + j,), x[i])), False),
    (inner(Store(y, (j * 8 + i,), x[i])), True),                # columns
    (inner(Store(y, (j * 7 + i,), x[i])), False),
    (Store(y, (i // 2,), x[i]), False),
    (Store(Buffer("w", (2, 4), f32), (i // 4, i % 4), x[i]), True),
    (Alloc(Buffer("t", (), f32, "register"), seq(Store(Buffer("t", (), f32, "register"), (), x[i]), Store(y, (i,), x[i]))), True),
])
def test_dependence(body: Stmt, free: bool) -> None:
    assert (dependence(loop(body)) is None) == free


def test_reductions_may_be_simd_and_not_parallel() -> None:
    s = loop(Accum(y, (Int(0),), x[i]), how="serial")
    assert mark(s, i="simd") == replace(s, how="simd")
    with pytest.raises(ScheduleError, match="i cannot be parallel: iterations may meet in y"):
        mark(s, i="parallel")
    with pytest.raises(ScheduleError, match="i cannot be simd"):
        mark(loop(seq(Accum(y, (Int(0),), x[i]), Store(y, (Int(1),), y[0])), how="serial"), i="simd")


@pytest.mark.parametrize(("schedule", "why"), [
    (lambda s: tile(s, "q", 4), "no loop q in this nest; there are m, n, k"),
    (lambda s: mark(s, q="simd"), "no loop q"),
    (lambda s: sink(s, "k"), "sink k: the loop is serial, not parallel"),
    (lambda s: sink(s, "m", into="q"), "sink m: no loop q inside it"),
    (lambda s: stage(s, "m", B, ("k", "q")), "stage B: no loop q inside m"),
    (lambda s: stage(s, "m", Buffer("D", (3,), f32), ("k",)), "stage D: 0 different indices"),
    (lambda s: partial_sums(s, "sum", "k"), "no register sum in this nest"),
    (lambda s: partial_sums(s, "acc", "q"), "partial sums of acc: no loop q"),
    (lambda s: collapse(s, "m", "k"), "collapse m, k: the one does not directly hold the other"),
    (lambda s: mark(s, k="parallel"), "k cannot be parallel: iterations may meet in acc"),
])
def test_refusals(schedule, why: str) -> None:                   # type: ignore[no-untyped-def]
    with pytest.raises(ScheduleError, match=why.replace("[", r"\[")):
        schedule(nest())


def test_sink_checks_independence() -> None:
    wrong = loop(Store(x, (i,), x[i + 1]))
    with pytest.raises(ScheduleError, match="sink i: iterations may meet in x"):
        sink(wrong, "i")


def test_substitution_happens_once() -> None:
    """i + j under i → j, j → 0: the j that came in for i stays, though the sum folds to it."""
    i, j = Var("i"), Var("j")
    assert subst(i + j, {"i": j, "j": Int(0)}) == j
    assert subst(i * 5 + j, {"i": j, "j": i}) == j * 5 + i
    out = Buffer("out", (3, 1), i64)
    s = For("i", Int(0), Int(3), "parallel", For("j", Int(0), Int(1), "parallel", Store(out, (i, j), Cast(i + j, i64))))
    arrays = {"out": np.zeros((3, 1), np.int64)}
    run(Kernel("k", (out,), (), collapse(s, "i", "j", "j")), arrays)
    np.testing.assert_array_equal(arrays["out"], [[0], [1], [2]])
