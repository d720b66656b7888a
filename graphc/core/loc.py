"""Where in the user's code something happened: the innermost stack frame outside graphc."""
from __future__ import annotations

import os
import sys
from types import FrameType

import numpy as np

from .record import dataclass

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


@dataclass(frozen=True, slots=True)
class Loc:
    """A line of the user's code: file, line, and the function it stands in."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}  in {self.function}"


def user_loc() -> Loc | None:
    """The line of the user's that led here (a shell's line is one too), or None when the stack is graphc's alone."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith((_ROOT, *_MACHINERY)) and not _is_ours(frame):
            return Loc(code.co_filename, frame.f_lineno, getattr(code, "co_qualname", code.co_name))
        frame = frame.f_back
    return None


_MACHINERY = ("<frozen ", "<__array_function__", os.path.dirname(np.__file__) + os.sep)         # the interpreter's and NumPy's own frames


def _is_ours(frame: FrameType) -> bool:
    """Code without a file (what dataclasses generate) that stands in one of our modules."""
    return frame.f_code.co_filename.startswith("<") and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "graphc"
