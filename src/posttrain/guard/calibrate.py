"""The strength of a control, chosen on one split under limits and reported on another; refused where no strength qualifies.

A steering vector or a bias always moves something. It is released only at a strength whose side effects stay inside the limits: KL on
harmless prompts, over-refusal, perplexity, diversity, plain tasks. Among those, the one of the largest benefit whose lower bound is above
nothing. The whole curve is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import NonNegativeFloat

from posttrain.core.recipe import Spec
from posttrain.stats import Interval, paired_bootstrap


class NoFeasibleStrength(ValueError):
    """No strength keeps inside the limits and does any good: nothing is emitted."""


class Limits(Spec):
    """What a control may cost."""

    kl: NonNegativeFloat = 0.1
    """Nats per token on harmless prompts."""
    over_refusal: NonNegativeFloat = 0.02
    """Rise of refusals of benign twins."""
    perplexity: NonNegativeFloat = 1.05
    """Ratio of perplexities on harmless answers."""
    distinct: NonNegativeFloat = 0.95
    """Ratio of distinct-2."""
    task: NonNegativeFloat = 0.01
    """Loss of accuracy on plain tasks."""


@dataclass(frozen=True)
class Measured:
    """One strength on one split. benefit, refused_twins, correct: per prompt, the same prompts in the same order at every strength."""

    benefit: np.ndarray
    refused_twins: np.ndarray
    correct: np.ndarray
    kl: float = 0.0
    perplexity: float = 1.0
    distinct: float = 1.0


@dataclass(frozen=True)
class Point:
    """One strength of the curve, against strength 0. broken: limits that it does not keep."""

    strength: float
    benefit: Interval
    over_refusal: Interval
    task: Interval
    kl: float
    perplexity: float
    distinct: float
    broken: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        shown = {n: getattr(self, n) for n in ("strength", "kl", "perplexity", "distinct")}
        spans = {
            n: [getattr(self, n).to_json()[end] for end in ("estimate", "low", "high")]
            for n in ("benefit", "over_refusal", "task")
        }
        return {**shown, **spans, "broken": list(self.broken)}


@dataclass(frozen=True)
class Calibrated:
    """The strength chosen on validation prompts, its figures on test prompts, and both curves."""

    strength: float
    test: Point
    curve: tuple[Point, ...] = field(default=())


def calibrate(
    measure: Callable[[float, str], Measured], strengths: Sequence[float], limits: Limits, seed: int = 0
) -> Calibrated:
    """measure(strength, split) with splits `validation` and `test`. Raises NoFeasibleStrength with what each strength breaks."""
    base = measure(0.0, "validation")
    curve = [_point(s, measure(s, "validation"), base, limits, seed) for s in strengths if s != 0]
    good = [p for p in curve if not p.broken]
    if not good:
        told = "; ".join(f"{p.strength:g}: {', '.join(p.broken)}" for p in curve)
        raise NoFeasibleStrength(f"no strength qualifies ({told}); try another layer, another vector or wider limits")
    best = max(good, key=lambda p: (p.benefit.estimate, -abs(p.strength)))
    test = _point(best.strength, measure(best.strength, "test"), measure(0.0, "test"), limits, seed)
    return Calibrated(best.strength, test, tuple(curve))


def _point(strength: float, now: Measured, base: Measured, limits: Limits, seed: int) -> Point:
    benefit = _gap(now.benefit, base.benefit, seed)
    refused = _gap(now.refused_twins, base.refused_twins, seed)
    task = _gap(now.correct, base.correct, seed)
    distinct = now.distinct / base.distinct if base.distinct else 1.0
    perplexity = now.perplexity / base.perplexity
    broken = [
        name
        for name, ok in (
            ("kl", now.kl <= limits.kl),
            ("over-refusal", refused.estimate <= limits.over_refusal + 1e-9),
            ("perplexity", perplexity <= limits.perplexity),
            ("diversity", distinct >= limits.distinct),
            ("tasks", task.estimate >= -limits.task - 1e-9),
            ("no benefit", benefit.known and benefit.low > 0),
        )
        if not ok
    ]
    return Point(strength, benefit, refused, task, now.kl, perplexity, distinct, tuple(broken))


def _gap(now: np.ndarray, base: np.ndarray, seed: int) -> Interval:
    if not len(now):
        return Interval(0.0, math.nan, math.nan, 0, "no prompts")
    return paired_bootstrap(np.asarray(now, dtype=float), np.asarray(base, dtype=float), reps=2000, seed=seed)
