"""Diversity of texts at equal numbers, with intervals; and an alarm when generation after generation says less.

distinct-2 (Li et al. 2016, arXiv:1510.03055); share of different openings; Vendi score over word counts, the exponential of the
entropy of the eigenvalues of the similarity matrix (Friedman and Dieng 2023, arXiv:2210.02410), as a share of n; entropy of topics where
rows name one. All figures shrink with n, so sets are compared at the same n: the mean over random subsets of `n` rows.
The interval is that of the mean over disjoint subsets (t), so it is about these rows' source and not only these rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from posttrain.data.dedup import bag_of_words
from posttrain.detectors.repetition import distinct, units
from posttrain.stats import Interval, t_interval

SIZE, PARTS = 40, 8
"""Rows of a subset, and subsets at most."""
LOST = 0.10
"""Part of the first generation's diversity whose loss is an alarm."""


def openings(texts: Sequence[str]) -> float:
    """Different first three words over all texts."""
    return len({tuple(units(t)[:3]) for t in texts}) / len(texts)


def vendi(texts: Sequence[str]) -> float:
    """Effective number of different texts, as a share of their number: 1/n where all are the same, 1 where none share a word."""
    counts = bag_of_words(texts)
    size = np.linalg.norm(counts, axis=1, keepdims=True)
    unit = np.divide(counts, size, out=np.zeros_like(counts), where=size > 0)
    values = np.linalg.eigvalsh(unit @ unit.T / len(texts))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()) / len(texts))


FIGURES: dict[str, Callable[[Sequence[str]], float]] = {"distinct_2": distinct, "openings": openings, "vendi": vendi}


def diversity(texts: Sequence[str], seed: int = 0, size: int = SIZE) -> dict[str, Interval]:
    """Each figure over disjoint random subsets of `size` texts. Raises ValueError for fewer than two subsets."""
    if len(texts) < 2 * size:
        raise ValueError(f"diversity: {len(texts)} texts; give at least {2 * size}, or a smaller size")
    order = np.random.default_rng(seed).permutation(len(texts))
    parts = [[texts[i] for i in order[at : at + size]] for at in range(0, len(texts) - size + 1, size)][:PARTS]
    return {name: t_interval([figure(part) for part in parts]) for name, figure in FIGURES.items()}


@dataclass(frozen=True)
class Collapse:
    """What each generation has, and the alarms: (generation, figure, part lost with its bound)."""

    generations: Mapping[str, Mapping[str, Interval]]
    alarms: tuple[tuple[str, str, float], ...]

    def to_json(self) -> dict[str, Any]:
        rows = {g: {n: plain(v) for n, v in told.items()} for g, told in self.generations.items()}
        return {"generations": rows, "alarms": [list(a) for a in self.alarms]}


def plain(interval: Interval) -> list[float | None]:
    """Estimate, low and high; None for a bound that constant data do not have."""
    return [v if math.isfinite(v) else None for v in (interval.estimate, interval.low, interval.high)]


def bound(interval: Interval) -> float:
    """The upper bound; the estimate itself where every subset gave the same figure."""
    return interval.high if math.isfinite(interval.high) else interval.estimate


def collapse(generations: Mapping[str, Sequence[str]], seed: int = 0, size: int = SIZE) -> Collapse:
    """An alarm for each figure of a later generation that lost a tenth of the first one's for certain: its upper bound is below nine tenths
    of the first one's estimate. Raises ValueError for fewer than two generations."""
    if len(generations) < 2:
        raise ValueError("collapse: give two generations or more, the first of them the reference")
    told = {name: diversity(texts, seed, size) for name, texts in generations.items()}
    first, *later = told
    alarms = [(name, figure, 1 - told[name][figure].estimate / told[first][figure].estimate)
              for name in later for figure in FIGURES
              if bound(told[name][figure]) < (1 - LOST) * told[first][figure].estimate]  # fmt: skip
    return Collapse(told, tuple(alarms))
