"""Losses as modules. What they compute, and which shapes they take, stands in `functional`."""
from __future__ import annotations

from typing import Any

from ..core.errors import GraphError
from ..trace.tensor import Tensor
from . import functional as F
from .module import Module


class _Loss(Module):
    def __init__(self, reduction: F.Reduction = "mean") -> None:
        super().__init__()
        if reduction not in ("none", "mean", "sum"):
            raise GraphError(f'{type(self).__name__}: reduction is "none", "mean" or "sum", got {reduction!r}')
        self.reduction: F.Reduction = reduction


class MSELoss(_Loss):
    """The mean (or sum, or each) of the squared differences. input and target have the same shape."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(input, target, self.reduction)


class L1Loss(_Loss):
    """The mean (or sum, or each) of the absolute differences. input and target have the same shape."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.l1_loss(input, target, self.reduction)


class NLLLoss(_Loss):
    """The negative log-likelihood of class indices under log-probabilities; see `functional.nll_loss`."""

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: F.Reduction = "mean") -> None:
        super().__init__(reduction)
        self.ignore_index = ignore_index
        self.register_buffer("weight", weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class CrossEntropyLoss(_Loss):
    """The cross-entropy of logits (N, C) with class indices (N,) or class probabilities (N, C); see `functional.cross_entropy`.

    >>> criterion = CrossEntropyLoss(label_smoothing=0.1)
    >>> loss = criterion(logits, labels)
    """

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: F.Reduction = "mean", label_smoothing: float = 0.0) -> None:
        super().__init__(reduction)
        if not 0.0 <= label_smoothing <= 1.0:
            raise GraphError(f"CrossEntropyLoss: label_smoothing is in 0..1, got {label_smoothing!r}")
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing
        self.register_buffer("weight", weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)
