"""Intervals, bootstrap, paired and equivalence tests, corrections, verdicts. numpy and scipy only; every random
function takes a seed."""

from posttrain.stats.better import Better, ahead_in_one_seed, better
from posttrain.stats.bootstrap import bca_bootstrap, cluster_bootstrap, paired_bootstrap, percentile_bootstrap
from posttrain.stats.calibration import Bin, ExcessECE, brier, ece, excess_ece, reliability
from posttrain.stats.clusters import Clusters, fold
from posttrain.stats.drift import Cusum, cusum
from posttrain.stats.equivalence import Tost, mde, n_for, n_for_tost, non_inferior, tost
from posttrain.stats.interval import Interval, t_interval
from posttrain.stats.multiple import Adjusted, benjamini_hochberg, holm
from posttrain.stats.paired import mcnemar_exact, permutation_test, sign_flip, wilcoxon
from posttrain.stats.proportion import UselessDetector, clopper_pearson, n_zero_failures, rogan_gladen, wilson
from posttrain.stats.rank import auroc, kendall_tau_b, spearman
from posttrain.stats.verdict import (
    Evidence,
    Ruling,
    Verdict,
    ceiling_rule,
    equivalence_rule,
    floor_rule,
    judge,
    overall,
    rate_ceiling_rule,
    rate_floor_rule,
)

__all__ = [
    "Adjusted",
    "Better",
    "Bin",
    "Clusters",
    "Cusum",
    "Evidence",
    "ExcessECE",
    "Interval",
    "Ruling",
    "Tost",
    "UselessDetector",
    "Verdict",
    "ahead_in_one_seed",
    "auroc",
    "bca_bootstrap",
    "benjamini_hochberg",
    "better",
    "brier",
    "ceiling_rule",
    "clopper_pearson",
    "cluster_bootstrap",
    "cusum",
    "ece",
    "equivalence_rule",
    "excess_ece",
    "floor_rule",
    "fold",
    "holm",
    "judge",
    "kendall_tau_b",
    "mcnemar_exact",
    "mde",
    "n_for",
    "n_for_tost",
    "n_zero_failures",
    "non_inferior",
    "overall",
    "paired_bootstrap",
    "percentile_bootstrap",
    "permutation_test",
    "rate_ceiling_rule",
    "rate_floor_rule",
    "reliability",
    "rogan_gladen",
    "sign_flip",
    "spearman",
    "t_interval",
    "tost",
    "wilcoxon",
    "wilson",
]
