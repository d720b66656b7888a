"""torch.utils' names, where graphc has them elsewhere under its own."""
from . import checkpoint

__all__ = ["checkpoint"]
