"""From rewards to advantages: generalised advantage estimation, whitening, and baselines taken from the other answers of a group.

Values per token [N] are those of trained tokens in order; tokens that are not trained do not exist here, so they are skipped and not
treated as steps. An answer without a score (nan) is in no baseline and has advantage 0. Schulman et al. 2015 (arXiv:1506.02438).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from posttrain.core.batch import Batch
from posttrain.core.protocols import Engine
from posttrain.core.recipe import Kind

TINY = 1e-8
"""Under the root of a variance, in whitening."""
ROUND = 1e-4
"""Added to a standard deviation that divides."""


def backwards(rewards: Tensor, batch: Batch, decay: float) -> Tensor:
    """x_t = r_t + decay * x_{t+1} along each response, 0 after its end. rewards [N] -> [N]."""
    lengths = np.diff(batch.tokens_of)
    if batch.N == 0:
        return rewards.clone()
    width = int(lengths.max())
    row = batch.row
    place = (
        torch.arange(batch.N, device=rewards.device) - torch.from_numpy(batch.tokens_of[:-1]).to(rewards.device)[row]
    )
    grid = rewards.new_zeros(width, batch.R)
    grid[place, row] = rewards
    for t in range(width - 2, -1, -1):
        grid[t] += decay * grid[t + 1]
    return grid[place, row]


def following(values: Tensor, batch: Batch) -> Tensor:
    """The value of the next token's state, 0 after a response's end. values [N] -> [N]."""
    moved = torch.cat([values[1:], values.new_zeros(1)])[: batch.N]
    ends = torch.from_numpy(batch.tokens_of[1:] - 1).to(values.device)
    return moved.index_fill(0, ends[torch.from_numpy(np.diff(batch.tokens_of) > 0).to(values.device)], 0.0)


def gae(rewards: Tensor, values: Tensor, batch: Batch, gamma: float, lam: float) -> Tensor:
    """Advantages [N]: the sum over k of (gamma lam)^k of r + gamma V' - V. rewards, values [N]; V after the end is 0."""
    delta = rewards + gamma * following(values, batch) - values
    return backwards(delta, batch, gamma * lam)


def at_last(row_values: Tensor, batch: Batch) -> Tensor:
    """A value per response [R] at its last trained token, 0 elsewhere [N]."""
    out = row_values.new_zeros(batch.N)
    out[torch.from_numpy(batch.tokens_of[1:] - 1).to(out.device)] = row_values
    return out


def moments(values: Tensor, weight: Tensor, engine: Engine) -> tuple[float, float, float]:
    """Weighted mean and (biased) variance over all ranks, and the weight's sum. values, weight of one shape."""
    sums = engine.total({"n": float(weight.sum()), "x": float((values * weight).sum())})
    mean = sums["x"] / max(sums["n"], 1.0)
    spread = engine.total({"s": float(((values - mean) ** 2 * weight).sum())})["s"]
    return mean, spread / max(sums["n"], 1.0), sums["n"]


def whitened(values: Tensor, weight: Tensor, engine: Engine, shift: bool = True) -> Tensor:
    """Divided by the standard deviation over the weighted values of all ranks; with `shift` their mean is 0, else it is kept."""
    mean, variance, _ = moments(values, weight, engine)
    white = (values - mean) / (variance + TINY) ** 0.5
    return white if shift else white + mean


# Groups


def usable(score: Tensor) -> Tensor:
    """[R] 1 where there is a score."""
    return (~score.isnan()).to(score.dtype)


def group_moments(score: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and unbiased standard deviation (0 for one answer) of the scores of each response's group, and their number, [R] each."""
    known = usable(score)
    filled = score.nan_to_num(0.0)
    zero = score.new_zeros(batch.G)
    count = zero.index_add(0, batch.group, known)
    mean = zero.index_add(0, batch.group, filled * known) / count.clamp_min(1)
    off = (filled - mean[batch.group]) * known
    variance = zero.index_add(0, batch.group, off**2) / (count - 1).clamp_min(1)
    return mean[batch.group], variance.sqrt()[batch.group], count[batch.group]


def flat(score: Tensor, batch: Batch) -> Tensor:
    """[G] groups in which no two scores differ: they teach nothing."""
    filled = score.nan_to_num(0.0)
    known = usable(score) > 0
    high = score.new_full((batch.G,), -torch.inf).scatter_reduce(
        0, batch.group, torch.where(known, filled, -torch.inf), "amax"
    )
    low = score.new_full((batch.G,), torch.inf).scatter_reduce(
        0, batch.group, torch.where(known, filled, torch.inf), "amin"
    )
    return high <= low


class Scale(Kind):
    """What an answer's lead over its group's mean is divided by."""

    family: ClassVar[str] = "scale"

    def __call__(self, score: Tensor, batch: Batch, engine: Engine) -> Tensor:
        """Advantages [R] from scores [R] (nan where there is none)."""
        mean, deviation, _ = group_moments(score, batch)
        lead = (score - mean).nan_to_num(0.0)
        exactly_flat = flat(score, batch)[batch.group]  # rounding of the mean must not become an advantage
        return torch.where(exactly_flat, torch.zeros_like(lead), lead / self.unit(lead, deviation, score, engine))

    def unit(self, lead: Tensor, deviation: Tensor, score: Tensor, engine: Engine) -> Tensor | float:
        """What leads are divided by: [R], or one number."""
        raise AssertionError(f"{type(self).__name__} has no unit")


class ByGroup(Scale):
    """The group's own standard deviation (GRPO, 2402.03300): every prompt teaches equally, easy or hard."""

    name: ClassVar[str] = "group"

    def unit(self, lead: Tensor, deviation: Tensor, score: Tensor, engine: Engine) -> Tensor:
        return deviation + ROUND


class ByStep(Scale):
    """The standard deviation of all scores of the step."""

    name: ClassVar[str] = "batch"

    def unit(self, lead: Tensor, deviation: Tensor, score: Tensor, engine: Engine) -> float:
        return _deviation(score.nan_to_num(0.0), usable(score), engine) + ROUND


class ByLeads(Scale):
    """The standard deviation of the leads themselves over the step (REINFORCE++ with a group baseline, 2501.03262)."""

    name: ClassVar[str] = "leads"

    def unit(self, lead: Tensor, deviation: Tensor, score: Tensor, engine: Engine) -> float:
        return _deviation(lead, usable(score), engine) + ROUND


class Unscaled(Scale):
    """Nothing (Dr. GRPO, 2503.20783): prompts whose answers differ more teach more."""

    name: ClassVar[str] = "none"

    def unit(self, lead: Tensor, deviation: Tensor, score: Tensor, engine: Engine) -> float:
        return 1.0


def _deviation(values: Tensor, weight: Tensor, engine: Engine) -> float:
    """Unbiased standard deviation over all ranks."""
    _, variance, n = moments(values, weight, engine)
    return (variance * n / max(n - 1, 1.0)) ** 0.5


def leave_one_out(score: Tensor, batch: Batch) -> Tensor:
    """[R] score minus the mean of the group's other scores; 0 where there is no other."""
    mean, _, count = group_moments(score, batch)
    lead = (score - mean).nan_to_num(0.0) * count / (count - 1).clamp_min(1)
    return torch.where(flat(score, batch)[batch.group], torch.zeros_like(lead), lead)
