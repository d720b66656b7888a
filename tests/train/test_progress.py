"""Progress: tqdm where it is, plain lines where it is not, silence where nobody looks."""
from __future__ import annotations

import io
import sys

import pytest

from graphc.train import progress
from graphc.train.bar import PlainProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_silent_where_nobody_looks() -> None:
    out = io.StringIO()
    assert list(progress(range(3), file=out)) == [0, 1, 2]
    assert out.getvalue() == ""


@pytest.mark.parametrize("plain", [True, False])
def test_a_terminal_sees_it(plain: bool) -> None:
    if not plain:
        pytest.importorskip("tqdm")
    out = Terminal()
    bar = progress(range(3), desc="epoch 1", file=out, plain=plain)
    assert isinstance(bar, PlainProgress) == plain
    assert list(bar) == [0, 1, 2]
    assert "epoch 1" in out.getvalue()
    assert "\r" in out.getvalue()


def test_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert isinstance(progress(range(3), file=Terminal()), PlainProgress)


def test_a_plain_line() -> None:
    out = io.StringIO()
    bar = progress(total=4, desc="train", file=out, plain=True, disable=False, unit="step")
    for _ in range(3):
        bar.update()
    bar.set_postfix(loss=0.123456, epoch=2)
    bar.close()
    bar.close()
    line = out.getvalue()
    assert line.count("\n") == 1
    assert line.startswith("train: 3/4 steps  ")
    assert line.endswith("steps/s  loss 0.1235  epoch 2\n")


def test_it_counts_what_was_done_when_the_loop_is_left() -> None:
    out = io.StringIO()
    for k in progress(iter(range(9)), file=out, plain=True, disable=False):
        if k == 4:
            break
    assert out.getvalue().startswith("4 steps")


def test_errors_of_the_loop_come_through() -> None:
    def loop() -> None:
        for _ in progress(range(3), file=io.StringIO(), disable=False, plain=True):
            raise KeyError("x")

    with pytest.raises(KeyError):
        loop()
