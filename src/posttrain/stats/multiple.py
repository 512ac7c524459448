"""Many tests at once: Holm 1979 (family-wise error) and Benjamini and Hochberg 1995 (false discovery rate)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posttrain.stats.interval import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Adjusted:
    """Adjusted p [m] (nan where p was missing), which are rejected [m], how many were tested, how many were missing."""

    p: Floats
    rejected: NDArray[np.bool_]
    tested: int
    missing: int


def _split(p: Sequence[float | None]) -> tuple[Floats, NDArray[np.bool_]]:
    x = np.array([np.nan if v is None else v for v in p], dtype=np.float64)
    there = ~np.isnan(x)
    bad = there & ((x < 0) | (x > 1))
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise ValueError(f"p[{i}] is {x[i]}: p-values lie in [0, 1]")
    return x, there


def _adjusted(x: Floats, there: NDArray[np.bool_], scaled: Floats, order: NDArray[np.intp], level: float) -> Adjusted:
    known = np.empty(order.size)
    known[order] = np.minimum(scaled, 1.0)
    out = np.full(x.size, np.nan)
    out[there] = known
    return Adjusted(out, there & (np.nan_to_num(out, nan=2.0) <= level), int(there.sum()), int((~there).sum()))


def benjamini_hochberg(p: Sequence[float | None], q: float = 0.05) -> Adjusted:
    """False discovery rate at `q`; a missing p (None or nan) is left out of the family and counted."""
    x, there = _split(p)
    order = np.argsort(x[there], kind="stable")
    m = order.size
    ranked = x[there][order] * m / np.arange(1, m + 1)
    return _adjusted(x, there, np.minimum.accumulate(ranked[::-1])[::-1], order, q)


def holm(p: Sequence[float | None], alpha: float = 0.05) -> Adjusted:
    """Family-wise error at `alpha`; a missing p (None or nan) is left out of the family and counted."""
    x, there = _split(p)
    order = np.argsort(x[there], kind="stable")
    m = order.size
    ranked = x[there][order] * (m - np.arange(m))
    return _adjusted(x, there, np.maximum.accumulate(ranked) if m else ranked, order, alpha)
