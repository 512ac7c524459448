"""How losses of tokens become one number: which tokens weigh alike, and what the sum is divided by.

Every member gives a weight per response (each of its tokens has it) and a share per response; the loss is the weighted sum over the sum
of the shares, over all pieces and ranks. Numbers in brackets are arXiv ids. The mean per micro-batch that others call bnpo is left out:
it depends on how a step is cut, and in one piece it is `dapo`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor

from posttrain.core.batch import Batch
from posttrain.core.recipe import Kind
from posttrain.objectives.sequence import row_length


class Aggregation(Kind):
    """Weights of responses and what they are divided by."""

    family: ClassVar[str] = "aggregation"

    def weight(self, batch: Batch) -> Tensor:
        """[R] weight of each token of a response."""
        raise AssertionError(f"{type(self).__name__} has no weights")

    def share(self, batch: Batch) -> Tensor:
        """[R] what each response adds to the denominator."""
        raise AssertionError(f"{type(self).__name__} has no shares")


class ByAnswer(Aggregation):
    """Mean over an answer's tokens, then over answers (2402.03300): a token of a long answer weighs less."""

    name: ClassVar[str] = "grpo"

    def weight(self, batch: Batch) -> Tensor:
        return 1 / row_length(batch).clamp_min(1)

    def share(self, batch: Batch) -> Tensor:
        return torch.ones(batch.R, device=batch.ids.device)


class ByToken(Aggregation):
    """Mean over all tokens of the step (DAPO, 2503.14476): every token weighs the same."""

    name: ClassVar[str] = "dapo"

    def weight(self, batch: Batch) -> Tensor:
        return torch.ones(batch.R, device=batch.ids.device)

    def share(self, batch: Batch) -> Tensor:
        return row_length(batch)


class ByBudget(ByToken):
    """Sum over tokens divided by answers times the budget (Dr. GRPO, 2503.20783): no reward for being long or short."""

    name: ClassVar[str] = "dr_grpo"
    budget: PositiveInt
    """Longest answer in tokens: the rollout's max_new_tokens."""

    def share(self, batch: Batch) -> Tensor:
        return torch.full((batch.R,), float(self.budget), device=batch.ids.device)


class BySum(ByToken):
    """Sum over an answer's tokens, mean over answers (LUSPO, 2602.05261); meant for the ratio of whole answers."""

    name: ClassVar[str] = "luspo"

    def share(self, batch: Batch) -> Tensor:
        return torch.ones(batch.R, device=batch.ids.device)


class ByPrompt(Aggregation):
    """Mean over the tokens of a prompt's answers, then over prompts."""

    name: ClassVar[str] = "prompt"

    def weight(self, batch: Batch) -> Tensor:
        tokens = torch.zeros(batch.G, device=batch.ids.device).index_add(0, batch.group, row_length(batch))
        return 1 / tokens.clamp_min(1)[batch.group]

    def share(self, batch: Batch) -> Tensor:
        answers = torch.bincount(batch.group, minlength=batch.G).float()
        return 1 / answers.clamp_min(1)[batch.group]
