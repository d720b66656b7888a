"""Damaged IDX, .npy and .npz files: a GraphError or the array, never another error, a crash, or more memory than the file could fill."""
from __future__ import annotations

import gzip
import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graphc.core.errors import GraphError
from graphc.data import load_npy, load_npz, read_idx, write_idx

from .damage import damaged

EACH, QUICK = 2_500, 375
X = np.arange(11 * 4 * 3).reshape(11, 4, 3)


def npz(save: Callable[..., None]) -> bytes:
    out = io.BytesIO()
    save(out, x=X.astype(np.float32), y=X[0], z=np.asfortranarray(X[:, 0] > 5), empty=np.zeros((0, 3)))
    return out.getvalue()


def npy(a: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, a)
    return out.getvalue()


FILES: dict[str, tuple[list[bytes], Callable[[Path, int], object]]] = {
    "idx": ([write_idx(X.astype(np.uint8)), write_idx(X.astype(np.float32)), gzip.compress(write_idx(X.astype(np.int32)), mtime=0)],
            lambda path, k: read_idx(path).sum()),
    "npz": ([npz(np.savez), npz(np.savez_compressed)], lambda path, k: [a.sum() for a in load_npz(path, mmap=bool(k & 1)).values()]),
    "npy": ([npy(X), npy(np.float16(X.T))], lambda path, k: load_npy(path, mmap=bool(k & 1)).sum()),
}


def outcomes(kind: str, seeds: range, path: Path) -> dict[bool, int]:
    """How many were refused (False) and read (True)."""
    originals, read = FILES[kind]
    found = {False: 0, True: 0}
    for seed in seeds:
        path.write_bytes(damaged(originals[seed % len(originals)], seed))
        try:
            with np.errstate(all="ignore"):
                read(path, seed)
            found[True] += 1
        except GraphError:
            found[False] += 1
        path.unlink()                                   # a new file each time: one that is mapped must not be shortened
    return found


@pytest.mark.parametrize("kind", FILES)
def test_damage_is_a_typed_error(kind: str, tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        found = outcomes(kind, range(QUICK), tmp_path / "file.bin")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found[False] > QUICK // 3
    assert peak < 32 << 20


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", FILES)
def test_damage_is_a_typed_error_at_length(kind: str, tmp_path: Path) -> None:
    outcomes(kind, range(QUICK, EACH), tmp_path / "file.bin")


def test_an_undamaged_file_is_read(tmp_path: Path) -> None:
    for originals, read in FILES.values():
        for k, data in enumerate(originals):
            (tmp_path / str(k)).write_bytes(data)
            read(tmp_path / str(k), 0)
            read(tmp_path / str(k), 1)
