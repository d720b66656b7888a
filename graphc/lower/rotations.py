"""Rotations of neighbouring rows, kept and applied two sweeps at a time, one behind the other (as LAPACK's successors do: Van Zee and others, 2014).

A sweep rotates rows hi - 1 and hi, then hi - 2 and hi - 1, down to lo. The matrix is cut into stripes of a few vectors' columns, contiguous each, and the
second sweep follows the first through a stripe: each row is read once and written once for both, and what they share stays in registers. Where the ranges of
two sweeps differ, the shorter one has rotations by nothing.
"""
from __future__ import annotations

from ..core.dtype import i64
from ..core.record import dataclass
from ..loop.ir import Alloc, Bin, Buffer, Expr, If, Int, Lit, Select, Stmt, Store, Var, seq
from .context import in_registers
from .elementwise import number
from .tiles import each, lanes_of_tile

SLOT, LO, HI = Int(0), Int(1), Int(2)


@dataclass(frozen=True, slots=True)
class Sweeps:
    """What is kept: the rotations of up to two sweeps, how many there are, and the rows that they go over."""

    z: Buffer                                           # stripes, rows, columns of a stripe
    cosines: Buffer
    sines: Buffer
    at: Buffer

    @classmethod
    def of(cls, z: Buffer) -> Sweeps:
        n = z.shape[1]
        return cls(z, Buffer("cosines", (2, n), z.dtype, "scratch"), Buffer("sines", (2, n), z.dtype, "scratch"), Buffer("kept", (3,), i64, "scratch"))

    def around(self, body: Stmt) -> Stmt:
        """The body, and after it what is left."""
        out = seq(Store(self.at, (SLOT,), Lit(0, i64)), body, If(Bin("==", self.at[SLOT], Lit(1, i64)), seq(self.start(), self._applied())))
        for buf in (self.cosines, self.sines, self.at):
            out = Alloc(buf, out)
        return out

    def start(self) -> Stmt:
        """A sweep of which no rotation is known yet."""
        k, dtype = Var("k"), self.z.dtype
        return each("k", 0, int(self.z.shape[1]), seq(Store(self.cosines, (self.at[SLOT], k), number(1, dtype)),
                                                      Store(self.sines, (self.at[SLOT], k), number(0, dtype))))

    def keep(self, i: Expr, cos: Expr, sin: Expr) -> Stmt:
        """The rotation of rows i and i + 1."""
        return seq(Store(self.cosines, (self.at[SLOT], i), cos), Store(self.sines, (self.at[SLOT], i), sin))

    def end(self, lo: Expr, hi: Expr) -> Stmt:
        """The sweep was over these rows. With a second one both are applied."""
        second = Bin("==", self.at[SLOT], Lit(1, i64))
        lo, hi = (Bin("+", x, Lit(0, i64)) for x in (lo, hi))
        return seq(Store(self.at, (LO,), Select(second, Bin("min", self.at[LO], lo), lo)),
                   Store(self.at, (HI,), Select(second, Bin("max", self.at[HI], hi), hi)), If(second, self._applied()),
                   Store(self.at, (SLOT,), Bin("-", Lit(1, i64), self.at[SLOT])))

    def _applied(self) -> Stmt:
        """Row i + 2 is finished when the first sweep has passed i, and the second i + 1. `a` and `b` are the rows that the sweeps are at."""
        z, lo, hi = self.z, self.at[LO], self.at[HI]
        stripes, _, width = map(int, z.shape)
        tile, i, j = Var("tile"), hi - 2 - Var("turn"), Var("turn")
        a, b, x, y = (Buffer(name, (width,), z.dtype, "register") for name in ("row_a", "row_b", "read", "turned"))

        def rotated(k: int, at: Expr, one: Expr, last: Expr) -> tuple[Expr, Expr]:
            """Of the rows at and at + 1: the second, finished, and the first."""
            c, s = self.cosines[k, at], self.sines[k, at]
            return Bin("+", Bin("*", s, one), Bin("*", c, last)), Bin("-", Bin("*", c, one), Bin("*", s, last))

        def first(c: Expr) -> Stmt:
            done, on = rotated(0, hi - 1, x[c], y[c])
            return seq(Store(x, (c,), z[tile, hi - 1, c]), Store(y, (c,), z[tile, hi, c]), Store(b, (c,), done), Store(a, (c,), on))

        def both(c: Expr) -> Stmt:
            mid, on = rotated(0, i, x[c], a[c])
            done, next_ = rotated(1, i + 1, y[c], b[c])
            return seq(Store(x, (c,), z[tile, i, c]), Store(y, (c,), mid), Store(a, (c,), on), Store(z, (tile, i + 2, c), done), Store(b, (c,), next_))

        def last(c: Expr) -> Stmt:
            done, on = rotated(1, lo, a[c], b[c])
            return seq(Store(z, (tile, lo + 1, c), done), Store(z, (tile, lo, c), on))

        zeros = lanes_of_tile(width, lambda c: seq(*(Store(r, (c,), number(0, z.dtype)) for r in (a, b, x, y))))
        along = seq(lanes_of_tile(width, first), each(j.name, 0, hi - 1 - lo, lanes_of_tile(width, both)), lanes_of_tile(width, last))
        return each("tile", 0, stripes, in_registers([a, b, x, y], seq(zeros, along)))
