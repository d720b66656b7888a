"""IDX, MNIST's folder, .npy, .npz and CSV: values, what is mapped, and the words of the errors."""
from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from graphc.core.errors import GraphError
from graphc.data import DataLoader, load_csv, load_npy, load_npz, mnist, read_idx, write_idx

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (7, 5, 4)).astype(np.uint8), np.arange(7, dtype=np.uint8)


def folder(path: Path, compress: bool = False, dots: bool = False, **other: np.ndarray | bytes) -> Path:
    """Four files in MNIST's names; `other` replaces the arrays of some of them."""
    parts: dict[str, np.ndarray | bytes] = {"train-images-idx3": IMAGES, "train-labels-idx1": LABELS, "t10k-images-idx3": IMAGES[:3],
                                            "t10k-labels-idx1": LABELS[:3]}
    for name, a in {**parts, **{k.replace("_", "-"): v for k, v in other.items()}}.items():
        data = a if isinstance(a, bytes) else write_idx(a)
        name = name.replace("-idx", ".idx") if dots else name
        (path / f"{name}-ubyte{'.gz' if compress else ''}").write_bytes(gzip.compress(data) if compress else data)
    return path


# ---- IDX -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("shape", [(3,), (0,), (2, 3), (2, 0, 4), (2, 1, 3, 2)])
def test_idx_round_trip(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    a = (RNG.normal(size=shape) * 50).astype(dtype)
    for k, data in enumerate((write_idx(a), gzip.compress(write_idx(a)))):
        (tmp_path / f"{k}").write_bytes(data)
        b = read_idx(tmp_path / f"{k}")
        assert (b.shape, b.dtype) == (a.shape, a.dtype)
        assert b.dtype.isnative
        assert np.array_equal(a, b)


def test_idx_by_hand(tmp_path: Path) -> None:
    """The format as its authors describe it, not as `write_idx` writes it."""
    path = tmp_path / "x"
    path.write_bytes(bytes([0, 0, 0x0B, 2]) + b"\0\0\0\x02" + b"\0\0\0\x01" + b"\x01\x02\xff\xfe")
    assert read_idx(path).tolist() == [[258], [-2]]


@pytest.mark.parametrize(("data", "words"), [
    (b"", "4 bytes and more, the file 0"),
    (b"\1\0\x08\1\0\0\0\1a", "begins with the bytes 01 00"),
    (b"\0\0\x0a\1\0\0\0\1a", "element type is 0x0a; there are 0x08"),
    (b"\0\0\x08\0", "says that it has 0 axes"),
    (b"\0\0\x08\x21" + bytes(132), "says that it has 33 axes"),
    (b"\0\0\x08\2\0\0\0\1", "header of 2 axes has 12 bytes, the file 8"),
    (b"\0\0\x08\1\0\0\0\3ab", r"uint8\[3\] needs 3 bytes after the header, the file has 2"),
    (b"\0\0\x08\1\0\0\0\1ab", r"uint8\[1\] needs 1 bytes after the header, the file has 2"),
    (b"\0\0\x0d\3" + b"\xff" * 12 + b"ab", r"float32\[4294967295,4294967295,4294967295\] needs 316,912,649,[0-9,]+ bytes"),
    (gzip.compress(b"\0\0\x08\1\0\0\0\3ab", mtime=0), "needs 3 bytes after the header, the file has 2"),
    (gzip.compress(b"\0\0\x08\1\0\0\0\1ab", mtime=0), "needs 1 bytes after the header, the file has more"),
    (gzip.compress(b"\0\0\x08\1\xff\0\0\0ab", mtime=0), "no more than"),
    (gzip.compress(b"\0\0\x08\1\0\0\0\2ab", mtime=0)[:-9], "damaged gzip"),
])
def test_every_field_of_an_idx_header_is_checked(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x-idx"
    path.write_bytes(data)
    with pytest.raises(GraphError, match="x-idx") as e:
        read_idx(path)
    assert re.search(words, str(e.value)), str(e.value)


def test_idx_has_no_int64() -> None:
    with pytest.raises(GraphError, match=r"IDX has no int64\[2\]"):
        write_idx(np.zeros(2, np.int64))


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dots", [False, True])
def test_mnist(compress: bool, dots: bool, tmp_path: Path) -> None:
    x_train, y_train, x_test, y_test = mnist(folder(tmp_path, compress, dots))
    assert (x_train.shape, x_test.shape, x_train.dtype, y_train.dtype) == ((7, 5, 4), (3, 5, 4), np.float32, np.int64)
    assert np.array_equal(x_train, IMAGES / np.float32(255))
    assert x_train.max() <= 1
    assert y_train.tolist() == list(range(7))
    assert y_test.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("other", "words"), [
    ({"train_images_idx3": LABELS}, r"train-images-idx3-ubyte holds uint8\[7\]"),
    ({"t10k_labels_idx1": IMAGES}, r"t10k-labels-idx1-ubyte holds uint8\[7,5,4\]"),
    ({"train_images_idx3": IMAGES.astype(np.int32)}, r"holds int32\[7,5,4\]"),
    ({"train_labels_idx1": LABELS[:6]}, "has 7 images, train-labels-idx1-ubyte 6 labels"),
    ({"t10k_images_idx3": IMAGES[:3, :4]}, "to train on are 5×4, those to test with 4×4"),
    ({"t10k_images_idx3": IMAGES[:0], "t10k_labels_idx1": LABELS[:0]}, "is empty"),
    ({"train_images_idx3": b"<html>404 Not Found</html>"}, "no IDX file"),
])
def test_mnist_files_that_do_not_fit(other: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=words):
        mnist(folder(tmp_path, **other))


def test_mnist_says_which_files_are_missing(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(GraphError, match="lacks t10k-images-idx3-ubyte") as e:
        mnist(tmp_path)
    assert "with or without .gz" in str(e.value)
    with pytest.raises(FileNotFoundError):
        mnist(tmp_path / "nowhere")


# ---- npy, npz ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", [np.arange(12.0).reshape(3, 4), np.asfortranarray(np.arange(12).reshape(3, 4)), np.float32(2.5), np.zeros((0, 3)),
                               np.array([True, False]), np.arange(3, dtype=">i4"), np.float16([1, 2])], ids=str)
def test_npy_and_npz_round_trip(a: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", a)
    np.savez(tmp_path / "a.npz", a=a, b=np.arange(3))
    np.savez_compressed(tmp_path / "c.npz", a=a)
    for mmap in (False, True):
        for b in (load_npy(tmp_path / "a.npy", mmap=mmap), load_npz(tmp_path / "a.npz", mmap=mmap)["a"], load_npz(tmp_path / "c.npz", mmap=mmap)["a"]):
            assert (b.shape, b.dtype) == (np.shape(a), np.asarray(a).dtype)
            assert np.array_equal(a, b)


def test_what_is_mapped(tmp_path: Path) -> None:
    x = np.arange(24.0).reshape(6, 4)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    for a in (load_npy(tmp_path / "x.npy"), load_npz(tmp_path / "x.npz")["x"]):
        assert isinstance(a, np.memmap)
        assert not a.flags.writeable
        (batch,) = next(iter(DataLoader(a, batch_size=2)))
        assert type(batch) is np.ndarray
        assert batch.tolist() == x[:2].tolist()
    assert load_npy(tmp_path / "x.npy", mmap=False).flags.writeable


@pytest.mark.parametrize("a", [np.array([{}], object), np.array(["text"]), np.array([1j]), np.zeros(2, "M8[s]"), np.zeros(2, [("a", "f4")])],
                         ids=lambda a: a.dtype.kind)
def test_what_is_no_number_is_refused(a: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", a, allow_pickle=True)
    np.savez(tmp_path / "a.npz", a=a)
    for mmap in (False, True):
        with pytest.raises(GraphError, match="not numbers"):
            load_npy(tmp_path / "a.npy", mmap=mmap)
        with pytest.raises(GraphError, match="not numbers"):
            load_npz(tmp_path / "a.npz", mmap=mmap)


def test_a_damaged_member_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(100))
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    with pytest.raises(GraphError, match="damaged") as e:
        load_npz(path, mmap=False)
    assert "CRC" in str(e.value)


# ---- CSV -----------------------------------------------------------------------------------------------------------------------------


def csv(path: Path, text: str) -> Path:
    path = path / "t.csv"
    path.write_bytes(text.encode())
    return path


def test_csv_with_and_without_names(tmp_path: Path) -> None:
    values, names = load_csv(csv(tmp_path, "\ufeffa, b\r\n1,2.5\r\n\r\n-3,1e2\r\n"))
    assert (values.tolist(), values.dtype, names) == ([[1, 2.5], [-3, 100]], np.float32, ("a", "b"))
    values, names = load_csv(csv(tmp_path, "1,2\n3,4\n"))
    assert (values.tolist(), names) == ([[1, 2], [3, 4]], None)
    assert load_csv(csv(tmp_path, "1,2\n3,4\n"), header=True).names == ("1", "2")
    assert load_csv(csv(tmp_path, "a,b\n")).values.shape == (0, 2)
    assert load_csv(csv(tmp_path, 'a\n"1.5"\n'), delimiter=";").values.tolist() == [[1.5]]


def test_csv_of_integers_is_exact(tmp_path: Path) -> None:
    path = csv(tmp_path, f"{2**63 - 1};3.0\n{-2**63};1e3\n")
    assert load_csv(path, delimiter=";", dtype=np.int64).values.tolist() == [[2**63 - 1, 3], [-2**63, 1000]]
    with pytest.raises(GraphError, match=r"line 1 of t\.csv has 256 in column 1, which is no uint8"):
        load_csv(csv(tmp_path, "256\n"), dtype=np.uint8)


def test_csv_missing_values(tmp_path: Path) -> None:
    path = csv(tmp_path, "a,b\n1,\n,4\n")
    with pytest.raises(GraphError, match=r"line 2 of t.csv has an empty field in column 2 \(b\)") as e:
        load_csv(path)
    assert "missing=" in str(e.value)
    values = load_csv(path, missing=float("nan")).values
    assert np.isnan(values).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(("text", "words"), [
    ("", "is empty"), ("\n\n", "is empty"),
    ("1,2\n3\n", "line 2 of t.csv has 1 fields, the first has 2"),
    ("a,b\n1,x\n", r"line 2 of t.csv has 'x' in column 2 \(b\), which is no number"),
    ("a,b\n1,1_000\n", "'1_000' in column 2"),
    ('a,b\n1,"2\n', "cannot be read as CSV"),
    ("a\n" + "1" * 200_000, "cannot be read as CSV"),
    ("a;b\n1;2\n", "'1;2' in column 1"),
])
def test_csv_errors_name_line_and_column(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=words):
        load_csv(csv(tmp_path, text))


def test_csv_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\n1,\xff\xfe\n")
    with pytest.raises(GraphError, match="cannot be read as CSV"):
        load_csv(tmp_path / "t.csv")
    with pytest.raises(GraphError, match="a delimiter is one character"):
        load_csv(tmp_path / "t.csv", delimiter=", ")
