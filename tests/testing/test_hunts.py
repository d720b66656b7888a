"""Hunts: a share of them everywhere, the rest with --slow (`--hunt-count 20000 --hunt-first 0`); and mistakes put in on purpose are found, bisected, shrunk."""
from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphc.core.dtype import f64, i64
from graphc.interp.numpy import Result, run
from graphc.ir.node import Graph, Node
from graphc.ir.op import REGISTRY, Op
from graphc.ir.rewrite import Hole, P, Rule, rewrite
from graphc.ir.text import parse, show
from graphc.ir.walk import all_nodes, map_nodes
from graphc.loop.ir import Bin
from graphc.lower import elementwise as lowered
from graphc.ops.elementwise import exp, sin, tanh
from graphc.ops.leaf import input_
from graphc.ops.reduce import reduce_sum
from graphc.testing import (
    Found,
    bisect,
    gradient_difference,
    hunt,
    hunt_in_processes,
    hunting,
    native_difference,
    random_arguments,
    random_program,
    reproduction,
    shrink,
)
from graphc.testing.hunting import deadline, main, program, smooth_program
from graphc.testing.oracle import native_level
from graphc.testing.programs import drawn_ops
from graphc.testing.shrinking import closed, dies
from graphc.transform.pipeline import PASSES, Pass

SHARE = {"native": 40, "gradients": 60}                 # what every run of the tests tries


def seeds(config: pytest.Config, what: str) -> range:
    first, count = config.getoption("--hunt-first"), config.getoption("--hunt-count")
    return range(first, first + (SHARE[what] if count is None else count))


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("what", list(SHARE))
def test_a_share_of_the_hunt(what: str, part: int, request: pytest.FixtureRequest) -> None:
    found = list(hunt(what, seeds(request.config, what)[part:SHARE[what]:4]))
    assert not found, "\n".join(f"{f.seed}: {f.what}" for f in found)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("what", list(SHARE))
def test_the_hunt(what: str, request: pytest.FixtureRequest) -> None:
    """In processes, so that a crash names its seed."""
    given = request.config.getoption("--hunt-count")
    first = request.config.getoption("--hunt-first")
    found = list(hunt_in_processes(what, first, given or {"native": 400, "gradients": 200}[what]))
    assert not found, "\n".join(f"{f.seed}: {f.what}" for f in found)


# ---- mistakes put in on purpose ----------------------------------------------------------------------------------------------------


def size(graph: Graph) -> int:
    return sum(n.op.name not in ("input", "get", "const") for n in all_nodes(graph))


def first(what: str, op: str) -> tuple[Graph, Found]:
    """The first program of a hunt that a mistake in this op shows in."""
    draw = {"native": program, "gradients": smooth_program}[what]
    graphs = {seed: g for seed in range(400) if op in drawn_ops(g := draw(seed))}
    found = next(hunt(what, graphs))
    return graphs[found.seed], found


def test_a_wrong_kernel_is_found_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """floor(a / b) toward zero."""
    monkeypatch.setitem(lowered.ELEMENTWISE, "floordiv", lambda a, b: Bin("//" if lowered.dtype_of(a).is_integer else "/", a, b))   # type: ignore[arg-type]
    graph, found = first("native", "floordiv")
    small = shrink(graph, lambda g: native_difference(g, found.seed) is not None)
    assert size(small) <= 5
    assert "floordiv" in show(small)
    place: dict[str, Any] = {}
    with pytest.raises(AssertionError, match="differs in"):
        exec(reproduction(small, found.seed), place)
    monkeypatch.undo()
    exec(reproduction(small, found.seed), place)        # the compiler is right again, and the lines say so


def test_a_wrong_derivative_is_found_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """d cumsum forgets to turn round."""
    cumsum = REGISTRY["cumsum"]
    object.__setattr__(cumsum, "vjp", lambda g, y, x, *, axis, reverse: (cumsum(g, axis=axis, reverse=reverse),))
    try:
        graph, found = first("gradients", "cumsum")
        small = shrink(graph, lambda g: gradient_difference(g, found.seed) is not None)
        assert size(small) <= 5
        assert "cumsum" in show(small)
        with pytest.raises(AssertionError, match="finite differences"):
            exec(reproduction(small, found.seed, "gradient_difference"), {})
    finally:
        object.__setattr__(cumsum, "vjp", _cumsum_vjp)
    exec(reproduction(small, found.seed, "gradient_difference"), {})


_cumsum_vjp = REGISTRY["cumsum"].vjp


def test_a_wrong_pass_is_bisected_and_shrunk() -> None:
    """exp(x) → exp(x) - 1e-3, a rewrite among the others."""
    rule = Rule(P(exp, (Hole("x"),), name="e"), lambda x, e: REGISTRY["expm1"](x), "wrong")
    bad = (*PASSES, Pass("bad", lambda g: rewrite(g, [rule])))

    def differs(g: Graph) -> bool:
        inputs, states = random_arguments(g, 1, nasty=0.0)
        return bisect(g, inputs, states, passes=bad, evaluators={}) is not None

    graphs = (random_program(seed, smooth=True) for seed in range(200))
    graph = next(g for g in graphs if "exp" in {n.op.name for n in all_nodes(g)} and differs(g))
    found = bisect(graph, *random_arguments(graph, 1, nasty=0.0), passes=bad, evaluators={})
    assert found is not None
    assert found.level == "pass 'bad'"
    assert found.node is not None
    assert found.node.op is exp
    small = shrink(graph, differs)
    assert [n.op.name for n in all_nodes(small) if n.op.name != "input"] == ["exp"]


def test_a_mistake_in_a_body_is_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter of loops is wrong about sines, and only within loops: the loop stays, with the sine in it."""
    def differs(g: Graph) -> bool:
        return any("sin" in {m.op.name for m in all_nodes(b)} for n in all_nodes(g) for b in n.attrs.values() if isinstance(b, Graph) and n.op.name == "scan")

    graph = next(g for seed in range(2000) if differs(g := random_program(seed, 40)))
    small = shrink(graph, differs)
    assert size(small) <= 3
    assert {"scan", "sin"} <= {n.op.name for n in all_nodes(small)}


def test_sizes_shrink() -> None:
    x = input_(name="x", shape=(9, 16), dtype=f64)
    graph = Graph((x,), (reduce_sum(tanh(x), axes=(1,)),))
    small = shrink(graph, lambda g: any(n.op is reduce_sum and n.inputs[0].tensor.rank == 2 for n in all_nodes(g)))
    (leaf,) = small.inputs
    assert leaf.tensor.shape == (1, 1)


def test_what_does_not_fail_is_not_shrunk() -> None:
    with pytest.raises(AssertionError, match="does not fail"):
        shrink(random_program(1), lambda g: False)


def test_what_does_not_end_is_seen_from_outside() -> None:
    x = input_(name="x", shape=(3,), dtype=f64)
    graph = closed([tanh(x)])
    assert not dies(graph)
    assert dies(graph, timeout=0.01)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX")
def test_a_crash_names_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that dies at seed 3, and goes on after it when it is started again."""
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\nif [ "$5" = 2 ]; then echo seed 2; echo found 2 one; echo seed 3; kill -SEGV $$; fi\necho seed $5\n')
    fake.chmod(0o755)
    monkeypatch.setattr(hunting.sys, "executable", str(fake))
    found = list(hunt_in_processes("native", 2, 4))
    assert [(f.seed, f.what) for f in found] == [(2, "one"), (3, "the process ended with -11")]


def test_a_hunt_in_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert not list(hunt_in_processes("gradients", 0, 2))
    assert main(["gradients", "--first", "3", "--count", "1", "--here"]) == 0
    assert capsys.readouterr().out == "seed 3\n"


def test_what_takes_too_long_is_found() -> None:
    with pytest.raises(TimeoutError, match="not done after 1 s"), deadline(1):
        time.sleep(30)


# ---- bisection looks into bodies ---------------------------------------------------------------------------------------------------


def _wrong(which: Op) -> Callable[[Graph, Any, Any], Result]:
    """A backend that is wrong about one op, in bodies too."""
    bad = dataclasses.replace(which, numpy=lambda *a, **k: np.asarray(which.numpy(*a, **k)) * 1.01)

    def mutated(graph: Graph) -> Graph:
        def f(n: Node, new: tuple[Node, ...]) -> Node:
            attrs = {k: mutated(v) if isinstance(v, Graph) else v for k, v in n.attrs.items()}
            return Node(bad if n.op is which else n.op, new, attrs, n.type)
        return map_nodes(graph, f)

    return lambda graph, inputs, states: run(mutated(graph), inputs, states, double=True)


TEXTS = {
    "scan": """
        graph g(%x: f64[3], %xs: f64[4,3]) {
          %1: (f64[3], f64[4,3]) = scan(%x, %xs) {carries=1, length=4, reverse=False, xs=1,
            body=graph body(%c: f64[3], %r: f64[3]) {
              %1: f64[3] = tanh(%c)
              %2: f64[3] = sin(%1)
              %3: f64[3] = mul(%2, %r)
              return %3
            }}
          %2: f64[3] = get(%1) {index=0}
          return %2
        }""",
    "while": """
        graph g(%x: f64[3], %n: i64[]) {
          %1: (f64[3], i64[], i64[]) = while(%x, %n) {carries=2,
            body=graph turn(%c: f64[3], %k: i64[]) {
              %1: f64[3] = sin(%c)
              %2: i64[] = const 1
              %3: i64[] = add(%k, %2)
              %4: f64[3] = tanh(%1)
              return %4, %3
            },
            cond=graph test(%c: f64[3], %k: i64[]) {
              %1: i64[] = const 3
              %2: bool[] = lt(%k, %1)
              return %2
            }}
          %2: f64[3] = get(%1) {index=0}
          return %2
        }""",
    "cond": """
        graph g(%n: i64[], %x: f64[3]) {
          %1: (f64[3]) = cond(%n, %x) {
            branch0=graph a(%c: f64[3]) {
              %1: f64[3] = tanh(%c)
              %2: f64[3] = sin(%1)
              return %2
            },
            branch1=graph b(%c: f64[3]) {
              return %c
            }}
          %2: f64[3] = get(%1) {index=0}
          return %2
        }""",
    "remat": """
        graph g(%x: f64[3]) {
          %1: (f64[3]) = remat(%x) {
            body=graph again(%c: f64[3]) {
              %1: f64[3] = tanh(%c)
              %2: f64[3] = sin(%1)
              %3: f64[3] = tanh(%2)
              return %3
            }}
          %2: f64[3] = get(%1) {index=0}
          return %2
        }""",
}


@pytest.mark.parametrize("kind", TEXTS)
def test_bisection_names_the_node_in_the_body(kind: str) -> None:
    graph = parse(TEXTS[kind])
    inputs = [np.zeros((), np.int64) if leaf.tensor.dtype is i64 else np.linspace(0.2, 0.9, leaf.tensor.size).reshape(leaf.tensor.static_shape)
              for leaf in graph.inputs]
    assert bisect(graph, inputs, evaluators={"llvm": native_level}) is None
    found = bisect(graph, inputs, passes=(), evaluators={"machine": _wrong(sin)}, tolerance=1e-6)
    assert found is not None
    assert found.node is not None
    assert found.node.op is sin
    assert "= sin(%" in found.line
    assert len(found.inside) == 1
    assert f"({kind})" in str(found).splitlines()[-1]


def test_bisection_goes_down_through_loops() -> None:
    """A sine in the branch of a cond in a scan."""
    c, k = (input_(name=n, shape=(), dtype=d) for n, d in (("c", f64), ("k", i64)))
    branches = [Graph((c,), (tanh(c),), name="a"), Graph((c,), (sin(c) + c,), name="b")]
    from graphc.ops.branch import attributes, cond
    from graphc.ops.control import scan
    from graphc.ops.tuples import get
    step = get(cond(k, c, **attributes(branches)), index=0)
    x, ks = input_(name="x", shape=(), dtype=f64), input_(name="ks", shape=(5,), dtype=i64)
    out = get(scan(x, ks, body=Graph((c, k), (step,), name="body"), carries=1, xs=1, length=5), index=0)
    found = bisect(Graph((x, ks), (out,)), [np.asarray(0.4), np.asarray([0, 0, 1, 0, 1])], passes=(), evaluators={"machine": _wrong(sin)}, tolerance=1e-6)
    assert found is not None
    assert found.node is not None
    assert found.node.op is sin
    assert [i.split()[0] for i in found.inside] == ["body", "branch1"]


def test_a_body_that_shows_nothing_leaves_the_loop() -> None:
    """Only the loop as a whole is wrong."""
    graph = parse(TEXTS["scan"])
    inputs = [np.linspace(0.2, 0.9, 3), np.ones((4, 3))]

    def machine(g: Graph, i: Any, s: Any) -> Result:
        r = run(g, i, s, double=True)
        return Result([o * 1.01 if g.outputs[0].op.name == "get" and o.shape == (3,) else o for o in r.outputs], r.states)

    found = bisect(graph, inputs, passes=(), evaluators={"machine": machine}, tolerance=1e-6)
    assert found is not None
    assert found.node is not None
    assert found.node.op.name == "scan"
    assert found.inside == ()
