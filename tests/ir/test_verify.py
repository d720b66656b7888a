"""The verifier: each promise broken once."""
from __future__ import annotations

import numpy as np
import pytest

from graphc.core.dtype import f32, f64, i64
from graphc.core.errors import GraphError
from graphc.core.loc import Loc
from graphc.core.types import TensorType, TupleType
from graphc.ir.host import Host
from graphc.ir.node import Graph, Info, Node, State
from graphc.ir.verify import verify
from graphc.ops import control, effect, elementwise
from graphc.ops.leaf import const, input_
from graphc.ops.tuples import get, topk
from graphc.testing import random_graph


def x_of(*shape, dtype=f32, name="x"):
    return input_(name=name, shape=shape, dtype=dtype)


def refused(graph: Graph, words: str) -> GraphError:
    with pytest.raises(GraphError, match=words) as e:
        verify(graph)
    return e.value


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_are_well_formed(seed: int) -> None:
    graph = random_graph(seed, 30)
    assert verify(graph) is graph


def test_wrong_type_names_node_and_line() -> None:
    x = x_of(3, 4)
    bad = Node(elementwise.tanh, (x,), {}, TensorType((4, 3), f32))
    info = {bad: Info(frozenset({Loc("model.py", 41, "Net.forward")}), frozenset({"h"}))}
    e = refused(Graph((x,), (bad,), info=info), r"tanh \(h\) : f32\[4,3\] has the wrong type: tanh gives f32\[3,4\]")
    assert e.at == "model.py:41  in Net.forward"
    assert e.op == "tanh(f32[3,4])"


def test_operands_that_do_not_fit() -> None:
    x, y = x_of(3), x_of(4, name="y")
    refused(Graph((x, y), (Node(elementwise.add, (x, y), {}, x.type),)), "is not what add takes: add needs equal types")
    refused(Graph((x,), (Node(elementwise.tanh, (x,), {"axis": 1}, x.type),)), "is not what tanh takes")


def test_undeclared_leaf() -> None:
    x, y = x_of(3), x_of(3, name="y")
    refused(Graph((x,), (x + y,)), r"input \(y\) : f32\[3\] is read, and is neither an input nor a state of 'graph'")


def test_leaves() -> None:
    x = x_of(3)
    y = elementwise.tanh(x)
    refused(Graph((x, x), (y,)), "is given twice")
    refused(Graph((x,), (y,), (State("w", x, x),)), "is given twice")
    refused(Graph((x, y), (y,)), "is no `input` leaf")


def test_states() -> None:
    x, w, v = x_of(3), x_of(3, name="w"), x_of(3, name="v")
    refused(Graph((x,), (), (State("w", w, x_of(4)),)), "is written to the state 'w', which is")
    refused(Graph((x,), (), (State("w", w, w), State("w", v, v))), "names are not unique: w, w")


def test_cycle() -> None:
    x = x_of(3)
    a = elementwise.tanh(x)
    b = elementwise.sin(a)
    a.inputs = (b,)                                     # nobody may do this
    refused(Graph((x,), (b,)), "is below itself")


@pytest.mark.parametrize(("value", "words"), [([1], "which is a list"), ({}, "which is a dict"), (np.zeros(3, np.float32), "an array that can be written to"),
                                              (((1, [2]),), "which is a list"), (np.complex64(1), "a scalar of complex64")])
def test_mutable_attributes(value, words: str) -> None:
    x = x_of(3)
    refused(Graph((x,), (Node(elementwise.tanh, (x,), {"a": value}, x.type),)), f"has the attribute a, {words}")


def test_arrays_are_frozen() -> None:
    value = np.zeros(3, np.float32)
    node = const(value=value, shape=(3,), dtype=f32)
    refused(Graph((), (node,)), "an array that can be written to")
    value.flags.writeable = False
    verify(Graph((), (node,)))


def test_bodies_are_closed() -> None:
    c, outer = x_of(2, name="c", dtype=f64), x_of(2, name="captured", dtype=f64)
    h = x_of(2, name="h", dtype=f64)

    def loop(body: Graph) -> Graph:
        return Graph((h, outer), (get(control.scan(h, body=body, carries=1, xs=0, length=3), index=0), outer))

    verify(loop(Graph((c,), (c * 2.0,), name="body")))
    e = refused(loop(Graph((c,), (c * outer,), name="body")), r"input \(captured\) : f64\[2\] is read, and is neither an input nor a state of 'body'")
    assert e.fix == "a graph among attributes is closed: hand captured nodes in as inputs"


def test_outputs_are_tensors() -> None:
    x = x_of(5)
    refused(Graph((x,), (topk(x, k=2, axis=0),)), "is an output, and no tensor")
    refused(Graph((x,), (effect.token(),)), "is an output, and no tensor")
    refused(Graph((x,), (x,), effects=(x,)), "stands among the effects, and is no token")


def test_tokens_are_used_once() -> None:
    x = x_of(5)
    t = effect.token()
    def noted(t: Node, name: str) -> Node:
        return get(effect.io_callback(t, x, function=Host(name), results=TupleType(())), index=0)

    a, b = (noted(t, name) for name in "ab")
    refused(Graph((x,), (x,), effects=(a, b)), "is a token used 2 times: effects stand in one row")
    verify(Graph((x,), (x,), effects=(noted(a, "c"),)))
    refused(Graph((x,), (x,), effects=(a, a)), "used 2 times")


def test_indices_have_no_derivative_but_verify() -> None:
    i = x_of(3, dtype=i64)
    verify(Graph((i,), (i + 1,)))
