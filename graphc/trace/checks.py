"""What transforms are given, looked at before anything is run: functions, numbers of arguments, pairs, sequences of Tensors.

Each raises in the words of the transform (`what`) and with the user's line, so that no TypeError comes out of the inside.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..core.errors import GraphError, GraphTypeError
from ..core.loc import user_loc
from .tensor import Tensor

FIXES = {"grad": "gx.grad(f)(x); of Tensors: gx.autograd.grad(outputs, inputs)", "value_and_grad": "gx.value_and_grad(f)(x)"}


def function(what: str, f: Any, fix: str | None = None) -> None:
    """Raise unless f can be called."""
    if not callable(f):
        raise GraphTypeError(f"{what} of a {type(f).__name__}, which is no function", at=user_loc(), fix=fix or FIXES.get(what))


def body(what: str, name: str, f: Any) -> None:
    """Raise unless the function of that name can be called."""
    if not callable(f):
        raise GraphTypeError(f"{what}: {name} is a {type(f).__name__}, not a function", op=what, at=user_loc())


def whole(x: Any) -> bool:
    """A Python or NumPy integer, and no bool."""
    return isinstance(x, (int, np.integer)) and not isinstance(x, bool)


def places(what: str, argnums: Any, n: int) -> list[int]:
    """argnums, an int or a sequence of them, as places from 0 to n - 1."""
    given = [argnums] if whole(argnums) else list(argnums) if isinstance(argnums, (tuple, list)) else None
    if given is None or not all(map(whole, given)):
        raise GraphTypeError(f"{what}: argnums is {_short(argnums)}", at=user_loc(), fix="the number of an argument, or a tuple of them")
    for k in given:
        if not -n <= k < n:
            raise GraphError(f"{what} by argument {k} of {n}", at=user_loc(),
                             fix=(f"argnums from 0 to {n - 1}; " if n else "give it in its place: ") + "keywords have no number")
    found = [int(k) % n for k in given]
    twice = next((k for k in found if found.count(k) > 1), None)
    if twice is not None:
        raise GraphError(f"{what}: argnums names argument {twice} twice: {_short(argnums)}", at=user_loc(), fix="each argument once")
    return found


def pair(what: str, out: Any, has_aux: bool) -> tuple[Any, Any]:
    """What a differentiated function returned, and what it returned beside it."""
    if not has_aux:
        return out, None
    if not isinstance(out, tuple) or len(out) != 2:
        raise GraphError(f"{what} with has_aux=True needs a function that returns a pair, got {kind(out)}", at=user_loc(), fix="return value, aux")
    return out


def tensors(what: str, name: str, x: Any) -> list[Tensor]:
    """A Tensor, or an iterable of them (net.parameters()), as a list that is not empty."""
    if isinstance(x, Tensor):
        return [x]
    if not isinstance(x, Iterable) or isinstance(x, (str, bytes, dict, np.ndarray)):
        raise GraphTypeError(f"{what}: {name} is a {type(x).__name__}", at=user_loc(), fix="a Tensor, or a list of Tensors")
    found = list(x)
    for k, t in enumerate(found):
        if not isinstance(t, Tensor):
            raise GraphTypeError(f"{what}: {name}[{k}] is a {type(t).__name__}, not a Tensor", at=user_loc(), fix="a Tensor, or a list of Tensors")
    if not found:
        raise GraphError(f"{what}: {name} is empty", at=user_loc(), fix="a Tensor, or a list of Tensors (a generator gives its items once)")
    return found


def beside(what: str, outputs: Sequence[Tensor], grads: Any) -> list[Any]:
    """A cotangent, or None, for each output."""
    if grads is None:
        return [None] * len(outputs)
    given = list(grads) if isinstance(grads, (list, tuple)) else [grads]
    if len(given) != len(outputs):
        raise GraphError(f"{what}: {len(outputs)} outputs and {len(given)} gradients of them", at=user_loc(), fix="one for each, None for that of a scalar")
    return given


def kind(x: Any) -> str:
    """What a function returned that should have returned something else."""
    return f"a tuple of {len(x)}" if isinstance(x, tuple) else type(x).__name__


def _short(x: Any) -> str:
    text = repr(x)
    return text if len(text) <= 40 else f"a {type(x).__name__}"
