"""Intervals of means and proportions against scipy, statsmodels, hand formulas, and coverage by enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as sp
from statsmodels.stats.proportion import proportion_confint

from posttrain.stats import (
    Interval,
    UselessDetector,
    clopper_pearson,
    n_zero_failures,
    rogan_gladen,
    t_interval,
    wilson,
)


def test_interval_prints_compactly_and_says_when_there_is_none() -> None:
    assert str(Interval(0.623, 0.598, 0.648, 300, "t")) == "0.623 [0.598, 0.648]"
    assert f"{Interval(0.5, 0.4, 0.6, 10, 't'):.1f}" == "0.5 [0.4, 0.6]"
    none = Interval(0.5, math.nan, math.nan, 4, "no interval: 4 clusters, 10 needed")
    assert str(none) == "0.500 [no interval: 4 clusters, 10 needed]"
    assert not none.known and not none.excludes(9.0) and 0.5 not in none
    assert Interval(0.5, 0.4, 0.6, 10, "t").excludes(0.3) and 0.45 in Interval(0.5, 0.4, 0.6, 10, "t")


@pytest.mark.parametrize(("k", "n"), [(0, 30), (1, 30), (15, 30), (29, 30), (30, 30), (137, 412)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_proportions_equal_statsmodels(k: int, n: int, level: float) -> None:
    for ours, name in ((wilson, "wilson"), (clopper_pearson, "beta")):
        low, high = proportion_confint(k, n, 1 - level, method=name)
        got = ours(k, n, level)
        assert got.low == pytest.approx(low, abs=1e-12) and got.high == pytest.approx(high, abs=1e-12)
        assert got.estimate == k / n and got.n == n


def test_zero_of_thirty_has_the_known_upper_ends() -> None:
    assert wilson(0, 30).high == pytest.approx(0.114, abs=5e-4)
    assert clopper_pearson(0, 30).high == pytest.approx(1 - 0.025 ** (1 / 30), abs=1e-12)
    assert clopper_pearson(0, 30).high == pytest.approx(0.116, abs=5e-4)


def test_coverage_by_enumeration() -> None:
    """Clopper-Pearson covers at least 95% for every p; Wilson 93-97% averaged over p."""
    n = 40
    grid = np.linspace(0.005, 0.995, 199)
    pmf = sp.binom.pmf(np.arange(n + 1)[:, None], n, grid)
    for ours, check in ((clopper_pearson, min), (wilson, np.mean)):
        ends = [ours(k, n) for k in range(n + 1)]
        inside = np.array([(e.low <= grid) & (grid <= e.high) for e in ends])
        covered = float(check((pmf * inside).sum(axis=0)))
        assert covered >= 0.95 if ours is clopper_pearson else 0.93 <= covered <= 0.97


def test_t_interval_equals_scipy() -> None:
    x = np.random.default_rng(0).normal(2, 3, 17)
    want = sp.ttest_1samp(x, 0).confidence_interval(0.9)
    got = t_interval(x, 0.9)
    assert (got.low, got.high) == pytest.approx((want.low, want.high))
    assert not t_interval([1.0]).known and not t_interval([2.0, 2.0]).known


def test_sample_sizes_of_zero_failures() -> None:
    assert [n_zero_failures(0.05), n_zero_failures(0.02)] == [72, 183]
    assert [n_zero_failures(limit, 0.90) for limit in (0.05, 0.02, 0.01)] == [59, 149, 299]
    n = n_zero_failures(0.05)
    assert clopper_pearson(0, n).high < 0.05 <= clopper_pearson(0, n - 1).high


def test_rogan_gladen() -> None:
    true, se, sp_ = 0.3, 0.9, 0.8
    assert rogan_gladen(true * se + (1 - true) * (1 - sp_), se, sp_) == pytest.approx(true)
    assert rogan_gladen(0.05, 0.9, 0.8) == 0.0
    with pytest.raises(UselessDetector, match="must exceed 1"):
        rogan_gladen(0.5, 0.5, 0.5)


def test_bad_input_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match="at least one trial"):
        wilson(0, 0)
    with pytest.raises(ValueError, match=r"0\.95 for 95%"):
        wilson(1, 2, level=95)
    with pytest.raises(ValueError, match="successes must lie in"):
        clopper_pearson(3, 2)
    with pytest.raises(ValueError, match=r"values\[1\] is nan"):
        t_interval([1.0, math.nan])
    with pytest.raises(ValueError, match="empty"):
        t_interval([])
