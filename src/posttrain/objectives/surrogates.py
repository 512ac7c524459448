"""What a sampled token's loss is, from its advantage A and how much likelier it became: rho = p / p_old.

Every member maps log-ratios, log-probs and advantages to a loss per token; at rho = 1 each has the gradient -A grad log p. Clipping takes
the gradient away on the profitable side only: a token that moved beyond its bound in the direction of its advantage stops teaching.
Numbers in brackets are arXiv ids.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, NamedTuple

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor

from posttrain.core.batch import Batch
from posttrain.core.recipe import Kind
from posttrain.objectives.kl import LARGEST_LOG_RATIO
from posttrain.objectives.sequence import row_mean, row_sum

Share = Annotated[float, Field(ge=0, lt=1)]


class Sampled(NamedTuple):
    """What a surrogate reads, [N] each: log rho (of the token or its whole answer), log p, A; and the batch they belong to."""

    log_ratio: Tensor
    logp: Tensor
    advantage: Tensor
    batch: Batch

    @property
    def ratio(self) -> Tensor:
        return self.log_ratio.clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO).exp()


def clipped(ratio: Tensor, advantage: Tensor, low: float, high: float) -> Tensor:
    """-min(rho A, clamp(rho, 1 - low, 1 + high) A), of any shape."""
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


class Surrogate(Kind):
    """A loss per sampled token."""

    family: ClassVar[str] = "surrogate"

    def __call__(self, of: Sampled) -> Tensor:
        """[N] losses."""
        raise AssertionError(f"{type(self).__name__} has no formula")

    def held(self, of: Sampled) -> tuple[Tensor, Tensor]:
        """[N] twice: tokens whose gradient was taken away below and above their bounds."""
        none = torch.zeros_like(of.advantage, dtype=torch.bool)
        return none, none


class Clip(Surrogate):
    """PPO's clipped surrogate (1707.06347); with `high` above `low`, clip-higher of DAPO (2503.14476)."""

    name: ClassVar[str] = "clip"
    low: Share = 0.2
    """How far a token may fall below its old probability before it stops teaching."""
    high: PositiveFloat = 0.2
    """How far it may rise; 0.28 lets rare tokens grow more (DAPO)."""

    def __call__(self, of: Sampled) -> Tensor:
        return clipped(of.ratio, of.advantage, self.low, self.high)

    def held(self, of: Sampled) -> tuple[Tensor, Tensor]:
        ratio, up = of.ratio, of.advantage > 0
        return (ratio < 1 - self.low) & (of.advantage < 0), (ratio > 1 + self.high) & up


class TwoSided(Clip):
    """The clip with a cap on the ratio of bad answers too (INTELLECT-2, 2505.07291)."""

    name: ClassVar[str] = "two_sided"
    delta: PositiveFloat = 4.0
    """Largest ratio that a token of any advantage may count with; above 1 + high."""

    @model_validator(mode="after")
    def _above(self) -> TwoSided:
        if self.delta <= 1 + self.high:
            raise ValueError(f"delta is {self.delta}, and must lie above 1 + high = {1 + self.high:g}")
        return self

    def __call__(self, of: Sampled) -> Tensor:
        ratio, a = of.ratio, of.advantage
        return -torch.minimum(ratio.clamp_max(self.delta) * a, ratio.clamp(1 - self.low, 1 + self.high) * a)


class DualClip(Clip):
    """The clip with a floor for bad answers whose tokens became much likelier (1912.09729)."""

    name: ClassVar[str] = "dual_clip"
    cap: Annotated[float, Field(gt=1)] = 3.0
    """A token of a bad answer costs at most this many times its advantage."""

    def __call__(self, of: Sampled) -> Tensor:
        plain = clipped(of.ratio, of.advantage, self.low, self.high)
        return torch.where(of.advantage < 0, torch.minimum(plain, -self.cap * of.advantage), plain)


class CISPO(Surrogate):
    """The ratio as a capped constant before log p: no token loses its gradient (2506.13585)."""

    name: ClassVar[str] = "cispo"
    cap: PositiveFloat = 5.0
    """Largest ratio, in absolute terms."""

    def __call__(self, of: Sampled) -> Tensor:
        return -of.ratio.clamp_max(self.cap).detach() * of.advantage * of.logp

    def held(self, of: Sampled) -> tuple[Tensor, Tensor]:
        over = of.ratio > self.cap
        return torch.zeros_like(over), over & (of.advantage > 0)


class SAPO(Surrogate):
    """A soft gate in place of the clip (2511.20347): -(4 / tau) sigma(tau (rho - 1)) A."""

    name: ClassVar[str] = "sapo"
    good: PositiveFloat = 1.0
    """tau of tokens with positive advantage; larger closes the gate sooner."""
    bad: PositiveFloat = 1.05
    """tau of tokens with negative advantage."""

    def __call__(self, of: Sampled) -> Tensor:
        tau = torch.where(of.advantage > 0, self.good, self.bad).to(of.advantage.dtype)
        return -4 / tau * torch.sigmoid(tau * (of.ratio - 1)) * of.advantage


class GMPO(Surrogate):
    """The geometric mean of an answer's token ratios, each clipped on its profitable side (2507.20673)."""

    name: ClassVar[str] = "gmpo"
    low: PositiveFloat = 0.4
    """Bound of log rho below."""
    high: PositiveFloat = 0.4
    """Bound of log rho above."""

    def __call__(self, of: Sampled) -> Tensor:
        up = of.advantage > 0
        side = torch.where(up, of.log_ratio.clamp_max(self.high), of.log_ratio.clamp_min(-self.low))
        return -row_mean(side, of.batch).exp()[of.batch.row] * of.advantage

    def held(self, of: Sampled) -> tuple[Tensor, Tensor]:
        up = of.advantage > 0
        return (of.log_ratio < -self.low) & (of.advantage < 0), (of.log_ratio > self.high) & up


class VESPO(Surrogate):
    """The ratio w of the whole answer, reshaped by a gamma density, as a constant before log p (2602.10693)."""

    name: ClassVar[str] = "vespo"
    good: tuple[PositiveFloat, PositiveFloat] = (2.0, 3.0)
    """(k, kappa) of e^kappa w^k e^(-kappa w) for answers with advantage 0 or more."""
    bad: tuple[PositiveFloat, PositiveFloat] = (3.0, 2.0)
    """(k, kappa) for the others."""

    def __call__(self, of: Sampled) -> Tensor:
        total = row_sum(of.log_ratio.detach().clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO), of.batch)
        log_w = total.clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)[of.batch.row]
        fine = of.advantage >= 0
        k = torch.where(fine, self.good[0], self.bad[0]).to(log_w.dtype)
        kappa = torch.where(fine, self.good[1], self.bad[1]).to(log_w.dtype)
        weight = (kappa + k * log_w - kappa * log_w.exp()).exp()
        return -weight * of.advantage * of.logp


class Ratio(Kind):
    """Of what the ratio is taken."""

    family: ClassVar[str] = "ratio"

    def __call__(self, log_ratio: Tensor, batch: Batch) -> Tensor:
        """Log-ratios of tokens [N] to those that the surrogate reads [N]."""
        raise AssertionError(f"{type(self).__name__} has no formula")


class TokenRatio(Ratio):
    """Each token's own ratio."""

    name: ClassVar[str] = "token"

    def __call__(self, log_ratio: Tensor, batch: Batch) -> Tensor:
        return log_ratio


class SequenceRatio(Ratio):
    """One ratio per answer, the geometric mean of its tokens' (GSPO, 2507.18071); clip at about 3e-4 and 4e-4."""

    name: ClassVar[str] = "sequence"

    def __call__(self, log_ratio: Tensor, batch: Batch) -> Tensor:
        return row_mean(log_ratio, batch)[batch.row]
