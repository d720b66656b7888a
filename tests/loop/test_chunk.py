"""Long reductions in chunks: the same value, by parts that the shape alone decides."""
from __future__ import annotations

import numpy as np
import pytest

from graphc.core.dtype import f32, i64
from graphc.loop import chunk as chunking
from graphc.loop.chunk import chunk, chunked
from graphc.loop.contraction import contraction, reduce_schedule
from graphc.loop.interp import run
from graphc.loop.ir import (
    Accum,
    Alloc,
    Bin,
    Buffer,
    Check,
    Expr,
    For,
    Int,
    Kernel,
    Launch,
    Lit,
    Load,
    Ref,
    Region,
    Steps,
    Stmt,
    Store,
    Var,
    seq,
    walk,
)
from graphc.loop.place import launches
from graphc.loop.share import shareable, split
from graphc.loop.text import show
from graphc.loop.verify import verify

from ..llvm.native import SMALL, check

k = Var("k")
acc, out = Buffer("acc", (), f32, "register"), Buffer("out", (), f32)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "ELEMENTS", 32)


def total(n: int, op: str = "+", scheduled: bool = True) -> Kernel:
    x = Buffer("x", (n,), f32)
    nest = contraction({}, {"k": n}, x[k], lambda e: Store(out, (), e), op=op)  # type: ignore[arg-type]
    return Kernel("total", (x, out), (), reduce_schedule(nest, (), ("k",), SMALL) if scheduled else nest)


def parallel_loops(s: Stmt) -> list[int]:
    return [x.hi.value for x in walk(s) if isinstance(x, For) and x.how == "parallel" and isinstance(x.hi, Int)]


@pytest.mark.parametrize("op", ["+", "*", "max", "min"])
@pytest.mark.parametrize("n", [127, 128, 129, 255, 256, 257, 300])
def test_the_same_value(n: int, op: str) -> None:
    """Whole chunks, and a rest; natively and by the interpreter."""
    plain = total(n, op)
    s = chunked(plain.body)
    assert (s is not plain.body) == (n // 16 >= 8)              # sixteen elements an iteration, two iterations a chunk
    new = Kernel("total", plain.buffers, (), s)
    verify(new)
    x = np.random.default_rng(n).uniform(0.9, 1.1, n).astype(np.float32)
    meant = {"x": x, "out": np.zeros((), np.float32)}
    run(plain, meant)
    got = check(new, {"x": x, "out": np.zeros((), np.float32)}, targets=(SMALL,))
    np.testing.assert_allclose(got["out"], meant["out"], rtol=1e-5)
    if op in ("max", "min"):
        assert got["out"] == meant["out"]


def test_chunks_are_a_function_of_the_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parallel_loops(chunked(total(256).body)) == [8]
    assert parallel_loops(chunked(total(300).body)) == [9]
    assert parallel_loops(chunked(total(300, scheduled=False).body)) == [9]          # 32 iterations of one element
    monkeypatch.setattr(chunking, "MOST", 4)
    assert parallel_loops(chunked(total(16 * 100).body)) == [4]


def test_several_sums_in_one_sweep_and_a_row_of_them() -> None:
    """The gradient of a bias: a row of registers; beside it a sum of squares in a scalar."""
    x, b, rows = Buffer("x", (300, 5), f32), Buffer("b", (5,), f32), Buffer("rows", (5,), f32, "register")
    j = Var("j")
    sweep = For("k", Int(0), Int(300), "serial", seq(For("j", Int(0), Int(5), "simd", Accum(rows, (j,), x[k, j])), Accum(acc, (), x[k, 0] * x[k, 1])))
    body: Stmt = seq(For("j", Int(0), Int(5), "simd", Store(rows, (j,), Lit(0.0, f32))), Store(acc, (), Lit(0.0, f32)), sweep,
                     For("j", Int(0), Int(5), "simd", Accum(b, (j,), Load(rows, (j,)))), Store(out, (), acc[()]))
    nest = For("one", Int(0), Int(1), "parallel", Alloc(rows, Alloc(acc, body)))
    s = chunked(nest)
    assert parallel_loops(s) == [1, 42]                         # seven rows of five elements
    new = Kernel("sums", (x, b, out), (), s)
    verify(new)
    data = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32)
    got = check(new, {"x": data, "b": np.ones(5, np.float32), "out": np.zeros((), np.float32)}, targets=(SMALL,), rtol=1e-4)
    np.testing.assert_allclose(got["b"], 1 + data.sum(0), rtol=1e-4)
    np.testing.assert_allclose(got["out"], (data[:, 0] * data[:, 1]).sum(), rtol=1e-4)
    first, second = (p.kernel for p in launches(split(launch(new), SMALL)))
    assert shareable(first)
    assert not shareable(second)


def launch(kernel: Kernel) -> Launch:
    return Launch(kernel, tuple(Ref(Region(b.name, "argument", int(np.prod(b.shape)) * 4, n)) for n, b in enumerate(kernel.buffers)))


@pytest.fixture(autouse=True)
def _share(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphc.loop import share
    monkeypatch.setattr(share, "LAUNCH", 0.001)
    monkeypatch.setattr(share, "STEP", 0.001)


def reduction(start: Expr, inside: Stmt, n: int = 300) -> Stmt:
    return Alloc(acc, seq(Store(acc, (), start), For("k", Int(0), Int(n), "serial", inside), Store(out, (), acc[()])))


def test_what_stays_as_it_is() -> None:
    x, y, where = Buffer("x", (300,), f32), Buffer("y", (300,), f32), Buffer("where", (), i64, "register")
    add = Accum(acc, (), x[k])
    zero = Lit(0.0, f32)
    assert chunked(reduction(zero, add)) is not None
    left = {
        "short": reduction(zero, add, 127),
        "starts at one": reduction(Lit(1.0, f32), add),
        "starts at -0": reduction(Lit(-0.0, f32), add),
        "starts at data": reduction(x[0], add),
        "a recurrence": reduction(zero, Store(acc, (), Bin("*", acc[()], x[k]))),
        "reads the sum": reduction(zero, Accum(acc, (), acc[()] * x[k])),
        "writes as it goes": reduction(zero, seq(add, Store(y, (k,), acc[()]))),
        "writes elsewhere": reduction(zero, seq(add, Store(y, (k,), x[k]))),
        "two operations": reduction(zero, seq(add, Accum(acc, (), x[k], "max"))),
        "checks": reduction(zero, seq(Check(Bin("<", x[k], Lit(9.0, f32)), 1), add)),
        "a register set outside": Alloc(where, seq(Store(where, (), Lit(0, i64)), reduction(zero, Accum(acc, (), x[Load(where, ())])))),
    }
    for why, s in left.items():
        assert chunked(s) is s, f"{why}\n{show(chunked(s))}"


def test_equal_kernels_keep_one_body() -> None:
    kernel = total(300)
    again = Kernel("again", kernel.buffers, (), kernel.body)
    first, second = launches(chunk(Steps((launch(kernel), launch(again)))))
    assert first.kernel.body is second.kernel.body is not kernel.body
    short = launch(total(100))
    assert chunk(short) is short
