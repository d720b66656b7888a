"""What runs in Python while a step runs: functions of the user's that compute (`pure_callback`), and effects, what a step does besides computing.

Each effect takes a token and gives one, and the chain of tokens is the program's order. A pure function has no token: it runs where its value is needed.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from ..core.errors import GraphError
from ..core.types import TOKEN, TensorType, TokenType, TupleType, Type
from ..ir.host import Host
from ..ir.op import Op, register
from .check import Array, tensor

# ---- functions -------------------------------------------------------------------------------------------------------------------


def _pure_type(*types: Type, function: Host, results: TupleType, vmap_method: str | None = None) -> TupleType:
    """`results`: the function is believed, and what it gives is checked."""
    for t in types:
        tensor("pure_callback", t)
    return results


def _pure(*arrays: Array, function: Host, results: TupleType, vmap_method: str | None = None) -> tuple[Array, ...]:
    return tuple([np.array(v) for v in function(arrays, [t for t in results.items if isinstance(t, TensorType)])])     # nobody else's memory


pure_callback: Op = register(Op("pure_callback", "effect", _pure_type, _pure, None, "What a function of Python's gives, called where its results are needed",
                                lambda rng: []))

# ---- effects ---------------------------------------------------------------------------------------------------------------------


def _token_type() -> TokenType:
    """None: a token is no tensor."""
    return TOKEN


token: Op = register(Op("token", "effect", _token_type, lambda: None, None, "The start of a chain of effects", lambda rng: []))


def _io_type(t: Type, *types: Type, function: Host, results: TupleType) -> TupleType:
    """`results`, and the next token."""
    if not isinstance(t, TokenType):
        raise GraphError(f"io_callback takes a token first, got {t}")
    for x in types:
        tensor("io_callback", x)
    return TupleType((*results.items, TOKEN))


def _io(_: None, *arrays: Array, function: Host, results: TupleType) -> tuple[Any, ...]:
    return *_pure(*arrays, function=function, results=results), None


io_callback: Op = register(Op("io_callback", "effect", _io_type, _io, None, "What a function of Python's gives and does, called once, in the order of effects",
                              lambda rng: [], pure=False))
