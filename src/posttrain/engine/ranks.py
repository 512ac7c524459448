"""One process or many: the few collectives that the loop needs, over torch.distributed where it is initialised.

A group never leaves its rank; counts are summed before the first forward and gradients once per step.
Leaves out: sharded weights (FSDP) and tensor parallelism.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor


def start(timeout_s: float = 60.0) -> None:
    """Join the processes that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT describe, and test that all of them answer.

    Raises RuntimeError naming how many ranks answered within the time limit, so that a lost process is not a silent hang.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = dist.TCPStore(
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), world_size, rank == 0, timedelta(seconds=timeout_s),
        wait_for_workers=False,
    )  # fmt: skip
    store.set(f"here/{rank}", "1")
    missing = [r for r in range(world_size) if not _came(store, r, timeout_s)]
    if missing:
        raise RuntimeError(f"rank {', '.join(map(str, missing))} of {world_size} did not join within {timeout_s:.0f} s")
    dist.init_process_group(
        backend, store=store, rank=rank, world_size=world_size, timeout=timedelta(seconds=timeout_s * 10)
    )


def _came(store: dist.TCPStore, rank: int, timeout_s: float) -> bool:
    try:
        store.wait([f"here/{rank}"], timedelta(seconds=timeout_s))
    except (RuntimeError, dist.DistError):
        return False
    return True


def world() -> tuple[int, int]:
    """(rank, number of ranks)."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def total(counts: Mapping[str, float]) -> dict[str, float]:
    """Counts summed over ranks, in float64. A name that a rank lacks (it had nothing to do) counts 0 there."""
    if not dist.is_initialized():
        return dict(counts)
    told: list[list[str]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(told, sorted(counts))
    names = sorted({name for one in told for name in one})
    values = torch.tensor([counts.get(n, 0.0) for n in names], dtype=torch.float64)
    dist.all_reduce(values)
    return dict(zip(names, values.tolist()))


def gather(values: Tensor) -> Tensor:
    """Values of all ranks joined along the first dimension, in rank order (lengths may differ)."""
    if not dist.is_initialized():
        return values
    parts: list[Tensor | None] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, values.cpu())
    return torch.cat([p for p in parts if p is not None]).to(values.device)


def sum_gradients(gradients: list[Tensor]) -> None:
    """Add the gradients of all ranks, in place, one collective per step."""
    if not dist.is_initialized():
        return
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    at = 0
    for g in gradients:
        g.copy_(flat[at : at + g.numel()].view_as(g))
        at += g.numel()
