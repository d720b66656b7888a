"""The thread pool: worker threads of this process that enter a native step beside the thread that called it.

A worker is a daemon Python thread inside one ctypes call, so nothing here creates a thread natively and no Python runs while a step does; what it
does there is the text of `spmd`. Between steps it spins for a moment, then sleeps until it is rung for: on a futex under Linux, on a condition variable
of pthreads elsewhere. Where there is neither, a step runs on one thread.
"""
from __future__ import annotations

import atexit
import ctypes
import logging
import math
import os
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ..core import cgroup
from ..core.fork import running
from .detect import host
from .jit import Code, compile_text, load
from .spmd import ALIVE, LINE, STOP, doorbell, worker_text

MOST = 256                      # threads of a step

# ---- how many ----------------------------------------------------------------------------------------------------------------------


def available() -> int:
    """Cores that this process may use: its affinity, and the quota of its cgroup."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, quota(cgroup.ROOT, cgroup.OWN)))


def quota(root: Path, own: Path) -> int:
    """Cores that the cgroups of this process grant, of version 1 or 2, each rounded up; MOST where they do not say."""
    least = min((granted(folder) for folder in cgroup.folders("cpu", root, own)), default=float(MOST))
    return max(1, math.ceil(least))


def granted(folder: Path) -> float:
    """What one cgroup's files say."""
    try:
        if (folder / "cpu.max").exists():
            most, period = (folder / "cpu.max").read_text().split()
        else:
            most, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return float(MOST) if most in ("max", "-1") else max(int(most) / int(period), 0.01)
    except (OSError, ValueError, ZeroDivisionError):
        return float(MOST)


def allowed(threads: int) -> int:
    """How many of the threads that are asked for a step gets; says so where it is fewer."""
    most = available() if doorbell(host()) else 1
    most = min(most, MOST)
    if threads > most:
        logging.getLogger("graphc").info("graphc: threads=%d, but this process may use %d core%s: %d", threads, most, "s" * (most > 1), most)
    return min(threads, most)


# ---- the pool ------------------------------------------------------------------------------------------------------------------------


class Pool:
    """The workers of this process, shared by every function with threads; whoever enters a step holds `running`. Its memory stays where it is."""

    def __init__(self) -> None:
        self._memory = ctypes.create_string_buffer(LINE * (MOST + 2) + LINE)
        self.address = ctypes.addressof(self._memory) + -ctypes.addressof(self._memory) % LINE
        self.running = 1                                        # threads that can enter, the caller's included
        self.away = 0                                           # steps whose workers wait while thread 0 runs Python
        self._most, self.forks = MOST, 0
        self._threads: dict[int, threading.Thread] = {}
        self._users: set[int] = set()

    def ready(self, threads: int) -> int:
        """How many threads can enter now: `threads`, unless the system gives no more. The caller holds `running`."""
        return threads if self.running >= threads else self._start(min(threads, self._most))

    def _start(self, threads: int) -> int:
        worker = _function("worker")
        for w in range(self.running, threads):
            if not self._word(w, ALIVE).value:
                self._threads[w] = threading.Thread(target=worker, args=(self.address, w), name=f"graphc-{w}", daemon=True)
                try:
                    self._threads[w].start()
                except RuntimeError as error:                   # the system's limit of threads
                    logging.getLogger("graphc").info("graphc: a step runs on %d threads: %s", w, error)
                    return w
            self.running = w + 1
        return threads

    def enter(self, user: int) -> None:
        """One more function uses the pool."""
        self._users.add(user)

    def leave(self, user: int) -> None:
        """One fewer; the last one stops the workers."""
        self._users.discard(user)
        if not self._users:
            self.stop()

    def stop(self, patience: float = 10.0) -> None:
        """End the workers, once no step runs."""
        if not running.acquire(timeout=patience):
            return                                              # at exit, with a thread still inside a step: leave it alone
        try:
            if self._threads:
                _function("alarm")(self.address, max(self._threads) + 1)
                for thread in self._threads.values():
                    if thread.ident is not None and thread is not threading.current_thread():
                        thread.join(patience)
                self.running = 1
                if any(thread.is_alive() for thread in self._threads.values()):
                    self._most = 1                              # `stop` stays set, and they end when they come to see it
                    return
                self._threads.clear()
                ctypes.c_int32.from_address(self.address + STOP).value = 0
        finally:
            running.release()

    def _word(self, worker: int, offset: int) -> ctypes.c_int32:
        return ctypes.c_int32.from_address(self.address + LINE * (1 + worker) + offset)

    def forget(self) -> None:
        """In the child of a fork, where no worker lives: as on the first day, but for the users."""
        ctypes.memset(self.address, 0, LINE * (MOST + 2))
        self.running, self._most, self.forks = 1, MOST, self.forks + 1
        self._threads.clear()


pool = Pool()
atexit.register(pool.stop, 1.0)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.forget)


@lru_cache(1)
def _code() -> Code:
    """The workers' own code: loaded for good."""
    return load(compile_text(worker_text(host()), host()), ("worker", "alarm"))


@lru_cache(2)
def _function(name: Literal["worker", "alarm"]) -> Callable[[int, int], None]:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(_code().address(name))
