"""`.npy`, `.npz` and CSV files as NumPy arrays. Not `np.load`: a header is checked against the file before any memory is taken for it, objects
are never unpickled, and every damage is a GraphError.

Arrays are mapped into memory where the file holds their plain bytes (`.npy`, and members of an `.npz` that are not compressed), so a file larger
than memory can be trained on. A file that is mapped must not be shortened by anybody while it is used; the system ends the process then.
"""
from __future__ import annotations

import csv
import errno
import math
import os
import re
import struct
import zipfile
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ..core.errors import GraphError
from .datasets import Array
from .idx import MOST_INFLATION, Stream

_DAMAGE = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, OverflowError, EOFError, struct.error)   # of a zip archive



class Header(NamedTuple):
    """What stands before the elements of a .npy file."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    start: int                                          # bytes before the first element

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


_DTYPE = re.compile(r"[<>|=]?([biuf]|[?])(1|2|4|8|16)?")
_ENTRY = r"""\s*['"](descr|fortran_order|shape)['"]\s*:\s*('[^']*'|"[^"]*"|\[.*\]|True|False|\((?:\s*[0-9]{1,19}L?\s*,?)*\s*\))\s*"""
_HEADER = re.compile(r"\{" + ",".join([_ENTRY] * 3) + r",?\s*\}\s*", re.DOTALL)


def read_header(file: Stream, name: str) -> Header:
    """The header of a .npy stream at its beginning: the text of a dict with three entries, read as such and not as Python.

    Raises GraphError for what is no such header, or not one of plain numbers. Source: numpy.lib.format.
    """
    def wrong(why: str) -> GraphError:
        return GraphError(f"{name} is no .npy file", why=why)

    magic = file.read(8)
    if len(magic) < 8 or magic[:6] != b"\x93NUMPY":
        raise wrong(f"it begins with the bytes {magic[:6].hex(' ')}, a .npy file with 93 4e 55 4d 50 59")
    if magic[6] not in (1, 2, 3) or magic[7] != 0:
        raise wrong(f"its format version is {magic[6]}.{magic[7]}; there are 1.0, 2.0 and 3.0")
    size = 2 if magic[6] == 1 else 4
    length = int.from_bytes(file.read(size), "little")
    if length > 10_000:                                 # np.load's own limit
        raise wrong(f"its header has {length:,} bytes")
    text = file.read(length)
    found = _HEADER.fullmatch(text.decode("latin-1"))
    entries = {} if found is None else dict(zip(found.groups()[::2], found.groups()[1::2], strict=True))
    if len(text) < length or len(entries) != 3 or entries["fortran_order"] not in ("True", "False") or entries["shape"][0] != "(":
        raise wrong("its header is not one that NumPy writes")
    descr = entries["descr"][1:-1]
    if entries["descr"][0] not in "'\"" or _DTYPE.fullmatch(descr) is None:
        raise GraphError(f"{name} holds {entries['descr'][:80]}, which are not numbers", why="objects are never unpickled, for that can run any program",
                         fix="save it as an array of numbers")
    shape = tuple(int(n) for n in re.findall(r"[0-9]+", entries["shape"]))
    try:
        dtype = np.dtype(descr)
    except TypeError:
        raise wrong(f"NumPy has no element type {descr!r}") from None
    if len(shape) > 32 or math.prod(n for n in shape if n) > 2**48:
        raise wrong(f"it says that its shape is {str(shape)[:200]}")
    return Header(shape, entries["fortran_order"] == "True", dtype, 8 + size + length)


def _line(e: BaseException) -> str:
    """The first line of an error, and not all of it."""
    text = str(e).split("\n")[0] or type(e).__name__
    return text if len(text) <= 200 else text[:200] + "…"


def read_npy(file: Stream, name: str, most: int, exact: bool) -> Array:
    """The array of a .npy stream that holds `most` bytes (at most so many, unless exact), read into memory."""
    header = read_header(file, name)
    _check_length(header, name, most, exact)
    out = np.empty(header.nbytes, np.uint8)             # no more than the file can fill
    have, view = 0, out.data
    while have < header.nbytes and (piece := file.read(min(1 << 20, header.nbytes - have))):
        view[have:have + len(piece)] = piece
        have += len(piece)
    if have < header.nbytes or file.read(1):
        raise GraphError(f"{name} is damaged", why=f"its header promises {header.nbytes:,} bytes, it has {f'{have:,}' if have < header.nbytes else 'more'}")
    return out.view(header.dtype).reshape(header.shape, order="F" if header.fortran else "C")


def _check_length(header: Header, name: str, most: int, exact: bool) -> None:
    left = most - header.start
    if header.nbytes > left or (exact and header.nbytes != left):
        raise GraphError(f"{name} is damaged", why=f"{header.dtype}[{','.join(map(str, header.shape))}] needs {header.nbytes:,} bytes after the header, "
                                                   f"the file has {'' if exact else 'no more than '}{left:,}")


def _map(path: Path, header: Header, offset: int) -> Array:
    """The elements that begin `offset` bytes into a file, read-only, fetched when they are looked at."""
    if header.nbytes == 0:
        return np.empty(header.shape, header.dtype)
    return np.memmap(path, header.dtype, "r", offset, header.shape, "F" if header.fortran else "C")


def load_npy(path: str | os.PathLike[str], *, mmap: bool = True) -> Array:
    """The array in a .npy file: read-only and mapped into memory, or with mmap=False read as a whole, writable.

    Raises GraphError for a damaged file and for elements that are not numbers, OSError where it cannot be read.
    """
    path = Path(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not mmap:
            return read_npy(file, path.name, size, exact=True)
        header = read_header(file, path.name)
    _check_length(header, path.name, size, exact=True)
    return _map(path, header, header.start)


def load_npz(path: str | os.PathLike[str], *, mmap: bool = True) -> dict[str, Array]:
    """The arrays in an .npz file by name: those that are not compressed mapped into memory (read-only), the others read.

    What is read is compared with the file's checksums; what is mapped is not looked at before you do, so a damage there goes unseen
    (mmap=False reads and checks everything). Raises GraphError for a damaged file, OSError where it cannot be read.
    """
    path = Path(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            with zipfile.ZipFile(file) as archive:
                return _members(path, archive, file, size, mmap)
        except (*_DAMAGE, OSError) as e:
            if isinstance(e, OSError) and e.errno != errno.EINVAL:      # that is a place before the beginning of the file
                raise
            raise GraphError(f"{path.name} is a damaged .npz file", at=path, why=_line(e)) from None


def _members(path: Path, archive: zipfile.ZipFile, file: IO[bytes], size: int, mmap: bool) -> dict[str, Array]:
    out: dict[str, Array] = {}
    budget = size * MOST_INFLATION                      # of all members together: overlapping ones could each claim the whole file
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        label = f"{name[:200]!r} in {path.name}"
        if not info.filename.endswith(".npy") or name in out:
            raise GraphError(f"{label} is {'there twice' if name in out else 'no .npy file'}", at=path, fix="np.savez writes such a file")
        plain = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
        if info.file_size > (size if plain else size * MOST_INFLATION) or info.file_size > budget:
            raise GraphError(f"{label} is damaged", at=path, why=f"{info.file_size:,} bytes do not fit into a file of {size:,}")
        budget -= info.file_size
        if mmap and plain:
            out[name] = _mapped(path, info, file, label, size)
        else:
            with archive.open(info) as member:
                out[name] = read_npy(member, label, info.file_size, exact=True)
    return out


def _mapped(path: Path, info: zipfile.ZipInfo, file: IO[bytes], label: str, size: int) -> Array:
    """A stored member, where it lies in the archive: behind a local header of 30 bytes, the name, and an extra field."""
    file.seek(info.header_offset)
    local = file.read(30)
    if len(local) < 30 or local[:4] != b"PK\x03\x04":
        raise GraphError(f"{label} is damaged", at=path, why="its local header is not where the directory says")
    start = info.header_offset + 30 + sum(struct.unpack("<HH", local[26:30]))
    if start + info.file_size > size:
        raise GraphError(f"{label} is damaged", at=path, why="it reaches beyond the end of the file")
    file.seek(start)
    header = read_header(file, label)
    _check_length(header, label, info.file_size, exact=True)
    return _map(path, header, start + header.start)


# ---- CSV -----------------------------------------------------------------------------------------------------------------------------


class Table(NamedTuple):
    """What `load_csv` returns: values[row, column], and the names of the columns if the file tells them."""

    values: Array
    names: tuple[str, ...] | None


def load_csv(path: str | os.PathLike[str], *, delimiter: str = ",", header: bool | None = None, dtype: Any = np.float32, missing: float | None = None,
             encoding: str = "utf-8-sig") -> Table:
    """A table of numbers: `values` of shape (rows, columns) and the columns' `names`, or None.

    header says whether the first line holds names; None finds out: it does if any field of it is no number. An empty field becomes `missing`
    (nan, say); without it, it is an error, as is every other field that is no number and every line of another length, with line and column.
    Integer dtypes take whole numbers that fit. Raises GraphError for all these, OSError where the file cannot be read.
    """
    path, dtype = Path(path), np.dtype(dtype)
    if dtype.kind not in "iuf":
        raise GraphError(f"load_csv makes arrays of numbers, not of {dtype}", fix="dtype=numpy.float32")
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '\r\n"':
        raise GraphError(f"a delimiter is one character, got {delimiter!r}")
    with open(path, encoding=encoding, newline="") as file:
        lines = _lines(file, path, delimiter)
        number, first = next(lines, (0, []))
        if not first:
            raise GraphError(f"{path.name} is empty", at=path)
        if header is None:
            header = not all(_is_number(field) or not field.strip() for field in first)
        names = tuple(f.strip() for f in first) if header else None
        columns, values = len(first), array("d" if dtype.kind == "f" else "Q" if dtype.kind == "u" else "q")
        if not header:
            values.extend(_row(first, number, path, dtype, missing, names))
        for number, fields in lines:
            if len(fields) != columns:
                raise GraphError(f"line {number} of {path.name} has {len(fields)} fields, the first has {columns}", at=f"{path}:{number}",
                                 fix=f"delimiter={_likely(fields)!r}" if columns == 1 or len(fields) == 1 else None)
            values.extend(_row(fields, number, path, dtype, missing, names))
    with np.errstate(over="ignore"):                    # 1e300 is inf in f32
        return Table(np.frombuffer(values, values.typecode).astype(dtype).reshape(-1, columns), names)


def _likely(fields: list[str]) -> str:
    """The delimiter that a line of one field was probably written with."""
    return max(";\t| ,", key=",".join(fields).count)


def _lines(file: IO[str], path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The lines that are not blank, each with its number in the file."""
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    try:
        for fields in reader:
            if fields:
                yield reader.line_num, fields
    except (csv.Error, UnicodeError) as e:
        raise GraphError(f"{path.name} cannot be read as CSV", at=f"{path}:{reader.line_num + 1}", why=_line(e)) from None


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return "_" not in field


def _row(fields: list[str], line: int, path: Path, dtype: np.dtype[Any], missing: float | None, names: tuple[str, ...] | None) -> list[Any]:
    """One line as numbers of the dtype."""
    try:
        row: list[Any] = [*map(float if dtype.kind == "f" else int, fields)]
        if not any("_" in f for f in fields) and (dtype.kind == "f" or (np.iinfo(dtype).min <= min(row) and max(row) <= np.iinfo(dtype).max)):
            return row                                  # 1_000 is a number in Python and nowhere else
    except ValueError:
        pass
    return [_field(f, line, k, path, dtype, missing, names) for k, f in enumerate(fields)]


def _field(field: str, line: int, column: int, path: Path, dtype: np.dtype[Any], missing: float | None, names: tuple[str, ...] | None) -> Any:
    label = f"column {column + 1}" + (f" ({names[column][:80]})" if names is not None and column < len(names) else "")
    if not field.strip():
        if missing is None:
            raise GraphError(f"line {line} of {path.name} has an empty field in {label}", at=f"{path}:{line}", fix="missing=float('nan'), or a number")
        value: Any = missing
    elif not _is_number(field):
        raise GraphError(f"line {line} of {path.name} has {field[:80]!r} in {label}, which is no number", at=f"{path}:{line}",
                         fix=f"delimiter={_likely([field])!r}" if len(field.split(_likely([field]))) > 1 else None)
    else:
        value = float(field)
    if dtype.kind == "f":
        return value
    whole = int(field) if field.strip().lstrip("+-").isdigit() else (int(value) if math.isfinite(value) and value == int(value) else None)
    limits = np.iinfo(dtype)
    if whole is None or not limits.min <= whole <= limits.max:
        raise GraphError(f"line {line} of {path.name} has {field[:80] or missing} in {label}, which is no {dtype}", at=f"{path}:{line}",
                         fix="dtype=numpy.float32")
    return whole
