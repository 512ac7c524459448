"""Rows folded to their clusters: what every clustered procedure starts from.

The unit of independence is the prompt; arms, languages, seeds and samples of one prompt stay together. The mean of
unequal clusters is a ratio of sums, so its variance uses the linearised residual of each cluster (Cochran 1977, chapter
6).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from posttrain.stats.interval import Floats, finite


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Sums [G] and sizes [G] of G clusters, and the cluster of each row [n]."""

    sums: Floats
    sizes: Floats
    index: NDArray[np.intp]

    @property
    def count(self) -> int:
        return int(self.sums.size)

    @property
    def mean(self) -> float:
        """Mean over rows."""
        return float(self.sums.sum() / self.sizes.sum())

    @property
    def se(self) -> float:
        """Standard error of `mean` with clusters as the unit; nan with fewer than two. Equals sd/sqrt(n) for clusters
        of one."""
        g = self.count
        if g < 2:
            return math.nan
        residual = self.sums - self.mean * self.sizes
        return float(math.sqrt(g / (g - 1) * np.square(residual).sum()) / self.sizes.sum())

    @property
    def sd(self) -> float:
        """Spread per cluster on the scale of the mean: se * sqrt(G), what power formulas ask for."""
        return self.se * math.sqrt(self.count)


def fold(values: ArrayLike, cluster: Sequence[Any] | ArrayLike | None = None) -> Clusters:
    """Clusters of `values` [n] by the label in `cluster` [n]; None makes every row its own."""
    x = finite(values, "values")
    if cluster is None:
        return Clusters(x, np.ones_like(x), np.arange(x.size))
    index = labels(cluster, x.size)
    g = int(index.max()) + 1
    sums = cast(Floats, np.bincount(index, x, g))  # float64 once weighted; numpy's stubs say integers
    return Clusters(sums, np.bincount(index, minlength=g).astype(float), index)


def labels(cluster: Sequence[Any] | ArrayLike, n: int) -> NDArray[np.intp]:
    """Cluster labels of any hashable kind as integers 0..G-1 in order of first appearance [n]."""
    names: list[Any] = cluster.tolist() if isinstance(cluster, np.ndarray) else list(cast(Iterable[Any], cluster))
    if len(names) != n:
        raise ValueError(f"cluster names {len(names)} rows, values have {n}: give one label per row")
    seen: dict[Any, int] = {}
    return np.fromiter((seen.setdefault(name, len(seen)) for name in names), dtype=np.intp, count=n)
