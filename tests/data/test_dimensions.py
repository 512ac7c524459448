"""Clarity, accuracy, style and diversity: planted faults lower the figure that is theirs, and no other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from posttrain.core.group import Group, Score, group
from posttrain.data.dimensions import address, answerable, measured, unexplained
from posttrain.jobs.job import Context
from posttrain.jobs.refining import DataJob

TOPICS = (
    "bees",
    "mills",
    "clocks",
    "rivers",
    "bread",
    "songs",
    "maps",
    "bridges",
    "gardens",
    "schools",
    "weaving",
    "tides",
)


def rows(n: int = 60, lang: str = "fr") -> list[Group]:
    made = []
    for i in range(n):
        t = TOPICS[i % len(TOPICS)]
        texts = {
            "fr": (
                f"Que savez-vous de {t}, page {i} ?",
                f"Vous trouverez {t} à la page {i}, avec une note de {i + 7} mots.",
            ),
            "en": (f"What is known of {t}, page {i}?", f"Page {i} speaks of {t}, with a note of {i + 7} words."),
        }
        made.append(group(*texts[lang], facts={"id": f"{lang}{i}", "lang": lang}))
    return made


def values(made: list[dict[str, Any]], lang: str = "fr") -> dict[str, dict[str, Any]]:
    return {e["figure"]: e for e in made if e["lang"] == lang}


def spoilt(clean: list[Group], ask: str | None = None, say: str | None = None) -> list[Group]:
    """Every fourth row gets another request or answer."""
    return [
        group(
            f"{ask} {g.id}" if ask else g.prompt_text, f"{say} {g.id}." if say else g.responses[0].text, facts=g.facts
        )
        if i % 4 == 0
        else g
        for i, g in enumerate(clean)
    ]


@pytest.mark.parametrize(
    ("figure", "fault"),
    [
        ("clarity: answerable as it stands", {"ask": "Résumez le texte ci-dessus"}),
        ("clarity: no unexplained abbreviation", {"say": "Vous verrez cela au SRGX avant midi, page"}),
        ("clarity: sentences of at most 40 words", {"say": "Vous lirez " + "encore et encore un mot, " * 9}),
        ("style: form of address", {"say": "Tu trouveras cela dans ton livre, page"}),
        ("style: markup", {"say": "**Voici** ce que vous cherchez, page"}),
        ("style: length", {"say": "Vous lirez ceci. " * 30}),
    ],
)
def test_a_fault_lowers_its_figure_and_no_other(figure: str, fault: dict[str, str]) -> None:
    clean, bad = values(measured(rows())), values(measured(spoilt(rows(), **fault)))
    assert clean[figure]["value"][0] == 1.0 and clean[figure]["value"][1] > 0.9
    assert bad[figure]["verdict"] == "below" and bad[figure]["value"][0] == pytest.approx(0.75)
    others = [n for n, e in bad.items() if n != figure and e["verdict"] == "below"]
    assert others in ([], ["style: length"] if "sentences" in figure else []), others


def test_accuracy_is_a_verifiers_and_languages_stand_apart() -> None:
    def wrong_in_english(groups: Any) -> list[list[Score]]:
        return [[Score(0.0 if g.facts["lang"] == "en" else 1.0)] for g in groups]

    both = [*rows(40), *rows(40, "en")]
    told = measured(both, accuracy=wrong_in_english)  # type: ignore[arg-type]
    assert told[0]["figure"] == "accuracy" and told[0]["lang"] == "en" and told[0]["verdict"] == "below"
    assert values(told)["accuracy"]["value"][0] == 1.0 and "style: form of address" not in values(told, "en")
    assert "accuracy" not in values(measured(both))
    assert "diversity: distinct_2" in values(measured(rows(90)))


def test_what_is_read_from_a_text() -> None:
    assert answerable("Translate the text below:\nIl pleut.") and not answerable(
        "Summarise the passage mentioned above."
    )
    assert unexplained("The SRGX meets at noon; the Royal Guild of Mills (RGM) too, for 5 EUR.") == ["SRGX"]
    assert unexplained("STOP ALL WORK NOW") == []
    assert [address(t, "ru") for t in ("Где твой билет?", "Покажите ваш билет.", "Ты и вы.", "Дождь.")] == [
        "near",
        "far",
        "both",
        None,
    ]
    assert address("您好", "zh") == "far" and address("you", "en") is None


def test_the_card_shows_what_is_below_its_line(tmp_path: Path) -> None:
    source = tmp_path / "s.jsonl"
    made = [replace(g, facts={**g.facts, "answer": g.responses[0].text}) for g in rows()]
    made = spoilt(made, say="Tu trouveras cela dans ton livre, page")
    source.write_text("".join(json.dumps(g.to_json()) + "\n" for g in made), encoding="utf-8")
    DataJob(data=str(source), out=str(tmp_path / "c.jsonl"), near=None, accuracy="exact").run(Context(bars=False))
    card = (tmp_path / "c.jsonl.card.md").read_text(encoding="utf-8")
    table = card[card.index("## Clarity, accuracy, style, diversity") :]
    assert max(table.index(f"{f} | fr | 0.75") for f in ("style: form of address", "accuracy")) < table.index(
        "not decided"
    )
    DataJob(data=str(source), out=str(tmp_path / "m.jsonl"), near=None).run(Context(bars=False))
    assert "Not measured: accuracy" in (tmp_path / "m.jsonl.card.md").read_text(encoding="utf-8")
    DataJob(data=str(source), out=str(tmp_path / "n.jsonl"), near=None, dimensions=False).run(Context(bars=False))
    assert "Clarity" not in (tmp_path / "n.jsonl.card.md").read_text(encoding="utf-8")
