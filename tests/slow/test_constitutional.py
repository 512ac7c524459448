"""The two-stage constitutional recipe and lab 1 from end to end on the embedded model, in a few steps each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posttrain.core.files import read_lines
from posttrain.core.group import Group
from posttrain.jobs.job import Context
from posttrain.jobs.pipeline import load

pytestmark = pytest.mark.slow
QUIET = Context(bars=False)


def groups(path: Path) -> list[Group]:
    return [Group.from_json(r) for r in read_lines(path)]


def test_revise_then_preferences_of_a_judge_then_dpo(tmp_path: Path) -> None:
    out = tmp_path / "c"
    small = {"demos.n": 320, "judging.n": 320, "asked.n": 48, "held_out.n": 32, "refined.rounds": 2}
    recipe = load(
        "recipes/constitutional.yaml", [f"out={out}", f"report.out={out}", *(f"{k}={v}" for k, v in small.items())]
    )
    recipe.run(QUIET)
    told = json.loads((out / "refined" / "report.json").read_text(encoding="utf-8"))
    assert told["answers"] == 48 and len(told["rounds"]) == 3 and told["warning"] is None
    finals = groups(out / "refined" / "finals.jsonl")
    starts = groups(out / "answers.jsonl")
    assert (
        len(finals) == 48
        and sum(f.responses[0].text != s.responses[0].text for f, s in zip(finals, starts, strict=True))
        == told["changed"]
    )
    judged = groups(out / "preferences.jsonl")
    assert judged and all(len({r.text for r in g.responses}) == 2 for g in judged) and any(g.pairs() for g in judged)
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert [s["name"] for s in summary["stages"]] == ["sft", "supervised", "aligned"] and (
        out / "report.html"
    ).is_file()


def test_lab_1_from_seeds_to_one_page(tmp_path: Path) -> None:
    out = tmp_path / "lab"
    small = {"seeds.n": 6, "written.n": 6, "asked.n": 10}
    recipe = load("recipes/labs/synthetic_sft.yaml", [f"out={out}", *(f"{k}={v}" for k, v in small.items())])
    recipe.run(QUIET)
    made = groups(out / "written.jsonl")
    account = json.loads((out / "written.jsonl.account.json").read_text(encoding="utf-8"))
    assert account["produced"] == 36 and len(made) == account["kept"] > 5
    dropped = read_lines(out / "clean.jsonl.dropped.jsonl")
    assert len(groups(out / "clean.jsonl")) + len(dropped) == len(made) and all(r["facts"]["dropped"] for r in dropped)
    told = json.loads((out / "page" / "comparison.json").read_text(encoding="utf-8"))
    assert list(told["models"]) == [
        "base",
        "fifty_rows",
        "thousand_synthetic",
        "synthetic_then_fifty",
        "base + examples",
    ]
    assert list(told["by_split"]) == ["held-out", "rare", "new-phrasing", "new-vocabulary", "ood"]
    assert all(value["n"] == 10 for figures in told["by_split"].values() for _, value in figures)
    (source,) = told["rows_behind"]["thousand_synthetic"]
    assert [(s["what"], s["before"]) for s in source["steps"]] == [("written", 36), ("cleaned", len(made))]
    assert source["trained"] <= source["steps"][-1]["after"] and source["shown"][0]["answer"]
    page = (out / "page" / "report.html").read_text(encoding="utf-8")
    assert (
        "Where the rows came from" in page and "transcript by base" in page and (out / "clean.jsonl.card.md").is_file()
    )
