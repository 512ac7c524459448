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
    for what, i, j, k, m in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        for side, tag, words in ((0, "del", left[i:j]), (1, "ins", right[k:m])):
            text = escape("".join(words))
            out[side].append(text if what == "equal" or not text.strip() else f"<{tag}>{text}</{tag}>")
    return Markup("".join(out[0])), Markup("".join(out[1]))
