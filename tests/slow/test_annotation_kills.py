"""Many annotators at once while the server dies three times by SIGKILL: what was acknowledged is there, once, and overlaps hold."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import func, select

from posttrain.core.group import group
from posttrain.feedback import history
from posttrain.feedback.ledger import Ledger
from posttrain.feedback.tables import assignment, judgment
from tests.feedback import postgres
from tests.feedback.made import ledger
from tests.slow.annotation import Server, free_port, session

pytestmark = pytest.mark.slow
PEOPLE, OVERLAP, KILLS = 32, 3, 3
SECONDS = float(os.environ.get("POSTTRAIN_ANNOTATORS_SECONDS", "60"))
"""How long they work."""


class Annotator(threading.Thread):
    """Takes a task, answers it, and sends the same answer again until the server has said that it has it."""

    def __init__(self, name: str, address: str, cookie: str, csrf: str, stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.address, self.stop, self.acknowledged = address, stop, dict[str, str]()
        self.headers = {"Cookie": f"posttrain_session={cookie}", "X-CSRF-Token": csrf}
        self.statuses: Counter[int] = Counter()
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            with httpx2.Client(base_url=self.address, headers=self.headers, timeout=10) as client:
                turn = 0
                while not self.stop.is_set():
                    task = self._ask(client, "GET", "/next", None)
                    if not task or not task.get("task"):
                        continue
                    turn += 1
                    body = {
                        "task": task["task"],
                        "client": f"{self.name}-{turn}",
                        "kind": "ranking",
                        "ranking": "0 > 1 = 2",
                    }
                    said = self._ask(client, "POST", "/judgments", body)
                    if said and "id" in said:
                        self.acknowledged[said["id"]] = task["task"]
                        if turn % 3 == 0:  # an impatient client says it twice
                            assert (self._ask(client, "POST", "/judgments", body) or said) == said
        except BaseException as error:
            self.fault = error

    def _ask(self, client: httpx2.Client, method: str, path: str, body: dict[str, str] | None) -> dict[str, str] | None:
        while not self.stop.is_set():
            try:
                made = client.request(method, path, json=body)
            except httpx2.TransportError:
                time.sleep(0.1)
                continue
            self.statuses[made.status_code] += 1
            return json.loads(made.text)
        return None


def test_nothing_is_lost_by_kills(tmp_path: Path) -> None:
    survive(str(tmp_path / "prefs.db"), tmp_path / "server.log", PEOPLE, SECONDS)


def test_nothing_is_lost_by_kills_on_postgresql(tmp_path: Path) -> None:
    """The same promises, people and time where the ledger is a PostgreSQL database."""
    with postgres.server() as made:
        survive(made.database(), tmp_path / "server.log", PEOPLE, SECONDS)


def survive(place: str, log: Path, people: int, seconds: float) -> None:
    opened, _ = ledger(place, [group(f"q{i}", *(f"a{i} {k}" for k in range(3))) for i in range(3000)], overlap=OVERLAP)
    known = [(f"p{k}", *session(opened, f"p{k}")) for k in range(people)]
    opened.close()
    server, stop = Server(place, free_port(), log), threading.Event()
    server.start()
    crowd = [Annotator(name, server.address, cookie, csrf, stop) for name, cookie, csrf in known]
    for person in crowd:
        person.start()
    try:
        for _ in range(KILLS):
            time.sleep(seconds / (KILLS + 1))
            server.kill()
            server.start()
        time.sleep(seconds / (KILLS + 1))
    finally:
        stop.set()
        server.kill()
        for person in crowd:
            person.join(30)
    assert [p.fault for p in crowd if p.fault] == []
    statuses = sum((p.statuses for p in crowd), Counter())
    acknowledged = {id: task for p in crowd for id, task in p.acknowledged.items()}
    with Ledger(place) as again, again.read() as connection:
        rows = connection.execute(
            select(judgment.c.id, judgment.c.assignment, judgment.c.item, judgment.c.annotator)
        ).all()
        held = (assignment.c.state.in_(("open", "done")), assignment.c.item)
        most = connection.execute(
            select(func.count()).where(held[0]).group_by(held[1]).order_by(func.count().desc())
        ).scalar()
        faults = history.verify(connection).faults
    print(
        f"{len(acknowledged)} acknowledged, {len(rows)} stored, answers by status {dict(statuses)}, most per item {most}"
    )
    assert len(acknowledged) > people and not any(s >= 500 for s in statuses)
    assert acknowledged.items() <= {(r.id, r.assignment) for r in rows}
    assert len({r.assignment for r in rows}) == len(rows) == len({(r.item, r.annotator) for r in rows})
    assert most is not None and most <= OVERLAP and faults == ()
