"""Folding of text before it is compared with banned phrases, one code point at a time.

NFKD, case folding, format and zero-width characters dropped, combining marks dropped, look-alike letters of Cyrillic and Greek mapped to
Latin ones. It is applied to patterns and to output, never to the text that is shown. Because it works code point by code point, it can
run inside an automaton. Leaves out: leet digits (they would make numbers match words) and look-alikes of several letters.

Word boundaries are a symbol of their own, `EDGE`, written between a word and what is not one.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

LOOKALIKES = dict(zip("аеорсухіјѕһԁԛԝєкмтнвαοενρτυικχβη", "aeopcyxijshdqwekmthbaoevptuikxbn", strict=True))
"""Letters of Cyrillic and Greek, in lower case, that look like Latin ones in print, and the letter they pass for."""
EDGE = "\ue000"
"""The boundary symbol: a private code point, which text cannot bring in because text's own is folded to another."""
OTHER = "\ue001"
BROKEN = "\ufffd"
"""What bytes that are no character count as."""


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
        return text.lower() if text.isascii() else "".join(map(self.char, text))


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


@lru_cache(maxsize=1 << 16)
def word_class(c: str) -> int:
    """0 between words, 1 inside a word, 2 a character that is a word by itself (Chinese, Japanese kana, Thai-like scripts)."""
    code = ord(c)
    if 0x3040 <= code < 0x3100 or 0x3400 <= code < 0xA000 or 0x20000 <= code < 0x32000:
        return 2
    return 1 if c.isalnum() or unicodedata.category(c)[0] == "M" or c == "_" else 0


def symbols(folded: str, cls: int = 0) -> tuple[str, int]:
    """A folded text with its boundaries, after a character of class `cls` (0 at the start); the class it ends with.

    >>> symbols("a b")[0].replace(EDGE, "|")
    '|a| |b'
    """
    out: list[str] = []
    for c in folded:
        c = OTHER if c == EDGE else c
        now = word_class(c)
        if now != cls or now == 2:
            out.append(EDGE)
        out.append(c)
        cls = now
    return "".join(out), cls


def characters(raw: bytes) -> tuple[str, bytes]:
    """UTF-8 bytes as characters, and the up to three bytes at the end that may still become one. Bytes that cannot are `BROKEN`.

    >>> characters(b"\\xc3\\xa9\\xffb\\xe2\\x82")
    ('é\\ufffdb', b'\\xe2\\x82')
    """
    try:
        return raw.decode("utf-8"), b""
    except UnicodeDecodeError:
        pass
    out: list[str] = []
    pending = b""
    for byte in raw:
        if pending and not 0x80 <= byte < 0xC0:
            out.append(BROKEN)
            pending = b""
        pending += bytes([byte])
        need = length(pending[0])
        if len(pending) < need:
            continue
        out.append(pending.decode("utf-8", "replace")[0])
        pending = b""
    return "".join(out), pending


def length(first: int) -> int:
    """Bytes of a character that begins with this one; 1 where none does.

    >>> [length(b) for b in (0x61, 0x80, 0xC3, 0xE2, 0xF0, 0xFF)]
    [1, 1, 2, 3, 4, 1]
    """
    return 2 if 0xC2 <= first < 0xE0 else 3 if 0xE0 <= first < 0xF0 else 4 if 0xF0 <= first < 0xF5 else 1


@lru_cache(maxsize=512)
def beginnings(first: int, folding: Folding) -> frozenset[str]:
    """Folded symbols of all characters of two or three bytes with this first byte, and `BROKEN`; "" where one folds to nothing."""
    return frozenset([BROKEN, *(c for f in _folded(first, folding) for c in (f or [""]))])


@lru_cache(maxsize=512)
def longest(first: int, folding: Folding) -> int:
    """Most symbols that a character of two or three bytes with this first byte folds to."""
    return max(1, *map(len, _folded(first, folding)))


def _folded(first: int, folding: Folding) -> list[str]:
    start, count = ((first & 0x1F) << 6, 64) if first < 0xE0 else ((first & 0x0F) << 12, 4096)
    return [folding.char(chr(c)) for c in range(start, start + count) if not 0xD800 <= c < 0xE000]
