"""Adam and AdamW. Sources: Kingma and Ba 2015; Reddi et al. 2018 (amsgrad); Loshchilov and Hutter 2019 (decoupled weight decay)."""
from __future__ import annotations

from typing import Any

from .. import array as xp
from ..trace.tensor import Tensor
from .optimizer import Group, Optimizer, Pairs, check_range


class Adam(Optimizer):
    """Steps of about lr, whatever the size of the gradient g (+ weight_decay * p; -g with `maximize`):

        m ← β₁ m + (1 - β₁) g,   v ← β₂ v + (1 - β₂) g²
        p ← p - lr * m̂ / (√v̂ + eps),   m̂ = m / (1 - β₁ᵗ),   v̂ = v / (1 - β₂ᵗ)

    With `amsgrad` the largest v so far stands in the place of v. The bias corrections are computed in f64 once for all parameters, and multiplied
    out: √v̂ + eps = (√v + eps * √(1 - β₂ᵗ)) / √(1 - β₂ᵗ). lr, betas, eps and weight_decay may change between steps.
    """

    slots = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    decoupled = False                                           # weight decay apart from the gradient

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0,
                 amsgrad: bool = False, *, maximize: bool = False) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad, "maximize": maximize})

    def _check(self, settings: dict[str, Any]) -> None:
        for name in ("lr", "eps", "weight_decay"):
            check_range(self, settings, name)
        for i, beta in enumerate(settings["betas"]):
            check_range(self, settings, f"betas[{i}]", beta, below=1.0)

    def _flags(self, group: Group) -> tuple[Any, ...]:
        return bool(group["amsgrad"]), bool(group["maximize"])

    def _update(self, group: Group, pairs: Pairs, count: dict[Tensor, Tensor]) -> None:
        lr, eps, decay = group.scalar("lr"), group.scalar("eps"), group.scalar("weight_decay")
        beta1, beta2 = group.scalar("betas", 0), group.scalar("betas", 1)
        rest1, rest2 = 1.0 - beta1, 1.0 - beta2
        amsgrad, maximize = self._flags(group)
        scales: dict[int, tuple[Tensor, Tensor]] = {}
        for p, g in pairs:
            t = count[p]
            if id(t) not in scales:
                root = xp.sqrt(1.0 - beta2 ** t)
                scales[id(t)] = lr * root / (1.0 - beta1 ** t), eps * root
            size, floor = (s.astype(p.dtype) for s in scales[id(t)])
            if maximize:
                g = -g
            if not self.decoupled:
                g = g + decay * p
            m, v = self._slot(p, "exp_avg"), self._slot(p, "exp_avg_sq")
            new_m = m + rest1 * (g - m)
            new_v = beta2 * v + rest2 * (g * g)
            m.copy_(new_m)
            v.copy_(new_v)
            if amsgrad:
                largest = self._slot(p, "max_exp_avg_sq")
                new_v = xp.maximum(largest, new_v)
                largest.copy_(new_v)
            kept = p * (1.0 - lr * decay) if self.decoupled else p
            p.copy_(kept - size * (new_m / (xp.sqrt(new_v) + floor)))


class AdamW(Adam):
    """Adam whose weight decay is no part of the gradient: p ← (1 - lr * weight_decay) p, then the step of Adam without decay."""

    decoupled = True

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 1e-2,
                 amsgrad: bool = False, *, maximize: bool = False) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
