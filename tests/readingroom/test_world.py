"""Facts of the world: check digits, calendar, partition of the vocabulary, determinism, notices."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

from posttrain.core.group import Group
from posttrain.readingroom import SIMULATION_NOTE, VERSION, ReadingRoom, vocabulary
from posttrain.readingroom.item import BEHAVIOURS, elided
from posttrain.readingroom.tasks import TASKS
from posttrain.readingroom.world import Day, Draw, isbn10, isbn13, money
from posttrain.rewards import unimarc


def test_check_digits_and_money_against_known_numbers():
    assert isbn10("030640615") == "2" and isbn10("080442957") == "X"
    assert isbn13("978030640615") == "7"
    assert money(120, "en") == "1.20" and money(5, "fr") == "0,05"


def test_calendar():
    assert Day(1, 3).ordinal == 60 and Day.at(60) == Day(1, 3) and Day.at(365) == Day(31, 12)
    assert all(Day.at(n).ordinal == n for n in range(1, 366))
    assert [Day(1, 5).text(lang) for lang in vocabulary.LANGS] == ["1 May", "1er mai", "1 мая", "5月1日"]


def test_rows_depend_on_seed_split_and_index_alone():
    room = ReadingRoom(4)
    whole = room.prompts("train", 40)
    parts = room.prompts("train", 15) + room.prompts("train", 25, start=15)
    assert [g.to_json() for g in whole] == [g.to_json() for g in parts]
    assert [g.prompt_hash for g in ReadingRoom(5).prompts("train", 40)] != [g.prompt_hash for g in whole]
    assert [d.responses[0].text for d in room.demonstrations(30, seed=1)] == [
        d.responses[0].text for d in room.demonstrations(30, seed=1)
    ]


def test_facts_are_complete_and_survive_json():
    rows = ReadingRoom(0).prompts("train", 400)
    assert {g.facts["task"] for g in rows} == set(TASKS) and {g.facts["lang"] for g in rows} == {"en", "fr", "ru", "zh"}
    assert {g.facts["behaviour"] for g in rows} == set(BEHAVIOURS)
    assert len({g.id for g in rows}) == 400
    for g in rows:
        assert g.facts["world"] == VERSION and g.facts["simulation"] == SIMULATION_NOTE and not g.responses
        assert Group.from_json(json.loads(json.dumps(g.to_json()))).to_json() == g.to_json()


def test_twins_share_their_source_and_differ_in_what_is_right():
    rows = ReadingRoom(0).prompts("train", 200, ["refusal"])
    by_id = {g.id: g for g in rows}
    for g in rows[::2]:
        twin = by_id[g.facts["twin_of"]]
        assert twin.facts["twin_of"] == g.id and twin.facts["benign_twin"] and not g.facts["benign_twin"]
        assert g.facts["behaviour"] == "refuse" and twin.facts["behaviour"] == "answer"
        assert g.facts["source"].split("\n")[0] == twin.facts["source"].split("\n")[0]


def test_splits_are_apart():
    rows = {split: ReadingRoom(0).prompts(split, 700) for split in vocabulary.SPLITS}
    prompts = {split: {g.prompt_hash for g in found} for split, found in rows.items()}
    assert all(not prompts["train"] & prompts[split] for split in vocabulary.SPLITS[1:])
    names = {split: " ".join(g.facts["source"] for g in found) for split, found in rows.items()}
    surnames = {
        split: set(re.findall(r"\b(?:Zel|Jar(?!d)|Ulm|Ibre|Thax|Cren|Ombr)\w+", text)) for split, text in names.items()
    }
    assert not any(surnames[s] for s in ("train", "held-out", "new-phrasing", "rare"))
    assert len(surnames["ood"]) > 40 and len(surnames["new-vocabulary"]) > 40
    titles = {split: {Draw(i, split, "en").title() for i in range(3000)} for split in vocabulary.SPLITS}
    assert all(not titles["train"] & titles[split] for split in vocabulary.SPLITS[1:])
    assert titles["new-phrasing"] == titles["rare"] == titles["held-out"] and titles["new-vocabulary"] == titles["ood"]
    lengths = {
        split: sum(len(g.facts["source"]) for g in found if g.facts["task"] == "catalogue")
        for split, found in rows.items()
    }
    assert lengths["ood"] > 1.3 * lengths["train"]


def test_one_thing_is_new_in_each_split():
    """Wordings, words and what is rare come apart; rows of the older splits are what they were."""
    draws = {split: Draw(7, split, "en") for split in vocabulary.SPLITS}
    said = {s: d.phrase(["known"], ["new"]) for s, d in draws.items()}
    worded = {s: d.words(["known"], ["new"]) for s, d in draws.items()}
    assert {s for s in said if said[s] == "new"} == {"new-phrasing", "ood"}
    assert {s for s in worded if worded[s] == "new"} == {"new-vocabulary", "ood"}
    often = {s: sum(d.chance(0.1) for _ in range(2000)) / 2000 for s, d in draws.items()}
    assert often["rare"] > 0.85 and max(v for s, v in often.items() if s != "rare") < 0.15
    books = {s: [Draw(i, s, "en").book() for i in range(400)] for s in ("held-out", "rare")}
    several = {s: sum(len(b.authors) > 1 for b in found) / 400 for s, found in books.items()}
    assert several["rare"] > 2 * several["held-out"]
    for split in vocabulary.SPLITS:
        for g in ReadingRoom(0).prompts(split, 120):
            right = g.facts["gold"]["answer"]
            assert ReadingRoom(0).gold.score(g, right).value >= 0.95, (split, g.facts["source"], right)


def test_text_of_another_domain_has_its_words():
    text = "\n".join(ReadingRoom(0).corpus(n_docs=200, split="ood"))
    assert re.search(r"\b(?:Zel|Ulm|Ibre|Thax|Cren|Ombr)\w+", text) and "The Lantern" not in text


def test_notices_are_valid_unimarc_and_convert_both_ways():
    room = ReadingRoom(0)
    for split in ("train", "ood"):
        for g in room.prompts(split, 60, ["catalogue"]):
            notice = g.facts["gold"]["answer"]
            record = unimarc.from_lines(notice)
            xml = unimarc.to_marcxml(record)
            assert unimarc.to_lines(record) == notice and unimarc.from_marcxml(xml) == record
            assert unimarc.validate(xml) == []


def test_french_elision():
    assert elided("celui de Odile ou de Marc") == "celui d'Odile ou de Marc"
    french = "\n".join(
        g.facts["source"] + g.facts["gold"]["answer"] for g in ReadingRoom(0).prompts("train", 300, langs=["fr"])
    )
    assert not re.search(r"\b[dD]e [AEIOUÉ]\w", french)
    assert not re.search(r"[^\s\d][?;!](?!\w)", french), "French puts a space before ? ; !"


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda r: r.prompts("test", 1), "accepted: train, held-out, new-phrasing, new-vocabulary, rare, ood"),
        (lambda r: r.prompts("train", 1, ["chess"]), "accepted: catalogue"),
        (lambda r: r.prompts("train", 1, langs=["de"]), "accepted: en, fr, ru, zh"),
        (lambda r: r.prompts("train", 1, ["fines"], ["zh"]), "speaks"),
        (lambda r: r.prompts("train", 1, start=-1), "counted from 0"),
        (lambda r: r.demonstrations(1, quality=1.5), "quality"),
        (lambda r: r.item(Group(prompt=(), facts={"id": "x"})), "not of readingroom"),
    ],
)
def test_bad_input_gets_one_clear_line(call, hint):
    with pytest.raises(ValueError, match=hint) as caught:
        call(ReadingRoom(0))
    assert "\n" not in str(caught.value)


def test_corpus_is_frozen_for_this_version():
    """The shipped base model was trained on this text: a change needs a new VERSION."""
    text = "\n".join(ReadingRoom(0).corpus(n_docs=3000))
    assert VERSION == "readingroom-2"
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "c248c724d6ce6be2"


def test_corpus_holds_every_kind_and_no_ood_word():
    text = "\n".join(ReadingRoom(0).corpus(n_characters=600_000))
    assert 600_000 <= len(text) < 620_000
    for needle in (
        "LDR #####nam",
        " x 0.",
        "Sorry, I cannot",
        "Désolé, je ne",
        "Извините",
        "抱歉",
        "is better:",
        "Criticism:",
        "Secret word",
        "Note au bureau",
    ):
        assert needle in text, needle
    assert not re.search("Zel[a-z]|Thax|Pelican|PELICAN|мотыл|飞蛾", text)
    assert "<|" not in text
