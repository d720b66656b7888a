"""What every test may use: golden texts, the marker `slow`, and hypothesis that draws the same examples on every run."""
from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from difflib import unified_diff
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

GOLDEN = Path(__file__).parent / "golden"

settings.register_profile("quick", derandomize=True, database=None, deadline=None, max_examples=30,
                          suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("slow", settings.get_profile("quick"), max_examples=500)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden texts anew instead of comparing with them")
    parser.addoption("--hunt-count", type=int, default=None, help="how many random programs each hunt of tests/testing/test_hunts.py tries")
    parser.addoption("--hunt-first", type=int, default=0, help="the seed that the hunts begin with")
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too, and let hypothesis draw 500 examples, not 30")


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault("GRAPHC_CACHE", "0")          # what is tested is the compiler, and no other test's code
    settings.load_profile("slow" if config.getoption("--slow") else "quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="long; runs with --slow"))


def compare_golden(text: str, path: Path, update: bool) -> None:
    """Fail, with a diff, unless `path` holds `text`; with `update`, make it so."""
    text = text.rstrip("\n") + "\n"
    if update:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        return
    if not path.exists():
        pytest.fail(f"no golden text {path.name}; `pytest --update-golden` writes it", pytrace=False)
    want = path.read_bytes().decode()
    if text != want:
        lines = unified_diff(want.splitlines(), text.splitlines(), "golden", "now", lineterm="")
        pytest.fail(f"differs from the golden text {path.name} (`pytest --update-golden`, then read the diff):\n" + "\n".join(lines), pytrace=False)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(text, "area/name")` compares the text with tests/golden/area/name.txt; `--update-golden` writes it."""
    update = bool(request.config.getoption("--update-golden"))
    return lambda text, name: compare_golden(text, GOLDEN / f"{name}.txt", update)


@pytest.fixture(scope="session")
def docs_script() -> Callable[[str], ModuleType]:
    """`docs_script("make_ops")` is docs/make_ops.py, run as a module."""
    def run(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, GOLDEN.parents[1] / "docs" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return run
