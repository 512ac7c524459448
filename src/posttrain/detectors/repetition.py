"""Degenerate text: the same words, lines or characters again and again.

share = the part of the word n-grams (characters for texts without spaces) that occurred before; distinct-n is its complement (Li et al.
2016, arXiv:1510.03055).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from posttrain.detectors.language import language_of
from posttrain.detectors.verdict import Span, Verdict, void

LIMIT = 0.5
"""Share of repeated 4-grams above which a text of 20 or more units is degenerate."""
RUN = re.compile(r"(.{1,40}?)\1{7,}", re.DOTALL)


def units(text: str) -> list[str]:
    """Words, or characters of a Chinese text."""
    return [c for c in text if not c.isspace()] if language_of(text) == "zh" else text.lower().split()


def repeated_share(items: Sequence[str], n: int = 4) -> float:
    """Share of the n-grams of `items` that are not their first occurrence; 0 for short texts."""
    grams = [tuple(items[i : i + n]) for i in range(len(items) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def distinct(texts: Sequence[str], n: int = 2) -> float:
    """Different n-grams over all n-grams of the texts together: diversity in [0, 1], nan-free (no n-gram gives 1)."""
    grams: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        items = units(text)
        grams.update(tuple(items[i : i + n]) for i in range(len(items) - n + 1))
    total = sum(grams.values())
    return len(grams) / total if total else 1.0


def repetition(prompt: str, response: str) -> Verdict:
    """Flagged where half of the 4-grams repeat, or one piece stands eight times in a row."""
    empty = void("repetition", response)
    if empty:
        return empty
    items = units(response)
    share = repeated_share(items) if len(items) >= 20 else 0.0
    run = RUN.search(response)
    spans = (Span(run.start(), run.end(), "the same piece in a row"),) if run and run.group(1).strip() else ()
    flagged = share > LIMIT or bool(spans)
    return Verdict(
        "repetition", "degenerate" if flagged else "varied", flagged, share, spans, f"{share:.0%} repeated 4-grams"
    )
