"""What all consistency checks share: their names, what each needs, and how values become a measured check with a remedy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from posttrain.audit.probe import Measured, Probe, Rule, settled
from posttrain.stats import Evidence, Interval, ceiling_rule
from posttrain.stats.interval import Floats

CHECKS = {
    "C01": ("cyclic preferences", "data with at least three compared answers of a prompt"),
    "C02": ("contradictions", "data in which a pair was judged more than once"),
    "C03": ("self-agreement of annotators", "data in which an annotator judged a pair twice (facts.annotator)"),
    "C04": ("length of chosen answers", "data with preferences"),
    "C05": ("side of chosen answers", "data that keeps the order in which answers were shown"),
    "C06": ("leakage", "data and held_out"),
    "C07": ("held-out accuracy", "reward_model and held_out"),
    "C08": ("calibration", "reward_model and held_out, 200 pairs or more"),
    "C09": ("implicit against explicit reward", "data, reward_model, and policy and reference with logp"),
    "C10": ("shift away from the preference data", "data, policy samples and a reward_model with features(groups)"),
    "C11": ("reward up, gold not", "reward_model, gold, and answers of policy and reference"),
    "C12": ("KL as logged", "policy and reference with logp, and logs with kl_sequence"),
    "C13": ("drift", "logs of 30 steps or more"),
    "C14": ("likelihood of chosen answers", "data, and policy and reference with logp"),
    "C15": ("self-consistency", "policy and reference with generate, and prompts"),
    "C16": ("capability kept", "capabilities, policy and reference"),
}
"""Each check: its name, and what it cannot run without."""


def figured(
    check: str, arm: str, values: ArrayLike, cluster: Sequence[str], rule: Rule, limit: float, unit: str, phrase: str,
    remedy: str, note: str = "", reps: int = 2000, seed: int = 0, low: str = "",
) -> Measured:  # fmt: skip
    """Values [n] of a check, one cluster label each, as evidence for its rule. low: the phrase of a failure downwards."""
    probe = Probe(check, arm, "all", (), (), lambda m, s: m, rule, limit, unit, phrase, low)
    made = settled(probe, np.asarray(values, float), tuple(cluster), (), note, reps, seed)
    return with_remedy(made, remedy)


def with_remedy(measured: Measured, remedy: str) -> Measured:
    """The same with a remedy in its extra."""
    from dataclasses import replace

    return replace(measured, extra={**(measured.extra or {}), "remedy": remedy})


def decided(
    check: str, arm: str, failed: bool, ci: Interval, limit: float, unit: str, phrase: str, remedy: str, note: str = ""
) -> Measured:
    """A check that its own intervals have decided: no further sampling error enters."""
    p_fail, p_pass = (0.0, 1.0) if failed else (1.0, 0.0)
    evidence = Evidence(phrase.lower(), ci.estimate, ci.estimate, limit, ci.n, p_pass, p_fail, 0.0, None)
    values = np.asarray([ci.estimate])
    return Measured(
        check, arm, "all", values, ("all",), (), ci, evidence, "ceiling", limit, unit, phrase, note,
        extra={"remedy": remedy},
    )  # fmt: skip


def bounded(check: str, arm: str, ci: Interval, limit: float, unit: str, phrase: str, remedy: str) -> Measured:
    """A figure that must stay above `limit` and comes with a symmetric interval (a correlation)."""
    se = (ci.high - ci.low) / (2 * 1.96) if ci.known else math.nan
    evidence = None
    if ci.known:
        e = ceiling_rule(-ci.estimate, se, ci.n, -limit)
        evidence = Evidence(
            f"above {limit:g}", ci.estimate, -e.bound, limit, e.n, e.p_pass, e.p_fail, e.mde, e.n_needed
        )
    return Measured(
        check, arm, "all", np.asarray([ci.estimate]), ("all",), (), ci, evidence, "floor", limit, unit, phrase,
        extra={"remedy": remedy},
    )  # fmt: skip


def absent_check(check: str, note: str, arm: str = "") -> Measured:
    """A check that did not run; note: what it needs."""
    ci = Interval(math.nan, math.nan, math.nan, 0, "not run")
    name, _ = CHECKS[check]
    return Measured(
        check, arm or name, "all", np.zeros(0), (), (), ci, None, "information", 0.0, "", name, f"needs {note}"
    )


def upper95(values: Floats) -> float:
    """One-sided 95% upper bound of a mean of independent values [n]; infinite below two."""
    from scipy.stats import t as student

    n = values.size
    if n < 2:
        return math.inf
    se = float(values.std(ddof=1)) / math.sqrt(n)
    return float(values.mean()) + float(student.ppf(0.95, n - 1)) * se
