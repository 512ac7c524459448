"""Frozen models beside the policy: a copy that no step moves, or the policy with its adapter off; and what an idle rank says of them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from posttrain.core.needs import Needs, Output


class AdapterOff:
    """Context: the model with its adapter disabled and without dropout."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.off = model, model.disable_adapter()  # type: ignore[operator]

    def __enter__(self) -> nn.Module:
        self.off.__enter__()
        return self.model

    def __exit__(self, *error: object) -> None:
        self.off.__exit__(*error)


def frozen_copy(model: nn.Module) -> nn.Module:
    """A copy that no step moves."""
    made = copy.deepcopy(model)
    made.requires_grad_(False)
    return made.eval()


def nothing(needs: Needs) -> Output:
    """The output of an empty batch."""
    fields: dict[str, Any] = {
        n: torch.zeros(0) for n in ("logp", "entropy", "mean_logp", "log_sum_sq") if getattr(needs, n)
    }
    fields |= {n: torch.zeros(0, getattr(needs, n)) for n in ("value", "score", "labels") if getattr(needs, n)}
    if needs.pooled:
        fields["pooled"] = torch.zeros(0)  # joins with rows of any width
    if needs.topk:
        fields |= {"topk_logp": torch.zeros(0, 1), "topk_ids": torch.zeros(0, 1, dtype=torch.long)}
    return Output(**fields)
