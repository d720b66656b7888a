"""A file is the old one or the new one, never half of it: written beside it under another name, made durable, renamed.

Whatever happens in between (an error, a full disk, kill -9, a power cut), whoever opens the path sees one of the two. A killed process can leave
its unfinished `.name.….part` behind.
"""
from __future__ import annotations

import errno
import os
import stat
import uuid
from contextlib import suppress
from pathlib import Path

from ..core.errors import GraphError

_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF)     # file systems on which a folder cannot be synchronised


def write_atomic(path: str | os.PathLike[str], data: bytes | bytearray | memoryview) -> Path:
    """Replace the file at `path` by one that holds `data`, or leave it as it was. Links are followed; the permissions of a former file stay.

    Raises OSError where the folder cannot be written or is full, GraphError where the path is something else than a file.
    """
    target = Path(os.path.realpath(path))
    mode: int | None = None
    with suppress(FileNotFoundError):
        found = target.stat()
        if not stat.S_ISREG(found.st_mode):
            raise GraphError(f"{path} is {'a folder' if stat.S_ISDIR(found.st_mode) else 'no ordinary file'}", fix="another path")
        mode = stat.S_IMODE(found.st_mode)
    part = target.with_name(f".{target.name[:40]}.{uuid.uuid4().hex}.part")
    try:
        with open(part, "xb") as file:
            file.write(data)
            if mode is not None:
                with suppress(OSError):                 # the folder of another user's file may still be ours to write
                    os.chmod(part, mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException as e:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(e, OSError) and e.errno is not None:      # a full disk does not say whose file it was
            raise OSError(e.errno, os.strerror(e.errno), str(path)) from None
        raise
    _sync_folder(target.parent)
    return target


def _sync_folder(folder: Path) -> None:
    """Make the new name durable. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as e:
        if e.errno not in _NO_FOLDER_SYNC:
            raise
