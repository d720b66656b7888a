"""Machine code on disk, so that a program which has been compiled once starts warm.

A `Store` is a folder of entries, each a file named by its key: a magic line, a checksum of all that follows, a JSON header, bytes. Nothing in it is
ever unpickled or evaluated, but object code is code: so an entry is believed only if it and its folder belong to this user and nobody else can write
to them, if its checksum is right and if its header repeats its key. Whatever is wrong with an entry, it is removed and the answer is "not here".
Whatever goes wrong with the folder (missing, read-only, full, another user's), there is no cache; nothing here raises for it.

Any number of processes may share a folder: a file is written under another name and renamed, and who reads while another removes has the file open
already. The folder is kept below a number of bytes by removing what was used longest ago (its mtime: reading touches it).

A key holds everything that the bytes depend on; see `object_key`. Addresses are in no object: they come in through tables.
"""
from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Any

import numpy as np

from ..core.options import LOADED, cache_place
from ..core.record import dataclass
from ..core.target import Target

MAGIC = b"graphc cache entry 1\n"
SUFFIX = ".gxo"
_ABANDONED = 3600.0                                     # seconds after which an unfinished file is somebody's who was killed
_SUM = hashlib.sha256().digest_size
_LARGEST_HEADER = 64 << 20
_PRIVATE = stat.S_IWGRP | stat.S_IWOTH                  # whoever may write here may run code as us


@dataclass(frozen=True, slots=True)
class Entry:
    """What was stored under a key."""

    header: dict[str, Any]                              # plain JSON values
    data: bytes


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry as `graphc cache` lists it."""

    key: str
    path: str
    nbytes: int
    used: float                                         # seconds since 1970
    header: dict[str, Any]


class Store:
    """A folder of entries of at most `limit` bytes. Made by `store()`, which looks at the folder first."""

    def __init__(self, folder: str, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._unswept = limit                           # bytes written since the folder was last looked through: at first, who knows

    def path(self, key: str) -> str:
        return os.path.join(self.folder, key + SUFFIX)

    def get(self, key: str) -> Entry | None:
        """The entry, if there is one and it can be trusted."""
        path = self.path(key)
        raw = _read(path)
        if raw is None:
            return None
        entry = _parse(raw, key)
        if entry is None:
            self.remove(key)
        else:
            with suppress(OSError):
                os.utime(path)
        return entry

    def put(self, key: str, header: dict[str, Any], data: bytes) -> None:
        """Keep an entry, if the folder lets us."""
        head = json.dumps({**header, "key": key}, separators=(",", ":")).encode()
        body = b"".join([len(head).to_bytes(4, "little"), head, data])
        raw = b"".join([MAGIC, hashlib.sha256(body).digest(), body])
        if len(raw) > self.limit or len(head) > _LARGEST_HEADER:
            return
        part = os.path.join(self.folder, f".{key}.{os.urandom(8).hex()}.part")
        try:
            file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0), 0o600)
            try:
                rest = memoryview(raw)
                while rest:
                    rest = rest[os.write(file, rest):]
            finally:
                os.close(file)
            os.replace(part, self.path(key))
        except BaseException as e:
            with suppress(OSError):
                os.unlink(part)
            if not isinstance(e, OSError):              # Ctrl-C
                raise
            return
        self._unswept += len(raw)
        if self._unswept >= self.limit // 32:
            self._unswept = 0
            self.sweep()

    def remove(self, key: str) -> None:
        with suppress(OSError):
            os.unlink(self.path(key))

    def sweep(self) -> None:
        """Remove what was used longest ago until there is a tenth of room, and what killed processes left."""
        found = []
        for file in self._files():
            with suppress(OSError):                     # another process was faster
                info = file.stat(follow_symlinks=False)
                if _is_entry(file.name):
                    found.append((info.st_mtime, info.st_size, file.path))
                elif info.st_mtime < time.time() - _ABANDONED:
                    os.unlink(file.path)
        total = sum(size for _, size, _ in found)
        if total <= self.limit:
            return
        for _, size, path in sorted(found):
            with suppress(OSError):
                os.unlink(path)
            total -= size
            if total <= self.limit - self.limit // 10:
                return

    def entries(self) -> list[Listed]:
        """Every entry that can be read, the one used last first."""
        out = []
        for file in self._files():
            key = file.name.removesuffix(SUFFIX)
            raw = _read(file.path) if _is_entry(file.name) else None
            if raw is not None and (entry := _parse(raw, key)) is not None:
                with suppress(OSError):
                    out.append(Listed(key, file.path, len(raw), file.stat().st_mtime, entry.header))
        return sorted(out, key=lambda e: (-e.used, e.key))

    def clear(self) -> tuple[int, int]:
        """Remove everything that is ours, unfinished files too; how many files and bytes that were."""
        files = nbytes = 0
        for file in self._files():
            with suppress(OSError):
                size = file.stat(follow_symlinks=False).st_size
                os.unlink(file.path)
                files, nbytes = files + 1, nbytes + size
        return files, nbytes

    def _files(self) -> Iterator[os.DirEntry[str]]:
        """Files that have a name of ours. What else lies in the folder is not touched."""
        try:
            with os.scandir(self.folder) as listing:
                yield from [f for f in listing if _is_entry(f.name) or _is_part(f.name)]
        except OSError:
            return


def _is_key(text: str) -> bool:
    return len(text) == 64 and not text.strip("0123456789abcdef")


def _is_entry(name: str) -> bool:
    return name.endswith(SUFFIX) and _is_key(name.removesuffix(SUFFIX))


def _is_part(name: str) -> bool:
    """The name of an unfinished file: a dot, the key, something, .part"""
    return name.startswith(".") and name.endswith(".part") and name[65:66] == "." and _is_key(name[1:65])


def _read(path: str) -> bytes | None:
    """The content of a regular file that is ours alone."""
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError:
        return None
    try:
        info = os.fstat(file)
        if not stat.S_ISREG(info.st_mode) or distrust(info) is not None:
            return None
        with open(file, "rb", closefd=False) as f:
            return f.read()
    except OSError:
        return None
    finally:
        os.close(file)


def _parse(raw: bytes, key: str) -> Entry | None:
    """The entry in a file's bytes, or None: cut short, another's, or not what was written."""
    start = len(MAGIC) + _SUM
    if len(raw) < start + 4 or not raw.startswith(MAGIC):
        return None
    body = memoryview(raw)[start:]
    if hashlib.sha256(body).digest() != raw[len(MAGIC):start]:
        return None
    n = int.from_bytes(body[:4], "little")
    if n > len(body) - 4:
        return None
    try:
        header = json.loads(bytes(body[4:4 + n]))
    except (ValueError, RecursionError):
        return None
    if not isinstance(header, dict) or header.get("key") != key:
        return None
    return Entry(header, bytes(body[4 + n:]))


# ---- the folder ----------------------------------------------------------------------------------------------------------------------


def distrust(info: os.stat_result) -> str | None:
    """Why a file or folder cannot be believed, or None. (Windows: what lies in a user's profile is the user's.)"""
    uid = getattr(os, "geteuid", None)
    if uid is None:
        return None
    if info.st_uid != uid():
        return "another user owns it"
    return "other users can write to it" if info.st_mode & _PRIVATE else None


def store() -> Store | None:
    """The user's cache, or None: there is no place for it, or one that cannot be believed (which the logger "graphc" says once)."""
    folder, limit = cache_place()
    return _store(folder, limit) if folder and limit > 0 else None


@lru_cache(8)
def _store(folder: str, limit: int) -> Store | None:
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        why = distrust(os.stat(folder))
    except (OSError, ValueError) as e:
        why = getattr(e, "strerror", None) or str(e)
    if why is None:
        return Store(folder, limit)
    import logging
    logging.getLogger("graphc").info("graphc: compiling without a cache: %s: %s", folder, why)
    return None


# ---- keys ----------------------------------------------------------------------------------------------------------------------------


def object_key(text: str, target: Target, level: int, makers: Iterable[str]) -> str:
    """The key of an object file: the module, the machine that it is for, who makes it (versions), and whose structures its entry reads."""
    return hashed(["object", text, target.triple, target.cpu, target.features, str(level), host_abi(), *makers])


@lru_cache(1)
def host_abi() -> str:
    """This Python and this NumPy, as far as code that reads their objects depends on them; and the system."""
    return json.dumps([sys.implementation.cache_tag, EXTENSION_SUFFIXES[:1], sys.byteorder, np.dtype(np.intp).itemsize,
                       np.__version__.partition(".")[0], sys.platform, getattr(os, "uname", lambda: ("", "", "", "", ""))()[4]])


@lru_cache(1)
def compiler_id() -> str | None:
    """Stands for graphc's own source: names, sizes and times of its files. None where it is not made of files, or they have changed since they were read."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found, folders = [], [root]
    try:
        while folders:
            with os.scandir(folders.pop()) as listing:
                for f in listing:
                    if f.name.endswith(".py"):
                        info = f.stat()
                        if info.st_mtime >= LOADED:
                            return None
                        found.append(f"{f.path[len(root):]} {info.st_size} {info.st_mtime_ns}")
                    elif f.is_dir() and not f.name.startswith((".", "__")):
                        folders.append(f.path)
    except OSError:
        return None
    return hashed(sorted(found)) if found else None


def hashed(parts: Iterable[str | bytes]) -> str:
    """SHA-256 of the parts, each with its length, so that no two lists are one text."""
    h = hashlib.sha256()
    for part in parts:
        raw = part if isinstance(part, bytes) else part.encode()
        h.update(b"%d:" % len(raw))
        h.update(raw)
    return h.hexdigest()
