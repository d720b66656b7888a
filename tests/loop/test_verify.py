"""The verifier: one small wrong kernel for each rule."""
from __future__ import annotations

import pytest

from graphc.core.dtype import bool_, f32, f64, i32
from graphc.loop.ir import (
    Accum,
    Alloc,
    Bin,
    Bitcast,
    Buffer,
    Call,
    Check,
    Expr,
    For,
    How,
    If,
    Int,
    Kernel,
    Launch,
    Lit,
    Ref,
    Region,
    Select,
    Stmt,
    Store,
    Un,
    Var,
    seq,
)
from graphc.loop.verify import LoopError, verify

x, y, c, big = Buffer("x", (6,), f32), Buffer("y", (6,), f64), Buffer("c", (6,), i32), Buffer("big", (9999,), f32)
r, t = Buffer("r", (), f32, "register"), Buffer("t", (2,), f32, "register")
i, j = Var("i"), Var("j")
one = Lit(1.0, f32)


def over(var: str, body: Stmt, how: How = "serial", size: int = 6, lo: int = 0) -> For:
    return For(var, Int(lo), Int(size), how, body)


def put(e: Expr) -> Store:
    return Store(x, (Int(0),), e)


@pytest.mark.parametrize(("body", "why"), [
    (Store(x, (i,), one), "i is not bound"),
    (over("i", over("i", put(one))), "i is bound twice"),
    (Alloc(r, Alloc(r, Store(r, (), one))), "r is allocated twice"),
    (Store(r, (), one), "r is not allocated here"),
    (Alloc(Buffer("x", (2,), f32, "scratch"), put(one)), "x is allocated twice"),
    (Store(Buffer("x", (7,), f32), (Int(0),), one), "x is not the one allocated here"),
    (Store(x, (Int(0), Int(0)), one), "x: 2 indices into rank 1"),
    (Store(x, (Int(6),), one), "x: index 6 of 6"),
    (Store(x, (c[0],), one), "x: an index of i32"),
    (put(y[0]), "f64 stored to f32"),
    (Accum(x, (Int(0),), y[0]), "f64 accumulated into f32"),
    (put(Bin("+", x[0], Int(1))), r"\+ of f32 and i64"),
    (put(Bin("//", x[0], x[1])), "no // of f32"),
    (put(Bin("and", x[0], x[1])), "no and of f32"),
    (Store(c, (Int(0),), Bin("/", c[0], c[1])), "no / of i32"),
    (Store(c, (Int(0),), Un("sqrt", c[0])), "no sqrt of i32"),
    (put(Un("not", x[0])), "no not of f32"),
    (put(Select(x[0], x[0], x[1])), "select by f32"),
    (Store(y, (Int(0),), Select(x[0] < x[1], y[0], x[1])), "select of f64 and f32"),
    (Store(y, (Int(0),), Bitcast(x[0], f64)), "the bits of f32 as f64"),
    (put(Call("copysign", (x[0], y[0]))), "no copysign of"),
    (put(Call("rare", (x[0], x[1], x[2]))), "no rare of"),
    (If(x[0], put(one)), "a condition of f32"),
    (Check(x[0] < x[1], 0), "check: code 0"),
    (over("i", Store(x, (i,), one), "parallel", lo=1), "parallel i starts at 1"),
    (over("i", put(one), "parallel"), "parallel i: iterations may meet in x"),
    (over("i", Store(x, (i,), x[i + 1]), "simd"), "simd i: iterations may meet in x"),
    (over("i", over("j", Store(Buffer("w", (6, 6), f32), (i, j), one), "simd"), "simd"), "simd j inside simd i"),
    (For("i", Int(0), Var("N"), "unroll", put(one)), "unroll i: the extent is not a number"),
    (over("i", Store(big, (i,), one), "simd", 9999), "simd i: 9999 is more than 1024"),
    (Alloc(t, over("i", Store(t, (i,), one), size=2)), "t is in registers: its index moves with the run-time i"),
    (Alloc(r, put(r[()])), "r is read before it is surely written"),
    (Alloc(r, seq(If(x[0] < x[1], Store(r, (), one)), put(r[()]))), "r is read before it is surely written"),
    (Alloc(r, over("i", seq(Accum(r, (), one), Store(r, (), one)))), "r is read before it is surely written"),
    (Alloc(r, seq(over("i", Store(r, (), one)), put(r[()]))), "r is read before it is surely written"),
    (For("i", Int(0), Lit(3, i32), "serial", put(one)), "i: a bound of i32"),
    (Alloc(Buffer("s", ("N", 2), f32, "scratch"), put(one)), "s: cannot be allocated"),
])
def test_refused(body: Stmt, why: str) -> None:
    w = Buffer("w", (6, 6), f32)
    with pytest.raises(LoopError, match=why):
        verify(Kernel("k", (x, y, c, big, w), ("N",), body))


def test_accepted() -> None:
    verify(Kernel("k", (x,), (), Alloc(t, seq(
        over("i", Store(t, (i,), one), "unroll", 2),            # spelt out: what it writes stays written
        over("j", seq(over("i", Accum(t, (i,), x[j]), "unroll", 2))),
        over("i", Store(x, (i,), t[i]), "unroll", 2)))))
    verify(Kernel("k", (x,), (), over("i", Alloc(r, seq(Store(r, (), x[i]), If(Bin("<", x[i], one), Store(r, (), one)), Store(x, (i,), r[()]))), "simd")))


def test_kernels_and_launches() -> None:
    body = put(one)
    with pytest.raises(LoopError, match="two buffers of one name"):
        verify(Kernel("k", (x, x), (), body))
    with pytest.raises(LoopError, match="a parameter that is not an argument"):
        verify(Kernel("k", (x, r), (), body))
    with pytest.raises(LoopError, match="sizes of"):
        verify(Kernel("k", (x, Buffer("z", (2, "N"), f32)), ("N",), body))
    k = Kernel("k", (x,), (), body)
    with pytest.raises(LoopError, match="launch of k: 0 regions"):
        verify(Launch(k, ()))
    with pytest.raises(LoopError, match="launch of k: x does not fit"):
        verify(Launch(k, (Ref(Region("a", "argument", 24), Int(1)),)))
    verify(Launch(k, (Ref(Region("a", "argument", 28), Int(1)),)))
    assert bool_.itemsize == 1
