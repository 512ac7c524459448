"""Modifiers of the paired losses: they change what is summed, what z is asked for, or how much a pair counts, under any link.

Each overrides one of three functions, the others change nothing, so that modifiers compose. Numbers in brackets are arXiv ids.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor
from torch.nn.functional import relu

from posttrain.core.batch import Batch
from posttrain.core.needs import Output
from posttrain.core.recipe import Kind
from posttrain.objectives.pairs import Ratios
from posttrain.objectives.sequence import row_mean


class Modifier(Kind):
    """See the module docstring."""

    family: ClassVar[str] = "modifier"
    log_sum_sq: ClassVar[bool] = False
    """Does it read log sum p^2 of the policy?"""

    def tail(self) -> float:
        """How much tokens beyond the shorter response's length count in both log-ratios."""
        return 1.0

    def bonus(self, pair: Ratios, beta: float) -> Tensor | float:
        """What is added to z, [Q]."""
        return 0.0

    def weight(self, out: Output, batch: Batch) -> Tensor | float:
        """How much each pair counts, [Q], without a gradient."""
        return 1.0


class LD(Modifier):
    """Length-desensitised DPO (2409.06411): the surplus of the longer response counts less."""

    name: ClassVar[str] = "ld"
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How much a token beyond the shorter length counts; 1 is plain DPO, 0 ignores the surplus."""

    def tail(self) -> float:
        return self.alpha


class WPO(Modifier):
    """Weighted preference optimisation (2406.11827): pairs that the policy would write itself count more."""

    name: ClassVar[str] = "wpo"
    log_sum_sq: ClassVar[bool] = True

    @torch.no_grad()
    def weight(self, out: Output, batch: Batch) -> Tensor:
        assert out.logp is not None and out.log_sum_sq is not None
        likeness = row_mean(out.logp - out.log_sum_sq, batch)
        return torch.exp(likeness[batch.pair[:, 0]] + likeness[batch.pair[:, 1]])


class DPOP(Modifier):
    """DPO-positive (2402.13228): a chosen response that falls below the reference is charged for it."""

    name: ClassVar[str] = "dpop"
    penalty: NonNegativeFloat = 50.0
    """What a nat of fall of the chosen response costs in the margin; the paper uses 5 to 500, 50 most."""

    def bonus(self, pair: Ratios, beta: float) -> Tensor:
        return -beta * self.penalty * relu(-pair.h_w)


class LengthMargin(Modifier):
    """R-DPO (2403.19159): a longer chosen response has z raised, so that length alone teaches less."""

    name: ClassVar[str] = "length"
    alpha: NonNegativeFloat = 0.01
    """What a token of surplus length is worth in z; 0 is plain DPO."""

    def bonus(self, pair: Ratios, beta: float) -> Tensor:
        return self.alpha * (pair.n_w - pair.n_l)
