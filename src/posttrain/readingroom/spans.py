"""Notices with their spans, and questions that a notice answers: labelled data of the world for task heads.

Each notice is a UNIMARC text of a drawn book; title, first author, publisher and year are marked where they stand. A question may ask for
what the notice lacks (an ISBN or a series); then nothing is marked. Leaves out subtitles and further authors.
"""

from __future__ import annotations

from posttrain.core.chat import Message, user
from posttrain.core.group import Group, Mark, Response
from posttrain.readingroom.notice import lines
from posttrain.readingroom.world import Book, Draw, mix

SUBFIELDS = {
    "title": "\n200 1#$a",
    "author": "$f",
    "publisher": "$c",
    "year": "$d",
    "isbn": "\n010 ##$a",
    "series": "\n225 1#$a",
}
MARKED = ("title", "author", "publisher", "year")
QUESTIONS = {
    "en": {
        "title": "What is the title?",
        "author": "Who wrote it?",
        "publisher": "Who published it?",
        "year": "When was it published?",
        "isbn": "What is its ISBN?",
        "series": "In which series is it?",
    },
    "fr": {
        "title": "Quel est le titre ?",
        "author": "Qui l'a écrit ?",
        "publisher": "Qui l'a publié ?",
        "year": "Quand a-t-il été publié ?",
        "isbn": "Quel est son ISBN ?",
        "series": "Dans quelle collection ?",
    },
}


def values(book: Book) -> dict[str, str | None]:
    """What the notice says, by question; None where it says nothing."""
    return {
        "title": book.title,
        "author": book.authors[0].name,
        "publisher": book.publisher,
        "year": str(book.year),
        "isbn": book.isbn,
        "series": book.series[0] if book.series else None,
    }


def span(text: str, name: str, value: str) -> Mark:
    """Where a value stands in a notice: after its own subfield code."""
    field = text.index("\n210 ") if name in ("publisher", "year") else 0
    start = text.index(SUBFIELDS[name] + value, field) + len(SUBFIELDS[name])
    return Mark(name, start, start + len(value))


def tagged_notices(n: int, seed: int = 0, split: str = "train") -> list[Group]:
    """n notices with title, author, publisher and year marked."""
    out = []
    for i in range(n):
        text, book, lang = _notice(seed, split, i)
        known = {k: v for k, v in values(book).items() if k in MARKED and v is not None}
        marks = tuple(sorted((span(text, k, v) for k, v in known.items()), key=lambda m: m.start))
        response = Response(turns=(Message("document", text),), marks=marks)
        out.append(Group((), (response,), facts={"id": f"notice:{seed}:{split}:{i}", "lang": lang, "split": split}))
    return out


def asked_notices(n: int, seed: int = 0, split: str = "train") -> list[Group]:
    """n questions on notices, each of another notice, with the answer marked; nothing is marked where the notice has no answer."""
    out = []
    for i in range(n):
        text, book, lang = _notice(seed, split, i)
        name = Draw(mix(seed, split, "question", i), split, lang).pick(tuple(SUBFIELDS))
        value = values(book)[name]
        marks = () if value is None else (span(text, name, value)._replace(label="answer"),)
        response = Response(turns=(Message("document", text),), marks=marks)
        facts = {"id": f"question:{seed}:{split}:{i}", "lang": lang, "split": split, "asks": name}
        out.append(Group((user(QUESTIONS[lang][name]),), (response,), facts=facts))
    return out


def _notice(seed: int, split: str, i: int) -> tuple[str, Book, str]:
    draw = Draw(mix(seed, split, "notice", i), split, "en" if i % 2 == 0 else "fr")
    book = draw.book()
    return lines(book, draw.lang), book, draw.lang
