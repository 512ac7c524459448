"""Temperature calibration: one number that makes a score's stated probabilities true (Guo et al. 2017, arXiv:1706.04599).

A reward model says that i beats j with probability sigma(margin / T); T is fitted on held-out comparisons and changes no order. Judge it
by `calibration` before and after, on rows that did not fit it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit

from posttrain.stats.interval import Floats, finite

LIMIT = math.log(1e3)
"""T is looked for between 1/1000 and 1000."""


def fit_temperature(margin: ArrayLike, outcome: ArrayLike) -> float:
    """The T that maximises the likelihood of outcomes [n] (1, 0, or a share between) under sigma(margin / T), margins [n].

    A bound of the search comes back where margins carry no information (T = 1000) or are never wrong (T = 0.001). Raises ValueError on
    different lengths, outcomes outside [0, 1], or margins that are all 0.
    """
    gap, won = finite(margin, "margin"), finite(outcome, "outcome")
    if gap.size != won.size:
        raise ValueError(f"margin has {gap.size} values and outcome {won.size}")
    if (won < 0).any() or (won > 1).any():
        raise ValueError("outcome must lie in [0, 1]: 1 where the first response won")
    if not gap.any():
        raise ValueError("every margin is 0: no temperature changes what they say")

    def loss(log_inverse: float) -> float:
        z = gap * math.exp(log_inverse)
        return float((np.logaddexp(0.0, z) - won * z).mean())

    ends = {at: loss(at) for at in (-LIMIT, LIMIT)}
    best = minimize_scalar(loss, bounds=(-LIMIT, LIMIT), method="bounded", options={"xatol": 1e-7})
    at = min(ends, key=ends.__getitem__)
    return math.exp(-(at if ends[at] <= float(best.fun) else float(best.x)))


def stated(margin: ArrayLike, temperature: float) -> Floats:
    """What a score says of comparisons: the probability [n] that the first response wins, at a temperature."""
    return np.asarray(expit(finite(margin, "margin") / temperature), dtype=np.float64)
