"""What is printed parses back, bit by bit; and prints as it always did."""
from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphc.core import half
from graphc.core.dims import symbol
from graphc.core.dtype import ALL, BY_NAME, f32, f64, i64, u64
from graphc.core.errors import GraphError
from graphc.core.loc import Loc
from graphc.core.types import TOKEN, TensorType, TupleType
from graphc.interp.numpy import run
from graphc.ir.host import Host
from graphc.ir.node import Graph, Info, Node, Recorder, State, recording
from graphc.ir.op import Op
from graphc.ir.text import equal, literal, parse, show
from graphc.ir.verify import verify
from graphc.ir.walk import topo
from graphc.ops import control, effect, elementwise, movement
from graphc.ops.contract import contract
from graphc.ops.leaf import const, input_, iota, size
from graphc.ops.tuples import get, topk
from graphc.testing import random_graph


def train_step() -> Graph:
    """Everything that a graph may hold, once."""
    rec = Recorder(here=Info(frozenset({Loc("/home/u/model.py", 41, "Net.forward")}), phases=frozenset({"forward"})))
    with recording(rec):
        n = symbol("N")
        x = input_(name="x", shape=(n, 4), dtype=f32)
        w = input_(name="fc1.weight", shape=(5, 4), dtype=f32)
        h0, xs, k = (input_(name=name, shape=shape, dtype=f64) for name, shape in (("h", (2,)), ("xs", (3, 2)), ("h", (2,))))
        y = elementwise.tanh(contract(x, w, contracting=((1,), (1,)), batch=((), ())))
        rec.here = Info(frozenset({Loc("/home/u/loss.py", k_, "loss") for k_ in (3, 7)}), frozenset({"d loss / d fc1.weight"}))
        g = y * 0.1
        rec.here = Info()
        c, s, a = (input_(name=name, shape=(2,), dtype=f64) for name in "csa")
        body = Graph((c, s, a), (c * s + a, c), name="cell")
        out = control.scan(h0, xs, k, body=body, carries=1, xs=1, length=3, reverse=True)
        top = topk(get(out, index=1), k=1, axis=0)
        end = get(effect.io_callback(effect.token(), g, function=Host('"loss" # \n'), results=TupleType(())), index=0)
        new = w + movement.pad(iota(shape=(5, 4), dtype=f32, axis=0), lo=(0, 0), hi=(0, 0), value=-0.0)
    keep = input_(name="count", shape=(), dtype=i64)
    states = (State("fc1.weight", w, new), State('odd "name"', keep, keep))
    outputs = (g, get(out, index=0), get(top, index=1), size(dim=2 * n - 1))
    return Graph((x, h0, xs, k), outputs, states, (end,), rec.info, "train_step")


def test_golden(golden) -> None:
    golden(show(train_step()), "ir/train_step")


def test_round_trip() -> None:
    graph = train_step()
    text = show(graph)
    again = parse(text)
    assert equal(again, graph)
    assert show(again, locs=False) == show(graph, locs=False)
    verify(again)
    (state, kept) = again.states
    assert (state.name, kept.name) == ("fc1.weight", 'odd "name"')
    assert kept.write is kept.read
    assert again.inputs[0].type == TensorType((symbol("N"), 4), f32)


def test_names_are_of_no_account_and_structure_is() -> None:
    def graph(name: str, twice: bool) -> Graph:
        x = input_(name=name, shape=(3,), dtype=f32)
        a = elementwise.tanh(x)
        return Graph((x,), (a, elementwise.tanh(x) if twice else a), name=name)

    assert equal(graph("x", False), graph("y", False))
    assert not equal(graph("x", False), graph("x", True)), "one node or two is a difference"


@given(st.integers(0, 10_000))
def test_random_graphs(seed: int) -> None:
    graph = random_graph(seed, 20)
    assert equal(parse(show(graph)), graph)


def through_text(value):
    """An attribute, printed and parsed."""
    note = Op("note", "unary", lambda t, **_: t, np.asarray, "zero", "carries an attribute", lambda rng: [])
    from graphc.ir.op import REGISTRY
    REGISTRY["note"] = note
    try:
        x = input_(name="x", shape=(), dtype=f32)
        return parse(show(Graph((x,), (Node(note, (x,), {"value": value}, x.type),)))).outputs[0].attrs["value"]
    finally:
        del REGISTRY["note"]


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, 1e300, 5e-324, float("inf"), -float("inf"), 1, -1, 2**70, True, False, None, "",
                                   "a # \"b\"\n\\é", (), (1,), ((1, 2), ()),
                                   f32, (f64, i64), symbol("N"), 2 * symbol("N") * symbol("M") - 1, symbol("f32"), TOKEN, TensorType((3, symbol("N")), f32),
                                   TupleType((TensorType((), f64), TOKEN)), (TensorType((), f64), TOKEN)], ids=repr)
def test_attributes(value) -> None:
    back = through_text(value)
    assert type(back) is type(value)
    assert back == value
    assert repr(back) == repr(value)


@given(st.sampled_from([d for d in ALL if d.kind != "bool"]), st.data())
def test_arrays_bit_by_bit(dtype, data) -> None:
    array = data.draw(hnp.arrays("u2" if dtype.is_half else dtype.numpy, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))).view(dtype.numpy)
    if dtype.is_float:
        array = np.where(np.isnan(array), dtype.numpy.type(np.nan), array)
    back = through_text(array if array.ndim else array[()])
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize(("dtype", "bits"), [("f4", 0x7FC00001), ("f4", 0xFFC00000), ("f8", 0x7FF8000000000123)])
def test_nans_keep_their_payload(dtype: str, bits: int) -> None:
    value = np.asarray([bits], f"u{dtype[1]}").view(dtype)
    assert f"nan_{bits:x}" in literal(value)
    assert through_text(value).tobytes() == value.tobytes()
    assert through_text(value[0]).tobytes() == value.tobytes()


@given(st.floats(width=32, allow_nan=False))
def test_f32_by_shortest_digits(value: float) -> None:
    x = np.float32(value)
    text = literal(x)
    assert len(text) <= 20
    assert through_text(x).tobytes() == x.tobytes()


def test_every_dtype_as_a_constant() -> None:
    for dtype in BY_NAME.values():
        value = half.scalar(1, dtype)
        graph = Graph((), (const(value=value, shape=(2, 3), dtype=dtype),))
        back = parse(show(graph)).outputs[0].attrs["value"]
        assert type(back) is type(value)
        assert back == value
    big = Graph((), (const(value=np.uint64(2**64 - 1), shape=(), dtype=u64),))
    assert run(parse(show(big)), []).outputs[0] == np.uint64(2**64 - 1)


def test_an_empty_constant_keeps_its_shape() -> None:
    value = np.zeros((0, 3), np.float32)
    value.flags.writeable = False
    graph = Graph((), (const(value=value, shape=(0, 3), dtype=f32),))
    assert "const []" in show(graph)
    assert parse(show(graph)).outputs[0].attrs["value"].shape == (0, 3)


def test_large_arrays_can_be_left_out() -> None:
    value = np.zeros((10, 10), np.float32)
    graph = Graph((), (const(value=value, shape=(10, 10), dtype=f32),))
    assert "const ..." in show(graph, most=20)


def test_a_chain_of_100_000() -> None:
    x = input_(name="x", shape=(3,), dtype=f32)
    y = x
    for k in range(50_000):
        y = elementwise.sin(y) if k % 2 else y + 1.0
    y = elementwise.tanh(y)
    graph = Graph((x,), (y,))
    start = time.perf_counter()
    again = parse(show(graph))
    assert len(topo(again.roots)) == len(topo(graph.roots)) > 75_000
    assert time.perf_counter() - start < 20             # about 2 s; a quadratic step would take minutes


@pytest.mark.parametrize(("text", "what", "line"), [
    ("graph g() {\n  return %1\n}", "'%1' is not defined above", 2),
    ("graph g(%x: f32[3]) {\n  %1: f32[3] = frob(%x)\n  return %1\n}", "there is no op 'frob'", 2),
    ("graph g(%x: f33[3]) {\n  return %x\n}", "'f33[3]' is not a type", 1),
    ("graph g(%x: f32[3]) {\n  %x: f32[3] = tanh(%x)\n  return %x\n}", "'%x' is defined twice", 2),
    ("graph g(%x: f32[3]) {\n\n  return %x\n", "expected ':', found 'the end'", 4),
    ("graph g(%x: f32[3]) {\n  %1: f32[3] = tanh(%x", "expected ')', found 'the end'", 2),
    ("graph g(%x: f32[3]) {\n  %1: f32[3] = tanh(%x) {a=(1,", "expected ')', found 'the end'", 2),
    ("graph g(%x: f32[3]) {\n  return %x\n}\nmore", "expected 'the end', found 'more'", 4),
    ("graph g() {\n  %1: f32[2] = const [1.0]\n  return %1\n}", "1 numbers for f32[2]", 2),
    ("graph g() {\n  %1: i64[] = const 1.5\n  return %1\n}", "'1.5' is not a i64", 2),
    ("graph g() {\n  update \"w\" = %1\n}", "there is no state 'w'", 2),
    ("graph g() {\n  ?\n}", "no token begins with '?", 1),
])
def test_errors_name_the_line(text: str, what: str, line: int) -> None:
    with pytest.raises(GraphError) as e:
        parse(text)
    assert what in str(e.value)
    assert e.value.at == f"line {line}"


def test_every_truncation_is_an_error() -> None:
    """A text cut off anywhere is refused, and refused in time."""
    text = show(train_step(), locs=False)
    for end in range(0, len(text) - 1, 7):
        with pytest.raises(GraphError, match="this is not the text of a graph"):
            parse(text[:end])
