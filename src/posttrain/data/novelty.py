"""How far a prompt lies from the rows that a model learned from: seen, held-out, rare, new-phrasing, new-vocabulary.

Three shares of a text are counted: words that no training prompt has, words that few have, and words that stand side
by side in none. A share is large where it exceeds that of 95 of 100 training prompts against all others, so the scale
comes from the rows themselves and a small or very mixed set calls little new. Digits count by their number alone. It
sees wording and no meaning: a paraphrase is new phrasing, a hard question in plain words is not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from posttrain.core.chat import chat_text
from posttrain.core.group import Group
from posttrain.data.words import sequences, words

FEW, SHARE = 3, 0.001
"""A word is rare where at most this many training prompts have it, or this share of them."""
QUANTILE = 0.95
"""Share of the training prompts that lie nearer to the others than what is called new."""
_DIGIT = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class Shares:
    """Of one prompt: shares of its different words, and of its different pairs of neighbours, that are new or rare."""

    unseen: float
    rare: float
    pairs: float


class Learned:
    """The prompts of the rows that a model learned from, counted. Raises ValueError without any."""

    def __init__(self, groups: Iterable[Group]) -> None:
        prompts = {g.prompt_hash: spelled(g) for g in groups if g.prompt}
        if not prompts:
            raise ValueError("seen: none of the rows has a prompt")
        self.hashes = frozenset(prompts)
        self.words = Counter(w for found, _ in prompts.values() for w in found)
        self.pairs = Counter(p for _, found in prompts.values() for p in found)
        self.few = max(FEW, round(SHARE * len(prompts)))
        shares = [self._shares(*found, itself=1) for found in prompts.values()]
        cut = np.quantile([(s.unseen, s.rare, s.pairs) for s in shares], QUANTILE, axis=0)
        self.usual = Shares(*map(float, cut))

    def _shares(self, single: frozenset[int], double: frozenset[int], itself: int = 0) -> Shares:
        """itself: 1 for a prompt that is among those counted, which is then held against the others."""
        others = [self.words[w] - itself for w in single]
        n, m = max(1, len(single)), max(1, len(double))
        return Shares(
            sum(k == 0 for k in others) / n,
            sum(0 < k <= self.few for k in others) / n,
            sum(self.pairs[p] == itself for p in double) / m,
        )

    def kind(self, group: Group) -> str:
        """What is new about a prompt, the farthest thing first."""
        if group.prompt_hash in self.hashes:
            return "seen"
        found = self._shares(*spelled(group))
        if found.unseen > self.usual.unseen:
            return "new-vocabulary"
        if found.rare > self.usual.rare:
            return "rare"
        return "new-phrasing" if found.pairs > self.usual.pairs else "held-out"


def spelled(group: Group) -> tuple[frozenset[int], frozenset[int]]:
    """The different words of a prompt and its different pairs of neighbours, hashed."""
    hashed = words(_DIGIT.sub("0", chat_text(group.prompt)))
    return frozenset(map(int, hashed)), frozenset(map(int, sequences(hashed, 2)))


def marked(groups: Sequence[Group], seen: Iterable[Group]) -> list[Group]:
    """The groups with the fact `novelty`: what is new about each against rows that a model learned from."""
    learned = Learned(seen)
    return [replace(g, facts={**g.facts, "id": g.id, "novelty": learned.kind(g)}) for g in groups]
