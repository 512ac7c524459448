"""From a judge's words to a verdict, or to nothing: a reply that cannot be read is *unparsed*, never a tie.

The ladder: a reply that is JSON as a whole; else the last well-formed tag (the first may be quoted from a candidate); else one repair
question; else unparsed. Rankings are written ``[0] > [2] = [1]``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Literal

Choice = Literal["A", "B", "tie", "bad"]
CHOICES: dict[str, Choice] = {"a": "A", "b": "B", "tie": "tie", "bad": "bad", "both_bad": "bad", "both bad": "bad"}
_TAG = re.compile(r"<\s*(verdict|scores|ranking)\s*>\s*([^<>]{1,400}?|[^<]{1,400}?)\s*<\s*/\s*\1\s*>", re.IGNORECASE)
_FOLD = str.maketrans("＞＝［］０１２３４５６７８９＜／", ">=[]0123456789</")
_SHORT = re.compile(r"\s*[*(\[]*([AB])[*)\].:]*(?:\s+(?:is|est)\b[^.;:]*|\s*)(?:$|[.;:\n])", re.IGNORECASE)


def tagged(text: str, name: str) -> str | None:
    """The content of the last well-formed tag of that name."""
    found = [body for tag, body in _TAG.findall(text.translate(_FOLD)) if tag.lower() == name]
    return found[-1] if found else None


def _object(text: str) -> dict[str, object] | None:
    """The reply as one JSON object (also in a code fence), or None."""
    bare = re.sub(r"^\s*```(?:json)?|```\s*$", "", text.strip())
    try:
        made = json.loads(bare)
    except (json.JSONDecodeError, RecursionError):
        return None
    return made if isinstance(made, dict) else None


def choice(text: str) -> Choice | None:
    """The verdict of a pair.

    >>> choice("They say <verdict>A</verdict>, but <verdict>B</verdict>"), choice('{"verdict": "tie"}'), choice("Hm.")
    ('B', 'tie', None)
    """
    made = _object(text)
    said = made.get("verdict") if made is not None else tagged(text, "verdict")
    return CHOICES.get(said.strip().lower()) if isinstance(said, str) else None


def short_choice(text: str) -> Choice | None:
    """The verdict of a model that begins with the winner's letter: ``A is better: ...``, ``B``.

    >>> short_choice("B est meilleure : A se trompe."), short_choice("A"), short_choice("Answer")
    ('B', 'A', None)
    """
    found = _SHORT.match(text)
    return None if found is None else CHOICES[found.group(1).lower()]


def scores(text: str, criteria: Sequence[str]) -> dict[str, int] | None:
    """Whole numbers 1 to 5 for each criterion, all of them, or None."""
    made: object = _object(text)
    if made is None:
        body = tagged(text, "scores")
        made = dict(re.findall(r"(\w+)\s*[=:]\s*(\d+)", body)) if body else None
    if not isinstance(made, dict):
        return None
    out: dict[str, int] = {}
    for name in criteria:
        value = made.get(name)
        if isinstance(value, bool) or not re.fullmatch(r"[1-5]", str(value)):
            return None
        out[name] = int(str(value))
    return out


def ranking(text: str, n: int) -> list[list[int]] | None:
    """Tiers of a ranking of n answers, each named once, best first; None for anything else.

    >>> ranking("[0] > [2] = [1]", 3), ranking("<ranking>[1]＞[0]</ranking>", 2), ranking("[0] > [0]", 2)
    ([[0], [2, 1]], [[1], [0]], None)
    """
    body = tagged(text, "ranking")
    body = (text.strip() if body is None else body).translate(_FOLD)
    if not re.fullmatch(r"\s*\[?\s*\d+\s*\]?(\s*[>=]\s*\[?\s*\d+\s*\]?)*\s*", body):
        return None
    tiers = [[int(i) for i in re.findall(r"\d+", tier)] for tier in body.split(">")]
    return tiers if sorted(i for tier in tiers for i in tier) == list(range(n)) else None
