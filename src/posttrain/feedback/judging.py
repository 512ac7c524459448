"""Judgments: checked, stored once under the client's own id, corrected by new rows only.

A client sends the same submission as often as it likes: the first one counts and every answer is the same. Undo adds a row of kind
`withdrawn` that names what it takes back, and reopens the task.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scipy.special import betainc
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from posttrain.feedback import history, items, queues
from posttrain.feedback.accounts import Person, Refused
from posttrain.feedback.assigning import JUDGE, counts, move, renew, task_of
from posttrain.feedback.bodies import store
from posttrain.feedback.ids import ulid
from posttrain.feedback.tables import assignment, draft, item, judgment

KINDS = ("ranking", "both_bad", "rating", "label", "write", "edit", "skip")
READING = 0.15
"""Seconds per word below which a submission is marked hasty."""
TEXT_MOST = 100_000


@dataclass(frozen=True)
class Answer:
    """What a person says of an item, in item keys.

    ranking: tiers, best first. ratings: key -> axis -> 1..5. labels: key -> good? spans: ``{response, start, end, label, comment}``,
    characters of the raw text. text: what was written; edits: the key of the answer it edits. reason: of a skip. flag: what is wrong
    with the item. seconds: active ones. replaces: the judgment that this one corrects.
    """

    kind: str
    ranking: tuple[tuple[int, ...], ...] | None = None
    ratings: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    labels: Mapping[int, bool] = field(default_factory=dict)
    spans: Sequence[Mapping[str, Any]] = ()
    text: str | None = None
    edits: int | None = None
    comment: str = ""
    reason: str = ""
    flag: str = ""
    confidence: int | None = None
    seconds: float | None = None
    focus_losses: int = 0
    replaces: str | None = None
    version: str = ""


def submit(
    connection: Connection, who: Person, task: str, client: str, answer: Answer, now: float | None = None
) -> str:
    """Store an answer and return its id; the same `client` id again returns the first one's.

    Raises Refused for a task of somebody else (403), one already answered or passed on (409), or a wrong answer (400).
    """
    now = time.time() if now is None else now
    known = select(judgment.c.id).where(judgment.c.annotator == who.id, judgment.c.client == client)
    found = connection.execute(known).scalar()
    if found is not None:
        return str(found)
    row = task_of(connection, task)
    if row is None or row.annotator != who.id:
        raise Refused("this task is not yours")
    _check_state(connection, row, answer)
    queue = queues.by_id(connection, row.queue)
    content = items.read(connection, [row.item])[0]
    check(answer, content.n, queue.settings)
    id = _insert(connection, who, row, client, answer, content, queue, now)
    _close(connection, row, answer, id, now)
    if answer.kind != "skip" and answer.replaces is None and counts(row.reason):
        _settle(connection, row.item, queue.settings)
    connection.execute(delete(draft).where(draft.c.assignment == task))
    return id


def _check_state(connection: Connection, row: Any, answer: Answer) -> None:
    if answer.replaces is not None:
        if row.state not in ("done", "skipped") or row.judgment != answer.replaces:
            raise Refused("what this corrects is not the last word on that task", 409)
        return
    if row.state in ("done", "skipped"):
        raise Refused("this task is answered; undo it first", 409)
    if row.state == "expired":
        places: int = connection.execute(select(item.c.places).where(item.c.id == row.item)).scalar_one()
        taken = select(assignment.c.id).where(
            assignment.c.item == row.item, assignment.c.annotator == row.annotator, assignment.c.state != "expired"
        )
        if (counts(row.reason) and places < 1) or connection.execute(taken).first():
            raise Refused("this task ran out of time and went to somebody else", 409)
        if counts(row.reason):
            move(connection, row.item, active=1)


def check(answer: Answer, n: int, settings: queues.Settings) -> None:
    """Is it an answer to this question? Raises Refused (400) with what is missing."""
    wanted = settings.question
    fits = answer.kind == wanted or answer.kind == "skip" or (answer.kind == "both_bad" and wanted == "ranking")
    if not fits:
        raise Refused(f"this queue asks for {wanted}, not {answer.kind}", 400)
    if answer.kind == "both_bad" and not settings.both_bad:
        raise Refused("this queue wants a ranking even where every answer is bad", 400)
    named = sorted(k for tier in answer.ranking or () for k in tier)
    if answer.kind == "ranking" and (named != list(range(n)) or not all(answer.ranking or ())):
        raise Refused(f"a ranking must name each of the {n} answers once", 400)
    if answer.kind == "rating" and (
        set(answer.ratings) != set(range(n)) or any(set(r) != set(settings.axes) for r in answer.ratings.values())
    ):
        raise Refused(f"every answer needs a rating of {', '.join(settings.axes)}", 400)
    if any(
        k not in range(n) or v not in range(1, 6) or a not in settings.axes
        for k, r in answer.ratings.items()
        for a, v in r.items()
    ):
        raise Refused("ratings are whole numbers from 1 to 5 of the queue's axes", 400)
    if answer.kind == "label" and set(answer.labels) != set(range(n)):
        raise Refused("every answer needs a verdict, good or bad", 400)
    if answer.kind in ("write", "edit"):
        if not (answer.text or "").strip():
            raise Refused("the text is empty", 400)
        if len(answer.text or "") > TEXT_MOST:
            raise Refused(f"the text is longer than {TEXT_MOST:,} characters", 400)
        if answer.kind == "edit" and answer.edits not in range(n):
            raise Refused("an edit names the answer that it edits", 400)
    if answer.confidence not in (None, 1, 2, 3):
        raise Refused("confidence is 1, 2 or 3", 400)
    for span in answer.spans:
        if span.get("response") not in range(n) or not 0 <= int(span.get("start", -1)) < int(span.get("end", -1)):
            raise Refused("a span names an answer and its first and last character", 400)


def _insert(
    connection: Connection,
    who: Person,
    row: Any,
    client: str,
    answer: Answer,
    content: items.Item,
    queue: queues.Queue,
    now: float,
) -> str:
    words = sum(len(r.text.split()) for r in content.group.responses) + len(content.group.prompt_text.split())
    # As the column gives it back: the digest of the row is taken before it is stored.
    seconds = None if answer.seconds is None else float(answer.seconds)
    hasty = seconds is not None and answer.kind != "skip" and seconds < READING * words
    values = {
        "id": ulid(now), "assignment": row.id, "item": row.item, "annotator": who.id, "client": client, "replaces": answer.replaces,
        "kind": answer.kind, "ranking": json.dumps(answer.ranking), "ratings": json.dumps(answer.ratings, sort_keys=True),
        "labels": json.dumps(answer.labels, sort_keys=True), "spans": json.dumps(list(answer.spans), sort_keys=True),
        "text": None if answer.text is None else store(connection, answer.text), "edits": answer.edits,
        "comment": _plain(answer.comment), "reason": _plain(answer.reason), "flag": _plain(answer.flag),
        "confidence": answer.confidence, "seconds": seconds, "focus_losses": answer.focus_losses, "hasty": int(hasty),
        "guideline": queues.guide(connection, queue.id).version, "version": answer.version[:32], "schema": 1, "created": float(now),
    }  # fmt: skip
    connection.execute(insert(judgment).values(**values))
    history.note(connection, "judgment", who.id, {"id": values["id"], "row": history.row_digest(values)}, now)
    return str(values["id"])


def _plain(text: str) -> str:
    """What PostgreSQL can hold: no NUL, no lone surrogates."""
    return text[:10_000].replace("\x00", "␀").encode("utf-8", "replace").decode()


def _close(connection: Connection, row: Any, answer: Answer, id: str, now: float) -> None:
    state = "skipped" if answer.kind == "skip" else "done"
    connection.execute(update(assignment).where(assignment.c.id == row.id).values(state=state, judgment=id, closed=now))
    if not counts(row.reason):
        return
    was = "open" if row.state == "expired" else row.state
    move(connection, row.item, active=-(was == "open"), done=(state == "done") - (was == "done"))


def _settle(connection: Connection, id: str, settings: queues.Settings) -> None:
    """Close an item early when it is decided, ask one more person when it is not and more are allowed."""
    row = connection.execute(select(item.c.wanted, item.c.done, item.c.active, item.c.n).where(item.c.id == id)).one()
    if settings.question != "ranking" or row.done < 2:
        return
    sure = leading(rankings(connection, id), row.n) > settings.decided
    if sure:
        move(connection, id, wanted=row.done + row.active)
    elif row.done >= row.wanted and row.wanted < (settings.most or settings.overlap):
        move(connection, id, wanted=row.wanted + 1)


def rankings(connection: Connection, id: str) -> list[list[list[int]]]:
    """Current rankings of an item; both-bad counts as all equal."""
    last = select(judgment.c.kind, judgment.c.ranking, item.c.n).join(
        assignment, assignment.c.judgment == judgment.c.id
    )
    rows = connection.execute(
        last.join(item, item.c.id == judgment.c.item).where(
            judgment.c.item == id, assignment.c.state == "done", assignment.c.reason.not_in(("repeat", JUDGE))
        )
    )
    return [json.loads(r.ranking) or [list(range(r.n))] for r in rows if r.kind in ("ranking", "both_bad")]


def leading(ranked: Sequence[Sequence[Sequence[int]]], n: int) -> float:
    """Probability that the leading answer is really ahead of each other one (the least of them), by Beta(1/2, 1/2) on each pair.

    A tie counts half for each side.
    """
    ahead = [[0.0] * n for _ in range(n)]
    for tiers in ranked:
        place = {k: t for t, tier in enumerate(tiers) for k in tier}
        for a in range(n):
            for b in range(n):
                ahead[a][b] += 1.0 if place[a] < place[b] else 0.5 if place[a] == place[b] else 0.0
    sure = [
        min(1 - float(betainc(ahead[a][b] + 0.5, ahead[b][a] + 0.5, 0.5)) for b in range(n) if b != a) if n > 1 else 0.0
        for a in range(n)
    ]
    return max(sure, default=0.0)


def undo(connection: Connection, who: Person, queue_id: str, client: str, now: float | None = None) -> str | None:
    """Take back the person's last answer and reopen its task. Returns the task's id; None where there is nothing to undo.

    The same `client` id twice is one undo. A task that is open meanwhile goes back unharmed: it was shown, not answered.
    """
    now = time.time() if now is None else now
    again = select(judgment.c.assignment).where(judgment.c.annotator == who.id, judgment.c.client == client)
    found = connection.execute(again).scalar()
    if found is not None:
        return str(found)
    c = assignment.c
    mine = select(assignment).where(c.annotator == who.id, c.queue == queue_id, c.judgment.is_not(None))
    ends = [mine.where(c.state == s).order_by(c.closed.desc()).limit(1) for s in ("done", "skipped")]
    last = [found for end in ends if (found := connection.execute(end).first()) is not None]
    if not last:
        return None
    row = max(last, key=lambda found: found.closed)
    _put_back(connection, who, queue_id, now)
    queue = queues.by_id(connection, queue_id)
    content = items.read(connection, [row.item])[0]
    taken = Answer("withdrawn", replaces=row.judgment)
    _insert(connection, who, row, client, taken, content, queue, now)
    connection.execute(update(assignment).where(c.id == row.id).values(state="open", judgment=None, closed=None))
    renew(connection, row.id, queue.settings.minutes, now)
    if counts(row.reason):
        move(connection, row.item, active=1, done=-(row.state == "done"))
    return str(row.id)


def _put_back(connection: Connection, who: Person, queue_id: str, now: float) -> None:
    """Release the person's open tasks."""
    c = assignment.c
    rows = connection.execute(
        select(assignment).where(c.annotator == who.id, c.queue == queue_id, c.state == "open")
    ).all()
    for row in rows:
        connection.execute(update(assignment).where(c.id == row.id).values(state="expired", closed=now))
        if counts(row.reason):
            move(connection, row.item, active=-1)


def save_draft(
    connection: Connection, who: Person, task: str, body: Mapping[str, Any], now: float | None = None
) -> None:
    """Keep unfinished work; the task stays the person's. Raises Refused where it is not theirs or is closed."""
    now = time.time() if now is None else now
    row = task_of(connection, task)
    if row is None or row.annotator != who.id:
        raise Refused("this task is not yours")
    if row.state != "open":
        raise Refused("this task is closed", 409)
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    text = json.dumps(dict(body), ensure_ascii=True)
    made = dialect.insert(draft).values(assignment=task, body=text, saved=now)
    connection.execute(made.on_conflict_do_update(index_elements=["assignment"], set_={"body": text, "saved": now}))
    renew(connection, task, queues.by_id(connection, row.queue).settings.minutes, now)


def draft_of(connection: Connection, task: str) -> dict[str, Any] | None:
    text = connection.execute(select(draft.c.body).where(draft.c.assignment == task)).scalar()
    return None if text is None else dict(json.loads(text))
