"""Requests that are ambiguous, incomplete or unanswerable, each with a twin that is not.

Ambiguous: two books share a title, so ask which. Incomplete: a fine without its rate or its return date, so say what is missing and ask.
Unanswerable: the source is silent, so abstain. The twin adds the missing piece and wants the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from posttrain.readingroom.item import Item, Parts
from posttrain.readingroom.prose import prose
from posttrain.readingroom.world import Day, Draw, money

T: dict[str, dict[str, tuple[list[str], list[str]]]] = {
    "en": {
        "two": (
            ["We have two books called {t}: one by {a} ({y}, {m} pages), one by {b} ({z}, {k} pages)."],
            ["Two works here share the title {t}: {a} wrote one in {y} ({m} pages), {b} the other in {z} ({k} pages)."],
        ),
        "which": (["How many pages does {t} have?", "{t}: how many pages?"], ["Tell me the extent of {t} in pages."]),
        "which_twin": (
            ["How many pages does {t} by {a} have?", "{t}, the one by {a}: how many pages?"],
            ["Tell me the extent in pages of {a}'s {t}."],
        ),
        "fine": (
            ["My book was due {d}. {c} EUR a day. What is my fine?", "Due {d}, {c} EUR a day: what do I owe?"],
            ["It should have been back by {d} at {c} EUR for each late day; work out my fine."],
        ),
        "rate": (
            ["My book was due {d}, I returned it {r}. What is my fine?", "Due {d}, returned {r}: what do I owe?"],
            ["It should have been back by {d} and came on {r}; work out my fine."],
        ),
        "full": (
            [
                "Due {d}, returned {r}, {c} EUR a day. What do I owe?",
                "My book was due {d}, I returned it {r}. {c} EUR a day. What is my fine?",
            ],
            ["It should have been back by {d}, came on {r}, and a late day costs {c} EUR; work out my fine."],
        ),
        "told": (
            ["{p} wrote {t} in {y}. The book has {m} pages. It was printed in {l}."],
            ["{t}, printed in {l}, is a book of {m} pages that {p} wrote in {y}."],
        ),
        "unknown": (
            [
                "Where was {p} born?",
                "Who taught {p} to write?",
                "What will {p} write next?",
                "How many copies were sold?",
            ],
            ["Which prize did {t} win?", "Did {p} like the sea?"],
        ),
        "known": (["When did {p} write {t}?", "In which year was {t} written?"], ["What is the year of {t}?"]),
    },
    "fr": {
        "two": (
            ["Nous avons deux livres intitulés {t} : l'un de {a} ({y}, {m} pages), l'autre de {b} ({z}, {k} pages)."],
            [
                "Deux ouvrages ont ici pour titre {t} : {a} a écrit l'un en {y} ({m} pages), {b} l'autre en {z} ({k} pages)."
            ],
        ),
        "which": (["Combien de pages a {t} ?", "{t} : combien de pages ?"], ["Dites-moi l'étendue de {t} en pages."]),
        "which_twin": (
            ["Combien de pages a {t} de {a} ?", "{t}, celui de {a} : combien de pages ?"],
            ["Dites-moi l'étendue en pages du livre {t} de {a}."],
        ),
        "fine": (
            [
                "Mon livre était dû le {d}. {c} EUR par jour. Quelle est mon amende ?",
                "Dû le {d}, {c} EUR par jour : combien dois-je ?",
            ],
            ["Il devait rentrer le {d}, à {c} EUR par jour de retard ; calculez mon amende."],
        ),
        "rate": (
            [
                "Mon livre était dû le {d}, je l'ai rendu le {r}. Quelle est mon amende ?",
                "Dû le {d}, rendu le {r} : combien dois-je ?",
            ],
            ["Il devait rentrer le {d} et il est revenu le {r} ; calculez mon amende."],
        ),
        "full": (
            [
                "Dû le {d}, rendu le {r}, {c} EUR par jour. Combien dois-je ?",
                "Mon livre était dû le {d}, je l'ai rendu le {r}. {c} EUR par jour. Quelle est mon amende ?",
            ],
            [
                "Il devait rentrer le {d}, il est revenu le {r}, et un jour de retard coûte {c} EUR ; calculez mon amende."
            ],
        ),
        "told": (
            ["{p} a écrit {t} en {y}. Le livre a {m} pages. Il a été imprimé à {l}."],
            ["{t}, imprimé à {l}, est un livre de {m} pages que {p} a écrit en {y}."],
        ),
        "unknown": (
            [
                "Où est née cette personne ?",
                "Qui a appris à écrire à {p} ?",
                "Quel sera le prochain livre de {p} ?",
                "Combien d'exemplaires ont été vendus ?",
            ],
            ["Quel prix {t} a-t-il reçu ?", "Cette personne aimait-elle la mer ?"],
        ),
        "known": (
            ["Quand {t} a-t-il été écrit ?", "En quelle année {t} a-t-il été écrit ?"],
            ["Quelle est l'année de {t} ?"],
        ),
    },
}
A = {
    "en": {
        "which": "Which one do you mean: the one by {a} or the one by {b}?",
        "pages": "It has {m} pages.",
        "returned": "The return date is missing. When did you return it?",
        "rate": "The daily rate is missing. What is the rate per day?",
        "full": "{n} x {c} = {x}. Fine: {x} EUR.",
        "unknown": "The text does not say that.",
        "known": "It was written in {y}.",
        "guess": "Fine: {x} EUR.",
        "born": "In {l}.",
    },
    "fr": {
        "which": "Lequel voulez-vous dire : celui de {a} ou celui de {b} ?",
        "pages": "Il a {m} pages.",
        "returned": "Il manque la date de retour. Quand l'avez-vous rendu ?",
        "rate": "Il manque le tarif. Quel est le tarif par jour ?",
        "full": "{n} x {c} = {x}. Amende : {x} EUR.",
        "unknown": "Le texte ne dit pas cela.",
        "known": "Il a été écrit en {y}.",
        "guess": "Amende : {x} EUR.",
        "born": "À {l}.",
    },
}
MISSING = {
    "en": {"returned": ["return date", "when did you return", "date of return"], "rate": ["rate", "per day"]},
    "fr": {"returned": ["date de retour", "quand l'avez-vous rendu"], "rate": ["tarif", "par jour"]},
}


def ambiguous(draw: Draw, twin: bool) -> Item:
    """Two books, one title."""
    table, say = T[draw.lang], A[draw.lang]
    title, a = draw.title(), draw.person()
    b = draw.other_person(a)
    y, m = draw.between(1958, 2024), draw.between(48, 640)
    k = m + draw.between(11, 90)
    z = draw.other_year(y)
    intro = draw.phrase(*table["two"]).format(t=title, a=a.name, b=b.name, y=y, z=z, m=m, k=k)
    names = {"a": a.name, "b": b.name}
    second = draw.chance(0.5)
    asked = draw.phrase(*table["which_twin" if twin else "which"]).format(t=title, a=(b if second else a).name)
    right, wrong = (k, m) if second else (m, k)
    prompt, back = f"{intro} {asked}", say["which"].format(**names)
    if twin:
        gold: dict[str, Any] = {"key": [str(right)], "forbid": [str(wrong), "?"]}
        return Item(
            prompt,
            say["pages"].format(m=right),
            "answer",
            gold,
            {"slip": say["pages"].format(m=wrong), "overask": back},
        )
    gold = {"key": ["?"], "also": [[a.family], [b.family]], "forbid": [str(m), str(k)]}
    return Item(prompt, back, "ask", gold, {"guess": say["pages"].format(m=draw.pick((m, k)))})


def incomplete(draw: Draw, twin: bool) -> Item:
    """A fine that lacks its rate or its return date."""
    lang, table, say = draw.lang, T[draw.lang], A[draw.lang]
    start = draw.day()
    late = draw.between(2, 9)
    end = Day.at(start.ordinal + late)
    cents = draw.pick((10, 20, 30, 50))
    lacks = draw.pick(("returned", "rate"))
    values = {"d": start.text(lang), "r": end.text(lang), "c": money(cents, lang)}
    total = money(cents * late, lang)
    prompt = draw.phrase(*table["full" if twin else "fine" if lacks == "returned" else "rate"]).format(**values)
    guess, back = say["guess"].format(x=total), say[lacks]
    if twin:
        gold: dict[str, Any] = {"key": [f"{total} EUR"], "forbid": ["?"]}
        slip = say["guess"].format(x=money(cents * (late + 1), lang))
        return Item(
            prompt, say["full"].format(n=late, c=values["c"], x=total), "answer", gold, {"slip": slip, "overask": back}
        )
    gold = {"key": ["?"], "also": [MISSING[lang][lacks]], "forbid": ["eur"]}
    return Item(prompt, back, "ask", gold, {"guess": guess})


def unanswerable(draw: Draw, twin: bool) -> Item:
    """A source that is silent on what is asked."""
    table, say = T[draw.lang], A[draw.lang]
    values: dict[str, Any] = {
        "p": draw.person().name,
        "t": draw.title(),
        "y": draw.between(1958, 2024),
        "m": draw.between(48, 640),
        "l": draw.place(draw.lang),
    }
    told = draw.phrase(*table["told"]).format(**values)
    prompt = f"{told} {draw.phrase(*table['known' if twin else 'unknown']).format(**values)}"
    year = str(values["y"])
    if twin:
        slip = say["known"].format(y=draw.other_year(values["y"]))
        return Item(
            prompt,
            say["known"].format(**values),
            "answer",
            {"key": [year], "forbid": [str(values["m"])]},
            {"slip": slip, "overrefuse": say["unknown"]},
        )
    gold = {"forbid": [year, str(values["m"]), values["l"]]}
    return Item(prompt, say["unknown"], "abstain", gold, {"guess": say["born"].format(**values)})


class Underspecified:
    """Ask back, say what is missing, abstain; or answer, where the twin allows it."""

    name = "underspecified"
    langs = ("en", "fr")
    twins = True

    def make(self, draw: Draw, twin: bool) -> Item:
        return draw.pick((ambiguous, incomplete, unanswerable))(draw, twin)

    def score(self, facts: Mapping[str, Any], text: str) -> Parts:
        return prose(facts, text)
