"""Promotion against PyTorch's lattice, recorded by tests/record/record_promotion.py; and what holds where torch has no answer."""
from __future__ import annotations

from pathlib import Path

import pytest

import graphc as gx
from graphc.core.dtype import ALL, BY_NAME, DType, i8, i16, i32, i64, promote, promote_scalar, u8, u16, u32, u64

ROWS = [row.split() for row in (Path(__file__).parents[1] / "golden" / "core" / "promotion.txt").read_text().splitlines()]
NUMBERS = {"True": True, "1": 1, "1.0": 1.0}


def known(*names: str) -> bool:
    return all(n in BY_NAME or n in NUMBERS or n == "-" for n in names)


def test_the_record_covers_every_pair() -> None:
    pairs = {(a, b) for a, b, _ in ROWS}
    assert {(a.name, b) for a in ALL for b in (*(d.name for d in ALL), *NUMBERS)} <= pairs


@pytest.mark.parametrize(("a", "b", "want"), [r for r in ROWS if known(*r) and r[2] != "-"], ids=lambda x: x)
def test_as_torch(a: str, b: str, want: str) -> None:
    """The rule, and what an operator makes of it, on either side."""
    x = gx.ones(2, dtype=a)
    if b in NUMBERS:
        assert promote_scalar(BY_NAME[a], NUMBERS[b]) is BY_NAME[want]
        y = NUMBERS[b]
    else:
        assert promote(BY_NAME[a], BY_NAME[b]) is BY_NAME[want]
        y = gx.ones(2, dtype=b)
    yes = gx.tensor([True, False])
    for out in (gx.where(yes, x, y), gx.where(yes, y, x)):
        assert out.dtype is BY_NAME[want]
    if not BY_NAME[want].is_half:                       # where nothing is computed
        assert gx.maximum(x, y).dtype is gx.maximum(y, x).dtype is BY_NAME[want]


@pytest.mark.parametrize(("a", "b", "want"), [(u16, i8, i32), (u16, i16, i32), (u16, i32, i32), (u32, i8, i64), (u32, i32, i64), (u64, i8, i64),
                                              (u64, i64, i64), (u8, u16, u16), (u32, u64, u64)], ids=str)
def test_unsigned_where_torch_has_no_answer(a: DType, b: DType, want: DType) -> None:
    """The signed type that holds both, at most i64."""
    assert [b.name, a.name, "-"] in ROWS
    assert promote(a, b) is promote(b, a) is want


@pytest.mark.parametrize("a", ALL, ids=str)
def test_a_lattice(a: DType) -> None:
    """In which order many dtypes meet makes no difference."""
    assert promote(a, a) is a
    for b in ALL:
        assert promote(a, b) is promote(b, a)
        for c in ALL:
            assert promote(promote(a, b), c) is promote(a, promote(b, c))
