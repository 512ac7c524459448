"""Mean and variance of a stream of scores, joined step by step (Chan, Golub and LeVeque 1979)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

TINY = 1e-8
"""Under the root of the variance."""


class Moments(NamedTuple):
    """How many values were seen, their mean, and the sum of their squared distances from it."""

    seen: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    def joined(self, count: float, mean: float, variance: float) -> Moments:
        """With `count` further values of this mean and (biased) variance."""
        total = self.seen + count
        if total == 0:
            return self
        gap = mean - self.mean
        squares = self.squares + variance * count + gap**2 * self.seen * count / total
        return Moments(total, self.mean + gap * count / total, squares)

    def applied(self, values: Tensor, shift: bool, scale: bool) -> Tensor:
        """Values less the mean, over the standard deviation, as asked."""
        if shift:
            values = values - self.mean
        return values / (self.squares / max(self.seen, 1.0) + TINY) ** 0.5 if scale else values
