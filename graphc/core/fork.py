"""Locks that `os.fork` waits for and the child gets free: what they guard is whole in it.

A lock that another thread holds at the moment of a fork is held for ever in the child, whose only thread is the one that forked. They are taken in
the order of their ranks, which is the order in which everybody else who needs several takes them.
"""
from __future__ import annotations

import ctypes
import os
import threading
from typing import Any

running = threading.RLock()                             # held by whoever compiles or runs a step: two may share parameters and workers, so one at a time
polling = ctypes.c_int64(0)                             # 1 while a step, inside a loop, lets Python handle signals: then no other step may be entered
_locks: list[tuple[int, Any]] = [(0, running)]          # and a child is forked between two, never with one half done


def hold(lock: Any, rank: int) -> None:
    """From now on, fork holding this lock (anything with acquire and release, re-entrant)."""
    _locks.append((rank, lock))
    _locks.sort(key=lambda x: x[0])


def _acquire() -> None:
    for _, lock in _locks:
        lock.acquire()


def _release() -> None:
    for _, lock in reversed(_locks):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_acquire, after_in_parent=_release, after_in_child=_release)
