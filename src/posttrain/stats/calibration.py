"""Are stated probabilities true? Brier score, expected calibration error with its sampling floor, reliability bins.

Brier 1950; Naeini, Cooper and Hauskrecht 2015 (ECE); equal-mass bins. ECE of a finite sample is above 0 even for a
perfectly calibrated model, so `excess_ece` subtracts the floor that outcomes drawn from the stated probabilities
themselves would show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from posttrain.stats.interval import Floats, Interval, check_level, finite
from posttrain.stats.proportion import wilson


@dataclass(frozen=True, slots=True)
class Bin:
    """One reliability bin: mean stated probability, and the observed rate with its Wilson interval."""

    stated: float
    observed: Interval


@dataclass(frozen=True, slots=True)
class ExcessECE:
    """ECE as measured, the floor that sampling alone gives, and the interval of their difference."""

    ece: float
    floor: float
    excess: Interval


def _pairs(p: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    stated, happened = finite(p, "p"), finite(y, "y")
    if stated.size != happened.size:
        raise ValueError(f"p has {stated.size} values and y {happened.size}")
    if (stated < 0).any() or (stated > 1).any():
        raise ValueError("p must lie in [0, 1]: pass probabilities, not logits")
    if not np.isin(happened, (0.0, 1.0)).all():
        raise ValueError("y must be 0 or 1")
    return stated, happened


def brier(p: ArrayLike, y: ArrayLike) -> float:
    """Mean squared error of stated probabilities [n] against outcomes [n]."""
    stated, happened = _pairs(p, y)
    return float(np.square(stated - happened).mean())


def _bins(p: Floats, bins: int) -> NDArray[np.intp]:
    """Equal-mass bin of each value along the last axis; equal probabilities share a bin, so row order never matters."""
    n = p.shape[-1]
    ranks = rankdata(p, axis=-1)
    return np.minimum(((ranks - 0.5) / n * bins).astype(np.intp), bins - 1)


def _ece(p: Floats, y: Floats, bin_of: NDArray[np.intp], bins: int) -> Floats:
    """ECE of each row of [rows, n]: sum over bins of |sum(p) - sum(y)| / n."""
    rows, n = y.shape
    flat = (bin_of + np.arange(rows)[:, None] * bins).ravel()
    gap = np.bincount(flat, (p - y).ravel(), rows * bins).reshape(rows, bins)
    return np.abs(gap).sum(axis=1) / n


def ece(p: ArrayLike, y: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error over equal-mass bins."""
    stated, happened = _pairs(p, y)
    return float(_ece(stated[None], happened[None], _bins(stated, bins)[None], bins)[0])


def reliability(p: ArrayLike, y: ArrayLike, bins: int = 15, level: float = 0.95) -> list[Bin]:
    """The non-empty bins of a reliability diagram, from low to high probability."""
    stated, happened = _pairs(p, y)
    of = _bins(stated, bins)
    out = []
    for b in np.unique(of):
        here = of == b
        out.append(Bin(float(stated[here].mean()), wilson(int(happened[here].sum()), int(here.sum()), level)))
    return out


def excess_ece(
    p: ArrayLike,
    y: ArrayLike,
    bins: int = 15,
    draws: int = 200,
    reps: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> ExcessECE:
    """ECE above its sampling floor, with a bootstrap interval over rows. Ask for at least 1,000 rows.

    A resample carries the noise of the sample it came from, so its ECE is too high on average; the interval therefore
    takes the spread of the replicates about their own mean and centres it on the estimate.
    """
    check_level(level)
    stated, happened = _pairs(p, y)
    rng, n = np.random.default_rng(seed), stated.size
    of = np.broadcast_to(_bins(stated, bins), (draws, n))
    drawn = (rng.random((draws, n)) < stated).astype(float)
    floor = float(_ece(np.broadcast_to(stated, (draws, n)), drawn, of, bins).mean())
    seen = ece(stated, happened, bins)
    index = rng.integers(0, n, size=(reps, n))
    again = _ece(stated[index], happened[index], _bins(stated[index], bins), bins)
    low, high = np.quantile(again - again.mean(), ((1 - level) / 2, (1 + level) / 2))
    excess = seen - floor
    interval = Interval(excess, excess + float(low), excess + float(high), n, "bootstrap, centred", level)
    return ExcessECE(seen, floor, interval)
