"""The interval noun, and the t interval of a mean.

Every number that the project prints about a sample carries one of these. Leaves out: simultaneous bands and Bayesian
intervals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the range that its method gives it.

    n: independent units behind it (clusters where answers share a prompt). method: how it was made, in words.
    level: nominal two-sided coverage. low and high are nan where the data cannot carry an interval; method then says
    why.
    """

    estimate: float
    low: float
    high: float
    n: int
    method: str
    level: float = 0.95

    def within(self, low: float, high: float) -> Interval:
        """The interval cut to the range that the figure can take (nan ends stay)."""
        return replace(self, low=max(self.low, low), high=min(self.high, high)) if self.known else self

    def to_json(self) -> dict[str, Any]:
        """Its fields for a file: what is not known (nan), or has no bound, is null."""
        ends = {k: v if math.isfinite(v) else None for k, v in (("low", self.low), ("high", self.high))}
        estimate = self.estimate if math.isfinite(self.estimate) else None
        return {"estimate": estimate, **ends, "n": self.n, "method": self.method, "level": self.level}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Interval:
        """Inverse of `to_json`; an end that is null is nan again. Raises KeyError where a field is missing."""
        estimate, low, high = (math.nan if told[k] is None else float(told[k]) for k in ("estimate", "low", "high"))
        return cls(estimate, low, high, told["n"], told["method"], told["level"])

    @property
    def known(self) -> bool:
        """Is there an interval at all?"""
        return not (math.isnan(self.low) or math.isnan(self.high))

    @property
    def width(self) -> float:
        return self.high - self.low

    def excludes(self, value: float) -> bool:
        """Does the interval lie wholly on one side of `value`? False where there is no interval."""
        return self.known and (value < self.low or value > self.high)

    def __contains__(self, value: float) -> bool:
        return self.known and self.low <= value <= self.high

    def __format__(self, spec: str) -> str:
        spec = spec or ".3f"
        if not self.known:
            return f"{self.estimate:{spec}} [{self.method}]"
        return f"{self.estimate:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        return format(self, ".3f")


def check_level(level: float) -> float:
    """`level` itself when it is a coverage in (0, 1); 95 for 0.95 is a usual slip."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1 (0.95 for 95%), got {level}")
    return level


def finite(values: ArrayLike | Sequence[float], name: str) -> Floats:
    """`values` as a non-empty float array [n]; raises ValueError naming the first entry that is nan or infinite."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {x.shape}")
    if x.size == 0:
        raise ValueError(f"{name} is empty: an interval needs at least one value")
    bad = np.flatnonzero(~np.isfinite(x))
    if bad.size:
        raise ValueError(
            f"{name}[{bad[0]}] is {x[bad[0]]} ({bad.size} of {x.size} are not finite); drop and count them first"
        )
    return x


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Student's interval of a mean of independent values [n]; fewer than two values, or no variance, carry no
    interval."""
    x = finite(values, "values")
    check_level(level)
    mean = float(x.mean())
    if x.size < 2:
        return Interval(mean, math.nan, math.nan, x.size, "no interval: one value", level)
    se = float(x.std(ddof=1)) / math.sqrt(x.size)
    if se == 0.0:
        return Interval(mean, math.nan, math.nan, x.size, "no interval: no variance", level)
    half = float(student.ppf((1 + level) / 2, x.size - 1)) * se
    return Interval(mean, mean - half, mean + half, x.size, "t", level)
