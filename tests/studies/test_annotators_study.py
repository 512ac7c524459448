"""The study of careless annotators: its page follows from its committed rows, the rows from its seeds, and weighted labels win."""

from __future__ import annotations

import json

from posttrain.core.files import read_lines
from studies import annotators as study


def test_the_page_follows_from_the_rows() -> None:
    rows = read_lines(study.HERE / "rows.jsonl")
    found = json.loads((study.HERE / "result.json").read_text(encoding="utf-8"))
    assert study.result(rows) == found
    assert (study.HERE / "README.md").read_text(encoding="utf-8") == study.page(found)
    for question in study.QUESTIONS:
        assert found[question]["gain"]["low"] > 0, "weighted labels beat majority vote"


def test_the_rows_follow_from_the_seeds() -> None:
    mine = [r for r in read_lines(study.HERE / "rows.jsonl") if r["world"] == 0]
    assert study.run(1) == mine
