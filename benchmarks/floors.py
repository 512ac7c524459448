"""How fast the work of a step could be on this machine: its operations at the measured peak, its bytes at the measured bandwidth.

Operations of a forward: `2 N_trunk T + 2 d V S + 4 H D L A` (T tokens, S scored positions, A attended pairs). Forward and backward
are three of them, the attention's part three and a half (a flash backward computes its products again). The optimizer reads and
writes 28 bytes per weight (AdamW in fp32). A decode step is bounded by its thin matrix products, not by the peak of large ones, so it is
judged against those products alone at the same number of rows. All rates are measured here, none comes from a data sheet. "The peak"
is that of the library's product (torch.mm), which both sides can call; where our own kernels multiply faster, a step can be above it, so
what they reach is measured beside it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

import workload

OPTIMIZER_BYTES = 28
"""Per weight and step: AdamW reads weight, gradient and two moments, and writes weight and two moments, four bytes each."""
BACKWARD, BACKWARD_ATTENTION = 2.0, 2.5
"""A backward, in forwards: of matrix products, and of attention that keeps no probabilities."""
REFERENCE = ("dpo", "kto", "grpo", "rloo")
"""Methods with a reference; the first two can score it beforehand."""
KEPT = ("dpo", "kto")
SAMPLED = ("grpo", "rloo")


@dataclass(frozen=True)
class Machine:
    """Measured: FLOP/s of a large product, bytes/s of a large copy (read and written), seconds of a decode step's products; FLOP/s of
    large products by our kernels (0: they are not here)."""

    flops: float
    bandwidth: float
    decode: float = 0.0
    own: float = 0.0


@dataclass(frozen=True)
class Forward:
    """Operations of one forward over a group."""

    products: float
    attention: float

    def __add__(self, other: Forward) -> Forward:
        return Forward(self.products + other.products, self.attention + other.attention)


def weights(size: str) -> int:
    """Weights of the trunk's matrices and of the tied embeddings."""
    s = workload.SIZES[size]
    return s.layers * (4 * s.hidden**2 + 3 * s.hidden * s.inner) + s.vocab * s.hidden


def forward(size: str, prompt: int, answers: list[int], scored: bool, shared: bool) -> Forward:
    """A group of a prompt and its answers (tokens): the prompt once for all answers (`shared`) or once for each."""
    s = workload.SIZES[size]
    trunk = s.layers * (4 * s.hidden**2 + 3 * s.hidden * s.inner)
    if shared:
        tokens = prompt + sum(answers)
        pairs = prompt * (prompt + 1) / 2 + sum(prompt * a + a * (a + 1) / 2 for a in answers)
    else:
        tokens = sum(prompt + a for a in answers)
        pairs = sum((prompt + a) * (prompt + a + 1) / 2 for a in answers)
    head = 2 * s.hidden * s.vocab * sum(answers) if scored else 0
    return Forward(2 * trunk * tokens + head, 4 * s.hidden * s.layers * pairs)


def phases(
    method: str, size: str, rows: list[dict[str, Any]], on: Machine, shared: bool = True, kept: bool = False
) -> dict[str, float]:
    """Least seconds of each phase over all the rows' steps; kept: the reference was scored beforehand."""
    work = Forward(0, 0)
    for r in rows:
        work += forward(size, len(r["prompt"]), [len(a) for a in r["answers"]], method != "reward", shared)
    once = (work.products + work.attention) / on.flops
    steps = len(rows) / workload.SHAPES[method].groups
    back = (BACKWARD * work.products + BACKWARD_ATTENTION * work.attention) / on.flops
    out = {"train": once + back, "optimizer": steps * OPTIMIZER_BYTES * weights(size) / on.bandwidth}
    if method in REFERENCE and not (kept and method in KEPT):
        out["reference"] = once
    if method == "kto":  # its baseline is measured on answers to other prompts, before any gradient
        out["baseline"] = once
    if method in SAMPLED:
        prompts = Forward(0, 0)
        for r in rows:
            prompts += forward(size, len(r["prompt"]), [0] * len(r["answers"]), False, shared)
        out["prefill"] = (prompts.products + prompts.attention) / on.flops
        out["decode"] = steps * workload.SHAPES[method].answer * on.decode
    return out


def machine(method: str, size: str, threads: int) -> Machine:
    """This machine's rates, measured now."""
    import torch

    torch.set_num_threads(threads)
    a, b = torch.randn(1536, 1536), torch.randn(1536, 1536)
    whole = torch.randn(32 * 2**20)
    copy = torch.empty_like(whole)
    product, moved = best(lambda: torch.mm(a, b)), best(lambda: copy.copy_(whole))
    decode = 0.0
    if method in SAMPLED:
        shape = workload.SHAPES[method]
        decode = best(thin(size, shape.groups * shape.answers), 24)
    return Machine(2 * 1536**3 / product, 2 * 4 * whole.numel() / moved, decode, own(threads))


def own(threads: int) -> float:
    """FLOP/s of our kernels, each thread with a product of its own."""
    import torch

    from posttrain.core.machine import lanes
    from posttrain.models.native_modules import product
    from posttrain.native.library import library

    if library() is None:
        return 0.0
    given = [(torch.randn(1536, 1536), torch.randn(1536, 1536)) for _ in range(threads)]
    pool = lanes(threads)
    return threads * 2 * 1536**3 / best(lambda: list(pool.map(lambda ab: product(*ab, None, back=False), given)))


def usual(seen: list[Machine]) -> Machine:
    """The median of each rate."""
    return Machine(*(statistics.median(rates) for rates in zip(*map(astuple, seen), strict=True)))


def thin(size: str, rows: int) -> Callable[[], None]:
    """The matrix products of one decode step at so many rows, and nothing else."""
    import torch

    s = workload.SIZES[size]
    shapes = [(s.hidden, 3 * s.hidden), (s.hidden, s.hidden), (s.hidden, 2 * s.inner), (s.inner, s.hidden)] * s.layers
    layers = [torch.randn(shape) for shape in [*shapes, (s.hidden, s.vocab)]]
    inputs = {n: torch.randn(rows, n) for n in (s.hidden, s.inner)}

    def run() -> None:
        for weight in layers:
            torch.mm(inputs[weight.shape[0]], weight)

    return run


def best(run: Callable[[], Any], times: int = 8) -> float:
    """Seconds of the fastest of several runs."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
