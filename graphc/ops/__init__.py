"""What each primitive means: one family a file, one block an op. Importing this package fills the registry."""
from . import (
    along,
    branch,
    call,
    contract,
    control,
    determinant,
    effect,
    elementwise,
    index,
    leaf,
    linalg,
    loop,
    movement,
    random,
    reduce,
    spectral,
    tuples,
    window,
)

__all__ = ["along", "branch", "call", "contract", "control", "determinant", "effect", "elementwise", "index", "leaf", "linalg", "loop", "movement", "random",
           "reduce", "spectral", "tuples", "window"]
