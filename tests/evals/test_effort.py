"""Accuracy against tokens spent: votes, choosers and budgets on answers that are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posttrain.evals.effort import Drawn, any_of, best, curves, cut_trace, vote
from posttrain.jobs.effort import Effort
from posttrain.jobs.job import Context
from posttrain.readingroom import ReadingRoom
from posttrain.readingroom.verifiable import thought, verifiable
from posttrain.rewards import Criterion

QUIET = Context(bars=False)


def drawn(*results: str, right: str = "7") -> list[Drawn]:
    return [Drawn(r, float(r == right), float(-i), 10 + i) for i, r in enumerate(results)]


def test_the_majority_wins_and_the_first_of_equals() -> None:
    assert vote(drawn("6", "7", "7")) == 1 and vote(drawn("6", "6", "7")) == 0
    assert vote(drawn("7", "6")) == 1 and vote(drawn("6", "7")) == 0
    assert best(drawn("7", "6", "6")) == 1 and best(drawn("6", "7", "7")) == 0
    assert any_of(drawn("7", "6", "6", "6"), 2) == pytest.approx(0.5)


def test_more_answers_cost_more_tokens_and_buy_accuracy() -> None:
    rows = [drawn("7", "7", "6", "7"), drawn("7", "6", "7", "7"), drawn("6", "6", "6", "6")] * 10
    made = {(p.way, p.k): p for p in curves(rows)}
    assert made["vote", 1].accuracy.estimate == pytest.approx(0.5) and made[
        "vote", 4
    ].accuracy.estimate == pytest.approx(2 / 3)
    assert made["any", 4].accuracy.estimate == pytest.approx(2 / 3)
    assert made["vote", 4].tokens == pytest.approx(46) and made["vote", 1].tokens == pytest.approx(11.5)
    with pytest.raises(ValueError, match="same number of answers"):
        curves([drawn("7"), drawn("7", "6")])


def test_a_budget_cuts_open_thinking_alone() -> None:
    assert cut_trace([1, 2, 3, 4], 2, closed=False) == [1, 2]
    assert cut_trace([1, 2, 3, 4], 2, closed=True) is None and cut_trace([1, 2], 2, closed=False) is None


def test_traces_of_the_loan_desk_are_verified() -> None:
    """Right demonstrations earn both rewards in both languages; slips keep their form and lose the answer."""
    exact, think = Criterion.of("exact"), Criterion.of("think")
    clean = [thought(verifiable(g)) for g in ReadingRoom(0).demonstrations(60, quality=1.0, tasks=["fines"])]
    assert {g.facts["lang"] for g in clean} == {"en", "fr"}
    assert all(s[0].value == 1.0 for s in exact(clean)) and all(s[0].value == 1.0 for s in think(clean))
    spoilt = [thought(verifiable(g)) for g in ReadingRoom(0).demonstrations(120, quality=0.0, tasks=["fines"])]
    slips = [g for g in spoilt if g.responses[0].by.endswith(":slip")]
    wrong = [s[0].value == 0 for s in exact(slips)]  # two slips in one sum can cancel
    assert len(wrong) > 10 and sum(wrong) > 0.8 * len(wrong)
    assert all(s[0].value == 1.0 for s in think(slips))


def test_the_job_writes_points_rows_and_a_page(tmp_path: Path) -> None:
    rows = [verifiable(g) for g in ReadingRoom(0).prompts("held-out", 4, ["fines"])]
    data = tmp_path / "p.jsonl"
    data.write_text("".join(json.dumps(g.to_json()) + "\n" for g in rows), encoding="utf-8")
    job = Effort(
        model="base", data=str(data), out=str(tmp_path / "e"), n=2, budgets=(2,), max_tokens=8, result_tokens=4
    )
    page = job.run(QUIET).read_text(encoding="utf-8")
    told = json.loads((tmp_path / "e" / "effort.json").read_text())
    assert {(p["way"], p["k"]) for p in told["points"]} == {
        ("vote", 1), ("vote", 2), ("best", 1), ("best", 2), ("any", 1), ("any", 2), ("budget", 2)
    }  # fmt: skip
    cut = next(p for p in told["points"] if p["way"] == "budget")
    assert 2 < cut["tokens"] <= 2 + 12 + 4
    kept = [json.loads(line) for line in (tmp_path / "e" / "rows.jsonl").read_text().splitlines()]
    assert [len(r["answers"]) for r in kept] == [2] * 4
    assert "majority vote" in page and "thinking cut after" in page and "<script" not in page
