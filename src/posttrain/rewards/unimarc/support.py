"""Is a value in the source text? On token borders as it stands, or by one of a few listed derivations.

Derivations: inverted name; language name to code; year out of a phrase; ISBN or ISSN with other hyphens; page count and size
patterns; relator code from a role word. Source text is only ever searched, never interpreted, so nothing written in it can act.
"""

from __future__ import annotations

import re
from functools import cached_property

from posttrain.rewards.unimarc.fold import fold, number, tokens
from posttrain.rewards.unimarc.profile import Profile

_YEAR_PHRASE = re.compile(
    r"(?:dl|d l|cop|copyright|c|©|℗|p|impr|dépôt légal|depot legal|ca|сор|г)?\s*([12][0-9]{3})\s*(?:г)?"
)
_NUMBERS = re.compile(r"[0-9]+|\b[ivxlcdm]+\b")
_EXTENT_WORDS = frozenset(
    tokens(
        "p pp pages page vol volume volumes v f fol feuillets ff leaves ill illustrations col carte cartes map maps cm mm x couv "
        "en et and с стр ил см карт 页 冊 册 插图 图 厘米"
    ).split()
)
_ISBN_RUN = re.compile(r"[0-9][0-9Xx \-‐]{6,20}[0-9Xx]")


class Source:
    """A source text prepared for search."""

    def __init__(self, text: str, profile: Profile) -> None:
        self.text, self.profile = text, profile
        self.folded, self.tokens = fold(text), tokens(text)

    @cached_property
    def numbers(self) -> str:
        """Every run of digits and hyphens, without hyphens, joined by blanks."""
        return " ".join(number(m.group()) for m in _ISBN_RUN.finditer(self.text))

    def holds(self, value: str) -> bool:
        """Does the value stand in the source on token borders?"""
        words = tokens(value)
        return bool(words.strip()) and words in self.tokens

    def supports(self, tag: str, code: str, value: str) -> bool:
        """Does the source hold the value or something it is derived from?"""
        return self.holds(value) or self._derived(tag, code, value)

    def _derived(self, tag: str, code: str, value: str) -> bool:
        folded = fold(value)
        if tag in ("010", "011"):
            return len(number(value)) >= 8 and number(value) in self.numbers.split()
        if tag[0] == "7" and code == "4":
            return any(self.holds(word) for word in self.profile.relator_words.get(value, ()))
        if "," in value and tag[0] in "67":
            surname, _, forename = value.partition(",")
            if self.holds(f"{forename} {surname}"):
                return True
        if code == "d" and tag in ("210", "214") and (year := _YEAR_PHRASE.fullmatch(folded)):
            return f" {year.group(1)} " in self.tokens
        if tag == "215":
            return self._extent(folded)
        names = self.profile.language_names.get(value, ())
        return any(self.holds(name) for name in names)

    def _extent(self, folded: str) -> bool:
        words = tokens(folded).split()
        found = [w for w in words if _NUMBERS.fullmatch(w)]
        rest = [w for w in words if not _NUMBERS.fullmatch(w)]
        return bool(found) and all(w in _EXTENT_WORDS for w in rest) and all(f" {w} " in self.tokens for w in found)
