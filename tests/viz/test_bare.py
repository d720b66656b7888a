"""Every example's graphs in every format on a machine that has nothing: no dot, no Node.js, no font, no home, no locale; only Python and the wheels."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from graphc.viz import render

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))
MAGIC = {".svg": b"<?xml", ".png": b"\x89PNG\r\n\x1a\n", ".pdf": b"%PDF-", ".dot": b"digraph", ".html": b"<!DOCTYPE html>"}
pytestmark = pytest.mark.skipif(not (render.has("py_mini_racer") and render.has("resvg_py")), reason="needs the extra `viz`")

# Runs an example, then draws everything compiled in it.
_DRAW = """
import runpy, sys
from pathlib import Path
import graphc as gx
from graphc import driver
real, made = gx.compile, []
def compile(*args, **options):
    out = real(*args, **options)
    if not isinstance(out, driver.CompiledFunction):
        return lambda f: made.append(out(f)) or made[-1]
    made.append(out)
    return out
gx.compile = compile
runpy.run_path(sys.argv[1], run_name="__main__")
for k, f in enumerate(f for f in made if f.variants):          # a function made of a formula may be part of another, and never called itself
    for suffix in sys.argv[3:]:
        written = f.draw(Path(sys.argv[2], f"picture{k}{suffix}"))
        assert written.suffix == suffix, written
assert made
"""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_examples_are_drawn_in_every_format(example: Path, tmp_path: Path) -> None:
    empty, out = tmp_path / "empty", tmp_path / "out"
    empty.mkdir()
    out.mkdir()
    env = {"PATH": str(empty), "HOME": str(empty), "PYTHONPATH": str(ROOT), "FONTCONFIG_FILE": str(empty / "none"), "MPLBACKEND": "Agg",
           "GRAPHC_CACHE_DIR": str(tmp_path / "cache"), "PYTHONIOENCODING": "utf-8",
           **{k: v for k, v in os.environ.items() if k in ("SYSTEMROOT", "TEMP", "TMP", "LD_LIBRARY_PATH")}}
    done = subprocess.run([sys.executable, "-c", _DRAW, str(example), str(out), *MAGIC], cwd=tmp_path, env=env, capture_output=True, encoding="utf-8",
                          timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert "in the place of" not in done.stderr
    made = sorted(out.glob("picture*"))
    assert len(made) >= len(MAGIC)
    for picture in made:
        data = picture.read_bytes()
        assert data.startswith(MAGIC[picture.suffix]), picture.name
        if picture.suffix == ".svg":
            assert b"</text>" in data
        if picture.suffix == ".png":
            assert len(set(data)) == 256                # compressed, and not blank
