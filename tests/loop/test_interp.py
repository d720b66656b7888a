"""The interpreter: the meaning that everything else is held to, so it is held to NumPy and to the words of the IR."""
from __future__ import annotations

import numpy as np
import pytest

from graphc.core.dtype import bool_, f32, f64, i8, i32, i64, u8
from graphc.loop.interp import fma, run, run_plan
from graphc.loop.ir import (
    Accum,
    Alloc,
    Bin,
    Bitcast,
    Buffer,
    Call,
    Cast,
    Check,
    Expr,
    For,
    If,
    Int,
    Kernel,
    Launch,
    Lit,
    Loop,
    Ref,
    Region,
    Select,
    Steps,
    Store,
    Un,
    Var,
    While,
    seq,
)

i = Var("i")


def value(e: Expr, dtype) -> object:                            # type: ignore[no-untyped-def]
    """The value of a closed expression."""
    out = np.zeros(1, dtype.numpy)
    assert run(Kernel("k", (Buffer("y", (1,), dtype),), (), Store(Buffer("y", (1,), dtype), (Int(0),), e)), {"y": out}) == 0
    return out[0]


@pytest.mark.parametrize(("op", "a", "b", "dtype", "want"), [
    ("//", -7, 2, i32, -3), ("%", -7, 2, i32, -1), ("//", 5, 0, i32, 0), ("%", 5, 0, i32, 0), ("//", -128, -1, i8, -128), ("%", -128, -1, i8, 0),
    ("//", 200, 7, u8, 28), ("+", 127, 1, i8, -128), ("-", 0, 1, u8, 255), ("<<", 1, 33, i32, 2), (">>", -8, 1, i32, -4), (">>", 248, 3, u8, 31),
    ("max", 0.0, -0.0, f32, 0.0), ("min", 0.0, -0.0, f32, -0.0), ("max", float("nan"), 1.0, f32, float("nan")),
    ("min", 1.0, float("nan"), f32, float("nan")), ("xor", 5, 3, i64, 6),
])
def test_operators(op, a, b, dtype, want) -> None:               # type: ignore[no-untyped-def]
    got = value(Bin(op, Lit(a, dtype), Lit(b, dtype)), dtype)
    np.testing.assert_array_equal(got, want)
    assert np.signbit(got) == np.signbit(want)


@pytest.mark.parametrize(("x", "dtype", "want"), [(3e9, i32, 2**31 - 1),
                                                (-3e9, i32, -2**31), (float("nan"), i32, 0), (-1.5, u8, 0), (-1.5, i8, -1), (2.5, bool_, True)])
def test_casts_saturate(x, dtype, want) -> None:                 # type: ignore[no-untyped-def]
    assert value(Cast(Lit(x, f32), dtype), dtype) == want


def test_other_expressions() -> None:
    assert value(Un("round", Lit(2.5, f32)), f32) == 2.0
    assert value(Bitcast(Lit(1.0, f32), i32), i32) == 0x3F800000
    for often, want in ((0, 2.0), (1, 0.75)):
        assert value(Call("rare", (Lit(0.75, f64), Lit(2.0, f64), Bin("==", Int(often), Int(1)))), f64) == want
    assert value(Cast(Int(7), f32), f32) == 7.0
    assert value(Select(Bin("<", Int(1), Int(2)), Lit(1, i8), Lit(2, i8)), i8) == 1
    a, b = np.float64(1 + 2**-30), np.float64(1 - 2**-30)
    assert fma(a, b, np.float64(-1)) == -(2.0**-60)                                   # one rounding


def test_statements() -> None:
    x, y, acc, n = Buffer("x", (5,), f32), Buffer("y", (3,), f32), Buffer("acc", (), f32, "register"), Buffer("n", (), i64, "register")
    body = Alloc(acc, Alloc(n, seq(
        Store(acc, (), Lit(1.0, f32)), Store(n, (), Lit(0, i64)),
        While(Bin("<", n[()], Lit(3, i64)), seq(Accum(acc, (), x[n[()]], "*"), Accum(n, (), Lit(1, i64)))),
        Store(y, (Int(0),), acc[()]),
        For("i", Int(0), Int(5), "serial", Accum(y, (Int(1),), x[i], "max")),
        If(Bin("<", Int(2), Int(1)), Store(y, (Int(2),), Lit(9.0, f32))),
        Check(Bin("<", y[0], Lit(0.0, f32)), 3), Check(Bin("<", y[0], Lit(0.0, f32)), 4))))
    out = np.zeros(3, np.float32)
    status = run(Kernel("k", (x, y), (), body), {"x": np.array([2, 3, 4, 5, 1], np.float32), "y": out})
    np.testing.assert_array_equal(out, [24, 5, 0])
    assert status == 3                                          # the first failure wins, and the kernel runs on


def test_out_of_bounds_and_unwritten_memory_show() -> None:
    x = Buffer("x", (3,), f32)
    loop = For("i", Int(0), Int(4), "serial", Store(x, (i,), Lit(0.0, f32)))
    with pytest.raises(AssertionError, match=r"x\[3\] is outside \[3\]"):
        run(Kernel("k", (x,), (), loop), {"x": np.zeros(3, np.float32)})
    both = Select(Bin("<", Int(0), Int(1)), Lit(0.0, f32), x[Int(5)])
    with pytest.raises(AssertionError, match="outside"):        # both sides of a Select are evaluated
        run(Kernel("k", (x,), (), Store(x, (Int(0),), both)), {"x": np.zeros(3, np.float32)})
    t, out = Buffer("t", (2,), f32, "scratch"), np.zeros(3, np.float32)
    run(Kernel("k", (x,), (), Alloc(t, Store(x, (Int(0),), t[0]))), {"x": out})
    assert np.isnan(out[0])
    with pytest.raises(AssertionError, match="x is f32"):
        run(Kernel("k", (x,), (), Alloc(t, Store(x, (Int(0),), t[0]))), {"x": np.zeros(4, np.float32)})


def test_plan() -> None:
    x, y = Buffer("x", (2,), f32), Buffer("y", (), f32)
    add = Kernel("add", (x, y), (), seq(For("i", Int(0), Int(2), "serial", Accum(y, (), x[i])), Check(Bin("<", y[()], Lit(20.0, f32)), 5)))
    a, b = Region("a", "argument", 24), Region("b", "result", 4)
    memory = {a: np.arange(6, dtype=np.float32).view(np.uint8), b: np.zeros(4, np.uint8)}
    again = Steps((Loop("t", 3, Launch(add, (Ref(a, Var("t") * 2), Ref(b)))),))
    assert run_plan(again, memory) == 0
    assert memory[b].view(np.float32)[0] == 15
    assert run_plan(again, memory) == 5                         # stops there: 15 + 0 + 1 + 2 + 3, not + 4 + 5
    assert memory[b].view(np.float32)[0] == 21
    with pytest.raises(AssertionError, match="bytes 20:28"):
        run_plan(Launch(add, (Ref(a, Int(5)), Ref(b))), memory)


def test_deep_expressions_run() -> None:
    e: Expr = Lit(0.0, f64)
    for _ in range(5000):
        e = Bin("+", e, Lit(1.0, f64))
    assert value(e, f64) == 5000
