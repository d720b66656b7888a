"""What the control groups of this process grant it: Linux's, of version 1 or 2. Containers set them, so they and not the machine are the limit."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def folders(controller: str, root: Path = ROOT, own: Path = OWN) -> Iterator[Path]:
    """The folder of each group that this process is in, the innermost first, and of those above it; `controller` is "cpu" or "memory"."""
    try:
        groups = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in (g for g in groups if len(g) == 3):
        if controllers and controller not in controllers.split(","):
            continue
        top = root / controller if controllers else root
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            yield folder
            if folder == top:
                break


def memory(root: Path = ROOT, own: Path = OWN) -> int | None:
    """The bytes that this process may have, or None where no group says."""
    found = []
    for folder in folders("memory", root, own):
        for name in ("memory.max", "memory.limit_in_bytes"):
            try:
                found.append(int((folder / name).read_text()))
            except (OSError, ValueError):               # no such file, or "max"
                continue
    return min(found, default=None)
