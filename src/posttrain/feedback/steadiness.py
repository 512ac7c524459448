"""How a person does against known answers and against themselves. Shown to the person; never a score of worth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from posttrain.feedback.tables import CHECK, assignment, gold, judgment

Tiers = Sequence[Sequence[int]]


def places(tiers: Tiers) -> dict[int, int]:
    """Tier of each key."""
    return {k: t for t, tier in enumerate(tiers) for k in tier}


def agrees(tiers: Tiers, expected: Tiers | None, forbidden: Sequence[Sequence[int]]) -> bool:
    """No pair of the known order is turned round; calling it a tie does not fit either."""
    here = places(tiers)
    pairs = [tuple(p) for p in forbidden]
    if expected is not None:
        want = places(expected)
        pairs += [(a, b) for a in want for b in want if want[a] < want[b]]
    return all(here[a] < here[b] for a, b in pairs)


def own(connection: Connection, who: str, queue: str) -> Mapping[str, tuple[int, int]]:
    """``gold`` and ``repeat``: (as expected, of how many). Only the person's own judgments are read."""
    c = assignment.c
    rows = connection.execute(
        select(c.item, c.reason, judgment.c.ranking, judgment.c.kind, gold.c.ranking.label("known"), gold.c.forbidden)
        .join(judgment, judgment.c.id == c.judgment)
        .outerjoin(gold, gold.c.item == c.item)
        .where(c.annotator == who, c.queue == queue, c.state == "done", CHECK)
    ).all()
    known, steady = [0, 0], [0, 0]
    first = _first(connection, who, [row.item for row in rows if row.reason == "repeat"])
    for row in rows:
        if row.kind != "ranking":
            continue
        ranked = json.loads(row.ranking)
        if row.reason == "gold" and row.known is not None:
            known[1] += 1
            known[0] += agrees(ranked, json.loads(row.known), json.loads(row.forbidden))
        elif row.reason == "repeat" and first.get(row.item) is not None:
            steady[1] += 1
            steady[0] += same(ranked, first[row.item])
    return {"gold": (known[0], known[1]), "repeat": (steady[0], steady[1])}


def _first(connection: Connection, who: str, ids: Sequence[str]) -> dict[str, Any]:
    """What the person said of each item when they met it first."""
    c, found = assignment.c, dict[str, Any]()
    for at in range(0, len(ids), 500):
        rows = connection.execute(
            select(c.item, judgment.c.ranking)
            .join(judgment, judgment.c.id == c.judgment)
            .where(c.annotator == who, c.item.in_(ids[at : at + 500]), c.reason != "repeat", c.state == "done")
        )
        found.update((row.item, json.loads(row.ranking)) for row in rows)
    return found


def same(a: Tiers, b: Tiers) -> bool:
    """Equal as sets of tiers in order."""
    return [sorted(t) for t in a] == [sorted(t) for t in b]
