"""The texts of the interface in English, French, Russian and Chinese.

`words.txt` holds what templates name by a key; `sentences.txt` what the server says as it comes (errors, names of coefficients), found
again by its English form. Every line is there in every language.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

LANGUAGES: Mapping[str, str] = {"en": "English", "fr": "Français", "ru": "Русский", "zh": "中文"}


class Words:
    """Texts of one language: ``w.submit``, ``w("minutes_left", 5)``. A key that is missing is a fault of ours."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = TEXTS[language]

    def __getattr__(self, key: str) -> str:
        if key.startswith("_"):
            raise AttributeError(key)
        try:
            return self._texts[key]
        except KeyError:
            raise AttributeError(key) from None  # jinja asks every callable for marks of its own

    def __call__(self, key: str, n: object = "") -> str:
        return self._texts[key].replace("{n}", str(n))

    def get(self, key: str, other: str) -> str:
        return self._texts.get(key, other)

    def said(self, sentence: str) -> str:
        """An English sentence of the server in this language; one that the table does not know stays as it is."""
        return sentence if self.language == "en" else _said(sentence, self.language)

    def script(self) -> dict[str, str]:
        """What the page's script shows."""
        return dict(self._texts)


def _lines(file: str) -> Iterator[str]:
    yield from Path(__file__).with_name(file).read_text(encoding="utf-8").splitlines()[1:]


def _read() -> dict[str, dict[str, str]]:
    texts: dict[str, dict[str, str]] = {name: {} for name in LANGUAGES}
    for line in _lines("words.txt"):
        key, _, rest = line.partition(": ")
        for name, text in zip(LANGUAGES, rest.split(" | "), strict=True):
            assert key not in texts[name], key
            texts[name][key] = text
    return texts


def _sentences() -> list[tuple[re.Pattern[str], dict[str, str]]]:
    """Patterns of the English sentences, the most exact first, each with its forms by language."""
    rows = [dict(zip(LANGUAGES, line.split(" | "), strict=True)) for line in _lines("sentences.txt")]
    rows.sort(key=lambda row: row["en"].count("{"))
    return [(re.compile(re.sub(r"\\{\d\\}", "(.+?)", re.escape(row["en"])), re.DOTALL), row) for row in rows]


TEXTS = _read()
SENTENCES = _sentences()


@lru_cache(maxsize=1024)
def _said(sentence: str, language: str) -> str:
    for pattern, row in SENTENCES:
        match = pattern.fullmatch(sentence)
        if match is not None:
            return _filled(row[language], [_said(part, language) for part in match.groups()])
    return sentence


def _filled(text: str, parts: Sequence[str]) -> str:
    return re.sub(r"\{(\d)\}", lambda m: parts[int(m[1]) - 1], text)


def choose(wanted: str, accepted: str) -> Words:
    """The language asked for, else the first of the browser's list that we have, else English."""
    if wanted in LANGUAGES:
        return Words(wanted)
    ranked = []
    for part in accepted.split(","):
        name, _, quality = part.strip().partition(";q=")
        try:
            ranked.append((-(float(quality) if quality else 1.0), name.partition("-")[0].lower()))
        except ValueError:
            continue
    return Words(next((name for _, name in sorted(ranked) if name in LANGUAGES), "en"))
