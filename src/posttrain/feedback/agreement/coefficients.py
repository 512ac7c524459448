"""Agreement coefficients of a table ``codes [units, raters]``: whole numbers from 0, -1 where a rater did not see a unit.

    Krippendorff's alpha   1 - D_observed / D_expected, nominal, ordinal, interval, or any table of distances  (Krippendorff 2011)
    Fleiss' kappa, AC1     chance from pooled shares, or from how hard the categories are to confuse           (Fleiss 1971; Gwet 2008)
    Cohen's kappa          two raters; plain, linear, quadratic                                                (Cohen 1960, 1968)
    Kendall's W            m rankings of n answers, corrected for ties                                         (Kendall and Smith 1939)

`Counted` folds a table to counts per unit, so that a bootstrap over items recomputes a coefficient from sums.
Leaves out: Bayesian versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Level = Literal["nominal", "ordinal", "interval"]


def counted(codes: ArrayLike, k: int | None = None) -> Floats:
    """[units, values] how often each value was given; units with fewer than two raters are left out."""
    table = np.asarray(codes, dtype=np.int64)
    k = int(table.max(initial=-1)) + 1 if k is None else k
    made = np.stack([(table == v).sum(axis=1) for v in range(k)], axis=1) if k else np.zeros((len(table), 0))
    return made[made.sum(axis=1) >= 2].astype(np.float64)


def distances(level: Level, marginals: Floats, values: ArrayLike | None = None) -> Floats:
    """Squared distances [values, values]. ordinal: by the marginals between the two; interval: by `values` (default 0, 1, 2 ...)."""
    k = len(marginals)
    if level == "nominal":
        return 1.0 - np.eye(k)
    if level == "interval":
        x = np.arange(k, dtype=np.float64) if values is None else np.asarray(values, dtype=np.float64)
        return (x[:, None] - x[None, :]) ** 2
    upto = np.cumsum(marginals)
    low, high = np.minimum.outer(range(k), range(k)), np.maximum.outer(range(k), range(k))
    between = upto[high] - upto[low] + marginals[low]
    return np.where(low == high, 0.0, (between - (marginals[low] + marginals[high]) / 2) ** 2)


def alpha(
    counts: Floats, level: Level = "nominal", metric: Floats | None = None, values: ArrayLike | None = None
) -> float:
    """Krippendorff's alpha of counts [units, values]. metric: own squared distances. nan where nothing varies or nothing pairs."""
    m = counts.sum(axis=1)
    use = m >= 2
    counts, m = counts[use], m[use]
    marginals = counts.sum(axis=0)
    n = marginals.sum()
    if n < 2:
        return float("nan")
    scaled = counts / (m - 1)[:, None]
    seen = scaled.T @ counts - np.diag(scaled.sum(axis=0))
    by = distances(level, marginals, values) if metric is None else metric
    expected = (np.outer(marginals, marginals) - np.diag(marginals)) / (n - 1)
    chance = float((expected * by).sum())
    return float("nan") if chance <= 0 else 1.0 - float((seen * by).sum()) / chance


def observed(counts: Floats) -> float:
    """Share of pairs of raters who said the same, mean over units."""
    m = counts.sum(axis=1)
    return float((((counts**2).sum(axis=1) - m) / (m * (m - 1))).mean()) if len(counts) else float("nan")


def fleiss(counts: Floats) -> float:
    """Fleiss' kappa; units may have different numbers of raters."""
    if not len(counts):
        return float("nan")
    shares = counts.sum(axis=0) / counts.sum()
    chance = float((shares**2).sum())
    return float("nan") if chance >= 1 else (observed(counts) - chance) / (1 - chance)


def gwet(counts: Floats) -> float:
    """Gwet's AC1: chance ``sum pi_k (1 - pi_k) / (q - 1)``, which stays small when nearly everybody says the same."""
    q = counts.shape[1]
    if not len(counts) or q < 2:
        return float("nan")
    shares = (counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)
    chance = float((shares * (1 - shares)).sum() / (q - 1))
    return (observed(counts) - chance) / (1 - chance)


def cohen(
    a: ArrayLike, b: ArrayLike, k: int | None = None, weights: Literal["none", "linear", "quadratic"] = "none"
) -> float:
    """Cohen's kappa of two raters' codes [units]; units that one of them did not see (-1) are left out."""
    x, y = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)
    x, y = x[(x >= 0) & (y >= 0)], y[(x >= 0) & (y >= 0)]
    if not x.size:
        return float("nan")
    k = int(max(x.max(), y.max())) + 1 if k is None else k
    table = np.zeros((k, k))
    np.add.at(table, (x, y), 1.0)
    apart = np.abs(np.subtract.outer(np.arange(k), np.arange(k))).astype(np.float64)
    cost = (apart > 0).astype(np.float64) if weights == "none" else apart if weights == "linear" else apart**2
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    chance = float((cost * expected).sum())
    return float("nan") if chance == 0 else 1.0 - float((cost * table).sum()) / chance


def mid_ranks(tiers: Sequence[Sequence[int]], n: int) -> Floats:
    """Rank of each answer, 1 the best; tied answers share the mean of their ranks."""
    ranks, at = np.zeros(n), 1.0
    for tier in tiers:
        ranks[list(tier)] = at + (len(tier) - 1) / 2
        at += len(tier)
    return ranks


def kendall_w(rankings: Sequence[Sequence[Sequence[int]]], n: int) -> float:
    """Kendall's W of m rankings of the same n answers: 1 is full agreement. nan with fewer than two, or where everybody ties everything."""
    m = len(rankings)
    if m < 2 or n < 2:
        return float("nan")
    ranks = np.stack([mid_ranks(t, n) for t in rankings])
    spread = float(((ranks.sum(axis=0) - m * (n + 1) / 2) ** 2).sum())
    ties = sum(float(len(tier) ** 3 - len(tier)) for t in rankings for tier in t)
    most = m * m * (n**3 - n) - m * ties
    return float("nan") if most <= 0 else 12 * spread / most


def kemeny(a: Any, b: Any) -> float:
    """Distance of two rankings of the same answers in [0, 1]: 1 for a pair turned round, 1/2 for a tie against an order (Kemeny 1959)."""
    here, there = ({k: t for t, tier in enumerate(r) for k in tier} for r in (a, b))
    pairs = [(i, j) for i in here for j in here if i < j]
    gaps = [abs(np.sign(here[i] - here[j]) - np.sign(there[i] - there[j])) / 2 for i, j in pairs]
    return float(np.mean(gaps)) if gaps else 0.0
