"""Comparison form of values, and how alike two values are.

Folded: NFC, casefold, non-sorting marks (C1 pairs 0088/0089 and 0098/009C) and ISBD punctuation removed, typographic apostrophes,
quotes and dashes unified, digits folded to ASCII, spaces collapsed. Tokens: words and numbers, each Han or kana character alone.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_MARKS = dict.fromkeys(map(ord, "\u0088\u0089\u0098\u009c\u00ad\ufeff"))
_SIGNS = {ord(a): b for a, b in zip("’‘ʼ“”«»„–—‐‑，。：；（）［］、", '\'\'\'"""""----,.:;()[],', strict=True)}
_ISBD = re.compile(r"[.,:;/=\[\]()<>\"]+|(?:(?<=\s)|^)[+&](?=\s)")
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+(?:'[^\W_]+)*")


def _ascii_digits(text: str) -> str:
    return "".join(str(unicodedata.digit(c)) if c.isdigit() and not c.isascii() else c for c in text)


def _folded(value: str) -> str:
    text = unicodedata.normalize("NFC", value.translate(_MARKS).translate(_SIGNS)).casefold()
    if not text.isascii():
        text = _ascii_digits(text)
    return " ".join(_ISBD.sub(" ", text).split())


_short, _long = lru_cache(maxsize=16_384)(_folded), lru_cache(maxsize=256)(_folded)


def fold(value: str) -> str:
    """The comparison form of a value; '' where nothing but punctuation is left. Remembers many short values, few long ones."""
    return _short(value) if len(value) <= 256 else _long(value)


def number(value: str) -> str:
    """An ISBN or ISSN without hyphens and spaces, X in lower case."""
    return value.replace("-", "").replace("‐", "").replace(" ", "").casefold()


def tokens(text: str) -> str:
    """Folded words of a text joined by blanks, with a blank before and after: ``" a b "`` for substring search on borders."""
    return f" {' '.join(_TOKEN.findall(fold(text)))} "


def digits(text: str) -> str:
    """The ASCII digits of a folded text, in order."""
    return "".join(c for c in text if "0" <= c <= "9")


class Budget:
    """Work left for edit distances in one record, in table cells: it bounds time without a clock, so scores stay deterministic."""

    def __init__(self, cells: int = 40_000) -> None:
        self.cells = cells


def similarity(a: str, b: str, budget: Budget, least: float = 0.9) -> float:
    """Edit similarity ``1 - distance / longer`` of folded texts where it reaches `least`, else 0.

    Texts whose digits differ are never alike: one wrong digit of a year or an ISBN is a wrong fact, not a slip. Also 0 once the
    budget is spent (then only equal values match).
    """
    if a == b:
        return 1.0
    longer = max(len(a), len(b))
    allowed = int(longer * (1 - least) + 1e-9)
    if abs(len(a) - len(b)) > allowed or digits(a) != digits(b):
        return 0.0
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    a, b = a[start:], b[start:]
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    work = (len(a) + 1) * (2 * allowed + 1)
    if work > budget.cells:
        budget.cells = 0
        return 0.0
    budget.cells -= work
    distance = _distance(a, b, allowed)
    return 1 - distance / longer if distance <= allowed else 0.0


def _distance(a: str, b: str, allowed: int) -> int:
    """Levenshtein distance inside a band of `allowed` either side; more than `allowed` is reported as allowed + 1."""
    far = allowed + 1
    row = {j: j for j in range(min(len(b), allowed) + 1)}
    for i, x in enumerate(a, 1):
        fresh: dict[int, int] = {}
        for j in range(max(0, i - allowed), min(len(b), i + allowed) + 1):
            if j == 0:
                fresh[0] = i
                continue
            fresh[j] = min(row.get(j, far) + 1, fresh.get(j - 1, far) + 1, row.get(j - 1, far) + (x != b[j - 1]))
        row = fresh
        if min(row.values()) > allowed:
            return far
    return min(row.get(len(b), far), far)
