"""Queues: what is asked, of whom, how often. One ledger holds as many as one likes; each keeps its settings and its guideline."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from sqlalchemy import Connection, exists, func, insert, select, update

from posttrain.core.recipe import Spec
from posttrain.feedback import history
from posttrain.feedback.bodies import fetch, store
from posttrain.feedback.ids import token
from posttrain.feedback.tables import guideline, item, queue

Question = Literal["ranking", "rating", "label", "write", "edit"]
Share = Annotated[float, Field(ge=0, le=1)]


class Settings(Spec):
    """How a queue works."""

    question: Question = "ranking"
    """Rank the answers (two make a pair), rate each, call each good or bad, write the ideal answer, or edit the first."""
    overlap: PositiveInt = 3
    """People per item."""
    most: PositiveInt | None = None
    """An item that is undecided after `overlap` people gets more, up to this many; none keeps to `overlap`."""
    decided: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """An item closes early when the leading answer is ahead of every other with this probability."""
    gold_rate: Share = 0.1
    """Chance that the next task is one with a known answer, while there are some that the person has not seen."""
    repeat_rate: Share = 0.05
    """Chance that a person meets an earlier item again, after 20 others: how steady are they?"""
    minutes: PositiveFloat = 30.0
    """A task that nobody touches this long goes to somebody else."""
    daily: PositiveInt | None = None
    """Most tasks of one person a day."""
    expertise: str | None = None
    """Only people with this expertise are asked."""
    per_team: PositiveInt | None = None
    """At most this many people of one group per item."""
    axes: tuple[str, ...] = ("helpful", "correct", "safe", "style")
    """What is rated from 1 to 5."""
    both_bad: bool = True
    """May a person say that every answer is bad?"""
    active: bool = False
    """Items are chosen by what an answer would teach, mixed with random ones."""
    uniform: Annotated[float, Field(ge=0.2, le=1)] = 0.3
    """Share of purely random items in that mixture."""
    refresh: NonNegativeInt = 50
    """With `active`, the order is drawn anew after this many judgments."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.most is not None and self.most < self.overlap:
            raise ValueError(f"most is {self.most}, below overlap {self.overlap}")
        return self


@dataclass(frozen=True)
class Queue:
    """A queue as it stands."""

    id: str
    name: str
    settings: Settings


def _queue(row: object) -> Queue:
    return Queue(row.id, row.name, Settings(**json.loads(row.settings)))  # type: ignore[attr-defined]


def queues(connection: Connection) -> list[Queue]:
    """All queues, the oldest first."""
    return [_queue(row) for row in connection.execute(select(queue).order_by(queue.c.created, queue.c.id))]


def find(connection: Connection, name: str | None = None) -> Queue:
    """The queue of that name, or the only one. Raises ValueError that lists the names."""
    found = queues(connection)
    if name is None and len(found) == 1:
        return found[0]
    hit = next((q for q in found if name in (q.name, q.id)), None)
    if hit is None:
        known = ", ".join(q.name for q in found) or "none yet; give rows with --data"
        raise ValueError(
            f"queue {name!r} is not in this ledger (queues: {known})" if name else f"name a queue: {known}"
        )
    return hit


def by_id(connection: Connection, id: str) -> Queue:
    row = connection.execute(select(queue).where(queue.c.id == id)).first()
    if row is None:
        raise ValueError("no such queue")
    return _queue(row)


def make(connection: Connection, name: str, settings: Settings, who: str | None = None) -> Queue:
    """The queue of that name with these settings: made, or changed where they differ."""
    row = connection.execute(select(queue).where(queue.c.name == name)).first()
    body = settings.model_dump_json()
    if row is None:
        made = Queue(token(), name, settings)
        connection.execute(insert(queue).values(id=made.id, name=name, settings=body, created=time.time()))
        history.note(connection, "queue", who, {"id": made.id, "name": name, "settings": body})
        return made
    if row.settings != body:
        connection.execute(update(queue).where(queue.c.id == row.id).values(settings=body))
        history.note(connection, "settings", who, {"id": row.id, "settings": body})
    return Queue(row.id, name, settings)


def open_items(connection: Connection, id: str) -> int:
    """Ordinary items of a queue that have a place."""
    return int(connection.execute(select(queue.c.open_items).where(queue.c.id == id)).scalar_one())


def count_open(connection: Connection, id: str, more: int) -> None:
    """So many more (or fewer) ordinary items of a queue have a place."""
    connection.execute(update(queue).where(queue.c.id == id).values(open_items=queue.c.open_items + more))


def finished(connection: Connection, id: str) -> bool:
    """Has every ordinary item of a queue all its judgments? An item that somebody has on the screen is not finished."""
    if open_items(connection, id):
        return False
    c = item.c
    return not connection.execute(select(exists().where(c.queue == id, c.kind == "ordinary", c.active > 0))).scalar()


@dataclass(frozen=True)
class Guideline:
    """version 0 with an empty text where none was written."""

    version: int
    text: str


def guide(connection: Connection, queue_id: str) -> Guideline:
    """The newest guideline of a queue."""
    row = connection.execute(
        select(guideline).where(guideline.c.queue == queue_id).order_by(guideline.c.version.desc()).limit(1)
    ).first()
    return Guideline(0, "") if row is None else Guideline(row.version, fetch(connection, row.body))


def write_guideline(connection: Connection, queue_id: str, text: str, who: str | None = None) -> Guideline:
    """A new version, unless the text is the same. Judgments name the version that they were made under."""
    old = guide(connection, queue_id)
    if old.version and old.text == text:
        return old
    newest = (
        connection.execute(select(func.max(guideline.c.version)).where(guideline.c.queue == queue_id)).scalar() or 0
    )
    hash = store(connection, text)
    connection.execute(
        insert(guideline).values(id=token(), queue=queue_id, version=newest + 1, body=hash, created=time.time())
    )
    history.note(connection, "guideline", who, {"queue": queue_id, "version": newest + 1, "text": hash})
    return Guideline(newest + 1, text)
