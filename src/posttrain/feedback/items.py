"""Items: a prompt with its answers, waiting to be judged. Added from groups, read back as groups with the answers in their stored keys."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from sqlalchemy import Connection, insert, select

from posttrain.core.chat import as_chat
from posttrain.core.group import Group, Response, Score
from posttrain.feedback import history
from posttrain.feedback.bodies import fetch_all, packed, store_all
from posttrain.feedback.ids import token
from posttrain.feedback.queues import Queue, count_open
from posttrain.feedback.tables import gold, item, response

Kind = Literal["ordinary", "gold", "held-out"]
MOST = 8
"""Answers that one person can rank; more are refused."""
CHUNK = 500


@dataclass
class Added:
    """What became of the groups. known: items that were there already. refused: by reason, with how often."""

    items: int = 0
    known: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def describe(self) -> str:
        parts = [f"{self.items:,} items added"]
        parts += [f"{self.known:,} were there already"] if self.known else []
        parts += [f"{n:,} left out: {why}" for why, n in self.refused.most_common()]
        return "; ".join(parts)


def key_of(group: Group) -> str:
    """What makes an item the same: its prompt and its answers, in this order."""
    return packed([[m.to_json() for m in group.prompt], [[m.to_json() for m in r.turns] for r in group.responses]])[0]


def refusal(group: Group, question: str) -> str | None:
    """Why a group cannot be asked about, or None."""
    if not group.prompt:
        return "it has no prompt"
    n = len(group.responses)
    least = {"ranking": 2, "write": 0}.get(question, 1)
    if n < least:
        return f"{n} answers, a {question} question needs {least}"
    if n > MOST:
        return f"{n} answers, at most {MOST} can be judged at once"
    texts = [json.dumps([m.to_json() for m in r.turns]) for r in group.responses]
    if question == "ranking" and len(set(texts)) < 2:
        return "all answers are the same"
    return None


def add(
    connection: Connection,
    queue: Queue,
    groups: Iterable[Group],
    kind: Kind = "ordinary",
    seed: int | None = None,
    front: bool = False,
) -> Added:
    """Add items, each once: the same prompt with the same answers is known by its hash. The order of work is drawn here.

    kind: `gold` items carry the right answer as their ranking or preferences. front: these come before all others.
    """
    told, rng = Added(), random.Random(seed)
    stream = iter(groups)
    while chunk := list(islice(stream, CHUNK)):
        rows: dict[str, tuple[Group, str]] = {}
        for group in chunk:
            why = refusal(group, queue.settings.question)
            if kind == "gold" and not any(p.p > 0.5 for p in group.pairs()):
                why = "a gold item needs a ranking or preferences"
            if why is not None:
                told.refused[why] += 1
                continue
            key = key_of(group)
            told.known += key in rows
            rows.setdefault(key, (group, token()))
        there = select(item.c.key).where(item.c.queue == queue.id, item.c.key.in_(list(rows)))
        for key in connection.execute(there).scalars():
            told.known += 1
            del rows[key]
        _insert(connection, queue, rows, kind, rng, front)
        told.items += len(rows)
    if told.items:
        history.note(connection, "items", None, {"queue": queue.id, "added": told.items, "kind": kind})
    return told


def unanswered(connection: Connection, queue: Queue, groups: Iterable[Group]) -> list[Group]:
    """Those of the groups whose prompt no item of the queue has yet, each once: what a live model still has to answer."""
    wanted = {packed([m.to_json() for m in g.prompt])[0]: g for g in groups}
    there: set[str] = set()
    hashes = list(wanted)
    for at in range(0, len(hashes), CHUNK):
        known = select(item.c.prompt).where(item.c.queue == queue.id, item.c.prompt.in_(hashes[at : at + CHUNK]))
        there.update(connection.execute(known).scalars())
    return [g for h, g in wanted.items() if h not in there]


def _insert(
    connection: Connection,
    queue: Queue,
    rows: dict[str, tuple[Group, str]],
    kind: Kind,
    rng: random.Random,
    front: bool,
) -> None:
    if not rows:
        return
    found = [g for g, _ in rows.values()]
    prompts = store_all(connection, [[m.to_json() for m in g.prompt] for g in found])
    turns = iter(store_all(connection, [[m.to_json() for m in r.turns] for g in found for r in g.responses]))
    now, wanted = time.time(), queue.settings.overlap
    items, responses = [], []
    for (key, (group, id)), prompt in zip(rows.items(), prompts, strict=True):
        facts = {k: v for k, v in group.facts.items() if k != "where"}
        items.append({
            "id": id, "queue": queue.id, "prompt": prompt, "key": key, "n": len(group.responses), "facts": _json(facts),
            "lang": _short(facts.get("lang"), 16), "category": _short(facts.get("category", facts.get("task")), 100),
            "kind": kind, "wanted": wanted, "places": wanted, "turn": rng.random() - front, "propensity": None, "created": now,
        })  # fmt: skip
        responses += [
            {"item": id, "key": k, "turns": next(turns), "by": _short(r.by, 300), "facts": _json(_told(r))}
            for k, r in enumerate(group.responses)
        ]
    connection.execute(insert(item), items)
    if kind == "ordinary" and wanted > 0:
        count_open(connection, queue.id, len(items))
    if responses:
        connection.execute(insert(response), responses)
    for group, id in rows.values():
        if kind == "gold":
            pairs = [(p.i, p.j) for p in group.pairs() if p.p > 0.5]
            set_gold(connection, id, group.ranking, pairs, str(group.facts.get("why", "")))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, default=str)


def _short(value: Any, most: int) -> str | None:
    """A label for columns; NUL would be refused by PostgreSQL."""
    return None if value is None else str(value).replace("\x00", "␀")[:most]


def _told(r: Response) -> dict[str, Any]:
    """What is kept of a response besides its words."""
    kept = {
        "stop": r.stop,
        "version": r.version,
        "label": r.label,
        "score": None if r.score is None else r.score.to_json(),
    }
    return {k: v for k, v in kept.items() if v is not None}


@dataclass(frozen=True)
class Item:
    """An item with its answers. group: responses in the order of their keys."""

    id: str
    queue: str
    kind: str
    n: int
    lang: str | None
    category: str | None
    wanted: int
    done: int
    propensity: float | None
    group: Group


def read(connection: Connection, ids: Sequence[str]) -> list[Item]:
    """Items by id, in that order. Unknown ids raise ValueError."""
    rows: dict[str, Any] = {}
    answers: dict[str, list[Any]] = {}
    for at in range(0, len(ids), CHUNK):
        some = list(ids[at : at + CHUNK])
        rows.update((r.id, r) for r in connection.execute(select(item).where(item.c.id.in_(some))))
        for r in connection.execute(select(response).where(response.c.item.in_(some)).order_by(response.c.key)):
            answers.setdefault(r.item, []).append(r)
    missing = next((i for i in ids if i not in rows), None)
    if missing is not None:
        raise ValueError("no such item")
    texts = fetch_all(
        connection, [*(r.prompt for r in rows.values()), *(a.turns for found in answers.values() for a in found)]
    )
    return [_item(rows[i], answers.get(i, []), texts) for i in ids]


def _item(row: Any, answers: Sequence[Any], texts: dict[str, Any]) -> Item:
    made = []
    for a in answers:
        facts = json.loads(a.facts)
        score = facts.get("score")
        made.append(
            Response(
                turns=as_chat(texts[a.turns]), by=a.by, stop=facts.get("stop"), version=facts.get("version"),
                label=facts.get("label"),
                score=None if score is None else Score(score["value"], score.get("parts", {}), score.get("why", "")),
            )
        )  # fmt: skip
    group = Group(as_chat(texts[row.prompt]), tuple(made), facts=json.loads(row.facts))
    return Item(row.id, row.queue, row.kind, row.n, row.lang, row.category, row.wanted, row.done, row.propensity, group)


def each(connection: Connection, queue: Queue) -> Iterator[Item]:
    """All items of a queue, in the order in which they were added."""
    ids: list[str] = list(
        connection.execute(
            select(item.c.id).where(item.c.queue == queue.id).order_by(item.c.created, item.c.id)
        ).scalars()
    )
    for at in range(0, len(ids), CHUNK):
        yield from read(connection, ids[at : at + CHUNK])


def set_gold(
    connection: Connection,
    id: str,
    ranking: Sequence[Sequence[int]] | None,
    forbidden: Sequence[tuple[int, int]] = (),
    why: str = "",
) -> None:
    """What is right for a gold item: a ranking whose order must be kept, or pairs (better, worse) that may not be turned round."""
    connection.execute(
        insert(gold).values(item=id, ranking=_json(ranking), forbidden=_json([list(p) for p in forbidden]), why=why)
    )
