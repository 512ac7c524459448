"""The committed rows of the demo study give the committed intervals, and its claims hold."""

from __future__ import annotations

import json

import pytest

from posttrain.core.files import read_lines
from studies import demo


def test_intervals_follow_from_the_rows() -> None:
    rows = read_lines(demo.HERE / "rows.jsonl")
    told = json.loads((demo.HERE / "result.json").read_text(encoding="utf-8"))
    assert demo.result(rows) == told
    assert len({r["seed"] for r in rows}) == 3


@pytest.mark.parametrize("claim", [f"{a} > {b}" for a, b in demo.CLAIMS])
def test_claims(claim: str) -> None:
    told = json.loads((demo.HERE / "result.json").read_text(encoding="utf-8"))["claims"][claim]
    assert told["separated"] and told["bound"] > 0
    assert all(value > 0 for value in told["by_seed"].values())
    assert told["prompts"] >= 300


def test_a_changed_row_is_noticed() -> None:
    rows = read_lines(demo.HERE / "rows.jsonl")
    rows[0] = {**rows[0], "gold": 1.0 - rows[0]["gold"]}
    told = json.loads((demo.HERE / "result.json").read_text(encoding="utf-8"))
    assert demo.result(rows) != told
