"""How examples/ become pages: copies with their headings as sections, run by sphinx-gallery when the documentation is built."""
from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent.parent / "examples"
STAGE = Path(__file__).parent / "_build" / "stage"      # the copies that run; what they write under out/ stays there
HEADER = "Examples\n========\n\nEach of them runs in seconds, asserts what it claims, and was run for this page.\n"


def page(source: str) -> str:
    """An example as sphinx-gallery wants it: its first line a title, its `# ---- words ----` comments sections."""
    source = re.sub(r'\A"""(.+)\n', lambda m: f'"""\n{m[1].rstrip(".")}\n{"=" * len(m[1])}\n', source)
    return re.sub(r"^# ---- (.+?) -+\n", lambda m: f"# %%\n# {m[1]}\n# {'-' * len(m[1])}\n\n", source, flags=re.MULTILINE)


def stage(folder: Path = STAGE) -> None:
    """Copies of the examples, made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in sorted(EXAMPLES.glob("[0-9][0-9]_*.py")):
        (folder / path.name).write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
    (folder / "GALLERY_HEADER.rst").write_text(HEADER, encoding="utf-8")


def drawn(block: Any, variables: dict[str, Any], settings: dict[str, Any]) -> str:
    """The steps that graphc drew under out/ since the last block, for sphinx-gallery to show."""
    from sphinx_gallery.scrapers import figure_rst

    names = []
    for path in sorted((STAGE / "out").glob("*_step.svg")):
        name = Path(variables["image_path_iterator"].next()).with_suffix(".svg")
        shutil.move(path, name)
        names.append(str(name))
    text: str = figure_rst(names, settings["src_dir"])
    return text


def _get_sg_image_scraper() -> Any:                     # sphinx-gallery asks a module that is named in image_scrapers for this
    return drawn
