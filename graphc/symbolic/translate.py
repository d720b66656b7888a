"""Graph → SymPy, element by element: `to_sympy`.

A tensor becomes an array of expressions, and every op is run on such arrays: movement, sums and contractions by their own NumPy meaning, which is
arithmetic of whatever the elements are; elementwise ops by `meaning`. So what is printed is what the graph does. For matrices as matrices see `latex`.
"""
from __future__ import annotations

import inspect
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import sympy

from ..core.dtype import DType, bool_, f64
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.types import TensorType
from ..ir.node import Graph, Node
from ..ir.walk import topo
from ..ops import elementwise as ops
from ..ops import leaf, reduce
from ..ops.call import inline
from ..ops.effect import pure_callback
from ..ops.movement import pad
from ..ops.tuples import get
from ..trace import arguments, function
from ..trace.spec import Spec
from . import textbook
from .meaning import LOGIC, choose, indicator
from .meaning import MEANING as OPS
from .numbers import exact

Array = np.ndarray[Any, Any]
MEANING: Mapping[Any, Callable[..., Any]] = ChainMap(OPS, textbook.WORDS)
MOST = 10_000                                           # elements of one tensor: beyond that nobody reads them, and SymPy takes minutes


def traced(f: Any, args: Sequence[Any]) -> function.Traced:
    """f traced on its arguments: arrays, `gx.Spec`s, numbers. Without any, each parameter is an f64 scalar."""
    inner = getattr(f, "fn", None)
    f = inner if callable(inner) and hasattr(f, "lower") else f         # a compiled function
    if not callable(f):
        raise GraphError(f"a formula is made of a function or a Graph, got {type(f).__name__}", at=user_loc())
    if not args:
        args = [Spec((), f64)] * _arity(f)
    call = arguments.take_apart(tuple(args), {}, lambda treedef: arguments.leaf_names(f, treedef))
    return function.trace(f, call, [TensorType(tuple(k[1]), k[2]) if k[0] == "array" else None for k in call.keys], stable=False)


def _arity(f: Callable[..., Any]) -> int:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        return sum(p.kind in kinds and p.default is p.empty for p in inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        return 1


def to_sympy(f: Any, *args: Any) -> Any:
    """What a function computes, as SymPy expressions: a scalar is an expression, a tensor a `sympy.Array`, in the tree that f returns.

    args are arrays or `gx.Spec`s, of which only shape and dtype matter; left out, every parameter is a scalar. Symbols are real and called like
    the arguments: x, or x_0, x_0_1 for the elements of a tensor. A Graph gives a tuple of its outputs. Sizes must be numbers, and small.
    Constants are the shortest exact form that rounds to the graph's bits (1/10, sqrt(2)). Raises GraphError for ops without a formula (random
    bits, bits of integers, loops) and for tensors of more than 10,000 elements.

    >>> import graphc as gx
    >>> gx.symbolic.to_sympy(lambda x, y: gx.exp(-x) * x + y / 3)
    x*exp(-x) + y/3
    """
    if isinstance(f, Graph):
        return tuple(map(_result, elements(f.outputs, {i: symbols(_name(i), i.tensor) for i in f.leaves}, f)))
    t = traced(f, args)
    graph = textbook.textbook(t.graph)
    values = [_result(v) for v in elements(graph.outputs, {i: symbols(_name(i), i.tensor) for i in graph.leaves}, graph)]
    return t.out_tree.unflatten([values[x] if is_output else x for is_output, x in t.out_leaves])


def _name(n: Node) -> str:
    return str(n.attrs["name"]).replace(".", "_")


def _result(a: Array) -> Any:
    a = _lifted(a, None)
    return a.item() if not a.ndim else sympy.Array(a.ravel().tolist(), a.shape)


def symbols(name: str, t: TensorType) -> Array:
    """A symbol for each element of a tensor: x, or x_0, x_1, ... Bools are symbols of SymPy's logic."""
    _small(t, name)
    out = np.empty(t.static_shape, object)
    for at in np.ndindex(*t.static_shape):
        full = "_".join([name, *map(str, at)])
        out[at] = sympy.Symbol(full) if t.dtype is bool_ else sympy.Symbol(full, integer=True) if t.dtype.is_integer else sympy.Symbol(full, real=True)
    return out


def elements(roots: Iterable[Node], env: Mapping[Node, Array], graph: Graph | None = None) -> list[Array]:
    """The elements of nodes as expressions, given those of some. Integers and bools that no symbol enters stay NumPy's."""
    roots = inline(Graph(tuple(env), tuple(roots)), barriers=False).outputs
    values: dict[Node, Array] = dict(env)
    for n in topo(roots, stop=values):
        if n not in values:
            try:
                values[n] = _element(n, [values[i] for i in n.inputs])
            except GraphError as e:
                if e.at is None and graph is not None:
                    e.at = ", ".join(sorted(map(str, graph.where(n).locs))) or None
                raise
    return [values[r] for r in roots]


def _element(n: Node, xs: list[Array]) -> Array:
    if n.op is pure_callback:
        return _host(n, xs)
    if n.op is get and n.inputs[0].op is pure_callback:
        return np.asarray(xs[0][n.attrs["index"]], object)
    if not isinstance(n.type, TensorType):
        raise _none(n)
    _small(n.tensor, n.op.name)
    numeric = all(x.dtype != object for x in xs)
    if n.op is leaf.const:
        return _const(n)
    if numeric and not n.tensor.dtype.is_float and n.op.pure and n.op is not leaf.input_:
        return np.asarray(n.op.numpy(*xs, **n.attrs))
    meaning = LOGIC if n.inputs and n.inputs[-1].tensor.dtype is bool_ else MEANING
    if n.op in meaning:
        return _each(meaning[n.op], [_lifted(x, i.tensor.dtype) for x, i in zip(xs, n.inputs)])
    if n.op is ops.cast:
        return _cast(_lifted(xs[0], n.inputs[0].tensor.dtype), n.inputs[0].tensor.dtype, n.attrs["dtype"])
    if n.op in (reduce.reduce_max, reduce.reduce_min):
        return _extremum(_lifted(xs[0], n.tensor.dtype), n)
    if n.op is leaf.iota:
        return _lifted(np.asarray(n.op.numpy(**n.attrs)), n.tensor.dtype)
    if n.op is pad:
        x = _lifted(xs[0], n.tensor.dtype)
        wide = np.pad(x, tuple(zip(n.attrs["lo"], n.attrs["hi"])), constant_values=0) if x.ndim else x
        inside = np.pad(np.ones(x.shape, bool), tuple(zip(n.attrs["lo"], n.attrs["hi"]))) if x.ndim else np.ones((), bool)
        return np.where(inside, wide, exact(n.tensor.dtype.numpy.type(n.attrs["value"]), n.tensor.dtype))
    if n.op.family in ("movement", "reduce", "contract") and n.op.name not in ("argmax", "argmin", "argsort"):
        x = [_lifted(x, i.tensor.dtype) for x, i in zip(xs, n.inputs)]
        return np.asarray(n.op.numpy(*x, **n.attrs), object)
    if n.op.family == "index" and n.tensor.dtype.is_float and all(x.dtype != object for x, i in zip(xs, n.inputs) if i.tensor.dtype.is_integer):
        return np.asarray(n.op.numpy(*(x if i.tensor.dtype.is_integer else _lifted(x, i.tensor.dtype) for x, i in zip(xs, n.inputs)), **n.attrs), object)
    if n.op.name == "check_index":
        return xs[0]
    raise _none(n)


def _host(n: Node, xs: list[Array]) -> Array:
    """A function of Python's: nothing is known but its name, so each element is a function of all that it is given."""
    given = [v for x, i in zip(xs, n.inputs) for v in _lifted(x, i.tensor.dtype).ravel()]
    results = [t for t in n.attrs["results"].items if isinstance(t, TensorType)]
    out = np.empty(len(results), object)
    for k, t in enumerate(results):
        _small(t, n.op.name)
        part = out[k] = np.empty(t.static_shape, object)
        for at in np.ndindex(*part.shape):
            name = "_".join([n.attrs["function"].name, *([str(k)] if len(results) > 1 else []), *map(str, at)])
            part[at] = sympy.Function(name, real=True)(*given)
    return out


def _none(n: Node) -> GraphError:
    return GraphError(f"{n.op} has no formula", op=n.op,
                      why="formulas are of real numbers: no random bits, no bits of integers, no indices that depend on data, no loops")


def _small(t: TensorType, what: str) -> None:
    if not t.is_static:
        raise GraphError(f"{what} is {t}: elements are written out, so sizes are numbers", at=user_loc(), fix="Spec((3, 4)), or latex, which keeps matrices")
    if int(np.prod(t.static_shape, dtype=np.int64)) > MOST:
        raise GraphError(f"{what} is {t}: that is more than {MOST:,} expressions", at=user_loc(), fix="a small example, or latex, which keeps matrices")


def _each(f: Callable[..., Any], xs: list[Array]) -> Array:
    out = np.empty(xs[0].shape, object)
    for at in np.ndindex(*out.shape):
        out[at] = f(*(x[at] for x in xs))
    return out


def _lifted(x: Array, dtype: DType | None) -> Array:
    """The array with SymPy's numbers as elements."""
    if x.dtype == object:
        return x
    out = np.empty(x.shape, object)
    for at in np.ndindex(*x.shape):
        out[at] = exact(x[at], dtype or f64)
    return out


def _const(n: Node) -> Array:
    value = np.asarray(n.attrs["value"])
    if not n.tensor.dtype.is_float:
        return np.broadcast_to(value, n.tensor.static_shape)
    return np.broadcast_to(_lifted(value, n.tensor.dtype), n.tensor.static_shape)


def _cast(x: Array, was: DType, now: DType) -> Array:
    """Between floats nothing happens: a formula has no rounding."""
    if was is bool_:
        return x if now is bool_ else _each(indicator, [x])
    if now is bool_:
        return _each(lambda v: sympy.Ne(v, 0), [x])
    if was.is_float and now.is_integer:
        return _each(lambda v: choose(v < 0, sympy.ceiling(v), sympy.floor(v)), [x])
    return x


def _extremum(x: Array, n: Node) -> Array:
    """Of bools: any, all."""
    largest = n.op is reduce.reduce_max
    f: Any = (sympy.Or if largest else sympy.And) if n.tensor.dtype is bool_ else sympy.Max if largest else sympy.Min
    axes = n.attrs["axes"]
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    rows = np.transpose(x, (*kept, *axes)).reshape(*(x.shape[a] for a in kept), -1)
    out = np.empty(rows.shape[:-1], object)
    for at in np.ndindex(*out.shape):
        out[at] = f(*rows[at])
    return out
