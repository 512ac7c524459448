"""What all methods of sampled answers share: the log-probs a step starts from, the reference's, the correction for samples of other
weights, and the figures that a run shows.

`old` are log-probs of the drawn tokens under the weights at the start of the step. The sampler's own are trusted where it samples
with those weights (the preflight's R1 re-scores some); with a `Correction` they are computed anew, and every token is weighted by how
much likelier the trainer's weights make it than the sampler did, truncated (Espeholt et al. 2018, arXiv:1802.01561). All log-probs are
taken at the sampling temperature.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor

from posttrain.core.batch import Batch
from posttrain.core.group import Group
from posttrain.core.needs import Critic, Needs, Output
from posttrain.core.protocols import Engine
from posttrain.core.recipe import Spec
from posttrain.objectives.advantages import moments, usable
from posttrain.objectives.kl import LARGEST_LOG_RATIO
from posttrain.objectives.sequence import row_length, row_sum

Figures = dict[str, tuple[float, float]]
SAME = 1e-5
"""Largest difference of `logp` and `sampled_logp` that is not truncation."""


class Correction(Spec):
    """Weights for samples that other weights, another engine or a truncated distribution drew."""

    level: Literal["token", "sequence"] = "token"
    """A weight for each token, or one for each answer (the product of its tokens')."""
    low: NonNegativeFloat = 0.0
    """Weights below this are raised to it (or their tokens left out, with `outside: drop`)."""
    high: PositiveFloat = 2.0
    """Weights above this are lowered to it (or left out)."""
    outside: Literal["truncate", "drop"] = "truncate"
    """What happens to weights beyond the bounds."""

    @model_validator(mode="after")
    def _ordered(self) -> Correction:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low}, and must lie below high = {self.high}")
        return self

    def weights(self, old: Tensor, sampled: Tensor, batch: Batch) -> Tensor:
        """[N] from log-probs of the trainer and of the sampler."""
        gap = old - sampled
        if self.level == "sequence":
            gap = row_sum(gap, batch)[batch.row]
        weight = gap.clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO).exp()
        if self.outside == "drop":
            return torch.where((weight < self.low) | (weight > self.high), torch.zeros_like(weight), weight)
        return weight.clamp(self.low, self.high)


def with_old(
    batch: Batch,
    engine: Engine,
    temperature: float,
    correction: Correction | None,
    value: int = 0,
    critic: Critic = "head",
) -> tuple[Batch, Output]:
    """The batch with `old` and `omega` (the correction's weights, 1 without) [N]; and, where `value` heads are asked for, their output.

    Raises ValueError where samples were drawn from a truncated distribution and nothing corrects for it.
    """
    known = "old" in batch.data and correction is None
    out = Output()
    if value or not known:
        out = engine.score(batch, Needs(logp=not known, value=value, critic=critic, temperature=temperature))
    old = batch.data["old"] if known else out.logp
    assert old is not None
    sampled = batch.data.get("sampled")
    omega = torch.ones_like(old)
    if correction is not None and sampled is not None:
        omega = correction.weights(old, sampled, batch)
    elif sampled is not None and batch.N and float((batch.data["old"] - sampled).abs().max()) > SAME:
        raise ValueError(
            "these answers were drawn with top_p, top_k, min_p, a penalty or bans, so their log-probs are not the policy's; "
            "sample without them, or set `correction` to weigh the tokens"
        )
    return batch.plus("token", old=old, omega=omega), out


def with_reference(batch: Batch, engine: Engine, temperature: float) -> Batch:
    """The batch with the reference's log-probs `ref` [N]."""
    out = engine.score(batch, Needs(logp=True, temperature=temperature), role="reference").logp
    assert out is not None
    return batch.plus("token", ref=out)


def scored(group: Group, least: int) -> str | None:
    """Why this group of sampled answers cannot be learned from, or None. Prompts without answers are fine: they will be sampled."""
    if not group.responses or all(r.score is None for r in group.responses):
        return None
    if len(group.responses) < least:
        return f"{len(group.responses)} answers, {least} are needed"
    return None


def sampled_figures(batch: Batch, engine: Engine) -> Figures:
    """Figures of a prepared step: reward, its spread, length, how many stopped, entropy and KL.

    entropy is the mean of -log p over the drawn tokens: an unbiased estimate that costs nothing. kl is k1 per token, kl_sequence summed
    over an answer. sampler_gap: mean |trainer's - sampler's log-prob| where both are known.
    """
    known = usable(batch.data["score"])
    score = batch.data["score"].nan_to_num(0.0)
    _, variance, answers = moments(score, known, engine)
    rows, tokens = float(batch.R), float(batch.N)
    out: Figures = {
        "reward": (float((score * known).sum()), float(known.sum())),
        "reward_std": (variance**0.5, 1.0),
        "unscored": (rows - float(known.sum()), rows),
        "length": (float(row_length(batch).sum()), rows),
        "stopped": (float(batch.data["stopped"].sum()), rows),
        "entropy": (float(-batch.data["old"].sum()), tokens),
        "answers": (answers, 1.0),
    }
    for name, value in batch.data.items():
        if name.startswith("part."):
            there = usable(value)
            out[name] = (float((value.nan_to_num(0.0) * there).sum()), float(there.sum()))
    if "ref" in batch.data:
        kl = float((batch.data["old"] - batch.data["ref"]).sum())
        out |= {"kl": (kl, tokens), "kl_sequence": (kl, rows)}
    if "sampled" in batch.data:
        gap = (batch.data["old"] - batch.data["sampled"]).abs()
        out |= {"sampler_gap": (float(gap.sum()), tokens), "omega": (float(batch.data["omega"].sum()), tokens)}
    return out


def moved(log_ratio: Tensor, held: tuple[Tensor, Tensor], weight: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Metrics of how far the policy is from the start of its step, over the taught tokens: ratio, approx_kl, clip shares."""
    log_ratio = log_ratio.detach()
    there = (weight > 0).to(log_ratio.dtype)
    count = there.sum()
    low, high = (h.to(log_ratio.dtype) * there for h in held)
    return {
        "ratio": ((log_ratio.clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO).exp() * there).sum(), count),
        "approx_kl": ((0.5 * log_ratio**2 * there).sum(), count),
        "clip_low": (low.sum(), count),
        "clip_high": (high.sum(), count),
        "clip_fraction": ((low + high).sum(), count),
    }
