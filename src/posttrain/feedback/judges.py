"""Verdicts of models in the ledger, beside those of people and never counted as theirs.

A judge is an annotator of kind `model`; its verdict hangs on an assignment with the reason `judge`, which takes no place of an item and
closes none. The same verdict again is known; another one of the same judge is a correction, a new row that names the one it replaces.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, insert, select

from posttrain.core.group import Group
from posttrain.feedback import accounts, items, judging
from posttrain.feedback.assigning import JUDGE
from posttrain.feedback.ids import token
from posttrain.feedback.queues import Queue
from posttrain.feedback.records import Record, Tiers, by_item, records
from posttrain.feedback.tables import assignment, item


@dataclass
class Kept:
    """What became of verdicts. refused: by reason, with how often."""

    added: int = 0
    known: int = 0
    corrected: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        left = "; ".join(f"{n} times {why}" for why, n in self.refused.items())
        return f"{self.added} verdicts added, {self.known} known, {self.corrected} corrected" + (
            f"; left out {left}" if left else ""
        )


def keep(
    connection: Connection, queue: Queue, judge: str, groups: Sequence[Group], verdicts: Sequence[Tiers | str | None],
    comments: Sequence[str] = (), now: float | None = None,
) -> Kept:  # fmt: skip
    """Write one verdict per group: tiers of response places, best first, the word ``both_bad``, or None where it could not be read.

    Groups that are no items of the queue yet are added. Raises ValueError where the judge has a person's name, or the queue asks for
    something else than rankings.
    """
    if queue.settings.question != "ranking":
        raise ValueError(f"queue {queue.name} asks for {queue.settings.question}; verdicts of judges are rankings")
    who = accounts.named(connection, judge[:100], kind="model")
    if who.kind != "model":
        raise ValueError(f"{judge}: a person of this ledger has that name; verdicts of a judge are kept under its own")
    made, now = Kept(), time.time() if now is None else now
    told = items.add(connection, queue, groups)
    made.refused.update(told.refused)
    for place, (group, verdict) in enumerate(zip(groups, verdicts, strict=True)):
        if verdict is None:
            made.refused["unparsed"] += 1
            continue
        id = connection.execute(
            select(item.c.id).where(item.c.queue == queue.id, item.c.key == items.key_of(group))
        ).scalar()
        if id is not None:
            answer = _answer(verdict, comments[place] if comments else "")
            setattr(
                made,
                what := _write(connection, queue, who, str(id), len(group.responses), answer, now),
                getattr(made, what) + 1,
            )
    return made


def _answer(verdict: Tiers | str, comment: str) -> judging.Answer:
    if isinstance(verdict, str):
        return judging.Answer("both_bad", comment=comment)
    return judging.Answer("ranking", verdict, comment=comment)


def _write(
    connection: Connection, queue: Queue, who: accounts.Person, id: str, n: int, answer: judging.Answer, now: float
) -> str:
    """Store a verdict; what it was: added, known or corrected."""
    c = assignment.c
    old = connection.execute(
        select(c.id, c.judgment).where(c.item == id, c.annotator == who.id, c.reason == JUDGE)
    ).first()
    body = json.dumps([who.id, id, answer.kind, answer.ranking])
    client = "judge-" + hashlib.sha256(body.encode()).hexdigest()[:40]
    if old is None:
        task = token()
        connection.execute(
            insert(assignment).values(
                id=task, item=id, annotator=who.id, queue=queue.id, display=json.dumps(list(range(n))), reason=JUDGE,
                team=who.team, issued=now, expires=now,
            )
        )  # fmt: skip
        judging.submit(connection, who, task, client, answer, now)
        return "added"
    last = next((r for r in _of(connection, queue, id) if r.who == who.id), None)
    if last is not None and (last.kind, last.ranking) == (answer.kind, answer.ranking):
        return "known"
    corrected = judging.Answer(answer.kind, answer.ranking, comment=answer.comment, replaces=old.judgment)
    judging.submit(connection, who, old.id, f"{client}-{old.judgment[-12:]}", corrected, now)
    return "corrected"


def _of(connection: Connection, queue: Queue, id: str) -> list[Record]:
    return [r for r in records(connection, queue.id, judges=True, item_id=id) if r.model]


@dataclass(frozen=True)
class Joined:
    """Values of one question about items that a judge has seen: does answer a beat answer b (1, .5, 0)?

    human, judged, prompt: of the items that people saw as well (human: their mean); judged_only: of the others. left: why items went.
    """

    human: list[float]
    judged: list[float]
    prompt: list[str]
    judged_only: list[float]
    left: Mapping[str, int]


def joined(
    connection: Connection, queue: Queue, judge: str, better: str | None = None, against: str | None = None
) -> Joined:
    """People's and a judge's verdicts on the same pairs of answers. better, against: who wrote the answers (`by`); None: first, second.

    Only people's verdicts on items drawn at random count: the estimate of `stats.ppi` needs a random part. Raises ValueError where the
    judge is unknown.
    """
    who = next((p for p in accounts.people(connection) if p.name == judge and p.kind == "model"), None)
    if who is None:
        known = [p.name for p in accounts.people(connection) if p.kind == "model"]
        raise ValueError(f"judge {judge!r} has no verdicts in this ledger; there are: {', '.join(known) or 'none'}")
    found = by_item(records(connection, queue.id, judges=True))
    content = {i.id: i.group for i in items.read(connection, list(found))}
    made, left = Joined([], [], [], [], Counter()), Counter[str]()
    for id, said in found.items():
        a, b = _places(content[id], better, against)
        verdict = (
            next((_beats(r.tiers, a, b) for r in said if r.who == who.id), None)
            if a is not None and b is not None
            else None
        )
        if verdict is None:
            left["without both answers" if a is None or b is None else "without a verdict of the judge"] += 1
            continue
        people = [v for r in said if not r.model and r.reason == "random" and (v := _beats(r.tiers, a, b)) is not None]
        if people:
            made.human.append(sum(people) / len(people))
            made.judged.append(verdict)
            made.prompt.append(content[id].prompt_hash)
        else:
            made.judged_only.append(verdict)
    return Joined(made.human, made.judged, made.prompt, made.judged_only, dict(left))


def _places(group: Group, better: str | None, against: str | None) -> tuple[int | None, int | None]:
    def at(name: str | None, usual: int) -> int | None:
        return usual if name is None else next((i for i, r in enumerate(group.responses) if r.by == name), None)

    return at(better, 0), at(against, 1)


def _beats(tiers: Tiers | None, a: int | None, b: int | None) -> float | None:
    place = {key: t for t, tier in enumerate(tiers or ()) for key in tier}
    if a not in place or b not in place:
        return None
    return 1.0 if place[a] < place[b] else 0.0 if place[a] > place[b] else 0.5
