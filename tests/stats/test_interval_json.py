"""An interval in a file: strict JSON, and the same interval when it is read again."""

from __future__ import annotations

import json
import math

import pytest

from posttrain.stats import Interval


@pytest.mark.parametrize("low, high", [(0.1, 0.4), (math.nan, math.nan), (-math.inf, 0.4)])
def test_written_and_read(low: float, high: float) -> None:
    made = Interval(0.25, low, high, 12, "by hand", 0.9)
    text = json.dumps(made.to_json(), allow_nan=False)
    again = Interval.from_json(json.loads(text))
    assert (again.estimate, again.n, again.method, again.level) == (0.25, 12, "by hand", 0.9)
    for before, after in ((low, again.low), (high, again.high)):
        assert after == before if math.isfinite(before) else math.isnan(after)


def test_an_unknown_estimate_is_null() -> None:
    told = Interval(math.nan, math.nan, math.nan, 0, "nothing measured").to_json()
    assert told["estimate"] is None and math.isnan(Interval.from_json(told).estimate)
