"""`graphc cache`: what is kept between processes, where, and how to be rid of it."""
from __future__ import annotations

import json
import time

from ..core.errors import GraphError
from ..core.options import cache_place
from ..llvm.cache import Listed, Store, store


def cache(what: str, as_json: bool = False) -> int:
    """Print the folder, or its entries, or empty it."""
    folder, limit = cache_place()
    if what == "path":
        if not folder:
            raise GraphError("this user has no folder for caches", fix="GRAPHC_CACHE_DIR=/some/folder")
        print(folder)
        return 0
    found = store()
    if what == "clear":
        if found is None:
            raise GraphError(f"the cache {folder} cannot be used", why="it is missing and cannot be made, or other users can write to it")
        files, nbytes = found.clear()
        print(f"removed {_count(files)}, {size(nbytes)}, from {folder}")
        return 0
    entries = found.entries() if found is not None else []
    if as_json:
        print(json.dumps({"folder": folder, "limit": limit, "usable": found is not None, "entries": [_row(e) for e in entries]}, indent=2))
        return 0
    _print(entries, folder, limit, found)
    return 0


def _print(entries: list[Listed], folder: str, limit: int, found: Store | None) -> None:
    if entries:
        print(f"{'key':<12}  {'kind':<6}  {'size':>9}  {'used':<16}  what")
    for e in entries:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(e.used))
        what = e.header.get("name") or e.header.get("cpu") or ""
        print(f"{e.key[:12]}  {e.header.get('kind', '')!s:<6}  {size(e.nbytes):>9}  {when}  {what!s}")
    note = "" if found is not None else " (it cannot be used: missing, or not this user's alone)"
    print(f"{_count(len(entries))}, {size(sum(e.nbytes for e in entries))} of at most {size(limit)}, in {folder or 'no folder'}{note}")


def _row(e: Listed) -> dict[str, object]:
    return {"key": e.key, "kind": e.header.get("kind"), "name": e.header.get("name"), "cpu": e.header.get("cpu"), "bytes": e.nbytes, "used": e.used}


def _count(n: int) -> str:
    return f"{n} {'entry' if n == 1 else 'entries'}"


def size(n: int) -> str:
    """1536 as "1.5 KiB"."""
    value, unit = float(n), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{n} B" if unit == "B" else f"{value:.1f} {unit}"
