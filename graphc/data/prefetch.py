"""Making the next batches while the last one is trained on: one thread, a few batches ahead, in the same order and with the same errors.

The thread ends with the iterator: when it is used up, when it is closed, and when it is dropped. It never holds the iterator, only the buffer
between them, for else neither would go.
"""
from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from ..core.errors import GraphError

T = TypeVar("T")
_END = object()


class _Buffer:
    """Between the threads: at most `most` entries, each (value, error)."""

    def __init__(self, most: int) -> None:
        self.most, self.closed = most, False
        self.entries: deque[tuple[Any, BaseException | None]] = deque()
        self.changed = threading.Condition()

    def put(self, value: Any, error: BaseException | None = None) -> bool:
        """Wait for room and add an entry; False if nobody wants it any more."""
        with self.changed:
            self.changed.wait_for(lambda: self.closed or len(self.entries) < self.most)
            if not self.closed:
                self.entries.append((value, error))
                self.changed.notify_all()
            return not self.closed

    def take(self, thread: threading.Thread) -> tuple[Any, BaseException | None]:
        """Wait for an entry. In a forked child there is no thread to wait for, so look after it now and then."""
        with self.changed:
            while not self.changed.wait_for(lambda: self.entries, timeout=1.0):
                if not thread.is_alive() and not self.entries:
                    raise GraphError("the thread that prefetches is gone", why="it does not live on in a forked process", fix="a new iteration there")
            entry = self.entries.popleft()
            self.changed.notify_all()
            return entry

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.entries.clear()
            self.changed.notify_all()


def _fill(source: Iterator[Any], buffer: _Buffer) -> None:
    """What the thread does."""
    try:
        for value in source:
            if not buffer.put(value):
                return
    except BaseException as e:                          # whatever it is, it is the consumer's
        buffer.put(_END, e)
    else:
        buffer.put(_END)


class Prefetcher(Generic[T]):
    """An iterator over `source` that is up to `ahead` entries ahead of its consumer. Errors of the source are raised where they would have been."""

    def __init__(self, source: Iterator[T], ahead: int) -> None:
        buffer = self._buffer = _Buffer(ahead)
        self._thread = threading.Thread(target=_fill, args=(source, buffer), name="graphc-prefetch", daemon=True)
        self.close = weakref.finalize(self, buffer.close)
        self._thread.start()

    def __iter__(self) -> Prefetcher[T]:
        return self

    def __next__(self) -> T:
        if not self.close.alive:
            raise StopIteration
        value, error = self._buffer.take(self._thread)
        if value is _END:
            self.close()
            if error is not None:
                raise error
            raise StopIteration
        result: T = value
        return result
