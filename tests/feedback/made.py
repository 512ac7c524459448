"""A ledger with a few people in it, and a client that is signed in, for the tests of feedback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from posttrain.core.group import Group, group
from posttrain.feedback import accounts, items, queues
from posttrain.feedback.ledger import Ledger
from posttrain.feedback.server.app import application


def made(n: int = 5, answers: int = 3) -> list[Group]:
    return [group(f"question {i}", *(f"answer {i} {k}" for k in range(answers))) for i in range(n)]


def ledger(place: Path | str, groups: list[Group] | None = None, **settings: Any) -> tuple[Ledger, queues.Queue]:
    """A ledger with one queue. place: a directory for an SQLite file, or a URL."""
    opened = Ledger(place / "prefs.db" if isinstance(place, Path) else place)
    with opened.write() as connection:
        queue = queues.make(connection, "main", queues.Settings(**{"gold_rate": 0.0, "repeat_rate": 0.0, **settings}))
        items.add(connection, queue, made() if groups is None else groups)
    return opened, queue


def client(
    opened: Ledger, name: str = "ann", role: Any = "annotator", **settings: Any
) -> tuple[TestClient, dict[str, str]]:
    """(client with a session, headers that a change needs)."""
    with opened.write() as connection:
        person = accounts.named(connection, name, role)
        secret = accounts.open_session(connection, person.id)
    with opened.read() as connection:
        session = accounts.session_of(connection, secret)
    assert session is not None
    browser = TestClient(application(opened, **settings), raise_server_exceptions=True)
    browser.cookies.set("posttrain_session", secret)
    return browser, {"X-CSRF-Token": session.csrf}
