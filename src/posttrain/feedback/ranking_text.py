"""Rankings as people type them: ``0 > 1 = 2`` or ``A > B = C``, never mixed; anything else is an error that says where.

    ranking = tier (">" tier)*      tier = name ("=" name)*      name = digits | "[" digits "]" | one letter

Full-width forms are folded first, spaces are free. Commas (also 、 and ;) count as ``>`` where neither ``>`` nor ``=`` occurs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

Tiers = list[list[int]]
Fault = Literal[
    "empty", "bad_token", "unknown_id", "duplicate_id", "missing_id", "mixed_separators", "mixed_names", "tie"
]
HINTS: dict[str, str] = {
    "empty": "nothing was given",
    "bad_token": "this is no answer and no separator",
    "unknown_id": "there is no such answer",
    "duplicate_id": "an answer is named twice",
    "missing_id": "every answer must be ranked; missing",
    "mixed_separators": "commas go with neither > nor =",
    "mixed_names": "use numbers or letters, not both",
    "tie": "a strict order is needed, without =",
}
_FOLD = str.maketrans("＞＝［］０１２３４５６７８９，、；;", ">=[]0123456789,,,,")
_WORD = re.compile(r"\s*(?:(?P<number>\d+|\[\s*\d+\s*\])|(?P<letter>[A-Za-z](?![A-Za-z]))|(?P<mark>[>=,])|(?P<bad>\S))")


class RankingError(ValueError):
    """What is wrong with a ranking. kind: one of `Fault`. position: character in the text, from 0."""

    def __init__(self, kind: Fault, position: int, detail: str = "") -> None:
        self.kind, self.position = kind, position
        super().__init__(f"{HINTS[kind]}{f': {detail}' if detail else ''} (character {position + 1})")


class Partial(NamedTuple):
    """A ranking that may leave answers out. unranked: those, in order."""

    tiers: Tiers
    unranked: list[int]


def parse_ranking(text: str, n: int) -> Tiers:
    """Tiers of all n answers, best first. Raises RankingError, never guesses.

    >>> parse_ranking("0 > 1 = 2", 3)
    [[0], [1, 2]]
    >>> parse_ranking("B, A, C", 3)
    [[1], [0], [2]]
    """
    made = parse_partial(text, n)
    if made.unranked:
        raise RankingError("missing_id", len(text), ", ".join(map(str, made.unranked)))
    return made.tiers


def parse_partial(text: str, n: int) -> Partial:
    """As `parse_ranking`, but answers may be missing; they come back as `unranked`."""
    folded = text.translate(_FOLD)
    if not folded.strip():
        raise RankingError("empty", 0)
    words = [_word(m) for m in _WORD.finditer(folded)]
    bad = next(((at, name) for kind, name, at in words if kind == "bad"), None)
    if bad is not None:
        raise RankingError("bad_token", bad[0], repr(bad[1]))
    _check_mixtures(words)
    tiers: Tiers = []
    joined, expected, seen = False, True, set()
    for kind, name, at in words:
        if (kind == "mark") == expected:
            raise RankingError("bad_token", at, repr(name))
        if kind == "mark":
            joined, expected = name == "=", True
            continue
        key = int(name) if kind == "number" and len(name) < 9 else ord(name) - ord("A") if kind == "letter" else n
        if not 0 <= key < n:
            raise RankingError("unknown_id", at, name)
        if key in seen:
            raise RankingError("duplicate_id", at, name)
        seen.add(key)
        if joined:
            tiers[-1].append(key)
        else:
            tiers.append([key])
        expected = False
    if expected:
        raise RankingError("bad_token", len(text), "an answer should follow")
    return Partial(tiers, [i for i in range(n) if i not in seen])


def _word(match: re.Match[str]) -> tuple[str, str, int]:
    kind = str(match.lastgroup)
    return kind, match[kind].strip("[] \t").upper(), match.start(kind)


def _check_mixtures(words: Sequence[tuple[str, str, int]]) -> None:
    marks = {name for kind, name, _ in words if kind == "mark"}
    if "," in marks and len(marks) > 1:
        raise RankingError("mixed_separators", next(at for kind, name, at in words if name == ","))
    if {"number", "letter"} <= {kind for kind, _, _ in words}:
        first = words[0][0]
        raise RankingError("mixed_names", next(at for kind, _, at in words if kind not in (first, "mark")))


def flat(tiers: Sequence[Sequence[int]]) -> list[int]:
    """A strict ranking as a plain list. Raises RankingError where two answers tie."""
    if any(len(tier) != 1 for tier in tiers):
        raise RankingError("tie", 0)
    return [tier[0] for tier in tiers]


def render(tiers: Sequence[Sequence[int]], name: Callable[[int], str] = str) -> str:
    """A ranking as text that `parse_ranking` reads back."""
    return " > ".join(" = ".join(name(i) for i in tier) for tier in tiers)


def letter(i: int) -> str:
    """0 is A."""
    return chr(ord("A") + i)
