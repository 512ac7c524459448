"""Judgments in the shapes of other tools, and back: the ledger's JSONL, CSV, hh-rlhf, UltraFeedback, Argilla, Label Studio, lessons.

Prompt/chosen/rejected, messages, labels and Parquet are written by `data.write`, which knows groups. Here are the shapes that carry single
judgments, or that only these tools know. Names of people go out only where asked for; otherwise everyone is `annotator-1` and so on.
CSV cells that a spreadsheet would run as a formula get a quote in front.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from posttrain.core.chat import Chat
from posttrain.core.group import Group
from posttrain.feedback import accounts, items, judging
from posttrain.feedback.assigning import counts, move
from posttrain.feedback.ids import token
from posttrain.feedback.labels import Labels
from posttrain.feedback.queues import Queue
from posttrain.feedback.records import Record, names, records
from posttrain.feedback.tables import assignment, item

Row = dict[str, Any]


def pseudonyms(found: Sequence[Record]) -> dict[str, str]:
    return {w: f"annotator-{n}" for n, w in enumerate(sorted({r.who for r in found}), 1)}


def rows(connection: Connection, queue: Queue, with_names: bool = False, judges: bool = True) -> Iterator[Row]:
    """One row per item with every current judgment: all that the ledger knows; `load` reads it back without loss.

    judges: verdicts of models as well, each with `model` true."""
    found = records(connection, queue.id, repeats=True, judges=judges)
    who = names(connection) if with_names else pseudonyms([r for r in found if not r.model])
    who |= {r.who: names(connection)[r.who] for r in found if r.model}
    said: dict[str, list[Row]] = {}
    for r in found:
        body = {
            "who": who[r.who], "team": r.team, "kind": r.kind, "ranking": r.ranking, "ratings": r.ratings, "labels": r.labels,
            "text": r.text, "edits": r.edits, "display": list(r.display), "reason": r.reason, "propensity": r.propensity,
            "seconds": r.seconds, "confidence": r.confidence, "comment": r.comment, "flag": r.flag, "created": r.created,
            "model": r.model or None, "spans": list(r.spans),
        }  # fmt: skip
        said.setdefault(r.item, []).append({k: v for k, v in body.items() if v not in (None, "", {}, (), [])})
    for content in items.each(connection, queue):
        yield {**content.group.to_json(), "kind": content.kind, "judgments": said.get(content.id, [])}


def load(connection: Connection, queue: Queue, lines: Sequence[Mapping[str, Any]]) -> int:
    """Judgments of `rows` into this ledger, beside its items; returns how many. What is there already is not doubled."""
    added = 0
    for line in lines:
        group = Group.from_json(line)
        items.add(connection, queue, [group], line.get("kind", "ordinary"))
        key = items.key_of(group)
        id = connection.execute(select(item.c.id).where(item.c.queue == queue.id, item.c.key == key)).scalar()
        if id is None:
            continue
        for said in line.get("judgments", ()):
            added += _judgment(connection, queue, str(id), said)
    return added


def _judgment(connection: Connection, queue: Queue, id: str, said: Mapping[str, Any]) -> bool:
    kind = "model" if said.get("model") else "person"
    who = accounts.named(connection, str(said["who"]), kind=kind, team=str(said.get("team", "")))
    if who.kind != kind:
        raise ValueError(f"{who.name} is a {who.kind} of this ledger and a {kind} in the file; rename one of them")
    c, reason = assignment.c, str(said.get("reason", "random"))
    there = select(c.id).where(c.item == id, c.annotator == who.id, (c.reason == "repeat") == (reason == "repeat"))
    if connection.execute(there).first():
        return False
    task, created = token(), float(said.get("created", 0.0))
    n: int = connection.execute(select(item.c.n).where(item.c.id == id)).scalar_one()
    connection.execute(
        assignment.insert().values(
            id=task, item=id, annotator=who.id, queue=queue.id, display=json.dumps(said.get("display") or list(range(n))), reason=reason,
            propensity=said.get("propensity"), team=who.team, issued=created, expires=created,
        )
    )  # fmt: skip
    if counts(reason):
        move(connection, id, active=1)
    ranking = said.get("ranking")
    answer = judging.Answer(
        str(said["kind"]), None if ranking is None else tuple(tuple(t) for t in ranking),
        {int(k): v for k, v in said.get("ratings", {}).items()}, {int(k): bool(v) for k, v in said.get("labels", {}).items()},
        tuple(said.get("spans", ())),
        said.get("text"), said.get("edits"), str(said.get("comment", "")), "", str(said.get("flag", "")), said.get("confidence"),
        said.get("seconds"),
    )  # fmt: skip
    judging.submit(connection, who, task, f"import-{task}", answer, created)
    return True


def guarded(cell: Any) -> str:
    """A CSV cell that no spreadsheet runs."""
    text = cell if isinstance(cell, str) else "" if cell is None else json.dumps(cell, ensure_ascii=False)
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def as_csv(table: Sequence[Row]) -> str:
    """One line per judgment: prompt, answers, who, what."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["prompt", "answers", "who", "kind", "ranking", "labels", "ratings", "text", "seconds", "comment", "flag"]
    )
    for row in table:
        prompt = "\n".join(m["content"] for m in row["prompt"])
        answers = [" ".join(m["content"] for m in r["turns"]) for r in row["responses"]]
        for j in row["judgments"]:
            cells = (
                prompt,
                answers,
                j["who"],
                j["kind"],
                *(j.get(k) for k in ("ranking", "labels", "ratings", "text", "seconds", "comment", "flag")),
            )
            writer.writerow([guarded(c) for c in cells])
    return out.getvalue()


def _prompt(chat: Chat) -> str:
    """A prompt as one text: a single user turn alone, else the turns with who speaks."""
    if len(chat) == 1:
        return chat[0].content
    return "\n\n".join(f"{m.role.capitalize()}: {m.content}" for m in chat)


def _transcript(prompt: Chat, text: str) -> str:
    """The form of Anthropic's hh-rlhf: ``\\n\\nHuman: ...\\n\\nAssistant: ...``; a system turn has no place in it."""
    said = "".join(
        f"\n\n{'Human' if m.role == 'user' else 'Assistant'}: {m.content}"
        for m in prompt
        if m.role in ("user", "assistant")
    )
    return f"{said}\n\nAssistant: {text}"


def hh(groups: Sequence[Group]) -> Iterator[Row]:
    for g in groups:
        for p in g.preferences:
            if not p.both_bad and p.p > 0.5:
                yield {
                    "chosen": _transcript(g.prompt, g.responses[p.i].text),
                    "rejected": _transcript(g.prompt, g.responses[p.j].text),
                }


def ultrafeedback(groups: Sequence[Group]) -> Iterator[Row]:
    """instruction, completions with a score on the scale 1 to 5 of the item's own answers."""
    for g in groups:
        values = [r.score.value if r.score is not None else None for r in g.responses]
        completions = [
            {
                "model": r.by,
                "response": r.text,
                "overall_score": v,
                "annotations": dict(r.score.parts) if r.score is not None else {},
            }
            for r, v in zip(g.responses, values, strict=True)
        ]
        yield {
            "instruction": _prompt(g.prompt),
            "source": g.facts.get("source", "posttrain"),
            "completions": completions,
        }


def lesson(groups: Sequence[Group]) -> Iterator[Row]:
    """``{"instruction", "responses": [{"text", "rank"}]}``: equal ranks are ties."""
    for g in groups:
        values = [
            round(r.score.value, 9) if r.score is not None and r.score.value is not None else 0.0 for r in g.responses
        ]
        order = sorted(set(values), reverse=True)
        yield {
            "instruction": _prompt(g.prompt),
            "responses": [
                {"text": r.text, "rank": order.index(v) + 1} for r, v in zip(g.responses, values, strict=True)
            ],
        }


def argilla(table: Sequence[Row]) -> Iterator[Row]:
    """Records of an Argilla 2 data set: fields, and one ranking response per person."""
    for row in table:
        fields = {"prompt": "\n".join(m["content"] for m in row["prompt"])}
        fields |= {f"response-{k}": " ".join(m["content"] for m in r["turns"]) for k, r in enumerate(row["responses"])}
        said = [
            {"question_name": "ranking", "user": j["who"], "status": "submitted",
             "value": [{"value": f"response-{k}", "rank": t} for t, tier in enumerate(j["ranking"], 1) for k in tier]}
            for j in row["judgments"] if j.get("ranking")
        ]  # fmt: skip
        yield {"fields": fields, "metadata": {"kind": row["kind"]}, "responses": said}


def label_studio(table: Sequence[Row]) -> Iterator[Row]:
    """Tasks of Label Studio: data, and one annotation with a ranker result per person."""
    for n, row in enumerate(table, 1):
        data = {"prompt": "\n".join(m["content"] for m in row["prompt"])}
        data["items"] = [
            {"id": str(k), "body": " ".join(m["content"] for m in r["turns"])} for k, r in enumerate(row["responses"])
        ]  # type: ignore[assignment]
        annotations = [
            {"completed_by": j["who"], "lead_time": j.get("seconds"), "result": [
                {"type": "ranker", "from_name": "rank", "to_name": "prompt",
                 "value": {"ranker": {"tiers": [[str(k) for k in tier] for tier in j["ranking"]],
                                      "rank": [str(k) for tier in j["ranking"] for k in tier]}}}]}
            for j in row["judgments"] if j.get("ranking")
        ]  # fmt: skip
        yield {"id": n, "data": data, "annotations": annotations}


def from_argilla(records_: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """Rows for `load` out of Argilla records. Fields besides the prompt are the answers; unknown ones stay in the facts as `extra`."""
    for n, record in enumerate(records_):
        fields = record.get("fields")
        if not isinstance(fields, Mapping) or len(fields) < 2:
            raise ValueError(f"record {n}: an Argilla record needs `fields` with a prompt and answers")
        ask = next((k for k in ("prompt", "instruction", "question") if k in fields), next(iter(fields)))
        keys = [k for k in fields if k != ask]
        said = []
        for response in _argilla_responses(record):
            ranks = {
                str(v["value"]): int(v.get("rank") or len(keys)) for v in response["value"] if isinstance(v, Mapping)
            }
            if set(ranks) != set(keys):
                raise ValueError(f"record {n}: the ranking names {sorted(ranks)}, the fields are {keys}")
            tiers = [[keys.index(k) for k in keys if ranks[k] == r] for r in sorted(set(ranks.values()))]
            said.append(
                {
                    "who": str(response.get("user") or response.get("user_id") or "argilla"),
                    "kind": "ranking",
                    "ranking": tiers,
                }
            )
        extra = {k: v for k, v in record.items() if k not in ("fields", "responses")}
        yield _row(str(fields[ask]), [str(fields[k]) for k in keys], said, extra)


def _argilla_responses(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Responses of version 2 (a list of questions, or a map of them), submitted ones with a ranking."""
    given = record.get("responses") or []
    flat = [r for v in given.values() for r in v] if isinstance(given, Mapping) else list(given)
    return [r for r in flat if isinstance(r.get("value"), list) and r.get("status", "submitted") == "submitted"]


def from_label_studio(tasks: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """Rows for `load` out of Label Studio tasks with a ranker, or with a pairwise choice (`left`, `right`) of two answers."""
    for n, task in enumerate(tasks):
        data = task.get("data") or {}
        answers = data.get("items") or [
            {"id": k, "body": data[v]} for k, v in (("left", "answer1"), ("right", "answer2")) if v in data
        ]
        if len(answers) < 2 or "prompt" not in data:
            raise ValueError(f"task {n}: a Label Studio task needs data.prompt and data.items (or answer1 and answer2)")
        ids = [str(a["id"]) for a in answers]
        said = []
        for annotation in task.get("annotations") or ():
            tiers = _label_studio_tiers(annotation, ids)
            if tiers is not None:
                said.append(
                    {
                        "who": str(annotation.get("completed_by", "label-studio")),
                        "kind": "ranking",
                        "ranking": tiers,
                        "seconds": annotation.get("lead_time"),
                    }
                )
        extra = {k: v for k, v in task.items() if k not in ("data", "annotations")} | {
            k: v for k, v in data.items() if k not in ("prompt", "items", "answer1", "answer2")
        }
        yield _row(str(data["prompt"]), [str(a.get("body", a.get("html", ""))) for a in answers], said, extra)


def _label_studio_tiers(annotation: Mapping[str, Any], ids: Sequence[str]) -> list[list[int]] | None:
    for result in annotation.get("result") or ():
        value = result.get("value") or {}
        ranker = value.get("ranker")
        if isinstance(ranker, Mapping) and "tiers" in ranker:
            return [[ids.index(str(k)) for k in tier] for tier in ranker["tiers"]]
        order = ranker.get("rank") if isinstance(ranker, Mapping) else ranker
        if isinstance(order, list) and len(order) == len(ids):
            return [[ids.index(str(k))] for k in order]
        if value.get("selected") in ids and len(ids) == 2:
            first = ids.index(value["selected"])
            return [[first], [1 - first]]
    return None


def _row(prompt: str, answers: Sequence[str], said: Sequence[Row], extra: Mapping[str, Any]) -> Row:
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "responses": [{"turns": [{"role": "assistant", "content": a}]} for a in answers],
        "facts": {"extra": dict(extra)} if extra else {},
        "judgments": list(said),
    }


OF_JUDGMENTS: dict[str, Callable[[Sequence[Row]], Iterator[Row]]] = {
    "ledger": iter,
    "argilla": argilla,
    "label-studio": label_studio,
}
OF_LABELS: dict[str, Callable[[Sequence[Group]], Iterator[Row]]] = {
    "hh-rlhf": hh,
    "ultrafeedback": ultrafeedback,
    "lesson": lesson,
}
READERS: dict[str, Callable[[Sequence[Mapping[str, Any]]], Iterator[Row]]] = {
    "ledger": lambda found: iter([dict(r) for r in found]),
    "argilla": from_argilla,
    "label-studio": from_label_studio,
}


def sidecar(made: Labels, queue: Queue, guideline: int, rows_written: int, hash: str) -> Row:
    """What goes beside every export: what was asked, how it was aggregated, what was left out and why."""
    return {
        **made.settings, "guideline": guideline, "overlap": queue.settings.overlap, "judgments": made.judgments, "items": len(made.groups),
        "rows": rows_written, "dropped": dict(made.dropped), "tie": made.tie, "sha256": hash,
    }  # fmt: skip
