"""How far a loop is: tqdm's bar where tqdm is installed (the extra `train`), else a line of plain text. Nothing is imported before it is asked for."""
from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, Generic, Protocol, TextIO, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Progress(Protocol[T_co]):
    """What `progress` returns: tqdm's object, or one that has its most used methods."""

    def __iter__(self) -> Iterator[T_co]: ...
    def set_postfix(self, **numbers: Any) -> None: ...
    def update(self, n: int = 1) -> Any: ...
    def close(self) -> None: ...


def progress(iterable: Iterable[T] | None = None, *, desc: str = "", total: int | None = None, unit: str = "step", file: TextIO | None = None,
             disable: bool | None = None, plain: bool = False) -> Progress[T]:
    """Iterate, and show how far it is on `file` (standard error): how many of `total` (by default len(iterable)), how fast, and `set_postfix`'s numbers.

    disable=None is silent where `file` is no terminal; plain=True never asks for tqdm.

    >>> for x, y in progress(loader, desc="epoch 1"):                                                        # doctest: +SKIP
    ...     step(x, y)
    """
    file = sys.stderr if file is None else file
    if disable is None:
        disable = not file.isatty()
    tqdm = None if plain or disable else _tqdm()
    if tqdm is not None:
        bar: Progress[T] = tqdm(iterable, desc=desc or None, total=total, unit=unit, file=file, leave=False, dynamic_ncols=True)
        return bar
    return PlainProgress(iterable, desc, total, unit, file, disable)


def _tqdm() -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm


class PlainProgress(Generic[T]):
    """One line, written over itself on a terminal and not more than ten times a second; elsewhere only the last one is written."""

    def __init__(self, iterable: Iterable[T] | None, desc: str, total: int | None, unit: str, file: TextIO, disable: bool) -> None:
        if total is None and hasattr(iterable, "__len__"):
            total = len(iterable)                       # type: ignore[arg-type]
        self.iterable, self.desc, self.total, self.unit, self.file, self.disable = iterable, desc, total, unit, file, disable
        self.n, self._numbers, self._closed = 0, "", False
        self._start = time.monotonic()
        self._shown, self._width = self._start, 0

    def __iter__(self) -> Iterator[T]:
        try:
            for value in self.iterable if self.iterable is not None else ():
                yield value
                self.update()
        finally:
            self.close()

    def update(self, n: int = 1) -> None:
        """Count n more."""
        self.n += n
        if not self.disable and self.file.isatty() and time.monotonic() - self._shown >= 0.1:
            self._shown = time.monotonic()
            line = str(self)
            self.file.write("\r" + line.ljust(self._width))
            self.file.flush()
            self._width = len(line)

    def set_postfix(self, **numbers: Any) -> None:
        """Numbers that stand behind the count: loss, accuracy."""
        self._numbers = "".join(f"  {k} {v:.4g}" if isinstance(v, float) else f"  {k} {v}" for k, v in numbers.items())

    def close(self) -> None:
        """Show the last line; a second time does nothing."""
        if not self._closed and not self.disable:
            self.file.write(("\r" if self.file.isatty() else "") + str(self).ljust(self._width) + "\n")
            self.file.flush()
        self._closed = True

    def __str__(self) -> str:
        seconds = max(time.monotonic() - self._start, 1e-9)
        of = "" if self.total is None else f"/{self.total}"
        return f"{self.desc + ': ' if self.desc else ''}{self.n}{of} {self.unit}s  {self.n / seconds:,.0f} {self.unit}s/s{self._numbers}"
