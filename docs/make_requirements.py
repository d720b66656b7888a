"""Writes docs/requirements.md: what was promised, row by row, each with the check that shows it and whether it holds on both backends. A test runs them again.

    python docs/make_requirements.py
"""
from __future__ import annotations

import inspect
import sys
import textwrap
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

from requirement_rows import ROWS, Row, outcome  # noqa: E402

BACKENDS = ("numpy", "llvm")
HEAD = """# What works, row by row

Written by `docs/make_requirements.py`; do not edit. A test runs every check again on both backends, and fails where this page is not what comes out.

The rows are the functional core: derivatives, transforms, control flow, indexing, random numbers, linear algebra, numerics. Below the tables stands the
check of each row, word for word. In it `compiled` is `gx.compile` for the backend at hand, `same` and `near` are NumPy's `assert_array_equal` and
`assert_allclose` (relative 1e-7 where nothing else is said), `raises(words)` wants a `GraphError` that says them, and

```py
X = np.array([0.3, -0.7, 1.1])
A = np.array([[2.0, 1.0, 0.5], [0.0, 3.0, 1.0], [1.0, 0.0, 4.0]])
```
"""


def results() -> list[tuple[Row, dict[str, str | None]]]:
    """Every row with what went wrong on each backend."""
    return [(r, {b: outcome(r.check, b) for b in BACKENDS}) for r in ROWS]


def word(r: Row, wrong: str | None) -> str:
    return "holds" if wrong is None else f"not yet: {r.reason}" if r.reason else "**fails**"


def page(found: list[tuple[Row, dict[str, str | None]]] | None = None) -> str:
    found = results() if found is None else found
    holds = sum(all(w is None for w in wrong.values()) for _, wrong in found)
    out = [HEAD, f"{holds} of {len(found)} rows hold on both."]
    for section in dict.fromkeys(r.section for r, _ in found):
        out += ["", f"## {section}", "", "| row | NumPy | LLVM |", "|---|---|---|"]
        out += [f"| {r.name} | {word(r, wrong['numpy'])} | {word(r, wrong['llvm'])} |" for r, wrong in found if r.section == section]
    out += ["", "## The checks"]
    for r, _ in found:
        out += ["", f"**{r.name}**", "", "```py", body(r), "```"]
    return "\n".join(out) + "\n"


def body(r: Row) -> str:
    """The lines of a check."""
    lines = inspect.getsource(r.check).splitlines()
    first = next(k for k, line in enumerate(lines) if line.lstrip().startswith("def ")) + 1
    return textwrap.dedent("\n".join(lines[first:])).strip()


if __name__ == "__main__":
    (DOCS / "requirements.md").write_text(page(), encoding="utf-8")
