"""How new a prompt is against rows learned from: planted novelty is found, held-out rows of the same kind are not called new."""

from __future__ import annotations

from collections import Counter

import pytest

from posttrain.core.group import Group, group
from posttrain.data.novelty import Learned, marked
from posttrain.readingroom.room import ReadingRoom


def shares(split: str, learned: Learned, n: int = 300) -> dict[str, float]:
    found = Counter(learned.kind(g) for g in ReadingRoom(0).prompts(split, n))
    return {kind: count / n for kind, count in found.items()}


def test_what_is_new_is_named_by_what_is_new_about_it() -> None:
    learned = Learned(ReadingRoom(0).prompts("train", 1500))
    told = {s: shares(s, learned) for s in ("held-out", "new-phrasing", "new-vocabulary")}
    assert told["held-out"]["held-out"] > 0.75, (
        "rows of the same kind are mostly as near as training rows are to each other"
    )
    assert told["new-vocabulary"]["new-vocabulary"] > 4 * told["held-out"].get("new-vocabulary", 0.0)
    assert told["new-phrasing"].get("held-out", 0.0) < 0.5, (
        "new wordings bring words and pairs of words that none of the rows had"
    )
    first = ReadingRoom(0).prompts("train", 1)[0]
    assert learned.kind(first) == "seen"


def test_marks_keep_a_row_and_its_id() -> None:
    rows = [group(f"What is {a} plus {b}?", facts={"id": f"r{a}{b}"}) for a in range(6) for b in range(6)]
    made = marked([*rows[:1], group("Zygomatic quokkas?", facts={"id": "q"})], rows)
    assert [(g.id, g.facts["novelty"]) for g in made] == [("r00", "seen"), ("q", "new-vocabulary")]
    assert marked([group("What is 77 plus 13?")], [*rows, group("What is 45 plus 32?"), group("What is 11 plus 87?")])[
        0
    ].facts["novelty"] in ("held-out", "rare"), "digits count by their number"
    with pytest.raises(ValueError, match="seen: none of the rows has a prompt"):
        marked(rows, [Group(())])
