"""Freed memory stays in the process: a second round of the same large blocks causes next to no page faults."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import resource, sys
import torch
from posttrain.engine.heap import keep_freed_memory
told = keep_freed_memory() if sys.argv[1] == "keep" else None
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(12 << 20) for _ in range(2)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for _ in range(12): faults()
print(told, sum(faults() for _ in range(4)))
"""


def test_the_second_round_finds_its_pages() -> None:
    made = {
        how: subprocess.run(
            [sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True
        ).stdout.split()
        for how in ("keep", "plain")
    }
    if made["keep"][0] == "True":
        assert int(made["keep"][1]) < 9000 < int(made["plain"][1])
    else:
        assert made["keep"][0] == "False", "another C library: nothing is changed"
