"""How many CPU threads: measured on the run's own shapes, remembered beside the run, so that a resumed run computes the same bits.

Two cores help large matrices and hurt small ones, and summation order depends on the number of threads.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from posttrain.core.files import write_json
from posttrain.core.group import Group
from posttrain.core.machine import cores
from posttrain.core.method import Method
from posttrain.engine.local import LocalEngine
from posttrain.train.loop import accumulate

ROUNDS = 6
GAIN = 1.1
"""More threads are taken only if they are this much faster: a tie leaves cores to others."""


def choose_threads(
    engine: LocalEngine, method: Method, groups: Sequence[Group], wanted: int | None, run: Path
) -> dict[str, Any]:
    """Set torch's threads and return what was chosen and why. `wanted` or an earlier choice of the same run wins."""
    file = run / "threads.json"
    if wanted is None and os.environ.get("OMP_NUM_THREADS"):
        wanted = int(os.environ["OMP_NUM_THREADS"])
    if wanted is not None or engine.device.type != "cpu":
        chosen: dict[str, Any] = {"threads": wanted or torch.get_num_threads(), "why": "given"}
    elif file.is_file():
        chosen = json.loads(file.read_text(encoding="utf-8"))
    else:
        chosen = _measured(engine, method, groups)
        write_json(file, chosen)
    torch.set_num_threads(int(chosen["threads"]))
    return {**chosen, "spin": os.environ.get("GOMP_SPINCOUNT", "default")}


def _measured(engine: LocalEngine, method: Method, groups: Sequence[Group]) -> dict[str, Any]:
    options = sorted({1, cores()})
    if len(options) == 1:
        return {"threads": 1, "why": "one core"}
    batch = method.batch(groups, engine)
    times = dict.fromkeys(options, float("inf"))
    for _ in range(ROUNDS):
        for threads in options:  # in turn: a burst of other work on the machine hits both
            torch.set_num_threads(threads)
            began = time.perf_counter()
            accumulate(engine, method, batch)
            times[threads] = min(times[threads], time.perf_counter() - began)
    for parameter in engine.named_parameters().values():
        parameter.grad = None
    threads = options[-1] if times[1] > GAIN * times[options[-1]] else 1
    return {"threads": threads, "why": "measured", "seconds": {str(k): round(v, 5) for k, v in times.items()}}
