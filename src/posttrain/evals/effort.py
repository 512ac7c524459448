"""Accuracy for the tokens spent on a prompt: what more answers, or longer thinking, buy.

From n drawn answers per prompt, k of them are taken in every disjoint block of k. Majority vote: the result that most of the k answers
end with, ties to the one said first (self-consistency, Wang et al. 2022, arXiv:2203.11171). Best of k: the answer with the highest score.
Solved by any of k: the unbiased pass@k (Chen et al. 2021, arXiv:2107.03374), the limit of every chooser. Tokens are those of all k answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

from posttrain.stats import Interval, cluster_bootstrap


@dataclass(frozen=True, slots=True)
class Drawn:
    """An answer: its result (folded, for voting), whether it is right (0 to 1), its score, its tokens."""

    result: str
    right: float
    score: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Spent:
    """A point of the plot. way: one of `vote`, `best`, `any`, `budget`. k: answers, or tokens of thinking. tokens: mean per prompt."""

    way: str
    k: int
    tokens: float
    accuracy: Interval

    def to_json(self) -> dict[str, Any]:
        a = self.accuracy
        ends: dict[str, float | None] = {"low": a.low, "high": a.high} if a.known else dict.fromkeys(("low", "high"))
        return {"way": self.way, "k": self.k, "tokens": round(self.tokens, 2), "accuracy": a.estimate, **ends, "n": a.n}


def vote(answers: Sequence[Drawn]) -> float:
    """Is the majority's result right?"""
    counts = Counter(a.result for a in answers)
    most = max(counts.values())
    return next(a.right for a in answers if counts[a.result] == most)


def best(answers: Sequence[Drawn]) -> float:
    """Is the answer of the highest score right? The first of equal ones."""
    return max(answers, key=lambda a: a.score).right


def any_of(answers: Sequence[Drawn], k: int) -> float:
    """Unbiased probability that one of k drawn answers is right, from all n."""
    n, good = len(answers), sum(a.right >= 1 for a in answers)
    return 1 - comb(n - good, k) / comb(n, k)


def curves(rows: Sequence[Sequence[Drawn]], seed: int = 0) -> list[Spent]:
    """Vote, best-of-k and any-of-k for k = 1, 2, 4 ... up to n. rows [prompts][n]: the same n everywhere. Raises ValueError otherwise."""
    sizes = {len(r) for r in rows}
    if len(sizes) != 1 or sizes == {0}:
        raise ValueError(f"every prompt needs the same number of answers, got {sorted(sizes)}")
    n = sizes.pop()
    out = []
    for k in [2**i for i in range(n.bit_length()) if 2**i <= n]:
        blocks = [[r[i : i + k] for i in range(0, n - k + 1, k)] for r in rows]
        tokens = float(np.mean([sum(a.tokens for a in r) / n * k for r in rows]))
        for way, chosen in (("vote", vote), ("best", best)):
            values = [float(np.mean([chosen(b) for b in made])) for made in blocks]
            out.append(Spent(way, k, tokens, cluster_bootstrap(values, seed=seed)))
        out.append(Spent("any", k, tokens, cluster_bootstrap([any_of(r, k) for r in rows], seed=seed)))
    return out


def cut_trace(tokens: Sequence[int], budget: int, closed: bool) -> list[int] | None:
    """The first `budget` tokens of an answer that still thinks there; None where it needs no cut (shorter, or its trace is closed)."""
    return None if closed or len(tokens) <= budget else list(tokens[:budget])
