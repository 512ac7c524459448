"""The texts of the interface in English, French, Russian and Chinese. One table, `words.txt`: every
key in every language."""

from __future__ import annotations

from collections.abc import Mapping
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

    def script(self) -> dict[str, str]:
        """What the page's script shows."""
        return dict(self._texts)


def _read() -> dict[str, dict[str, str]]:
    texts: dict[str, dict[str, str]] = {name: {} for name in LANGUAGES}
    table = Path(__file__).with_name("words.txt").read_text(encoding="utf-8")
    for line in table.splitlines()[1:]:
        key, _, rest = line.partition(": ")
        for name, text in zip(LANGUAGES, rest.split(" | "), strict=True):
            assert key not in texts[name], key
            texts[name][key] = text
    return texts


TEXTS = _read()


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
