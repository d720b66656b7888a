"""Comforts of a training loop: how far it is."""
from .bar import Progress, progress

__all__ = ["Progress", "progress"]
