"""Mixtures and curricula: weights from sizes, and sources that go from easy to hard.

    weights = by_size([len(a), len(b)], temperature=2, cap=50_000)
    Mix([Offline(a, 1, epochs=4), Easiest(b, 1, length_of, steps=10_000)], weights, spent="others")

Temperature: n^(1/T), so 1 is proportional and infinity equal (Arivazhagan et al. 2019, arXiv:1907.05019); cap: no source counts for
more than that many rows (Raffel et al. 2020, arXiv:1910.10683, section 3.5.2). Epochs per source are `Offline`'s own. Curriculum:
competence c(t) = min(1, sqrt(t (1 - c0^2) / T + c0^2)) of Platanios et al. 2019 (arXiv:1903.09848), uniform over the easiest c(t).
Difficulty is any number per row: length, negative log-likelihood, 1 - pass rate. Leaves out difficulties that change while training.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from posttrain.core.group import Group
from posttrain.core.protocols import Scorer
from posttrain.data.source import Offline
from posttrain.detectors.repetition import units

Difficulty = Callable[[Sequence[Group]], Sequence[float]]
PIECE = 64


def named(weights: Mapping[str, float], sources: Sequence[str]) -> list[float]:
    """Weights by name (``{"qa": 0.3, "code": 0.7}``) in the order of the sources. Raises ValueError unless each source has one, all are
    0 or more, and their sum is 1 within 1e-6."""
    unknown, missing = sorted(set(weights) - set(sources)), sorted(set(sources) - set(weights))
    if unknown or missing:
        raise ValueError(f"mixture: weights without a source: {unknown}; sources without a weight: {missing}")
    if any(not math.isfinite(w) or w < 0 for w in weights.values()) or abs(sum(weights.values()) - 1) > 1e-6:
        raise ValueError(f"mixture: weights are 0 or more and sum to 1; these sum to {sum(weights.values()):g}")
    return [weights[name] for name in sources]


def by_size(sizes: Sequence[int], temperature: float = 1.0, cap: int | None = None) -> list[float]:
    """Weights that sum to 1.

    >>> by_size([900, 100]), by_size([900, 100], temperature=math.inf), by_size([900, 100], cap=100)
    ([0.9, 0.1], [0.5, 0.5], [0.5, 0.5])
    """
    if not temperature > 0 or not sizes or min(sizes) < 0 or max(sizes) == 0 or (cap is not None and cap < 1):
        raise ValueError(f"mixture: sizes {list(sizes)}, temperature {temperature}, cap {cap}: all must be positive")
    held = [n if cap is None else min(n, cap) for n in sizes]
    raw = [n ** (1 / temperature) if n else 0.0 for n in held]
    return [w / sum(raw) for w in raw]


def length_of(groups: Sequence[Group]) -> list[float]:
    """Words of the first answer (of the prompt, where there is none)."""
    return [float(len(units(g.responses[0].text if g.responses else g.prompt_text))) for g in groups]


def loss_of(scorer: Scorer) -> Difficulty:
    """Mean negative log-likelihood per token of the first answer under a model, in nats."""

    def difficulty(groups: Sequence[Group]) -> list[float]:
        out: list[float] = []
        for at in range(0, len(groups), PIECE):
            part = [g.with_responses(g.responses[:1]) for g in groups[at : at + PIECE]]
            out += [-float(row[0].mean()) for row in scorer.logp(part)]
        return out

    return difficulty


def fact_of(name: str) -> Difficulty:
    """A number that each row brings, such as ``failed`` = 1 - pass rate. Raises ValueError for a row without it."""

    def difficulty(groups: Sequence[Group]) -> list[float]:
        bare = [g.id for g in groups if not isinstance(g.facts.get(name), int | float)]
        if bare:
            raise ValueError(f"curriculum: row {bare[0]} has no number `{name}` in its facts ({len(bare)} rows)")
        return [float(g.facts[name]) for g in groups]

    return difficulty


class Easiest(Offline):
    """Rows from easy to hard: step t draws uniformly from the easiest c(t) share, all rows from the last step on.

    difficulty: numbers per group, measured once. steps: how long the way to all rows is, and the length of the
    stream unless it is endless. begin: c0."""

    def __init__(
        self,
        groups: Sequence[Group],
        per_step: int,
        difficulty: Difficulty,
        steps: int,
        seed: int = 0,
        begin: float = 0.1,
        endless: bool = False,
    ) -> None:
        super().__init__(groups, per_step, steps=steps, seed=seed)
        self.total = math.inf if endless else self.total
        if not 0 < begin <= 1 or steps < 1:
            raise ValueError(f"curriculum: begin {begin} must lie in (0, 1], steps {steps} be 1 or more")
        values = np.asarray(difficulty(groups), dtype=float)
        if len(values) != len(groups) or not np.isfinite(values).all():
            raise ValueError(
                f"curriculum: {len(values)} difficulties for {len(groups)} rows; each must be a finite number"
            )
        self.steps, self.begin = steps, begin
        self.rank = np.argsort(values, kind="stable")

    def competence(self, step: int) -> float:
        """Share of the rows that step `step` draws from."""
        return min(1.0, math.sqrt(step * (1 - self.begin**2) / self.steps + self.begin**2))

    def stream(self, policy: Any = None) -> Iterator[list[Group]]:
        """Steps from the first that is not trained; each depends on (seed, step) alone."""
        self._handed = self.trained
        while self._handed < self.total:
            step = self._handed // self.per_step
            open_ = max(1, math.ceil(self.competence(step) * len(self.groups)))
            rng = np.random.default_rng([self.seed, step, 0x656173])
            picked = rng.choice(open_, self.per_step, replace=open_ < self.per_step)
            self._handed += self.per_step
            yield [self.groups[int(self.rank[i])] for i in picked]

    def state(self) -> dict[str, Any]:
        """Also what the way hangs on."""
        return {**super().state(), "steps": self.steps, "begin": self.begin}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state. Raises ValueError when the data or the way are others than the state's."""
        if (state["steps"], state["begin"]) != (self.steps, self.begin):
            raise ValueError(f"cannot resume: the curriculum was {state['steps']} steps from {state['begin']}")
        super().load(state)


def drawn(groups: Sequence[Group], fact: str = "source") -> dict[str, float]:
    """Share of each source among rows that were really drawn, for a report."""
    counts = Counter(str(g.facts.get(fact, "not named")) for g in groups)
    return {name: n / counts.total() for name, n in counts.most_common()}
