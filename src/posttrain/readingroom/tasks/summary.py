"""Source-bound summaries: one sentence that keeps the points asked for and adds nothing.

The source is a short desk report about a book or an event; names and numbers that it lacks are inventions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from posttrain.readingroom.item import Item, Parts
from posttrain.readingroom.prose import prose
from posttrain.readingroom.world import Draw

T: dict[str, dict[str, tuple[list[str], list[str]]]] = {
    "en": {
        "ask": (
            ["Summarise in one sentence:", "Sum this up in one sentence:", "In short, please:"],
            ["Give me the gist in a line:"],
        ),
        "gift": (
            ["On {d}, {p} gave {n} books to the library of {l}.", "{p} gave the library of {l} {n} books on {d}."],
            ["It was on {d} that the library of {l} received {n} books from {p}."],
        ),
        "show": (
            ["The library of {l} opens a show on {s} on {d}. It was prepared by {p}. There are {n} pieces."],
            ["Prepared by {p}, a show on {s} with {n} pieces opens in the library of {l} on {d}."],
        ),
        "class": (
            ["From {d}, {p} teaches {s} in the library of {l}. There are {n} seats."],
            ["{n} seats wait for those who would learn {s} with {p}, from {d}, in the library of {l}."],
        ),
        "noise": (
            [
                "The weather was fine.",
                "Tea was served.",
                "The hall had been painted.",
                "Many people came.",
                "A band played.",
                "The doors open early.",
                "Children were welcome.",
            ],
            ["The stairs creaked as usual.", "A cat slept through it all."],
        ),
        "gold_gift": (["{p} gave {n} books to the library of {l} on {d}."], []),
        "gold_show": (["A show on {s} by {p}, with {n} pieces, opens in {l} on {d}."], []),
        "gold_class": (["{p} teaches {s} in {l} from {d}, with {n} seats."], []),
    },
    "fr": {
        "ask": (
            ["Résumez en une phrase :", "Dites cela en une phrase :", "En bref, s'il vous plaît :"],
            ["Donnez-moi l'essentiel en une ligne :"],
        ),
        "gift": (
            [
                "Le {d}, {p} a donné {n} livres à la bibliothèque de {l}.",
                "{p} a donné à la bibliothèque de {l} {n} livres le {d}.",
            ],
            ["C'est le {d} que la bibliothèque de {l} a reçu {n} livres de {p}."],
        ),
        "show": (
            [
                "La bibliothèque de {l} ouvre une exposition le {d}. Thème : {s}. Elle a été préparée par {p}. Il y a {n} pièces."
            ],
            ["Préparée par {p}, une exposition de {n} pièces (thème : {s}) ouvre à la bibliothèque de {l} le {d}."],
        ),
        "class": (
            ["Dès le {d}, {p} donne un cours à la bibliothèque de {l}. Thème : {s}. Il y a {n} places."],
            [
                "{n} places attendent ceux qui suivront, dès le {d}, le cours de {p} (thème : {s}) à la bibliothèque de {l}."
            ],
        ),
        "noise": (
            [
                "Il faisait beau.",
                "On a servi du thé.",
                "La salle venait d'être repeinte.",
                "Beaucoup de gens sont venus.",
                "Un orchestre a joué.",
                "Les portes ouvrent tôt.",
                "Les enfants étaient invités.",
            ],
            ["L'escalier grinçait comme toujours.", "Un chat a dormi tout du long."],
        ),
        "gold_gift": (["{p} a donné {n} livres à la bibliothèque de {l} le {d}."], []),
        "gold_show": (["Une exposition de {p} (thème : {s}), avec {n} pièces, ouvre à {l} le {d}."], []),
        "gold_class": (["{p} donne un cours à {l} dès le {d} (thème : {s}), avec {n} places."], []),
    },
}
CAPITAL = re.compile(r"(?<=[a-zàâçéèêëîïôûùüœ,:;] )[A-ZÀÂÇÉÈÊËÎÏÔÛÙÜŒ][\w-]+")


class Summary:
    """One sentence on a short report."""

    name = "summary"
    langs = ("en", "fr")
    twins = False

    def make(self, draw: Draw, twin: bool) -> Item:
        lang, table = draw.lang, T[draw.lang]
        kind = draw.pick(("gift", "show", "class"))
        person, other = draw.person(), draw.person()
        book = draw.book(rich=1.0)
        facts = {
            "p": person.name,
            "n": draw.between(12, 480),
            "l": draw.place(lang),
            "d": draw.day().text(lang),
            "s": (book.subject or "").lower(),
        }
        core = draw.phrase(*table[kind]).format(**facts)
        count = draw.between(3, 4) if draw.ood else draw.between(1, 3)
        noise = [draw.phrase(*table["noise"]) for _ in range(count)]
        sentences = [core, *dict.fromkeys(noise)]
        draw.rng.shuffle(sentences)
        text = " ".join(sentences)
        prompt = f"{draw.phrase(*table['ask'])}\n{text}"
        told = table[f"gold_{kind}"][0][0]
        answer = told.format(**facts)
        points = ["p", "n", "l", "d"] + (["s"] if kind != "gift" else [])
        must = [[str(facts[k]) if k != "p" else person.family] for k in points]
        flaws = {
            "slip": told.format(**{**facts, "n": int(str(facts["n"])) + draw.pick((-10, -1, 1, 10, 100))}),
            "swap": told.format(**{**facts, "p": other.name}),
            "miss": draw.pick([s for s in sentences if s != core]),
            "copy": text,
        }
        return Item(prompt, answer, "answer", {"key": must[0], "also": must[1:]}, flaws)

    def score(self, facts: Mapping[str, Any], text: str) -> Parts:
        parts = prose(facts, text)
        source = facts["source"]
        if len(re.findall(r"[.!?](?:\s|$)", text)) > 1:
            parts = parts._replace(correct=parts.correct * 0.25, why=("more than one sentence", *parts.why))
        invented = [w for w in CAPITAL.findall(text) if w not in source and w not in facts["gold"]["answer"]]
        if not invented:
            return parts
        return parts._replace(honest=0.0, why=(f"invents {invented[0]!r}", *parts.why))
