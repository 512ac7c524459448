"""Curriculum by measured pass rate: prompts that are always or never solved come less often. Sources over Sources.

    pace, rates = Pace(low=0.1, high=0.9), PassRates(pass_at=0.5)
    prompts = Curriculum(Offline(rows, per_step=1), rates, pace)
    source = Measured(Rollouts(prompts, sampler, reward, n=8), rates)

`Measured` notes what share of a prompt's answers scored at least `pass_at`. `Curriculum` passes a prompt over when its last rate lies
outside [low, high], but for a share `keep` of its turns, so that its rate is measured anew; a prompt never measured always comes.
Whether one comes depends on (seed, turn) and the published rates alone. Under `Mix` each source has a Curriculum of its own, so that
the weights hold. Source: prompts of middling difficulty teach most, as in Foster and Foerster 2025 (arXiv:2502.12272). Leaves out
learned models of difficulty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from posttrain.core.group import Group
from posttrain.core.protocols import Source
from posttrain.core.recipe import Spec

Share = Annotated[float, Field(ge=0, le=1)]


class Pace(Spec):
    """Which prompts a curriculum holds back."""

    pass_at: float = 0.5
    """An answer passes when its score is at least this."""
    low: Share = 0.1
    """Prompts solved less often than this share of their answers come less often."""
    high: Share = 0.9
    """So do those solved more often than this."""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of their turns that such prompts keep, so that they are measured again."""

    @model_validator(mode="after")
    def _ordered(self) -> Pace:
        if self.low > self.high:
            raise ValueError(f"low is {self.low}, and must not lie above high = {self.high}")
        return self


class PassRates:
    """The last measured pass rate of each prompt, by the hash of its text."""

    def __init__(self, pass_at: float = 0.5) -> None:
        self.pass_at = pass_at
        self.known: dict[str, float] = {}

    def of(self, group: Group) -> float | None:
        """The prompt's rate, None before it was measured."""
        return self.known.get(group.prompt_hash)

    def measured(self, groups: Sequence[Group]) -> dict[str, float]:
        """Rates of these scored groups; answers without a value are left out, prompts without any have none."""
        out = {}
        for group in groups:
            values = [r.score.value for r in group.responses if r.score is not None and r.score.value is not None]
            if values:
                out[group.prompt_hash] = float(np.mean([value >= self.pass_at for value in values]))
        return out


class Curriculum:
    """Prompts of another source without those whose pass rate lies outside [low, high], `keep` of their turns excepted.

    passed_over: turns left out so far. Give it a source of per_step=1 and join steps with `Mix`, so that steps keep their size.
    """

    def __init__(self, source: Source, rates: PassRates, pace: Pace, seed: int = 0) -> None:
        self.source, self.rates, self.pace, self.seed = source, rates, pace, seed
        self.turns = self.passed_over = 0
        self._handed = (0, 0)

    def stream(self, policy: Any = None) -> Iterator[list[Group]]:
        """Steps of the source without the prompts passed over; steps of which nothing is left are skipped."""
        self._handed = self.turns, self.passed_over
        for groups in self.source.stream(policy):
            kept = [group for group in groups if self._comes(group)]
            if kept:
                yield kept

    def _comes(self, group: Group) -> bool:
        turns, over = self._handed
        rate = self.rates.of(group)
        fits = rate is None or self.pace.low <= rate <= self.pace.high
        comes = fits or float(np.random.default_rng([self.seed, turns]).random()) < self.pace.keep
        self._handed = turns + 1, over + (not comes)
        return comes

    def publish(self, engine: Any, version: int) -> None:
        """The prompts handed out are trained."""
        self.turns, self.passed_over = self._handed
        self.source.publish(engine, version)

    def state(self) -> dict[str, Any]:
        """The source's state, turns seen, turns passed over."""
        return {"source": self.source.state(), "turns": self.turns, "passed_over": self.passed_over}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.source.load(state["source"])
        self.turns, self.passed_over = int(state["turns"]), int(state["passed_over"])
        self._handed = self.turns, self.passed_over


class Measured:
    """The groups of a scored source as they are, their pass rates noted when they are trained."""

    def __init__(self, source: Source, rates: PassRates) -> None:
        self.source, self.rates = source, rates
        self._fresh: dict[str, float] = {}

    def stream(self, policy: Any = None) -> Iterator[list[Group]]:
        """Steps of the source, which is started at once: `Ahead` draws in a thread, where weights must not be read."""
        return self._noted(self.source.stream(policy))

    def _noted(self, steps: Iterator[list[Group]]) -> Iterator[list[Group]]:
        for groups in steps:
            self._fresh |= self.rates.measured(groups)
            yield groups

    def publish(self, engine: Any, version: int) -> None:
        """The rates of the steps handed out hold from now on."""
        self.rates.known |= self._fresh
        self._fresh = {}
        self.source.publish(engine, version)

    def state(self) -> dict[str, Any]:
        """The source's state and every known rate."""
        return {"source": self.source.state(), "rates": dict(self.rates.known)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.source.load(state["source"])
        self.rates.known = {str(k): float(v) for k, v in state["rates"].items()}
        self._fresh = {}
