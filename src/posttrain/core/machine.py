"""What the machine gives this process."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache


def cores() -> int:
    """CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def lanes(count: int) -> ThreadPoolExecutor:
    """So many threads of which each computes with one torch thread. Everybody gets the same ones: memory that was freed in a thread stays
    with it, so what sampling has left behind serves training."""
    import torch

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, "lane", initializer=torch.set_num_threads, initargs=(1,))
    list(pool.map(lambda _: None, range(count)))
    torch.set_num_threads(before)  # what threads that begin later will have
    return pool
