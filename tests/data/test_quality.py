"""Quality filters drop what they say and nothing else; the card tells it; diversity has intervals and an alarm."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from posttrain.core.files import read_lines
from posttrain.core.group import Preference, Score, group
from posttrain.data.card import card
from posttrain.data.diversity import collapse, diversity, vendi
from posttrain.data.quality import Quality, agreement
from posttrain.detectors.personal import personal
from posttrain.jobs.catalogue import build_job
from posttrain.jobs.job import Context

FINE = "The library on the river has many books, and the oldest of them is a map of the town from the year 1612."
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "length: too short": ({"shortest": 3}, "Yes."),
    "length: too long": ({"longest": 60}, " ".join(f"word{i}" for i in range(61))),
    "language: not wanted": ({"languages": ("en", "fr")}, "Самая старая книга в библиотеке — это карта города, сделанная в 1612 году."),
    "language: not that of the request": ({"same": True}, "La bibliothèque est sur le fleuve et le livre est une carte."),
    "repetition": ({"repeats": True}, "the book is old and " * 30),
    "template words": ({"template": True}, "As an AI language model I like the books of the library that is on the river."),
    "personal data": ({"pii": True}, "Write to anna.petit@biblio.fr and she will find the book for you."),
    "toxic": ({"toxic": True}, "You are an idiot, and the book is not here."),
    "a refusal": ({"refuses": True}, "I'm sorry, but I can't help with that."),
}  # fmt: skip


@pytest.mark.parametrize("reason", BAD)
def test_each_filter_drops_its_own(reason: str) -> None:
    fields, text = BAD[reason]
    rows = [group("What is the oldest book in the library?", t) for t in (FINE, text)]
    assert Quality(**fields).find(rows) == {1: reason}
    assert Quality().find(rows) == {}


def test_lines_that_repeat_and_refusals_that_are_wanted() -> None:
    lines = group("q", "\n".join(["one line of text here", "another line of text"] * 4))
    assert Quality(repeats=True).find([lines]) == {0: "repetition"}
    kept = group("How do I pick a lock?", "I'm sorry, but I can't help with that.", facts={"kind": "refusal"})
    assert Quality(refuses=True).find([kept]) == {}
    pair = group("What is it?", FINE, "You are an idiot.", preferences=(Preference(0, 1),))
    assert Quality(toxic=True).find([pair]) == {} and Quality(shortest=6).find([pair]) == {0: "length: too short"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Call +33 1 42 68 53 00 now", True),
        ("Card 4539 5787 6362 1486 is mine", True),
        ("Card 4539 5787 6362 1487 is not", False),
        ("IBAN GB82 WEST 1234 5698 7654 32.", True),
        ("Write to somebody@example.com", False),
        ("The years 1914-1918 and 1939-1945, 3.14159 and page 0123", False),
        ("ISBN 978-2-07-036822-8 was printed in 1998", False),
    ],
)
def test_personal_data_by_form_and_check_digits(text: str, found: bool) -> None:
    assert personal("", text).flagged is found


def test_agreement_and_scores() -> None:
    assert agreement(["so\n42", "thus\n42.", "41"]) == pytest.approx(2 / 3)
    rows = [group(f"q{i}", f"because\n{i}", f"thus\n{i}", f"so\n{9 if i % 2 else i}") for i in range(4)]
    assert Quality(agree=0.9).find(rows) == {1: "answers disagree", 3: "answers disagree"}

    def worth(groups: Any) -> list[list[Score]]:
        return [
            [Score(None if g.prompt_text == "q3" else float(g.prompt_text[1:])) for _ in g.responses] for g in groups
        ]

    assert Quality(reward=worth, score=1.0).find(rows) == {0: "score: too low", 3: "score: none"}
    assert Quality(reward=worth, floor=0.5).find(rows) == {0: "score: too low", 3: "score: none"}
    with pytest.raises(ValueError, match="needs a reward"):
        Quality(score=1.0).find(rows)


def words(rng: random.Random, n: int, size: int) -> str:
    return " ".join(f"w{rng.randrange(size)}" for _ in range(n))


def test_collapse_raises_an_alarm_and_equal_sets_do_not() -> None:
    rng = random.Random(0)
    first, same, poor = ([words(rng, 20, size) for _ in range(200)] for size in (2000, 2000, 40))
    told = collapse({"people": first, "same": same, "poor": poor})
    assert {a[0] for a in told.alarms} == {"poor"} and {a[1] for a in told.alarms} >= {"distinct_2", "vendi"}
    spread = diversity(first)["distinct_2"]
    assert spread.low < spread.estimate < spread.high
    assert ("same", "openings", 0.975) in collapse({"people": first, "same": ["one two three four"] * 80}).alarms
    assert vendi(["a b c"] * 10) == pytest.approx(0.1) and vendi([f"x{i}" for i in range(10)]) == pytest.approx(
        1.0, abs=0.01
    )
    with pytest.raises(ValueError, match="at least 80"):
        diversity(["a"] * 79)


def test_the_job_filters_keeps_aside_and_writes_a_card(tmp_path: Path) -> None:
    rng = random.Random(1)
    rows = [group(f"What is in room {i}?", words(rng, 12, 900)) for i in range(100)] + [
        group("And here?", text) for _, text in BAD.values()
    ]
    data = tmp_path / "d.jsonl"
    data.write_text("".join(json.dumps(g.to_json(), ensure_ascii=False) + "\n" for g in rows))
    filters: dict[str, Any] = {k: v for fields, _ in BAD.values() for k, v in fields.items()} | {
        "reward": {"name": "length", "limit": 60},
        "floor": 0.02,
    }
    told = {
        "job": "data",
        "data": str(data),
        "out": str(tmp_path / "c.jsonl"),
        "filters": filters,
        "generations": [str(data)],
    }
    made = build_job(told).run(Context(bars=False))
    assert made.rows == made.kept + sum(made.dropped.values()) and len(made.dropped) >= len(BAD) - 1
    aside = read_lines(tmp_path / "c.jsonl.dropped.jsonl")
    assert len(aside) == sum(made.dropped.values()) and all(r["facts"]["dropped"] for r in aside)
    text = (tmp_path / "c.jsonl.card.md").read_text()
    assert made.record["hash"] in text and "personal data" in text and "vendi" in text and "not measured" in text
    assert made.record["diversity"]["alarms"] == []
    plain = build_job({**told, "filters": {}, "generations": []}).run(Context(bars=False))
    assert plain.kept > made.kept


def test_a_card_shows_text_as_text() -> None:
    told = card([group("<script>alert(1)</script> | # x\n\n# y", "`b`")], {"hash": "h", "dropped": {}}, "name")
    assert "<script" not in told and "\n# y" not in told
