"""Written and edited answers: drafts, one review for each text, and the rows that they become."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

from posttrain.core.files import read_lines
from posttrain.core.group import group
from posttrain.feedback.labels import labels
from posttrain.feedback.ledger import Ledger
from posttrain.feedback.queues import Queue
from posttrain.feedback.server.difference import marked
from posttrain.jobs.feedback import Labels
from tests.feedback.conftest import Database
from tests.feedback.made import client, ledger


def texts(opened: Ledger, queue: Queue, reviewed: bool = False) -> list[str]:
    with opened.read() as connection:
        return [g.responses[0].text for g in labels(connection, queue, reviewed=reviewed).groups]


def wrote(opened: Ledger, name: str, kind: str, text: str) -> None:
    browser, key = client(opened, name)
    task = browser.get("/next").json()["task"]
    body = {"task": task, "client": f"c-{name}", "kind": kind, "text": text, **({"edits": 0} if kind == "edit" else {})}
    assert browser.post("/judgments", json=body, headers=key).status_code == 201


def test_two_texts_of_one_item_are_reviewed_one_by_one(database: Database) -> None:
    opened, queue = ledger(database(), [group("How deep is the sea?")], question="write", overlap=2)
    wrote(opened, "ann", "write", "Eleven kilometres at the deepest.")
    wrote(opened, "bob", "write", "Very.")
    manager, key = client(opened, "meg", "manager")
    assert len(texts(opened, queue)) == 2 and texts(opened, queue, reviewed=True) == []
    for verdict in ("accept", "reject"):
        page = manager.get("/review").text
        said = re.search(r'name="judgment" value="(\w+)"', page)
        item = re.search(r'name="item" value="([\w-]+)"', page)
        assert said and item and ("Eleven" in page) == (verdict == "accept")
        form = {"item": item[1], "judgment": said[1], "verdict": verdict, "why": "so"}
        assert manager.post("/review", data=form, headers=key, follow_redirects=False).status_code == 303
    assert "No text waits for review" in manager.get("/review").text
    assert texts(opened, queue) == texts(opened, queue, reviewed=True) == ["Eleven kilometres at the deepest."]


def test_a_review_names_its_text(database: Database) -> None:
    opened, queue = ledger(database(), [group("How deep?")], question="write", overlap=1)
    wrote(opened, "ann", "write", "Eleven kilometres.")
    manager, key = client(opened, "meg", "manager")
    item = re.search(r'name="item" value="([\w-]+)"', manager.get("/review").text)
    assert item
    made = manager.post("/review", data={"item": item[1], "verdict": "accept"}, headers=key)
    assert made.status_code == 400 and "name the text that is accepted or rejected" in made.text
    assert texts(opened, queue, reviewed=True) == []


def test_an_edit_is_shown_with_its_changes_and_beats_what_it_edits(tmp_path: Path) -> None:
    opened, _ = ledger(tmp_path, [group("How deep?", "Two kilometres, or so.")], question="edit", overlap=1)
    browser, key = client(opened)
    task = browser.get("/next").json()["task"]
    draft = {"fields": {"text": "Eleven kilo"}, "tiers": []}
    assert browser.post("/drafts", json={"task": task, "body": draft}, headers=key).status_code == 200
    kept = re.search(r'data-draft="([^"]*)"', browser.get("/").text)
    assert kept and json.loads(html.unescape(kept[1])) == draft
    wrote(opened, "ann", "edit", "Eleven kilometres, or so.")
    manager, _ = client(opened, "meg", "manager")
    page = manager.get("/review").text
    assert "<del>Two</del>" in page and "<ins>Eleven</ins>" in page and "What was changed" in page
    opened.close()
    out = Labels(ledger=str(tmp_path / "prefs.db"), out=str(tmp_path / "pairs.jsonl"), shape="pairs").run()
    (row,) = read_lines(out)
    said = {k: v if isinstance(v, str) else v[-1]["content"] for k, v in row.items() if k in ("chosen", "rejected")}
    assert said == {"chosen": "Eleven kilometres, or so.", "rejected": "Two kilometres, or so."}
    out = Labels(ledger=str(tmp_path / "prefs.db"), out=str(tmp_path / "sft.jsonl"), shape="winners").run()
    assert [r["messages"][-1]["content"] for r in read_lines(out)] == ["Eleven kilometres, or so."]


def test_neighbouring_changes_are_one_mark() -> None:
    made = marked("for one purpose, and it was", "made for three and it was")
    assert made is not None and str(made[0]).endswith(" and it was")
    a, b = marked("the old red cat", "the new blue cat") or ("", "")
    assert a == "the <del>old red</del> cat" and b == "the <ins>new blue</ins> cat"
    a, b = marked("one\ntwo", "uno\ndos") or ("", "")
    assert a == "<del>one</del>\n<del>two</del>", "a line's end stays between two marks"
