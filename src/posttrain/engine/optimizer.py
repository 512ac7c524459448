"""AdamW with a warm-up and a decay, and the refusal to step on a non-finite gradient.

Decoupled weight decay: Loshchilov and Hutter 2019, arXiv:1711.05101. Norms and biases are not decayed. Each head may have its own rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from posttrain.core.group import Group
from posttrain.core.recipe import Spec


class Optimizer(Spec):
    """How weights move. Every field is in the recipe."""

    lr: PositiveFloat | None = None
    """Peak learning rate; none takes the method's published default (full weights or LoRA)."""
    head_lr: PositiveFloat | None = None
    """Peak rate of new heads (score, value); none takes `lr`, and for the value head of ppo at least 1e-3."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the rate falls after the warm-up."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the steps over which the rate rises from 0."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The schedule ends at this share of the peak."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled decay of matrices."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of Adam's two moments."""
    eps: PositiveFloat = 1e-8
    """Adam's denominator floor."""
    states: Literal["fp32", "8bit"] = "fp32"
    """Precision of the two moments: 8bit takes a quarter of their memory, on GPUs, by the library bitsandbytes."""
    clip: NonNegativeFloat = 1.0
    """Gradients are scaled down to this global norm; 0 leaves them."""

    def rate(self, step: int, steps: int) -> float:
        """Multiplier of the peak rate at 0-based `step` of `steps`.

        >>> Optimizer(schedule="linear", warmup=0.5).rate(0, 4)
        0.5
        """
        rise = round(self.warmup * steps)
        if step < rise:
            return (step + 1) / rise
        if self.schedule == "constant":
            return 1.0
        done = (step - rise) / max(steps - rise, 1)
        shape = 1 - done if self.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
        return self.floor + (1 - self.floor) * shape

    def build(self, named: Iterable[tuple[str, nn.Parameter]], lr: float, heads: frozenset[str]) -> torch.optim.AdamW:
        """AdamW over the trainable parameters; `heads` are names that take `head_lr`."""
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in named:
            peak = (self.head_lr or lr) if name in heads else lr
            decay = self.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((peak, decay), []).append(parameter)
        made = [{"params": ps, "lr": lr_, "peak": lr_, "weight_decay": wd} for (lr_, wd), ps in groups.items()]
        if self.states == "8bit":
            return eight_bit(made[0]["params"][0].device)(made, betas=self.betas, eps=self.eps)  # type: ignore[index]
        return torch.optim.AdamW(made, betas=self.betas, eps=self.eps, fused=True)


def eight_bit(device: torch.device) -> type[torch.optim.AdamW]:
    """AdamW with 8-bit moments (Dettmers et al. 2021, arXiv:2110.02861). Raises ValueError without a GPU or without the library."""
    if device.type != "cuda":
        raise ValueError("optimizer.states: 8bit needs a CUDA GPU; use fp32")
    try:
        from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found]
    except ImportError:
        raise ValueError("optimizer.states: 8bit needs `pip install bitsandbytes`, or use fp32") from None
    return AdamW8bit  # type: ignore[no-any-return, return-value]


class NonFiniteGradient(RuntimeError):
    """A gradient holds inf or nan; the weights were not touched. `names` are the tensors concerned, `groups` the step's rows."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.groups: Sequence[Group] = ()
        super().__init__(
            f"non-finite gradient in {len(names)} tensors, first {names[0] if names else '?'}; no update was made"
        )


def global_norm(gradients: Mapping[str, Tensor]) -> float:
    """L2 norm over all gradients. Raises NonFiniteGradient naming the tensors."""
    norms = torch.stack(torch._foreach_norm(list(gradients.values()))).double()
    total = float(norms.square().sum().sqrt())
    if not math.isfinite(total):
        raise NonFiniteGradient(
            [n for n, v in zip(gradients, norms.tolist()) if not math.isfinite(v)] or list(gradients)
        )
    return total
