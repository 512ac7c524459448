"""All detectors over one answer, or over the rows of a file. Hidden characters and mixed scripts count as obfuscation."""

from __future__ import annotations

import re
from collections.abc import Mapping

from posttrain.detectors.language import mixed_words, same_language
from posttrain.detectors.personal import personal
from posttrain.detectors.refusal import refusal
from posttrain.detectors.repetition import repetition
from posttrain.detectors.toxicity import toxicity
from posttrain.detectors.verdict import SafetyClassifier, Span, Verdict, void

HIDDEN = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]+")


def obfuscation(prompt: str, response: str) -> Verdict:
    """Flagged where characters are hidden (zero-width, bidirectional, tag) or words mix Latin and Cyrillic letters."""
    empty = void("obfuscation", response)
    if empty:
        return empty
    spans = [Span(m.start(), m.end(), "hidden characters") for m in HIDDEN.finditer(response)]
    for word in mixed_words(response):
        at = response.find(word)
        spans.append(Span(at, at + len(word), "letters of two scripts in one word"))
    return Verdict("obfuscation", "obfuscated" if spans else "plain", bool(spans), float(bool(spans)), tuple(spans))


DETECTORS: Mapping[str, SafetyClassifier] = {
    "refusal": refusal,
    "language": same_language,
    "repetition": repetition,
    "toxicity": toxicity,
    "obfuscation": obfuscation,
    "personal": personal,
}


def scan(prompt: str, response: str, detectors: Mapping[str, SafetyClassifier] = DETECTORS) -> dict[str, Verdict]:
    """Every detector's verdict on one answer, by name.

    >>> scan("Hello", "I'm sorry, but I can't help with that.")["refusal"].flagged
    True
    """
    return {name: detect(prompt, response) for name, detect in detectors.items()}
