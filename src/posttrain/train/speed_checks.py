"""S6 of the pitfalls list: settings that are many times slower than they look, and the speed that the longest batch really had."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import torch

from posttrain.core.finding import Finding
from posttrain.core.machine import cores
from posttrain.engine.local import LocalEngine
from posttrain.models.load import cpu_has_bf16
from posttrain.native.library import library

LARGE = 20_000_000
"""Matrix entries from which matrix products, not small operations, decide the speed."""
SHARE = 0.5
"""Part of the speed of plain matrix products that a step is predicted to reach."""


def slow_settings(engine: LocalEngine, job: Mapping[str, Any]) -> list[Finding]:
    """S6: bf16 on a CPU without it, more threads than cores, threads that spin while they wait."""
    if engine.device.type != "cpu":
        return []
    out = []
    dtype = next(engine.model.parameters()).dtype
    if dtype != torch.float32 and not cpu_has_bf16():
        text = f"{dtype} on this CPU is 15 to 150 times slower than fp32."
        out.append(Finding("S6", "warning", text, "Use dtype: fp32."))
    threads = int(job.get("threads") or torch.get_num_threads())
    if threads > cores():
        out.append(
            Finding("S6", "warning", f"{threads} threads on {cores()} cores fight for them.", "Lower `threads`.")
        )
    spins = os.environ.get("OMP_WAIT_POLICY", "").upper() == "ACTIVE" or "INF" in spin_count().upper()
    if threads > 1 and spins:
        text = "Idle threads spin without end (OMP_WAIT_POLICY, GOMP_SPINCOUNT): up to 70 times slower on busy cores."
        out.append(Finding("S6", "warning", text, "Unset OMP_WAIT_POLICY, or set GOMP_SPINCOUNT=30000."))
    return out


def spin_count() -> str:
    return os.environ.get("GOMP_SPINCOUNT", "default")


def speed(engine: LocalEngine, stream_tokens: int, seconds: float) -> list[Finding]:
    """S6: what was measured on the longest batch beside what its matrix products alone would take; far below is a warning.

    A trained matrix costs 6 operations per token and entry, a frozen one 4 (forward, and backward through it).
    """
    measured = stream_tokens / max(seconds, 1e-9)
    told = f"{next(engine.model.parameters()).dtype} on {engine.device.type}, {torch.get_num_threads()} threads, spin {spin_count()}"
    if engine.device.type == "cpu":
        told += ", torch's kernels (compiled ones need a C compiler)" if library() is None else ", compiled kernels"
    text = f"{told}: {measured:.0f} stream tokens a second on the longest batch"
    sizes = [
        (p.numel(), p.requires_grad) for n, p in engine.model.named_parameters() if p.ndim == 2 and "embed" not in n
    ]
    if engine.device.type != "cpu" or sum(n for n, _ in sizes) < LARGE:
        return [Finding("S6", "info", text + ".", "")]
    predicted = SHARE * products_per_second() / sum(n * (6 if moves else 4) for n, moves in sizes)
    text += f", {predicted:.0f} predicted."
    if measured < 0.5 * predicted:
        fix = "Look at dtype, threads, other programs, and layout: dense."
        return [Finding("S6", "warning", text, fix)]
    return [Finding("S6", "info", text, "")]


def products_per_second(size: int = 512, seconds: float = 0.05) -> float:
    """Floating-point operations per second of fp32 matrix products here and now, best of some."""
    a = torch.rand(size, size)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - began)
    return 2.0 * size**3 / best
