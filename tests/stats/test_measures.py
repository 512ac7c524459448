"""Rank correlations, AUROC, calibration and drift against scipy and hand formulas, and their intervals by
simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as sp

from posttrain.stats import auroc, brier, cusum, ece, excess_ece, kendall_tau_b, reliability, spearman


def test_correlations_equal_scipy_and_their_intervals_cover() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, 60).astype(float)
    y = x + rng.normal(0, 3, 60)
    assert kendall_tau_b(x, y).estimate == pytest.approx(sp.kendalltau(x, y).statistic)
    assert spearman(x, y).estimate == pytest.approx(sp.spearmanr(x, y).statistic)
    rho, hits_tau, hits_rho, runs = 0.6, 0, 0, 600
    for _ in range(runs):
        a = rng.normal(size=50)
        b = rho * a + np.sqrt(1 - rho**2) * rng.normal(size=50)
        hits_tau += 2 / np.pi * np.arcsin(rho) in kendall_tau_b(a, b)
        hits_rho += 6 / np.pi * np.arcsin(rho / 2) in spearman(a, b)
    assert 0.92 <= hits_tau / runs <= 0.98 and 0.92 <= hits_rho / runs <= 0.98


def test_correlations_without_information_say_so() -> None:
    assert "constant" in spearman(np.ones(20), np.arange(20)).method
    assert "10 needed" in kendall_tau_b([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).method
    with pytest.raises(ValueError, match="needs pairs"):
        spearman([1.0], [1.0, 2.0])


def test_auroc_equals_mann_whitney_and_covers() -> None:
    rng = np.random.default_rng(1)
    y = (rng.random(200) < 0.3).astype(float)
    s = np.round(y + rng.normal(0, 1.5, 200), 1)  # rounding makes ties
    assert auroc(s, y).estimate == pytest.approx(
        sp.mannwhitneyu(s[y == 1], s[y == 0]).statistic / (y.sum() * (1 - y).sum())
    )
    truth, hits, runs = sp.norm.cdf(1 / np.sqrt(2)), 0, 500
    labels = np.repeat([1.0, 0.0], [40, 80])
    for _ in range(runs):
        hits += truth in auroc(labels + rng.normal(size=120), labels)
    assert 0.92 <= hits / runs <= 0.98


def test_auroc_at_the_edges() -> None:
    perfect = auroc([3.0, 4.0, 1.0, 2.0], [1, 1, 0, 0])
    assert perfect.estimate == 1.0 and perfect.low < 0.5, "two against two prove little"
    tied = auroc(np.ones(40), np.arange(40) % 2)
    assert tied.estimate == 0.5 and tied.low < 0.5 < tied.high
    with pytest.raises(ValueError, match="both classes"):
        auroc([1.0, 2.0], [1, 1])
    with pytest.raises(ValueError, match="0 or 1"):
        auroc([1.0, 2.0], [1, 2])


def test_brier_and_ece_have_known_values() -> None:
    rng = np.random.default_rng(2)
    p = rng.random(300)
    y = (rng.random(300) < p).astype(float)
    assert brier(p, y) == pytest.approx(sum((a - b) ** 2 for a, b in zip(p, y)) / 300)
    half = np.full(100, 0.9)
    assert ece(half, np.repeat([1.0, 0.0], 50)) == pytest.approx(0.4)
    order = rng.permutation(100)
    assert ece(half, np.repeat([1.0, 0.0], 50)[order]) == pytest.approx(0.4), "ties never depend on row order"
    by_hand = [abs(p[i].mean() - y[i].mean()) for i in np.split(np.argsort(p), 15)]
    assert ece(p, y) == pytest.approx(np.mean(by_hand))
    with pytest.raises(ValueError, match="not logits"):
        ece([1.4, 0.2], [1, 0])


def test_reliability_bins_hold_every_row_once() -> None:
    rng = np.random.default_rng(3)
    p = rng.random(400)
    bins = reliability(p, (rng.random(400) < p).astype(float), bins=10)
    assert len(bins) == 10 and sum(b.observed.n for b in bins) == 400
    assert [b.stated for b in bins] == sorted(b.stated for b in bins)
    assert len(reliability(np.full(10, 0.3), np.zeros(10))) == 1


def test_excess_ece_is_nil_for_the_calibrated_and_finds_the_over_confident() -> None:
    rng = np.random.default_rng(4)
    hits = 0
    for seed in range(60):
        p = 1 / (1 + np.exp(-rng.normal(0, 1.5, 1_000)))
        y = (rng.random(1_000) < p).astype(float)
        got = excess_ece(p, y, draws=50, reps=100, seed=seed)
        hits += got.excess.low <= 0 <= got.excess.high
        assert 0.02 < got.floor < 0.06, "the floor at 1,000 rows is near 0.04"
    assert hits >= 52
    p = 1 / (1 + np.exp(-3 * rng.normal(0, 1.5, 1_000)))
    y = (rng.random(1_000) < 1 / (1 + np.exp(-np.log(p / (1 - p)) / 3))).astype(float)
    assert excess_ece(p, y).excess.low > 0.05


def test_cusum_finds_a_shift_and_rarely_cries_wolf() -> None:
    rng = np.random.default_rng(5)
    calm = rng.normal(size=30)
    assert cusum(np.r_[calm, rng.normal(2, 1, 20)], 0, 1).alarm in range(30, 40)
    assert cusum(np.r_[calm, rng.normal(-2, 1, 20)], 0, 1).alarm in range(30, 40)
    runs = [cusum(rng.normal(size=3_000), 0, 1).alarm for _ in range(250)]
    assert 390 < np.mean([3_000 if a is None else a + 1 for a in runs]) < 540, "about 465 checks between false alarms"
    with pytest.raises(ValueError, match="must be positive"):
        cusum([1.0], 0, 0)
