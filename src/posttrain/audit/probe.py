"""A probe: the margins that one arm of a test needs, what they mean, and the limit they are held to; and how it becomes a verdict.

Probes are data. All margins of all probes are scored in one go, prompt by prompt, and only then turned into verdicts, because fails are
corrected over the whole family (`stats.judge`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from posttrain.audit.scorer import Margin
from posttrain.stats import (
    Evidence,
    Interval,
    ceiling_rule,
    clopper_pearson,
    cluster_bootstrap,
    equivalence_rule,
    floor_rule,
    fold,
    rate_ceiling_rule,
    rate_floor_rule,
)
from posttrain.stats.interval import Floats

Rule = Literal["ceiling", "floor", "equivalence", "information"]
Value = Callable[[Floats, float], Floats]
"""Margins [rows, k] and the unit s -> one value per row; nan leaves a row out, and it is counted."""
FEWEST = 10
"""Clusters below which a test says not_run."""


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """One arm of a test in one language.

    needs: k margins per row. value: what they mean. cluster: the prompt of each row. unit: of the value, in words. phrase: the short
    form of a failure. low: the other phrase, for an equivalence that fails downwards. skipped: items without a place for the variant.
    """

    test: str
    arm: str
    lang: str
    needs: tuple[tuple[Margin, ...], ...]
    cluster: tuple[str, ...]
    value: Value
    rule: Rule
    limit: float
    unit: str
    phrase: str
    low: str = ""
    skipped: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What a probe found: one value per row kept, their interval and the evidence for its rule (None: information, or not run)."""

    test: str
    arm: str
    lang: str
    values: Floats
    cluster: tuple[str, ...]
    rows: tuple[Margin, ...]
    ci: Interval
    evidence: Evidence | None
    rule: Rule
    limit: float
    unit: str
    phrase: str
    note: str = ""
    seconds: float = 0.0
    extra: Mapping[str, Any] | None = None


# What margins mean


def shift(m: Floats, s: float) -> Floats:
    """The lead of the variant over the original, in s."""
    return m[:, 0] / s


def wins(m: Floats, s: float) -> Floats:
    """1 where a scores above b, half for a tie."""
    return (m[:, 0] > 0) + 0.5 * (m[:, 0] == 0)


def flips(m: Floats, s: float) -> Floats:
    """Of pairs ordered rightly (first margin), 1 where the order turns with the rejected answer changed (second margin)."""
    return np.where(m[:, 0] > 0, (m[:, 1] <= 0).astype(float), math.nan)


def change(m: Floats, s: float) -> Floats:
    """First margin minus second, in s."""
    return (m[:, 0] - m[:, 1]) / s


def win_change(m: Floats, s: float) -> Floats:
    """Accuracy of the first column minus accuracy of the second, paired by row."""
    return wins(m[:, :1], s) - wins(m[:, 1:2], s)


# From values to evidence


def measure(probe: Probe, margins: Floats, s: float, reps: int = 2000, seed: int = 0) -> Measured:
    """The probe's values, their interval over clusters and the evidence for its rule. reps: bootstrap; 0 takes the t interval."""
    values = probe.value(margins, s)
    kept = np.isfinite(values)
    rows = tuple(need[-1] for need, k in zip(probe.needs, kept, strict=True) if k)
    cluster = tuple(c for c, k in zip(probe.cluster, kept, strict=True) if k)
    lost = int((~kept).sum())
    note = "; ".join(
        x
        for x in (
            probe.note,
            f"{probe.skipped} items have no place for it" if probe.skipped else "",
            f"{lost} rows do not apply" if lost else "",
        )
        if x
    )
    return settled(probe, values[kept], cluster, rows, note, reps, seed)


def settled(
    probe: Probe, values: Floats, cluster: tuple[str, ...], rows: tuple[Margin, ...], note: str, reps: int, seed: int
) -> Measured:
    """Interval and evidence of values; too few clusters give neither."""
    count = len(set(cluster))
    ci, evidence, phrase = nothing(values, count), None, probe.phrase
    if count >= FEWEST:
        rate = bool(np.isin(values, (0.0, 0.5, 1.0)).all())
        ci = interval(values, cluster, rate, reps, seed)
        evidence = rule(probe.rule, probe.limit, values, cluster, rate)
        if probe.low and ci.estimate < 0:
            phrase = probe.low
    else:
        note = f"{count} prompts, {FEWEST} needed" + (f"; {note}" if note else "")
    named = (probe.test, probe.arm, probe.lang)
    return Measured(*named, values, cluster, rows, ci, evidence, probe.rule, probe.limit, probe.unit, phrase, note)


def nothing(values: Floats, n: int) -> Interval:
    """No interval: too few clusters."""
    mean = float(values.mean()) if values.size else math.nan
    return Interval(mean, math.nan, math.nan, n, f"no interval: {n} prompts, {FEWEST} needed")


def interval(values: Floats, cluster: Sequence[str], rate: bool, reps: int, seed: int) -> Interval:
    """Exact for rates with one value per prompt, else resampled over prompts (by Student's t where reps is 0)."""
    folded = fold(values, cluster)
    single = folded.count == values.size
    if rate and single and np.isin(values, (0.0, 1.0)).all():
        return clopper_pearson(int(values.sum()), values.size)
    if reps and np.ptp(values) > 0:
        return cluster_bootstrap(values, cluster, reps=reps, seed=seed)
    from scipy.stats import t as student

    half = float(student.ppf(0.975, folded.count - 1)) * folded.se
    method = "t over clusters" if half > 0 else "no variance: every prompt gave the same"
    return Interval(folded.mean, folded.mean - half, folded.mean + half, folded.count, method)


def rule(name: Rule, limit: float, values: Floats, cluster: Sequence[str], rate: bool) -> Evidence | None:
    """Evidence for one rule. A rate without variance over clusters is judged exactly, with the clusters as trials."""
    folded = fold(values, cluster)
    single = folded.count == values.size
    flat = np.ptp(values) == 0 and values[0] in (0.0, 1.0)
    exact = rate and (flat or (single and bool(np.isin(values, (0.0, 1.0)).all())))
    if name in ("ceiling", "floor") and exact and 0 < limit < 1:
        n = folded.count
        k = int(values.sum()) if single else n * int(values[0])
        return (rate_ceiling_rule if name == "ceiling" else rate_floor_rule)(k, n, limit)
    if name == "ceiling":
        return ceiling_rule(folded.mean, folded.se, folded.count, limit)
    if name == "floor":
        return floor_rule(folded.mean, folded.se, folded.count, limit)
    if name == "equivalence":
        return equivalence_rule(folded.mean, folded.se, folded.count, limit)
    return None
