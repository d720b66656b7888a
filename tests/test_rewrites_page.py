"""docs/rewrites.md is what docs/make_rewrites.py makes of the rules."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from graphc.transform.fast import FAST
from graphc.transform.products import COMMENTS
from graphc.transform.simplify import EXACT
from graphc.transform.stability import STABLE

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_is_current(docs_script: Callable[[str], ModuleType]) -> None:
    assert (DOCS / "rewrites.md").read_text(encoding="utf-8") == docs_script("make_rewrites").page(), "python docs/make_rewrites.py"


def test_every_rule_is_there() -> None:
    rows = [line for line in (DOCS / "rewrites.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert len(rows) == len(STABLE) + len(EXACT) + len(FAST) + 5 + len(COMMENTS)
