"""Golden texts: what a stage printed when somebody last read it."""
from __future__ import annotations

from difflib import unified_diff
from pathlib import Path


def compare_golden(text: str, path: str | Path, *, update: bool = False) -> None:
    """Raise AssertionError with a diff unless the file holds the text; with `update`, write it."""
    path, text = Path(path), text.rstrip("\n") + "\n"
    if update:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    assert path.exists(), f"there is no golden text {path.name}"
    want = path.read_text(encoding="utf-8")
    diff = "\n".join(unified_diff(want.splitlines(), text.splitlines(), "golden", "now", lineterm=""))
    assert text == want, f"differs from the golden text {path.name}:\n{diff}"
