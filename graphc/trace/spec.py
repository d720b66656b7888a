"""`Spec`: the shape and element type of an argument that is not there yet. A name in the shape is a symbolic size."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.dims import Dim, Size, evaluate, parse
from ..core.dtype import as_dtype, f32
from ..core.errors import GraphError
from ..core.types import TensorType


class Spec:
    """An array argument to be: `Spec(("N", 784))` is f32 of any N >= 1 rows, `Spec(("N",), gx.int64)` as many labels.

    One name is one size wherever it stands. Sizes may be ints, names, and polynomials of names that stand alone elsewhere ("2*N").
    """

    __slots__ = ("type",)

    def __init__(self, shape: Sequence[int | str | Dim] = (), dtype: Any = f32) -> None:
        if isinstance(shape, (int, str)):
            raise GraphError(f"a Spec's shape is a tuple, got {shape!r}", fix=f"gx.Spec(({shape!r},))")
        self.type = TensorType(tuple(_size(n) for n in shape), as_dtype(dtype))

    @property
    def shape(self) -> tuple[Size, ...]:
        return self.type.shape

    def __repr__(self) -> str:
        return f"Spec({self.type})"


def _size(n: int | str | Dim) -> Size:
    if isinstance(n, str):
        try:
            return parse(n)
        except GraphError:
            raise GraphError(f"the size {n!r} is no number, no name and no sum of products of names", fix='gx.Spec(("N", 784))') from None
    if isinstance(n, Dim):
        return n
    n = n.__index__()
    if n < 0:
        raise GraphError(f"a size is >= 0, got {n}")
    return n


def match(patterns: Sequence[TensorType], shapes: Sequence[tuple[int, ...]]) -> dict[str, int] | None:
    """The sizes under which the patterns become the shapes, each >= 1, or None."""
    sizes: dict[str, int] = {}
    for t, shape in zip(patterns, shapes, strict=True):
        if len(t.shape) != len(shape):
            return None
        for want, n in zip(t.shape, shape):
            if isinstance(want, Dim) and len(want.terms) == 1:
                ((names, k),) = want.terms.items()
                if len(names) == 1 and k == 1 and (n < 1 or sizes.setdefault(names[0], n) != n):
                    return None
    for t, shape in zip(patterns, shapes):
        for want, n in zip(t.shape, shape):
            if isinstance(want, Dim) and not want.names <= sizes.keys():
                raise GraphError(f"the size {want} does not fix {', '.join(sorted(want.names - sizes.keys()))}",
                                 fix="let each name stand alone on some axis of some argument")
            if evaluate(want, sizes) != n:
                return None
    return sizes
