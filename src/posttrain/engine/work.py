"""How much arithmetic a forward is, how fast this machine multiplies matrices, and how much memory was ever held.

    F = 2 N_trunk T + 2 d V S + 4 H D L A

T tokens run through the trunk, S positions are scored by the head, A attended query-key pairs; a forward with its backward counts three.
Padding and recomputation count nothing: the share of the peak is of useful work. The peak is measured once for a machine, a precision
and a number of threads, by large products of the library or of our kernels, whichever are faster, and kept in the user's cache directory.
Leaves out: bandwidth floors.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from posttrain.core.batch import Batch
from posttrain.core.files import hash_json, write_json
from posttrain.core.machine import lanes
from posttrain.models.native_modules import product
from posttrain.models.trunk import backbone, causal_lm
from posttrain.native.library import library

SIZE = {"cpu": 1536, "cuda": 8192}
"""Side of the square matrices whose product is timed."""
SMALLEST, PATIENCE = 192, 0.5
"""Side to begin with, and seconds that one product may take."""


class Work:
    """Operations of a model's forwards, from its shape: made once per model."""

    def __init__(self, model: nn.Module) -> None:
        embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        trunk = backbone(model).parameters()
        self.trunk = sum(p.numel() for p in trunk if p.ndim >= 2 and id(p) not in embeddings)
        config: Any = causal_lm(model).config
        layers = getattr(config, "num_hidden_layers", 0)
        heads = getattr(config, "num_attention_heads", 0)
        size = getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else 0)
        self.attention = 4 * heads * size * layers
        head = causal_lm(model).get_output_embeddings()
        self.head = 2 * head.weight.numel() if head is not None else 0

    def forward(self, batch: Batch, scored: bool) -> float:
        """Operations of one forward over the batch, as its layout computes it."""
        tokens, pairs = attended(batch)
        return 2.0 * self.trunk * tokens + self.attention * pairs + (self.head * batch.N if scored else 0)


def attended(batch: Batch) -> tuple[float, float]:
    """(tokens of the trunk, attended query-key pairs): a shared prompt counts once, a dense one for each response."""
    of = batch.group_of
    prompt, answer = batch.prompt_length[of].astype(np.float64), batch.length.astype(np.float64)
    inside = prompt * answer + answer * (answer + 1) / 2
    once = batch.prompt_length.astype(np.float64) if batch.layout == "shared" else prompt
    return float(once.sum() + answer.sum()), float((once * (once + 1) / 2).sum() + inside.sum())


def peak(device: torch.device, dtype: torch.dtype, again: bool = False) -> float:
    """Operations per second of large matrix products here, measured once and remembered by machine, precision and threads.

    again: measure anew, for a figure that was taken while the machine was busy; the larger one is kept.
    """
    known = {
        "machine": platform.node(),
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "dtype": str(dtype),
        "torch": torch.__version__,
        "kernels": library() is not None,
    }
    file = cache_directory() / f"peak-{hash_json(known)[:16]}.json"
    before = float(json.loads(file.read_text(encoding="utf-8"))["flops_per_second"]) if file.is_file() else 0.0
    if before and not again:
        return before
    found = max(before, measured_peak(device, dtype))
    with suppress(OSError):  # a home that cannot be written costs a measurement, not a run
        write_json(file, {**known, "flops_per_second": found})
    return found


def measured_peak(device: torch.device, dtype: torch.dtype, repeats: int = 6) -> float:
    """Best of several timed products; smaller ones where this precision is slow, as bf16 is on processors without it."""
    n = SMALLEST
    while 8 * _timed(device, dtype, n, 1) < PATIENCE and n < SIZE.get(device.type, 1536):
        n *= 2  # eight times the work
    theirs = 2.0 * n**3 / _timed(device, dtype, n, repeats)
    return max(theirs, kernels_peak(n, repeats)) if device.type == "cpu" and dtype == torch.float32 else theirs


def kernels_peak(n: int, repeats: int) -> float:
    """The same for our kernels, a product on each of torch's threads; 0 where they are not here."""
    if library() is None:
        return 0.0
    count, best = torch.get_num_threads(), float("inf")
    pairs = [(torch.randn(n, n), torch.randn(n, n)) for _ in range(count)]
    for _ in range(repeats):
        began = time.perf_counter()
        list(lanes(count).map(lambda pair: product(pair[0], pair[1], None, back=False), pairs))
        best = min(best, time.perf_counter() - began)
    return count * 2.0 * n**3 / best


def _timed(device: torch.device, dtype: torch.dtype, n: int, repeats: int) -> float:
    """Seconds of the fastest of some products of two n x n matrices."""
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return best


def cache_directory() -> Path:
    """Where what was measured of this machine is kept: POSTTRAIN_CACHE, else the user's cache directory."""
    given = os.environ.get("POSTTRAIN_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "posttrain"


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def memory(device: torch.device) -> int:
    """Most bytes ever held: by the allocator of a GPU, or resident in this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
