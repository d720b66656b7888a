"""docs/requirements.md is what its checks say on both backends; and a check can fail."""
from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def made(docs_script: Callable[[str], ModuleType]) -> ModuleType:
    before = list(sys.path)
    try:
        return docs_script("make_requirements")
    finally:
        sys.path[:] = before


def test_the_page_is_current(made: ModuleType) -> None:
    """And no row fails but those whose reason is known."""
    found = made.results()
    wrong = {r.name: w for r, w in found if any(w.values()) and not r.reason}
    assert not wrong
    assert (DOCS / "requirements.md").read_text(encoding="utf-8") == made.page(found), "python docs/make_requirements.py"


def test_every_tutorial_row_is_there(made: ModuleType) -> None:
    numbers = {int(r.name.split()[0]) for r in made.ROWS if r.section.startswith("Autograd")}
    assert numbers == set(range(23, 39))
    assert len({r.name for r in made.ROWS}) == len(made.ROWS)


def test_a_check_that_fails_is_seen(made: ModuleType) -> None:
    def wrong(compiled: Any) -> None:
        assert compiled(lambda x: x + 1)(1.0) == 3.0

    row = made.Row("Section", "one and one", wrong, "")
    assert made.outcome(wrong, "llvm").startswith("AssertionError")
    page = made.page([(row, {"numpy": None, "llvm": "AssertionError"})])
    assert "| one and one | holds | **fails** |" in page
    assert "0 of 1 rows hold on both." in page
    assert "assert compiled(lambda x: x + 1)(1.0) == 3.0" in page
