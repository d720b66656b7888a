"""Every setting of a compilation in one frozen record; the only reader of GRAPHC_* environment variables."""
from __future__ import annotations

import os
import sys
import time
from typing import Literal

from .errors import GraphError
from .record import dataclass, field

Backend = Literal["llvm", "numpy"]
LOADED = time.time()                                    # source that is newer than this is not what runs


def _flag(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


@dataclass(frozen=True, slots=True)
class Options:
    """How a function is compiled. `gx.compile`'s keywords are these fields."""

    backend: Backend = "llvm"
    threads: int = 1                                    # how many share a step, at most as many as there are cores; the results do not depend on it
    keep_grads: bool = False                            # p.grad is readable after a step that ends in optimizer.step()
    on_new_shape: Literal["compile", "error"] = "compile"
    stable: bool = True                                 # formulas in their numerically stable form: log(1 + x) is log1p(x)
    fast: bool = False                                  # rules that are right for real numbers only: sums in another order, x * a + x * b as x * (a + b)
    flush_denormals: bool = True                        # denormals are zero inside the native step
    memory_limit: int | None = None                     # bytes: a native step that needs more, its states included, is not made
    passes: tuple[str, ...] | None = None               # names of the passes to run, in order; None: all
    cache: bool = field(default_factory=lambda: os.environ.get("GRAPHC_CACHE", "") != "0")      # machine code is kept on disk between processes
    check_passes: bool = field(default_factory=lambda: _flag("GRAPHC_CHECK"))   # evaluate before and after every pass

    def __post_init__(self) -> None:
        if self.backend not in ("llvm", "numpy"):
            raise GraphError(f"no backend {self.backend!r}", fix='backend="llvm" or backend="numpy"')
        if not isinstance(self.threads, int) or isinstance(self.threads, bool) or self.threads < 1:
            raise GraphError(f"threads must be a whole number >= 1, got {self.threads!r}")
        if self.memory_limit is not None and (not isinstance(self.memory_limit, int) or isinstance(self.memory_limit, bool) or self.memory_limit < 1):
            raise GraphError(f"memory_limit must be a number of bytes >= 1, got {self.memory_limit!r}", fix="memory_limit=2 << 30")
        if self.on_new_shape not in ("compile", "error"):
            raise GraphError(f'on_new_shape must be "compile" or "error", got {self.on_new_shape!r}')
        for name in ("keep_grads", "stable", "fast", "flush_denormals", "cache", "check_passes"):
            if not isinstance(getattr(self, name), bool):
                raise GraphError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.passes is not None and not (isinstance(self.passes, (tuple, list)) and all(isinstance(p, str) for p in self.passes)):
            raise GraphError(f"passes must be a tuple of names, got {self.passes!r}", fix='passes=("cse", "dce")')


def cache_place() -> tuple[str, int]:
    """Where machine code is kept between processes ("": nowhere), and how many bytes of it.

    GRAPHC_CACHE_DIR, else the user's cache folder; GRAPHC_CACHE_SIZE, 256M by default: bytes, or with K, M or G.
    """
    size = os.environ.get("GRAPHC_CACHE_SIZE", "") or "256M"
    number, unit = (size[:-1], size[-1].upper()) if size[-1:].upper() in ("K", "M", "G") else (size, "")
    if not (number.isascii() and number.isdigit() and len(number) < 18):
        raise GraphError(f"GRAPHC_CACHE_SIZE={size!r} is no number of bytes", fix="GRAPHC_CACHE_SIZE=256M")
    folder = os.environ.get("GRAPHC_CACHE_DIR", "")
    return os.path.abspath(folder) if folder else _user_cache(), int(number) << {"": 0, "K": 10, "M": 20, "G": 30}[unit]


def _user_cache() -> str:
    """graphc's folder where this system keeps what can be made again; "" where the user has no home."""
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        base, last = os.environ.get("LOCALAPPDATA", ""), ("graphc", "cache")
    elif sys.platform == "darwin":
        base, last = os.path.join(home, "Library", "Caches"), ("graphc",)
    else:
        base, last = os.environ.get("XDG_CACHE_HOME", ""), ("graphc",)
        if not os.path.isabs(base):                     # the XDG specification: a relative path is ignored
            base = os.path.join(home, ".cache")
    return os.path.join(base, *last) if os.path.isabs(base) else ""
