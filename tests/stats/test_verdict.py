"""Verdicts, `better`, and what they refuse to say."""

from __future__ import annotations

import numpy as np
import pytest

from posttrain.stats import (
    ahead_in_one_seed,
    better,
    ceiling_rule,
    clopper_pearson,
    equivalence_rule,
    floor_rule,
    judge,
    overall,
    rate_ceiling_rule,
    rate_floor_rule,
)


def one(e):
    return judge([e])[0].verdict


def test_equivalence_passes_fails_and_asks_for_more() -> None:
    assert one(equivalence_rule(0.01, 0.02, 300, 0.1)) == "pass"
    assert one(equivalence_rule(-0.3, 0.03, 300, 0.1)) == "fail"
    unsure = judge([equivalence_rule(0.05, 0.2, 30, 0.1)])[0]
    assert unsure.verdict == "inconclusive" and unsure.evidence.n_needed > 30 and "needed" in str(unsure)
    assert unsure.evidence.mde == pytest.approx(2.80 * 0.2, abs=0.01)


def test_a_tiny_but_significant_effect_cannot_fail() -> None:
    assert one(equivalence_rule(0.05, 0.0001, 10_000, 0.1)) == "pass"
    assert one(ceiling_rule(0.09, 0.0001, 10_000, 0.1)) == "pass"


def test_ceiling_and_floor_are_mirrors() -> None:
    for mean, want in ((0.0, "pass"), (0.1, "inconclusive"), (0.3, "fail")):
        assert one(ceiling_rule(mean, 0.03, 300, 0.1)) == want
        assert one(floor_rule(-mean, 0.03, 300, -0.1)) == want
    up, down = ceiling_rule(0.05, 0.03, 300, 0.1), floor_rule(-0.05, 0.03, 300, -0.1)
    assert (up.p_pass, up.p_fail, up.bound) == (down.p_pass, down.p_fail, -down.bound)
    assert ceiling_rule(0.1, 0.03, 300, 0.1).n_needed is None


def test_rates_use_exact_bounds() -> None:
    assert one(rate_ceiling_rule(0, 58, 0.05)) == "inconclusive" and one(rate_ceiling_rule(0, 59, 0.05)) == "pass"
    assert rate_ceiling_rule(0, 30, 0.05).n_needed == 59
    for k in range(60):
        e = rate_ceiling_rule(k, 200, 0.1)
        assert (e.p_pass <= 0.05) == (clopper_pearson(k, 200, 0.9).high <= 0.1)
    assert one(rate_ceiling_rule(60, 200, 0.1)) == "fail"
    assert one(rate_floor_rule(198, 200, 0.9)) == "pass" and one(rate_floor_rule(100, 200, 0.9)) == "fail"


def test_fails_are_corrected_over_the_family() -> None:
    marginal = ceiling_rule(0.155, 0.03, 300, 0.1)  # p against the claim is about .03
    assert judge([marginal])[0].verdict == "fail"
    crowd = judge([marginal, *[ceiling_rule(0.0, 0.03, 300, 0.1)] * 19])
    assert crowd[0].verdict == "inconclusive" and crowd[0].p_adj > 0.05
    assert all(r.verdict == "pass" for r in crowd[1:])


def test_false_fails_and_passes_at_the_limit_stay_at_five_percent() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0.1, 0.5, size=(2_000, 300))
    means, ses = x.mean(axis=1), x.std(axis=1, ddof=1) / np.sqrt(300)
    got = [one(equivalence_rule(float(m), float(s), 300, 0.1)) for m, s in zip(means, ses, strict=True)]
    for word in ("pass", "fail"):
        assert abs(got.count(word) / 2_000 - 0.05) < 0.015


def test_overall() -> None:
    assert overall(["pass", "pass"]) == "pass" and overall(["pass", "fail", "not_run"]) == "fail"
    assert overall(["pass", "inconclusive"]) == overall(["pass", "not_run"]) == "inconclusive"
    assert overall([]) == overall(["not_run"]) == "not_run"


def draws(shift: list[float], prompts: int = 300) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(1)
    common = rng.normal(size=prompts)
    common -= common.mean()
    return {seed: s + 0.5 * (common + (n := rng.normal(size=prompts)) - n.mean()) for seed, s in enumerate(shift)}


def test_better_needs_the_bound_and_every_seed() -> None:
    yes = better(draws([0.2, 0.15, 0.25]))
    assert yes.separated and yes.bound > yes.interval.low and yes.bound > 0 and yes.prompts == 300
    assert str(yes).startswith("better: +0.200 [") and "seeds: 0 +0.200, 1 +0.150, 2 +0.250" in str(yes)
    assert not better(draws([0.4, 0.4, -0.01])).separated, "one seed is not positive"
    assert not better(draws([0.01, 0.01, 0.01])).separated, "the bound reaches 0"
    assert not better(draws([-0.2, -0.2, -0.2])).separated
    assert better(draws([0.2, 0.15, 0.25])) == yes


def test_better_refuses_what_cannot_carry_the_claim() -> None:
    with pytest.raises(ValueError, match="3 seeds, got 2"):
        better(draws([0.1, 0.1]))
    with pytest.raises(ValueError, match="300 prompts, got 299"):
        better(draws([0.1, 0.1, 0.1], 299))
    with pytest.raises(ValueError, match="pair by the same prompts"):
        better([np.ones(300), np.ones(300), np.ones(301)])
    with pytest.raises(ValueError, match=r"seed 1\[0\] is nan"):
        better([np.ones(300), np.full(300, np.nan), np.ones(300)])


def test_one_seed_form_says_what_it_is() -> None:
    got = ahead_in_one_seed(draws([0.2], 150)[0], name=7)
    assert got.one_seed and got.separated and str(got).startswith("ahead in one seed:") and "7 +0.200" in str(got)
    assert str(ahead_in_one_seed(-draws([0.2], 150)[0])).startswith("not separated in one seed")
    with pytest.raises(ValueError, match="30 prompts"):
        ahead_in_one_seed([0.1] * 29)
