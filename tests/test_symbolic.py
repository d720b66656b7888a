"""Symbolic sizes in native code: one compilation serves every N >= 1, with the bits of a compilation for that N."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.core.errors import UnknownSize
from graphc.interp import numpy as oracle
from graphc.llvm import jit
from graphc.loop.ir import Bin, If, Int, Var
from graphc.loop.place import launches

Arrays = list[np.ndarray[Any, Any]]
SIZES = (1, 2, 7, 8, 63, 65, 1024, 5000)
FEW = (1, 3, 8, 37)


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


W, V, WIDE = floats(20, 13), floats(13), floats(300, 41)
S = gx.Spec
N13 = [S(("N", 13))]


def n13(n: int) -> Arrays:
    return [floats(n, 13)]


def _logistic(x: Any) -> Any:
    z = gx.tanh(x @ gx.reshape(V, (13, 1)))
    return gx.matrix_transpose(z) @ x, gx.sum(z)


Case = tuple[Callable[..., Any], list[gx.Spec], Callable[[int], Arrays]]
CASES: dict[str, Case] = {
    "map": (lambda x: gx.exp(x) * 2 + 1, N13, n13),
    "map of one axis": (lambda x: gx.exp(x) * 2 + 1, [S(("N",))], lambda n: [floats(n)]),
    "a bias": (lambda x: gx.tanh(x + V), N13, n13),
    "rows": (lambda x: gx.sum(x, axis=1), N13, n13),
    "columns": (lambda x: (gx.sum(x, axis=0), gx.max(x, axis=0)), N13, n13),
    "softmax": (lambda x: nn.functional.softmax(x, 1), N13, n13),
    "moments": (lambda x: (gx.mean(x, axis=0), gx.var(x, axis=0)), N13, n13),
    "matmul": (lambda x: gx.tanh(x @ W), [S(("N", 20))], lambda n: [floats(n, 20)]),
    "matmul of a transpose": (lambda x: x @ gx.matrix_transpose(W), N13, n13),
    "packed matmul": (lambda x: x @ WIDE, [S(("N", 300))], lambda n: [floats(n, 300)]),
    "gram": (lambda x: gx.matrix_transpose(x) @ x, N13, n13),
    "matrix, vector": (lambda x: x @ V, N13, n13),
    "vector, matrix": (lambda x, y: y @ x, [S(("N", 13)), S(("N",))], lambda n: [floats(n, 13), floats(n)]),
    "dot": (lambda x, y: y @ x, [S(("N",)), S(("N",))], lambda n: [floats(n), floats(n) + 1]),
    "flatten": (lambda x: gx.flatten(x, 1) @ W, [S(("N", 4, 5))], lambda n: [floats(n, 4, 5)]),
    "whole rows": (lambda x: gx.reshape(gx.exp(x) + 1, (-1, 4)) * 2, [S(("N", 3, 4))], lambda n: [floats(n, 3, 4)]),
    "one row": (lambda x: gx.reshape(gx.exp(x) + 1, (-1,)) * 2, [S(("N", 3, 4))], lambda n: [floats(n, 3, 4)]),
    "concat": (lambda x, y: gx.concat([x, y], axis=1), [S(("N", 3)), S(("N", 4))], lambda n: [floats(n, 3), floats(n, 4)]),
    "stacked": (lambda x, y: gx.concat([x, y], axis=0), [S(("N", 3)), S(("N", 3))], lambda n: [floats(n, 3), -floats(n, 3)]),
    "two sizes": (lambda x, y: gx.concat([x, y], axis=0) * gx.sum(y), [S(("N", 3)), S(("M", 3))], lambda n: [floats(n, 3), floats(2 * n + 1, 3)]),
    "argmax": (lambda x: gx.argmax(x, axis=1), N13, n13),
    "running sums": (lambda x: gx.cumulative_sum(x, axis=0), N13, n13),
    "flip": (lambda x: gx.flip(x, axis=0), N13, n13),
    "rows by number": (lambda i: gx.take(W, i, axis=0) * 2, [S(("N",), gx.int64)], lambda n: [np.arange(n) * 7 % 20]),
    "by head": (lambda x: gx.sum(gx.reshape(x, (x.shape[0], 2, 4)) @ floats(4, 3), axis=1), [S(("N", 8))], lambda n: [floats(n, 8)]),
}
SUMS: dict[str, Case] = {
    "sum": (lambda x: gx.sum(x), [S(("N",))], lambda n: [floats(n)]),
    "max": (lambda x: gx.max(x), [S(("N",))], lambda n: [floats(n)]),
    "mean of squares": (lambda x: gx.mean(x * x), N13, n13),
    "sum against a row": (lambda x: gx.sum(x * V), N13, n13),
    "one output": (lambda x: _logistic(x), N13, n13),
    "sum of ints": (lambda x: gx.sum(x), [S(("N",), gx.int32)], lambda n: [np.arange(n, dtype=np.int32)]),
}


def every(f: Callable[..., Any], specs: list[gx.Spec], **options: Any) -> Any:
    """f compiled for every size; fails where it cannot be."""
    step = gx.compile(f, **options)
    step.lower(*specs).compile()
    assert not step.variants[-1].each, "compiled for each size"
    return step


def leaves(result: Any) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(r) for r in (result if isinstance(result, tuple) else (result,))]


def same(a: Any, b: Any) -> bool:
    return [(x.shape, x.dtype, x.tobytes()) for x in leaves(a)] == [(x.shape, x.dtype, x.tobytes()) for x in leaves(b)]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules that LLVM has compiled."""
    texts: list[str] = []
    plain = jit.compile_text
    monkeypatch.setattr(jit, "compile_text", lambda text, *args: texts.append(text) or plain(text, *args))
    return texts


@pytest.mark.parametrize("name", CASES)
def test_the_bits_of_a_static_compile(name: str) -> None:
    f, specs, make = CASES[name]
    step = every(f, specs)
    for n in FEW:
        assert same(step(*make(n)), gx.compile(f)(*make(n))), n
    native = step.variants[-1].every
    for n in (1, 5) if name != "packed matmul" else (2,):   # the loop interpreter, which is slow, sees the same plan, the oracle the graph as traced
        got, want = native.run_loops(make(n), []), oracle.run(native.graph, make(n), double=True)
        for a, b, c in zip(got.outputs, want.outputs, leaves(step(*make(n)))):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
            np.testing.assert_allclose(c, b, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", SUMS)
def test_long_sums(name: str) -> None:
    """Partial sums and chunks are the same function of N."""
    f, specs, make = SUMS[name]
    step = every(f, specs)
    for n in (1, 5, 8, 9, 16, 17, 31, 32, 33, 64, 1000, 20_000, 65_536, 300_001):
        assert same(step(*make(n)), gx.compile(f)(*make(n))), n


def _normed(x: Any, c: Any) -> Any:
    scale, shift = gx.asarray(V), gx.asarray(V * 2)
    loss = lambda x, a, b: gx.sum(nn.functional.layer_norm(x, (13,), a, b) * c)
    return nn.functional.layer_norm(x, (13,), scale, shift), *gx.grad(loss, (0, 1, 2))(x, scale, shift)


def _regressed(x: Any, y: Any) -> Any:
    return gx.value_and_grad(lambda w: gx.mean(nn.functional.softplus(x @ w) - y * (x @ w)))(gx.asarray(V))


ROWS: dict[str, Case] = {
    "layer norm": (_normed, [S(("N", 13)), S(("N", 13))], lambda n: [floats(n, 13), floats(n, 13)]),
    "logistic regression": (_regressed, [S(("N", 13)), S(("N",))], lambda n: [floats(n, 13), (floats(n) > 0).astype(np.float32)]),
    "softmax of a sum": (lambda x, y: nn.functional.softmax(x * 2 + y, 1) * y, [S(("N", 13)), S(("N", 13))], lambda n: [floats(n, 13), floats(n, 13)]),
}


@pytest.mark.parametrize("name", ROWS)
def test_many_rows_go_through_the_cache_together(name: str) -> None:
    """One kernel for many rows, one for each nest below; the bits of either are those of a static step, on every side of the sizes at which that changes."""
    f, specs, make = ROWS[name]
    one, two = every(f, specs, threads=1), every(f, specs, threads=2)
    kernels = [x.kernel for x in launches(one.variants[-1].every.plan)]
    (whole,) = [k for k in kernels if "rows" in k.name]
    assert isinstance(whole.body, If)
    match whole.body.cond:
        case Bin("<=", Int(first), Var("N")): pass
        case _: raise AssertionError(whole.body.cond)
    small = [k for k in kernels if isinstance(k.body, If) and k.body.cond == Bin("<", Var("N"), Int(first))]
    assert len(small) >= 2
    for n in (1, 2, first // 2, first - 1, first, first + 1, 2 * first + 3, 20 * first + 17):
        want = gx.compile(f, threads=1)(*make(n))
        assert same(one(*make(n)), want), n
        assert same(two(*make(n)), want), n


# ---- training ------------------------------------------------------------------------------------------------------------------------


def classifier(optimizer: str, **options: Any) -> tuple[nn.Module, Any]:
    gx.manual_seed(3)
    net, criterion = nn.Sequential(nn.Linear(60, 33), nn.ReLU(), nn.Linear(33, 16), nn.Tanh(), nn.Linear(16, 10)), nn.CrossEntropyLoss()
    opt = optim.Adam(net.parameters(), lr=1e-2) if optimizer == "adam" else optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    @gx.compile(**options)
    def step(x: Any, y: Any) -> Any:
        opt.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        return loss

    return net, step


def batch(n: int) -> Arrays:
    rng = np.random.default_rng(n)
    return [rng.standard_normal((n, 60)).astype(np.float32), rng.integers(0, 10, n)]


BATCH = [S(("N", 60)), S(("N",), gx.int64)]


def values(net: nn.Module) -> list[bytes]:
    return [np.asarray(v).tobytes() for v in net.state_dict().values()]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_over_many_sizes(optimizer: str, compiled: list[str]) -> None:
    net, step = classifier(optimizer)
    step.lower(*BATCH).compile()
    assert len(compiled) == 1
    sizes = SIZES if optimizer == "adam" else SIZES[1::3]
    losses = [step(*batch(n)) for n in sizes]
    assert len(compiled) == 1
    other, static = classifier(optimizer, on_new_shape="compile")
    for n, loss in zip(sizes, losses):
        assert same(loss, static_call(static, n)), n
    assert values(net) == values(other)


def static_call(step: Any, n: int) -> Any:
    """The step compiled for these shapes alone."""
    lowered = step.lower(*batch(n))
    lowered.compile()
    return step(*batch(n))


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_share_with_the_same_bits(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphc.llvm import runtime
    from graphc.loop import share
    monkeypatch.setattr(share, "LAUNCH", 0.0)
    monkeypatch.setattr(share, "STEP", 0.0)
    monkeypatch.setattr(runtime, "allowed", lambda n: n)
    net, step = classifier("adam", threads=threads, cache=False)
    other, alone = classifier("adam")
    for s in (step, alone):
        s.lower(*BATCH).compile()
    for n in (64, 1, 3, 700, 2, 64):
        assert same(step(*batch(n)), alone(*batch(n))), n
    assert step.variants[-1].every._manifest.threads == threads
    assert values(net) == values(other)


def test_no_stale_byte_is_read() -> None:
    """Whatever the arena holds between calls, the results are the same."""
    net, step = classifier("adam")
    other, alone = classifier("adam")
    for s in (step, alone):
        s.lower(*BATCH).compile()
    native = step.variants[-1].every
    for n in (64, 5, 200, 5, 1, 64, 63):
        native._arena.fill(0xFF)                        # every float in it is NaN
        assert same(step(*batch(n)), alone(*batch(n))), n
    assert values(net) == values(other)


# ---- flow ----------------------------------------------------------------------------------------------------------------------------


def test_memory_plan_of_a_size() -> None:
    _, step = classifier("adam")
    lowered = step.lower(*BATCH)
    small, large = lowered.memory_plan(N=8), lowered.memory_plan(N=800)
    assert small.states == large.states
    assert small.arena < large.arena
    for plan in (small, large):
        for name, offset, nbytes, first, last in plan.regions:
            assert offset % 64 == 0
            assert offset + nbytes <= plan.arena
            for other, at, more, begin, end in plan.regions:
                assert name == other or last < begin or end < first or offset + nbytes <= at or at + more <= offset, (name, other)


def test_a_later_process_finds_it_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAPHC_CACHE", "1")
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    losses = []
    for found in (False, True):
        _, step = classifier("adam")
        step.lower(*BATCH).compile()
        native = step.variants[-1].every
        assert (native._made is None) is found
        losses.append([step(*batch(n)) for n in (3, 64, 1)])
    assert losses[0] == losses[1]


def test_what_must_know_its_size_is_compiled_for_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "graphc")
    step = gx.compile(lambda x: gx.matrix_transpose(x) * 2)
    step.lower(S(("N", 3))).compile()
    assert "compiled for each size of N" in caplog.text
    for n in (2, 5):
        assert same(step(floats(n, 3)), floats(n, 3).T * 2)
    assert len(step.variants[-1].executables) == 2


def test_indices_out_of_range() -> None:
    step = every(lambda i: gx.take(W, i, axis=0), [S(("N",), gx.int64)])
    assert same(step(np.array([0, 19, 1])), W[[0, 19, 1]])
    with pytest.raises(gx.GraphIndexError, match="20"):
        step(np.array([0, 20, 1, 2]))


def test_sizes_that_do_not_fit() -> None:
    f = lambda x, y: x + y
    step = every(f, [S(("N", 3)), S(("N", 3))], on_new_shape="error")
    native = step.variants[-1].every
    with pytest.raises(gx.GraphError, match="got shapes"):
        native([floats(2, 3), floats(4, 3)])
    assert same(step(floats(2, 3), floats(2, 3)), 2 * floats(2, 3))


def test_a_size_asked_for_a_number() -> None:
    n = S(("N",)).shape[0]
    with pytest.raises(UnknownSize):
        int(n)
    with pytest.raises(UnknownSize):
        assert n > 3


# ---- sizes in arithmetic, and at the edges -------------------------------------------------------------------------------------------


ARITHMETIC: list[Callable[..., Any]] = [
    lambda x: gx.sum(x) / x.shape[0], lambda x: x.shape[0] * x, lambda x: 2 * x.shape[0] - x, lambda x: (x.shape[0] + 1) / x,
    lambda x: gx.maximum(x, x.shape[0]), lambda x: x < x.shape[0], lambda x: gx.where(x < 3, x.shape[0], x), lambda x: x * 0.5 / x.shape[0],
]


@pytest.mark.parametrize("k", range(len(ARITHMETIC)))
def test_a_size_is_a_number_beside_a_tensor(k: int) -> None:
    step, x = every(ARITHMETIC[k], N13), floats(4, 13)
    assert same(step(x), gx.compile(ARITHMETIC[k])(x))


def test_floats_do_not_come_out_of_sizes() -> None:
    n = S(("N",)).shape[0]
    for f in (lambda: 1.0 / n, lambda: n / 2, lambda: 0.5 * n, lambda: n - 0.5):
        with pytest.raises(UnknownSize, match=r"x / x\.shape\[0\]"):
            f()
    assert [str(x) for x in (np.int64(5) * n, n + np.int32(2), np.int64(2) - n)] == ["5*N", "N+2", "-N+2"]


def test_no_rows_are_another_shape() -> None:
    step = every(lambda x: gx.sum(x * 2, axis=0), N13)
    assert same(step(floats(0, 13)), np.zeros(13, np.float32))
    assert len(step.variants) == 2
    strict = every(lambda x: gx.sum(x * 2, axis=0), N13, on_new_shape="error")
    for shape in ((0, 13), (3, 12)):
        with pytest.raises(gx.GraphError, match=r"compiled for other shapes: x from \(N, 13\)"):
            strict(floats(*shape))


def test_a_step_that_is_traced_again_stays_symbolic(compiled: list[str]) -> None:
    net, step = classifier("sgd", cache=False)
    step.lower(*BATCH).compile()
    step(*batch(5))
    net[0].bias.requires_grad_(False)
    for n in (5, 6, 7):
        step(*batch(n))
    assert len(compiled) == 2
    assert [v.traced.dims for v in step.variants] == [{"N"}, {"N"}]


def test_two_sizes_of_a_product_are_compiled_for_each() -> None:
    step = gx.compile(lambda x, y: gx.sum(x @ gx.matrix_transpose(y), axis=1))
    step.lower(S(("N", 5)), S(("M", 5))).compile()
    for n, m in ((1, 1), (3, 7), (5, 5)):
        x, y = floats(n, 5), floats(m, 5)
        np.testing.assert_allclose(step(x, y), (x @ y.T).sum(1), rtol=2e-5, atol=2e-5)


def test_a_size_too_large_is_refused_before_memory_is_asked_for() -> None:
    step = every(lambda x: gx.sum(gx.cumulative_sum(gx.tanh(x) @ np.ones((13, 400), np.float32), axis=0)), N13, memory_limit=1 << 20)
    small = step(floats(10, 13))
    with pytest.raises(gx.GraphError, match=r"needs 16,\d+,\d+ bytes(.|\n)*memory_limit is 1,048,576(.|\n)*8,000,000 for f32\[N,400\] of contract"):
        step(floats(5000, 13))
    assert step.variants[-1].every._arena.nbytes < 1 << 20
    assert same(step(floats(10, 13)), small)
