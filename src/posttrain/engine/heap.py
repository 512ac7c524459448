"""Memory that one step frees is kept for the next one.

glibc hands large blocks back to the system when they are freed, and takes them again, page by page and zeroed, in the next step: measured
15,000 page faults and a seventh of the time of a step of 6M weights. Training asks for the same sizes over and over, so the process keeps
them: no larger peak, no faults (mallopt(3)). Does nothing where the C library is another, or where MALLOC_ settings were given.
"""

from __future__ import annotations

import ctypes
import os
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt: how much free memory stays at the top of the heap, and from which size on a block is mapped alone."""


def give_back() -> bool:
    """Hand all freed memory to the system, once: after trials of other shapes and threads than those that follow. True where it could."""
    return platform.libc_ver()[0] == "glibc" and bool(ctypes.CDLL(None).malloc_trim(0))


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed blocks up to 1 GiB. True where it listens; harmless when repeated."""
    given = any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ
    if given or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(MMAP_THRESHOLD, 1 << 30)) and bool(libc.mallopt(TRIM_THRESHOLD, (1 << 31) - 1))
