"""Compiling makes many objects that live as long as the compilation: looking among them for garbage, again and again, is a tenth of its time."""
from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection() -> Iterator[None]:
    """The cyclic garbage collector rests; also a decorator. Where it was off it stays off. Process-wide, so for what is short and bounded."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()
