"""Gradients made smaller, in place, between `backward()` and `step()`."""
from __future__ import annotations

import math
from collections.abc import Iterable

from .. import array as xp
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..trace.tape import current, no_grad
from ..trace.tensor import Tensor
from ..trace.tracer import scope


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The parameters that have a gradient, with it."""
    return [(p, g) for p in ([parameters] if isinstance(parameters, Tensor) else parameters) if (g := p.grad) is not None]


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Tensor:
    """Scale all gradients by one factor so that their joint norm is at most max_norm; the norm before that is returned.

    The factor is min(1, max_norm / (norm + 1e-6)), as in PyTorch; norm_type is p of the p-norm, or inf. A norm that is NaN or inf makes the
    gradients so too; `error_if_nonfinite` refuses it, which is possible outside a compiled function only. Without gradients the norm is 0.
    """
    p_norm = float(norm_type)
    with no_grad(), scope("clip_grad_norm_"):
        having = _gradients(parameters)
        if not having:
            return xp.asarray(0.0)
        total = _norm([g for _, g in having], p_norm)
        if error_if_nonfinite:
            if current.tracer is not None:
                raise GraphError("error_if_nonfinite needs the value of the norm, which a compiled function does not have while it is traced",
                                 op="clip_grad_norm_", at=user_loc(), fix="return the norm and look at it after the call")
            if not math.isfinite(total.item()):
                raise GraphError(f"the gradients' {norm_type}-norm is {total.item()}, so they cannot be clipped", op="clip_grad_norm_", at=user_loc())
        scale = xp.minimum(max_norm / (total + 1e-6), 1.0)
        for p, g in having:
            p.grad = g * scale.astype(g.dtype)
        return total


def _norm(grads: list[Tensor], p: float) -> Tensor:
    if p == math.inf:
        parts = [xp.abs(g).max() for g in grads]
        total = parts[0]
        for x in parts[1:]:
            total = xp.maximum(total, x)
        return total
    if p <= 0:
        raise GraphError(f"clip_grad_norm_: norm_type is a positive number or inf, got {p}", at=user_loc())
    parts = [(g * g if p == 2 else xp.abs(g) if p == 1 else xp.abs(g) ** p).sum() for g in grads]
    total = parts[0]
    for x in parts[1:]:
        total = total + x
    return xp.sqrt(total) if p == 2 else total if p == 1 else total ** (1 / p)


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Bring every element of every gradient into -clip_value..clip_value."""
    with no_grad():
        for p, g in _gradients(parameters):
            p.grad = xp.minimum(xp.maximum(g, -float(clip_value)), float(clip_value))
