"""SymPy → graphc: `from_sympy`. An expression becomes a compiled function of arrays, broadcasting and differentiable like any other.

Common subexpressions are taken out by `sympy.cse`, and whatever is left is shared by identity. A branch of a Piecewise that is not taken is computed
all the same, for arrays have no branches; it is computed at a point where it is regular, so that neither its value nor its derivatives (of any
order) can spoil the one that is taken (the "double where").
"""
from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import sympy
from sympy.matrices.expressions.matexpr import MatrixElement

from ..core.dtype import f32, f64
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..trace import tree
from ..trace.broadcast import as_tensor, result_dtype
from ..trace.methods import functions
from .scope import Scope, last, short
from .table import is_unknown, supported, xp

_ARRAYS = (sympy.MatrixBase, sympy.NDimArray)


def from_sympy(exprs: Any, args: Any, **options: Any) -> Any:
    """A compiled function of arrays that computes SymPy expressions.

    exprs is an expression, a Matrix or Array of expressions (whose axes come last in the result), a matrix expression, or a list, tuple or dict of these;
    the function returns the same tree. args says what the parameters are, in order: a Symbol takes an array (or a number) of any shape, and all of them
    broadcast; a MatrixSymbol takes an array whose last two axes are the matrix's; an IndexedBase an array whose last axes its indices run over (from 0); a
    Matrix or tuple of Symbols takes an array whose last axes hold them. options are those of `gx.compile`.

    Arithmetic is done in the dtype of the arrays; numbers of the expression enter it correctly rounded (1/3 is the nearest f32 or f64). Values and
    derivatives of a Piecewise are those of the branch that is taken. Use it inside gx.compile for derivatives:
    `gx.compile(gx.grad(lambda x: f(x).sum()))`. Raises GraphError for functions that graphc lacks, naming them, and for symbols that no parameter gives.

    >>> import numpy as np, sympy, graphc as gx
    >>> x, y = sympy.symbols("x y")
    >>> f = gx.symbolic.from_sympy(x**2 + sympy.sin(y) / 3, [x, y])
    >>> f(np.array([1.0, 2.0]), 0.0)
    array([1., 4.])
    """
    given = [args] if isinstance(args, (sympy.Basic, sympy.MatrixBase)) and not isinstance(args, sympy.Tuple) else list(args)
    leaves, treedef = tree.flatten(exprs, lambda x: isinstance(x, (sympy.Basic, *_ARRAYS)))
    leaves = [sympy.sympify(e) if not isinstance(e, _ARRAYS) else e for e in leaves]
    names = [_name(a, k) for k, a in enumerate(given)]
    program = _Program(given, leaves)

    def formula(*values: Any) -> Any:
        if len(values) != len(given):
            raise GraphError(f"the formula takes {len(given)} arguments ({', '.join(names)}), got {len(values)}", at=user_loc())
        return treedef.unflatten(program.run(values))

    parameters = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_ONLY) for n in names]
    formula.__signature__ = inspect.Signature(parameters)               # type: ignore[attr-defined]
    return functions.namespace.compile(formula, **options)


def _name(a: Any, k: int) -> str:
    text = str(getattr(a, "name", getattr(a, "label", "")))
    return text if text.isidentifier() else f"x{k}"


class _Program:
    """What every call shares: the expressions with their common parts taken out, and which symbol each argument gives."""

    def __init__(self, given: Sequence[Any], leaves: Sequence[Any]) -> None:
        self.given = given
        self.shapes = [e.shape if isinstance(e, _ARRAYS) else None for e in leaves]
        flat: list[Any] = []
        for e in leaves:
            flat += _elements(e) if isinstance(e, _ARRAYS) else [e]
        known: set[Any] = set()
        for a in given:
            for s in _elements(a) if isinstance(a, (*_ARRAYS, list, tuple, sympy.Tuple)) else [a]:
                if not isinstance(s, (sympy.Symbol, sympy.MatrixSymbol, sympy.IndexedBase)):
                    raise GraphError(f"{s} is no argument of a formula", at=user_loc(),
                                     fix="a Symbol, a MatrixSymbol, an IndexedBase, or a Matrix or tuple of Symbols")
                if s in known:
                    raise GraphError(f"the argument {s} stands twice", at=user_loc())
                known.add(s)
        for e in flat:
            _check(e, known)
        plain = [e for e in flat if not _has_arrays(e)]
        taken, reduced = sympy.cse(plain, symbols=sympy.numbered_symbols("cse", cls=sympy.Dummy), order="none")
        after = iter(reduced)
        self.flat = [e if _has_arrays(e) else next(after) for e in flat]
        self.taken: dict[sympy.Symbol, Any] = dict(taken)

    def run(self, values: Sequence[Any]) -> list[Any]:
        env: dict[Any, Any] = {}
        tensors = [as_tensor(v) for v in values]
        dtype = result_dtype(tensors) if tensors else f64
        for a, t in zip(self.given, tensors):
            self._bind(a, t, env)
        scope = Scope(self.taken, env, dtype if dtype.is_float else f32)
        flat, out = iter([scope(e) for e in self.flat]), []
        for shape in self.shapes:
            if shape is None:
                out.append(as_tensor(next(flat)))
            else:
                parts = xp().broadcast_arrays(*(as_tensor(next(flat)) for _ in range(int(np.prod(shape)))))
                stacked = xp().stack(_same_dtype(parts), axis=-1)
                out.append(xp().reshape(stacked, (*stacked.shape[:-1], *shape)))
        return out

    @staticmethod
    def _bind(a: Any, t: Any, env: dict[Any, Any]) -> None:
        if isinstance(a, sympy.Symbol):
            env[a] = t
            return
        rank = 2 if isinstance(a, sympy.MatrixSymbol) else 1
        if isinstance(a, sympy.IndexedBase):
            rank = len(a.shape) if a.shape is not None else 1
            want: tuple[Any, ...] = (None,) * rank
        elif isinstance(a, (list, tuple, sympy.Tuple)):
            want = (len(a),)
        else:
            want, rank = tuple(int(n) if getattr(n, "is_Integer", isinstance(n, int)) else None for n in a.shape), len(a.shape)
        if t.ndim < rank or any(w is not None and w != n for w, n in zip(want, t.shape[t.ndim - rank:])):
            sizes = ", ".join("any" if w is None else str(w) for w in want)
            raise GraphError(f"the argument {a} needs an array whose last axes are ({sizes}), got {t.type}", at=user_loc())
        if isinstance(a, (sympy.MatrixSymbol, sympy.IndexedBase)):
            env[a] = t
            return
        for s, at in zip(_elements(a), np.ndindex(*want)):
            env[s] = last(t, at)


def _elements(a: Any) -> list[Any]:
    return list(a) if isinstance(a, (list, tuple, sympy.Tuple)) else list(a.flat() if isinstance(a, sympy.MatrixBase) else sympy.flatten(a.tolist()))


def _same_dtype(parts: Sequence[Any]) -> list[Any]:
    dtype = result_dtype(parts)
    return [p.astype(dtype) if p.dtype is not dtype else p for p in parts]


def _has_arrays(e: sympy.Basic) -> bool:
    """Does it speak of whole matrices or of indices, where common scalars must not be taken out?"""
    return bool(getattr(e, "is_Matrix", False)) or e.has(sympy.MatrixSymbol, sympy.Indexed, sympy.Sum, sympy.Product)


def _check(e: sympy.Basic, known: set[Any]) -> None:
    """Refuse what graphc has no function for, and symbols that nobody gives, before anything is traced."""
    bound = {v for s in e.atoms(sympy.Sum, sympy.Product) for v, *_ in s.limits}
    loose = sorted((s for s in e.free_symbols - known - bound if not _belongs(s, known)), key=str)
    if loose:
        raise GraphError(f"{', '.join(map(str, loose))} in {short(e)} is not among the arguments", at=user_loc(),
                         fix=f"from_sympy(..., [{', '.join(map(str, [*sorted(known, key=str), *loose]))}]), or e.subs(...) a number")
    if e.has(sympy.I, sympy.zoo):
        raise GraphError(f"{short(e)} is not real", at=user_loc(), why="graphc has no complex numbers")
    for node in sympy.preorder_traversal(e):
        kind = type(node)
        if isinstance(node, (sympy.Derivative, sympy.Integral, sympy.Limit, sympy.Subs)):
            raise GraphError(f"{short(node)} has not been carried out", at=user_loc(), fix=".doit() first, or gx.grad of the function")
        if is_unknown(node) and not (node.free_symbols and node.free_symbols <= bound):     # of the variable of a Sum it is a number of each term
            raise GraphError(f"graphc has no {kind.__name__}", op=short(node), at=user_loc(), why=f"there are {supported()}",
                             fix=f"rewrite it: expr.rewrite(...), or expr.replace(sympy.{kind.__name__}, ...)")


def _belongs(s: Any, known: set[Any]) -> bool:
    """x[i] and X[i, j] count among the free symbols beside x and X, and so does the label of x."""
    return isinstance(s, (sympy.Indexed, MatrixElement)) or any(isinstance(k, sympy.IndexedBase) and (s == k.label or s in k.free_symbols) for k in known)
