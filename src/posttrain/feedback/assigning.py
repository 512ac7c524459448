"""Who gets what next: an open task again, else a gold item, a repeat, or the next item of the drawn order that still has a place.

An item never has more open and finished assignments than its overlap: places are counted on the item inside the writers' turn.
Items that others have begun come first, so that overlaps fill up; among those, and among fresh ones, the order is the drawn one.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, exists, func, insert, select, update

from posttrain.feedback import queues
from posttrain.feedback.accounts import Person
from posttrain.feedback.ids import token
from posttrain.feedback.tables import FREE, WAITING, assignment, gold, item, judgment

WINDOW = 200
"""Begun items looked at, twice, before a fresh one is taken: bounds the work for a person who has begun most of them alone."""
APART = 20
"""Other items between an item and its repeat."""
_DAY = 86_400.0
JUDGE = "judge"
"""Reason of a model's assignment: it takes no place."""
APART_FROM_PLACES = ("gold", "repeat", JUDGE)
"""Reasons of assignments that take no place of their item."""


@dataclass(frozen=True)
class Task:
    """An assignment. display: item key shown at each place."""

    id: str
    item: str
    queue: str
    display: tuple[int, ...]
    reason: str
    issued: float
    expires: float


@dataclass(frozen=True)
class Nothing:
    """Why there is no task: `done`, `daily`, or `expertise`."""

    why: str


def next_task(
    connection: Connection, who: Person, queue: queues.Queue, rng: random.Random, now: float | None = None
) -> Task | Nothing:
    """The person's open task, or a new one. Call inside `Ledger.write`."""
    now = time.time() if now is None else now
    settings = queue.settings
    if settings.expertise is not None and settings.expertise not in who.expertise:
        return Nothing("expertise")
    release(connection, now)
    mine = select(assignment).where(
        assignment.c.annotator == who.id, assignment.c.queue == queue.id, assignment.c.state == "open"
    )
    open_row = connection.execute(mine.order_by(assignment.c.issued.desc()).limit(1)).first()
    if open_row is not None:
        return as_task(open_row)
    if settings.daily is not None and _today(connection, who, queue, now) >= settings.daily:
        return Nothing("daily")
    draw = rng.random()
    found: tuple[str, str] | None = None
    if draw < settings.gold_rate:
        found = _gold(connection, who, queue, rng)
    elif draw < settings.gold_rate + settings.repeat_rate:
        found = _repeat(connection, who, queue, rng)
    chosen = found or _ordinary(connection, who, queue, rng)
    return Nothing("done") if chosen is None else _issue(connection, who, queue, chosen, rng, now)


def task_of(connection: Connection, id: str) -> Any:
    """The row of an assignment, or None."""
    return connection.execute(select(assignment).where(assignment.c.id == id)).first()


def as_task(row: Any) -> Task:
    return Task(row.id, row.item, row.queue, tuple(json.loads(row.display)), row.reason, row.issued, row.expires)


def release(connection: Connection, now: float, most: int = 100) -> int:
    """Give back the places of tasks that nobody touched in time."""
    late = select(assignment.c.id, assignment.c.item, assignment.c.reason).where(WAITING, assignment.c.expires < now)
    rows = connection.execute(late.limit(most)).all()
    for row in rows:
        connection.execute(update(assignment).where(assignment.c.id == row.id).values(state="expired", closed=now))
        if counts(row.reason):
            move(connection, row.item, active=-1)
    return len(rows)


def counts(reason: str) -> bool:
    """Does an assignment of this reason take a place of its item?"""
    return reason not in APART_FROM_PLACES


def move(connection: Connection, id: str, active: int = 0, done: int = 0, wanted: int | None = None) -> None:
    """Change an item's counters; `places` and the queue's `open_items` follow from them."""
    c = item.c
    row = connection.execute(select(c.queue, c.kind, c.wanted, c.active, c.done, c.places).where(c.id == id)).one()
    target = row.wanted if wanted is None else wanted
    values = {"wanted": target, "active": row.active + active, "done": row.done + done, "fresh": 0}
    places = target - values["active"] - values["done"]
    connection.execute(update(item).where(c.id == id).values(**values, places=places))
    if row.kind == "ordinary" and (row.places > 0) != (places > 0):
        queues.count_open(connection, row.queue, 1 if places > 0 else -1)


def _today(connection: Connection, who: Person, queue: queues.Queue, now: float) -> int:
    c = assignment.c
    today = select(func.count()).where(
        c.annotator == who.id, c.queue == queue.id, c.state == "done", c.closed > now - now % _DAY
    )
    return int(connection.execute(today).scalar_one())


def _unseen(who: Person, queue: queues.Queue, kind: str) -> Select[Any]:
    """Items of a kind that this person never had (an expired task does not count)."""
    c = assignment.c
    had = exists().where(and_(c.item == item.c.id, c.annotator == who.id, c.state != "expired"))
    return select(item.c.id, item.c.reason).where(item.c.queue == queue.id, item.c.kind == kind, FREE, ~had)


def _gold(connection: Connection, who: Person, queue: queues.Queue, rng: random.Random) -> tuple[str, str] | None:
    wanted = _unseen(who, queue, "gold").join(gold, gold.c.item == item.c.id).order_by(item.c.turn).limit(20)
    rows = connection.execute(wanted).all()
    return (rng.choice(rows).id, "gold") if rows else None


def _repeat(connection: Connection, who: Person, queue: queues.Queue, rng: random.Random) -> tuple[str, str] | None:
    """An item that this person judged at least `APART` tasks ago and has not met again."""
    c = assignment.c
    done = select(c.item, c.reason).where(c.annotator == who.id, c.queue == queue.id, c.state == "done")
    rows = connection.execute(done.order_by(c.closed.desc()).limit(APART + 200)).all()
    again = {r.item for r in rows if r.reason == "repeat"}
    old = [r.item for r in rows[APART:] if counts(r.reason) and r.item not in again]
    return (rng.choice(old), "repeat") if old else None


def _ordinary(connection: Connection, who: Person, queue: queues.Queue, rng: random.Random) -> tuple[str, str] | None:
    """An item with a place: begun ones near the front, begun ones elsewhere, a fresh one, then any.

    Each window is read first and sifted then: in one statement a planner may choose to walk over every item.
    """
    c = item.c
    begun = (
        select(c.id, c.reason)
        .where(c.queue == queue.id, c.kind == "ordinary", c.fresh == 0, FREE)
        .order_by(c.turn)
        .limit(WINDOW)
    )
    for window in (begun, begun.where(c.turn >= rng.random())):
        rows = connection.execute(window).all()
        shut = _shut(connection, who, queue, [row.id for row in rows])
        row = next((row for row in rows if row.id not in shut), None)
        if row is not None:
            return row.id, row.reason
    free = _unseen(who, queue, "ordinary")
    if queue.settings.per_team is not None:
        taken = select(func.count()).where(assignment.c.item == item.c.id, *_held(who))
        free = free.where(taken.scalar_subquery() < queue.settings.per_team)
    for rest in (free.where(c.fresh == 1), free):
        row = connection.execute(rest.order_by(c.fresh, c.turn).limit(1)).first()
        if row is not None:
            return row.id, row.reason
    return None


def _shut(connection: Connection, who: Person, queue: queues.Queue, ids: Sequence[str]) -> set[str]:
    """Which of these items this person had, or whose places for the person's group are taken."""
    c = assignment.c
    had = select(c.item).where(c.item.in_(ids), c.annotator == who.id, c.state != "expired")
    shut: set[str] = set(connection.execute(had).scalars())
    if queue.settings.per_team is not None:
        held = select(c.item).where(c.item.in_(ids), *_held(who)).group_by(c.item)
        shut |= set(connection.execute(held.having(func.count() >= queue.settings.per_team)).scalars())
    return shut


def _held(who: Person) -> list[Any]:
    """Conditions on assignments: places that the person's group has."""
    c = assignment.c
    return [c.team == who.team, c.state.in_(("open", "done")), c.reason.not_in(APART_FROM_PLACES)]


def _issue(
    connection: Connection, who: Person, queue: queues.Queue, chosen: tuple[str, str], rng: random.Random, now: float
) -> Task:
    id, reason = chosen
    row = connection.execute(select(item.c.n, item.c.propensity).where(item.c.id == id)).one()
    display = list(range(row.n))
    rng.shuffle(display)
    task = Task(token(), id, queue.id, tuple(display), reason, now, now + 60 * queue.settings.minutes)
    connection.execute(
        insert(assignment).values(
            id=task.id, item=id, annotator=who.id, queue=queue.id, display=json.dumps(display), reason=reason,
            propensity=row.propensity, team=who.team, issued=now, expires=task.expires,
        )
    )  # fmt: skip
    if counts(reason):
        move(connection, id, active=1)
    return task


def renew(connection: Connection, id: str, minutes: float, now: float) -> None:
    """A person is at work on it: the task stays theirs."""
    connection.execute(
        update(assignment).where(assignment.c.id == id, assignment.c.state == "open").values(expires=now + 60 * minutes)
    )


def progress(connection: Connection, who: Person, queue: queues.Queue) -> dict[str, Any]:
    """How far the person and the queue are. minutes_left: the person's own pace times what nobody has done, divided among nobody."""
    c, j = assignment.c, judgment.c
    mine = select(func.count()).where(c.annotator == who.id, c.queue == queue.id, c.state == "done")
    rows = select(j.seconds).where(j.annotator == who.id, j.seconds.is_not(None)).order_by(j.created.desc()).limit(20)
    seconds: list[float] = sorted(connection.execute(rows).scalars())
    left = queues.open_items(connection, queue.id)
    pace = seconds[len(seconds) // 2] if seconds else None
    return {
        "done": int(connection.execute(mine).scalar_one()),
        "items_open": left,
        "seconds_each": pace,
        "minutes_left": None if pace is None else round(left * pace / 60, 1),
    }
