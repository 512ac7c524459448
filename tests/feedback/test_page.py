"""The page: tasks, answers once, escaping, roles, sessions, forgery."""

from __future__ import annotations

import pytest

from posttrain.core.group import group
from posttrain.feedback import history
from tests.feedback.conftest import Database
from tests.feedback.made import client, ledger

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[a](javascript:alert(1)) ![b](http://x/y.png)",
    "a\u202eb\x00c\u200bd",
    "<svg onload=alert(1)>",
    "x" * 1_000_000,
]


def test_a_task_is_answered_once_and_undone(database: Database) -> None:
    opened, _ = ledger(database())
    browser, key = client(opened)
    task = browser.get("/next").json()
    assert browser.get("/next").json()["task"] == task["task"] and len(task["answers"]) == 3
    body = {"task": task["task"], "client": "c1", "kind": "ranking", "ranking": "0 > 1 = 2", "seconds": 9}
    first = browser.post("/judgments", json=body, headers=key)
    assert first.status_code == 201
    assert browser.post("/judgments", json=body, headers=key).json() == first.json()
    assert browser.get("/progress").json()["done"] == 1
    assert browser.get("/next?as=html").status_code == 200
    assert browser.post("/undo", json={"client": "u1"}, headers=key).json()["task"] == task["task"]
    assert browser.get("/progress").json()["done"] == 0
    with opened.read() as connection:
        assert history.verify(connection).faults == ()


def test_hostile_answers_are_text(database: Database) -> None:
    opened, _ = ledger(database(), [group("<script>p</script>", *HOSTILE)])
    browser, _ = client(opened)
    made = browser.get("/")
    text = made.text
    assert made.status_code == 200 and "default-src 'none'" in made.headers["content-security-policy"]
    assert (
        "<script>alert" not in text
        and "<img src=x" not in text
        and "<svg onload" not in text
        and 'href="javascript' not in text
    )
    assert "\x00" not in text and "\u202e" not in text and "⟨U+202E⟩" in text and "␀" in text
    assert "+ 996,000" in text


def test_who_may_do_what(database: Database) -> None:
    opened, _ = ledger(database())
    browser, key = client(opened)
    other, other_key = client(opened, "bob")
    task = browser.get("/next").json()["task"]
    body = {"task": task, "client": "c", "kind": "ranking", "ranking": "0>1>2"}
    assert other.post("/judgments", json=body, headers=other_key).status_code == 403
    assert browser.post("/judgments", json=body).status_code == 403
    assert browser.post("/judgments", json=body, headers={**key, "Origin": "http://evil.example"}).status_code == 403
    assert browser.get("/export").status_code == 403 and browser.get("/dashboard").status_code == 403
    browser.cookies.clear()
    assert browser.get("/next").status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard",
        "/people",
        "/review",
        "/guidelines",
        "/export?format=csv",
        "/agreement",
        "/openapi.json",
        "/healthz",
    ],
)
def test_the_owner_sees_every_page(database: Database, path: str) -> None:
    opened, _ = ledger(database())
    browser, _ = client(opened, "owner", "owner")
    assert browser.get(path).status_code == 200
