"""What the machine gives this process."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache


def cores() -> int:
    """CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


LANE = "lane"
"""How the names of the threads of `lanes` begin."""


def on_a_lane() -> bool:
    """Is this one of the threads of `lanes`? It must not wait for the others."""
    return threading.current_thread().name.startswith(LANE)


@cache
def lanes(count: int) -> ThreadPoolExecutor:
    """So many threads of which each computes with one torch thread. Everybody gets the same ones: memory that was freed in a thread stays
    with it, so what sampling has left behind serves training."""
    import torch

    before, all_here = torch.get_num_threads(), threading.Barrier(count)

    def begin(_: int) -> int:
        all_here.wait()  # no thread takes two of these, so every thread begins now
        torch.set_num_threads(1)
        # A thread's first look at the number takes the last one that any thread has set: it must happen before that changes.
        return torch.get_num_threads()

    pool = ThreadPoolExecutor(count, LANE)
    list(pool.map(begin, range(count)))
    torch.set_num_threads(before)  # what threads that begin later will have
    return pool
