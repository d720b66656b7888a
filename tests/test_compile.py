"""The surface of `gx.compile`: decorator, lower, texts, report, picture, import budget, threads, and a model that learns."""
from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.ir.text import parse
from graphc.ir.verify import verify

X = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
Y = np.array([0, 1, 2, 1, 0, 2])
BACKENDS = ["numpy", "llvm"]


def training_step() -> tuple[nn.Module, Any]:
    gx.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = optim.Adam(net.parameters(), lr=0.02)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss
    return net, step


def _bare(text: str) -> str:
    """Without the lines of the user's, which the text shows and does not keep."""
    return re.sub(r" *#.*", "", text)


def test_decorator_forms() -> None:
    @gx.compile
    def plain(x: Any) -> Any:
        """Doc."""
        return x * 2

    @gx.compile(backend="numpy", threads=1)
    def with_options(x: Any) -> Any:
        return x * 2
    called = gx.compile(lambda x: x * 2, backend="numpy")
    for f in (plain, with_options, called):
        np.testing.assert_array_equal(f(X), X * 2)
    assert plain.__name__ == "plain"
    assert plain.__doc__ == "Doc."
    assert plain.options.backend == "llvm"
    assert gx.compile(plain, backend="numpy").options.backend == "numpy"


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_learns(backend: str) -> None:
    net, step = training_step()
    f = gx.compile(step, backend=backend)
    losses = [f(X, Y).item() for _ in range(200)]
    assert losses[-1] < 0.1 * losses[0]
    assert (gx.argmax(net(X), axis=1).numpy() == Y).all()


def test_backends_agree_after_200_steps() -> None:
    for dtype, tol in (("f32", 1e-4), ("f64", 1e-10)):
        results = []
        for backend in BACKENDS:
            net, step = training_step()
            net.to(dtype)
            f = gx.compile(step, backend=backend)
            for _ in range(200):
                f(X.astype(np.float64) if dtype == "f64" else X, Y)
            results.append([p.numpy() for p in net.parameters()])
        for a, b in zip(*results, strict=True):
            assert np.linalg.norm(a - b) <= tol * np.linalg.norm(a)


@pytest.mark.parametrize("backend", BACKENDS)
def test_lower_shows_the_graph_and_compiles_ahead(backend: str) -> None:
    _, step = training_step()
    f = gx.compile(step, backend=backend)
    lowered = f.lower(X, Y)
    assert f.variants == []
    graph = lowered.graph
    verify(graph)
    assert [s.name for s in graph.states][:4] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert _bare(str(parse(lowered.text("graph")))) == _bare(lowered.text("graph"))
    phases = {p for n in graph.info for p in graph.info[n].phases}
    assert phases == {"forward", "backward", "update"}
    names = {n for i in graph.info.values() for n in i.names}
    assert "d loss / d 0.weight" in names
    assert any(str(loc).startswith(Path(__file__).name) for i in graph.info.values() for loc in i.locs)
    g = lowered.compile()
    assert g is f
    g(X, Y)
    assert len(f.variants) == 1
    assert lowered.memory_plan().states == sum(4 * n for n in (32, 8, 24, 3)) * 3 + 8
    assert "seconds" in str(type(lowered.report).__doc__)


def test_texts_of_every_stage() -> None:
    _, step = training_step()
    lowered = gx.compile(step).lower(X, Y)
    assert "contract" in lowered.text("graph")
    assert "contract" in lowered.text("optimized")
    assert "parallel" in lowered.text("loops")
    assert "define" in lowered.text("llvm")
    assert "ret" in lowered.text("asm")
    assert lowered.report.stages
    assert lowered.report.kernels > 0
    with pytest.raises(gx.GraphError, match="stage"):
        lowered.text("nonsense")
    with pytest.raises(gx.GraphError, match="no text of stage"):
        gx.compile(step, backend="numpy").lower(X, Y).text("asm")


def test_a_symbolic_trace_has_texts_for_sizes() -> None:
    lowered = gx.compile(lambda x: x.sum(axis=0) * 2).lower(gx.Spec(("N", 4)))
    assert "f32[N,4]" in lowered.text("graph")
    assert "f32[N, 4]" in lowered.text("loops")
    assert "f32[8, 4]" in lowered.text("loops", N=8)
    assert lowered.memory_plan(N=8).results == 16
    with pytest.raises(gx.GraphError, match="depend on N"):
        lowered.memory_plan()
    lowered = gx.compile(lambda x: gx.matrix_transpose(x) * 2).lower(gx.Spec(("N", 4)))
    with pytest.raises(gx.GraphError, match="N are symbolic") as e:
        lowered.text("llvm")
    assert "N=64" in str(e.value.fix)
    assert lowered.memory_plan(N=8).results == 128


def test_a_drawing(tmp_path: Path) -> None:
    _, step = training_step()
    lowered = gx.compile(step, backend="numpy").lower(X, Y)
    lowered.draw(tmp_path / "step.dot")
    text = (tmp_path / "step.dot").read_text()
    assert "digraph" in text
    assert "d loss / d 0.weight" in text


def test_lowered_of_the_last_call() -> None:
    f = gx.compile(lambda x: x * 3, backend="numpy")
    with pytest.raises(gx.GraphError, match="has not been called yet"):
        _ = f.lowered
    f(X)
    assert "mul" in f.lowered.text("graph")


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_threads_may_call_one_step(backend: str) -> None:
    count = gx.zeros((), dtype="i64")
    f = gx.compile(lambda: count.add_(1) + 0, backend=backend)
    f()
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.extend(f().item() for _ in range(50))) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(seen) == list(range(2, 152))
    assert count.item() == 151


def test_functional_training() -> None:
    def loss(params: Any, x: Any, y: Any) -> Any:
        h = gx.tanh(x @ params["w1"] + params["b1"])
        return nn.functional.cross_entropy(h @ params["w2"], y)

    @gx.compile
    def step(params: Any, x: Any, y: Any, lr: Any) -> Any:
        value, g = gx.value_and_grad(loss)(params, x, y)
        return {k: params[k] - lr * g[k] for k in params}, value
    rng = np.random.default_rng(1)
    params = {"w1": rng.standard_normal((4, 5)), "b1": np.zeros(5), "w2": rng.standard_normal((5, 3))}
    params = {k: v.astype(np.float32) for k, v in params.items()}
    first = None
    for _ in range(100):
        params, value = step(params, X, Y, 0.5)
        first = value if first is None else first
    assert value < 0.3 * first
    assert params["w1"].dtype == np.float32
    assert len(step.variants) == 1


IMPORT = """
import sys
import graphc
heavy = ("llvmlite", "sympy", "networkx", "graphviz", "graphc.loop", "graphc.lower", "graphc.llvm", "graphc.viz", "graphc.testing", "graphc.transform.pipeline")
print(*[m for m in heavy if m in sys.modules])
"""


def test_nothing_heavy_is_imported() -> None:
    """What it costs in time is `benchmarks/import_time.py`'s to say: NumPy's own import and 60 ms."""
    run = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True, cwd=Path(gx.__file__).parent.parent)
    assert run.stdout.split() == []


def test_no_public_function_is_named_like_a_submodule() -> None:
    package = Path(gx.__file__).parent
    modules = {p.stem for p in package.glob("*.py")} | {p.name for p in package.iterdir() if (p / "__init__.py").exists()}
    for name in gx.__all__:
        assert hasattr(gx, name), name
        if name in modules:
            assert type(getattr(gx, name)).__name__ == "module", name


def test_a_sum_in_a_wider_type_than_what_is_read() -> None:
    x = np.random.default_rng(0).standard_normal((3, 70_001)).astype(np.float32)
    for f in (lambda v: gx.sum(v.astype(gx.float64)), lambda v: gx.max(v.astype(gx.float64) - 1, axis=1),
              lambda v: gx.sum(v.astype(gx.float64) * v.astype(gx.float64), axis=0), lambda v: gx.sum(v.astype(gx.float64).astype(gx.float32))):
        got, want = gx.compile(f, cache=False)(x), gx.compile(f, backend="numpy")(x)
        np.testing.assert_allclose(got, want, rtol=1e-12 if got.dtype == np.float64 else 1e-4)


def test_derivatives_of_a_compiled_function_outside_of_a_trace() -> None:
    """Its result is an array without a past, so there it runs as Python, as it does in a trace; in closures, after other calls, and again compiled."""
    f = gx.compile(lambda x, k: gx.sum(x**3) * k)
    x, want = np.array([1.0, 2.0]), np.array([6.0, 24.0])
    for _ in range(2):
        f(x, 2.0)                                       # the short way is there
        assert gx.grad(f)(x, 2.0).tolist() == want.tolist()
        value, slope = gx.value_and_grad(lambda x: f(x, 2.0) + gx.sum(x))(x)
        assert (value.item(), slope.tolist()) == (21.0, (want + 1).tolist())
        assert gx.jacfwd(lambda x: f(x * x, 1.0))(x).tolist() == [6.0, 192.0]
        assert gx.hessian(f)(x, 1.0).tolist() == [[6.0, 0.0], [0.0, 12.0]]
        assert isinstance(f(x, 2.0), np.float64)
    assert gx.grad(lambda x: gx.sum(x) * f(np.ones(2), 1.0))(x).tolist() == [2.0, 2.0]
    assert np.asarray(gx.compile(gx.grad(f))(x, 2.0)).tolist() == want.tolist()
    with pytest.raises(ZeroDivisionError):
        gx.grad(lambda x: gx.sum(x) / (1 // 0))(x)
    assert isinstance(f(x, 2.0), np.float64)            # and it is forgotten again
