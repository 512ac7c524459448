"""Paired tests, equivalence, corrections and sample sizes against scipy and statsmodels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats as sp
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from posttrain.stats import (
    benjamini_hochberg,
    holm,
    mcnemar_exact,
    mde,
    n_for,
    n_for_tost,
    non_inferior,
    permutation_test,
    sign_flip,
    tost,
    wilcoxon,
)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 5), (3, 9), (9, 3), (7, 7), (40, 61)])
def test_mcnemar_equals_statsmodels(b: int, c: int) -> None:
    want = 1.0 if b + c == 0 else mcnemar([[5, b], [c, 5]], exact=True).pvalue
    assert mcnemar_exact(b, c) == pytest.approx(want)
    with pytest.raises(ValueError, match="counts"):
        mcnemar_exact(-1, 2)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_sign_flip_enumerates_small_samples(alternative: str) -> None:
    d = np.random.default_rng(0).normal(0.4, 1, 9)
    t = lambda v: v.mean() / sp.sem(v)  # noqa: E731
    all_t = np.array([t(d * s) for s in itertools.product((1, -1), repeat=9)])
    seen = t(d)
    want = {"greater": all_t >= seen - 1e-9, "less": all_t <= seen + 1e-9, "two-sided": abs(all_t) >= abs(seen) - 1e-9}
    assert sign_flip(d, alternative=alternative) == want[alternative].mean()


def test_sign_flip_by_chance_is_close_to_the_t_test_and_respects_clusters() -> None:
    d = np.random.default_rng(1).normal(0.25, 1, 60)
    assert sign_flip(d) == pytest.approx(sp.ttest_1samp(d, 0).pvalue, abs=0.02)
    assert sign_flip(np.repeat(d, 4), np.repeat(np.arange(60), 4)) == sign_flip(d)
    assert sign_flip(d + 5) == 1 / 10_001
    assert sign_flip(np.zeros(20)) == 1.0
    assert sign_flip(np.ones(8)) == 2 / 2**8


def test_wilcoxon_and_permutation_equal_scipy() -> None:
    rng = np.random.default_rng(2)
    d = rng.normal(0.3, 1, 40)
    assert wilcoxon(d) == pytest.approx(sp.wilcoxon(d).pvalue) and wilcoxon(np.zeros(5)) == 1.0
    a, b = rng.normal(0.5, 1, 30), rng.normal(0, 1, 40)
    want = sp.permutation_test((a, b), lambda x, y: x.mean() - y.mean(), n_resamples=5_000, rng=rng).pvalue
    assert permutation_test(a, b) == pytest.approx(want, abs=0.02)
    assert permutation_test(a + 9, b, alternative="greater") == 1 / 10_001


def test_tost_equals_statsmodels_and_the_90_percent_interval() -> None:
    for seed in range(20):
        x = np.random.default_rng(seed).normal(0.05, 0.5, 80)
        got = tost(x.mean(), sp.sem(x), 79, -0.1, 0.1)
        assert got.p == pytest.approx(DescrStatsW(x).ttost_mean(-0.1, 0.1)[0])
        inside = sp.ttest_1samp(x, 0).confidence_interval(0.9)
        assert (got.p <= 0.05) == (inside.low > -0.1 and inside.high < 0.1)
    flat = tost(0.02, 0.0, 10, -0.1, 0.1)
    assert flat.p == 0.0 and flat.degenerate and tost(0.2, 0.0, 10, -0.1, 0.1).p == 1.0
    with pytest.raises(ValueError, match="low < high"):
        tost(0, 1, 5, 1, -1)


def test_non_inferior_is_the_shifted_one_sided_t_test() -> None:
    x = np.random.default_rng(3).normal(-0.01, 0.2, 200)
    want = sp.ttest_1samp(x, -0.05, alternative="greater").pvalue
    assert non_inferior(x.mean(), sp.sem(x), 199, 0.05) == pytest.approx(want)


@pytest.mark.parametrize(("ours", "name"), [(holm, "holm"), (benjamini_hochberg, "fdr_bh")])
def test_corrections_equal_statsmodels_and_count_missing(ours, name: str) -> None:
    p = np.random.default_rng(4).random(30) ** 3
    reject, adjusted, *_ = multipletests(p, 0.05, method=name)
    got = ours(p.tolist())
    assert got.p == pytest.approx(adjusted) and (got.rejected == reject).all() and got.missing == 0
    holes = ours([None, *p.tolist(), float("nan")])
    assert holes.p[1:-1] == pytest.approx(adjusted) and np.isnan(holes.p[[0, -1]]).all()
    assert (holes.tested, holes.missing) == (30, 2) and not holes.rejected[[0, -1]].any()
    assert ours([]).tested == 0
    with pytest.raises(ValueError, match=r"p\[0\] is 1.5"):
        ours([1.5])


def test_sample_sizes() -> None:
    assert n_for(0.10, 0.50) == 197 and n_for_tost(0.10, 0.50) == 215
    assert mde(197, 0.5) == pytest.approx(0.1, abs=5e-4) and mde(197, 0.5) <= 0.1 < mde(196, 0.5)
    with pytest.raises(ValueError, match="effect of 0"):
        n_for(0.0, 1.0)
