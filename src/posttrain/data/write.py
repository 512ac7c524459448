"""Groups back to files in the shapes of other tools: JSONL (also gzipped) or Parquet, whole or not at all.

What a shape cannot carry is counted, never dropped in silence. Facts travel as one ``facts`` object, which the reader knows; their
``where`` is left out, as the new file has lines of its own. Tokens and log-probabilities stay in memory.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posttrain.core.chat import Chat
from posttrain.core.files import write_bytes
from posttrain.core.group import Group, Preference, Response

Lost = Counter[str]


@dataclass(slots=True)
class Written:
    """rows: written. hash: SHA-256 of the file. lost: what the shape could not carry, with how often."""

    rows: int
    path: str
    hash: str
    lost: Lost = field(default_factory=Counter)


def write(groups: Sequence[Group], path: str | os.PathLike[str], shape: str = "groups") -> Written:
    """Write groups as rows of one of `WRITERS`: groups, messages, pairs, labels, ranked or text.

    A group may give several rows (one per pair or per response) or none, which is counted. Raises ValueError on an unknown shape or
    ending, and when not a single row comes out.
    """
    target = Path(path)
    if shape not in WRITERS:
        raise ValueError(f"cannot write the shape {shape!r}; accepted: {', '.join(WRITERS)}")
    ending = next((e for e in (".jsonl.gz", ".jsonl", ".parquet") if target.name.endswith(e)), None)
    if ending is None:
        raise ValueError(f"{target}: cannot write this ending; accepted: .jsonl, .jsonl.gz, .parquet")
    lost: Lost = Counter()
    rows = [row for made in groups for row in WRITERS[shape](made, lost)]
    if not rows:
        why = "; ".join(f"{n} times: {what}" for what, n in lost.items()) or "there are no groups"
        raise ValueError(f"{target}: nothing to write as {shape} ({why})")
    body = _parquet(rows) if ending == ".parquet" else "".join(_line(r) + "\n" for r in rows).encode()
    body = gzip.compress(body, mtime=0) if ending == ".jsonl.gz" else body
    write_bytes(target, body)
    return Written(len(rows), str(target), hashlib.sha256(body).hexdigest(), lost)


def _line(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False, default=str)


def _parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    """A table of the rows; lists and objects are JSON text in their cell, as a table would merge the keys of different rows."""
    import pyarrow
    import pyarrow.parquet

    columns: dict[str, list[Any]] = {name: [] for row in rows for name in row}
    for row in rows:
        for name, cells in columns.items():
            value = row.get(name)
            cells.append(_line(value) if isinstance(value, (list, dict)) else value)
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


def _turns(chat: Chat) -> list[dict[str, Any]]:
    return [m.to_json() for m in chat]


def _rest(made: Group, lost: Lost, *carried: str) -> dict[str, Any]:
    """Tools and facts of a group; counts what is left of preferences, ranking and the fields of responses."""
    row: dict[str, Any] = {"tools": [dict(t) for t in made.tools]} if made.tools else {}
    facts = {k: v for k, v in made.facts.items() if k != "where"}
    if facts:
        row["facts"] = facts
    if "ranking" not in carried and made.ranking is not None:
        lost["ranking"] += 1
    if "preferences" not in carried and made.preferences:
        lost["preferences"] += 1
    for response in made.responses:
        for name in ("score", "label", "by", "stop", "version"):
            if name not in carried and getattr(response, name) is not None:
                lost[f"{name} of a response"] += 1
        if "weight" not in carried and response.weight != 1.0:
            lost["weight of a response"] += 1
    return row


def _messages(made: Group, lost: Lost) -> Iterator[dict[str, Any]]:
    """One conversation per response; a group without any is its prompt."""
    rest = _rest(made, lost, "weight", *(("score",) if any(r.score for r in made.responses) else ()))
    for response in made.responses or (Response(),):
        row: dict[str, Any] = {"messages": _turns(made.prompt + response.turns)}
        if response.score is not None:
            row["score"] = response.score.to_json()
        if response.weight != 1.0:
            row["weight"] = response.weight
        yield row | rest


def _pairs(made: Group, lost: Lost) -> Iterator[dict[str, Any]]:
    """One row per preference."""
    found = made.pairs()
    rest = _rest(made, lost, "preferences", "ranking", *(("score",) if found else ()))
    named = {i for p in found for i in (p.i, p.j)}
    if len(named) < len(made.responses):
        lost["response without a preference"] += len(made.responses) - len(named)
    if not found:
        lost["group without a preference"] += 1
    for p in found:
        row: dict[str, Any] = {
            "prompt": _turns(made.prompt),
            "chosen": _turns(made.responses[p.i].turns),
            "rejected": _turns(made.responses[p.j].turns),
        }
        row |= _given(p)
        for name, at in (("score_chosen", p.i), ("score_rejected", p.j)):
            score = made.responses[at].score
            if score is not None:
                row[name] = score.to_json()
        yield row | rest


def _given(p: Preference) -> dict[str, Any]:
    standard = Preference(p.i, p.j)
    return {
        name: getattr(p, name)
        for name in ("p", "weight", "margin", "both_bad")
        if getattr(p, name) != getattr(standard, name)
    }


def _labels(made: Group, lost: Lost) -> Iterator[dict[str, Any]]:
    """One row per labelled response."""
    rest = _rest(made, lost, "label", "weight", "score")
    for response in made.responses:
        if response.label is None:
            lost["response without a label"] += 1
            continue
        row: dict[str, Any] = {
            "prompt": _turns(made.prompt),
            "completion": _turns(response.turns),
            "label": response.label,
        }
        if response.score is not None:
            row["score"] = response.score.to_json()
        if response.weight != 1.0:
            row["weight"] = response.weight
        yield row | rest
    if not made.responses:
        lost["group without a response"] += 1


def _ranked(made: Group, lost: Lost) -> Iterator[dict[str, Any]]:
    """One row per group: responses as conversations, ranks (1 is best, ties equal) and scores where there are some."""
    rest = _rest(made, lost, "ranking", "score")
    if not made.responses:
        lost["group without a response"] += 1
        return
    row: dict[str, Any] = {"prompt": _turns(made.prompt), "responses": [_turns(r.turns) for r in made.responses]}
    if made.ranking is not None:
        ranks = {i: n for n, tier in enumerate(made.ranking, 1) for i in tier}
        row["rank"] = [ranks.get(i) for i in range(len(made.responses))]
    if any(r.score is not None for r in made.responses):
        row["scores"] = [None if r.score is None else r.score.to_json() for r in made.responses]
    yield row | rest


def _text(made: Group, lost: Lost) -> Iterator[dict[str, Any]]:
    """Plain documents."""
    rest = _rest(made, lost, "weight")
    if made.prompt or not made.responses:
        lost["group that is no plain document"] += 1
        return
    for response in made.responses:
        yield {"text": response.text} | ({} if response.weight == 1.0 else {"weight": response.weight}) | rest


def _group(made: Group, lost: Lost) -> Iterator[dict[str, Any]]:
    """The group itself."""
    row = made.to_json()
    if "facts" in row:
        row["facts"].pop("where", None)
        if not row["facts"]:
            del row["facts"]
    yield row


WRITERS: dict[str, Callable[[Group, Lost], Iterator[dict[str, Any]]]] = {
    "groups": _group,
    "messages": _messages,
    "pairs": _pairs,
    "labels": _labels,
    "ranked": _ranked,
    "text": _text,
}
