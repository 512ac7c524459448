"""What holds a quantity at a target over a run: the KL coefficient, and the price of a constraint.

Both are pure rules from a remembered number to the next one; a method keeps the number and saves it with every checkpoint. Adaptive KL is
Ziegler et al. 2019 (arXiv:1909.08593); the multiplier in log space is Dai et al. 2023 (Safe RLHF, arXiv:2310.12773), its PID form Stooke
et al. 2020 (arXiv:2007.03964).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from posttrain.core.batch import Batch
from posttrain.core.recipe import Kind, Spec, one_of

LARGEST_ERROR = 0.2
"""Relative error beyond which the controller moves no faster."""
HORIZON_STEPS = 4
"""Default horizon in steps: a tenfold wrong coefficient is mended in about 50 of them."""
SMOOTHED = 10
"""Steps whose mean KL the proportional part follows: one step's mean over a few dozen answers is mostly noise."""
LARGEST_KL = 1.5
"""KL in targets beyond which the proportional part stays: one broken step of 40 nats must not end a run's learning."""


class KLControl(Kind):
    """What becomes of the KL coefficient from step to step."""

    family: ClassVar[str] = "kl_control"

    @property
    def memory(self) -> int:
        """How many steps' KL it looks at."""
        return 1

    def next(self, beta: float, recent: Sequence[float], sequences: float) -> float:
        """The next coefficient. recent: KL of the last steps, newest last: the mean over a step's answers of their summed k1, in nats.
        sequences: answers of the step."""
        return beta


class Fixed(KLControl):
    """The coefficient stays."""

    name: ClassVar[str] = "fixed"


class Adaptive(KLControl):
    """The coefficient moves until the KL per answer is at the target."""

    name: ClassVar[str] = "adaptive"
    target: PositiveFloat = 6.0
    """KL per answer in nats that is aimed at: longer answers spend more, so it depends on their length."""
    horizon: PositiveInt | None = None
    """Answers over which a relative error of 0.2 changes the coefficient by a fifth; none is four steps' worth (the paper: 10,000)."""

    lookahead: NonNegativeInt = 0
    """Steps ahead for which the KL is judged, along the line through as many steps behind. A policy answers slowly to its coefficient,
    and who waits until the target is passed has let the coefficient run away meanwhile; 0 judges the step's own KL, as the paper does."""
    proportional: NonNegativeFloat = 0.0
    """The coefficient also moves with the KL itself: by a factor of exp(proportional) while the mean of ten steps rises by one target.
    What the integral above can only mend in tens of steps is answered at once, and taken back as the KL falls; 0 is the paper's rule."""
    most: PositiveFloat | None = None
    """Largest coefficient; none is no bound. Where the penalty outweighs the reward its noise is all that is learned, and the KL rises
    with the coefficient that should lower it."""

    @property
    def memory(self) -> int:
        return max(1, self.lookahead, (SMOOTHED + 1) * (self.proportional > 0))

    def next(self, beta: float, recent: Sequence[float], sequences: float) -> float:
        kl = expected(recent[-max(1, self.lookahead) :], self.lookahead)
        error = min(max(kl / self.target - 1, -LARGEST_ERROR), LARGEST_ERROR)
        integral = 1 + error * sequences / (self.horizon or HORIZON_STEPS * sequences)
        moved = beta * integral * math.exp(self.proportional * self._risen(recent[-SMOOTHED - 1 :]))
        return moved if self.most is None else min(moved, self.most)

    def _risen(self, recent: Sequence[float]) -> float:
        """What the mean of ten steps has gained with the newest, in targets. These differences add up to the KL itself, so the
        product of the factors is that of a proportional controller and needs no state of its own."""
        new, old = (min(kl / self.target, LARGEST_KL) for kl in (recent[-1], recent[0]))
        return (new - old) / SMOOTHED


def expected(recent: Sequence[float], ahead: int) -> float:
    """Where the least-squares line through some values will be so many steps after the last; the last itself for 0, or for two or fewer."""
    n = len(recent)
    if not ahead or n < 3:
        return recent[-1]
    middle, mean = (n - 1) / 2, sum(recent) / n
    slope = sum((i - middle) * (v - mean) for i, v in enumerate(recent)) / (n * (n * n - 1) / 12)
    return mean + slope * (middle + ahead)


class Price(Kind):
    """How the multiplier of a constraint follows its costs. `remembered` is what a checkpoint keeps."""

    family: ClassVar[str] = "price"

    def start(self) -> dict[str, float]:
        """What is remembered before the first step."""
        raise AssertionError(f"{type(self).__name__} has no start")

    def value(self, remembered: Mapping[str, float]) -> float:
        """The multiplier, 0 or more."""
        raise AssertionError(f"{type(self).__name__} has no value")

    def next(self, remembered: Mapping[str, float], excess: float) -> dict[str, float]:
        """What is remembered after a step whose mean cost lies `excess` above the limit."""
        raise AssertionError(f"{type(self).__name__} has no rule")


class Ascent(Price):
    """Gradient ascent on the logarithm of the multiplier."""

    name: ClassVar[str] = "ascent"
    first: PositiveFloat = 1.0
    """Multiplier of the first step."""
    rate: PositiveFloat = 0.1
    """How fast its logarithm moves with the excess."""
    most: PositiveFloat = 10.0
    """Largest multiplier. Its rise grows with itself, so a cost that cannot fall would drive it out of all bounds."""

    @model_validator(mode="after")
    def _ordered(self) -> Ascent:
        if self.first > self.most:
            raise ValueError(f"first is {self.first}, above most = {self.most}")
        return self

    def start(self) -> dict[str, float]:
        return {"log": math.log(self.first)}

    def value(self, remembered: Mapping[str, float]) -> float:
        return math.exp(remembered["log"])

    def next(self, remembered: Mapping[str, float], excess: float) -> dict[str, float]:
        moved = remembered["log"] + self.rate * self.value(remembered) * excess
        return {"log": min(moved, math.log(self.most))}


class PID(Price):
    """Proportional, integral and derivative of the excess: reacts faster and swings less."""

    name: ClassVar[str] = "pid"
    proportional: NonNegativeFloat = 0.05
    """Weight of the excess itself."""
    integral: NonNegativeFloat = 0.01
    """Weight of the excess summed over the run (never below 0)."""
    derivative: NonNegativeFloat = 0.1
    """Weight of a rise of the excess since the last step."""

    def start(self) -> dict[str, float]:
        return {"value": 0.0, "sum": 0.0, "last": 0.0}

    def value(self, remembered: Mapping[str, float]) -> float:
        return remembered["value"]

    def next(self, remembered: Mapping[str, float], excess: float) -> dict[str, float]:
        total = max(remembered["sum"] + excess, 0.0)
        rise = max(excess - remembered["last"], 0.0)
        made = self.proportional * excess + self.integral * total + self.derivative * rise
        return {"value": max(made, 0.0), "sum": total, "last": excess}


class Constraint(Spec):
    """Maximise the reward subject to a mean cost of at most `limit`. The cost is a named part of the reward's score."""

    cost: str = "cost"
    """Name of the score's part that is the cost; it is read apart from the reward's value."""
    limit: float = 0.0
    """Largest mean cost of an answer."""
    price: one_of(Price) = Ascent()  # type: ignore[valid-type]
    """How the multiplier follows the costs."""
    window: PositiveInt = 128
    """Answers over which the mean cost is taken."""
    delay: NonNegativeInt = 0
    """Steps before the multiplier begins to count and to move."""

    def costs(self, batch: Batch) -> Tensor:
        """[R] the part of the scores that is the cost, nan where a score lacks it. Raises ValueError where every score does."""
        found = batch.data.get(f"part.{self.cost}")
        if found is None:
            have = sorted(n.removeprefix("part.") for n in batch.data if n.startswith("part."))
            raise ValueError(
                f"constraint.cost: no score has a part {self.cost!r} (there are: {', '.join(have) or 'none'}); name the part "
                "of the reward that is the cost"
            )
        return found


class Ledger:
    """The multiplier of a constraint over a run, and the recent costs it hangs on."""

    def __init__(self, constraint: Constraint) -> None:
        self.constraint = constraint
        self.remembered = constraint.price.start()
        self.recent: list[tuple[float, float]] = []
        self.steps = 0

    @property
    def multiplier(self) -> float:
        return self.constraint.price.value(self.remembered) if self.steps >= self.constraint.delay else 0.0

    def mixed(self, gain: Tensor, cost: Tensor) -> Tensor:
        """Gain less cost at the multiplier's price, scaled so that their weights sum to 1."""
        return (gain - self.multiplier * cost) / (1 + self.multiplier)

    def figures(self, batch: Batch) -> dict[str, tuple[float, float]]:
        """Mean cost of a step, share of answers beyond the limit, and the multiplier, as (sum, count) of this rank."""
        cost = self.constraint.costs(batch)
        known = float((~cost.isnan()).sum())
        return {
            "cost": (float(cost.nansum()), known),
            "violations": (float((cost > self.constraint.limit).sum()), known),
            "multiplier": (self.multiplier, 1.0),
        }

    def note(self, cost: float, answers: float) -> None:
        """Take note of a step's mean cost over that many answers, and move the multiplier."""
        self.steps += 1
        self.recent.append((cost, answers))
        while len(self.recent) > 1 and sum(n for _, n in self.recent[1:]) >= self.constraint.window:
            self.recent.pop(0)
        if self.steps > self.constraint.delay:
            mean = sum(c * n for c, n in self.recent) / sum(n for _, n in self.recent)
            self.remembered = self.constraint.price.next(self.remembered, mean - self.constraint.limit)

    def state(self) -> dict[str, Any]:
        return {"remembered": self.remembered, "recent": [list(r) for r in self.recent], "steps": self.steps}

    def load(self, state: Mapping[str, Any]) -> None:
        self.remembered = {k: float(v) for k, v in state["remembered"].items()}
        self.recent = [(float(c), float(n)) for c, n in state["recent"]]
        self.steps = int(state["steps"])
