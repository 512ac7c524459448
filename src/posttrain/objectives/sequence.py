"""Sums and means of token values over responses, without a mask: every scored token is a trained one."""

from __future__ import annotations

import torch
from torch import Tensor

from posttrain.core.batch import Batch


def row_sum(values: Tensor, batch: Batch) -> Tensor:
    """Sum over each response's tokens. values [N] -> [R]."""
    return torch.zeros(batch.R, dtype=values.dtype, device=values.device).index_add(0, batch.row, values)


def row_length(batch: Batch) -> Tensor:
    """Trained tokens of each response [R], as float."""
    return torch.bincount(batch.row, minlength=batch.R).float()


def row_mean(values: Tensor, batch: Batch) -> Tensor:
    """Mean over each response's tokens. values [N] -> [R]."""
    return row_sum(values, batch) / row_length(batch).to(values.dtype).clamp_min(1)


def group_mean(values: Tensor, index: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Weighted mean of the values of each group, 0 for groups without any. values, index, weight [K] -> [groups].

    The weights' sum is not normalised away: a group of one pair with weight 2 counts twice.
    """
    zero = torch.zeros(groups, dtype=values.dtype, device=values.device)
    total = zero.index_add(0, index, values * weight)
    count = zero.index_add(0, index, torch.ones_like(values))
    return total / count.clamp_min(1)
