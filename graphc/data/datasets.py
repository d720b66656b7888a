"""Things that can be indexed by a whole number: arrays side by side, and the digits that come with graphc."""
from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.errors import GraphError

Array = NDArray[Any]


class TensorDataset:
    """Arrays whose first axes run together: item i is the tuple of their i-th entries.

    `i` may be a whole number, a slice or an index array. Raises GraphError where the arrays differ in length or one has no axis.

    >>> x, y = TensorDataset(np.arange(6.0).reshape(3, 2), np.arange(3))[1]
    >>> x, int(y)
    (array([2., 3.]), 1)
    """

    def __init__(self, *arrays: ArrayLike) -> None:
        if not arrays:
            raise GraphError("TensorDataset needs at least one array", fix="TensorDataset(x, y)")
        self.arrays: tuple[Array, ...] = tuple(map(np.asarray, arrays))
        if any(a.ndim == 0 for a in self.arrays):
            raise GraphError("TensorDataset needs arrays with at least one axis, got a number", fix="np.atleast_1d(value)")
        lengths = [len(a) for a in self.arrays]
        if len(set(lengths)) > 1:
            raise GraphError(f"TensorDataset needs arrays of equal length, got {', '.join(map(str, lengths))}",
                             why="entry i of each array belongs to sample i", fix="cut them to the same length, or look for lost rows")

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, i: Any) -> tuple[Array, ...]:
        return tuple(a[i] for a in self.arrays)


class Digits(NamedTuple):
    """What `digits` returns."""

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array


def digits() -> Digits:
    """The 1,797 handwritten digits of 8×8 grey values from UCI: `(x_train, y_train, x_test, y_test)`.

    x is f32 of shape (n, 8, 8) in 0..1 (the sixteenths 0/16..16/16), y is i64 in 0..9; 1,437 images to train on and 360 to test with. The file
    holds the images in a fixed random order, and the first 1,437 are the training part, so the split is the same everywhere. (Both parts
    hold digits of the same 13 writers; a test on new writers would be harder.)

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (CC BY 4.0; see digits.LICENSE).

    >>> digits().x_train.shape
    (1437, 8, 8)
    """
    with np.load(Path(__file__).parent / "digits.npz", allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    x, y = images.astype(np.float32) / np.float32(16), labels.astype(np.int64)
    return Digits(x[:1437], y[:1437], x[1437:], y[1437:])
