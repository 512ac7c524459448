"""How many CPU threads, and whether they share each operation or take a piece of the step each: measured on the run's own shapes,
remembered beside the run, so that a resumed run computes the same bits.

Two cores help large matrices and hurt small ones, and the order of summation depends on both choices.
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
from posttrain.engine.heap import give_back
from posttrain.engine.local import LocalEngine
from posttrain.train.loop import accumulate
from posttrain.train.state_checks import fits_well

ROUNDS = 3
GAIN = 1.1
"""More threads are taken only if they are this much faster: a tie leaves cores to others."""
TIE = 0.95
"""Pieces side by side are taken at a tie: they wait once a step, so other work costs them less, and the kernels are theirs."""
FAR = 1.3
"""How much slower than the best a way may be to be timed again."""
WAYS = {False: "each operation", True: "pieces side by side"}


def choose_threads(
    engine: LocalEngine, method: Method, groups: Sequence[Group], wanted: int | None, run: Path
) -> dict[str, Any]:
    """Set torch's threads and the engine's hands, and return what was chosen and why.

    `wanted` says how many threads; what the same run chose before wins over measuring again.
    """
    file = run / "threads.json"
    if wanted is None and os.environ.get("OMP_NUM_THREADS"):
        wanted = int(os.environ["OMP_NUM_THREADS"])
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if wanted == 1 or engine.device.type != "cpu":
        chosen: dict[str, Any] = {"threads": wanted or torch.get_num_threads(), "why": "given"}
    elif before and wanted in (None, before["threads"]):
        chosen = before
    else:
        chosen = measured(engine, method, groups, {1, cores()} if wanted is None else {wanted})
        write_json(file, chosen)
    _use(engine, int(chosen["threads"]), chosen.get("share") == WAYS[True])
    return {**chosen, "spin": os.environ.get("GOMP_SPINCOUNT", "default")}


def measured(engine: LocalEngine, method: Method, groups: Sequence[Group], counts: set[int]) -> dict[str, Any]:
    """The fastest of so many threads on a step of these groups, sharing each operation or side by side; gradients are dropped."""
    ways = [(count, False) for count in sorted(counts)]
    ways += [(count, True) for count in sorted(counts) if count > 1 and _possible(engine, groups, count)]
    if len(ways) == 1:
        return {"threads": ways[0][0], "why": "one core" if ways[0][0] == 1 else "given"}
    batch = method.batch(groups, engine)
    times = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        near = [way for way in ways if times[way] <= FAR * min(times.values())]
        for way in near:  # in turn: a burst of other work on the machine hits all
            _use(engine, *way)
            for _ in range(2):  # the first finds its memory again
                began = time.perf_counter()
                accumulate(engine, method, batch)
                times[way] = min(times[way], time.perf_counter() - began)
    for parameter in engine.named_parameters().values():
        parameter.grad = None

    def cost(way: tuple[int, bool]) -> float:
        return times[way] * (GAIN if way[0] > 1 and 1 in counts else 1.0) * (TIE if way[1] else 1.0)

    best = min(times, key=lambda way: (cost(way), way))
    seconds = {f"{count}, {WAYS[side]}" if count > 1 else "1": round(s, 5) for (count, side), s in times.items()}
    return {"threads": best[0], "share": WAYS[best[1]], "why": "measured", "seconds": seconds}


def _use(engine: LocalEngine, threads: int, side_by_side: bool) -> None:
    torch.set_num_threads(threads)
    hands = threads if side_by_side else 1
    if hands != (1 if engine.hands is None else engine.hands.count):
        engine.side_by_side(hands)
        give_back()  # the other threads keep what they freed, which would count twice


def _possible(engine: LocalEngine, groups: Sequence[Group], count: int) -> bool:
    """Can the engine have twins, and is there memory for a piece in each hand?"""
    try:
        engine.side_by_side(count)
    except ValueError:
        return False
    fits = fits_well(engine, groups, len(groups))
    engine.side_by_side(1)
    return fits
