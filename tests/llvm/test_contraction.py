"""The schedules of contractions, reductions and maps, natively: every layout, awkward sizes, packed and not, on several machines."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphc.core.dtype import DType, f32, f64, i32
from graphc.core.target import AVX512, Target
from graphc.llvm.emit import emit
from graphc.loop.contraction import accesses, contraction, map_schedule, matmul_schedule, reduce_schedule, tile_size
from graphc.loop.ir import Bin, Buffer, Expr, For, Int, Kernel, Lit, Select, Stmt, Store, Un, Var, seq, walk
from graphc.loop.schedule import mark, tile
from graphc.loop.text import show
from graphc.loop.verify import verify

from .native import PLAIN, SMALL, WIDE, native, shares

m, n, k, b = Var("m"), Var("n"), Var("k"), Var("b")
CRAMPED = replace(WIDE, l2=1 << 10)                             # everything is beyond L2: packs
TARGETS = {"small": SMALL, "wide": WIDE, "plain": PLAIN, "cramped": CRAMPED}


def random(rng: np.random.Generator, buf: Buffer, **sizes: int) -> np.ndarray:
    return rng.standard_normal([sizes[s] if isinstance(s, str) else s for s in buf.shape]).astype(buf.dtype.numpy)


def product(M: int | str, N: int, K: int, ta: bool, tb: bool, d: DType) -> tuple[Stmt, list[Buffer]]:
    """relu(A @ B + bias) -> C, A and B stored either way."""
    A, B = Buffer("A", (K, M) if ta else (M, K), d), Buffer("B", (N, K) if tb else (K, N), d)   # type: ignore[arg-type]
    bias, C = Buffer("bias", (N,), d), Buffer("C", (M, N), d)

    def relu(x: Expr) -> Stmt:
        y = Bin("+", x, bias[n])
        return Store(C, (m, n), Select(Bin("<", y, Lit(0.0, d)), Lit(0.0, d), y))

    a, c = A[(k, m) if ta else (m, k)], B[(n, k) if tb else (k, n)]
    return contraction({"m": M, "n": N}, {"k": K}, a * c, relu), [A, B, bias, C]


@pytest.mark.parametrize("d", [f32, f64], ids=str)
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(("M", "N", "K"), [(7, 11, 6), (1, 9, 5), (9, 1, 33), (5, 3, 40), (13, 34, 17), (50, 10, 9), (1, 1, 19), (33, 2, 2), (65, 24, 31),
                                       (1, 70, 43), (2, 61, 36), (20, 70, 300)])
def test_products(M: int, N: int, K: int, name: str, d: DType) -> None:
    target, rng = TARGETS[name], np.random.default_rng(0)
    for ta in (False, True):
        for tb in (False, True):
            nest, buffers = product(M, N, K, ta, tb, d)
            kernel = Kernel("gemm", tuple(buffers), (), matmul_schedule(nest, "m", "n", ("k",), target, d))
            verify(kernel)
            arrays = {x.name: random(rng, x) for x in buffers}
            want = np.maximum((arrays["A"].T if ta else arrays["A"]).astype(float) @ (arrays["B"].T if tb else arrays["B"]) + arrays["bias"], 0)
            native(kernel, arrays, target=target)
            np.testing.assert_allclose(arrays["C"], want, rtol=0, atol=(1e-5 if d is f32 else 1e-13) * max(1, K / 40))


def test_an_update_in_the_epilogue() -> None:
    """Momentum SGD: the gradient never exists in memory, and two arrays are stored."""
    A, B, lr = Buffer("A", (9, 20), f32), Buffer("B", (9, 13), f32), Buffer("lr", (), f32)
    W, V = Buffer("W", (20, 13), f32), Buffer("V", (20, 13), f32)

    def update(g: Expr) -> Stmt:
        v = Bin("+", Bin("*", V[m, n], Lit(0.9, f32)), g)
        return seq(Store(W, (m, n), Bin("-", W[m, n], Bin("*", lr[()], v))), Store(V, (m, n), v))

    nest = contraction({"m": 20, "n": 13}, {"k": 9}, A[k, m] * B[k, n], update)
    kernel = Kernel("dw", (A, B, lr, W, V), (), matmul_schedule(nest, "m", "n", ("k",), WIDE, f32))
    verify(kernel)
    arrays = {x.name: random(np.random.default_rng(0), x) for x in kernel.buffers}
    v = arrays["V"] * np.float32(0.9) + arrays["A"].T @ arrays["B"]
    w = arrays["W"] - arrays["lr"] * v
    native(kernel, arrays, target=WIDE)
    np.testing.assert_allclose(arrays["W"], w, atol=1e-5)
    np.testing.assert_allclose(arrays["V"], v, atol=1e-5)


@pytest.mark.parametrize("target", [WIDE, CRAMPED], ids=["wide", "cramped"])
def test_batches_prologues_and_several_summed_axes(target: Target) -> None:
    """A batched product whose left side is masked, and a convolution: the same function, other indices."""
    A, G, B, C = Buffer("A", (3, 10, 7), f32), Buffer("G", (3, 10, 7), f32), Buffer("B", (3, 7, 12), f32), Buffer("C", (3, 10, 12), f32)
    masked = Select(Bin("<", Lit(0.0, f32), G[b, m, k]), A[b, m, k], Lit(0.0, f32))
    nest = contraction({"b": 3, "m": 10, "n": 12}, {"k": 7}, masked * B[b, k, n], lambda x: Store(C, (b, m, n), x))
    kernel = Kernel("bmm", (A, G, B, C), (), matmul_schedule(nest, "m", "n", ("k",), target, f32))
    verify(kernel)
    rng = np.random.default_rng(0)
    arrays = {x.name: random(rng, x) for x in kernel.buffers}
    native(kernel, arrays, target=target)
    np.testing.assert_allclose(arrays["C"], np.where(arrays["G"] > 0, arrays["A"], 0) @ arrays["B"], atol=1e-5)

    X, F, Y = Buffer("X", (2, 6, 9, 4), f32), Buffer("F", (3, 3, 4, 10), f32), Buffer("Y", (2, 4, 7, 10), f32)
    y, x, ky, kx, ci, co = map(Var, ("y", "x", "ky", "kx", "ci", "co"))
    nest = contraction({"b": 2, "y": 4, "x": 7, "co": 10}, {"ky": 3, "kx": 3, "ci": 4}, X[b, y + ky, x + kx, ci] * F[ky, kx, ci, co],
                       lambda v: Store(Y, (b, y, x, co), v))
    kernel = Kernel("conv", (X, F, Y), (), matmul_schedule(nest, "x", "co", ("ky", "kx", "ci"), target, f32))
    verify(kernel)
    arrays = {z.name: random(rng, z) for z in kernel.buffers}
    want = sum(np.einsum("byxi,io->byxo", arrays["X"][:, p:p + 4, q:q + 7], arrays["F"][p, q]) for p in range(3) for q in range(3))
    native(kernel, arrays, target=target)
    np.testing.assert_allclose(arrays["Y"], want, atol=1e-5)


@pytest.mark.parametrize("name", TARGETS)
def test_vectors(name: str) -> None:
    """A product with one free axis, or none."""
    target, rng = TARGETS[name], np.random.default_rng(0)
    A, x, y, z = Buffer("A", (13, 37), f32), Buffer("x", (37,), f32), Buffer("y", (13,), f32), Buffer("z", (37,), f32)
    for nest, args, out, want in (
        (matmul_schedule(contraction({"m": 13}, {"k": 37}, A[m, k] * x[k], lambda v: Store(y, (m,), v)), "m", "", ("k",), target, f32), (A, x, y), "y",
         lambda a: a["A"] @ a["x"]),
        (matmul_schedule(contraction({"n": 37}, {"k": 13}, y[k] * A[k, n], lambda v: Store(z, (n,), v)), "", "n", ("k",), target, f32), (A, y, z), "z",
         lambda a: a["y"] @ a["A"]),
        (matmul_schedule(contraction({}, {"k": 37}, x[k] * z[k], lambda v: Store(y, (Int(2),), v)), "", "", ("k",), target, f32), (x, y, z), "y",
         lambda a: np.where(np.arange(13) == 2, a["x"] @ a["z"], a["y"])),
    ):
        kernel = Kernel("mv", args, (), nest)
        verify(kernel)
        arrays = {v.name: random(rng, v) for v in args}
        expected = want(arrays)
        native(kernel, arrays, target=target)
        np.testing.assert_allclose(arrays[out], expected, atol=1e-5)


def test_symbolic_rows_have_the_bits_of_static_ones() -> None:
    rng = np.random.default_rng(0)
    nest, buffers = product("M", 20, 31, False, False, f32)
    kernel = Kernel("gemm", tuple(buffers), ("M",), matmul_schedule(nest, "m", "n", ("k",), WIDE, f32))
    verify(kernel)
    for rows in (1, 2, 5, 6, 13, 50):
        arrays = {x.name: random(rng, x, M=rows) for x in buffers}
        again = {x: a.copy() for x, a in arrays.items()}
        native(kernel, arrays, {"M": rows}, target=WIDE)
        nest, fixed = product(rows, 20, 31, False, False, f32)
        native(Kernel("gemm", tuple(fixed), (), matmul_schedule(nest, "m", "n", ("k",), WIDE, f32)), again, target=WIDE)
        np.testing.assert_array_equal(arrays["C"], again["C"])


@pytest.mark.parametrize("d", [f32, f64], ids=str)
@pytest.mark.parametrize(("M", "N", "K"), [(61, 75, 257), (50, 130, 400)])
def test_long_sums_are_cut_and_keep_their_bits(M: int, N: int, K: int, d: DType, monkeypatch: pytest.MonkeyPatch) -> None:
    """K in blocks, of one size or two, inside blocks of rows and columns: the bits of the sum that is never put down."""
    monkeypatch.setattr("graphc.loop.contraction.BLOCK", (24, 64))
    cut, whole = replace(WIDE, l1=1 << 10, l2=1 << 10), replace(WIDE, l1=1 << 30, l2=1 << 40)
    rng = np.random.default_rng(0)
    for ta in (False, True):
        for tb in (False, True):
            nest, buffers = product(M, N, K, ta, tb, d)
            arrays = {x.name: random(rng, x) for x in buffers}
            results = []
            for target in (cut, whole):
                kernel = Kernel("gemm", tuple(buffers), (), matmul_schedule(nest, "m", "n", ("k",), target, d))
                verify(kernel)
                assert ("acc_sum" in show(kernel.body)) == (target is cut)
                native(kernel, arrays, target=target)
                results.append(arrays["C"].copy())
                if target is cut:
                    arrays["C"][:] = 0
                    shares(kernel, arrays, target=target)
                    np.testing.assert_array_equal(arrays["C"], results[0])
            np.testing.assert_array_equal(*results)
            want = np.maximum((arrays["A"].T if ta else arrays["A"]).astype(float) @ (arrays["B"].T if tb else arrays["B"]) + arrays["bias"], 0)
            np.testing.assert_allclose(results[0], want, rtol=0, atol=1e-4 if d is f32 else 1e-12)


def test_a_cut_sum_of_several_axes_and_a_batch() -> None:
    """A convolution whose taps are the blocks, and a product scaled and added to what is there."""
    target = replace(WIDE, l1=1 << 10, l2=1 << 10)
    X, F, Y = Buffer("X", (2, 6, 52, 41), f32), Buffer("F", (3, 3, 41, 72), f32), Buffer("Y", (2, 4, 50, 72), f32)
    y, x, ky, kx, ci, co = map(Var, ("y", "x", "ky", "kx", "ci", "co"))
    nest = contraction({"b": 2, "y": 4, "x": 50, "co": 72}, {"ky": 3, "kx": 3, "ci": 41}, X[b, y + ky, x + kx, ci] * F[ky, kx, ci, co],
                       lambda v: Store(Y, (b, y, x, co), Bin("+", Y[b, y, x, co], Bin("*", Lit(0.5, f32), v))))
    kernel = Kernel("conv", (X, F, Y), (), matmul_schedule(nest, "x", "co", ("ky", "kx", "ci"), target, f32))
    verify(kernel)
    assert "acc_sum" in show(kernel.body)
    arrays = {z.name: random(np.random.default_rng(0), z) for z in kernel.buffers}
    want = arrays["Y"] + 0.5 * sum(np.einsum("byxi,io->byxo", arrays["X"][:, p:p + 4, q:q + 50], arrays["F"][p, q]) for p in range(3) for q in range(3))
    native(kernel, arrays, target=target)
    np.testing.assert_allclose(arrays["Y"], want, atol=1e-4)


def test_what_is_chosen() -> None:
    """Lanes along the contiguous axis, along the sum where both sides are, and packing only where it pays."""
    def chosen(M: int, N: int, K: int, ta: bool, tb: bool, target: Target = WIDE) -> tuple[list[str], bool]:
        s = matmul_schedule(product(M, N, K, ta, tb, f32)[0], "m", "n", ("k",), target, f32)
        return sorted({x.var[0] for x in walk(s) if isinstance(x, For) and x.how == "simd" and "_" not in x.var}), "scratch" in show(s)

    assert chosen(64, 128, 77, False, False) == (["n"], False)
    assert chosen(512, 512, 512, False, False) == (["n"], True)
    assert chosen(256, 128, 784, False, True) == (["n"], True)      # across its diagonal
    assert chosen(1, 128, 784, False, True) == (["k"], False)       # matvec: partial sums
    streamed = matmul_schedule(product(1, 128, 784, False, False, f32)[0], "m", "n", ("k",), WIDE, f32)
    assert "acc_sum: f32[1, 128] in scratch" in show(streamed)      # rows of B, eight at a time
    column = matmul_schedule(product(512, 1, 512, True, False, f32)[0], "m", "n", ("k",), WIDE, f32)
    assert "acc_sum: f32[1, 512] in scratch" in show(column)        # the same, transposed
    strip = matmul_schedule(product(128, 128, 128, True, False, f32)[0], "m", "n", ("k",), WIDE, f32)
    assert "Ap: f32[128, 6] in scratch" in show(strip)              # 128 lines 512 bytes apart fall into 8 sets of L1
    assert chosen(784, 3, 64, True, False) == (["m"], False)        # three columns: lanes along the rows
    assert chosen(64, 1, 128, False, False) == (["k"], False)


def test_what_an_update_needs_is_asked_for() -> None:
    """The weights and moments of a large update are prefetched before the tile's sum, once for each line; small arrays and vectors are not."""
    def prefetches(N: int) -> int:
        A, B, W, V, bias = (Buffer(name, shape, f32) for name, shape in (("A", (8, 12), ), ("B", (8, N)), ("W", (12, N)), ("V", (12, N)), ("bias", (N,))))
        nest = contraction({"m": 12, "n": N}, {"k": 8}, A[k, m] * B[k, n],
                           lambda g: seq(Store(V, (m, n), Bin("+", V[m, n], g)), Store(W, (m, n), Bin("-", W[m, n], Bin("*", g, bias[n])))))
        kernel = Kernel("dw", (A, B, W, V, bias), (), matmul_schedule(nest, "m", "n", ("k",), replace(WIDE, l1=32 << 10), f32))
        text = emit(kernel, WIDE).text
        arrays = {x.name: random(np.random.default_rng(0), x) for x in kernel.buffers}
        want = arrays["V"] + arrays["A"].T @ arrays["B"]
        native(kernel, arrays, target=WIDE)
        np.testing.assert_allclose(arrays["V"], want, atol=1e-5)
        return text.count("call void @llvm.prefetch")

    assert prefetches(80) == 0                                  # 3,840 bytes
    rows, columns, _ = tile_size(12, 1600, WIDE, f32)
    assert prefetches(1600) == 2 * rows * columns * 4 // 64     # of one kind of tile: W and V


def test_tiles_fit_their_registers() -> None:
    for target in (WIDE, PLAIN, AVX512):
        for d in (f32, f64):
            for M, N in ((64, 128), (61, 100), (1, 5), (2000, 10), (7, 3000)):
                rows, columns, _ = tile_size(M, N, target, d)
                assert target.tile_fits(rows, columns // target.lanes(d))


# ---- reductions ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("columns", [1, 3, 8, 10, 33, 100])
@pytest.mark.parametrize("op", ["+", "*", "max", "min"])
def test_reductions(op: str, columns: int, name: str) -> None:
    target, rng = TARGETS[name], np.random.default_rng(0)
    fold = {"+": np.sum, "*": np.prod, "max": np.max, "min": np.min}[op]
    for d in (f32, f64, i32):
        x = Buffer("x", (7, columns), d)
        rows, cols, whole = Buffer("rows", (7,), d), Buffer("cols", (columns,), d), Buffer("whole", (), d)
        e = Un("abs", x[m, n])
        values = rng.integers(-3, 4, x.shape).astype(d.numpy) if d is i32 else (1 + rng.standard_normal(x.shape) / 9).astype(d.numpy)
        for axis, free, summed, out, at in ((1, {"m": 7}, {"n": columns}, rows, (m,)), (0, {"n": columns}, {"m": 7}, cols, (n,)),
                                            (None, {}, {"m": 7, "n": columns}, whole, ())):
            nest = contraction(free, summed, e, lambda v, o=out, at=at: Store(o, at, v), op=op)     # type: ignore[arg-type, misc]
            kernel = Kernel("reduce", (x, out), (), reduce_schedule(nest, tuple(free), tuple(summed), target))
            verify(kernel)
            arrays = {"x": values.copy(), out.name: np.zeros(out.shape, d.numpy)}
            native(kernel, arrays, target=target)
            np.testing.assert_allclose(arrays[out.name], fold(np.abs(values), axis=axis, dtype=d.numpy) if op in "+*" else fold(np.abs(values), axis=axis),
                                       rtol=1e-5)


def test_a_nan_is_not_lost() -> None:
    x, y = Buffer("x", (37,), f32), Buffer("y", (), f32)
    for at in (0, 5, 36):
        values = np.linspace(-1, 1, 37).astype(np.float32)
        values[at] = np.nan
        nest = contraction({}, {"k": 37}, x[k], lambda v: Store(y, (), v), op="max")
        arrays = {"x": values, "y": np.zeros((), np.float32)}
        native(Kernel("max", (x, y), (), reduce_schedule(nest, (), ("k",), WIDE)), arrays, target=WIDE)
        assert np.isnan(arrays["y"])


# ---- maps ------------------------------------------------------------------------------------------------------------------------------


def over(axes: dict[str, int], body: Stmt) -> Stmt:
    for var, size in reversed(axes.items()):
        body = For(var, Int(0), Int(size), "parallel", body)
    return body


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (3, 4), (7, 11), (4, 64), (33, 10)])
def test_maps(shape: tuple[int, int], name: str) -> None:
    target, rng = TARGETS[name], np.random.default_rng(0)
    sizes = {"x": shape, "row": shape[1:], "col": shape[:1], "y": shape, "t": shape[::-1]}
    x, row, col, y, t = (Buffer(v, s, f32) for v, s in sizes.items())
    axes = {"m": shape[0], "n": shape[1]}
    cases = [(Store(y, (m, n), x[m, n] * x[m, n]), lambda a: a["x"] ** 2),
             (Store(y, (m, n), x[m, n] + row[n]), lambda a: a["x"] + a["row"]),
             (Store(y, (m, n), x[m, n] * col[m]), lambda a: a["x"] * a["col"][:, None]),
             (Store(y, (m, n), t[n, m]), lambda a: a["t"].T),
             (Store(y, (m, n), y[m, n] - x[m, n]), lambda a: a["y"] - a["x"])]
    for body, want in cases:
        kernel = Kernel("map", (x, row, col, t, y), (), map_schedule(over(axes, body), ("m", "n"), target))
        verify(kernel)
        arrays = {v.name: random(rng, v) for v in kernel.buffers}
        expected = want(arrays)
        native(kernel, arrays, target=target)
        np.testing.assert_allclose(arrays["y"], expected, rtol=1e-6)


def test_maps_of_rank_0_and_of_symbolic_size() -> None:
    x, y = Buffer("x", (), f32), Buffer("y", (), f32)
    s = map_schedule(Store(y, (), x[()] * x[()]), (), WIDE)
    arrays = {"x": np.array(3, np.float32), "y": np.zeros((), np.float32)}
    native(Kernel("k", (x, y), (), s), arrays, target=WIDE)
    assert arrays["y"] == 9
    x, y = Buffer("x", ("N", 3), f32), Buffer("y", ("N", 3), f32)
    nest = For("m", Int(0), Var("N"), "parallel", For("n", Int(0), Int(3), "parallel", Store(y, (m, n), x[m, n] * x[m, n])))
    kernel = Kernel("k", (x, y), ("N",), map_schedule(nest, ("m", "n"), WIDE))
    verify(kernel)
    for size in (1, 2, 11, 40):
        arrays = {"x": random(np.random.default_rng(0), x, N=size), "y": np.zeros((size, 3), np.float32)}
        native(kernel, arrays, {"N": size}, target=WIDE)
        np.testing.assert_array_equal(arrays["y"], arrays["x"] ** 2)


def test_neighbours_become_one_loop() -> None:
    x, y = Buffer("x", (6, 5, 7), f32), Buffer("y", (6, 5, 7), f32)
    s = map_schedule(over({"b": 6, "m": 5, "n": 7}, Store(y, (b, m, n), x[b, m, n])), ("b", "m", "n"), WIDE)
    assert "insertelement" not in emit(Kernel("copy", (x, y), (), s), WIDE).text
    assert all(a.along("ni") == 1 for a in accesses(mark(tile(s, "no", 2), noi="unroll")))
