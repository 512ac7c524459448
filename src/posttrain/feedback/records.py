"""What people said, read out of a ledger: the last word of each finished task. The input of agreement, aggregation and exports."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from posttrain.feedback.bodies import fetch_all
from posttrain.feedback.tables import adjudication, annotator, assignment, item, judgment

Tiers = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Record:
    """One person's judgment of one item, in item keys. n: answers of the item. display: key at each place as shown."""

    id: str
    item: str
    who: str
    kind: str
    n: int
    ranking: Tiers | None = None
    ratings: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    labels: Mapping[int, bool] = field(default_factory=dict)
    text: str | None = None
    edits: int | None = None
    display: tuple[int, ...] = ()
    team: str = ""
    reason: str = "random"
    propensity: float | None = None
    seconds: float | None = None
    hasty: bool = False
    confidence: int | None = None
    comment: str = ""
    flag: str = ""
    lang: str | None = None
    category: str | None = None
    guideline: int | None = None
    created: float = 0.0
    model: bool = False
    spans: Sequence[Mapping[str, Any]] = ()

    @property
    def tiers(self) -> Tiers | None:
        """The ranking; `both bad` says that all are equal."""
        return (tuple(range(self.n)),) if self.kind == "both_bad" else self.ranking


def records(
    connection: Connection, queue: str, repeats: bool = False, judges: bool = False, item_id: str | None = None
) -> list[Record]:
    """The current judgments of a queue (gold items included, repeats and models only when asked for), oldest first; skips are left out.

    item_id: of one item alone."""
    j, a = judgment.c, assignment.c
    wanted = (
        select(
            judgment,
            a.display,
            a.team,
            a.reason.label("why"),
            a.propensity,
            item.c.n,
            item.c.lang,
            item.c.category,
            annotator.c.kind.label("sort"),
        )
        .join(assignment, a.judgment == j.id)
        .join(item, item.c.id == j.item)
        .join(annotator, annotator.c.id == j.annotator)
        .where(a.queue == queue, a.state == "done")
        .order_by(j.created, j.id)
    )
    if not repeats:
        wanted = wanted.where(a.reason != "repeat")
    if not judges:
        wanted = wanted.where(annotator.c.kind != "model")
    if item_id is not None:
        wanted = wanted.where(j.item == item_id)
    rows = connection.execute(wanted).all()
    texts = fetch_all(connection, [r.text for r in rows if r.text is not None])
    return [_record(r, texts) for r in rows]


def _record(r: Any, texts: Mapping[str, str]) -> Record:
    ranking = json.loads(r.ranking)
    return Record(
        id=r.id, item=r.item, who=r.annotator, kind=r.kind, n=r.n,
        ranking=None if ranking is None else tuple(tuple(t) for t in ranking),
        ratings={int(k): v for k, v in json.loads(r.ratings).items()}, labels={int(k): v for k, v in json.loads(r.labels).items()},
        text=None if r.text is None else texts[r.text], edits=r.edits, display=tuple(json.loads(r.display)), team=r.team,
        reason=r.why, propensity=r.propensity, seconds=r.seconds, hasty=bool(r.hasty), confidence=r.confidence, comment=r.comment,
        flag=r.flag, lang=r.lang, category=r.category, guideline=r.guideline, created=r.created, model=r.sort == "model",
        spans=tuple(json.loads(r.spans)),
    )  # fmt: skip


def names(connection: Connection) -> dict[str, str]:
    """Name by id."""
    return {r.id: r.name for r in connection.execute(select(annotator.c.id, annotator.c.name))}


def adjudicated(connection: Connection, queue: str) -> dict[str, Any]:
    """The last adjudication of each item: rows with verdict, ranking, judgment. Reviews of single texts are `reviews`."""
    return {r.item: r for r in _adjudications(connection, queue) if r.judgment is None}


def reviews(connection: Connection, queue: str) -> dict[str, str]:
    """The last verdict, `accept` or `reject`, on each written text that was reviewed, by judgment."""
    return {r.judgment: r.verdict for r in _adjudications(connection, queue) if r.judgment is not None}


def _adjudications(connection: Connection, queue: str) -> list[Any]:
    wanted = select(adjudication).join(item, item.c.id == adjudication.c.item).where(item.c.queue == queue)
    return list(connection.execute(wanted.order_by(adjudication.c.created, adjudication.c.id)))


def by_item(found: Sequence[Record]) -> dict[str, list[Record]]:
    made: dict[str, list[Record]] = {}
    for r in found:
        made.setdefault(r.item, []).append(r)
    return made
