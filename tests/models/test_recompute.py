"""Blocks computed again in the backward: the same gradient, far less kept for it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from posttrain.methods.dpo import DPO
from posttrain.models.recompute import recompute_blocks
from posttrain.train.state_checks import fits_well
from tests.laws.build import apart, engine_for, gradients, prepared


def kept_and_gradient(recompute: bool) -> tuple[int, dict[str, torch.Tensor]]:
    method = DPO()
    engine = engine_for(method)
    if recompute:
        assert recompute_blocks(engine.model) == 2
    batch = prepared(engine, method, method.example().groups * 4)
    kept = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        engine.forward(batch, method.needs())
    return kept, gradients(engine, method, batch)


def test_the_same_gradient_from_less_memory() -> None:
    (plain, wanted), (less, found) = kept_and_gradient(False), kept_and_gradient(True)
    assert less < 0.5 * plain
    assert apart(wanted, found) < 1e-6


def test_a_model_that_cannot_says_so() -> None:
    with pytest.raises(ValueError, match="cannot be computed again"):
        recompute_blocks(nn.Linear(2, 2))


def test_it_is_taken_where_a_step_would_not_fit() -> None:
    engine = engine_for(DPO())
    groups = DPO().example().groups
    assert fits_well(engine, groups, 2, available=1e9) and not fits_well(engine, groups, 2, available=1e4)
