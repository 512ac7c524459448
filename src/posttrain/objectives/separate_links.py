"""Links that judge each response of a pair on its own, by its implied reward r = beta * h, not only by the difference.

They also say whether a response should rise above the reference at all. A margin m asks r_w - r_l for m more: half of it is taken from
r_w and half is added to r_l. Numbers in brackets are arXiv ids.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from posttrain.objectives.links import Link
from posttrain.objectives.pairs import Ratios


class SeparateLink(Link):
    """A link of the two rewards."""

    def __call__(self, pair: Ratios, beta: float, margin: Tensor) -> Tensor:
        return self.of_rewards(beta * pair.h_w - margin / 2, beta * pair.h_l + margin / 2, beta)

    def of_rewards(self, r_w: Tensor, r_l: Tensor, beta: float) -> Tensor:
        """Loss per pair [Q] of the rewards r = beta * h."""
        raise AssertionError(f"{type(self).__name__} has no formula")


class NCA(SeparateLink):
    """Noise-contrastive alignment (2402.05369): the chosen reward is held up on its own, so its likelihood does not fall."""

    name: ClassVar[str] = "nca"

    def of_rewards(self, r_w: Tensor, r_l: Tensor, beta: float) -> Tensor:
        return -logsigmoid(r_w) - 0.5 * logsigmoid(-r_w) - 0.5 * logsigmoid(-r_l)


class BCOPair(SeparateLink):
    """Binary classification of pairs (2404.04656) without its moving threshold: chosen above 0, rejected below."""

    name: ClassVar[str] = "bco"

    def of_rewards(self, r_w: Tensor, r_l: Tensor, beta: float) -> Tensor:
        return -logsigmoid(r_w) - logsigmoid(-r_l)


class SPPO(SeparateLink):
    """Self-play preference optimisation (2405.00675): regress h to +-1 / (2 beta); a soft label p moves the target to (p - 1/2) / beta."""

    name: ClassVar[str] = "sppo"

    def of_rewards(self, r_w: Tensor, r_l: Tensor, beta: float) -> Tensor:
        return ((r_w - 0.5) ** 2 + (r_l + 0.5) ** 2) / beta**2


class APOZero(SeparateLink):
    """Anchored preference optimisation, zero (2408.06266): chosen up, rejected down; for chosen answers better than the model's own."""

    name: ClassVar[str] = "apo_zero"

    def of_rewards(self, r_w: Tensor, r_l: Tensor, beta: float) -> Tensor:
        return 1 - torch.sigmoid(r_w) + torch.sigmoid(r_l)


class APODown(SeparateLink):
    """Anchored preference optimisation, down (2408.06266): both down, the rejected one more; for chosen answers worse than the model's."""

    name: ClassVar[str] = "apo_down"

    def of_rewards(self, r_w: Tensor, r_l: Tensor, beta: float) -> Tensor:
        return torch.sigmoid(r_w) + 1 - torch.sigmoid(r_w - r_l)
