"""One test over the registry: whoever adds an op adds its tests. Type rule = NumPy's result; derivatives = finite differences, to second order."""
from __future__ import annotations

import numpy as np
import pytest

import graphc.ops  # noqa: F401  (fills the registry)
from graphc.core.dtype import bool_, f32, f64, from_numpy
from graphc.core.errors import GraphError
from graphc.core.types import TensorType, TokenType, TupleType
from graphc.interp.numpy import run
from graphc.ir.node import Graph, Node
from graphc.ir.op import REGISTRY, Op
from graphc.ir.text import equal, parse, show
from graphc.ir.verify import verify
from graphc.ir.walk import bind
from graphc.ops.elementwise import elementwise
from graphc.ops.leaf import const, input_, splat
from graphc.ops.tuples import get
from graphc.testing import check_grads
from graphc.transform.grad import vjp

OPS = list(REGISTRY.values())
UNSAMPLED = {"input", "token", "get", "pure_callback", "io_callback"}      # given, or without a value of their own
LEAVES = {"input", "const", "iota", "size", "token"}
THEIRS = {"pure_callback", "io_callback"}                          # the derivative is the user's to write: tests/trace/test_callback.py


def frozen(value):
    """Attributes are immutable: arrays too."""
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
    return value


def examples(op: Op) -> list[tuple[Graph, list[np.ndarray]]]:
    """Each sample of an op as a graph with its arrays."""
    out = []
    for arrays, attrs in op.samples(np.random.default_rng(7)):
        arrays = [np.asarray(a) for a in arrays]
        leaves = tuple(input_(name=f"x{k}", shape=a.shape, dtype=from_numpy(a.dtype)) for k, a in enumerate(arrays))
        node = op(*leaves, **{k: frozen(v) for k, v in attrs.items()})
        outputs = tuple(get(node, index=k) for k in range(len(node.type.items))) if isinstance(node.type, TupleType) else (node,)
        out.append((Graph(leaves, outputs, name=op.name), arrays))
    return out


def types_of(values) -> list[TensorType]:
    return [TensorType(np.shape(v), from_numpy(np.asarray(v).dtype)) for v in values]


@pytest.mark.parametrize("op", OPS, ids=str)
def test_complete(op: Op) -> None:
    assert op.doc
    assert op.infer.__doc__, f"{op}: its type rule has a docstring, which says the shape rule in words"
    assert callable(op.numpy)
    assert callable(op.infer)
    assert op.vjp is None or op.vjp == "zero" or callable(op.vjp)
    assert (op.vjp is not None) or op.name in LEAVES | THEIRS, f"{op} has no derivative state: a rule, or 'zero'"
    assert bool(list(op.samples(np.random.default_rng(0)))) == (op.name not in UNSAMPLED)


@pytest.mark.parametrize("op", OPS, ids=str)
def test_type_rule_is_numpys(op: Op) -> None:
    for graph, arrays in examples(op):
        verify(graph)
        values = run(graph, arrays).outputs
        assert types_of(values) == [o.type for o in graph.outputs]
        if op.name != "bitcast" and all(leaf.tensor.dtype in (f64, bool_) or leaf.tensor.dtype.is_integer for leaf in graph.leaves):
            single = bind(graph, {}, {f64: f32})        # the type rule holds for f32 as for f64
            verify(single)
            small = [a.astype(np.float32) if a.dtype == np.float64 else a for a in arrays]
            assert types_of(run(single, small).outputs) == [o.type for o in single.outputs]


@pytest.mark.parametrize("op", OPS, ids=str)
def test_prints_and_parses(op: Op) -> None:
    for graph, _ in examples(op):
        again = parse(show(graph))
        assert equal(again, graph)
        assert show(again) == show(graph)
        verify(again)


def differentiable(graph: Graph) -> bool:
    return any(leaf.tensor.dtype.is_float for leaf in graph.leaves) and any(o.tensor.dtype.is_float for o in graph.outputs)


@pytest.mark.parametrize("op", [op for op in OPS if callable(op.vjp)], ids=str)
def test_derivatives(op: Op) -> None:
    """First order on the op, second on its gradient graph."""
    tried = 0
    for graph, arrays in examples(op):
        if differentiable(graph) and all(a.size for a in arrays):
            check_grads(graph, arrays, order=2)
            tried += 1
    assert tried


@pytest.mark.parametrize("op", [op for op in OPS if op.vjp == "zero"], ids=str)
def test_zero_derivatives_are_flat(op: Op) -> None:
    """"zero" says flat almost everywhere: finite differences must agree, but for those that cut a derivative on purpose or move bits."""
    if op.name in {"stop_gradient", "bitcast", "get", "floordiv"}:
        return
    for graph, arrays in examples(op):
        if differentiable(graph):
            check_grads(graph, arrays, order=1, step=1e-7)


@pytest.mark.parametrize("op", OPS, ids=str)
def test_gradient_graph_keeps_its_types(op: Op) -> None:
    if not callable(op.vjp):
        return
    for graph, _ in examples(op):
        floats = [o for o in graph.outputs if o.tensor.dtype.is_float]
        wrt = [leaf for leaf in graph.leaves if leaf.tensor.dtype.is_float]
        slopes = vjp(floats, [splat(1.0, o) for o in floats], wrt)
        assert [s.type for s in slopes] == [w.type for w in wrt]
        verify(graph.with_roots(()) if not slopes else Graph(graph.inputs, slopes))


def test_a_derivative_of_the_wrong_type_is_caught() -> None:
    bad = Op("bad", "unary", lambda t: t, np.negative, lambda g, y, x: (REGISTRY["reduce_sum"](g, axes=(0,)),), "a wrong rule", lambda rng: [])
    x = input_(name="x", shape=(3, 4), dtype=f64)
    y = bad(x)
    with pytest.raises(GraphError, match=r"the derivative of bad gave a f64\[4\] for an operand of type f64\[3,4\]"):
        vjp([y], [splat(1.0, y)], [x])


def test_an_unwritten_derivative_is_an_error_only_on_the_path() -> None:
    rough = Op("rough", "unary", lambda t: t, np.negative, None, "no rule", lambda rng: [])
    x, w = (input_(name=n, shape=(3,), dtype=f64) for n in "xw")
    (slope,) = vjp([rough(x) * w], [splat(1.0, x)], [w])
    assert slope.op.name == "mul"
    with pytest.raises(GraphError, match="rough has no derivative"):
        vjp([rough(x) * w], [splat(1.0, x)], [x])


def test_a_wrong_derivative_is_caught() -> None:
    """The mutant: d tanh = 1 - y. The free test must see it."""
    mutant = Op("mutant", "unary", lambda t: t, np.tanh, lambda g, y, x: (g * (1.0 - y),), "wrong", lambda rng: [])
    x = input_(name="x", shape=(3, 4), dtype=f64)
    with pytest.raises(AssertionError, match="finite differences"):
        check_grads(Graph((x,), (mutant(x),)), [np.linspace(0.1, 1.0, 12).reshape(3, 4)], order=1)


def test_an_op_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="there is an op 'tanh' already"):
        elementwise("tanh", np.tanh, "zero", "again")


def test_constants_are_what_they_say() -> None:
    node: Node = const(value=np.float32(0.1), shape=(2, 3), dtype=f32)
    (value,) = run(Graph((), (node,)), []).outputs
    np.testing.assert_array_equal(value, np.full((2, 3), 0.1, np.float32))
    assert not isinstance(node.type, TokenType)
