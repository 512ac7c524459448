"""Bootstrap intervals by rows and by clusters.

Efron 1987 (BCa), Efron and Tibshirani 1993 (bootstrap-t), Cameron, Gelbach and Miller 2008 (few clusters). Means are
computed for all replicates at once as multinomial counts times per-cluster sums; other statistics are called once a
replicate. Leaves out: parametric and block bootstraps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm
from scipy.stats import t as student

from posttrain.stats.clusters import Clusters, fold, labels
from posttrain.stats.interval import Floats, Interval, check_level, finite
from posttrain.stats.proportion import clopper_pearson

Stat = Callable[[Any], float]
FEW, ENOUGH = 10, 30  # clusters: below the first no interval, below the second a t interval
_CELLS = 4_000_000  # counts held in memory at once


def percentile_bootstrap(
    values: ArrayLike, stat: Stat | None = None, reps: int = 10_000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Percentile interval of `stat` (default the mean) over independent rows [n] or [n, d]."""
    x = _rows(values)
    draws = _replicates(x, None, stat, reps, seed)
    low, high = np.quantile(draws, _tails(level))
    return Interval(_value(x, stat), float(low), float(high), len(x), "bootstrap percentile", level)


def bca_bootstrap(
    values: ArrayLike, stat: Stat | None = None, reps: int = 10_000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Bias-corrected and accelerated interval of `stat` (default the mean) over independent rows [n] or [n, d]."""
    return _bca(_rows(values), None, stat, reps, seed, level)


def cluster_bootstrap(
    values: ArrayLike,
    cluster: Sequence[Any] | ArrayLike | None = None,
    stat: Stat | None = None,
    reps: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of `stat` (default the mean) of rows [n] or [n, d] that resamples whole clusters; None makes each row a
    cluster.

    Fewer than 10 clusters give no interval; 10 to 29 a t interval over clusters; from 30 the mean takes bootstrap-t and
    any other statistic BCa, which also steps in for a mean when a replicate has no variance. Constant 0/1 data take
    Clopper-Pearson with the clusters as trials. Other constant data carry no interval.
    The t interval uses linearised cluster contributions: the t interval on cluster means when clusters are equally
    large.
    """
    check_level(level)
    x = _rows(values)
    index = None if cluster is None else labels(cluster, len(x))
    g = len(x) if index is None else int(index.max()) + 1
    value = _value(x, stat)
    if g < FEW:
        return Interval(value, math.nan, math.nan, g, f"no interval: {g} clusters, {FEW} needed", level)
    if stat is not None:
        return _few(x, index, stat, g, level) if g < ENOUGH else _bca(x, index, stat, reps, seed, level)
    if x.ndim != 1:
        raise ValueError(f"the mean needs values of shape [n], got {x.shape}: pass stat= for rows with several columns")
    folded = fold(x, index)
    if np.ptp(x) == 0:
        if x[0] in (0.0, 1.0):
            return clopper_pearson(g if x[0] else 0, g, level)
        return Interval(value, math.nan, math.nan, g, "no interval: no variance", level)
    if folded.se == 0:
        return Interval(value, math.nan, math.nan, g, "no interval: clusters do not differ", level)
    if g < ENOUGH:
        half = float(student.ppf((1 + level) / 2, g - 1)) * folded.se
        return Interval(value, value - half, value + half, g, "t over clusters", level)
    return _studentised(folded, reps, seed, level) or _bca(x, index, None, reps, seed, level)


def paired_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    cluster: Sequence[Any] | ArrayLike | None = None,
    reps: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of mean(a - b) for two systems measured on the same rows [n], by `cluster_bootstrap`."""
    left, right = finite(a, "a"), finite(b, "b")
    if left.size != right.size:
        raise ValueError(
            f"a has {left.size} rows and b {right.size}: a paired interval needs the same rows in the same order"
        )
    return cluster_bootstrap(left - right, cluster, reps=reps, seed=seed, level=level)


def _rows(values: ArrayLike) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    finite(x.reshape(-1), "values")
    return x


def _value(x: Floats, stat: Stat | None) -> float:
    return float(x.mean()) if stat is None else float(stat(x))


def _tails(level: float) -> tuple[float, float]:
    check_level(level)
    return (1 - level) / 2, (1 + level) / 2


def _counts(g: int, reps: int, seed: int) -> Iterator[Floats]:
    """Times that each of g clusters is drawn, [reps, g] in chunks that fit in memory."""
    rng = np.random.default_rng(seed)
    chunk = max(1, _CELLS // g)
    for start in range(0, reps, chunk):
        rows = min(chunk, reps - start)
        drawn = rng.integers(0, g, size=(rows, g)) + np.arange(rows)[:, None] * g
        yield np.bincount(drawn.ravel(), minlength=rows * g).reshape(rows, g).astype(np.float64)


def _studentised(c: Clusters, reps: int, seed: int, level: float) -> Interval | None:
    """Bootstrap-t of a mean; None when a replicate has no variance and its t does not exist."""
    g = c.count
    moments = np.stack([c.sums, c.sizes, c.sums**2, c.sums * c.sizes, c.sizes**2], axis=1)
    t = []
    for w in _counts(g, reps, seed):
        s, n, ss, sn, nn = (w @ moments).T
        mean = s / n
        squares = ss - 2 * mean * sn + mean**2 * nn
        if (squares <= 1e-12 * (ss + 1e-300)).any():
            return None
        t.append((mean - c.mean) / (np.sqrt(g / (g - 1) * squares) / n))
    upper, lower = np.quantile(np.concatenate(t), _tails(level)[::-1])
    return Interval(
        c.mean, c.mean - float(upper) * c.se, c.mean - float(lower) * c.se, g, "bootstrap-t over clusters", level
    )


def _replicates(x: Floats, index: Any, stat: Stat | None, reps: int, seed: int) -> Floats:
    """`stat` of each replicate [reps]."""
    g = len(x) if index is None else int(index.max()) + 1
    if stat is None:
        c = fold(x, index)
        return np.concatenate([(w @ c.sums) / (w @ c.sizes) for w in _counts(g, reps, seed)])
    rows = np.arange(len(x)) if index is None else index
    out: list[float] = []
    for w in _counts(g, reps, seed):
        out.extend(float(stat(np.repeat(x, k.astype(int)[rows], axis=0))) for k in w)
    return np.asarray(out)


def _jackknife(x: Floats, index: Any, stat: Stat | None, g: int) -> Floats:
    """`stat` without each cluster in turn [g]."""
    if stat is None:
        c = fold(x, index)
        return (c.sums.sum() - c.sums) / (c.sizes.sum() - c.sizes)
    rows = np.arange(len(x)) if index is None else index
    return np.asarray([float(stat(x[rows != i])) for i in range(g)])


def _few(x: Floats, index: Any, stat: Stat, g: int, level: float) -> Interval:
    """t interval on jackknife pseudo-values, for a statistic that is not a mean and 10 to 29 clusters."""
    value = float(stat(x))
    pseudo = g * value - (g - 1) * _jackknife(x, index, stat, g)
    half = float(student.ppf((1 + level) / 2, g - 1)) * float(pseudo.std(ddof=1)) / math.sqrt(g)
    if half == 0:
        return Interval(value, math.nan, math.nan, g, "no interval: no variance", level)
    return Interval(value, value - half, value + half, g, "t over clusters, jackknife", level)


def _bca(x: Floats, index: Any, stat: Stat | None, reps: int, seed: int, level: float) -> Interval:
    g = len(x) if index is None else int(index.max()) + 1
    value = _value(x, stat)
    draws = _replicates(x, index, stat, reps, seed)
    if np.ptp(draws) == 0:
        return Interval(value, math.nan, math.nan, g, "no interval: no variance", level)
    below = ((draws < value).sum() + 0.5 * (draws == value).sum()) / reps
    bias = float(norm.ppf(min(max(below, 0.5 / reps), 1 - 0.5 / reps)))
    left_out = _jackknife(x, index, stat, g)
    pull = left_out.mean() - left_out
    spread = float(np.square(pull).sum())
    a = float((pull**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    z = bias + norm.ppf(_tails(level))
    low, high = np.quantile(draws, norm.cdf(bias + z / (1 - a * z)))
    name = "bootstrap BCa" if index is None else "bootstrap BCa over clusters"
    return Interval(value, float(low), float(high), g, name, level)
