"""Word-level differences of two answers: what one has and the other has not. Chinese and Japanese go by character."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from functools import lru_cache
from html import escape

from markupsafe import Markup

from posttrain.feedback.visible import visible

WORDS = 3_000
"""Words of each side that are compared; matching takes time with the product of both lengths."""
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff]+|\s+|[^\w\s]")


def tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


@lru_cache(maxsize=512)
def marked(a: str, b: str) -> tuple[Markup, Markup] | None:
    """Both texts as HTML, what is missing from the other in ``<del>`` (a) and ``<ins>`` (b); None where they are too long."""
    left, right = tokens(visible(a)), tokens(visible(b))
    if max(len(left), len(right)) > WORDS:
        return None
    out: tuple[list[str], list[str]] = ([], [])
    for same, i, j, k, m in _runs(left, right):
        for side, tag, words in ((0, "del", left[i:j]), (1, "ins", right[k:m])):
            text = escape("".join(words))
            out[side].append(text if same or not text.strip() else f"<{tag}>{text}</{tag}>")
    return Markup("".join(out[0])), Markup("".join(out[1]))


def _runs(left: list[str], right: list[str]) -> list[tuple[bool, int, int, int, int]]:
    """(equal, i, j, k, m): pieces of both sides. A space between two changed words is part of the change: one mark, not two."""
    runs: list[tuple[bool, int, int, int, int]] = []
    for what, i, j, k, m in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        changed = what != "equal"
        between = (
            "".join(left[runs[-1][1] : runs[-1][2]]) if len(runs) > 1 and runs[-1][0] and not runs[-2][0] else "no"
        )
        if changed and not between.strip(" "):
            runs[-2:] = [(False, runs[-2][1], j, runs[-2][3], m)]
        else:
            runs.append((not changed, i, j, k, m))
    return runs
