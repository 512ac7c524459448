"""Judges whose habits are known: they read the fenced question as a model would, and answer by rule."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from posttrain.core.group import Group, answer
from posttrain.core.protocols import Event, Request

BLOCK = re.compile(r"<<(?:ANSWER|RÉPONSE|ОТВЕТ|回答) (\S+) [0-9a-f]{32}>>\n(.*?)\n<</", re.DOTALL)


def shown(text: str) -> dict[str, str]:
    """The answers of a question, by the name they were shown under."""
    return dict(BLOCK.findall(text))


class Scripted:
    """A Model that answers with `says(question)`. asked: how many questions."""

    def __init__(self, says: Callable[[str], str], by: str = "scripted") -> None:
        self.says, self.by, self.asked = says, by, 0
        self.seen: list[str] = []

    def generate(self, requests: Sequence[Request]) -> list[Group]:
        out = []
        for r in requests:
            self.asked += 1
            self.seen.append(r.prompt[-1].content)
            out.append(
                Group(
                    r.prompt,
                    tuple(answer(self.says(r.prompt[-1].content), by=self.by) for _ in range(r.n)),
                    facts=r.facts,
                )
            )
        return out

    def stream(self, requests: Any) -> Iterator[Event]:
        for i, g in enumerate(self.generate(list(requests))):
            yield Event(str(i), 0, g.responses[0].text, stop="stop")


def by_utility(
    utility: Callable[[str], float], noise: float = 0.0, first: float = 0.0, seed: int = 0
) -> Callable[[str], str]:
    """A pairwise judge: the higher utility wins; `first` is added to the answer shown first; noise: chance of a random verdict, drawn from
    the question alone."""

    def says(question: str) -> str:
        found = shown(question)
        rng = random.Random(f"{seed}:{sorted(found.values())}:{found.get('A')}")
        a, b = utility(found["A"]) + first, utility(found["B"])
        if rng.random() < noise:
            a, b = rng.random(), rng.random()
        return f"Because. <verdict>{'tie' if a == b else 'A' if a > b else 'B'}</verdict>"

    return says


def worth(text: str) -> float:
    """The planted quality of a text: the number behind `q=`."""
    found = re.search(r"q=(-?[\d.]+)", text)
    return float(found.group(1)) if found else 0.0
