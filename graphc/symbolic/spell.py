"""Index notation → LaTeX of matrices: sum_k X[i, k] W[j, k] + b[j] is X W^⊤ + 1 b^⊤.

Vectors are columns, ⊙ is the product element by element, 1 is a vector of ones as long as it has to be, and a number or scalar added to a matrix is added to
every element. Where no product of matrices says it, the element itself is written, with its indices.
"""
from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import sympy
from sympy.printing.latex import LatexPrinter

from .algebra import ADD, ATOM, HADAMARD, MUL, POW, Text, held, level, turned
from .notation import Delta, Index, Iverson, Largest, LogSumExp, Multiplied, Reduction, Relu, Round, Sigmoid, Smallest, Softmax, Softplus, Total

ONES = r"\mathbf{1}"
_LETTERS = "ijklmpqrsuvabcdefgh"
_NAMES: dict[Any, str] = {
    Total: r"\sum", Largest: r"\max", Smallest: r"\min", Multiplied: r"\prod", Sigmoid: r"\sigma", sympy.Max: r"\max", sympy.Min: r"\min",
    sympy.asin: r"\arcsin", sympy.acos: r"\arccos", sympy.atan: r"\arctan",
    **{f: rf"\operatorname{{{name}}}" for f, name in {
        LogSumExp: "logsumexp", Softmax: "softmax", Relu: "relu", Softplus: "softplus", Round: "round", sympy.erf: "erf", sympy.sign: "sign",
        sympy.floor: "floor", sympy.ceiling: "ceil", sympy.atan2: "atan2"}.items()},
}
_RELATIONS = {sympy.Eq: "=", sympy.Ne: r"\ne", sympy.StrictLessThan: "<", sympy.LessThan: r"\le", sympy.StrictGreaterThan: ">", sympy.GreaterThan: r"\ge"}

_GREEK = {"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "kappa", "lambda", "mu", "nu", "xi", "rho", "sigma", "tau", "phi", "psi",
          "omega"}
_TURNED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}


class NoMatrix(Exception):
    """There is no product of matrices that says this."""


class _Elements(LatexPrinter):                          # type: ignore[misc]
    """SymPy's own LaTeX, of one element."""

    def __init__(self, letters: dict[Index, str]) -> None:
        super().__init__({"order": "none", "mul_symbol": None})
        self.letters = letters

    def text(self, e: Any) -> str:
        """The formula. Some versions of SymPy put a dot between a number and a parenthesis."""
        return str(self._print(e)).replace(r" \cdot \left(", r" \left(")

    def letter(self, k: Index) -> str:
        if k not in self.letters:
            self.letters[k] = next(c for c in _LETTERS if c not in self.letters.values())
        return self.letters[k]

    def _print_Symbol(self, e: Any, style: Any = None) -> str:
        return str(e.name)

    def _print_Dummy(self, e: Any) -> str:
        return self.letter(e)

    def _print_Indexed(self, e: Any) -> str:
        places, name = [self._print(i) for i in e.indices], str(e.base.label)
        return indexed(held((name, level(name)), ATOM), ("" if all(len(p) == 1 for p in places) else ", ").join(places))

    def _named(self, e: Any) -> str:
        return f"{name_of(e)}\\left({', '.join(self._print(a) for a in e.args)}\\right)"

    _print_Sigmoid = _print_Relu = _print_Softplus = _print_Round = _named

    def _reduction(self, e: Any) -> str:
        ks, body = [], e
        while type(body) is type(e):
            ks.append(body.args[1])
            body = body.args[0]
        shown = ", ".join(self.letter(k) for k in ks)
        inner = self._print(body)
        weak = isinstance(body, sympy.Add) or not isinstance(e, Total)
        return f"{_NAMES[type(e)]}_{{{shown}}} " + (f"\\left({inner}\\right)" if weak else inner)

    _print_Total = _print_Largest = _print_Smallest = _print_Multiplied = _print_LogSumExp = _reduction

    def _print_Softmax(self, e: Any) -> str:
        body, k, at = e.args
        return f"{_NAMES[Softmax]}_{{{self.letter(k)}}}\\left({self._print(body)}\\right)_{{{self._print(at)}}}"

    def _print_Delta(self, e: Any) -> str:
        return f"\\delta_{{{', '.join(self._print(a) for a in e.args)}}}"

    def _print_Iverson(self, e: Any) -> str:
        return f"\\left[{self._print(e.args[0])}\\right]"

    def _print_Add(self, e: Any, order: Any = None) -> str:
        return _joined([(self._print(t), MUL) for t in terms(e)])


def indexed(name: str, places: str) -> str:
    """W_{1} at ij is W_{1, ij}: LaTeX has one subscript to give."""
    return f"{name[:-1]}, {places}}}" if name.endswith("}") and "_{" in name else f"{name}_{{{places}}}"


def name_of(e: Any) -> str:
    """The LaTeX of a function's name."""
    name = _NAMES.get(type(e))
    return name if name is not None else f"\\{type(e).__name__}"


def terms(e: Any) -> list[Any]:
    """The addends in the order in which people write them: sums first, numbers last, but a positive term before all others."""
    def key(t: Any) -> tuple[Any, ...]:
        return t.could_extract_minus_sign(), t.is_number and e.args[0] is not t, not t.has(Total), t.is_number, str(t)
    return sorted(sympy.Add.make_args(e), key=key)


def _joined(parts: Sequence[Text]) -> str:
    out = ""
    for text, _ in parts:
        out += f" - {text[1:].lstrip()}" if text.startswith("-") and out else f" + {text}" if out else text
    return out


class Speller:
    """LaTeX of one formula."""

    def __init__(self, out: Sequence[Index]) -> None:
        self.elements = _Elements({})
        for i in out:
            self.elements.letter(i)
        self.out = tuple(out)

    def formula(self, e: Any) -> tuple[str, bool]:
        """The right-hand side, and whether it is a matrix's (else an element's, with the letters of `out`)."""
        e = gathered(e)
        if len(self.out) <= 2:
            try:
                return self.matrix(e, self.out)[0], True
            except NoMatrix:
                pass
        return self.elements.text(e), not self.out

    def matrix(self, e: Any, out: tuple[Index, ...]) -> Text:
        """The array with these axes."""
        here = tuple(o for o in out if e.has(o))
        if here != out:
            if not here:
                return self.scalar(e)
            inner = self.matrix(e, here)
            return (f"{held(inner, MUL)} {ONES}^\\top", MUL) if here[0] == out[0] else (f"{ONES} {held(inner, POW if inner[1] == POW else ATOM)}^\\top", MUL)
        if not out:
            return self.scalar(e)
        match e:
            case sympy.Indexed():
                return self._indexed(e, out)
            case sympy.Add():
                return _joined([self.matrix(t, out) for t in terms(e)]), ADD
            case sympy.Mul():
                return self._product(e, out)
            case sympy.Pow():
                return self._power(e.base, e.exp, out)
            case Total():
                return self._total(e, out)
            case Softmax():
                return self._softmax(e, out)
            case Reduction():
                return self._reduction(e, out)
            case Delta() if set(e.args) == set(out):
                return "I", ATOM
            case Iverson():
                return f"\\left[{self._condition(e.args[0], out)}\\right]", ATOM
            case sympy.Abs():
                return f"\\left|{self.matrix(e.args[0], out)[0]}\\right|", ATOM
            case sympy.Function() | sympy.Max() | sympy.Min():
                return self._call(e, out)
        raise NoMatrix

    def scalar(self, e: Any) -> Text:
        """What has no axes: a dot product where it is one, else as an element."""
        e = gathered(e)
        if isinstance(e, Total) and (dot := self._dot(e)):
            return dot
        text = self.elements.text(e)
        return text, ADD if isinstance(e, sympy.Add) else MUL if isinstance(e, (sympy.Mul, Reduction)) or text.startswith("-") else ATOM

    def _dot(self, e: Total) -> Text | None:
        """u^⊤ v"""
        body, k = e.args
        factors = sympy.Mul.make_args(body)
        if len(factors) != 2 or any(f.has(Iverson) or isinstance(f, sympy.Pow) for f in factors):
            return None
        try:
            u, v = sorted((self.matrix(f, (k,)) for f in factors), key=lambda t: -t[1])
        except NoMatrix:
            return None
        return f"{held(u, ATOM)}^\\top {held(v, MUL)}", MUL

    def _indexed(self, e: Any, out: tuple[Index, ...]) -> Text:
        name, at = str(e.base.label), tuple(e.indices)
        if at == out:
            return name, level(name)
        if at == out[::-1]:
            return turned(name), POW
        if len(at) == 2 and len(out) == 1 and out[0] in at:             # a row or a column, as a vector
            fixed = [i for i in at if i != out[0]]
            if len(fixed) == 1 and fixed[0].is_number:
                return f"{name}[:, {fixed[0]}]" if at[0] == out[0] else f"{name}[{fixed[0]}, :]", ATOM
        raise NoMatrix

    def _call(self, e: Any, out: tuple[Index, ...]) -> Text:
        return f"{name_of(e)}\\left({', '.join(self.matrix(a, out)[0] for a in e.args)}\\right)", ATOM

    def _condition(self, c: Any, out: tuple[Index, ...]) -> str:
        for kind, sign in _RELATIONS.items():
            if isinstance(c, kind):
                a, b = c.args
                if a in out or b in out:
                    raise NoMatrix                                      # a comparison with the index itself
                if a.is_number and not b.is_number:
                    a, b, sign = b, a, _TURNED.get(sign, sign)
                return f"{self.matrix(a, out)[0]} {sign} {self.matrix(b, out)[0]}"
        raise NoMatrix

    def _power(self, base: Any, n: Any, out: tuple[Index, ...]) -> Text:
        b = self.matrix(base, out)
        if n == sympy.Rational(1, 2):
            return f"\\sqrt{{{b[0]}}}", ATOM
        return f"{held(b, ATOM)}^{{\\odot {self.elements._print(n)}}}", POW

    def _product(self, e: sympy.Mul, out: tuple[Index, ...]) -> Text:
        """A number and scalars in front; then the tensors: by rows and columns, and element by element."""
        scalars = [f for f in e.args if not any(f.has(o) for o in out)]
        tensors = [f for f in e.args if any(f.has(o) for o in out)]
        front = sympy.Mul(*scalars)
        if len(out) == 2:
            rows, columns = ([f for f in tensors if f.has(o) and not f.has(p)] for o, p in (out, out[::-1]))
        else:
            rows, columns = [], []
        full = [f for f in tensors if f not in rows and f not in columns]
        if full:
            text: Text = self._elementwise(full, out)
            if rows:
                text = f"\\operatorname{{diag}}({self._elementwise(rows, out[:1])[0]})\\, {held(text, MUL)}", MUL
            if columns:
                text = f"{held(text, MUL)}\\, \\operatorname{{diag}}({self._elementwise(columns, out[1:])[0]})", MUL
        else:
            u, v = self._elementwise(rows, out[:1]), self._elementwise(columns, out[1:])
            text = f"{held(u, MUL)}\\, {held(v, ATOM)}^\\top", MUL
        if front == 1:
            return text
        if front == -1:
            return f"-{held(text, HADAMARD)}", HADAMARD if text[1] < MUL else MUL
        sign, front = ("-", -front) if front.could_extract_minus_sign() else ("", front)
        scale = self.scalar(front)
        return f"{sign}{held(scale, MUL)} {held(text, MUL)}", MUL

    def _elementwise(self, factors: Sequence[Any], out: tuple[Index, ...]) -> Text:
        """f ⊙ g ⊘ h."""
        top = [f for f in factors if not (isinstance(f, sympy.Pow) and f.exp.could_extract_minus_sign())]
        below = [f for f in factors if f not in top]
        top.sort(key=lambda f: (isinstance(f, sympy.Add), not f.has(Total), str(f)))
        one = len(factors) == 1
        text = [self.matrix(f, out) for f in top]
        if one and text:
            return text[0]
        body = r" \odot ".join(held(t, MUL) for t in text) or "1"
        if below:
            under = [self.matrix(1 / f, out) for f in below]
            bottom = r" \odot ".join(held(t, MUL) for t in under)
            body += rf" \oslash {bottom if len(under) == 1 else f'({bottom})'}"
        return body, HADAMARD

    def _total(self, e: Total, out: tuple[Index, ...]) -> Text:
        """Σ_k L[i, k] m[k] R[k, j]: L diag(m) R."""
        body, k = e.args
        factors = list(sympy.Mul.make_args(body))
        i, j = out[0], out[1] if len(out) == 2 else None
        left = [f for f in factors if f.has(i)]
        right = [f for f in factors if j is not None and f.has(j)]
        if any(f in right for f in left):
            raise NoMatrix
        alone = [f for f in factors if f not in left and f not in right]
        if j is None:
            a = self.matrix(sympy.Mul(*left), (i, k))
            b = self.matrix(sympy.Mul(*alone), (k,)) if alone else (ONES, ATOM)
            return f"{held(a, MUL)} {held(b, MUL)}", MUL
        if not left or not right:
            raise NoMatrix
        a, b = self.matrix(sympy.Mul(*left), (i, k)), self.matrix(sympy.Mul(*right), (k, j))
        middle = f"\\operatorname{{diag}}({self.matrix(sympy.Mul(*alone), (k,))[0]})\\, " if alone else ""
        return f"{held(a, MUL)} {middle}{held(b, MUL)}", MUL

    def _softmax(self, e: Softmax, out: tuple[Index, ...]) -> Text:
        """Along rows; along columns it is that of the transpose."""
        body, k, at = e.args
        if at not in out or body.has(at):
            raise NoMatrix
        inner = tuple(k if o == at else o for o in out)
        if at == out[-1]:
            return f"{_NAMES[Softmax]}\\left({self.matrix(body, inner)[0]}\\right)", ATOM
        return f"{_NAMES[Softmax]}\\left({self.matrix(body, inner[::-1])[0]}\\right)^\\top", POW

    def _reduction(self, e: Reduction, out: tuple[Index, ...]) -> Text:
        """Of the rows of a matrix. (A maximum is written with its index: \\max_j.)"""
        body, k = e.args
        if len(out) != 1 or not isinstance(e, LogSumExp) or isinstance(body, LogSumExp):
            raise NoMatrix
        return f"{name_of(e)}\\left({self.matrix(body, (out[0], k))[0]}\\right)", ATOM


def gathered(e: Any) -> Any:
    """Factors that all addends share, before a parenthesis; within sums and functions too."""
    if not isinstance(e, sympy.Basic) or not e.args or isinstance(e, sympy.Indexed):
        return e
    args = [gathered(a) for a in e.args]
    e = e.func(*args) if tuple(args) != e.args else e
    if isinstance(e, Total):
        body, k = e.args
        front = sympy.Mul(*(f for f in sympy.Mul.make_args(body) if not f.has(k)))
        return e if front == 1 else front * Total(sympy.Mul(*(f for f in sympy.Mul.make_args(body) if f.has(k))), k)
    if not isinstance(e, sympy.Add):
        return e
    parts = [t.as_coeff_mul() for t in e.args]
    common = [f for f in parts[0][1] if not f.is_number and all(f in p[1] for p in parts[1:])]
    number = sympy.Abs(parts[0][0]) if len({sympy.Abs(p[0]) for p in parts}) == 1 else sympy.Integer(1)
    if all(p[0].could_extract_minus_sign() for p in parts):
        number = -number
    if not common and number == 1:
        return e
    rest = sympy.Add(*(c / number * sympy.Mul(*(f for f in fs if f not in common)) for c, fs in parts))
    return sympy.Mul(number, *common, rest, evaluate=False) if isinstance(rest, sympy.Add) else sympy.Mul(number, *common, rest)


def subscripted(name: str) -> str:
    """A Python name as LaTeX: weight1 is weight_{1}, alpha is \\alpha, words are upright."""
    m = re.fullmatch(r"(.*?[^\d_])_?(\d+)?", name)
    word, digits = (m[1], m[2]) if m else (name, None)
    letter = word if len(word) == 1 else f"\\{word}" if word in _GREEK else r"\mathrm{" + word.replace("_", r"\_") + "}"
    return f"{letter}_{{{digits}}}" if digits else letter
