"""Effects: what a step does besides computing. Each takes a token and gives one, and the chain of tokens is the program's order."""
from __future__ import annotations

from typing import Any

from ..core import half
from ..core.errors import GraphError
from ..core.types import TOKEN, TokenType, Type
from ..ir.op import Op, register
from .check import Array, tensor


def _token_type() -> TokenType:
    """None: a token is no tensor."""
    return TOKEN


token: Op = register(Op("token", "effect", _token_type, lambda: None, None, "The start of a chain of effects", lambda rng: []))


def _print_type(t: Type, x: Type, *, label: str) -> TokenType:
    """None: a token is no tensor."""
    if not isinstance(t, TokenType):
        raise GraphError(f"print takes a token first, got {t}")
    tensor("print", x)
    return TOKEN


def _print(_: Any, x: Array, *, label: str) -> None:
    print(f"{label}{half.plain(x)}")


print_: Op = register(Op("print", "effect", _print_type, _print, "zero", "Write a label and a tensor to standard output, once the step has run",
                     lambda rng: [], pure=False))
