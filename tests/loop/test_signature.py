"""Equal nests have equal signatures whatever objects they are made of; nests that differ in one bit have not."""
from __future__ import annotations

import pytest

from graphc.core.dtype import f32, f64
from graphc.loop.ir import Bin, Buffer, Expr, For, Int, Lit, Load, Select, Stmt, Store, Un, Var
from graphc.loop.signature import signature

A, B = Buffer("A", (8,), f32), Buffer("B", (8,), f32)


def nest(value: Expr, how: str = "parallel", size: int = 8) -> Stmt:
    return For("i", Int(0), Int(size), how, Store(B, (Var("i"),), value))        # type: ignore[arg-type]


def shared() -> Expr:
    t = Bin("*", A["i"], A["i"])
    return Bin("+", t, t)


def test_sharing_does_not_matter() -> None:
    apart = Bin("+", Bin("*", A["i"], A["i"]), Bin("*", A["i"], A["i"]))
    assert signature(nest(shared())) == signature(nest(apart))


def test_linear_in_the_dag() -> None:
    e: Expr = A["i"]
    for _ in range(200):                                # 2**200 paths, 200 expressions
        e = Bin("+", e, e)
    assert hash(signature(nest(e))) == hash(signature(nest(e)))


@pytest.mark.parametrize("other", [
    nest(Bin("+", Bin("*", A["i"], A["i"]), A["i"])), nest(shared(), "serial"), nest(shared(), size=7), nest(Bin("-", shared(), shared())),
    nest(Select(Bin("<", A["i"], Lit(0.0, f32)), A["i"], A["i"])), nest(Un("neg", shared())), nest(Load(B, (Var("i"),)))], ids=range(7))
def test_what_differs(other: Stmt) -> None:
    assert signature(other) != signature(nest(shared()))


def test_literals_by_their_bits() -> None:
    values = [Lit(0.0, f32), Lit(-0.0, f32), Lit(1.0, f32), Lit(1.0, f64), Lit(float("nan"), f32), Int(0), Int(1)]
    keys = [signature(nest(v)) for v in values]
    assert len(set(keys)) == len(values)
    assert signature(nest(Lit(float("nan"), f32))) == keys[4]
