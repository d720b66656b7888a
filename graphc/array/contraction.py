"""einsum: sums of products of any number of tensors, spelt in letters, as contractions of two at a time.

The order of the contractions is the one that `numpy.einsum_path` finds for the sizes: the cheapest for up to five operands, a greedy one beyond. A size
that is symbolic counts as a few dozen. What is decided here is decided once, when the function is traced.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.dims import Size
from ..core.errors import GraphError, GraphTypeError
from ..core.loc import user_loc
from ..ops import contract as ops
from ..trace.apply import apply
from ..trace.broadcast import as_tensor
from ..trace.tensor import Tensor
from .elementwise import multiply
from .manipulation import permute_dims, reshape
from .matrices import diagonal
from .products import operands
from .statistics import sum as sum_

_ASSUMED = 48                                           # of a symbolic size, to weigh one order against another
_EVERY = 5                                              # for more operands than this the search for the cheapest order takes too long
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def einsum(subscripts: str, /, *tensors: Any, optimize: Any = "auto") -> Tensor:
    """The sum of products spelt in letters, one for each axis: einsum("bij,bjk->bik", x, y). Letters that the result has not are summed over.

    A letter twice in one operand takes its diagonal; `...` stands for axes that broadcast; without `->` the result has the letters that come once, in
    alphabetical order. `optimize`: "auto", "greedy", "optimal", False (from left to right), or a path as numpy.einsum_path gives it.

    >>> import graphc as gx
    >>> gx.einsum("i,ij,j->", gx.tensor([1.0, 2.0]), gx.eye(2), gx.tensor([3.0, 4.0]))
    tensor(11.)
    """
    if not isinstance(subscripts, str):
        raise GraphTypeError(f"einsum takes a string of letters first, got a {type(subscripts).__name__}", op="einsum", at=user_loc(),
                             fix='einsum("bij,bjk->bik", x, y)')
    xs = [as_tensor(x) for x in tensors]
    xs, terms, out = _read(subscripts, xs)
    pairs = [_alone(x, term, [*(t for k, t in enumerate(terms) if k != at), out]) for at, (x, term) in enumerate(zip(xs, terms))]
    for group in _path([t for _, t in pairs], out, [x.shape for x, _ in pairs], optimize):
        taken = [pairs[k] for k in group]
        pairs = [p for k, p in enumerate(pairs) if k not in group]
        while len(taken) > 1:
            (a, left), (b, right), *rest = taken
            later = {letter for _, term in (*pairs, *rest) for letter in term} | set(out)
            taken = [_pair(a, left, b, right, later), *rest]
        pairs += taken
    ((result, term),) = pairs
    return permute_dims(result, [term.index(letter) for letter in out])


def _read(subscripts: str, xs: list[Tensor]) -> tuple[list[Tensor], list[str], str]:
    """The operands, the letters of each, and those of the result. The axes of `...` get letters of their own, the same from the right for every operand;
    one of size 1 is left out where another operand has more."""
    def refuse(why: str, fix: str = 'einsum("bij,bjk->bik", x, y)') -> GraphError:
        return GraphError(f"einsum cannot read {subscripts!r} for {' and '.join(str(x.type) for x in xs) or 'no tensors'}", op="einsum", at=user_loc(), why=why,
                          fix=fix)

    inputs, arrow, out = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    plain = [t.replace("...", "", 1) for t in (*terms, out)]
    if len(terms) != len(xs) or not xs:
        raise refuse(f"it spells {len(terms)} operands, and there are {len(xs)}")
    for t in plain:
        if wrong := sorted(set(t) - set(_LETTERS)):
            raise refuse(f"{wrong[0]!r} is no letter")
    spare = [c for c in _LETTERS if c not in subscripts]
    sizes: dict[str, Size] = {}
    extra = 0
    for k, (x, term) in enumerate(zip(xs, terms)):
        more = x.ndim - len(plain[k])
        if more < 0 or (more > 0 and "..." not in term):
            raise refuse(f"{term!r} has {len(plain[k])} letters, and {x.type} has {x.ndim} axes", f"one letter for each axis, or {term + '...'!r}")
        extra = max(extra, more if "..." in term else 0)
        terms[k] = term.replace("...", "".join(spare[more - 1::-1]) if more else "")     # spare[0] is the last of the axes of "..."
        for letter, n in zip(terms[k], x.shape):
            if letter in spare and n == 1:
                continue
            if sizes.setdefault(letter, n) != n:
                raise refuse(f"{letter!r} is {sizes[letter]} and {n}" if letter not in spare else f"an axis of '...' is {sizes[letter]} and {n}")
    dots = "".join(spare[extra - 1::-1]) if extra else ""
    if not arrow:
        every = "".join(plain[:-1])
        out = dots + "".join(sorted(c for c in set(every) if every.count(c) == 1))
    else:
        if "..." in out or not dots:
            out = out.replace("...", dots)
        else:
            raise refuse("the operands have '...', and the result has not", f"{subscripts.partition('->')[0]}->...{out}, or sum over them by letters")
        if unknown := [c for c in out if not any(c in t for t in terms)]:
            raise refuse(f"the letter {unknown[0]!r} of the result is in no operand")
        if twice := [c for c in out if out.count(c) > 1]:
            raise refuse(f"the letter {twice[0]!r} comes twice in the result")
    kept = [[letter not in spare or n != 1 or sizes.get(letter, 1) == 1 for letter, n in zip(t, x.shape)] for x, t in zip(xs, terms)]
    xs = [x if all(keep) else reshape(x, tuple(n for n, k in zip(x.shape, keep) if k)) for x, keep in zip(xs, kept)]
    return xs, ["".join(letter for letter, k in zip(t, keep) if k) for t, keep in zip(terms, kept)], out


def _alone(x: Tensor, term: str, others: Sequence[str]) -> tuple[Tensor, str]:
    """The operand with its diagonals taken, and summed over what nothing else has."""
    for letter in dict.fromkeys(term):
        while term.count(letter) > 1:
            i = term.index(letter)
            j = term.index(letter, i + 1)
            rest = [a for a in range(x.ndim) if a not in (i, j)]
            x = diagonal(permute_dims(x, (*rest, i, j)))
            term = "".join(term[a] for a in rest) + letter
    summed = tuple(a for a, letter in enumerate(term) if not any(letter in t for t in others))
    if summed:
        x = sum_(x, axis=summed, dtype=x.dtype)
        term = "".join(letter for a, letter in enumerate(term) if a not in summed)
    return x, term


def _path(terms: list[str], out: str, shapes: Sequence[tuple[Size, ...]], optimize: Any) -> list[tuple[int, ...]]:
    """Which operands meet, step by step; the result of a step stands last."""
    if len(terms) < 3 or optimize is False:
        return [(0, 1) if k == len(terms) else (k - 1, 0) for k in range(len(terms), 1, -1)]
    if not isinstance(optimize, str):
        steps, left = [tuple(step) for step in optimize if not isinstance(step, str)], len(terms)
        for step in steps:
            if not step or len(set(step)) != len(step) or not all(0 <= k < left for k in step):
                raise GraphError(f"einsum: {step} is no step for {left} operands", op="einsum", at=user_loc())
            left -= len(step) - 1
        return steps if left == 1 else [*steps, tuple(range(left))]
    how = ("optimal" if len(terms) <= _EVERY else "greedy") if optimize == "auto" else optimize
    if how not in ("optimal", "greedy"):
        raise GraphError(f"einsum: there is no order {optimize!r}", op="einsum", at=user_loc(), why='orders are "auto", "greedy", "optimal", False or a path')
    dummies = [np.broadcast_to(np.zeros(()), tuple(n if isinstance(n, int) else _ASSUMED for n in shape)) for shape in shapes]
    found, _ = np.einsum_path(f"{','.join(terms)}->{out}", *dummies, optimize=(how, 2**62))
    return [tuple(step) for step in found[1:]]


def _pair(a: Tensor, left: str, b: Tensor, right: str, later: set[str]) -> tuple[Tensor, str]:
    """Two operands as one: summed over the letters that nothing needs later."""
    a, b = operands("einsum", a, b)
    both = [c for c in left if c in right]
    batch, summed = [c for c in both if c in later], [c for c in both if c not in later]
    term = "".join([*batch, *(c for c in left if c not in both), *(c for c in right if c not in both)])
    if not summed:                                      # no sum: a product that broadcasts
        return multiply(_spread(a, left, term), _spread(b, right, term)), term
    out = apply(ops.contract, a, b, contracting=(tuple(map(left.index, summed)), tuple(map(right.index, summed))),
                batch=(tuple(map(left.index, batch)), tuple(map(right.index, batch))))
    return out, term


def _spread(x: Tensor, term: str, wide: str) -> Tensor:
    """x with its axes in the order of `wide`, and axes of size 1 for the letters that it has not."""
    x = permute_dims(x, [term.index(c) for c in wide if c in term])
    sizes = iter(x.shape)
    return reshape(x, tuple(next(sizes) if c in term else 1 for c in wide))
