"""IDX, the format of MNIST and its kin: a magic number (two zero bytes, the element type, the number of axes), the sizes, the elements.

Everything in the header is checked against the file before memory is taken for it; gzip is known by its first two bytes, not by the name.
Source: Y. LeCun, C. Cortes and C. Burges, The MNIST database (http://yann.lecun.com/exdb/mnist).
"""
from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from pathlib import Path
from typing import Protocol

import numpy as np

from ..core.errors import GraphError
from .datasets import Array, Digits

DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_INFLATION = 1032                                   # deflate makes no byte out of fewer than 1/1032 bytes
PARTS = {"x_train": "train-images-idx3-ubyte", "y_train": "train-labels-idx1-ubyte",
         "x_test": "t10k-images-idx3-ubyte", "y_test": "t10k-labels-idx1-ubyte"}


class Stream(Protocol):
    """Bytes that are read one piece after the other."""

    def read(self, n: int = -1, /) -> bytes: ...


def read_idx(path: str | os.PathLike[str]) -> Array:
    """The array in an IDX file, compressed by gzip or not, in native byte order.

    Raises GraphError where the file is not what its header says, OSError where it cannot be read.

    >>> read_idx("train-labels-idx1-ubyte.gz")[:3]                                                            # doctest: +SKIP
    array([5, 0, 4], dtype=uint8)
    """
    path = Path(path)
    with open(path, "rb") as raw:
        size = os.fstat(raw.fileno()).st_size
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not packed:
            return _read(raw, path, size, exact=True)
        try:
            with gzip.GzipFile(fileobj=raw) as file:
                return _read(file, path, size * MOST_INFLATION, exact=False)
        except (gzip.BadGzipFile, EOFError, zlib.error) as e:
            raise GraphError(f"{path.name} is a damaged gzip file", at=path, why=str(e), fix="fetch it again") from None


def _read(file: Stream, path: Path, most: int, exact: bool) -> Array:
    """An array from a stream that holds `most` bytes, or, where that is not known exactly, at most so many."""
    def wrong(why: str) -> GraphError:
        return GraphError(f"{path.name} is no IDX file", at=path, why=why)

    magic = file.read(4)
    if len(magic) < 4:
        raise wrong(f"its header has 4 bytes and more, the file {len(magic)}")
    if magic[:2] != b"\0\0":
        raise wrong(f"it begins with the bytes {magic[:2].hex(' ')}, an IDX file with 00 00")
    code, rank = magic[2], magic[3]
    if code not in DTYPES:
        raise wrong(f"its element type is {code:#04x}; there are {', '.join(f'{c:#04x}' for c in DTYPES)}")
    if rank == 0 or rank > 32:
        raise wrong(f"it says that it has {rank} axes; NumPy has arrays of 1 to 32")
    header = file.read(4 * rank)
    if len(header) < 4 * rank:
        raise wrong(f"the header of {rank} axes has {4 + 4 * rank} bytes, the file {4 + len(header)}")
    shape = tuple(int.from_bytes(header[4 * k:4 * k + 4], "big") for k in range(rank))
    dtype = np.dtype(DTYPES[code])
    nbytes, left = math.prod(shape) * dtype.itemsize, most - 4 - 4 * rank
    said = f"{dtype.newbyteorder('=').name}[{','.join(map(str, shape))}] needs {nbytes:,} bytes after the header"
    if nbytes > left or (exact and nbytes < left):
        raise wrong(f"{said}, the file has {'' if exact else 'no more than '}{left:,}")
    data = bytearray()
    while len(data) <= nbytes and (piece := file.read(min(1 << 20, nbytes + 1 - len(data)))):
        data += piece                                   # a lying header gets no more memory than the file has bytes
    if len(data) != nbytes:
        raise wrong(f"{said}, the file has {'more' if len(data) > nbytes else f'{len(data):,}'}")
    if 0 in shape and math.prod(n for n in shape if n) > 2**48:
        raise wrong(f"the sizes {shape} are beyond any machine")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def mnist(path: str | os.PathLike[str]) -> Digits:
    """A folder of MNIST's four files (or Fashion-MNIST's, or EMNIST's under these names) as `(x_train, y_train, x_test, y_test)`.

    The names are train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, with or without .gz;
    `.idx3-ubyte` for `-idx3-ubyte` is found too. x is f32 of shape (n, rows, columns) in 0..1, y is i64. Raises GraphError for files that are
    missing, damaged, of another type or do not fit each other; OSError for those that cannot be read.

    >>> x_train, y_train, x_test, y_test = mnist("data/mnist")                                                 # doctest: +SKIP
    """
    folder = Path(path)
    names = os.listdir(folder)                          # OSError: no such folder, or it may not be read
    found = {part: next((folder / n for n in _spellings(name) if n in names), None) for part, name in PARTS.items()}
    missing = [PARTS[part] for part, file in found.items() if file is None]
    if missing:
        raise GraphError(f"{folder} lacks {', '.join(missing)}", at=folder, why="MNIST's four IDX files go by these names, with or without .gz",
                         fix="the folder that holds them")
    files = {part: file for part, file in found.items() if file is not None}
    arrays = {part: read_idx(file) for part, file in files.items()}
    for part, a in arrays.items():
        rank = 3 if part.startswith("x") else 1
        if a.dtype != np.uint8 or a.ndim != rank:
            raise GraphError(f"{files[part].name} holds {a.dtype}[{','.join(map(str, a.shape))}]", at=files[part],
                             why=f"{'images are uint8 of 3 axes' if rank == 3 else 'labels are uint8 of 1 axis'}")
        if a.size == 0:
            raise GraphError(f"{files[part].name} is empty: {a.shape}", at=files[part])
    for images, labels in (("x_train", "y_train"), ("x_test", "y_test")):
        n, m = len(arrays[images]), len(arrays[labels])
        if n != m:
            raise GraphError(f"{files[images].name} has {n} images, {files[labels].name} {m} labels", at=folder, why="label i belongs to image i")
    a, b = arrays["x_train"].shape[1:], arrays["x_test"].shape[1:]
    if a != b:
        raise GraphError(f"the images to train on are {a[0]}×{a[1]}, those to test with {b[0]}×{b[1]}", at=folder)
    return Digits(_scaled(arrays["x_train"]), arrays["y_train"].astype(np.int64), _scaled(arrays["x_test"]), arrays["y_test"].astype(np.int64))


def _scaled(pixels: Array) -> Array:
    out: Array = np.divide(pixels, np.float32(255), dtype=np.float32)
    return out


def _spellings(name: str) -> list[str]:
    dotted = name.replace("-idx", ".idx")
    return [name, f"{name}.gz", dotted, f"{dotted}.gz"]


def write_idx(array: Array) -> bytes:
    """An array as the bytes of an IDX file. Raises GraphError for element types and sizes that the format does not have."""
    array = np.asarray(array)
    codes = {np.dtype(d).newbyteorder("="): code for code, d in DTYPES.items()}
    code = codes.get(array.dtype.newbyteorder("="))
    if code is None or not 1 <= array.ndim <= 32 or any(n >= 2**32 for n in array.shape):
        raise GraphError(f"IDX has no {array.dtype}[{','.join(map(str, array.shape))}]", why=f"its element types are {', '.join(map(str, codes))}")
    out = io.BytesIO()
    out.write(bytes([0, 0, code, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape))
    out.write(array.astype(DTYPES[code], copy=False).tobytes())
    return out.getvalue()
