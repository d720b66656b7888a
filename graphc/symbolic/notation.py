"""One element of a tensor, as SymPy sees it: X @ W.T + b at (i, j) is sum_k X[i, k] W[j, k] + b[j].

In index notation broadcasting, permutation and keepdims are nothing at all, and SymPy's own sums and products do the algebra. `spell` writes the result
in matrix notation again. Nodes that have a name stand for themselves.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import sympy

from ..core.dims import Dim
from ..core.dtype import bool_
from ..core.types import TensorType
from ..ir.node import Node
from ..ir.op import Op
from ..ops import elementwise as ops
from ..ops import leaf
from ..ops.contract import contract, free_axes
from ..ops.index import check_index
from ..ops.movement import broadcast, flip, pad, permute, reshape, slice_
from ..ops.reduce import reduce_max, reduce_min, reduce_prod, reduce_sum
from . import algebra, textbook
from .meaning import LOGIC
from .numbers import exact
from .translate import MEANING

Index: TypeAlias = Any                                  # a sympy.Dummy


class Reduction(sympy.Function):                        # type: ignore[misc]
    """(body, index): over all values of the index."""

    nargs = 2


class Total(Reduction): ...
class Largest(Reduction): ...
class Smallest(Reduction): ...
class Multiplied(Reduction): ...
class LogSumExp(Reduction): ...


class Softmax(sympy.Function):                          # type: ignore[misc]
    """(body, index, at): of the body as a function of the index, the entry `at`."""

    nargs = 3


class Iverson(sympy.Function):                          # type: ignore[misc]
    """1 where the condition holds, else 0."""

    nargs = 1


class Delta(sympy.Function):                            # type: ignore[misc]
    """An element of the identity: 1 where the two indices are equal, else 0."""

    nargs = 2


class Holds(sympy.logic.boolalg.BooleanFunction):       # type: ignore[misc]
    """A condition that has a name, whose value is 1 or 0."""

    nargs = 1


class Sigmoid(sympy.Function): ...                      # type: ignore[misc]
class Relu(sympy.Function): ...                         # type: ignore[misc]
class Softplus(sympy.Function): ...                     # type: ignore[misc]
class Round(sympy.Function): ...                        # type: ignore[misc]


_OVER = {reduce_max: Largest, reduce_min: Smallest, reduce_prod: Multiplied}
_NAMED: dict[Op, Callable[..., Any]] = {ops.sigmoid: Sigmoid, textbook.relu: Relu, textbook.softplus: Softplus, ops.round_: Round,
          textbook.log_sigmoid: lambda x: sympy.log(Sigmoid(x)), textbook.log_of_rest: lambda x: sympy.log(1 - Sigmoid(x))}


def size(n: Any) -> sympy.Expr:
    """A size: a number, or the polynomial that it is."""
    if not isinstance(n, Dim):
        return sympy.Integer(n)
    return sympy.Add(*(c * sympy.prod([sympy.Symbol(s, positive=True) for s in m]) for m, c in n.terms.items()))


class Notation:
    """Elements of nodes, given the names of some. What has no notation (`opaque`) must have a name."""

    def __init__(self, names: Mapping[Node, str]) -> None:
        self.names = names
        self.bound: dict[Node, tuple[Index, ...]] = {}
        self.rows: dict[str, tuple[int, sympy.Expr, Index]] = {}        # of a one-hot matrix by name: its class axis, and what a row adds up to

    def __call__(self, n: Node, at: tuple[Any, ...]) -> Any:
        """The element of n at these indices."""
        if n in self.names:
            return element(self.names[n], self.axes(n, at), n.tensor.dtype is bool_)
        return self.definition(n, at)

    @staticmethod
    def axes(n: Node, at: tuple[Any, ...]) -> tuple[Any, ...]:
        """The indices that a name carries: a computed value's axes of size 1 are nothing."""
        return at if n.op is leaf.input_ else tuple(i for i, m in zip(at, n.tensor.shape) if m != 1)

    def indices(self, n: Node, count: int) -> tuple[Index, ...]:
        """The indices that n itself sums over."""
        if n not in self.bound:
            self.bound[n] = tuple(sympy.Dummy(f"k{j}", integer=True) for j in range(count))
        return self.bound[n]

    def definition(self, n: Node, at: tuple[Any, ...]) -> Any:
        """The element of n by its op."""
        xs, attrs = n.inputs, n.attrs
        if n.op is leaf.const:
            return self._const(n, at)
        if n.op is leaf.iota:
            return at[attrs["axis"]]
        if n.op is algebra.identity:
            return Delta(*at)
        if n.op is leaf.size:
            return size(attrs["dim"])
        if n.op in _NAMED:
            return _NAMED[n.op](self(xs[0], at))
        if n.op is ops.where:
            return self._where(n, at)
        if n.op is ops.cast:
            x = self(xs[0], at)
            return indicator(x) if xs[0].tensor.dtype is bool_ else x
        if n.op in (check_index, ops.stop_gradient):
            return self(xs[0], at)
        if n.op in (table := LOGIC if xs and xs[-1].tensor.dtype is bool_ else MEANING):
            return table[n.op](*(self(x, at) for x in xs))
        if n.op is permute:
            return self(xs[0], tuple(at[attrs["axes"].index(a)] for a in range(len(at))))
        if n.op is broadcast:
            return self(xs[0], tuple(i for a, i in enumerate(at) if a not in attrs["axes"]))
        if n.op is flip:
            return self(xs[0], tuple(size(m) - 1 - i if a in attrs["axes"] else i for a, (i, m) in enumerate(zip(at, n.tensor.shape))))
        if n.op is slice_:
            return self(xs[0], tuple(s + i * d if m != 1 else sympy.Integer(s) for i, s, d, m in zip(at, attrs["starts"], attrs["steps"], n.tensor.shape)))
        if n.op is reshape:
            rest = iter(i for i, m in zip(at, n.tensor.shape) if m != 1)
            return self(xs[0], tuple(sympy.Integer(0) if m == 1 else next(rest) for m in xs[0].tensor.shape))
        if n.op is pad:
            return self._pad(n, at)
        if n.op is contract:
            return self._contract(n, at)
        if n.op is textbook.softmax:
            (k,) = self.indices(n, 1)
            a = attrs["axis"]
            return Softmax(self(xs[0], (*at[:a], k, *at[a + 1:])), k, at[a])
        if "axes" in attrs and (n.op in (reduce_sum, textbook.logsumexp) or n.op in _OVER):
            return self._reduce(n, at)
        raise AssertionError(f"{n.op} has no notation")

    def _const(self, n: Node, at: tuple[Any, ...]) -> Any:
        value = np.asarray(n.attrs["value"])
        if not value.ndim:
            return exact(value[()], n.tensor.dtype)
        axis = counting(n)
        assert axis is not None
        return at[axis]

    def _pad(self, n: Node, at: tuple[Any, ...]) -> Any:
        """[lo <= i < lo + m] (x[i - lo] - value) + value."""
        inside, place = [], []
        for i, lo, hi, m in zip(at, n.attrs["lo"], n.attrs["hi"], n.inputs[0].tensor.shape):
            place.append(sympy.Integer(0) if m == 1 else i - lo)
            inside += [sympy.Eq(i, lo)] if m == 1 and (lo or hi) else [*([i >= lo] if lo else []), *([i < size(m) + lo] if hi else [])]
        value = exact(n.tensor.dtype.numpy.type(n.attrs["value"]), n.tensor.dtype)
        return indicator(sympy.And(*inside)) * (self(n.inputs[0], tuple(place)) - value) + value

    def _where(self, n: Node, at: tuple[Any, ...]) -> Any:
        """[c] a + [not c] b; where c is also what a or b is masked by, once is enough."""
        c, a, b = (self(x, at) for x in n.inputs)
        if n.tensor.dtype is bool_:
            return sympy.ITE(c, a, b)
        return under(c, a) * indicator(c) + under(sympy.Not(c), b) * indicator(sympy.Not(c))

    def _contract(self, n: Node, at: tuple[Any, ...]) -> Any:
        (ca, cb), (ba, bb) = n.attrs["contracting"], n.attrs["batch"]
        a, b = n.inputs
        ks = self.indices(n, len(ca))
        fa, fb = free_axes(a.tensor.rank, ca, ba), free_axes(b.tensor.rank, cb, bb)
        lead, mine, theirs = at[:len(ba)], at[len(ba):len(ba) + len(fa)], at[len(ba) + len(fa):]
        ia = {**dict(zip(ba, lead)), **dict(zip(ca, ks)), **dict(zip(fa, mine))}
        ib = {**dict(zip(bb, lead)), **dict(zip(cb, ks)), **dict(zip(fb, theirs))}
        body = self(a, tuple(ia[k] for k in range(a.tensor.rank))) * self(b, tuple(ib[k] for k in range(b.tensor.rank)))
        for k, axis in zip(ks, ca):
            body = self.total(body, k, size(a.tensor.shape[axis]))
        return body

    def _reduce(self, n: Node, at: tuple[Any, ...]) -> Any:
        (x,), axes = n.inputs, n.attrs["axes"]
        ks, rest = self.indices(n, len(axes)), iter(at)
        body = self(x, tuple(ks[axes.index(a)] if a in axes else next(rest) for a in range(x.tensor.rank)))
        for k, a in zip(reversed(ks), reversed(axes)):
            if n.op is reduce_sum:
                body = self.total(body, k, size(x.tensor.shape[a]))
            elif n.op is textbook.logsumexp:
                body = LogSumExp(body, k)
            else:
                body = _OVER[n.op](body, k)
        return body

    def total(self, body: Any, k: Index, count: sympy.Expr) -> Any:
        """The sum over k: what k does not touch stands in front; a row of a one-hot matrix adds up to what it adds up to."""
        if count == 1:
            return body.xreplace({k: sympy.Integer(0)})
        inside = [f for f in sympy.Mul.make_args(body) if f.has(k)]
        outside = sympy.Mul(*(f for f in sympy.Mul.make_args(body) if not f.has(k)))
        if not inside:
            return outside * count
        unit = next((f for f in inside if isinstance(f, Delta)), None)
        if unit is not None:                            # sum_k delta_ik f_k is f_i
            (i,) = [a for a in unit.args if a != k]
            return outside * sympy.Mul(*(f for f in inside if f is not unit)).xreplace({k: i})
        if len(inside) == 1 and isinstance(inside[0], sympy.Indexed) and (row := self.rows.get(str(inside[0].base))):
            axis, mass, i = row
            if inside[0].indices[axis] == k and len(inside[0].indices) == 2:
                return outside * mass.xreplace({i: inside[0].indices[1 - axis]})
        return outside * Total(sympy.Mul(*inside), k)


def element(name: str, at: tuple[Any, ...], is_bool: bool = False) -> Any:
    """A named tensor's element; of a named tensor of bools 1 or 0 are meant."""
    x = sympy.IndexedBase(name)[at] if at else sympy.Symbol(name, real=True)
    return Holds(x) if is_bool else x


def indicator(c: Any) -> Any:
    """1 where c, else 0; a product where c is a conjunction."""
    if c in (sympy.true, sympy.false):
        return sympy.Integer(1 if c == sympy.true else 0)
    if isinstance(c, Holds):
        return c.args[0]                                # a named condition is its own indicator
    if isinstance(c, sympy.Not):
        return 1 - indicator(c.args[0])
    if isinstance(c, sympy.And):
        return sympy.Mul(*(under(sympy.And(*(b for b in c.args if b is not a)), indicator(a)) for a in _named_last(c.args)))
    return Iverson(c)


def _named_last(conditions: Any) -> list[Any]:
    return sorted(conditions, key=lambda c: isinstance(indicator(c), (sympy.Indexed, sympy.Symbol)))


def under(c: Any, e: Any) -> Any:
    """The expression, given that c holds."""
    e = sympy.sympify(e)
    for part in sympy.And.make_args(c):
        if part not in (sympy.true, sympy.false) and e.has(indicator(part)) and e != indicator(part):
            e = e.xreplace({indicator(part): sympy.Integer(1)})
    return e


def counting(n: Node) -> int | None:
    """The axis along which a constant is 0, 1, 2, ..., if it is that and nothing else."""
    value = np.asarray(n.attrs["value"])
    for a, m in enumerate(value.shape):
        if m > 1 and n.tensor.dtype.is_integer and (value == np.arange(m).reshape([-1 if b == a else 1 for b in range(value.ndim)])).all():
            return a
    return None


def opaque(n: Node) -> bool:
    """Has the op no notation of its own?"""
    if not isinstance(n.type, TensorType):
        return True
    if n.op is leaf.const:
        return bool(np.ndim(n.attrs["value"])) and counting(n) is None
    if n.op is reshape:
        return [m for m in n.tensor.shape if m != 1] != [m for m in n.inputs[0].tensor.shape if m != 1]
    known = (leaf.input_, algebra.identity, leaf.iota, leaf.size, ops.where, ops.cast, check_index, ops.stop_gradient, permute, broadcast, flip, pad,
             slice_, contract, reduce_sum, textbook.softmax, textbook.logsumexp)
    if n.op in LOGIC and n.inputs[-1].tensor.dtype is not bool_ and n.op not in MEANING:
        return True
    return n.op not in known and n.op not in _OVER and n.op not in _NAMED and n.op not in MEANING and n.op not in LOGIC
