"""Which option would a model choose? By the likelihood of the option letters where the model tells it, else by how often it says them.

A question ends with lettered options; probabilities are normalised over the letters, so what else the model might say does not count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from posttrain.core.chat import Chat, chat_text
from posttrain.core.group import Group, answer
from posttrain.core.protocols import Request, Sampling
from posttrain.stats.interval import Floats

LETTERS = "ABCD"
LETTER = re.compile(r"(?<![A-Za-z])([ABCD])(?![A-Za-z])")
LEAD = {
    "en": "Answer with one letter.",
    "fr": "Répondez par une lettre.",
    "ru": "Ответьте одной буквой.",
    "zh": "请用一个字母回答。",
}


class Spoken:
    """A plain function from text to text as a Model: it sees the chat's turns joined by newlines."""

    def __init__(self, function: Callable[[str], str]) -> None:
        self.function = function

    def generate(self, requests: Sequence[Request]) -> list[Group]:
        return [
            Group(r.prompt, tuple(answer(self.function(chat_text(r.prompt))) for _ in range(r.n))) for r in requests
        ]


def as_model(value: Any) -> Any:
    """A Model, or a function from prompt text to answer text. Raises ValueError for anything else."""
    if hasattr(value, "generate"):
        return value
    if callable(value):
        return Spoken(value)
    raise ValueError(
        f"{type(value).__name__} is no model: give an object with generate(requests), or a function text -> text"
    )


def posed(question: str, options: Sequence[str], lang: str) -> str:
    """The question with its lettered options."""
    listed = "\n".join(f"({letter}) {text}" for letter, text in zip(LETTERS, options, strict=False))
    return f"{question}\n{listed}\n{LEAD.get(lang, LEAD['en'])}"


class Chooser:
    """Probabilities over option letters. samples: draws per question for models without log-probabilities."""

    def __init__(self, model: Any, samples: int = 8, seed: int = 0) -> None:
        self.model, self.samples, self.seed = as_model(model), samples, seed
        self.by_logp = hasattr(self.model, "logp")
        self.asked = self.unread = 0

    def __call__(self, chats: Sequence[Chat], sizes: Sequence[int]) -> list[Floats]:
        """p over the first sizes[i] letters for each chat."""
        self.asked += len(chats)
        return self._by_logp(chats, sizes) if self.by_logp else self._by_samples(chats, sizes)

    def _by_logp(self, chats: Sequence[Chat], sizes: Sequence[int]) -> list[Floats]:
        groups = [Group(c, tuple(answer(LETTERS[i]) for i in range(k))) for c, k in zip(chats, sizes, strict=True)]
        out = []
        for rows in self.model.logp(groups):
            total = np.asarray([float(row[0]) if len(row) else 0.0 for row in rows])
            p = np.exp(total - total.max())
            out.append(p / p.sum())
        return out

    def _by_samples(self, chats: Sequence[Chat], sizes: Sequence[int]) -> list[Floats]:
        drawn = Sampling(temperature=1.0, max_tokens=16)
        made = self.model.generate([Request(c, drawn, self.samples, self.seed) for c in chats])
        return [self._counted([r.text for r in g.responses], k) for g, k in zip(made, sizes, strict=True)]

    def _counted(self, texts: Sequence[str], k: int) -> Floats:
        """Shares of letters said; texts without a letter are counted and split evenly."""
        counts = np.zeros(k)
        for text in texts:
            found = LETTER.search(text)
            at = LETTERS.index(found.group(1)) if found else k
            if at < k:
                counts[at] += 1
            else:
                self.unread += 1
                counts += 1 / k
        return counts / counts.sum()
