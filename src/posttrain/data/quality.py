"""Filters of rows by quality: each says why it would drop a row, or nothing. The limits are fields; None turns a filter off.

Sources of the defaults: repetition as in Rae et al. 2021 (arXiv:2112.11446, table A1); the others are plain caution. Rows with
preferences are checked in every response for length and personal data only, since the worse answer of a pair may be bad by intention.
Leaves out difficulty by log-probabilities and code that must run: those are rewards (`score` takes any of them).
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from posttrain.core.group import Group
from posttrain.core.protocols import Reward
from posttrain.data.words import normal
from posttrain.detectors import language_of, refusal
from posttrain.detectors.personal import personal
from posttrain.detectors.repetition import repeated_share, repetition, units
from posttrain.detectors.toxicity import toxicity

TEMPLATE = (
    *("as an ai language model", "as a language model", "en tant que modèle de langage", "как языковая модель"),
    *("作为一个语言模型", "作为ai", "[inst]", "[/inst]", "<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    *("### instruction", "### response", "{{", "lorem ipsum"),
)
TRIGRAM, LINES, PACKED = 0.2, 0.3, 0.15
LONG = 40
"""Characters from which a text's language can be told."""


@dataclass(frozen=True)
class Quality:
    """shortest, longest: words of an answer (characters of Chinese). languages: those that may stay; same: an answer is in the language of
    its request. repeats, template, pii, toxic, refuses: drop rows that do. agree: least share of the answers of a group that say the same
    final answer. score: least value of `reward`; floor: or the quantile of the scores below which rows go."""

    shortest: int = 0
    longest: int | None = None
    languages: tuple[str, ...] = ()
    same: bool = False
    repeats: bool = False
    template: bool = False
    pii: bool = False
    toxic: bool = False
    refuses: bool = False
    agree: float | None = None
    reward: Reward | None = None
    score: float | None = None
    floor: float | None = None

    def find(self, groups: Sequence[Group]) -> dict[int, str]:
        """Why each bad row would go: {row: first reason}. Raises ValueError where a limit on scores has no reward."""
        if (self.score is not None or self.floor is not None) and self.reward is None:
            raise ValueError("a least score needs a reward: name one in `reward`")
        out = {i: why for i, g in enumerate(groups) if (why := next(self._faults(g), None)) is not None}
        left = [i for i in range(len(groups)) if i not in out]
        return out | (self._scored([groups[i] for i in left], left) if self.reward is not None else {})

    def _faults(self, g: Group) -> Iterator[str]:
        texts = [r.text for r in g.responses]
        main = texts[:1] if g.pairs() else texts
        for text in texts:
            size = len(units(text))
            if size < self.shortest:
                yield "length: too short"
            if self.longest is not None and size > self.longest:
                yield "length: too long"
            if self.pii and (personal(g.prompt_text, text).flagged or personal("", g.prompt_text).flagged):
                yield "personal data"
        for text in main:
            yield from self._said(g, text)
        if self.agree is not None and len(texts) > 1 and not g.pairs() and agreement(texts) < self.agree:
            yield "answers disagree"

    def _said(self, g: Group, text: str) -> Iterator[str]:
        found = language_of(text) if len(text) > LONG else "und"
        if self.languages and found not in ("und", *self.languages):
            yield "language: not wanted"
        wanted = g.facts.get("lang") or language_of(g.prompt_text)
        if self.same and "und" not in (found, wanted) and found != wanted:
            yield "language: not that of the request"
        if self.repeats and repeats(text):
            yield "repetition"
        if self.template and any(word in text.lower() for word in TEMPLATE):
            yield "template words"
        if self.toxic and toxicity(g.prompt_text, text).flagged:
            yield "toxic"
        if self.refuses and g.facts.get("kind") != "refusal" and refusal(g.prompt_text, text).flagged:
            yield "a refusal"

    def _scored(self, groups: Sequence[Group], rows: Sequence[int]) -> dict[int, str]:
        assert self.reward is not None
        values = [scores[0].value if scores else None for scores in self.reward(groups)]
        known = [v for v in values if v is not None]
        least = -np.inf if self.score is None else self.score
        limit = max(least, float(np.quantile(known, self.floor)) if known and self.floor is not None else -np.inf)
        out = {}
        for row, value in zip(rows, values, strict=True):
            if value is None:
                out[row] = "score: none"
            elif value < limit:
                out[row] = "score: too low"
        return out


def repeats(text: str) -> bool:
    """Degenerate by n-grams, by lines, or because it packs too well."""
    items, lines = units(text), [line.strip() for line in text.splitlines() if line.strip()]
    if repetition("", text).flagged:
        return True
    top = Counter(zip(items, items[1:], items[2:], strict=False)).most_common(1)
    if len(items) >= 30 and top and 3 * top[0][1] / len(items) >= TRIGRAM and repeated_share(items, 3) >= TRIGRAM:
        return True
    raw = text.encode()
    return (len(lines) >= 4 and 1 - len(set(lines)) / len(lines) >= LINES) or (
        len(raw) >= 400 and len(zlib.compress(raw)) / len(raw) <= PACKED
    )


def agreement(texts: Sequence[str]) -> float:
    """Share of the texts whose last line, normalised, is the most frequent one: 1 where all say the same in the end."""
    ends = Counter(normal(t.strip().splitlines()[-1] if t.strip() else "").strip(" .!") for t in texts)
    return ends.most_common(1)[0][1] / len(texts)
