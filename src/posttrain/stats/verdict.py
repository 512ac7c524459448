"""From a number to pass, fail or inconclusive.

A rule holds two one-sided p-values: one that the claim holds (pass), one that it is broken (fail). A bound is a
one-sided 95% bound. Fails are corrected over the family of one call (Benjamini-Hochberg); passes need no correction
because success asks for all of them. An effect inside its limit cannot fail, however small a p-value against zero would
be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.stats import binom, norm
from scipy.stats import t as student

from posttrain.stats.equivalence import mde, n_for_tost, tost
from posttrain.stats.multiple import benjamini_hochberg
from posttrain.stats.proportion import clopper_pearson

Verdict = Literal["pass", "fail", "inconclusive", "not_run"]
ALPHA, POWER = 0.05, 0.8


@dataclass(frozen=True, slots=True)
class Evidence:
    """One tested claim before the family is known.

    rule: what was claimed, in words. n: independent units. p_pass, p_fail: one-sided p for and against the claim.
    bound: the one-sided 95% bound that the rule looks at (for an equivalence, the end farther from 0).
    mde: what this run could have found. n_needed: units that would settle it at 80% power, None when the estimate sits
    on the limit.
    """

    rule: str
    estimate: float
    bound: float
    limit: float
    n: int
    p_pass: float
    p_fail: float
    mde: float
    n_needed: int | None


@dataclass(frozen=True, slots=True)
class Ruling:
    """A verdict on one piece of evidence; p is against the claim, p_adj corrected over the family."""

    evidence: Evidence
    verdict: Verdict
    p: float
    p_adj: float

    def __str__(self) -> str:
        e = self.evidence
        text = f"{self.verdict}: {e.rule}, {e.estimate:.3f} with bound {e.bound:.3f} at n = {e.n}"
        if self.verdict != "inconclusive":
            return text
        more = "no n settles an estimate on its limit" if e.n_needed is None else f"n = {e.n_needed} needed"
        return f"{text}; {more}, this run could find {e.mde:.3f}"


def _needed(n: int, gap: float, sd: float) -> int | None:
    """Units for a one-sided test of an estimate that stays `gap` from its limit."""
    if abs(gap) <= 1e-12 or not math.isfinite(sd):
        return None
    z = float(norm.ppf(1 - ALPHA) + norm.ppf(POWER))
    return max(n + 1, math.ceil((z * sd / abs(gap)) ** 2))


def equivalence_rule(mean: float, se: float, n: int, eps: float) -> Evidence:
    """The effect should be nil: inside (-eps, eps)."""
    df, sd = n - 1, se * math.sqrt(n)
    p_pass = tost(mean, se, df, -eps, eps).p
    p_fail = tost(abs(mean), se, df, eps, math.inf).p_low
    far = abs(mean) + (float(student.ppf(1 - ALPHA, df)) * se if se > 0 else 0.0)
    needed = _needed(n, eps - abs(mean), sd)
    needed = None if needed is None else max(needed, n_for_tost(eps, sd, POWER, ALPHA))
    bound = math.copysign(far, mean)
    return Evidence(f"equal within {eps:g}", mean, bound, eps, n, p_pass, p_fail, mde(n, sd), needed)


def ceiling_rule(mean: float, se: float, n: int, limit: float) -> Evidence:
    """A mean that must stay below `limit`."""
    df, sd = n - 1, se * math.sqrt(n)
    p_fail = tost(mean, se, df, limit, math.inf).p_low
    p_pass = tost(-mean, se, df, -limit, math.inf).p_low
    bound = mean + (float(student.ppf(1 - ALPHA, df)) * se if se > 0 else 0.0)
    return Evidence(f"below {limit:g}", mean, bound, limit, n, p_pass, p_fail, mde(n, sd), _needed(n, limit - mean, sd))


def floor_rule(mean: float, se: float, n: int, limit: float) -> Evidence:
    """A mean that must stay above `limit`: the ceiling rule mirrored."""
    e = ceiling_rule(-mean, se, n, -limit)
    return Evidence(f"above {limit:g}", mean, -e.bound, limit, n, e.p_pass, e.p_fail, e.mde, e.n_needed)


def rate_ceiling_rule(k: int, n: int, limit: float) -> Evidence:
    """A rate of k in n independent units that must stay below `limit`; exact binomial, so 0 of n is no proof for small
    n."""
    if not 0 < limit < 1:
        raise ValueError(f"limit of a rate must lie between 0 and 1, got {limit}")
    bound = clopper_pearson(k, n, 1 - 2 * ALPHA).high
    p_pass, p_fail = float(binom.cdf(k, n, limit)), float(binom.sf(k - 1, n, limit))
    sd, p = math.sqrt(limit * (1 - limit)), k / n
    needed = _needed(n, limit - p, sd)
    if k == 0:
        needed = max(n + 1, math.ceil(math.log(ALPHA) / math.log1p(-limit)))
    return Evidence(f"rate below {limit:g}", p, bound, limit, n, p_pass, p_fail, mde(n, sd), needed)


def rate_floor_rule(k: int, n: int, limit: float) -> Evidence:
    """A rate that must stay above `limit`: the ceiling rule on its complement."""
    e = rate_ceiling_rule(n - k, n, 1 - limit)
    return Evidence(f"rate above {limit:g}", k / n, 1 - e.bound, limit, n, e.p_pass, e.p_fail, e.mde, e.n_needed)


def judge(evidence: Sequence[Evidence], q: float = 0.05) -> list[Ruling]:
    """Verdicts of one family of claims, in order; fails survive Benjamini-Hochberg at `q`."""
    family = benjamini_hochberg([e.p_fail for e in evidence], q)
    out = []
    for e, p_adj, failed in zip(evidence, family.p, family.rejected, strict=True):
        verdict: Verdict = "fail" if failed else "pass" if e.p_pass <= ALPHA else "inconclusive"
        out.append(Ruling(e, verdict, e.p_fail, float(p_adj)))
    return out


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """A test of several arms: fails if one arm fails, passes only if all pass; nothing run is `not_run`."""
    seen = set(verdicts)
    if "fail" in seen:
        return "fail"
    if seen <= {"not_run"}:
        return "not_run"
    return "pass" if seen == {"pass"} else "inconclusive"
