"""Intervals of proportions, and what zero failures prove.

Wilson 1927 (score interval), Clopper and Pearson 1934 (exact tail inversion), Rogan and Gladen 1978 (prevalence seen
through an imperfect detector). Leaves out: Bayesian intervals and differences of independent proportions.
"""

from __future__ import annotations

import math

from scipy.stats import beta, norm

from posttrain.stats.interval import Interval, check_level


class UselessDetector(ValueError):
    """Sensitivity and specificity sum to one or less: the detector says nothing about the truth."""


def _check(k: int, n: int, level: float) -> None:
    check_level(level)
    if n < 1:
        raise ValueError(f"a proportion needs at least one trial, got n = {n}")
    if not 0 <= k <= n:
        raise ValueError(f"successes must lie in 0..n, got {k} of {n}")


def wilson(k: int, n: int, level: float = 0.95) -> Interval:
    """Score interval of k successes in n trials: short, and right on average over p."""
    _check(k, n, level)
    z = float(norm.ppf((1 + level) / 2))
    p = k / n
    shrink = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if k == 0 else max(0.0, centre - half)
    high = 1.0 if k == n else min(1.0, centre + half)
    return Interval(p, low, high, n, "wilson", level)


def clopper_pearson(k: int, n: int, level: float = 0.95) -> Interval:
    """Exact interval of k successes in n trials: covers at least `level` for every p. 0 of n ends at 1 -
    (a/2)^(1/n)."""
    _check(k, n, level)
    a = 1 - level
    low = 0.0 if k == 0 else float(beta.ppf(a / 2, k, n - k + 1))
    high = 1.0 if k == n else float(beta.ppf(1 - a / 2, k + 1, n - k))
    return Interval(k / n, low, high, n, "clopper-pearson", level)


def n_zero_failures(limit: float, level: float = 0.95) -> int:
    """Smallest n for which no failure in n trials puts the two-sided Clopper-Pearson upper end below `limit`.

    A one-sided 95% bound is an end of the two-sided 90% interval: pass level=0.90 for it.
    """
    check_level(level)
    if not 0.0 < limit < 1.0:
        raise ValueError(f"limit must lie between 0 and 1, got {limit}")
    n = math.ceil(math.log((1 - level) / 2) / math.log1p(-limit))
    while 1 - ((1 - level) / 2) ** (1 / n) >= limit:
        n += 1
    return n


def rogan_gladen(p: float, se: float, sp: float) -> float:
    """True rate behind an observed rate `p` of a detector with sensitivity `se` and specificity `sp`, clipped to [0,
    1]."""
    if se + sp <= 1:
        raise UselessDetector(f"sensitivity {se} + specificity {sp} must exceed 1 for the rate to be recoverable")
    return min(1.0, max(0.0, (p + sp - 1) / (se + sp - 1)))
