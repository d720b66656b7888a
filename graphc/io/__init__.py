"""Checkpoints: `gx.save` and `gx.load`. Atomic, checked before anything is assigned, never pickle."""
from .checkpoint import Checkpoint, load, save

__all__ = ["Checkpoint", "load", "save"]
