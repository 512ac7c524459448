"""What a task makes: an item with its prompt, its gold answer and what the gold needs, and the parts a scorer gives back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from posttrain.readingroom.world import Draw

BEHAVIOURS = ("answer", "ask", "abstain", "refuse", "correct_user")


@dataclass(frozen=True, slots=True)
class Item:
    """One request. prompt: the reader's text. answer: the gold answer. gold: JSON-able data of the scorer (see `prose.prose`).

    flaws: bad answers by name (`slip`, `comply`, `agree`, `guess`, `overrefuse` ...), for imperfect demonstrations and judging.
    system: a text of the desk that precedes the request, or None.
    """

    prompt: str
    answer: str
    behaviour: str
    gold: dict[str, Any] = field(default_factory=dict)
    flaws: dict[str, str] = field(default_factory=dict)
    system: str | None = None


VOWEL = re.compile(r"\b([Dd]|[Qq]u)e (?=[AEIOUÉÈÊÎÔ]\w)")


def elided(text: str) -> str:
    """French elision before a name or title that begins with a vowel: `de Odile` becomes `d'Odile`."""
    return VOWEL.sub(r"\1'", text)


def polished(item: Item, lang: str) -> Item:
    """The item as its language writes it: templates fill names in blindly, French wants elision after that."""
    if lang != "fr":
        return item
    return replace(
        item,
        prompt=elided(item.prompt),
        answer=elided(item.answer),
        flaws={name: elided(text) for name, text in item.flaws.items()},
        system=None if item.system is None else elided(item.system),
    )


class Parts(NamedTuple):
    """Parts of a verdict, each in [0, 1], and what was wrong."""

    correct: float
    complete: float
    honest: float
    safe: float
    concise: float
    well_formed: float
    why: tuple[str, ...] = ()


class Task(Protocol):
    """A task file, seen as an object. twins: does `make(draw, True)` give the benign twin of `make(draw, False)`?"""

    @property
    def name(self) -> str: ...

    @property
    def langs(self) -> tuple[str, ...]: ...

    @property
    def twins(self) -> bool: ...

    def make(self, draw: Draw, twin: bool) -> Item: ...

    def score(self, facts: Mapping[str, Any], text: str) -> Parts: ...
