"""Symbolic sizes: a `Dim` is a polynomial with integer coefficients in named sizes, each of them >= 1.

Not a computer algebra system: equality is equality of the normal form, and a comparison that the normal form cannot decide raises. A
size that has become a number is an `int`, never a constant Dim, so `isinstance(n, int)` means "known".
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, NoReturn, TypeAlias

from .errors import GraphError, UnknownSize

Size: TypeAlias = "int | Dim"
Monomial = tuple[str, ...]                              # ("N", "N", "M") is N²M; () is 1


class Dim:
    """sum(coefficient * product of names). Immutable, hashable, never constant."""

    __slots__ = ("_hash", "terms")
    __array_ufunc__ = None                              # NumPy's integers leave arithmetic to it

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self.terms: dict[Monomial, int] = dict(sorted(terms.items(), key=lambda t: (-len(t[0]), t[0])))
        self._hash = hash(tuple(self.terms.items()))

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for m in self.terms for name in m)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        out = ""
        for m, c in self.terms.items():
            body = "*".join(([str(abs(c))] if abs(c) != 1 or not m else []) + list(m))
            out += ("-" if c < 0 else "+" if out else "") + body
        return out

    def __add__(self, other: Size) -> Size:
        return _make(_sum(self.terms, _terms(other), 1)) if isinstance(other, (int, Dim, Integral)) else self._no_size(other)

    __radd__ = __add__

    def __sub__(self, other: Size) -> Size:
        return _make(_sum(self.terms, _terms(other), -1)) if isinstance(other, (int, Dim, Integral)) else self._no_size(other)

    def __rsub__(self, other: Size) -> Size:
        return _make(_sum(_terms(other), self.terms, -1)) if isinstance(other, (int, Dim, Integral)) else self._no_size(other)

    def __mul__(self, other: Size) -> Size:
        if not isinstance(other, (int, Dim, Integral)):
            return self._no_size(other)
        out: dict[Monomial, int] = {}
        for m, c in self.terms.items():
            for n, d in _terms(other).items():
                key = tuple(sorted(m + n))
                out[key] = out.get(key, 0) + c * d
        return _make(out)

    __rmul__ = __mul__

    def __floordiv__(self, other: Size) -> Size:
        """Exact division; raises where the quotient is not a polynomial."""
        if isinstance(other, (int, Integral)):
            other = int(other)
            if other and all(c % other == 0 for c in self.terms.values()):
                return _make({m: c // other for m, c in self.terms.items()})
        elif len(other.terms) == 1:
            ((by, k),) = other.terms.items()
            out: dict[Monomial, int] = {}
            for m, c in self.terms.items():
                rest = list(m)
                for name in by:
                    if name not in rest or c % k:
                        return self._refuse(f"{self} is not a multiple of {other}")
                    rest.remove(name)
                out[tuple(rest)] = c // k
            return _make(out)
        return self._refuse(f"{self} is not a multiple of {other}")

    def __truediv__(self, other: object) -> Any:
        return self._no_size(0.5 if isinstance(other, (int, Dim, Integral)) else other)

    __rtruediv__ = __truediv__

    def _no_size(self, other: object) -> Any:
        """What arithmetic with something else is: a Tensor's own affair, and nothing where floats come out."""
        if isinstance(other, float):
            self._refuse("floats come out of arithmetic with it", "arithmetic with a Tensor makes it one: x / x.shape[0]")
        return NotImplemented

    def _refuse(self, what: str, fix: str = "use sizes that do not depend on it, or compile for a fixed size") -> NoReturn:
        raise UnknownSize(f"the symbolic size {self} has no fixed value here: {what}", fix=fix)

    def __index__(self) -> int:
        return self._refuse("an int was asked for")

    __int__ = __index__

    def __bool__(self) -> bool:
        return True                                     # every size is >= 1

    def __lt__(self, other: Size) -> bool:
        return self._refuse(f"is it less than {other}?")

    def __gt__(self, other: Size) -> bool:
        return self._refuse(f"is it more than {other}?")

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        """The number it stands for under a binding of every name."""
        total = 0
        for m, c in self.terms.items():
            for name in m:
                c *= sizes[name]
            total += c
        return total


def symbol(name: str) -> Dim:
    """The size called `name`."""
    if not name.isidentifier():
        raise GraphError(f"a symbolic size needs a name that is an identifier, got {name!r}", fix='gx.Spec(("N", 784))')
    return Dim({(name,): 1})


def _terms(x: Size) -> dict[Monomial, int]:
    return x.terms if isinstance(x, Dim) else {(): int(x)} if x else {}


def _sum(a: Mapping[Monomial, int], b: Mapping[Monomial, int], sign: int) -> dict[Monomial, int]:
    out = dict(a)
    for m, c in b.items():
        out[m] = out.get(m, 0) + sign * c
    return out


def _make(terms: Mapping[Monomial, int]) -> Size:
    kept = {m: c for m, c in terms.items() if c}
    if not kept:
        return 0
    if set(kept) == {()}:
        return kept[()]
    return Dim(kept)


def product(sizes: Sequence[Size]) -> Size:
    """The number of elements of a shape."""
    out: Size = 1
    for n in sizes:
        out = out * n
    return out


def evaluate(x: Size, sizes: Mapping[str, int]) -> int:
    return x.evaluate(sizes) if isinstance(x, Dim) else x


def nominal(x: Size, n: int = 64) -> int:
    """The number it stands for where every name is n: to rank and to estimate by."""
    return x.evaluate(dict.fromkeys(x.names, n)) if isinstance(x, Dim) else x


def parse(text: str) -> Size:
    """The inverse of `str`: "2*N*M-1" """
    total: Size = 0
    for part in text.replace("-", "+-").split("+"):
        if not part:
            continue
        term: Size = -1 if part.startswith("-") else 1
        for factor in part.lstrip("-").split("*"):
            term = term * (int(factor) if factor.isdigit() else symbol(factor))
        total = total + term
    return total
