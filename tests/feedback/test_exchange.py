"""Files of other tools: out, in again, and the same is there; what a shape cannot carry is counted."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from posttrain.core.chat import Message
from posttrain.core.files import read_lines
from posttrain.core.group import Group, answer, group
from posttrain.data.read import read
from posttrain.feedback import exchange, judging
from posttrain.feedback.ledger import Ledger
from posttrain.feedback.queues import find
from posttrain.feedback.records import records
from posttrain.jobs.feedback import Labels, LedgerJob
from tests.feedback.made import ledger
from tests.feedback.test_ledger import say, take

FIRST = "=HYPERLINK(0) first"


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    """Four items, one of two turns, ranked by two people: a tie, a comment, a flag, a mark, one both bad."""
    turns = (Message("user", "hi"), Message("assistant", "hello"), Message("user", "and?"))
    talk = Group(turns, (answer("x", by="m1"), answer("y", by="m2"), answer("z")))
    opened, queue = ledger(tmp_path, [*(group(f"q{i}", FIRST, f"b{i}", f"c{i}") for i in range(3)), talk], overlap=2)
    span = {"response": 1, "start": 0, "end": 1, "label": "wrong", "comment": ""}
    for name in ("ann", "bob"):
        for turn in range(4):
            more: dict[str, Any] = (
                {"comment": "-1+1 is odd", "flag": "typo", "confidence": 2, "spans": [span]} if turn == 1 else {}
            )
            tiers = ((0,), (1, 2)) if turn % 2 else ((0,), (1,), (2,))
            task = take(opened, queue, name)
            bad = name == "bob" and turn == 3
            say(
                opened,
                name,
                task,
                judging.Answer("both_bad") if bad else judging.Answer("ranking", tiers, seconds=9, **more),
            )
    opened.close()
    return tmp_path / "prefs.db"


def exported(place: Path, shape: str, ending: str = "jsonl") -> tuple[Path, dict[str, int]]:
    out = Labels(ledger=str(place), out=str(place.parent / f"{shape}.{ending}"), shape=shape).run()  # type: ignore[arg-type]
    about = json.loads(Path(f"{out}.about.json").read_text(encoding="utf-8"))
    return out, about["not_carried"]


def rankings(place: Path) -> list[str]:
    with Ledger(place) as book, book.read() as connection:
        found = records(connection, find(connection).id)
    return sorted(f"{sorted(map(sorted, r.ranking))} {r.n}" for r in found if r.kind == "ranking" and r.ranking)


@pytest.mark.parametrize("shape", ["ledger", "argilla", "label-studio"])
def test_single_judgments_come_back(judged: Path, tmp_path: Path, shape: str) -> None:
    out, lost = exported(judged, shape)
    again = tmp_path / "again.db"
    told = LedgerJob(ledger=str(again), mode="import", file=str(out), format=shape, queue="main").run()  # type: ignore[arg-type]
    assert rankings(again) == rankings(judged) and "judgments of 4 items" in told
    if shape == "ledger":
        assert lost == {}
        with Ledger(again) as book, book.read() as connection:
            marked = [r for r in records(connection, find(connection).id) if r.spans]
            assert len(marked) == 2 and marked[0].spans[0]["label"] == "wrong" and marked[0].flag == "typo"
    else:
        assert lost["judgment that is no ranking"] == 1 and lost["comment"] == 2 and lost["marked passages"] == 2
        assert lost["roles of the turns of a prompt"] == 1 and lost["who wrote an answer"] == 2
        assert ("time taken" in lost) == (shape == "argilla")


def test_a_table_for_spreadsheets_runs_nothing(judged: Path) -> None:
    out, lost = exported(judged, "csv", "csv")
    table = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"))))
    assert len(table) == 8 and lost["order as shown"] == 8 and "comment" not in lost
    assert {r["comment"] for r in table} == {"", "'-1+1 is odd"}
    assert all(not str(c).startswith(("=", "+", "-", "@", "\t")) for r in table for c in r.values())


def test_transcripts_and_ratings_are_read_back(judged: Path) -> None:
    out, lost = exported(judged, "hh-rlhf")
    row = read_lines(out)[0]
    assert set(row) == {"chosen", "rejected"} and row["chosen"].startswith("\n\nHuman: ")
    back = read(str(out)).groups
    assert len(back) == len(read_lines(out)) and all(len(g.responses) == 2 for g in back)
    talk = [g for g in back if len(g.prompt) == 3]
    assert talk and [m.role for m in talk[0].prompt] == ["user", "assistant", "user"]
    assert lost["how sure people are of a pair"] > 0 and lost["facts of an item"] > 0
    broken = judged.parent / "broken.jsonl"
    broken.write_text(
        json.dumps({"chosen": "\n\nHuman: a\n\nAssistant: x", "rejected": "\n\nHuman: b\n\nAssistant: y"}) + "\n"
    )
    with pytest.raises(ValueError, match=r"broken\.jsonl:1"):
        read(str(broken))
    out, lost = exported(judged, "ultrafeedback")
    assert (
        set(read_lines(out)[0]) == {"instruction", "source", "completions"} and "preferences (scores are kept)" in lost
    )
    assert all(len(g.responses) == 3 and g.pairs() for g in read(str(out)).groups)
    out, _ = exported(judged, "lesson")
    assert {r["rank"] for r in read_lines(out)[0]["responses"]} <= {1, 2, 3}
    assert all(len(g.responses) == 3 for g in read(str(out)).groups)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("shape", ["groups", "pairs", "ranked", "winners"])
def test_files_that_training_reads(judged: Path, shape: str, ending: str) -> None:
    out, lost = exported(judged, shape, ending)
    found = read(str(out)).groups
    assert found and (shape == "winners" or any(g.pairs() for g in found))
    if shape == "groups":
        assert lost == {} and {round(p.p, 6) for g in found for p in g.preferences} - {1.0}
    if shape == "winners":
        assert {g.responses[-1].text for g in found} == {FIRST, "hello\nx"}  # a conversation is learned from whole


@pytest.mark.parametrize(
    ("format_", "body", "why"),
    [
        ("argilla", [{"fields": {"prompt": "a"}}], "record 0: an Argilla record needs"),
        (
            "argilla",
            [{"fields": {"prompt": "a", "r1": "b", "r2": "c"}, "responses": [{"value": [{"value": "r1", "rank": 1}]}]}],
            "the ranking names",
        ),
        ("label-studio", [{"data": {"prompt": "a"}}], "task 0: a Label Studio task needs"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(format_: str, body: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        list(exchange.READERS[format_](body))


def test_shapes_of_label_studio_that_only_it_writes() -> None:
    """A choice between two texts, and unknown fields, which stay in `extra`."""
    task = {"id": 7, "project": 3, "data": {"prompt": "p", "answer1": "a", "answer2": "b", "topic": "t"},
            "annotations": [{"completed_by": 5, "result": [{"value": {"selected": "right"}}]}]}  # fmt: skip
    row = next(exchange.from_label_studio([task]))
    assert row["judgments"][0]["ranking"] == [[1], [0]] and row["judgments"][0]["who"] == "5"
    assert row["facts"]["extra"] == {"id": 7, "project": 3, "topic": "t"}
