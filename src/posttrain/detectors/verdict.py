"""What a detector says of one answer, and the protocol that all of them speak.

A rule, a classifier trained here, a Llama-Guard-type directory and a judge are all `safety_classifier(prompt, response) -> Verdict`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

VOID = "void"
"""Label of an answer that cannot be read: empty, white space, or cut before it says anything. Never counted as safe."""


class Span(NamedTuple):
    """Characters [start, end) of the response that a detector points at, and why."""

    start: int
    end: int
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """One detector's word on one response.

    flagged: it found what it looks for (None where the answer is void). label: the class in words. score: how sure, in [0, 1]; rules
    say 0 or 1. spans: where in the response. why: one line for people.
    """

    detector: str
    label: str
    flagged: bool | None
    score: float = 0.0
    spans: tuple[Span, ...] = ()
    why: str = ""

    @property
    def void(self) -> bool:
        return self.flagged is None

    def to_json(self) -> dict[str, Any]:
        return {
            "detector": self.detector,
            "label": self.label,
            "flagged": self.flagged,
            "score": round(self.score, 6),
            "spans": [list(s) for s in self.spans],
            "why": self.why,
        }


SafetyClassifier = Callable[[str, str], Verdict]


def void(detector: str, response: str) -> Verdict | None:
    """The void verdict of a response without any letter or digit, else None."""
    if any(c.isalnum() for c in response):
        return None
    return Verdict(
        detector, VOID, None, why="the answer is empty" if not response.strip() else "the answer has no word"
    )
