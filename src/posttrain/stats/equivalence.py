"""Equivalence, non-inferiority, and the sample sizes they and ordinary tests need.

Schuirmann 1987 (two one-sided tests). Sizes are normal approximations, rounded up. Leaves out: equivalence of
variances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.stats import norm
from scipy.stats import t as student


@dataclass(frozen=True, slots=True)
class Tost:
    """p of "outside the range", and its two one-sided parts. degenerate: no variance, so the mean alone decided."""

    p: float
    p_low: float
    p_high: float
    degenerate: bool = False


def tost(mean: float, se: float, df: float, low: float, high: float) -> Tost:
    """Two one-sided t tests that a mean lies inside (low, high): p <= .05 iff its 90% interval lies inside."""
    if not low < high:
        raise ValueError(f"the equivalence range needs low < high, got ({low}, {high})")
    p_low, flat = _above(mean, se, df, low)
    p_high, _ = _above(-mean, se, df, -high)
    return Tost(max(p_low, p_high), p_low, p_high, flat)


def non_inferior(mean: float, se: float, df: float, margin: float) -> float:
    """One-sided p of "worse by `margin` or more", for mean = new - old where larger is better."""
    if margin <= 0:
        raise ValueError(f"margin must be positive (what loss is still acceptable), got {margin}")
    return _above(mean, se, df, -margin)[0]


def _above(mean: float, se: float, df: float, limit: float) -> tuple[float, bool]:
    """One-sided p of mean <= limit, and whether there was no variance to test with."""
    if se < 0 or math.isnan(se):
        raise ValueError(f"se must be zero or positive, got {se}")
    if se == 0:
        return (0.0 if mean > limit else 1.0), True
    return float(student.sf((mean - limit) / se, df)), False


def mde(n: int, sd: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """Smallest true mean that a two-sided test of n values with spread `sd` finds with probability `power`."""
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return float(norm.ppf(1 - alpha / 2) + norm.ppf(power)) * sd / math.sqrt(n)


def n_for(effect: float, sd: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Inverse of `mde`: values needed to find `effect`. Effect 0.10 at sd 0.50 needs 197."""
    if effect == 0:
        raise ValueError("no sample size finds an effect of 0")
    return math.ceil((float(norm.ppf(1 - alpha / 2) + norm.ppf(power)) * sd / abs(effect)) ** 2)


def n_for_tost(eps: float, sd: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Values needed to prove |mean| < eps when the truth is 0. eps 0.10 at sd 0.50 needs 215."""
    if eps <= 0:
        raise ValueError(f"eps must be positive, got {eps}")
    return math.ceil((float(norm.ppf(1 - alpha) + norm.ppf((1 + power) / 2)) * sd / eps) ** 2)
