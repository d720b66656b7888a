"""Digits and loader: shapes, splits, orders, and the words of the errors."""
from __future__ import annotations

import hashlib

import numpy as np
import pytest

from graphc.core.errors import GraphError
from graphc.data import DataLoader, TensorDataset, digits


def test_the_digits_are_the_ones_that_were_vendored() -> None:
    x_train, y_train, x_test, y_test = digits()
    assert (x_train.shape, y_train.shape, x_test.shape, y_test.shape) == ((1437, 8, 8), (1437,), (360, 8, 8), (360,))
    assert x_train.dtype == x_test.dtype == np.float32
    assert y_train.dtype == y_test.dtype == np.int64
    x, y = np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test])
    assert x.min() == 0
    assert x.max() == 1
    assert np.array_equal(x * 16, np.round(x * 16))
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]           # as UCI counts its test part
    pixels = (x * 16).astype(np.uint8).tobytes() + y.astype(np.uint8).tobytes()
    assert hashlib.sha256(pixels).hexdigest() == "0113aa32bd8e58750a54bcdae2a9bf5194cfb4bae3ad71eb5b1be3553b9c0c54"


def test_a_nearest_neighbour_reads_them() -> None:
    """Real digits in the right rows: 1-NN on pixels is right on 98.9 %."""
    x_train, y_train, x_test, y_test = digits()
    a, b = x_train.reshape(len(x_train), 64), x_test.reshape(len(x_test), 64)
    nearest = ((b ** 2).sum(1)[:, None] - 2 * b @ a.T + (a ** 2).sum(1)).argmin(1)
    assert (y_train[nearest] == y_test).mean() > 0.98


def test_batches_cover_everything_once_with_a_short_last_one() -> None:
    x = np.arange(23 * 3, dtype=np.float32).reshape(23, 3)
    loader = DataLoader((x, np.arange(23)), batch_size=5, shuffle=True, seed=3)
    batches = list(loader)
    assert len(loader) == len(batches) == 5
    assert [len(y) for _, y in batches] == [5, 5, 5, 5, 3]
    assert sorted(int(i) for _, y in batches for i in y) == list(range(23))
    for bx, by in batches:
        assert bx.flags.c_contiguous
        assert by.flags.c_contiguous
        assert np.array_equal(bx, x[by])


def test_drop_last() -> None:
    loader = DataLoader(np.arange(23), batch_size=5, drop_last=True)
    assert len(loader) == 4
    assert [len(b) for (b,) in loader] == [5, 5, 5, 5]
    assert list(DataLoader(np.arange(3), batch_size=5, drop_last=True)) == []


def test_without_shuffle_the_order_is_the_data_s() -> None:
    assert np.concatenate([b for (b,) in DataLoader(np.arange(7), batch_size=3)]).tolist() == list(range(7))


def orders(seed: int, epochs: int) -> list[list[int]]:
    loader = DataLoader(np.arange(11), batch_size=4, shuffle=True, seed=seed)
    return [[int(i) for (b,) in loader for i in b] for _ in range(epochs)]


def test_order_is_a_function_of_seed_and_epoch() -> None:
    assert orders(0, 3) == orders(0, 3)
    assert orders(0, 1) != orders(1, 1)
    first, second, third = orders(0, 3)
    assert first != second != third
    loader = DataLoader(np.arange(11), batch_size=4, shuffle=True)
    loader.set_epoch(2)
    assert [int(i) for (b,) in loader for i in b] == third
    assert loader.epoch == 3


def test_order_is_the_same_on_every_machine() -> None:
    assert orders(0, 1) == [[0, 2, 9, 1, 8, 5, 4, 3, 10, 6, 7]]


def test_an_abandoned_epoch_counts() -> None:
    loader = DataLoader(np.arange(11), batch_size=4, shuffle=True)
    next(iter(loader))
    assert [int(i) for (b,) in loader for i in b] == orders(0, 2)[1]


class Squares:
    def __len__(self) -> int:
        return 5

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return np.full(2, i * i, np.float32), i


def test_any_data_set_is_stacked() -> None:
    (x, y), (x2, y2) = DataLoader(Squares(), batch_size=3)
    assert x.tolist() == [[0, 0], [1, 1], [4, 4]]
    assert y.tolist() == [0, 1, 2]
    assert x2.dtype == np.float32
    assert y2.tolist() == [3, 4]


@pytest.mark.parametrize(("make", "words"), [
    (lambda: TensorDataset(np.zeros(3), np.zeros(4)), "equal length, got 3, 4"),
    (lambda: DataLoader((np.zeros(3), np.zeros(4))), "equal length, got 3, 4"),
    (lambda: TensorDataset(), "at least one array"),
    (lambda: TensorDataset(1.0), "at least one axis"),
    (lambda: DataLoader(np.zeros(3), batch_size=0), "batch_size must be a whole number >= 1, got 0"),
    (lambda: DataLoader(np.zeros(3), batch_size=True), "batch_size must be a whole number >= 1, got True"),
    (lambda: DataLoader(np.zeros(3), batch_size=2.5), "batch_size must be a whole number >= 1, got 2.5"),
    (lambda: DataLoader(np.zeros(3), seed=-1), "seed must be a whole number >= 0, got -1"),
    (lambda: DataLoader(42), "cannot read a int"),
    (lambda: DataLoader(np.zeros(3)).set_epoch(-1), "an epoch must be a whole number >= 0, got -1"),
])
def test_errors(make: object, words: str) -> None:
    with pytest.raises(GraphError, match=words):
        make()


def test_unequal_lengths_say_how_to_mend_it() -> None:
    with pytest.raises(GraphError) as e:
        DataLoader((np.zeros(3), np.zeros(4)))
    assert e.value.fix
    assert e.value.why
