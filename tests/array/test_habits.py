"""What users of NumPy do by habit: in-place operators, formats, NumPy's own functions, dtypes as NumPy's, bools as indices; and the words where it is wrong."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx

I, F, M = gx.asarray([1, 2, 3]), gx.asarray([1.0, 2.0, 3.0]), gx.ones((2, 3))


def test_in_place_operators_keep_shape_and_dtype() -> None:
    x = gx.asarray([5, 6, 7])
    before = x
    x //= 2
    x **= 2
    x %= 5
    x |= 8
    x &= 13
    x ^= 1
    x <<= 2
    x >>= 1
    want = ((np.array([5, 6, 7]) // 2) ** 2 % 5 | 8) & 13 ^ 1
    assert x.tolist() == (want << 2 >> 1).tolist()
    assert before.tolist() == [5, 6, 7]
    y = F
    y += np.ones(3)                                     # f64 beside f32
    assert y.dtype is gx.float32
    m = gx.eye(2)
    m @= gx.asarray([[0.0, 1.0], [2.0, 0.0]])
    assert m.tolist() == [[0.0, 1.0], [2.0, 0.0]]


def test_in_place_operators_write_what_has_memory() -> None:
    w = gx.tensor([3.0, 5.0], requires_grad=True)
    same = w
    with gx.no_grad():
        w **= 2
        w //= 2
    assert same.tolist() == w.tolist() == [4.0, 12.0]
    assert w.is_leaf


@pytest.mark.parametrize(("f", "words"), [
    (lambda: F.__iadd__(M), r"an in-place operation on f32\[3\] gave f32\[2,3\]"),
    (lambda: I.__itruediv__(2), r"an in-place operation on i64\[3\] gave f32\[3\]"),
    (lambda: (I > 1).__iadd__(2), r"an in-place operation on bool\[3\] gave i64\[3\]"),
    (lambda: gx.sum(M, axis=1.0), "reduce_sum: an axis is an int, got 1.0"),
    (lambda: gx.zeros((2.5, 1)), "a size is an int, got 2.5"),
    (lambda: gx.full(2, 1j), "1j is a complex number"),
    (lambda: gx.arange(0, 3, 0), "arange from 0 to 3 in steps of 0"),
    (lambda: gx.linspace(0, 1, -1), "a size is >= 0"),
    (lambda: gx.tensordot(M, M, axes=-1), r"tensordot over axes -1 of f32\[2,3\] and f32\[2,3\]"),
    (lambda: gx.tensordot(M, M, axes=3), "tensordot over axes 3"),
    (lambda: gx.tensordot(M, M, axes=((0, 1), (0,))), "tensordot over axes"),
    (lambda: gx.moveaxis(M, (0, 1), (0,)), r"moveaxis of axes \(0, 1\)"),
    (lambda: gx.moveaxis(M, (0, 1), (1, -1)), "moveaxis of axes"),
    (lambda: gx.diff(F, n=-1), "diff -1 times over"),
    (lambda: gx.einsum(M, [0, 1]), "einsum takes a string of letters first, got a Tensor"),
    (lambda: gx.from_dlpack(np.ones(2), copy=False), "without a copy"),
    (lambda: gx.compile(lambda x, c: x[c])(np.ones(3), np.array(True)), r"indexing with the mask bool\[\] gives a size that depends on data"),
    (lambda: gx.compile(lambda x: np.sum(x))(np.ones(3)), "needed as an argument of np.sum"),
])
def test_words(f: Callable[[], Any], words: str) -> None:
    with pytest.raises(gx.GraphError, match=words):
        f()


def test_a_capsule_is_a_copy() -> None:
    with pytest.raises(BufferError, match="a copy is not wanted"):
        F.__dlpack__(copy=False)
    with pytest.raises(BufferError, match="in the memory of the CPU"):
        F.__dlpack__(dl_device=(2, 0))
    assert np.from_dlpack(F).tolist() == [1.0, 2.0, 3.0]


def test_a_bool_as_an_index_adds_an_axis() -> None:
    for yes, no in ((True, False), (np.bool_(True), np.bool_(False)), (gx.asarray(True), gx.asarray(False))):
        assert M[yes].shape == (1, 2, 3)
        assert M[no].shape == (0, 2, 3)
        assert F.at[yes].add(1.0).tolist() == [2.0, 3.0, 4.0]
        assert F.at[no].set(0.0).tolist() == F.tolist()
    assert gx.asarray(4)[True].tolist() == [4]
    f = gx.compile(lambda x, c: x.at[c].set(-x))        # where it writes, it changes no size
    assert f(np.ones(2), np.array(True)).tolist() == [-1.0, -1.0]
    assert f(np.ones(2), np.array(False)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("how", [lambda f: f, gx.compile], ids=["eager", "compiled"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_an_index_may_be_of_a_dtype_that_does_not_hold_the_size(dtype: Any, how: Any) -> None:
    n = 300 if np.iinfo(dtype).bits == 8 else 70_000
    x, i = np.arange(n), np.array([3, -1 if np.iinfo(dtype).min else 0, 100], dtype)
    for f in (lambda x, i: x[i], lambda x, i: gx.take(x, i, axis=0), lambda x, i: gx.take_along_axis(x, i, axis=0)):
        assert how(f)(gx.asarray(x), gx.asarray(i)).tolist() == x[i].tolist()
    assert how(lambda x, i: x.at[i].set(-7))(gx.asarray(x), gx.asarray(i))[i].tolist() == [-7] * 3


def test_clip_of_integers() -> None:
    assert gx.clip(I, 1.5, gx.asarray(2.5)).tolist() == [1.5, 2.0, 2.5]
    assert gx.clip(F, np.float64(1.5), gx.asarray(np.full(3, 2.5))).dtype is gx.float32
    assert gx.clip(gx.asarray(np.array([1, 9], np.int8)), 2, 5).dtype is gx.int8


def test_variance_over_no_more_than_its_correction() -> None:
    assert gx.var(F, correction=4).item() == float("inf")
    assert np.isnan(gx.var(gx.ones(3), correction=4).item())


def test_differences_from_a_number() -> None:
    assert gx.diff(I, prepend=0, append=gx.asarray(10)).tolist() == [1, 1, 1, 7]
    assert gx.diff(M, prepend=3.0, axis=0).tolist() == [[-2.0] * 3, [0.0] * 3]


def test_formats_numpy_functions_and_dtypes() -> None:
    loss = gx.sum(F)
    assert f"{loss:.2f} {loss:>8.1e} {I[1]:03d} {I}" == "6.00  6.0e+00 002 tensor([1, 2, 3])"
    assert np.sum(F) == 6
    assert np.mean(F, axis=0) == 2
    assert np.concatenate([F, np.zeros(1)]).tolist() == [1.0, 2.0, 3.0, 0.0]
    assert np.zeros(2, gx.float32).dtype == np.float32
    assert np.asarray([1, 2], dtype=F.dtype).dtype == np.float32
