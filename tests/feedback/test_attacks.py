"""An attacker's tour of the server: sessions, forged requests, invitations, other people's work, hostile text, odd requests."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import pytest
from sqlalchemy import select, update

from posttrain.core.group import group
from posttrain.feedback import accounts, items
from posttrain.feedback.server.entry import ANY_NAME, TRIES, Tries
from posttrain.feedback.tables import annotator, invitation, session
from tests.feedback.conftest import Database
from tests.feedback.made import client, ledger

NESTED = b'{"task": ' + b"[" * 5000 + b"]" * 5000 + b"}"


def test_an_invitation_works_once_and_not_for_ever(database: Database) -> None:
    opened, _ = ledger(database())
    browser, _ = client(opened)
    browser.cookies.clear()
    with opened.write() as connection:
        secret, old = (
            accounts.invite(connection, "annotator"),
            accounts.invite(connection, "manager", now=time.time() - 73 * 3600),
        )
        stored = connection.execute(select(invitation.c.hash)).scalars().all()
    assert secret not in str(stored), "only a digest is kept"
    page = browser.get(f"/join/{secret}")
    assert page.status_code == 200 and browser.get(f"/join/{secret}").status_code == 200, "looking does not use it up"
    form = {"csrf": browser.cookies["posttrain_form"], "name": "eve", "password": "long enough!", "consent": "1"}
    assert browser.post(f"/join/{secret}", data={**form, "password": "short"}).status_code == 400
    assert browser.post(f"/join/{secret}", data={**form, "csrf": "x"}).status_code == 403
    made = browser.post(f"/join/{secret}", data=form, follow_redirects=False)
    cookie = made.headers["set-cookie"].lower()
    assert made.status_code == 303 and "httponly" in cookie and "samesite=strict" in cookie
    browser.cookies.clear()
    for dead in (secret, old, "x" * 43, "%00", "..%2f..%2fetc%2fpasswd"):
        assert browser.get(f"/join/{dead}").status_code in (404, 410), dead
    with opened.read() as connection:
        role = connection.execute(select(annotator.c.role).where(annotator.c.name == "eve")).scalar()
    assert role == "annotator"


def test_passwords_cannot_be_guessed_by_trying() -> None:
    tries = Tries()
    assert [tries.allow("ann", "1.2.3.4", 0.0) for _ in range(TRIES + 2)] == [True] * TRIES + [False] * 2
    assert not tries.allow("ann", "1.2.3.4", 59.0) and tries.allow("ann", "5.6.7.8", 0.0)
    many = [tries.allow(f"name {k}", "9.9.9.9", 0.0) for k in range(ANY_NAME + 5)]
    assert sum(many) == ANY_NAME, "other names do not give other tries"
    assert tries.allow("name 0", "9.9.9.9", 61.0)


def test_a_name_that_does_not_exist_looks_like_a_wrong_password(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    opened, _ = ledger(database())
    with opened.write() as connection:
        accounts.enrol(connection, "ann", "annotator", "correct horse")
    browser, _ = client(opened, "bob")
    browser.cookies.clear()
    browser.get("/login")
    form = {"csrf": browser.cookies["posttrain_form"]}
    with caplog.at_level(logging.DEBUG):
        shown = [browser.post("/login", data={**form, "name": n, "password": "wrong horse"}) for n in ("ann", "nobody")]
        right = browser.post(
            "/login", data={**form, "name": "ann", "password": "correct horse"}, follow_redirects=False
        )
    assert [s.status_code for s in shown] == [403, 403] and shown[0].text == shown[1].text
    assert right.status_code == 303
    secret = right.headers["set-cookie"].split("=", 1)[1].split(";")[0]
    assert "horse" not in caplog.text and secret not in caplog.text
    with opened.read() as connection:
        row = connection.execute(select(annotator.c.password).where(annotator.c.name == "ann")).scalar()
        assert row is not None and row.startswith("scrypt$") and "horse" not in row
        assert secret not in connection.execute(select(session.c.hash)).scalars().all()


def test_sessions_end(database: Database) -> None:
    opened, _ = ledger(database())
    browser, key = client(opened)
    assert browser.get("/next").status_code == 200
    with opened.write() as connection:
        connection.execute(update(session).values(expires=time.time() - 1))
    assert browser.get("/next").status_code == 401
    browser, key = client(opened)
    with opened.write() as connection:
        connection.execute(update(annotator).where(annotator.c.name == "ann").values(closed=time.time()))
    assert browser.get("/next").status_code == 401, "a closed account is out at once"
    browser, key = client(opened, "cy")
    assert browser.post("/logout", data={"csrf": key["X-CSRF-Token"]}, follow_redirects=False).status_code == 303
    assert browser.get("/next").status_code == 401


def test_other_people_s_work_is_out_of_reach(database: Database) -> None:
    opened, _ = ledger(database())
    ann, ann_key = client(opened)
    eve, eve_key = client(opened, "eve")
    task = ann.get("/next").json()["task"]
    ann.post("/drafts", json={"task": task, "body": {"comment": "mine alone"}}, headers=ann_key)
    assert eve.get(f"/difference?task={task}&a=0&b=1").status_code == 403
    assert eve.post("/drafts", json={"task": task, "body": {}}, headers=eve_key).status_code == 403
    assert (
        eve.post("/judgments", json={"task": task, "client": "c", "kind": "skip"}, headers=eve_key).status_code == 403
    )
    assert (
        eve.post("/judgments", json={"task": task, "client": "c", "kind": "skip"}, headers=ann_key).status_code == 403
    )
    assert "mine alone" not in eve.get("/next?as=html").text and "mine alone" in ann.get("/next?as=html").text.replace(
        "\\u0020", " "
    )
    for path in ("/dashboard", "/people", "/review", "/export", "/agreement"):
        assert eve.get(path).status_code == 403, path
    assert eve.post("/people", data={"csrf": eve_key["X-CSRF-Token"], "role": "owner"}).status_code == 403
    boss, boss_key = client(opened, "mo", "manager")
    assert boss.post("/people", data={"csrf": boss_key["X-CSRF-Token"], "role": "owner"}).status_code == 403
    assert boss.get("/export?format=ledger&names=1").status_code == 403


def test_nothing_shows_who_wrote_an_answer(database: Database) -> None:
    from dataclasses import replace

    asked = group("q", "one", "two")
    asked = asked.with_responses([replace(r, by=f"secret-model-{k}", version=7) for k, r in enumerate(asked.responses)])
    opened, queue = ledger(database(), [asked])
    browser, _ = client(opened)
    for path in ("/", "/next", "/next?as=html", "/progress", "/guidelines"):
        assert "secret-model" not in browser.get(path).text, path
    with opened.read() as connection:
        assert next(items.each(connection, queue)).group.responses[0].by == "secret-model-0"


@pytest.mark.parametrize(
    ("method", "path", "given", "statuses"),
    [
        ("POST", "/judgments", {"content": b"x" * (256 * 1024 + 1)}, {413}),
        ("POST", "/judgments", {"content": b"\xff\x00{"}, {400, 415}),
        ("POST", "/judgments", {"content": NESTED, "headers": {"Content-Type": "application/json"}}, {400}),
        ("POST", "/drafts", {"json": {"task": "\x00", "body": {}}}, {400}),
        ("GET", "/difference?task=%00&a=0&b=1", {}, {403}),
        ("GET", "/difference?task=a&a=1e9&b=-1", {}, {400, 403}),
        ("GET", "/next?queue=%00", {}, {404}),
        ("GET", "/static/../app.py", {}, {404}),
        ("GET", "/static/%2e%2e/app.py", {}, {404}),
        ("GET", "/static/%2e%2e%2f%2e%2e%2ftables.py", {}, {404}),
        ("GET", "/?lang=%22%3E%3Cscript%3E", {}, {200}),
        ("DELETE", "/judgments", {}, {405}),
        ("GET", "/healthz", {"headers": {"Host": "evil.example"}}, {421}),
        ("POST", "/undo", {"json": {"client": "u"}, "headers": {"Sec-Fetch-Site": "cross-site"}}, {403}),
        ("POST", "/undo", {"json": {"client": "u"}, "headers": {"Origin": "null"}}, {403}),
    ],
)  # fmt: skip
def test_odd_requests_are_refused(
    tmp_path: Any, method: str, path: str, given: dict[str, Any], statuses: set[int]
) -> None:
    opened, _ = ledger(tmp_path)
    browser, key = client(opened)
    made = browser.request(method, path, **{**given, "headers": {**key, **given.get("headers", {})}})
    assert made.status_code in statuses, made.text[:200]
    assert (
        "default-src 'none'" in made.headers["content-security-policy"]
        and "'unsafe" not in made.headers["content-security-policy"]
    )
    assert made.headers["x-content-type-options"] == "nosniff" and "<script>" not in made.text.replace(
        "<script src", ""
    )


@pytest.mark.parametrize(
    ("path", "field"), [("/people", "team"), ("/review", "judgment"), ("/review", "why"), ("/guidelines", "text")]
)
def test_text_that_no_database_takes_breaks_nothing(database: Database, path: str, field: str) -> None:
    """NUL, a lone surrogate, a name of a type that is no text: an answer, never a fault of the server."""
    opened, queue = ledger(database())
    browser, key = client(opened, "olga", "owner")
    told = {**key, "content-type": "application/json"}
    with opened.read() as connection:
        item = next(items.each(connection, queue)).id
    base = {"role": "annotator", "item": item, "verdict": "ranking", "ranking": "0 > 1 > 2", "queue": queue.id}
    for odd in ("a\x00b", "\ud800", {"a": 1}, ["x"] * 9):
        made = browser.post(path, content=json.dumps({**base, field: odd}), headers=told, follow_redirects=False)
        assert made.status_code < 500, made.text


def test_a_draft_cannot_break_out_of_its_attribute(tmp_path: Any) -> None:
    opened, _ = ledger(tmp_path)
    browser, key = client(opened)
    task = browser.get("/next").json()["task"]
    evil = {"comment": "'\"><script>alert(1)</script>", "ranking": "</textarea><img src=x onerror=alert(1)>"}
    assert browser.post("/drafts", json={"task": task, "body": evil}, headers=key).status_code == 200
    page = browser.get("/").text
    assert "<script>alert" not in page and "<img src=x" not in page
    assert json.loads(json.dumps(evil)) == evil
