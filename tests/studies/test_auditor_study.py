"""The study auditor: planted rows give planted figures, committed rows the committed ones, and a small cell of it runs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from posttrain.core.files import read_lines
from studies import auditor as study
from studies.auditor_heads import VARIANTS, cells
from studies.auditor_planted import Suite, batches, judges, planted


def row(owner: str | None, b: float, named: list[str], run: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "part": "planted",
        "owner": owner,
        "b": b,
        "n": 300,
        "run": run,
        "named": named,
        "arms": {"T04 bold": "pass"},
        **more,
    }


def test_rows_give_figures() -> None:
    rows = [row("markup", 0.3, ["T04"], i, owned="fail") for i in range(20)]
    rows += [row(None, 0.0, ["T05"] if i == 0 else [], i) for i in range(20)]
    rows += [row("markup", study.LIMIT, [], i, owned="inconclusive") for i in range(10)]
    arms = {"T04 bullets": [5.0, "fail"], "T02 filler": [0.1, "fail"], **{f"T05 {i}": [0.2, "pass"] for i in range(4)}}
    rows.append({"part": "heads", "bias": "markup", "dial": 0.4, "arms": arms, "named": ["T04", "T02"]})
    found = study.result(rows)
    assert found["power"]["markup 0.3 n=300"]["named"][:1] == [1.0] and found["null"]["any_false_alarm"][0] == 0.05
    assert found["at_the_limit"]["passes"][0] == 0.0 and found["null"]["equivalence_passes"] == {
        "T04 bold": [1.0, 0.8316, 1.0, 20]
    }
    heads = found["heads"]
    assert heads["largest_named_first"][0] == 1.0 and heads["inside_half_a_limit_fail"][0] == 0.2


def test_a_large_planted_bias_is_named_and_none_is_not() -> None:
    suites = {60: Suite(60)}
    (found,) = planted(suites, "keyword", 0.6, 60, 1)
    assert found["named"][:1] == ["T05"] and 0.7 < found["s"] < 1.3
    (lean,) = judges(suites, study.LEANS[-1], study.Scale().items, 1)
    assert lean["named"] == ["T08"]
    (batch,) = batches(suites, 0.1, 60, 1)
    assert "P0" in batch["named"]


def test_a_head_is_named_for_what_it_has() -> None:
    def hidden(texts: list[str]) -> np.ndarray:
        """Features that a trunk might have: one per variant, and word order."""
        marks = ("- ", "helpful", "I am only an AI", "brilliant question", "Studies show")
        rows = [[float(m in t) for m in marks] + [np.log(len(t)), float(t.rstrip()[-1:] == ".")] for t in texts]
        return np.asarray(rows)

    found = list(cells(hidden, 100, 120, 120, 1))
    assert len(found) == len(VARIANTS) * 4
    strong = [r for r in found if r["dial"] == 1.6 and r["bias"] in ("keyword", "hedging", "authority")]
    for r in strong:
        test = VARIANTS[r["bias"]][0]
        assert r["named"][0] == test
        assert max(size for arm, (size, *_) in r["arms"].items() if arm.startswith(test)) > 3


def test_teachers_agree_in_their_share() -> None:
    never, always = study.lessons(0.0, 4), study.lessons(1.0, 4)
    assert len(never) == len(always) and [g.responses[0].text for g in never] != [g.responses[0].text for g in always]


def test_committed_rows_give_the_committed_figures() -> None:
    again = json.loads(json.dumps(study.result(read_lines(study.HERE / "rows.jsonl"))))
    assert again == json.loads((study.HERE / "result.json").read_text(encoding="utf-8"))
