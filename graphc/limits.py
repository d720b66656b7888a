"""A step that needs more memory than it may have is refused before anything of it is allocated, with the largest buffers and the lines that made them."""
from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from functools import lru_cache

from .build import Build, Fit, Manifest
from .core import cgroup
from .core.errors import GraphError
from .core.options import Options
from .core.types import TensorType
from .ir.node import Node
from .trace.storage import Storage

SMALL = 64 << 20                                        # bytes: what needs no more is not held against the machine
SHOWN = 3                                               # buffers that an error names


@lru_cache(1)
def machine_bytes() -> int:
    """The memory that this process may have: the machine's, or what its control group grants."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):       # not here
        physical = 0
    granted = [n for n in (physical if physical > 0 else None, cgroup.memory()) if n is not None]
    return min(granted, default=1 << 62)


def refuse_too_large(name: str, manifest: Manifest, fit: Fit, storages: Sequence[Storage], options: Options, build: Callable[[], Build]) -> None:
    """Raise where a step exceeds `memory_limit` or the machine. `build` is asked for only then: it knows what the buffers are."""
    results = [_bytes(t.bind(fit.dims)) for t in manifest.results]
    parts = {"arena": fit.arena_bytes, "results": sum(results), "states": sum(s.array.nbytes for s in storages),
             "constants": sum(c.nbytes for c in manifest.constants)}
    total, limit = sum(parts.values()), options.memory_limit
    if limit is None and total <= SMALL:
        return
    most = min(machine_bytes(), limit if limit is not None else 1 << 62)
    if total <= most:
        return
    largest = sorted(_buffers(build(), fit, storages), key=lambda b: -b[0])[:SHOWN]
    said = f"memory_limit is {limit:,}" if most == limit else f"this machine has {most:,}"
    shown = "; ".join(f"{n:,} for {what}{f' ({at})' if at else ''}" for n, what, _, at in largest)
    kinds = ", ".join(f"{kind} {n:,}" for kind, n in parts.items() if n)
    kinds += f"; {manifest.again}, and no more can be" if manifest.again is not None else ""
    raise GraphError(f"{name} needs {total:,} bytes", op=largest[0][2] if largest else None, at=largest[0][3] if largest else None,
                     why=f"{said}; {kinds}; the largest buffers: {shown}",
                     fix="smaller sizes, a smaller batch, say" + (f", or memory_limit={total}" if most == limit else ""))


def _buffers(b: Build, fit: Fit, storages: Sequence[Storage]) -> list[tuple[int, str, str | None, str | None]]:
    """(bytes, what it holds, its op, the lines it comes from) of every buffer."""
    of: dict[str, Node] = {}
    for n, home in b.program.homes.items():
        of.setdefault(home.region.name, n)
    found: list[tuple[int, str, str | None, str | None]] = []
    for name, _, nbytes, _, _ in fit.regions:
        n = of.get(name)
        if n is None:
            found.append((nbytes, name, None, None))
        else:
            found.append((nbytes, f"{n.type} of {n.op.name}", n.op.name, _at(b, n)))
    outputs = b.optimized.outputs
    found += [(_bytes(t.bind(fit.dims)), f"result {t}", outputs[k].op.name if k < len(outputs) else None, _at(b, outputs[k]) if k < len(outputs) else None)
              for k, t in enumerate(b.program.results)]
    found += [(s.array.nbytes, f"state {s.name or s.type}", None, None) for s in storages]
    return found


def _at(b: Build, n: Node) -> str | None:
    return ", ".join(sorted(map(str, b.optimized.where(n).locs))) or None


def _bytes(t: TensorType) -> int:
    return math.prod(t.static_shape) * t.dtype.itemsize
