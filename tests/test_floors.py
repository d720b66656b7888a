"""The import floors of the house (which package may import which), held by `ast` over the tree: imports inside functions, under TYPE_CHECKING
and through `importlib` count too. And what no file of graphc does at all: unpickle, evaluate text, call a shell.
"""
from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "graphc"
FILES = sorted(ROOT.rglob("*.py"))

FLOORS = {
    "core": "",
    "ir": "core",
    "ops": "core ir",
    "interp": "core ir",
    "transform": "core ir ops interp",
    "trace": "core ir ops interp transform",
    "array": "core ir ops trace",
    "nn": "core trace array",
    "optim": "core trace array",
    "data": "core",
    "utils": "core trace",
    "loop": "core",
    "lower": "core ir ops loop",
    "llvm": "core loop",
    "viz": "core ir loop",
    "symbolic": "core ir ops trace transform",
}
# The roof, and graphc/__init__.py itself.
ROOF = {"driver", "executable", "build", "frame", "host", "team", "quick", "limits", "io", "train", "compat", "testing", "cli", "onnx", "export", "distributed"}


def imports(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of whatever a module of `package` imports; `from p import x` is p.x, which may be a module."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module, names, level):
                above = package[:len(package) - level + 1] if level else ()
                base = ".".join([*above, *([module] if module else [])])
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in names)
            case ast.Call(ast.Attribute(_, "import_module") | ast.Name("import_module" | "__import__"), [first, *_]):
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    dots = len(first.value) - len(first.value.lstrip("."))
                    above = package[:len(package) - dots + 1] if dots else ()
                    yield node.lineno, ".".join([*above, first.value.lstrip(".")])
                else:
                    yield node.lineno, "graphc.<computed>"


def violations(source: str, path: Path) -> list[str]:
    """What a file at `path` (relative to graphc/) imports and may not."""
    here = path.parts[0].removesuffix(".py")
    if here in ROOF or here == "__init__":
        return []
    if here not in FLOORS:
        return [f"{path}: no floor is written for the package {here!r}"]
    allowed = {here, *FLOORS[here].split()}
    found = []
    for line, name in imports(ast.parse(source), ("graphc", *path.parts[:-1])):
        parts = name.split(".")
        if parts[0] == "graphc" and (len(parts) == 1 or parts[1] not in allowed):
            found.append(f"{path}:{line} imports {name}; {here} may import {FLOORS[here] or 'nothing of graphc'}")
    return found


def dangers(source: str, path: Path) -> list[str]:
    """Ways to run text or bytes that came from outside."""
    tree, found = ast.parse(source), []
    for line, name in imports(tree, ("graphc", *path.parts[:-1])):
        if name.split(".")[0] in ("pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"):
            found.append(f"{path}:{line} imports {name}")
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Name("eval" | "exec" as name)):
                found.append(f"{path}:{node.lineno} calls {name}")
            case ast.Attribute(ast.Name("os"), "system" | "popen" as name):
                found.append(f"{path}:{node.lineno} uses os.{name}")
            case ast.keyword("shell" | "allow_pickle" as name, ast.Constant(True)):
                found.append(f"{path}:{node.lineno} passes {name}=True")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_floors(path: Path) -> None:
    assert not violations(path.read_text(encoding="utf-8"), path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_text_or_bytes_are_run(path: Path) -> None:
    assert not dangers(path.read_text(encoding="utf-8"), path.relative_to(ROOT))


@pytest.mark.parametrize(("path", "source"), [
    ("llvm/emit.py", "from ..ops import add"),
    ("llvm/emit.py", "from graphc.ops.elementwise import add"),
    ("llvm/emit.py", "def f():\n    import graphc.ir.node"),
    ("llvm/emit.py", "from .. import ir"),
    ("llvm/emit.py", "import graphc as gx"),
    ("llvm/emit.py", "if TYPE_CHECKING:\n    from ..ir.node import Node"),
    ("llvm/emit.py", "import importlib\nimportlib.import_module('graphc.ops')"),
    ("llvm/emit.py", "import importlib\nimportlib.import_module('..ops', __package__)"),
    ("llvm/emit.py", "import importlib\nimportlib.import_module(name)"),
    ("core/deep/er.py", "from ...loop.ir import Var"),
    ("core/dims.py", "from ..ir import node"),
    ("nn/linear.py", "from ..ops import elementwise"),
    ("nn/linear.py", "from ..optim import SGD"),
    ("loop/ir.py", "from ..llvm import jit"),
    ("lower/table.py", "from ..llvm import jit"),
    ("ops/leaf.py", "from ..loop import ir"),
    ("driver_two.py", "from .llvm import jit"),
])
def test_a_violation_is_caught(path: str, source: str) -> None:
    assert violations(source, Path(path))


@pytest.mark.parametrize(("path", "source"), [
    ("llvm/emit.py", "from ..loop.ir import Var\nfrom ..core import target\nfrom .spell import fma\nimport llvmlite.binding"),
    ("nn/linear.py", "from .. import core, array, trace\nfrom . import init"),
    ("core/deep/er.py", "from ..dims import Dim\nfrom . import est"),
    ("driver.py", "from .llvm import jit\nfrom .ops import leaf"),
    ("__init__.py", "from .nn import Linear"),
])
def test_what_is_allowed_passes(path: str, source: str) -> None:
    assert not violations(source, Path(path))


@pytest.mark.parametrize("source", [
    "import pickle", "from pickle import loads", "eval('1')", "def f():\n    exec(text)", "import os\nos.system('ls')",
    "np.load(f, allow_pickle=True)", "subprocess.run('ls', shell=True)",
])
def test_a_danger_is_caught(source: str) -> None:
    assert dangers(source, Path("core/x.py"))


def test_methods_called_eval_are_no_danger() -> None:
    assert not dangers("net.eval()\nast.literal_eval(text)\nnp.load(f, allow_pickle=False)", Path("nn/x.py"))
