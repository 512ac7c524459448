"""Cataloguing: a described book to a UNIMARC notice.

The description comes as prose, as sentences in any order or as labelled lines, with missing facts, distractors (shelf, price, donor,
an earlier edition) and conflicts (the title page prevails over the cover). Scored by content subfields; the fixed lines count for form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from posttrain.readingroom import vocabulary as v
from posttrain.readingroom.item import Item, Parts
from posttrain.readingroom.notice import content, lines
from posttrain.readingroom.prose import concise, fold
from posttrain.readingroom.world import Book, Draw

WEIGHTS = {"200a": 3.0, "200f": 2.0, "210d": 2.0, "010a": 2.0}

ASK = {
    "en": (
        ["Catalogue this book.", "Write the notice.", "Make a UNIMARC notice.", "Please catalogue:"],
        ["A notice for this one, please.", "Turn this into a notice."],
    ),
    "fr": (
        ["Cataloguez ce livre.", "Rédigez la notice.", "Faites une notice UNIMARC.", "À cataloguer :"],
        ["Une notice pour celui-ci, s'il vous plaît.", "Faites-en une notice."],
    ),
}
PIECES: dict[str, dict[str, tuple[list[str], list[str]]]] = {
    "en": {
        "number": (["Notice number {}.", "Number {}.", "No. {}."], ["It takes number {}."]),
        "title": (
            ["{t}, by {a}.", "Title: {t}. Author: {a}.", "{a} wrote {t}."],
            ["On the title page: {a}, {t}.", "We received {t}; {a} signed it."],
        ),
        "subtitle": (["Subtitle: {}.", "Under the title: {}."], ["The title goes on: {}."]),
        "imprint": (
            ["{c}, {p} ({k}), {y}.", "Published in {p}, {k}, by {c} in {y}.", "{p} ({k}): {c}, {y}."],
            ["{c} of {p}, {k}, brought it out in {y}.", "It left the presses of {c}, {p}, {k}, in {y}."],
        ),
        "extent": (
            ["{} pages, {} cm.", "{} p., {} cm.", "It has {} pages and is {} cm tall."],
            ["Count {} pages; height {} cm."],
        ),
        "isbn": (["ISBN {}.", "ISBN: {}."], ["Its ISBN reads {}."]),
        "language": (["In {}.", "Text in {}.", "Language: {}."], ["The text is {}."]),
        "original": (
            ["In {}, translated from {}.", "Text in {}, from the {}."],
            ["The text is {}, after the {} original."],
        ),
        "series": (
            ["Series: {}, {}.", "In the series {}, volume {}."],
            ["It is part {1} of {0}.", "Belongs to {}, as number {}."],
        ),
        "subject": (["Subject: {}.", "About: {}."], ["It deals with this: {}."]),
        "noise": (
            [
                "Shelf {n}.",
                "Price {n}.50 EUR.",
                "Given by {x}.",
                "First edition {e}.",
                "The cover says {e}, the title page {y}.",
                "Preface by {x}.",
            ],
            [
                "It lay in box {n}.",
                "The jacket is dated {e}; the title page has {y}.",
                "{x} left it to us.",
                "An earlier printing is from {e}.",
            ],
        ),
    },
    "fr": {
        "number": (["Notice numéro {}.", "Numéro {}.", "N° {}."], ["Elle porte le numéro {}."]),
        "title": (
            ["{t}, par {a}.", "Titre : {t}. Auteur : {a}.", "{t}, écrit par {a}."],
            ["Sur la page de titre : {a}, {t}.", "Nous avons reçu {t}, signé {a}."],
        ),
        "subtitle": (["Sous-titre : {}.", "Sous le titre : {}."], ["Le titre continue : {}."]),
        "imprint": (
            ["{c}, {p} ({k}), {y}.", "Publié à {p}, {k}, par {c} en {y}.", "{p} ({k}) : {c}, {y}."],
            ["{c}, de {p}, {k}, l'a fait paraître en {y}.", "Sorti des presses en {y} : {c}, {p}, {k}."],
        ),
        "extent": (
            ["{} pages, {} cm.", "{} p., {} cm.", "Il a {} pages et {} cm de haut."],
            ["On compte {} pages ; hauteur {} cm."],
        ),
        "isbn": (["ISBN {}.", "ISBN : {}."], ["Son ISBN se lit {}."]),
        "language": (["En {}.", "Texte en {}.", "Langue : {}."], ["Le texte est en {}."]),
        "original": (
            ["En {}, traduit {}.", "Texte en {}, traduit {}."],
            ["Le texte est en {}, mais il fut traduit {}."],
        ),
        "series": (
            ["Collection : {}, {}.", "Dans la collection {}, volume {}."],
            ["C'est la partie {1} de {0}.", "Relève de {}, au numéro {}."],
        ),
        "subject": (["Sujet : {}.", "Thème : {}."], ["On y traite de ceci : {}."]),
        "noise": (
            [
                "Rayon {n}.",
                "Prix {n},50 EUR.",
                "Donné par {x}.",
                "Première édition {e}.",
                "La couverture dit {e}, la page de titre {y}.",
                "Préface de {x}.",
            ],
            [
                "Il était dans la boîte {n}.",
                "La jaquette est datée {e} ; la page de titre porte {y}.",
                "{x} nous l'a légué.",
                "Un tirage plus ancien est de {e}.",
            ],
        ),
    },
}
AND = {"en": " and ", "fr": " et "}


def names(book: Book, lang: str) -> str:
    """Authors as a sentence lists them: A, B and C."""
    parts = [a.name for a in book.authors]
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + AND[lang] + parts[-1]


def describe(draw: Draw, book: Book, noise: int) -> str:
    """The book in sentences; all but the first two come in any order. noise: number of distractors."""
    lang, table = draw.lang, PIECES[draw.lang]

    def say(key: str, *values: object, **named: object) -> str:
        return draw.phrase(*table[key]).format(*values, **named)

    opening = [say("number", book.number), say("title", t=book.title, a=names(book, lang))]
    if draw.chance(0.5):
        opening.reverse()
    rest = [say("imprint", c=book.publisher, p=book.place, k=v.COUNTRIES[lang][book.country], y=book.year)]
    rest.append(say("extent", book.pages, book.size))
    own = v.LANGUAGES[lang][v.CODE_OF[book.lang]]
    rest.append(say("original", own, v.ORIGINALS[lang][book.original]) if book.original else say("language", own))
    if book.isbn:
        rest.append(say("isbn", book.isbn))
    if book.series:
        rest.append(say("series", *book.series))
    if book.subject:
        rest.append(say("subject", book.subject))
    for _ in range(noise):
        earlier = draw.other_year(book.year)
        rest.append(
            say(
                "noise",
                n=draw.between(10, 90),
                x=draw.other_person(*book.authors).name,
                e=min(earlier, 2 * book.year - earlier),
                y=book.year,
            )
        )
    draw.rng.shuffle(rest)
    if book.subtitle:
        opening.append(say("subtitle", book.subtitle))
    return (" " if draw.chance(0.7) else "\n").join(opening + rest)


def slipped(draw: Draw, book: Book, notice: str) -> str:
    """The notice with one wrong fact: year, pages, publisher's place or an author's name."""
    kind = draw.between(0, 3)
    if kind == 0:
        return notice.replace(f"$d{book.year}", f"$d{draw.other_year(book.year)}")
    if kind == 1:
        return notice.replace(f"$a{book.pages} p.", f"$a{book.pages + draw.pick((-10, -1, 1, 9, 10))} p.")
    if kind == 2:
        return notice.replace(f"$a{book.place}$c", f"$a{draw.place(book.lang)}$c")
    return notice.replace(book.authors[0].family, draw.other_person(*book.authors).family)


class Catalogue:
    """The task of turning a description into a notice."""

    name = "catalogue"
    langs = ("en", "fr")
    twins = False

    def make(self, draw: Draw, twin: bool) -> Item:
        lang = draw.lang
        book = draw.book(rich=0.6 if draw.ood else 0.3, lang=draw.pick(("en", "fr")) if draw.chance(0.3) else lang)
        noise = draw.between(1, 2) if draw.ood else draw.pick((0, 0, 1))
        text = describe(draw, book, noise)
        ask = draw.phrase(*ASK[lang])
        prompt = f"{text}\n{ask.replace(':', '.').replace(' .', '.')}" if draw.chance(0.3) else f"{ask}\n{text}"
        notice = lines(book, lang)
        fields = notice.split("\n")
        content_at = [i for i, f in enumerate(fields) if f[:3] in ("010", "102", "210", "215", "701", "606", "225")]
        gone = draw.pick(content_at)
        flaws = {
            "slip": slipped(draw, book, notice),
            "miss": "\n".join(f for i, f in enumerate(fields) if i != gone),
            "short": "\n".join(f for f in fields if f[:3] in ("LDR", "001", "200", "210")),
        }
        return Item(prompt, notice, "answer", {}, flaws)

    def score(self, facts: Mapping[str, Any], text: str) -> Parts:
        return score(facts, text)


def score(facts: Mapping[str, Any], text: str) -> Parts:
    """Squared F over weighted content subfields for correct, recall for complete, invented subfields for honest, fixed lines for form."""
    answer = facts["gold"]["answer"]
    wanted, fixed, _ = content(answer)
    given, other, broken = content(text)
    left = list(wanted)
    hit = total = 0.0
    invented: list[str] = []
    wrong: list[str] = []
    source = fold(facts["source"])
    for triple in given:
        weight = _weight(triple)
        total += weight
        if triple in left:
            left.remove(triple)
            hit += weight
        else:
            wrong.append(triple[0] + triple[1])
            if triple[1] and len(triple[2]) > 3 and fold(triple[2]).removesuffix(" p.") not in source:
                invented.append(triple[2])
    need = sum(map(_weight, wanted))
    precision, recall = (hit / total if total else 0.0), hit / need
    f = 2 * precision * recall / (precision + recall) if hit else 0.0
    present = sum(line in other for line in fixed)
    extra = len(other) - present
    well_formed = max(0.0, present / len(fixed) - 0.15 * (broken + extra)) if text.strip() else 0.0
    why = [f"wrong {w}" for w in wrong[:2]] + [f"lacks {t}{c}" for t, c, _ in left if t + c not in wrong][:2]
    if invented:
        why.append(f"invents {invented[0]!r}")
    if well_formed < 1:
        why.append(f"{broken} broken lines, {len(fixed) - present} fixed lines missing, {extra} too many")
    honest = 0.75 ** len(invented)
    return Parts(f * f, recall, honest, 1.0, concise(text, answer), well_formed, tuple(why))


def _weight(triple: tuple[str, str, str]) -> float:
    """Weight of a subfield; indicators (code empty) count little, the author code nothing."""
    if not triple[1]:
        return 0.1
    if triple[1] == "4":
        return 0.05
    return WEIGHTS.get(triple[0] + triple[1], 1.0)
