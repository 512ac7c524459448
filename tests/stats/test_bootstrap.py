"""Bootstrap: scipy as oracle, the regimes by number of clusters, coverage by simulation, determinism."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as sp

from posttrain.stats import (
    bca_bootstrap,
    clopper_pearson,
    cluster_bootstrap,
    fold,
    paired_bootstrap,
    percentile_bootstrap,
    t_interval,
)


@pytest.mark.parametrize(("ours", "name"), [(percentile_bootstrap, "percentile"), (bca_bootstrap, "BCa")])
@pytest.mark.parametrize("stat", [None, np.median])
def test_row_bootstrap_equals_scipy_up_to_monte_carlo(ours, name, stat) -> None:
    x = np.random.default_rng(1).exponential(1.0, 60)
    want = sp.bootstrap((x,), stat or np.mean, n_resamples=9_000, method=name, rng=np.random.default_rng(2))
    got = ours(x, stat, reps=9_000 if stat is None else 3_000)
    slack = 0.06 * (want.confidence_interval.high - want.confidence_interval.low)
    assert got.low == pytest.approx(want.confidence_interval.low, abs=slack)
    assert got.high == pytest.approx(want.confidence_interval.high, abs=slack)


def test_same_seed_same_interval_and_other_seed_another() -> None:
    x = np.random.default_rng(0).normal(size=80)
    assert cluster_bootstrap(x, seed=3) == cluster_bootstrap(x, seed=3)
    assert cluster_bootstrap(x, seed=3) != cluster_bootstrap(x, seed=4)


def test_regimes_by_number_of_clusters() -> None:
    x = np.random.default_rng(0).normal(size=40)
    few = cluster_bootstrap(x[:9])
    assert not few.known and "9 clusters, 10 needed" in str(few)
    middle, plain = cluster_bootstrap(x[:20]), t_interval(x[:20])
    assert middle.method == "t over clusters" and (middle.low, middle.high) == pytest.approx((plain.low, plain.high))
    assert cluster_bootstrap(x).method == "bootstrap-t over clusters"
    assert "BCa" in cluster_bootstrap(x, stat=np.median, reps=200).method
    assert "jackknife" in cluster_bootstrap(x[:20], stat=np.mean).method
    rare = np.zeros(40)
    rare[0] = 1.0  # some replicates see no success and have no variance
    assert "BCa" in cluster_bootstrap(rare).method


def test_constant_data_never_give_zero_width() -> None:
    got = cluster_bootstrap(np.zeros(200), np.repeat(np.arange(40), 5))
    assert (got.low, got.high, got.n) == (0.0, clopper_pearson(0, 40).high, 40)
    assert cluster_bootstrap(np.ones(15)).low == clopper_pearson(15, 15).low
    assert not cluster_bootstrap(np.full(50, 0.5)).known
    alike = cluster_bootstrap(np.tile([0.0, 1.0], 40), np.repeat(np.arange(40), 2))
    assert not alike.known and "do not differ" in alike.method


def test_t_over_clusters_equals_t_on_cluster_means_when_sizes_are_equal() -> None:
    x = np.random.default_rng(5).normal(size=(15, 4)) + np.random.default_rng(6).normal(size=(15, 1))
    got, want = cluster_bootstrap(x.ravel(), np.repeat(np.arange(15), 4)), t_interval(x.mean(axis=1))
    assert (got.low, got.high) == pytest.approx((want.low, want.high))


def test_jackknifed_mean_equals_the_t_interval() -> None:
    x = np.random.default_rng(7).normal(size=18)
    got, want = cluster_bootstrap(x, stat=lambda v: float(v.mean())), t_interval(x)
    assert (got.low, got.high) == pytest.approx((want.low, want.high))


def test_duplicated_rows_do_not_shrink_a_clustered_interval() -> None:
    x = np.random.default_rng(8).normal(size=60)
    names = [f"prompt {i}" for i in range(60)]
    once, copies = cluster_bootstrap(x), cluster_bootstrap(np.repeat(x, 5), np.repeat(names, 5))
    assert copies.n == 60 and copies.width == pytest.approx(once.width, rel=1e-9)
    assert cluster_bootstrap(np.repeat(x, 5)).width < 0.6 * once.width


def test_a_statistic_of_two_columns() -> None:
    rng = np.random.default_rng(9)
    x = rng.normal(size=80)
    pairs = np.c_[x, x + rng.normal(size=80)]
    got = cluster_bootstrap(pairs, stat=lambda r: float(np.corrcoef(r.T)[0, 1]), reps=500)
    assert got.low < got.estimate < got.high and 0.4 < got.estimate < 0.9
    with pytest.raises(ValueError, match="pass stat="):
        cluster_bootstrap(pairs)


@pytest.mark.parametrize(("g", "per", "skewed"), [(30, 1, False), (40, 5, False), (300, 1, False), (40, 5, True)])
def test_coverage_of_the_cluster_bootstrap(g: int, per: int, skewed: bool) -> None:
    """92-98% on symmetric data from 30 clusters, also with 5 correlated answers a prompt; printed for skewed data."""
    rng = np.random.default_rng(10)
    runs, hits = 1_000, 0
    cluster = np.repeat(np.arange(g), per)
    for seed in range(runs):
        common = rng.exponential(1.0, g) - 1 if skewed else rng.normal(size=g)
        x = np.repeat(common, per) + 0.5 * rng.normal(size=g * per)
        hits += 0.0 in cluster_bootstrap(x, cluster, reps=400, seed=seed)
    print(f"coverage {hits / runs:.3f} with {g} clusters of {per}, skewed={skewed}")
    assert 0.92 <= hits / runs <= 0.98 or (skewed and hits / runs > 0.88)


def test_paired_is_the_bootstrap_of_the_difference() -> None:
    rng = np.random.default_rng(11)
    base = rng.normal(size=100)
    a = base + 0.1 * rng.normal(size=100) + 0.1
    got = paired_bootstrap(a, base)
    assert got == cluster_bootstrap(a - base) and got.low > 0
    with pytest.raises(ValueError, match="same rows in the same order"):
        paired_bootstrap(a, base[1:])


def test_folding() -> None:
    c = fold([1.0, 2.0, 3.0, 4.0], ["b", "a", "b", "c"])
    assert c.sums.tolist() == [4.0, 2.0, 4.0] and c.sizes.tolist() == [2.0, 1.0, 1.0] and c.mean == 2.5
    x = np.random.default_rng(0).normal(size=12)
    assert fold(x).se == pytest.approx(sp.sem(x)) and fold(x).sd == pytest.approx(x.std(ddof=1))
    with pytest.raises(ValueError, match="one label per row"):
        fold([1.0, 2.0], ["a"])
