"""What Python 3.10 lacks."""
from __future__ import annotations

from typing import NoReturn


def assert_never(x: NoReturn) -> NoReturn:
    """The end of an exhaustive `match`: a type checker names the case that was forgotten."""
    raise AssertionError(f"unexpected {x!r}")
