"""docs/ops.md is what docs/make_ops.py makes of the registry, and the page says what is so."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from graphc.ir.op import REGISTRY

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_is_current(docs_script: Callable[[str], ModuleType]) -> None:
    assert (DOCS / "ops.md").read_text(encoding="utf-8") == docs_script("make_ops").page(), "python docs/make_ops.py"


def test_each_op_has_one_row() -> None:
    rows = [line for line in (DOCS / "ops.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert sorted(line.split("`")[1] for line in rows) == sorted(REGISTRY)
    assert {line.replace("\\|", "").count("|") for line in rows} == {7}


def test_dtypes_are_the_type_rules(docs_script: Callable[[str], ModuleType]) -> None:
    make = docs_script("make_ops")
    dtypes = {name: make.dtypes(REGISTRY[name]) for name in ("exp", "add", "shl", "and", "eq", "where", "random_bits", "scatter_add", "scan")}
    assert dtypes == {"exp": "floats", "add": "numbers", "shl": "integers", "and": "integers, bool", "eq": "floats, integers, bool", "where": "any",
                      "random_bits": "u32", "scatter_add": "numbers", "scan": "the body's"}
