"""Likelihood of rankings under one score per response: Plackett-Luce with ties, and pairs with soft labels.

Plackett 1975; for reward models Ouyang et al. 2022, arXiv:2203.02155. A ranking of two equals Bradley-Terry.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from posttrain.core.batch import Batch
from posttrain.objectives.pairs import Metrics
from posttrain.objectives.sequence import group_mean


def bradley_terry(score_i: Tensor, score_j: Tensor, p: Tensor, margin: Tensor) -> Tensor:
    """-p log sigma(d - m) - (1 - p) log sigma(m - d), d = score_i - score_j: minimal at d = m + logit p. All [Q]."""
    d = score_i - score_j - margin
    return -p * logsigmoid(d) - (1 - p) * logsigmoid(-d)


def plackett_luce(scores: Tensor, rank: Tensor, group: Tensor, groups: int) -> Tensor:
    """-log likelihood of each group's ranking, [groups]. scores [R], rank [R] tier (0 = best, -1 = not ranked), group [R].

    A tie is read as the mean over its orders' first factor (Efron's approximation as in survival analysis): members of a tier share the
    denominators left when half of the tier has gone, so a tier of one is exact. Groups with one tier only give 0.
    """
    losses = []
    for g in range(groups):
        mine = (group == g) & (rank >= 0)
        losses.append(_one(scores[mine], rank[mine]))
    return torch.stack(losses) if losses else scores.new_zeros(0)


def _one(scores: Tensor, rank: Tensor) -> Tensor:
    loss = scores.sum() * 0.0
    tiers = sorted(set(rank.tolist()))
    for tier in tiers[:-1] if tiers else []:
        here, left = rank == tier, rank >= tier
        size = int(here.sum())
        log_left, log_here = scores[left].logsumexp(0), scores[here].logsumexp(0)
        loss = loss - scores[here].sum()
        for gone in range(size):
            share = gone / size
            loss = loss + (log_left if gone == 0 else log_left + torch.log1p(-share * torch.exp(log_here - log_left)))
    return loss


def comparisons(score: Tensor, batch: Batch) -> Tensor:
    """Loss of each group [G] under one score per response [R]: its ranking where it has one, else the weighted mean of its pairs."""
    i, j = batch.pair[:, 0], batch.pair[:, 1]
    of_pair = bradley_terry(score[i], score[j], batch.data["p"], batch.data["margin"])
    by_pair = group_mean(of_pair, batch.group[i], batch.data["pair_weight"], batch.G)
    rank = batch.data["rank"]
    ranked = torch.zeros(batch.G, dtype=torch.bool, device=score.device)
    ranked[batch.group[rank >= 0]] = True
    if not bool(ranked.any()):
        return by_pair
    return torch.where(ranked, plackett_luce(score, rank, batch.group, batch.G), by_pair)


def agreement(score: Tensor, batch: Batch) -> Metrics:
    """How scores [R] agree with the pairs: accuracy and margin over those with a side (p is not 1/2)."""
    gap = (score[batch.pair[:, 0]] - score[batch.pair[:, 1]]).detach()
    side = torch.sign(batch.data["p"] - 0.5)
    sure = side != 0
    return {"accuracy": (((gap * side > 0) & sure).sum(), sure.sum()), "margin": ((gap * side).sum(), sure.sum())}
