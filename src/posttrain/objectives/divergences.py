"""Other divergences than the reverse KL between policy and reference, for losses of log-ratios (f-DPO, arXiv:2309.16240).

Each replaces a log-ratio h by f'(e^h), shifted so that h = 0 stays 0; at h = 0 all have slope 1, and differ in how they bound large h.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import model_validator
from torch import Tensor
from torch.nn.functional import logsigmoid

from posttrain.core.recipe import Kind
from posttrain.objectives.links import LARGEST_EXPONENT


class Divergence(Kind):
    """A function of log-ratios."""

    family: ClassVar[str] = "divergence"

    def __call__(self, h: Tensor) -> Tensor:
        """h of any shape -> the same shape."""
        raise AssertionError(f"{type(self).__name__} has no formula")


class ReverseKL(Divergence):
    """KL(policy, reference), as in DPO: h itself."""

    name: ClassVar[str] = "reverse_kl"

    def __call__(self, h: Tensor) -> Tensor:
        return h


class ForwardKL(Divergence):
    """KL(reference, policy): 1 - e^-h; rises are bounded by 1, falls are not, which keeps the policy broad."""

    name: ClassVar[str] = "forward_kl"

    def __call__(self, h: Tensor) -> Tensor:
        return 1 - torch.exp((-h).clamp_max(LARGEST_EXPONENT))


class JensenShannon(Divergence):
    """Jensen-Shannon: log 2 + log sigma(h); between the two KLs."""

    name: ClassVar[str] = "js"

    def __call__(self, h: Tensor) -> Tensor:
        return math.log(2) + logsigmoid(h)


class Alpha(Divergence):
    """Alpha divergence: (e^((a-1)h) - 1) / (a - 1); a = 0 is the forward KL, a near 1 the reverse KL."""

    name: ClassVar[str] = "alpha"
    a: float = 0.5
    """Its order; not 1, which is the limit `reverse_kl`."""

    @model_validator(mode="after")
    def _not_one(self) -> Alpha:
        if abs(self.a - 1) < 1e-6:
            raise ValueError("a = 1 is the limit of this family; write divergence: reverse_kl")
        return self

    def __call__(self, h: Tensor) -> Tensor:
        return torch.expm1(((self.a - 1) * h).clamp_max(LARGEST_EXPONENT)) / (self.a - 1)
