"""Formulas: graphc and SymPy, both ways. `gx.symbolic.latex`, `to_sympy`, `from_sympy`.

Loaded when first used: SymPy takes a third of a second to import, and no other part of graphc needs it.
"""
from .functions import from_sympy
from .latex import latex
from .translate import to_sympy

__all__ = ["from_sympy", "latex", "to_sympy"]
