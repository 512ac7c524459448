"""The best-of-n estimator equals full enumeration, and its KL the known values."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from posttrain.audit.best_of_n import curve, expected, kl_of, weights


def enumerated(proxy: np.ndarray, gold: np.ndarray, n: int) -> float:
    """Mean gold of the best by proxy over all subsets of n; tied bests share."""
    values = []
    for subset in combinations(range(proxy.size), n):
        top = max(proxy[i] for i in subset)
        tied = np.flatnonzero(proxy == top)
        values.append(gold[tied].mean())
    return float(np.mean(values))


@pytest.mark.parametrize("total", [1, 4, 8])
@pytest.mark.parametrize("ties", [False, True])
def test_equals_enumeration(total: int, ties: bool) -> None:
    rng = np.random.default_rng(total)
    proxy = rng.integers(0, 3, total).astype(float) if ties else rng.normal(size=total)
    gold = rng.normal(size=total)
    for n in range(1, total + 1):
        assert expected(proxy, gold, n) == pytest.approx(enumerated(proxy, gold, n), abs=1e-12)
        assert weights(total, n).sum() == pytest.approx(1.0)


def test_kl_of_best_of_n() -> None:
    assert [round(kl_of(n), 3) for n in (1, 2, 4, 16, 64, 256)] == [0.0, 0.193, 0.636, 1.835, 3.175, 4.549]


def test_a_hacked_proxy_peaks_and_falls() -> None:
    rng = np.random.default_rng(0)
    true = [rng.normal(size=64) for _ in range(60)]
    cheat = [rng.exponential(size=64) ** 2 for _ in range(60)]
    found = curve(
        [t + c for t, c in zip(true, cheat, strict=True)], [t - 0.2 * c for t, c in zip(true, cheat, strict=True)]
    )
    assert found.proxy_ci[-1].estimate > found.proxy_ci[0].estimate
    assert 1 <= found.peak < 64 and found.fall.high < 0 and found.gap_slope > 0
    with pytest.raises(ValueError, match="at least 65 samples"):
        expected(true[0], true[0], 65)
