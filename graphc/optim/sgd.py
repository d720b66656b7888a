"""Stochastic gradient descent, with momentum, in PyTorch's form."""
from __future__ import annotations

from typing import Any

from ..core.dtype import f64
from ..core.errors import GraphError
from ..trace.tensor import Tensor
from .optimizer import Group, Optimizer, Pairs, check_range


class SGD(Optimizer):
    """p ← p - lr * d, where d is the gradient g + weight_decay * p (-g with `maximize`), or with momentum

        v ← momentum * v + (1 - dampening) * g      (the first time v ← g)
        d = v, or g + momentum * v with `nesterov`

    as in PyTorch, whose lr is inside of neither v nor its decay. lr, momentum, dampening and weight_decay may change between steps; from or to
    momentum 0 is another program.
    """

    slots = ("momentum_buffer",)
    counted = False

    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0, weight_decay: float = 0.0,
                 nesterov: bool = False, *, maximize: bool = False) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
                                  "maximize": maximize})

    def _check(self, settings: dict[str, Any]) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            check_range(self, settings, name)
        if settings["nesterov"] and (settings["momentum"] <= 0 or settings["dampening"] != 0):
            raise GraphError("SGD: nesterov needs a momentum > 0 and no dampening", fix="SGD(..., momentum=0.9, nesterov=True)")

    def _flags(self, group: Group) -> tuple[Any, ...]:
        return group.now("momentum") != 0, bool(group["nesterov"]), bool(group["maximize"])

    def _counts_steps(self, group: Group) -> bool:
        return bool(group.now("momentum") != 0)                     # counts the writes of the buffer, to know the first

    def _update(self, group: Group, pairs: Pairs, count: dict[Tensor, Tensor]) -> None:
        lr, decay = group.scalar("lr"), group.scalar("weight_decay")
        momentum, nesterov, maximize = self._flags(group)
        if momentum:
            mu, damp = group.scalar("momentum"), group.scalar("dampening")
        for p, g in pairs:
            g = decay * p - g if maximize else g + decay * p
            if momentum:
                v = self._slot(p, "momentum_buffer")
                keep = (1.0 - damp * (count[p] > 1.0).astype(f64)).astype(p.dtype)  # v starts at 0: the first time it becomes g
                new = mu * v + keep * g
                v.copy_(new)
                g = g + mu * new if nesterov else new
            p.copy_(p - lr * g)
