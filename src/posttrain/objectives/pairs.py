"""What all losses of pairs share: both readings of a soft label, who is imitated, and the figures that a run shows.

A pair is (better, other) with p = P(better wins), a weight and a margin. p = 1 is a plain preference, 0.5 a tie. A ranking enters as all
the ordered pairs that it implies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from posttrain.core.batch import Batch
from posttrain.core.group import Group
from posttrain.objectives.sequence import group_mean, row_length, row_sum

Metrics = dict[str, tuple[Tensor | float, Tensor | float]]


class Ratios(NamedTuple):
    """Log-ratios (or log-probs, where there is no reference) and lengths of the two responses of each pair, [Q] each."""

    h_w: Tensor
    h_l: Tensor
    n_w: Tensor
    n_l: Tensor

    def swapped(self) -> Ratios:
        """The same pairs with the preference turned round: the second term of a soft label."""
        return Ratios(self.h_l, self.h_w, self.n_l, self.n_w)

    @classmethod
    def of(cls, values: Tensor, batch: Batch) -> Ratios:
        """The pairs of a batch from values per response [R]."""
        better, other = batch.pair[:, 0], batch.pair[:, 1]
        length = row_length(batch)
        return cls(values[better], values[other], length[better], length[other])


def expected(loss: Callable[[Ratios, Tensor], Tensor], pair: Ratios, batch: Batch) -> Tensor:
    """Loss per pair [Q] under its soft label: p * loss(pair, margin) + (1 - p) * loss(pair turned round, -margin)."""
    p, margin = batch.data["p"], batch.data["margin"]
    straight = loss(pair, margin)
    if bool((p == 1).all()):
        return straight
    return p * straight + (1 - p) * loss(pair.swapped(), -margin)


def over_groups(loss: Tensor, batch: Batch, weight: Tensor | None = None) -> Tensor:
    """Sum over groups of the mean of each group's pairs, weighted by the pairs' own weights (and `weight` [Q])."""
    own = batch.data["pair_weight"]
    weight = own if weight is None else own * weight
    return group_mean(loss, batch.group[batch.pair[:, 0]], weight, batch.G).sum()


def chosen(batch: Batch) -> Tensor:
    """[R] probability that a response beats every one it was compared with: 1 for a chosen answer, 0 for a rejected one.

    Soft labels give p and 1 - p, rankings 1 for the first tier; a response in no pair has 0.
    """
    win = torch.ones(batch.R, device=batch.ids.device)
    met = torch.zeros_like(win)
    for side, share in ((0, batch.data["p"]), (1, 1 - batch.data["p"])):
        rows = batch.pair[:, side]
        win = win.scatter_reduce(0, rows, share.to(win.dtype), "prod")
        met = met.index_fill(0, rows, 1.0)
    return win * met


def counting_chosen(batch: Batch) -> Batch:
    """The batch with the unit ``chosen``: (expected) trained tokens of chosen responses, the denominator of their likelihood."""
    return batch.counting("row", chosen=chosen(batch) * row_length(batch))


def chosen_nll(logp: Tensor, batch: Batch) -> Tensor:
    """Sum of -log p over the tokens of chosen responses; divide by the count ``chosen``."""
    return -(chosen(batch) * row_sum(logp, batch)).sum()


def tail_weighted(values: Tensor, batch: Batch, tail: float) -> tuple[Tensor, Tensor]:
    """Sums of both sides of each pair, ([Q], [Q]), tokens beyond the shorter side's length counting `tail`. values [N]."""
    pair = batch.pair.cpu().numpy()
    lengths = np.diff(batch.tokens_of)
    shorter = lengths[pair].min(axis=1) if len(pair) else np.zeros(0, dtype=np.int64)
    sides = []
    for rows in (pair[:, 0], pair[:, 1]):
        count = lengths[rows]
        of_pair = np.repeat(np.arange(len(rows)), count)
        place = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        index = torch.from_numpy(place + np.repeat(batch.tokens_of[rows], count)).to(values.device)
        weight = torch.from_numpy(np.where(place < shorter[of_pair], 1.0, tail)).to(values)
        zero = torch.zeros(len(rows), dtype=values.dtype, device=values.device)
        sides.append(zero.index_add(0, torch.from_numpy(of_pair).to(values.device), values[index] * weight))
    return sides[0], sides[1]


def pair_metrics(reward: Tensor, logp: Tensor, batch: Batch) -> Metrics:
    """Accuracy, margin and both sides' figures. reward [R]: the implied reward; logp [N]. Pairs with p < 0.5 are read backwards,
    ties count in no figure but the log-probs."""
    p = batch.data["p"]
    backwards = p < 0.5
    best = torch.where(backwards, batch.pair[:, 1], batch.pair[:, 0])
    rest = torch.where(backwards, batch.pair[:, 0], batch.pair[:, 1])
    sure = (p != 0.5).to(reward.dtype)
    reward = reward.detach()
    gap = reward[best] - reward[rest]
    right = (gap > 0).to(gap.dtype) + 0.5 * (gap == 0).to(gap.dtype)
    per_token = row_sum(logp.detach(), batch) / row_length(batch).clamp_min(1)
    counted = sure.sum()
    return {
        "accuracy": ((right * sure).sum(), counted),
        "margin": ((gap * sure).sum(), counted),
        "reward_chosen": ((reward[best] * sure).sum(), counted),
        "reward_rejected": ((reward[rest] * sure).sum(), counted),
        "logp_chosen": (per_token[best].sum(), batch.Q),
        "logp_rejected": (per_token[rest].sum(), batch.Q),
    }


def not_compared(group: Group) -> str | None:
    """Why no pair can be learned from this group, or None."""
    return None if any(not p.both_bad for p in group.pairs()) else "no preference between its responses"
