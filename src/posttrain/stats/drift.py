"""Has a monitored number moved? Page's cumulative sums (1954), standardised by a baseline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from posttrain.stats.interval import Floats, finite


@dataclass(frozen=True, slots=True, eq=False)
class Cusum:
    """Upper and lower sums [n] in baseline deviations, and the index of the first alarm (None: no alarm)."""

    upper: Floats
    lower: Floats
    alarm: int | None


def cusum(values: ArrayLike, mean: float, sd: float, k: float = 0.5, h: float = 5.0) -> Cusum:
    """Two-sided CUSUM of values [n] against a baseline; k is the slack and h the alarm height, in baseline deviations.

    k = 0.5, h = 5 give a false alarm about every 465 checks on normal data and find a shift of one deviation in about
    10.
    """
    x = finite(values, "values")
    if sd <= 0:
        raise ValueError(f"the baseline deviation must be positive, got {sd}: measure more baseline checks")
    z = (x - mean) / sd
    upper, lower = np.empty(x.size), np.empty(x.size)
    up = down = 0.0
    for i, v in enumerate(z):
        up, down = max(0.0, up + v - k), max(0.0, down - v - k)
        upper[i], lower[i] = up, down
    over = np.flatnonzero(np.maximum(upper, lower) > h)
    return Cusum(upper, lower, int(over[0]) if over.size else None)
