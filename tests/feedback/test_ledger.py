"""The ledger and its queues, on SQLite and on PostgreSQL: versions, places, turns, early stop, groups, time-outs, what may not change."""

from __future__ import annotations

import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from posttrain.core.group import Group, Preference, group
from posttrain.feedback import accounts, assigning, history, items, judging, queues
from posttrain.feedback.ledger import Ledger, as_url, connecting
from posttrain.feedback.migrate import HEAD, upgrade, version
from posttrain.feedback.records import records
from posttrain.feedback.steadiness import own
from posttrain.feedback.tables import assignment, body, item, judgment
from posttrain.feedback.tables import queue as queue_table
from tests.feedback.conftest import Database
from tests.feedback.made import client, ledger, made

FIRST = judging.Answer("ranking", ((0,), (1,), (2,)), seconds=30)


def take(opened: Ledger, queue: queues.Queue, name: str, now: float | None = None, **more: Any) -> Any:
    with opened.write() as connection:
        person = accounts.named(connection, name, **more)
        return assigning.next_task(connection, person, queue, random.Random(1), now)


def say(opened: Ledger, name: str, task: Any, answer: judging.Answer = FIRST, now: float | None = None) -> str:
    with opened.write() as connection:
        return judging.submit(connection, accounts.named(connection, name), task.id, token_of(task), answer, now)


def token_of(task: Any) -> str:
    return f"client-{task.id}"


def counted(opened: Ledger, queue: queues.Queue) -> tuple[int, int]:
    """Ordinary items with a place: as the queue's counter says, and as they are."""
    with opened.read() as connection:
        really = select(func.count()).where(item.c.queue == queue.id, item.c.kind == "ordinary", item.c.places > 0)
        return queues.open_items(connection, queue.id), int(connection.execute(really).scalar_one())


def test_an_old_ledger_is_brought_up(database: Database, request: pytest.FixtureRequest) -> None:
    place = request.getfixturevalue("postgres").bare() if "postgres" in request.node.name else database()
    engine = connecting(as_url(place))
    upgrade(engine, "0001")
    assert version(engine) == "0001"
    with engine.begin() as connection:
        connection.execute(insert(queue_table).values(id="q", name="main", settings="{}", created=0.0))
        connection.execute(insert(body).values(hash="h", json="[]"))
        for n, places in enumerate((3, 0, 1, -1)):
            row = {"id": f"i{n}", "queue": "q", "prompt": "h", "key": f"k{n}", "places": places, "created": 0.0}
            connection.execute(insert(item).values(**row))
    engine.dispose()
    with Ledger(place) as again:
        assert version(again.engine) == HEAD
        with again.read() as connection:
            assert queues.open_items(connection, "q") == 2


def test_a_foreign_or_newer_database_is_refused(database: Database, request: pytest.FixtureRequest) -> None:
    place = request.getfixturevalue("postgres").bare() if "postgres" in request.node.name else database()
    engine = connecting(as_url(place))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE invoices (n INTEGER)"))
    with pytest.raises(ValueError, match="other tables \\(invoices\\)"):
        Ledger(place)
    engine.dispose()
    newer = database()
    with Ledger(newer) as opened, opened.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ValueError, match="newer version"):
        Ledger(newer)


@pytest.mark.parametrize("table", ["judgment", "event", "body"])
def test_history_cannot_be_changed(database: Database, table: str) -> None:
    opened, queue = ledger(database())
    say(opened, "ann", take(opened, queue, "ann"))
    for statement in (
        f"DELETE FROM {table}",
        f"UPDATE {table} SET {'json' if table == 'body' else 'created' if table == 'judgment' else 'at'} = NULL",
    ):
        with pytest.raises(DBAPIError, match="append-only"), opened.write() as connection:
            connection.execute(text(statement))
    with opened.read() as connection:
        assert history.verify(connection).faults == ()


def test_people_at_once_never_overfill_an_item(database: Database) -> None:
    """Eight threads, each with a ledger of its own as if it were another process."""
    place = database()
    opened, queue = ledger(place, made(12), overlap=2)
    faults: list[BaseException] = []

    def work(name: str) -> None:
        try:
            with Ledger(place) as mine:
                while isinstance(task := take(mine, queue, name), assigning.Task):
                    say(mine, name, task)
        except BaseException as error:
            faults.append(error)

    crowd = [threading.Thread(target=work, args=(f"p{k}",)) for k in range(8)]
    for person in crowd:
        person.start()
    for person in crowd:
        person.join()
    assert faults == []
    with opened.read() as connection:
        found = records(connection, queue.id)
        assert history.verify(connection).faults == ()
    assert (
        Counter(r.item for r in found).most_common()[-1][1] == 2 == Counter(r.item for r in found).most_common(1)[0][1]
    )
    assert len({(r.item, r.who) for r in found}) == len(found) == 24
    assert counted(opened, queue) == (0, 0)


def test_the_counter_of_open_items_follows_every_turn(database: Database) -> None:
    opened, queue = ledger(database(), made(6), overlap=1)
    assert counted(opened, queue) == (6, 6)
    task = take(opened, queue, "ann", now=1000.0)
    assert counted(opened, queue) == (5, 5)
    late = take(opened, queue, "bob", now=1000.0 + 31 * 60)  # ann's place came back, and bob may get it
    assert counted(opened, queue) == (5, 5) and isinstance(late, assigning.Task)
    say(opened, "bob", late)
    with opened.write() as connection:
        bob = accounts.named(connection, "bob")
        assert judging.undo(connection, bob, queue.id, "u1") == late.id == judging.undo(connection, bob, queue.id, "u1")
    assert counted(opened, queue) == (5, 5)
    if late.item != task.item:
        say(opened, "ann", task)  # late, but nobody took it: welcome
        assert counted(opened, queue)[0] == counted(opened, queue)[1] == 4


def test_a_decided_item_closes_early_and_a_divided_one_asks_more(database: Database) -> None:
    opened, queue = ledger(database(), [group("q", "a", "b", "c")], overlap=4, most=5, decided=0.9)
    for name in ("ann", "bob"):
        say(opened, name, take(opened, queue, name))
    assert take(opened, queue, "cy") == assigning.Nothing("done"), "two of one mind decide at 0.9"
    other, place = ledger(database(), [group("q", "a", "b", "c")], overlap=2, most=3, decided=0.9)
    say(other, "ann", take(other, place, "ann"))
    say(other, "bob", take(other, place, "bob"), judging.Answer("ranking", ((2,), (1,), (0,))))
    say(other, "cy", take(other, place, "cy"))
    assert take(other, place, "dan") == assigning.Nothing("done")


def test_groups_have_quotas_and_queues_need_expertise(database: Database) -> None:
    opened, queue = ledger(database(), made(1), overlap=3, per_team=1)
    assert isinstance(take(opened, queue, "ann", team="north"), assigning.Task)
    assert take(opened, queue, "bob", team="north") == assigning.Nothing("done")
    assert isinstance(take(opened, queue, "cy", team="south"), assigning.Task)
    other, law = ledger(database(), made(1), expertise="law")
    assert take(other, law, "ann") == assigning.Nothing("expertise")
    with other.write() as connection:
        judge = accounts.enrol(connection, "judith", "annotator", expertise=("law",))
        assert isinstance(assigning.next_task(connection, judge, law, random.Random(0)), assigning.Task)


def test_gold_repeats_and_the_daily_limit(database: Database) -> None:
    opened, queue = ledger(database(), made(30), overlap=1, gold_rate=0.4, repeat_rate=0.3, daily=60)
    known = [
        Group(g.prompt, g.responses, preferences=(Preference(0, 1),)) for g in (group("gold", "yes", "no", "maybe"),)
    ]
    with opened.write() as connection:
        assert items.add(connection, queue, known, "gold").items == 1
        assert items.add(connection, queue, made(1), "gold").refused.total() == 1
    rng, seen = random.Random(5), Counter[str]()
    for _ in range(60):
        with opened.write() as connection:
            person = accounts.named(connection, "ann")
            task = assigning.next_task(connection, person, queue, rng)
        if isinstance(task, assigning.Nothing):
            assert task.why in ("done", "daily")
            break
        seen[task.reason] += 1
        say(opened, "ann", task)
    assert seen["gold"] == 1 and seen["repeat"] > 0 and seen["random"] == 30
    with opened.read() as connection:
        told = own(connection, person.id, queue.id)
    assert told == {"gold": (1, 1), "repeat": (seen["repeat"], seen["repeat"])}


def test_an_action_costs_the_same_among_many_items(tmp_path: Path) -> None:
    """Steps of SQLite's machine for each kind of action, among twenty items and among two thousand, by somebody who began fifteen."""

    def steps(n: int) -> dict[str, int]:
        (tmp_path / str(n)).mkdir()
        opened, _ = ledger(tmp_path / str(n), made(n), gold_rate=0.1, repeat_rate=0.1)
        browser, key = client(opened)
        counted, cost = [0], dict[str, int]()

        def tick() -> None:
            counted[0] += 1

        def watch(connection: Any, *_: Any) -> None:
            connection.set_progress_handler(tick, 10)

        event.listen(opened.engine, "checkout", watch)

        def act(name: str, method: str, path: str, **given: Any) -> Any:
            counted[0] = 0
            made = browser.request(method, path, headers=key, **given)
            assert made.status_code in (200, 201), made.text
            cost[name] = max(cost.get(name, 0), counted[0])
            return made

        for turn in range(15):
            task = act("next", "GET", "/next").json()["task"]
            act("page", "GET", "/")
            act("draft", "POST", "/drafts", json={"task": task, "body": {}})
            said = {"task": task, "client": f"c{turn}", "kind": "ranking", "ranking": "0 > 1 = 2", "seconds": 2}
            act("judgment", "POST", "/judgments", json=said)
        act("undo", "POST", "/undo", json={"client": "u"})
        return cost

    few, many = steps(20), steps(2000)
    assert min(few.values()) > 0
    assert {name: many[name] / few[name] for name in few if many[name] > 1.5 * few[name] + 20} == {}


def test_the_same_answer_again_and_a_task_that_is_not_mine(database: Database) -> None:
    opened, queue = ledger(database())
    task = take(opened, queue, "ann")
    id = say(opened, "ann", task)
    assert say(opened, "ann", task) == id
    with pytest.raises(accounts.Refused, match="not yours"):
        say(opened, "bob", task)
    with opened.write() as connection:
        fix = judging.Answer("ranking", ((2,), (1,), (0,)), replaces=id)
        judging.submit(connection, accounts.named(connection, "ann"), task.id, "fix", fix)
        assert connection.execute(select(func.count()).select_from(judgment)).scalar_one() == 2
    with opened.read() as connection:
        assert [r.ranking for r in records(connection, queue.id)] == [((2,), (1,), (0,))]
        assert connection.execute(select(assignment.c.state)).scalars().all() == ["done"]


def test_texts_that_databases_dislike_come_back(database: Database) -> None:
    odd = "nul \x00, lone \ud800, override \u202e, " + "x" * 1_000_000
    opened, queue = ledger(database(), [group(odd, odd, "b")])
    with opened.read() as connection:
        found = next(items.each(connection, queue))
    assert found.group.prompt_text == odd and found.group.responses[0].text == odd
    task = take(opened, queue, "ann")
    say(opened, "ann", task, judging.Answer("ranking", ((0,), (1,)), comment=odd))
    with opened.write() as connection:
        assert "nul ␀" in records(connection, queue.id)[0].comment
        connection.execute(update(queue_table).values(open_items=0))
