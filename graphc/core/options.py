"""Every setting of a compilation in one frozen record; the only reader of GRAPHC_* environment variables."""
from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from .errors import GraphError

Backend = Literal["llvm", "numpy"]


def _flag(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


@dataclass(frozen=True, slots=True)
class Options:
    """How a function is compiled. `gx.compile`'s keywords are these fields."""

    backend: Backend = "llvm"
    threads: int = 1                                    # how many share a step; the results do not depend on it
    keep_grads: bool = False                            # p.grad is readable after a step that ends in optimizer.step()
    on_new_shape: Literal["compile", "error"] = "compile"
    flush_denormals: bool = True                        # denormals are zero inside the native step
    passes: tuple[str, ...] | None = None               # names of the passes to run, in order; None: all
    check_passes: bool = field(default_factory=lambda: _flag("GRAPHC_CHECK"))   # evaluate before and after every pass

    def __post_init__(self) -> None:
        if self.backend not in ("llvm", "numpy"):
            raise GraphError(f"no backend {self.backend!r}", fix='backend="llvm" or backend="numpy"')
        if not isinstance(self.threads, int) or isinstance(self.threads, bool) or self.threads < 1:
            raise GraphError(f"threads must be a whole number >= 1, got {self.threads!r}")
        if self.on_new_shape not in ("compile", "error"):
            raise GraphError(f'on_new_shape must be "compile" or "error", got {self.on_new_shape!r}')
