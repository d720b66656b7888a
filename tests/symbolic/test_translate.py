"""Graph → SymPy: each op's formula is what the op computes, and whole functions translate element by element."""
from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import sympy

import graphc as gx
from graphc.core.dtype import bool_, f32, f64, from_numpy
from graphc.core.types import TensorType
from graphc.interp.numpy import run
from graphc.ir.node import Graph
from graphc.ir.op import REGISTRY, Op
from graphc.nn import functional as F
from graphc.ops.leaf import input_
from graphc.symbolic import to_sympy
from graphc.symbolic.meaning import LOGIC, MEANING
from graphc.symbolic.numbers import exact
from graphc.symbolic.translate import elements, symbols

NASTY = np.array([-2.5, -2.0, -1.5, -0.5, 0.0, 0.5, 1.0, 1.5, 2.5])
TENSORS = [op for op in REGISTRY.values() if op.family in ("movement", "reduce", "contract") and op.name not in ("argmax", "argmin", "argsort")]


def evaluated(graph: Graph, arrays: list[np.ndarray]) -> np.ndarray:
    """The translation of a graph with numbers put in for the symbols."""
    env = {leaf: symbols(leaf.attrs["name"], leaf.tensor) for leaf in graph.inputs}
    (out,) = elements(graph.outputs, env, graph)
    put = {s: sympy.sympify(v.item()) for leaf, a in zip(graph.inputs, arrays) for s, v in zip(env[leaf].ravel(), a.ravel())}
    value = np.empty(out.shape, object)
    for at in np.ndindex(*out.shape):
        value[at] = sympy.sympify(out[at]).xreplace(put)
    return value.astype(bool if graph.outputs[0].tensor.dtype is bool_ else float)


def graph_of(op: Op, arrays: list[np.ndarray], attrs: dict) -> Graph:
    leaves = tuple(input_(name="abc"[k], shape=a.shape, dtype=from_numpy(a.dtype)) for k, a in enumerate(arrays))
    return Graph(leaves, (op(*leaves, **attrs),))


@pytest.mark.parametrize("op", MEANING, ids=str)
def test_the_formula_is_the_op(op: Op) -> None:
    (arrays, attrs), *_ = op.samples(np.random.default_rng(3))
    arrays = [np.asarray(a).ravel()[:6] for a in arrays]
    if op.domain == (-2.0, 2.0):                        # defined everywhere: halves, zeros and ties too
        arrays = [np.concatenate([a, NASTY if k == 0 else NASTY[::-1] if op.name != "pow" else NASTY]) for k, a in enumerate(arrays)]
    graph = graph_of(op, arrays, attrs)
    want = run(graph, arrays).outputs[0]
    got = evaluated(graph, arrays)
    assert got.dtype.kind == want.dtype.kind
    np.testing.assert_allclose(got, want, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("op", LOGIC, ids=str)
def test_the_formula_is_the_logic(op: Op) -> None:
    arity = {"where": 3, "not": 1}.get(op.name, 2)
    arrays = [np.array(a) for a in np.meshgrid(*[[False, True]] * arity)]
    graph = graph_of(op, arrays, {})
    assert (evaluated(graph, arrays) == run(graph, arrays).outputs[0]).all()


@pytest.mark.parametrize("op", TENSORS, ids=str)
def test_tensor_ops_are_their_numpy_meaning(op: Op) -> None:
    for arrays, attrs in op.samples(np.random.default_rng(3)):
        arrays = [np.asarray(a) for a in arrays]
        if sum(a.size for a in arrays) > 60 or not all(a.size for a in arrays):
            continue
        graph = graph_of(op, arrays, attrs)
        want = run(graph, arrays).outputs[0]
        np.testing.assert_allclose(evaluated(graph, arrays), want, rtol=1e-13, atol=1e-14)


def test_functions() -> None:
    x, y = sympy.symbols("x y", real=True)
    assert to_sympy(lambda x, y: gx.exp(-x) * x + y / 3) == x * sympy.exp(-x) + y / 3
    assert to_sympy(gx.grad(lambda x: gx.tanh(x))) == 1 - sympy.tanh(x)**2
    assert to_sympy(gx.relu) == sympy.Max(0, x)
    x_0, x_1 = sympy.symbols("x_0 x_1", real=True)
    assert to_sympy(gx.compile(lambda x: {"sum": x.sum(), "two": 2}), gx.Spec((2,))) == {"sum": x_0 + x_1, "two": 2}
    p = to_sympy(lambda p: p["w"] @ p["w"].T, {"w": gx.Spec((1, 2))})
    assert p.shape == (1, 1)
    assert len(p[0, 0].free_symbols) == 2
    assert to_sympy(lambda x, k=2: x * k) == 2 * x


def test_constants_are_what_was_written() -> None:
    x = sympy.Symbol("x", real=True)
    assert to_sympy(lambda x: 0.1 * x) == x / 10
    assert to_sympy(lambda x: x * (1 / 3)) == x / 3
    assert sympy.simplify(to_sympy(lambda x: F.gelu(x)) - x * (1 + sympy.erf(x / sympy.sqrt(2))) / 2) == 0
    tanh = to_sympy(lambda x: F.gelu(x, "tanh"))
    expected = x / 2 * (1 + sympy.tanh(sympy.sqrt(2 / sympy.pi) * (x + sympy.Rational("0.044715") * x**3)))
    assert sympy.together((tanh - expected).rewrite(sympy.exp)) == 0


@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_every_number_rounds_to_its_bits(dtype) -> None:
    values = [0.1, 1 / 3, 2 / 7, 0.044715, math.pi, -math.pi / 2, math.sqrt(2 / math.pi), 1e-8, 6.02214076e23, 1e300, 5e-324, 2.0**60, 0.1234567890123456]
    values += np.random.default_rng(0).standard_normal(50).tolist()
    with np.errstate(over="ignore"):
        for v in (dtype.numpy.type(v) for v in values):
            e = exact(v, dtype)
            assert dtype.numpy.type(float(sympy.N(e, 30))) == v, (v, e)
    assert exact(dtype.numpy.type(0.1), dtype) == sympy.Rational(1, 10)
    assert exact(dtype.numpy.type(math.pi), dtype) == sympy.pi
    assert exact(dtype.numpy.type(1 / 3), dtype) == sympy.Rational(1, 3)
    assert exact(dtype.numpy.type(math.inf), dtype) == sympy.oo
    assert exact(dtype.numpy.type(math.nan), dtype) is sympy.nan
    assert exact(np.True_, bool_) == sympy.true


def test_what_has_no_formula_is_said() -> None:
    with pytest.raises(gx.GraphError, match="random_bits has no formula") as e:
        to_sympy(lambda x: x * gx.rand(2), gx.Spec((2,)))
    assert "no random bits" in str(e.value)
    assert "test_translate.py" in str(e.value)
    with pytest.raises(gx.GraphError, match="sizes are numbers"):
        to_sympy(lambda x: x + 1, gx.Spec(("N",)))
    with pytest.raises(gx.GraphError, match=r"more than 10,000 expressions"):
        to_sympy(lambda x: x + 1, gx.Spec((101, 100)))
    with pytest.raises(gx.GraphError, match="a function or a Graph, got int"):
        to_sympy(3)
    with pytest.raises(gx.GraphError, match="shl has no formula"):
        to_sympy(lambda n: n << 2, gx.Spec((), gx.int64))


def test_symbols() -> None:
    assert symbols("n", TensorType((), gx.int64)).item().is_integer
    assert symbols("x", TensorType((2, 1), f64)).tolist() == [[sympy.Symbol("x_0_0", real=True)], [sympy.Symbol("x_1_0", real=True)]]


def test_sympy_loads_with_the_first_formula() -> None:
    code = ("import sys, graphc as gx; assert 'sympy' not in sys.modules; from graphc import *; assert 'sympy' not in sys.modules; "
            "gx.symbolic.to_sympy; assert 'sympy' in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)


COMPOSITES = {"sinh": sympy.sinh, "cosh": sympy.cosh, "asinh": sympy.asinh, "acosh": sympy.acosh, "atanh": sympy.atanh,
              "hypot": lambda a, b: sympy.sqrt(a**2 + b**2),
              "logaddexp": lambda a, b: sympy.log(sympy.exp(a) + sympy.exp(b)),
              "log10": lambda a: sympy.log(a, 10), "softplus": lambda a: sympy.log(1 + sympy.exp(a)), "relu": lambda a: sympy.Max(0, a)}


@pytest.mark.parametrize("name", COMPOSITES)
def test_functions_of_several_nodes_have_their_name(name: str) -> None:
    """Whatever their numerics are made of, in each dtype and shape."""
    f, want = getattr(gx, name), COMPOSITES[name]
    binary = name in ("hypot", "logaddexp")
    a, b = sympy.symbols("a b", real=True)
    both = (lambda a, b: f(2 * a, b)) if binary else lambda a: f(2 * a)
    assert to_sympy(both) == want(2 * a, *([b] if binary else []))
    spec = gx.Spec((2,), gx.float32)
    got = to_sympy(both, *[spec] * (2 if binary else 1))
    a1, b1 = sympy.symbols("a_1 b_1", real=True)
    assert got[1] == want(2 * a1, *([b1] if binary else []))


def test_a_choice_within_a_choice_is_made() -> None:
    a = sympy.Symbol("a", real=True)
    assert to_sympy(lambda a: gx.where(a > 0, gx.where(a > 0, a, 1.0), gx.where(a <= 0, -a, 2.0))) == sympy.Piecewise((a, a > 0), (-a, True))
