"""Facts of the invented library: people, books, loans, dates, money, all drawn from a seed.

A `Draw` is a random stream that knows its split and language; every fact of an item comes from one, so (seed, split, index) fixes
everything. Numbers of the calendar are those of a common year. Leaves out weekdays.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from posttrain.readingroom import vocabulary as v

VERSION = "readingroom-2"
SIMULATION_NOTE = "simulated world, program-written truth; no real reader, book or annotator"

T = TypeVar("T")


class Person(NamedTuple):
    """given may be empty (Chinese names are kept whole in `family`)."""

    given: str
    family: str

    @property
    def name(self) -> str:
        return f"{self.given} {self.family}" if self.given else self.family


@dataclass(frozen=True, slots=True)
class Book:
    """A book as the world knows it. lang: of the world (`en`, `fr`, `ru`, `zh`); original: ISO 639-2 code when it is a translation;
    series: name and volume; country: ISO 3166 code; size in cm; isbn hyphenated with a valid check digit, or None."""

    number: int
    title: str
    subtitle: str | None
    authors: tuple[Person, ...]
    publisher: str
    place: str
    country: str
    year: int
    pages: int
    size: int
    isbn: str | None
    lang: str
    original: str | None
    series: tuple[str, int] | None
    subject: str | None


class Day(NamedTuple):
    """A day of a common year, `month` counted from 1."""

    day: int
    month: int

    @property
    def ordinal(self) -> int:
        return sum(v.MONTH_DAYS[: self.month - 1]) + self.day

    @classmethod
    def at(cls, ordinal: int) -> Day:
        """Inverse of `ordinal`; 1 is 1 January. Days past the year's end are an error of ours."""
        assert 1 <= ordinal <= 365, ordinal
        month = 1
        while ordinal > v.MONTH_DAYS[month - 1]:
            ordinal -= v.MONTH_DAYS[month - 1]
            month += 1
        return cls(ordinal, month)

    def text(self, lang: str) -> str:
        """As people write it: 3 May, 1er mai, 3 мая, 5月3日."""
        if lang == "zh":
            return f"{self.month}月{self.day}日"
        day = "1er" if lang == "fr" and self.day == 1 else str(self.day)
        return f"{day} {v.MONTHS[lang][self.month - 1]}"


class Loan(NamedTuple):
    """Who has which title until when: the private fact of the world."""

    reader: str
    title: str
    due: Day


def money(cents: int, lang: str) -> str:
    """120 -> 1.20 (1,20 in French and Russian)."""
    return f"{cents // 100}{',' if lang in ('fr', 'ru') else '.'}{cents % 100:02d}"


def isbn10(body: str) -> str:
    """Check character of nine digits (weights 10 to 2, modulo 11, ISO 2108)."""
    rest = (11 - sum((10 - i) * int(d) for i, d in enumerate(body)) % 11) % 11
    return "X" if rest == 10 else str(rest)


def isbn13(body: str) -> str:
    """Check digit of twelve digits (weights 1, 3, modulo 10, ISO 2108)."""
    return str(-sum(int(d) * (3 if i % 2 else 1) for i, d in enumerate(body)) % 10)


def mix(*parts: object) -> int:
    """A 64-bit seed from anything printable, the same everywhere."""
    return int.from_bytes(hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest(), "big")


class Draw:
    """A random stream with a split and a language. ood: longer and richer rows too, beside new words and new wordings."""

    __slots__ = ("lang", "new_phrases", "new_words", "ood", "rare", "rng", "split")

    def __init__(self, seed: int, split: str, lang: str) -> None:
        self.rng = random.Random(seed)
        self.split, self.lang, self.ood, self.rare = split, lang, split == "ood", split == "rare"
        self.new_phrases = split in ("ood", "new-phrasing")
        self.new_words = split in ("ood", "new-vocabulary")

    def chance(self, p: float) -> bool:
        """True with probability p; in `rare` with 1 - p, so that the exception is the rule there. 0 and 1 stay what they are."""
        return self.rng.random() < (1 - p if self.rare and 0 < p < 1 else p)

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.rng.random() * len(options))]

    def between(self, low: int, high: int) -> int:
        """Both ends included."""
        return low + int(self.rng.random() * (high - low + 1))

    def phrase(self, train: Sequence[str], ood: Sequence[str]) -> str:
        """A wording: `ood` and `new-phrasing` have their own, never seen in train or held-out."""
        return self.pick(ood if self.new_phrases and ood else train)

    def words(self, train: Sequence[str], ood: Sequence[str]) -> str:
        return self.pick(ood if self.new_words else train)

    def surname(self, lang: str | None = None) -> str:
        """One invented surname; Latin names come from head and tail, with parts of their own out of distribution."""
        lang = lang or self.lang
        if lang == "ru":
            return self.words(v.PEOPLE_RU, v.PEOPLE_RU_OOD)
        if lang == "zh":
            return self.words(v.PEOPLE_ZH, v.PEOPLE_ZH_OOD)
        return self.words(v.SURNAME_HEADS, v.SURNAME_HEADS_OOD) + self.words(v.SURNAME_TAILS, v.SURNAME_TAILS_OOD)

    def person(self, lang: str | None = None) -> Person:
        lang = lang or self.lang
        family = self.surname(lang)
        if lang == "zh":
            return Person("", family)
        given = self.pick(v.INITIALS_RU) if lang == "ru" else self.words(v.GIVEN, v.GIVEN_OOD)
        return Person(given, family)

    def other_person(self, *known: Person) -> Person:
        """A person with a surname that none of `known` has."""
        while True:
            made = self.person()
            if all(made.family != k.family for k in known):
                return made

    def title(self, lang: str | None = None) -> str:
        """A title; train shares no pair of head and tail with any other split."""
        lang = lang or self.lang
        heads, tails = (v.TITLE_HEADS_OOD, v.TITLE_TAILS_OOD) if self.new_words else (v.TITLE_HEADS, v.TITLE_TAILS)
        while True:
            head, tail = self.pick(heads[lang]), self.pick(tails[lang])
            if self.new_words or v.reserved(head, tail) == (self.split != "train"):
                return f"{tail}之{head}" if lang == "zh" else f"{head} {tail}"

    def place(self, lang: str) -> str:
        if lang == "ru":
            return self.words(v.PLACES_RU, v.PLACES_RU_OOD)
        if lang == "zh":
            return self.words(v.PLACES_ZH, v.PLACES_ZH_OOD)
        return self.words(v.PLACE_HEADS[lang], v.PLACE_HEADS_OOD[lang]) + self.words(
            v.PLACE_TAILS[lang], v.PLACE_TAILS_OOD[lang]
        )

    def publisher(self, lang: str) -> str:
        if lang == "ru":
            return self.words(v.PUBLISHERS_RU, v.PUBLISHERS_RU_OOD)
        if lang == "zh":
            return self.words(v.PUBLISHERS_ZH, v.PUBLISHERS_ZH_OOD)
        return self.words(v.PUBLISHERS[lang], v.PUBLISHERS_OOD[lang]).format(self.surname(lang))

    def isbn(self, lang: str, year: int) -> str:
        """Ten digits before 2007, thirteen after, grouped by language area."""
        area = {"en": "0", "fr": "2", "ru": "5", "zh": "7"}[lang]
        digits = self.between(0, 99999999)
        press, item = f"{digits // 1000:05d}", f"{digits % 1000:03d}"
        if year < 2007:
            return f"{area}-{press}-{item}-{isbn10(area + press + item)}"
        return f"978-{area}-{press}-{item}-{isbn13('978' + area + press + item)}"

    def book(self, rich: float = 0.3, lang: str | None = None) -> Book:
        """A book in this stream's language. rich: chance of each optional part (subtitle, series, subject, second author)."""
        lang = lang or self.lang
        latin = lang in ("en", "fr")
        year = self.between(1958, 2024)
        first = self.person(lang)
        authors: tuple[Person, ...] = (first,)
        while len(authors) < 3 and self.chance(rich if len(authors) == 1 else rich / 3):
            authors = (*authors, self.other_person(*authors))
        return Book(
            number=self.between(1000, 9999),
            title=self.title(lang),
            subtitle=self.words(v.SUBTITLES[lang], v.SUBTITLES_OOD[lang]) if latin and self.chance(rich) else None,
            authors=authors,
            publisher=self.publisher(lang),
            place=self.place(lang),
            country=self.pick(v.COUNTRIES_OF[lang]),
            year=year,
            pages=self.between(48, 640),
            size=self.between(17, 30),
            isbn=None if self.chance(0.2) else self.isbn(lang, year),
            lang=lang,
            original=self.pick([c for c in v.LANGUAGES[lang] if c != v.CODE_OF[lang]])
            if self.chance(rich / 2)
            else None,
            series=(self.words(v.SERIES[lang], v.SERIES_OOD[lang]), self.between(1, 40))
            if latin and self.chance(rich)
            else None,
            subject=self.words(v.SUBJECTS[lang], v.SUBJECTS_OOD[lang]) if latin and self.chance(rich) else None,
        )

    def day(self, low: int = 1, high: int = 330) -> Day:
        return Day.at(self.between(low, high))

    def other_year(self, year: int, *avoid: int) -> int:
        """A plausible wrong year: a digit slip near the true one, never one of `avoid`."""
        while True:
            wrong = year + self.pick((-11, -10, -9, -3, -2, -1, 1, 2, 3, 9, 10, 11))
            if wrong != year and wrong not in avoid and wrong <= 2025:
                return wrong
