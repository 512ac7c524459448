"""Invented references: what an answer cites though neither its prompt nor a reference answer holds it.

Found by form: web addresses, DOIs (ISO 26324), ISBNs with a right check digit, arXiv numbers, and author-year citations. An address is
compared without its scheme and its closing stroke. Leaves out titles named in plain words, which need a catalogue, and whether an address
that was cited exists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

URL = re.compile(r"\b(?:https?://|www\.)[^\s<>\"'»）)\]]+", re.IGNORECASE)
DOI = re.compile(r"\b10\.\d{4,9}/[^\s<>\"'»）)\]]+", re.IGNORECASE)
ARXIV = re.compile(r"\barXiv:\s?(\d{4}\.\d{4,5})", re.IGNORECASE)
ISBN = re.compile(r"\b(?:97[89][- ]?)?(?:\d[- ]?){9}[\dX]\b")
AUTHOR_YEAR = re.compile(
    r"\b[A-ZÀ-ÖØ-Þ][\w'’-]+(?: et al\.?| (?:and|et|&) [A-ZÀ-ÖØ-Þ][\w'’-]+)?,? \(((?:1[5-9]|20)\d\d)\)"
)


def isbn(text: str) -> bool:
    """The check digit of an ISBN of ten or thirteen places.

    >>> isbn("978-2-07-036024-6"), isbn("978-2-07-036024-5"), isbn("0-306-40615-2")
    (True, False, True)
    """
    digits = re.sub(r"[^\dX]", "", text)
    if len(digits) == 10:
        return sum((10 - i) * (10 if c == "X" else int(c)) for i, c in enumerate(digits)) % 11 == 0
    return (
        len(digits) == 13 and "X" not in digits and sum(int(c) * (1, 3)[i % 2] for i, c in enumerate(digits)) % 10 == 0
    )


def references(text: str) -> Iterator[str]:
    """Each reference of a text, in a form that can be compared.

    >>> list(references("See https://example.org/a/ and Duval et al. (1998)."))
    ['example.org/a', 'duval et al. (1998)']
    """
    for m in URL.finditer(text):
        yield re.sub(r"^(https?://)?(www\.)?", "", m.group().lower()).rstrip("/.,;:!?")
    for m in DOI.finditer(text):
        yield m.group().lower().rstrip("/.,;:!?")
    for m in ARXIV.finditer(text):
        yield f"arxiv:{m.group(1)}"
    for m in ISBN.finditer(text):
        if isbn(m.group()):
            yield re.sub(r"[^\dX]", "", m.group())
    for m in AUTHOR_YEAR.finditer(text):
        yield " ".join(m.group().replace(",", "").lower().split())


def invented(answer: str, known: Sequence[str]) -> list[str]:
    """References of an answer that none of the known texts (prompt, reference answers) holds."""
    held = {r for text in known for r in references(text)}
    return [r for r in dict.fromkeys(references(answer)) if r not in held]
