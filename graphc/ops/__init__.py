"""What each primitive means: one family a file, one block an op. Importing this package fills the registry."""
from . import contract, control, effect, elementwise, index, leaf, movement, random, reduce, tuples

__all__ = ["contract", "control", "effect", "elementwise", "index", "leaf", "movement", "random", "reduce", "tuples"]
