"""Groups of people who want different things: what is pooled, what each group says, who disagrees with whom on what."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from posttrain.core.files import read_lines
from posttrain.core.group import group
from posttrain.core.recipe import RecipeError
from posttrain.feedback import judging
from posttrain.feedback.agreement.report import agreement
from posttrain.feedback.ledger import Ledger
from posttrain.feedback.records import Record
from posttrain.jobs.feedback import Agree, Labels
from tests.feedback.made import client, ledger
from tests.feedback.test_ledger import say, take

NORTH, SOUTH = ("ann", "bob"), ("cy", "dee")


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    """Forty items by four people: on law the south turns every verdict of the north round, on tides everybody agrees."""
    rows = [group(f"q{i}", f"a{i}", f"b{i}", facts={"category": "law" if i % 2 else "tides"}) for i in range(40)]
    opened, queue = ledger(tmp_path, rows, overlap=4, per_team=2, decided=0.999)
    with opened.read() as connection:
        law = {i.id for i in judging.items.each(connection, queue) if i.category == "law"}
    for name in (*NORTH, *SOUTH):
        while hasattr(task := take(opened, queue, name, team="north" if name in NORTH else "south"), "item"):
            turned = name in SOUTH and task.item in law
            say(opened, name, task, judging.Answer("ranking", ((1,), (0,)) if turned else ((0,), (1,)), seconds=9))
    opened.close()
    return tmp_path / "prefs.db"


def test_each_group_has_labels_of_its_own(divided: Path) -> None:
    pooled = list(read_lines(Labels(ledger=str(divided), out=str(divided.parent / "all.jsonl")).run()))
    each = list(read_lines(Labels(ledger=str(divided), out=str(divided.parent / "each.jsonl"), per_team=True).run()))
    assert {r["facts"]["category"] for r in pooled} == {"tides"}, "a draw of two groups is no label"
    assert len(each) == 80
    wins = {
        (r["facts"]["team"], r["facts"]["category"], r["preferences"][0][0], r["facts"]["n_judgments"]) for r in each
    }
    assert wins == {("north", "law", 0, 2), ("south", "law", 1, 2), ("north", "tides", 0, 2), ("south", "tides", 0, 2)}
    alone = list(read_lines(Labels(ledger=str(divided), out=str(divided.parent / "south.jsonl"), team="south").run()))
    assert [r["preferences"] for r in alone] == [r["preferences"] for r in each if r["facts"]["team"] == "south"]
    about = json.loads((divided.parent / "each.jsonl.about.json").read_text(encoding="utf-8"))
    assert about["team"] == "each" and about["judgments"] == 160


def test_one_group_or_each() -> None:
    with pytest.raises((ValueError, RecipeError), match="team and per_team: give one"):
        Labels(ledger="x.db", out="x.jsonl", team="north", per_team=True)


def test_who_disagrees_with_whom_on_what(divided: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = Agree(ledger=str(divided), out=str(tmp_path / "agree.json")).run()["apart"]
    assert len(found) == 4 and {a["on"] for a in found} == {"law"} and all(a["share"] == 0 for a in found)
    assert re.search(r"(ann and cy|cy and ann) on law: 0% of 20 verdicts are equal", capsys.readouterr().out)


def test_the_dashboard_says_it(divided: Path) -> None:
    with Ledger(divided) as opened:
        browser, _ = client(opened, "olga", "owner")
        page = browser.get("/dashboard").text
    assert "Who disagrees with whom, on what" in page and page.count("<td>law</td>") == 4


def test_verdicts_that_are_few_or_equal_say_nothing() -> None:
    said = [Record(f"{i}{w}", f"i{i}", w, "ranking", 2, ((0,), (1,))) for i in range(40) for w in ("ann", "bob")]
    odd = [Record(f"{i}c", f"i{i}", "cy", "ranking", 2, ((1,), (0,))) for i in range(9)]
    assert agreement([*said, *odd], "ranking").apart == []
