"""Terms of length. Tokens are counted where an answer has them (trained ones only), else words.

`overlong` is DAPO's soft punishment (Yu et al. 2025, arXiv:2503.14476): 0 up to ``limit - cache``, then falling linearly to -1 at the
limit, -1 beyond. Add these to a reward with `sum`; alone they say nothing of quality.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import PositiveFloat, PositiveInt, model_validator

from posttrain.core.group import Group, Response, Score, group
from posttrain.rewards.criterion import Criterion, RewardExample


def size(response: Response) -> tuple[int, str]:
    """(length, unit) of an answer: trained tokens, or words."""
    if response.tokens is not None:
        trained = response.trained
        return (len(response.tokens) if trained is None else int(np.asarray(trained).sum())), "tokens"
    return len(response.text.split()), "words"


class Length(Criterion):
    """A penalty for what exceeds a limit: minus one for every `per` beyond it."""

    name: ClassVar[str] = "length"
    limit: PositiveInt
    """Length up to which nothing is taken off."""
    per: PositiveFloat = 100.0
    """Length beyond the limit that costs 1."""

    def one(self, group: Group, response: Response) -> Score:
        long, unit = size(response)
        value = -max(0, long - self.limit) / self.per
        return Score(value, {"length": float(long)}, f"{long} {unit}, {max(0, long - self.limit)} beyond {self.limit}")

    @classmethod
    def example(cls) -> RewardExample:
        return RewardExample([group("Briefly?", "yes", "yes it is so indeed", "yes " * 9)], {"limit": 2})


class Target(Criterion):
    """Nearness to a length: 1 at the target, falling linearly to 0 at `width` away from it."""

    name: ClassVar[str] = "target_length"
    target: PositiveInt
    """The length that is wanted."""
    width: PositiveFloat = 50.0
    """Distance at which nothing is left."""

    def one(self, group: Group, response: Response) -> Score:
        long, unit = size(response)
        return Score(
            max(0.0, 1 - abs(long - self.target) / self.width),
            {"length": float(long)},
            f"{long} {unit}, {self.target} wanted",
        )

    @classmethod
    def example(cls) -> RewardExample:
        return RewardExample([group("Three words?", "one two three", "one", "a b c d e f")], {"target": 3, "width": 5})


class Overlong(Criterion):
    """DAPO's soft punishment of answers near the budget."""

    name: ClassVar[str] = "overlong"
    limit: PositiveInt
    """The budget: as long as an answer may be."""
    cache: PositiveInt
    """The stretch before the limit in which the punishment grows."""

    @model_validator(mode="after")
    def _fits(self) -> Overlong:
        if self.cache > self.limit:
            raise ValueError(f"cache ({self.cache}) is the stretch before limit ({self.limit}) and cannot exceed it")
        return self

    def one(self, group: Group, response: Response) -> Score:
        long, unit = size(response)
        value = min(0.0, max(-1.0, (self.limit - self.cache - long) / self.cache))
        return Score(value, {"length": float(long)}, f"{long} {unit} of {self.limit}")

    @classmethod
    def example(cls) -> RewardExample:
        return RewardExample([group("Go", "a b", "a b c d e f g", "a " * 20)], {"limit": 10, "cache": 5})
