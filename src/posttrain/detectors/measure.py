"""How good a detector is: sensitivity and specificity with intervals, per language, and whether it may decide there.

A gate uses a detector in a language only where it was measured and Se + Sp >= 1.5. Observed rates are corrected with Rogan and Gladen's
formula, both sources of error resampled together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from posttrain.detectors.verdict import SafetyClassifier
from posttrain.stats import Interval, UselessDetector, rogan_gladen, wilson

USEFUL = 1.5
"""Smallest sum of sensitivity and specificity with which a detector may gate."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What a detector was measured to do. Counts: found of positives, passed of negatives, void rows apart."""

    found: int
    positives: int
    passed: int
    negatives: int
    void: int = 0

    @property
    def sensitivity(self) -> Interval:
        return wilson(self.found, self.positives)

    @property
    def specificity(self) -> Interval:
        return wilson(self.passed, self.negatives)

    @property
    def useful(self) -> bool:
        """May it decide? Measured on both kinds, and Se + Sp >= 1.5."""
        if not self.positives or not self.negatives:
            return False
        return self.found / self.positives + self.passed / self.negatives >= USEFUL

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def quality(detect: SafetyClassifier, rows: Iterable[tuple[str, str, bool]]) -> Quality:
    """Counts over labelled rows (prompt, response, is it what the detector looks for?)."""
    found = positives = passed = negatives = void = 0
    for prompt, response, truth in rows:
        flagged = detect(prompt, response).flagged
        if flagged is None:
            void += 1
        elif truth:
            positives, found = positives + 1, found + flagged
        else:
            negatives, passed = negatives + 1, passed + (not flagged)
    return Quality(found, positives, passed, negatives, void)


def corrected(
    flags: Sequence[bool] | np.ndarray,
    clusters: Sequence[Any],
    known: Quality,
    reps: int = 4000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """True rate behind observed flags [n], whole clusters resampled together with the detector's own Se and Sp (Jeffreys draws).

    Raises UselessDetector where Se + Sp < 1.5 or the detector was not measured.
    """
    if not known.useful:
        raise UselessDetector(f"Se + Sp of this detector is below {USEFUL} or was not measured; it may not decide")
    x = np.asarray(flags, dtype=float)
    names = list(dict.fromkeys(clusters))
    index = {name: i for i, name in enumerate(names)}
    at = np.array([index[c] for c in clusters])
    sums, sizes = np.bincount(at, x, len(names)), np.bincount(at, minlength=len(names)).astype(float)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=reps)
    # A little mass keeps the interval from collapsing at 0 and 1, where no resample differs from the sample.
    rate = (drawn @ sums + rng.beta(0.5, 0.5, reps) * sizes.mean() * _edge(x)) / (
        drawn @ sizes + sizes.mean() * _edge(x)
    )
    se = rng.beta(known.found + 0.5, known.positives - known.found + 0.5, reps)
    sp = rng.beta(known.passed + 0.5, known.negatives - known.passed + 0.5, reps)
    truth = np.clip((rate + sp - 1) / np.maximum(se + sp - 1, 1e-3), 0, 1)
    low, high = np.quantile(truth, [(1 - level) / 2, (1 + level) / 2])
    point = rogan_gladen(float(x.mean()), known.found / known.positives, known.passed / known.negatives)
    return Interval(point, float(low), float(high), len(names), "Rogan-Gladen, both errors resampled", level)


def _edge(x: np.ndarray) -> float:
    return 1.0 if x.mean() in (0.0, 1.0) else 0.0


def by_language(detect: SafetyClassifier, rows: Iterable[tuple[str, str, str, bool]]) -> Mapping[str, Quality]:
    """`quality` per language of rows (lang, prompt, response, truth)."""
    sorted_rows: dict[str, list[tuple[str, str, bool]]] = {}
    for lang, prompt, response, truth in rows:
        sorted_rows.setdefault(lang, []).append((prompt, response, truth))
    return {lang: quality(detect, found) for lang, found in sorted_rows.items()}
