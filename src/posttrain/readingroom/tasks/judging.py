"""Work on answers: judge two, criticise one, revise after a criticism, ask the question behind one.

All four stand on the same ground: a source, a question about it, a right answer and a flawed one. Bases for judges, self-critique and
back-questions later; the scorer is that of prose, with the verdict as the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from posttrain.readingroom.item import Item, Parts
from posttrain.readingroom.prose import prose
from posttrain.readingroom.tasks.wrong_user import KINDS, wrong_value
from posttrain.readingroom.tasks.wrong_user import T as CLAIMS
from posttrain.readingroom.world import Draw

T: dict[str, dict[str, Any]] = {
    "en": {
        "ask": {
            "year": ["In which year was it published?", "When did it come out?"],
            "author": ["Who wrote it?", "Who is the author?"],
            "pages": ["How many pages does it have?"],
            "place": ["Where was it published?", "In which place did it come out?"],
        },
        "told": {
            "year": "It was published in {}.",
            "author": "It was written by {}.",
            "pages": "It has {} pages.",
            "place": "It was published in {}.",
        },
        "full": {
            "year": "{t} was published in {v}.",
            "author": "{t} was written by {v}.",
            "pages": "{t} has {v} pages.",
            "place": "{t} was published in {v}.",
        },
        "back": {
            "year": "In which year was {t} published?",
            "author": "Who wrote {t}?",
            "pages": "How many pages does {t} have?",
            "place": "Where was {t} published?",
        },
        "cue": {
            "year": ["year", "when"],
            "author": ["who", "author"],
            "pages": ["pages", "how long"],
            "place": ["where", "place"],
        },
        "noun": {"year": "year", "author": "author", "pages": "number of pages", "place": "place"},
        "declines": "I do not know.",
        "padded": "Thank you for this good question. I looked at the text with care. {} I hope that this helps you.",
        "judge": (
            ["Which answer is better, A or B?", "Choose the better answer and say why.", "A or B?"],
            ["Weigh both replies and name the winner."],
        ),
        "slip": "{w} is better: {l} gives a wrong {n}.",
        "silent": "{w} is better: {l} does not answer.",
        "long": "{w} is better: {l} is too long.",
        "critique": (
            ["Criticise this answer: {x}", "What is wrong with this answer? {x}", "Check this answer: {x}"],
            ["Point out the fault, if any: {x}"],
        ),
        "bad": "The {n} is wrong: {g}, not {b}.",
        "good": "The answer is right.",
        "right": ["right", "correct"],
        "wrong": ["wrong"],
        "revise": (
            ["Answer: {x}\nCriticism: {c}\nRevise the answer.", "Answer: {x}\nCriticism: {c}\nWrite it again."],
            ["A first reply: {x}\nAn objection: {c}\nGive the mended reply."],
        ),
        "length": "Too long.",
        "behind": (
            ["Which question does this answer? {x}", "Write the question behind this answer: {x}"],
            ["Someone replied: {x} What had been asked?"],
        ),
    },
    "fr": {
        "ask": {
            "year": ["En quelle année a-t-il été publié ?", "Quand a-t-il paru ?"],
            "author": ["Qui l'a écrit ?", "Qui en est l'auteur ?"],
            "pages": ["Combien de pages a-t-il ?"],
            "place": ["Où a-t-il été publié ?", "Dans quel lieu a-t-il paru ?"],
        },
        "told": {
            "year": "Il a été publié en {}.",
            "author": "Il a été écrit par {}.",
            "pages": "Il a {} pages.",
            "place": "Il a été publié à {}.",
        },
        "full": {
            "year": "{t} a été publié en {v}.",
            "author": "{t} a été écrit par {v}.",
            "pages": "{t} a {v} pages.",
            "place": "{t} a été publié à {v}.",
        },
        "back": {
            "year": "En quelle année {t} a-t-il été publié ?",
            "author": "Qui a écrit {t} ?",
            "pages": "Combien de pages a {t} ?",
            "place": "Où {t} a-t-il été publié ?",
        },
        "cue": {"year": ["année", "quand"], "author": ["qui", "auteur"], "pages": ["pages"], "place": ["où", "lieu"]},
        "noun": {"year": "année", "author": "auteur", "pages": "nombre de pages", "place": "lieu"},
        "declines": "Je ne sais pas.",
        "padded": "Merci pour cette bonne question. J'ai lu le texte avec soin. {} J'espère que cela vous aide.",
        "judge": (
            [
                "Quelle réponse est la meilleure, A ou B ?",
                "Choisissez la meilleure réponse et dites pourquoi.",
                "A ou B ?",
            ],
            ["Pesez les deux répliques et nommez celle qui l'emporte."],
        ),
        "slip": "{w} est meilleure : {l} se trompe ({n}).",
        "silent": "{w} est meilleure : {l} ne répond pas.",
        "long": "{w} est meilleure : {l} est trop longue.",
        "critique": (
            [
                "Critiquez cette réponse : {x}",
                "Qu'est-ce qui ne va pas dans cette réponse ? {x}",
                "Vérifiez cette réponse : {x}",
            ],
            ["Relevez la faute, s'il y en a une : {x}"],
        ),
        "bad": "C'est faux ({n}) : {g}, et non {b}.",
        "good": "La réponse est juste.",
        "right": ["juste", "exacte"],
        "wrong": ["faux", "trompe"],
        "revise": (
            ["Réponse : {x}\nCritique : {c}\nCorrigez la réponse.", "Réponse : {x}\nCritique : {c}\nRécrivez-la."],
            ["Première réplique : {x}\nObjection : {c}\nDonnez la réplique amendée."],
        ),
        "length": "Trop longue.",
        "behind": (
            ["À quelle question ceci répond-il ? {x}", "Écrivez la question qui mène à cette réponse : {x}"],
            ["On a répliqué : {x} Qu'avait-on demandé ?"],
        ),
    },
}
QUESTION = {"en": "Question: {}", "fr": "Question : {}"}
ANSWERS = {"en": "A: {}\nB: {}", "fr": "A : {}\nB : {}"}


class Ground(NamedTuple):
    """A source, a question and its true and false values."""

    kind: str
    source: str
    question: str
    title: str
    truth: str
    wrong: str

    def key(self) -> str:
        return self.truth.split()[-1] if self.kind == "author" else self.truth

    def slip(self) -> str:
        return self.wrong.split()[-1] if self.kind == "author" else self.wrong


def ground(draw: Draw) -> Ground:
    """A fresh ground in the stream's language."""
    book, kind = draw.book(rich=0.0), draw.pick(KINDS)
    truth = {"year": str(book.year), "author": book.authors[0].name, "pages": str(book.pages), "place": book.place}[
        kind
    ]
    values = {
        "t": book.title,
        "a": book.authors[0].name,
        "c": book.publisher,
        "l": book.place,
        "y": book.year,
        "m": book.pages,
    }
    source = draw.phrase(*CLAIMS[draw.lang]["source"]).format(**values)
    return Ground(kind, source, draw.pick(T[draw.lang]["ask"][kind]), book.title, truth, wrong_value(draw, book, kind))


class Judge:
    """Which of two answers is better, and why."""

    name = "judge"
    langs = ("en", "fr")
    twins = False

    def make(self, draw: Draw, twin: bool) -> Item:
        table, base = T[draw.lang], ground(draw)
        told = table["told"][base.kind]
        good = told.format(base.truth)
        fault = draw.pick(("slip", "slip", "silent", "long"))
        bad = {"slip": told.format(base.wrong), "silent": table["declines"], "long": table["padded"].format(good)}[
            fault
        ]
        w, other = ("A", "B") if draw.chance(0.5) else ("B", "A")
        pair = ANSWERS[draw.lang].format(*((good, bad) if w == "A" else (bad, good)))
        prompt = f"{base.source}\n{QUESTION[draw.lang].format(base.question)}\n{pair}\n{draw.phrase(*table['judge'])}"
        noun = table["noun"][base.kind]
        answer = table[fault].format(w=w, l=other, n=noun)
        better = table["slip"].partition("{w}")[2].partition(":")[0].strip()
        reasons = {"slip": [noun], "silent": ["does not answer", "ne répond pas"], "long": ["too long", "trop longue"]}[
            fault
        ]
        gold = {"key": [f"{w} {better}"], "also": [reasons], "forbid": [f"{other} {better}"]}
        swapped = table[fault].format(w=other, l=w, n=noun)
        faults = [f for f in ("slip", "silent", "long") if f != fault]
        return Item(
            prompt,
            answer,
            "answer",
            gold,
            {"slip": swapped, "reason": table[draw.pick(faults)].format(w=w, l=other, n=noun)},
        )

    def score(self, facts: Mapping[str, Any], text: str) -> Parts:
        return prose(facts, text)


class Critique:
    """What is wrong with an answer; the twin is a right answer."""

    name = "critique"
    langs = ("en", "fr")
    twins = True

    def make(self, draw: Draw, twin: bool) -> Item:
        table, base = T[draw.lang], ground(draw)
        shown = table["told"][base.kind].format(base.truth if twin else base.wrong)
        ask = draw.phrase(*table["critique"]).format(x=shown)
        prompt = f"{base.source}\n{QUESTION[draw.lang].format(base.question)}\n{ask}"
        noun = table["noun"][base.kind]
        fault = table["bad"].format(n=noun, g=base.truth, b=base.wrong)
        if twin:
            return Item(
                prompt,
                table["good"],
                "answer",
                {"key": table["right"], "forbid": [*table["wrong"], base.slip()]},
                {"slip": fault},
            )
        gold = {"key": table["wrong"], "also": [[noun], [base.key()]], "forbid": table["right"]}
        return Item(
            prompt,
            fault,
            "answer",
            gold,
            {"slip": table["good"], "miss": fault.partition(" :" if draw.lang == "fr" else ":")[0] + "."},
        )

    def score(self, facts: Mapping[str, Any], text: str) -> Parts:
        return prose(facts, text)


class Revise:
    """An answer mended after a criticism; one called too long must become short."""

    name = "revise"
    langs = ("en", "fr")
    twins = False

    def make(self, draw: Draw, twin: bool) -> Item:
        table, base = T[draw.lang], ground(draw)
        told = table["told"][base.kind]
        good, bad = told.format(base.truth), told.format(base.wrong)
        noun = table["noun"][base.kind]
        if draw.chance(0.3):
            shown, said = table["padded"].format(good), table["length"]
        elif draw.chance(0.3):
            shown, said = (
                bad,
                table["bad"].format(n=noun, g="?", b=base.wrong).partition(" :" if draw.lang == "fr" else ":")[0] + ".",
            )
        else:
            shown, said = bad, table["bad"].format(n=noun, g=base.truth, b=base.wrong)
        prompt = f"{base.source}\n{QUESTION[draw.lang].format(base.question)}\n{draw.phrase(*table['revise']).format(x=shown, c=said)}"
        gold: dict[str, Any] = {"key": [base.key()], "forbid": [base.slip()]}
        if said == table["length"]:
            gold["limit"] = len(good) + 20
        return Item(prompt, good, "answer", gold, {"keep": shown, "slip": bad})

    def score(self, facts: Mapping[str, Any], text: str) -> Parts:
        parts = prose(facts, text)
        if len(text) <= facts["gold"].get("limit", len(text)):
            return parts
        return parts._replace(correct=0.0, why=("still too long", *parts.why))


class BackQuestion:
    """The question that an answer answers."""

    name = "back_question"
    langs = ("en", "fr")
    twins = False

    def make(self, draw: Draw, twin: bool) -> Item:
        table, base = T[draw.lang], ground(draw)
        shown = table["full"][base.kind].format(t=base.title, v=base.truth)
        prompt = draw.phrase(*table["behind"]).format(x=shown)
        answer = table["back"][base.kind].format(t=base.title)
        others = [k for k in KINDS if k != base.kind]
        gold = {"key": table["cue"][base.kind], "also": [[base.title], ["?"]], "forbid": [base.key()]}
        flaws = {"slip": table["back"][draw.pick(others)].format(t=base.title), "copy": shown}
        return Item(prompt, answer, "answer", gold, flaws)

    def score(self, facts: Mapping[str, Any], text: str) -> Parts:
        return prose(facts, text)
