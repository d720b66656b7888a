"""Machine code against the interpreter, for three targets: four lanes, eight lanes, and a machine with neither FMA nor vector rounding."""
from __future__ import annotations

import random

import numpy as np
import pytest

from graphc.core.dtype import COMPUTED, DType, bool_, f32, f64, i32, i64, u8
from graphc.core.target import AVX512
from graphc.llvm.emit import emit
from graphc.llvm.jit import asm
from graphc.llvm.step import step_text
from graphc.llvm.table import Layout
from graphc.loop.contraction import contraction, in_registers
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
    Ref,
    Region,
    Select,
    Stmt,
    Store,
    Un,
    Var,
    While,
    seq,
)
from graphc.loop.verify import verify

from .native import PLAIN, SMALL, WIDE, check, guarded, intact, native, shares

i, j, k = Var("i"), Var("j"), Var("k")
N = 23                                                          # full blocks and a tail for 4 and for 8 lanes


def reg(name: str, dtype: DType = f32, *shape: int) -> Buffer:
    return Buffer(name, shape, dtype, "register")


def over(var: str, size: int, how: str, *body: Stmt) -> For:
    return For(var, Int(0), Int(size), how, seq(*body))         # type: ignore[arg-type]


def data(d: DType, *shape: int, seed: int = 0) -> np.ndarray:
    """Values of a type with its nasty ones among them."""
    rng, n = np.random.default_rng(seed), int(np.prod(shape))
    if d is bool_:
        return rng.integers(0, 2, shape).astype(bool)
    if d.is_float:
        a = rng.standard_normal(n) * 10 ** rng.uniform(-3, 12, n)
        nasty = [np.nan, np.inf, -np.inf, 0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 3e9, -3e9, 0.49999997]
        a[:len(nasty)] = rng.permutation(nasty)[:n]
        return a.astype(d.numpy).reshape(shape)
    info = np.iinfo(d.numpy)
    a = rng.integers(info.min, info.max, n, dtype=d.numpy, endpoint=True)
    a[:6] = np.array([0, 1, info.min, info.max, 3, info.max - 1], d.numpy)[:n]
    return rng.permutation(a).reshape(shape)


def elementwise(f, of: list[DType], to: DType, how: str) -> None:   # type: ignore[no-untyped-def]
    """y = f(x0, x1, ..) natively and by the interpreter."""
    xs, y = [Buffer(f"x{n}", (N,), d) for n, d in enumerate(of)], Buffer("y", (N,), to)
    kernel = Kernel("map", (*xs, y), (), over("i", N, how, Store(y, (i,), f(*(x[i] for x in xs)))))
    verify(kernel)
    check(kernel, {**{x.name: data(x.dtype, N, seed=n) for n, x in enumerate(xs)}, "y": np.zeros(N, to.numpy)}, rtol=1e-6)


def operators(d: DType) -> list[str]:
    compare = ["==", "!=", "max", "min"]
    if d is bool_:
        return [*compare, "and", "or", "xor"]
    common = ["+", "-", "*", "<", "<=", *compare]
    return [*common, "/"] if d.is_float else [*common, "//", "%", "and", "or", "xor", "<<", ">>"]


@pytest.mark.parametrize("how", ["simd", "serial"])
@pytest.mark.parametrize("d", COMPUTED, ids=str)
def test_operators(d: DType, how: str) -> None:
    """All in one kernel for each type: every operator, several results."""
    ops = operators(d)
    a, b = Buffer("a", (N,), d), Buffer("b", (N,), d)
    results = [Buffer(f"y{n}", (N,), bool_ if op in ("<", "<=", "==", "!=") else d) for n, op in enumerate(ops)]
    body = [Store(y, (i,), Bin(op, a[i], b[i])) for y, op in zip(results, ops, strict=True)]    # type: ignore[arg-type]
    arrays = {"a": data(d, N), "b": data(d, N, seed=1)} | {y.name: np.zeros(N, y.dtype.numpy) for y in results}
    kernel = Kernel("ops", (a, b, *results), (), over("i", N, how, *body))
    verify(kernel)
    check(kernel, arrays, rtol=0)


@pytest.mark.parametrize("how", ["simd", "serial"])
@pytest.mark.parametrize("d", COMPUTED, ids=str)
def test_unary_and_casts(d: DType, how: str) -> None:
    ops = (["neg", "abs"] if d is not bool_ else []) + (["not"] if not d.is_float else ["sqrt", "floor", "ceil", "round", "trunc"])
    a = Buffer("a", (N,), d)
    results = [Buffer(f"y{n}", (N,), d) for n in range(len(ops))] + [Buffer(f"to_{e}", (N,), e) for e in COMPUTED]
    values = [Un(op, a[i]) for op in ops] + [Cast(a[i], e) for e in COMPUTED]                # type: ignore[arg-type]
    kernel = Kernel("ops", (a, *results), (), over("i", N, how, *(Store(y, (i,), v) for y, v in zip(results, values, strict=True))))
    verify(kernel)
    check(kernel, {"a": data(d, N)} | {y.name: np.zeros(N, y.dtype.numpy) for y in results}, rtol=0)


@pytest.mark.parametrize("how", ["simd", "serial"])
@pytest.mark.parametrize("d", [f32, f64], ids=str)
def test_calls_literals_and_selects(d: DType, how: str) -> None:
    elementwise(lambda x, y: Call("fma", (x, y, Lit(1.5, d))), [d, d], d, how)
    elementwise(lambda x, y: Call("copysign", (x, y)), [d, d], d, how)
    for least in (-1.0, 0.5, 1e30):                             # rare in all lanes, in some, in none
        elementwise(lambda x, v=least: Call("rare", (Un("sqrt", Un("abs", x)), x, Bin("<", Lit(v, d), x))), [d], d, how)
    elementwise(lambda x: Bin("+", Call("rare", (Bin("*", x, x), x, Bin("<", Lit(0.5, d), x))), Bin("*", x, x)), [d], d, how)   # known inside alone
    for literal in (0.0, -0.0, 1.0, float("nan"), float("inf")):
        for op in ("max", "min"):
            elementwise(lambda x, op=op, v=literal: Bin(op, x, Lit(v, d)), [d], d, how)
    elementwise(lambda x: Select(Bin("<", x, Lit(0.0, d)), Lit(0.0, d), x), [d], d, how)              # relu keeps NaN and -0
    bits = i32 if d is f32 else i64
    elementwise(lambda x: Bitcast(Bin("xor", Bitcast(x, bits), Lit(1 << d.bits - 2, bits)), d), [d], d, how)
    elementwise(lambda x: Bin("+", x, Cast(i * 3 + 1, d)), [d], d, how)                            # an index as a value
    for divisor in (0, -1, 3):
        elementwise(lambda x, v=divisor: Bin("//", x, Lit(v, i32)), [i32], i32, how)


def test_uneven_literals_are_exact() -> None:
    y, z = Buffer("y", (2,), f32), Buffer("z", (2,), f64)
    body = seq(*(Store(b, (Int(n),), Lit(v, b.dtype)) for b in (y, z) for n, v in enumerate((0.1, 1e39))))
    out = check(Kernel("k", (y, z), (), body), {"y": np.zeros(2, np.float32), "z": np.zeros(2)}, rtol=0)
    assert out["y"].tolist() == [np.float32(0.1), np.inf]
    assert out["z"].tolist() == [0.1, 1e39]


# ---- where elements are ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extent", [1, 2, 3, 4, 5, 8, 11, 16, 17])
@pytest.mark.parametrize("d", [f32, f64, u8, bool_, i64], ids=str)
def test_tails(d: DType, extent: int) -> None:
    """Every length of a tail, loaded and stored between guard bytes; strides 1, -1, 3, 0 and a column."""
    x, y, w = Buffer("x", (extent,), d), Buffer("y", (extent,), d), Buffer("w", (extent, 3), d)
    body = over("i", extent, "simd", Store(y, (i,), Bin("max", Bin("max", x[i], x[Int(extent - 1) - i]), Bin("max", w[i, 1], x[0]))),
                Store(w, (i, Int(2)), x[i]))
    kernel = Kernel("k", (x, y, w), (), body)
    verify(kernel)
    check(kernel, {"x": data(d, extent), "y": np.zeros(extent, d.numpy), "w": data(d, extent, 3)}, rtol=0)


def test_data_dependent_indices() -> None:
    x, idx, y, z, w = Buffer("x", (9,), f32), Buffer("idx", (N,), i64), Buffer("y", (N,), f32), Buffer("z", (9,), f32), Buffer("w", (N, 9), f32)
    rng = np.random.default_rng(0)
    arrays = {"x": data(f32, 9), "idx": rng.integers(0, 9, N), "y": np.zeros(N, np.float32), "z": np.zeros(9, np.float32),
              "w": np.zeros((N, 9), np.float32)}
    gather = over("i", N, "simd", Store(y, (i,), x[idx[i]]), Store(w, (i, idx[i]), y[i]))
    clamp = over("i", N, "simd", Accum(y, (i,), x[Bin("min", Bin("max", i - 4, Int(0)), Int(8))]))
    scatter = over("i", N, "serial", Accum(z, (idx[i],), Lit(1.5, f32)))
    check(Kernel("k", (x, idx, y, z, w), (), seq(gather, clamp, scatter)), arrays)
    split = Kernel("k", (x, y), (), over("i", N, "simd", Store(y, (i,), x[i // 3] + x[i % 9])))
    check(split, {"x": data(f32, 9), "y": np.zeros(N, np.float32)})


def test_lanes_that_meet_are_added_in_order() -> None:
    """A scatter-add marked simd by hand: right all the same."""
    idx, z, v = Buffer("idx", (N,), i64), Buffer("z", (5,), f32), Buffer("v", (N,), f32)
    rng = np.random.default_rng(0)
    arrays = {"idx": rng.integers(0, 5, N), "z": np.ones(5, np.float32), "v": rng.standard_normal(N).astype(np.float32)}
    check(Kernel("k", (idx, z, v), (), over("i", N, "simd", Accum(z, (idx[i],), v[i]))), arrays)
    guarded = over("i", N, "simd", If(Bin("<", v[i], Lit(0.0, f32)), Accum(z, (idx[i],), v[i])))
    check(Kernel("k", (idx, z, v), (), guarded), arrays)


def test_quotients_that_stay_affine() -> None:
    """A block of lanes within one quotient is a vector load, not a gather."""
    x, y = Buffer("x", (4, 3, 16), f32), Buffer("y", (12, 16), f32)
    f = over("i", 12, "parallel", over("j", 16, "simd", Store(y, (i, j), x[(i * 16 + j) // 48, (i * 16 + j) // 16 % 3, (i * 16 + j) % 16])))
    kernel = Kernel("k", (x, y), (), f)
    check(kernel, {"x": data(f32, 4, 3, 16), "y": np.zeros((12, 16), np.float32)})
    assert "insertelement" not in emit(kernel, WIDE).text


def test_a_block_is_copied_across_its_diagonal() -> None:
    for d in (f32, f64, i32):
        x, y = Buffer("x", (11, 13), d), Buffer("y", (13, 11), d)
        lanes = WIDE.lanes(d)
        body = over("k", 13 // lanes, "parallel", over("i", 11, "simd", over("j", lanes, "unroll", Store(y, (k * lanes + j, i), x[i, k * lanes + j]))))
        kernel = Kernel("k", (x, y), (), body)
        verify(kernel)
        check(kernel, {"x": data(d, 11, 13), "y": np.zeros((13, 11), d.numpy)}, targets=(WIDE,), rtol=0)
        assert f"shufflevector <{lanes} x" in emit(kernel, WIDE).text


# ---- conditions, loops, checks -----------------------------------------------------------------------------------------------------------


def test_lanes_under_a_condition_touch_no_memory() -> None:
    """Padding: x shifted, zeros where it is not; the load at a lane that is off would be outside."""
    for shift in (-5, 3):
        x, y, t = Buffer("x", (N,), f32), Buffer("y", (N,), f32), reg("t")
        inside = Bin("and", Bin("<=", Int(0), i + shift), Bin("<", i + shift, Int(N)))
        body = over("i", N, "simd", Alloc(t, seq(Store(t, (), Lit(0.0, f32)), If(inside, Store(t, (), x[i + shift])), Store(y, (i,), t[()]))))
        kernel = Kernel("pad", (x, y), (), body)
        verify(kernel)
        check(kernel, {"x": data(f32, N), "y": np.zeros(N, np.float32)}, rtol=0)


def test_nested_conditions_in_lanes() -> None:
    x, y, n = Buffer("x", (N,), i32), Buffer("y", (N,), i32), Buffer("n", (), i32)
    late, early = If(Bin("<", Int(4), i), seq(Store(y, (i,), x[i]), Accum(n, (), Lit(1, i32)))), If(Bin("<", i, Int(2)), Store(y, (i,), Lit(-9, i32)))
    body = over("i", N, "simd", If(Bin("<", x[i], Lit(3, i32)), seq(late, early)))
    arrays = {"x": np.arange(N, dtype=np.int32) % 6, "y": np.zeros(N, np.int32), "n": np.zeros((), np.int32)}
    check(Kernel("k", (x, y, n), (), body), arrays)


@pytest.mark.parametrize("d", [f32, f64, i32, i64, u8, bool_], ids=str)
def test_lane_reductions(d: DType) -> None:
    x = Buffer("x", (N,), d)
    ops = ("max", "min") if d is bool_ else ("+", "max", "min", "*")
    results = [Buffer(f"y{n}", (), d) for n in range(len(ops))]
    body = seq(*(over(f"i{n}", N, "simd", Accum(y, (), x[Var(f"i{n}")], op)) for n, (y, op) in enumerate(zip(results, ops, strict=True))))
    values = np.linspace(0.5, 1.5, N).astype(d.numpy) if d.is_float else data(d, N)
    kernel = Kernel("k", (x, *results), (), body)
    verify(kernel)
    check(kernel, {"x": values, **{y.name: np.ones((), d.numpy) for y in results}})
    if d.is_float:
        values[7] = np.nan
        check(kernel, {"x": values, **{y.name: np.ones((), d.numpy) for y in results}})


def test_registers_through_loops_and_conditions() -> None:
    x, y, a, b = Buffer("x", (N,), f32), Buffer("y", (4,), f32), reg("a"), reg("b", f32, 2)
    body = Alloc(a, Alloc(b, seq(
        Store(a, (), Lit(0.0, f32)), Store(b, (Int(0),), Lit(1.0, f32)), Store(b, (Int(1),), Lit(2.0, f32)),
        over("i", N, "serial", Accum(a, (), x[i]), If(Bin("<", a[()], Lit(0.0, f32)), seq(Store(b, (Int(0),), a[()]), Store(a, (), b[1]))),
             over("j", 2, "unroll", Accum(b, (j,), Cast(j, f32)))),
        Store(y, (Int(0),), a[()]), Store(y, (Int(1),), b[0]), Store(y, (Int(2),), b[1]))))
    kernel = Kernel("k", (x, y), (), body)
    verify(kernel)
    check(kernel, {"x": np.random.default_rng(0).standard_normal(N).astype(np.float32), "y": np.zeros(4, np.float32)})


def test_while() -> None:
    """Integer square roots by Newton, one while for each element; and memory changed inside is read again."""
    x, y, g, n = Buffer("x", (N,), i64), Buffer("y", (N,), i64), reg("g", i64), Buffer("n", (), i64)
    step = Bin("//", Bin("+", g[()], Bin("//", x[i], g[()])), Lit(2, i64))
    newton = While(Bin("<", x[i], Bin("*", g[()], g[()])), seq(Store(g, (), step), Accum(n, (), Lit(1, i64))))
    body = over("i", N, "serial", Alloc(g, seq(Store(g, (), x[i] + 1), newton, Store(y, (i,), g[()]))))
    kernel = Kernel("isqrt", (x, y, n), (), body)
    verify(kernel)
    out = check(kernel, {"x": np.arange(N) ** 3, "y": np.zeros(N, np.int64), "n": np.zeros((), np.int64)})
    np.testing.assert_array_equal(out["y"], np.floor(np.sqrt(np.arange(N) ** 3)))
    count = While(Bin("<", n[()], Lit(10, i64)), Accum(n, (), Lit(3, i64)))
    assert check(Kernel("k", (n,), (), count), {"n": np.zeros((), np.int64)})["n"] == 12


def test_what_a_loop_writes_is_loaded_again() -> None:
    s, y = Buffer("s", (1,), f32), Buffer("y", (4,), f32)
    body = seq(Store(y, (Int(0),), s[0]), over("i", 3, "serial", Store(y, (i,), s[0]), Accum(s, (Int(0),), Lit(1.0, f32))), Store(y, (Int(3),), s[0]))
    assert check(Kernel("k", (s, y), (), body), {"s": np.zeros(1, np.float32), "y": np.zeros(4, np.float32)})["y"].tolist() == [0, 1, 2, 3]
    t, u = Buffer("t", (2,), f32, "scratch"), Buffer("u", (2,), f32, "scratch")                    # one piece of scratch, twice
    body = seq(Alloc(t, seq(Store(t, (Int(0),), Lit(1.0, f32)), Store(y, (Int(0),), t[0]))),
               Alloc(u, seq(Store(u, (Int(0),), Lit(2.0, f32)), Store(y, (Int(1),), u[0]))))
    assert check(Kernel("k", (y,), (), body), {"y": np.zeros(4, np.float32)})["y"].tolist() == [1, 2, 0, 0]


def test_checks() -> None:
    x = Buffer("x", (N,), i32)
    body = seq(over("i", N, "simd", Check(Bin("<", x[i], Lit(100, i32)), 7)), over("j", N, "serial", Check(Bin("<=", Lit(0, i32), x[j]), 8)))
    for bad, code in ((None, 0), (150, 7), (-1, 8)):
        values = np.arange(N, dtype=np.int32)
        if bad is not None:
            values[N - 1] = bad
        kernel = Kernel("k", (x,), (), body)
        check(kernel, {"x": values})
        assert native(kernel, {"x": values}) == code


def test_symbolic_extents() -> None:
    """A run-time first axis: rows by blocks, and lanes along it under a run-time mask."""
    x, y = Buffer("x", ("N",), f32), Buffer("y", ("N",), f32)
    n = Var("N")
    whole = For("o", Int(0), n // 4, "parallel", over("i", 4, "simd", Store(y, (Var("o") * 4 + i,), x[Var("o") * 4 + i] + x[n - 1])))
    rest = For("i", Int(0), n - n // 4 * 4, "simd", Store(y, (n // 4 * 4 + i,), x[n // 4 * 4 + i] + x[n - 1]))
    strided = For("j", Int(0), n % 4, "simd", Accum(y, (n - 1 - Var("j"),), x[Var("j")]))
    for size in (1, 3, 4, 7, 8, 11):
        check(Kernel("k", (x, y), ("N",), seq(whole, rest, strided)), {"x": data(f32, size), "y": np.zeros(size, np.float32)}, {"N": size})


def test_deep_expressions() -> None:
    x, y = Buffer("x", (5,), f64), Buffer("y", (5,), f64)
    e: Expr = x[i]
    for n in range(3000):
        e = Bin("+", Bin("*", e, Lit(0.5, f64)), x[i]) if n % 3 else Un("neg", e)
    check(Kernel("k", (x, y), (), over("i", 5, "simd", Store(y, (i,), e))), {"x": np.linspace(-1, 1, 5), "y": np.zeros(5)}, targets=(SMALL,))


def test_shares_of_threads_cover_everything_once() -> None:
    x, y, total = Buffer("x", (10, 7), f32), Buffer("y", (10, 7), f32), Buffer("total", (), f32)
    body = seq(over("i", 10, "parallel", over("j", 7, "simd", Accum(y, (i, j), x[i, j]))),
               over("k", 1, "parallel", over("i", 2, "parallel", Accum(y, (i, Int(0)), Lit(1.0, f32)))),
               over("i", 10, "serial", Accum(total, (), x[i, 0])))
    for threads in (1, 2, 3, 16):
        arrays = {"x": np.ones((10, 7), np.float32), "y": np.zeros((10, 7), np.float32), "total": np.zeros((), np.float32)}
        shares(Kernel("k", (x, y, total), (), body), arrays, target=WIDE, threads=threads)
        want = np.ones((10, 7))
        want[:2, 0] += 1
        np.testing.assert_array_equal(arrays["y"], want)
        assert arrays["total"] == 10


# ---- random nests --------------------------------------------------------------------------------------------------------------------


def random_kernel(seed: int) -> tuple[Kernel, dict[str, np.ndarray]]:
    """Two loops, the inner one simd or not, over values of mixed types, with loads of all strides, registers, conditions and reductions."""
    r = random.Random(seed)
    rows, columns = r.choice([1, 2, 3]), r.choice([1, 3, 4, 6, 9, 13])
    floats, main = r.choice([(f32, f64), (f32, f32), (f64, f64)]), r.choice([f32, f64, i32])
    inputs = [Buffer(f"x{n}", (rows, columns), r.choice([main, floats[1], i32, i64, u8, bool_])) for n in range(3)]
    vector, row = Buffer("v", (columns,), main), Buffer("row", (rows,), main)
    y, total, t = Buffer("y", (rows, columns), main), Buffer("total", (rows,), main), reg("t", main)
    arrays = {b.name: data(b.dtype, *b.shape, seed=seed + n) for n, b in enumerate((*inputs, vector, row, y, total))}
    tame = lambda a: np.nan_to_num(a, nan=1, posinf=2, neginf=-2).clip(-50, 50) if a.dtype.kind == "f" else a // 2**24 if a.dtype == np.int32 else a
    arrays = {n: tame(a) for n, a in arrays.items()}

    def leaf() -> Expr:
        x = r.choice(inputs)
        at = r.choice([(i, j), (i, Int(columns - 1) - j), (Int(0), j), (i, Int(0)), (i, j // 2), (i, j % 2 if columns > 1 else Int(0))])
        return r.choice([x[at], vector[j], row[i], Lit(r.choice([0, 1, 3]), i32), Cast(j * 2 + i, i32), t[()]])

    def expr(depth: int) -> Expr:
        """A value of the main type."""
        if depth == 0:
            return Cast(leaf(), main)
        a, b = expr(depth - 1), expr(depth - r.randint(1, depth))
        choice = r.random()
        if choice < .2:
            return Select(Bin(r.choice(["<", "<=", "==", "!="]), b, a), a, expr(0))
        if choice < .3:
            return Un(r.choice(["neg", "abs"]), a)
        if choice < .4:
            return Cast(Cast(a, r.choice([i32, f64, f32])), main)
        return Bin(r.choice(["+", "-", "max", "min", *(["/"] if main.is_float else ["//", "%", "xor"])]), a, b)

    cond = Bin("<", j, Int(r.randint(0, columns))) if r.random() < .5 else Bin("<", inputs[0][i, j], inputs[0][i, 0])
    body = [Store(t, (), Cast(inputs[0][i, j], main)), Store(t, (), expr(2)), Store(y, (i, j), expr(3))]
    if r.random() < .6:
        body.append(If(cond, seq(Store(t, (), expr(1)), Accum(y, (i, j), t[()], r.choice(["+", "max", "min"])))))
    body.append(Accum(total, (i,), t[()], r.choice(["max", "min"])))
    nest = over("i", rows, "parallel", over("j", columns, r.choice(["simd", "simd", "serial"]), Alloc(t, seq(*body))))
    return Kernel("random", (*inputs, vector, row, y, total), (), nest), arrays


SEEDS = [*(range(s, s + 8) for s in range(0, 40, 8)), pytest.param(range(40, 600), marks=pytest.mark.slow)]


@pytest.mark.parametrize("seeds", SEEDS, ids=lambda s: f"{s.start}-{s.stop}")
def test_random_nests(seeds: range) -> None:
    for seed in seeds:
        kernel, arrays = random_kernel(seed)
        verify(kernel)
        check(kernel, arrays, rtol=1e-4)


# ---- the text ------------------------------------------------------------------------------------------------------------------------


def gemm(d: DType = f32, rows: int = 6, columns: int = 16) -> Kernel:
    A, B, C = Buffer("A", (rows, 33), d), Buffer("B", (33, columns), d), Buffer("C", (rows, columns), d)
    s = contraction({"m": rows, "n": columns}, {"k": 33}, A[Var("m"), k] * B[k, Var("n")], lambda x: Store(C, (Var("m"), Var("n")), x))
    return Kernel("gemm", (A, B, C), (), in_registers(s, "m", "n", rows, columns, WIDE, d))


def test_text_of_a_contraction(golden) -> None:                  # type: ignore[no-untyped-def]
    text = emit(gemm(rows=2, columns=11), WIDE).text
    golden(text, "llvm/gemm")
    assert "<8 x float> @llvm.fma.v8f32" in text
    assert "<4 x double> @llvm.fma.v4f64" in emit(gemm(f64, 3, 8), WIDE).text
    assert "fmuladd" in emit(gemm(), PLAIN).text
    for word in ("fast", "nnan", "ninf", "reassoc", "contract "):
        assert word not in text


def test_a_tile_that_fits_does_not_spill() -> None:
    for d, rows, columns, target in ((f32, 6, 16, WIDE), (f64, 6, 8, WIDE), (f32, 14, 32, AVX512), (f32, 6, 64, AVX512)):
        kernel = gemm(d, rows, columns)
        refs = tuple(Ref(Region(b.name, "argument", 1 << 20, n)) for n, b in enumerate(kernel.buffers))
        code = asm(step_text(Launch(kernel, refs), target, Layout(arguments=3), 0).text, target)
        body = code[code.index("gemm:"):code.index("step:")]
        assert sum("(%rsp)" in line and "mm" in line for line in body.splitlines()) == 0
        assert "call" not in body


def test_no_library_is_called() -> None:
    """Rounding, casts, integer division: none may become a call, on any target."""
    x, n, y = Buffer("x", (N,), f32), Buffer("n", (N,), i32), Buffer("y", (N,), f32)
    e: Expr = x[i]
    for op in ("floor", "ceil", "round", "trunc", "sqrt", "abs"):
        e = Bin("+", e, Un(op, x[i]))                           # type: ignore[arg-type]
    e = Bin("max", Bin("min", Call("rare", (Un("neg", e), e, e < x[i])), Cast(Bin("//", n[i], n[i]), f32)), Call("copysign", (x[i], e)))
    for how in ("simd", "serial"):
        kernel = Kernel("k", (x, n, y), (), over("i", N, how, Store(y, (i,), Call("fma", (e, e, Cast(Cast(e, i64), f32))))))
        refs = tuple(Ref(Region(b.name, "argument", 4 * N, m)) for m, b in enumerate(kernel.buffers))
        for target in (SMALL, WIDE, PLAIN, AVX512):
            code = asm(step_text(Launch(kernel, refs), target, Layout(arguments=3), 0).text, target)
            calls = [line for line in code.splitlines() if "call" in line.split("#")[0]]
            assert [c.split()[-1] for c in calls] == ["k"], calls


def test_equal_kernels_have_equal_text() -> None:
    a, b = gemm(), gemm()
    A, B, C = (Buffer(f"{x.name}2", x.shape, x.dtype) for x in b.buffers)
    p, q, r = Var("p"), Var("q"), Var("r")
    nest = contraction({"p": 6, "q": 16}, {"r": 33}, A[p, r] * B[r, q], lambda x: Store(C, (p, q), x))
    renamed = Kernel("other", (A, B, C), (), in_registers(nest, "p", "q", 6, 16, WIDE, f32))
    assert emit(a, WIDE).text == emit(b, WIDE).text
    assert emit(renamed, WIDE).text.replace("@other(", "@gemm(") == emit(a, WIDE).text


def test_guards_of_the_helper_work() -> None:
    """A kernel that writes outside is seen: the tests above can fail."""
    x = Buffer("x", (4,), f32)
    wrong = Kernel("k", (Buffer("x", (5,), f32),), (), over("i", 5, "simd", Store(Buffer("x", (5,), f32), (i,), Lit(1.0, f32))))

    a = guarded(np.zeros(4, np.float32))
    assert intact(a)
    native(Kernel("k", (x,), (), wrong.body), {"x": a})
    assert not intact(a)
