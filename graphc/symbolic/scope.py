"""The value of an expression under values of its symbols: what a call of a `from_sympy` function does, operation by operation.

Structurally equal expressions are one object's work: each is computed once in a scope. A branch of a Piecewise has a scope of its own, in which the
symbols are kept at a regular point wherever the branch is not taken.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sympy
from sympy.matrices.expressions.matexpr import MatrixElement

from ..core.dtype import DType
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..trace.broadcast import as_tensor
from .matrices import MATRICES
from .numbers import as_float
from .regular import is_risky, regular_point
from .table import FUNCTIONS, LOGIC, RELATIONS, is_unknown, supported, xp

UNROLLED, MOST = 16, 4096                               # a Sum of so few terms is written out, of more it is an axis; of indexed arrays at most MOST


def short(e: Any) -> str:
    """The expression in an error."""
    text = str(e)
    return text if len(text) <= 60 else text[:57] + "..."


def last(t: Any, at: Sequence[int]) -> Any:
    """t[..., i, j]."""
    key = (..., *map(int, at))
    return t[key]


class Scope:
    """Values of symbols, and of every expression met under them. A guarded branch has a scope of its own."""

    def __init__(self, taken: Mapping[sympy.Symbol, Any], env: Mapping[Any, Any], dtype: DType) -> None:
        self.taken, self.env, self.dtype = taken, dict(env), dtype
        self.seen: dict[Any, Any] = {}

    def __call__(self, e: Any) -> Any:
        """The expression's value: a Tensor, or a Python number."""
        found = self.env.get(e)
        if found is None:
            found = self.seen.get(e)
        if found is None:
            found = self.seen[e] = self._value(e)
        return found

    def _value(self, e: Any) -> Any:
        kind = type(e)
        if e in self.taken:
            return self(self.taken[e])
        if e in (sympy.true, sympy.false):
            return e == sympy.true
        if e.is_number and e.is_extended_real:
            return as_float(e) if not e.is_infinite else float(e)
        if getattr(e, "is_Matrix", False) or isinstance(e, (sympy.Trace, sympy.Determinant)):
            return self._matrix(e)
        if e.is_Add:
            return self._sum(e)
        if e.is_Mul:
            return self._product(e)
        if e.is_Pow:
            return self._power(e.base, e.exp)
        if isinstance(e, sympy.log) and len(e.args) == 1:
            return self._log(e.args[0])
        if kind is sympy.Piecewise or isinstance(e, sympy.ITE):
            return self._piecewise(e)
        if isinstance(e, (sympy.Sum, sympy.Product)):
            return self._over(e)
        if isinstance(e, sympy.Indexed):
            return self._indexed(e)
        if kind is sympy.UnevaluatedExpr:
            return self(e.args[0])
        if isinstance(e, MatrixElement):
            return last(self(e.parent), [self._place(i) for i in e.args[1:]])
        for table in (FUNCTIONS, RELATIONS, LOGIC):
            if kind in table:
                return table[kind](*(self._tensor(a) for a in e.args))
        raise GraphError(f"graphc has no {kind.__name__}", op=short(e), at=user_loc(), why=f"there are {supported()}")

    def _tensor(self, e: Any) -> Any:
        return as_tensor(self(e))

    def _place(self, i: Any) -> int:
        i = self(i)
        if not isinstance(i, (int, float)) or i != int(i):
            raise GraphError("an index of a formula is a whole number, or the variable of a Sum", at=user_loc())
        return int(i)

    def _sum(self, e: sympy.Add) -> Any:
        """exp(x) - 1 is expm1(x): SymPy writes it so, and f64 would lose what is small."""
        terms = list(e.args)
        exps = [t for t in terms if isinstance(t, sympy.exp)]
        if sympy.S.NegativeOne in terms and exps:
            terms.remove(sympy.S.NegativeOne)
            terms.remove(exps[0])
            out = xp().expm1(self._tensor(exps[0].args[0]))
        else:
            terms.sort(key=lambda t: t.is_number)                       # numbers last, so that x - 1 is one subtraction
            out = self(terms.pop(0))
        for t in terms:
            out = out - self(-t) if t.could_extract_minus_sign() else out + self(t)
        return out

    def _product(self, e: sympy.Mul) -> Any:
        """Factors over divisors: one division, and none by a number."""
        top: list[Any] = []
        below: list[Any] = []
        for f in e.args:
            if f.is_Pow and not f.is_number and f.exp.could_extract_minus_sign() and f.exp != -sympy.Rational(1, 2):
                below.append(f.base if f.exp == -1 else sympy.Pow(f.base, -f.exp, evaluate=False))
            else:
                top.append(f)
        negative = sympy.S.NegativeOne in top
        if negative:
            top.remove(sympy.S.NegativeOne)
        out = self._times(top) if top else 1.0
        if below:
            out = out / self._times(below)
        return -out if negative else out

    def _times(self, factors: Sequence[Any]) -> Any:
        out = self(factors[0])
        for f in factors[1:]:
            out = out * self(f)
        return out

    def _power(self, base: Any, exponent: Any) -> Any:
        if exponent == sympy.Rational(1, 2):
            return xp().sqrt(self._tensor(base))
        if exponent == -sympy.Rational(1, 2):
            return xp().rsqrt(self._tensor(base))
        if base == sympy.E:
            return xp().exp(self._tensor(exponent))
        if exponent.is_number:
            n = int(exponent) if exponent.is_Integer else as_float(exponent)
            b = self._tensor(base)
            return 1.0 / xp().pow(b, -n) if n < 0 else xp().pow(b, n)
        return xp().pow(as_tensor(self(base)), self._tensor(exponent))

    def _log(self, x: Any) -> Any:
        """log(1 + x) is log1p(x)."""
        if x in self.taken:
            x = self.taken[x]
        if x.is_Add and sympy.S.One in x.args:
            return xp().log1p(self._tensor(x - 1))
        return xp().log(self._tensor(x))

    def _piecewise(self, e: Any) -> Any:
        """The first condition that holds. Each branch is computed on symbols that are its own regular point wherever it is not taken."""
        pairs = [(a.expr, a.cond) for a in e.args] if isinstance(e, sympy.Piecewise) else [(e.args[1], e.args[0]), (e.args[2], sympy.true)]
        nan = float("nan")
        taken: list[Any] = []                                           # conditions before this branch
        parts: list[tuple[Any, Any]] = []
        for value, cond in pairs:
            here = self(cond)
            if here is False:
                continue
            mine = here
            for c in taken:
                mine = xp().logical_not(c) if mine is True else xp().logical_and(mine, xp().logical_not(c))
            parts.append((here, self._guarded(value, mine)))
            if here is True:
                break
            taken.append(here)
        out = parts.pop()[1] if parts and parts[-1][0] is True else nan  # no branch: SymPy's value is nan too
        for cond, value in reversed(parts):
            out = xp().where(cond, value, out)
        return out

    def _guarded(self, value: Any, mine: Any) -> Any:
        """A branch that is taken where `mine` holds."""
        whole = self._whole(value)
        if mine is True or not is_risky(whole):
            return self(value)
        symbols = sorted((s for s in whole.free_symbols if s in self.env), key=str)
        point = regular_point(whole, symbols)
        if point is None:
            raise GraphError(f"no point was found at which {short(whole)} is real and smooth", at=user_loc(),
                             why="where this branch of the Piecewise is not taken, it is computed at such a point instead",
                             fix="simplify the branch, or write it as a function of its own")
        env = {s: xp().where(mine, self.env[s], point[s]) if s in point else v for s, v in self.env.items()}
        return Scope(self.taken, env, self.dtype)(value)

    def _whole(self, e: Any) -> Any:
        """The expression with its common parts put back."""
        while names := e.free_symbols & self.taken.keys():
            e = e.xreplace({n: self.taken[n] for n in names})
        return e

    def _over(self, e: Any) -> Any:
        """A Sum or Product: written out where it is short or indexes arrays, else along a new last axis."""
        variable, low, high = e.limits[-1]
        if not (low.is_Integer and high.is_Integer):
            raise GraphError(f"{short(e)} runs from {low} to {high}: the range must be numbers", at=user_loc(), fix="e.subs(n, 10)")
        body = e.func(e.function, *e.limits[:-1]) if len(e.limits) > 1 else e.function
        is_sum, count = isinstance(e, sympy.Sum), int(high) - int(low) + 1
        if count <= 0:
            return 0.0 if is_sum else 1.0
        if count <= UNROLLED or body.has(sympy.Indexed, MatrixElement, sympy.Sum, sympy.Product) or any(map(is_unknown, sympy.preorder_traversal(body))):
            if count > MOST:
                raise GraphError(f"{short(e)} has {count:,} terms, each of which would be written out", at=user_loc(),
                                 fix="a MatrixSymbol and a matrix product")
            out = self(body.xreplace({variable: low}))
            for k in range(int(low) + 1, int(high) + 1):
                term = self(body.xreplace({variable: sympy.Integer(k)}))
                out = out + term if is_sum else out * term
            return out
        env = {s: xp().expand_dims(v, -1) for s, v in self.env.items() if isinstance(s, sympy.Symbol)}
        env[variable] = xp().arange(int(low), int(high) + 1).astype(self.dtype)
        inside = as_tensor(Scope(self.taken, env, self.dtype)(body))
        if not inside.ndim or inside.shape[-1] == 1:
            inside = xp().broadcast_to(inside, (*inside.shape[:-1], count))
        return xp().sum(inside, axis=-1) if is_sum else xp().prod(inside, axis=-1)

    def _indexed(self, e: sympy.Indexed) -> Any:
        return last(self(e.base), [self._place(i) for i in e.indices])

    def _matrix(self, e: Any) -> Any:
        for kind, rule in MATRICES.items():
            if isinstance(e, kind):
                return rule(self, e)
        raise GraphError(f"graphc has no matrix function {type(e).__name__}", op=short(e), at=user_loc(),
                         why=f"there are {', '.join(k.__name__ for k in MATRICES)}", fix="a small one: e.as_explicit()")
