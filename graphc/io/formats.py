"""Named arrays and one text in a file: safetensors (the extra `io`) or NumPy's .npz (needs nothing). Neither can run anything when it is read.

This knows bytes, names and element types; what they mean is `checkpoint`'s. Every array has a checksum in the text, so a file whose numbers
were damaged is refused as a whole. Source: https://huggingface.co/docs/safetensors.
"""
from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core import half
from ..core.dtype import BFLOAT16, from_numpy
from ..core.errors import GraphError
from .atomic import write_atomic

Array = np.ndarray[Any, Any]
SUFFIXES = (".safetensors", ".npz")
NOTE = "graphc"                                         # the entry of the metadata that is ours
_NPZ_NOTE = "@graphc"                                   # the same in an .npz: an array of its bytes
DTYPES = {"BOOL": "?", "I8": "i1", "U8": "u1", "I16": "i2", "U16": "u2", "I32": "i4", "U32": "u4", "I64": "i8", "U64": "u8", "F16": "f2",
          "BF16": BFLOAT16, "F32": "f4", "F64": "f8"}


def safetensors() -> Any:
    """The library, or one sentence that says how to get it."""
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError('files named .safetensors need the extra `io`: pip install "graphc[io]". A path that ends in .npz needs nothing') from None
    return safetensors


def kind(path: str | os.PathLike[str]) -> str:
    """The format that a path's suffix names."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise GraphError(f"{Path(path).name!r} does not say its format", why=f"the suffix is {suffix!r}", fix=" or ".join(SUFFIXES))
    return suffix


def write(path: str | os.PathLike[str], arrays: Mapping[str, Array], note: Mapping[str, Any]) -> Path:
    """Write arrays and a note (JSON), all or nothing."""
    suffix = kind(path)
    library = safetensors() if suffix == ".safetensors" else None
    arrays = {name: half.own(np.asarray(a, order="C")) for name, a in arrays.items()}
    bf16 = [name for name, a in arrays.items() if a.dtype == BFLOAT16]
    if bf16 and library is None:
        raise GraphError(f"{Path(path).name} cannot hold {bf16[0]!r}, which is bf16", why="NumPy's .npz has no bfloat16",
                         fix="a path that ends in .safetensors, or .float() of it")
    text = sealed({**note, "crc32": {name: checksum(a) for name, a in arrays.items()}})
    if library is not None:
        data = library.numpy.save({n: a.view(np.uint16) if a.dtype == BFLOAT16 else a for n, a in arrays.items()}, {NOTE: text})
        return write_atomic(path, _called_bf16(data, bf16) if bf16 else data)
    out = io.BytesIO()
    np.savez(out, **{_NPZ_NOTE: np.frombuffer(text.encode(), np.uint8), **arrays})      # type: ignore[arg-type]
    return write_atomic(path, out.getbuffer())


def _called_bf16(data: bytes, names: Sequence[str]) -> bytes:
    """A safetensors file in which these arrays of u16 are what they are. (The library's NumPy side writes what NumPy has.)"""
    header, body = _header(data[:8], data[8:]), data[8 + int.from_bytes(data[:8], "little"):]
    for name in names:
        header[name]["dtype"] = "BF16"
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)                     # the arrays stay aligned
    return len(text).to_bytes(8, "little") + text + body


def _header(length: bytes, rest: bytes) -> dict[str, Any]:
    """Of a safetensors file: its arrays' types, shapes and places, by name."""
    header: dict[str, Any] = json.loads(rest[:int.from_bytes(length, "little")])
    return header


def sealed(note: Mapping[str, Any]) -> str:
    """A note as JSON, behind its own checksum."""
    text = json.dumps(note)
    return f"{zlib.crc32(text.encode()):08x} {text}"


def checksum(a: Array) -> int:
    return zlib.crc32(a.reshape(-1).view(np.uint8).data)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, Any] | None]:
    """The arrays of a file and its note (None: it is not graphc's). Raises GraphError for a damaged file, OSError for one that cannot be read."""
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise GraphError(f"{path} is no ordinary file")
    arrays, text = _read_safetensors(path) if kind(path) == ".safetensors" else _read_npz(path)
    for name, a in arrays.items():
        if from_numpy(a.dtype) is None:
            raise GraphError(f"{name[:200]!r} in {path.name} is {a.dtype}, which graphc has not", at=path)
    if text is None:
        return arrays, None
    try:
        seal, _, text = text.partition(" ")
        if seal != f"{zlib.crc32(text.encode('utf-8', 'surrogatepass')):08x}":
            raise ValueError("its checksum differs")
        note = json.loads(text)
        sums = note["crc32"]
        if not isinstance(sums, dict):
            raise ValueError("its checksums are no table")
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise GraphError(f"{path.name} is damaged", at=path, why=f"its metadata cannot be read ({str(e)[:200]})") from None
    wrong = [*(f"{n} is missing" for n in sums if n not in arrays), *(f"{n} is not in the list" for n in arrays if n not in sums),
             *(f"{n} has another checksum" for n, a in arrays.items() if n in sums and checksum(a) != sums[n])]
    if wrong:
        raise GraphError(f"{path.name} is damaged", at=path, why="; ".join(w[:200] for w in wrong[:20]), fix="an older copy")
    return {name: arrays[name] for name in sums}, note      # in the order in which they were saved


def _read_safetensors(path: Path) -> tuple[dict[str, Array], str | None]:
    library = safetensors()
    with open(path, "rb"):                              # OSError in Python's words where it cannot be read
        pass
    arrays: dict[str, Array] = {}
    try:
        with library.safe_open(path, framework="numpy") as file:
            for name in file.keys():                    # noqa: SIM118  it is no dict
                dtype = file.get_slice(name).get_dtype()
                if dtype not in DTYPES:
                    raise GraphError(f"{name[:200]!r} in {path.name} is {dtype}, which graphc has not", at=path)
                arrays[name] = _read_bf16(path, name) if dtype == "BF16" else file.get_tensor(name)
            return arrays, (file.metadata() or {}).get(NOTE)
    except (library.SafetensorError, ValueError, TypeError, OverflowError, MemoryError, OSError) as e:
        raise GraphError(f"{path.name} is a damaged safetensors file", at=path, why=str(e).split("\n")[0][:300], fix="an older copy") from None


def _read_bf16(path: Path, name: str) -> Array:
    """An array that the library has found to be there, whole and of the right size, and cannot give to NumPy."""
    with open(path, "rb") as file:
        length = file.read(8)
        header = _header(length, file.read(int.from_bytes(length, "little")))
        start, end = header[name]["data_offsets"]
        file.seek(start, os.SEEK_CUR)
        return np.asarray(np.frombuffer(bytearray(file.read(end - start)), BFLOAT16).reshape(header[name]["shape"]))


def _read_npz(path: Path) -> tuple[dict[str, Array], str | None]:
    from ..data import load_npz

    arrays = load_npz(path, mmap=False)
    note = arrays.pop(_NPZ_NOTE, None)
    if note is None:
        return arrays, None
    if note.dtype != np.uint8:
        raise GraphError(f"{path.name} is damaged", at=path, why="its metadata is no text")
    return arrays, note.tobytes().decode("utf-8", "replace")
