"""The DOT text: everything is there, once, in its lane; the same graph gives the same bytes; no string can break out of its label."""
from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import graphc as gx
import graphc.ops
from graphc.core.dtype import f64, i64
from graphc.ir.node import Graph, Info, Node, State
from graphc.ir.op import REGISTRY as R
from graphc.ir.op import Family
from graphc.ir.walk import topo
from graphc.ops.leaf import input_, splat
from graphc.viz import to_dot as to_dot_as_asked
from graphc.viz.label import clean, constant_text, einsum_text, op_text
from graphc.viz.lanes import assign_lanes, assign_scopes, choose_rows, rule_name, slot_name, update_parts
from graphc.viz.theme import DARK, FAMILY, LIGHT, PAGE, PHASES, TITLES

NODE = re.compile(r"^ *((?:n|s)\d+(?:_\w+)?) \[label=(<.*?>|\"\"), fillcolor", re.M)
EDGE = re.compile(r"^  (n\w+) -> ([ns]\w+) \[(?!style=\"(?:dotted|invis))(.*)\]$", re.M)
WORDS = re.compile(r"<[^>]*>")


def to_dot(graph: Graph, **options: Any) -> str:
    """Every node drawn."""
    return to_dot_as_asked(graph, expand=True, **options)


def nodes(dot: str) -> dict[str, str]:
    """The words of each node's label."""
    return {m[1] or m[3]: WORDS.sub(" ", m[2] or m[4]).strip() for m in NODE.finditer(dot)}


def edges(dot: str) -> set[tuple[str, str]]:
    """(value, reader) of each edge, those of the backward lane turned the right way round again."""
    return {(m[2], m[1]) if 'dir="back"' in m[3] else (m[1], m[2]) for m in EDGE.finditer(dot)}


def lane_of(dot: str) -> dict[str, str]:
    """The lane in which each node is written."""
    out, lane = {}, ""
    for line in dot.split("\n"):
        if line.startswith("  }"):
            lane = ""
        elif m := re.search(r'^    graph .*tooltip="(forward|backward|update)"\]', line):
            lane = m[1]
        elif m := re.match(r" +([ns]\d+\w*) \[label", line):
            out[m[1]] = lane
    return out


def test_every_node_and_edge_is_there(step: Graph) -> None:
    dot = to_dot(step)
    order = topo((*step.leaves, *step.roots))
    drawn = [n for n in order if n.op.name != "const"]                  # this step has only small ones
    assert any(n.op.name == "const" for n in order)
    name = {n: f"n{k}" for k, n in enumerate(drawn)}
    found = nodes(dot)
    again = {key for key in found if key.endswith("_again")}
    written = {f"s{k}" for k, s in enumerate(step.states) if s.write is not s.read}
    assert found.keys() == {*name.values(), *written, *again}
    for n, key in name.items():
        assert n.op.name in found[key] or n.op.name == "input"
        assert str(n.type) in found[key] or any(re.match(rf"  (\w+ -> )?{key} .*label=<.*{re.escape(str(n.type))}", line) for line in dot.split("\n"))
    want = {(name[i], name[n]) for n in drawn for i in n.inputs if i in name}
    want |= {(name[s.write], f"s{k}") for k, s in enumerate(step.states) if s.write is not s.read}
    assert {(a.removesuffix("_again"), b) for a, b in edges(dot)} == want


def test_the_lanes(step: Graph) -> None:
    dot = to_dot(step)
    assert [dot.index(f">{TITLES[p]}<") for p in PHASES] == sorted(dot.index(f">{TITLES[p]}<") for p in PHASES)
    lanes, words = lane_of(dot), nodes(dot)
    in_lane = {p: [words[k] for k, lane in lanes.items() if lane == p] for p in PHASES}
    assert any(w.startswith("loss") for w in in_lane["forward"])
    for parameter in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"):
        assert sum(w.startswith(f"d loss / d {parameter}") for w in in_lane["backward"]) == 1
        assert sum(w.startswith(f"{parameter} ") and "new value" in w for w in in_lane["update"]) == 1
        assert sum(w.startswith(f"{parameter} ") for w in in_lane["forward"]) == 1
    assert any(w.startswith("lr") for w in in_lane["update"])           # a leaf stands where it is read


def test_a_parameter_read_by_the_update_is_drawn_again_there(step: Graph) -> None:
    dot = to_dot(step)
    again = {k: w for k, w in nodes(dot).items() if k.endswith("_again")}
    assert sorted(w.split()[0] for w in again.values()) == ["fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight"]
    lanes = lane_of(dot)
    assert {lanes[k] for k in again} == {"update"}
    assert not [(a, b) for a, b in edges(dot) if lanes[a] == "forward" and lanes[b] == "update"]


def test_modules_parameters_and_lines(step: Graph) -> None:
    dot = to_dot(step)
    titles = [WORDS.sub("", m) for m in re.findall(r"graph \[label=<(.*?)>, labeljust", dot)]
    assert titles.count("fc1") == titles.count("fc2") == titles.count("criterion") == 2          # forward and backward
    assert sorted(t for t in titles if "." in t) == ["fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight"]         # the parts of the update
    assert titles.count("for all") == 1                                                                           # lr
    assert "train.py:12 in Net.forward" in dot


def test_gradient_edges_have_a_colour_of_their_own(step: Graph) -> None:
    assert len({LIGHT[f"{p}.edge"] for p in PHASES}) == 3
    dot = to_dot(step)
    lanes = lane_of(dot)
    for m in EDGE.finditer(dot):
        value = m[2] if 'dir="back"' in m[3] else m[1]
        assert (LIGHT["backward.edge"] in m[3]) == (lanes[value] == "backward")


def test_deterministic(step: Graph, loop: Graph) -> None:
    for graph in (step, loop):
        assert to_dot(graph) == to_dot(graph)
    code = ("import importlib.util as u, sys; spec = u.spec_from_file_location('c', sys.argv[1]); c = u.module_from_spec(spec); "
            "spec.loader.exec_module(c); from graphc.viz import to_dot; "
            "sys.stdout.buffer.write((to_dot(c.build_step()) + to_dot(c.build_hostile())).encode())")
    root = Path(__file__).parent.parent.parent
    texts = set()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
        command = [sys.executable, "-c", code, str(Path(__file__).with_name("conftest.py"))]
        texts.add(subprocess.run(command, env=env, capture_output=True, check=True).stdout)
    assert len(texts) == 1
    assert texts.pop().startswith(to_dot_as_asked(step).encode())


def test_a_small_step_as_text(golden) -> None:  # type: ignore[no-untyped-def]
    x, w = input_(name="x", shape=(3, 4), dtype=f64), input_(name="w", shape=(3, 4), dtype=f64)
    y = x * w
    loss = R["reduce_sum"](y * 2.0, axes=(0, 1))
    g = x * 2.0
    new = w - g * 0.1
    at = [Info(phases=frozenset({p})) for p in PHASES]
    info = {y: at[0], loss: at[0] | Info(names=frozenset({"loss"})), g: at[1] | Info(names=frozenset({"d loss / d w"})),
            new: at[2], new.inputs[1]: at[2]}
    golden(to_dot(Graph((x,), (loss,), (State("w", w, new),), (), info, "small")), "viz/small")


# ---- strings ---------------------------------------------------------------------------------------------------------------------


def test_hostile_strings_stay_text(hostile: Graph, hostile_strings: list[str]) -> None:
    dot = to_dot(hostile)
    dot.encode()                                                        # no lone surrogate is left
    assert "<script" not in dot
    assert "\\" not in dot
    assert len(max(dot.split("\n"), key=len)) < 4000                    # nor 10,000 characters
    assert not {c for c in dot if ord(c) < 32 and c != "\n"}
    labels = re.findall(r"label=(<.*?>)(?=, (?:label|fillcolor|shape|style|tooltip))", dot)
    assert len(labels) > 6 * len(hostile_strings)
    for label in labels:
        ET.fromstring(f"<label>{label[1:-1]}</label>")                  # well-formed: markup is ours alone
    for line in dot.split("\n"):
        if re.match(r" +[ns]\d", line):
            assert line.endswith("]") or line.count('"') % 2 == 1       # a tooltip may go on in the next line


@pytest.mark.parametrize(("text", "want"), [
    ('"', "&quot;"), ("a\\", "a∖"), ("a\n b", "a b"), ("<b>&", "&lt;b&gt;&amp;"), ("\0x", "�x"), ("\ud800", "�"), ("é😀", "é😀"), ("", ""),
    ("x" * 32, "x" * 32), ("x" * 33, "x" * 16 + "…" + "x" * 15), ("x" * 10_000, "x" * 16 + "…" + "x" * 14 + "…"), (" " * 10_000 + "x", "…"), ("\u202ex", "�x"),
])
def test_clean(text: str, want: str) -> None:
    assert clean(text) == want


# ---- constants, contractions -----------------------------------------------------------------------------------------------------


def vector(*values: float) -> Node:
    return R["const"](value=np.asarray(values), shape=(len(values),), dtype=f64)


def test_small_constants_stand_in_their_readers_label() -> None:
    x = input_(name="x", shape=(5,), dtype=f64)
    long = vector(1, 2, 3, 4, 5.5)
    kept = splat(7.0, x)
    y = R["maximum"](1.0 / x, splat(0.1 + 0.2, x)) * long
    found = nodes(to_dot(Graph((x,), (y, kept))))
    assert sorted(w.split()[0].split("(")[0] for w in found.values()) == ["const", "const", "div", "maximum", "mul", "x"]
    words = " ".join(found.values())
    assert "div(1, ·)" in words
    assert "maximum(·, 0.3)" in words                                   # four digits, in the label only


def test_constant_text() -> None:
    assert constant_text(vector(1, 2.5)) == "[1, 2.5]"
    assert constant_text(vector(*[3.0] * 9)) == "3"
    assert constant_text(vector(*[0.0] * 8, -0.0)) is None              # not all the same bits
    assert constant_text(splat(float("nan"), input_(name="x", shape=(3,), dtype=f64))) == "nan"
    assert constant_text(R["const"](value=np.int64(2**40), shape=(), dtype=i64)) == str(2**40)
    assert constant_text(R["const"](value=np.zeros((0,)), shape=(0,), dtype=f64)) == "[]"


@pytest.mark.parametrize(("a", "b", "contracting", "batch"), [
    ((3, 4), (4, 5), ((1,), (0,)), ((), ())), ((3, 4), (5, 4), ((1,), (1,)), ((), ())), ((2, 3, 4), (5, 4, 2), ((2,), (1,)), ((0,), (2,))),
    ((3, 4, 2), (2, 5, 4), ((1, 2), (2, 0)), ((), ())), ((3,), (3,), ((0,), (0,)), ((), ())), ((2, 3), (4, 5), ((), ()), ((), ())),
])
def test_einsum_text_means_the_contraction(a, b, contracting, batch) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(a), rng.standard_normal(b)
    text = einsum_text(contracting, batch, (len(a), len(b)))
    want = R["contract"].numpy(x, y, contracting=contracting, batch=batch)
    np.testing.assert_allclose(np.einsum(text.replace("→", "->"), x, y), want, rtol=1e-12)
    back = list(rng.permutation(want.ndim))
    left, right = rng.permutation(x.ndim), rng.permutation(y.ndim)      # x is permute(x0, left), and so on
    text = einsum_text(contracting, batch, (len(a), len(b)), (list(left), list(right), back))
    x0, y0 = np.transpose(x, np.argsort(left)), np.transpose(y, np.argsort(right))
    np.testing.assert_allclose(np.einsum(text.replace("→", "->"), x0, y0), np.transpose(want, back), rtol=1e-12)


def test_op_text() -> None:
    x = input_(name="x", shape=(3, 4), dtype=f64)
    def nothing(operand: Node) -> str | None:
        return None

    assert op_text(R["reduce_sum"](x, axes=(0, 1)), nothing) == "reduce_sum axes 0,1"
    assert op_text(R["contract"](x, x, contracting=((1,), (1,)), batch=((), ())), nothing) == "contract ij,kj→ik"
    assert op_text(x * x, lambda operand: "2") == "mul(2, 2)"


# ---- loops, lanes, odd graphs ----------------------------------------------------------------------------------------------------


def test_a_loops_body_is_a_box_inside_its_lane(loop: Graph) -> None:
    dot = to_dot(loop)
    assert ">scan: cell<" in dot
    assert ">scan: cell_backward<" in dot
    lanes, words = lane_of(dot), nodes(dot)
    inner = {k: w for k, w in words.items() if re.match(r"n\d+_0_\d+$", k)}
    scans = [n for n in topo(loop.roots) if n.op.name == "scan"]
    bodies = [n.attrs["body"] for n in scans]
    want = sum(sum(constant_text(n) is None for n in topo((*body.leaves, *body.roots))) for body in bodies)
    assert len(inner) == want
    assert {lanes[k] for k in inner} == {"forward", "backward"}
    assert sum(w.startswith("tanh") for w in inner.values()) == 2       # once forward, once recomputed


def test_every_branch_is_a_box_inside() -> None:
    def f(x: Any) -> Any:
        return gx.cond(x.sum() > 0, lambda x: gx.scan(lambda c, r: (c + r, None), gx.zeros(2), x)[0], lambda x: gx.exp(x[0]), x)
    step = gx.compile(f, cache=False).lower(np.ones((3, 2), np.float32))
    dot = to_dot(step.graph)
    assert dot.count(">cond: body<") == 2
    assert ">scan: body<" in dot
    kernels = to_dot(step, view="kernels")
    assert ">branch 0 of 2<" in kernels
    assert ">branch 1 of 2<" in kernels
    assert ">3 times<" in kernels


def test_lanes_without_phases() -> None:
    x, w = input_(name="x", shape=(3,), dtype=f64), input_(name="w", shape=(3,), dtype=f64)
    y = x * x
    g, both = y + 1.0, y * 3.0
    new = w - g
    info = {g: Info(phases=frozenset({"backward"})), new: Info(phases=frozenset({"update"})), both: Info(phases=frozenset({"update", "forward"}))}
    graph = Graph((x,), (y, both), (State("w", w, new),), (), info)
    lane = assign_lanes(graph, topo((*graph.leaves, *graph.roots)))
    assert (lane[x], lane[w], lane[y], lane[g], lane[new], lane[both]) == ("forward", "update", "forward", "backward", "update", "forward")


def test_a_parameter_stands_in_its_module_and_an_input_does_not(step: Graph) -> None:
    order = topo((*step.leaves, *step.roots))
    scope = assign_scopes(step, order, assign_lanes(step, order))
    for s in step.states:
        module, _, rest = s.name.partition(".")
        assert scope[s.read] == ((module,) if rest in ("weight", "bias") else ())
    assert [scope[x] for x in step.inputs] == [(), ()]


def test_rows_keep_the_picture_in_shape() -> None:
    assert choose_rows(1, 9, 20) == 1
    assert choose_rows(4, 5, 20) == 2
    assert choose_rows(40, 12, 20) in range(3, 9)
    assert choose_rows(0, 0, 0) == 1


def test_update_parts_are_what_only_scalars_join(step: Graph) -> None:
    order = topo((*step.leaves, *step.roots))
    parts = update_parts(step, order, assign_lanes(step, order))
    assert set(parts.values()) == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}
    for s in step.states:
        if s.name != "lr":
            assert parts[s.write] == s.name.removesuffix(".momentum")
        else:
            assert s.write not in parts


def test_names_of_rules_and_slots(step: Graph) -> None:
    assert slot_name("exp_avg(fc1.weight)", "fc1.weight") == slot_name("fc1.weight.exp_avg", "fc1.weight") == "exp_avg"
    order = topo((*step.leaves, *step.roots))
    assert rule_name(step, order, assign_lanes(step, order)) == ""      # nobody said which optimizer this is


def test_what_reads_gradients_before_the_step_is_update() -> None:
    x = input_(name="x", shape=(3,), dtype=f64)
    y = x * x
    g = y * 2.0
    clipped = g * 0.5
    again = clipped * 0.5
    info = {y: Info(phases=frozenset({"forward"})), g: Info(phases=frozenset({"backward"})), clipped: Info(phases=frozenset({"forward"})),
            again: Info(phases=frozenset({"forward"}))}
    graph = Graph((x,), (again,), (), (), info)
    lane = assign_lanes(graph, topo((*graph.leaves, *graph.roots)))
    assert [lane[n] for n in (y, g, clipped, again)] == ["forward", "backward", "update", "update"]


def test_plain_graphs() -> None:
    x = input_(name="x", shape=(3,), dtype=f64)
    alone = to_dot(Graph((x,), (R["exp"](x),)))
    assert "cluster" not in alone                                       # one lane, no phase: no box round it
    assert to_dot(Graph((), ())).count("\n") <= 6
    twice = to_dot(Graph((x,), (x * x, x)))
    assert len(edges(twice)) == 1                                       # x * x is one edge


def test_deep_graphs() -> None:
    x = n = input_(name="x", shape=(3,), dtype=f64)
    for _ in range(20_000):
        n = R["exp"](n)
    assert len(nodes(to_dot(Graph((x,), (n,))))) == 20_001


def test_every_family_has_a_colour() -> None:
    assert FAMILY.keys() == set(get_args(Family))
    for theme in (LIGHT, DARK, PAGE):
        assert {f"{paint}.{part}" for paint in FAMILY.values() for part in ("fill", "stroke")} <= theme.keys()
    assert LIGHT.keys() == DARK.keys() == PAGE.keys()
    assert len(set(PAGE.values())) == len(PAGE)                         # a role can be told from its colour
