"""The unimarc study's arithmetic; its rows, where it has been run, give its committed result; boilerplate earns next to nothing."""

from __future__ import annotations

import json

import pytest

from posttrain.core.files import read_lines
from studies import unimarc


def made(gain: float) -> tuple[list[dict], dict]:
    """Rows of three seeds in which every second notice is right before, and a share `gain` more after."""
    rows = []
    for seed in range(3):
        for stage in unimarc.STAGES:
            for decoding in unimarc.DECODING:
                for place in range(300):
                    right = float(place % 2 == 0 or (stage == "grpo" and place % 100 < 100 * gain))
                    row = {"seed": seed, "stage": stage, "decoding": decoding, "place": place, "faithful": right}
                    rows.append(
                        row | dict.fromkeys(("valid", "invented", "f1", "reward", "exact_record", "length"), right)
                    )
    return rows, {"boilerplate": {"0": [0.05, 0.06], "1": [0.05], "2": [0.12]}}


def test_the_gain_is_paired_and_has_its_interval() -> None:
    found = unimarc.result(*made(0.6))
    assert found["usual"]["stages"]["sft"]["faithful"][0] == pytest.approx(0.5)
    assert found["usual"]["gain"] == pytest.approx(0.3) and found["usual"]["separated"]
    low, high = found["usual"]["interval"]
    assert 0.2 < low < 0.3 < high < 0.4
    assert found["boilerplate"] == {"mean": 0.07, "highest": 0.12, "n": 4}
    assert not unimarc.result(*made(0.0))["usual"]["separated"]


def test_boilerplate_notices_score_below_a_fifth() -> None:
    """A notice that breaks no rule and says nothing true of the book, under held-out descriptions of three seeds."""
    for seed in unimarc.SEEDS:
        assert max(unimarc.boilerplate(unimarc.asked(seed, 60))) < 0.2


def test_a_lucky_guess_is_paid_for_its_truth_alone() -> None:
    """The same notice with the year and the height of many books. One book in 180 has both and is paid 0.30 at F = 0.27."""
    lucky = unimarc.BOILERPLATE.replace("1802", "2000").replace("9 cm", "20 cm")
    scores = [unimarc.paid(lucky, g) for seed in unimarc.SEEDS for g in unimarc.asked(seed, 60)]
    high = [s for s in scores if (s.value or 0.0) >= 0.2]
    assert len(high) == 1 and high[0].parts["F"] == pytest.approx(0.27, abs=0.005)
    assert high[0].value == pytest.approx(0.304, abs=0.001)


def test_the_committed_result_follows_from_the_rows() -> None:
    told = json.loads((unimarc.HERE / "run.json").read_text(encoding="utf-8"))
    rows = read_lines(unimarc.HERE / "rows.jsonl")
    assert unimarc.result(rows, told) == json.loads((unimarc.HERE / "result.json").read_text(encoding="utf-8"))
