"""What an answer is worth that ran out of room before its stop token.

A truncated answer has a score as any other has, but it was not finished; leaving that alone teaches a policy to ramble. Every member
changes scores, or takes the row out of the loss (denominators stay those of the layout).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from posttrain.core.batch import Batch
from posttrain.core.recipe import Kind
from posttrain.objectives.sequence import row_length


class Ending(Kind):
    """A rule for truncated answers."""

    family: ClassVar[str] = "ending"

    def score(self, score: Tensor, batch: Batch) -> Tensor:
        """[R] scores as the method reads them; `stopped` [R] of the batch is 1 where an answer ended by itself."""
        return score

    def taught(self, batch: Batch) -> Tensor:
        """[R] 1 where a row is learned from."""
        return torch.ones_like(batch.data["stopped"])


class Keep(Ending):
    """Truncated answers keep the score they were given."""

    name: ClassVar[str] = "keep"


class Set(Ending):
    """Truncated answers get this score, whatever the reward said (N implementation details of RLHF: -1)."""

    name: ClassVar[str] = "set"
    value: float = -1.0
    """The score; it should lie below what finished answers get."""

    def score(self, score: Tensor, batch: Batch) -> Tensor:
        return torch.where(batch.data["stopped"] > 0, score, torch.full_like(score, self.value))


class Subtract(Ending):
    """Truncated answers lose this much of their score."""

    name: ClassVar[str] = "subtract"
    penalty: PositiveFloat = 1.0
    """What is taken off."""

    def score(self, score: Tensor, batch: Batch) -> Tensor:
        return score - self.penalty * (batch.data["stopped"] <= 0).to(score.dtype)


class Mask(Ending):
    """Truncated answers are not learned from; they still count in baselines and denominators."""

    name: ClassVar[str] = "mask"

    def taught(self, batch: Batch) -> Tensor:
        return (batch.data["stopped"] > 0).to(batch.data["stopped"].dtype)


class Soft(Ending):
    """DAPO's soft punishment (2503.14476): 0 up to budget - buffer tokens, then linear down to -1 at the budget and beyond."""

    name: ClassVar[str] = "soft"
    budget: PositiveInt
    """Longest answer in tokens: the rollout's max_new_tokens."""
    buffer: PositiveInt
    """The last tokens of the budget, in which the punishment grows."""

    @model_validator(mode="after")
    def _inside(self) -> Soft:
        if self.buffer >= self.budget:
            raise ValueError(f"buffer is {self.buffer}, and must be smaller than the budget of {self.budget}")
        return self

    def score(self, score: Tensor, batch: Batch) -> Tensor:
        over = (row_length(batch).to(score) - (self.budget - self.buffer)) / self.buffer
        return score - over.clamp(0, 1)
