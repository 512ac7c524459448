"""Agreement of two orders: Kendall's tau-b and Spearman's rho with intervals, and the area under the ROC curve.

Fieller, Hartley and Pearson 1957 (variance of Fisher's z of tau), Bonett and Wright 2000 (of rho), DeLong, DeLong and
Clarke-Pearson 1988 with midranks (AUROC). These intervals take rows as independent; where answers share a prompt use
`cluster_bootstrap(np.c_[x, y], prompts, stat=...)`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import kendalltau, norm, rankdata, spearmanr

from posttrain.stats.interval import Floats, Interval, check_level, finite
from posttrain.stats.proportion import clopper_pearson


def _two(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    a, b = finite(x, "x"), finite(y, "y")
    if a.size != b.size:
        raise ValueError(f"x has {a.size} values and y {b.size}: a correlation needs pairs")
    return a, b


def _fisher(r: float, variance: float, n: int, method: str, level: float) -> Interval:
    check_level(level)
    if math.isnan(r):
        return Interval(r, math.nan, math.nan, n, "no correlation: one side is constant", level)
    if n < 10:
        return Interval(r, math.nan, math.nan, n, f"no interval: {n} pairs, 10 needed", level)
    z = math.atanh(min(max(r, -1 + 1e-12), 1 - 1e-12))
    half = float(norm.ppf((1 + level) / 2)) * math.sqrt(variance)
    return Interval(r, math.tanh(z - half), math.tanh(z + half), n, method, level)


def kendall_tau_b(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> Interval:
    """Kendall's tau-b of pairs [n], ties corrected; the interval is Fisher's z with variance 0.437/(n-4), meant for few
    ties."""
    a, b = _two(x, y)
    tau = float(kendalltau(a, b).statistic) if a.size > 1 else math.nan
    return _fisher(tau, 0.437 / max(a.size - 4, 1), a.size, "kendall tau-b, fisher z", level)


def spearman(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> Interval:
    """Spearman's rho of pairs [n]; the interval is Fisher's z with variance (1 + rho^2/2)/(n-3)."""
    a, b = _two(x, y)
    constant = np.ptp(a) == 0 or np.ptp(b) == 0
    rho = math.nan if constant else float(spearmanr(a, b).statistic)
    return _fisher(rho, (1 + rho * rho / 2) / max(a.size - 3, 1), a.size, "spearman, fisher z", level)


def auroc(scores: ArrayLike, labels: ArrayLike, level: float = 0.95) -> Interval:
    """P(score of a positive > score of a negative), ties 0.5, for scores [n] and 0/1 labels [n].

    The interval is DeLong's on the logit scale; where that has no variance (perfect separation) it is Clopper-Pearson
    with the smaller class as trials, never a zero width.
    """
    s, y = _two(scores, labels)
    check_level(level)
    if not np.isin(y, (0.0, 1.0)).all():
        raise ValueError("labels must be 0 or 1")
    pos, neg = s[y == 1], s[y == 0]
    m, n = pos.size, neg.size
    if m == 0 or n == 0:
        raise ValueError(f"AUROC needs both classes, got {m} positives and {n} negatives")
    ranks = rankdata(np.concatenate([pos, neg]))
    v_pos = (ranks[:m] - rankdata(pos)) / n  # share of negatives below each positive
    v_neg = 1 - (ranks[m:] - rankdata(neg)) / m  # share of positives above each negative
    area, small = float(v_pos.mean()), min(m, n)
    if small < 2:
        return Interval(area, math.nan, math.nan, small, "no interval: a class has one row", level)
    se = math.sqrt(float(v_pos.var(ddof=1)) / m + float(v_neg.var(ddof=1)) / n)
    if se == 0 or area in (0.0, 1.0):
        cp = clopper_pearson(round(area * small), small, level)
        return Interval(
            area, min(cp.low, area), max(cp.high, area), small, "clopper-pearson on the smaller class", level
        )
    centre, half = math.log(area / (1 - area)), float(norm.ppf((1 + level) / 2)) * se / (area * (1 - area))
    low, high = (1 / (1 + math.exp(-v)) for v in (centre - half, centre + half))
    return Interval(area, low, high, small, "delong, logit", level)
