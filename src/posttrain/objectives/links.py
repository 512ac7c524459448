"""Links of the paired preference losses: from how much the policy raised two responses over the reference to a loss.

Notation: h_w, h_l = log-ratio of the preferred and the other response, policy over reference, summed over tokens; n_w, n_l their lengths
in trained tokens; z = beta * (h_w - h_l). Every link maps vectors [Q] to losses [Q]. Here are the links of the difference z; those that
judge each response on its own are in `objectives.separate_links`. Numbers in brackets are arXiv ids.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from posttrain.core.recipe import Kind
from posttrain.objectives.pairs import Ratios

Rate = Annotated[float, Field(ge=0, lt=0.5)]
LARGEST_EXPONENT = 80.0
"""exp() of more overflows fp32."""


class Link(Kind):
    """A function of a pair's log-ratios."""

    family: ClassVar[str] = "link"

    def __call__(self, pair: Ratios, beta: float, margin: Tensor) -> Tensor:
        """Loss per pair [Q]; `margin` [Q] is subtracted from z."""
        raise AssertionError(f"{type(self).__name__} has no formula")


class Sigmoid(Link):
    """The logistic loss of DPO (2305.18290): -log sigma(z)."""

    name: ClassVar[str] = "sigmoid"

    def __call__(self, pair: Ratios, beta: float, margin: Tensor) -> Tensor:
        return -logsigmoid(beta * (pair.h_w - pair.h_l) - margin)


class Conservative(Link):
    """Label smoothing (Mitchell 2023, note on DPO): a share `flips` of the labels is taken to be wrong."""

    name: ClassVar[str] = "conservative"
    flips: Rate = 0.1
    """Share of labels that may be flipped; 0 is the plain logistic loss."""

    def __call__(self, pair: Ratios, beta: float, margin: Tensor) -> Tensor:
        z = beta * (pair.h_w - pair.h_l) - margin
        return -(1 - self.flips) * logsigmoid(z) - self.flips * logsigmoid(-z)


class Robust(Link):
    """Robust DPO (2403.00409): unbiased under labels that are flipped at the rate `smoothing`; may be negative."""

    name: ClassVar[str] = "robust"
    smoothing: Rate = 0.1
    """Rate at which labels are flipped; 0 is the plain logistic loss."""

    def __call__(self, pair: Ratios, beta: float, margin: Tensor) -> Tensor:
        z = beta * (pair.h_w - pair.h_l) - margin
        e = self.smoothing
        return (-(1 - e) * logsigmoid(z) + e * logsigmoid(-z)) / (1 - 2 * e)


class Hinge(Link):
    """Hinge of SLiC (2305.10425) and RSO (2309.06657): max(0, 1 - z)."""

    name: ClassVar[str] = "hinge"

    def __call__(self, pair: Ratios, beta: float, margin: Tensor) -> Tensor:
        return relu(1 - (beta * (pair.h_w - pair.h_l) - margin))


class IPO(Link):
    """Identity preference optimisation (2310.12036): regress the difference of mean log-ratios to 1 / (2 beta).

    Its beta is on another scale than DPO's: it is the inverse of the gap to reach.
    """

    name: ClassVar[str] = "ipo"

    def __call__(self, pair: Ratios, beta: float, margin: Tensor) -> Tensor:
        gap = pair.h_w / pair.n_w - pair.h_l / pair.n_l - margin
        return (gap - 1 / (2 * beta)) ** 2


class Normalised(Link):
    """Length-normalised DPO (Tulu 3, 2411.15124): the logistic loss of log-ratios per token. Its beta is larger, 5 is usual."""

    name: ClassVar[str] = "normalised"

    def __call__(self, pair: Ratios, beta: float, margin: Tensor) -> Tensor:
        return -logsigmoid(beta * (pair.h_w / pair.n_w - pair.h_l / pair.n_l) - margin)


class EXO(Link):
    """Efficient exact optimisation (2402.00856): KL from the policy's preference (sigma(z), sigma(-z)) to (1 - e, e)."""

    name: ClassVar[str] = "exo"
    smoothing: Annotated[float, Field(gt=0, lt=0.5)] = 1e-3
    """Probability e that the other response is really the better one; it must be above 0."""

    def __call__(self, pair: Ratios, beta: float, margin: Tensor) -> Tensor:
        z = beta * (pair.h_w - pair.h_l) - margin
        wins, loses = logsigmoid(z), logsigmoid(-z)
        return wins.exp() * (wins - math.log1p(-self.smoothing)) + loses.exp() * (loses - math.log(self.smoothing))


class DiscoPOP(Link):
    """The loss that a search found (2406.08414): logistic while z < 0, exponential once z > 0, blended by sigma(z / tau)."""

    name: ClassVar[str] = "discopop"
    tau: PositiveFloat = 0.05
    """Width of the blend around z = 0."""

    def __call__(self, pair: Ratios, beta: float, margin: Tensor) -> Tensor:
        z = beta * (pair.h_w - pair.h_l) - margin
        blend = torch.sigmoid(z / self.tau)
        return -(1 - blend) * logsigmoid(z) + blend * torch.exp((-z).clamp_max(LARGEST_EXPONENT))
