"""Temperature: found where it is known, order kept, calibration mended."""

from __future__ import annotations

import math

import numpy as np
import pytest

from posttrain.stats.calibration import excess_ece
from posttrain.stats.temperature import fit_temperature, stated


def test_two_outcomes_have_a_closed_form() -> None:
    """Margin 2 that wins 3 times of 4: sigma(2 / T) = 3/4, so T = 2 / log 3."""
    assert fit_temperature([2.0] * 4, [1, 1, 1, 0]) == pytest.approx(2 / math.log(3), rel=1e-5)
    assert fit_temperature([2.0], [0.75]) == pytest.approx(2 / math.log(3), rel=1e-5)


@pytest.mark.parametrize("truth", [0.3, 4.0])
def test_overconfidence_and_doubt_are_mended(truth: float) -> None:
    rng = np.random.default_rng(0)
    margin = rng.normal(0, 2 * truth, 6000)
    won = (rng.random(6000) < 1 / (1 + np.exp(-margin / truth))).astype(float)
    found = fit_temperature(margin[:3000], won[:3000])
    assert found == pytest.approx(truth, rel=0.1)
    before = excess_ece(stated(margin[3000:], 1.0), won[3000:], draws=50, reps=50)
    after = excess_ece(stated(margin[3000:], found), won[3000:], draws=50, reps=50)
    assert after.excess.estimate < 0.02 < before.excess.estimate


def test_limits_and_refusals() -> None:
    assert fit_temperature([1.0, 2.0], [1, 1]) == pytest.approx(1e-3, rel=1e-3)
    with pytest.raises(ValueError, match="margin has 2 values and outcome 1"):
        fit_temperature([1, 2], [1])
    with pytest.raises(ValueError, match="every margin is 0"):
        fit_temperature([0, 0], [1, 0])
    with pytest.raises(ValueError, match=r"outcome must lie in \[0, 1\]"):
        fit_temperature([1.0], [2.0])
