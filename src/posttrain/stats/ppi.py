"""Prediction-powered inference: few human labels and many judged ones give one interval without the judge's bias.

theta = mean(Y) + l (mean over the judged (f) - mean over the labelled (f)), with the l that makes the variance smallest; l = 0 ignores
the judge, l = 1 is the first form of Angelopoulos et al. 2023 (Science 382; arXiv:2301.09633), the tuned one is PPI++ (arXiv:2311.01453).
The labelled rows must be a random part of all rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from posttrain.stats.clusters import labels
from posttrain.stats.interval import Floats, Interval, check_level, finite, t_interval

LEAST = 50
"""Human labels below which the estimate is refused."""


@dataclass(frozen=True, slots=True)
class PredictionPowered:
    """Three figures that belong together. interval: labels and judge joined; human: labels alone; judge: the mean of the judge, which may
    be biased. weight: l, how much the judge was listened to."""

    interval: Interval
    human: Interval
    judge: float
    weight: float

    def __str__(self) -> str:
        return f"{self.interval} (people alone {self.human}; judge alone {self.judge:.3f}; weight of the judge {self.weight:.2f})"


def ppi_mean(
    human: ArrayLike,
    judged: ArrayLike,
    judged_only: ArrayLike,
    cluster: Sequence[Any] | None = None,
    level: float = 0.95,
) -> PredictionPowered:
    """The mean of human labels over all rows.

    human, judged [n]: label and judge's value of the labelled rows; judged_only [N]: the judge's values of the other rows. cluster [n]:
    prompt of each labelled row, where several share one. Raises ValueError below 50 labels (clusters).
    """
    y, f, g = finite(human, "human"), finite(judged, "judged"), finite(judged_only, "judged_only")
    check_level(level)
    if y.size != f.size:
        raise ValueError(f"{y.size} human labels and {f.size} judged values of the same rows; give one each")
    index = np.arange(y.size) if cluster is None else labels(cluster, y.size)
    units = int(index.max()) + 1
    if units < LEAST:
        raise ValueError(f"{units} independent human labels; prediction-powered inference needs {LEAST} or more")
    weight = _weight(y, f, g)
    residual = y - weight * f
    theta = float(residual.mean() + weight * g.mean())
    spread = _mean_variance(residual, index) + weight**2 * _variance(g) / g.size
    half = float(student.ppf((1 + level) / 2, units - 1)) * math.sqrt(spread)
    made = Interval(theta, theta - half, theta + half, units, f"prediction-powered, {g.size} judged rows", level)
    return PredictionPowered(made, t_interval(y, level), float(np.concatenate([f, g]).mean()), weight)


def _weight(y: Floats, f: Floats, g: Floats) -> float:
    """l = cov(Y, f) / ((1 + n/N) var(f)), within [0, 1]."""
    spread = _variance(np.concatenate([f, g]))
    if spread == 0:
        return 0.0
    shared = float(((y - y.mean()) * (f - f.mean())).sum()) / (y.size - 1)
    return min(1.0, max(0.0, shared / ((1 + y.size / g.size) * spread)))


def _variance(x: Floats) -> float:
    return float(x.var(ddof=1)) if x.size > 1 else 0.0


def _mean_variance(x: Floats, index: np.ndarray) -> float:
    """Variance of the mean of rows that come in clusters (linearised)."""
    units = int(index.max()) + 1
    sums = np.bincount(index, weights=x - x.mean(), minlength=units)
    return float((sums**2).sum()) * units / (units - 1) / x.size**2
