"""This host as a Target."""
from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path

from ..core.target import Target


@lru_cache(1)
def host() -> Target:
    """The machine that runs this process: its widest vectors that LLVM can mask, its caches."""
    from llvmlite import binding

    cpu, flags = binding.get_host_cpu_name(), binding.get_host_cpu_features()

    def has(*names: str) -> bool:
        return all(flags.get(n, False) for n in names)

    l1, l2 = cache_bytes(1, 32 << 10), cache_bytes(2, 512 << 10)
    if platform.machine().lower() in ("aarch64", "arm64"):
        return Target(cpu, flags.flatten(), 16, 32, True, l1, l2)
    if has("avx512f", "avx512vl", "avx512bw", "avx512dq"):
        return Target(cpu, flags.flatten(), 64, 32, has("fma"), l1, l2)
    if has("avx2", "fma"):
        return Target(cpu, flags.flatten(), 32, 16, True, l1, l2)
    return Target(cpu, flags.flatten(), 16, 16, False, l1, l2)


def cache_bytes(level: int, unknown: int) -> int:
    """Bytes of the data cache of a level, as Linux tells; else `unknown`."""
    try:
        for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
            at, kind, size = ((cache / name).read_text().strip() for name in ("level", "type", "size"))
            if at == str(level) and kind in ("Data", "Unified"):
                return int(size.rstrip("KM")) << {"K": 10, "M": 20}.get(size[-1], 0)
    except (OSError, ValueError):
        pass
    return unknown
