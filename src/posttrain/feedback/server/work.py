"""The annotator's part: the next task, judgments, drafts, undo, differences, progress. Blind: nothing here knows who wrote an answer."""

from __future__ import annotations

import json
import random
import time
from typing import Any

from starlette.responses import JSONResponse, RedirectResponse, Response

from posttrain.feedback import assigning, items, judging, queues
from posttrain.feedback.accounts import Refused
from posttrain.feedback.ids import token
from posttrain.feedback.ranking_text import RankingError, parse_ranking
from posttrain.feedback.server.call import Call
from posttrain.feedback.server.difference import marked
from posttrain.feedback.server.render import fragment, page
from posttrain.feedback.server.safe_html import FOLD, markdown, plain, right_to_left
from posttrain.feedback.server.shapes import Draft, Span, Submission, Undo, parsed
from posttrain.feedback.steadiness import own

_random = random.SystemRandom()


def queue_of(call: Call, connection: Any, id: str | None = None) -> queues.Queue:
    """The queue asked for, else the first that the person may work on."""
    found = queues.queues(connection)
    wanted = id or call.request.query_params.get("queue")
    if wanted is not None:
        hit = next((q for q in found if q.id == wanted), None)
        if hit is None:
            raise Refused("no such queue", 404)
        return hit
    able = [q for q in found if q.settings.expertise is None or q.settings.expertise in call.who.expertise]
    if not found:
        raise Refused("there is no queue yet", 404)
    return (able or found)[0]


def shown(connection: Any, task: assigning.Task) -> list[dict[str, Any]]:
    """The answers of a task in the order of the screen, as text only."""
    item = items.read(connection, [task.item])[0]
    return [{"place": p, "text": item.group.responses[k].text} for p, k in enumerate(task.display)]


def view(call: Call, connection: Any, queue: queues.Queue, task: assigning.Task | assigning.Nothing) -> dict[str, Any]:
    """What the page shows, for the template."""
    guide = queues.guide(connection, queue.id)
    values: dict[str, Any] = {
        "queue": queue, "queues": queues.queues(connection), "guide": guide, "guide_html": markdown(guide.text),
        "progress": assigning.progress(connection, call.who, queue), "task": None, "why": None, "error": None, "typed": "",
        "own": own(connection, call.who.id, queue.id), "live": call.request.app.state.live is not None,
        "live_n": call.request.app.state.live_n, "feeding": call.request.app.state.feeding,
    }  # fmt: skip
    if isinstance(task, assigning.Nothing):
        return values | {"why": task.why}
    item = items.read(connection, [task.item])[0]
    prompt = [{"role": m.role, "html": markdown(m.content), "rtl": right_to_left(m.content)} for m in item.group.prompt]
    answers = []
    for place, key in enumerate(task.display):
        text = item.group.responses[key].text
        answers.append(
            {
                "place": place,
                "html": markdown(text),
                "raw": plain(text),
                "text": text,
                "long": len(text) > FOLD,
                "rtl": right_to_left(text),
            }
        )
    draft = judging.draft_of(connection, task.id)
    return values | {
        "task": task,
        "prompt": prompt,
        "answers": answers,
        "draft": json.dumps(draft),
        "edit": answers[0]["text"] if answers else "",
    }


def _open(call: Call, queue_id: str | None = None) -> tuple[queues.Queue, assigning.Task | assigning.Nothing]:
    with call.ledger.write() as connection:
        queue = queue_of(call, connection, queue_id)
        return queue, assigning.next_task(connection, call.who, queue, _random)


def work_page(call: Call) -> Response:
    """``GET /``: the page with the next task, whole without JavaScript."""
    if not call.who.may("judge"):
        return RedirectResponse("/dashboard", 303)
    queue, task = _open(call)
    with call.ledger.read() as connection:
        return page(call, "work.html", **view(call, connection, queue, task))


def next_task(call: Call) -> Response:
    """``GET /next``: the next task as JSON, or as a piece of the page with ``?as=html``."""
    queue, task = _open(call)
    with call.ledger.read() as connection:
        if call.request.query_params.get("as") == "html":
            html = fragment(call, "task.html", **view(call, connection, queue, task))
            return Response(html, media_type="text/html", headers={"Cache-Control": "no-store"})
        if isinstance(task, assigning.Nothing):
            return JSONResponse({"task": None, "why": task.why})
        item = items.read(connection, [task.item])[0]
        body = {
            "task": task.id, "queue": queue.id, "question": queue.settings.question, "expires": task.expires,
            "prompt": [{"role": m.role, "content": m.content} for m in item.group.prompt], "answers": shown(connection, task),
            "guideline": queues.guide(connection, queue.id).version, "draft": judging.draft_of(connection, task.id),
        }  # fmt: skip
        return Response(
            json.dumps(body, ensure_ascii=True), media_type="application/json", headers={"Cache-Control": "no-store"}
        )


def answer_of(given: Submission, display: list[int], axes: tuple[str, ...]) -> judging.Answer:
    """The submission in item keys. Raises Refused where the ranking cannot be read or a place is not there."""
    n = len(display)
    ranking = None
    if given.kind == "ranking":
        try:
            tiers = parse_ranking(given.ranking or "", n)
        except RankingError as error:
            raise Refused(str(error), 400) from None
        ranking = tuple(tuple(display[p] for p in tier) for tier in tiers)
    places = [
        *given.ratings,
        *given.labels,
        *(s.response for s in given.spans),
        *([] if given.edits is None else [given.edits]),
    ]
    if any(p >= n for p in places):
        raise Refused(f"this task shows {n} answers, numbered from 0", 400)
    spans = [Span.model_dump(s) | {"response": display[s.response]} for s in given.spans]
    return judging.Answer(
        given.kind, ranking, {display[p]: r for p, r in given.ratings.items()}, {display[p]: v for p, v in given.labels.items()},
        spans, given.text, None if given.edits is None else display[given.edits], given.comment, given.reason, given.flag,
        given.confidence, given.seconds, given.focus_losses, None, given.version,
    )  # fmt: skip


def submit(call: Call) -> Response:
    """``POST /judgments``: store an answer. The same `client` id again gives the same id and stores nothing."""
    given: Submission = parsed(Submission, call.fields)
    id = _store(call, given)
    return JSONResponse({"id": id}, 201)


def _store(call: Call, given: Submission) -> str:
    with call.ledger.write() as connection:
        row = assigning.task_of(connection, given.task)
        if row is None or row.annotator != call.who.id:
            raise Refused("this task is not yours", 403)
        settings = queues.by_id(connection, row.queue).settings
        answer = answer_of(given, json.loads(row.display), settings.axes)
        id = judging.submit(connection, call.who, given.task, given.client, answer)
    call.request.app.state.judged()
    return id


def form(call: Call) -> Response:
    """``POST /work``: the same through a plain form, for browsers without JavaScript."""
    f = call.fields
    act = str(f.get("act", "submit"))
    if act == "undo":
        with call.ledger.write() as connection:
            judging.undo(connection, call.who, queue_of(call, connection, f.get("queue")).id, token())
        return RedirectResponse("/", 303)
    kind = act if act in ("both_bad", "skip") else str(f.get("kind", "ranking"))
    ratings: dict[str, dict[str, str]] = {}
    for name, value in f.items():
        if name.startswith("rate-") and name.count("-") == 2:
            _, place, axis = name.split("-")
            ratings.setdefault(place, {})[axis] = value
    fields: dict[str, Any] = {
        "task": f.get("task", ""), "client": f.get("client") or token(), "kind": kind, "ranking": f.get("ranking") or None,
        "ratings": ratings, "labels": {n.removeprefix("label-"): v == "good" for n, v in f.items() if n.startswith("label-")},
        "comment": f.get("comment", ""), "reason": f.get("reason", ""), "flag": f.get("flag", ""),
        "confidence": f.get("confidence") or None, "version": "form",
    }  # fmt: skip
    if kind in ("write", "edit"):
        fields |= {"text": str(f.get("text", "")).replace("\r\n", "\n"), "edits": 0 if kind == "edit" else None}
    try:
        _store(call, parsed(Submission, fields))
    except Refused as refusal:
        queue, task = _open(call)
        with call.ledger.read() as connection:
            values = view(call, connection, queue, task) | {
                "error": call.words.said(str(refusal)),
                "typed": str(f.get("ranking", ""))[:200],
            }
            return page(call, "work.html", refusal.status, **values)
    return RedirectResponse("/", 303)


def save_draft(call: Call) -> Response:
    """``POST /drafts``: keep unfinished work and the task with it."""
    given: Draft = parsed(Draft, call.fields)
    with call.ledger.write() as connection:
        judging.save_draft(connection, call.who, given.task, given.body)
    return JSONResponse({"saved": time.time()})


def undo(call: Call) -> Response:
    """``POST /undo``: take the last answer back and open its task again."""
    given: Undo = parsed(Undo, call.fields)
    with call.ledger.write() as connection:
        queue = queue_of(call, connection, given.queue)
        return JSONResponse({"task": judging.undo(connection, call.who, queue.id, given.client)})


def progress(call: Call) -> Response:
    """``GET /progress``: the person's own, and how much is open."""
    with call.ledger.read() as connection:
        queue = queue_of(call, connection)
        return JSONResponse(
            {**assigning.progress(connection, call.who, queue), "own": own(connection, call.who.id, queue.id)}
        )


def difference(call: Call) -> Response:
    """``GET /difference?task=&a=&b=``: two answers of one's own task, word by word, as HTML."""
    query = call.request.query_params
    with call.ledger.read() as connection:
        row = assigning.task_of(connection, query.get("task", "").replace("\x00", ""))
        if row is None or row.annotator != call.who.id:
            raise Refused("this task is not yours", 403)
        texts = [s["text"] for s in shown(connection, assigning.as_task(row))]
    try:
        a, b = int(query.get("a", "")), int(query.get("b", ""))
        if not (0 <= a < len(texts) and 0 <= b < len(texts)):
            raise ValueError
    except ValueError:
        raise Refused("a and b are numbers of answers", 400) from None
    made = marked(texts[a], texts[b])
    return JSONResponse(
        {"a": made[0], "b": made[1]} if made else {"a": None, "b": None}, headers={"Cache-Control": "no-store"}
    )
