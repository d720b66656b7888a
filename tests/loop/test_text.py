"""The printer: one golden nest, and what is easy to get wrong about expressions."""
from __future__ import annotations

from graphc.core.dtype import bool_, f32, f64, i32
from graphc.loop.ir import (
    Accum,
    Alloc,
    Barrier,
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
    Load,
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
from graphc.loop.text import show

x, y = Buffer("x", (3, 4), f32), Buffer("y", (), f64)
i, j = Var("i"), Var("j")


def test_expressions() -> None:
    a, b = x[i, j], x[j, i]
    assert show((i + 1) * 4 - j) == "(i + 1)*4 - j"
    assert show(Bin("-", i, Bin("-", j, Var("k")))) == "i - (j - k)"
    assert show(Bin("*", Bin("+", a, b), a)) == "(x[i, j] + x[j, i])*x[i, j]"
    assert show(Un("neg", Bin("+", a, b))) == "-(x[i, j] + x[j, i])"
    assert show(Select(Bin("<", a, b), a, Lit(-0.0, f32))) == "(x[i, j] if x[i, j] < x[j, i] else -0.0)"
    assert show(Bin("and", Bin("<=", i, j), Un("not", Lit(True, bool_)))) == "i <= j and not true"
    assert show(Cast(Bitcast(a, i32), f64)) == "f64(bits.i32(x[i, j]))"
    assert show(Call("fma", (a, b, Lit(1e39, f32)))) == "fma(x[i, j], x[j, i], inf)"
    assert show(Lit(0.1, f32)) == "0.1"
    assert show(Lit(0.1, f64)) == "0.1:f64"
    assert show(Lit(7, i32)) == "7:i32"
    assert show(Bin("max", i % 4, j // 2)) == "max(i%4, j//2)"
    assert show(y[()]) == "y[]"


def test_what_is_used_twice_is_printed_once() -> None:
    t = Bin("+", x[i, j], Lit(1.0, f32))
    assert show(Store(x, (i, j), Bin("*", t, t))) == "let t0 = x[i, j] + 1.0\nx[i, j] = t0*t0"


def test_a_deep_expression_is_cut_into_lets_and_a_wide_one_does_not_explode() -> None:
    deep: Expr = x[i, j]
    for _ in range(5000):
        deep = Un("neg", Bin("+", deep, Lit(1.0, f32)))
    lines = show(Store(x, (i, j), deep)).splitlines()
    assert max(map(len, lines)) < 400
    wide: Expr = x[i, j]
    for _ in range(100):
        wide = Bin("*", wide, wide)
    assert len(show(Store(x, (i, j), wide)).splitlines()) == 100


def test_kernel_and_plan(golden) -> None:                        # type: ignore[no-untyped-def]
    n, t, acc = Buffer("n", ("N", 4), f32), Buffer("t", (4,), f32, "scratch"), Buffer("acc", (), f32, "register")
    body = Alloc(t, Alloc(acc, seq(
        Store(acc, (), Lit(0.0, f32)),
        For("i", Int(0), Var("N"), "parallel", For("j", Int(0), Int(4), "simd", Accum(n, (i, j), x[0, j], "max"))),
        While(Bin("<", acc[()], Lit(3.0, f32)), Accum(acc, (), Lit(1.0, f32))),
        If(Bin("<", Var("N"), Int(3)), Check(Bin("<", x[0, 0], Lit(1.0, f32)), 7)),
        For("j", Int(0), Int(4), "unroll", Store(t, (j,), Load(acc, ()))))))
    k = Kernel("k", (n, x), ("N",), body)
    a, b = Region("a", "argument", 160), Region("b", "arena", 48, offset=64)
    plan = Steps((Launch(k, (Ref(a), Ref(b)), (Int(2),)), Barrier(), Loop("t", 5, Launch(k, (Ref(a, Var("t") * 8), Ref(b)), (Int(2),)))))
    golden(show(plan), "loop/plan")
