"""Folding of text before it is compared with banned phrases, one code point at a time.

NFKD, case folding, format and zero-width characters dropped, combining marks dropped, look-alike letters of Cyrillic and Greek mapped to
Latin ones. It is applied to patterns and to output, never to the text that is shown. Because it works code point by code point, it can
run inside an automaton over bytes. Leaves out: leet digits (they would make numbers match words) and look-alikes of several letters.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

LOOKALIKES = dict(zip("аеорсухіјѕһԁԛԝєкмтнвαοενρτυικχβη", "aeopcyxijshdqwekmthbaoevptuikxbn", strict=True))
"""Letters of Cyrillic and Greek, in lower case, that look like Latin ones in print, and the letter they pass for."""


@dataclass(frozen=True)
class Folding:
    """marks: drop combining marks (é = e). lookalikes: map Cyrillic and Greek look-alikes to Latin letters."""

    marks: bool = True
    lookalikes: bool = True

    def char(self, c: str) -> str:
        """The folded form of one code point: none, one or several characters."""
        return _fold(c, self.marks, self.lookalikes)

    def text(self, text: str) -> str:
        """
        >>> Folding().text("Bómb\\u200b"), Folding().text("ＢОMB")
        ('bomb', 'bomb')
        """
        return "".join(map(self.char, text))


FOLDING = Folding()


@lru_cache(maxsize=1 << 16)
def _fold(c: str, marks: bool, lookalikes: bool) -> str:
    out = []
    for d in unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", c).casefold()):
        kind = unicodedata.category(d)
        if kind == "Cf" or d in "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0" or 0xFE00 <= ord(d) <= 0xFE0F:
            continue
        if marks and kind in ("Mn", "Me"):
            continue
        out.append(LOOKALIKES.get(d, d) if lookalikes else d)
    return "".join(out)


def word_class(c: str) -> int:
    """0 between words, 1 inside a word, 2 a character that is a word by itself (Chinese, Japanese kana, Thai-like scripts)."""
    code = ord(c)
    if 0x3040 <= code < 0x3100 or 0x3400 <= code < 0xA000 or 0x20000 <= code < 0x32000:
        return 2
    return 1 if c.isalnum() or unicodedata.category(c)[0] == "M" or c == "_" else 0
