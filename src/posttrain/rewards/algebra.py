"""Rewards made of rewards: weighted sums, gates, ensembles. Same type in and out.

An answer that one part cannot score has no score (never silently 0). The pessimistic ensemble, mean minus k standard deviations, and the
worst vote are those of Coste et al. 2023 (arXiv:2310.02743), against over-optimisation of one reward model.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, ClassVar

from pydantic import Field, NonNegativeFloat

from posttrain.core.group import Group, Score
from posttrain.core.recipe import Spec, one_of
from posttrain.rewards.criterion import Criterion, RewardExample, gold_first


class Term(Spec):
    """One part of a sum."""

    reward: one_of(Criterion)  # type: ignore[valid-type]
    """What is scored."""
    weight: float = 1.0
    """By how much it counts; negative for what should be avoided."""


class Sum(Criterion):
    """A weighted sum of rewards; every part is kept by name in the score."""

    name: ClassVar[str] = "sum"
    terms: Annotated[tuple[Term, ...], Field(min_length=1)]
    """The parts, each with its weight."""

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        said = [term.reward(groups) for term in self.terms]
        names = distinct([term.reward.name for term in self.terms])
        weights = [term.weight for term in self.terms]
        return [
            [_sum(names, weights, [verdicts[i][j] for verdicts in said]) for j in range(len(g.responses))]
            for i, g in enumerate(groups)
        ]

    @classmethod
    def example(cls) -> RewardExample:
        exact = {"reward": {"name": "exact"}}
        terms = [exact, {"reward": {"name": "length", "limit": 4, "per": 4}, "weight": 0.1}]
        return RewardExample([gold_first("Capital?", "Paris", "Rome", "Oslo", answer="Paris")], {"terms": terms})


def _sum(names: list[str], weights: list[float], scores: list[Score]) -> Score:
    why = "; ".join(f"{n}: {s.why}" for n, s in zip(names, scores, strict=True))
    parts = {n: s.value for n, s in zip(names, scores, strict=True) if s.value is not None}
    if len(parts) < len(scores):
        return Score(None, parts, why)
    return Score(math.fsum(w * v for w, v in zip(weights, parts.values(), strict=True)), parts, why)


def distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number where one occurs again."""
    out: list[str] = []
    for name in names:
        seen = sum(other.partition("#")[0] == name for other in out)
        out.append(f"{name}#{seen + 1}" if seen else name)
    return out


class Gate(Criterion):
    """A reward that counts only where another one is high enough: form before taste, truth before style."""

    name: ClassVar[str] = "gate"
    condition: one_of(Criterion)  # type: ignore[valid-type]
    """What must hold."""
    at_least: float = 1.0
    """The condition's value from which the gate is open."""
    then: one_of(Criterion)  # type: ignore[valid-type]
    """What is scored behind the gate."""
    closed: float = 0.0
    """The value of an answer before a closed gate."""

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        return [
            [self._one(c, t) for c, t in zip(conditions, thens, strict=True)]
            for conditions, thens in zip(self.condition(groups), self.then(groups), strict=True)
        ]

    def _one(self, condition: Score, then: Score) -> Score:
        if condition.value is None:
            return Score(None, {}, f"gate {self.condition.name}: {condition.why}")
        parts = {self.condition.name: condition.value}
        if condition.value < self.at_least:
            return Score(self.closed, parts, f"gate {self.condition.name} closed: {condition.why}")
        if then.value is not None:
            parts[self.then.name if self.then.name not in parts else "then"] = then.value
        return Score(then.value, parts, f"{then.why}")

    @classmethod
    def example(cls) -> RewardExample:
        fields = {"condition": {"name": "regex", "pattern": r"\d"}, "then": {"name": "math"}, "closed": -1.0}
        return RewardExample([gold_first("2+2?", "4", "four", "5", answer="4")], fields)


class Ensemble(Criterion):
    """Several opinions as one: their mean minus k standard deviations (k = 0 is the mean)."""

    name: ClassVar[str] = "ensemble"
    rewards: Annotated[tuple[one_of(Criterion), ...], Field(min_length=1)]  # type: ignore[valid-type]
    """Whose opinions; a reward model with several heads gives one for each."""
    k: NonNegativeFloat = 0.0
    """How much disagreement costs, in standard deviations."""
    centred: bool = False
    """Take each opinion less its mean over the answers to the same prompt: a reward model learned from comparisons has no level that
    means anything across prompts, and the lowest of several would often be whoever is low on that prompt."""

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        pool = partial(_pessimistic, k=self.k)
        return joined(self.rewards, groups, pool, f"mean - {self.k:g} sd", self.centred)

    @classmethod
    def example(cls) -> RewardExample:
        fields = {"rewards": [{"name": "exact"}, {"name": "math"}], "k": 1.0}
        return RewardExample([gold_first("2+2?", "4", "5", "five", answer="4")], fields)


class Worst(Criterion):
    """Several opinions as one: the lowest."""

    name: ClassVar[str] = "worst"
    rewards: Annotated[tuple[one_of(Criterion), ...], Field(min_length=1)]  # type: ignore[valid-type]
    """Whose opinions; a reward model with several heads gives one for each."""
    centred: bool = False
    """As in `ensemble`."""

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        return joined(self.rewards, groups, min, "the lowest", self.centred)

    @classmethod
    def example(cls) -> RewardExample:
        return RewardExample(
            [gold_first("2+2?", "4", "5", "five", answer="4")], {"rewards": [{"name": "exact"}, {"name": "math"}]}
        )


def _pessimistic(votes: Sequence[float], k: float) -> float:
    """Mean minus k population standard deviations of the votes at hand."""
    return statistics.fmean(votes) - k * statistics.pstdev(votes)


def joined(
    members: Sequence[Criterion],
    groups: Sequence[Group],
    pool: Callable[[Sequence[float]], float],
    how: str,
    centred: bool = False,
) -> list[list[Score]]:
    """All opinions of all members on each answer, pooled; parts keep every vote as it was given, and their spread as it was pooled.

    centred: each opinion less its mean over a prompt's answers. Raises ValueError for a prompt with fewer than two.
    """
    opinions = [member.votes(groups) for member in members]
    out = []
    for i, g in enumerate(groups):
        if centred and len(g.responses) < 2:
            raise ValueError(
                f"centred opinions need two answers or more to a prompt, got {len(g.responses)} to {g.prompt_text[:60]!r}"
            )
        rows = [
            [(m.name, s) for m, said in zip(members, opinions, strict=True) for s in said[i][j]]
            for j in range(len(g.responses))
        ]
        levels = [_level(column) if centred else 0.0 for column in zip(*rows, strict=True)]
        out.append([_pooled(votes, levels, pool, how) for votes in rows])
    return out


def _level(opinions: Sequence[tuple[str, Score]]) -> float:
    """Mean of one opinion over the answers that it scored."""
    known = [s.value for _, s in opinions if s.value is not None]
    return statistics.fmean(known) if known else 0.0


def _pooled(
    votes: list[tuple[str, Score]], levels: Sequence[float], pool: Callable[[Sequence[float]], float], how: str
) -> Score:
    missing = [f"{n}: {s.why}" for n, s in votes if s.value is None]
    if missing:
        return Score(None, {}, "; ".join(missing))
    given = [s.value for _, s in votes if s.value is not None]
    values = [v - level for v, level in zip(given, levels, strict=True)]
    parts = dict(zip(distinct([n for n, _ in votes]), given, strict=True)) | {"spread": statistics.pstdev(values)}
    return Score(pool(values), parts, f"{how} of {len(values)} opinions, {min(values):.3g} to {max(values):.3g}")
