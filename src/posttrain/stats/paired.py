"""Tests of a difference: exact McNemar, sign flips by cluster, Wilcoxon's signed ranks, and a two-sample permutation.

McNemar 1947, Fisher 1935 (randomisation), Wilcoxon 1945, Phipson and Smyth 2010 (why p = (c+1)/(B+1)). Every function
returns p.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom
from scipy.stats import wilcoxon as _wilcoxon

from posttrain.stats.clusters import fold
from posttrain.stats.interval import Floats, finite

Alternative = Literal["two-sided", "greater", "less"]
ENUMERATED = 16  # clusters up to which all sign patterns are visited


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided p of b against c discordant pairs under a fair coin; no discordant pair gives 1."""
    if b < 0 or c < 0:
        raise ValueError(f"discordant pairs are counts, got {b} and {c}")
    if b + c == 0:
        return 1.0
    return float(min(1.0, 2 * binom.cdf(min(b, c), b + c, 0.5)))


def _beyond(t: Floats, seen: float, alternative: Alternative) -> int:
    slack = 1e-9 * max(1.0, abs(seen)) if np.isfinite(seen) else 0.0
    if alternative == "greater":
        return int((t >= seen - slack).sum())
    if alternative == "less":
        return int((t <= seen + slack).sum())
    if alternative == "two-sided":
        return int((np.abs(t) >= abs(seen) - slack).sum())
    raise ValueError(f"alternative {alternative!r} is unknown; accepted: two-sided, greater, less")


def sign_flip(
    differences: ArrayLike,
    cluster: Sequence[Any] | ArrayLike | None = None,
    reps: int = 10_000,
    alternative: Alternative = "two-sided",
    seed: int = 0,
) -> float:
    """p of mean(differences) = 0 under symmetric signs of whole clusters; statistic mean/se.

    Up to 16 clusters all 2^G patterns are visited and p is exact; above, p = (c+1)/(reps+1).
    """
    c = fold(differences, cluster)
    g, total = c.count, c.sizes.sum()
    if g < 2:
        raise ValueError("sign_flip needs at least two clusters")

    def statistic(signs: NDArray[np.floating]) -> Floats:
        mean = signs @ c.sums / total
        squares = (c.sums**2).sum() - 2 * mean * (signs @ (c.sums * c.sizes)) + mean**2 * (c.sizes**2).sum()
        squares = np.where(squares <= 1e-12 * (c.sums**2).sum(), 0.0, squares)
        se = np.sqrt(g / (g - 1) * squares) / total
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(mean == 0, 0.0, mean / se)

    seen = float(statistic(np.ones((1, g)))[0])
    if g <= ENUMERATED:
        patterns = 1.0 - 2.0 * ((np.arange(2**g)[:, None] >> np.arange(g)) & 1)
        return _beyond(statistic(patterns), seen, alternative) / 2**g
    rng = np.random.default_rng(seed)
    chunk, beyond = max(1, 4_000_000 // g), 0
    for start in range(0, reps, chunk):
        signs = 1.0 - 2.0 * rng.integers(0, 2, size=(min(chunk, reps - start), g))
        beyond += _beyond(statistic(signs), seen, alternative)
    return (beyond + 1) / (reps + 1)


def wilcoxon(differences: ArrayLike, alternative: Alternative = "two-sided") -> float:
    """p of Wilcoxon's signed-rank test; zeros are ranked and then left out (Pratt 1959), all zeros give 1."""
    d = finite(differences, "differences")
    if not d.any():
        return 1.0
    return float(_wilcoxon(d, zero_method="pratt", alternative=alternative).pvalue)


def permutation_test(
    a: ArrayLike, b: ArrayLike, reps: int = 10_000, alternative: Alternative = "two-sided", seed: int = 0
) -> float:
    """p of mean(a) = mean(b) for two independent samples, by shuffling which value belongs to which."""
    left, right = finite(a, "a"), finite(b, "b")
    pool, n, m = np.concatenate([left, right]), left.size, right.size
    seen = float(left.mean() - right.mean())
    rng = np.random.default_rng(seed)
    chunk, beyond = max(1, 4_000_000 // pool.size), 0
    for start in range(0, reps, chunk):
        rows = min(chunk, reps - start)
        first = rng.permuted(np.broadcast_to(pool, (rows, pool.size)), axis=1)[:, :n].sum(axis=1)
        beyond += _beyond(first / n - (pool.sum() - first) / m, seen, alternative)
    return (beyond + 1) / (reps + 1)
