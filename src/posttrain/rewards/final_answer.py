"""Where in an answer the result stands: after the reasoning, in a box, behind a marker, or as the last number.

Order: after ``</think>``; the last ``\\boxed{...}``; the last ``<answer>...</answer>``; the last ``#### ...`` line (GSM8K's convention);
the last "the answer is ..." (English, French, Russian, Chinese); else the whole text. Leaves out answers spread over several places.
"""

from __future__ import annotations

import re

TAGGED = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
HASHES = re.compile(r"^#{4}[ \t]*(\S.*)$", re.MULTILINE)
SAID = re.compile(
    r"(?:\banswer(?:\s+is)?|\bréponse(?:\s+est)?|\bответ|答案(?:是|为)?)\s*[:：=]?\s*(\S[^\n]*)", re.IGNORECASE
)
LONGEST = 20_000
"""Characters of an answer that are looked at, from its end: markers stand there, and a scan stays cheap."""


def after_thinking(text: str) -> str:
    """What follows the last ``</think>``; the whole text where there is none."""
    return text.rpartition("</think>")[2]


def boxed(text: str) -> str | None:
    """Content of the last ``\\boxed{...}`` with balanced braces, or None."""
    at = text.rfind("\\boxed{")
    if at < 0:
        return None
    depth, start = 0, at + len("\\boxed{")
    for place in range(start - 1, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start:place].strip()
    return None


def final_answer(text: str) -> tuple[str, str]:
    """(result, how it was found: ``box``, ``tag``, ``hashes``, ``phrase`` or ``text``)."""
    text = after_thinking(text[-LONGEST:])
    inside = boxed(text)
    if inside is not None:
        return inside, "box"
    for how, pattern in (("tag", TAGGED), ("hashes", HASHES), ("phrase", SAID)):
        found = pattern.findall(text)
        if found:
            return found[-1].strip(), how
    return text.strip(), "text"
