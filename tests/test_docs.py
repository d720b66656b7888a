"""The pages under docs/ say what is so: their Python runs in order, what they say it prints it prints, their links lead somewhere, their tables are the code's.

A block marked `text` right below a block marked `python` is what that prints, or the error that it ends in; `pytest --update-golden` writes these blocks
anew. A block that begins with "# in <file>, after the line that begins with: <words>" is an edit of that file.
"""
from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import graphc as gx

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.glob("*.md") if p.name != "add_an_op.md")
EVERY = sorted([*DOCS.glob("*.md"), *DOCS.glob("decisions/*.md"), ROOT / "README.md"])
EDIT = re.compile(r"# in (\S+), after the line that begins with: (.+)\n")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: what it is marked with, its text, where that begins and ends in the page, and its line."""

    mark: str
    text: str
    start: int
    end: int
    line: int


def blocks(page: str) -> list[Block]:
    return [Block(m[1], m[2], m.start(2), m.end(2), page.count("\n", 0, m.start(2)) + 1)
            for m in re.finditer(r"^```(\S*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]


def pairs(page: str) -> Iterator[tuple[Block, Block | None]]:
    """Each Python block with the text that stands right below it."""
    found = blocks(page)
    for k, b in enumerate(found):
        if b.mark == "python":
            below = found[k + 1] if k + 1 < len(found) else None
            shown = below is not None and below.mark == "text" and page[b.end:below.start] == "```\n```text\n"
            yield b, below if shown else None


def run_page(page: str, name: str, file: str) -> Iterator[tuple[Block, str, str]]:
    """Run the Python of a page in order; yield each block that shows something, what it says and what it said. Raises what is not shown."""
    scope: dict[str, Any] = {"__name__": name}
    for b, shown in pairs(page):
        if EDIT.match(b.text):
            continue
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                exec(compile(b.text, file, "exec"), scope)
        except Exception as e:
            if shown is None or not (isinstance(e, gx.GraphError) or f"{type(e).__name__}: " in shown.text):
                raise AssertionError(f"{name}:{b.line}: {type(e).__name__}: {e}") from e
            said.write(f"{type(e).__name__}: {e}\n")
        if shown is None:
            assert not said.getvalue(), f"{name}:{b.line} prints what the page does not show:\n{said.getvalue()}"
        else:
            yield shown, shown.text, said.getvalue()


def check_page(path: Path, file: str, update: bool) -> None:
    page = path.read_bytes().decode()
    for shown, says, said in reversed(list(run_page(page, path.name, file))):
        if update:
            page = page[:shown.start] + said + page[shown.end:]
        else:
            assert said == says, f"{path.name}:{shown.line}"
    if update:
        path.write_bytes(page.encode())


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_the_python_of_a_page_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.chdir(tmp_path)                         # pages may write files
    check_page(path, "model.py", bool(request.config.getoption("--update-golden")))


def test_the_harness_sees_what_is_wrong(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for code, shown, words in [("print(1)", "2", "page.md:5"), ("1 / 0", None, "ZeroDivisionError"), ("1 / 0", "1", "ZeroDivisionError"),
                               ("print(1)", None, "does not show"), ("x = 1", "ZeroDivisionError: division by zero", "page.md:5")]:
        page.write_text(f"```python\n{code}\n```\n" + ("" if shown is None else f"```text\n{shown}\n```\n"))
        with pytest.raises(AssertionError, match=words):
            check_page(page, "model.py", update=False)
    page.write_text("```python\nx = 1\n```\n\n```python\nprint(x)\n1 / 0\n```\n```text\n1\nZeroDivisionError: division by zero\n```\n")
    check_page(page, "model.py", update=False)


def test_the_page_on_errors_shows_every_class() -> None:
    shown = "".join(b.text for b in blocks((DOCS / "errors.md").read_text(encoding="utf-8")) if b.mark == "text")
    for kind in (gx.GraphError, gx.GraphTypeError, gx.GraphIndexError):
        assert re.search(rf"^{kind.__name__}: ", shown, re.MULTILINE), kind.__name__


def test_the_command_lines_run(tmp_path: Path) -> None:
    """Those of graphc itself, as start.md writes them."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    shown = [b.text for b in blocks((DOCS / "start.md").read_text(encoding="utf-8")) if b.mark == "sh"]
    lines = [line for text in shown for line in text.splitlines() if line.startswith("graphc ")]
    assert len(lines) >= 5
    for line in lines:
        command = [sys.executable, "-m", "graphc.cli", *shlex.split(line, comments=True)[1:]]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, encoding="utf-8", timeout=100, check=False)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert done.stdout, line


# ---- add an op: the page followed to the letter --------------------------------------------------------------------------------------


def edit(root: Path, block: str) -> None:
    """Put a block where its first line says."""
    m = EDIT.match(block)
    assert m, block
    path, after = root / m[1], m[2]
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    at = [k for k, line in enumerate(lines) if line.strip().startswith(after)]
    assert len(at) == 1, f"{len(at)} lines of {m[1]} begin with {after}"
    lines.insert(at[0] + 1, block[m.end():])
    path.write_text("".join(lines), encoding="utf-8")


def test_add_an_op(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """In a copy of graphc: the edits, then the tests that the op brings, then the page's session."""
    shutil.copytree(ROOT / "graphc", tmp_path / "graphc", ignore=shutil.ignore_patterns("__pycache__", "vendor", "fonts"))
    (tmp_path / "tests").mkdir()
    for name in ("test_every_op.py", "conftest.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests" / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = DOCS / "add_an_op.md"
    page = path.read_text(encoding="utf-8")
    edits = [b for b, _ in pairs(page) if EDIT.match(b.text)]
    assert len(edits) == 3
    for b in edits:
        edit(tmp_path, b.text)

    def python(*arguments: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, env=env, capture_output=True, encoding="utf-8", timeout=100, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    (command,) = [b.text.strip() for b in blocks(page) if b.mark == "sh"]
    said = python(*command.removeprefix("python ").split(), "-p", "no:xdist", "-vv")
    for name in ("complete", "type_rule_is_numpys", "prints_and_parses", "derivatives", "gradient_graph_keeps_its_types"):
        assert f"test_{name}[root5] PASSED" in said
    here = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); from pathlib import Path; from test_docs import check_page; "
    update = bool(request.config.getoption("--update-golden"))
    python("-W", "error", "-c", here + f"check_page(Path({str(path)!r}), 'session.py', {update})")


# ---- links ---------------------------------------------------------------------------------------------------------------------------


def prose(text: str) -> str:
    """A page without its fenced blocks and code spans."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(text: str) -> set[str]:
    """The anchors of the headings, as GitHub and MyST make them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in heads}


@pytest.mark.parametrize("path", EVERY, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name) if name else path
        assert target.exists(), f"{path.name} links to {link}"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{path.name} links to {link}"


@pytest.mark.parametrize("path", EVERY, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_files_that_are_named_exist(path: Path) -> None:
    """`graphc/ops/`, `tests/test_floors.py` in a page's prose and tables are there."""
    for name in re.findall(r"`((?:graphc|tests|docs|examples|benchmarks)/[\w/.]+)`", path.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), f"{path.name} names {name}"


def test_the_index_leads_to_every_page() -> None:
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = {line.strip() for b in blocks(text) if b.mark == "{toctree}" for line in b.text.splitlines()}
    missing = [p.stem for p in DOCS.glob("*.md") if p.stem != "index" and not any(fnmatch(p.stem, name) for name in listed)]
    assert not missing


# ---- tables --------------------------------------------------------------------------------------------------------------------------


def rows(page: str) -> list[list[str]]:
    """The cells of every table row of a page."""
    return [[c.strip() for c in line.strip("|\n").split("|")] for line in page.splitlines() if line.startswith("|") and not set(line) <= set("|-: ")]


def test_the_house_is_the_table_that_the_floors_hold(docs_script: Callable[[str], ModuleType]) -> None:
    table, roof = docs_script("make_house").floors()
    page = (DOCS / "house.md").read_text(encoding="utf-8")
    shown = {r[0]: [] if r[1] == "nothing" else r[1].split() for r in rows(page) if len(r) == 3 and r[0] in table}
    assert shown == table
    (line,) = [line for line in page.splitlines() if line.startswith("The roof, which may import everything:")]
    named = set(re.findall(r"`(\w+)`", line))
    assert named <= roof
    there = {p.stem for p in (ROOT / "graphc").iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert there - {"__init__"} - set(table) == named, "the rooms under the roof"


def test_the_picture_of_the_house_is_the_tables(docs_script: Callable[[str], ModuleType]) -> None:
    make = docs_script("make_house")
    table, _ = make.floors()
    dot = make.house_dot(table)
    assert dot == (DOCS / "house.dot").read_bytes().decode(), "run python docs/make_house.py"
    drawn = {tuple(e) for e in re.findall(r"^  (\w+) -> (\w+)$", dot, re.MULTILINE)}
    assert drawn == {(a, b) for a, allowed in table.items() for b in allowed if b != "core"}
    svg = (DOCS / "house.svg").read_text(encoding="utf-8")
    titles = {t.replace("&#45;&gt;", "->") for t in re.findall(r"<title>(.*?)</title>", svg)}
    assert {*table, "roof", *(f"{a}->{b}" for a, b in drawn)} <= titles, "run python docs/make_house.py"


def test_every_name_of_the_migration_table_exists() -> None:
    page = (DOCS / "migration.md").read_text(encoding="utf-8")
    net = gx.nn.Linear(2, 2)
    from graphc import data
    roots = {"gx": gx, "nn": gx.nn, "F": gx.nn.functional, "optim": gx.optim, "data": data, "x": gx.zeros(3), "net": net,
             "optimizer": gx.optim.SGD(net.parameters(), lr=0.1)}
    names = [n for r in rows(page) if r[0] != "PyTorch" for n in re.findall(r"`([A-Za-z]\w*(?:\.\w+)+)", r[1])]
    assert len(names) > 150
    for name in names:
        first, *rest = name.split(".")
        assert first in roots, name
        found: Any = roots[first]
        for part in rest:
            assert hasattr(found, part), f"the migration table names {name}"
            found = getattr(found, part)


# ---- Sphinx --------------------------------------------------------------------------------------------------------------------------


def test_examples_become_pages(tmp_path: Path, docs_script: Callable[[str], ModuleType]) -> None:
    docs_script("gallery").stage(tmp_path / "stage")
    for path in (ROOT / "examples").glob("[0-9][0-9]_*.py"):
        page = (tmp_path / "stage" / path.name).read_text(encoding="utf-8")
        compile(page, path.name, "exec")
        first = path.read_text(encoding="utf-8").splitlines()[0].removeprefix('"""').removesuffix(".")
        assert page.startswith(f'"""\n{first}\n{"=" * len(first)}=')
        assert page.count("# %%\n") == len(re.findall(r"^# ---- ", path.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_documentation_builds(tmp_path: Path) -> None:
    """With the extra `docs`: every warning an error, every example run."""
    for name in ("sphinx", "myst_parser", "sphinx_gallery", "furo"):
        pytest.importorskip(name)
    for name in ("docs", "examples", "graphc"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "_build"))
    done = subprocess.run([sys.executable, "-m", "sphinx", "-W", "-q", "docs", "out"], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert "unseen digits are read rightly" in (tmp_path / "out" / "examples" / "01_digits.html").read_text(encoding="utf-8")
