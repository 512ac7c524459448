"""Listwise judging: whole rankings over several random orders, joined by Plackett-Luce; and the lesson's one-line call.

Ties follow Breslow: each member of a tier is chosen from all that remain when the tier is reached. Strengths have a Gaussian prior
(sd 2), so that a unanimous judge gives finite ones. Plackett 1975; Luce 1959; Breslow 1974.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from posttrain.core.chat import as_chat
from posttrain.core.group import Group, Score, answer
from posttrain.core.protocols import Model
from posttrain.rewards import judge_parse, judge_prompts
from posttrain.rewards.judge import Judge

Tiers = Sequence[Sequence[int]]
MOST = 8
PRIOR_SD = 2.0


def plackett_luce(rankings: Sequence[Tiers], n: int) -> np.ndarray:
    """Log-strengths [n], mean 0, most likely under the rankings of items 0 to n - 1 and the prior."""

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = float((theta**2).sum()) / (2 * PRIOR_SD**2), theta / PRIOR_SD**2
        for tiers in rankings:
            remain = np.zeros(n, dtype=bool)
            remain[[i for tier in tiers for i in tier]] = True
            for tier in tiers:
                if remain.sum() < 2:
                    break
                weights = np.where(remain, np.exp(theta - theta.max()), 0.0)
                total = weights.sum()
                value += len(tier) * (np.log(total) + theta.max()) - theta[list(tier)].sum()
                slope = slope + len(tier) * weights / total
                slope[list(tier)] -= 1
                remain[list(tier)] = False
        return value, slope

    made = minimize(loss, np.zeros(n), jac=True, method="L-BFGS-B").x
    return made - made.mean()


@dataclass
class Listwise(Judge):
    """All answers of a group at once, `orders` times in random order. A response's value is its log-strength."""

    orders: int = 4

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        """One Score per response; None where no ranking of the group could be read."""
        return [self._scores(found, len(g.responses)) for g, found in zip(groups, self.rankings(groups), strict=True)]

    def rankings(self, groups: Sequence[Group]) -> list[list[list[list[int]]]]:
        """Per group the rankings that could be read, as tiers of response indices. Raises ValueError above 8 answers."""
        asked: list[tuple[int, list[int]]] = []
        for place, g in enumerate(groups):
            n = len(g.responses)
            if n > MOST:
                raise ValueError(f"group {g.id}: {n} answers; a listwise judge takes at most {MOST}: use pairwise")
            rng = random.Random(f"{self.seed}:{g.id}")
            asked += [(place, rng.sample(range(n), n)) for _ in range(self.orders if n > 1 else 0)]
        questions = [self._whole(groups[place], order) for place, order in asked]
        said = self._ask(questions, lambda at, text: judge_parse.ranking(text, len(asked[at][1])))
        out: list[list[list[list[int]]]] = [[] for _ in groups]
        for (place, order), tiers in zip(asked, said, strict=True):
            if tiers is not None:
                out[place].append([[order[i] for i in tier] for tier in tiers])
        return out

    def _whole(self, group: Group, order: Sequence[int]) -> tuple[str, str] | None:
        lang = self._lang(group)
        shown = [(f"[{at}]", group.responses[i].text) for at, i in enumerate(order)]
        return self._question(group, shown, judge_prompts.LIST[lang], lang)

    def _scores(self, found: Sequence[Tiers], n: int) -> list[Score]:
        if not found:
            return [Score(None, why="no ranking could be read") for _ in range(n)]
        told = f"log-strength over {len(found)} of {self.orders} orders"
        return [Score(float(v), {"orders": float(len(found))}, told) for v in plackett_luce(found, n)]


def generate_ai_preferences(instruction: str, responses: Sequence[str], judge_model: Model) -> list[list[int]]:
    """The lesson's call: responses ranked by a judge, best first, as tiers of indices (equal strength is a tie).

    Raises ValueError where the judge cannot be read.
    """
    judge = Listwise(judge_model)
    made = Group(as_chat(instruction), tuple(answer(r) for r in responses))
    scores = [s.value for s in judge([made])[0]]
    if any(v is None for v in scores):
        raise ValueError("the judge's ranking could not be read; choose another judge")
    values = [round(float(v or 0.0), 4) for v in scores]
    return [[i for i, v in enumerate(values) if v == level] for level in sorted(set(values), reverse=True)]
