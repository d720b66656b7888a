"""Denormals as zero, for this thread and those it starts: graphc and JAX do so by themselves, and the others must not lose for a reason of their own."""
from __future__ import annotations

import ctypes
import mmap
import platform
import sys

CODE = bytes.fromhex("0fae5c24fc" "814c24fc40800000" "0fae5424fc" "c3")         # stmxcsr [rsp-4]; or dword [rsp-4], FTZ|DAZ; ldmxcsr [rsp-4]; ret


def flush() -> bool:
    """True if it is so now; on other machines than x86-64 with POSIX calls nothing is done."""
    if platform.machine().lower() not in ("x86_64", "amd64") or sys.platform == "win32":
        return False
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(CODE)
    ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    return True
