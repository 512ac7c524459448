"""The managers' part: agreement, people, review, guidelines, exports. Annotators see nothing of it, and nobody sees open items' answers."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, insert, select
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from posttrain.feedback import accounts, exchange, history, items, labels, queues
from posttrain.feedback.accounts import Refused
from posttrain.feedback.agreement.report import Agreement
from posttrain.feedback.agreement.report import agreement as measured
from posttrain.feedback.ids import ulid
from posttrain.feedback.ranking_text import RankingError, parse_ranking, render
from posttrain.feedback.records import Record, adjudicated, by_item, names, records, reviews
from posttrain.feedback.server.call import Call
from posttrain.feedback.server.difference import marked
from posttrain.feedback.server.figures import heat, intervals
from posttrain.feedback.server.render import page
from posttrain.feedback.server.safe_html import markdown, right_to_left
from posttrain.feedback.server.work import queue_of
from posttrain.feedback.tables import adjudication, assignment, event, item, judgment

_kept: dict[tuple[str, str], tuple[int, Agreement]] = {}


def report(call: Call, connection: Any, queue: queues.Queue) -> Agreement:
    """Agreement of a queue, computed once for each state of the ledger."""
    newest = int(connection.execute(select(func.coalesce(func.max(event.c.n), 0))).scalar_one())
    key = (call.ledger.url, queue.id)
    if key in _kept and _kept[key][0] == newest:
        return _kept[key][1]
    found = records(connection, queue.id)
    again = [r for r in records(connection, queue.id, repeats=True) if r.reason == "repeat"]
    lengths: dict[str, list[int]] = {}
    if queue.settings.question == "ranking":
        lengths = {i.id: [len(r.text) for r in i.group.responses] for i in items.read(connection, list(by_item(found)))}
    made = measured(found, queue.settings.question, again, lengths)
    _kept[key] = (newest, made)
    return made


def dashboard(call: Call) -> Response:
    """``GET /dashboard``."""
    with call.ledger.read() as connection:
        found = queues.queues(connection)
        queue = queue_of(call, connection)
        made = report(call, connection, queue)
        who = names(connection)
        c = item.c
        states = connection.execute(
            select(func.count(), func.coalesce(func.sum(c.done), 0), func.coalesce(func.sum(c.active), 0)).where(
                c.queue == queue.id, c.kind == "ordinary"
            )
        ).one()
        closed = connection.execute(
            select(func.count()).where(c.queue == queue.id, c.kind == "ordinary", c.places <= 0, c.active == 0)
        ).scalar_one()
        people = [{"name": who.get(w, w), **row} for w, row in made.people.items()]
        named = [i for i, _, _ in made.disputed] + [a.item for a in made.apart]
        prompts = {i.id: i.group.prompt_text[:160] for i in items.read(connection, list(dict.fromkeys(named)))}
    order, w = sorted(made.people), call.words
    return page(
        call, "dashboard.html", queue=queue, queues=found, a=made, people=people, states=states, closed=closed,
        whole=intervals(list(made.whole.items()), w.agreement, 0.0, 1.0, say=w.said),
        biases=intervals(list(made.biases.items()), w.bias, 0.0, 1.0, 0.5, say=w.said),
        teams=intervals(list(made.teams.items()), w.groups_note, 0.0, 1.0, say=w.said),
        heat=heat([who.get(p, p) for p in order], order, made.matrix, w.who_with_whom, w.pair_title),
        disputed=[(prompts[i], share, n) for i, share, n in made.disputed[:8]],
        apart=[(who.get(a.first, a.first), who.get(a.second, a.second), a, prompts[a.item]) for a in made.apart],
    )  # fmt: skip


def agreement(call: Call) -> Response:
    """``GET /agreement``: the numbers as JSON."""
    with call.ledger.read() as connection:
        made = report(call, connection, queue_of(call, connection))
    return JSONResponse(
        {
            "items": made.items,
            "raters": made.raters,
            "judgments": made.judgments,
            "whole": {k: v.to_json() for k, v in made.whole.items()},
        }
    )


def people(call: Call, link: str | None = None, error: str | None = None) -> Response:
    """``GET /people``."""
    with call.ledger.read() as connection:
        found = accounts.people(connection)
        done: dict[str, int] = dict(
            connection.execute(
                select(assignment.c.annotator, func.count())
                .where(assignment.c.state == "done")
                .group_by(assignment.c.annotator)
            ).all()
        )  # type: ignore[arg-type]
    return page(
        call,
        "people.html",
        400 if error else 200,
        people=found,
        done=done,
        link=link,
        error=error,
        roles=accounts.ROLES,
    )


def invite(call: Call) -> Response:
    """``POST /people``: a single-use link. Only an owner makes owners and managers."""
    role = call.text("role") or "annotator"
    if role in ("owner", "manager") and not call.who.may("own"):
        raise Refused("only an owner invites owners and managers", 403)
    expertise = tuple(e.strip()[:50] for e in call.text("expertise").split(",") if e.strip())
    team = call.text("team", 100).strip()
    with call.ledger.write() as connection:
        secret = accounts.invite(connection, role, call.who.id, expertise, team)
    return people(call, f"{call.request.url.scheme}://{call.request.url.netloc}/join/{secret}")


def review(call: Call, error: str | None = None) -> Response:
    """``GET /review``: finished items on which people differ, or written texts, one at a time. Names stay hidden."""
    with call.ledger.read() as connection:
        queue = queue_of(call, connection)
        texts = queue.settings.question in ("write", "edit")
        here = by_item([r for r in records(connection, queue.id) if r.reason != "gold"])
        if texts:
            known = reviews(connection, queue.id)
            waiting = [[r] for found in here.values() for r in found if r.text is not None and r.id not in known]
        else:
            waiting = [here[i] for i in _differing(call, connection, queue, here)]
        values: dict[str, Any] = {
            "queue": queue, "queues": queues.queues(connection), "left": len(waiting), "item": None, "error": error, "texts": texts,
        }  # fmt: skip
        if waiting:
            values |= _shown(call, items.read(connection, [waiting[0][0].item])[0], waiting[0])
    return page(call, "review.html", 400 if error else 200, **values)


def _differing(call: Call, connection: Any, queue: queues.Queue, here: Mapping[str, Sequence[Record]]) -> list[str]:
    """Closed items on which people differ and that nobody has settled, the most disputed first."""
    settled = adjudicated(connection, queue.id)
    c = item.c
    shut = select(c.id).where(c.queue == queue.id, c.places <= 0, c.active == 0)
    closed: set[str] = set(connection.execute(shut).scalars())
    shares = {i: share for i, share, _ in report(call, connection, queue).disputed}
    return sorted((i for i in shares if i in here and i in closed and i not in settled), key=lambda i: shares[i])


def _shown(call: Call, content: items.Item, found: Sequence[Record]) -> dict[str, Any]:
    """An item and what was said of it, as the page shows it; an edit with what it changed."""
    said = []
    for n, r in enumerate(found, 1):
        order = call.words.both_bad if r.kind == "both_bad" else render(r.ranking) if r.ranking else r.kind
        old = None if r.edits is None else content.group.responses[r.edits].text
        changes = None if old is None or r.text is None else marked(old, r.text)
        text = None if r.text is None else markdown(r.text)
        said.append({"n": n, "ranking": order, "comment": r.comment, "id": r.id, "text": text, "changes": changes})
    return {
        "item": content,
        "said": said,
        "prompt": [
            {"role": m.role, "html": markdown(m.content), "rtl": right_to_left(m.content)} for m in content.group.prompt
        ],
        "answers": [{"html": markdown(r.text), "rtl": right_to_left(r.text)} for r in content.group.responses],
    }


def adjudicate(call: Call) -> Response:
    """``POST /review``: settle an item by a ranking, or accept or reject a text. A reason is kept with it."""
    id, verdict, why = (
        call.text("item", 64),
        call.text("verdict", 16),
        call.text("why", 2000),
    )
    if verdict not in ("ranking", "accept", "reject"):
        raise Refused("a verdict is ranking, accept or reject", 400)
    with call.ledger.write() as connection:
        row = connection.execute(select(item.c.n, item.c.queue).where(item.c.id == id)).first()
        if row is None:
            raise Refused("no such item", 404)
        try:
            ranking = parse_ranking(call.text("ranking", 200), row.n) if verdict == "ranking" else None
        except RankingError as fault:
            raise Refused(str(fault), 400) from None
        said = call.text("judgment", 64) or None
        if said is None and verdict != "ranking":
            raise Refused("name the text that is accepted or rejected", 400)
        if (
            said is not None
            and not connection.execute(
                select(judgment.c.id).where(judgment.c.id == said, judgment.c.item == id)
            ).first()
        ):
            raise Refused("no such judgment", 404)
        values = {
            "id": ulid(), "item": id, "judgment": said, "verdict": verdict, "ranking": json.dumps(ranking), "by": call.who.id, "why": why,
            "created": time.time(),
        }  # fmt: skip
        connection.execute(insert(adjudication).values(**values))
        history.note(connection, "adjudication", call.who.id, {"id": values["id"], "row": history.row_digest(values)})
    return RedirectResponse(f"/review?queue={row.queue}", 303)


def guidelines(call: Call) -> Response:
    """``GET /guidelines``."""
    with call.ledger.read() as connection:
        found = queues.queues(connection)
        queue = queue_of(call, connection)
        guide = queues.guide(connection, queue.id)
    return page(call, "guidelines.html", queue=queue, queues=found, guide=guide, html=markdown(guide.text))


def write_guidelines(call: Call) -> Response:
    """``POST /guidelines``: a new version, which everybody is told of."""
    with call.ledger.write() as connection:
        queue = queue_of(call, connection, call.text("queue", 64))
        queues.write_guideline(connection, queue.id, call.text("text", 100_000).replace("\r\n", "\n"), call.who.id)
    return RedirectResponse(f"/guidelines?queue={queue.id}", 303)


def export(call: Call) -> Response:
    """``GET /export?format=``: groups (soft labels), csv, or the shapes of `exchange`. Names only for an owner who asks."""
    query = call.request.query_params
    kind = query.get("format", "groups")
    with_names = query.get("names") == "1"
    if with_names and not call.who.may("own"):
        raise Refused("only an owner exports names", 403)
    known = ("groups", "csv", *exchange.OF_JUDGMENTS, *exchange.OF_LABELS)
    if kind not in known:
        raise Refused(f"no such format; accepted: {', '.join(known)}", 400)
    with call.ledger.read() as connection:
        queue = queue_of(call, connection)
        if kind == "groups" or kind in exchange.OF_LABELS:
            made = labels.labels(connection, queue).groups
            found = [g.to_json() for g in made] if kind == "groups" else list(exchange.OF_LABELS[kind](made))
        else:
            table = list(exchange.rows(connection, queue, with_names))
            if kind == "csv":
                return PlainTextResponse(
                    exchange.as_csv(table), media_type="text/csv", headers=_attached("judgments.csv")
                )
            found = list(exchange.OF_JUDGMENTS[kind](table))
    text = "".join(json.dumps(row, ensure_ascii=True, default=str) + "\n" for row in found)
    return PlainTextResponse(text, media_type="application/x-ndjson", headers=_attached(f"{kind}.jsonl"))


def _attached(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
