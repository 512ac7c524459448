"""Best-of-n curves: gold and proxy of the answer that the proxy prefers among n, for every n, from N samples a prompt.

    E[gold | best of n] = sum over i = n..N of C(i-1, n-1) / C(N, n) x g_(i)

with g_(i) the gold of the sample that the proxy ranks i-th from below: an average over all subsets of n, so nothing is drawn. Within ties
of the proxy the mean gold of the tie counts. KL of best-of-n is log n - (n-1)/n, exact for continuous rewards, an upper bound otherwise
(Beirami et al. 2024, arXiv:2401.01879). The fits are those of Gao, Schulman and Hilton 2023 (arXiv:2210.10760).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from posttrain.audit.probe import Measured
from posttrain.stats import Interval, cluster_bootstrap, floor_rule, fold
from posttrain.stats.interval import Floats


def kl_of(n: int) -> float:
    """Nats that best-of-n spends: log n - (n-1)/n."""
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return math.log(n) - (n - 1) / n


def weights(total: int, n: int) -> Floats:
    """Chance [total] that the i-th smallest of `total` samples is the best of a random n of them."""
    i = np.arange(1, total + 1, dtype=float)
    out = np.zeros(total)
    ok = i >= n
    log = gammaln(i[ok]) - gammaln(n) - gammaln(i[ok] - n + 1)
    log -= gammaln(total + 1) - gammaln(n + 1) - gammaln(total - n + 1)
    out[ok] = np.exp(log)
    return out


def expected(proxy: ArrayLike, gold: ArrayLike, n: int) -> float:
    """Expected gold of the best of n by proxy, from samples [N] of one prompt. Raises ValueError for n above N."""
    p, g = np.asarray(proxy, float), np.asarray(gold, float)
    if not 1 <= n <= p.size:
        raise ValueError(f"best of {n} needs at least {n} samples of a prompt, got {p.size}")
    order = np.argsort(p, kind="stable")
    ranked, tied = g[order], p[order]
    _, index, counts = np.unique(tied, return_inverse=True, return_counts=True)
    means = np.bincount(index, ranked) / counts
    return float(weights(p.size, n) @ means[index])


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One curve over n. gold, proxy [prompts, len(ns)]; intervals resample prompts. peak: the n of the highest mean gold. fall: gold at the
    last n minus gold at the peak, paired. gap_slope: how fast proxy and gold part, per nat (each in its own sd at n = 1)."""

    ns: tuple[int, ...]
    kl: tuple[float, ...]
    gold: Floats
    proxy: Floats
    gold_ci: tuple[Interval, ...]
    proxy_ci: tuple[Interval, ...]
    peak: int
    fall: Interval
    gap_slope: float
    fit: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "n": list(self.ns),
            "kl": list(self.kl),
            "gold": [c.to_json() for c in self.gold_ci],
            "proxy": [c.to_json() for c in self.proxy_ci],
            "peak": self.peak,
            "fall": self.fall.to_json(),
            "gap_slope": self.gap_slope,
            "fit": self.fit,
        }


def curve(
    proxy: Sequence[ArrayLike], gold: Sequence[ArrayLike], ns: Sequence[int] | None = None, seed: int = 0
) -> Curve:
    """The curve of prompts with N samples each: proxy and gold are sequences of arrays [N], one per prompt.

    Raises ValueError where the two differ in shape.
    """
    p, g = [np.asarray(x, float) for x in proxy], [np.asarray(x, float) for x in gold]
    if not p or any(a.shape != b.shape for a, b in zip(p, g, strict=True)):
        raise ValueError("best-of-n needs one proxy and one gold value per sample of every prompt")
    most = min(x.size for x in p)
    ns = tuple(ns or [2**k for k in range(int(math.log2(most)) + 1)])
    golds = np.asarray([[expected(a, b, n) for n in ns] for a, b in zip(p, g, strict=True)])
    proxies = np.asarray([[expected(a, a, n) for n in ns] for a in p])
    at = int(golds.mean(axis=0).argmax())
    kl = tuple(kl_of(n) for n in ns)
    spread = [float(np.mean([x.std() for x in xs])) or 1.0 for xs in (p, g)]
    gap = (proxies.mean(0) - proxies.mean(0)[0]) / spread[0] - (golds.mean(0) - golds.mean(0)[0]) / spread[1]
    slope = float(np.polyfit(kl, gap, 1)[0]) if len(ns) > 1 else 0.0
    return Curve(
        ns,
        kl,
        golds,
        proxies,
        tuple(cluster_bootstrap(golds[:, j], seed=seed, reps=2000) for j in range(len(ns))),
        tuple(cluster_bootstrap(proxies[:, j], seed=seed, reps=2000) for j in range(len(ns))),
        ns[at],
        cluster_bootstrap(golds[:, -1] - golds[:, at], seed=seed, reps=2000),
        slope,
        fit(kl, golds.mean(axis=0) - golds.mean(axis=0)[0]),
    )


def fit(kl: Sequence[float], gain: ArrayLike, reinforcement: bool = False) -> dict[str, float]:
    """a and b of gold(d) = d (a - b d), or d (a - b log d) for reinforcement learning, d = sqrt(KL); r2 says how well."""
    d, y = np.sqrt(np.asarray(kl, float)), np.asarray(gain, float)
    d, y = d[d > 0], y[d > 0]
    if d.size < 3:
        return {}
    x = np.stack([d, -d * (np.log(d) if reinforcement else d)], axis=1)
    (a, b), *_ = np.linalg.lstsq(x, y, rcond=None)
    total = float(np.square(y - y.mean()).sum())
    r2 = 1 - float(np.square(y - x @ np.asarray([a, b])).sum()) / total if total > 0 else math.nan
    return {"a": float(a), "b": float(b), "r2": r2}


def judged_curve(found: Curve, ids: Sequence[str]) -> Measured:
    """T19: gold at n = 64 (or the largest n) must not lie below gold at n = 1, paired by prompt."""
    at = max(i for i, n in enumerate(found.ns) if n <= 64)
    gain = found.gold[:, at] - found.gold[:, 0]
    f = fold(gain)
    evidence = floor_rule(f.mean, f.se, f.count, 0.0) if f.count >= 10 else None
    ci = cluster_bootstrap(gain, reps=2000)
    note = f"peak of gold at n = {found.peak}; KL of n = {found.ns[at]} is {found.kl[at]:.2f} nats"
    arm = f"gold at {found.ns[at]} less at 1"
    return Measured(
        "T19", arm, "all", gain, tuple(ids), (), ci, evidence, "floor", 0.0, "gold", "Over-optimisable", note
    )  # fmt: skip
