"""Texts as sets of hashed word sequences, for finding copies: normalised so that case, spaces, line breaks and digit style do not matter.

NFKC, case folded, digit groups joined (1,000 and 1 000 are 1000), punctuation dropped after it has marked the ends of sentences. A word is
a run of letters or digits; each character of Chinese, Japanese or Thai is a word of its own. Shingles are five words long and never cross
the end of a sentence (a shorter sentence is one shingle), so the order of sentences does not matter. Hashes are 64 bits, the same on every
machine.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from posttrain.core.chat import chat_text
from posttrain.core.group import Group

SHINGLE = 5
CHARACTERS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f"
_WORD = re.compile(rf"[{CHARACTERS}]|[^\W_{CHARACTERS}]+")
_DIGITS = re.compile(r"(?<=\d)[,.'’ \u00a0\u202f\u2009](?=\d{3}(?!\d))")
_END = re.compile(r"[.!?;:]+(?=\s|$)|[。！？；]+")
_PRIME = np.uint64(0x9E3779B97F4A7C15)
U64 = np.uint64


def normal(text: str) -> str:
    """The text as it is compared, punctuation still in it."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _DIGITS.sub("", _DIGITS.sub("", " ".join(folded.split())))


@lru_cache(maxsize=1 << 20)
def _value(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def sentences(text: str) -> list[np.ndarray]:
    """The hashed words [n] of each sentence of a text."""
    out = []
    for part in _END.split(normal(text)):
        found = _WORD.findall(part)
        if found:
            out.append(np.fromiter(map(_value, found), dtype=U64, count=len(found)))
    return out


def words(text: str) -> np.ndarray:
    """The hashed words of a whole text [n]."""
    found = _WORD.findall(normal(text))
    return np.fromiter(map(_value, found), dtype=U64, count=len(found))


def by_character(text: str) -> bool:
    """Is it written without spaces, so that a word is a character?"""
    found = _WORD.findall(normal(text))
    return 2 * sum(len(w) == 1 and bool(re.match(rf"[{CHARACTERS}]", w)) for w in found) > len(found)


def sequences(hashed: np.ndarray, n: int) -> np.ndarray:
    """Hashes of all runs of n words [max(len - n + 1, 0)]."""
    if len(hashed) < n:
        return np.empty(0, dtype=U64)
    made = np.zeros(len(hashed) - n + 1, dtype=U64)
    with np.errstate(over="ignore"):
        for k in range(n):
            made = made * _PRIME + hashed[k : len(hashed) - n + 1 + k]
            made ^= made >> U64(29)
    return made


def shingles(text: str) -> np.ndarray:
    """The set of shingles of a text, sorted [s]."""
    parts = [sequences(s, min(SHINGLE, len(s))) for s in sentences(text)]
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, dtype=U64)


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Shared part of two sorted sets; two empty ones share nothing."""
    if not len(a) or not len(b):
        return 0.0
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)


def text_of(group: Group, on: str = "pair") -> str:
    """What of a group is compared: ``prompt``, ``answer`` (all its responses), or ``pair`` (both)."""
    said = "\n".join(r.text for r in group.responses)
    parts = {"prompt": [chat_text(group.prompt)], "answer": [said], "pair": [chat_text(group.prompt), said]}
    if on not in parts:
        raise ValueError(f"on={on!r}: accepted: {', '.join(parts)}")
    return "\n".join(p for p in parts[on] if p)


def exact_key(text: str) -> bytes:
    """Equal for texts that differ in case, spaces, punctuation or digit style alone."""
    return hashlib.sha256(" ".join(_WORD.findall(normal(text))).encode()).digest()


def concatenated(sets: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All members of some sets in one array, and where each set begins [len(sets) + 1]."""
    starts = np.concatenate([[0], np.cumsum([len(s) for s in sets])]).astype(np.int64)
    return (np.concatenate(sets) if sets else np.empty(0, dtype=U64)), starts
