"""Optimizers with PyTorch's names, arguments and semantics. Plain Tensor code; in a compiled step their updates are nodes like all others."""
from .adam import Adam, AdamW
from .optimizer import Optimizer
from .sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]
