"""Reward models: a score per answer that agrees with people's comparisons.

Pairs by Bradley-Terry with margins (Llama 2, arXiv:2307.09288) and centring (Eisenstein et al. 2023, arXiv:2312.09244); rankings of k, ties
allowed, by Plackett-Luce. The score is a linear head on the last trained token, in fp32 (Stiennon et al. 2020, arXiv:2009.01325), where
asked beside the answer's own likelihood (`models.heads.LikelihoodHead`).
"""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import NonNegativeFloat

from posttrain.core.batch import Batch
from posttrain.core.group import Group
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.methods.dpo import pairs
from posttrain.objectives.pairs import not_compared
from posttrain.objectives.ranking import agreement, comparisons
from posttrain.objectives.sequence import group_mean


class RewardModel(Method):
    """Learn a score from comparisons."""

    name: ClassVar[str] = "reward"
    sums: ClassVar[dict[str, Unit]] = {"comparison": "group", "centre": "group"}
    atom: ClassVar[Atom] = "group"
    wants: ClassVar[str] = "pairs, soft labels, rankings of k with ties"
    learning_rate: ClassVar[tuple[float, float]] = (1e-5, 1e-4)
    symmetric: ClassVar[bool] = True

    centring: NonNegativeFloat = 0.0
    """Weight of (score_i + score_j)^2, which holds the mean of the scores near 0; 0.01 is usual."""

    likelihood: NonNegativeFloat = 0.0
    """The score starts as this times the answer's mean log-probability, and stays beside what is learned; 0: the head alone. With few
    comparisons it finds slips that a head does not; such a score fits no sequence-classification class."""

    def needs(self) -> Needs:
        return Needs(score=1, likelihood=self.likelihood)

    def accepts(self, group: Group) -> str | None:
        return not_compared(group)

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.score is not None
        score = out.score[:, 0]
        i, j = batch.pair[:, 0], batch.pair[:, 1]
        centre = group_mean((score[i] + score[j]) ** 2, batch.group[i], batch.data["pair_weight"], batch.G)
        return Loss(
            sums={"comparison": comparisons(score, batch).sum(), "centre": self.centring * centre.sum()},
            metrics=agreement(score, batch) | {"score_mean": (score.detach().sum(), batch.R)},
        )

    @classmethod
    def example(cls) -> Example:
        return Example(
            groups=pairs(),
            anchors={
                "equal scores": Anchor(
                    {"score": [[0.3], [0.3]]}, {"comparison": math.log(2), "centre": 0.0}, source="log 2"
                ),
                "one ahead": Anchor({"score": [[1.0], [0.0]]}, {"comparison": math.log1p(math.exp(-1)), "centre": 0.0}),
                "margin takes it back": Anchor(
                    {"score": [[1.0], [0.0]]}, {"comparison": math.log(2), "centre": 0.0}, {"margin": [1.0]}
                ),
                "centring": Anchor(
                    {"score": [[1.0], [1.0]]}, {"comparison": math.log(2), "centre": 0.04}, fields={"centring": 0.01}
                ),
            },
            variants=({"centring": 0.01}, {"likelihood": 4.0}),
        )
