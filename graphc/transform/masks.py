"""Where a cotangent is zero because `where` did not choose it: the double-where trap made safe.

The derivative of where(x > 0, log(x), 0) at 0 is 0, but 0 * (1 / 0) is NaN. So reverse mode carries, beside a cotangent that comes out of a `where`, the
condition under which it is not zero, and selects by it once more behind each op whose derivative may not be finite: what nobody chose has the derivative
0, whatever it is. The selection is itself a `where`, so derivatives of any order are safe, and under vmap and in loops it is an op like another.

Nothing is selected anew behind what is linear (add, neg, a product with a constant, movement, sums): there a zero stays zero. The condition ends where
a node is no function of elements or rows (contractions, loops, gathers): their zeros are only as safe as what they multiply.
"""
from __future__ import annotations

import numpy as np

from ..core.record import dataclass, field
from ..ir.node import Node
from ..ops.elementwise import add, and_, cast, div, mul, neg, not_, or_, sub, where
from ..ops.leaf import const, splat
from ..ops.movement import broadcast, flip, inverse, permute, reshape
from ..ops.reduce import reduce_max, reduce_min, reduce_prod, reduce_sum

LINEAR = frozenset({add, sub, neg, cast, where})
ELEMENTS = frozenset({"unary", "binary"})
REDUCTIONS = frozenset({reduce_sum, reduce_max, reduce_min, reduce_prod})


@dataclass(slots=True, eq=False)
class Mask:
    """A condition, written as nodes only when somebody selects by it."""

    condition: Node
    negated: bool = False
    outer: Mask | None = None                           # and under this one
    _node: Node | None = None

    def node(self) -> Node:
        if self._node is None:
            own = not_(self.condition) if self.negated else self.condition
            self._node = own if self.outer is None else and_(own, self.outer.node())
        return self._node


@dataclass(slots=True)
class Masks:
    """The conditions of one run of reverse mode: for a node that has one, where alone its cotangent is not zero."""

    of: dict[Node, Mask] = field(default_factory=dict)
    made: dict[tuple[Node, bool, Mask | None], Mask] = field(default_factory=dict)

    def branch(self, c: Node, negated: bool, outer: Mask | None) -> Mask:
        key = c, negated, outer
        if key not in self.made:
            self.made[key] = Mask(c, negated, outer)
        return self.made[key]

    def plain(self, node: Node) -> Mask:
        return self.branch(node, False, None)

    def note(self, i: Node, mask: Mask | None, first: bool) -> None:
        """i has one more cotangent, which is zero outside of mask."""
        if first:
            if mask is not None:
                self.of[i] = mask
        elif (old := self.of.get(i)) is not None and old is not mask:
            if mask is None:
                del self.of[i]
            else:
                self.of[i] = self.plain(or_(old.node(), mask.node()))

    def pulled(self, n: Node, k: int, g: Node) -> tuple[Node, Mask | None]:
        """The cotangent g of n's input k, made safe; and its condition."""
        mask, op = self.of.get(n), n.op
        if op is where:
            return g, self.branch(n.inputs[0], k == 2, mask)
        if mask is None:
            return g, None
        if op in LINEAR or (op in (mul, div) and _is_number(n.inputs[1 - k]) and not (op is div and k)):
            return g, mask
        if op.family in ELEMENTS:
            return where(mask.node(), g, splat(0.0, g)), mask
        x = n.inputs[0]
        if op in REDUCTIONS:
            wide = self.plain(broadcast(mask.node(), shape=x.tensor.shape, axes=n.attrs["axes"]))
            return (g if op is reduce_sum else where(wide.node(), g, splat(0.0, g))), wide
        if op is broadcast:
            return g, self.plain(reduce_max(mask.node(), axes=n.attrs["axes"]))
        if op is reshape:
            return g, self.plain(reshape(mask.node(), shape=x.tensor.shape))
        if op is permute:
            return g, self.plain(permute(mask.node(), axes=inverse(n.attrs["axes"])))
        if op is flip:
            return g, self.plain(flip(mask.node(), axes=n.attrs["axes"]))
        return g, None


def _is_number(n: Node) -> bool:
    """A finite constant: what is zero times it is zero."""
    return n.op is const and not n.attrs["value"].ndim and bool(np.isfinite(np.float64(n.attrs["value"])))
