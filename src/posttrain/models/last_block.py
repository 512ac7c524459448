"""The last block computes what is read of it and no more: keys and values of every token, all else at the places that are asked for.

States of the last block are read at scored positions alone, or at the last token for a reward. What its query projection, output
projection and MLP give elsewhere reaches nobody, so they run on the rows that count and leave zeros at the others; numbers and
gradients are those of the whole block. For a prompt-heavy batch and few layers this is a tenth of a step. Leaves out: blocks that mix
tokens in their MLP (experts), that compute themselves again in the backward, or that are compiled.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

PARTS = ("mlp", "self_attn.q_proj", "self_attn.o_proj")
MIXED = ("experts", "gate", "router")


class read_only_at:
    """Context: the last of `blocks` works at `places` of the stream. places: indices into dimension 1 of its states [1, T, d]."""

    def __init__(self, blocks: Any, places: Tensor) -> None:
        self.parts: list[nn.Module] = []
        self.places = places
        last = blocks[-1] if blocks is not None and len(blocks) else None
        if isinstance(last, nn.Module) and not _is_special(last):
            self.parts = [p for p in (_part(last, name) for name in PARTS) if p is not None]

    def __enter__(self) -> None:
        if self.parts:
            self.places = torch.unique(self.places)
        for part in self.parts:
            part.forward = _Part(part, self.places)

    def __exit__(self, *_: object) -> None:
        for part in self.parts:
            del part.forward  # the class's own again


class _Part:
    """A module's forward on some rows, zeros at the others."""

    def __init__(self, module: nn.Module, places: Tensor) -> None:
        self.own, self.places = module.forward, places

    def __call__(self, x: Tensor) -> Tensor:
        made: Tensor = self.own(x.index_select(1, self.places))
        out = made.new_zeros(x.shape[0], x.shape[1], made.shape[-1])
        return out.index_copy(1, self.places, made)


def _is_special(block: Any) -> bool:
    mlp = getattr(block, "mlp", None)
    again = getattr(block, "gradient_checkpointing", False) and block.training
    return again or block._compiled_call_impl is not None or any(hasattr(mlp, name) for name in MIXED)


def _part(block: nn.Module, name: str) -> nn.Module | None:
    found: Any = block
    for step in name.split("."):
        found = getattr(found, step, None)
    return found if isinstance(found, nn.Module) and "forward" not in vars(found) else None
