"""The one error that graphc raises for a user's mistake: what / op / at / why / fix."""
from __future__ import annotations


class GraphError(Exception):
    """Something the user can mend. The first line says what; the others are left out where they say nothing.

    >>> print(GraphError("matmul needs equal inner sizes", op="matmul(x, w)", at="model.py:41", why="784 is not 128", fix="flatten x"))
    matmul needs equal inner sizes
      op   matmul(x, w)
      at   model.py:41
      why  784 is not 128
      fix  flatten x
    """

    def __init__(self, what: str, *, op: object = None, at: object = None, why: str | None = None, fix: str | None = None) -> None:
        self.what, self.op, self.at, self.why, self.fix = what, op, at, why, fix
        super().__init__(what)

    def __str__(self) -> str:
        parts = (("op", self.op), ("at", self.at), ("why", self.why), ("fix", self.fix))
        return "\n".join([self.what, *(f"  {name:<3}  {text}" for name, text in parts if text)])


class GraphIndexError(GraphError, IndexError):
    """An index or a label is out of range at run time. No state has changed."""


class UnknownSize(GraphError):
    """A number was asked of a size that is symbolic."""


class GraphTypeError(GraphError, TypeError):
    """An argument is of a kind that graphc does not take."""
